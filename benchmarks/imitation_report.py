"""Everything that benchmarks/README.md shows of imitation, from the rows of results/imitation.csv.

python benchmarks/imitation_report.py
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from cells import read_rows
from imitation import ALGORITHMS, CHANGES, PARTS, RESULTS, ROOT, TASKS
from statistics_of_seeds import (
    FEWEST,
    MANY,
    coverage,
    coverage_of_differences,
    coverage_of_means,
    interquartile_mean,
    interval,
    interval_of_difference,
    interval_of_means,
    optimality_gap,
    probability_of_improvement,
)

from rlgen.files import write_atomically, write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FOLDER = Path(__file__).parent
PAPER = FOLDER / "results" / "gail_paper.csv"
SCORE = "normalised_score"
DRAWN = "score, failed left out"  # of the expert's episodes, as when demonstrations are drawn
SEEDS = {"GAIL": 10, "BC": 10}  # from 0 on, of the others `FEWEST`: what was run beyond stays in the rows
# The environments of the paper, of which ours are later versions.
OURS = {
    "CartPole-v0": "CartPole-v1",
    "Acrobot-v0": "Acrobot-v1",
    "MountainCar-v0": "MountainCar-v0",
    **{f"{name}-v1": f"{name}-v4" for name in ("Reacher", "HalfCheetah", "Hopper", "Walker2d", "Ant", "Humanoid")},
}
TEXTS = {"key", "env_id", "algorithm", "algo", "settings", "curve", "hardware", "versions"}
CELL = ["env_id", "n_trajectories", "algorithm"]
SIZE = CELL[:2]
DATA = ["env_id", "n_trajectories", "subsample", "algorithm"]
LESS = """
## From less

Fewer trajectories or pairs than the paper's; "GAIL states" is a discriminator that sees states and their successors,
not actions (`--state-only`).

{}
"""
CLAIM = 0.70  # "at least 70% of the expert's performance" in every cell but Reacher, says the paper


def numbers(path: Path) -> pd.DataFrame:
    """All rows, with numbers as numbers."""
    table = pd.DataFrame(read_rows(path))
    for name in table.columns.difference(TEXTS):
        table[name] = pd.to_numeric(table[name])
    return table


def load(path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of the paper's protocol, and those from less; of the seeds that are shown, in the tables' order."""
    table = numbers(path)
    table = table[(table["algo"] != "ppo") & (table["seed"] < table["algorithm"].map(SEEDS).fillna(FEWEST))]
    if (twice := table[table.duplicated([*DATA, "seed"])]).size:
        found = ", ".join(str(value) for value in twice.iloc[0][[*DATA, "seed"]])
        raise ValueError(f"{path}: two rows of {found}; take out those of older settings")
    zeros, ones = table["random_return_mean"], table["env_id"].map(drawn_return)
    table = table.assign(**{DRAWN: (table["return_mean"] - zeros) / (ones - zeros)})
    for name, order in (("env_id", list(TASKS)), ("algorithm", ALGORITHMS)):
        table[name] = pd.Categorical(table[name], [x for x in order if (table[name] == x).any()])
    table = table.sort_values([*DATA, "seed"])
    tasks = [TASKS[env_id] for env_id in table["env_id"]]
    subsamples = np.array([task.subsample for task in tasks])
    sizes = np.array([n in task.trajectories for n, task in zip(table["n_trajectories"], tasks, strict=True)])
    paper = sizes & (table["subsample"] == subsamples) & ~table["algorithm"].isin(list(CHANGES))
    return table[paper], table[~paper & (table["subsample"] >= subsamples)]


def drawn_return(env_id: str) -> float:
    """The mean return of those of the expert's episodes that demonstrations are drawn from: all but the failed ones."""
    manifest = json.loads((ROOT / "expert_data" / env_id / "manifest.json").read_text())
    return float(np.delete(manifest["returns"], manifest["failed_episodes"]).mean())


