"""A log of one's own: which of its columns are observations, actions, rewards and episodes."""

from __future__ import annotations

import contextlib
import difflib
import math
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from rlgen.data.formats.recording import Array, Recording, ended, fail, split
from rlgen.data.formats.tables import Pick, Table, Wanted, read_table, table_files, table_parts
from rlgen.errors import DemonstrationError, UsageError
from rlgen.files import check, printable, read_regular

NAME = "log"
MAX_MAPPING_BYTES = 1 << 16
MAX_LABELS = 1 << 20

MANY = ("obs", "next_obs", "actions")
"""Fields of `LogMapping` that may be of several columns."""

Names = Sequence[str]
Place = tuple[str, str]
"""A field of `LogMapping`, and in a table of names the key."""


@dataclass(frozen=True)
class LogMapping:
    """Which columns of a log are what, by name.

    A name is that of a column or an array. Where a log has none of that name, it stands for numbered columns in the
    order of their numbers: `joint_pos` for `joint_pos_0` to `joint_pos_6`, also written `joint_pos[0]`, `joint_pos.0`
    or `joint_pos0`, from 0 or 1 on without gaps. Several ways of writing at once are refused.

    Attributes:
        obs: observations, or those of a Dict by key (`"a/b"` for a Dict in a Dict).
        actions: none of a log of states alone.
        next_obs: as `obs`; must be the next row's observation within an episode, and gives the last one's.
        rewards: the column of rewards; none of a log without.
        terminated: a column that is 1 where an episode ends in the task's own sense, in its last row.
        truncated: likewise where it is cut, as by a time limit.
        done: likewise where it ends, and the log doesn't tell how.
        episode: a column that changes where an episode begins, of numbers or text.
        label: a column with the mode that an episode is of, as of several people or styles, in each of its rows: a
            whole number from 0, or -1 where it isn't known.
        episodes: a pattern of an HDF5 file's groups, such as `data/*`, each an episode; names of arrays are then paths
            inside a group, such as `obs/joint_pos`.
        observation_space: what is told of the space in the notation of a manifest, such as `{"low": -1, "high": 1}`;
            by key as `obs`.
        action_space: likewise, such as `{"type": "Discrete", "n": 3}`.
    """

    obs: Mapping[str, Names]
    actions: Names = ()
    next_obs: Mapping[str, Names] = field(default_factory=dict)
    rewards: str | None = None
    terminated: str | None = None
    truncated: str | None = None
    done: str | None = None
    episode: str | None = None
    label: str | None = None
    episodes: str | None = None
    observation_space: Mapping[str, Any] | None = None
    action_space: Mapping[str, Any] | None = None

    @property
    def flags(self) -> list[str]:
        """Those of the flags that are told."""
        return [name for name in ("terminated", "truncated", "done") if getattr(self, name)]

    @property
    def ends(self) -> list[str]:
        """What of the mapping tells where episodes end."""
        return [*self.flags, *(name for name in ("episode", "episodes") if getattr(self, name))]

    def _places(self) -> Iterator[tuple[Place, Names]]:
        for part in ("obs", "next_obs"):
            yield from (((part, key), names) for key, names in getattr(self, part).items())
        if self.actions:
            yield ("actions", ""), self.actions
        yield from (
            ((name, ""), [getattr(self, name)]) for name in ("rewards", "label", *self.flags) if getattr(self, name)
        )

    def resolve(self, there: Sequence[str], where: str) -> dict[Place, list[str]]:
        """The columns at each place, of those that a table has.

        Raises:
            DemonstrationError: there is no such column, with those that there are, or more than one for a single one.
        """
        found = {place: [column for name in names for column in _find(name, there, where)]
                 for place, names in self._places()}  # fmt: skip
        if self.episode is not None:
            found["episode", ""] = _find(self.episode, there, where)
        for (part, _), columns in found.items():
            if len(columns) > 1 and part not in MANY:
                raise DemonstrationError(f"{where}: {part} must be one column; got {listed(columns)}")
        seen = [column for (part, _), columns in found.items() if part in ("obs", "actions") for column in columns]
        if twice := sorted({column for column in seen if seen.count(column) > 1}):
            raise DemonstrationError(f"{where}: {listed(twice)} is told twice among obs and actions")
        return found


