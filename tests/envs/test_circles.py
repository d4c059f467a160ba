"""The plane: its experts walk on their circles, and what it promises of a vector environment."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from rlgen.checkpoint import load_checkpoint, save_checkpoint
from rlgen.envs import BatchedCirclesEnv, make_vec
from rlgen.envs.circles import Circles

PLANE = "rlgen/Circles-v0"


@pytest.mark.parametrize("mode", range(3))
def test_an_expert_walks_on_its_circle_once_around_the_largest(mode):
    envs = make_vec(PLANE, 5, seed=0)
    task, radius = Circles(), Circles.radii[mode]
    obs, _ = envs.reset(seed=0)
    total, positions = 0.0, []
    for _ in range(envs.max_episode_steps):
        obs, rewards, terminated, truncated, infos = envs.step(task.expert(obs, radius).astype(np.float32))
        total += rewards
        positions.append(
            np.where(truncated[:, None], infos["final_obs"], obs)[:, -2:] if truncated.any() else obs[:, -2:]
        )
    assert truncated.all()
    assert not terminated.any()
    positions = np.stack(positions)
    errors = task.errors(positions)[10:]
    assert errors[..., mode].max() < 0.01
    assert (total > 0.98 * envs.max_episode_steps).all()
    steps = np.linalg.norm(np.diff(positions, axis=0), axis=-1)
    np.testing.assert_allclose(steps, task.speed)
    around = envs.max_episode_steps * task.speed / (2 * np.pi * 2)
    assert around == pytest.approx(1, abs=0.01)


def test_errors_are_shares_of_the_radius():
    errors = Circles().errors(np.array([[0.0, 0.0], [0.0, 1.0], [3.0, 2.0]]))
    np.testing.assert_allclose(errors[0], 0)
    np.testing.assert_allclose(errors[1], [1, 1, 0.5])
    assert errors[2, 2] == pytest.approx(0.5)


def test_observations_are_the_last_five_positions_and_the_length_of_an_action_counts_for_nothing():
    envs, other = (make_vec(PLANE, 2, seed=0) for _ in range(2))
    first, _ = envs.reset(seed=0)
    other.reset(seed=0)
    assert (first.reshape(2, 5, 2) == first.reshape(2, 5, 2)[:, :1]).all()
    assert (abs(first) <= Circles.start).all()
    seen = [first[:, -2:]]
    for t in range(6):
        way = np.array([[0.5, 0.1 * t], [0.0, 0.0]], np.float32)
        obs, *_ = envs.step(way)
        theirs, *_ = other.step(way / 2)
        np.testing.assert_allclose(obs, theirs, atol=1e-12)
        seen.append(obs[:, -2:])
    np.testing.assert_array_equal(obs, np.concatenate(seen[-5:], 1))
    np.testing.assert_array_equal(obs[1], first[1])  # (0, 0) stands still


def test_it_goes_on_exactly_and_is_gymnasiums(tmp_path):
    envs, other = make_vec(PLANE, 3, seed=0), make_vec(PLANE, 3, seed=5)
    rng = np.random.default_rng(0)
    for _ in range(30):
        envs.step(rng.uniform(-1, 1, (3, 2)).astype(np.float32))
    save_checkpoint(tmp_path, {"envs": envs.state_dict()}, {})
    other.load_state_dict(load_checkpoint(tmp_path)[1]["envs"])
    for _ in range(200):
        action = rng.uniform(-1, 1, (3, 2)).astype(np.float32)
        np.testing.assert_array_equal(envs.step(action)[0], other.step(action)[0])
    check_env(gym.make(PLANE).unwrapped, skip_render_check=True)
    assert isinstance(gym.make_vec(PLANE, 2).unwrapped, BatchedCirclesEnv)
