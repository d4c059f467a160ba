"""The board of times: what it counts, and its page."""

import board
import pandas as pd
import pytest
from cells import write_rows
from test_imitation import row

CURVE = " ".join("0.96" if part in (4, 5, 9) or part > 17 else "0.5" for part in range(1, 21))


def peer(steps, curve):
    ours = row("Hopper-v4", board.PEER, 0, 0.0, curve)
    return ours | {"key": str(steps), "algo": "ppo", "total_timesteps": steps, "versions": "imitation=1.0.1"}


@pytest.fixture
def table(tmp_path):
    cloned = [row("Hopper-v4", "BC", seed, score) | {"total_timesteps": 0} for seed, score in enumerate((0.97, 0.1))]
    learned = [row("Hopper-v4", "GAIL", seed, 0.9, CURVE) for seed in range(5)]
    few = row("Hopper-v4", "GAIL", 0, 0.9, CURVE, n=11)
    write_rows(tmp_path / "ours.csv", [*cloned, *learned, few])
    never = " ".join(["0.9"] * 20)
    write_rows(tmp_path / "peers.csv", [peer(1_000_000, never), peer(4_000_000, CURVE)])
    return board.rows_of(tmp_path / "ours.csv", tmp_path / "peers.csv", tmp_path / "none.csv")


def test_a_time_is_that_of_the_first_look_or_of_three_in_a_row(table):
    once, lasting = (board.times(table, strict).set_index("method") for strict in (False, True))
    assert once.loc["GAIL", "median seed"] == "400,000 steps, 20 seconds"
    assert lasting.loc["GAIL", "median seed"] == "1,800,000 steps, 90 seconds"
    assert lasting.loc["GAIL", "seconds, by seed"] == "90 90 90 90 90"


def test_cloning_is_looked_at_once_and_half_of_its_seeds_are_not_enough(table):
    for strict in (False, True):
        cloning = board.times(table, strict).set_index("method").loc["BC"]
        assert cloning["median seed"] == "not reached in 0 steps, 100 seconds"
        assert cloning["thousands of steps, by seed"] == "0 -"


def test_of_the_peer_the_longest_runs_count(table):
    assert board.times(table, strict=False).set_index("method").loc[board.PEER, "median seed"] == (
        "800,000 steps, 20 seconds"
    )


def test_the_page_says_of_each_method_how_it_ran(table, tmp_path):
    page = board.report(table, "board.png", "steps.png")
    assert "Methods without rows: AIRL, GAIL by SVG, GAIL by SAC." in page
    assert "--algorithms GAIL --envs Hopper-v4 --seeds 0 1 2 3 4`" in page
    assert "- steps of a run: 4,000,000; threads: 1\n- versions: imitation=1.0.1\n- hardware: a processor x2" in page
    board.plot(table, tmp_path / "board.png")
    assert (tmp_path / "board.png").read_bytes()[:4] == b"\x89PNG"
    board.plot(table, tmp_path / "steps.png", "total_timesteps")
    assert (tmp_path / "steps.png").read_bytes()[:4] == b"\x89PNG"
    assert board.with_off_policy(table).empty
    svg = table.assign(algorithm="GAIL by SVG", env_id="Walker2d-v4")[:1]
    assert set(board.with_off_policy(pd.concat((table, svg)))["env_id"]) == {"Walker2d-v4"}
