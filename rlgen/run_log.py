"""A run's folder: what was run, what happened, what came out; and the progress display."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import secrets
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from rlgen.errors import CheckpointError, UsageError
from rlgen.files import versions, write_atomically, write_bytes, write_json
from rlgen.train import Iteration

if TYPE_CHECKING:
    import pandas as pd


def check_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse to go on with a run under other settings than it was started with; the arguments' wording is no setting.

    Raises:
        CheckpointError: it names the first that differs.
    """
    before = json.loads((folder / "config.json").read_text())
    for name, value in config.items():
        if name != "arguments" and _plain(value) != before.get(name):
            raise CheckpointError(f"{folder}/config.json: field {name}: the run had others; it can't go on")


class RunLog:
    """Writes `config.json`, `metrics.csv`, TensorBoard events, `curve.png` and `summary.json`.

    Args:
        folder: made if absent; refused if it holds a run already.
        config: what was told and what it came to, by name: dataclasses and JSON values.
        total_timesteps: for the time left.
        columns: the metrics shown in the display, by their short titles.
        resume_after: go on with the run in the folder after this iteration; what it logged of later ones is dropped.
        track: log to Weights & Biases too; its files go to `wandb` in the folder.

    Raises:
        FileExistsError: the folder holds a run, and it isn't to be resumed.
        UsageError: Weights & Biases isn't installed, or doesn't start.
    """

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any],
        total_timesteps: int,
        columns: dict[str, str],
        resume_after: int | None = None,
        track: bool = False,
    ) -> None:
        from torch.utils.tensorboard import SummaryWriter

        if track:
            _wandb()  # before anything is written
        plain = {name: _plain(value) for name, value in config.items()}
        rows: list[dict[str, str]] = []
        if resume_after is None:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                # Exclusive: of two runs given one folder, the second is refused.
                (folder / "config.json").open("x").close()
            except FileExistsError:
                raise FileExistsError(f"{folder} holds a run already; choose another --run-dir") from None
            write_json(folder / "config.json", provenance() | plain)
        else:
            rows = _logged(folder / "metrics.csv", resume_after)
        self.folder = folder
        self.total_timesteps = total_timesteps
        self.columns = columns
        self.curve = [(int(row["env_steps"]), float(row["return_mean"])) for row in rows if row["return_mean"] != "nan"]
        self._writer = SummaryWriter(
            str(folder / "tensorboard"), purge_step=int(rows[-1]["env_steps"]) + 1 if rows else None
        )
        self._file = (folder / "metrics.csv").open("a" if rows else "w", newline="")
        self._csv = csv.DictWriter(self._file, list(rows[0])) if rows else None
        self._shown = 0.0
        self._tracked = None
        if track:
            try:
                self._tracked = _start_tracking(folder, plain)
            except UsageError:
                if resume_after is None:  # the same command is to find the folder free
                    (folder / "config.json").unlink()
                raise

    def __enter__(self) -> Self:
        titles = ["steps", "steps/s", "return", *self.columns.values(), "left"]
        print("  ".join(f"{title:>9}" for title in titles), flush=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if sys.stdout.isatty():
            print()
        self._file.close()
        self._writer.close()
        if self._tracked is not None and error is not None:
            self._tracked.finish(exit_code=1)
        plot_curve(self.folder / "curve.png", self.curve)

    def __call__(self, iteration: Iteration) -> None:
        """Log one iteration."""
        returns = iteration.episode_returns
        row: dict[str, float] = {
            "iteration": iteration.number,
            "env_steps": iteration.env_steps,
            "return_mean": float(np.mean(returns)) if returns else float("nan"),
            "episodes": len(returns),
            **iteration.metrics,
            # Times come last: everything before them is the same for the same seed.
            "wall_seconds": round(iteration.wall_seconds, 3),
            **{f"seconds_{part.replace(' ', '_')}": round(value, 4) for part, value in iteration.seconds.items()},
        }
        if self._csv is None:
            self._csv = csv.DictWriter(self._file, list(row))
            self._csv.writeheader()
        self._csv.writerow(row)
        self._file.flush()
        for name, value in row.items():
            self._writer.add_scalar(name, value, iteration.env_steps)
        if self._tracked is not None:
            self._tracked.log(row, step=iteration.env_steps)
        if returns:
            self.curve.append((iteration.env_steps, row["return_mean"]))
        self._show(iteration, row)

    def _show(self, iteration: Iteration, row: dict[str, float]) -> None:
        tty = sys.stdout.isatty()
        last = iteration.env_steps >= self.total_timesteps
        # A terminal's one line is redrawn; a log gets a line every ten seconds.
        if not tty and not last and time.monotonic() - self._shown < 10:
            return
        self._shown = time.monotonic()
        speed = iteration.env_steps / iteration.wall_seconds
        left = max(self.total_timesteps - iteration.env_steps, 0) / speed
        recent = self.curve[-1][1] if self.curve else float("nan")
        values = [f"{iteration.env_steps:,}", f"{speed:,.0f}", short(recent)]
        values += [f"{row.get(name, float('nan')):.3g}" for name in self.columns]
        values.append(f"{left // 60:.0f}:{left % 60:02.0f}")
        line = "  ".join(f"{value:>9}" for value in values)
        print(f"\r{line}" if tty else line, end="" if tty else "\n", flush=True)

    def save_summary(self, summary: dict[str, Any]) -> None:
        """Write `summary.json`, and end the tracking."""
        write_json(self.folder / "summary.json", summary)
        if self._tracked is not None:
            self._tracked.summary.update(summary)
            self._tracked.finish()


def read_summary(folder: Path) -> dict[str, Any]:
    """A run's `summary.json`; empty where training hasn't ended."""
    path = folder / "summary.json"
    return json.loads(path.read_text()) if path.exists() else {}


def read_metrics(folder: Path) -> pd.DataFrame:
    """A run's `metrics.csv`, one row an iteration; empty before the first. A row that is being written is left out."""
    import pandas as pd

    path = folder / "metrics.csv"
    if not path.exists() or path.stat().st_size == 0:
        return pd.DataFrame()
    whole, _, _ = path.read_text().rpartition("\n")
    return pd.read_csv(io.StringIO(whole))


def _logged(path: Path, until: int) -> list[dict[str, str]]:
    """The rows of a run's metrics up to an iteration; later ones, and one cut short, are taken out of the file."""
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if None not in row.values() and int(row["iteration"]) <= until]
    text = io.StringIO(newline="")
    if rows:
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    write_bytes(path, text.getvalue().encode())
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
    identity = folder / "wandb_id"
    if not identity.exists():
        write_bytes(identity, secrets.token_hex(8).encode())
    try:
        return wandb.init(
            project="rlgen",
            name=folder.resolve().name,
            id=identity.read_text(),
            resume="allow",
            config=dict(config),
            dir=str(folder),
            settings=wandb.Settings(silent=True, console="off"),
        )
    except wandb.errors.Error as error:
        raise UsageError(f"--track: {error}; WANDB_MODE=offline keeps the log here") from None


