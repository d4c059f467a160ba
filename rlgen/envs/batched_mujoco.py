"""Gymnasium's MuJoCo environments, many at once on MuJoCo's own thread pool, equal to the last bit."""

from __future__ import annotations

import dataclasses
import os
import warnings
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.envs.mujoco.mujoco_env import expand_model_path
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from mujoco.batch import Batch, SimulationError

from rlgen.envs.contact_batch import ContactForceBatch
from rlgen.envs.tasks import TASKS, Info, Simulations
from rlgen.errors import UsageError

# The engine's warnings of a simulation that diverged: bad positions, velocities, accelerations, in this order.
_DIVERGED = slice(int(mujoco.mjtWarning.mjWARN_BADQPOS), int(mujoco.mjtWarning.mjWARN_BADQACC) + 1)


class BatchedMujocoEnv(gym.vector.VectorEnv[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]):
    """A vector environment (same-step autoreset) of one MuJoCo task on `mujoco.batch`.

    Environment i after `reset(seed=s)` is `gymnasium.make(env_id).reset(seed=s + i)`: observations, rewards, ends,
    infos and automatic resets are equal to the last bit. `infos["final_obs"]` is a dense `[n_envs, D]` array, present
    in steps that end an episode. A simulation that diverges ends its own episode (terminated, reward 0, the last
    finite observation) with a warning, and the others go on.

    Attributes:
        elapsed_steps: `[n_envs]` int64, steps since each environment's reset; may be written to stagger time limits.
        max_episode_steps: the time limit in steps, or None.

    Args:
        env_id: one of `rlgen.envs.tasks.TASKS`.
        n_envs: number of environments.
        n_threads: engine threads; all processors available to the process unless told.
        max_episode_steps: time limit; gymnasium's for the task unless told, -1 for none.
        task_arguments: gymnasium's constructor arguments of the task.

    Raises:
        UsageError: an unknown task.
        UsageError: an argument that the task doesn't have.
    """

    def __init__(
        self,
        env_id: str,
        n_envs: int,
        n_threads: int | None = None,
        max_episode_steps: int | None = None,
        **task_arguments: Any,
    ) -> None:
        if env_id not in TASKS:
            raise UsageError(f"no batched task {env_id}; there are {', '.join(TASKS)}")
        if n_envs < 1:
            raise UsageError(f"n_envs must be at least 1; got {n_envs}")
        known = _task_arguments(env_id)
        if unknown := sorted(set(task_arguments) - known):
            raise UsageError(
                f"{env_id} has no argument {', '.join(unknown)}; it has {', '.join(sorted(known)) or 'none'}"
            )
        self.task = TASKS[env_id](**task_arguments)
        self.env_id = env_id
        self.spec = gym.spec(env_id)
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}
        self.num_envs = n_envs
        self.max_episode_steps = self.spec.max_episode_steps if max_episode_steps is None else max_episode_steps
        if self.max_episode_steps == -1:
            self.max_episode_steps = None

        model = _load_model(self.task.xml_file)
        n_threads = min(n_threads or available_processors(), n_envs)
        self._batch: Any = (ContactForceBatch if self.task.contact_forces else Batch)(model, n_envs, n_threads)
        data = mujoco.MjData(model)
        names = [*self.task.derived, *(["cfrc_ext"] if self.task.contact_forces else [])]
        self.sim = Simulations(
            qpos=self._batch.bind("qpos"),
            qvel=self._batch.bind("qvel"),
            ctrl=self._batch.bind("ctrl"),
            derived={name: self._batch.bind(name) for name in names},
            timestep=model.opt.timestep,
            dt=model.opt.timestep * self.task.frame_skip,
            init_qpos=data.qpos.copy(),
            init_qvel=data.qvel.copy(),
            body_mass=model.body_mass.copy(),
            body_ids={model.body(i).name: i for i in range(model.nbody)},
        )
        self._generators = [seeding.np_random()[0] for _ in range(n_envs)]
        self.elapsed_steps = np.zeros(n_envs, np.int64)
        self._all = np.ones(n_envs, np.bool_)
        self._warning_counts = self._batch.warning[:, _DIVERGED, 1]
        self._warnings = self._warning_counts.copy()
        self._obs = self._reset_simulations(np.arange(n_envs, dtype=np.int32))

        low, high = model.actuator_ctrlrange.astype(np.float32).T
        self.single_action_space = spaces.Box(low, high, dtype=np.float32)
        self.single_observation_space = spaces.Box(-np.inf, np.inf, self._obs.shape[1:], np.float64)
        self.action_space = batch_space(self.single_action_space, n_envs)
        self.observation_space = batch_space(self.single_observation_space, n_envs)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.float64], dict[str, Any]]:
        """Reset every environment; environment i is seeded with `seed + i`, or `seed[i]` of a list."""
        seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int | np.integer) else seed
        for i, value in enumerate(seeds or []):
            if value is not None:
                self._generators[i] = seeding.np_random(int(value))[0]
        self._obs = self._reset_simulations(np.arange(self.num_envs, dtype=np.int32))
        return self._obs.copy(), self._masked(self.task.reset_info(self.sim, slice(None)))

    def step(
        self, actions: npt.NDArray[Any]
    ) -> tuple[
        npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.bool_], npt.NDArray[np.bool_], dict[str, Any]
    ]:
        """Step every environment with actions `[n_envs, A]`, and reset those whose episode ends."""
        actions = np.ascontiguousarray(actions)
        if actions.shape != self.action_space.shape:
            raise ValueError(f"actions must have the shape {self.action_space.shape}; got {actions.shape}")
        if not np.isfinite(actions).all():
            row = int(np.flatnonzero(~np.isfinite(actions).all(1))[0])
            raise ValueError(f"the action of environment {row} is not finite: {actions[row]}")
        task, sim = self.task, self.sim
        before = task.before(sim)
        sim.ctrl[:] = actions
        try:
            self._batch.step(nstep=task.frame_skip)
        except SimulationError as error:
            failed = error.ids
        else:
            failed = None
        obs = task.observe(sim, slice(None))
        rewards, terminated, info = task.outcome(sim, before, actions, obs)
        rewards = rewards.astype(np.float64, copy=False)
        warned = self._warning_counts != self._warnings
        # A sum is finite only if every term is, and costs less to check each step.
        if failed is not None or warned.any() or not np.isfinite(obs.sum()):
            diverged = warned.any(1) | ~np.isfinite(obs).all(1)
            diverged[[] if failed is None else failed] = True
            if diverged.any():
                rewards, terminated = self._end_diverged(diverged, obs, rewards, terminated)
        self.elapsed_steps += 1
        if self.max_episode_steps is None:
            truncated = np.zeros(self.num_envs, np.bool_)
        else:
            truncated = self.elapsed_steps >= self.max_episode_steps
        done = terminated | truncated
        infos = self._masked(info)
        if done.any():
            infos = self._reset_done(done, obs, info)
        self._obs = obs
        return obs.copy(), rewards, terminated, truncated, infos

    def _reset_done(self, done: npt.NDArray[np.bool_], obs: npt.NDArray[np.float64], info: Info) -> dict[str, Any]:
        """Reset the environments of `done`, overwrite their rows of `obs`, and give the infos of the step."""
        infos: dict[str, Any] = {"final_obs": obs.copy(), "_final_obs": done}
        final = {name: np.where(_like(done, x), x, np.zeros((), x.dtype)) for name, x in info.items()}
        infos |= {"final_info": final | {f"_{name}": done for name in info}, "_final_info": done}
        ids = np.flatnonzero(done).astype(np.int32)
        obs[ids] = self._reset_simulations(ids)
        reset_info = self.task.reset_info(self.sim, ids)
        for name, x in info.items():
            if name not in reset_info and done.all():
                continue  # as gymnasium, which has an info's key only if some environment gave it
            mixed = np.where(_like(done, x), np.zeros((), x.dtype), x)
            if name in reset_info:
                mixed[ids] = reset_info[name]
            infos |= {name: mixed, f"_{name}": self._all if name in reset_info else ~done}
        return infos

    def _reset_simulations(self, ids: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
        self._batch.reset(ids, stage=int(mujoco.mjtStage.mjSTAGE_NONE))
        for i in ids:
            self.sim.qpos[i], self.sim.qvel[i] = self.task.draw(self._generators[i], self.sim)
        self._batch.forward(ids)
        self._warnings[ids] = self._warning_counts[ids]
        self.elapsed_steps[ids] = 0
        return self.task.observe(self.sim, ids)

    def _end_diverged(
        self,
        diverged: npt.NDArray[np.bool_],
        obs: npt.NDArray[np.float64],
        rewards: npt.NDArray[np.float64],
        terminated: npt.NDArray[np.bool_],
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        ids = np.flatnonzero(diverged).tolist()
        warnings.warn(
            f"{self.env_id}: the simulation of environment {ids} diverged; its episode ends here", stacklevel=3
        )
        obs[diverged] = self._obs[diverged]
        return np.where(diverged, 0.0, rewards), terminated | diverged

    def _masked(self, info: Info) -> dict[str, Any]:
        return info | {f"_{name}": self._all for name in info}


def available_processors() -> int:
    """Processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _load_model(xml_file: str) -> mujoco.MjModel:
    """Compile a task's model without the engine's notes on gymnasium's older XML."""
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        return mujoco.MjModel.from_xml_path(expand_model_path(xml_file))
    finally:
        mujoco.set_mju_user_warning(None)


def _like(mask: npt.NDArray[np.bool_], x: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """The mask `[n]` with trailing axes to broadcast against `x` `[n, ...]`."""
    return mask.reshape(-1, *(1,) * (x.ndim - 1))


def _task_arguments(env_id: str) -> set[str]:
    """The constructor arguments that gymnasium's own class of the task takes too."""
    import importlib
    import inspect

    module, _, name = str(gym.spec(env_id).entry_point).partition(":")
    theirs = inspect.signature(getattr(importlib.import_module(module), name)).parameters
    ours = {field.name for field in dataclasses.fields(TASKS[env_id])}  # type: ignore[arg-type]
    return ours & set(theirs)
