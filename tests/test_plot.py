"""`scripts/plot.py`: curves and a table of runs."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rlgen.commands.plot import _binned, _setting

SCRIPT = Path(__file__).parents[1] / "scripts" / "plot.py"


def plot(*arguments, cwd):
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, cwd=cwd)


@pytest.fixture
def runs(tmp_path):
    """Three runs: two seeds of one setting, and one that is under way, its last row cut."""
    for name, slope, seed in (
        ("Hopper-v4__gail-trpo__0__a", 1, 0),
        ("Hopper-v4__gail-trpo__1__b", 3, 1),
        ("Ant", 2, 0),
    ):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        env_id = "Ant-v4" if name == "Ant" else "Hopper-v4"
        command = f"python scripts/gail.py --env {env_id} --seed {seed} --run-dir {name} --n-trajectories 4"
        (folder / "config.json").write_text(json.dumps({"command": command}))
        with (folder / "metrics.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["iteration", "env_steps", "return_mean"])
            writer.writerows([i, 100 * i, slope * i if i % 2 else "nan"] for i in range(1, 101))
            if "Ant" in name:
                file.write("101,10")
        if "Ant" not in name:
            (folder / "summary.json").write_text(json.dumps({"env_id": "Hopper-v4", "seed": 0, "return_mean": 7.5}))
    return tmp_path


def test_curves_are_drawn(runs):
    folders = sorted(str(path) for path in (runs / "runs").iterdir())
    done = plot(*folders, "--output", "a.png", cwd=runs)
    assert done.returncode == 0, done.stderr
    assert (runs / "a.png").read_bytes().startswith(b"\x89PNG")
    wrong = plot(*folders, "--metric", "reward", cwd=runs)
    assert wrong.returncode == 2
    assert "has no column reward; it has iteration, env_steps, return_mean" in wrong.stderr


def test_a_bin_is_the_mean_of_its_rows_and_an_empty_one_takes_the_value_before():
    run = pd.DataFrame({"env_steps": [10, 20, 40], "x": [1.0, 3.0, 8.0]})
    np.testing.assert_allclose(_binned(run, np.array([20.0, 30.0, 40.0])), [2, 2, 8])


def test_seeds_of_one_setting_go_together_and_others_do_not(runs):
    settings = {_setting(path) for path in (runs / "runs").iterdir()}
    assert settings == {("Hopper-v4", "gail --n-trajectories 4"), ("Ant-v4", "gail --n-trajectories 4")}


def test_the_table_has_a_row_a_run(runs):
    folders = sorted(str(path.relative_to(runs)) for path in (runs / "runs").iterdir())
    done = plot(*folders, "--table", cwd=runs)
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(runs / "runs" / "index.csv").set_index("run")
    assert table.loc["Hopper-v4__gail-trpo__0__a", "return_mean"] == 7.5
    assert table.loc["Ant", "env_steps"] == 10_000
    assert table.loc["Ant", "state"] == "under way, or stopped"
    assert "Hopper-v4__gail-trpo__1__b" in done.stdout


def test_a_folder_that_is_no_run_is_told(tmp_path):
    done = plot(str(tmp_path), cwd=tmp_path)
    assert done.returncode == 4
    assert "no folder of a run" in done.stderr
