"""A figure for a paper: a panel an environment, a line a setting, one legend outside the axes."""

from __future__ import annotations

import contextlib
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rlgen.errors import UsageError
from rlgen.report.runs import Floats
from rlgen.statistics import MANY, interquartile_mean, interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend
    from matplotlib.lines import Line2D

COLUMN, PAGE = 3.3, 6.75
"""Widths of a column and of a page of a paper, in inches."""
PANEL = 1.55
"""Width in inches that a panel of several has at least, and its height where none is told."""
# Dark to light first, so that few lines differ in grey too; hues after Paul Tol's schemes for the colour-blind.
COLOURS = ("#004488", "#ddaa33", "#bb5566", "#66ccee", "#228833", "#aa3377")
# Coprime with the colours: thirty lines until both come again.
DASHES = ("-", (0, (5, 1.5)), (0, (4, 1.2, 1, 1.2)), (0, (1, 1.2)), (0, (6, 1, 1, 1, 1, 1)))
LOOKS: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "legend.fontsize": 7,
    "legend.title_fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "lines.linewidth": 1.2,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.5,
    "savefig.dpi": 300,
}
# Whatever the style: names out of files are no formulas, and publishers refuse fonts of type 3.
FIXED: dict[Any, Any] = {"text.usetex": False, "text.parse_math": False, "pdf.fonttype": 42, "ps.fonttype": 42}


@dataclass(frozen=True)
class Line:
    """One setting in one environment.

    Attributes:
        label: its name in the legend.
        steps: `[P]`, environment steps.
        values: `[n, P]`, those of each run there.
        n_failed: runs that failed and are left out.
    """

    label: str
    steps: Floats
    values: Floats
    n_failed: int = 0


@dataclass(frozen=True)
class Panel:
    """One environment.

    Attributes:
        title: its name.
        lines: by setting.
        references: horizontal lines by their name in the legend.
    """

    title: str
    lines: Sequence[Line]
    references: Mapping[str, Sequence[float]]


def band(values: Floats) -> tuple[Floats, Floats]:
    """Where the interquartile mean of all runs lies, at each of P points: lower and upper ends `[P]`.

    Of ten runs or more, `values` `[n, P]`, `rlgen.statistics.interval`; of fewer the lowest and the highest.
    """
    if len(values) < MANY:
        return values.min(0), values.max(0)
    low, high = np.transpose([interval(column, draws=2000) for column in values.T])
    return low, high


def meaning(lines: Sequence[Line]) -> str:
    """What line and band are, as a legend's title says it."""
    counts = sorted({len(line.values) for line in lines})
    if counts[-1] == 1:
        return "one seed each" if len(lines) > 1 else "one seed"
    few, many = any(1 < n < MANY for n in counts), counts[-1] >= MANY
    bands = ["lowest to highest seed"] * few + ["95% bootstrap interval"] * many
    told = f" ({MANY} seeds or more)" if len(bands) > 1 else ""
    seeds = f"{counts[0]} seeds" if len(counts) == 1 else "seeds"
    return f"line: interquartile mean of {seeds}; band: {', '.join(bands)}{told}"


def entry(label: str, lines: Sequence[Line], everywhere: bool) -> str:
    """A line's text in the legend: its label, with the number of seeds where that isn't the same `everywhere`."""
    counts = sorted({len(line.values) for line in lines})
    number = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0])
    told = [] if everywhere else [f"{number} seed{'s'[: counts != [1]]}"]
    if failed := sum(line.n_failed for line in lines):
        told.append(f"{failed} failed")
    return f"{label} ({', '.join(told)})" if told else label


@contextlib.contextmanager
def looks(style: str | None = None) -> Iterator[None]:
    """What is drawn and saved inside looks as in a paper, or as matplotlib's style of this name.

    Raises:
        UsageError: there is no such style.
    """
    import matplotlib.style
    from cycler import cycler
    from matplotlib import rc_context

    known = matplotlib.style.available
    if style is not None and style not in known:
        raise UsageError(f"--style {style}: matplotlib has no style of this name; it has {', '.join(known)}")
    with rc_context(LOOKS | {"axes.prop_cycle": cycler(color=COLOURS)}):
        if style is not None:
            matplotlib.style.use(style)
        with rc_context(FIXED):
            yield


