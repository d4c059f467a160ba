import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rlgen.data.replay import ReplayPool
from rlgen.errors import UsageError
from rlgen.functional.adversarial import reward_logit, reward_softplus
from rlgen.rewards.endings import TerminalStates, TerminationReward
from rlgen.types import Transitions


def rollout(n_terminated, n_steps=100, n_truncated=0):
    ends = torch.zeros(n_steps, dtype=torch.bool)
    terminated, truncated = ends.clone(), ends.clone()
    terminated[:n_terminated], truncated[n_terminated : n_terminated + n_truncated] = True, True
    rows = torch.zeros(n_steps, 1)
    return Transitions(rows, rows, rows, rows[:, 0], terminated, truncated).apply(lambda x: x.unflatten(0, (-1, 10)))


def of_endings(model, transitions):
    """What is rewarded beside the steps' own rewards."""
    return model(transitions, torch.zeros_like(transitions.rewards))


def test_it_is_the_best_discriminator_s_with_absorbing_states():
    """DAC's pairs, weighed and normalised by enumeration; the absorbing state's logit is taken from all."""
    rng = np.random.default_rng(0)
    for gamma in (0.9, 0.99):
        pairs = [rng.dirichlet(np.ones(6)) for _ in range(2)]  # how often expert and policy visit each of six
        rates = rng.uniform(0.01, 0.2, 2)  # terminations a step
        mass = [np.append(visited, rate / (1 - gamma)) for visited, rate in zip(pairs, rates, strict=True)]
        expert, policy = (x / x.sum() for x in mass)
        logits = np.log(expert / policy)
        model = TerminationReward(rates[0], eps=1e-300)
        model.counts.copy_(torch.tensor([rates[1], 1.0, 0.0]) * 1e12)
        found = np.log(pairs[0] / pairs[1]) + of_endings(model, rollout(0))[0, 0].item()
        np.testing.assert_allclose(found, logits[:-1] - logits[-1], rtol=1e-6)


def test_it_counts_terminations_and_no_time_limits():
    model = TerminationReward(0.05)
    expected = math.log((0.1 + 1e-4) / (0.05 + 1e-4))
    found = of_endings(model, rollout(10, n_truncated=30))
    assert found.shape == (10, 10)
    torch.testing.assert_close(found, torch.full((10, 10), expected))
    # The same again: a reward is no part of learning.
    torch.testing.assert_close(of_endings(model, rollout(10)), found)
    model.update(rollout(10), torch.zeros(10, 10))
    assert of_endings(model, rollout(0))[0, 0].item() == pytest.approx(math.log((9 / 190 + 1e-4) / (0.05 + 1e-4)))
    other = TerminationReward(0.05)
    other.load_state_dict(model.state_dict())
    assert torch.equal(of_endings(other, rollout(3)), of_endings(model, rollout(3)))


@pytest.mark.parametrize(("expert_rate", "share"), [(0.0, 0.0), (0.001, 0.1), (0.004, 0.4), (0.01, 1.0), (0.2, 1.0)])
def test_an_expert_that_terminates_beyond_the_horizon_hardly_says_how_long_to_live(expert_rate, share):
    """Of the absorbing state's form, a share; of rewards less their mean and a small one for living on, the rest."""
    for n, level in itertools.product((1, 100), (0, -10)):  # how sure the discriminator is
        model, batch, rewards = TerminationReward(expert_rate), rollout(n), torch.randn(10, 10) + level
        mean, living = rewards.mean().item(), math.log((n / 100 + 1e-4) / (expert_rate + 1e-4))
        bounded = rewards - mean + min(max(living, 0.0), 0.5 * max(1, mean**-2))
        torch.testing.assert_close(model(batch, rewards), share * (rewards + living) + (1 - share) * bounded)


def test_the_horizon_is_the_learner_s():
    rewards, batch = torch.randn(10, 10), rollout(1)
    found = [TerminationReward(0.01, gamma=gamma)(batch, rewards).mean().item() for gamma in (0.9, 0.99)]
    living = math.log((0.01 + 1e-4) / (0.01 + 1e-4))
    assert found == pytest.approx([share * rewards.mean().item() + living for share in (0.1, 1.0)], abs=1e-5)


