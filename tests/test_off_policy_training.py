"""The loop of off-policy learners: what it keeps, what its minibatches hold, and what the learner is told."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

import rlgen
from rlgen import presets
from rlgen.envs import make_vec
from rlgen.errors import UsageError
from rlgen.nn.normalizer import RewardCentre, RewardScaler
from rlgen.off_policy import joined
from rlgen.rewards.endings import TerminationReward
from rlgen.rewards.environment import EnvironmentReward
from rlgen.types import RewardGradient, Transitions

DATA = Path(__file__).parents[1] / "expert_data"
LEARNER = replace(
    presets.LEARNERS["sac"], n_envs=2, n_steps=8, total_timesteps=96, learning_starts=32, updates_per_step=0.25
)


class Shifted:
    """The task's reward in another unit, and a constant."""

    def __init__(self, constant=0.0, unit=1.0):
        self.constant, self.unit = constant, unit

    def __call__(self, transitions):
        return self.unit * transitions.rewards + self.constant

    def update(self, transitions):
        return {}


def transitions(n, first=0):
    rows = first + torch.arange(n)
    flags = torch.zeros(n, dtype=torch.bool)
    return Transitions(
        rows[:, None].double(), rows[:, None].float(), rows[:, None].double(), rows.float(), flags, flags
    )


def training(learner=LEARNER, model=None, env_id="Hopper-v4", **options):
    envs = make_vec(env_id, learner.n_envs, 0, n_threads=1)
    return learner.training(envs, lambda envs, policy: model or EnvironmentReward(), 0, **options)


def test_the_replay_holds_every_step_with_its_true_successor():
    trained = training()
    rollouts = [iteration.transitions.flatten() for iteration in trained]
    assert len(trained.replay) == 96
    for field in fields(Transitions):
        kept = getattr(trained.replay, field.name)
        assert torch.equal(kept, torch.cat([getattr(x, field.name) for x in rollouts]))


def test_actions_are_uniform_until_learning_starts_and_no_metric_is_missing():
    trained = training()
    rows = [dict(iteration.metrics) for iteration in trained]
    assert [np.isnan(row["critic_loss"]) for row in rows] == [True, True, False, False, False, False]
    assert len({tuple(row) for row in rows}) == 1
    with pytest.warns(UserWarning, match="nothing will be learned: learning_starts is 96 and total_timesteps 96"):
        random = training(replace(LEARNER, learning_starts=96))
    actions = torch.cat([iteration.transitions.actions.flatten() for iteration in random])
    assert actions.abs().max() <= 1
    assert abs(float(actions.square().mean()) - 1 / 3) < 0.05


def test_an_experts_transitions_come_last_in_each_minibatch():
    a, b = transitions(12), transitions(6, 100)
    assert joined(a, b, 3).rewards.tolist() == [
        *(0, 1, 2, 3, 100, 101),
        *(4, 5, 6, 7, 102, 103),
        *(8, 9, 10, 11, 104, 105),
    ]
    env = rlgen.load_demonstrations(DATA, "Hopper-v4", 1).transitions
    examples = replace(env, rewards=torch.full_like(env.rewards, 1000.0))
    trained = training(replace(LEARNER, examples_share=0.25), examples=examples)
    next(iter(trained))
    batch = trained._batch()
    from_expert = (batch.rewards == 1000).view(4, 128)
    assert not from_expert[:, :96].any()
    assert from_expert[:, 96:].all()


@pytest.mark.parametrize("constant", [-3.0, 5.0])
def test_a_constant_in_the_rewards_moves_terminations_alone(constant):
    """By what makes all returns grow alike, with centred rewards."""
    learner = replace(LEARNER, n_envs=4, n_steps=24, learning_starts=96, total_timesteps=96, scale_rewards=False)
    told = []
    for model in (Shifted(0.0), Shifted(constant)):
        trained = training(learner, model)
        list(trained)
        assert trained.replay.terminated.any()
        steps = Transitions(*(getattr(trained.replay, field.name) for field in fields(Transitions)))
        told.append(trained._scores(steps))
    alone = [scores.rewards - scores.of_end * steps.terminated for scores in told]
    torch.testing.assert_close(*alone, atol=1e-4, rtol=0)
    (first, second), gamma = (scores.of_end for scores in told), learner.gamma
    assert float(second - first) == pytest.approx(-constant * gamma / (1 - gamma), rel=1e-3)


