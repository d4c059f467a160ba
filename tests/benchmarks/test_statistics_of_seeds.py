import numpy as np
import pytest
from statistics_of_seeds import (
    interquartile_mean,
    interval,
    interval_of_difference,
    optimality_gap,
    probability_of_improvement,
    stratified_interval,
)


def test_the_interquartile_mean_is_the_middle_halfs():
    values = np.array([100.0, 3.0, 1.0, 2.0, 0.0, 5.0, 4.0, -50.0])
    assert interquartile_mean(values) == pytest.approx(np.mean([1, 2, 3, 4]))
    # Of ten values the third and the eighth lie half inside.
    assert interquartile_mean(np.arange(10.0)) == pytest.approx(4.5)
    assert interquartile_mean(np.array([0.0] * 3 + [1.0] * 7)) == pytest.approx((0.5 * 0 + 4 * 1 + 0.5 * 1) / 5)
    np.testing.assert_allclose(interquartile_mean(np.stack([values, values + 1])), [2.5, 3.5])


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    intervals = [interval(rng.normal(3.0, 1.0, 20), draws=400, seed=i) for i in range(200)]
    assert 0.87 < np.mean([low < 3 < high for low, high in intervals]) < 0.99


def test_a_difference_excludes_zero_only_where_there_is_one():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, 10), rng.normal(0, 1, 10)
    low, high = interval_of_difference(a, b)
    assert low < 0 < high
    low, high = interval_of_difference(a + 5, b)
    assert 3 < low < high < 7
    assert interval_of_difference(a, b) == interval_of_difference(a, b)  # seeded


def test_gap_and_improvement_by_hand():
    assert optimality_gap(np.array([0.5, 1.0, 1.5, 0.9])) == pytest.approx(0.6 / 4)
    assert probability_of_improvement(np.array([1.0, 2.0]), np.array([0.0, 1.0])) == pytest.approx(3.5 / 4)
    rng = np.random.default_rng(0)
    # P(N(1, 1) > N(0, 1)) = Phi(1 / sqrt 2)
    chance = probability_of_improvement(rng.normal(1, 1, 2000), rng.normal(0, 1, 2000))
    assert chance == pytest.approx(0.760, abs=0.02)


def test_strata_keep_the_difference_between_tasks_out_of_the_interval():
    rng = np.random.default_rng(0)
    tasks = [rng.normal(mean, 0.01, 5) for mean in (0.0, 10.0)]
    low, high = stratified_interval(tasks, lambda runs: runs.mean(-1))
    assert 4.97 < low < np.concatenate(tasks).mean() < high < 5.03
    # Their plain mean has the standard error of independent groups.
    wide = [rng.normal(0, 1, 200) for _ in range(4)]
    low, high = stratified_interval(wide, lambda runs: runs.mean(-1))
    assert high - low == pytest.approx(2 * 1.96 / 800**0.5, rel=0.15)
