"""A sample of the states that a training has visited."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from rlgen.types import State, Transitions

MAX_STATES, MAX_BYTES = 10_000, 400_000


class VisitedStates:
    """A uniform sample of all transitions so far, of bounded size: Algorithm R of Vitter (1985).

    At any time each transition has the same chance of being in it, so the sample is spread evenly over the training,
    however long it is. Its random numbers depend on the number of transitions alone.

    Attributes:
        seen: number of transitions so far.

    Args:
        n_dims: dimensions of an observation.
        dtype: of observations.
    """

    def __init__(self, n_dims: int, dtype: npt.DTypeLike) -> None:
        self.seen = 0
        row = np.dtype([("obs", dtype, n_dims), ("env_steps", "i8"), ("rewards", "f4"), ("task_rewards", "f4")])
        n = max(1, min(MAX_STATES, MAX_BYTES // row.itemsize))
        fields: Any = row.fields
        self._kept = {name: np.zeros((n, *fields[name][0].shape), fields[name][0].base) for name in fields}

    def add(self, transitions: Transitions, rewards: Tensor) -> None:
        """Take a rollout `[T, N]`, in the order of its steps, with the rewards `[T, N]` that were learned from."""
        steps = self.seen + np.arange(rewards.numel())
        places = np.random.default_rng(self.seen).integers(0, steps + 1)
        n = len(self._kept["env_steps"])
        places = np.where(steps < n, steps, places)
        (rows,) = np.nonzero(places < n)
        values = {"obs": transitions.next_obs, "rewards": rewards, "task_rewards": transitions.rewards}
        for name, value in values.items():
            self._kept[name][places[rows]] = value.detach().flatten(0, 1)[rows].cpu().numpy()
        self._kept["env_steps"][places[rows]] = steps[rows] + 1
        self.seen += len(steps)

    def sample(self) -> dict[str, npt.NDArray[Any]]:
        """What is kept of `n` transitions, in the order in which they came.

        Returns:
            `obs` `[n, D]`, the states that they led to; `env_steps` `[n]` at which; `rewards` `[n]`, what was learned
            from; and `task_rewards` `[n]`, the task's own.
        """
        order = np.argsort(self._kept["env_steps"][: self.seen])
        return {name: array[order] for name, array in self._kept.items()}

    def state_dict(self) -> State:
        """The sample and the number of transitions."""
        return {"seen": self.seen} | {name: array.copy() for name, array in self._kept.items()}

    def load_state_dict(self, state: State) -> None:
        """Go on from a state of the same observations.

        Raises:
            ValueError: it is of others, or has what no training would have kept.
        """
        for name, array in self._kept.items():
            if state[name].shape != array.shape or not np.isfinite(state[name]).all():
                raise ValueError(f"field visited.{name}: must be finite, of shape {array.shape}")
            array[:] = state[name]
        if type(state["seen"]) is not int or state["seen"] < 0:
            raise ValueError("field visited.seen: must be a whole number of at least 0")
        self.seen = state["seen"]
