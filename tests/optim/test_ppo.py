import copy

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.nn import functional as F

from rlgen.nn.policy import Critic, Policy
from rlgen.optim.advantages import standardize
from rlgen.optim.ppo import PPO, PPOConfig
from rlgen.types import PolicyBatch

OBS = spaces.Box(-np.inf, np.inf, (4,), np.float64)
ACTIONS = [spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(3)]


@pytest.mark.parametrize("max_grad_norm", [0.5, 1e3])
@pytest.mark.parametrize("ent_coef", [0.0, 0.01])
@pytest.mark.parametrize("actions", ACTIONS)
def test_an_update_is_what_autograd_clipping_and_adam_do(actions, ent_coef, max_grad_norm):
    policy = Policy(OBS, actions, (8, 8), log_std_init=-0.5)
    policy.network[-1].weight.data.normal_()
    critic = Critic(policy.normalizer, (8, 8))
    their_policy, their_critic = copy.deepcopy((policy, critic))
    rows = 50
    obs = torch.randn(rows, 4)
    sampled = torch.randint(3, (rows,)) if isinstance(actions, spaces.Discrete) else torch.randn(rows, 2)
    with torch.no_grad():
        log_probs = policy(obs).log_prob(sampled) + 0.3 * torch.randn(rows)  # some ratios are clipped
    batch = PolicyBatch(obs, sampled, log_probs, torch.randn(rows), torch.randn(rows), 5 * torch.randn(rows))
    config = PPOConfig(learning_rate=1e-2, n_epochs=4, batch_size=rows, ent_coef=ent_coef, max_grad_norm=max_grad_norm)
    PPO(policy, critic, config).update(batch)

    weights = [list(their_policy.parameters()), list(their_critic.network.parameters())]
    adam = torch.optim.Adam([p for group in weights for p in group], 1e-2, eps=1e-5)
    for _ in range(4):
        distribution = their_policy(obs)
        ratio, advantage = (distribution.log_prob(sampled) - log_probs).exp(), standardize(batch.advantages)
        surrogate = torch.min(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean()
        loss = F.mse_loss(their_critic(obs), batch.returns) - surrogate - ent_coef * distribution.entropy().mean()
        adam.zero_grad()
        loss.backward()
        for group in weights:
            torch.nn.utils.clip_grad_norm_(group, max_grad_norm)
        adam.step()
    for ours, theirs in ((policy, their_policy), (critic, their_critic)):
        for name, tensor in ours.state_dict().items():
            torch.testing.assert_close(tensor, theirs.state_dict()[name], rtol=1e-4, atol=1e-5)
    # Adam doesn't see a gradient's scale, so the last one is compared itself.
    ours = [*policy.parameters(), *critic.network.parameters()]
    for parameter, theirs in zip(ours, [p for group in weights for p in group], strict=True):
        torch.testing.assert_close(parameter.grad, theirs.grad, rtol=1e-3, atol=1e-4)


def batch_for(policy, rows=50):
    obs, sampled = torch.randn(rows, 4), torch.randn(rows, 2)
    with torch.no_grad():
        log_probs = policy(obs).log_prob(sampled)
    return PolicyBatch(obs, sampled, log_probs, torch.randn(rows), torch.randn(rows), torch.randn(rows))


@pytest.mark.parametrize(("progress_remaining", "share"), [(1.0, 1.0), (0.5, 0.5), (0.1, 0.2), (0.0, 0.2)])
def test_the_rate_falls_linearly_to_its_least_share(progress_remaining, share):
    """Adam's first step is the rate's size, whatever the gradient."""
    policy = Policy(OBS, ACTIONS[0], (8, 8))
    ppo = PPO(policy, Critic(policy.normalizer, (8, 8)), PPOConfig(learning_rate=1e-2, n_epochs=1, least_share=0.2))
    before = ppo.flat[1].detach().clone()
    ppo.update(batch_for(policy), progress_remaining)
    step = (ppo.flat[1].detach() - before).abs()
    assert float(step.max()) == pytest.approx(1e-2 * share, rel=1e-2)


@pytest.mark.parametrize(("target_kl", "epochs"), [(None, 3), (0.0035, 3), (0.0025, 1)])
def test_passes_end_once_the_kl_is_half_as_much_again_as_its_target(target_kl, epochs):
    policy = Policy(OBS, ACTIONS[0], (8, 8))
    batch = batch_for(policy)
    batch.log_probs[:] += 0.1  # as if the policy had moved already: (r - 1) - log r = 0.0048
    config = PPOConfig(learning_rate=1e-9, n_epochs=3, batch_size=50, target_kl=target_kl)
    ppo = PPO(policy, Critic(policy.normalizer, (8, 8)), config)
    ppo.update(batch)
    assert float(ppo.optimizer.steps[0]) == epochs


def test_metrics_are_means_over_the_minibatches():
    """Of a policy that stays as it is; the last minibatch has 10 of 50 rows."""
    policy = Policy(OBS, ACTIONS[0], (8, 8))
    critic = Critic(policy.normalizer, (8, 8))
    batch = batch_for(policy)
    batch.log_probs[:] += 0.4 * torch.randn(50)  # some ratios are clipped
    with torch.no_grad():
        distribution, values = policy(batch.obs), critic(batch.obs)
        log_ratio = distribution.log_prob(batch.actions) - batch.log_probs
    ratio, advantage = log_ratio.exp(), standardize(batch.advantages)
    clipped = torch.where(advantage > 0, ratio.clamp(max=1.2), ratio.clamp(min=0.8))
    metrics = PPO(policy, critic, PPOConfig(n_epochs=2, batch_size=20, learning_rate=0.0)).update(batch)
    for name, exact in {
        "kl": (ratio - 1 - log_ratio).mean(),
        "policy_loss": -(clipped * advantage).mean(),
        "value_loss": F.mse_loss(values, batch.returns),
        "entropy": distribution.entropy().mean(),
        "explained_variance": 1 - (batch.returns - batch.values).var() / batch.returns.var(),
    }.items():
        torch.testing.assert_close(metrics[name], exact, rtol=1e-4, atol=1e-5)
