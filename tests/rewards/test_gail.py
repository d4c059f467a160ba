import copy
import dataclasses

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rlgen import imitation
from rlgen.errors import UsageError
from rlgen.functional.adversarial import reward_logit
from rlgen.nn.discriminator import Discriminator, FeatureMatching, ShapedDiscriminator
from rlgen.nn.policy import Policy
from rlgen.rewards.combine import WeightedSum
from rlgen.rewards.endings import TerminationReward
from rlgen.rewards.gail import GAIL, ConstantDiscriminator, GAILConfig
from rlgen.types import Transitions

BOX = spaces.Box(-1, 1, (2,), np.float32)


def transitions(*shape, mean=0.0, std=1.0, actions=None):
    zeros = torch.zeros(shape)
    obs = mean + std * torch.randn(*shape, 3)
    actions = torch.rand(*shape, 2) * 2 - 1 if actions is None else actions
    return Transitions(obs, actions, obs, zeros, zeros.bool(), zeros.bool())


def gail(config=None, expert=None, reward=reward_logit, endings=None, **network):
    return GAIL(Discriminator(3, BOX, **network), expert or transitions(200, mean=1.0), config, reward, endings)


def test_the_logit_becomes_the_log_density_ratio():
    """Without penalty the best discriminator of N(1, 1) and N(0, 1) has logit sum(x - 1/2) over three dimensions."""
    model = gail(GAILConfig(gradient_penalty_coef=0.0, learning_rate=1e-2, n_updates=20), transitions(20_000, mean=1.0))
    for _ in range(30):
        model.update(transitions(100, 200))
    model.optimizer.learning_rate = 5e-4
    for _ in range(30):
        metrics = model.update(transitions(100, 200))
    fresh = transitions(2000, mean=0.5, std=0.5)
    model.eval()
    with torch.no_grad():
        logits = model.discriminator(model.discriminator.inputs(fresh))
    exact = (fresh.obs - 0.5).sum(-1)
    assert torch.corrcoef(torch.stack((logits, exact)))[0, 1] > 0.97
    assert (logits - exact).abs().mean() < 0.35
    # Bayes' rule errs with probability Phi(-sqrt(3)/2) = 0.193 on both sides.
    assert float(metrics["discriminator_accuracy_policy"]) == pytest.approx(0.807, abs=0.04)
    assert float(metrics["discriminator_accuracy_expert"]) == pytest.approx(0.807, abs=0.04)


def test_the_call_is_pure_and_sees_state_and_executed_action_only():
    model = gail()
    before = copy.deepcopy(model.state_dict())
    batch = transitions(5, 4)
    rewards = model(batch)
    assert rewards.shape == (5, 4)
    assert not rewards.requires_grad
    other = dataclasses.replace(
        batch,
        next_obs=batch.obs + 1,
        rewards=batch.rewards + 7,
        terminated=~batch.terminated,
        truncated=~batch.truncated,
    )
    assert torch.equal(model(other), rewards)
    beyond = dataclasses.replace(batch, actions=torch.where(batch.actions > 0, 50.0, batch.actions))
    at_bound = dataclasses.replace(batch, actions=torch.where(batch.actions > 0, 1.0, batch.actions))
    assert torch.equal(model(beyond), model(at_bound))
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("reward", imitation.REWARDS.values())
def test_an_undecided_discriminator_rewards_the_absorbing_state_s_share_alone(reward):
    model = gail(reward=reward, endings=TerminationReward(0.25))
    torch.nn.init.zeros_(model.discriminator.network[-1].weight)
    batch = transitions(10, 20)
    assert model(dataclasses.replace(batch, terminated=batch.terminated | True)).mean() == pytest.approx(
        np.log(4), abs=1e-3
    )
    for rate, sign in ((0.25, 0), (0.05, -1), (0.8, 1)):
        ends = (torch.arange(200).view(10, 20) % 20) < 20 * rate
        lam = model(dataclasses.replace(batch, terminated=ends))
        assert lam.std() == pytest.approx(0, abs=1e-6)
        assert lam.mean().round(decimals=2).sign() == sign


