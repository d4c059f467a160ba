"""A run's folder: what was run, what happened, what came out; and the display of its progress.

A folder that holds no run, or a file in it that is damaged or not what a run writes, is a `CheckpointError`.
"""

from __future__ import annotations

import base64
import contextlib
import csv
import dataclasses
import importlib
import io
import json
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

import numpy as np

from rlgen.errors import CheckpointError, UsageError
from rlgen.files import (
    canonical_json,
    json_bytes,
    lock,
    read_json,
    read_regular,
    sha256,
    short,
    versions,
    write_atomically,
    write_bytes,
    write_json,
)
from rlgen.train import Iteration

if TYPE_CHECKING:
    import pandas as pd

MAX_METRICS_BYTES = 64 << 20
# What is read of config.json and summary.json without a question; the rest is checked where it is used.
CONFIG = {
    "agent?": {"told_by_id?": bool, "expert_return?": (float, None), "arguments?": dict},
    "columns?": {"*": [str]},
}
SUMMARY = {"expert_return_mean?": (float, None)}
# Columns that the tables have.
METRICS = {"iteration": int, "env_steps": int, "return_mean": float}
RESUMED = {"episodes", "wall_seconds"}
EVALUATIONS = {"steps": int, "return_mean": float, "return_std": float, "episode_length_mean": float, "episodes": int}


def hold(folder: Path) -> IO[str]:
    """A run's `config.json`, locked: of two processes that would run or resume it, the second is refused.

    Links in the folder are refused.
    """
    if links := [path.name for path in folder.glob("*") if path.is_symlink()]:
        raise CheckpointError(f"{folder}: {links[0]} is a link; a run's files lie in its folder")
    read_config(folder)
    file = (folder / "config.json").open("r+")
    _lock(file, folder)
    return file


def _lock(file: IO[str], folder: Path) -> None:
    try:
        lock(file)
    except BlockingIOError:
        raise CheckpointError(f"{folder}: another process is running or resuming this run") from None


def read_config(folder: Path, schema: Any = CONFIG) -> dict[str, Any]:
    """A run's `config.json`, of a schema, see `rlgen.files.check`."""
    return _read_object(folder / "config.json", f"{folder}: holds no run", schema)


def check_unchanged(folder: Path, config: Mapping[str, Any], digest: str) -> None:
    """Refuse what `config.json` says if it isn't what the run wrote."""
    if sha256(canonical_json(config)) != digest:
        raise CheckpointError(f"{folder}/config.json: it was changed since the run began; the run can't be used")


ORIGINS = ("init", "recovered")
"""Fields of `config.json` that tell what a run started from, or was paid by, which may have been trained on since."""


def check_config(folder: Path, config: Mapping[str, Any], digest: str) -> None:
    """Refuse to go on with a run under other settings than it was started with; the error names the first.

    Args:
        folder: the run's.
        config: what the run would have now; its arguments' wording is no setting.
        digest: of `config.json` as the run wrote it.
    """
    before = read_config(folder)
    check_unchanged(folder, before, digest)
    for name, value in config.items():
        if name not in ("arguments", *ORIGINS) and plain(value) != before.get(name):
            raise CheckpointError(f"{folder}/config.json: field {name}: the run had others; it can't go on")


def row_of(iteration: Iteration) -> dict[str, float]:
    """An iteration as a row of `metrics.csv`."""
    returns = iteration.episode_returns
    return {
        "iteration": iteration.number,
        "env_steps": iteration.env_steps,
        "return_mean": float(np.mean(returns)) if returns else float("nan"),
        "episodes": len(returns),
        **iteration.metrics,
        # Times come last: everything before them is the same for the same seed.
        "wall_seconds": round(iteration.wall_seconds, 3),
        **{f"seconds_{part.replace(' ', '_')}": round(value, 4) for part, value in iteration.seconds.items()},
    }


# What of a row tells of the episodes, and of the optimizer; the rest is time and the reward model.
_OF_EPISODES = ("iteration", "env_steps", "return_mean", "episodes")
_OF_OPTIMIZER = (
    "reward",
    "kl",
    "entropy",
    "explained_variance",
    "value_loss",
    "policy_loss",
    "q",
    "critic_loss",
    "alpha",
    "model_error",
    "termination_loss",
    "reward_error",
    "surrogate_improvement",
    "line_search_share",
    "gradient_steps",
    "training_loss",
    "validation_loss",
    "best_validation_loss",
)


