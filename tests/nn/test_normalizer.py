from dataclasses import replace

import numpy as np
import pytest
import torch

from rlgen.envs import make_vec
from rlgen.errors import UsageError
from rlgen.nn.normalizer import RewardScaler, RunningNormalizer
from rlgen.presets import TRPO_LEARNER
from rlgen.rewards.environment import EnvironmentReward


def test_statistics_are_those_of_all_rows():
    rows = 3 + 2 * torch.randn(500, 4, dtype=torch.float64)
    normalizer = RunningNormalizer(4)
    for part in rows.split([1, 99, 300, 100]):
        normalizer.update(part.reshape(1, -1, 4))
    torch.testing.assert_close(normalizer.mean, rows.mean(0))
    torch.testing.assert_close(normalizer.var, rows.var(0, correction=0))
    assert normalizer.count == 500
    expected = (rows - rows.mean(0)) / rows.std(0, correction=0)
    torch.testing.assert_close(normalizer(rows.float()), expected.float(), rtol=1e-4, atol=1e-5)


def test_a_weight_counts_rows_as_more():
    few, many = torch.randn(10, 2), 5 + torch.randn(100, 2)
    weighted, repeated = RunningNormalizer(2), RunningNormalizer(2)
    weighted.update(few, weight=300.0)
    repeated.update(few.repeat(30, 1))
    for normalizer in (weighted, repeated):
        normalizer.update(many)
    torch.testing.assert_close(weighted.mean, repeated.mean)
    torch.testing.assert_close(weighted.var, repeated.var)


def test_a_constant_is_not_blown_up_and_outliers_are_clipped():
    normalizer = RunningNormalizer(1, clip=5.0, floor=0.1)
    normalizer.update(torch.full((10, 1), 3.0))
    torch.testing.assert_close(
        normalizer(torch.tensor([[3.01], [99.0]])), torch.tensor([[0.1], [5.0]]), atol=1e-4, rtol=0
    )


def test_symlog_is_the_identity_nearby_and_tells_far_from_farther():
    normalizer = RunningNormalizer(1, symlog=True)
    normalizer.update(torch.tensor([[-1.0], [1.0]]))
    y = torch.tensor([[-1e4], [-100.0], [-0.01], [0.0], [0.01], [100.0], [1e4]])
    expected = y.sign() * (1 + y.abs()).log()
    torch.testing.assert_close(normalizer(y), expected, atol=1e-6, rtol=1e-5)
    assert (normalizer(y).diff(dim=0) > 0).all()


def test_rewards_are_divided_by_the_deviation_of_their_discounted_return():
    gamma, rng = 0.9, np.random.default_rng(0)
    scaler = RewardScaler(2, gamma)
    seen, running = [], np.zeros(2)
    for _ in range(3):
        rewards, done = rng.normal(size=(50, 2)), rng.uniform(size=(50, 2)) < 0.1
        for reward, end in zip(rewards, done, strict=True):
            running = gamma * running + reward
            seen.append(running)
            running = running * ~end
        terminated = torch.from_numpy(done & (rng.uniform(size=done.shape) < 0.5))
        scaled = scaler(torch.from_numpy(rewards).float(), terminated, torch.from_numpy(done) & ~terminated)
        np.testing.assert_allclose(scaled, rewards / np.std(seen), rtol=1e-4)


def test_centring_changes_the_return_of_every_episode_by_the_same():
    """Discounted returns of episodes that terminate after 1, 3 and 20 steps, over three rollouts of other means."""
    gamma, lengths = 0.9, torch.tensor([1, 3, 20])
    rewards = torch.from_numpy(np.random.default_rng(0).normal(-3, 1, (20, 3))).float()
    terminated = torch.arange(20)[:, None] == lengths - 1
    lived = torch.arange(20)[:, None] < lengths
    discounts = gamma ** torch.arange(20.0)
    scaler = RewardScaler(3, gamma, centre=True)
    for n_rollouts in range(1, 4):
        scaled = scaler(rewards, terminated, torch.zeros_like(terminated))
        scale = scaler.statistics.var.sqrt().float()
        shift = discounts @ (scaled * scale - rewards).where(lived, 0)
        weights = 0.9 ** torch.arange(n_rollouts)
        mean = weights @ (rewards.mean() + torch.arange(n_rollouts)) / weights.sum()
        torch.testing.assert_close(shift, (-mean / (1 - gamma)).expand(3), atol=1e-4, rtol=1e-4)
        rewards = rewards - 1


def test_a_termination_is_part_of_the_scale_of_centred_rewards():
    """Where all rewards are alike, it is all that there is to learn."""
    terminated = torch.rand(200, 8) < 0.05
    scaled = RewardScaler(8, 0.99, centre=True)(torch.ones(200, 8), terminated, torch.zeros_like(terminated))
    assert (scaled[~terminated] == 0).all()
    assert -10 < scaled[terminated].mean() < -1


def test_centring_without_a_discount_is_refused():
    with pytest.raises(UsageError, match="centred rewards need gamma below 1; got 1"):
        RewardScaler(2, 1.0, centre=True)


@pytest.mark.parametrize("centre", [False, True])
def test_a_learner_centres_where_it_is_told_to(centre):
    learner = replace(TRPO_LEARNER, n_envs=2, n_steps=16, total_timesteps=32, centre_rewards=centre)
    training = learner.training(make_vec("InvertedPendulum-v4", 2, 0), lambda envs, policy: EnvironmentReward())
    next(iter(training))
    assert training.scaler.recent.tolist() == [float(centre), float(centre)]  # each step's reward is 1