@pytest.mark.parametrize(
    ("config", "network"),
    [
        (GAILConfig(), {}),
        (GAILConfig(gradient_penalty_target=1.0, gradient_penalty_coef=10.0), {}),
        (GAILConfig(gradient_penalty_coef=0.0), {"spectral_norm": True}),
        (GAILConfig(entropy_coef=0.01, expert_label=0.9), {}),
        (GAILConfig(input_noise=0.3), {}),
        (GAILConfig(), {"dropout": 0.3}),
        (GAILConfig(), {"symlog": True}),
        (GAILConfig(batch_size=None, n_updates=2, follow_policy=True), {}),
        (GAILConfig(historical_averaging=0.01), {}),
        (GAILConfig(), {"reference": transitions(64, mean=1.0)}),
        (GAILConfig(), {"group": 10}),
        (GAILConfig(gradient_penalty_coef=0.0), {"information_limit": 0.5}),
        (GAILConfig(batch_size=None, follow_policy=True), {"reference": transitions(9), "group": 5, "dropout": 0.1}),
    ],
)
def test_every_option_learns_to_tell_apart(config, network):
    config = dataclasses.replace(config, learning_rate=1e-2)
    model = gail(config, **network)
    for _ in range(30):
        model.update(transitions(10, 50, mean=-1.0))
    # Bayes' rule is right on Phi(sqrt 3) = 0.958 of each side; penalties and smoothing keep the logits closer to zero.
    assert (model(transitions(2000, mean=1.0)) > 0).float().mean() > 0.85
    assert (model(transitions(2000, mean=-1.0)) < 0).float().mean() > 0.85


def test_feature_matching_pays_for_what_the_expert_s_mean_features_have_more_of():
    model = GAIL(FeatureMatching(3, BOX), transitions(200, mean=1.0))
    batch, rollout = transitions(5, 4), transitions(10, 50, mean=-1.0)
    assert torch.equal(model(batch), torch.zeros(5, 4))  # before it knows anything
    gap = model.update(rollout)["feature_gap"]
    discriminator, network = model.discriminator, model.discriminator.network

    def hidden(steps):
        x = discriminator.inputs(steps.flatten())
        for layer in (network[0], network[2]):
            x = torch.tanh(x @ layer.weight.T + layer.bias)
        return x

    with torch.no_grad():
        expert, policy = hidden(model.expert), hidden(rollout)
        exact = (hidden(batch) - expert.mean(0)) @ torch.nn.functional.normalize(expert.mean(0) - policy.mean(0), dim=0)
    torch.testing.assert_close(model(batch).flatten(), exact, atol=1e-5, rtol=1e-5)
    assert model(model.expert).mean() == pytest.approx(0, abs=1e-5)
    assert model(rollout).mean() == pytest.approx(-float(gap), rel=1e-4)


def test_feature_matching_with_endings_is_fem_s_with_learned_features():
    """The steps' mean that endings weigh is minus the distance of the means, which the expert makes 0."""
    model = GAIL(FeatureMatching(3, BOX), transitions(200, mean=1.0), endings=TerminationReward(0.0, decay=0.0))
    ends = dataclasses.replace(transitions(10, 50), terminated=torch.arange(500).view(10, 50) % 10 == 0)
    model.update(ends)
    gap = float(model.update(ends)["feature_gap"])
    model(ends)
    model.update(ends)
    assert model.endings.counts[2] / model.endings.counts[1] == pytest.approx(-gap, rel=0.05)


@pytest.mark.parametrize(("group", "low", "high"), [(1, 0.45, 0.6), (10, 0.9, 1.0)])
def test_minibatch_features_tell_how_pairs_were_sampled(group, low, high):
    """Both sides are one policy's; the rows of one are in the order of its slow trajectories, the other's shuffled."""
    torch.manual_seed(0)

    def trajectories(n):
        where, steps = torch.randn(n, 3), []
        for _ in range(10):
            where = 0.99 * where + 0.14 * torch.randn(n, 3)
            steps.append(where)
        obs = torch.stack(steps)
        found = transitions(10, n)
        return dataclasses.replace(found, obs=obs, next_obs=obs)

    shuffled = trajectories(500).flatten()[torch.randperm(5000)]
    config = GAILConfig(gradient_penalty_coef=0.0, learning_rate=1e-2, n_updates=20, batch_size=1000)
    model = gail(config, shuffled, group=group)
    for _ in range(5):
        model.update(trajectories(100))
    fresh, others = (model(x) for x in (trajectories(500), trajectories(500).flatten()[torch.randperm(5000)]))
    accuracy = ((fresh < 0).float().mean() + (others > 0).float().mean()) / 2
    assert low < accuracy < high


