"""`scripts/evaluate.py`: returns of a run's policy, and its film."""

import json

import numpy as np
import pytest
import torch
from processes import SCRIPTS, anew, forked

from rlgen.data.episodes import RandomActor
from rlgen.envs import make_vec
from rlgen.evaluation import Evaluation, evaluate
from rlgen.nn.policy import Actor, Policy


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "a"
    small = ["--n-envs", "4", "--n-steps", "32", "--total-timesteps", "256", "--eval-episodes", "2", "--threads", "1"]
    expert = ["--expert", SCRIPTS.parent / "expert_data"]
    done = forked("gail.py", "--env", "Hopper-v4", *expert, *small, "--run-dir", folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_returns_have_intervals_and_a_score(folder):
    done = anew("evaluate.py", folder, "--episodes", "4")
    assert done.returncode == 0, done.stderr
    report = json.loads((folder / "evaluation.json").read_text())
    assert len(report["stochastic"]["returns"]) == 4
    low, high = report["stochastic"]["interval"]
    assert low <= report["stochastic"]["mean"] <= high
    assert report["stochastic"]["mean"] == pytest.approx(np.mean(report["stochastic"]["returns"]))
    assert "deterministic: " in done.stdout
    assert ", score 0." in done.stdout or ", score -0." in done.stdout
    again = forked("evaluate.py", folder, "--episodes", "4")
    assert again.stdout == done.stdout


def test_the_interval_is_a_bootstraps():
    low, high = Evaluation(list(np.random.default_rng(0).normal(5, 1, 400)), []).interval()
    assert (high - low) / 2 == pytest.approx(1.96 / 20, rel=0.15)


def test_an_experts_return_gives_a_score():
    envs = make_vec("CartPole-v1", 1)
    actor = Actor(Policy(envs.single_observation_space, envs.single_action_space))
    plain, found = (evaluate(actor, "CartPole-v1", 5, seed=3, **told) for told in ({}, {"expert": 500.0}))
    zero = evaluate(RandomActor(envs.single_action_space, 3), "CartPole-v1", 5, seed=3, deterministic=False).mean
    assert (plain.score, found.returns) == (None, plain.returns)
    assert found.score == (plain.mean - zero) / (500 - zero)


def test_one_episode_has_no_interval(folder):
    assert Evaluation([3.0], [1]).interval() is None
    assert Evaluation([3.0], [1]).std is None
    done = forked("evaluate.py", folder, "--episodes", "1")
    assert done.returncode == 0, done.stderr
    report = json.loads((folder / "evaluation.json").read_text())
    assert report["deterministic"]["interval"] is None
    assert "1 episode each\n" in done.stdout
    assert " to " not in done.stdout


@pytest.mark.parametrize("env_id", ["Reacher-v4", "CartPole-v1"])
@pytest.mark.parametrize("deterministic", [True, False])
def test_the_first_returns_do_not_depend_on_how_many_there_are(env_id, deterministic):
    torch.manual_seed(0)
    envs = make_vec(env_id, 1)
    space = envs.single_action_space
    policy = Policy(envs.single_observation_space, space)
    for actor in (Actor(policy, np.random.default_rng(0)), RandomActor(space, 0)):
        many = evaluate(actor, env_id, 9, 5, deterministic).returns
        few = evaluate(actor, env_id, 4, 5, deterministic).returns
        np.testing.assert_allclose(few, many[:4], rtol=1e-5)
        assert len(set(many)) > 1


def test_random_actions_leave_the_callers_space_alone():
    space = make_vec("Reacher-v4", 1).single_action_space
    space.seed(7)
    expected = space.sample()
    space.seed(7)
    evaluate(RandomActor(space, 0), "Reacher-v4", 2)
    np.testing.assert_array_equal(space.sample(), expected)


def test_a_film_shows_the_episode(folder):
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="the extra `video` is not installed")
    done = anew("evaluate.py", folder, "--episodes", "2", "--video")
    if "MuJoCo can't render here" in done.stderr:
        pytest.skip("no EGL here")
    assert done.returncode == 0, done.stderr
    meta, *frames = imageio_ffmpeg.read_frames(str(folder / "video.mp4"))
    assert meta["size"] == (480, 360)
    pictures = [np.frombuffer(frame, np.uint8) for frame in frames]
    assert len(pictures) > 3
    assert pictures[0].std() > 10  # not one colour
    assert np.abs(pictures[0].astype(int) - pictures[-1].astype(int)).mean() > 1  # it moves
    assert (folder / "contact_sheet.png").read_bytes().startswith(b"\x89PNG")
    assert not list(folder.glob(".*"))


def test_mistakes_are_one_clear_line(folder, tmp_path):
    none = forked("evaluate.py", tmp_path)
    assert (none.returncode, none.stderr.count("\n")) == (4, 1)
    assert "there is no checkpoint" in none.stderr
    few = forked("evaluate.py", folder, "--episodes", "0")
    assert (few.returncode, few.stderr) == (2, "error: --episodes must be at least 1; got 0\n")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", {"agent": [1]}),
        ("config.json", {"agent": {"expert_return": "x"}}),
        ("summary.json", {"expert_return_mean": "x"}),
    ],
)
def test_a_file_that_is_not_a_runs_is_told(folder, file, content):
    path = folder / file
    kept = path.read_text()
    path.write_text(json.dumps(json.loads(kept) | content))
    done = forked("evaluate.py", folder, "--episodes", "1")
    path.write_text(kept)
    assert (done.returncode, f"{file}: field" in done.stderr) == (4, True), done.stderr


def test_under_other_arguments_of_the_environment_there_is_no_score(folder):
    done = forked("evaluate.py", folder, "--episodes", "1", "--env-kwargs", '{"reset_noise_scale": 0.2}')
    assert done.returncode == 0, done.stderr
    assert "no score: the expert's return is of other arguments" in done.stdout
    assert ", score" not in done.stdout


def test_the_policy_is_exported(folder, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    done = forked("evaluate.py", folder, "--episodes", "2", "--onnx", tmp_path / "policy.onnx")
    assert done.returncode == 0, done.stderr
    assert "policy.onnx: obs [N, 11] to action" in done.stdout
    (actions,) = onnxruntime.InferenceSession(tmp_path / "policy.onnx").run(None, {"obs": np.zeros((3, 11))})
    assert actions.shape == (3, 3)
