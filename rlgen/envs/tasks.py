"""Gymnasium's MuJoCo tasks as data and vectorised functions of many simulations at once.

Every expression keeps gymnasium's own order of operations and dtypes, so that results are equal to the last bit; a
v5 task differs from its v4 only in what its class overrides. Fields of the dataclasses are gymnasium's constructor
arguments of the same names.

An array is NumPy's or, on a device, torch's tensor: functions are those that both have under one name, called on
`Simulations.xp`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import mujoco
import numpy as np
import numpy.typing as npt
from gymnasium.envs.mujoco.mujoco_env import expand_model_path

from rlgen.errors import UsageError

Array = npt.NDArray[Any]  # or a torch.Tensor
Info = dict[str, Array]
Rows = slice | Array


@dataclass(frozen=True)
class Simulations:
    """Live views of a batch of simulations, rows `[n, ...]`.

    Attributes:
        qpos: `[n, nq]` positions.
        qvel: `[n, nv]` velocities.
        ctrl: `[n, nu]` controls.
        derived: the MjData fields that the task names, by name.
        timestep: seconds a substep.
        dt: seconds a control step.
        init_qpos: `[nq]`, or `[n, nq]` where initial states of all simulations are drawn at once.
        init_qvel: `[nv]`, or `[n, nv]`.
        body_mass: `[nbody]` in kg.
        body_ids: body number by name.
        xp: the module of the arrays, NumPy or torch.
    """

    qpos: Array
    qvel: Array
    ctrl: Array
    derived: Mapping[str, Array]
    timestep: float
    dt: float
    init_qpos: Array
    init_qvel: Array
    body_mass: Array
    body_ids: Mapping[str, int]
    xp: Any = np

    def body(self, name: str, rows: Rows = slice(None)) -> Array:
        """Positions `[n, 3]` of a body's frame."""
        return self.derived["xpos"][rows, self.body_ids[name]]


class Random(Protocol):
    """What draws initial states: NumPy's generator of one simulation, or a device's of all."""

    def uniform(self, low: float, high: float, size: tuple[int, ...]) -> Array:
        """Numbers of any shape, from `low` to `high`."""

    def standard_normal(self, size: tuple[int, ...]) -> Array:
        """Numbers of any shape, ~ N(0, 1)."""


class Outcome(NamedTuple):
    """What a step gave: rewards `[n]`, terminated `[n]` bool, and the info's arrays."""

    rewards: Array
    terminated: Array
    info: Info


