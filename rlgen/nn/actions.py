"""Actions as the inputs of a network, and as what a policy samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from rlgen.errors import UsageError
from rlgen.spaces import ActionUnits, float_dtype


def tensor_dtype(dtype: Any) -> torch.dtype:
    """Torch's name of a NumPy dtype."""
    return torch.from_numpy(np.zeros(0, dtype)).dtype


class ActionCoder(nn.Module):
    """Executed actions, in the environment's units, as a policy samples them and as networks see them.

    Attributes:
        units: see `rlgen.spaces.ActionUnits`.
        size: number of a network's inputs: A for a Box, the sum of the numbers of choices otherwise.
        low: `[A]`, the bounds of a Box in its units: -1, or -inf where there is none.
        high: likewise.
        least: the bounds in the environment's own units, as precise as actions are stored.
        most: likewise.

    Args:
        action_space: see `rlgen.spaces.ActionUnits`.
    """

    centre: Tensor
    half_range: Tensor
    low: Tensor
    high: Tensor
    least: Tensor
    most: Tensor
    start: Tensor

    def __init__(self, action_space: spaces.Space[Any]) -> None:
        super().__init__()
        self.units = ActionUnits(action_space)
        self.size = self.units.n_outputs
        # What follows from the space is no part of a state.
        for name in ("centre", "half_range", "start"):
            self.register_buffer(name, torch.tensor(getattr(self.units, name)), persistent=False)
        low, high = self.units.bounds
        self.register_buffer("low", torch.tensor(low, dtype=torch.float32), persistent=False)
        self.register_buffer("high", torch.tensor(high, dtype=torch.float32), persistent=False)
        for name, bound in (("least", self.units.low), ("most", self.units.high)):
            self.register_buffer(name, torch.as_tensor(bound.astype(self.units.stored_dtype)), persistent=False)

    def samples(self, actions: Tensor) -> Tensor:
        """What a policy would have sampled: units of a Box `[*B, A]` float32, indices `[*B]` or `[*B, K]` int64.

        Raises:
            UsageError: the actions are those of demonstrations that hold states alone.
        """
        if actions.ndim > 1 and not actions.shape[-1]:
            raise UsageError("these demonstrations hold states and no actions, which this network sees")
        n_leading = actions.ndim - len(self.units.space.shape or ())
        if self.units.sizes is None:
            rows = actions.flatten(n_leading) if actions.ndim > n_leading else actions.unsqueeze(-1)
            in_units = ((rows.double() - self.centre) / self.half_range).float()
            return in_units.clamp(self.low, self.high)
        if not self.units.sample_shape:
            return actions - self.start[0]
        return actions.flatten(n_leading) - self.start

    def forward(self, actions: Tensor) -> Tensor:
        """Floats `[*B, size]`: units of a Box, clipped to its bounds; indices one-hot."""
        samples = self.samples(actions)
        if self.units.sizes is None:
            return samples
        if not self.units.sample_shape:
            return F.one_hot(samples, self.size).float()
        coded = [F.one_hot(samples[..., k], size) for k, size in enumerate(self.units.sizes)]
        return torch.cat(coded, -1).float()

    def executed(self, samples: Tensor) -> Tensor:
        """The environment's actions `[*B, *shape]` for samples `[*B, A]` inside the bounds of a Box of floats."""
        exact = tensor_dtype(float_dtype(self.units.space.dtype))
        actions = (samples * self.half_range + self.centre).to(exact)
        return actions.unflatten(-1, self.units.space.shape or (1,))

    def execute(self, samples: Tensor) -> Tensor:
        """The environment's actions `[N, *shape]` for samples: `ActionUnits.execute` in torch, int64 or floats."""
        units, shape = self.units, self.units.space.shape or ()
        if units.sizes is not None:
            return (samples.reshape(-1, len(units.sizes)) + self.start).reshape(-1, *shape)
        exact = tensor_dtype(float_dtype(units.space.dtype))
        actions = samples * self.half_range.to(exact) + self.centre.to(exact)
        if units.stored_dtype is np.int64:
            actions = actions.round().clamp(-(2.0**62), 2.0**62).long()
        return torch.minimum(torch.maximum(actions, self.least), self.most).reshape(-1, *shape)

    def mode(self, output: Tensor) -> Tensor:
        """The actions `[N, *shape]` that a policy's output `[N, size]` executes by its mode, int64 or floats.

        `Actor` does the same in NumPy; this is for policies that leave Python.
        """
        if self.units.sizes is None:
            return self.execute(output)
        return self.execute(torch.stack([block.argmax(-1) for block in output.split(self.units.sizes, -1)], -1))