def groups(table: pd.DataFrame, by: list[str]) -> list[tuple[tuple, pd.DataFrame]]:
    """The non-empty groups, in order."""
    return [(key, group) for key, group in table.groupby(by, observed=True) if len(group)]


def paper_scores(table: pd.DataFrame) -> dict[tuple[str, int, str], float]:
    """The paper's own results by our environment's name, size and algorithm, as normalised scores.

    1 is the paper's expert, and 0 what random actions earn here: the paper's files hold no random policy. On Reacher
    GAIL was trained with four weights of the policy's entropy: 0, as elsewhere, is `GAIL`; the others keep their names.
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
        low, high = interval(scores)
        rows.append(
            {
                "environment": env_id,
                "trajectories": n,
                "algorithm": algorithm,
                "seeds": len(scores),
                "score": interquartile_mean(scores),
                "low": low,
                "high": high,
                "lowest seed": scores.min(),
                "by seed": by_seed(scores),
                DRAWN: interquartile_mean(group[DRAWN].to_numpy()),
                "stochastic": interquartile_mean(group[f"stochastic_{SCORE}"].to_numpy()),
                "return": group["return_mean"].mean(),
                "paper": paper.get((env_id, n, algorithm), np.nan),
                "steps": group["env_steps"].median(),
                "seconds": group["wall_seconds"].mean(),
            }
        )
    return pd.DataFrame(rows)


def from_less(table: pd.DataFrame) -> pd.DataFrame:
    """One row an environment, number of trajectories, of pairs kept, and algorithm."""
    rows = []
    for (env_id, n, subsample, algorithm), group in groups(table, DATA):
        scores = group[SCORE].to_numpy()
        low, high = interval(scores)
        row = {"environment": env_id, "trajectories": n, "one pair in": subsample, "algorithm": algorithm}
        row |= {"seeds": len(scores), "score": interquartile_mean(scores), "low": low, "high": high}
        rows.append(row | {"lowest seed": scores.min(), "by seed": by_seed(scores)})
    return pd.DataFrame(rows)


def by_seed(scores: np.ndarray) -> str:
    """Each score, where they are too few for an interval."""
    return " ".join(f"{score:.3f}" for score in scores) if len(scores) < FEWEST else ""


def references(table: pd.DataFrame) -> pd.DataFrame:
    """Returns that are 0 and 1 on the normalised scales: random actions and the expert, both measured here."""
    means = table.groupby("env_id", observed=True)[["random_return_mean", "expert_return_mean"]].mean()
    means["those drawn from"] = [drawn_return(str(env_id)) for env_id in means.index]
    return means.rename(columns=lambda name: name.removesuffix("_return_mean")).reset_index(names="environment")


def aggregate(table: pd.DataFrame) -> pd.DataFrame:
    """One row an algorithm: means over its cells of each cell's mean, so that cells weigh alike."""
    gail = dict(groups(table[table["algorithm"] == "GAIL"], SIZE))
    rows = []
    for (algorithm,), runs in groups(table, ["algorithm"]):
        cells = dict(groups(runs, SIZE))
        scores = [group[SCORE].to_numpy() for group in cells.values()]
        fewest, most = min(map(len, scores)), max(map(len, scores))
        row = {
            "algorithm": algorithm,
            "cells": len(cells),
            "seeds a cell": str(most) if fewest == most else f"{fewest} to {most}",
            "score": np.mean([values.mean() for values in scores]),
        }
        row["low"], row["high"] = interval_of_means(scores)
        row[DRAWN] = np.mean([group[DRAWN].mean() for group in cells.values()])
        row["optimality gap"] = np.mean([optimality_gap(values) for values in scores])
        shared = [
            (gail[cell][SCORE].to_numpy(), theirs[SCORE].to_numpy()) for cell, theirs in cells.items() if cell in gail
        ]
        compared = bool(shared) and algorithm != "GAIL"
        row["GAIL there"] = np.mean([ours.mean() for ours, _ in shared]) if compared else np.nan
        row["GAIL better"] = np.mean([probability_of_improvement(*pair) for pair in shared]) if compared else np.nan
        rows.append(row)
    return pd.DataFrame(rows)


