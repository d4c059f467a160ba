"""The rules that judge modes, on episodes whose mode is known, and a short run of each task."""

from argparse import Namespace
from dataclasses import replace

import modes
import numpy as np
import pytest

from rlgen.data.demonstrations import load_episodes
from rlgen.data.episodes import Episode


def test_mutual_information_of_known_tables():
    codes = np.repeat([0, 1, 2], 20)
    assert modes.mutual_information(codes, (codes + 1) % 3) == pytest.approx(1)
    assert modes.mutual_information(codes, np.tile([0, 1], 30)) == pytest.approx(0, abs=1e-12)
    assert modes.mutual_information(codes, np.zeros(60, int)) == 0
    assert modes.mutual_information(np.zeros(3, int), np.zeros(3, int)) == 0
    # H(c) = log 3; modes merge two codes, so I = H(m) = log 3 - 2/3 log 2.
    merged, h = np.array([0, 0, 1])[codes], np.log(3) - 2 / 3 * np.log(2)
    assert modes.mutual_information(codes, merged) == pytest.approx(2 * h / (h + np.log(3)))


def test_as_told_is_of_the_best_assignment():
    codes = np.array([0, 0, 0, 1, 1, 1])
    assert modes.as_told(codes, 1 - codes) == 1
    assert modes.as_told(codes, np.array([1, 1, 0, 0, 0, 0])) == pytest.approx(5 / 6)
    assert modes.as_told(codes, np.zeros(6, int)) == 0.5


def test_what_is_recorded_is_judged_as_what_it_is(tmp_path):
    modes.record_circles(tmp_path, seed=100)
    manifest, episodes = load_episodes(tmp_path / modes.CIRCLES)
    assert "labels" not in manifest
    found, errors = modes.on_circles(episodes)
    assert found.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert 0 < errors.max() < 0.03
    at_rest = Episode(np.zeros((5, 10)), np.zeros((4, 2)), np.zeros(4, np.float32), False, True)
    assert modes.on_circles([replace(at_rest, obs=at_rest.obs + 0.5)])[1][0] > 0.2


def test_both_ways_of_the_cheetah(monkeypatch, tmp_path):
    def episode(distance, action):
        reward = np.full(10, distance / 10 - 0.1 * 6 * action**2, np.float32)
        return Episode(np.zeros((11, 17)), np.full((10, 6), action, np.float32), reward, False, True)

    experts = [[episode(100.0, 0.0)] * 5, [episode(-50.0, 0.0)] * 5]
    for expert in experts[1]:
        expert.rewards[:] *= -1  # recorded by its own reward
    monkeypatch.setattr(modes, "_cheetahs", lambda: experts)
    found, scores = modes.in_directions([episode(80.0, 0.5), episode(-40.0, 0.5), episode(-1.0, 1.0)])
    assert found.tolist() == [0, 1, 1]
    cost = 10 * 0.1 * 6 * 0.25
    np.testing.assert_allclose(scores, [(80 - cost) / 100, (40 - cost) / 50, (1 - 6) / 50], rtol=1e-5)
    modes.record_cheetahs(tmp_path, 100)
    assert len(load_episodes(tmp_path, modes.CHEETAH)[1]) == 8


@pytest.mark.parametrize("task", ["circles", "point"])
def test_a_short_run(monkeypatch, task):
    monkeypatch.setattr(modes, "EPISODES", 12)
    options = {"tasks": [task], "algorithms": ["InfoGAIL", "GAIL", "skills"], "seeds": [100], "total_timesteps": 5_120}
    cells = modes.cells_of(Namespace(**options))
    assert [cell["algorithm"] for cell in cells] == list(modes.TASKS[task].algorithms)
    for cell in cells:
        row = modes.run(cell)
        assert 0 <= row.get("nmi", 0) <= 1
        assert row["modes_hit"] <= modes.TASKS[task].modes
