"""Many environments of one task, stepped together: what does not depend on how they are simulated."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import inspect
import operator
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ClosedEnvironmentError
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from rlgen.envs.tasks import Array, Info, Outcome
from rlgen.errors import UsageError

Step = tuple[Array, Array, Array, Array, dict[str, Any]]
"""Observations `[n_envs, D]` and rewards `[n_envs]` float64, terminated and truncated `[n_envs]` bool, and infos."""


class BatchedEnv(gym.vector.VectorEnv[Array, Array, Array]):
    """A vector environment with same-step autoreset, a stream of random numbers and a time limit per environment.

    `infos["final_obs"]` is a dense `[n_envs, D]` array, present in steps that end an episode. A subclass simulates: it
    implements `_build`, `_simulate` and `_restart`.

    Attributes:
        tasks: the subclass's tasks by id.
        task: the task of this environment.
        spec: gymnasium's for the task, with the arguments and the time limit that these environments have.
        generators: each environment's random numbers.
        elapsed_steps: `[n_envs]` int64, steps since each environment's reset; may be written to stagger time limits.
        max_episode_steps: the time limit in steps, or None.

    Args:
        env_id: one of `tasks`.
        n_envs: number of environments.
        n_threads: of the simulation, where it has any (default: all processors available to the process).
        max_episode_steps: time limit, -1 for none (default: the registered one).
        task_arguments: constructor arguments of the task.

    Raises:
        UsageError: an unknown task, an argument that the task doesn't have, or a time limit below 1.
    """

    tasks: ClassVar[Mapping[str, Any]]

    def __init__(
        self,
        env_id: str,
        n_envs: int,
        n_threads: int | None = None,
        max_episode_steps: int | None = None,
        **task_arguments: Any,
    ) -> None:
        self.task, spec, self.max_episode_steps = specified(
            self.tasks, env_id, n_envs, max_episode_steps, task_arguments
        )
        self.env_id = env_id
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}
        self.num_envs = n_envs
        self.spec = spec
        self.generators, self._seeds = map(list, zip(*(seeding.np_random() for _ in range(n_envs)), strict=True))
        self.elapsed_steps = np.zeros(n_envs, np.int64)
        self._all = np.ones(n_envs, np.bool_)
        self.single_action_space = self._build(n_threads)
        # The first observations show their size.
        self._obs = self._reset_rows(np.arange(n_envs, dtype=np.int32))
        self.single_observation_space = spaces.Box(-np.inf, np.inf, self._obs.shape[1:], np.float64)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)

    @property  # type: ignore[override, misc]
    def spec(self) -> EnvSpec:
        """The task's specification; `gymnasium.make_vec` sets its own, which gets the time limit in force."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec) -> None:
        self._spec = copy.deepcopy(spec)
        self._spec.max_episode_steps = self.max_episode_steps

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """Each environment's random numbers, as gymnasium's own vector environments give them."""
        return tuple(self.generators)

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """Each environment's last seed; -1 where it is unknown."""
        return tuple(self._seeds)

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """An attribute of each environment: a property of the task or, where it has none, of the batch.

        Raises:
            AttributeError: there is no such attribute, or it is a method: one environment of a batch has none.
        """
        if name in ("np_random", "np_random_seed"):
            return getattr(self, name)
        name = f"single_{name}" if name in ("action_space", "observation_space") else name
        value = getattr(self.task, name) if hasattr(self.task, name) else getattr(self, name)
        if callable(value):
            raise AttributeError(f"{name} is a method: one environment of a batch has none of its own")
        return (value,) * self.num_envs

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """As `get_attr`: gymnasium's vector environments give attributes here too."""
        return self.get_attr(name)

    def set_attr(self, name: str, values: Any) -> None:
        """Not possible: the environments of a batch share their attributes, which are arguments of `make_vec`."""
        raise AttributeError(f"the environments of a batch share their attributes: pass {name} to rlgen.make_vec")

    def state_dict(self) -> dict[str, Any]:
        """What the environments need to go on exactly: arrays and JSON values."""
        return {
            "generators": [rng.bit_generator.state for rng in self.generators],
            "elapsed_steps": self.elapsed_steps.copy(),
            "obs": self._obs.copy(),
            "simulations": self._simulation_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of as many environments of the same task."""
        for rng, kept in zip(self.generators, state["generators"], strict=True):
            rng.bit_generator.state = kept
        self._seeds = [-1] * self.num_envs
        self.elapsed_steps[:] = state["elapsed_steps"]
        self._obs = np.array(state["obs"])
        self._load_simulation_state(state["simulations"])

    @abstractmethod
    def _simulation_state(self) -> dict[str, Array]:
        """Arrays that the simulations go on from."""

    @abstractmethod
    def _load_simulation_state(self, state: Mapping[str, Array]) -> None:
        """Go on from such arrays."""

    @abstractmethod
    def _build(self, n_threads: int | None) -> spaces.Box:
        """Make the simulations of `task`; gives one environment's actions."""

    @abstractmethod
    def _simulate(self, actions: Array) -> tuple[Array, Outcome]:
        """One control step of every environment: fresh observations `[n_envs, D]` and the outcome."""

    @abstractmethod
    def _restart(self, ids: npt.NDArray[np.int32]) -> Array:
        """Draw initial states of the environments `ids` from their generators; gives their observations."""

    def _reset_info(self, rows: slice | Array) -> Info:
        """The info of a reset, arrays `[rows]`."""
        return {}

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.float64], dict[str, Any]]:
        """Reset every environment, or those of a mask.

        Args:
            seed: environment i is seeded with `seed + i`, or with `seed[i]` of a list (None: its stream goes on).
            options: `{"reset_mask": mask}`, `[n_envs]` bool, resets the environments where it is true and gives the
                others' current observations. Other options are ignored, as by gymnasium's MuJoCo tasks.

        Raises:
            ValueError: the length of the seeds, or the mask's shape, is wrong, or the mask resets nothing.
            TypeError: the mask is no array of bools, or a seed no integer.
            gymnasium.error.Error: a negative seed.
        """
        self._check_open()
        if seed is None:
            seed = [None] * self.num_envs
        elif isinstance(seed, int | np.integer):
            seed = [int(seed) + i for i in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(f"there must be one seed for each of the {self.num_envs} environments; got {len(seed)}")
        mask = self._all if options is None or "reset_mask" not in options else options["reset_mask"]
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
            raise TypeError(f"options['reset_mask'] must be a NumPy array of bools; got {mask!r}")
        if mask.shape != (self.num_envs,) or not mask.any():
            raise ValueError(
                f"options['reset_mask'] must be true somewhere and have shape ({self.num_envs},); got {mask}"
            )
        # All seeds are tried before any is used.
        seeded = {i: seeding.np_random(operator.index(x)) for i, x in enumerate(seed) if mask[i] and x is not None}
        for i, (generator, number) in seeded.items():
            self.generators[i], self._seeds[i] = generator, number
        ids = np.flatnonzero(mask).astype(np.int32)
        self._obs[ids] = self._reset_rows(ids)
        infos: dict[str, Any] = {}
        for name, rows in self._reset_info(ids).items():
            values = np.zeros((self.num_envs, *rows.shape[1:]), rows.dtype)
            values[ids] = rows
            infos |= {name: values, f"_{name}": mask.copy()}
        return self._obs.copy(), infos

    def step(self, actions: Array) -> Step:
        """Step every environment with actions `[n_envs, A]`, and reset those whose episode ends."""
        obs, rewards, terminated, truncated, info = self.advance(actions)
        done = terminated | truncated
        infos = self._reset_done(done, obs, info) if done.any() else info | {f"_{name}": self._all for name in info}
        return obs.copy(), rewards, terminated, truncated, infos

    def advance(self, actions: Array) -> Step:
        """As `step`, but resets nothing; the observations are the environment's own array, to be copied."""
        self._check_open()
        actions = np.ascontiguousarray(actions)
        if not np.can_cast(actions.dtype, np.float64, "same_kind"):
            raise ValueError(f"actions must be real numbers; got an array of {actions.dtype}")
        if actions.shape != self.action_space.shape:
            raise ValueError(f"actions must have the shape {self.action_space.shape}; got {actions.shape}")
        if not np.isfinite(actions).all():
            row = int(np.flatnonzero(~np.isfinite(actions).all(1))[0])
            raise ValueError(f"the action of environment {row} is not finite: {actions[row]}")
        self._obs, (rewards, terminated, info) = self._simulate(actions)
        self.elapsed_steps += 1
        limit = np.inf if self.max_episode_steps is None else self.max_episode_steps
        truncated = self.elapsed_steps >= limit
        return self._obs, rewards.astype(np.float64, copy=False), terminated, truncated, info

    def _reset_done(self, done: npt.NDArray[np.bool_], obs: npt.NDArray[np.float64], info: Info) -> dict[str, Any]:
        """Reset the environments of `done`, overwrite their rows of `obs`, and give the infos of the step."""
        infos: dict[str, Any] = {"final_obs": obs.copy(), "_final_obs": done}
        final = {name: np.where(_like(done, x), x, np.zeros((), x.dtype)) for name, x in info.items()}
        infos |= {"final_info": final | {f"_{name}": done for name in info}, "_final_info": done}
        ids = np.flatnonzero(done).astype(np.int32)
        obs[ids] = self._reset_rows(ids)
        reset_info = self._reset_info(ids)
        for name, x in info.items():
            if name not in reset_info and done.all():
                continue  # as gymnasium, which has an info's key only if some environment gave it
            mixed = np.where(_like(done, x), np.zeros((), x.dtype), x)
            if name in reset_info:
                mixed[ids] = reset_info[name]
            infos |= {name: mixed, f"_{name}": self._all if name in reset_info else ~done}
        return infos

    def _reset_rows(self, ids: npt.NDArray[np.int32]) -> Array:
        self.elapsed_steps[ids] = 0
        return self._restart(ids)

    def _check_open(self) -> None:
        if self.closed:
            raise ClosedEnvironmentError(f"{self.env_id}: these environments were closed")


def specified(
    tasks: Mapping[str, Any],
    env_id: str,
    n_envs: int,
    max_episode_steps: int | None,
    task_arguments: Mapping[str, Any],
) -> tuple[Any, EnvSpec, int | None]:
    """A task with its arguments, gymnasium's specification of it, and the time limit, None for none.

    Raises:
        UsageError: an unknown task, an argument that the task doesn't have, no environments, or a time limit below 1.
    """
    if env_id not in tasks:
        raise UsageError(f"no batched task {env_id}; there are {', '.join(tasks)}")
    if n_envs < 1:
        raise UsageError(f"n_envs must be at least 1; got {n_envs}")
    if max_episode_steps is not None and max_episode_steps != -1 and max_episode_steps < 1:
        raise UsageError(f"max_episode_steps must be at least 1, or -1 for no limit; got {max_episode_steps}")
    spec = copy.deepcopy(gym.spec(env_id))
    known = _task_arguments(tasks[env_id], spec)
    if unknown := sorted(set(task_arguments) - known):
        raise UsageError(f"{env_id} has no argument {', '.join(unknown)}; it has {', '.join(sorted(known)) or 'none'}")
    limit = spec.max_episode_steps if max_episode_steps is None else max_episode_steps
    spec.max_episode_steps = None if limit == -1 else limit
    spec.kwargs.update(task_arguments)
    return tasks[env_id](**task_arguments), spec, spec.max_episode_steps


def require_same_step(envs: gym.vector.VectorEnv[Any, Any, Any]) -> None:
    """Refuse a vector environment that doesn't reset an environment in the step that ends its episode.

    Others give either no observation after the last action, or a step that takes no action. The UsageError says how to
    make one.
    """
    mode = envs.metadata.get("autoreset_mode")
    if mode != AutoresetMode.SAME_STEP:
        name = envs.spec.id if envs.spec is not None else type(envs.unwrapped).__name__
        raise UsageError(
            f"{name}: environments must be reset in the step that ends an episode (AutoresetMode.SAME_STEP); the "
            f"autoreset mode is {getattr(mode, 'name', mode)}. Make them by rlgen.make_vec, or by "
            'gymnasium.make_vec(..., vectorization_mode="sync", '
            'vector_kwargs={"autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP})'
        )


class SingleEnv(gym.Env[Array, Array]):
    """The one environment of a batch of one, for `gymnasium.make`; its time limit is gymnasium's own wrapper.

    Args:
        envs: a batch of one without a time limit.
    """

    def __init__(self, envs: BatchedEnv) -> None:
        self.envs = envs
        self.metadata = {"render_modes": []}
        self.action_space = envs.single_action_space
        self.observation_space = envs.single_observation_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.float64], dict[str, Any]]:
        """Reset; the batch draws from this environment's own `np_random`."""
        super().reset(seed=seed)
        self.envs.generators[0] = self.np_random
        obs, infos = self.envs.reset()
        return obs[0], {name: x[0] for name, x in infos.items() if not name.startswith("_")}

    def step(self, action: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float64], float, bool, bool, dict[str, Any]]:
        """Step with an action `[A]`."""
        obs, rewards, terminated, truncated, info = self.envs.advance(np.asarray(action)[None])
        first = {name: x[0] for name, x in info.items()}
        return obs[0].copy(), float(rewards[0]), bool(terminated[0]), bool(truncated[0]), first


def _like(mask: npt.NDArray[np.bool_], x: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """The mask `[n]` with trailing axes to broadcast against `x` `[n, ...]`."""
    return mask.reshape(-1, *(1,) * (x.ndim - 1))


def _task_arguments(task: type, spec: gym.envs.registration.EnvSpec) -> set[str]:
    """A task's constructor arguments; of gymnasium's tasks, those that gymnasium's own class takes too."""
    ours = {field.name for field in dataclasses.fields(task)}
    if not isinstance(spec.entry_point, str):  # registered by us
        return ours
    module, _, name = spec.entry_point.partition(":")
    return ours & set(inspect.signature(getattr(importlib.import_module(module), name)).parameters)
