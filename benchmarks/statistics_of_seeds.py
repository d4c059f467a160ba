"""Statistics of few seeds: the interquartile mean and seeded bootstrap intervals (Agarwal et al. 2021).

https://arxiv.org/abs/2108.13264
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]


def interquartile_mean(values: Values) -> Values:
    """The mean of the middle half along the last axis; values at its edges count by the share that lies inside."""
    n = values.shape[-1]
    edges = np.arange(n + 1) / n
    weights = np.clip(np.minimum(edges[1:], 0.75) - np.maximum(edges[:-1], 0.25), 0, None)
    return np.sort(values, axis=-1) @ weights / weights.sum()


def interval(values: Values, draws: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """The 95% percentile interval of the interquartile mean over resampled seeds."""
    return stratified_interval([values], interquartile_mean, draws, seed)


def interval_of_difference(values: Values, others: Values, draws: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """The same of the difference of two interquartile means, both resampled."""
    rng = np.random.default_rng(seed)
    difference = _resampled(values, draws, rng) - _resampled(others, draws, rng)
    low, high = np.quantile(difference, [0.025, 0.975])
    return float(low), float(high)


def optimality_gap(scores: Values, one: float = 1.0) -> Values:
    """How much scores fall short of `one` on average along the last axis; what lies above counts as there."""
    return (one - scores).clip(min=0).mean(-1)


def probability_of_improvement(values: Values, others: Values) -> float:
    """The chance that a run of the first does better than one of the second, ties counting half (Mann & Whitney)."""
    left, right = values[:, None], others[None, :]
    return float(((left > right) + 0.5 * (left == right)).mean())


def stratified_interval(
    groups: Sequence[Values], statistic: Callable[[Values], Values], draws: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """The 95% interval of a statistic of all runs, the seeds of each task resampled among themselves.

    Args:
        groups: the runs of each task, `[n_seeds]`.
        statistic: of runs `[draws, n_runs]` along the last axis.
        draws: resamplings.
        seed: of the resampling.
    """
    rng = np.random.default_rng(seed)
    drawn = [group[rng.integers(len(group), size=(draws, len(group)))] for group in groups]
    low, high = np.quantile(statistic(np.concatenate(drawn, axis=1)), [0.025, 0.975])
    return float(low), float(high)


def _resampled(values: Values, draws: int, rng: np.random.Generator) -> Values:
    return interquartile_mean(values[rng.integers(len(values), size=(draws, len(values)))])
