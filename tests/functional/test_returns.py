import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer

from rlgen.functional.returns import gae

GAMMA, LAMBDA = 0.97, 0.9


def data(steps=40, n_envs=3):
    rng = np.random.default_rng(0)
    rewards, values, finals = (torch.from_numpy(rng.normal(size=(steps, n_envs))) for _ in range(3))
    ends = torch.from_numpy(rng.uniform(size=(steps, n_envs)))
    terminated, truncated = ends < 0.1, ends > 0.9
    # Within an episode a step's successor is the next row.
    next_values = torch.where(terminated | truncated, finals, torch.cat((values[1:], finals[-1:])))
    return rewards, values, next_values, terminated, truncated


def test_lambda_zero_is_the_one_step_error():
    rewards, values, next_values, terminated, _ = data()
    expected = rewards + GAMMA * next_values * ~terminated - values
    torch.testing.assert_close(gae(*data(), GAMMA, 0.0), expected)


def test_lambda_one_is_the_discounted_return():
    """Each episode's discounted sum, plus the last successor's value unless terminated, minus the value."""
    rewards, values, next_values, terminated, truncated = data()
    advantages = gae(rewards, values, next_values, terminated, truncated, GAMMA, 1.0)
    steps, n_envs = rewards.shape
    for i in range(n_envs):
        for t in range(steps):
            total, discount = 0.0, 1.0
            for k in range(t, steps):
                total += discount * rewards[k, i].item()
                discount *= GAMMA
                if terminated[k, i]:
                    break
                if truncated[k, i] or k == steps - 1:
                    total += discount * next_values[k, i].item()
                    break
            assert abs(total - values[t, i].item() - advantages[t, i].item()) < 1e-12


def test_equal_to_sb3s_buffer():
    """SB3 has one `done` and adds gamma V to a truncated step's reward; ours must come to the same."""
    rewards, values, next_values, terminated, truncated = data()
    done = terminated | truncated
    steps, n_envs = rewards.shape
    buffer = RolloutBuffer(steps, spaces.Box(0, 1, (1,)), spaces.Discrete(2), "cpu", LAMBDA, GAMMA, n_envs)
    starts = np.zeros(n_envs)
    for t in range(steps):
        paid = rewards[t] + GAMMA * next_values[t] * truncated[t]
        buffer.add(np.zeros((n_envs, 1)), np.zeros(n_envs), paid.numpy(), starts, values[t], torch.zeros(n_envs))
        starts = done[t].numpy().astype(float)
    buffer.compute_returns_and_advantage(next_values[-1], done[-1].numpy())
    ours = gae(rewards, values, next_values, terminated, truncated, GAMMA, LAMBDA)
    np.testing.assert_allclose(buffer.advantages, ours.numpy(), rtol=1e-5, atol=1e-5)