def _plain(value: Any) -> Any:
    """A dataclass, path or collection, nested as it may be, as a JSON value."""

    def plain(x: Any) -> Any:
        return dataclasses.asdict(x) if dataclasses.is_dataclass(x) and not isinstance(x, type) else str(x)

    return json.loads(json.dumps(value, default=plain))


def short(x: float) -> str:
    """A return as people read it: 5,412 or 0.42."""
    return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}"


def command_line() -> str:
    """The command of this process, as one would type it: `rlgen gail ...` or `python scripts/gail.py ...`."""
    ours = Path(sys.argv[0]).name in ("rlgen", "__main__.py")
    return shlex.join(["rlgen", *sys.argv[1:]] if ours else ["python", *sys.argv])


def provenance() -> dict[str, Any]:
    """The command, versions, git revision and hardware of this process."""

    def git(*arguments: str) -> str:
        try:
            return subprocess.run(
                ["git", *arguments], capture_output=True, text=True, cwd=Path(__file__).parent, timeout=10, check=True
            ).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return ""

    return {
        "command": command_line(),
        "versions": versions(),
        "git_revision": git("rev-parse", "HEAD"),
        "git_changed": bool(git("status", "--porcelain", "--untracked-files=no")),
    }


def plot_curve(path: Path, curve: list[tuple[int, float]]) -> None:
    """Draw the true return over environment steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([steps for steps, _ in curve], [value for _, value in curve])
    axes.set_xlabel("environment steps")
    axes.set_ylabel("return of training episodes (stochastic policy)")
    axes.grid(alpha=0.3)
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=120))
