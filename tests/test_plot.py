"""`scripts/plot.py`: curves and a table of runs."""

import csv
import functools
import json

import numpy as np
import pandas as pd
import pytest
from processes import anew, forked

import rlgen
from rlgen.command import RunArguments
from rlgen.commands import gail
from rlgen.commands.plot import _binned, _curves, _setting
from rlgen.run_log import plain


def plot(*arguments, cwd, start=forked):
    return start("plot.py", *arguments, cwd=cwd)


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
        arguments = plain(gail.Arguments(env=env_id, n_trajectories=5, run=RunArguments(seed=seed, run_dir=folder)))
        config = {"command": "rlgen gail", "arguments": arguments, "env_id": env_id}
        (folder / "config.json").write_text(json.dumps(config))
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
    done = plot(*folders, "--output", "a.png", cwd=runs, start=anew)
    assert done.returncode == 0, done.stderr
    assert (runs / "a.png").read_bytes().startswith(b"\x89PNG")
    wrong = plot(*folders, "--metric", "reward", cwd=runs)
    assert wrong.returncode == 2
    assert "has no column reward; it has iteration, env_steps, return_mean" in wrong.stderr


def test_a_bin_is_the_mean_of_its_rows_and_an_empty_one_has_none():
    run = pd.DataFrame({"env_steps": [10, 20, 40], "x": [1.0, 3.0, 8.0]})
    np.testing.assert_array_equal(_binned(run, np.array([20.0, 30.0, 40.0])), [2, np.nan, 8])


def test_no_value_is_drawn_that_was_not_measured():
    """Eight parts of ten steps: one run has nothing in the fourth, the other begins in the third."""
    whole = pd.DataFrame({"env_steps": [5, 15, 25, 45, 55, 65, 75, 80], "x": np.arange(8.0)})
    late = pd.DataFrame({"env_steps": [25, 35, 45, 55, 65, 75, 85], "x": np.arange(7.0)})
    steps, values = _curves([whole, late], 8)
    np.testing.assert_array_equal(steps, [40, 60, 80])
    np.testing.assert_array_equal(values, [[2, 3.5, 6], [0.5, 2.5, 4.5]])
    steps, values = _curves([whole], 16)
    assert len(steps) == 4


def test_seeds_of_one_setting_go_together_and_others_do_not(runs):
    settings = {_setting(path) for path in (runs / "runs").iterdir()}
    assert settings == {("Hopper-v4", "gail --n-trajectories 5"), ("Ant-v4", "gail --n-trajectories 5")}


def test_the_table_has_a_row_a_run(runs):
    folders = sorted(str(path.relative_to(runs)) for path in (runs / "runs").iterdir())
    done = plot(*folders, "--table", cwd=runs)
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(runs / "runs" / "index.csv").set_index("run")
    assert table.loc["Hopper-v4__gail-trpo__0__a", "return_mean"] == 7.5
    assert table.loc["Ant", "env_steps"] == 10_000
    assert table.loc["Ant", "status"] == "under way, or stopped"
    assert "Hopper-v4__gail-trpo__1__b" in done.stdout


def test_runs_without_a_value_are_counted_apart(runs):
    (runs / "runs" / "Ant" / "metrics.csv").write_text("iteration,env_steps,return_mean\n1,100,nan\n")
    done = plot(*(runs / "runs").iterdir(), "--output", "a.png", cwd=runs)
    assert (done.returncode, done.stdout) == (0, "a.png: 2 runs; 1 have no return_mean yet\n"), done.stderr


def test_no_folder_is_a_wrong_use(tmp_path):
    done = plot(cwd=tmp_path)
    assert (done.returncode, "give the folders of runs" in done.stderr) == (2, True)


def test_a_folder_that_is_no_run_is_told(tmp_path):
    done = plot(str(tmp_path), cwd=tmp_path)
    assert done.returncode == 4
    assert "no folder of a run" in done.stderr


