from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from sb3_contrib import TRPO
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from rlgen import exploration
from rlgen.data.demonstrations import load_demonstrations
from rlgen.envs import make_vec
from rlgen.errors import UsageError
from rlgen.functional.returns import gae
from rlgen.nn.discriminator import Discriminator
from rlgen.nn.policy import Actor, Policy
from rlgen.rewards.environment import EnvironmentReward
from rlgen.rewards.gail import GAIL
from rlgen.sb3 import RewardModelCallback, SB3VecEnv

ROOT = Path(__file__).parents[1]


def test_same_transitions_as_sb3s_own():
    ours = SB3VecEnv(make_vec("Hopper-v4", 2))
    theirs = DummyVecEnv([lambda: Monitor(gym.make("Hopper-v4", max_episode_steps=1000))] * 2)
    for envs in (ours, theirs):
        envs.seed(4)
    np.testing.assert_array_equal(ours.reset(), theirs.reset().astype(np.float32))
    rng = np.random.default_rng(0)
    ends = 0
    for _ in range(150):
        actions = rng.uniform(-1, 1, (2, 3)).astype(np.float32)
        a, b = ours.step(actions), theirs.step(actions)
        np.testing.assert_array_equal(a[0], b[0].astype(np.float32))
        np.testing.assert_array_equal(a[1], b[1])
        np.testing.assert_array_equal(a[2], b[2])
        for i in np.flatnonzero(a[2]):
            ends += 1
            final = b[3][i]["terminal_observation"].astype(np.float32)
            np.testing.assert_array_equal(a[3][i]["terminal_observation"], final)
            assert a[3][i]["TimeLimit.truncated"] == b[3][i]["TimeLimit.truncated"]
            assert a[3][i]["episode"]["l"] == b[3][i]["episode"]["l"]
            assert abs(a[3][i]["episode"]["r"] - b[3][i]["episode"]["r"]) < 1e-4
    assert ends > 2


def test_sb3_learns_and_evaluates_on_ours():
    envs = SB3VecEnv(make_vec("HalfCheetah-v4", 2, seed=0))
    model = PPO("MlpPolicy", envs, n_steps=64, batch_size=64, n_epochs=1, device="cpu")
    model.learn(256)
    assert model.num_timesteps == 256
    returns, lengths = evaluate_policy(model, envs, 2, return_episode_rewards=True)
    assert lengths == [1000, 1000]
    assert np.isfinite(returns).all()


def test_sb3_evaluates_our_actor():
    envs = SB3VecEnv(make_vec("Reacher-v4", 2, seed=0))
    torch.manual_seed(0)
    actor = Actor(Policy(envs.observation_space, envs.action_space))
    mean, _ = evaluate_policy(actor, envs, 4)
    assert -100 < mean < 0


def learner(algorithm, env_id="HalfCheetah-v4", n_steps=64, max_episode_steps=50, seed=0):
    envs = SB3VecEnv(make_vec(env_id, 2, seed=seed, max_episode_steps=max_episode_steps))
    return algorithm("MlpPolicy", envs, n_steps=n_steps, batch_size=64, seed=seed, device="cpu")


@pytest.mark.parametrize("algorithm", [PPO, TRPO])
def test_the_environments_reward_changes_nothing_to_the_last_bit(algorithm):
    # Each is made just before it learns: SB3 draws from torch's global random numbers.
    plain = learner(algorithm).learn(512)
    paid = learner(algorithm).learn(512, callback=RewardModelCallback(EnvironmentReward()))
    for left, right in zip(plain.policy.parameters(), paid.policy.parameters(), strict=True):
        assert torch.equal(left, right)
    np.testing.assert_array_equal(plain.rollout_buffer.advantages, paid.rollout_buffer.advantages)


class Distance:
    """Pays -|s' - s|, and keeps what it was shown."""

    def __call__(self, transitions):
        return -(transitions.next_obs - transitions.obs).norm(dim=-1)

    def update(self, transitions):
        self.seen = transitions
        return {"steps": torch.tensor(float(transitions.rewards.numel()))}


@pytest.mark.parametrize("env_id", ["HalfCheetah-v4", "Hopper-v4"])
def test_a_replaced_reward_gives_the_advantages_of_independent_gae(env_id):
    """Time limits in the middle of a rollout, and on Hopper falls: the values behind each are where they belong."""
    model, reward = learner(PPO, env_id), Distance()
    model.learn(1)
    values_of = model.policy.predict_values

    class Spy(RewardModelCallback):
        def _on_rollout_end(self):
            super()._on_rollout_end()
            seen, buffer = self.reward_model.seen, self.model.rollout_buffer
            with torch.no_grad():
                values, next_values = (
                    values_of(x.flatten(0, 1)).view(seen.rewards.shape) for x in (seen.obs, seen.next_obs)
                )
            expected = gae(self.reward_model(seen), values, next_values, seen.terminated, seen.truncated, 0.99, 0.95)
            np.testing.assert_allclose(buffer.advantages, expected.numpy(), rtol=1e-3, atol=1e-4)
            self.ends = int(seen.terminated.sum()), int(seen.truncated.sum())

    spy = Spy(reward)
    model.learn(128, callback=spy)
    assert spy.ends[env_id == "HalfCheetah-v4"] > 0
    # What the model was shown is executed actions, and the environment's own steps.
    assert reward.seen.actions.abs().max() <= 1
    assert torch.equal(reward.seen.obs[1:][~(reward.seen.terminated | reward.seen.truncated)[:-1]],
                       reward.seen.next_obs[:-1][~(reward.seen.terminated | reward.seen.truncated)[:-1]])  # fmt: skip


def test_gail_and_vime_pay_sb3_and_contrib():
    demonstrations = load_demonstrations(ROOT / "expert_data", "HalfCheetah-v4", 2)
    ppo = learner(PPO)
    discriminator = Discriminator(ppo.observation_space.shape[0], ppo.action_space)
    gail = GAIL(discriminator, demonstrations.transitions)
    before = {name: value.clone() for name, value in discriminator.state_dict().items()}
    ppo.learn(256, callback=RewardModelCallback(gail))
    assert any(not torch.equal(value, before[name]) for name, value in discriminator.state_dict().items())
    assert (ppo.rollout_buffer.rewards > 0).all()  # softplus, not the environment's

    _, config = exploration.settings("trpo", "CartPole-v1", "vime")
    trpo = learner(TRPO, "CartPole-v1", max_episode_steps=None)
    vime = exploration.reward_model(trpo.env.envs, "cpu", exploration.vime, config)
    trpo.learn(512, callback=RewardModelCallback(vime))
    assert (trpo.rollout_buffer.rewards != 1).any()


def test_a_learner_that_keeps_no_rollouts_is_refused():
    envs = SB3VecEnv(make_vec("HalfCheetah-v4", 1, seed=0))
    with pytest.raises(UsageError, match="needs a learner with SB3's on-policy rollouts, as PPO, A2C, TRPO; not SAC"):
        SAC("MlpPolicy", envs, device="cpu").learn(1, callback=RewardModelCallback(EnvironmentReward()))
