"""A small task whose environments are tensors on a device."""

import gymnasium as gym
import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from rlgen.envs.tensors import TensorEnv


class TensorPoint(TensorEnv):
    """A point that is pushed along a line, rewarded for being near the origin; an episode ends two units from it."""

    max_episode_steps = 20

    def __init__(self, n_envs, device="cpu"):
        self.num_envs, self.device = n_envs, torch.device(device)
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.spec = EnvSpec("TensorPoint-v0", max_episode_steps=self.max_episode_steps)
        self.single_observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.single_action_space = gym.spaces.Box(-2, 2, (1,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, n_envs)
        self.action_space = batch_space(self.single_action_space, n_envs)
        self.elapsed_steps = torch.zeros(n_envs, dtype=torch.int64, device=self.device)
        self.state = torch.zeros(n_envs, 2, device=self.device)

    def start(self):
        return torch.rand(self.num_envs, 2, device=self.device) - 0.5

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            torch.manual_seed(seed)
        self.state = self.start()
        self.elapsed_steps = torch.zeros_like(self.elapsed_steps)
        return self.state.clone(), {}

    @staticmethod
    def physics(state, actions):
        velocity = state[:, 1] + 0.1 * actions[:, 0]
        return torch.stack((state[:, 0] + 0.3 * velocity, velocity), 1)

    def step(self, actions):
        final = self.physics(self.state, actions)
        rewards = 1 - final[:, 0].abs()
        terminated = final[:, 0].abs() > 2
        self.elapsed_steps += 1
        truncated = self.elapsed_steps >= self.max_episode_steps
        done = terminated | truncated
        self.state = torch.where(done.unsqueeze(1), self.start(), final)
        self.elapsed_steps *= ~done
        return self.state.clone(), rewards, terminated, truncated, {"final_obs": final}

    def state_dict(self):
        return {"state": self.state.clone(), "elapsed_steps": self.elapsed_steps.clone()}

    def load_state_dict(self, state):
        self.state = state["state"].to(self.device, copy=True)
        self.elapsed_steps = state["elapsed_steps"].to(self.device, copy=True)
