"""Vector environments that live on a device: what the loop asks of them."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

from rlgen.errors import UsageError
from rlgen.types import State

TensorStep = tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]
"""Observations `[n_envs, D]` and rewards `[n_envs]` float32, terminated and truncated `[n_envs]` bool, and infos."""


class TensorEnv(gym.vector.VectorEnv[Tensor, Tensor, Tensor]):
    """A vector environment with same-step autoreset whose actions, observations, rewards and ends are tensors.

    A step neither copies to the host nor waits for the device. So `infos["final_obs"]` `[n_envs, D]` stands in every
    step, whether an episode ended or not: the true successor of each environment, before any reset. All tensors that it
    gives are the caller's: a later step doesn't change them.

    Attributes:
        device: where they are.
        elapsed_steps: `[n_envs]` int64, steps since each environment's reset; may be written to stagger time limits.
        max_episode_steps: the time limit in steps, or None.
    """

    device: torch.device
    elapsed_steps: Tensor
    max_episode_steps: int | None

    def check_buffers(self) -> None:
        """Warn of what a step couldn't tell without waiting for the device; it may wait."""

    def start_from(self, obs: Tensor | None, share: float = 1.0) -> None:
        """See `rlgen.envs.batched_mujoco.BatchedMujocoEnv.start_from`.

        Raises:
            UsageError: also if these environments can't begin in given states.
        """
        if obs is not None:
            raise UsageError(f"start_share needs a batched MuJoCo task; got {self.spec.id if self.spec else self}")

    @abstractmethod
    def state_dict(self) -> State:
        """What the environments need to go on: arrays, tensors and JSON values."""

    @abstractmethod
    def load_state_dict(self, state: State) -> None:
        """Go on from a state of as many environments of the same task."""


def require_arrays(envs: gym.vector.VectorEnv[Any, Any, Any], where: str) -> None:
    """Refuse environments on a device where NumPy arrays are expected, in wrappers too, by a UsageError."""
    if isinstance(envs.unwrapped, TensorEnv):
        raise UsageError(f'{where} takes NumPy arrays; these environments give tensors. Make them by backend="mujoco"')
