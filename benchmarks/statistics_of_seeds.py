"""How often the intervals of few seeds cover (Agarwal et al. 2021), and statistics of more than one setting.

https://arxiv.org/abs/2108.13264

python benchmarks/statistics_of_seeds.py
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import combinations

import numpy as np

from rlgen.statistics import FEWEST, MANY, Values, interquartile_mean, interval, resampled


def interval_of_difference(values: Values, others: Values, draws: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """The same of the difference of two interquartile means.

    Of ten and more seeds each by resampling both. Of fewer by the rank test of Mann and Whitney: the shifts that it
    does not reject at 5%, which lie between two of the differences of all pairs.
    """
    if min(len(values), len(others)) < FEWEST:
        return np.nan, np.nan
    if min(len(values), len(others)) < MANY:
        pairs = np.sort((values[:, None] - others[None, :]).ravel())
        outside = _rejected(len(values), len(others))
        return float(pairs[outside]), float(pairs[-1 - outside])
    rng = np.random.default_rng(seed)
    difference = resampled(values, draws, rng) - resampled(others, draws, rng)
    low, high = np.quantile(difference, [0.025, 0.975])
    return float(low), float(high)


@cache
def _rejected(n: int, m: int) -> int:
    """How many differences of pairs lie below the interval: as few have 2.5% of the orders of all runs at most."""
    counts = np.array([sum(ranks) for ranks in combinations(range(n + m), n)]) - n * (n - 1) // 2
    return max(k for k in range(n * m) if (counts < k).mean() <= 0.025) - 1


def optimality_gap(scores: Values, one: float = 1.0) -> Values:
    """How much scores fall short of `one` on average along the last axis; what lies above counts as there."""
    return (one - scores).clip(min=0).mean(-1)


def probability_of_improvement(values: Values, others: Values) -> float:
    """The chance that a run of the first does better than one of the second, ties counting half (Mann & Whitney)."""
    left, right = values[:, None], others[None, :]
    return float(((left > right) + 0.5 * (left == right)).mean())


def interval_of_means(cells: Sequence[Values], draws: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """The 95% percentile interval of the mean over cells of each cell's mean, its seeds resampled among themselves.

    Of n seeds n - 1 are drawn, which makes the variance of the mean unbiased (McCarthy & Snowden 1985): n draws would
    make it a fifth too small with five seeds. NaN if a cell has one seed alone.
    """
    if min(len(cell) for cell in cells) < 2:
        return np.nan, np.nan
    rng = np.random.default_rng(seed)
    drawn = [cell[rng.integers(len(cell), size=(draws, len(cell) - 1))].mean(-1) for cell in cells]
    low, high = np.quantile(np.mean(drawn, axis=0), [0.025, 0.975])
    return float(low), float(high)


def populations(n: int = 20_001, seed: int = 0) -> dict[str, Values]:
    """Scores as runs have them: alike, skewed, with one in ten or four that fails, and in two groups."""
    rng = np.random.default_rng(seed)
    noise, chance = rng.normal(size=n), rng.random(n)
    return {
        "normal": 0.9 + 0.1 * noise,
        "log-normal": 0.3 * np.exp(noise),
        "one run in ten fails": np.where(chance < 0.1, 0.5, 0.98) + 0.01 * noise,
        "one run in four fails": np.where(chance < 0.25, 0.5, 0.98) + 0.01 * noise,
        "two groups": np.where(chance < 0.5, 0.1, 0.9) + 0.05 * noise,
    }


def coverage(n_seeds: int, repeats: int = 1000, draws: int = 500) -> dict[str, tuple[float, float, float]]:
    """The share of experiments in which `interval` holds a population's interquartile mean and its median.

    Third, the share in which the percentile bootstrap of the interquartile mean does, whatever the number of seeds.
    """
    found = {}
    for name, runs in populations().items():
        truth, median = float(interquartile_mean(runs)), float(np.median(runs))
        rng = np.random.default_rng(1)
        hits = np.zeros(3)
        for values in runs[rng.integers(len(runs), size=(repeats, n_seeds))]:
            low, high = interval(values, draws)
            least, most = np.quantile(resampled(values, draws, rng), [0.025, 0.975])
            hits += low <= truth <= high, low <= median <= high, least <= truth <= most
        found[name] = (hits[0] / repeats, hits[1] / repeats, hits[2] / repeats)
    return found


def coverage_of_differences(n_seeds: int = 5, repeats: int = 400) -> dict[tuple[str, str], float]:
    """The share in which `interval_of_difference` holds the difference of two populations' interquartile means."""
    runs, found = populations(), {}
    for one, other in combinations(runs, 2):
        truth = float(interquartile_mean(runs[one]) - interquartile_mean(runs[other]))
        rng = np.random.default_rng(1)
        hits = 0
        for _ in range(repeats):
            ours, theirs = rng.choice(runs[one], n_seeds), rng.choice(runs[other], n_seeds)
            low, high = interval_of_difference(ours, theirs)
            hits += low <= truth <= high
        found[one, other] = hits / repeats
    return found


def coverage_of_means(n_cells: int = 25, n_seeds: int = 5, repeats: int = 400) -> float:
    """The share in which `interval_of_means` holds the mean over cells, whose populations take turns."""
    runs = list(populations().values())
    cells = [runs[i % len(runs)] for i in range(n_cells)]
    truth, rng = np.mean([cell.mean() for cell in cells]), np.random.default_rng(1)
    hits = 0
    for repeat in range(repeats):
        low, high = interval_of_means([rng.choice(cell, n_seeds) for cell in cells], 500, repeat)
        hits += low <= truth <= high
    return hits / repeats


def main() -> None:
    """Print how often each interval covers."""
    print(f"seeds  {'population':<24}interval: mean  median  bootstrap: mean")
    for n in (3, 5, 10):
        for name, (mean, median, bootstrap) in coverage(n).items():
            cells = ["" if n < FEWEST else f"{value:.3f}" for value in (mean, median)]
            print(f"{n:>5}  {name:<24}{cells[0]:>14}{cells[1]:>8}{bootstrap:>17.3f}")
    differences = list(coverage_of_differences().values())
    print(f"differences, five seeds each: {np.mean(differences):.3f}, the least {min(differences):.3f}")
    print(f"mean over 25 cells of five seeds: {coverage_of_means():.3f}")


if __name__ == "__main__":
    main()
