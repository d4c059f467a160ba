"""Everything that benchmarks/README.md shows of imitation, from the rows of results/imitation.csv.

python benchmarks/imitation_report.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from cells import read_rows
from imitation import ALGORITHMS, PARTS, RESULTS, TASKS
from statistics_of_seeds import (
    interquartile_mean,
    interval,
    interval_of_difference,
    optimality_gap,
    probability_of_improvement,
    stratified_interval,
)

from rlgen.files import write_atomically, write_bytes

FOLDER = Path(__file__).parent
PAPER = FOLDER / "results" / "gail_paper.csv"
SCORE = "normalised_score"
# The environments of the paper, of which ours are later versions.
OURS = {
    "CartPole-v0": "CartPole-v1",
    "Acrobot-v0": "Acrobot-v1",
    "MountainCar-v0": "MountainCar-v0",
    **{f"{name}-v1": f"{name}-v4" for name in ("Reacher", "HalfCheetah", "Hopper", "Walker2d", "Ant", "Humanoid")},
}
CELL = ["env_id", "n_trajectories", "algorithm"]
CLAIM = 0.70  # "at least 70% of the expert's performance" in every cell but Reacher, says the paper


def load(path: Path) -> pd.DataFrame:
    """The rows of the main protocol, numbers as numbers, in the table's order."""
    table = pd.DataFrame(read_rows(path))
    texts = {"key", "env_id", "algorithm", "algo", "settings", "curve", "hardware", "versions"}
    for name in table.columns.difference(texts):
        table[name] = pd.to_numeric(table[name])
    protocol = table.apply(lambda row: row["subsample"] == TASKS[row["env_id"]].subsample, axis=1)
    table = table[protocol & (table["algo"] != "ppo")]
    if (twice := table[table.duplicated([*CELL, "seed"])]).size:
        found = ", ".join(str(value) for value in twice.iloc[0][[*CELL, "seed"]])
        raise ValueError(f"{path}: two rows of {found}; take out those of older settings")
    for name, order in (("env_id", list(TASKS)), ("algorithm", ALGORITHMS)):
        table[name] = pd.Categorical(table[name], [x for x in order if (table[name] == x).any()])
    return table.sort_values([*CELL, "seed"])


def groups(table: pd.DataFrame, by: list[str]) -> list[tuple[tuple, pd.DataFrame]]:
    """The non-empty groups, in order."""
    return [(key, group) for key, group in table.groupby(by, observed=True) if len(group)]


def paper_scores(table: pd.DataFrame) -> dict[tuple[str, int, str], float]:
    """The paper's own results by our environment's name, size and algorithm, as normalised scores.

    1 is the paper's expert, and 0 what random actions earn here: the paper's files hold no random policy.
    """
    rows = pd.read_csv(PAPER)
    experts = rows[rows["algorithm"] == "expert"].set_index("env")["mean"]
    zeros = table.groupby("env_id", observed=True)["random_return_mean"].mean()
    found = {}
    for theirs, n, algorithm, value in rows[["env", "n_trajs", "algorithm", "mean"]].itertuples(index=False):
        env_id = OURS[theirs]
        if env_id in zeros and algorithm != "expert":
            one = experts[theirs]
            name = algorithm.removesuffix("_lambda0")
            found[env_id, int(n), name] = (value - zeros[env_id]) / (one - zeros[env_id])
    return found


def by_cell(table: pd.DataFrame) -> pd.DataFrame:
    """One row an environment, size and algorithm."""
    paper = paper_scores(table)
    rows = []
    for (env_id, n, algorithm), group in groups(table, CELL):
        scores = group[SCORE].to_numpy()
        low, high = interval(scores) if len(scores) > 1 else (np.nan, np.nan)
        rows.append(
            {
                "environment": env_id,
                "trajectories": n,
                "algorithm": algorithm,
                "seeds": len(scores),
                "score": interquartile_mean(scores),
                "low": low,
                "high": high,
                "worst": scores.min(),
                "stochastic": interquartile_mean(group[f"stochastic_{SCORE}"].to_numpy()),
                "return": group["return_mean"].mean(),
                "paper": paper.get((env_id, n, algorithm), np.nan),
                "steps": group["env_steps"].median(),
                "seconds": group["wall_seconds"].mean(),
            }
        )
    return pd.DataFrame(rows)


