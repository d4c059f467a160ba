"""A small task such as a person brings: a mass in the plane is to be at a goal, which is another each episode.

cd benchmarks
rlgen expert --env point_mass:PointMass-v0 --total-timesteps 200k --output my_experts
rlgen gail --env point_mass:PointMass-v0 --expert my_experts --n-trajectories 10
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

Observation = npt.NDArray[np.float32]


class PointMass(gym.Env[Observation, Observation]):
    """Position, velocity and goal are seen; two forces push; the reward is minus the distance. Nothing bounds it."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (6,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict]:
        """Somewhere in the square of side 2, at rest."""
        super().reset(seed=seed)
        self.position, self.goal = self.np_random.uniform(-1, 1, (2, 2))
        self.velocity = np.zeros(2)
        return self._observation(), {}

    def step(self, action: Observation) -> tuple[Observation, float, bool, bool, dict]:
        """A twentieth of a second, with twice the action as acceleration."""
        self.velocity = self.velocity + 0.1 * np.clip(action, -1, 1)
        self.position = self.position + 0.05 * self.velocity
        return self._observation(), -float(np.linalg.norm(self.position - self.goal)), False, False, {}

    def _observation(self) -> Observation:
        return np.concatenate([self.position, self.velocity, self.goal]).astype(np.float32)


gym.register("PointMass-v0", PointMass, max_episode_steps=200)
