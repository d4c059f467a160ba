"""Spaces: any gymnasium space as a flat vector, actions in units of their space, and both as JSON.

Whatever sees observations or actions asks this module, so that a space is understood in one place: in its order, by its
names, in its dtype and bounds.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from rlgen.errors import UsageError
from rlgen.files import check

Array = npt.NDArray[Any]
Space = gym.Space[Any]

MAX_ELEMENTS = 1 << 20


def float_dtype(dtype: Any) -> np.dtype[Any]:
    """The float that holds a dtype's values: float64 for float64 and integers of 32 bits and more, else float32."""
    return np.dtype(np.float64 if np.result_type(np.dtype(dtype), np.float32) == np.float64 else np.float32)


class FlatBox(spaces.Box):
    """The flat vector `[D]` of any space's elements, which remembers the space.

    Boxes and MultiBinary are raveled, Discrete and MultiDiscrete coded one-hot, the parts of Dict and Tuple joined in
    the space's own order: what `gymnasium.spaces.flatten` gives, also for many elements at a time.

    Attributes:
        original: the space itself.
        columns: name and width of each part, in order; nested names are joined by "/", a space of one part has "".

    Args:
        original: Box, Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of them.

    Raises:
        UsageError: the space can't be flattened, or has no elements.
    """

    def __init__(self, original: Space) -> None:
        self._leaves = list(_leaves(original))
        self.original = original
        self.columns: Columns = tuple((name, spaces.flatdim(leaf)) for name, _, leaf in self._leaves)
        if not sum(width for _, width in self.columns):
            raise UsageError(f"the observation space has no elements: {original}")
        dtype = np.result_type(*(float_dtype(leaf.dtype) for _, _, leaf in self._leaves))
        flat: Any = spaces.flatten_space(original)
        super().__init__(flat.low.astype(dtype), flat.high.astype(dtype), dtype=dtype.type)

    def flatten(self, value: Any, n: int) -> Array:
        """The rows `[n, D]` of `n` elements, each part stacked along its first axis, as vector environments give them.

        A new array, also where the elements are flat already. One element alone is `flatten(value, 1)[0]`.
        """
        parts = []
        for _, path, leaf in self._leaves:
            part = value
            for key in path:
                part = part[key]
            parts.append(_code(leaf, np.asarray(part), n))
        return np.concatenate(parts, axis=1, dtype=self.dtype)

    def coded(self, rows: Array, found: Columns) -> tuple[Array, Array | None]:
        """Rows `[n, D]` of this space out of rows with one number for each index, whose parts are found by name.

        Args:
            rows: `[n, K]`, the parts one after the other in any order.
            found: their names and widths.

        Returns:
            The rows, and where each of their columns was among the K; None if parts were coded one-hot.

        Raises:
            ValueError: parts differ by name or width, or a number is no index of its part.
        """
        raw = {name: math.prod(leaf.shape or ()) for name, _, leaf in self._leaves}
        order = column_order(found, tuple(raw.items()))
        stops = np.cumsum(list(raw.values()))
        parts = np.split(rows[:, order], stops[:-1], 1)
        codes = [_code(leaf, part, len(rows)) for (_, _, leaf), part in zip(self._leaves, parts, strict=True)]
        for (name, _, leaf), code in zip(self._leaves, codes, strict=True):
            if isinstance(leaf, spaces.Discrete | spaces.MultiDiscrete) and not (code.sum(1) == raw[name]).all():
                raise ValueError(f"{name or 'observation'} has values that are none of {leaf}")
        coded = np.concatenate(codes, axis=1, dtype=self.dtype)
        return coded, order if coded.shape[1] == rows.shape[1] else None

    def uncoded(self, rows: Array) -> tuple[Array, Columns, Array]:
        """Rows with one number for each index, as the space has it, in place of its one-hot code.

        Args:
            rows: `[n, D]`.

        Returns:
            The rows `[n, K]`, name and width of each part, and which of the K are indices.
        """
        parts, columns, indices = [], [], []
        stops = np.cumsum([width for _, width in self.columns])
        for (name, _, leaf), part in zip(self._leaves, np.split(rows, stops[:-1], 1), strict=True):
            if coded := isinstance(leaf, spaces.Discrete | spaces.MultiDiscrete):
                codes = np.split(part, np.cumsum(_sizes(leaf))[:-1], 1)
                part = np.stack([code.argmax(1) for code in codes], 1) + np.ravel(leaf.start)
            parts.append(part)
            columns.append((name, part.shape[1]))
            indices += [coded] * part.shape[1]
        return np.concatenate(parts, axis=1, dtype=rows.dtype), tuple(columns), np.array(indices)

    def rows(self, value: Any) -> tuple[Array, bool]:
        """Rows `[N, D]` of one element or of several stacked, flat or of the original space, and whether it is one.

        Raises:
            UsageError: it is neither.
        """
        first = value
        for key in self._leaves[0][1] if isinstance(value, Mapping | tuple) else ():
            first = first[key]
        shape, element = np.shape(first), self._leaves[0][2].shape or ()
        flat = first is value and (self.original.shape == self.shape or np.asarray(value).dtype.kind == "f")
        if flat and shape[-1:] == self.shape and len(shape) <= 2:
            return np.atleast_2d(value), len(shape) == 1
        single = shape == element
        if (first is value) == isinstance(self.original, spaces.Dict | spaces.Tuple) or shape[not single :] != element:
            raise UsageError(f"an observation of shape {shape} is not of {self.original}")
        return self.flatten(value, 1 if single else len(first)), single


