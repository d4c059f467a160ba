"""Our environments beside gymnasium's own, step by step, equal to the last bit."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rlgen.envs import TASKS, BatchedMujocoEnv

N_ENVS = 3
TERMINATES = ("Hopper", "Walker2d", "Ant-", "Humanoid-", "Inverted")

ARGUMENTS = [
    ("HalfCheetah-v4", {"exclude_current_positions_from_observation": False, "ctrl_cost_weight": 0.3}),
    ("Hopper-v4", {"terminate_when_unhealthy": False, "healthy_reward": 2.0}),
    ("Hopper-v5", {"terminate_when_unhealthy": False, "reset_noise_scale": 0.1}),
    ("Walker2d-v5", {"healthy_z_range": (0.9, 1.9), "forward_reward_weight": 2.0}),
    ("Swimmer-v5", {"exclude_current_positions_from_observation": False}),
    ("Ant-v4", {"use_contact_forces": True}),
    ("Ant-v5", {"include_cfrc_ext_in_observation": False, "contact_cost_weight": 0.1}),
    ("Humanoid-v5", {"include_cinert_in_observation": False, "include_cvel_in_observation": False}),
    ("HumanoidStandup-v5", {"ctrl_cost_weight": 1.0}),
    ("Reacher-v5", {"reward_dist_weight": 2.0}),
    ("Pusher-v5", {"reward_near_weight": 1.5}),
    ("InvertedPendulum-v5", {"reset_noise_scale": 0.1}),
    ("InvertedDoublePendulum-v5", {"healthy_reward": 3.0}),
]


def assert_same(name, ours, theirs):
    if isinstance(theirs, dict):
        assert set(ours) == set(theirs), name
        for key, value in theirs.items():
            assert_same(f"{name}.{key}", ours[key], value)
        return
    if theirs.dtype == object:  # gymnasium's final observations: None where no episode ended
        ended = [i for i, x in enumerate(theirs) if x is not None]
        ours, theirs = ours[ended], np.stack([theirs[i] for i in ended])
    assert ours.dtype == theirs.dtype, name
    np.testing.assert_array_equal(ours, theirs, err_msg=name, strict=True)


def lockstep(env_id, steps, limit, **arguments):
    """Step both with the same actions; gives the number of terminations and truncations seen."""
    ours = BatchedMujocoEnv(env_id, N_ENVS, max_episode_steps=limit, **arguments)
    make = [lambda: gym.make(env_id, max_episode_steps=limit, **arguments)] * N_ENVS
    theirs = SyncVectorEnv(make, autoreset_mode=AutoresetMode.SAME_STEP)
    assert ours.single_action_space == theirs.single_action_space
    assert ours.single_observation_space == theirs.single_observation_space
    for name, a, b in zip(("obs", "info"), ours.reset(seed=3), theirs.reset(seed=3), strict=True):
        assert_same(f"reset {name}", a, b)
    rng = np.random.default_rng(0)
    high = ours.single_action_space.high
    terminations = truncations = 0
    for t in range(steps):
        scale = 1.2 if t % 200 < 100 else 0.3  # beyond the bounds, then gently
        actions = (scale * high * rng.uniform(-1, 1, (N_ENVS, *high.shape))).astype(np.float32)
        mine, gymnasiums = ours.step(actions), theirs.step(actions)
        for name, a, b in zip(("obs", "reward", "terminated", "truncated", "info"), mine, gymnasiums, strict=True):
            assert_same(f"step {t} {name}", a, b)
        terminations += mine[2].sum()
        truncations += mine[3].sum()
    theirs.close()
    return terminations, truncations


@pytest.mark.parametrize("env_id", TASKS)
def test_equal_to_gymnasium_over_2000_steps(env_id):
    terminations, truncations = lockstep(env_id, 2000, limit=50)
    if env_id.startswith(TERMINATES):
        assert terminations > 0
    else:
        assert truncations == 2000 // 50 * N_ENVS


@pytest.mark.parametrize(("env_id", "arguments"), ARGUMENTS)
def test_constructor_arguments(env_id, arguments):
    lockstep(env_id, 100, limit=30, **arguments)


def test_own_time_limit_is_gymnasiums():
    envs = BatchedMujocoEnv("Reacher-v4", 1)
    envs.reset(seed=0)
    ends = [envs.step(np.zeros((1, 2), np.float32))[3][0] for _ in range(100)]
    assert np.flatnonzero(ends).tolist() == [49, 99]
