"""A person's own environment, from a command line: found, trained in, evaluated, and what is wrong with it told."""

import json
import subprocess
import sys
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from processes import forked

from rlgen import imitation, presets
from rlgen.nn.policy import Policy
from rlgen.run_log import read_summary
from rlgen.types import Transitions

SMALL = ["--n-envs", "4", "--n-steps", "16", "--total-timesteps", "128", "--eval-episodes", "2", "--threads", "1"]
OWN = """
import gymnasium as gym
import numpy as np


class Push(gym.Env):
    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.np_random.normal(size=2).astype(np.float32)
        return self.state, {}

    def step(self, action):
        self.state = self.state + 0.1 * np.float32(action[0])
        return self.state, self.pay(action), False, False, {}

    def pay(self, action):
        return -abs(float(self.state[0]))


class Still(Push):
    # What any policy earns, however long it learns, is no more than random actions do.
    def pay(self, action):
        return 1.0


gym.register("Push-v0", Push, max_episode_steps=20)
gym.register("Still-v0", Still, max_episode_steps=20)
gym.register("Endless-v0", Push)


class Sized(Push):
    def __init__(self, size=2, length=20):
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.size, self.length = size, length

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state, self.t = np.zeros(self.size, np.float32), 0
        return self.state, {}

    def step(self, action):
        self.t += 1
        return self.state, 0.0, self.t == self.length, False, {}


gym.register("Sized-v0", Sized)
"""


def run(cwd, script, *arguments):
    return forked(script, *arguments, cwd=cwd)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where `own.py` is, with an expert's run and dataset."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "own.py").write_text(OWN)
    told = ["--env", "own:Push-v0", "--output", "experts", "--n-episodes", "3", "--run-dir", "a"]
    done = run(folder, "expert.py", *told, *SMALL)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_module_in_the_current_folder_is_found(folder):
    assert (folder / "experts" / "Push-v0" / "manifest.json").exists()
    told = ["--env", "own:Push-v0", "--expert", "experts", "--include-failed", "--run-dir", "b"]
    done = run(folder, "gail.py", *told, "--n-trajectories", "2", *SMALL)
    assert done.returncode == 0, done.stderr
    summary = read_summary(folder / "b")
    assert summary["subsample"] == 1
    assert summary["reward"] == "logit"


def test_a_run_is_evaluated_with_its_module_told_again(folder):
    done = run(folder, "evaluate.py", "a", "--env", "own:Push-v0", "--episodes", "2")
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "a" / "evaluation.json").read_text())["env_id"] == "Push-v0"
    untold = run(folder, "evaluate.py", "a")
    assert untold.returncode == 2
    assert "--env MODULE:Push-v0" in untold.stderr
    other = run(folder, "evaluate.py", "a", "--env", "Hopper-v4")
    assert (other.returncode, other.stderr) == (2, "error: --env Hopper-v4: a was trained in Push-v0\n")


def test_an_expert_no_better_than_random_actions_is_told_and_gives_no_score(folder):
    done = run(folder, "expert.py", "--env", "own:Still-v0", "--output", "experts", "--run-dir", "c", *SMALL)
    assert done.returncode == 0, done.stderr
    assert "warning: this expert is no better than random actions" in done.stderr
    told = ["--env", "own:Still-v0", "--expert", "experts", "--include-failed", "--run-dir", "d"]
    done = run(folder, "gail.py", *told, *SMALL)
    assert done.returncode == 0, done.stderr
    assert "no score: the expert's 20 is no better than random actions" in done.stdout
    assert read_summary(folder / "d")["normalised_score"] is None


def test_an_episode_without_an_end_is_told(folder):
    few = ["--n-episodes", "1", "--n-envs", "1", "--eval-episodes", "1", "--n-steps", "64", "--total-timesteps", "64"]
    done = run(folder, "expert.py", "--env", "own:Endless-v0", "--output", "experts", "--run-dir", "e", *few)
    assert done.returncode == 2
    assert "Endless-v0 has no time limit, and 10,000 random steps ended no episode: register it with max" in done.stderr
    assert not (folder / "e").exists()
    limited = run(folder, "expert.py", "--env", "own:Endless-v0", "--output", "experts", "--run-dir", "limited", *few,
                  "--env-kwargs", '{"max_episode_steps": 7}', "--n-episodes", "2")  # fmt: skip
    assert limited.returncode == 0, limited.stderr
    assert read_summary(folder / "limited")["episode_length_mean"] == 7
    assert "Traceback" not in done.stderr