def partial(table: pd.DataFrame) -> str:
    """Which cells an algorithm has that does not have all, a sentence each."""
    everything = table.groupby(SIZE, observed=True).ngroups
    sentences = []
    for (algorithm,), runs in groups(table, ["algorithm"]):
        cells = [f"{env_id} at {n}" for (env_id, n), _ in groups(runs, SIZE)]
        if len(cells) < everything:
            sentences.append(f"{algorithm} has only {', '.join(cells)}.")
    return " ".join(sentences) or "All algorithms have the same cells."


def against_cloning(table: pd.DataFrame) -> pd.DataFrame:
    """GAIL's interquartile mean less behaviour cloning's, from the same trajectories."""
    rows = []
    for (env_id, n), cell in groups(table, SIZE):
        ours, theirs = (cell.loc[cell["algorithm"] == name, SCORE].to_numpy() for name in ("GAIL", "BC"))
        if len(ours) and len(theirs):
            low, high = interval_of_difference(ours, theirs)
            row = {"environment": env_id, "trajectories": n, "low": low, "high": high}
            row["difference"] = interquartile_mean(ours) - interquartile_mean(theirs)
            rows.append(row)
    return pd.DataFrame(rows, columns=["environment", "trajectories", "difference", "low", "high"])


def curves(table: pd.DataFrame) -> pd.DataFrame:
    """Normalised scores `[run, PARTS]` along the training of those runs that have a curve."""
    rows = table.loc[table["curve"].fillna("").str.len() > 0, "curve"]
    return pd.DataFrame([np.array(x.split(), np.float64) for x in rows], rows.index, columns=range(1, PARTS + 1))


def first_at(reached: pd.DataFrame) -> pd.Series:
    """The share of each run `[run, PARTS]` until the first part that is true; infinite without one."""
    return (reached.idxmax(axis=1) / PARTS).where(reached.any(axis=1), np.inf)


def kept(reached: pd.DataFrame) -> pd.DataFrame:
    """Where a look `[run, PARTS]` and the next two are true."""
    return reached & reached.shift(-1, axis=1, fill_value=False) & reached.shift(-2, axis=1, fill_value=False)


def median(values: pd.Series) -> float:
    """The middle run's, the later of two; infinite ones have no mean."""
    return float(np.quantile(values, 0.5, method="higher"))


def steps_to(table: pd.DataFrame, share: float = 0.95) -> pd.DataFrame:
    """Environment steps and seconds until the deterministic policy scored `share` of the expert, GAIL's median seed.

    Once, and "kept": at this look and the next two. Never is infinite. A run is looked at twenty times, with eight
    episodes each, which the seconds leave out.
    """
    values = curves(table)
    rows = []
    gail = table[(table["algorithm"] == "GAIL") & table.index.isin(values.index)]
    for (env_id, n), runs in groups(gail, SIZE):
        reached = values.loc[runs.index] >= share
        total, seconds = runs["total_timesteps"], runs["wall_seconds"]
        once, lasting = first_at(reached), first_at(kept(reached))
        rows.append(
            {
                "environment": env_id,
                "trajectories": n,
                "seeds": len(runs),
                "steps, median seed": median(once * total),
                "steps, worst seed": (once * total).max(),
                "steps, kept, median seed": median(lasting * total),
                "seconds, median seed": median(once * seconds),
                "seconds, kept, median seed": median(lasting * seconds),
                "steps in all": total.iloc[0],
            }
        )
    return pd.DataFrame(rows)


