import numpy as np
import pytest
from statistics_of_seeds import (
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


def test_few_seeds_have_the_interval_that_covers_or_none():
    five = np.array([0.5, 0.97, 0.98, 0.99, 0.96])
    assert interval(five) == (0.5, 0.99)
    assert np.isnan(interval(five[:4])).all()
    assert np.isnan(interval_of_difference(five, five[:3])).all()
    # Mann and Whitney's table: of five and five runs U of 2 and less is rejected at 5%.
    pairs = np.sort(five[:, None] - five[None, :], axis=None)
    assert interval_of_difference(five, five) == (pairs[2], pairs[-3])


def test_five_seeds_cover_whatever_the_distribution_where_the_bootstrap_does_not():
    found = coverage(5, repeats=400, draws=200)
    for held, median, _ in found.values():
        assert held > 0.9
        assert median == pytest.approx(0.9375, abs=0.035)
    assert np.mean([bootstrap for _, _, bootstrap in found.values()]) < 0.91
    assert max(bootstrap for _, _, bootstrap in coverage(3, repeats=400, draws=200).values()) < 0.8
    assert min(coverage_of_differences(repeats=200).values()) > 0.9
    assert coverage_of_means(repeats=100) > 0.87


def test_cells_weigh_alike_and_their_difference_is_not_in_the_interval():
    rng = np.random.default_rng(0)
    cells = [rng.normal(0.0, 0.01, 15), rng.normal(10.0, 0.01, 5)]
    low, high = interval_of_means(cells)
    assert 4.98 < low < np.mean([cell.mean() for cell in cells]) < high < 5.02
    # Their plain mean has the standard error of independent groups; draws of all five would make it a tenth less.
    five = [rng.permutation([-1.0, -0.5, 0.0, 0.5, 1.0]) for _ in range(40)]
    low, high = interval_of_means(five)
    assert high - low == pytest.approx(2 * 1.96 * (0.625 / 200) ** 0.5, rel=0.05)
    assert np.isnan(interval_of_means([np.ones(5), np.ones(1)])).all()
