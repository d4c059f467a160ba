"""Noise as a reward: the control for a bonus that is merely another random number."""

from __future__ import annotations

import torch
from torch import Tensor

from rlgen.types import Metrics, Transitions


class RewardNoise:
    """Pays a standard normal number for each step, whatever it is."""

    def __call__(self, transitions: Transitions) -> Tensor:
        """`[*B]`, drawn afresh at each call."""
        return torch.randn_like(transitions.rewards)

    def update(self, transitions: Transitions) -> Metrics:
        """Nothing to learn."""
        return {}