def _tag(name: str) -> str:
    """TensorBoard's name of a metric, in a group."""
    if "seconds" in name:
        return f"time/{name}"
    group = "rollout" if name in _OF_EPISODES else "train" if name in _OF_OPTIMIZER else "reward_model"
    return f"{group}/{name}"


def steps_of(row: Mapping[str, float]) -> int:
    """The steps that a row of metrics counts: of the gradient where no environment is stepped."""
    return int(row.get("gradient_steps", row["env_steps"]))


class Display:
    """Progress: in a terminal a line that is redrawn and stays every twentieth of the way; in a Jupyter notebook a
    table of such lines and the curve of the return, updated every two seconds; elsewhere a line every ten seconds.

    Args:
        total_timesteps: for the time left.
        columns: the metrics shown, by their short titles.
        shown: False prints nothing.
    """

    def __init__(self, total_timesteps: int, columns: Mapping[str, str], shown: bool = True) -> None:
        self.total_timesteps, self.columns, self.shown = total_timesteps, columns, shown
        self._last, self._titled, self._part, self._stays = 0.0, False, 0, True
        self._return = float("nan")
        self._notebook = _Notebook.here() if shown else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._notebook is not None:
            self._notebook.draw()
        elif not self._stays:
            print()

    def __call__(self, row: Mapping[str, float]) -> None:
        """Show a row of `row_of`."""
        steps, tty = steps_of(row), sys.stdout.isatty()
        no_returns = "gradient_steps" in row
        if row["episodes"]:
            self._return = row["return_mean"]
        waits = not tty and steps < self.total_timesteps and time.monotonic() - self._last < 10
        if not self.shown or (waits and self._notebook is None):
            return
        columns = {name: title for name, title in self.columns.items() if name in row}
        titles = ["steps", "steps/s", *["return"][no_returns:], *columns.values(), "left"]
        speed = steps / max(row["wall_seconds"], 1e-3)
        left = max(self.total_timesteps - steps, 0) / speed
        values = [f"{steps:,}", f"{speed:,.0f}", *[short(self._return)][no_returns:]]
        values += [f"{row[name]:.3g}" for name in columns]
        values.append(f"{left // 60:.0f}:{left % 60:02.0f}")
        part = 20 * steps // self.total_timesteps
        self._stays, self._part = not tty or part > self._part, part
        if self._notebook is not None:
            self._notebook(part, titles, values, row)
            return
        self._last = time.monotonic()
        if not self._titled:
            self._titled = True
            print("  ".join(f"{title:>9}" for title in titles), flush=True)
        line = "  ".join(f"{value:>9}" for value in values)
        print(f"\r{line}" if tty else line, end="\n" if self._stays else "", flush=True)


class _Notebook:
    """One output of a notebook's cell, which is replaced: a line every twentieth of the way, and the last one.

    Args:
        display: the module `IPython.display`.
    """

    def __init__(self, display: Any) -> None:
        self.display = display
        self._lines: dict[int, list[str]] = {}
        self._rows: list[Mapping[str, float]] = []
        self._titles: list[str] = []
        self._handle: Any = None
        self._last = 0.0

    @classmethod
    def here(cls) -> Self | None:
        """That of the running Jupyter kernel; None elsewhere, where IPython is not imported."""
        ipython = sys.modules.get("IPython")
        shell = None if ipython is None else ipython.get_ipython()
        return None if getattr(shell, "kernel", None) is None else cls(importlib.import_module("IPython.display"))

    def __call__(self, part: int, titles: list[str], values: list[str], row: Mapping[str, float]) -> None:
        self._titles, self._lines[part] = titles, values
        if row["episodes"] or "gradient_steps" in row:
            self._rows.append(row)
        if time.monotonic() - self._last > 2:
            self.draw()

    def draw(self) -> None:
        if not self._lines:
            return
        self._last = time.monotonic()
        rows = "".join(f"<tr><td>{'</td><td>'.join(values)}</td></tr>" for values in self._lines.values())
        html = f"<table><tr><th>{'</th><th>'.join(self._titles)}</th></tr>{rows}</table>"
        if self._rows:
            png = io.BytesIO()
            _curve_figure(self._rows).savefig(png, format="png", dpi=80)
            html += f'<img src="data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}">'
        if self._handle is None:
            self._handle = self.display.display(self.display.HTML(html), display_id=True)
        else:
            self._handle.update(self.display.HTML(html))


