import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv

from rlgen.envs import BatchedMujocoEnv, make_vec
from rlgen.errors import UsageError


def rollout(envs, steps, skip=()):
    rng = np.random.default_rng(1)
    kept = [i for i in range(envs.num_envs) if i not in skip]
    return [envs.step(rng.uniform(-1, 1, envs.action_space.shape).astype(np.float32))[0][kept] for _ in range(steps)]


@pytest.mark.parametrize("env_id", ["HalfCheetah-v4", "Humanoid-v4"])
def test_a_divergence_ends_its_own_episode_alone(env_id):
    envs, untouched = BatchedMujocoEnv(env_id, 3), BatchedMujocoEnv(env_id, 3)
    envs.reset(seed=0)
    untouched.reset(seed=0)
    rollout(envs, 5)
    rollout(untouched, 5)
    envs.sim.qvel[1] = 1e12
    last = envs._obs.copy()
    actions = np.zeros(envs.action_space.shape, np.float32)
    with pytest.warns(UserWarning, match=rf"{env_id}: the simulation of environment \[1\] diverged"):
        obs, rewards, terminated, truncated, infos = envs.step(actions)
    assert terminated.tolist() == [False, True, False]
    assert not truncated.any()
    assert rewards[1] == 0
    np.testing.assert_array_equal(infos["final_obs"][1], last[1])
    assert np.isfinite(obs).all()
    assert np.abs(obs[1]).max() < 1000
    np.testing.assert_array_equal(obs[[0, 2]], untouched.step(actions)[0][[0, 2]])
    for ours, theirs in zip(rollout(envs, 20, skip=[1]), rollout(untouched, 20, skip=[1]), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_threads_change_nothing():
    one, two = BatchedMujocoEnv("Walker2d-v4", 6, n_threads=1), BatchedMujocoEnv("Walker2d-v4", 6, n_threads=2)
    one.reset(seed=5)
    two.reset(seed=5)
    np.testing.assert_array_equal(rollout(one, 50), rollout(two, 50))


def test_returned_observations_are_not_overwritten():
    envs = BatchedMujocoEnv("Hopper-v4", 2)
    obs, _ = envs.reset(seed=0)
    kept = obs.copy()
    rollout(envs, 3)
    np.testing.assert_array_equal(obs, kept)


def test_bad_input_is_named():
    with pytest.raises(UsageError, match=r"Hopper-v4 has no argument gravity; it has .*ctrl_cost_weight"):
        BatchedMujocoEnv("Hopper-v4", 1, gravity=3)
    with pytest.raises(UsageError, match="has no argument reward_dist_weight"):
        BatchedMujocoEnv("Reacher-v4", 1, reward_dist_weight=3)
    with pytest.raises(ValueError, match="n_envs must be at least 1"):
        BatchedMujocoEnv("Hopper-v4", 0)
    envs = BatchedMujocoEnv("Hopper-v4", 2)
    with pytest.raises(ValueError, match=r"shape \(2, 3\); got \(3,\)"):
        envs.step(np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="action of environment 1 is not finite"):
        envs.step(np.array([[0, 0, 0], [0, np.nan, 0]], np.float32))


def test_make_vec_picks_and_seeds(caplog):
    with caplog.at_level("INFO", "rlgen"):
        assert isinstance(make_vec("HalfCheetah-v4", 2), BatchedMujocoEnv)
        cartpole = make_vec("CartPole-v1", 2, seed=7)
    assert isinstance(cartpole, SyncVectorEnv)
    assert "HalfCheetah-v4: 2 environments by BatchedMujocoEnv" in caplog.text
    assert "CartPole-v1: 2 environments by SyncVectorEnv" in caplog.text
    alone = gym.make("CartPole-v1")
    alone.reset(seed=8)
    np.testing.assert_array_equal(cartpole.reset()[0][1], alone.reset()[0])


def test_make_vec_refuses_ids_that_import():
    with pytest.raises(ValueError, match="names a module"):
        make_vec("os:HalfCheetah-v4", 1)
    with pytest.raises(gym.error.Error, match="Cheeta"):
        make_vec("HalfCheeta-v4", 1)


def test_registered_for_gymnasiums_make_vec():
    envs = gym.make_vec("rlgen/HalfCheetah-v4", num_envs=3, vectorization_mode="vector_entry_point")
    obs, _ = envs.reset(seed=0)
    np.testing.assert_array_equal(obs, BatchedMujocoEnv("HalfCheetah-v4", 3).reset(seed=0)[0])
