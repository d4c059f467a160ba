"""Draw a figure of runs for a paper, or of the states that they visited, or make a table of them.

python scripts/plot.py runs/HalfCheetah-v4__* --output curves.pdf
python scripts/plot.py runs/* --table
python scripts/plot.py runs/vime runs/none --states
"""

from __future__ import annotations

import fnmatch
import importlib
import pkgutil
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import tyro

from rlgen import commands
from rlgen.command import command_of_run, default
from rlgen.errors import CheckpointError, UsageError
from rlgen.files import canonical_json, printable, sha256, write_atomically, write_bytes
from rlgen.ranges import Count, Positive

if TYPE_CHECKING:
    from rlgen.report.figure import Line
    from rlgen.report.runs import Run

DRAWN = Path("runs/plot.png")
PICTURES = (".png", ".pdf", ".svg")
TABLES = {".txt": "text", ".csv": "csv", ".md": "markdown", ".tex": "latex"}


@dataclass(frozen=True)
class Arguments:
    """Draw finished runs and runs under way: a panel for each environment, a line for each setting over its seeds."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(help_behavior_hint="(required)")]
    """Folders of runs, or of --seeds, which hold a run for each seed."""
    output: Annotated[Path | None, default("runs/plot.png; a table goes to the terminal")] = None
    """File to write. Its ending gives the format: .png, .pdf or .svg, and for a table .txt, .csv, .md or .tex."""
    metric: str = "return_mean"
    """Column of metrics.csv to draw, such as `return_mean`, the training return of the sampling policy."""
    normalise: bool = False
    """Show normalised scores: 0 is a policy of random actions, 1 the expert."""
    labels: Annotated[tuple[str, ...], default("the setting")] = ()
    """Names of the runs by their folders, NAME=PATTERN, such as `GAIL=runs/*gail-trpo*` and `AIRL=runs/*airl*`. Names
    alone, such as GAIL AIRL BC, are of the settings in the order in which they first appear among the runs."""
    label: Annotated[str | None, default("the setting")] = None
    """Name of each run, with fields of its summary.json and config.json in braces, such as "{algorithm}" or
    "{algorithm}, gamma {settings.learner.gamma}". Runs of one name share a line; "{run}" gives each its own."""
    references: bool = True
    """Draw the returns of the expert and of a policy of random actions as horizontal lines."""
    size: Annotated[tuple[Positive, Positive] | None, tyro.conf.arg(metavar="W H"), default("3.3 or 6.75 wide")] = None
    """Width and height of the figure in inches. A paper's column is about 3.3 wide, its page 6.75."""
    style: Annotated[str | None, default("rlgen's own")] = None
    """Name of a matplotlib style, such as ggplot or seaborn-v0_8-paper."""
    points: Count = 50
    """Largest number of points of a curve. A point is the mean of what was logged since the one before; there are fewer
    where nothing was."""
    table: bool = False
    """Make a table instead, one row for each setting over its seeds: final returns, the worst seed, time to 95% of the
    expert."""
    table_format: Annotated[
        Literal["text", "csv", "markdown", "latex"] | None, default("by --output's ending, else text")
    ] = None
    """Format of the table."""
    states: bool = False
    """Draw the states that the runs visited instead, one column per run: coloured by time above, and below by the bonus
    that the policy received there, or by its reward in runs that have no bonus."""
    dims: Annotated[tuple[str, ...] | None, default("both of two, else two principal components")] = None
    """The two dimensions that --states draws, such as 0 1. Parts of a Dict observation go by name: achieved_goal, or
    achieved_goal:0 observation:2."""


# What belongs to one kind of output alone.
OF_FIGURES = ("metric", "references", "size", "style", "points")
OF_STATES = ("states", "dims", "output")


def main(arguments: Arguments | Sequence[str]) -> None:
    """Read runs, group them, draw or tabulate; the arguments parsed or as words."""
    from rlgen.report.runs import Run

    if not isinstance(arguments, Arguments):
        arguments = tyro.cli(Arguments, args=arguments)
    if not arguments.runs:
        raise UsageError("give the folders of runs, such as runs/*")
    _check(arguments)
    # The folder of --seeds holds one a seed.
    paths = [found for path in arguments.runs for found in (sorted(path.glob("seed_*"), key=_by_seed) or [path])]
    folders = [path for path in paths if (path / "config.json").is_file()]
    if absent := [path for path in arguments.runs if not path.exists()]:
        raise CheckpointError(f"{absent[0]}: no such folder")
    if not folders:
        raise CheckpointError(f"{', '.join(map(str, arguments.runs))}: no folder of a run")
    if arguments.states:
        draw_visits(folders, arguments)
        return
    found = grouped([Run.read(folder) for folder in dict.fromkeys(folders)], arguments)
    if arguments.table:
        tabulate(found, arguments)
    else:
        draw(found, arguments)


