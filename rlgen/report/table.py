"""A table of settings over their seeds, as text that fits a terminal, CSV, Markdown or LaTeX."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rlgen.files import csv_cell, printable, short
from rlgen.report.runs import POINTS, Run, binned
from rlgen.statistics import FEWEST, MANY, interquartile_mean, interval

if TYPE_CHECKING:
    import pandas as pd

SHARE = 0.95
MISSED = "not reached"
# Narrower than this a name says nothing.
NARROWEST = 12


def row(environment: str, method: str, runs: Sequence[Run], normalise: bool = False) -> dict[str, Any]:
    """One row of the table; what isn't known is None.

    Return (or score) is the interquartile mean of the final evaluation's of the runs that are done, with its interval
    (`rlgen.statistics.interval`), the worst seed's and the best one's. Steps and seconds to 95% of the expert are by
    training returns, which are the sampling policy's: to the end of the first of fifty parts of a run whose mean is
    there. They are the median seed's, the later of two.

    Args:
        environment: its name.
        method: the row's name.
        runs: over seeds.
        normalise: give normalised scores rather than returns.
    """
    done = [run for run in runs if run.status == "done"]
    found = [run.summary.get("normalised_score" if normalise else "return_mean") for run in done]
    values = np.array([value for value in found if value is not None], np.float64)
    low, high = interval(values)
    reached = [times for run in done if (times := _times_to_expert(run)) is not None]
    steps, seconds = np.quantile(reached, 0.5, axis=0, method="higher") if reached else (np.nan, np.nan)
    return {
        "environment": environment,
        "method": method,
        "seeds": len(done),
        "failed": sum(run.status == "failed" for run in runs),
        "unfinished": sum(run.status == "unfinished" for run in runs),
        "score" if normalise else "return": float(interquartile_mean(values)) if len(values) else None,
        "low": None if np.isnan(low) else low,
        "high": None if np.isnan(high) else high,
        "worst seed": float(values.min()) if len(values) > 1 else None,
        "best seed": float(values.max()) if len(values) > 1 else None,
        "steps to 95%": _time(steps),
        "seconds to 95%": _time(seconds),
    }


def _time(value: float) -> float | str | None:
    return None if np.isnan(value) else MISSED if np.isinf(value) else float(value)


def _times_to_expert(run: Run) -> tuple[float, float] | None:
    """Steps and seconds; infinite where it isn't reached, None where nothing tells."""
    curve = run.curve("return_mean")
    if not len(curve) or "wall_seconds" not in run.metrics:
        return None
    ends = np.linspace(0, curve["steps"].max(), POINTS + 1)[1:]
    scores = run.score(binned(curve, ends))
    if scores is None:
        return None
    reached = scores >= SHARE
    if not reached.any():
        return np.inf, np.inf
    until = run.metrics[run.metrics[run.unit] <= ends[reached.argmax()]].iloc[-1]
    return float(until[run.unit]), float(until["wall_seconds"])


