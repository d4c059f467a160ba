"""What a model that reads codes off states is given and asked."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlgen.nn.normalizer import RunningNormalizer
from rlgen.types import Metrics, Transitions


class CodedStates(nn.Module):
    """Standardised states as inputs and the code as the target, of transitions with the code in their first columns.

    States alone, never actions: a policy would hide its code in tiny offsets of them.

    Args:
        observation_size: D, with the code.
        width: of the code.
    """

    def __init__(self, observation_size: int, width: int) -> None:
        super().__init__()
        size = observation_size - width
        self.width, self.n_inputs, self.n_targets = width, 2 * size, width
        self.normalizer = RunningNormalizer(size)

    def inputs(self, transitions: Transitions) -> Tensor:
        """State and next state, `[*B, n_inputs]`."""
        states = (transitions.obs[..., self.width :], transitions.next_obs[..., self.width :])
        return torch.cat([self.normalizer(x) for x in states], -1)

    def targets(self, transitions: Transitions) -> Tensor:
        """The code, one-hot and then the continuous ones, `[*B, n_targets]`."""
        return transitions.obs[..., : self.width].float()

    def update(self, transitions: Transitions) -> Metrics:
        """Let the states' statistics learn."""
        self.normalizer.update(transitions.next_obs[..., self.width :])
        return {}