@pytest.mark.parametrize(("name", "begin"), [("a.pdf", b"%PDF"), ("a.SVG", b"<?xml"), ("a.png", b"\x89PNG")])
def test_the_format_is_the_one_of_the_name(runs, name, begin):
    done = plot(*(runs / "runs").iterdir(), "--output", name, cwd=runs)
    assert done.returncode == 0, done.stderr
    assert (runs / name).read_bytes().startswith(begin)


def test_another_format_is_refused(runs):
    done = plot(*(runs / "runs").iterdir(), "--output", "a.bmp", cwd=runs)
    assert (done.returncode, "must end in .png, .pdf or .svg" in done.stderr) == (2, True)


def test_words_of_a_run_command_neither_terminal_nor_spreadsheet(runs):
    folder = runs / "runs" / "Hopper-v4__gail-trpo__0__a"
    summary = {"env_id": "=cmd()", "algorithm": "\x1b]0;title\x07", "error": "-1+1", "status": "failed", "seed": -1}
    (folder / "summary.json").write_text(json.dumps(summary))
    done = plot(folder, "--table", cwd=runs)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    (row,) = csv.DictReader((runs / "runs" / "index.csv").open(newline=""))
    assert (row["env_id"], row["error"], row["seed"], row["status"]) == ("'=cmd()", "'-1+1", "-1", "failed")
    assert "\x1b" not in row["algorithm"]


@pytest.mark.parametrize(
    "content", ["", "a", "iteration,env_steps,return_mean\n1,2\n", "iteration,env_steps,return_mean\nx,2,3\n"]
)
def test_a_metrics_file_that_is_none_is_told(runs, content):
    folder = runs / "runs" / "Ant"
    (folder / "metrics.csv").write_text(content)
    done = plot(folder, cwd=runs)
    assert done.returncode == 4
    assert "Traceback" not in done.stderr


def test_runs_from_python_and_saved_agents_are_drawn_by_their_settings(tmp_path):
    small = {"n_envs": 2, "n_steps": 64, "n_threads": 1, "device": "cpu"}
    for name, gravity, seed in (("a", 9.8, 0), ("b", 9.8, 1), ("c", 5.0, 0)):
        make = functools.partial(rlgen.PPO, "CartPole-v1", seed=seed, gamma=0.9, **small)
        kwargs = {} if gravity == 9.8 else {"env_kwargs": {"sutton_barto_reward": True}}
        make(**kwargs).learn(256, run_dir=tmp_path / "runs" / name, eval_episodes=1, progress=False)
    make().learn(256, progress=False).save(tmp_path / "runs" / "saved")
    settings = [_setting(tmp_path / "runs" / name)[1] for name in ("a", "b", "c", "saved")]
    assert settings[0] == settings[1] == settings[3] != settings[2]
    assert settings[0].startswith("PPO ppo ")
    done = plot(*(tmp_path / "runs").iterdir(), "--output", "a.png", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "a.png: 4 runs\n"), done.stderr


def test_the_folder_of_several_seeds_stands_for_its_runs(runs):
    for seed, path in enumerate(sorted((runs / "runs").glob("Hopper*"))):
        path.rename(runs / "runs" / "Ant" / f"seed_{seed}")
    done = plot("runs/Ant", "--output", "a.png", cwd=runs)
    assert (done.returncode, done.stdout) == (0, "a.png: 2 runs\n"), done.stderr
    done = plot("runs/Ant", "--table", cwd=runs)
    assert "Ant/seed_1" in done.stdout


def test_seeds_that_have_no_step_in_common_have_no_curve(runs):
    for slope, path in enumerate(sorted((runs / "runs").glob("Hopper*"))):
        first, then = ("1,100,5.0", "2,900,nan") if slope else ("1,100,nan", "2,900,5.0")
        (path / "metrics.csv").write_text(f"iteration,env_steps,return_mean\n{first}\n{then}\n")
    done = plot(*(runs / "runs").iterdir(), "--output", "a.png", cwd=runs)
    assert done.returncode == 0, done.stderr
