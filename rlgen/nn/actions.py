"""Actions as the inputs of a network."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from rlgen.errors import UsageError


class ActionCoder(nn.Module):
    """Clips the actions of a Box to its bounds; codes those of a Discrete one-hot.

    Args:
        action_space: Box or Discrete.

    Raises:
        UsageError: it is another space.
    """

    low: Tensor
    high: Tensor

    def __init__(self, action_space: spaces.Space[Any]) -> None:
        super().__init__()
        self.n_actions = int(action_space.n) if isinstance(action_space, spaces.Discrete) else None
        if self.n_actions is not None:
            self.size = self.n_actions
        elif isinstance(action_space, spaces.Box):
            self.size = int(np.prod(action_space.shape))
            self.register_buffer("low", torch.tensor(action_space.low, dtype=torch.float32))
            self.register_buffer("high", torch.tensor(action_space.high, dtype=torch.float32))
        else:
            raise UsageError(f"actions must be Box or Discrete; got {action_space}")

    def forward(self, actions: Tensor) -> Tensor:
        """Floats `[*B, size]` of actions `[*B, A]` or `[*B]`."""
        if self.n_actions is None:
            return torch.clamp(actions, self.low, self.high)
        return F.one_hot(actions, self.n_actions).float()
