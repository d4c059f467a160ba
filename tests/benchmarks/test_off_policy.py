from argparse import Namespace
from dataclasses import replace

import off_policy
import pandas as pd
import pytest


@pytest.mark.parametrize("name", ["VIME on SAC, sparse MountainCar", "GAIL on SAC, Hopper"])
def test_a_short_run_of_each_reward(monkeypatch, name):
    paid = off_policy.RUNS[name]
    monkeypatch.setitem(off_policy.RUNS, name, replace(paid, steps=1_020, sac=paid.sac | {"batch_size": 16}))
    monkeypatch.setattr(off_policy, "CURVE_EPISODES", 1)
    (cell,) = off_policy.cells_of(Namespace(runs=[name], seeds=[100], total_timesteps=None))
    row = off_policy.run(cell)
    assert len(row["curve"].split()) == 20
    assert row["normalised_score"] < 0.2


def test_the_table_has_the_first_look_at_the_level():
    curve = " ".join(["0.1"] * 9 + ["0.93"] + ["0.5"] * 10)
    rows = [(0, curve, 0.97), (1, " ".join(["0.1"] * 20), 0.1)]
    table = pd.DataFrame(rows, columns=["seed", "curve", "normalised_score"])
    table = table.assign(algorithm="GAIL", total_timesteps=100_000, wall_seconds=60.0)
    (row,) = off_policy.summarise(table).to_dict("records")
    assert row == {"seeds": "0 1", "score": "0.970 0.100", "thousand steps": "50 inf", "seconds": "30 inf"}