def notes(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What the columns are, for a caption."""
    kind = "score" if "score" in rows[0] else "return"
    found = [f"{kind}: interquartile mean over seeds of the final evaluation's mean {kind} (deterministic policy)."]
    if any(row["low"] is not None for row in rows):
        few = f"lowest to highest seed of {FEWEST} to {MANY - 1} seeds, 95% bootstrap interval of {MANY} or more"
        found.append(f"interval: {few}.")
    if any(_few(row) for row in rows):
        found.append(
            f"range: lowest to highest of fewer than {FEWEST} seeds, which is no interval: of three it holds the "
            "median of all seeds in three of four cases."
        )
    if any(row["steps to 95%"] is not None for row in rows):
        found.append(
            "to 95%: until the mean training return (sampling policy, a fiftieth of the run at a time) first is at "
            "95% of the way from random actions to the expert; median seed."
        )
    return found


def _few(row: dict[str, Any]) -> bool:
    """Whether a row has several seeds, and too few for an interval."""
    return row["low"] is None and row["best seed"] is not None


def cells(rows: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows as people read them: numbers short, an interval in one cell, columns without content left out."""

    def number(value: Any, form: Callable[[float], str]) -> str:
        return "" if value is None else value if isinstance(value, str) else form(value)

    def spread(row: dict[str, Any]) -> str:
        if _few(row):
            return f"range {form(row['worst seed'])} to {form(row['best seed'])}"
        return f"{form(row['low'])} to {form(row['high'])}" if row["low"] is not None else ""

    kind = "score" if "score" in rows[0] else "return"
    form = "{:.3f}".format if kind == "score" else short
    columns: dict[str, list[str]] = {
        "environment": [printable(row["environment"]) for row in rows],
        "method": [printable(row["method"]) for row in rows],
        "seeds": [str(row["seeds"]) for row in rows],
        "failed": [str(row["failed"] or "") for row in rows],
        "unfinished": [str(row["unfinished"] or "") for row in rows],
        kind: [number(row[kind], form) for row in rows],
        "interval": [spread(row) for row in rows],
        "worst seed": [number(row["worst seed"], form) for row in rows],
        "steps to 95%": [number(row["steps to 95%"], "{:,.0f}".format) for row in rows],
        "seconds to 95%": [number(row["seconds to 95%"], "{:,.1f}".format) for row in rows],
    }
    kept = {name: column for name, column in columns.items() if any(column) or name == kind}
    return list(kept), [list(row) for row in zip(*kept.values(), strict=True)]


def text(rows: Sequence[dict[str, Any]], width: int) -> str:
    """For a terminal `width` characters wide: an environment's rows below its name, names shortened in the middle.

    Where even so there is no room, the last columns are left out.
    """
    (_, _, *header), body = cells(rows)
    heads = [name.partition(" ")[::2] for name in header]
    columns = list(zip(*(row[2:] for row in body), strict=True))
    sizes = [max(map(len, (*head, *column))) + 2 for head, column in zip(heads, columns, strict=True)]
    while len(sizes) > 1 and sum(sizes) + NARROWEST > width:
        sizes.pop()
    longest = max(len(row[1]) for row in body)
    names = min(longest + 2, max(NARROWEST, width - sum(sizes)))

    def line(name: str, values: Sequence[str]) -> str:
        name = shortened(f"  {name}" if name else "", names)
        right = (f"{value:>{size}}" for value, size in zip(values, sizes, strict=False))
        return f"{name:<{names}}{''.join(right)}".rstrip()

    lines = [line("", [head for head, _ in heads]), line("", [rest for _, rest in heads])]
    environment = None
    for row in body:
        if row[0] != environment:
            environment = row[0]
            lines.append(shortened(environment, width))
        lines.append(line(row[1], row[2:]))
    left_out = f" {', '.join(header[len(sizes) :])}: no room in {width} columns." * (len(sizes) < len(header))
    said = textwrap.fill(" ".join(notes(rows)) + left_out, width, break_on_hyphens=False)
    return "\n".join([*(line for line in lines if line), said]) + "\n"


def shortened(name: str, width: int) -> str:
    """A name of at most `width` characters, the middle of a longer one left out."""
    if len(name) <= width:
        return name
    return f"{name[: (width - 1) - (width - 1) // 2]}…{name[len(name) - (width - 1) // 2 :]}"


def csv(rows: Sequence[dict[str, Any]]) -> str:
    """All columns, numbers in full; what a spreadsheet would run as a formula begins with an apostrophe."""
    import pandas as pd

    table: pd.DataFrame = pd.DataFrame(rows, dtype=object)
    return table.map(csv_cell).to_csv(index=False)


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """A table of GitHub's Markdown."""
    header, body = cells(rows)
    lines = [header, ["---", "---", *["---:"] * (len(header) - 2)]]
    lines += [[re.sub(r"([\\`*_\[\]<>|~$&#])", r"\\\1", cell) for cell in row] for row in body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n\n" + "\n".join(notes(rows)) + "\n"


def latex(rows: Sequence[dict[str, Any]]) -> str:
    r"""A `tabular` with the rules of the package booktabs, notes as comments above it."""
    header, body = cells(rows)
    above = ["needs \\usepackage{booktabs}", *notes(rows)]
    lines = [f"% {note}" for note in above]
    lines += [rf"\begin{{tabular}}{{ll{'r' * (len(header) - 2)}}}", r"\toprule", _latex_row(header), r"\midrule"]
    lines += [*map(_latex_row, body), r"\bottomrule", r"\end{tabular}"]
    return "\n".join(lines) + "\n"


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
} | {c: f"\\{c}" for c in "&%$#_{}"}


def _latex_row(row: Sequence[str]) -> str:
    names, numbers = row[:2], row[2:]
    escaped = ["".join(_LATEX.get(c, c) for c in cell) for cell in (*names, *numbers)]
    # A minus, not a hyphen.
    return " & ".join([*escaped[:2], *(re.sub(r"(?<!\w)-(?=\d)", "$-$", cell) for cell in escaped[2:])]) + r" \\"


FORMATS: dict[str, Callable[[Sequence[dict[str, Any]]], str]] = {"csv": csv, "markdown": markdown, "latex": latex}
