"""A run's folder as figures and tables read it, names of runs, and their curves."""

from __future__ import annotations

import difflib
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from rlgen.errors import CheckpointError, UsageError
from rlgen.evaluation import normalised_score
from rlgen.files import printable
from rlgen.run_log import read_config, read_metrics, read_summary

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]
POINTS = 50
NUMBERS = ("return_mean", "stochastic_return_mean", "random_return_mean", "expert_return_mean", "normalised_score")


@dataclass(frozen=True, eq=False)
class Run:
    """What a run's folder tells.

    Attributes:
        folder: the run's.
        config: of `config.json`.
        summary: of `summary.json`; empty where training hasn't ended.
        metrics: one row an iteration; empty before the first.
    """

    folder: Path
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    metrics: pd.DataFrame

    @classmethod
    def read(cls, folder: Path) -> Run:
        """Read a run's folder.

        Raises:
            CheckpointError: it holds no run, or a file in it isn't what a run writes.
        """
        run = cls(folder, read_config(folder), read_summary(folder), read_metrics(folder))
        for name in NUMBERS:
            value = run.summary.get(name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise CheckpointError(f"{folder}/summary.json: field {name}: must be a number")
        return run

    @property
    def name(self) -> str:
        """The folder's name, with that of `--seeds` before the one of a seed."""
        path = self.folder.absolute()
        return printable(f"{path.parent.name}/{path.name}" if path.name.startswith("seed_") else path.name)

    @property
    def task(self) -> str:
        """The environment, with the arguments it was made with: returns in others aren't compared with these."""
        env_id = self.config.get("env_id") or self.folder.name.split("__")[0]
        kwargs = self.config.get("env_kwargs") or {}
        words = [f"{k}={v}" for k, v in kwargs.items()] if isinstance(kwargs, dict) else [str(kwargs)]
        return printable(" ".join([str(env_id), *words]))

    @property
    def status(self) -> str:
        """`done`, `failed`, or `unfinished`: interrupted, under way, or stopped without a summary."""
        status = self.summary.get("status", "done") if self.summary else ""
        return status if status in ("done", "failed") else "unfinished"

    @property
    def unit(self) -> str:
        """The column that counts the run's steps."""
        return "gradient_steps" if "gradient_steps" in self.metrics else "env_steps"

    def score(self, value: Any) -> Any:
        """A return or an array of them between the run's random policy, 0, and its expert, 1; None if not known."""
        random, expert = self.summary.get("random_return_mean"), self.summary.get("expert_return_mean")
        return None if random is None or expert is None else normalised_score(value, random, expert)

    def curve(self, metric: str) -> pd.DataFrame:
        """The columns `steps` and `value`, which is `metric`, where there is one.

        Raises:
            UsageError: `metrics.csv` has no such column.
        """
        import pandas as pd

        if not len(self.metrics):
            return pd.DataFrame(columns=["steps", "value"], dtype=float)
        if metric not in self.metrics:
            has = printable(", ".join(self.metrics))
            raise UsageError(f"{self.folder}/metrics.csv has no column {metric}; it has {has}")
        return pd.DataFrame({"steps": self.metrics[self.unit], "value": self.metrics[metric]}).dropna()

    def labelled(self, template: str) -> str:
        """`template` with fields in braces, such as `{algorithm}`, taken from the run.

        Fields are those of `summary.json` and `config.json`, nested ones by their path, as
        `{settings.learner.gamma}`, or by the end of it, `{gamma}`, where that is one value; and `{run}`, the folder's
        name.

        Raises:
            UsageError: there is no such field, or it has several values.
        """
        try:
            return printable(_Template(self).format(template))
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise UsageError(f"--label {template}: {error}") from None


class _Template(string.Formatter):
    def __init__(self, run: Run) -> None:
        self.run = run
        self.fields = {"run": run.name, **flat(run.config), **flat(run.summary)}

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> tuple[Any, str]:
        if field_name in self.fields:
            return self.fields[field_name], field_name
        ends = {name: value for name, value in self.fields.items() if name.endswith(f".{field_name}")}
        values = {str(value): value for value in ends.values() if value is not None}
        if len(values) > 1:
            raise ValueError(f"{field_name} is several fields: {printable(', '.join(ends))}")
        if not ends:
            names = sorted({name.rpartition(".")[2] for name in self.fields})
            near = difflib.get_close_matches(field_name, names, 1)
            hint = f"; perhaps {near[0]}" if near else ""
            raise ValueError(
                f"{self.run.folder} has no field {field_name}{hint}. There are {printable(', '.join(names))}"
            )
        return next(iter(values.values()), None), field_name

    def convert_field(self, value: Any, conversion: str | None) -> Any:
        return "none" if value is None else super().convert_field(value, conversion)  # type: ignore[arg-type]


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested objects by their paths, such as `learner.gamma`."""
    found: dict[str, Any] = {}
    for name, inner in value.items():
        found |= flat(inner, f"{prefix}{name}.") if isinstance(inner, Mapping) else {f"{prefix}{name}": inner}
    return found


def curves(runs: Sequence[pd.DataFrame], points: int = POINTS) -> tuple[Floats, Floats]:
    """Steps `[P]` as far as all runs have come, and each run's values `[n, P]` there, all of them measured.

    P is `points`, or halved until nothing is missing between the first step at which all runs have a value and the end.

    Args:
        runs: of `Run.curve`.
        points: the steps up to the shortest run's last value are divided into so many parts; a value is the mean of
            what was logged in its part.
    """
    end = min(run["steps"].max() for run in runs)
    while True:
        steps = np.linspace(0, end, points + 1)[1:]
        values = np.stack([binned(run, steps) for run in runs])
        measured = np.array(np.isfinite(values).all(0))
        if points == 1 or measured[measured.argmax() :].all():
            return steps[measured], values[:, measured]
        points //= 2


def binned(run: pd.DataFrame, steps: Floats) -> Floats:
    """The mean of what was logged up to each step since the one before, NaN where nothing was."""
    number = np.searchsorted(steps, run["steps"])
    return run["value"].groupby(number).mean().reindex(range(len(steps))).to_numpy()