def _find(name: str, there: Sequence[str], where: str) -> list[str]:
    """The column of a name, or the numbered ones that it stands for."""
    if name in there:
        return [name]
    ways: dict[str, list[tuple[int, str]]] = {}
    for column in there:
        if match := re.fullmatch(re.escape(name) + r"(?:([_.]?)(\d{1,9})|(\[)(\d{1,9})\])", column):
            ways.setdefault(match[3] or match[1], []).append((int(match[2] or match[4]), column))
    if not ways:
        stems = {re.sub(r"[_.\[]?\d+\]?$", "", column) for column in there}
        near = difflib.get_close_matches(name, {*there, *stems}, 1)
        hint = f"; did you mean {printable(near[0])}?" if near else ""
        raise DemonstrationError(f"{where}: no column or array {printable(name)}{hint}. There are {listed(there)}")
    if len(ways) > 1:
        columns = listed([column for numbered in ways.values() for _, column in numbered])
        raise DemonstrationError(
            f"{where}: {printable(name)} may be any of {columns}; tell each column by its own name"
        )
    (numbered,) = ways.values()
    numbered = sorted(numbered)
    first = min(numbered[0][0], 1)
    if [i for i, _ in numbered] != list(range(first, first + len(numbered))):
        columns = listed([column for _, column in numbered])
        raise DemonstrationError(f"{where}: {printable(name)} has gaps in its numbers, {columns}; name the columns")
    return [column for _, column in numbered]


