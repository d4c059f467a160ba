"""Spaces as JSON values, which is how datasets and checkpoints keep them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rlgen.errors import UsageError


def describe_space(space: gym.Space[Any]) -> dict[str, Any]:
    """A Box or Discrete as a JSON object; infinite bounds are null.

    Raises:
        UsageError: another kind of space.
    """
    if isinstance(space, spaces.Discrete):
        return {"type": "Discrete", "shape": [], "n": int(space.n)}
    if not isinstance(space, spaces.Box):
        raise UsageError(f"spaces must be Box or Discrete; got {space}")
    low, high = ([float(x) if np.isfinite(x) else None for x in bound.ravel()] for bound in (space.low, space.high))
    return {"type": "Box", "shape": list(space.shape), "low": low, "high": high}


def described_space(description: Mapping[str, Any]) -> gym.Space[Any]:
    """The space of a description, a Box as float32."""
    if description["type"] == "Discrete":
        return spaces.Discrete(description["n"])
    low, high = (
        np.array([sign * np.inf if x is None else x for x in description[name]], np.float32)
        for name, sign in (("low", -1), ("high", 1))
    )
    shape = description["shape"]
    return spaces.Box(low.reshape(shape), high.reshape(shape), dtype=np.float32)