def plot_profiles(table: pd.DataFrame, path: Path) -> None:
    """The share of runs above each score, an algorithm a line, cells alike (Agarwal et al. 2021)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    thresholds = np.linspace(0, 1.2, 241)
    for (algorithm,), runs in groups(table, ["algorithm"]):
        shares = [(group[SCORE].to_numpy()[:, None] > thresholds).mean(0) for _, group in groups(runs, SIZE)]
        axes.plot(thresholds, np.mean(shares, axis=0), label=str(algorithm))
    axes.set(xlabel="normalised score", ylabel="share of runs above it, mean over cells", xlim=(0, 1.2), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend()
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=120))


def panels(environments: list[str]) -> tuple[Figure, dict[str, Axes]]:
    """A figure with a panel an environment, three in a row."""
    from matplotlib.figure import Figure

    columns = min(len(environments), 3)
    rows = -(-len(environments) // columns)
    figure = Figure(figsize=(5 * columns, 3.5 * rows), layout="constrained")
    flat = figure.subplots(rows, columns, squeeze=False).flat
    for axes in flat[len(environments) :]:
        axes.set_visible(False)
    return figure, dict(zip(environments, flat, strict=False))


def plot_curves(table: pd.DataFrame, path: Path) -> None:
    """The deterministic policy's score along training, median and quartiles, a panel an environment."""
    values = curves(table)
    learning = table.loc[values.index]
    figure, axes_of = panels([key[0] for key, _ in groups(learning, ["env_id"])])
    for env_id, axes in axes_of.items():
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