def test_steps_of_one_environment_are_told_apart_together():
    model = gail(group=5)
    torch.nn.init.normal_(model.discriminator.network[-1].weight)
    square = transitions(10, 10)
    rewards = model(square)
    for column in (0, 7):
        alone = dataclasses.replace(square).apply(lambda x, column=column: x[:, column : column + 1])
        torch.testing.assert_close(model(alone)[:, 0], rewards[:, column])
    others = square.apply(lambda x: torch.cat((x[:5], x[5:].flip(1))))
    torch.testing.assert_close(model(others)[:5], rewards[:5])
    with pytest.raises(UsageError, match="minibatch features need 5 expert pairs; got 4"):
        gail(group=5, expert=transitions(4))


@pytest.mark.parametrize("state_only", [False, True])
def test_the_settings_reach_the_discriminator(state_only):
    policy, expert = Policy(spaces.Box(-1, 1, (3,), np.float32), BOX), transitions(500)
    settings = dataclasses.replace(
        imitation.settings(),
        state_only=state_only,
        reward="feature-matching",
        virtual_batch_norm=True,
        minibatch_group=4,
        information_limit=0.5,
        gail=GAILConfig(historical_averaging=0.1),
    )
    model = imitation.gail(settings, policy, imitation.Expert(expert, 0.5, transitions(3)))
    discriminator = model.discriminator
    assert len(discriminator.reference.rewards) == imitation.REFERENCE
    assert torch.equal(discriminator.reference.obs[[0, -1]], expert.obs[[0, -1]])
    names = [type(layer).__name__ for layer in discriminator.network]
    norm = ["Linear", "VirtualBatchNorm", "Tanh"]
    assert names == [*norm, *norm, "MinibatchFeatures", "Bottleneck", "Linear"]
    batch = transitions(8, 8)
    model(batch)
    assert {"feature_gap", "information", "information_weight"} <= model.update(batch).keys()
    assert model.average.count == settings.gail.n_updates
    # The one of terminal observations is a plain one: there may be few.
    assert len(model.endings.terminal_states.model.discriminator.network) == 5


def test_the_penalty_bounds_the_slope():
    slopes = []
    for coefficient in (0.0, 10.0):
        model = gail(GAILConfig(gradient_penalty_coef=coefficient, learning_rate=1e-2))
        for _ in range(30):
            model.update(transitions(10, 50, mean=-1.0))
        x = torch.randn(100, 5, requires_grad=True)
        (slope,) = torch.autograd.grad(model.discriminator(x).sum(), x)
        slopes.append(float(slope.norm(dim=1).mean()))
    assert slopes[1] < slopes[0] / 3


def test_discrete_actions_are_one_hot():
    discriminator = Discriminator(3, spaces.Discrete(4))
    inputs = discriminator.inputs(transitions(6, actions=torch.arange(6) % 4))
    assert inputs.shape == (6, 7)
    assert torch.equal(inputs[:, 3:].argmax(1), torch.arange(6) % 4)


def test_the_constant_control_pays_for_survival_alone():
    rewards = ConstantDiscriminator()(transitions(5, 4))
    assert torch.allclose(rewards, torch.full((5, 4), float(np.log(2))))


def decomposable(seed, n_states=8, n_actions=3, gamma=0.9):
    """Successors `[S, A]`, rewards `[S]` and the soft-optimal policy `[S, A]` of a random deterministic MDP.

    Only one in which all states are linked (Fu et al. 2018, definition 1): its rewards are then determined by that
    policy up to a constant, the one direction in which g + gamma h' - h stays the same.
    """
    rng = np.random.default_rng(seed)
    while True:
        following = rng.integers(n_states, size=(n_states, n_actions))
        states = np.repeat(np.eye(n_states), n_actions, 0)
        shaped = np.concatenate((states, gamma * np.eye(n_states)[following.ravel()] - states), 1)
        if np.linalg.matrix_rank(shaped) == 2 * n_states - 1:
            break
    rewards = rng.normal(size=n_states)
    return following, rewards, soft_optimal(following, rewards, gamma)


