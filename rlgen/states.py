"""Pictures of where agents have been: the visited states that runs kept, as panels side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rlgen.checkpoint import RUN, load_checkpoint
from rlgen.data.visited import VisitedStates
from rlgen.errors import CheckpointError, UsageError
from rlgen.files import printable, write_atomically
from rlgen.run_log import read_config
from rlgen.spaces import Columns, described_space, flat_box

Array = npt.NDArray[Any]
MAX_RUNS = 20


@dataclass(frozen=True)
class Visits:
    """The visited states that a run kept.

    Attributes:
        title: what the run was, such as "bonus: vime, seed 0".
        env_id: its environment.
        columns: name and width of each part of an observation.
        obs: `[n, D]`, in the order in which they were visited; one number for each index of a discrete part.
        indices: `[D]`, which of the numbers are indices.
        env_steps: `[n]`, after how many environment steps.
        paid: `[n]`, what the policy was paid for going there: the bonus, or without one the reward learned from.
        paid_name: which of the two.
    """

    title: str
    env_id: str
    columns: Columns
    obs: Array
    indices: Array
    env_steps: Array
    paid: Array
    paid_name: str


def read_visits(folder: Path) -> Visits:
    """The visited states in a run's checkpoint.

    Raises:
        CheckpointError: the folder holds no run, or one that kept none.
    """
    facts, state = load_checkpoint(folder, RUN)
    space = flat_box(described_space(facts["observation_space"]))
    visited = VisitedStates(space.shape[0], space.dtype)
    if "visited" not in state:
        raise CheckpointError(f"{folder}: kept no visited states; behaviour cloning steps no environment")
    try:
        arguments = read_config(folder)["agent"]["arguments"]
        visited.load_state_dict(state["visited"])
        bonus = arguments.get("bonus")
        what = arguments.get("reward_model", arguments["algo"]) if bonus is None else f"bonus: {bonus}"
        title = f"{what}, seed {arguments['seed']}"
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{folder}: holds no visited states ({type(error).__name__}: {error})") from None
    if not visited.seen:
        raise CheckpointError(f"{folder}: no states yet; its checkpoint is from before the first iteration")
    obs, env_steps, rewards, task_rewards = visited.sample().values()
    obs, columns, indices = space.uncoded(obs)
    return Visits(
        _plain(title),
        _plain(facts["env_id"]),
        columns,
        obs,
        indices,
        env_steps,
        rewards if bonus is None else rewards - task_rewards,
        "reward" if bonus is None else "bonus",
    )


def draw_states(output: Path, kind: str, runs: Sequence[Visits], dims: Sequence[str] | None = None) -> str:
    """Draw a column a run, above coloured by time, below by what the policy was paid; all with the same axes.

    Args:
        output: the picture.
        kind: its format, `png`, `pdf` or `svg`.
        runs: of one space of observations.
        dims: which two dimensions are drawn, see `chosen`. None: both where there are two, else the principal
            components of all the runs' states, each dimension divided by its standard deviation. One alone is drawn
            over environment steps.

    Returns:
        What the axes are, in words.

    Raises:
        UsageError: there are too many runs, their observations differ, or `dims` names no two dimensions.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    columns = runs[0].columns
    if len(runs) > MAX_RUNS:
        raise UsageError(f"--states draws at most {MAX_RUNS} runs side by side; got {len(runs)}")
    if other := next((run.env_id for run in runs if run.columns != columns), None):
        raise UsageError(f"--states draws runs with the same observations; {other} differs from {runs[0].env_id}")
    n_dims = sum(width for _, width in columns)
    if n_dims == 1:
        points = [np.stack([run.env_steps, _spread(run.obs, run.indices)[:, 0]], 1) for run in runs]
        labels = ["environment steps", _plain(dimension_names(columns)[0])]
        told = " and ".join(labels)
    elif dims is None and n_dims > 2:
        points, labels, told = principal_components([run.obs for run in runs], columns)
    else:
        first, second = chosen(dims, columns) if dims is not None else (0, 1)
        points = [_spread(run.obs[:, [first, second]], run.indices[[first, second]]) for run in runs]
        labels = [_plain(dimension_names(columns)[i]) for i in (first, second)]
        told = " and ".join(labels)

    figure = Figure(figsize=(1.5 + 2.4 * len(runs), 4.6), layout="constrained")
    panels = figure.subplots(2, len(runs), sharex=True, sharey=True, squeeze=False)
    env_ids = sorted({run.env_id for run in runs})
    figure.suptitle(", ".join(env_ids), fontsize="medium")
    paid_names = " or ".join(sorted({run.paid_name for run in runs}))
    rows = (
        ([run.env_steps for run in runs], "environment steps", "viridis", (0, 100)),
        ([run.paid for run in runs], paid_names, "inferno", (1, 99)),  # a few large ones would hide the others
    )
    for axes, (values, name, colours, percentiles) in zip(panels, rows, strict=True):
        low, high = np.percentile(np.concatenate(values), percentiles)
        for panel, at, value in zip(axes, points, values, strict=True):
            order = np.random.default_rng(0).permutation(len(at))  # drawn by time, the last would hide the first
            drawn = panel.scatter(
                *at[order].T, c=value[order], s=2, cmap=colours, vmin=low, vmax=high, linewidths=0, rasterized=True
            )
            panel.set_facecolor("0.93")
            panel.tick_params(labelsize="small")
        bar = figure.colorbar(drawn, ax=axes, label=name, extend="neither" if percentiles == (0, 100) else "both")
        bar.ax.tick_params(labelsize="small")
        if high >= 1000:
            bar.ax.yaxis.set_major_formatter(EngFormatter(sep=""))
    for panel, run in zip(panels[0], runs, strict=True):
        panel.set_title(run.title, fontsize="medium")
    figure.supxlabel(labels[0], fontsize="medium")
    figure.supylabel(labels[1], fontsize="medium")
    write_atomically(output, lambda file: figure.savefig(file, format=kind, dpi=150))
    return told