@pytest.mark.parametrize("expert_rate", [0.0, 0.001, 0.01])
def test_an_expert_that_sometimes_reaches_its_time_limit_is_one_that_always_does_but_by_the_weight(expert_rate):
    share = min(1, expert_rate / 0.01)
    for n in (0, 1, 50):
        model = TerminationReward(expert_rate, expert_survives=True, max_survival_reward=5.0)
        found = of_endings(model, rollout(n, 10_000))[0, 0].item()
        living, surviving = (math.log((n / 10_000 + 1e-4) / (rate + 1e-4)) for rate in (expert_rate, 0.0))
        assert found == pytest.approx(share * living + (1 - share) * surviving, abs=1e-5)


@pytest.mark.parametrize("mean", [-1.0, -3.0, -0.1, 0.25, 0.0])
def test_off_policy_living_on_is_rewarded_alike_wherever_the_policy_is(mean):
    """So that what a fall costs does not change from iteration to iteration."""
    model = TerminationReward(0.0, max_survival_reward=0.5, off_policy=True)
    batch = rollout(1)
    model.update(batch, torch.full_like(batch.rewards, mean))
    assert float(model.of_steps()) == pytest.approx(0.5 - mean)


@pytest.mark.parametrize(("mean", "at_most"), [(-1.0, 1.0), (-3.0, 1.0), (-0.5, 4.0), (0.25, 16.0), (0.0, math.inf)])
def test_living_on_is_rewarded_the_less_the_farther_the_policy_is_from_the_expert(mean, at_most):
    batch, living = rollout(100), math.log(1.0001 / 1e-4)
    rewards = torch.full((10, 10), mean)
    for coef in (1.0, 0.5):
        found = TerminationReward(0.0, max_survival_reward=coef)(batch, rewards)  # of rewards that are their mean
        torch.testing.assert_close(found, torch.full((10, 10), min(coef * at_most, living)))


def test_where_nothing_terminates_rewards_are_what_they_were():
    truncated = replace(rollout(0), truncated=torch.ones(10, 10, dtype=torch.bool))
    rewards = torch.randn(10, 10)
    for steps in (rollout(0), truncated):
        for survives in (False, True):
            assert torch.equal(TerminationReward(0.0, expert_survives=survives)(steps, rewards), rewards)


@pytest.mark.parametrize("n_terminated", [0, 1])
def test_the_mean_is_that_of_the_rollouts_so_far_once_an_episode_has_terminated(n_terminated):
    model, rewards = TerminationReward(0.01, gamma=0.9), torch.randn(2, 10, 10)
    model.update(rollout(n_terminated), rewards[0])
    mean = (0.9 * rewards[0].mean() + rewards[1].mean()) / 1.9
    living = math.log((0.9 * n_terminated / 190 + 1e-4) / (0.01 + 1e-4))
    expected = rewards[1] + 0.1 * living - 0.9 * n_terminated * mean
    torch.testing.assert_close(model(rollout(0), rewards[1]), expected)


@pytest.mark.parametrize(
    "wrong",
    [
        {"expert_rate": -1.0},
        {"expert_rate": math.nan},
        {"decay": 2.0},
        {"eps": 0.0},
        {"gamma": 1.0},
        {"max_survival_reward": 0.0},
    ],
)
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(UsageError, match=f"{next(iter(wrong))} must be"):
        TerminationReward(**{"expert_rate": 0.1} | wrong)


LENGTH = 5


class Known:
    """f is the terminal observation's first number."""

    def __init__(self):
        self.seen = []

    def __call__(self, transitions):
        return transitions.next_obs[..., 0]

    def update(self, transitions):
        self.seen.append(transitions)
        return {}


