"""Sparse exploration tasks on MuJoCo (Houthooft et al. 2016): a half-cheetah paid far from its start, and gathering.

The originals are rllab's; both read the state after the step, where gymnasium's tasks read derived fields from before
the last substep.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import mujoco
import numpy as np
from gymnasium.envs.mujoco.mujoco_env import expand_model_path

from rlgen.envs.tasks import Array, Outcome, Random, Rows, Simulations, Task


class RllabTask(Task):
    """What rllab's MuJoCo tasks share: the noise of a reset, and the torso's centre of mass.

    Start: qpos ~ N(0, 0.01^2), qvel ~ N(0, 0.1^2) around the model's own.

    Attributes:
        reachable_return: what a scripted policy gets in 500 steps, where one is known.
    """

    reachable_return: ClassVar[float | None] = None
    derived: ClassVar[tuple[str, ...]] = ("subtree_com",)
    stage: ClassVar[int] = int(mujoco.mjtStage.mjSTAGE_POS)

    def draw(self, rng: Random, sim: Simulations) -> tuple[Array, Array]:
        qpos = sim.init_qpos + 0.01 * rng.standard_normal(sim.init_qpos.shape)
        return qpos, sim.init_qvel + 0.1 * rng.standard_normal(sim.init_qvel.shape)

    def centre(self, sim: Simulations, rows: Rows = slice(None)) -> Array:
        """Centre of mass `[n, 3]` of the whole body, in m."""
        return sim.derived["subtree_com"][rows, sim.body_ids["torso"]]


@dataclass(frozen=True)
class SparseHalfCheetah(RllabTask):
    """Reward 1 in every step in which the centre of mass is beyond 5 m; never terminated.

    Observation `[20]`: qpos without x, qvel, centre of mass (with its absolute x). A step is one substep of 0.01 s, so
    an episode is 5 s. gymnasium's half_cheetah.xml has the physics of rllab's.

    Attributes:
        frame_skip: substeps a step, 5 in gymnasium's own tasks.
        goal: x in m.
    """

    reachable_return: ClassVar[float | None] = 208.0
    xml_file: str = "half_cheetah.xml"
    frame_skip: int = 1
    goal: float = 5.0

    def observe(self, sim: Simulations, rows: Rows) -> Array:
        return sim.xp.concatenate((sim.qpos[rows, 1:], sim.qvel[rows], self.centre(sim, rows)), axis=1)

    def outcome(self, sim: Simulations, before: Array | None, actions: Array, obs: Array) -> Outcome:
        beyond = self.centre(sim)[:, 0] > self.goal
        return Outcome(sim.xp.where(beyond, 1.0, 0.0), sim.xp.zeros_like(beyond), {})


@dataclass(frozen=True)
class SwimmerGather(RllabTask):
    """A swimmer among 8 apples, +1 each, and 8 bombs, -1 each, which it catches by coming within 1 m.

    Observation `[33]`: qpos (5), qvel (5), centre of mass (3), then 10 sensor bins for apples and 10 for bombs. The
    sensor spans pi around the first link's heading, right to left; a bin holds 1 - d / 6 of its nearest thing at a
    distance d of at most 6 m, or 0. Start: things on distinct points of the grid {-6, -4, ..., 4}^2, 2 m or more from
    the origin. The end: nothing is left.

    The model is gymnasium's swimmer.xml as in rllab: 50 substeps of 0.001 s by Euler's method, torques of 50 N m, no
    armature, no collisions. Things live in the simulation's `userdata`: 16 x, 16 y, then 16 flags of what is left.
    """

    xml_file: str = "swimmer.xml"
    frame_skip: int = 50
    derived: ClassVar[tuple[str, ...]] = (*RllabTask.derived, "userdata")
    n_apples: ClassVar[int] = 8
    n_things: ClassVar[int] = 16
    n_bins: ClassVar[int] = 10
    catch_radius: ClassVar[float] = 1.0  # m
    sensor_range: ClassVar[float] = 6.0  # m
    sensor_span: ClassVar[float] = np.pi  # rad

    def model(self) -> mujoco.MjModel:
        spec = mujoco.MjSpec.from_file(expand_model_path(self.xml_file))
        spec.option.timestep = 0.001
        spec.option.integrator = mujoco.mjtIntegrator.mjINT_EULER
        for joint in spec.joints:
            joint.armature = 0
        for actuator in spec.actuators:
            actuator.gear[0] = 50
        spec.nuserdata = 3 * self.n_things
        return spec.compile()

    def place(self, rng: np.random.Generator, sim: Simulations, row: int) -> None:
        grid = np.stack(np.meshgrid(np.arange(-6.0, 6, 2), np.arange(-6.0, 6, 2)), axis=-1).reshape(-1, 2)
        grid = grid[np.square(grid).sum(1) >= 2**2]
        x, y = rng.permutation(grid)[: self.n_things].T
        sim.derived["userdata"][row] = np.concatenate((x, y, np.ones(self.n_things)))
        super().place(rng, sim, row)

    def around(self, sim: Simulations, rows: Rows) -> tuple[Array, Array, Array, Array, Array]:
        """Of each thing `[n, 16]`: offset in x, in y, squared distance, whether it's caught in this state, or left."""
        x, y, there = np.split(sim.derived["userdata"][rows], 3, axis=1)
        centre = self.centre(sim, rows)
        dx, dy = x - centre[:, :1], y - centre[:, 1:2]
        square = dx * dx + dy * dy
        near = square < self.catch_radius**2
        return dx, dy, square, (there == 1) & near, (there == 1) & ~near

    def observe(self, sim: Simulations, rows: Rows) -> Array:
        dx, dy, square, _, left = self.around(sim, rows)  # what this step catches isn't sensed any more
        distance = np.sqrt(square)
        angle = (np.arctan2(dy, dx) - sim.qpos[rows, 2:3] + np.pi) % (2 * np.pi) - np.pi
        seen = left & (distance <= self.sensor_range) & (np.abs(angle) <= self.sensor_span / 2)
        bins = np.floor((angle / self.sensor_span + 0.5) * self.n_bins).clip(0, self.n_bins - 1)
        strength = np.where(seen, 1 - distance / self.sensor_range, 0)
        readings = np.where(bins[..., None] == np.arange(self.n_bins), strength[..., None], 0)
        apples, bombs = np.split(readings, [self.n_apples], axis=1)
        # The nearest thing of a bin gives its strongest reading.
        sensors = (apples.max(axis=1), bombs.max(axis=1))
        return np.concatenate((sim.qpos[rows], sim.qvel[rows], self.centre(sim, rows), *sensors), axis=1)

    def outcome(self, sim: Simulations, before: Array | None, actions: Array, obs: Array) -> Outcome:
        *_, caught, left = self.around(sim, slice(None))
        sim.derived["userdata"][:, -self.n_things :] = left
        apples, bombs = np.split(caught, [self.n_apples], axis=1)
        return Outcome((apples.sum(1) - bombs.sum(1)).astype(np.float64), left.sum(1) == 0, {})


SPARSE_MUJOCO_TASKS: dict[str, type[RllabTask]] = {
    "rlgen/SparseHalfCheetah-v0": SparseHalfCheetah,
    "rlgen/SwimmerGather-v0": SwimmerGather,
}
