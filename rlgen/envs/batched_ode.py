"""Tasks given by differential equations, many at once in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from rlgen.envs.batched import BatchedEnv
from rlgen.envs.ode_tasks import ODE_TASKS, OdeTask
from rlgen.envs.tasks import Array, Outcome


class BatchedOdeEnv(BatchedEnv):
    """A vector environment (same-step autoreset) of one ordinary differential equation, one Runge-Kutta step a step.

    Attributes:
        state: `[D, n_envs]`; may be written between steps.

    Arguments and errors are those of `BatchedEnv`; `n_threads` is of no use, for NumPy steps all rows in one thread.
    """

    tasks = ODE_TASKS
    task: OdeTask

    def _build(self, n_threads: int | None) -> spaces.Box:
        self.state = np.stack([self.task.draw(rng) for rng in self.generators], axis=1)
        return spaces.Box(-1, 1, (1,), np.float32)

    def _simulation_state(self) -> dict[str, Array]:
        return {"state": self.state.copy()}

    def _load_simulation_state(self, state: Mapping[str, Array]) -> None:
        self.state = np.array(state["state"])

    def _simulate(self, actions: Array) -> tuple[Array, Outcome]:
        force = self.task.force * np.clip(actions[:, 0].astype(np.float64), -1, 1)
        self.state = runge_kutta(lambda state: self.task.derivative(state, force), self.state, self.task.dt)
        return self.task.observe(self.state), Outcome(*self.task.outcome(self.state), {})

    def _restart(self, ids: npt.NDArray[np.int32]) -> Array:
        for i in ids:
            self.state[:, i] = self.task.draw(self.generators[i])
        return self.task.observe(self.state.take(ids, axis=1))


def runge_kutta(derivative: Callable[[Array], Array], state: Array, dt: float) -> Array:
    """The state after `dt` by the classic fourth-order method, with an error of dt^5."""
    k1 = derivative(state)
    k2 = derivative(state + dt / 2 * k1)
    k3 = derivative(state + dt / 2 * k2)
    k4 = derivative(state + dt * k3)
    return state + dt / 6 * (k1 + 2 * (k2 + k3) + k4)