def draw(
    panels: Sequence[Panel],
    ylabel: str,
    size: tuple[float, float] | None = None,
    one_scale: bool = False,
    xlabel: str = "environment steps",
) -> Figure:
    """Draw panels side by side, inside `looks`.

    Args:
        panels: one an environment.
        ylabel: what the values are.
        size: width and height in inches (default: a paper's column for one panel and its page for more, and as high
            as panels and legend take).
        one_scale: give all panels the same vertical axis.
        xlabel: what the steps are.

    Raises:
        UsageError: panels and legend don't fit into the size.
    """
    from matplotlib.figure import Figure

    width, height = size or (COLUMN if len(panels) == 1 else PAGE, 0.0)
    n_columns = max(1, min(len(panels), int(width / PANEL)))
    n_rows = -(-len(panels) // n_columns)
    figure = Figure(figsize=(width, height or 4), layout="constrained")
    grid = figure.subplots(n_rows, n_columns, squeeze=False, sharey=one_scale)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    labels = list(dict.fromkeys(line.label for panel in panels for line in panel.lines))
    handles: dict[tuple[str, bool], Line2D] = {}  # a line may be named as a reference is
    for axes, panel in zip(grid.flat, panels, strict=False):
        handles |= _draw_panel(axes, panel, labels, int(width / n_columns * 11))
    for axes in grid[:, 0]:
        axes.set_ylabel(ylabel)
    for axes in grid.flat[max(0, len(panels) - n_columns) : len(panels)]:
        axes.set_xlabel(xlabel)
    lines = [line for panel in panels for line in panel.lines]
    everywhere = len({len(line.values) for line in lines}) == 1
    texts = {handles[x, True]: entry(x, [line for line in lines if line.label == x], everywhere) for x in labels}
    texts |= {handle: name for (name, is_line), handle in handles.items() if not is_line}
    legend_height = _add_legend(figure, texts, meaning(lines))
    # Below a panel's own height are its title, ticks and the axis's name.
    least = legend_height + n_rows * (1.3 if size else 1.5 * PANEL if len(panels) == 1 else PANEL + 0.4)
    if size and height < least:
        raise UsageError(f"--size {width:g} {height:g}: panels and legend take a height of {least:.1f} at this width")
    figure.set_size_inches(width, height or least)
    return figure


def _draw_panel(axes: Axes, panel: Panel, labels: Sequence[str], n_letters: int) -> dict[tuple[str, bool], Line2D]:
    from matplotlib import rcParams
    from matplotlib.ticker import EngFormatter, MaxNLocator

    colours = rcParams["axes.prop_cycle"].by_key().get("color", COLOURS)
    handles = {}
    for (name, values), dashes in zip(panel.references.items(), ("--", ":"), strict=False):
        for value in values:
            style = {"color": rcParams["text.color"], "alpha": 0.7, "linestyle": dashes, "linewidth": 0.8, "zorder": 1}
            handles[name, False] = axes.axhline(value, **style)
    for line in panel.lines:
        i = labels.index(line.label)
        style = {"color": colours[i % len(colours)], "linestyle": DASHES[i % len(DASHES)]}
        middle = interquartile_mean(line.values.T)
        low, high = band(line.values)
        # A single point has no length to be seen.
        alone = len(line.steps) == 1
        (handles[line.label, True],) = axes.plot(
            line.steps, middle, marker="o" if alone else None, markersize=3, **style
        )
        if alone:
            axes.vlines(line.steps, low, high, color=style["color"])
        elif len(line.values) > 1:
            axes.fill_between(line.steps, low, high, color=style["color"], alpha=0.2, linewidth=0)
    # A long one is broken after the name of its package first.
    parts = [panel.title] if len(panel.title) <= n_letters else re.split("(?<=/)", panel.title)
    axes.set_title("\n".join(line for part in parts for line in textwrap.wrap(part, n_letters)))
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    return handles


def _add_legend(figure: Figure, texts: Mapping[Line2D, str], title: str) -> float:
    """One for all panels below them, in as many columns as the figure is wide enough for; its height in inches."""
    n, width = len(texts), figure.get_figwidth()
    tries = [(columns, 60) for columns in range(n, 1, -1)] + [(1, letters) for letters in range(100, 5, -5)]
    for columns, letters in tries:
        legend = figure.legend(
            list(texts),
            # One that begins with _ matplotlib would leave out.
            [re.sub("^_", " _", "\n".join(textwrap.wrap(text, letters))) for text in texts.values()],
            loc="outside lower center",
            ncols=-(-n // -(-n // columns)),  # as even as the rows allow
            title="\n".join(textwrap.wrap(title, int(width * 17))),
            frameon=False,
            handlelength=2.6,
            columnspacing=1.2,
        )
        legend.get_title().set_multialignment("center")
        taken = _size(legend, figure)
        if taken[0] <= width or (columns, letters) == tries[-1]:
            return taken[1]
        legend.remove()
    raise AssertionError


def _size(legend: Legend, figure: Figure) -> tuple[float, float]:
    """In inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    box = legend.get_window_extent(FigureCanvasAgg(figure).get_renderer())
    return box.width / figure.dpi, box.height / figure.dpi
