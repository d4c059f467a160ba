"""Gymnasium's MuJoCo environments, many at once on MuJoCo's own thread pool, equal to the last bit."""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from mujoco.batch import Batch, SimulationError

from rlgen.envs.batched import BatchedEnv
from rlgen.envs.contact_batch import ContactForceBatch
from rlgen.envs.sparse_mujoco import SPARSE_MUJOCO_TASKS
from rlgen.envs.tasks import TASKS, Array, Info, Outcome, Rows, Simulations, Task
from rlgen.ranges import Share, available_processors, check

# The engine's warnings of a simulation that diverged: bad positions, velocities, accelerations, in this order.
_DIVERGED = slice(int(mujoco.mjtWarning.mjWARN_BADQPOS), int(mujoco.mjtWarning.mjWARN_BADQACC) + 1)


class BatchedMujocoEnv(BatchedEnv):
    """A vector environment (same-step autoreset) of one MuJoCo task on `mujoco.batch`.

    Environment i after `reset(seed=s)` is `gymnasium.make(env_id).reset(seed=s + i)`: observations, rewards, ends,
    infos and automatic resets are equal to the last bit. A simulation that diverges ends its own episode (terminated,
    reward 0, the last finite observation) with a warning, and the others go on.

    Arguments and errors are those of `BatchedEnv`. The tasks are gymnasium's, with its constructor arguments, and the
    sparse ones of `rlgen.envs.sparse_mujoco`; `n_threads` are the engine's.
    """

    tasks = TASKS | SPARSE_MUJOCO_TASKS
    task: Task
    _starts: tuple[Array, Array] | None = None

    def start_from(self, obs: Array | None, share: float = 1.0) -> None:
        """Begin episodes in states of demonstrations: reference state initialisation (Peng et al. 2018).

        Each environment draws them from its own random numbers. https://arxiv.org/abs/1804.02717

        Args:
            obs: `[P, D]`, observations of the states; None: all episodes begin as the task has it again.
            share: probability that an episode begins in one of them; others begin as the task has it.

        Raises:
            UsageError: a share outside [0, 1], or observations that don't tell the state.
        """
        check("share", share, Share)
        self._starts = None if obs is None else self.task.states_of(self.sim, obs.astype(np.float64))
        self._start_share = share

    def _build(self, n_threads: int | None) -> spaces.Box:
        model = load_model(self.task)
        n_threads = min(n_threads or available_processors(), self.num_envs)
        contact_forces = "cfrc_ext" in self.task.derived
        self._batch: Any = (ContactForceBatch if contact_forces else Batch)(model, self.num_envs, n_threads)
        data = mujoco.MjData(model)
        self.sim = Simulations(
            qpos=self._batch.bind("qpos"),
            qvel=self._batch.bind("qvel"),
            ctrl=self._batch.bind("ctrl"),
            derived={name: self._batch.bind(name) for name in self.task.derived},
            timestep=model.opt.timestep,
            dt=model.opt.timestep * self.task.frame_skip,
            init_qpos=data.qpos.copy(),
            init_qvel=data.qvel.copy(),
            body_mass=model.body_mass.copy(),
            body_ids={model.body(i).name: i for i in range(model.nbody)},
        )
        self._warning_counts = self._batch.warning[:, _DIVERGED, 1]
        self._warnings = self._warning_counts.copy()
        # A simulation of the engine's own batch is its row of state. Writing that takes a tenth of a reset there,
        # which clears all derived fields before `forward` computes them.
        self._initial = None if contact_forces else self._batch.state[0].copy()
        low, high = model.actuator_ctrlrange.astype(np.float32).T
        return spaces.Box(low, high, dtype=np.float32)

    def _simulate(self, actions: Array) -> tuple[Array, Outcome]:
        task, sim = self.task, self.sim
        before = task.before(sim)
        sim.ctrl[:] = actions
        failed = []
        try:
            self._batch.step(nstep=task.frame_skip, stage=task.stage)
        except SimulationError as error:
            failed = error.ids
        obs = task.observe(sim, slice(None))
        outcome = task.outcome(sim, before, actions, obs)
        warned = self._warning_counts != self._warnings
        # A sum is finite only if every term is, and costs less to check each step.
        if len(failed) or warned.any() or not np.isfinite(obs.sum()):
            diverged = warned.any(1) | ~np.isfinite(obs).all(1)
            diverged[failed] = True
            if diverged.any():
                outcome = self._end_diverged(diverged, obs, outcome)
        return obs, outcome

    def _simulation_state(self) -> dict[str, Array]:
        # Derived fields lag a substep behind the state, as gymnasium's do, so that they can't be computed from it.
        return {"state": self._batch.state.copy()} | {name: x.copy() for name, x in self.sim.derived.items()}

    def _load_simulation_state(self, state: Mapping[str, Array]) -> None:
        self._batch.state[:] = state["state"]
        for name, output in self.sim.derived.items():
            if output.flags.writeable:
                output[:] = state[name]
            else:  # an output of the engine's, whole in memory; what we put there is what it last wrote
                kept = np.ascontiguousarray(state[name], output.dtype)
                ctypes.memmove(output.ctypes.data, kept.ctypes.data, output.nbytes)
        self._warnings[:] = self._warning_counts

    def _restart(self, ids: npt.NDArray[np.int32]) -> Array:
        if self._initial is None:
            self._batch.reset(ids, stage=int(mujoco.mjtStage.mjSTAGE_NONE))
        else:
            self._batch.state[ids] = self._initial
        for i in ids:
            self.task.place(self.generators[i], self.sim, i)
            if self._starts is not None and self.generators[i].random() < self._start_share:
                k = self.generators[i].integers(len(self._starts[0]))
                self.sim.qpos[i], self.sim.qvel[i] = (x[k] for x in self._starts)
        self._batch.forward(ids)
        self._warnings[ids] = self._warning_counts[ids]
        return self.task.observe(self.sim, ids)

    def _reset_info(self, rows: Rows) -> Info:
        return self.task.reset_info(self.sim, rows)

    def _end_diverged(self, diverged: npt.NDArray[np.bool_], obs: Array, outcome: Outcome) -> Outcome:
        ids = np.flatnonzero(diverged).tolist()
        warnings.warn(
            f"{self.env_id}: the simulation of environment {ids} diverged; its episode ends here", stacklevel=5
        )
        obs[diverged] = self._obs[diverged]
        rewards = np.where(diverged, 0.0, outcome.rewards)
        return outcome._replace(rewards=rewards, terminated=outcome.terminated | diverged)


def load_model(task: Task) -> mujoco.MjModel:
    """Compile a task's model without the engine's notes on gymnasium's older XML."""
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        return task.model()
    finally:
        mujoco.set_mju_user_warning(None)