def test_what_is_not_there_is_told_with_what_would_be_right(folder):
    for env_id, message in [
        ("Push-v0", "One of your own: --env MODULE:Push-v0"),
        ("own:Pull-v0", "Pull"),
        ("nothing:Push-v0", "cannot import nothing"),
    ]:
        done = run(folder, "expert.py", "--env", env_id, "--output", "experts")
        assert done.returncode == 2
        assert message in done.stderr
        assert done.stderr.count("\n") == 1


def test_short_trainings_take_more_and_smaller_steps(folder):
    for algo, batch_size in (("trpo", 128), ("ppo", 64)):
        learner = presets.shortened(presets.EXPERT[algo])
        assert (learner.n_envs, learner.n_steps, learner.optimizer.batch_size) == (16, 128, batch_size)
    expert = json.loads((folder / "a" / "config.json").read_text())["settings"]
    assert expert["learner"]["optimizer"]["batch_size"] == 128


def test_a_discriminator_keeps_telling_far_from_farther():
    space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    policy = Policy(space, gym.spaces.Box(-1, 1, (1,), np.float32))
    expert, near, far = (_at(10.0**power) for power in (0, 4, 5))
    assert imitation.settings().symlog
    for make in (imitation.gail, imitation.airl):
        for symlog in (True, False):
            settings = replace(imitation.settings(), symlog=symlog)
            discriminator = make(settings, policy, imitation.Expert(expert)).discriminator
            alike = torch.equal(discriminator.inputs(near)[:, :2], discriminator.inputs(far)[:, :2])
            assert alike != symlog


def _at(distance):
    """Pairs whose observations lie about this far from zero."""
    obs, zeros = distance * (1 + torch.arange(8.0).view(4, 2) / 8), torch.zeros(4)
    return Transitions(obs, torch.zeros(4, 1), obs, zeros, zeros.bool(), zeros.bool())


def test_a_folder_named_as_the_package_does_not_hide_it(tmp_path):
    """As the one that holds a checkout is."""
    (tmp_path / "rlgen").mkdir()
    found = "import rlgen; print(rlgen.make_vec.__module__)"
    done = subprocess.run([sys.executable, "-c", found], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "rlgen.envs.make\n", done.stderr


def test_environment_arguments_are_kept_for_resume_and_evaluation(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    sized = ["--env", "own:Sized-v0", "--env-kwargs", '{"size": 3, "length": 9}', "--bonus", "none"]
    done = run(tmp_path, "vime.py", *sized, *SMALL, "--vectorization", "async", "--run-dir", "r")
    assert done.returncode == 0, done.stderr
    assert "4 x AsyncVectorEnv" in done.stdout
    assert read_summary(tmp_path / "r")["episode_length_mean"] == 9
    again = run(tmp_path, "vime.py", "--resume", "r", "--env", "own:Sized-v0")
    assert again.returncode == 0, again.stderr
    assert read_summary(tmp_path / "r")["episode_length_mean"] == 9
    for told, steps in (([], 9), (["--env-kwargs", '{"size": 3, "length": 5}'], 5)):
        done = run(tmp_path, "evaluate.py", "r", "--env", "own:Sized-v0", "--episodes", "2", *told)
        assert done.returncode == 0, done.stderr
        assert json.loads((tmp_path / "r" / "evaluation.json").read_text())["env_kwargs"]["length"] == steps
    wrong = run(tmp_path, "vime.py", "--env", "own:Sized-v0", "--env-kwargs", '{"wide": 3}', *SMALL, "--run-dir", "w")
    assert wrong.returncode == 2
    assert "unexpected keyword argument 'wide'" in wrong.stderr
    assert "Traceback" not in wrong.stderr
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("line", ["1 / 0", "raise SystemExit(0)"])
def test_a_module_that_fails_is_one_clear_line(tmp_path, line):
    (tmp_path / "broken.py").write_text(line)
    done = run(tmp_path, "vime.py", "--env", "broken:Own-v0")
    assert done.returncode == 2
    cause = "ZeroDivisionError" if "/" in line else "SystemExit"
    assert done.stderr.startswith(f"error: --env broken:Own-v0: cannot import broken: {cause}: ")
    assert done.stderr.count("\n") == 1
