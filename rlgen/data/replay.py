"""A pool of past transitions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from gymnasium import spaces
from torch import nn

from rlgen.nn.actions import tensor_dtype
from rlgen.spaces import ActionUnits, flat_box
from rlgen.types import Transitions


class ReplayPool(nn.Module):
    """The last `capacity` transitions, on the module's device; the rows that are filled are part of its state.

    Args:
        capacity: rows; the oldest make room.
        observation_space: see `rlgen.spaces.FlatBox`.
        action_space: see `rlgen.spaces.ActionUnits`.
    """

    def __init__(self, capacity: int, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> None:
        super().__init__()
        self.capacity = capacity
        space, units = flat_box(observation_space), ActionUnits(action_space)
        obs = torch.zeros(capacity, *space.shape, dtype=tensor_dtype(space.dtype))
        actions = torch.zeros(capacity, *(action_space.shape or ()), dtype=tensor_dtype(units.stored_dtype))
        flags = torch.zeros(capacity, dtype=torch.bool)
        empty = Transitions(obs, actions, obs.clone(), torch.zeros(capacity), flags, flags.clone())
        for field in dataclasses.fields(empty):
            self.register_buffer(field.name, getattr(empty, field.name), persistent=False)
        self.added = 0

    def get_extra_state(self) -> dict[str, Any]:
        """The rows so far, and how many were ever added."""
        rows = {field.name: getattr(self, field.name)[: len(self)] for field in dataclasses.fields(Transitions)}
        return {"added": self.added, "rows": rows}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.added = state["added"]
        for name, rows in state["rows"].items():
            getattr(self, name)[: len(self)] = rows

    def __len__(self) -> int:
        return min(self.added, self.capacity)

    @torch.no_grad()
    def add(self, transitions: Transitions) -> None:
        """Put in rows of any leading dimensions, in their order."""
        flat = transitions.flatten()[-self.capacity :]
        rows = (self.added + torch.arange(len(flat.rewards), device=flat.rewards.device)) % self.capacity
        for field in dataclasses.fields(flat):
            kept = getattr(self, field.name)
            kept[rows] = getattr(flat, field.name).to(kept.dtype)
        self.added += len(rows)

    def sample(self, size: int, n_recent: int | None = None) -> Transitions:
        """`size` rows drawn uniformly with replacement, of the `n_recent` last ones (default: of all)."""
        n = len(self) if n_recent is None else min(n_recent, len(self))
        drawn = torch.randint(n, (size,), device=self.get_buffer("rewards").device)
        rows = (self.added - n + drawn) % self.capacity if n < len(self) else drawn
        return Transitions(*(getattr(self, field.name)[rows] for field in dataclasses.fields(Transitions)))
