"""Learning curves of runs, seeds of one setting together; or a table of them; or the states that they visited.

python scripts/plot.py runs/HalfCheetah-v4__*
python scripts/plot.py runs/* --table
python scripts/plot.py runs/vime runs/none --states
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
import tyro

from rlgen.command import command_of_run, default
from rlgen.errors import CheckpointError, UsageError
from rlgen.files import canonical_json, csv_cell, printable, sha256, write_atomically, write_bytes
from rlgen.ranges import Count

if TYPE_CHECKING:
    import pandas as pd

Steps = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Arguments:
    """Draw runs that are done or under way: the mean over seeds, and its 95% bootstrap interval."""

    runs: tyro.conf.Positional[list[Path]]
    """Folders of runs."""
    metric: str = "return_mean"
    """A column of metrics.csv."""
    output: Path = Path("runs/plot.png")
    """The picture, a panel an environment; its name ends in .png, .pdf or .svg."""
    table: bool = False
    """Print a table of the runs instead, and write it to index.csv beside them."""
    states: bool = False
    """Draw the states that the runs visited instead, one column per run: coloured by time above, and below by the bonus
    that the policy received there, or by its reward in runs that have no bonus."""
    dims: Annotated[tuple[str, ...] | None, default("both of two, else two principal components")] = None
    """The two dimensions that --states draws, such as 0 1. Parts of a Dict observation go by name: achieved_goal, or
    achieved_goal:0 observation:2."""
    points: Count = 50
    """Largest number of points of a curve. What was logged between two of them is averaged, and there are fewer where
    nothing was."""


def main(arguments: Arguments | Sequence[str]) -> None:
    """Read, draw or tell; the arguments parsed or as words."""
    if not isinstance(arguments, Arguments):
        arguments = tyro.cli(Arguments, args=arguments)
    if not arguments.runs:
        raise UsageError("give the folders of runs, such as runs/*")
    # The folder of --seeds holds one a seed.
    paths = [found for path in arguments.runs for found in (sorted(path.glob("seed_*")) or [path])]
    folders = [path for path in paths if (path / "config.json").is_file()]
    if not folders:
        raise CheckpointError(f"{', '.join(map(str, arguments.runs))}: no folder of a run")
    if arguments.dims is not None and not arguments.states:
        raise UsageError("--dims has no effect without --states")
    if arguments.states and arguments.table:
        raise UsageError("--states and --table: give one of them")
    if arguments.table:
        show_table(folders)
    elif arguments.states:
        show_states(folders, arguments)
    else:
        draw(folders, arguments)


def show_states(folders: list[Path], arguments: Arguments) -> None:
    """Draw where the runs have been."""
    from rlgen.states import draw_states, read_visits

    kind = picture_kind(arguments.output)
    axes = draw_states(arguments.output, kind, [read_visits(folder) for folder in folders], arguments.dims)
    print(f"{arguments.output}: {len(folders)} run{'s'[: len(folders) > 1]}; {axes}")


def picture_kind(output: Path) -> str:
    """The format that a picture's name says: png, pdf or svg."""
    kind = output.suffix.lower().removeprefix(".")
    if kind not in ("png", "pdf", "svg"):
        raise UsageError(f"--output {output}: the name must end in .png, .pdf or .svg")
    return kind


def show_table(folders: list[Path]) -> None:
    """One row a run, from its summary, or from what it logged so far."""
    import pandas as pd

    from rlgen.run_log import read_metrics, read_summary

    rows = []
    for folder in folders:
        summary, metrics = read_summary(folder), read_metrics(folder)
        name = f"{folder.parent.name}/{folder.name}" if folder.name.startswith("seed_") else folder.name
        row = {"run": name, "status": summary.get("status", "done") if summary else "under way, or stopped"}
        row |= {name: summary[name] for name in SUMMARY if summary.get(name) is not None}
        if not summary and len(metrics):
            row |= {"env_steps": metrics["env_steps"].iloc[-1], "return_mean": metrics["return_mean"].iloc[-1]}
        # Numbers, and text that commands neither a terminal nor a spreadsheet.
        rows.append({k: v if isinstance(v, int | float | np.number) else printable(str(v)) for k, v in row.items()})
    table = pd.DataFrame(rows)
    safe = table.map(csv_cell)
    write_bytes(folders[0].parent / "index.csv", safe.to_csv(index=False).encode())
    pd.options.display.width = 200
    print(table.to_string(index=False, float_format="{:.4g}".format, na_rep=""))


SUMMARY = (
    "env_id",
    "algorithm",
    "reward",
    "seed",
    "env_steps",
    "wall_seconds",
    "return_mean",
    "stochastic_return_mean",
    "normalised_score",
    "error",
)


