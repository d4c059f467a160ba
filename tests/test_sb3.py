import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from rlgen.envs import make_vec
from rlgen.nn.policy import Actor, Policy
from rlgen.sb3 import SB3VecEnv


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