class RunLog:
    """Writes `config.json`, `metrics.csv`, `evaluations.csv`, TensorBoard events, `curve.png` and `summary.json`.

    Args:
        folder: made if absent; refused if it holds a run already.
        config: what was told and what it came to, by name: dataclasses and JSON values.
        held: of a run to resume, from `hold`.
        resume_after: go on after this iteration; what the run logged of later ones is dropped.
        track: log to Weights & Biases too; its files go to `wandb` in the folder.

    Attributes:
        content: that of `config.json`; a checkpoint keeps its digest, so that a changed one is noticed.

    Raises:
        FileExistsError: the folder holds a run, and it isn't to be resumed.
        CheckpointError: `metrics.csv` lacks iterations that were done, or is no table of numbers.
        UsageError: Weights & Biases isn't installed, or doesn't start.
    """

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any],
        held: IO[str] | None = None,
        resume_after: int = 0,
        track: bool = False,
    ) -> None:
        if track:
            _wandb()  # before anything is written
        content = provenance() | {name: plain(value) for name, value in config.items()}
        rows: list[dict[str, float]] = []
        self._evaluations: list[dict[str, float]] = []
        if held is None:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                # Exclusive: of two runs given one folder, the second is refused.
                self._held: IO[str] = (folder / "config.json").open("x")
            except FileExistsError:
                raise FileExistsError(f"{folder} holds a run already; choose another --run-dir") from None
            _lock(self._held, folder)
            self._held.write(json_bytes(content).decode())
            self._held.flush()
            os.fsync(self._held.fileno())
        else:
            self._held = held
            content = read_config(folder)
            rows = _keep_rows(folder, resume_after)
            done = steps_of(rows[-1]) if rows else 0
            self._evaluations = [
                {name: row[name] for name in EVALUATIONS} for row in read_evaluations(folder) if row["steps"] <= done
            ]
        self.content = content
        self.folder = folder
        self._rows = rows
        try:
            self._tracked = _start_tracking(folder, content) if track else None
        except BaseException:
            if held is None:  # the same command is to find the folder free
                shutil.rmtree(folder / "wandb", ignore_errors=True)
                (folder / "config.json").unlink()
                with contextlib.suppress(OSError):  # it was there before, with files in it
                    folder.rmdir()
            raise

    def __enter__(self) -> Self:
        from torch.utils.tensorboard import SummaryWriter

        (self.folder / "summary.json").unlink(missing_ok=True)  # it is of the part before
        # Events are written anew from the rows: what a killed process left of them may lack the last minutes, or hold
        # steps that come again.
        for path in (self.folder / "tensorboard").glob("events.out.tfevents.*"):
            path.unlink()
        self._writer = SummaryWriter(str(self.folder / "tensorboard"))
        self._writer.add_text("config", f"```json\n{json.dumps(self.content, indent=1)}\n```")
        rows = self._rows
        for row in rows:
            self._write_events(row, time.time() - rows[-1]["wall_seconds"] + row["wall_seconds"])
        for row in self._evaluations:
            self._write_evaluation(row)
        self._file = (self.folder / "metrics.csv").open("a" if rows else "w", newline="")
        self._csv = csv.DictWriter(self._file, list(rows[0])) if rows else None
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        # What ended the run is told, not what follows from it, as on a full disk.
        with contextlib.nullcontext() if error is None else contextlib.suppress(Exception):
            self._file.close()
            self._writer.flush()
            plot_curve(self.folder / "curve.png", self._rows)

    def sync(self) -> None:
        """Have the rows on the disk: before a checkpoint that counts them, so that no power cut takes them from it."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def __call__(self, row: Mapping[str, float]) -> None:
        """Log a row of `row_of`."""
        if self._csv is None:
            self._csv = csv.DictWriter(self._file, list(row))
            self._csv.writeheader()
        if list(row) != list(self._csv.fieldnames):
            raise CheckpointError(f"{self.folder}/metrics.csv: its columns are not those of this training")
        self._csv.writerow(row)
        self._file.flush()
        self._rows.append(dict(row))
        self._write_events(row)
        if self._tracked is not None:
            self._tracked.log(row, step=steps_of(row))

    def evaluation(self, row: Mapping[str, float]) -> None:
        """Log an evaluation on the way, `steps` and what was found after them, to `evaluations.csv` and TensorBoard."""
        self._evaluations.append(dict(row))
        write_csv(self.folder / "evaluations.csv", self._evaluations)
        self._write_evaluation(row)

    def _write_events(self, row: Mapping[str, float], wall_time: float | None = None) -> None:
        for name, value in row.items():
            self._writer.add_scalar(_tag(name), value, steps_of(row), wall_time)

    def _write_evaluation(self, row: Mapping[str, float], prefix: str = "eval") -> None:
        for name in ("return_mean", "episode_length_mean"):
            self._writer.add_scalar(f"{prefix}/{name}", row[name], int(row["steps"]))

    def save_summary(self, summary: dict[str, Any]) -> None:
        """Write `summary.json`, end the logs and release the folder."""
        with self._held:
            if summary.get("return_mean") is not None:
                steps = summary.get("gradient_steps", summary["env_steps"])
                self._write_evaluation(summary | {"steps": steps}, "final_eval")
            self._writer.close()
            if self._tracked is not None:
                self._tracked.summary.update(summary)
                self._tracked.finish(exit_code=int(summary["status"] == "failed"))
            write_json(self.folder / "summary.json", summary)


def read_summary(folder: Path) -> dict[str, Any]:
    """A run's `summary.json`; empty where training hasn't ended."""
    path = folder / "summary.json"
    return _read_object(path, str(path), SUMMARY) if path.exists() else {}


def _read_object(path: Path, what: str, schema: Any) -> dict[str, Any]:
    try:
        return read_json(path, schema)  # type: ignore[no-any-return]
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{what} ({type(error).__name__}: {error})") from None


def read_metrics(folder: Path) -> pd.DataFrame:
    """A run's `metrics.csv`, one row an iteration; empty before the first. A row that is being written is left out."""
    import pandas as pd

    names, rows = _read_table(folder / "metrics.csv", "metrics", METRICS)
    return pd.DataFrame(rows, columns=names or None)


