"""A point in the plane whose experts walk in circles, InfoGAIL's first task (Li et al. 2017, section 5.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from rlgen.envs.batched import BatchedEnv
from rlgen.envs.tasks import Array, Outcome


@dataclass(frozen=True)
class Circles:
    """The point moves at constant speed in the direction of the action, and sees where it was lately.

    Action: a vector in [-1, 1]^2, of which the direction alone counts; (0, 0) stands still. Observation: the last five
    positions, the oldest first, in m. Start: near the origin, all five positions the same. Circle k has the centre
    (0, r_k), so it touches the origin and a walk to the right may begin any of them. Reward: 1 less the distance to the
    nearest circle, as a share of its radius: it tells a walk on circles, whichever. Nothing terminates.

    Attributes:
        radii: r_k in m; one below the x axis is negative.
        speed: metres a step.
        start: largest distance of the start from the origin in each direction, m.
    """

    radii: ClassVar[tuple[float, ...]] = (-1.0, 1.0, 2.0)
    speed: ClassVar[float] = 0.2
    start: ClassVar[float] = 0.05
    window: ClassVar[int] = 5

    def errors(self, positions: Array) -> Array:
        """Distance from each circle as a share of its radius, `[*B, K]`, of positions `[*B, 2]`."""
        radii = np.array(self.radii)
        from_centre = np.hypot(positions[..., :1], positions[..., 1:] - radii)
        return np.abs(from_centre / np.abs(radii) - 1)

    def expert(self, obs: Array, radius: float) -> Array:
        """Directions `[n, 2]` that lead along the circle of a radius, clockwise below the x axis and else not.

        Args:
            obs: `[n, 10]`.
            radius: r_k.
        """
        outward = obs[:, -2:] - np.array([0, radius])
        distance = np.linalg.norm(outward, axis=1, keepdims=True)
        outward = outward / np.maximum(distance, 1e-9)
        along = np.sign(radius) * np.stack((-outward[:, 1], outward[:, 0]), 1)
        # A step along the tangent of the circle's chord leads outside by half its angle.
        back = (distance - abs(radius)) / self.speed + self.speed / (2 * abs(radius))
        return along - np.clip(back, -1, 1) * outward


class BatchedCirclesEnv(BatchedEnv):
    """A vector environment (same-step autoreset) of points in the plane.

    Attributes:
        state: the last positions, `[n_envs, window, 2]`, the oldest first.

    Arguments and errors are those of `BatchedEnv`; `n_threads` is of no use, for NumPy steps all rows in one thread.
    """

    tasks: ClassVar[Mapping[str, type[Circles]]] = {"rlgen/Circles-v0": Circles}
    task: Circles

    def _build(self, n_threads: int | None) -> spaces.Box:
        self.state = np.zeros((self.num_envs, self.task.window, 2))
        return spaces.Box(-1, 1, (2,), np.float32)

    def _simulation_state(self) -> dict[str, Array]:
        return {"state": self.state.copy()}

    def _load_simulation_state(self, state: Mapping[str, Array]) -> None:
        self.state = np.array(state["state"])

    def _simulate(self, actions: Array) -> tuple[Array, Outcome]:
        way = actions.astype(np.float64)
        length = np.linalg.norm(way, axis=1, keepdims=True)
        position = self.state[:, -1] + self.task.speed * way / np.where(length > 0, length, 1)
        self.state = np.concatenate((self.state[:, 1:], position[:, None]), 1)
        rewards = 1 - self.task.errors(position).min(-1)
        return self._observed(), Outcome(rewards, np.zeros(self.num_envs, np.bool_), {})

    def _restart(self, ids: npt.NDArray[np.int32]) -> Array:
        for i in ids:
            self.state[i] = self.generators[i].uniform(-self.task.start, self.task.start, 2)
        return self._observed()[ids]

    def _observed(self) -> Array:
        return self.state.reshape(self.num_envs, -1).copy()