def flat_box(space: Space) -> FlatBox:
    """The flat form of a space; a `FlatBox` is its own."""
    return space if isinstance(space, FlatBox) else FlatBox(space)


Columns = tuple[tuple[str, int], ...]
"""Name and width of each part of flat observations, in order."""


def column_order(found: Columns, wanted: Columns) -> Array:
    """Where each wanted column lies among those found, `[D]`: parts are matched by name, never by position.

    Raises:
        ValueError: the names or widths differ; the message lists them.
    """
    if dict(found) != dict(wanted):
        told = [
            ", ".join(f"{name or 'observation'} ({width})" for name, width in columns) for columns in (found, wanted)
        ]
        raise ValueError(f"its parts are {told[0]}; the environment's are {told[1]}")
    stops = np.cumsum([width for _, width in found])
    places = {name: np.arange(stop - width, stop) for (name, width), stop in zip(found, stops, strict=True)}
    return np.concatenate([places[name] for name, _ in wanted])


class ActionUnits:
    """How a policy acts in a space: continuous actions in units of the space, all others by index.

    A bounded dimension of a Box has the unit (high - low) / 2 around its centre, so that -1 and 1 are its bounds. One
    bounded on one side starts a unit of 1 from its bound, an unbounded one has unit 1 around 0; bounds at the limits of
    the dtype count as none.

    Attributes:
        space: the space.
        sizes: number of choices of each index; None for a Box.
        n_outputs: of a policy network: a mean for each dimension of a Box, a logit for each choice.
        sample_shape: of what a policy samples: `[A]` for a Box, `[]` for Discrete, `[K]` for several indices.
        centre: of a Box, `[A]` float64.
        half_range: likewise.
        start: of the indices, `[K]` int64.
        low: the least actions in the environment's own units, `[A]` or `[K]`, in the space's dtype.
        high: the largest ones, likewise.
        stored_dtype: what transitions and datasets hold actions as: int64, or a float as precise as the space's.

    Args:
        space: Box, Discrete, MultiDiscrete or MultiBinary.

    Raises:
        UsageError: another space, or one without elements.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self.sizes: tuple[int, ...] | None = None
        self.start = np.zeros(0, np.int64)
        self.centre = self.half_range = np.zeros(0)
        match space:
            case spaces.Box():
                self.low, self.high = space.low.ravel(), space.high.ravel()
                self.centre, self.half_range = _units(space)
                self.n_outputs = self.centre.size
            case spaces.Discrete():
                self.sizes, self.start = (int(space.n),), np.array([space.start], np.int64)
            case spaces.MultiDiscrete():
                self.sizes = tuple(int(n) for n in space.nvec.ravel())
                self.start = np.asarray(space.start, np.int64).ravel()
            case spaces.MultiBinary():
                self.sizes = (2,) * math.prod(space.shape)
                self.start = np.zeros(len(self.sizes), np.int64)
            case _:
                raise UsageError(
                    f"actions must be a Box, Discrete, MultiDiscrete or MultiBinary; got {space}. Wrap the environment "
                    "in a gymnasium.ActionWrapper whose action space is one of these"
                )
        if self.sizes is not None:
            self.n_outputs = sum(self.sizes)
            self.low, self.high = self.start, self.start + np.array(self.sizes, np.int64) - 1
        if not self.n_outputs:
            raise UsageError(f"the action space has no elements: {space}")
        self.sample_shape: tuple[int, ...] = (
            () if isinstance(space, spaces.Discrete) else (len(self.sizes or self.centre),)
        )
        self.sample_dtype: Any = np.float32 if self.sizes is None else np.int64
        integer = self.sizes is not None or np.dtype(space.dtype).kind in "iub"
        self.stored_dtype: Any = np.int64 if integer else float_dtype(space.dtype).type

    @property
    def bounds(self) -> tuple[Array, Array]:
        """The least and the largest action of a Box in its units, `[A]` each; infinite where there is none."""
        if self.sizes is not None:
            return self.centre, self.centre
        low, high = ((bound.astype(np.float64) - self.centre) / self.half_range for bound in (self.low, self.high))
        return low, high

    def execute(self, samples: Array) -> Array:
        """The actions `[N, *shape]` for samples `[N, *sample_shape]`: in the space, dtype and bounds as declared."""
        if self.sizes is not None:
            actions = samples + (self.start[0] if samples.ndim == 1 else self.start)
            return actions.reshape(len(samples), *self.space.shape).astype(self.space.dtype, copy=False)  # type: ignore[misc]
        dtype: np.dtype[Any] = np.dtype(self.space.dtype)
        exact = float_dtype(dtype)
        actions = samples * self.half_range.astype(exact) + self.centre.astype(exact)
        if dtype.kind in "iub":
            # By way of int64, in which the bounds are exact.
            actions = np.clip(np.rint(actions), -(2.0**62), 2.0**62).astype(np.int64)
        else:
            actions = actions.astype(dtype, copy=False)
        actions = np.clip(actions, self.low, self.high).astype(dtype, copy=False)
        return actions.reshape(len(samples), *self.space.shape)  # type: ignore[misc]


def _units(space: spaces.Box) -> tuple[Array, Array]:
    """Centre and half-range of each dimension of a Box, `[A]` float64."""
    low, high = (bound.ravel().astype(np.float64) for bound in (space.low, space.high))
    dtype = np.dtype(space.dtype)
    limits: Any = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype) if dtype.kind == "i" else None
    below, above = space.bounded_below.ravel().copy(), space.bounded_above.ravel().copy()
    if limits is not None:
        below &= low > float(limits.min)
        above &= high < float(limits.max)
    low, high = np.where(below, low, 0.0), np.where(above, high, 0.0)
    both = below & above
    centre = np.where(both, low + (high - low) / 2, np.where(below, low + 1, np.where(above, high - 1, 0.0)))
    half_range = np.where(both & (high > low), (high - low) / 2, 1.0)
    return centre, half_range


def _leaves(space: Space, name: str = "", path: tuple[Any, ...] = ()) -> Iterator[tuple[str, tuple[Any, ...], Space]]:
    """Name, keys and space of each part, in order."""
    match space:
        case spaces.Dict():
            for key, part in space.spaces.items():
                yield from _leaves(part, f"{name}/{key}" if name else str(key), (*path, key))
        case spaces.Tuple():
            for i, part in enumerate(space.spaces):
                yield from _leaves(part, f"{name}/{i}" if name else str(i), (*path, i))
        case spaces.Box() | spaces.Discrete() | spaces.MultiDiscrete() | spaces.MultiBinary():
            yield name, path, space
        case _:
            raise UsageError(
                f"observations must be a Box, Discrete, MultiDiscrete or MultiBinary, or a Dict or Tuple of them; got "
                f"{space}. Wrap the environment in a gymnasium.ObservationWrapper that gives one of these"
            )


def _code(leaf: Space, values: Array, n: int) -> Array:
    """Rows `[n, width]` of `n` stacked elements of a part."""
    if not isinstance(leaf, spaces.Discrete | spaces.MultiDiscrete):
        return values.reshape(n, -1)
    indices = values.reshape(n, -1) - np.ravel(leaf.start)
    return np.concatenate([indices[:, [k]] == np.arange(size) for k, size in enumerate(_sizes(leaf))], 1)


def _sizes(leaf: spaces.Discrete | spaces.MultiDiscrete) -> Array:
    """How many choices each index has."""
    return np.ravel(leaf.n if isinstance(leaf, spaces.Discrete) else leaf.nvec)


def describe_space(space: Space) -> dict[str, Any]:
    """A space as a JSON object; bounds that all are the same are one number, infinite ones null.

    Raises:
        UsageError: a kind of space that no policy is made for.
    """
    match space:
        case FlatBox():
            return describe_space(space.original)
        case spaces.Box():
            low, high = (_describe_bound(bound) for bound in (space.low, space.high))
            return {"type": "Box", "shape": list(space.shape), "low": low, "high": high, "dtype": str(space.dtype)}
        case spaces.Discrete():
            return {"type": "Discrete", "n": int(space.n), "start": int(space.start)}
        case spaces.MultiDiscrete():
            return {
                "type": "MultiDiscrete",
                "nvec": space.nvec.tolist(),
                "start": np.asarray(space.start).tolist(),
                "dtype": str(space.dtype),
            }
        case spaces.MultiBinary():
            return {"type": "MultiBinary", "shape": list(space.shape)}
        case spaces.Dict():
            named = [[str(key), describe_space(part)] for key, part in space.spaces.items()]
            return {"type": "Dict", "spaces": named}
        case spaces.Tuple():
            return {"type": "Tuple", "spaces": [describe_space(part) for part in space.spaces]}
        case _:
            raise UsageError(f"a space of this kind can't be stored: {space}")


_SIZE, _START = range(MAX_ELEMENTS + 1), range(-(1 << 62), (1 << 62) + 1)
_DTYPE = re.compile("float(16|32|64)|u?int(8|16|32|64)|bool")
_SCHEMAS: dict[str, dict[str, Any]] = {
    "Box": {"shape": [_SIZE], "dtype?": _DTYPE},
    "Discrete": {"n": range(1, MAX_ELEMENTS + 1), "start?": _START},
    "MultiDiscrete": {"nvec": list, "start": list, "dtype?": re.compile("u?int(8|16|32|64)")},
    "MultiBinary": {"shape": [_SIZE]},
    "Dict": {"spaces": [[(str, dict)]]},
    "Tuple": {"spaces": [dict]},
}


def described_space(description: Any) -> Space:
    """The space that a JSON value describes, checked before anything of its size is made.

    Raises:
        ValueError: it describes none; the message says what is wrong.
    """
    check(description, {"type": str}, "space")
    kind = description["type"]
    if kind not in _SCHEMAS:
        raise ValueError(f"a space's type is {kind!r:.80}; must be one of {', '.join(_SCHEMAS)}")
    check(description, _SCHEMAS[kind], kind)
    shape = description.get("shape", [])
    if math.prod(shape) > MAX_ELEMENTS or len(shape) > 16:
        raise ValueError(f"a space of shape {shape!r:.80}; at most {MAX_ELEMENTS} elements are read")
    match kind:
        case "Box":
            dtype = np.dtype(description.get("dtype", "float32"))
            low, high = (_bound(description.get(side), shape, dtype, side) for side in ("low", "high"))
            if (low > high).any():
                raise ValueError("a Box's low is above its high")
            return spaces.Box(low, high, dtype=dtype.type)
        case "Discrete":
            return spaces.Discrete(description["n"], start=description.get("start", 0))
        case "MultiDiscrete":
            try:
                nvec, start = np.array(description["nvec"]), np.array(description["start"])
                alike = nvec.shape == start.shape and nvec.dtype == start.dtype == np.int64
            except ValueError:  # lists of several lengths
                alike = False
            if not alike:
                raise ValueError("a MultiDiscrete's nvec and start must be whole numbers in lists of one shape")
            if nvec.min() < 1 or nvec.max() > MAX_ELEMENTS or nvec.sum() > MAX_ELEMENTS:
                raise ValueError(f"a MultiDiscrete's nvec must be at least 1 and sum to at most {MAX_ELEMENTS}")
            if any(x not in _START for x in start.ravel().tolist()):
                raise ValueError(f"a MultiDiscrete's start must be from {_START.start} to {_START.stop - 1}")
            return spaces.MultiDiscrete(nvec, dtype=np.dtype(description.get("dtype", "int64")).type, start=start)
        case "MultiBinary":
            return spaces.MultiBinary(shape if len(shape) != 1 else shape[0])
        case "Dict":
            named = description["spaces"]
            if any([type(x) for x in pair] != [str, dict] for pair in named) or len(dict(named)) < len(named):
                raise ValueError("a Dict's spaces must be a list of different names, each with its space")
            return spaces.Dict(OrderedDict((name, described_space(part)) for name, part in named))
        case _:
            return spaces.Tuple([described_space(part) for part in description["spaces"]])


def _describe_bound(bound: Array) -> Any:
    values = [None if np.isinf(x) else x for x in bound.ravel().tolist()]
    return values[0] if values and values.count(values[0]) == len(values) else values


def _bound(value: Any, shape: list[int], dtype: np.dtype[Any], side: str) -> Array:
    """A Box's bound of its shape, from one value or a flat list; null is infinite."""
    values = value if isinstance(value, list) else [value]
    check(values, [{"f": (None, float), "b": bool}.get(dtype.kind, range(-(1 << 63), 1 << 64))], f"Box.{side}")
    if isinstance(value, list) and len(values) != math.prod(shape):
        raise ValueError(f"a Box's {side} must be one value or {math.prod(shape)}; got {len(values)}")
    infinite = -np.inf if side == "low" else np.inf
    try:
        with np.errstate(over="raise"):
            bound = np.array([infinite if x is None else x for x in values], dtype)
    except (OverflowError, FloatingPointError):
        raise ValueError(f"a Box's {side} is beyond {dtype}") from None
    return bound.reshape(shape) if isinstance(value, list) else np.full(shape, bound[0])
