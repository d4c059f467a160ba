"""MuJoCo tasks as tensors on a device, stepped by MuJoCo Warp."""

from __future__ import annotations

import gc
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import mujoco
import mujoco_warp as mjw
import numpy as np
import torch
import warp as wp
from gymnasium import spaces
from gymnasium.error import ClosedEnvironmentError
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from torch import Tensor

from rlgen.envs.batched import specified
from rlgen.envs.batched_mujoco import BatchedMujocoEnv, load_model
from rlgen.envs.tasks import Simulations
from rlgen.envs.tensors import TensorEnv, TensorStep
from rlgen.errors import UsageError
from rlgen.ranges import Share, check
from rlgen.types import State

# Else it prints each kernel that it loads.
wp.config.log_level = wp.LOG_WARNING
wp.init()

_log = logging.getLogger("rlgen")


class WarpMujocoEnv(TensorEnv):
    """A vector environment (same-step autoreset) of one MuJoCo task on MuJoCo Warp, in float32.

    Tasks, time limits and rewards are those of `BatchedMujocoEnv`, by the same functions. A step neither waits for the
    device nor copies to the host. What differs:

    - Floats have 32 bits: a step agrees with C MuJoCo's to about 1e-6, and long rollouts part. A reward for speed is a
      difference of positions, whose last digit is 3e-5 m at 500 m from the start.
    - The engine has no PGS solver, which gymnasium's Humanoid tasks ask for: Newton's method takes its place, with a
      note in the logger "rlgen".
    - All environments draw from one stream of random numbers, on the device, so that one's next episode depends on when
      others end; a seed gives the same episodes again.
    - The task's infos are tensors of the step itself, before any reset.
    - An action that isn't finite ends its episode as a divergence does: terminated, reward 0, the last finite
      observation. Nothing is told, for that would wait for the device.

    Args:
        env_id: a task of `BatchedMujocoEnv`, except SwimmerGather, whose things are drawn on the CPU.
        n_envs: number of environments.
        device: "cuda", "cuda:1", ... or "cpu".
        max_episode_steps: time limit, -1 for none (default: the registered one).
        nconmax: contacts that there is room for, a simulation, shared by all (default: 48).
        njmax: constraints that there is room for in each simulation (default: 64, or all limits and two contacts of
            each pair of geoms). `check_buffers` tells if either didn't suffice.
        deterministic: the same bits each time on a GPU, at some cost; a CPU's are so anyway.
        task_arguments: constructor arguments of the task.

    Raises:
        UsageError: the device isn't there, the task is unknown or not possible, or an argument is out of range.
    """

    tasks = BatchedMujocoEnv.tasks
    # Of tensors, where `rlgen.envs.tasks` is annotated for NumPy's arrays.
    task: Any
    sim: Any

    def __init__(
        self,
        env_id: str,
        n_envs: int,
        device: str | torch.device = "cuda",
        max_episode_steps: int | None = None,
        nconmax: int | None = None,
        njmax: int | None = None,
        deterministic: bool = False,
        **task_arguments: Any,
    ) -> None:
        self.device = _existing(device)
        self.env_id = env_id
        self.task, self.spec, self.max_episode_steps = specified(
            self.tasks, env_id, n_envs, max_episode_steps, task_arguments
        )
        if "userdata" in self.task.derived:
            raise UsageError(f'{env_id} is not possible with backend="warp", which has no place for its things')
        for name, size in (("nconmax", nconmax), ("njmax", njmax)):
            if size is not None and size < 1:
                raise UsageError(f"{name} must be at least 1; got {size}")
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}
        self.num_envs = n_envs
        self.generator = torch.Generator(self.device)
        self.generator.seed()
        self._starts: tuple[Any, Any] | None = None
        self._start_share = 0.0
        self._random = _Random(self.generator, self.device)
        self.elapsed_steps = torch.zeros(n_envs, dtype=torch.int64, device=self.device)
        model = load_model(self.task)
        if model.opt.solver == mujoco.mjtSolver.mjSOL_PGS:
            model.opt.solver = mujoco.mjtSolver.mjSOL_NEWTON
            _log.info("%s: MuJoCo Warp has no PGS solver; Newton's method takes its place", env_id)
        self._allocate(model, nconmax, njmax, deterministic)
        low, high = model.actuator_ctrlrange.astype(np.float32).T
        self.single_action_space = spaces.Box(low, high, dtype=np.float32)
        # The first observations show their size.
        self._obs: Any = torch.zeros((), device=self.device)
        self._obs = self._restart(torch.ones_like(self.elapsed_steps, dtype=torch.bool))
        self.single_observation_space = spaces.Box(-np.inf, np.inf, self._obs.shape[1:], np.float32)
        self.action_space = batch_space(self.single_action_space, n_envs)
        self.observation_space = batch_space(self.single_observation_space, n_envs)

    def _allocate(self, model: mujoco.MjModel, nconmax: int | None, njmax: int | None, deterministic: bool) -> None:
        """Simulations, tensors that share their memory, and what is launched on them: a graph holds addresses."""
        task, n = self.task, self.num_envs
        if model.na:
            raise UsageError(f'{self.env_id}: backend="warp" has no place for the state of its {model.na} actuators')
        with self._on_device():
            try:
                self._model = mjw.put_model(model)
            except (NotImplementedError, ValueError) as error:
                raise UsageError(f"{self.env_id}: MuJoCo Warp can't simulate its model: {error}") from None
            self._model.opt.warn_overflow = 0  # printed for each simulation and substep; check_buffers tells
            # Drivers before CUDA 12.4 can't, and run all of the solver's iterations instead.
            self._model.opt.graph_conditional = self.device.type == "cpu" or wp.is_conditional_graph_supported()
            if deterministic:
                self._model.opt.deterministic = int(mjw.DeterminismType.ALL)
            self._data = mjw.make_data(model, n, nconmax, njmax=njmax or self._room(model))
            self._launch_step = self._captured(self._substeps)
            self._launch_forward = self._captured(self._forward) if task.derived else None
        shared = {name: wp.to_torch(getattr(self._data, name)) for name in ("qpos", "qvel", "ctrl", "qacc_warmstart")}
        self._warmstart = shared.pop("qacc_warmstart")
        self._overflow = wp.to_torch(self._data.overflow)
        self._fresh = {name: wp.to_torch(getattr(self._data, name)) for name in task.derived}
        data = mujoco.MjData(model)
        self.sim = Simulations(
            **shared,
            # Derived fields lag behind the state, and computing them for a reset changes everyone's.
            derived={name: self._tensor(x) for name, x in self._fresh.items()},
            timestep=model.opt.timestep,
            dt=model.opt.timestep * task.frame_skip,
            init_qpos=self._tensor(data.qpos).expand(n, -1),
            init_qvel=self._tensor(data.qvel).expand(n, -1),
            body_mass=self._tensor(model.body_mass),
            body_ids={model.body(i).name: i for i in range(model.nbody)},
            xp=torch,
        )

    def _room(self, model: mujoco.MjModel) -> int:
        """Constraints of all limits and of two contacts of each pair of geoms, 48 at most; or the engine's 64."""
        contacts = min(2 * len(self._model.nxn_geom_pair_filtered), 48)
        limits = int(model.jnt_limited.sum() + model.tendon_limited.sum())
        return max(limits + int(self._model.nmaxpyramid) * contacts, 64)

    def _tensor(self, x: Any) -> Any:
        return torch.asarray(x, dtype=torch.float32, device=self.device, copy=True)

    def _substeps(self) -> None:
        for _ in range(self.task.frame_skip):
            mjw.step(self._model, self._data)
        if "cfrc_ext" in self.task.derived:
            mjw.rne_postconstraint(self._model, self._data)
        if self.task.stage >= int(mujoco.mjtStage.mjSTAGE_POS):
            mjw.fwd_kinematics(self._model, self._data)

    def _forward(self) -> None:
        mjw.forward(self._model, self._data)

    def _captured(self, run: Callable[[], None]) -> Callable[[], None]:
        """A launch of what `run` does, as one graph."""
        run()  # compiles the kernels
        with _no_garbage_collection(), wp.ScopedCapture() as capture:
            run()
        return partial(self._launch, capture.graph)

    def _launch(self, graph: Any) -> None:
        wp.capture_launch(graph, stream=None if self.device.type == "cpu" else wp.stream_from_torch(self.device))

    @contextmanager
    def _on_device(self) -> Iterator[None]:
        with wp.ScopedDevice(wp.device_from_torch(self.device)):
            yield
            wp.synchronize_device()

    @contextmanager
    def _open(self) -> Iterator[None]:
        """What changes the simulations; refused once they are closed."""
        if self.closed:
            raise ClosedEnvironmentError(f"{self.env_id}: these environments were closed")
        with torch.no_grad():
            yield

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Any]]:
        """Reset every environment, or those of a mask.

        Args:
            seed: of the random numbers of all environments (default: they go on).
            options: `{"reset_mask": mask}`, a tensor `[n_envs]` bool there, resets the environments where it is true
                and gives the others' current observations.
        """
        if seed is not None and (not isinstance(seed, int | np.integer) or seed < 0):
            raise UsageError(f"seed must be one integer of at least 0 for all environments; got {seed!r}")
        mask = (options or {}).get("reset_mask", torch.ones_like(self.elapsed_steps, dtype=torch.bool))
        self._check("options['reset_mask']", mask, (self.num_envs,))
        if mask.dtype != torch.bool:
            raise ValueError(f"options['reset_mask'] must be of bools; got {mask.dtype}")
        with self._open():
            if seed is not None:
                self.generator.manual_seed(int(seed))
            self._obs = self._restart(mask)
            return self._obs.clone(), self.task.reset_info(self.sim, slice(None))

    def step(self, actions: Tensor) -> TensorStep:
        """Step every environment with actions `[n_envs, A]`, and reset those whose episode ends.

        Infos are the task's, `[n_envs, ...]`, and `final_obs` `[n_envs, D]`, all from before any reset.
        """
        self._check("actions", actions, self.action_space.shape)
        task, sim = self.task, self.sim
        with self._open():
            before = task.before(sim)
            sim.ctrl.copy_(actions)
            self._launch_step()
            for name, x in self._fresh.items():
                sim.derived[name].copy_(x)
            obs = task.observe(sim, slice(None))
            rewards, terminated, info = task.outcome(sim, before, actions, obs)
            # Within the engine's bounds of what hasn't diverged, in which a NaN is not.
            sane = (sim.qpos.abs() < mujoco.mjMAXVAL).all(1) & (sim.qvel.abs() < mujoco.mjMAXVAL).all(1)
            sane &= torch.isfinite(obs).all(1) & torch.isfinite(actions).all(1)
            final_obs = torch.where(sane[:, None], obs, self._obs)
            rewards = torch.where(sane, rewards.float(), 0.0)
            terminated = terminated | ~sane
            self.elapsed_steps += 1
            truncated = torch.zeros_like(terminated)
            if self.max_episode_steps is not None:
                truncated = self.elapsed_steps >= self.max_episode_steps
            self._obs = final_obs
            self._obs = self._restart(terminated | truncated)
            return self._obs.clone(), rewards, terminated, truncated, info | {"final_obs": final_obs}

    def start_from(self, obs: Tensor | None, share: float = 1.0) -> None:
        """See `BatchedMujocoEnv.start_from`; places that observations don't tell are the model's."""
        check("share", share, Share)
        with self._open():
            states: Any = obs if obs is None else obs.to(self.device, torch.float32)
            self._starts = None if states is None else self.task.states_of(self.sim, states)
        self._start_share = share

    def _restart(self, mask: Tensor) -> Tensor:
        """Draw initial states of the environments of the mask; gives all observations, the others' as they were."""
        sim, rows = self.sim, mask[:, None]
        qpos, qvel = self.task.draw(self._random, sim)
        if self._starts is not None:
            place = self._random.place
            which = torch.randint(len(self._starts[0]), (self.num_envs,), **place)
            given = torch.rand((self.num_envs, 1), **place) < self._start_share
            qpos, qvel = (torch.where(given, x[which], y) for x, y in zip(self._starts, (qpos, qvel), strict=True))
        for x, initial in ((sim.qpos, qpos), (sim.qvel, qvel), (self._warmstart, 0.0), (sim.ctrl, 0.0)):
            x.copy_(torch.where(rows, initial, x))
        self.elapsed_steps.masked_fill_(mask, 0)
        if self._launch_forward is not None:
            self._launch_forward()
            for name, x in sim.derived.items():
                # The engine computes contact forces on request alone, and gymnasium requests none at a reset.
                initial = self._fresh[name] if name != "cfrc_ext" else torch.zeros_like(x)
                x.copy_(torch.where(mask.view(-1, *(1,) * (x.ndim - 1)), initial, x))
        return torch.where(rows, self.task.observe(sim, slice(None)), self._obs)

    def _check(self, name: str, x: Any, shape: tuple[int, ...] | None) -> None:
        if not isinstance(x, Tensor) or x.device != self.device or x.shape != shape:
            got = f"one of shape {tuple(x.shape)} on {x.device}" if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"{name} must be a tensor of shape {shape} on {self.device}; got {got}")

    def check_buffers(self) -> None:
        """Warn if contacts or constraints were left out for want of room since the last time; waits for the device."""
        bits = int(np.bitwise_or.reduce(self._overflow.cpu().numpy()))
        self._overflow.zero_()
        kinds, rooms = mjw.OverflowType, {"nconmax": self._data.naconmax // self.num_envs, "njmax": self._data.njmax}
        for name, what, overflows in (
            ("nconmax", "contacts", kinds.BROADPHASE | kinds.NARROWPHASE | kinds.CCD),
            ("njmax", "constraints", kinds.NEFC | kinds.NJMAX_NNZ),
        ):
            if bits & overflows:
                warnings.warn(
                    f"{self.env_id}: {what} were left out of the physics, for there is room for {rooms[name]} a "
                    f"simulation; pass a larger {name}",
                    stacklevel=2,
                )

    def state_dict(self) -> State:
        """What the environments need to go on, exactly on a CPU or with `deterministic`; warns as `check_buffers`."""
        self.check_buffers()
        return {
            "generator": self.generator.get_state(),
            "elapsed_steps": self.elapsed_steps.clone(),
            "obs": self._obs.clone(),
            "simulations": {name: x.clone() for name, x in self._simulation_state().items()},
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from a state of as many environments of the same task, on the same kind of device exactly."""
        generator = state["generator"].cpu()
        if generator.shape == self.generator.get_state().shape:  # else of another kind of device
            self.generator.set_state(generator)
        self.elapsed_steps.copy_(state["elapsed_steps"])
        self._obs.copy_(state["obs"])
        for name, x in self._simulation_state().items():
            x.copy_(state["simulations"][name])

    def _simulation_state(self) -> dict[str, Any]:
        sim = self.sim
        state = {"qpos": sim.qpos, "qvel": sim.qvel, "ctrl": sim.ctrl, "qacc_warmstart": self._warmstart}
        return state | dict(sim.derived)

    def close_extras(self, **kwargs: Any) -> None:
        """Tell of buffers that were too small."""
        self.check_buffers()


class _Random:
    """Random numbers on a device, as NumPy's generator gives them."""

    def __init__(self, generator: torch.Generator, device: torch.device) -> None:
        self.place: Any = {"generator": generator, "device": device}

    def uniform(self, low: float, high: float, size: tuple[int, ...]) -> Any:
        return torch.rand(size, **self.place) * (high - low) + low

    def standard_normal(self, size: tuple[int, ...]) -> Any:
        return torch.randn(size, **self.place)


def _existing(device: str | torch.device) -> torch.device:
    """The device with its number, if there is one."""
    try:
        found = torch.device(device)
    except RuntimeError:
        found = None
    if found is None or found.type not in ("cpu", "cuda"):
        raise UsageError(f'device must be "cpu", "cuda" or "cuda:N"; got {device}')
    if found.type == "cpu":
        return torch.device("cpu")
    n = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if n <= (found.index or 0) or not wp.is_cuda_available():
        raise UsageError(f"device {device} isn't there: torch finds {n} CUDA devices, from cuda:0")
    return torch.device("cuda", torch.cuda.current_device() if found.index is None else found.index)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    # An array that is freed during a capture breaks it.
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
