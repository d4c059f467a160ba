"""Environments of random spaces, dtypes, bounds, orders of keys and ends, for hypothesis; they keep what happened."""

from collections import OrderedDict

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from hypothesis import strategies as st

FLOATS = ("float16", "float32", "float64")
INTEGERS = ("int8", "uint8", "int16", "int32", "int64")


@st.composite
def boxes(draw):
    dtype = np.dtype(draw(st.sampled_from(FLOATS + INTEGERS)))
    shape = draw(st.sampled_from([(), (1,), (3,), (2, 2), (1, 2, 1)]))
    size = int(np.prod(shape, dtype=int))
    if dtype.kind == "f":
        centre, half = draw(st.sampled_from([0.0, 1.0, -37.0, 1000.0])), draw(st.sampled_from([1e-3, 0.4, 1.0, 100.0]))
        low, high = np.full(size, centre - half), np.full(size, centre + half)
        open_sides = draw(st.lists(st.sampled_from(["none", "low", "high", "both"]), min_size=size, max_size=size))
        low[[side in ("low", "both") for side in open_sides]] = -np.inf
        high[[side in ("high", "both") for side in open_sides]] = np.inf
    else:
        low = np.array([draw(st.integers(-3 if dtype.kind == "i" else 0, 3)) for _ in range(size)])
        high = low + np.array([draw(st.integers(0, 9)) for _ in range(size)])
    return spaces.Box(low.astype(dtype).reshape(shape), high.astype(dtype).reshape(shape), dtype=dtype.type)


discretes = st.builds(lambda n, start: spaces.Discrete(n, start=start), st.integers(1, 5), st.integers(-3, 3))
multi_discretes = st.lists(st.tuples(st.integers(1, 4), st.integers(-2, 2)), min_size=1, max_size=3).map(
    lambda pairs: spaces.MultiDiscrete([n for n, _ in pairs], start=[start for _, start in pairs])
)
multi_binaries = st.sampled_from([1, 3, (2, 2)]).map(spaces.MultiBinary)
leaves = st.one_of(boxes(), discretes, multi_discretes, multi_binaries)
observation_spaces = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=2).map(spaces.Tuple),
        st.dictionaries(st.sampled_from("zyxab"), inner, min_size=1, max_size=3).map(
            lambda parts: spaces.Dict(OrderedDict(parts))
        ),
    ),
    max_leaves=4,
)
unusable_spaces = st.sampled_from([spaces.Text(5), spaces.Sequence(spaces.Discrete(2)), spaces.Box(0, 1, (0,))])


class RandomEnv(gym.Env):
    """Observations are samples of the space, and may be handed out in arrays that are used again.

    Attributes:
        observations: copies of all that were given, `[episodes]` of lists.
        actions: all that were received, likewise.
    """

    def __init__(self, observation_space, action_space, length, ends, reuse):
        self.observation_space, self.action_space = observation_space, action_space
        self.length, self.ends, self.reuse = length, ends, reuse
        self.observations, self.actions = [], []
        self._given = None

    def _observe(self):
        found = self.observation_space.sample()
        self.observations[-1].append(_copied(found))
        if self.reuse and self._given is not None:
            found = _overwrite(self._given, found)
        self._given = found
        return found

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.observations.append([])
        self.actions.append([])
        return self._observe(), {}

    def step(self, action):
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        self.actions[-1].append(np.array(action))
        over = len(self.actions[-1]) >= self.length
        terminated, truncated = over and self.ends != "truncated", over and self.ends != "terminated"
        return self._observe(), float(self.np_random.normal()), terminated, truncated, {}


def _copied(value):
    if isinstance(value, dict):
        return {name: _copied(part) for name, part in value.items()}
    return tuple(map(_copied, value)) if isinstance(value, tuple) else np.array(value)


def _overwrite(kept, new):
    """Write a new observation into the arrays of one that was given before."""
    if isinstance(new, dict):
        return {name: _overwrite(kept[name], new[name]) for name in new}
    if isinstance(new, tuple):
        return tuple(_overwrite(k, n) for k, n in zip(kept, new, strict=True))
    if not isinstance(kept, np.ndarray):
        return new
    kept[...] = new
    return kept


@st.composite
def environments(draw):
    """Arguments of a `RandomEnv`."""
    return {
        "observation_space": draw(observation_spaces),
        "action_space": draw(leaves),
        "length": draw(st.integers(2, 5)),
        "ends": draw(st.sampled_from(["terminated", "truncated", "both"])),
        "reuse": draw(st.booleans()),
    }