def report(table: pd.DataFrame, less: pd.DataFrame) -> str:
    """The whole page."""
    cells, differences, paper = by_cell(table), against_cloning(table), paper_scores(table)
    gail = cells[(cells["algorithm"] == "GAIL") & (cells["environment"] != "Reacher-v4")]
    worst = table[table["algorithm"] == "GAIL"].groupby(SIZE, observed=True)[SCORE].min()
    lowest = {
        f"{env_id} at {n}": worst[env_id, n] for env_id, n in zip(gail.environment, gail.trajectories, strict=True)
    }
    below = ", ".join(f"{cell} ({score:.3f})" for cell, score in lowest.items() if score <= CLAIM) or "none"
    few = ", ".join(f"{c.environment} ({c.seeds})" for c in gail[gail["seeds"] < FEWEST].itertuples()) or "none"
    hours = table["wall_seconds"] * table["threads"] / 3600
    mujoco = table[table["env_id"].str.endswith("-v4") & (table["env_id"] != "Humanoid-v4")]
    projected = 5 * sum(hours[group.index].mean() for _, group in groups(mujoco, CELL))
    compared = differences[differences["low"].notna()]
    covers = list(coverage(FEWEST).values())
    held, bootstrap = ([case[i] for case in covers] for i in (0, 2))
    three, ten = ([case[2] for case in coverage(n).values()] for n in (3, MANY))
    shifts, both = (list(coverage_of_differences(n).values()) for n in (FEWEST, MANY))
    above = sum(score > CLAIM for score in lowest.values())
    better = (compared["low"] > 0).sum()
    threads = " or ".join(f"{n} thread{'s' * (n > 1)}" for n in sorted(set(table["threads"])))
    entropy = [name for _, _, name in paper if name.startswith("GAIL_")]
    reacher = "; ".join(
        f"{name.removeprefix('GAIL_lambda')}: "
        + ", ".join(f"{paper['Reacher-v4', n, name]:.3f}" for n in TASKS["Reacher-v4"].trajectories)
        for name in sorted(set(entropy), reverse=True)
    )
    note = f"""
"Paper" on Reacher is GAIL without an entropy bonus (lambda = 0), as on its other tasks. With one, from
{", ".join(map(str, TASKS["Reacher-v4"].trajectories))} trajectories: {reacher}.
"""
    return f"""# Imitation: the paper's table

Written by `python benchmarks/imitation_report.py` from `results/imitation.csv`, whose rows `python
benchmarks/imitation.py` makes. What is scored is the last policy of a run, deterministic, over 50 episodes
("stochastic" beside it), seeds 0 to {SEEDS["GAIL"] - 1} of GAIL and BC and 0 to {FEWEST - 1} of the others, or the
first of them where fewer were run; rows of further seeds stay in the CSV. "Paper" is what the result files of Ho &
Ermon (2016) hold, on the scale of their expert and of our random actions: earlier versions of the environments, and one
training seed on MuJoCo.

A score of 0 is a policy of random actions, 1 the mean return of all episodes of the expert's dataset. On the other
scale, "failed left out", 1 is the mean of the episodes that demonstrations are drawn from, which are those that did not
fail (`failed_episodes` in each `manifest.json`): where the expert falls now and then, on Ant in 5 of 40 episodes, a
policy that never falls is above 1 on the first scale without being better than what it was shown.

A cell's score is the interquartile mean over its seeds. Of {MANY} seeds low and high are its 95% percentile bootstrap
interval, which holds the interquartile mean of all runs in {min(ten):.3f} to {max(ten):.3f} of simulated experiments,
by kind of distribution. Of five to nine they are the lowest and the highest seed; of five these hold the median of all
runs in 1 - 2 / 2^5 = 93.75% of cases, however runs are distributed, and the interquartile mean in {min(held):.3f} to
{max(held):.3f} of the experiments, where the bootstrap does in {min(bootstrap):.3f} to {max(bootstrap):.3f}, and of
three seeds in {min(three):.3f} to {max(three):.3f} (`python benchmarks/statistics_of_seeds.py`). Fewer than five seeds
get no interval: each of them is shown.

{len(table)} runs, {hours.sum():.1f} core-hours in all, on {", ".join(sorted(set(table["hardware"])))};
{"; ".join(sorted(set(table["versions"])))}.
Five seeds of all cells here of MuJoCo but Humanoid project to {projected:.1f} core-hours of training by these runs'
seconds, many of which shared the cores.

## All cells together

{markdown(aggregate(table))}

The score is the mean over cells of each cell's mean: cells weigh alike, however many seeds they have. {partial(table)}
The interval resamples the seeds within each cell, one fewer than there are, and covers in {coverage_of_means():.3f} of
simulated tables of 25 cells with five seeds each (the same command). With cells of one seed there is none. The
optimality gap is how far runs fall short of 1 on average, those above counting as there. "GAIL there" is GAIL's score
in the same cells, "GAIL better" the chance that a run of GAIL beats one of that algorithm, averaged
over cells.

![Share of runs above each score](results/imitation_profiles.png)

GAIL's lowest seed is above the paper's claim of {CLAIM:.2f} in {above} of {len(lowest)} cells, Reacher aside; below:
{below}. Of fewer than five seeds among them: {few}. The interval of GAIL less behaviour cloning lies above 0
in {better} of {len(compared)} cells.

## By environment

{markdown(cells)}
{note if entropy else ""}
{LESS.format(markdown(from_less(less))) if len(less) else ""}
## GAIL less behaviour cloning

Differences of interquartile means. With ten seeds of both the interval is the percentile bootstrap's, which covers in
{min(both):.3f} to {max(both):.3f} of the simulated experiments; with fewer it holds the shifts that the rank test of
Mann and Whitney does not reject at 5%, and covers in {min(shifts):.3f} to {max(shifts):.3f} with five of both.

{markdown(differences)}

## Steps and seconds to 95% of the expert

GAIL's deterministic policy over eight episodes, after each of twenty equal parts of a run: the first time that it
scores 0.95, and the first of three times running ("kept"). Seconds are those of training on {threads}, beside
other runs.

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
    table, less = load(options.input)
    pictures = options.output.parent / "results"
    plot_profiles(table, pictures / "imitation_profiles.png")
    plot_curves(table, pictures / "imitation_curves.png")
    page = report(table, less)
    write_bytes(options.output, page.encode())
    print(page)


if __name__ == "__main__":
    main()
