"""Tasks with a known answer."""

from dataclasses import replace

import pytest
import torch

from rlgen.envs import make_vec
from rlgen.evaluation import evaluate
from rlgen.nn.policy import Actor
from rlgen.optim.ppo import PPOConfig
from rlgen.optim.trpo import TRPOConfig
from rlgen.presets import Learner
from rlgen.rewards.environment import EnvironmentReward

LEARNERS = [
    Learner(TRPOConfig(target_kl=0.02, final_share=0.1, batch_size=256), n_steps=128, n_envs=8),
    Learner(PPOConfig(learning_rate=2e-3, batch_size=256), n_steps=128, n_envs=8),
]


def fit(learner, env_id, total_timesteps, seed=0):
    torch.manual_seed(seed)
    envs = make_vec(env_id, learner.n_envs, seed)
    learner = replace(learner, total_timesteps=total_timesteps)
    training = learner.training(envs, lambda envs, policy: EnvironmentReward(), seed)
    history = list(training)
    return training.policy, history


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize(
    ("env_id", "steps", "solved"), [("CartPole-v1", 60_000, 400), ("InvertedPendulum-v4", 60_000, 700)]
)
def test_learns_to_balance(learner, env_id, steps, solved):
    policy, _ = fit(learner, env_id, steps)
    assert evaluate(Actor(policy), env_id, 10).mean > solved


@pytest.mark.parametrize("learner", LEARNERS)
def test_a_seed_gives_the_same_metrics_twice(learner):
    runs = [[i.metrics for i in fit(learner, "Hopper-v4", 4096, seed=4)[1]] for _ in range(2)]
    assert runs[0] == runs[1]
    assert runs[0] != [i.metrics for i in fit(learner, "Hopper-v4", 4096, seed=5)[1]]


def test_a_reward_that_is_no_number_ends_training_at_once():
    class Broken(EnvironmentReward):
        def __call__(self, transitions):
            return transitions.rewards * float("nan")

    envs = make_vec("CartPole-v1", 2, 0)
    learner = replace(LEARNERS[0], n_steps=16, total_timesteps=64)
    with pytest.raises(FloatingPointError, match="iteration 1: reward is nan"):
        next(iter(learner.training(envs, lambda envs, policy: Broken())))


def test_rewards_of_another_shape_are_told():
    envs = make_vec("CartPole-v1", 2)

    class One:
        def __call__(self, transitions):
            return transitions.rewards.mean()

        def update(self, transitions):
            return {}

    training = LEARNERS[0].override(n_envs=2, n_steps=8).training(envs, lambda envs, policy: One())
    with pytest.raises(ValueError, match=r"one reward a step, \[T, N\] = \[8, 2\]; this one gave \[\]"):
        next(iter(training))