def references(table: pd.DataFrame) -> pd.DataFrame:
    """Returns that are 0 and 1 on the normalised scale: random actions and the expert, both measured here."""
    means = table.groupby("env_id", observed=True)[["random_return_mean", "expert_return_mean"]].mean()
    return means.rename(columns=lambda name: name.removesuffix("_return_mean")).reset_index(names="environment")


def aggregate(table: pd.DataFrame) -> pd.DataFrame:
    """One row an algorithm, over all cells of the table; intervals resample the seeds of each cell."""
    gail = table[table["algorithm"] == "GAIL"]
    rows = []
    for (algorithm,), runs in groups(table, ["algorithm"]):
        cells = [g[SCORE].to_numpy() for _, g in groups(runs, ["env_id", "n_trajectories"])]
        scores = np.concatenate(cells)
        row = {"algorithm": algorithm, "cells": len(cells), "runs": len(scores), "score": interquartile_mean(scores)}
        row["low"], row["high"] = stratified_interval(cells, interquartile_mean)
        row["optimality gap"] = optimality_gap(scores)
        shared = [
            probability_of_improvement(ours[SCORE].to_numpy(), theirs[SCORE].to_numpy())
            for cell, theirs in groups(runs, ["env_id", "n_trajectories"])
            if len(ours := gail[(gail["env_id"] == cell[0]) & (gail["n_trajectories"] == cell[1])])
        ]
        row["GAIL better"] = np.mean(shared) if shared and algorithm != "GAIL" else np.nan
        rows.append(row)
    return pd.DataFrame(rows)


def against_cloning(table: pd.DataFrame) -> pd.DataFrame:
    """GAIL's interquartile mean less behaviour cloning's, from the same trajectories."""
    rows = []
    for (env_id, n), cell in groups(table, ["env_id", "n_trajectories"]):
        ours, theirs = (cell.loc[cell["algorithm"] == name, SCORE].to_numpy() for name in ("GAIL", "BC"))
        if len(ours) > 1 and len(theirs) > 1:
            low, high = interval_of_difference(ours, theirs)
            row = {"environment": env_id, "trajectories": n, "low": low, "high": high}
            row["difference"] = interquartile_mean(ours) - interquartile_mean(theirs)
            rows.append(row)
    return pd.DataFrame(rows, columns=["environment", "trajectories", "difference", "low", "high"])


def curves(table: pd.DataFrame) -> pd.DataFrame:
    """Normalised scores `[run, PARTS]` along the training of those runs that have a curve."""
    rows = table.loc[table["curve"].fillna("").str.len() > 0, "curve"]
    return pd.DataFrame([np.array(x.split(), np.float64) for x in rows], rows.index, columns=range(1, PARTS + 1))


def steps_to(table: pd.DataFrame, share: float = 0.95) -> pd.DataFrame:
    """Environment steps until the deterministic policy first scored `share` of the expert; the median seed.

    Never is infinite. A run is looked at twenty times, with eight episodes each.
    """
    values = curves(table)
    rows = []
    gail = table[(table["algorithm"] == "GAIL") & table.index.isin(values.index)]
    for (env_id, n), runs in groups(gail, ["env_id", "n_trajectories"]):
        reached = values.loc[runs.index] >= share
        steps = reached.idxmax(axis=1) / PARTS * runs["total_timesteps"]
        steps = steps.where(reached.any(axis=1), np.inf)
        median = float(np.quantile(steps, 0.5, method="higher"))
        rows.append(
            {
                "environment": env_id,
                "trajectories": n,
                "seeds": len(runs),
                "median seed": median,
                "worst seed": steps.max(),
                "of": runs["total_timesteps"].iloc[0],
            }
        )
    return pd.DataFrame(rows)