def _by_seed(path: Path) -> tuple[int, str]:
    return len(path.name), path.name


def _check(arguments: Arguments) -> None:
    """Refuse flags that have no effect together."""
    given = [f.name for f in fields(arguments) if f.name != "runs" and getattr(arguments, f.name) != f.default]
    if arguments.states and (wrong := [name for name in given if name not in OF_STATES]):
        raise UsageError(f"--{wrong[0].replace('_', '-')} has no effect with --states")
    if arguments.dims is not None and not arguments.states:
        raise UsageError("--dims has no effect without --states")
    if arguments.labels and arguments.label is not None:
        raise UsageError("--labels and --label both name the runs; leave out one")
    if arguments.table and (of_figures := [name for name in given if name in OF_FIGURES]):
        raise UsageError(f"--{of_figures[0]} has no effect with --table")
    if arguments.table_format is not None and not arguments.table:
        raise UsageError("--table-format has no effect without --table")
    if arguments.normalise and arguments.metric != "return_mean":
        raise UsageError(f"--normalise is of returns; leave out it or --metric {arguments.metric}")
    if (output := arguments.output) is None:
        return
    if not arguments.table and output.suffix.lower() not in PICTURES:
        more = "; a table takes --table too" if output.suffix.lower() in TABLES else ""
        raise UsageError(f"--output {output}: the name must end in .png, .pdf or .svg{more}")
    if arguments.table and arguments.table_format is None and output.suffix.lower() not in TABLES:
        raise UsageError(f"--output {output}: the name of a table must end in .txt, .csv, .md or .tex")


Groups = dict[str, dict[str, "list[Run]"]]
"""Runs by task and label."""


def grouped(runs: list[Run], arguments: Arguments) -> Groups:
    """Runs by task and by label; a warning tells of a label with several settings, or a seed twice.

    Raises:
        UsageError: --labels are not as many as settings, a run matches none of their patterns or several, or --label
            has an unknown field.
    """
    settings = {run: setting(run) for run in runs}
    if arguments.label is not None:
        names = [run.labelled(arguments.label) for run in runs]
    else:
        names = list(labels(list(settings.values()), [run.task for run in runs]))
    if arguments.labels and all("=" in label for label in arguments.labels):
        names = [named(run.folder, arguments.labels) for run in runs]
    elif arguments.labels:
        shown = list(dict.fromkeys(names))
        if len(arguments.labels) != len(shown):
            raise UsageError(
                f"--labels: {len(arguments.labels)} names for {len(shown)} settings: {'; '.join(shown)}. "
                "NAME=PATTERN names the runs whose folder matches"
            )
        for label, name in zip(arguments.labels, shown, strict=True):
            print(f"{label}: {name}", file=sys.stderr)
        names = [arguments.labels[shown.index(name)] for name in names]
    found: Groups = {}
    for run, name in zip(runs, names, strict=True):
        found.setdefault(run.task, {}).setdefault(name, []).append(run)
    for task, name, members in each(found):
        seeds = [seed for run in members if (seed := _seed(run)) is not None]
        if any(settings[run] != settings[members[0]] for run in members):
            _warn(f"{name} in {task} has runs of several settings")
        elif len(set(seeds)) < len(seeds):
            _warn(f"{name} in {task} has a seed twice; its seeds are {', '.join(sorted(seeds))}")
    return found


def named(folder: Path, labels: Sequence[str]) -> str:
    """The name of a run by its folder, of labels NAME=PATTERN; the folder of --seeds stands for its runs.

    Raises:
        UsageError: no pattern matches, or those of several names do.
    """
    places = [folder, folder.parent] if folder.name.startswith("seed_") else [folder]
    paths = [path for place in places for path in (str(place), place.name)]
    pairs = [label.rpartition("=")[::2] for label in labels]
    found = {name for name, pattern in pairs if any(fnmatch.fnmatchcase(path, pattern.rstrip("/")) for path in paths)}
    if len(found) != 1:
        told = f"is of {', '.join(sorted(found))}" if found else "matches none of the patterns"
        raise UsageError(f"--labels: {folder} {told}; a label NAME=PATTERN names the runs whose folder matches")
    return found.pop()


def each(groups: Groups) -> Iterator[tuple[str, str, list[Run]]]:
    """Task, label and runs."""
    return ((task, label, runs) for task, lines in groups.items() for label, runs in lines.items())


def _warn(text: str) -> None:
    print(f"warning: {printable(text)}", file=sys.stderr)


def _seed(run: Run) -> str | None:
    agent = run.config.get("agent")
    arguments = agent.get("arguments") if isinstance(agent, dict) else None
    return str(arguments["seed"]) if isinstance(arguments, dict) and "seed" in arguments else None