def _spread(points: Array, indices: Array) -> Array:
    """Points with indices spread about their whole number, where all would lie on one another."""
    return points + np.random.default_rng(0).uniform(-0.3, 0.3, points.shape) * indices


def chosen(dims: Sequence[str], columns: Columns) -> tuple[int, int]:
    """The two dimensions of flat observations that are named.

    Args:
        dims: a number is a place in the flat observation, a name all dimensions of that part of a Dict, `name:1` one.
        columns: name and width of each part.

    Raises:
        UsageError: there is no such dimension, or they aren't two.
    """
    names = dimension_names(columns)
    places = []
    for word in dims:
        if word.isdecimal() and int(word) < len(names):
            found = [int(word)]
        else:
            found = [i for i, name in enumerate(names) if word in (name, name.rpartition(":")[0])]
        if not found:
            parts = "".join(f", {part} ({width})" for part, width in columns if part)
            raise UsageError(f"--dims {word}: no dimension of the observations; there are 0 to {len(names) - 1}{parts}")
        places += found
    if len(places) != 2 or places[0] == places[1]:
        raise UsageError(f"--dims must name two dimensions; got {', '.join(names[i] for i in places)}")
    return places[0], places[1]


def dimension_names(columns: Columns) -> list[str]:
    """What the dimensions of flat observations are called: `observation 1`, or in a Dict `name:1` or `name`."""
    return [
        (part if width == 1 else f"{part}:{i}") if part else f"observation {i}"
        for part, width in columns
        for i in range(width)
    ]


def principal_components(states: Sequence[Array], columns: Columns) -> tuple[list[Array], list[str], str]:
    """Each run's states `[n, 2]` by the two principal components of all of them, labels, and what they are made of.

    Each dimension is divided by its standard deviation over all runs, since their units differ; one that never changes
    is left out. A component's sign is such that its largest weight is positive.
    """
    every = np.concatenate(states).astype(np.float64)
    mean, std = every.mean(0), every.std(0)
    scale = np.divide(1, std, out=np.zeros_like(std), where=np.ptp(every, 0) > 0)
    _, singular, axes = np.linalg.svd((every - mean) * scale, full_matrices=False)
    axes = axes[:2] * np.sign(axes[np.arange(2), np.abs(axes[:2]).argmax(1)])[:, None]
    shares = singular[:2] ** 2 / max((singular**2).sum(), np.finfo(np.float64).tiny)
    labels = [f"component {i + 1} ({share:.0%} of the variance)" for i, share in enumerate(shares)]
    names = [printable(name) for name in dimension_names(columns)]
    largest = [", ".join(f"{axis[i]:+.2f} {names[i]}" for i in np.argsort(-np.abs(axis))[:3]) for axis in axes]
    told = "; ".join(f"{label}: {made} ..." for label, made in zip(labels, largest, strict=True))
    return [((obs - mean) * scale) @ axes.T for obs in states], labels, told


def _plain(text: str) -> str:
    """Text for a picture: a dollar would begin a formula of matplotlib's."""
    return printable(text).replace("$", r"\$")
