"""What numbers a setting may be: declared in the field's annotation, checked when the settings are made."""

from __future__ import annotations

import dataclasses
import math
import numbers
import os
import sys
import types
from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from rlgen.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Range:
    """Metadata of an `Annotated` number: the finite numbers from `low` to `high`; a bound that is open is excluded.

    In errors `why` follows the range.
    """

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False
    why: str = ""

    def __contains__(self, value: Any) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below and -math.inf < value < math.inf

    def __str__(self) -> str:
        if self.high < math.inf:
            left, right = "(" if self.open_low else "[", ")" if self.open_high else "]"
            return f"in {left}{self.low}, {self.high}{right}{self.why}"
        if self.low > -math.inf:
            return f"{'above' if self.open_low else 'at least'} {self.low}{self.why}"
        return f"a finite number{self.why}"


def available_processors() -> int:
    """Processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


Count = Annotated[int, Range(1)]
Seed = Annotated[int, Range(0, 2**63 - 1)]
# More threads than processors are of use to nobody, but go on with a run that was started on a larger machine.
Threads = Annotated[int, Range(1, max(16, available_processors()), why=f" (processors: {available_processors()})")]
Positive = Annotated[float, Range(0, open_low=True)]
NotNegative = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]
ShareBelowOne = Annotated[float, Range(0, 1, open_high=True)]


class Checked:
    """Base of a dataclass of settings: a number outside the range that its field declares is a UsageError, see `check`.

    A number without a range has to be finite.
    """

    def __post_init__(self) -> None:
        check_ranges(self)


def check_ranges(settings: Any, name: Callable[[str], str] = str) -> None:
    """Check all numbers of a dataclass, and of those in its fields, see `check`; errors call a field by `name`."""
    for field, hint in _hints(type(settings)).items():  # type: ignore[arg-type]
        value = getattr(settings, field)
        if dataclasses.is_dataclass(value) and not isinstance(value, Checked):
            check_ranges(value, name)
        check(name(field), value, hint)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def check(name: str, value: Any, hint: Any) -> None:
    """Check one number against its annotation, such as `Count`, `Share | None` or `tuple[Count, ...]`; others pass.

    Raises:
        UsageError: it names the number, the value and what would be right.
    """
    if get_origin(hint) in (Union, types.UnionType):
        if value is None:
            return
        hint = next((option for option in get_args(hint) if option is not types.NoneType), None)
    if get_origin(hint) is tuple and isinstance(value, tuple):
        for item in value:
            check(name, item, get_args(hint)[0])
        return
    kind, *metadata = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    if metadata and kind not in (int, float):
        check(name, value, kind)
    if kind not in (int, float):
        return
    if isinstance(value, bool) or not isinstance(value, numbers.Integral if kind is int else numbers.Real):
        raise UsageError(f"{name} must be a{' whole' if kind is int else ''} number; got {value!r}")
    allowed = next((found for found in metadata if isinstance(found, Range)), Range())
    if value not in allowed:
        raise UsageError(f"{name} must be {allowed}; got {value}")