def labels(settings: list[dict[str, str]], tasks: list[str]) -> Iterator[str]:
    """Each setting's command, with what of it differs from another's in the same task."""
    by_task: dict[str, list[dict[str, str]]] = {}
    for told, task in zip(settings, tasks, strict=True):
        by_task.setdefault(task, []).append(told)
    names = dict.fromkeys(name for told in settings for name in told if name)
    differing = [
        name for name in names if any(len({told.get(name) for told in group}) > 1 for group in by_task.values())
    ]
    for told in settings:
        yield ", ".join([told[""], *(f"{name} {told[name]}" for name in differing if name in told)])


# The arguments that are no setting of a run; a dataset is told by its checksums.
NO_SETTING = {"env", "env_kwargs", "sparse", "output", "overwrite", "run"} | {
    "seed", "seeds", "run_dir", "threads", "n_threads", "device", "eval_episodes", "eval_every", "checkpoint_seconds",
    "track", "resume", "go_on_to",
}  # fmt: skip


def setting(run: Run) -> dict[str, str]:
    """What of a run is neither its task nor its seed: the command, as "", and the arguments that aren't the default.

    A run from Python has all its arguments and settings.
    """
    from rlgen.report.runs import flat
    from rlgen.run_log import plain

    config = run.config
    try:
        if "agent" in config and config.get("arguments") is None:
            given = config["agent"]["arguments"] | flat(config["settings"])
            told = {"": str(config["agent"]["kind"])} | _words(given, {})
        else:
            command, given = command_of_run(run.folder)
            if command not in {module.name for module in pkgutil.iter_modules(commands.__path__)}:
                raise LookupError(command)
            usual = plain(importlib.import_module(f"rlgen.commands.{command}").Arguments())
            told = {"": command} | _words(given | given["run"], usual | usual["run"])
    except (LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{run.folder}: holds no run ({type(error).__name__}: {error})") from None
    if data := config.get("demonstrations"):
        told["expert"] = f"{told.get('expert', '')} ({sha256(canonical_json(data))[:6]})".strip()
    if "n_trajectories" in config:  # as many as were drawn, also by default
        told["n-trajectories"] = str(config["n_trajectories"])
    for field, flag in (("init", "init"), ("recovered", "reward")):
        if isinstance(config.get(field), str):  # seeds of one setting start from a folder each
            told.pop(field, None)
            told[flag] = config[field]
    return {printable(name): printable(value) for name, value in told.items()}


def _words(given: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, str]:
    return {
        name.replace("_", "-"): _word(value)
        for name, value in given.items()
        if name not in NO_SETTING and (name not in usual or value != usual[name])
    }


def _word(value: Any) -> str:
    """Of a path its last part; of a settings file its name and what tells it from others of this name."""
    if isinstance(value, dict):
        return f"{Path(str(value.get('path', ''))).name} ({sha256(canonical_json(value))[:6]})"
    return str(value).rstrip("/").rsplit("/", 1)[-1]


def draw_visits(folders: list[Path], arguments: Arguments) -> None:
    """Draw where the runs have been."""
    from rlgen.states import draw_states, read_visits

    output = arguments.output or DRAWN
    axes = draw_states(output, output.suffix.lower()[1:], [read_visits(folder) for folder in folders], arguments.dims)
    print(f"{output}: {len(folders)} run{'s'[: len(folders) > 1]}; {axes}")


def tabulate(groups: Groups, arguments: Arguments) -> None:
    """Print the table or write it, and tell of the runs that failed."""
    from rlgen.report import table

    rows = [table.row(task, label, runs, arguments.normalise) for task, label, runs in each(groups)]
    output = arguments.output
    kind = arguments.table_format or (TABLES[output.suffix.lower()] if output is not None else "text")
    if kind == "text":
        content = table.text(rows, shutil.get_terminal_size().columns)
    else:
        content = {"csv": table.csv, "markdown": table.markdown, "latex": table.latex}[kind](rows)
    if output is None:
        print(content, end="")
    else:
        write_bytes(output, content.encode())
        print(f"{output}: {len(rows)} row{'s'[: len(rows) != 1]}")
    for run in (run for _, _, runs in each(groups) for run in runs):
        if run.status == "failed":
            print(f"failed: {run.folder}: {printable(run.summary.get('error'))}", file=sys.stderr)


def draw(groups: Groups, arguments: Arguments) -> None:
    """Draw the figure, and tell of the runs that are not in it or end a line early."""
    from rlgen.report import figure

    output = arguments.output or DRAWN
    panels, told = [], []
    for task, lines in groups.items():
        drawn = {}
        levels = {label: runs for label, runs in lines.items() if _is_level(runs, arguments)}
        for label, runs in lines.items():
            if label in levels:
                continue
            line, said = _line(label, runs, arguments)
            told += [f"{label}, {task}: {text}" for text in said]
            if line is not None:
                drawn[label] = line
        end = max((line.steps.max() for line in drawn.values()), default=0.0)
        for label, runs in levels.items():
            line, said = _level(label, runs, arguments, end)
            told += [f"{label}, {task}: {text}" for text in said]
            if line is not None:
                drawn[label] = line
        if drawn:
            every = [run for label in drawn for run in lines[label]]
            panels.append(figure.Panel(task, list(drawn.values()), _references(every, arguments)))
    if not panels:
        what = f"normalised {arguments.metric}" if arguments.normalise else arguments.metric
        raise CheckpointError("; ".join([f"there is no {what} to draw", *told]))
    ylabel = {"return_mean": "training return"}.get(arguments.metric, arguments.metric)
    with figure.looks(arguments.style):
        ylabel = f"normalised {ylabel}" if arguments.normalise else ylabel
        unit = {run.unit for _, _, runs in each(groups) for run in runs if not _is_level([run], arguments)}
        xlabel = "gradient steps" if unit == {"gradient_steps"} else "environment steps"
        drawing = figure.draw(panels, ylabel, arguments.size, one_scale=arguments.normalise, xlabel=xlabel)
        kind = output.suffix.lower().removeprefix(".")
        write_atomically(output, lambda file: drawing.savefig(file, format=kind))
    n_runs = sum(len(line.values) for panel in panels for line in panel.lines)
    print(f"{output}: {n_runs} run{'s'[: n_runs != 1]}", *told, sep="\n")


def _line(label: str, runs: list[Run], arguments: Arguments) -> tuple[Line | None, list[str]]:
    """A label's line in one panel, and what is to be said of it.

    Runs that failed are left out, where others didn't. It ends where the shortest run does.
    """
    from rlgen.report.figure import Line
    from rlgen.report.runs import curves

    said = []
    sound = [run for run in runs if run.status != "failed"] or runs
    failed = sum(run.status == "failed" for run in runs)
    if len(sound) < len(runs):
        said.append(f"{failed} failed, left out")
    elif failed:
        said.append("failed, drawn as far as it came")
    found = {run: run.curve(arguments.metric) for run in sound}
    if empty := sum(not len(curve) for curve in found.values()):
        said.append(f"{empty} without {arguments.metric} so far, left out")
    found = {run: curve for run, curve in found.items() if len(curve)}
    if arguments.normalise:
        known = {run: curve for run, curve in found.items() if run.score(0.0) is not None}
        if missing := len(found) - len(known):
            said.append(f"{missing} without a score (no summary yet, or no expert better than random), left out")
        found = {run: curve.assign(value=run.score(curve["value"])) for run, curve in known.items()}
    if not found:
        return None, said
    ends = sorted(run.metrics[run.unit].max() for run in found)
    steps, values = curves(list(found.values()), arguments.points)
    if not len(steps):
        return None, [*said, "its runs have no step in common"]
    if ends[0] < ends[-1]:
        said.append(f"ends at {ends[0]:,.0f} steps with its shortest run; the longest has {ends[-1]:,.0f}")
    return Line(label, steps, values, failed), said


def _is_level(runs: list[Run], arguments: Arguments) -> bool:
    """Whether runs step no environment, and so have a return at their end alone."""
    return arguments.metric == "return_mean" and all(run.unit == "gradient_steps" for run in runs)


def _level(label: str, runs: list[Run], arguments: Arguments, end: float) -> tuple[Line | None, list[str]]:
    """The final returns of such runs, of the sampling policy as the others', from no steps to `end`."""
    from rlgen.report.figure import Line

    if not end:
        return None, ["steps no environment, so it has no return over steps; --metric validation_loss draws its loss"]
    found = {run: run.summary.get("stochastic_return_mean") for run in runs}
    values = [run.score(value) if arguments.normalise else value for run, value in found.items() if value is not None]
    values = [value for value in values if value is not None]
    said = ["steps no environment: the line is the sampling policy's return in the final evaluation"]
    if missing := len(runs) - len(values):
        said.append(f"{missing} without that return, left out")
    if not values:
        return None, said
    return Line(label, np.array([0.0, end]), np.array([[value, value] for value in values])), said


EXPERT, RANDOM = "expert", "random policy"


def _references(runs: list[Run], arguments: Arguments) -> dict[str, list[float]]:
    """Returns of the experts, each once, and of random actions, the mean over the runs that measured it."""
    if not arguments.references or arguments.metric != "return_mean":
        return {}
    if arguments.normalise:
        return {EXPERT: [1.0], RANDOM: [0.0]}
    expert, random = (
        [value for run in runs if (value := run.summary.get(name)) is not None]
        for name in ("expert_return_mean", "random_return_mean")
    )
    means = [sum(random) / len(random)] if random else []
    return {name: values for name, values in {EXPERT: sorted(set(expert)), RANDOM: means}.items() if values}
