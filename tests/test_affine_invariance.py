"""The same task in other units and from other origins is learned in the same way."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from rlgen import exploration, imitation, presets
from rlgen.data.demonstrations import load_demonstrations, save_demonstrations
from rlgen.data.episodes import run_episodes
from rlgen.envs import make_vec
from rlgen.rewards.environment import EnvironmentReward


class Follow(gym.Env):
    """The action is to follow a slow walk of two numbers; seen and acted in units of one's choice."""

    def __init__(self, scale=(1.0, 1.0), shift=(0.0, 0.0), low=(-1.0, -1.0), high=(1.0, 1.0)):
        self.scale, self.shift = np.array(scale), np.array(shift)
        self.low, self.high = np.array(low), np.array(high)
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
        self.action_space = spaces.Box(self.low, self.high, dtype=np.float64)

    def _observe(self):
        return self.at * self.scale + self.shift

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.t = self.np_random.uniform(-1, 1, 2), 0
        return self._observe(), {}

    def step(self, action):
        relative = 2 * (action - self.low) / (self.high - self.low) - 1
        reward = -float(np.abs(relative - 0.5 * self.at).sum())
        self.at = np.clip(self.at + self.np_random.normal(0, 0.2, 2), -1, 1)
        self.t += 1
        return self._observe(), reward, False, self.t >= 20, {}


class Proportional:
    """The expert, in units of the task as `Follow` is by default."""

    def predict(self, obs, *, deterministic=False):
        return np.clip(0.5 * obs, -1, 1), None


def changes(n):
    rng = np.random.default_rng(0)
    for _ in range(n):
        low = rng.normal(0, 10, 2) * 10 ** rng.uniform(-3, 3)
        yield {
            "scale": 10 ** rng.uniform(-4, 4, 2),
            "shift": rng.normal(0, 1, 2) * 10 ** rng.uniform(-2, 4, 2),
            "low": low,
            "high": low + 10 ** rng.uniform(-3, 3, 2),
        }


def curve(learner, make_reward, **units):
    """Rewards and losses of a few iterations."""
    torch.manual_seed(0)
    envs = make_vec(lambda: Follow(**units), 8, seed=0)
    training = learner.training(envs, make_reward(units), seed=0)
    return np.array([[iteration.metrics[name] for name in ("reward", "kl", "value_loss")] for iteration in training])


def record(folder, units):
    envs = make_vec(lambda: Follow(), 4, seed=0)
    episodes = run_episodes(Proportional(), envs, seed=0)
    there = Follow(**units)
    for e in episodes:
        e.obs[:] = e.obs * there.scale + there.shift
        e.actions[:] = there.low + (e.actions + 1) / 2 * (there.high - there.low)
    save_demonstrations(
        folder,
        env_id="Follow-v0",
        observation_space=there.observation_space,
        action_space=there.action_space,
        episodes=episodes,
        deterministic=True,
        algorithm="scripted",
        command="test",
        seed=0,
    )
    return load_demonstrations(folder, "Follow-v0", subsample=1, include_failed=True)


def environment_reward(folder):
    return lambda units: lambda envs, policy: EnvironmentReward()


def vime_reward(folder):
    bonus = exploration.BonusConfig(n_updates=5, batch_size=64, pool_size=2000)
    return lambda units: lambda envs, policy: exploration.reward_model(envs, "cpu", exploration.BONUSES["vime"], bonus)


def imitator_reward(name):
    def of_folder(folder):
        chosen = imitation.settings()

        def make(units):
            demonstrations = record(folder / "Follow-v0", units)
            return lambda envs, policy: imitation.IMITATORS[name](
                chosen, policy, chosen.expert(envs, policy, demonstrations)
            )

        return make

    return of_folder


@pytest.mark.parametrize("algo", ["trpo", "ppo"])
@pytest.mark.parametrize(
    "of_folder",
    [environment_reward, vime_reward, imitator_reward("gail"), imitator_reward("airl")],
    ids=["environment", "vime", "gail", "airl"],
)
def test_units_and_origins_change_nothing(of_folder, algo, tmp_path):
    learner = presets.shortened(presets.LEARNERS[algo]).override(8, 32, 3 * 256)
    make_reward = of_folder(tmp_path)
    expected = curve(learner, make_reward)
    assert np.isfinite(expected).all()
    for units in changes(10):
        found = curve(learner, make_reward, **units)
        np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-4)


def test_a_timestamp_of_1e8_with_a_spread_of_1_is_learned_from():
    learner = presets.shortened(presets.PPO_LEARNER).override(8, 64, 10 * 512)
    expected = curve(learner, environment_reward(None))
    found = curve(learner, environment_reward(None), shift=(1e8, -1e8))
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-4)
    assert found[-1, 0] > 0.8 * found[0, 0]