def test_a_termination_is_worth_what_its_observation_is_for_ever():
    space = spaces.Box(-1, 1, (1,), np.float32)
    states = TerminalStates(Known(), ReplayPool(8, space, space), n_expert=20, prior_count=10.0)
    model, plain = TerminationReward(0.2, states, gamma=0.9), TerminationReward(0.2, gamma=0.9)
    batch = rollout(3, n_truncated=3)
    batch = replace(batch, next_obs=torch.linspace(-3, 3, 100).view(10, 10, 1))
    # The expert's 20 terminations and ten that are as the policy's.
    f = ((20 * batch.next_obs[..., 0].exp() + 10) / 30).log()
    added = of_endings(model, batch) - of_endings(plain, batch)
    torch.testing.assert_close(added, torch.where(batch.terminated, 9 * f, 0.0))
    # Half a termination of the expert within the horizon.
    rare, plain = TerminationReward(0.05, states, gamma=0.9), TerminationReward(0.05, gamma=0.9)
    added = of_endings(rare, batch) - of_endings(plain, batch)
    torch.testing.assert_close(added, torch.where(batch.terminated, 4.5 * f, 0.0))
    assert model.update(batch, torch.zeros(10, 10))["termination_rate"] == pytest.approx(0.03)
    ends = batch.next_obs[batch.terminated].flatten()
    assert set(states.model.seen[0].next_obs.flatten().tolist()) <= set(ends.tolist())
    # A rollout without terminations learns from the earlier ones.
    assert model.update(rollout(0), torch.zeros(10, 10))["termination_rate"] == pytest.approx(0.9 * 0.03 / 1.9)
    assert [len(x.rewards) for x in states.model.seen] == [8, 8]
    assert states.model.seen[1].terminated.all()


def test_the_policy_s_terminations_are_recent_ones():
    """As lambda's are: of 1,000, half of them elsewhere before, the last ten rollouts' worth is learned from."""
    space = spaces.Box(-1, 1, (1,), np.float32)
    states = TerminalStates(Known(), ReplayPool(1000, space, space), n_expert=20)
    model = TerminationReward(0.05, states)
    for i in range(100):
        batch = rollout(10)
        model.update(replace(batch, next_obs=torch.full_like(batch.next_obs, float(i))), torch.zeros(10, 10))
    seen = states.model.seen[-1].next_obs
    assert len(seen) == 1000
    assert 89 <= seen.min() <= 91  # 10 a rollout, weighed by 0.9, are 100 in all
    assert seen.max() == 99


def test_a_rollout_without_terminations_reports_what_others_do():
    """A run's metrics have the same columns from the first iteration on."""
    space = spaces.Box(-1, 1, (1,), np.float32)
    states = TerminalStates(Known(), ReplayPool(8, space, space), n_expert=20)
    model = TerminationReward(0.05, states)
    names = [set(model.update(rollout(n), torch.zeros(10, 10))) for n in (0, 3)]
    assert names[0] == names[1]
    assert len(states.model.seen) == 1


def test_the_absorbing_states_of_two_endings_by_enumeration():
    """DAC's pairs with a goal and a pit; the logit of all absorbing states without their names is taken from all."""
    rng = np.random.default_rng(0)
    pairs = [rng.dirichlet(np.ones(6)) for _ in range(2)]
    rates, gamma = rng.uniform(0.01, 0.2, 2), 0.97
    kinds = [rng.dirichlet(np.ones(2)) for _ in range(2)]  # how often each ends in the goal, in the pit
    mass = [np.append(p, rate * kind / (1 - gamma)) for p, rate, kind in zip(pairs, rates, kinds, strict=True)]
    expert, policy = (x / x.sum() for x in mass)
    logits = np.log(expert / policy)
    share = [x[6:].sum() for x in (expert, policy)]
    reference = np.log(share[0] / share[1])
    model = TerminationReward(rates[0], eps=1e-300)
    model.counts.copy_(torch.tensor([rates[1], 1.0, 0.0]) * 1e12)
    np.testing.assert_allclose(
        np.log(pairs[0] / pairs[1]) + of_endings(model, rollout(0))[0, 0].item(), logits[:6] - reference, rtol=1e-5
    )
    # An absorbing state pays its logit from the step after the termination on.
    states = TerminationReward(0.1, gamma=gamma)
    forever = sum(gamma**t for t in range(1, 3000)) * (logits[6:] - reference)
    np.testing.assert_allclose(states.discounted_future * np.log(kinds[0] / kinds[1]), forever, rtol=1e-6)


