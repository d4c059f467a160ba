"""What remains after kills, a full disk, numbers that are none, and folders that can't be written."""

import contextlib
import errno
import json
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from processes import SCRIPTS, anew, command, forked

from rlgen import experiment, run_log, train
from rlgen.checkpoint import FILE, load_checkpoint, save_checkpoint
from rlgen.command import RunOptions
from rlgen.envs import make_vec
from rlgen.errors import UsageError
from rlgen.files import write_folder
from rlgen.presets import LEARNERS, Learner
from rlgen.rewards.environment import EnvironmentReward

fork = multiprocessing.get_context("fork")  # quick to start; but a fork of many threads may hang, so it is killed
spawn = multiprocessing.get_context("spawn")


def state(number, size=200_000):
    return {"policy": {"weight": torch.full((size,), float(number))}, "progress": {"done": number}}


def save_for_ever(folder):
    number = 1
    while True:
        save_checkpoint(folder, state(number), {"env_steps": number})
        number += 1


def test_a_kill_at_fifty_moments_leaves_a_whole_checkpoint(tmp_path):
    started = time.monotonic()
    save_checkpoint(tmp_path, state(0), {"env_steps": 0})
    a_write = time.monotonic() - started
    rng, seen, cut = random.Random(0), set(), 0
    for _ in range(50):
        process = fork.Process(target=save_for_ever, args=(tmp_path,))
        process.start()
        time.sleep(0.005 + rng.uniform(0, 4) * a_write)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        facts, found = load_checkpoint(tmp_path)
        number = found["progress"]["done"]
        assert facts["env_steps"] == number
        assert (found["policy"]["weight"] == number).all()
        seen.add(number)
        unfinished = [path for path in (tmp_path / FILE).parent.iterdir() if path.name != FILE.name]
        cut += len(unfinished)
        for path in unfinished:
            path.unlink()
    # The kills fell before, between and inside writes.
    assert cut > 0
    assert len(seen) > 1


def save_on_a_full_disk(folder, answers):
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        save_checkpoint(folder, state(1), {"env_steps": 1})
    except OSError as error:
        answers.put(error.errno)


def test_a_full_disk_is_an_error_and_keeps_the_last_checkpoint(tmp_path):
    save_checkpoint(tmp_path, state(0), {"env_steps": 0})
    answers = spawn.SimpleQueue()
    process = spawn.Process(target=save_on_a_full_disk, args=(tmp_path, answers))
    process.start()
    process.join()
    assert answers.get() == errno.EFBIG
    assert load_checkpoint(tmp_path)[0]["env_steps"] == 0
    assert [path.name for path in (tmp_path / FILE).parent.iterdir()] == [FILE.name]


class Broken(gym.Wrapper):
    """CartPole whose observation is NaN from its 30th step on."""

    def __init__(self, env):
        super().__init__(env)
        self.steps = 0

    def step(self, action):
        obs, *rest = self.env.step(action)
        self.steps += 1
        return (obs if self.steps < 30 else np.full_like(obs, np.nan)), *rest


class Scaled:
    """The environment's reward times something, and a loss."""

    def __init__(self, factor=1.0, loss=0.0):
        self.factor, self.loss = factor, loss

    def __call__(self, transitions):
        return self.factor * transitions.rewards

    def update(self, transitions):
        return {"discriminator_loss": torch.tensor(self.loss)}


@pytest.mark.parametrize("algo", LEARNERS)
@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (Scaled(float("nan")), "iteration 1: reward is nan"),
        (Scaled(float("inf")), "iteration 1: reward is -?inf"),
        (Scaled(loss=float("nan")), "iteration 1: discriminator_loss is nan"),
    ],
)
def test_a_number_that_is_none_stops_training_by_name(algo, reward, message):
    learner = replace(LEARNERS[algo], n_envs=2, n_steps=16, total_timesteps=64)
    env_id = "CartPole-v1" if isinstance(learner, Learner) else "Pendulum-v1"
    with pytest.raises(FloatingPointError, match=message):
        list(learner.training(make_vec(env_id, 2, 0), lambda envs, policy: reward))


def test_an_observation_that_is_none_stops_training_before_the_policy_learns_it():
    gym.register("tests/Broken-v0", lambda: Broken(gym.make("CartPole-v1")), max_episode_steps=500)
    learner = replace(LEARNERS["ppo"], n_envs=2, n_steps=20, total_timesteps=400)
    training = learner.training(make_vec("tests/Broken-v0", 2, 0), lambda envs, policy: EnvironmentReward())
    with pytest.raises(FloatingPointError, match="iteration 2: observation is nan"):
        list(training)
    assert all(torch.isfinite(p).all() for p in training.policy.parameters())
    assert torch.isfinite(training.policy.normalizer.mean).all()


