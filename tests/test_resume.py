"""Going on exactly: environments, whole trainings through a checkpoint file, and a killed command."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CUDA

from rlgen import exploration, imitation, presets
from rlgen.checkpoint import FILE, load_checkpoint, save_checkpoint
from rlgen.data.demonstrations import load_demonstrations
from rlgen.envs import make_vec
from rlgen.rewards.environment import EnvironmentReward

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "env_id",
    [
        "HalfCheetah-v4",
        "Hopper-v4",
        "Walker2d-v5",
        "Ant-v4",
        "Ant-v5",
        "Humanoid-v4",
        "Reacher-v4",
        "rlgen/SparseHalfCheetah-v0",
        "rlgen/SwimmerGather-v0",
        "rlgen/SparseMountainCar-v0",
        "rlgen/SparseCartPoleSwingupHard-v0",
    ],
)
def test_environments_go_on_as_if_never_stopped(tmp_path, env_id):
    envs = make_vec(env_id, 5, seed=0)
    rng = np.random.default_rng(0)
    low, high = envs.action_space.low, envs.action_space.high
    actions = rng.uniform(low, high, (150, *low.shape)).astype(np.float32)
    for action in actions[:60]:
        envs.step(action)
    save_checkpoint(tmp_path, {"envs": envs.state_dict()}, {})
    _, state = load_checkpoint(tmp_path)
    other = make_vec(env_id, 5, seed=99)
    other.load_state_dict(state["envs"])
    for action in actions[60:]:
        ours, theirs = envs.step(action), other.step(action)
        for left, right in zip(ours[:4], theirs[:4], strict=True):
            np.testing.assert_array_equal(left, right)
        np.testing.assert_equal(ours[4], theirs[4])
    assert envs.elapsed_steps.tolist() == other.elapsed_steps.tolist()


def training_of(kind, algo, seed=0, device="cpu"):
    torch.manual_seed(seed)
    if kind == "environment":
        learner, env_id = presets.LEARNERS[algo], "Humanoid-v4"

        def make(envs, policy):
            return EnvironmentReward()

    elif kind in imitation.IMITATORS:
        env_id = "Hopper-v4"
        settings = imitation.settings("default", algo, env_id)
        learner = settings.learner
        demonstrations = load_demonstrations(ROOT / "expert_data", env_id, 2, 20)

        def make(envs, policy):
            return imitation.IMITATORS[kind](settings, policy, settings.expert(envs, policy, demonstrations), None)
    else:
        env_id = "rlgen/SparseHalfCheetah-v0"
        learner, bonus = exploration.settings(algo, env_id, kind)
        bonus = replace(bonus, n_updates=3, batch_size=64, pool_size=300)

        def make(envs, policy):
            return exploration.reward_model(envs, device, exploration.BONUSES[kind], bonus)

    learner = replace(learner, n_envs=4, n_steps=32, total_timesteps=6 * 128)
    return learner.training(make_vec(env_id, 4, seed), make, seed, device)


def leaves(state, path=""):
    if isinstance(state, dict):
        return {name: leaf for key, value in state.items() for name, leaf in leaves(value, f"{path}/{key}").items()}
    return {path: state}


def assert_same(left, right):
    left, right = leaves(left), leaves(right)
    assert left.keys() == right.keys()
    for name in left.keys() - {"/progress/wall_seconds"}:
        if isinstance(left[name], torch.Tensor | np.ndarray):
            ours, theirs = (x.cpu() if isinstance(x, torch.Tensor) else x for x in (left[name], right[name]))
            np.testing.assert_array_equal(ours, theirs, err_msg=name)
        else:
            assert left[name] == right[name], name


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("algo", ["trpo", "ppo"])
@pytest.mark.parametrize(
    "kind", ["gail", "airl", "fem", "vime", "vime-reference", "rnd", "disagreement", "noise", "environment"]
)
def test_stopped_and_resumed_equals_never_stopped(tmp_path, device, kind, algo):
    whole = training_of(kind, algo, device=device)
    expected = [iteration.metrics for iteration in whole]
    first = training_of(kind, algo, device=device)
    steps = iter(first)
    found = [next(steps).metrics for _ in range(3)]
    save_checkpoint(tmp_path, first.state_dict(), {})
    _, state = load_checkpoint(tmp_path)
    second = training_of(kind, algo, seed=7, device=device)
    second.load_state_dict(state)
    found += [iteration.metrics for iteration in second]
    assert len(expected) == len(found) == 6
    for left, right in zip(expected, found, strict=True):
        np.testing.assert_equal(left, right)
    assert_same(whole.state_dict(), second.state_dict())


def metrics(folder):
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if "seconds" not in k} for row in rows]


def script(name, *arguments):
    return [sys.executable, ROOT / "scripts" / f"{name}.py", *arguments]


RUNS = {
    "gail": ["--env", "Hopper-v4", "--expert", str(ROOT / "expert_data"), "--n-envs", "8", "--n-steps", "32"],
    "vime": ["--sparse", "--algo", "ppo", "--n-envs", "8", "--n-steps", "32", "--n-updates", "2"],
}


@pytest.mark.parametrize("name", RUNS)
def test_a_killed_run_resumes_to_the_same_result(tmp_path, name):
    """The checkpoint is renewed after every iteration here, so that a kill falls between any two."""
    common = [
        *RUNS[name],
        "--total-timesteps",
        "7680",
        "--eval-episodes",
        "2",
        "--threads",
        "1",
        "--checkpoint-seconds",
        "0",
    ]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(script(name, *common, "--run-dir", whole), check=True, capture_output=True)
    process = subprocess.Popen(
        script(name, *common, "--run-dir", killed),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not ((killed / "metrics.csv").exists() and len(metrics(killed)) > 4):
        assert process.poll() is None
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(metrics(killed)) < 30
    done = subprocess.run(script(name, "--resume", killed), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "goes on after" in done.stdout
    assert metrics(killed) == metrics(whole)
    (_, left), (_, right) = load_checkpoint(whole), load_checkpoint(killed)
    assert_same(left, right)
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in (whole, killed)]
    times = {key for key in summaries[0] if "second" in key}
    assert {k: v for k, v in summaries[0].items() if k not in times} == {
        k: v for k, v in summaries[1].items() if k not in times
    }
    assert not [path for path in killed.rglob(".*") if path.is_file()]


def test_two_interrupts_leave_a_run_that_goes_on_exactly(tmp_path):
    common = [*RUNS["gail"], "--total-timesteps", "30720", "--eval-episodes", "2", "--threads", "1"]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    subprocess.run(script("gail", *common, "--run-dir", whole), check=True, capture_output=True)
    process = subprocess.Popen(script("gail", *common, "--run-dir", stopped), stdout=subprocess.DEVNULL)
    while not ((stopped / "metrics.csv").exists() and len(metrics(stopped)) > 2):
        time.sleep(0.005)
    for _ in range(2):
        os.kill(process.pid, signal.SIGINT)
        time.sleep(0.002)
    assert process.wait(60) == 130
    assert len(metrics(stopped)) < 120
    done = subprocess.run(script("gail", "--resume", stopped), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert metrics(stopped) == metrics(whole)
    assert_same(load_checkpoint(whole)[1], load_checkpoint(stopped)[1])


def test_a_module_that_a_file_names_is_not_imported(tmp_path):
    (tmp_path / "trap.py").write_text("from pathlib import Path\nPath('sprung').touch()\n")
    command = "python vime.py --env trap:X-v0 --bonus rnd"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(json.dumps({"command": command}))
    options = {"capture_output": True, "text": True, "cwd": tmp_path, "env": os.environ | {"PYTHONPATH": str(tmp_path)}}
    done = subprocess.run(script("vime", "--resume", "run"), **options)
    assert done.returncode == 2
    assert "add --env trap:X-v0: a module that a file names is imported only when told again" in done.stderr
    assert not (tmp_path / "sprung").exists()
    done = subprocess.run(script("vime", "--resume", "run", "--env", "trap:X-v0"), **options)
    assert (tmp_path / "sprung").exists()
    assert done.returncode != 0  # there is no such task


def test_what_cannot_go_on_says_why(tmp_path, monkeypatch):
    def resume(name, *arguments):
        return subprocess.run(script(name, *arguments), capture_output=True, text=True)

    folder = tmp_path / "a"
    started = [*RUNS["gail"], "--total-timesteps", "256", "--eval-episodes", "2", "--threads", "1", "--run-dir", folder]
    subprocess.run(script("gail", *started), check=True, capture_output=True)
    more = resume("gail", "--resume", folder, "--seed", "1")
    assert (more.returncode, more.stderr) == (
        2,
        "error: --resume goes on with the run's own arguments; tell nothing else\n",
    )
    other = resume("vime", "--resume", folder)
    assert other.returncode == 2
    assert f"{folder} is a run of gail; resume it with that" in other.stderr
    none = resume("gail", "--resume", tmp_path)
    assert none.returncode == 4
    assert "holds no run" in none.stderr
    facts, state = load_checkpoint(folder)
    save_checkpoint(folder, state, facts | {"env_id": "Ant-v4"})
    assert "its checkpoint is of Ant-v4, not Hopper-v4" in resume("gail", "--resume", folder).stderr
    with monkeypatch.context() as patch:
        patch.setattr("rlgen.checkpoint.versions", lambda: {"rlgen": "0.0.1"})
        save_checkpoint(folder, state, facts)
    old = resume("gail", "--resume", folder)
    assert old.returncode == 4
    assert "its checkpoint was written with" in old.stderr
    assert "rlgen 0.0.1, here" in old.stderr
    (folder / FILE).unlink()
    assert "there is no checkpoint" in resume("gail", "--resume", folder).stderr
