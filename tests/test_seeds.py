"""Several seeds by one command."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import forked

from rlgen.errors import UsageError
from rlgen.seeds import read_seeds

ROOT = Path(__file__).parents[1]
SMALL = ["--n-envs", "4", "--n-steps", "16", "--total-timesteps", "128", "--eval-episodes", "1", "--device", "cpu"]


@pytest.mark.parametrize(("text", "seeds"), [("0:3", [0, 1, 2]), ("4:5", [4]), ("0,3,7", [0, 3, 7]), ("12", [12])])
def test_seeds_are_a_range_or_a_list(text, seeds):
    assert read_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "3:3", "5:2", "1,1", "a", "0:5:2", "-1:2", "1.5", "0,", "0:1000000"])
def test_other_texts_are_refused(text):
    with pytest.raises(UsageError, match=r"--seeds must be such as 0:5 or 0,3,7"):
        read_seeds(text)


def vime(cwd, *arguments):
    return forked("vime.py", *SMALL, *arguments, "--run-dir", "all", cwd=cwd)


def test_each_has_a_run_and_what_is_done_is_kept(tmp_path):
    done = vime(tmp_path, "--seeds", "0,2")
    assert done.returncode == 0, done.stderr
    assert "2 of 2 runs to do" in done.stdout
    rows = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")]
    assert rows[-3:] == ["seed", "seed", "all"]
    alone = forked("vime.py", *SMALL, "--seed", "2", "--threads", "1", "--run-dir", "alone", cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr
    found = [json.loads((tmp_path / path / "summary.json").read_text()) for path in ("all/seed_2", "alone")]
    assert found[0]["return_mean"] == found[1]["return_mean"]
    assert found[0]["seed"] == 2
    assert (tmp_path / "all" / "seed_0.log").read_text()
    # The same command goes on: one more seed, and one that was stopped.
    (tmp_path / "all" / "seed_0" / "summary.json").unlink()
    again = vime(tmp_path, "--seeds=0:3")
    assert again.returncode == 0, again.stderr
    assert "2 of 3 runs to do" in again.stdout
    assert json.loads((tmp_path / "all" / "seed_0" / "summary.json").read_text())["status"] == "done"
    other = vime(tmp_path, "--seeds", "0:3", "--eta", "0.5")
    assert (other.returncode, "holds a run by other flags" in other.stderr) == (2, True)


def test_a_failed_one_is_told_and_leaves_the_others_alone(tmp_path):
    assert vime(tmp_path, "--seeds", "0:2").returncode == 0
    shutil.rmtree(tmp_path / "all" / "seed_0")
    (tmp_path / "all" / "seed_0").write_text("in the way")
    shutil.rmtree(tmp_path / "all" / "seed_1")
    done = vime(tmp_path, "--seeds", "0:2")
    assert done.returncode == 4
    assert "seed 0: exit code 4; see all/seed_0.log" in done.stdout
    assert "seed 1: return" in done.stdout


MODULE = """
import gymnasium as gym
gym.register("Slow-v0", "gymnasium.envs.classic_control:CartPoleEnv", max_episode_steps=50)
"""


def test_a_stopped_one_is_told_again_what_a_file_alone_may_not_say(tmp_path):
    (tmp_path / "my_module.py").write_text(MODULE)
    (tmp_path / "statistics.py").write_text("raise SystemExit('no module of Python's')")
    for text in ("--env=my_module:Slow-v0", "2 of 2 runs to do"), ("--env=my_module:Slow-v0", "1 of 2 runs to do"):
        done = vime(tmp_path, "--seeds", "0:2", text[0])
        assert done.returncode == 0, done.stdout
        assert text[1] in done.stdout
        (tmp_path / "all" / "seed_1" / "summary.json").unlink()


def test_one_that_was_killed_before_its_first_checkpoint_starts_anew(tmp_path):
    assert vime(tmp_path, "--seeds", "0").returncode == 0
    for path in ("summary.json", "checkpoint/model.safetensors"):
        (tmp_path / "all" / "seed_0" / path).unlink()
    assert vime(tmp_path, "--seeds", "0").returncode == 0
    assert (tmp_path / "all" / "seed_0" / "summary.json").exists()


def test_a_changed_settings_file_is_other_settings(tmp_path):
    (tmp_path / "my.toml").write_text('["rlgen/SparseMountainCar-v0"]\nlearner.gamma = 0.9')
    assert vime(tmp_path, "--seeds", "0", "--settings", "my.toml").returncode == 0
    (tmp_path / "my.toml").write_text('["rlgen/SparseMountainCar-v0"]\nlearner.gamma = 0.5')
    done = vime(tmp_path, "--seeds", "0:2", "--settings", "my.toml")
    assert (done.returncode, "holds a run by other settings" in done.stderr) == (2, True)


def test_a_signal_ends_all_of_them(tmp_path):
    words = [sys.executable, str(ROOT / "scripts" / "vime.py"), *SMALL[:4], "--seeds", "0:2", "--run-dir", "all"]
    with subprocess.Popen([*words, "--total-timesteps", "100M"], cwd=tmp_path, stdout=subprocess.PIPE) as process:
        wait_for(lambda: all((tmp_path / "all" / f"seed_{i}" / "metrics.csv").exists() for i in (0, 1)))
        process.send_signal(signal.SIGTERM)
        out = process.communicate(timeout=120)[0].decode()
    assert process.returncode == 128 + signal.SIGTERM
    assert "interrupted: the runs under way end" in out
    for i in (0, 1):
        assert json.loads((tmp_path / "all" / f"seed_{i}" / "summary.json").read_text())["status"] == "interrupted"


def wait_for(condition):
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["vime.py", "--seeds", "x"], "--seeds must be such as"),
        (["vime.py", "--seeds", "0:2", "--resume", "a"], "leave out --resume"),
        (["expert.py", "--seeds", "0:2"], "rlgen expert records one"),
        (["vime.py", "--seeds", "0:2", "--threads", "0"], "--threads must be in"),
    ],
)
def test_mistakes(tmp_path, arguments, message):
    done = forked(*arguments, cwd=tmp_path)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr
