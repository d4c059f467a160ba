"""Settings that are told: TOML by environment id, keyword arguments by name, JSON as a run stores it."""

from __future__ import annotations

import contextlib
import difflib
import json
import reprlib
import tomllib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from rlgen.errors import CheckpointError, UsageError
from rlgen.files import read_regular

T = TypeVar("T")
ALGORITHMS = ("trpo", "ppo", "svg", "sac")
MAX_SETTINGS_BYTES = 1 << 16  # a run stores the text in its config.json, which is of bounded size too


@dataclass(frozen=True)
class SettingsFile:
    """A TOML file of settings by environment id.

    An id's table holds fields of a command's settings, see `override`. `trpo`, `ppo`, `svg` and `sac` beside them are
    tables of `learner.optimizer`; the one of the learner in use is applied.

    Attributes:
        path: where it was read, for errors.
        text: its content.

    Raises:
        UsageError: the text isn't TOML, or holds something else than a table for each id.
    """

    path: str = ""
    text: str = ""

    def __post_init__(self) -> None:
        for env_id, table in self._tables().items():
            if not isinstance(table, dict):
                raise UsageError(f'{self.path}: {env_id}: settings stand in a table of an id, such as ["Task-v0"]')

    def _tables(self) -> dict[str, Any]:
        try:
            tables = tomllib.loads(self.text)
            repr(tables)  # what is nested too deep to be printed is no settings
            return tables
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{self.path}: not TOML ({error})") from None

    def table(self, env_id: str) -> dict[str, Any]:
        """The settings of an environment."""
        return self._tables().get(env_id, {})

    def describe(self, env_id: str) -> str:
        """What it says of an environment, in a line to print."""
        ids = ", ".join(self._tables()) or "none"
        nothing = f"no settings, so none are changed; the ids in the file: {ids}"
        return f"{self.path}: {env_id}: {self.table(env_id) or nothing}"

    def apply(self, settings: T, env_id: str, algo: str) -> T:
        """Settings of an environment and the learner `algo`, one of `ALGORITHMS`; errors as for `override`."""
        table, where = self.table(env_id), f"{self.path}: {env_id}: "
        of_optimizers: dict[str, Any] = {name: table.pop(name) for name in ALGORITHMS if name in table}
        for name, told in of_optimizers.items():
            if not isinstance(told, dict):
                raise UsageError(f"{where}{name}: must be a table of settings; got {told!r}")
        learner = table.setdefault("learner", {}) if algo in of_optimizers else None
        if isinstance(learner, dict) and isinstance(optimizer := learner.setdefault("optimizer", {}), dict):
            # Into the one table, since settings that go together are checked together.
            optimizer.update(of_optimizers[algo])
        return override(settings, table, where)


def read_settings(path: Path) -> SettingsFile:
    """The settings in a file.

    Raises:
        OSError: it can't be read.
        UsageError: it is no regular file, or not what `SettingsFile` says.
    """
    try:
        return SettingsFile(str(path), read_regular(path, MAX_SETTINGS_BYTES).decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not TOML ({error})") from None
    except ValueError as error:
        raise UsageError(str(error)) from None


def override(settings: T, table: Mapping[str, Any], where: str = "") -> T:
    """Settings with the fields that a table names, such as `{"learner": {"gamma": 0.995}, "dropout": 0.1}`.

    Args:
        settings: a dataclass.
        table: values as TOML and JSON have them; those of a dataclass inside `settings` are a table again.
        where: what errors call the settings by, before a field's name.

    Raises:
        UsageError: a field that isn't there, a value of another type, or one that the settings refuse.
    """
    now = vars(settings)
    kinds = typing.get_type_hints(type(settings))
    changes: dict[str, Any] = {}
    for name, value in table.items():
        if name not in now:
            raise UsageError(f"{where}{name}: no such setting; {nearest(name, now)}")
        if not is_dataclass(now[name]):
            try:
                changes[name] = from_json(kinds[name], value, where + name)
            except CheckpointError as error:
                raise UsageError(str(error)) from None
        elif isinstance(value, Mapping):
            changes[name] = override(now[name], value, f"{where}{name}.")
        else:
            raise UsageError(f"{where}{name}: must be a table of settings; got {value!r}")
    try:
        return replace(settings, **changes)  # type: ignore[type-var]
    except UsageError as error:
        raise UsageError(f"{where}{error}") from None


def with_values(settings: T, values: Mapping[str, Any], others: Iterable[str] = ()) -> T:
    """Settings with the fields that keyword arguments name, wherever they are in them.

    A name that several parts have is the learner's, and inside it the optimizer's: `learning_rate` is that of TRPO's
    critic or of PPO, and the discriminator's is told by `override`, as `{"gail": {"learning_rate": 1e-3}}`.

    Args:
        settings: a dataclass.
        values: by name.
        others: arguments beside settings, which a misspelt name may have meant too.

    Raises:
        UsageError: a name that no part has, with the nearest one, a value of another type, or one that is refused.
    """
    homes = dict(_homes(settings))
    table: dict[str, Any] = {}
    for name, value in values.items():
        if name not in homes:
            raise UsageError(f"{name}: no such argument; {nearest(name, [*others, *homes])}")
        part = table
        for step in homes[name]:
            part = part.setdefault(step, {})
        part[name] = value
    return override(settings, table)


def _homes(settings: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each setting's name with the parts that it is in; of several by one name, the one that counts comes last."""
    names = [field.name for field in fields(settings)]
    parts = [name for name in names if is_dataclass(getattr(settings, name))]
    yield from ((name, path) for name in names if name not in parts)
    for part in sorted(parts, key="learner".__eq__):
        yield from _homes(getattr(settings, part), (*path, part))


def lines(settings: Any, where: str = "") -> Iterator[str]:
    """Each setting as `name = value`, those of a part by their path, as TOML has them; what is none is a comment."""
    for field in fields(settings):
        name, value = where + field.name, getattr(settings, field.name)
        if is_dataclass(value):
            yield from lines(value, f"{name}.")
        else:
            yield f"# {name}: none" if value is None else f"{name} = {json.dumps(value)}"


STEPS = ("total_timesteps", "n_steps", "gradient_steps", "env_steps", "timesteps", "total_steps", "steps")
"""What the number of steps in all may be called; the first two are arguments, and no other is."""


def nearest(name: str, there: Iterable[str]) -> str:
    """What a misspelt name may have meant, or all that there are."""
    near = [step for step in STEPS if name in STEPS and step in there] or difflib.get_close_matches(name, there, 1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(there)}"


ADDED = {"added": True}
"""Metadata of a dataclass field that came later: where files lack it, it has its default, which is what was before."""


def without_added(settings: Any) -> dict[str, Any]:
    """`dataclasses.asdict` without the fields that came later and have their defaults."""
    kept = {}
    for of in fields(settings):
        value = getattr(settings, of.name)
        if not ADDED.keys() & of.metadata or value != of.default:
            kept[of.name] = without_added(value) if is_dataclass(value) else value
    return kept


def from_json(kind: Any, value: Any, name: str) -> Any:
    """A value of a type out of JSON: a dataclass field by field, never through a parser of command lines.

    Args:
        kind: a dataclass, or one of the types that fields of arguments have.
        value: what `json` made of it.
        name: for errors.

    Raises:
        CheckpointError: it names the field whose value is none of the type, or can't be used.
    """
    if is_dataclass(kind) and isinstance(kind, type):
        hints = typing.get_type_hints(kind)
        names = [field.name for field in fields(kind)]
        needed = {field.name for field in fields(kind) if not ADDED.keys() & field.metadata}
        if not isinstance(value, dict) or not needed <= value.keys() <= set(names):
            raise CheckpointError(f"{name}: must have exactly the fields {', '.join(names)}")
        found = {field: from_json(hints[field], of, f"{name}.{field}") for field, of in value.items()}
        try:
            return kind(**found)
        except UsageError as error:
            raise CheckpointError(f"{name}: {error}") from None
    if isinstance(value, np.generic | np.ndarray):  # never out of JSON, but out of a user's loop
        value = value.tolist()
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        for option in inner:
            with contextlib.suppress(CheckpointError):
                return from_json(option, value, name)
    elif origin is tuple and isinstance(value, list | tuple):
        return tuple(from_json(inner[0], item, name) for item in value)
    elif origin is dict and isinstance(value, dict):
        return value
    elif kind is Path and isinstance(value, str):
        return Path(value)
    elif kind is float and type(value) is int:
        with contextlib.suppress(OverflowError):
            return float(value)
    elif kind is Any or (origin is typing.Literal and value in inner) or type(value) is kind:
        return value
    options = inner if origin in (typing.Union, types.UnionType) else (kind,)
    wanted = " or ".join(_name(option) for option in options)
    raise CheckpointError(f"{name}: must be {wanted}; got {reprlib.repr(value)}")


def _name(kind: Any) -> str:
    """What an error calls a type."""
    if typing.get_origin(kind) is typing.Literal:
        return " or ".join(map(repr, typing.get_args(kind)))
    if typing.get_origin(kind) is tuple:
        return "a list"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a text", type(None): "nothing"}.get(
        kind, getattr(kind, "__name__", str(kind))
    )