class Task:
    """One task: which model, how it resets, what it observes and pays."""

    xml_file: str
    frame_skip: int
    reset_noise_scale: float
    exclude_current_positions_from_observation: bool = False
    # Fields of MjData; `cfrc_ext` costs extra, for the engine computes it only on request.
    derived: ClassVar[tuple[str, ...]] = ()
    # Derived fields are those of the last substep's start, as in gymnasium, unless a later stage is asked for.
    stage: ClassVar[int] = int(mujoco.mjtStage.mjSTAGE_NONE)
    normal_velocity: ClassVar[bool] = False  # the velocity's noise at a reset is normal, not uniform
    n_places: ClassVar[int] = 1  # coordinates of the place in the world, the first of qpos

    def model(self) -> mujoco.MjModel:
        """The compiled model of gymnasium's `xml_file`."""
        return mujoco.MjModel.from_xml_path(expand_model_path(self.xml_file))

    def draw(self, rng: Random, sim: Simulations) -> tuple[Array, Array]:
        """Initial `(qpos, qvel)`, of the shapes of `init_qpos` and `init_qvel`, drawn in gymnasium's order."""
        scale = self.reset_noise_scale
        qpos = sim.init_qpos + rng.uniform(low=-scale, high=scale, size=sim.init_qpos.shape)
        if self.normal_velocity:
            return qpos, sim.init_qvel + scale * rng.standard_normal(sim.init_qvel.shape)
        return qpos, sim.init_qvel + rng.uniform(low=-scale, high=scale, size=sim.init_qvel.shape)

    def place(self, rng: np.random.Generator, sim: Simulations, row: int) -> None:
        """Put simulation `row` into an initial state."""
        sim.qpos[row], sim.qvel[row] = self.draw(rng, sim)

    def states_of(self, sim: Simulations, obs: Array) -> tuple[Array, Array]:
        """States `(qpos [P, nq], qvel [P, nv])` whose observations are `[P, D]`; places not observed are the model's.

        Raises:
            UsageError: the states don't follow from this task's observations, which is seen by observing them again.
        """
        first = self.n_places * int(self.exclude_current_positions_from_observation)
        n, told = sim.qpos.shape[1] - first, sim.qpos.shape[1] + sim.qvel.shape[1] - first
        qpos = sim.xp.tile(sim.init_qpos.reshape(-1, n + first)[0], (len(obs), 1))
        qpos[:, first:] = obs[:, :n]
        qvel = obs[:, n:told]
        # In the place of the first simulation, which gets its own state back.
        own = _copy(sim.qpos[0]), _copy(sim.qvel[0])
        found = []
        some = range(0, len(obs), max(1, len(obs) // 50))
        for k in some:
            sim.qpos[0], sim.qvel[0] = qpos[k], qvel[k]
            found.append(self.observe(sim, slice(0, 1))[0, :told])
        sim.qpos[0], sim.qvel[0] = own
        if not sim.xp.allclose(sim.xp.stack(found), obs[list(some), :told], rtol=1e-5, atol=1e-6):
            name = type(self).__name__
            raise UsageError(
                f"{name}: episodes can't begin in states of these demonstrations (start_share): observing the states "
                "that their observations seem to tell gives others"
            )
        return qpos, qvel

    def observe(self, sim: Simulations, rows: Rows) -> Array:
        """A fresh array of observations `[rows, D]` float64: positions, velocities and what `sensed` adds."""
        first = self.n_places * int(self.exclude_current_positions_from_observation)
        parts = (sim.qpos[rows, first:], sim.qvel[rows], *self.sensed(sim, rows))
        return sim.xp.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)

    def sensed(self, sim: Simulations, rows: Rows) -> Sequence[Array]:
        """Observations besides positions and velocities, arrays `[rows, ...]`."""
        return ()

    def before(self, sim: Simulations) -> Array | None:
        """What `outcome` needs to know from before the step, copied."""
        return None

    @abstractmethod
    def outcome(self, sim: Simulations, before: Array | None, actions: Array, obs: Array) -> Outcome:
        """Rewards, terminations and info after the step."""

    def reset_info(self, sim: Simulations, rows: Rows) -> Info:
        """The info of a reset, arrays `[rows]`."""
        return {}


def _copy(x: Array) -> Array:
    return x.copy() if isinstance(x, np.ndarray) else x.clone()


def _square_sum(x: Array) -> Array:
    # Row by row over contiguous memory: NumPy's pairwise order is then that of one row alone.
    x = x.reshape(len(x), -1)
    return (x * x).sum(1)


def _norm(x: Array) -> Array:
    if not isinstance(x, np.ndarray):
        return x.norm(dim=-1)
    # np.linalg.norm of a vector is the square root of BLAS's dot product; vecdot calls the same routine row by row.
    x = np.ascontiguousarray(x)
    return np.sqrt(np.vecdot(x, x))


def _never(rewards: Array, sim: Simulations) -> Array:
    """Terminations of a task that has none."""
    return sim.xp.zeros_like(rewards, dtype=sim.xp.bool)


def _accepted(
    sim: Simulations, draw: Callable[[tuple[int, ...]], Array], accept: Callable[[Array], Any], tries: int = 32
) -> Array:
    """Points that are drawn, as many as initial states, until they are accepted.

    A step on a device can't wait for an answer: there each is one of `tries` points that is accepted. Pusher refuses
    the most, 38%, and so all of 32 in one case of 3e13.
    """
    if sim.init_qpos.ndim == 1:
        while not accept(point := draw(())):
            pass
        return point
    points: Any = draw((len(sim.init_qpos), tries))
    one = accept(points).int().argmax(1)
    return points.take_along_dim(one[:, None, None], 1)[:, 0]


def _inside(x: Array, bounds: tuple[float, float]) -> Array:
    return (bounds[0] < x) & (x < bounds[1])


def _place_info(place: Array) -> Info:
    """Of coordinates `[n, 1]` or `[n, 2]`."""
    if place.shape[1] == 1:
        return {"x_position": place[:, 0]}
    return {"x_position": place[:, 0], "y_position": place[:, 1], "distance_from_origin": _norm(place)}


@dataclass(frozen=True)
class _Moving(Task):
    """A body that is rewarded for its speed along x, less the cost of its controls.

    Its reward has parts `[n]`: `forward`, `ctrl` and, where there are such, `survive` and `contact`.
    """

    frame_skip: int = 5
    forward_reward_weight: float = 1.0
    ctrl_cost_weight: float = 0.1
    reset_noise_scale: float = 0.1
    exclude_current_positions_from_observation: bool = True
    # Which part of the reward stands in a step's info under a name.
    info_parts: ClassVar[Mapping[str, str]] = {}

    def position(self, sim: Simulations) -> Array:
        return _copy(sim.qpos[:, : self.n_places])

    def before(self, sim: Simulations) -> Array | None:
        return self.position(sim)

    def controls(self, sim: Simulations, actions: Array) -> Array:
        return actions

    def outcome(self, sim: Simulations, before: Array | None, actions: Array, obs: Array) -> Outcome:
        position = self.position(sim)
        velocity = (position - before) / sim.dt
        ctrl = -self.ctrl_cost_weight * _square_sum(self.controls(sim, actions))
        parts = {"forward": self.forward_reward_weight * velocity[:, 0], "ctrl": ctrl}
        rewards, terminated = self.reward(sim, parts)
        info = self.place_info(sim, position)
        info |= dict(zip(("x_velocity", "y_velocity"), velocity.T, strict=False))
        info |= {name: parts[part] for name, part in self.info_parts.items() if part in parts}
        return Outcome(rewards, terminated, info)

    def reward(self, sim: Simulations, parts: dict[str, Array]) -> tuple[Array, Array]:
        """Rewards and terminations `[n]` of a step; other parts of the reward are added to `parts`."""
        return (rewards := parts["forward"] + parts["ctrl"]), _never(rewards, sim)

    def place_info(self, sim: Simulations, position: Array) -> Info:
        return _place_info(position)


class _V5:
    """What v5 changes in all tasks of `_Moving`: infos, also of resets, and that an unhealthy step isn't rewarded."""

    n_places: ClassVar[int]
    healthy_reward: float
    info_parts: ClassVar[Mapping[str, str]] = {
        f"reward_{part}": part for part in ("forward", "ctrl", "survive", "contact")
    }

    def survive(self, healthy: Array) -> Array:
        return healthy * self.healthy_reward

    def reset_info(self, sim: Simulations, rows: Rows) -> Info:
        return _place_info(_copy(sim.qpos[rows, : self.n_places]))

    def place_info(self, sim: Simulations, position: Array) -> Info:
        return self.reset_info(sim, slice(None))


@dataclass(frozen=True)
class HalfCheetahV4(_Moving):
    xml_file: str = "half_cheetah.xml"
    normal_velocity: ClassVar[bool] = True
    info_parts: ClassVar[Mapping[str, str]] = {"reward_run": "forward", "reward_ctrl": "ctrl"}


class HalfCheetahV5(_V5, HalfCheetahV4):
    pass


@dataclass(frozen=True)
class SwimmerV4(_Moving):
    xml_file: str = "swimmer.xml"
    frame_skip: int = 4
    ctrl_cost_weight: float = 1e-4
    n_places: ClassVar[int] = 2
    info_parts: ClassVar[Mapping[str, str]] = {
        "reward_ctrl": "ctrl",
        "reward_fwd": "forward",
        "forward_reward": "forward",
    }


class SwimmerV5(_V5, SwimmerV4):
    pass


@dataclass(frozen=True)
class _Upright(_Moving):
    """A body that is also rewarded for staying upright, and whose episode may end when it falls."""

    healthy_reward: float = 1.0
    terminate_when_unhealthy: bool = True
    healthy_z_range: tuple[float, float] = (1.0, 2.0)

    def healthy(self, sim: Simulations) -> Array:
        return _inside(sim.qpos[:, 2], self.healthy_z_range)

    def survive(self, healthy: Array) -> Array:
        # v4 rewards an unhealthy step too if it ends the episode.
        return (healthy | self.terminate_when_unhealthy) * float(self.healthy_reward)

    def contact_cost(self, sim: Simulations) -> Array | None:
        return None

    def reward(self, sim: Simulations, parts: dict[str, Array]) -> tuple[Array, Array]:
        healthy, contact_cost, costs = self.healthy(sim), self.contact_cost(sim), parts["ctrl"]
        parts["survive"] = self.survive(healthy)
        if contact_cost is not None:
            parts["contact"] = -contact_cost
            costs = costs + parts["contact"]
        return parts["forward"] + parts["survive"] + costs, ~healthy & self.terminate_when_unhealthy


@dataclass(frozen=True)
class _Hopping(_Upright):
    """Hopper and Walker2d, which move in a plane."""

    frame_skip: int = 4
    ctrl_cost_weight: float = 1e-3
    healthy_z_range: tuple[float, float] = (0.8, 2.0)
    healthy_angle_range: tuple[float, float] = (-1.0, 1.0)
    reset_noise_scale: float = 5e-3

    def observe(self, sim: Simulations, rows: Rows) -> Array:
        first = int(self.exclude_current_positions_from_observation)
        return sim.xp.concatenate((sim.qpos[rows, first:], sim.qvel[rows].clip(-10, 10)), axis=1)

    def healthy(self, sim: Simulations) -> Array:
        return _inside(sim.qpos[:, 1], self.healthy_z_range) & _inside(sim.qpos[:, 2], self.healthy_angle_range)


class _HoppingV5(_V5):
    def reset_info(self, sim: Simulations, rows: Rows) -> Info:
        return super().reset_info(sim, rows) | {"z_distance_from_origin": sim.qpos[rows, 1] - sim.init_qpos[..., 1]}


@dataclass(frozen=True)
class HopperV4(_Hopping):
    xml_file: str = "hopper.xml"
    healthy_z_range: tuple[float, float] = (0.7, float("inf"))
    healthy_angle_range: tuple[float, float] = (-0.2, 0.2)
    healthy_state_range: tuple[float, float] = (-100.0, 100.0)

    def healthy(self, sim: Simulations) -> Array:
        rest = _inside(sim.qpos[:, 2:], self.healthy_state_range).all(1)
        return super().healthy(sim) & rest & _inside(sim.qvel, self.healthy_state_range).all(1)


class HopperV5(_HoppingV5, HopperV4):
    pass


@dataclass(frozen=True)
class Walker2dV4(_Hopping):
    xml_file: str = "walker2d.xml"


@dataclass(frozen=True)
class Walker2dV5(_HoppingV5, Walker2dV4):
    xml_file: str = "walker2d_v5.xml"


@dataclass(frozen=True)
class _Ant(_Upright):
    xml_file: str = "ant.xml"
    ctrl_cost_weight: float = 0.5
    contact_cost_weight: float = 5e-4
    healthy_z_range: tuple[float, float] = (0.2, 1.0)
    contact_force_range: tuple[float, float] = (-1.0, 1.0)
    derived: ClassVar[tuple[str, ...]] = ("xpos",)
    normal_velocity: ClassVar[bool] = True
    n_places: ClassVar[int] = 2

    def clipped_forces(self, sim: Simulations, rows: Rows = slice(None)) -> Array:
        """Contact forces on each body `[rows, nbody, 6]`."""
        return sim.derived["cfrc_ext"][rows].clip(*self.contact_force_range)

    def contact_cost(self, sim: Simulations) -> Array | None:
        return self.contact_cost_weight * _square_sum(self.clipped_forces(sim)) if "cfrc_ext" in self.derived else None

    def healthy(self, sim: Simulations) -> Array:
        finite = sim.xp.isfinite(sim.qpos).all(1) & sim.xp.isfinite(sim.qvel).all(1)
        return finite & (self.healthy_z_range[0] <= sim.qpos[:, 2]) & (sim.qpos[:, 2] <= self.healthy_z_range[1])


@dataclass(frozen=True)
class AntV4(_Ant):
    use_contact_forces: bool = False
    info_parts: ClassVar[Mapping[str, str]] = {
        "reward_forward": "forward",
        "reward_ctrl": "ctrl",
        "reward_survive": "survive",
        "forward_reward": "forward",
    }

    @property
    def derived(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("xpos", "cfrc_ext") if self.use_contact_forces else ("xpos",)

    def sensed(self, sim: Simulations, rows: Rows) -> Sequence[Array]:
        return (self.clipped_forces(sim, rows),) if self.use_contact_forces else ()

    def position(self, sim: Simulations) -> Array:
        return _copy(sim.body("torso")[:, :2])

    def reward(self, sim: Simulations, parts: dict[str, Array]) -> tuple[Array, Array]:
        outcome = super().reward(sim, parts)
        parts["ctrl"] = parts.get("contact", parts["ctrl"])  # gymnasium's info has the contacts' there
        return outcome


@dataclass(frozen=True)
class AntV5(_V5, _Ant):
    main_body: int | str = 1
    include_cfrc_ext_in_observation: bool = True
    derived: ClassVar[tuple[str, ...]] = ("xpos", "cfrc_ext")

    def sensed(self, sim: Simulations, rows: Rows) -> Sequence[Array]:
        return (self.clipped_forces(sim, rows)[:, 1:],) if self.include_cfrc_ext_in_observation else ()

    def position(self, sim: Simulations) -> Array:
        body = sim.body_ids[self.main_body] if isinstance(self.main_body, str) else self.main_body
        return _copy(sim.derived["xpos"][:, body, :2])


@dataclass(frozen=True)
class HumanoidV4(_Upright):
    xml_file: str = "humanoid.xml"
    forward_reward_weight: float = 1.25
    healthy_reward: float = 5.0
    reset_noise_scale: float = 1e-2
    derived: ClassVar[tuple[str, ...]] = ("xipos", "cinert", "cvel", "qfrc_actuator", "cfrc_ext")
    n_places: ClassVar[int] = 2
    info_parts: ClassVar[Mapping[str, str]] = {
        "reward_linvel": "forward",
        "reward_quadctrl": "ctrl",
        "reward_alive": "survive",
        "forward_reward": "forward",
    }

    def sensed(self, sim: Simulations, rows: Rows) -> Sequence[Array]:
        return [sim.derived[name][rows] for name in ("cinert", "cvel", "qfrc_actuator", "cfrc_ext")]

    def position(self, sim: Simulations) -> Array:
        # The centre of mass in the plane.
        centre = sim.xp.einsum("b,nbj->nj", sim.body_mass, sim.derived["xipos"]) / sim.body_mass.sum()
        return _copy(centre[:, :2])

    def controls(self, sim: Simulations, actions: Array) -> Array:
        return _copy(sim.ctrl)


@dataclass(frozen=True)
class HumanoidV5(_V5, HumanoidV4):
    contact_cost_weight: float = 5e-7
    contact_cost_range: tuple[float, float] = (-np.inf, 10.0)
    include_cinert_in_observation: bool = True
    include_cvel_in_observation: bool = True
    include_qfrc_actuator_in_observation: bool = True
    include_cfrc_ext_in_observation: bool = True
    derived: ClassVar[tuple[str, ...]] = (*HumanoidV4.derived, "ten_length", "ten_velocity")

    def sensed(self, sim: Simulations, rows: Rows) -> Sequence[Array]:
        # The world body's and the free joint's entries are always zero, and left out from v5 on.
        firsts = {"cinert": 1, "cvel": 1, "qfrc_actuator": 6, "cfrc_ext": 1}
        included = [name for name in firsts if getattr(self, f"include_{name}_in_observation")]
        return [sim.derived[name][rows, firsts[name] :] for name in included]

    def contact_cost(self, sim: Simulations) -> Array:
        return (self.contact_cost_weight * _square_sum(sim.derived["cfrc_ext"])).clip(*self.contact_cost_range)

    def reset_info(self, sim: Simulations, rows: Rows) -> Info:
        return super().reset_info(sim, rows) | self.tendon_info(sim, rows)

    def tendon_info(self, sim: Simulations, rows: Rows) -> Info:
        return {
            "tendon_length": _copy(sim.derived["ten_length"][rows]),
            "tendon_velocity": _copy(sim.derived["ten_velocity"][rows]),
        }


@dataclass(frozen=True)
class HumanoidStandupV4(HumanoidV4):
    xml_file: str = "humanoidstandup.xml"
    impact_cost_weight: float = 5e-7
    impact_cost_range: tuple[float, float] = (-np.inf, 10.0)

    def before(self, sim: Simulations) -> Array | None:
        return None

    def outcome(self, sim: Simulations, before: Array | None, actions: Array, obs: Array) -> Outcome:
        up = (sim.qpos[:, 2] - 0) / sim.timestep
        ctrl_cost = self.ctrl_cost_weight * _square_sum(self.controls(sim, actions))
        impact_cost = (self.impact_cost_weight * _square_sum(sim.derived["cfrc_ext"])).clip(*self.impact_cost_range)
        info = {"reward_linup": up, "reward_quadctrl": -ctrl_cost, "reward_impact": -impact_cost}
        info = self.reset_info(sim, slice(None)) | info
        return Outcome(up - ctrl_cost - impact_cost + 1, _never(up, sim), info)


@dataclass(frozen=True)
class HumanoidStandupV5(HumanoidStandupV4, HumanoidV5):
    uph_cost_weight: float = 1

    def reset_info(self, sim: Simulations, rows: Rows) -> Info:
        return {
            "x_position": _copy(sim.qpos[rows, 0]),
            "y_position": _copy(sim.qpos[rows, 1]),
            "z_distance_from_origin": sim.qpos[rows, 2] - sim.init_qpos[..., 2],
        } | self.tendon_info(sim, rows)


@dataclass(frozen=True)
class ReacherV5(Task):
    xml_file: str = "reacher.xml"
    frame_skip: int = 2
    reward_dist_weight: float = 1
    reward_control_weight: float = 1
    derived: ClassVar[tuple[str, ...]] = ("xpos",)
    target_dims: ClassVar[int] = 2

    def draw(self, rng: Random, sim: Simulations) -> tuple[Array, Array]:
        qpos = rng.uniform(low=-0.1, high=0.1, size=sim.init_qpos.shape) + sim.init_qpos
        qpos[..., -2:] = _accepted(
            sim, lambda shape: rng.uniform(low=-0.2, high=0.2, size=(*shape, 2)), lambda goal: _norm(goal) < 0.2
        )
        qvel = sim.init_qvel + rng.uniform(low=-0.005, high=0.005, size=sim.init_qvel.shape)
        qvel[..., -2:] = 0
        return qpos, qvel

    def to_target(self, sim: Simulations, rows: Rows) -> Array:
        return sim.body("fingertip", rows) - sim.body("target", rows)

    def observe(self, sim: Simulations, rows: Rows) -> Array:
        theta = sim.qpos[rows, :2]
        vector = self.to_target(sim, rows)[:, : self.target_dims]
        parts = (sim.xp.cos(theta), sim.xp.sin(theta), sim.qpos[rows, 2:], sim.qvel[rows, :2], vector)
        return sim.xp.concatenate(parts, axis=1)

    def outcome(self, sim: Simulations, before: Array | None, actions: Array, obs: Array) -> Outcome:
        vector = self.to_target(sim, slice(None)) if before is None else before
        reward_dist = -_norm(vector) * self.reward_dist_weight
        reward_ctrl = -_square_sum(actions) * self.reward_control_weight
        info = {"reward_dist": reward_dist, "reward_ctrl": reward_ctrl}
        return Outcome(reward_dist + reward_ctrl, _never(reward_dist, sim), info)


@dataclass(frozen=True)
class ReacherV4(ReacherV5):
    """v4 observes the target in three dimensions and pays for the state before the step."""

    target_dims: ClassVar[int] = 3

    def before(self, sim: Simulations) -> Array:
        return self.to_target(sim, slice(None))


@dataclass(frozen=True)
class PusherV5(Task):
    xml_file: str = "pusher_v5.xml"
    frame_skip: int = 5
    reward_near_weight: float = 0.5
    reward_dist_weight: float = 1
    reward_control_weight: float = 0.1
    derived: ClassVar[tuple[str, ...]] = ("xpos",)

    def draw(self, rng: Random, sim: Simulations) -> tuple[Array, Array]:
        def cylinder(shape: tuple[int, ...]) -> Array:
            x = rng.uniform(low=-0.3, high=0, size=(*shape, 1))
            return sim.xp.concatenate((x, rng.uniform(low=-0.2, high=0.2, size=(*shape, 1))), axis=-1)

        qpos = _copy(sim.init_qpos)
        qpos[..., -4:-2] = _accepted(sim, cylinder, lambda place: _norm(place) > 0.17)
        qpos[..., -2:] = 0  # the goal
        qvel = sim.init_qvel + rng.uniform(low=-0.005, high=0.005, size=sim.init_qvel.shape)
        qvel[..., -4:] = 0
        return qpos, qvel

    def observe(self, sim: Simulations, rows: Rows) -> Array:
        bodies = [sim.body(name, rows) for name in ("tips_arm", "object", "goal")]
        return sim.xp.concatenate((sim.qpos[rows, :7], sim.qvel[rows, :7], *bodies), axis=1)

    def outcome(self, sim: Simulations, before: Array | None, actions: Array, obs: Array) -> Outcome:
        thing = sim.body("object")
        reward_near = -_norm(thing - sim.body("tips_arm")) * self.reward_near_weight
        reward_dist = -_norm(thing - sim.body("goal")) * self.reward_dist_weight
        reward_ctrl = -_square_sum(actions) * self.reward_control_weight
        info = {"reward_dist": reward_dist, "reward_ctrl": reward_ctrl, "reward_near": reward_near}
        return Outcome(reward_dist + reward_ctrl + reward_near, _never(reward_dist, sim), info)


@dataclass(frozen=True)
class InvertedPendulumV5(Task):
    xml_file: str = "inverted_pendulum.xml"
    frame_skip: int = 2
    reset_noise_scale: float = 0.01

    def outcome(self, sim: Simulations, before: Array | None, actions: Array, obs: Array) -> Outcome:
        terminated = ~sim.xp.isfinite(obs).all(1) | (abs(obs[:, 1]) > 0.2)
        rewards = sim.xp.where(terminated, 0, 1)
        return Outcome(rewards, terminated, {"reward_survive": rewards})


@dataclass(frozen=True)
class InvertedPendulumV4(InvertedPendulumV5):
    def outcome(self, sim: Simulations, before: Array | None, actions: Array, obs: Array) -> Outcome:
        # v4 pays the step that ends the episode too.
        terminated = super().outcome(sim, before, actions, obs).terminated
        return Outcome(sim.xp.ones_like(obs[:, 0]), terminated, {})


@dataclass(frozen=True)
class InvertedDoublePendulumV5(Task):
    xml_file: str = "inverted_double_pendulum.xml"
    frame_skip: int = 5
    healthy_reward: float = 10.0
    reset_noise_scale: float = 0.1
    derived: ClassVar[tuple[str, ...]] = ("site_xpos", "qfrc_constraint")
    normal_velocity: ClassVar[bool] = True
    n_forces: ClassVar[int] = 1

    def observe(self, sim: Simulations, rows: Rows) -> Array:
        angles = sim.qpos[rows, 1:]
        forces = sim.derived["qfrc_constraint"][rows].clip(-10, 10)[:, : self.n_forces]
        parts = (sim.qpos[rows, :1], sim.xp.sin(angles), sim.xp.cos(angles), sim.qvel[rows].clip(-10, 10), forces)
        return sim.xp.concatenate(parts, axis=1)

    def outcome(self, sim: Simulations, before: Array | None, actions: Array, obs: Array) -> Outcome:
        x, y = sim.derived["site_xpos"][:, 0, 0], sim.derived["site_xpos"][:, 0, 2]
        v1, v2 = sim.qvel[:, 1], sim.qvel[:, 2]
        # float_power calls pow() as gymnasium's scalars do; an array's ** 2 multiplies, which may round otherwise.
        power = sim.xp.float_power
        distance = 0.01 * power(x, 2) + power(y - 2, 2)
        velocity = 0.001 * power(v1, 2) + 0.005 * power(v2, 2)
        terminated = y <= 1
        survive = self.healthy_reward * ~terminated
        info = {"reward_survive": survive, "distance_penalty": -distance, "velocity_penalty": -velocity}
        return Outcome(survive - distance - velocity, terminated, info)


@dataclass(frozen=True)
class InvertedDoublePendulumV4(InvertedDoublePendulumV5):
    n_forces: ClassVar[int] = 3

    def outcome(self, sim: Simulations, before: Array | None, actions: Array, obs: Array) -> Outcome:
        _, terminated, info = super().outcome(sim, before, actions, obs)
        return Outcome(10 + info["distance_penalty"] + info["velocity_penalty"], terminated, {})


TASKS: dict[str, type[Task]] = {
    "HalfCheetah-v4": HalfCheetahV4,
    "HalfCheetah-v5": HalfCheetahV5,
    "Hopper-v4": HopperV4,
    "Hopper-v5": HopperV5,
    "Walker2d-v4": Walker2dV4,
    "Walker2d-v5": Walker2dV5,
    "Swimmer-v4": SwimmerV4,
    "Swimmer-v5": SwimmerV5,
    "Ant-v4": AntV4,
    "Ant-v5": AntV5,
    "Humanoid-v4": HumanoidV4,
    "Humanoid-v5": HumanoidV5,
    "HumanoidStandup-v4": HumanoidStandupV4,
    "HumanoidStandup-v5": HumanoidStandupV5,
    "Reacher-v4": ReacherV4,
    "Reacher-v5": ReacherV5,
    "Pusher-v5": PusherV5,  # gymnasium's Pusher-v4 doesn't run on MuJoCo 3 or later
    "InvertedPendulum-v4": InvertedPendulumV4,
    "InvertedPendulum-v5": InvertedPendulumV5,
    "InvertedDoublePendulum-v4": InvertedDoublePendulumV4,
    "InvertedDoublePendulum-v5": InvertedDoublePendulumV5,
}
