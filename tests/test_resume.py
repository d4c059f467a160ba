"""Going on exactly: environments, whole trainings through a checkpoint file, and a killed command."""

import csv
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import kills
import numpy as np
import pytest
import torch
from conftest import CUDA
from processes import anew, command, forked

from rlgen import exploration, imitation, presets
from rlgen.checkpoint import FILE, load_checkpoint, save_checkpoint
from rlgen.command import RunArguments, RunOptions
from rlgen.commands import expert, gail, vime
from rlgen.data.demonstrations import load_demonstrations
from rlgen.envs import make_vec
from rlgen.envs.codes import Coded, Codes
from rlgen.errors import CheckpointError
from rlgen.presets import LEARNERS, OffPolicyLearner
from rlgen.rewards.combine import MedianScaled, WeightedSum
from rlgen.rewards.environment import EnvironmentReward
from rlgen.run_log import plain
from rlgen.settings import SettingsFile, from_json

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
    codes = Codes()
    if kind == "environment":
        learner, env_id = presets.LEARNERS[algo], "Humanoid-v4"

        def make(envs, policy):
            return EnvironmentReward()

    elif kind in ("infogail", "gail options") or kind in imitation.IMITATORS:
        env_id = "Walker2d-v4"  # of whose episodes some terminate, so that terminal observations are learned too
        settings = imitation.settings("default", algo)
        learner = settings.learner
        if kind == "gail options":
            settings = replace(
                settings,
                reward="feature-matching",
                virtual_batch_norm=True,
                minibatch_group=1 if isinstance(learner, OffPolicyLearner) else 8,
                information_limit=0.5,
                gail=replace(settings.gail, historical_averaging=0.1),
            )
        demonstrations = load_demonstrations(ROOT / "expert_data", env_id, 4)
        assert demonstrations.transitions.terminated.any()

        def make(envs, policy):
            if codes:
                return imitation.with_codes(envs, settings, policy, demonstrations, imitation.gail)
            return imitation.IMITATORS[kind.split()[0]](settings, policy, settings.expert(envs, policy, demonstrations))

        if kind == "infogail":
            settings = replace(settings, code=imitation.CodeConfig(2, 1))
            codes = settings.code
    else:
        env_id = "rlgen/SparseHalfCheetah-v0"
        settings = exploration.settings(algo, env_id, kind)
        learner, bonus, codes = settings.learner, settings.bonus, settings.codes
        bonus = replace(bonus, n_updates=3, batch_size=64, pool_size=300)

        def make(envs, policy):
            return exploration.reward_model(envs, device, exploration.BONUSES[kind], bonus)

    learner = replace(learner, n_envs=4, n_steps=32, total_timesteps=6 * 128)
    if isinstance(learner, OffPolicyLearner):
        learner = replace(learner, learning_starts=128, updates_per_step=0.1)
    return learner.training(make_vec(Coded(env_id, codes) if codes else env_id, 4, seed), make, seed, device)


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
@pytest.mark.parametrize("algo", LEARNERS)
@pytest.mark.parametrize(
    "kind",
    ["gail", "gail options", "airl", "fem", "vime", "vime-reference", "rnd", "disagreement", "noise", "environment"],
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


RUNS = {
    "gail": ["--env", "Hopper-v4", "--expert", str(ROOT / "expert_data"), "--n-envs", "8", "--n-steps", "32"],
    "vime": ["--sparse", "--algo", "ppo", "--n-envs", "8", "--n-steps", "32", "--n-updates", "2"],
}


COMMON = ["--total-timesteps", "7680", "--eval-episodes", "2", "--threads", "1"]


@pytest.fixture(scope="module")
def whole_of(tmp_path_factory):
    """The folder of a run that nothing stopped, by name."""

    @functools.cache
    def run(name):
        folder = tmp_path_factory.mktemp("whole") / name
        done = forked(f"{name}.py", *COMMON, *RUNS[name], "--run-dir", folder)
        assert done.returncode == 0, done.stderr
        return folder

    return run


@pytest.mark.parametrize("name", RUNS)
def test_a_killed_run_resumes_to_the_same_result(tmp_path, whole_of, name):
    """The checkpoint is renewed after every iteration here, so that a kill falls between any two."""
    whole, killed = whole_of(name), tmp_path / "killed"
    process = subprocess.Popen(
        command(f"{name}.py", *COMMON, *RUNS[name], "--checkpoint-seconds", "0", "--run-dir", killed),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not ((killed / "metrics.csv").exists() and len(metrics(killed)) > 4):
        assert process.poll() is None
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(metrics(killed)) < 30
    done = anew(f"{name}.py", "--resume", killed)
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


def test_two_interrupts_leave_a_run_that_goes_on_exactly(tmp_path, whole_of):
    whole, stopped = whole_of("gail"), tmp_path / "stopped"
    told = [*COMMON, *RUNS["gail"], "--run-dir", stopped]
    process = subprocess.Popen(command("gail.py", *told), stdout=subprocess.DEVNULL)
    while not ((stopped / "metrics.csv").exists() and len(metrics(stopped)) > 2):
        time.sleep(0.005)
    for _ in range(2):
        os.kill(process.pid, signal.SIGINT)
        time.sleep(0.002)
    assert process.wait(60) == 130
    assert len(metrics(stopped)) < 30
    done = forked("gail.py", "--resume", stopped)
    assert done.returncode == 0, done.stderr
    assert metrics(stopped) == metrics(whole)
    assert_same(load_checkpoint(whole)[1], load_checkpoint(stopped)[1])


def test_a_module_that_a_file_names_is_not_imported(tmp_path):
    (tmp_path / "trap.py").write_text("from pathlib import Path\nPath('sprung').touch()\n")
    command = "python vime.py --env trap:X-v0 --bonus rnd"
    (tmp_path / "run").mkdir()
    arguments = plain(vime.Arguments(env="trap:X-v0", bonus="rnd"))
    (tmp_path / "run" / "config.json").write_text(json.dumps({"command": command, "arguments": arguments}))
    options = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": str(tmp_path)}}
    done = anew("vime.py", "--resume", "run", **options)
    assert done.returncode == 2
    assert "add --env trap:X-v0: a module that a file names is imported only when told again" in done.stderr
    assert not (tmp_path / "sprung").exists()
    done = anew("vime.py", "--resume", "run", "--env", "trap:X-v0", **options)
    assert (tmp_path / "sprung").exists()
    assert done.returncode != 0  # there is no such task


def test_what_cannot_go_on_says_why(tmp_path, monkeypatch):
    def resume(name, *arguments):
        return forked(f"{name}.py", *arguments)

    folder = tmp_path / "a"
    started = [*RUNS["gail"], "--total-timesteps", "256", "--eval-episodes", "2", "--threads", "1", "--run-dir", folder]
    assert forked("gail.py", *started).returncode == 0
    more = resume("gail", "--resume", folder, "--seed", "1")
    assert (more.returncode, more.stderr) == (
        2,
        "error: --resume continues with the run's own arguments; leave out --seed\n",
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


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A run of vime that is done, four iterations; to be copied."""
    folder = tmp_path_factory.mktemp("small") / "run"
    told = ["--n-envs", "4", "--n-steps", "16", "--total-timesteps", "256", "--eval-episodes", "1", "--threads", "1"]
    done = forked("vime.py", *told, "--n-updates", "1", "--run-dir", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def run(small, tmp_path):
    return Path(shutil.copytree(small, tmp_path / "run"))


def resumed(run, *arguments, name="vime"):
    return forked(f"{name}.py", "--resume", run, *arguments, cwd=run.parent)


def edit(run, change):
    config = json.loads((run / "config.json").read_text())
    change(config)
    (run / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config["arguments"]["run"].update(seed=7),
        lambda config: config["arguments"]["run"].update(track=True),
        lambda config: config["arguments"].update(eta=0.5),
        lambda config: config.update(command="rlgen vime --tyro-write-completion bash written"),
        lambda config: config.update(command="rlgen vime", git_revision="0"),
    ],
)
def test_an_edited_configuration_is_refused(run, change):
    edit(run, change)
    done = resumed(run)
    assert (done.returncode, "it was changed since the run began" in done.stderr) == (4, True), done.stderr
    assert not (run.parent / "written").exists()
    assert (run / "summary.json").exists()


@pytest.mark.parametrize("kind", [gail.Arguments, vime.Arguments, expert.Arguments])
def test_arguments_come_back_from_json_as_they_were(kind):
    file = SettingsFile("my.toml", "[X-v0]\nlearner.gamma = 0.9")
    arguments = replace(kind(), env="X-v0", run=RunArguments(seed=3, run_dir=Path("a/b"), settings=file))
    assert from_json(kind, json.loads(json.dumps(plain(arguments))), "arguments") == arguments


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_trajectories": "4"}, "arguments.n_trajectories: must be a whole number or nothing; got '4'"),
        ({"n_trajectories": True}, "arguments.n_trajectories: must be a whole number or nothing; got True"),
        ({"algo": "a2c"}, "arguments.algo: must be"),
        ({"expert": 3}, "arguments.expert: must be Path; got 3"),
        ({"dropout": [1]}, "arguments.dropout: must be"),
        ({"run": None}, "arguments.run: must have exactly the fields seed"),
        ({"extra": 1}, "arguments: must have exactly the fields env"),
    ],
)
def test_arguments_of_other_types_are_refused_by_name(change, message):
    with pytest.raises(CheckpointError, match=re.escape(message)):
        from_json(gail.Arguments, plain(gail.Arguments()) | change, "arguments")


def test_a_file_decides_neither_where_a_dataset_goes_nor_what_it_replaces(tmp_path):
    arguments = plain(expert.Arguments(env="CartPole-v1", output=tmp_path / "elsewhere", overwrite=True))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(json.dumps({"command": "rlgen expert", "arguments": arguments}))
    done = resumed(tmp_path / "run", name="expert")
    assert (done.returncode, f"add --output {tmp_path}/elsewhere: a dataset" in done.stderr) == (2, True), done.stderr
    done = resumed(tmp_path / "run", "--output", tmp_path / "elsewhere", name="expert")
    assert (done.returncode, "add --overwrite: a dataset" in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_names_no_other_to_read(tmp_path):
    (tmp_path / "secret").write_text("secret")
    arguments = plain(gail.Arguments(run=RunArguments(settings=tmp_path / "secret")))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(json.dumps({"command": "rlgen gail", "arguments": arguments}))
    done = resumed(tmp_path / "run", name="gail")
    message = "config.json: field arguments.run.settings: must hold path and text"
    assert (done.returncode, message in done.stderr) == (4, True), done.stderr


@pytest.mark.parametrize("lost", [slice(3, None), slice(2, 3), slice(1, None), slice(0, None)])
def test_lost_rows_are_told(run, lost):
    lines = (run / "metrics.csv").read_text().splitlines(keepends=True)
    del lines[lost]
    (run / "metrics.csv").write_text("".join(lines))
    done = resumed(run)
    first = max(lost.start, 1)
    assert done.returncode == 4
    assert f"metrics.csv: the row of iteration {first} is missing; the checkpoint has 4 done" in done.stderr


@pytest.mark.parametrize("name", ["wall_seconds", "episodes", "env_steps"])
def test_metrics_without_a_column_are_told(run, name):
    path = run / "metrics.csv"
    path.write_text(path.read_text().replace(name, "x", 1))
    done = resumed(run)
    assert (done.returncode, "not a run's metrics" in done.stderr, f"no column {name}" in done.stderr) == (
        4,
        True,
        True,
    )


def test_evaluations_without_a_column_are_told(run):
    (run / "evaluations.csv").write_text("steps,return_mean,return_std,episodes\n1,1,1,1\n")
    done = resumed(run)
    assert (done.returncode, "no column episode_length_mean" in done.stderr) == (4, True), done.stderr


def test_metrics_are_on_the_disk_before_the_checkpoint_that_counts_them(monkeypatch, tmp_path):
    from rlgen import experiment

    synced = []
    monkeypatch.setattr("rlgen.run_log.os.fsync", lambda handle: synced.append(os.readlink(f"/proc/self/fd/{handle}")))
    checked = []

    def save(folder, state, facts):
        checked.append(bool(synced) and synced[-1].endswith("metrics.csv"))
        synced.clear()

    monkeypatch.setattr(experiment, "save_checkpoint", save)
    experiment.run(
        RunOptions(run_dir=tmp_path / "a", eval_episodes=1, checkpoint_seconds=0), name="ppo",
        env="CartPole-v1", env_id="CartPole-v1", make_training=lambda: LEARNERS["ppo"].override(2, 16, 64).training(
            make_vec("CartPole-v1", 2, 0), lambda *_: EnvironmentReward()
        ),
        algorithm="ppo", reward="environment", config={}, columns={},
    )  # fmt: skip
    assert checked == [True] * 4


def test_a_second_resume_is_refused_while_the_first_runs(run):
    from rlgen.run_log import hold

    with hold(run):
        done = resumed(run)
        assert (done.returncode, "another process is running or resuming this run" in done.stderr) == (4, True)
    assert resumed(run).returncode == 0


def test_links_in_a_run_folder_are_not_followed(run):
    elsewhere = run.parent / "elsewhere"
    (run / "tensorboard").rename(elsewhere)
    (run / "tensorboard").symlink_to(elsewhere)
    before = {path.name for path in elsewhere.iterdir()}
    done = resumed(run)
    assert (done.returncode, "tensorboard is a link" in done.stderr) == (4, True)
    assert {path.name for path in elsewhere.iterdir()} == before


class Counting:
    """A reward model that is no module: its reward is the number of its updates."""

    def __init__(self):
        self.count = 0

    def __call__(self, transitions):
        return torch.full_like(transitions.rewards, float(self.count))

    def update(self, transitions):
        self.count += 1
        return {}

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]


@pytest.mark.parametrize(
    "around",
    [
        lambda model: model,
        lambda model: WeightedSum({"env": (EnvironmentReward(), 1.0), "own": (model, 2.0)}),
        lambda model: WeightedSum({"own": (MedianScaled(model), 1.0)}),
    ],
)
def test_the_state_of_a_model_that_is_no_module_is_in_the_checkpoint(tmp_path, around):
    learner = LEARNERS["ppo"].override(2, 16, 128)

    def training(model):
        return learner.training(make_vec("Hopper-v4", 2, 0), lambda envs, policy: around(model))

    first, second = Counting(), Counting()
    steps = training(first)
    next(iter(steps))
    save_checkpoint(tmp_path, steps.state_dict(), {})
    training(second).load_state_dict(load_checkpoint(tmp_path)[1])
    assert second.count == first.count > 0


@pytest.mark.parametrize("command", ["gail", "vime", "expert"])
def test_runs_killed_at_random_moments_end_as_the_whole_one(command):
    """A small one of `benchmarks/kills.py`."""
    algo, env = ("trpo", "rlgen/SparseMountainCar-v0") if command == "vime" else ("ppo", "Hopper-v4")
    row = kills.measure({"command": command, "algo": algo, "env": env, "kills": 3, "iterations": 12, "seed": 0})
    assert {name: value for name, value in row.items() if name.endswith("equal")} == dict.fromkeys(
        ("metrics_equal", "checkpoint_equal", "tensorboard_equal", "dataset_equal"), True
    )
    assert row["before_first_checkpoint"] < 3
