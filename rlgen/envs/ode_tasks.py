"""Exploration tasks of classic control (Houthooft et al. 2016), as differential equations of many rows at once.

All are sparse but `DenseMountainCar`. The originals run on Box2D inside rllab; here the same bodies, forces and rewards
are equations of motion. As there, an action in [-1, 1] is scaled to the force, gravity is 10 m/s^2 and a control step
0.05 s. States are component first, `[D, n]`, so that `x, v = state` reads as in the equations and each component is
contiguous.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rlgen.envs.tasks import Array

_GRAVITY = 10.0  # m/s^2, Box2D's world in rllab


@dataclass(frozen=True)
class OdeTask:
    """One task: how a state starts, moves, is observed and pays.

    Attributes:
        force: newtons at action 1.
        dt: seconds of a control step, over which the force is constant.
        reachable_return: of a sparse task: what a scripted policy gets in 500 steps.
    """

    force: float = 1.0
    dt: ClassVar[float] = 0.05
    reachable_return: ClassVar[float | None] = None

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> Array:
        """An initial state `[D]`."""

    @abstractmethod
    def derivative(self, state: Array, force: Array) -> Array:
        """Time derivative `[D, n]` of states `[D, n]` under forces `[n]`."""

    @abstractmethod
    def observe(self, state: Array) -> Array:
        """A fresh array of observations `[n, O]`."""

    @abstractmethod
    def outcome(self, state: Array) -> tuple[Array, Array]:
        """Rewards `[n]` and terminated `[n]` of the states after a step."""


@dataclass(frozen=True)
class SparseMountainCar(OdeTask):
    """A car too weak for the hill, paid once, at the top.

    State (x, v), v the speed along the track y = 1 - cos(pi x / 2), with slope y' and c = 1 / sqrt(1 + y'^2):

        dx/dt = v c,    dv/dt = F / m - g y' c - b v.

    Observation (x, dx/dt) in m, m/s. Start: x = 0, v ~ U(-1, 1). Reward 1 and the end at x >= 0.6 or `|x| >= 2`: as in
    the original the left edge pays too.

    Attributes:
        damping: b, 1/s; at 0.65 a swing decays much as on the original's Box2D track. Without it random actions find
            the reward.
    """

    reachable_return: ClassVar[float | None] = 1.0
    mass: ClassVar[float] = 0.4  # kg
    damping: float = 0.65

    def draw(self, rng: np.random.Generator) -> Array:
        return np.array([0.0, rng.uniform(-1, 1)])

    @staticmethod
    def slope(x: Array) -> tuple[Array, Array]:
        """`(y', c)`, each `[n]`."""
        slope = np.pi / 2 * np.sin(np.pi / 2 * x)
        return slope, 1 / np.sqrt(1 + slope * slope)

    def derivative(self, state: Array, force: Array) -> Array:
        x, v = state
        slope, c = self.slope(x)
        return np.array((v * c, force / self.mass - _GRAVITY * slope * c - self.damping * v))

    def observe(self, state: Array) -> Array:
        x, v = state
        return np.array((x, v * self.slope(x)[1])).T

    def outcome(self, state: Array) -> tuple[Array, Array]:
        x = state[0]
        goal = (x >= 0.6) | (np.abs(x) >= 2)
        return goal.astype(np.float64), goal


@dataclass(frozen=True)
class DenseMountainCar(SparseMountainCar):
    """The same car, paid -1 + y a step, y = 1 - cos(pi x / 2) its height in m."""

    reachable_return: ClassVar[float | None] = None

    def outcome(self, state: Array) -> tuple[Array, Array]:
        _, goal = super().outcome(state)
        return -np.cos(np.pi / 2 * state[0]), goal


@dataclass(frozen=True)
class SparseCartPoleSwingup(OdeTask):
    """A pole to be swung up by its cart, paid 1 a step while cos(theta) > 0.8.

    State (x, dx/dt, theta, dtheta/dt); theta is 0 upright, counter-clockwise and never wrapped. With the cart's mass M,
    the pole's m, the distance l from pivot to centre, and the pole's inertia J about the pivot:

        (M + m) x'' - m l (theta'' cos(theta) - theta'^2 sin(theta)) = F
        J theta'' - m l x'' cos(theta) - m g l sin(theta) = 0.

    Observation: the state, in m, m/s, rad, rad/s. Start: x ~ U(-1, 1), x' ~ U(-2, 2), theta ~ pi + U(-1, 1),
    theta' ~ U(-3, 3). The end at `|x| > 3`, without reward. The original moves only the cart at a reset, and its joint
    then snaps the pole into place; here the pole starts where it was drawn, and some starts pay a random policy.
    """

    force: float = 10.0
    reachable_return: ClassVar[float | None] = 454.0
    cart_mass: ClassVar[float] = 1.0  # kg
    pole_mass: ClassVar[float] = 0.1  # kg
    to_centre: ClassVar[float] = 0.5  # m
    pole_inertia: ClassVar[float] = 0.1 * (1.0**2 + 0.1**2) / 12 + 0.1 * 0.5**2  # kg m^2: a 1.0 x 0.1 m box at its end

    def draw(self, rng: np.random.Generator) -> Array:
        return np.array([0, 0, np.pi, 0]) + rng.uniform([-1, -2, -1, -3], [1, 2, 1, 3])

    def derivative(self, state: Array, force: Array) -> Array:
        _, velocity, theta, spin = state
        mass, moment = self.cart_mass + self.pole_mass, self.pole_mass * self.to_centre
        sin, cos = np.sin(theta), np.cos(theta)
        # Linear in the accelerations: [[mass, -coupling], [-coupling, J]] (x'', theta'') = (push, fall).
        coupling = moment * cos
        push = force - moment * spin * spin * sin
        fall = moment * _GRAVITY * sin
        determinant = mass * self.pole_inertia - coupling * coupling
        acceleration = (self.pole_inertia * push + coupling * fall) / determinant
        angular = (coupling * push + mass * fall) / determinant
        return np.array((velocity, acceleration, spin, angular))

    def observe(self, state: Array) -> Array:
        return state.T.copy()

    def outcome(self, state: Array) -> tuple[Array, Array]:
        outside = np.abs(state[0]) > 3
        return (~outside & (np.cos(state[2]) > 0.8)).astype(np.float64), outside


@dataclass(frozen=True)
class SparseCartPoleSwingupHard(SparseCartPoleSwingup):
    """The same cart and pole with less luck: half the force, and the pole hangs at rest, theta ~ pi + U(-.05, .05).

    Observation (x, x', cos(theta), sin(theta), theta'), which doesn't count turns. The cart starts at x = 0, at rest.
    """

    force: float = 5.0
    reachable_return: ClassVar[float | None] = 426.0

    def draw(self, rng: np.random.Generator) -> Array:
        return np.array([0, 0, np.pi + rng.uniform(-0.05, 0.05), 0])

    def observe(self, state: Array) -> Array:
        x, velocity, theta, spin = state
        return np.array((x, velocity, np.cos(theta), np.sin(theta), spin)).T


ODE_TASKS: dict[str, type[OdeTask]] = {
    "rlgen/SparseMountainCar-v0": SparseMountainCar,
    "rlgen/DenseMountainCar-v0": DenseMountainCar,
    "rlgen/SparseCartPoleSwingup-v0": SparseCartPoleSwingup,
    "rlgen/SparseCartPoleSwingupHard-v0": SparseCartPoleSwingupHard,
}
