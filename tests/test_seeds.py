"""Several seeds by one command."""

import json
import shutil

import pytest
from processes import forked

from rlgen.errors import UsageError
from rlgen.seeds import read_seeds

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