def soft_optimal(following, rewards, gamma=0.9):
    """exp(Q - V) where V = log sum exp Q, Q = r + gamma V'."""
    values = np.zeros(len(rewards))
    for _ in range(500):
        q = rewards[:, None] + gamma * values[following]
        values = np.log(np.exp(q).sum(1))
    return np.exp(q - values[:, None])


@pytest.mark.parametrize("seed", range(3))
def test_airl_recovers_the_reward_of_states_and_with_it_the_policy(seed):
    """Its fixed point: the policy has become the expert, and nothing can be told apart."""
    following, rewards, expert = decomposable(seed)
    n_states, n_actions = expert.shape
    one_hot = torch.eye(n_states)
    policy = Policy(spaces.Box(0, 1, (n_states,), np.float32), spaces.Discrete(n_actions), (32,))
    state, action = (torch.from_numpy(x) for x in np.divmod(np.arange(n_states * n_actions), n_actions))
    optimizer = torch.optim.LBFGS(policy.network.parameters(), max_iter=500, line_search_fn="strong_wolfe")
    target = torch.from_numpy(np.log(expert)).float()

    def loss():
        optimizer.zero_grad()
        error = (policy(one_hot).logits.log_softmax(-1) - target).square().mean()
        error.backward()
        return error

    optimizer.step(loss)

    def pairs(counts):
        rows = torch.from_numpy(np.repeat(np.arange(len(state)), counts))
        zeros = torch.zeros(len(rows))
        after = one_hot[torch.from_numpy(following)[state, action]]
        return Transitions(one_hot[state][rows], action[rows], after[rows], zeros, zeros.bool(), zeros.bool())

    steps = pairs(np.rint(100 * expert.ravel()).astype(int).clip(1))
    discriminator = ShapedDiscriminator(policy, (32,), gamma=0.9)
    config = GAILConfig(gradient_penalty_coef=0.0, learning_rate=1e-2, batch_size=None, n_updates=300)
    model = GAIL(discriminator, steps, config, reward_logit)
    for rate in (1e-2, 1e-3):
        model.optimizer.learning_rate = rate
        model.update(steps)
    with torch.no_grad():
        g = discriminator.network["g"](discriminator.of_obs(one_hot)).squeeze(-1).double().numpy()
    assert np.corrcoef(g, rewards)[0, 1] > 0.97
    assert np.abs(soft_optimal(following, g) - expert).max() < 0.05


def test_airl_recovers_the_expert_s_log_likelihood_once_the_policy_is_the_expert():
    """Relative to a standard normal policy: log N(a; 0, 0.7^2) - log N(a; 0, 1)."""
    wide = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    policy = Policy(spaces.Box(-np.inf, np.inf, (1,), np.float32), wide, log_std_init=float(np.log(0.7)))
    torch.nn.init.zeros_(policy.network[-1].weight)

    def steps(n):
        actions, zeros = 0.7 * torch.randn(n, 1), torch.zeros(n)
        return Transitions(torch.randn(n, 1), actions, torch.randn(n, 1), zeros, zeros.bool(), zeros.bool())

    config = GAILConfig(gradient_penalty_coef=0.0, learning_rate=1e-2, batch_size=None, n_updates=150)
    expert = steps(4000)
    model = GAIL(ShapedDiscriminator(policy, (16,), state_only=False), expert, config, reward_logit)
    model.update(expert)
    model.optimizer.learning_rate = 1e-3
    model.update(expert)
    fresh = steps(2000)
    exact = 0.5 * fresh.actions.square().squeeze(-1) * (1 - 1 / 0.49) - np.log(0.7)
    assert (model(fresh) - exact).abs().mean() < 0.1
    # The potential of the next state enters unless the episode ended.
    ended = dataclasses.replace(fresh, terminated=~fresh.terminated)
    h = model.discriminator.network["h"](model.discriminator.of_obs(fresh.next_obs)).squeeze(-1)
    torch.testing.assert_close(model(fresh) - model(ended), 0.99 * h.detach(), atol=1e-5, rtol=0)


def test_airl_pays_for_f_and_not_for_noise():
    """By default its reward doesn't change with the policy; the logit's -log pi would pay for a larger deviation."""
    policy = Policy(spaces.Box(-1, 1, (3,), np.float32), BOX)
    model = imitation.airl(imitation.settings(), policy, imitation.Expert(transitions(50)))
    batch = transitions(20)
    before = model(batch)
    with torch.no_grad():
        policy.log_std += 1
    assert torch.equal(model(copy.copy(batch)), before)