GAIL = [
    "gail.py", "--env", "Hopper-v4", "--expert", SCRIPTS.parent / "expert_data", "--n-envs", "4", "--n-steps", "32",
    "--total-timesteps", "256", "--eval-episodes", "2",
]  # fmt: skip


def test_a_folder_that_cannot_be_made_is_an_error_of_files(tmp_path):
    (tmp_path / "file").write_text("in the way")
    done = forked(*GAIL, "--run-dir", tmp_path / "file" / "run")
    assert done.returncode == 4
    assert done.stderr.startswith("error: [Errno 20] Not a directory")
    if os.getuid() == 0:
        pytest.skip("root writes where others may not")
    (tmp_path / "closed").mkdir(mode=0o500)
    done = forked(*GAIL, "--run-dir", tmp_path / "closed" / "run")
    assert done.returncode == 4
    assert "Permission denied" in done.stderr


def test_a_disk_that_fills_up_in_a_run_is_an_error_of_files(tmp_path):
    """64 kB a file: the run begins, and its first checkpoint doesn't fit."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, 65_536))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    done = anew(*GAIL, "--run-dir", tmp_path / "run", "--checkpoint-seconds", "0", preexec_fn=limit)
    assert done.returncode == 4, done.stderr
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / FILE).exists()


@pytest.mark.parametrize("numbers", [[signal.SIGTERM], [signal.SIGINT, signal.SIGTERM, signal.SIGINT]])
def test_signals_in_an_evaluation_leave_it_out_and_keep_the_summary(tmp_path, monkeypatch, numbers):
    def signalled(*arguments):
        for number in numbers[:-1]:
            with contextlib.suppress(KeyboardInterrupt):
                signal.raise_signal(number)
        signal.raise_signal(numbers[-1])
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment, "evaluate", signalled)
    learner = LEARNERS["trpo"].override(n_envs=2, n_steps=16, total_timesteps=64)
    result = experiment.run(
        RunOptions(run_dir=tmp_path / "a", device="cpu"),
        env="CartPole-v1",
        env_id="CartPole-v1",
        make_training=lambda: learner.training(make_vec("CartPole-v1", 2, 0), lambda *_: EnvironmentReward()),
        algorithm="trpo",
        reward="environment",
        name="trpo",
        config={},
        columns={},
    )
    assert result.interrupted == numbers[0]
    summary = json.loads((tmp_path / "a" / "summary.json").read_text())
    assert (summary["env_steps"], summary["return_mean"], summary["status"]) == (64, None, "interrupted")
    assert load_checkpoint(tmp_path / "a")[0]["env_steps"] == 64


def small_run(folder, reward=None, make_reward=None, on_iteration=lambda iteration: None, resume=False, **options):
    learner, model = LEARNERS["trpo"].override(n_envs=2, n_steps=16, total_timesteps=64), reward or EnvironmentReward()
    make_reward = make_reward or (lambda envs, policy: model)
    return experiment.run(
        RunOptions(run_dir=folder, resume=folder if resume else None, device="cpu", eval_episodes=2, **options),
        env="CartPole-v1",
        env_id="CartPole-v1",
        make_training=lambda: learner.training(make_vec("CartPole-v1", 2, 0), make_reward),
        algorithm="trpo",
        reward="environment",
        name="trpo",
        config={},
        columns={},
        on_iteration=on_iteration,
    )


class Raising:
    """A reward model that raises in its second iteration."""

    def __init__(self, error):
        self.error, self.calls = error, 0

    def __call__(self, transitions):
        self.calls += 1
        if self.calls == 2:
            raise self.error
        return transitions.rewards

    def update(self, transitions):
        return {}


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit])
def test_what_ended_a_run_stands_in_its_summary_and_is_raised(tmp_path, kind):
    error = kind("red \x1b[31m")
    with pytest.raises(kind) as caught:
        small_run(tmp_path / "a", Raising(error))
    assert caught.value is error
    summary = json.loads((tmp_path / "a" / "summary.json").read_text())
    assert (summary["status"], summary["env_steps"], summary["return_mean"]) == ("failed", 32, None)
    assert summary["error"].startswith(f"{kind.__name__}: red ")
    assert "\x1b" not in summary["error"]
    done = small_run(tmp_path / "b").summary
    assert (done["status"], done["error"]) == ("done", None)


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit])
def test_what_keeps_a_run_from_being_built_stands_in_a_folder_that_is_there(tmp_path, monkeypatch, kind):
    def fail(*arguments):
        raise kind("no weights")

    with pytest.raises(kind):
        small_run(tmp_path / "new", make_reward=fail)
    assert not (tmp_path / "new").exists()
    small_run(tmp_path / "a")
    done = (tmp_path / "a" / "summary.json").read_bytes()
    with pytest.raises(kind):
        small_run(tmp_path / "a", make_reward=fail, resume=True)
    assert (tmp_path / "a" / "summary.json").read_bytes() == done
    (tmp_path / "a" / "summary.json").unlink()  # as of a run that was killed
    with pytest.raises(kind):
        small_run(tmp_path / "a", make_reward=fail, resume=True)
    summary = json.loads((tmp_path / "a" / "summary.json").read_text())
    assert (summary["status"], summary["error"]) == ("failed", f"{kind.__name__}: no weights")
    assert summary["env_steps"] == 64
    assert small_run(tmp_path / "a", resume=True).summary["status"] == "done"


def test_a_refused_resume_leaves_a_killed_run_as_it_was(tmp_path):
    def refuse(*arguments):
        raise UsageError("not with this network")

    small_run(tmp_path / "a")
    (tmp_path / "a" / "summary.json").unlink()
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "a").iterdir()}
    with pytest.raises(UsageError):
        small_run(tmp_path / "a", make_reward=refuse, resume=True)
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "a").iterdir()} == before


@pytest.mark.parametrize("kind", [UsageError, OSError, KeyboardInterrupt])
def test_a_log_that_cannot_begin_leaves_no_folder(tmp_path, monkeypatch, kind):
    def fail(*arguments):
        raise kind("no log")

    monkeypatch.setattr(run_log, "_wandb", lambda: None)
    monkeypatch.setattr(run_log, "_start_tracking", fail)
    with pytest.raises(kind, match="no log"):
        small_run(tmp_path / "a", track=True)
    assert not (tmp_path / "a").exists()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "notes").write_text("mine")
    with pytest.raises(kind, match="no log"):
        small_run(tmp_path / "b", track=True)
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["notes"]
    assert small_run(tmp_path / "b").summary["status"] == "done"


@pytest.mark.parametrize(("end", "code"), [("sys.exit(0)", 1), ("raise KeyboardInterrupt", 130), ("1 / 0", 1)])
def test_a_task_that_ends_the_process_is_no_success(tmp_path, end, code):
    (tmp_path / "own.py").write_text(
        "import sys\nimport gymnasium as gym\nfrom gymnasium.envs.classic_control import CartPoleEnv\n\n\n"
        f"class Own(CartPoleEnv):\n    def step(self, action):\n        {end}\n\n\n"
        "gym.register('Own-v0', Own, max_episode_steps=20)\n"
    )
    told = ["--env", "own:Own-v0", "--n-envs", "2", "--n-steps", "16", "--run-dir", "a"]
    done = forked("vime.py", *told, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert ("Traceback" in done.stderr) == (code == 1)
    assert "failed" in forked("plot.py", "a", "--table", cwd=tmp_path).stdout


class NaNReward(gym.Wrapper):
    """CartPole whose reward is NaN from some step on."""

    def __init__(self, env, last):
        super().__init__(env)
        self.left = last

    def step(self, action):
        obs, reward, *rest = self.env.step(action)
        self.left -= 1
        return obs, (reward if self.left > 0 else float("nan")), *rest


def test_a_reward_that_is_none_stops_training_where_another_is_learned_from():
    gym.register("tests/NaNReward-v0", lambda: NaNReward(gym.make("CartPole-v1"), 20), max_episode_steps=500)
    learner = replace(LEARNERS["ppo"], n_envs=2, n_steps=16, total_timesteps=400)
    ones = type("Ones", (Scaled,), {"__call__": lambda self, transitions: torch.ones_like(transitions.rewards)})()
    with pytest.raises(FloatingPointError, match="iteration 2: the task's reward is nan"):
        list(learner.training(make_vec("tests/NaNReward-v0", 2, 0), lambda envs, policy: ones))


@pytest.mark.parametrize(
    ("what", "value"), [("obs", "np.nan"), ("obs", "np.inf"), ("reward", "np.nan"), ("reward", "-np.inf")]
)
def test_a_number_that_is_none_in_an_episode_is_an_error_of_numbers(tmp_path, what, value):
    """From an episode's 40th step on, which training doesn't reach and an evaluation or a recording does."""
    (tmp_path / "own.py").write_text(
        "import gymnasium as gym\nimport numpy as np\nfrom gymnasium.envs.classic_control import PendulumEnv\n\n\n"
        "class Own(PendulumEnv):\n"
        "    def reset(self, *, seed=None, options=None):\n        self.steps = 0\n"
        "        return super().reset(seed=seed)\n\n"
        "    def step(self, action):\n        self.steps += 1\n        obs, reward, *rest = super().step(action)\n"
        f"        if self.steps >= 40:\n            {what} = np.float32({value}) * np.ones_like({what})\n"
        "        return obs, reward, *rest\n\n\n"
        "gym.register('Own-v0', Own, max_episode_steps=40)\n"
    )
    small = ["--n-envs", "2", "--n-steps", "16", "--total-timesteps", "64", "--eval-episodes", "2", "--threads", "1"]
    message = f"episode 0, step 40: {'observation' if what == 'obs' else 'reward'} is {value.replace('np.', '')}"
    for done in (
        forked("expert.py", "--env", "own:Own-v0", "--run-dir", "a", *small, cwd=tmp_path),
        forked("evaluate.py", "a", "--env", "own:Own-v0", "--episodes", "2", cwd=tmp_path),
        forked("expert.py", "--env", "own:Own-v0", "--policy", "a", cwd=tmp_path),
    ):
        assert (done.returncode, done.stderr) == (5, f"error: {message}\n")
    summary = json.loads((tmp_path / "a" / "summary.json").read_text())
    assert (summary["status"], summary["error"]) == ("failed", f"FloatingPointError: {message}")
    assert not (tmp_path / "a" / "evaluation.json").exists()
    assert not (tmp_path / "expert_data").exists()


def test_training_runs_in_a_thread_and_without_the_signals_of_unix(tmp_path, monkeypatch):
    found = []
    thread = threading.Thread(target=lambda: found.append(small_run(tmp_path / "a").summary["status"]))
    thread.start()
    thread.join()
    assert found == ["done"]
    monkeypatch.delattr(signal, "SIGHUP")
    assert small_run(tmp_path / "b").summary["status"] == "done"


def test_a_hangup_ends_training_as_other_signals_do_but_not_under_nohup(tmp_path):
    def hang_up(iteration):
        signal.raise_signal(signal.SIGHUP)

    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which the tests themselves may have ignored, by nohup
    try:
        result = small_run(tmp_path / "a", on_iteration=hang_up)
        assert result.interrupted == signal.SIGHUP
        assert result.summary["env_steps"] == 32
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        assert small_run(tmp_path / "b", on_iteration=hang_up).summary["status"] == "done"
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_no_c_library_is_asked_where_it_is_not_glibc(monkeypatch, platform):
    def absent(name):
        raise TypeError("bad argument type for built-in operation")

    monkeypatch.setattr(train.ctypes, "CDLL", absent)
    monkeypatch.setattr(train.sys, "platform", platform)
    train.keep_freed_memory()


def without_a_reader(*words, cwd):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(words, stdout=writing, stderr=subprocess.PIPE, text=True, cwd=cwd)
    os.close(writing)
    return done


def test_a_closed_output_ends_nothing(tmp_path):
    small = ["--env", "CartPole-v1", "--n-envs", "2", "--n-steps", "16", "--total-timesteps", "64"]
    more = ["--eval-episodes", "2", "--threads", "1", "--run-dir", "a"]
    done = without_a_reader(*command("vime.py", *small, *more), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((tmp_path / "a" / "summary.json").read_text())["status"] == "done"
    for help_of in (["--help"], ["vime", "--help"]):
        done = without_a_reader(sys.executable, "-m", "rlgen", *help_of, cwd=SCRIPTS.parent)
        assert (done.returncode, done.stderr) == (0, "")


def write_for_ever(folder):
    number = 1
    while True:
        write_folder(folder, dict.fromkeys(("a", "b"), str(number).encode() * 100_000))
        number += 1


def test_a_folder_that_is_replaced_is_the_old_or_the_new_at_any_moment(tmp_path):
    folder = tmp_path / "x"
    write_folder(folder, dict.fromkeys(("a", "b"), b"0" * 100_000))
    (folder / "notes").write_text("mine")
    rng = random.Random(0)
    for _ in range(30):
        process = fork.Process(target=write_for_ever, args=(folder,))
        process.start()
        time.sleep(rng.uniform(0.002, 0.03))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert (folder / "a").read_bytes() == (folder / "b").read_bytes()
    write_folder(folder, {"a": b"1"})
    assert {path.name for path in tmp_path.iterdir()} == {"x"}
    assert (folder / "a").read_bytes() == b"1"
