"""Statistics of few seeds: the interquartile mean (Agarwal et al. 2021) and its interval.

https://arxiv.org/abs/2108.13264; `python benchmarks/statistics_of_seeds.py` measures how often the interval covers.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
# Fewer seeds have no interval: the lowest and the highest of three hold the median in three of four cases.
FEWEST = 5
# From so many seeds on the percentile bootstrap covers about what it says.
MANY = 10


def interquartile_mean(values: Values) -> Values:
    """The mean of the middle half along the last axis; values at its edges count by the share that lies inside."""
    n = values.shape[-1]
    edges = np.arange(n + 1) / n
    weights = np.clip(np.minimum(edges[1:], 0.75) - np.maximum(edges[:-1], 0.25), 0, None)
    return np.sort(values, axis=-1) @ weights / weights.sum()


def interval(values: Values, draws: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """Where the interquartile mean of all runs lies; NaN of fewer than five seeds.

    Of five to nine seeds the lowest and the highest: they hold the median of all runs in 93.75% of cases (five) and
    more, however runs are distributed. Of ten and more the 95% percentile interval over resampled seeds, which of five
    would be too narrow.
    """
    if len(values) < FEWEST:
        return np.nan, np.nan
    if len(values) < MANY:
        return float(values.min()), float(values.max())
    low, high = np.quantile(resampled(values, draws, np.random.default_rng(seed)), [0.025, 0.975])
    return float(low), float(high)


def resampled(values: Values, draws: int, rng: np.random.Generator) -> Values:
    """The interquartile means `[draws]` of as many seeds, drawn with replacement."""
    return interquartile_mean(values[rng.integers(len(values), size=(draws, len(values)))])