def draw(folders: list[Path], arguments: Arguments) -> None:
    """A panel an environment, a line a setting: mean over seeds of what was logged, and its interval."""
    from matplotlib.figure import Figure

    from rlgen.evaluation import bootstrap_interval
    from rlgen.run_log import read_metrics

    kind = picture_kind(arguments.output)
    curves: dict[str, dict[str, list[pd.DataFrame]]] = {}
    for folder in folders:
        metrics = read_metrics(folder)
        if not len(metrics):
            continue  # it has just begun
        if arguments.metric not in metrics:
            raise UsageError(f"{folder}/metrics.csv has no column {arguments.metric}; it has {', '.join(metrics)}")
        run = metrics[["env_steps", arguments.metric]].dropna()
        if len(run):
            env_id, setting = _setting(folder)
            curves.setdefault(env_id, {}).setdefault(setting, []).append(run)
    if not curves:
        raise CheckpointError(f"nothing of {arguments.metric} was logged yet")

    # Legends stand below the panels: a setting may be longer than a panel is wide.
    height = 4 + 0.25 * max(map(len, curves.values()))
    figure = Figure(figsize=(6 * len(curves), height), layout="constrained")
    for axes, (env_id, settings) in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True):
        for setting, runs in settings.items():
            steps, values = _curves(runs, arguments.points)
            (line,) = axes.plot(steps, values.mean(0), label=f"{setting}, {len(runs)} seed{'s'[: len(runs) > 1]}")
            if len(runs) > 1 and len(steps):
                low, high = np.transpose([bootstrap_interval(column, draws=1000) for column in values.T])
                axes.fill_between(steps, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
        axes.set(title=env_id, xlabel="environment steps", ylabel=arguments.metric)
        axes.grid(alpha=0.3)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), fontsize="small")
    write_atomically(arguments.output, lambda file: figure.savefig(file, format=kind, dpi=120))
    drawn = sum(len(runs) for settings in curves.values() for runs in settings.values())
    left_out = f"; {len(folders) - drawn} have no {arguments.metric} yet" if drawn < len(folders) else ""
    print(f"{arguments.output}: {drawn} run{'s'[: drawn > 1]}{left_out}")


# The arguments that are no setting of a run.
NO_SETTING = {"env", "sparse", "output", "overwrite", "run"} | {
    "seed", "run_dir", "threads", "n_threads", "device", "eval_episodes", "checkpoint_seconds", "track", "resume"
}  # fmt: skip


def _setting(folder: Path) -> tuple[str, str]:
    """Environment and setting of a run: its command, with the arguments that matter and aren't the default."""
    from rlgen.run_log import plain, read_config

    config = read_config(folder)
    if "agent" in config and config.get("arguments") is None:
        return _named(str(config["env_id"]), _of_agent(folder, config))
    command, told = command_of_run(folder)
    if command not in ("gail", "vime", "expert"):
        raise CheckpointError(f"{folder}: holds no run of gail, vime or expert")
    default = plain(importlib.import_module(f"rlgen.commands.{command}").Arguments())
    usual = default | default["run"]
    if isinstance(told.get("run"), dict):
        told |= told["run"]
    words = [
        f"--{name.replace('_', '-')} {str(value).rstrip('/').rsplit('/', 1)[-1]}"
        for name, value in told.items()
        if name not in NO_SETTING and value != usual.get(name)
    ]
    return _named(str(config.get("env_id", folder.name.split("__")[0])), " ".join([command, *words]))


def _named(env_id: str, setting: str) -> tuple[str, str]:
    # A dollar would begin a formula of matplotlib's.
    return printable(env_id).replace("$", r"\$"), printable(setting).replace("$", r"\$")


def _of_agent(folder: Path, config: dict[str, Any]) -> str:
    """The setting of a run from Python, told apart from others of its kind by a digest."""
    try:
        kind, told = config["agent"]["kind"], config["agent"]["arguments"]
        told = {name: value for name, value in told.items() if name not in NO_SETTING}
        rest = [config.get(x) for x in ("settings", "env_kwargs", "demonstrations", "n_trajectories", "subsample")]
        return f"{kind} {told['algo']} {sha256(canonical_json([told, *rest]))[:6]}"
    except (LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder}: holds no run ({type(error).__name__}: {error})") from None


def _curves(runs: Sequence[pd.DataFrame], points: int) -> tuple[Steps, Steps]:
    """Steps `[P]` as far as all runs have come, and each run's values `[n, P]` there, all of them measured.

    P is `points`, or halved until nothing is missing between the first step at which all runs have a value and the end.
    """
    end = min(run["env_steps"].max() for run in runs)
    while True:
        steps = np.linspace(0, end, points + 1)[1:]
        values = np.stack([_binned(run, steps) for run in runs])
        measured = np.array(np.isfinite(values).all(0))
        if points == 1 or measured[measured.argmax() :].all():
            return steps[measured], values[:, measured]
        points //= 2


def _binned(run: pd.DataFrame, steps: Steps) -> Steps:
    """The mean of what was logged up to each step since the one before, NaN where nothing was."""
    number = np.searchsorted(steps, run["env_steps"])
    return run.iloc[:, 1].groupby(number).mean().reindex(range(len(steps))).to_numpy()