def plot_profiles(table: pd.DataFrame, path: Path) -> None:
    """The share of runs above each score, an algorithm a line (Agarwal et al. 2021)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    thresholds = np.linspace(0, 1.2, 241)
    for (algorithm,), runs in groups(table, ["algorithm"]):
        axes.plot(thresholds, (runs[SCORE].to_numpy()[:, None] > thresholds).mean(0), label=str(algorithm))
    axes.set(xlabel="normalised score", ylabel="share of runs above it", xlim=(0, 1.2), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend()
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=120))


def plot_curves(table: pd.DataFrame, path: Path) -> None:
    """The deterministic policy's score along training, median and quartiles, a panel an environment."""
    from matplotlib.figure import Figure

    values = curves(table)
    learning = table.loc[values.index]
    environments = [key[0] for key, _ in groups(learning, ["env_id"])]
    columns = min(len(environments), 3)
    figure = Figure(figsize=(5 * columns, 3.5 * -(-len(environments) // columns)), layout="constrained")
    panels = figure.subplots(-(-len(environments) // columns), columns, squeeze=False).flat
    for axes, env_id in zip(panels, environments, strict=False):
        of_env = learning[(learning["env_id"] == env_id) & learning["algorithm"].isin(["GAIL", "AIRL"])]
        for (algorithm, n), runs in groups(of_env, ["algorithm", "n_trajectories"]):
            steps = np.arange(1, PARTS + 1) / PARTS * float(runs["total_timesteps"].iloc[0])
            low, median, high = values.loc[runs.index].quantile([0.25, 0.5, 0.75]).to_numpy()
            (line,) = axes.plot(steps, median, label=f"{algorithm}, {n} trajectories")
            axes.fill_between(steps, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
        axes.axhline(1, color="black", linewidth=0.8, linestyle="--")
        axes.set(title=env_id, xlabel="environment steps", ylabel="normalised score", ylim=(-0.2, 1.25))
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=110))


def markdown(table: pd.DataFrame, digits: int = 3) -> str:
    """A pandas table in Markdown; what isn't there is blank."""

    def text(value: object) -> str:
        if isinstance(value, float):
            if np.isnan(value):
                return ""
            return "never" if np.isinf(value) else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.{digits}f}"
        return f"{value:,}" if isinstance(value, int | np.integer) else str(value)

    lines = [list(table.columns), ["---"] * len(table.columns)]
    lines += [[text(value) for value in row] for row in table.itertuples(index=False)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def report(table: pd.DataFrame) -> str:
    """The whole page."""
    cells, differences = by_cell(table), against_cloning(table)
    gail = cells[cells["algorithm"] == "GAIL"]
    claimed = gail[(gail["environment"] != "Reacher-v4") & gail["low"].notna()]
    hours = table["wall_seconds"] * table["threads"] / 3600
    mujoco = table[table["env_id"].str.endswith("-v4") & (table["env_id"] != "Humanoid-v4")]
    projected = 5 * sum(hours[group.index].mean() for _, group in groups(mujoco, CELL))
    below = ", ".join(f"{c.environment} at {c.trajectories}" for c in claimed.itertuples() if c.low <= CLAIM) or "none"
    better = differences[differences["low"] > 0]
    return f"""# Imitation: the paper's table

Written by `python benchmarks/imitation_report.py` from `results/imitation.csv`, whose rows `python
benchmarks/imitation.py` makes. A score of 0 is a policy of random actions, 1 the mean of the expert's dataset, both
measured here. What is scored is the last policy of a run, deterministic, over 50 episodes ("stochastic" beside it).
Scores are interquartile means over seeds with 95% bootstrap intervals; "paper" is what the result files of Ho & Ermon
(2016) hold, on the scale of their expert and of our random actions: earlier versions of the environments, and one
training seed on MuJoCo.

{len(table)} runs, {hours.sum():.1f} core-hours in all, on {", ".join(sorted(set(table["hardware"])))};
{"; ".join(sorted(set(table["versions"])))}.
Five seeds of all cells here of MuJoCo but Humanoid project to {projected:.1f} core-hours of training by these runs'
seconds, many of which shared the cores.

## All cells together

{markdown(aggregate(table))}

"GAIL better" is the chance that a run of GAIL beats one of that algorithm in the same cell, averaged over cells.

![Share of runs above each score](results/imitation_profiles.png)

The lower end of GAIL's interval is above the paper's claim of {CLAIM:.2f} in {(claimed["low"] > CLAIM).sum()} of
{len(claimed)} cells, Reacher aside; below: {below}. The interval of GAIL less behaviour cloning lies above 0 in
{len(better)} of {len(differences)} cells.

## By environment

{markdown(cells)}

## GAIL less behaviour cloning

{markdown(differences)}

## Environment steps to 95% of the expert

{markdown(steps_to(table))}

![Learning curves](results/imitation_curves.png)

## What 0 and 1 are

{markdown(references(table))}
"""


def main() -> None:
    """Write the page and its pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path, default=RESULTS)
    parser.add_argument("--output", type=Path, default=FOLDER / "README.md")
    options = parser.parse_args()
    table = load(options.input)
    pictures = options.output.parent / "results"
    plot_profiles(table, pictures / "imitation_profiles.png")
    plot_curves(table, pictures / "imitation_curves.png")
    page = report(table)
    write_bytes(options.output, page.encode())
    print(page)


if __name__ == "__main__":
    main()