@pytest.mark.parametrize("log_std", [-4.0, 0.0])
def test_a_likelihood_alone_never_settles_what_is_the_expert_s(log_std):
    """Pairs far from a policy of little noise: log pi is below -1000, the logit stays above -log 2 at f = 0."""
    policy = Policy(spaces.Box(-1, 1, (3,), np.float32), BOX, log_std_init=log_std)
    discriminator = ShapedDiscriminator(policy)
    torch.nn.init.zeros_(discriminator.network["g"][-1].weight)
    torch.nn.init.zeros_(discriminator.network["h"][-1].weight)
    batch = transitions(200)
    assert (discriminator.log_likelihood(batch).min() < -1000) == (log_std == -4.0)
    with torch.no_grad():
        assert discriminator(discriminator.inputs(batch)).max() <= np.log(2) + 1e-6


def test_airl_learns_with_the_likelihoods_of_the_policy_that_acted():
    policy = Policy(spaces.Box(-1, 1, (3,), np.float32), BOX)
    models = [
        GAIL(ShapedDiscriminator(policy), transitions(50), GAILConfig(batch_size=None, n_updates=1), reward_logit)
        for _ in range(2)
    ]
    models[1].load_state_dict(models[0].state_dict())
    models[1].expert = models[0].expert
    batch = transitions(10, 20)
    for model, changed in zip(models, (0.0, 0.5), strict=True):
        model(batch)
        with torch.no_grad():
            policy.log_std += changed
        torch.manual_seed(0)
        model.update(batch)
    for left, right in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(left, right)


@pytest.mark.parametrize("name", ["gail", "airl", "fem", "gtal"])
def test_every_imitator_learns_where_the_expert_ends(name):
    """The expert ends where the first observation is 1, the policy where it is -1; many terminations of each."""
    torch.manual_seed(0)
    space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
    policy, settings = Policy(space, BOX), imitation.settings()

    def ends_at(x, *shape):
        found = transitions(*shape)
        next_obs = found.next_obs * 0.1 + torch.tensor([x, 0.0, 0.0])
        return dataclasses.replace(found, next_obs=next_obs, terminated=torch.ones(shape, dtype=torch.bool))

    policy.normalizer.update(transitions(500).obs)
    expert = imitation.Expert(transitions(200), 1.0, ends_at(1.0, 200))
    model = imitation.IMITATORS[name](settings, policy, expert)
    for _ in range(40):
        model.update(ends_at(-1.0, 10, 10))
    at_expert_s, at_own = (model.endings(ends_at(x, 10, 10), torch.zeros(10, 10)).mean() for x in (1.0, -1.0))
    assert at_expert_s - at_own > 99  # at least a nat for ever


def test_state_only_sees_successors_and_no_actions():
    policy = Policy(spaces.Box(-1, 1, (3,), np.float32), BOX)
    expert, batch = imitation.Expert(transitions(50)), transitions(10, 20)
    for state_only in (False, True):
        settings = dataclasses.replace(imitation.settings(), state_only=state_only)
        model = imitation.gail(settings, policy, expert)
        torch.nn.init.normal_(model.discriminator.network[-1].weight)
        other_actions = dataclasses.replace(batch, actions=-batch.actions)
        other_successors = dataclasses.replace(batch, next_obs=batch.next_obs + 1)
        assert torch.equal(model(other_actions), model(batch)) == state_only
        assert torch.equal(model(other_successors), model(batch)) == (not state_only)


@pytest.mark.parametrize("name", ["gail", "airl", "fem", "gtal"])
def test_living_on_is_rewarded_where_the_policy_ends_more_often_than_the_expert(name):
    policy = Policy(spaces.Box(-1, 1, (3,), np.float32), BOX)
    settings = imitation.settings()
    batch = transitions(10, 20)
    ending = dataclasses.replace(batch, terminated=torch.arange(200).view(10, 20) % 10 == 0)
    torch.manual_seed(0)
    model = imitation.IMITATORS[name](settings, policy, imitation.Expert(transitions(50), 0.02))
    goes_on = ~ending.terminated  # f itself has no h after a termination
    rewards = [model(rows)[goes_on] for rows in (batch, ending)]
    expected = np.log((0.1 + 1e-4) / (0.0 + 1e-4))
    torch.testing.assert_close(rewards[1] - rewards[0], torch.full_like(rewards[0], expected), atol=1e-4, rtol=0)
    model.update(ending)
    assert model.endings.counts[:2].tolist() == [20, 200]
    assert model.endings.expert_rate == 0.02
    paper = imitation.settings("paper")
    assert imitation.IMITATORS[name](paper, policy, imitation.Expert(transitions(50), 0.02)).endings is None