def chain(expert_right, left_ends, right_ends):
    """Five places in a row, starts in any, and the expert's chances of a step to the right in each.

    Where an end of the row doesn't end the episode, a step beyond it stays.
    """
    following = np.zeros((LENGTH, 2, LENGTH))
    for place in range(LENGTH):
        for action, step in enumerate((-1, 1)):
            there = place + step
            ended = (there < 0 and left_ends) or (there == LENGTH and right_ends)
            if not ended:
                following[place, action, np.clip(there, 0, LENGTH - 1)] = 1
    expert = np.stack((1 - np.array(expert_right), expert_right), 1)
    return following, expert


def visits(policy, following):
    """Each pair's share of the steps of a policy, episodes without end starting anew, and terminations a step."""
    ended = 1 - following.sum(-1)
    moves = np.einsum("sa,sat->st", policy, following) + np.einsum("sa,sa->s", policy, ended)[:, None] / LENGTH
    values, vectors = np.linalg.eig(moves.T)
    places = np.abs(vectors[:, np.argmax(values.real)].real)
    pairs = places[:, None] / places.sum() * policy
    return pairs, (pairs * ended).sum()


KINDS = {
    "the end is the goal": ([0.9, 0.9, 0.9, 0.9, 0.9], False, True),
    "the ends are to stay away from": ([0.9, 0.8, 0.5, 0.2, 0.1], True, True),
    "the expert falls on purpose": ([0.1, 0.1, 0.1, 0.1, 0.1], True, False),
    "one end is the goal, the other is not": ([0.98, 0.9, 0.9, 0.9, 0.9], True, True),
    "the goal is rare": ([0.5, 0.4, 0.4, 0.4, 0.1], False, True),
    "nothing ends": ([0.9, 0.5, 0.5, 0.5, 0.1], False, False),
}


def imitate(kind, start, reward, gamma=0.99, absorbing_states=True):
    """GAIL by enumeration: the best discriminator's logit, exact values, small steps of the policy.

    Returns: policy and expert `[LENGTH, 2]`, and the terminations a step of both.
    """
    following, expert = chain(*KINDS[kind])
    expert_pairs, expert_rate = visits(expert, following)
    endings = TerminationReward(expert_rate, gamma=gamma)
    preferences = np.tile(np.log([1 - start, start]), (LENGTH, 1))
    for _ in range(1500):
        policy = np.exp(preferences) / np.exp(preferences).sum(1, keepdims=True)
        pairs, rate = visits(policy, following)
        rewards = reward(torch.from_numpy(np.log(expert_pairs / pairs))).numpy()
        if absorbing_states:
            rewards -= reward(torch.zeros(())).item()
            endings.counts.copy_(torch.tensor([rate, 1.0, (pairs * rewards).sum()]) * 1e12)
            rewards = rewards + of_endings(endings, rollout(0))[0, 0].item()
        moves = np.einsum("sa,sat->st", policy, following)
        values = np.linalg.solve(np.eye(LENGTH) - gamma * moves, (policy * rewards).sum(1))
        preferences = preferences + 0.01 * (rewards + gamma * following @ values - values[:, None])
        preferences -= preferences.max(1, keepdims=True)
    return policy, expert, rate, expert_rate


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("start", [0.02, 0.98])
@pytest.mark.parametrize(("reward", "gamma"), [(reward_logit, 0.99), (reward_softplus, 0.99), (reward_logit, 0.9)])
def test_the_best_discriminator_and_the_best_policy_meet_at_the_expert(kind, start, reward, gamma):
    policy, expert, rate, expert_rate = imitate(kind, start, reward, gamma)
    np.testing.assert_allclose(policy, expert, atol=2e-3)
    assert rate == pytest.approx(expert_rate, rel=1e-2)


def test_without_absorbing_states_minus_log_1_minus_d_lives_for_ever():
    """So what the test above finds is no matter of course."""
    policy, expert, rate, expert_rate = imitate("the end is the goal", 0.5, reward_softplus, absorbing_states=False)
    assert np.abs(policy - expert).max() > 0.8
    assert rate < 1e-3 < expert_rate