def listed(names: Sequence[str]) -> str:
    """Names out of a file for an error, forty at most."""
    most = 40
    return printable(", ".join(names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")


def _check_names(value: Any) -> None:
    if not (isinstance(value, str) or (isinstance(value, list) and value and all(isinstance(x, str) for x in value))):
        raise ValueError(f"must be a column's name or a list of names; got {value!r:.60}")


def _check_parts(value: Any) -> None:
    for names in value.values() if isinstance(value, dict) and value else [value]:
        _check_names(names)


_ONE = dict.fromkeys(("rewards?", "terminated?", "truncated?", "done?", "episode?", "label?", "episodes?"), str)
_SCHEMA = {"obs": _check_parts, "next_obs?": _check_parts, "actions?": _check_names, **_ONE,
           "observation_space?": dict, "action_space?": dict}  # fmt: skip


def mapping_of(told: Mapping[str, Any], where: str) -> LogMapping:
    """The mapping that a table tells, out of TOML or of flags: its fields, where a list of one name may be the name.

    Raises:
        UsageError: a field that isn't there, of another type, or no `obs`.
    """
    known = [field.name for field in fields(LogMapping)]
    for name in told:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise UsageError(f"{where}: {printable(name)} says nothing of a log; {hint}")
    try:
        check(dict(told), _SCHEMA)
    except ValueError as error:
        raise UsageError(f"{where}: {printable(error)}") from None

    def parts(value: Any) -> dict[str, Names]:
        return {key: _list(names) for key, names in (value if isinstance(value, dict) else {"": value}).items()}

    values = dict(told) | {name: parts(told[name]) for name in ("obs", "next_obs") if name in told}
    mapping = LogMapping(**values | {"actions": _list(told.get("actions", ()))})
    if mapping.next_obs and mapping.next_obs.keys() != mapping.obs.keys():
        raise UsageError(f"{where}: next_obs must have the keys of obs, {', '.join(mapping.obs)}")
    return mapping


def _list(names: Any) -> Names:
    return [names] if isinstance(names, str) else list(names)


def read_mapping(path: Path) -> dict[str, Any]:
    """The table of a TOML file, for `mapping_of`.

    Raises:
        OSError: it can't be read.
        UsageError: it is no TOML.
    """
    try:
        return tomllib.loads(read_regular(path, MAX_MAPPING_BYTES).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not a TOML file ({error})") from None


def read(path: Path, time_limit: int | None, mapping: LogMapping, skip_broken: bool = False) -> Recording:
    """The episodes of a file, or of a folder with one or more episodes a file, in the order of the files' numbers.

    Args:
        path: CSV, Parquet, npz, npy or HDF5.
        time_limit: of the environment, see `Format`.
        mapping: which columns are what.
        skip_broken: leave out a folder's files, or a file's groups, that can't be used.
    """
    steps, broken = [], []
    apart = path.is_dir() or mapping.episodes is not None
    for file in table_files(path):
        for where, read_part in table_parts(file, mapping.episodes):
            try:
                steps.append(_steps_of_part(where, read_part, mapping, time_limit, whole=apart))
            except DemonstrationError as error:
                if not (skip_broken and apart):
                    raise
                broken.append(str(error))
    if not steps:
        raise DemonstrationError(broken[0] if broken else f"{path}: holds no CSV, Parquet, npz, npy or HDF5 file")
    return _recording(path, steps, mapping, broken)


def column_names(path: Path) -> list[str]:
    """What a log's first file calls its columns; none if it isn't a log, or a damaged one."""
    names: list[str] = []

    def note(there: Sequence[str]) -> Wanted:
        names.extend(there)
        raise DemonstrationError("enough")  # none of them is to be read

    with contextlib.suppress(DemonstrationError, IndexError):
        read_table(table_files(path)[0], note)
    return names


def grouped_by(names: list[str]) -> tuple[str | None, list[str]]:
    """The pattern of numbered groups that hold the same arrays each, and these; None and all names where none are."""
    inside: dict[str, dict[str, list[str]]] = {}
    for name in names:
        if match := re.fullmatch(r"((?:[^/]*/)*?[^/\d]*)(\d+)/(.+)", name):
            inside.setdefault(match[1], {}).setdefault(match[2], []).append(match[3])
    for before, groups in inside.items():
        first, *others = groups.values()
        if others and all(other == first for other in others):
            return f"{before}*", first
    return None, names


def recording_of(episodes: Sequence[Mapping[str, Any]], time_limit: int | None) -> Recording:
    """The episodes of arrays by the fields of `LogMapping`: of all episodes in one dict, or of one in each.

    Raises:
        DemonstrationError: the arrays don't fit together.
        UsageError: a key is none of the fields.
    """
    steps = []
    for i, arrays in enumerate(episodes):
        where = "steps" if len(episodes) == 1 else f"steps of episode {i}"
        table: dict[str, Array] = {}
        told: dict[str, Any] = {}
        for name, value in arrays.items():
            parts = dict(_parts(value)) if isinstance(value, Mapping) else {"": value}
            columns = {key: f"{name}/{key}".rstrip("/") for key in parts}
            table |= {columns[key]: _array(part, f"{where}: {columns[key]}") for key, part in parts.items()}
            told[name] = columns if isinstance(value, Mapping) else name
        mapping = mapping_of(told, where)
        resolved = mapping.resolve(list(table), where)
        steps.append(_steps(table, resolved, mapping, where, time_limit, whole=len(episodes) > 1))
    path = Path("steps")
    return replace(_recording(path, steps, mapping, []), path=path)


def _parts(value: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """The parts of nested dicts, their keys joined by "/"."""
    for key, part in value.items():
        if isinstance(part, Mapping):
            yield from _parts(part, f"{before}{key}/")
        else:
            yield f"{before}{key}", part


def _array(value: Any, where: str) -> Array:
    try:
        return np.asarray(value)
    except (ValueError, TypeError) as error:  # rows of several lengths, or what is in a GPU's memory
        raise DemonstrationError(f"{where}: no array of numbers ({error})") from None


@dataclass(frozen=True)
class _Steps:
    """The steps of one table.

    Attributes:
        obs: `[N, D]`.
        actions: `[N, A]`; A is 0 of states alone.
        rewards: `[N]`, NaN where there are none.
        lengths: of the episodes, `[E]`; steps after their sum belong to one that is cut off.
        ends: of each, terminated and truncated.
        final_obs: `[E, D]`, if known.
        names: of the columns of `obs` and `actions`.
        widths: of the parts of `obs`.
        labels: the mode of each episode, None where it isn't known.
    """

    where: str
    obs: Array
    actions: Array
    rewards: Array
    lengths: Array
    ends: list[tuple[bool, bool]]
    final_obs: Array | None
    names: dict[str, list[str]]
    widths: list[tuple[str, int]]
    labels: list[int | None]


def _steps_of_part(
    where: str, read_part: Callable[[Pick], Table], mapping: LogMapping, time_limit: int | None, whole: bool
) -> _Steps:
    resolved: dict[Place, list[str]] = {}

    def pick(there: Sequence[str]) -> Wanted:
        resolved.update(mapping.resolve(there, where))
        numbers = {column: None for (part, _), columns in resolved.items() if part != "episode" for column in columns}
        return Wanted(list(numbers), [column for column in resolved.get(("episode", ""), ()) if column not in numbers])

    return _steps(read_part(pick), resolved, mapping, where, time_limit, whole)


def _steps(
    table: Table,
    resolved: Mapping[Place, list[str]],
    mapping: LogMapping,
    where: str,
    time_limit: int | None,
    whole: bool,
) -> _Steps:
    n = _n_steps(table, resolved, where)
    parts = {place: _rows(table, columns, where) for place, columns in resolved.items() if place[0] != "episode"}
    for (part, _), (rows, columns) in parts.items():
        if part not in MANY and rows.shape[1] != 1:
            fail(where, part, f"must be one number a row; got {listed(columns)}")
    names = {part: [name for place, (_, names) in parts.items() if place[0] == part for name in names]
             for part in ("obs", "actions")}  # fmt: skip
    obs = np.concatenate([parts["obs", key][0] for key in mapping.obs], 1)
    actions = parts["actions", ""][0] if mapping.actions else np.zeros((n, 0), np.float32)
    rewards = parts["rewards", ""][0][:, 0] if mapping.rewards else np.full(n, np.nan, np.float32)
    flags = {name: _flag(parts[name, ""][0][:, 0], getattr(mapping, name), where) for name in mapping.flags}
    ended_here = np.logical_or.reduce([np.zeros(n, bool), *flags.values()])
    stops = _stops(table, resolved, ended_here, bool(flags), where, n, whole)
    if len(stops) == 1 and not whole and not flags and mapping.episode is None and time_limit and n > time_limit:
        raise DemonstrationError(
            f"{where}: one episode of {n} steps; the environment's time limit is {time_limit}. Tell where episodes "
            "end, by episode, terminated, truncated or done"
        )
    terminated, truncated = (flags.get(name, np.zeros(n, bool)) for name in ("terminated", "truncated"))
    lengths = np.diff(stops, prepend=0)
    ends = []
    for stop, length in zip(stops.tolist(), lengths.tolist(), strict=True):
        if "done" in flags and flags["done"][stop - 1] and not (terminated[stop - 1] or truncated[stop - 1]):
            ends.append(ended(length, time_limit))
        else:  # without a flag the log was cut there
            ends.append((bool(terminated[stop - 1]), bool(truncated[stop - 1] or not terminated[stop - 1])))
    final = None
    if mapping.next_obs:
        following = np.concatenate([parts["next_obs", key][0] for key in mapping.obs], 1)
        _check_following(obs, following, stops, where)
        final = following[stops - 1]
    elif len(obs) > n:
        if len(stops) != 1 or stops[0] != n:
            raise DemonstrationError(f"{where}: obs has a row more than the rest, as a log of one episode may have")
        obs, final = obs[:-1], obs[-1:]
    widths = [(key, parts["obs", key][0].shape[1]) for key in mapping.obs]
    labels: list[int | None] = [None] * len(stops)
    if mapping.label is not None:
        labels = _labels(parts["label", ""][0][:, 0], mapping.label, stops, where)
    return _Steps(where, obs, actions, rewards, lengths, ends, final, names, widths, labels)


def _labels(values: Array, name: str, stops: Array, where: str) -> list[int | None]:
    """The mode of each episode."""
    found = values[stops - 1]
    rows = np.repeat(found, np.diff(stops, prepend=0))
    if (differs := values[: len(rows)] != rows).any():
        fail(where, printable(name), f"must be the same in all rows of an episode; row {differs.argmax() + 1} differs")
    if not ((found == np.rint(found)) & (found >= -1) & (found < MAX_LABELS)).all():
        fail(where, printable(name), f"must be whole numbers from 0 to {MAX_LABELS - 1}, or -1 where it isn't known")
    return [int(x) if x >= 0 else None for x in found]


def _n_steps(table: Table, resolved: Mapping[Place, list[str]], where: str) -> int:
    """The number of steps; observations may be one more."""
    for columns in resolved.values():
        for name in columns:
            if not table[name].ndim:
                fail(where, printable(name), "must have a row a step; got a single value")
    lengths = {name: len(table[name]) for columns in resolved.values() for name in columns}
    of_obs = {lengths[name] for (part, _), columns in resolved.items() if part == "obs" for name in columns}
    others = {lengths[name] for (part, _), columns in resolved.items() if part != "obs" for name in columns} or of_obs
    if len(of_obs) != 1 or len(others) != 1 or min(of_obs) - min(others) not in (0, 1):
        told = ", ".join(f"{printable(name)} {length}" for name, length in lengths.items())
        raise DemonstrationError(f"{where}: columns differ in length: {told}")
    if not (n := min(others)):
        raise DemonstrationError(f"{where}: holds no rows")
    return n


def _rows(table: Table, columns: Sequence[str], where: str) -> tuple[Array, list[str]]:
    """Columns side by side, `[N, K]`, and the name of each; finite."""
    rows, names = [], []
    for name in columns:
        array = table[name]
        if array.dtype.kind not in "biuf":
            fail(where, printable(name), f"must be numbers; got {array.dtype}")
        wide = array.reshape(len(array), math.prod(array.shape[1:]))
        wide = wide.astype(np.int64) if wide.dtype.kind == "b" else wide
        rows.append(wide)
        names += [name] if wide.shape[1] == 1 else [f"{name}[{i}]" for i in range(wide.shape[1])]
    joined = np.concatenate(rows, 1)
    wrong = ~np.isfinite(joined)
    if wrong.any():
        told = [f"{printable(names[k])} in {wrong[:, k].sum()} rows, the first {wrong[:, k].argmax() + 1}"
                for k in np.flatnonzero(wrong.any(0))]  # fmt: skip
        raise DemonstrationError(f"{where}: empty, NaN or infinite of {len(joined)} rows: {'; '.join(told)}")
    return joined, names


def _flag(values: Array, name: str, where: str) -> Array:
    if not np.isin(values, (0, 1)).all():
        fail(where, printable(name), "must be 0 or 1, false or true")
    return values.astype(bool)


def _stops(
    table: Table, resolved: Mapping[Place, list[str]], flagged: Array, flags: bool, where: str, n: int, whole: bool
) -> Array:
    """One after the last row of each whole episode, `[E]`."""
    stops = np.flatnonzero(flagged) + 1
    if ("episode", "") in resolved:
        (name,) = resolved["episode", ""]
        labels = table[name].reshape(-1)
        labels = labels.astype(str) if labels.dtype.kind == "O" else labels
        if len(labels) != n or (labels.dtype.kind == "f" and np.isnan(labels).any()):
            fail(where, printable(name), "must be one label a row; some are missing")
        changes = np.flatnonzero(labels[1:] != labels[:-1]) + 1
        if len(np.unique(labels)) != len(changes) + 1:
            fail(where, printable(name), "an episode goes on after another one began; sort the rows by episode")
        bounds = np.append(changes, n)
    elif whole or not flags:
        bounds = np.array([n])
    elif not len(stops):
        raise DemonstrationError(f"{where}: no row ends an episode; leave out the flags if the log is one that was cut")
    else:
        return stops
    if (inside := np.setdiff1d(stops, bounds)).size:
        raise DemonstrationError(f"{where}: a flag ends the episode in row {inside[0]}, before its last row")
    return bounds


def _check_following(obs: Array, following: Array, stops: Array, where: str) -> None:
    """Refuse next observations that aren't those of the next row of the same episode."""
    if following.shape != obs.shape:
        raise DemonstrationError(f"{where}: next_obs is {following.shape[1]} columns, obs {obs.shape[1]}")
    inside = np.setdiff1d(np.arange(len(obs) - 1), stops - 1)
    wrong = inside[~np.isclose(following[inside], obs[inside + 1], rtol=1e-4, atol=1e-6).all(1)]
    if len(wrong):
        raise DemonstrationError(
            f"{where}: next_obs of row {wrong[0] + 1} isn't obs of the next row ({len(wrong)} such rows): rows were "
            "left out or shuffled, or an episode ends there that isn't told"
        )


def _recording(path: Path, steps: Sequence[_Steps], mapping: LogMapping, broken: Sequence[str]) -> Recording:
    first = steps[0]
    for other in steps[1:]:
        if other.names != first.names:
            raise DemonstrationError(f"{other.where}: has other columns than {first.where}")
    finals = [x.final_obs for x in steps if x.final_obs is not None]
    kept = [int(x.lengths.sum()) for x in steps]  # of each table, without an episode that is cut off
    columns: dict[str, Any] = {name: np.concatenate([getattr(x, name)[:n] for x, n in zip(steps, kept, strict=True)])
               for name in ("obs", "actions", "rewards")}  # fmt: skip
    return Recording(
        NAME,
        split(
            path,
            **columns,
            lengths=np.concatenate([x.lengths for x in steps]),
            ends=[end for x in steps for end in x.ends],
            final_obs=np.concatenate(finals) if len(finals) == len(steps) else None,
        ),
        n_incomplete=sum(n < len(x.obs) for x, n in zip(steps, kept, strict=True)),
        broken=broken,
        tells_ends=mapping.terminated is not None or mapping.truncated is not None,
        labels=None if mapping.label is None else [label for x in steps for label in x.labels],
        columns=None if "" in mapping.obs else tuple(first.widths),
        names=first.names,
    )
