"""SVG's closed-form gradients against autograd, its value gradients on a linear-quadratic task, SAC's fixed point."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.nn import functional as F

from rlgen import imitation
from rlgen.errors import UsageError
from rlgen.functional.squashed import LOG_STD, act
from rlgen.nn.model import ModelSteps
from rlgen.nn.policy import Policy
from rlgen.optim.svg import SVG, Scores, SVGConfig
from rlgen.types import RewardGradient, Transitions

OBSERVATIONS, ACTIONS = spaces.Box(-np.inf, np.inf, (3,)), spaces.Box(-2, 2, (2,))
SIZE, GAMMA, OF_END, SCALE, SHIFT = 6, 0.9, 0.7, 1.3, -0.2


class Reward:
    """tanh of a linear form of observation, action in units of the space, and next observation."""

    def __init__(self) -> None:
        self.weights = torch.randn(8)

    def of(self, *parts):
        return torch.tanh(torch.cat(parts, -1) @ self.weights)

    def gradient(self, transitions):
        with torch.enable_grad():
            parts = transitions.obs, transitions.actions / 2, transitions.next_obs
            leaves = [x.float().requires_grad_() for x in parts]
            rewards = self.of(*leaves)
            found = torch.autograd.grad(rewards.sum(), leaves)
        return rewards.detach(), RewardGradient(*found)


def shaken(module):
    """With weights far from the special ones that networks start with."""
    for parameter in module.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))


def learner(horizon=3, gamma=GAMMA, **values) -> SVG:
    policy = Policy(OBSERVATIONS, ACTIONS, (8, 8), squash=True)
    policy.normalizer.update(torch.randn(50, 3) * torch.tensor([0.5, 1.0, 2.0]) + 1)
    svg = SVG(policy, SVGConfig(horizon=horizon, batch_size=SIZE, model_arch=(8, 8), **values), gamma, (8, 8))
    svg.model.of_change.update(torch.randn(50, 3))
    for module in (policy.network, svg.critic, svg.target, svg.model.networks):
        shaken(module)
    return svg


def silu_mlps(x, weights, layer_norm):
    for weight, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
        x = torch.baddbmm(bias, x, weight)
        x = F.silu(F.layer_norm(x, x.shape[-1:]) if layer_norm else x)
    return torch.baddbmm(weights[-1], x, weights[-2])


@pytest.mark.parametrize("horizon", [0, 1, 3])
@pytest.mark.parametrize("learned_reward", [False, True])
def test_gradients_are_those_of_the_objective(horizon, learned_reward):
    """Of policy and critics, by autograd of J as the docstring has it, with the same noise."""
    torch.manual_seed(horizon)
    svg, reward = learner(horizon), Reward()
    z, following, actions = torch.randn(SIZE, 3), torch.randn(SIZE, 3), torch.rand(SIZE, 2) * 2 - 1
    ends, rewards = (torch.arange(SIZE) == 2).float(), torch.randn(SIZE)
    given = None if learned_reward else reward
    scores = Scores(rewards, torch.tensor(OF_END), given, torch.tensor(SCALE), torch.tensor(SHIFT))
    weights = [p.detach().clone().requires_grad_() for p in svg.acting.network.parameters()]
    critics = [p.detach().clone().requires_grad_() for p in svg.critic.weights]
    targets = [p.detach().clone() for p in svg.target.weights]
    model = [p.detach().clone() for p in svg.model.networks.weights]
    for adam in svg.adams.values():
        adam.step = lambda: None
    torch.manual_seed(7)
    with torch.no_grad():
        svg._update(ModelSteps(z, actions, following, ends, rewards), scores, cloning=0.3, n_examples=2)

    torch.manual_seed(7)
    alpha = svg.config.alpha
    normalizer, scale = svg.policy.normalizer, svg.model.scale()

    def act(z):
        x = z
        for weight, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
            x = torch.relu(x @ weight.t() + bias)
        mean, raw = (x @ weights[-2].t() + weights[-1]).chunk(2, -1)
        log_std = LOG_STD[0] + 0.5 * (LOG_STD[1] - LOG_STD[0]) * (torch.tanh(raw) + 1)
        u = mean + log_std.exp() * torch.randn_like(mean)
        a = torch.tanh(u)
        log_prob = torch.distributions.Normal(mean, log_std.exp()).log_prob(u) - torch.log(1 - a * a)
        return a, log_prob.sum(-1)

    def raw(z):
        return (normalizer.mean + z * normalizer.std()).float()

    now, value, discount, first = z, torch.zeros(SIZE), torch.ones(SIZE), None
    for _ in range(horizon):
        a, log_prob = act(now)
        first = first or (a, log_prob)
        output = silu_mlps(torch.cat((now, a), -1).view(2, SIZE // 2, -1), model, False).flatten(0, 1)
        after = now + output[:, :3] * scale
        r = output[:, 4] if learned_reward else SCALE * reward.of(raw(now), a, raw(after)) + SHIFT
        p = torch.sigmoid(output[:, 3])
        value = value + discount * (r - alpha * log_prob + p * OF_END)
        discount = discount * GAMMA * (1 - p)
        now = after
    a, log_prob = act(torch.cat((now, following)))
    q = silu_mlps(torch.cat((now, a[:SIZE]), -1).expand(2, -1, -1), [c.detach() for c in critics], True).amin(0)[:, 0]
    objective = value + discount * (q - alpha * log_prob[:SIZE])
    modes = z
    for weight, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
        modes = torch.relu(modes @ weight.t() + bias)
    modes = torch.tanh((modes @ weights[-2].t() + weights[-1])[:, :2])
    cloned = 0.3 * (modes - actions)[-2:].square().sum() / SIZE
    expected = torch.autograd.grad(cloned - objective.mean(), weights, retain_graph=True)

    seen = torch.cat((torch.cat((now, following)), a), -1).expand(2, -1, -1)
    later = (silu_mlps(seen, targets, True).amin(0)[:, 0] - alpha * log_prob).detach()
    inputs, wanted = [torch.cat((z, actions), -1)], [rewards + GAMMA * (1 - ends) * later[SIZE:]]
    if horizon:
        inputs.append(torch.cat((z, first[0]), -1).detach())
        wanted.append((value + alpha * first[1] + discount * later[:SIZE]).detach())
    predicted = silu_mlps(torch.cat(inputs).expand(2, -1, -1), critics, True)[..., 0]
    loss = (predicted - torch.cat(wanted)).square().mean(1).sum()
    for part, found in (("policy", expected), ("critic", torch.autograd.grad(loss, critics))):
        for ours, theirs in zip(svg.gradients[part], found, strict=True):
            torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=2e-4)


A, B, Q, R = (
    torch.tensor([[1.0, 0.3], [-0.2, 0.9]]),
    torch.tensor([[0.0], [0.5]]),
    torch.diag(torch.tensor([1.0, 0.2])),
    0.1,
)


class Quadratic:
    """-(x' Q x + R u^2), and how it grows."""

    def gradient(self, transitions):
        x, u = transitions.obs.float(), transitions.actions.float()
        rewards = -((x @ Q * x).sum(-1) + R * u.square().sum(-1))
        return rewards, RewardGradient(-2 * x @ Q, -2 * R * u, torch.zeros_like(x))


def linear_quadratic(horizon, gain):
    """A learner whose model is the true linear one, whose critics say 0, and whose policy is u = gain x."""
    actions = spaces.Box(-1, 1, (1,))
    policy = Policy(spaces.Box(-np.inf, np.inf, (2,)), actions, (), squash=True)
    svg = SVG(policy, SVGConfig(horizon=horizon, model_arch=(), alpha=1e-9), GAMMA, (8,))
    with torch.no_grad():
        for parameter in [*svg.critic.weights, *svg.target.weights, *svg.model.networks.weights]:
            parameter.zero_()
        svg.model.networks.weights[0][:, :, :2] = torch.cat((A.t() - torch.eye(2), B.t()))
        svg.model.networks.weights[1][..., 2] = -30.0
        (layer,) = svg.acting.network
        layer.weight[0], layer.bias[1] = gain, -10.0  # the least noise
    for adam in svg.adams.values():
        adam.step = lambda: None
    return svg


def test_value_gradients_vanish_at_the_linear_quadratic_optimum():
    """With the true model 60 steps of gamma 0.9 are the whole return, whose best gain is the Riccati equation's."""
    P = torch.eye(2)
    for _ in range(500):
        gain = -GAMMA * torch.linalg.solve(R + GAMMA * B.t() @ P @ B, B.t() @ P @ A)
        P = Q + GAMMA * A.t() @ P @ (A + B @ gain)
    torch.manual_seed(0)
    z, zeros = 0.03 * torch.randn(4096, 2), torch.zeros(4096)
    sizes = {}
    for name, tried in {"best": gain, "none": 0 * gain, "half": gain / 2}.items():
        svg = linear_quadratic(60, tried[0])
        scores = Scores(zeros, torch.zeros(()), Quadratic(), torch.ones(()), torch.zeros(()))
        with torch.no_grad():
            svg._update(ModelSteps(z, torch.zeros(4096, 1), z, zeros, zeros), scores)
        sizes[name] = svg.gradients["policy"][0][0].clone()
    assert sizes["best"].norm() < 0.03 * sizes["none"].norm()
    assert sizes["best"].norm() < 0.1 * sizes["half"].norm()
    assert (sizes["half"] * gain[0] < 0).all()  # a descent goes on towards the best gain


def test_imagined_steps_with_the_true_model_are_the_environments():
    svg = linear_quadratic(5, torch.tensor([0.1, -0.4]))
    x = torch.randn(6, 2)
    acted, _, last = svg._imagine(x)
    for acts in acted:
        torch.testing.assert_close(acts.inputs, x)
        x = x @ A.t() + acts.actions @ B.t()
    torch.testing.assert_close(last, x)


def test_critics_find_the_soft_values_of_a_small_task():
    """Two states that follow each other, and a third that ends; the fixed point is a linear solve.

    With H the policy's entropy, Q(s) = r(s) + gamma (Q(s') + alpha H), and r alone where the step terminates.
    """
    torch.manual_seed(0)
    policy = Policy(spaces.Box(-1, 1, (3,)), spaces.Box(-1, 1, (1,)), (16,), squash=True)
    config = SVGConfig(horizon=0, batch_size=60, learning_rate=3e-3, tau=0.05, alpha=0.5)
    svg = SVG(policy, config, 0.8, (32, 32))
    svg.rates |= {"policy": 0.0, "alpha": 0.0}
    state = torch.arange(3).repeat(1200)
    following = torch.tensor([1, 0, 2])[state]
    rewards = torch.tensor([1.0, -2.0, 3.0])[state]
    obs = torch.eye(3)
    batch = Transitions(obs[state], 2 * torch.rand(3600, 1) - 1, obs[following], rewards, state == 2, state < 0)
    scores = Scores(rewards, torch.zeros(()), None, torch.ones(()), torch.zeros(()))
    for step in range(20):
        svg.rates["critic"] = 3e-3 * 0.8**step
        svg.update(batch, scores)
    entropy = -act(obs[:1].expand(100_000, 3), svg.learned["policy"]).log_prob.mean()
    soft = 0.8 * 0.5 * entropy
    system = torch.tensor([[1.0, -0.8, 0.0], [-0.8, 1.0, 0.0], [0.0, 0.0, 1.0]])
    exact = torch.linalg.solve(system, torch.stack((1 + soft, -2 + soft, torch.tensor(3.0))))
    actions = torch.tensor([[-0.7], [0.0], [0.6]])
    for a in actions:
        found = svg.critic(torch.cat((obs, a.expand(3, 1)), -1)).squeeze(-1)
        torch.testing.assert_close(found, exact.expand(2, 3), atol=0.08, rtol=0.02)


@pytest.mark.parametrize("reward", ["logit", "softplus", "log-d", "feature-matching"])
@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("gail", {"symlog": True}),
        ("gail", {}),
        ("gail", {"state_only": True}),
        ("gail", {"virtual_batch_norm": True, "state_only": True}),
        ("gail", {"information_limit": 0.5}),
        ("airl", {}),
    ],
)
def test_the_gradient_of_imitations_rewards(kind, values, reward):
    """Of obs, actions and next_obs by autograd of what the reward model pays; the endings add a constant."""
    torch.manual_seed(0)
    policy = Policy(OBSERVATIONS, ACTIONS, (8,), squash=True)
    settings = replace(imitation.settings("default", "svg"), reward=reward, **values)

    def transitions(n):
        flags = torch.zeros(n, dtype=torch.bool)
        return Transitions(torch.randn(n, 3), 4 * torch.rand(n, 2) - 2, torch.randn(n, 3), torch.zeros(n), flags, flags)

    policy.normalizer.update(torch.randn(100, 3))
    model = imitation.IMITATORS[kind](settings, policy, imitation.Expert(transitions(50)))
    shaken(model.discriminator.network)
    for _ in range(2):
        model.update(transitions(200))
    steps = transitions(30)
    rewards, gradient = model.gradient(steps)
    leaves = [getattr(steps, name).clone().requires_grad_() for name in ("obs", "actions", "next_obs")]
    scores = model.discriminator.score(
        model.discriminator.inputs(Transitions(*leaves, steps.rewards, steps.terminated, steps.truncated))
    )
    found = torch.autograd.grad(model.reward(scores).sum(), leaves, allow_unused=True, materialize_grads=True)
    for ours, theirs, unit in zip((gradient.obs, gradient.actions, gradient.next_obs), found, (1, 2, 1), strict=True):
        torch.testing.assert_close(ours, unit * theirs, atol=1e-6, rtol=1e-4)
    others = model._of_steps(steps) + model.endings.of_steps()
    torch.testing.assert_close(rewards, others.float(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("space", [spaces.Discrete(3), spaces.Box(-np.inf, 1.0, (2,)), spaces.MultiBinary(2)])
def test_other_actions_than_a_bounded_box_are_refused(space):
    with pytest.raises(UsageError, match="a squashed policy needs actions of a bounded Box; got"):
        Policy(OBSERVATIONS, space, squash=True)


def batch_of(n, ends=None):
    obs, actions = torch.randn(n, 3), 4 * torch.rand(n, 2) - 2
    ends = torch.zeros(n, dtype=torch.bool) if ends is None else ends(obs)
    return Transitions(obs, actions, obs + 0.1 * torch.randn(n, 3), torch.ones(n), ends, torch.zeros_like(ends))


def plain_scores(batch, of_end=0.0):
    return Scores(
        batch.rewards + of_end * batch.terminated, torch.tensor(of_end), None, torch.ones(()), torch.zeros(())
    )


def test_the_result_is_the_average_of_the_policy_that_acts():
    for tau in (0.0, 1.0):
        torch.manual_seed(0)
        svg, batch = learner(1, policy_tau=tau), batch_of(2 * SIZE)
        before = [p.clone() for p in svg.policy.network.parameters()]
        svg.update(batch, plain_scores(batch))
        expected = before if tau == 0 else list(svg.acting.network.parameters())
        assert all(torch.equal(x, y) for x, y in zip(svg.policy.network.parameters(), expected, strict=True))
        assert not torch.equal(before[0], svg.acting.network[0].weight)


@pytest.mark.parametrize(("target", "rises"), [(-50.0, False), (50.0, True)])
def test_the_temperature_goes_towards_the_entropy_target(target, rises):
    svg, batch = learner(1, entropy_target=target), batch_of(2 * SIZE)
    before = float(svg.log_alpha)
    svg.update(batch, plain_scores(batch))
    assert (float(svg.log_alpha) > before) == rises


def test_step_sizes_fall_to_their_final_share_but_the_models():
    svg, batch = learner(1, final_share=0.1, learning_rate=1e-3), batch_of(SIZE)
    svg.update(batch, plain_scores(batch), progress_remaining=0.0)
    rates = {name: adam.learning_rate for name, adam in svg.adams.items()}
    assert rates == pytest.approx({"policy": 1e-4, "critic": 1e-4, "alpha": 1e-4, "model": 1e-3})


def test_the_model_learns_terminations_apart_from_rewards():
    """A step is worth 1, and its end -20 beside."""
    torch.manual_seed(0)
    svg = learner(1, model_updates=1.0, model_batch_size=64, model_learning_rate=1e-2)
    for _ in range(30):
        batch = batch_of(10 * SIZE, lambda obs: obs[:, 0] > 0.5)
        svg.update(batch, plain_scores(batch, -20.0))
    z, actions = svg.policy.normalizer(batch.obs), svg.policy.actions(batch.actions)
    output = svg.model.sweep(z, actions).output.flatten(0, 1)
    assert ((output[:, 3] > 0) == batch.terminated).float().mean() > 0.9
    assert (output[:, 4] - 1).abs().mean() < 0.3