def first_metrics(folder: Path, n_rows: int) -> list[dict[str, float]]:
    """The first rows of a run's `metrics.csv`, without pandas, which takes long to import."""
    return _records(*_read_table(folder / "metrics.csv", "metrics", METRICS, n_rows))


def read_evaluations(folder: Path) -> list[dict[str, float]]:
    """A run's `evaluations.csv`, one row an evaluation on the way; empty where there are none."""
    return _records(*_read_table(folder / "evaluations.csv", "evaluations", EVALUATIONS))


def _read_table(
    path: Path, what: str, kinds: Mapping[str, type], n_rows: int | None = None
) -> tuple[list[str], list[list[float]]]:
    """The header and the rows of a table of numbers, in which there are columns of these kinds."""
    if not path.exists():
        return [], []
    try:
        whole, _, _ = read_regular(path, MAX_METRICS_BYTES).decode().rpartition("\n")
        if not whole:
            return [], []
        header, *lines = csv.reader(whole.split("\n")[: None if n_rows is None else n_rows + 1])
        rows = [[float(text or "nan") for text in line] for line in lines]
        if len(set(header)) < len(header) or any(len(row) != len(header) for row in rows):
            raise ValueError("rows and header differ in length, or a name stands twice")
        if absent := kinds.keys() - {*header}:
            raise ValueError(f"no column {min(absent)}")
        for i, name in enumerate(header):
            if kinds.get(name) is int or name == "gradient_steps":
                for row in rows:
                    row[i] = int(row[i])
        return header, rows
    except (OSError, ValueError, OverflowError, csv.Error) as error:
        raise CheckpointError(f"{path}: not a run's {what} ({type(error).__name__}: {error})") from None


def _records(names: Sequence[str], rows: Sequence[Sequence[float]]) -> list[dict[str, float]]:
    return [dict(zip(names, row, strict=True)) for row in rows]