@pytest.mark.parametrize("name", ["gail", "airl", "fem", "gtal"])
def test_the_mean_that_is_taken_off_is_of_the_rewards_that_the_policy_was_given(name):
    torch.manual_seed(0)
    policy = Policy(spaces.Box(-1, 1, (3,), np.float32), BOX)
    model = imitation.IMITATORS[name](imitation.settings(), policy, imitation.Expert(transitions(50)))
    ends = torch.arange(200).view(10, 20) % 10 == 0
    first, batch = (dataclasses.replace(transitions(10, 20), terminated=ends) for _ in range(2))
    model.update(first)
    plain, before = copy.deepcopy(model), model.endings.counts[2].clone()
    plain.endings = None
    rewards = plain(batch)
    assert rewards.sum().abs() > 0.1
    total, steps = 0.9 * before + rewards.sum(), 0.9 * 200 + 200
    mean = total / steps
    living = torch.tensor(1001.0, dtype=torch.float64).log().minimum(0.5 * (1 / mean.square()).clamp(min=1))
    torch.testing.assert_close(model(batch), rewards + (living - mean).float())
    model.update(batch)
    assert model.endings.counts[2].item() == pytest.approx(total.item(), rel=1e-5)


def test_airl_in_a_sum_learns_as_alone():
    """The sum asks for its rewards again once the policy has changed."""
    losses = []
    for wrap in (lambda model: model, lambda model: WeightedSum({"airl": (model, 1.0)})):
        torch.manual_seed(0)
        policy = Policy(spaces.Box(-1, 1, (3,), np.float32), BOX)
        model = wrap(GAIL(ShapedDiscriminator(policy), transitions(50), GAILConfig(batch_size=None), reward_logit))
        batch = transitions(10, 20)
        model(batch)
        with torch.no_grad():
            policy.log_std += 0.5
        losses.append({name.removeprefix("airl_"): x for name, x in model.update(batch).items()})
    alone, summed = losses
    assert summed["discriminator_loss"] == alone["discriminator_loss"]


def test_airl_never_takes_its_inputs_anew():
    """The paper's preset has GAIL do so."""
    settings = imitation.settings("paper")
    policy = Policy(spaces.Box(-np.inf, np.inf, (3,), np.float32), BOX)
    assert imitation.gail(settings, policy, imitation.Expert(transitions(50))).config.follow_policy
    model, batch = imitation.airl(settings, policy, imitation.Expert(transitions(50))), transitions(5, 4)
    model(batch)
    before = copy.deepcopy(model.discriminator.of_obs.state_dict())
    model.update(batch)
    torch.testing.assert_close(model.discriminator.of_obs.state_dict(), before, rtol=0, atol=0)


def test_airl_weighs_a_clipped_action_by_the_tail_s_mass():
    policy = Policy(spaces.Box(-1, 1, (3,), np.float32), BOX, log_std_init=float(np.log(1.5)))
    model = GAIL(ShapedDiscriminator(policy), transitions(50), reward=reward_logit)
    batch = transitions(4000)
    sampled = policy(batch.obs).mean.detach() + 1.5 * torch.randn(4000, 2)
    batch = dataclasses.replace(batch, actions=sampled.clamp(-1, 1))
    likelihood = model.discriminator.log_likelihood(batch).exp()
    # E[1 / ratio] under the policy is the total probability of the standard normal policy, tails included.
    assert (1 / likelihood).mean() == pytest.approx(1, rel=0.05)


def test_input_noise_has_its_deviation():
    noise = gail(GAILConfig(input_noise=0.3))._noisy(torch.zeros(5000, 5))
    torch.testing.assert_close(noise.std(0), torch.full((5,), 0.3), rtol=0.05, atol=0)
    assert noise.abs().max() < 0.3 * 6
