"""VIME beside other bonuses on the sparse tasks: one CSV row a run, then a table and the curves.

python benchmarks/exploration.py --jobs 2
python benchmarks/exploration.py --envs rlgen/SparseMountainCar-v0 --bonuses none vime --seeds 0 1 2
python benchmarks/exploration.py --envs rlgen/DenseMountainCar-v0 --bonuses none vime --seeds 0 1 2 \
    --etas 1e-4 3e-4 3e-3 .01 .03 .1 .3 1 3 10 --output benchmarks/results/eta_sweep.csv
python benchmarks/exploration.py --envs rlgen/SparseMountainCar-v0 --algo svg --bonuses none vime \
    --total-timesteps 60000 --output benchmarks/results/exploration_few_steps.csv

Table and curves are of all rows in the output. A row holds the curve too: the mean return of the training episodes
(stochastic policy) that ended in each of twenty equal parts of the run.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from cells import Cell, Row, read_rows, run_cells
from statistics_of_seeds import FEWEST, interquartile_mean, interval, interval_of_difference

RESULTS = Path(__file__).parent / "results" / "exploration.csv"
PARTS = 20
BONUSES = ["none", "noise", "l2", "rnd", "disagreement", "vime-reference", "vime"]
# Environment steps of a run.
TASKS = {
    "rlgen/DenseMountainCar-v0": 400_000,
    "rlgen/SparseMountainCar-v0": 200_000,
    "rlgen/SparseCartPoleSwingup-v0": 400_000,
    "rlgen/SparseCartPoleSwingupHard-v0": 400_000,
    "rlgen/SparseHalfCheetah-v0": 1_500_000,
}


def run(cell: Cell) -> Row:
    """Train one cell."""
    import torch

    from rlgen import exploration
    from rlgen.envs import make_vec
    from rlgen.evaluation import evaluate
    from rlgen.nn.policy import Actor

    torch.set_num_threads(1)
    torch.manual_seed(cell["seed"])
    learner, bonus = settings_of(cell)
    envs = make_vec(cell["env_id"], learner.n_envs, cell["seed"], n_threads=1)
    make = exploration.BONUSES[cell["bonus"]]
    training = learner.training(
        envs, lambda envs, policy: exploration.reward_model(envs, "cpu", make, bonus), cell["seed"]
    )
    total = cell["total_timesteps"]
    returns: list[list[float]] = [[] for _ in range(PARTS)]
    milestones = exploration.Milestones(cell["env_id"])
    row: dict[str, Any] = {}

    for iteration in training:
        returns[min(PARTS * (iteration.env_steps - 1) // total, PARTS - 1)] += iteration.episode_returns
        milestones(iteration)
        row["wall_seconds"] = round(iteration.wall_seconds, 1)
        row.update({name: float(f"{iteration.metrics[name]:.4g}") for name in KEPT if name in iteration.metrics})
    row |= milestones.facts
    actor = Actor(training.policy, np.random.default_rng(0))
    for name, deterministic in (("deterministic", True), ("stochastic", False)):
        row[f"{name}_return"] = evaluate(actor, cell["env_id"], 20, 10_000, deterministic, n_threads=1).mean
    row["curve"] = " ".join(f"{np.mean(part):.4g}" if part else "nan" for part in returns)
    return row


KEPT = ("bonus_error", "bonus_no_change_error", "bonus_calibration_90")


def settings_of(cell: Cell) -> tuple[Any, Any]:
    """Learner and bonus of a cell."""
    from rlgen import exploration

    settings = exploration.settings(cell["algo"], cell["env_id"], cell["bonus"]).for_steps(cell["total_timesteps"])
    learner, bonus = settings.learner, settings.bonus
    return learner, bonus if cell["eta"] is None else replace(bonus, eta=cell["eta"])


def cells_of(options: argparse.Namespace) -> list[Cell]:
    """What the command line asks for; without a bonus there is no eta to vary."""
    cells: list[Cell] = []
    for env_id, seed, bonus in itertools.product(options.envs, options.seeds, options.bonuses):
        for eta in options.etas if bonus != "none" else [None]:
            cell: Cell = {
                "env_id": env_id,
                "bonus": bonus,
                "algo": options.algo,
                "seed": seed,
                "total_timesteps": int(options.total_timesteps or TASKS[env_id]),
                "eta": eta,
            }
            learner, of_bonus = settings_of(cell)
            cells.append(cell | {"settings": str({"learner": asdict(learner), "bonus": asdict(of_bonus)})})
    return cells


def curves(table: pd.DataFrame) -> pd.DataFrame:
    """`[run, PARTS]`; a part in which no episode ended has the value before it."""
    rows = [np.array(curve.split(), np.float64) for curve in table["curve"]]
    return pd.DataFrame(rows, table.index).ffill(axis=1).fillna(0.0)


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """One row a task, bonus and eta; `last` is the mean return over the last tenth of a run's training episodes.

    A seed has solved its task if that is half of the reachable return. Under five seeds there is no interval: `by_seed`
    has each.
    """
    from rlgen import exploration

    last = curves(table).iloc[:, -(PARTS // 10) :].mean(axis=1)
    rows = []
    for (env_id, bonus, eta), group in table.groupby(["env_id", "bonus", "eta"], sort=False):
        values = last[group.index].to_numpy()
        low, high = interval(values)
        row = {
            "env_id": env_id,
            "bonus": bonus,
            "eta": eta,
            "seeds": len(group),
            "met_reward": group["first_reward_steps"].notna().mean(),
            "first_reward_steps": group["first_reward_steps"].median(),
            "solved": (values >= exploration.Milestones(env_id).half).mean(),
            "half_return_steps": group["half_return_steps"].median(),
            "last_iqm": interquartile_mean(values),
            "last_low": low,
            "last_high": high,
            "by_seed": " ".join(f"{value:.3g}" for value in values) if len(values) < FEWEST else "",
        }
        for other in ("none", "noise"):
            theirs = last[table.index[(table["env_id"] == env_id) & (table["bonus"] == other)]].to_numpy()
            if len(theirs) and other != bonus:
                row[f"over_{other}_low"], row[f"over_{other}_high"] = interval_of_difference(values, theirs)
        rows.append(row)
    return pd.DataFrame(rows)


def plot(table: pd.DataFrame, path: Path) -> None:
    """Median and interquartile range of the curves, a panel a task."""
    from matplotlib.figure import Figure

    from rlgen.files import write_atomically

    tasks = list(dict.fromkeys(table["env_id"]))
    figure = Figure(figsize=(5 * len(tasks), 4), layout="constrained")
    values = curves(table)
    for axes, env_id in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        for (bonus, eta), group in table[table["env_id"] == env_id].groupby(["bonus", "eta"], sort=False):
            steps = (np.arange(PARTS) + 1) / PARTS * float(group["total_timesteps"].iloc[0])
            low, median, high = values.loc[group.index].quantile([0.25, 0.5, 0.75]).to_numpy()
            (line,) = axes.plot(steps, median, label=bonus if eta == "preset's" else f"{bonus}, eta {eta}")
            axes.fill_between(steps, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
        axes.set(title=env_id.removeprefix("rlgen/"), xlabel="environment steps", ylabel="return")
        axes.grid(alpha=0.3)
    axes.legend()
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=120))


def main() -> None:
    """Run what is missing, then print the table and draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", default=[name for name in TASKS if "Sparse" in name], choices=TASKS)
    parser.add_argument("--bonuses", nargs="+", default=BONUSES, choices=BONUSES)
    parser.add_argument("--algo", default="trpo", choices=["trpo", "ppo", "svg", "sac"])
    parser.add_argument("--etas", nargs="+", type=float, default=[None], help="of the bonus; the preset's unless told")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(10)))
    parser.add_argument("--total-timesteps", type=float, help="the task's unless told")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    run_cells(cells_of(options), run, options.output, options.jobs)
    table = pd.DataFrame(read_rows(options.output)).replace("", np.nan)
    table["eta"] = table["eta"].fillna("preset's")
    numbers = [name for name in table.columns if name.endswith(("_steps", "_return", "_timesteps"))]
    table[numbers] = table[numbers].astype(float)
    pd.options.display.width, pd.options.display.max_columns = 250, 30
    print(summarise(table).round(3).to_string(index=False))
    plot(table, options.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