def write_csv(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write rows of the same columns, whole or not at all."""
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_bytes(path, text.getvalue().encode())


def _keep_rows(folder: Path, done: int) -> list[dict[str, float]]:
    """The rows of the iterations that are done, all in order; those of later ones are taken out of the file."""
    if done and folder.parent.name == "steps" and not (folder / "metrics.csv").exists():
        raise CheckpointError(
            f"{folder}: an agent that a run kept on its way; --init starts from its policy, and rlgen.load reads it"
        )
    rows = first_metrics(folder, done)
    found = [row["iteration"] for row in rows]
    if rows and (absent := RESUMED - rows[0].keys()):
        raise CheckpointError(f"{folder}/metrics.csv: not a run's metrics (no column {min(absent)})")
    if found != list(range(1, done + 1)):
        first = next(i for i in range(1, done + 1) if found[i - 1 : i] != [i])
        raise CheckpointError(
            f"{folder}/metrics.csv: the row of iteration {first} is missing; the checkpoint has {done} done"
        )
    if done:
        lines = read_regular(folder / "metrics.csv", MAX_METRICS_BYTES).decode().split("\n")[: done + 1]
        write_bytes(folder / "metrics.csv", "".join(f"{line}\n" for line in lines).encode())
    return rows


def _wandb() -> Any:
    try:
        import wandb
    except ImportError:
        raise UsageError("--track needs Weights & Biases: pip install 'rlgen[track]'") from None
    return wandb


def _start_tracking(folder: Path, config: Mapping[str, Any]) -> Any:
    """A run of Weights & Biases under the folder's name, the same one again where the run is resumed."""
    wandb = _wandb()
    try:
        return wandb.init(
            project="rlgen",
            name=folder.resolve().name,
            id=config.get("id"),
            resume="allow",
            config=dict(config),
            dir=str(folder),
            settings=wandb.Settings(silent=True, console="off"),
        )
    except wandb.errors.Error as error:
        raise UsageError(f"--track: {error}; WANDB_MODE=offline keeps the log here") from None


def plain(value: Any) -> Any:
    """A dataclass, path or collection, nested as it may be, as a JSON value."""

    def as_json(x: Any) -> Any:
        return dataclasses.asdict(x) if dataclasses.is_dataclass(x) and not isinstance(x, type) else str(x)

    return json.loads(json.dumps(value, default=as_json))


def command_line() -> str:
    """The command of this process, as one would type it: `rlgen gail ...` or `python scripts/gail.py ...`."""
    ours = Path(sys.argv[0]).name in ("rlgen", "__main__.py")
    return shlex.join(["rlgen", *sys.argv[1:]] if ours else ["python", *sys.argv])


def provenance() -> dict[str, Any]:
    """An identity of its own, the command, versions and git revision of this process."""

    def git(*arguments: str) -> str:
        try:
            return subprocess.run(
                ["git", *arguments], capture_output=True, text=True, cwd=Path(__file__).parent, timeout=10, check=True
            ).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return ""

    return {
        "id": secrets.token_hex(8),
        "command": command_line(),
        "versions": versions(),
        "git_revision": git("rev-parse", "HEAD"),
        "git_changed": bool(git("status", "--porcelain", "--untracked-files=no")),
    }


def plot_curve(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Draw a run's progress: the true return, or the loss where no environment is stepped; nothing before there is one.

    A single value is a point.
    """
    if figure := _curve_figure(rows):
        write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=120))


def _curve_figure(rows: Sequence[Mapping[str, float]]) -> Any:
    """The figure; None if there is nothing to draw."""
    from matplotlib.figure import Figure

    cloning = bool(rows) and "gradient_steps" in rows[0]
    losses = [name for name in ("training_loss", "validation_loss") if rows and name in rows[0]]
    measured = rows if cloning else [row for row in rows if row["episodes"]]
    if not measured:
        return None
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name in losses if cloning else ["return_mean"]:
        axes.plot(
            [steps_of(row) for row in measured],
            [row[name] for row in measured],
            marker="o" if len(measured) == 1 else None,
            label=name.replace("_", " "),
        )
    if cloning:
        axes.set_xlabel("gradient steps")
        axes.set_ylabel("negative log-likelihood of an action, nats")
        axes.legend()
    else:
        axes.set_xlabel("environment steps")
        axes.set_ylabel("return of training episodes (stochastic policy)")
    axes.grid(alpha=0.3)
    return figure
