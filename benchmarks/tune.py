"""Search for the values of a command's flags: an Optuna study in SQLite, which the same command goes on with.

python benchmarks/tune.py --search gradient-penalty-coef=0.1:10:log input-noise=0:0.5 --trials 30 --jobs 2 \
    -- gail --env Hopper-v4 --expert expert_data/ --total-timesteps 500k
python benchmarks/tune.py --search eta=1e-3:10:log bonus=vime,l2 --metric return_mean -- vime --total-timesteps 100k

A trial is worth the mean of a metric of `summary.json` over seeds that no result is reported on, from 100. Trials run
on processes here, or on a Ray cluster whose machines have rlgen and the named files at the same places.
"""

from __future__ import annotations

import argparse
import fcntl
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from cells import Cell, Row, outcomes

from rlgen.run_log import read_summary

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

RESULTS = Path(__file__).parent / "results" / "tune.db"


def run(cell: Cell) -> Row:
    """One run of the command, whose summary is the row."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        command = [sys.executable, "-m", "rlgen", *cell["command"], "--seed", str(cell["seed"]), "--threads", "1"]
        done = subprocess.run([*command, "--run-dir", str(run_dir)], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"exit code {done.returncode}: {done.stderr.strip()[-400:]}")
        return read_summary(run_dir)


def distribution(text: str) -> tuple[str, BaseDistribution]:
    """Flag and values of `flag=low:high[:log]`, whole numbers where both ends are, or of `flag=a,b,c`."""
    flag, _, values = text.partition("=")
    ends, logarithmic = values.removesuffix(":log").split(":"), values.endswith(":log")
    try:
        if len(ends) != 2:
            if not flag or "," not in values:
                raise ValueError("neither a range nor a list")
            return flag, optuna.distributions.CategoricalDistribution(values.split(","))
        if all(end.lstrip("-").isdecimal() for end in ends):
            return flag, optuna.distributions.IntDistribution(int(ends[0]), int(ends[1]), log=logarithmic)
        return flag, optuna.distributions.FloatDistribution(float(ends[0]), float(ends[1]), log=logarithmic)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text}: {error}; say flag=0.1:10, flag=0.1:10:log, flag=1:8 or flag=a,b"
        ) from None


def tune(options: argparse.Namespace) -> optuna.Study:
    """Ask, run and tell until there are as many finished trials as asked for."""
    search = dict(options.search)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    lock = options.output.with_suffix(".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SystemExit(f"error: another search goes on in {options.output}; choose another --output") from None
    study = optuna.create_study(
        storage=f"sqlite:///{options.output}",
        study_name=f"{' '.join(options.command)} | {search} | {options.metric} | seeds {options.seeds}",
        direction="minimize" if options.minimize else "maximize",
        load_if_exists=True,
    )
    for trial in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):  # of a stopped search
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    # A resumed search draws on with other numbers than those that it has had.
    study.sampler = optuna.samplers.TPESampler(seed=len(study.trials), multivariate=True, constant_liar=True)
    at_once = max(options.jobs // len(options.seeds), 1)
    failures = 0
    while (left := options.trials - len(study.get_trials(states=[optuna.trial.TrialState.COMPLETE]))) > 0:
        trials = [study.ask(search) for _ in range(min(at_once, left))]
        cells: list[Cell] = [
            {"command": [*options.command, *flags(trial.params)], "seed": seed, "trial": trial.number}
            for trial in trials
            for seed in options.seeds
        ]
        found: dict[int, list[float]] = {trial.number: [] for trial in trials}
        for cell, outcome in outcomes(cells, run, options.jobs, options.ray):
            if isinstance(outcome, Exception):
                print(f"trial {cell['trial']}, seed {cell['seed']} FAILED: {outcome}", flush=True)
            elif not isinstance(outcome.get(options.metric), int | float):
                raise SystemExit(f"error: the summary has no number {options.metric}; it has {', '.join(outcome)}")
            else:
                found[cell["trial"]].append(outcome[options.metric])
        for trial in trials:
            values = found[trial.number]
            if len(values) < len(options.seeds):
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
                failures += 1
                continue
            study.tell(trial, sum(values) / len(values))
            best = study.best_trial
            print(f"trial {trial.number}: {study.trials[trial.number].value:.4g} with {trial.params}", end="; ")
            print(f"best so far {best.value:.4g} with {best.params}", flush=True)
        if failures > max(3, options.trials // 4):
            raise SystemExit(f"error: {failures} trials failed; see above")
    return study


def flags(params: dict[str, object]) -> list[str]:
    """A trial's values as a command's arguments."""
    return [word for name, value in params.items() for word in (f"--{name}", str(value))]


def main() -> None:
    """Search, then print the trials, best first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--search", nargs="+", type=distribution, required=True, metavar="FLAG=VALUES")
    parser.add_argument("--trials", type=int, default=30, help="finished ones in all, earlier runs' too")
    parser.add_argument("--metric", default="normalised_score", help="of summary.json")
    parser.add_argument("--minimize", action="store_true")
    parser.add_argument("--seeds", nargs="+", type=int, default=[100, 101])
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--ray", metavar="ADDRESS", help="hand the runs to this Ray cluster; local starts one here")
    parser.add_argument("--output", type=Path, default=RESULTS, help="SQLite file")
    parser.add_argument("command", nargs="+", help="after --: gail, vime or expert with its arguments")
    study = tune(parser.parse_args())
    table = study.trials_dataframe(("number", "value", "params", "state"))
    print(table.sort_values("value", ascending=study.direction.name == "MINIMIZE").to_string(index=False))


if __name__ == "__main__":
    main()