class Differentiable(Shifted):
    """With a gradient, which is told in the reward's unit too."""

    def gradient(self, transitions):
        ones = [torch.full_like(x.float(), self.unit) for x in (transitions.obs, transitions.actions, transitions.obs)]
        return self(transitions), RewardGradient(*ones)


@pytest.mark.parametrize("centre_rewards", [False, True])
@pytest.mark.parametrize(("algo", "reward"), [("sac", Shifted), ("svg", Shifted), ("svg", Differentiable)])
def test_the_rewards_unit_means_nothing(algo, reward, centre_rewards):
    """To the bit, in units that differ by a power of two."""
    learner = replace(LEARNER, optimizer=presets.LEARNERS[algo].optimizer, centre_rewards=centre_rewards)
    policies = []
    for unit in (1.0, 1024.0, 1 / 64):
        trained = training(learner, reward(unit=unit))
        list(trained)
        policies.append(trained.policy.state_dict())
    fresh = training(learner).policy.state_dict()
    assert not torch.equal(policies[0]["network.0.weight"], fresh["network.0.weight"])
    for other in policies[1:]:
        assert all(torch.equal(other[name], policies[0][name]) for name in other)


def test_a_scaled_reward_is_a_tenth_of_the_returns_deviation_and_at_most_ten():
    trained = training()
    returns = RewardScaler(2, LEARNER.gamma)
    for iteration in trained:
        steps = iteration.transitions
        returns(steps.rewards, steps.terminated, steps.truncated)
    steps = trained.replay.sample(50)
    assert float(returns.std()) > 0.1
    steps.rewards[0] = 1e6
    scores = trained._scores(steps)
    scaled = scores.rewards - scores.shift - scores.of_end * steps.terminated
    torch.testing.assert_close(scaled[1:], 10 * steps.rewards[1:] / returns.std(), rtol=1e-5, atol=1e-4)
    assert float(scaled[0]) == pytest.approx(10, abs=1e-4)


def test_the_centre_makes_a_termination_worth_the_mean_for_ever():
    """Q of a state that ends at once, and of one that goes on for ever at the mean: both 0."""
    centre = RewardCentre(0.9)
    rewards, ends = torch.tensor([2.0, 2.0]), torch.tensor([False, True])
    centred, shift = centre(rewards, ends)
    assert shift == -2
    assert centred.tolist() == pytest.approx([0, -0.9 / 0.1 * 2])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"gamma": 1.0}, "gamma must be below 1 with centre_rewards"),
        ({"updates_per_step": 0.01}, "must be at least 1: an update an iteration"),
    ],
)
def test_settings_that_cannot_be(values, message):
    with pytest.raises(UsageError, match=message):
        replace(LEARNER, **values)


@pytest.mark.parametrize("algo", ["svg", "sac"])
def test_what_has_no_effect_is_refused(algo):
    with pytest.raises(UsageError, match="init has no effect with algo"):
        rlgen.GAIL("Hopper-v4", DATA, algo=algo, init=DATA)
    with pytest.raises(UsageError, match=f"gae_lambda is no setting of {algo}'s"):
        rlgen.GAIL("Hopper-v4", DATA, algo=algo, gae_lambda=0.9)
    with pytest.raises(UsageError, match="preset paper is for algo trpo and ppo; got"):
        rlgen.GAIL("Hopper-v4", DATA, algo=algo, preset="paper")
    with pytest.raises(UsageError, match="a squashed policy needs actions of a bounded Box"):
        rlgen.GAIL("CartPole-v1", DATA, algo=algo, n_threads=1).learn(100, progress=False)


def test_the_reward_model_learns_from_the_latest_steps_and_from_all():
    trained = training(replace(LEARNER, reward_batch=300, n_recent=4))
    list(trained)
    rows = trained._for_reward_model(trained.replay.sample(1))
    latest = {tuple(x) for x in trained.replay.obs[-4:].tolist()}
    n_latest = sum(tuple(x) in latest for x in rows.obs.tolist())
    assert 200 <= n_latest < 230


def test_rates_of_terminations_are_not_those_of_what_is_scored():
    endings = TerminationReward(0.001, off_policy=True)
    seen = transitions(100)
    endings.update(seen, torch.zeros(100))
    batch = replace(transitions(10), terminated=torch.arange(10) > 0)
    for scored in (batch, transitions(10)):
        assert float(endings(scored, torch.zeros(10))[0]) == pytest.approx(float(endings.of_steps()), rel=1e-5)
