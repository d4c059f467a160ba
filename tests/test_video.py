"""Films of whatever renders, and what is said of what doesn't."""

import ctypes.util
import os
import subprocess
import sys
from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest
from processes import forked

import rlgen
from rlgen.commands import evaluate
from rlgen.errors import UsageError
from rlgen.nn.policy import Actor, Policy
from rlgen.video import Film, camera, side_by_side, write_contact_sheet

imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="the extra `video` is not installed")

SMALL = {"n_envs": 2, "n_steps": 16, "n_threads": 1, "device": "cpu"}


class Grid(gym.Env):
    """A point on 6 x 6 cells that walks to the right; its picture has 8 x 8 pixels a cell."""

    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 5}
    observation_space = gym.spaces.Dict({"at": gym.spaces.MultiDiscrete([6, 6])})
    action_space = gym.spaces.Discrete(4)

    def __init__(self, render_mode=None, picture=lambda image: image):
        self.render_mode, self.picture = render_mode, picture

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = np.array([0, self.np_random.integers(6)])
        return {"at": self.at.copy()}, {}

    def step(self, action):
        self.at[0] += 1
        return {"at": self.at.copy()}, 1.5, bool(self.at[0] == 5), False, {}

    def render(self):
        image = np.zeros((48, 48, 3), np.uint8)
        image[8 * self.at[1] : 8 * self.at[1] + 8, 8 * self.at[0] : 8 * self.at[0] + 8] = 255
        return self.picture(image)


gym.register("Grid-v0", Grid, max_episode_steps=20)


class Blind(Grid):
    def __init__(self):
        super().__init__()


gym.register("Blind-v0", Blind, max_episode_steps=20)


def actor():
    return Actor(Policy(Grid.observation_space, Grid.action_space))


@pytest.mark.parametrize("env", ["Grid-v0", Grid])
def test_an_environment_of_ones_own_is_filmed(env):
    film = camera(env)(actor(), 3)
    assert (len(film.frames), film.frames_per_second, film.total_reward) == (6, 5, 7.5)
    for i, frame in enumerate(film.frames):  # the first after the reset, the last where the episode ended
        assert frame.shape == (48, 48, 3)
        assert np.flatnonzero(frame.any(axis=(0, 2))).tolist() == list(range(8 * i, 8 * i + 8))


def test_a_film_from_python_is_of_the_first_episode_that_is_evaluated(tmp_path):
    agent = rlgen.PPO("CartPole-v1", **SMALL).learn(64, progress=False)
    total = agent.film(tmp_path / "films" / "a.mp4")
    assert total == agent.evaluate(1).returns[0]
    meta, *frames = imageio_ffmpeg.read_frames(str(tmp_path / "films" / "a.mp4"))
    assert (meta["size"], meta["fps"]) == ((600, 400), 50)
    assert len(frames) == total + 1
    pictures = [np.frombuffer(frame, np.uint8).astype(int) for frame in frames]
    assert np.abs(pictures[0] - pictures[-1]).mean() > 0.1


def test_a_batched_tasks_film_is_of_that_episode_too(tmp_path, monkeypatch):
    monkeypatch.setattr("rlgen.video._render", lambda envs, poses: [np.zeros((8, 8, 3), np.uint8)] * len(poses))
    agent = rlgen.PPO("Hopper-v4", **SMALL).learn(64, progress=False)
    assert agent.film(tmp_path / "a.mp4") == pytest.approx(agent.evaluate(1).returns[0], rel=1e-6)


@pytest.mark.skipif(ctypes.util.find_library("EGL") is None, reason="no EGL")
def test_mujoco_films_from_python_without_a_screen(tmp_path):
    code = """
import mujoco, rlgen
agent = rlgen.PPO("Hopper-v4", n_envs=2, n_steps=16, n_threads=1, device="cpu")
assert agent.film("a.mp4") > 0
"""
    bare = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "MUJOCO_GL")}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=bare, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.mp4").stat().st_size > 1000


@pytest.mark.parametrize(
    ("env", "why"),
    [
        ("rlgen/SparseMountainCar-v0", "it takes no render_mode"),
        ("Blind-v0", "it takes no render_mode"),
        (lambda render_mode: Grid(render_mode, lambda image: None), "its render gives NoneType"),
        (lambda render_mode: Grid(render_mode, lambda image: image / 255), r"its render gives float64 \[48, 48, 3\]"),
        (lambda render_mode: Grid(render_mode, lambda image: image[..., 0]), r"its render gives uint8 \[48, 48\]"),
        (lambda render_mode: Grid(render_mode, lambda image: 1 / 0), "its render raises ZeroDivisionError: division"),
    ],
)
def test_what_does_not_render_is_refused_by_name(env, why):
    if callable(env):
        made = env
        env = lambda render_mode=None: made(render_mode)  # noqa: E731
    with pytest.raises(UsageError, match=f"can't be filmed: {why}.*render_mode='rgb_array'"):
        camera(env)


def test_pictures_of_several_sizes_are_refused():
    sizes = iter(range(40, 80))
    shoot = camera(lambda render_mode=None: Grid(render_mode, lambda image: image[: next(sizes)]))
    with pytest.raises(UsageError, match="its pictures differ in size"):
        shoot(actor(), 0)


def test_an_error_of_the_environment_keeps_its_traceback():
    def broken(render_mode=None):
        raise TypeError("unsupported operand")

    with pytest.raises(TypeError, match="unsupported operand"):
        camera(broken)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(UsageError, match=r"CartPole-v1 can't be filmed: .*pygame is not installed.*pip install"):
        camera("CartPole-v1")
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(UsageError, match=r'pip install "rlgen\[video\]"'):
        camera("Hopper-v4")


def test_a_run_is_refused_before_its_evaluation(tmp_path):
    rlgen.VIME("rlgen/SparseMountainCar-v0", **SMALL).learn(64, run_dir=tmp_path / "r", eval_episodes=1, progress=False)
    done = forked("evaluate.py", "r", "--video", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert "rlgen/SparseMountainCar-v0 can't be filmed" in done.stderr
    assert not (tmp_path / "r" / "evaluation.json").exists()


def test_a_command_films_what_renders_itself(tmp_path):
    rlgen.PPO("CartPole-v1", **SMALL).learn(64, run_dir=tmp_path / "r", eval_episodes=1, progress=False)
    done = forked("evaluate.py", "r", "--video", "--episodes", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "r/video.mp4: " in done.stdout
    assert (tmp_path / "r" / "video.mp4").stat().st_size > 1000
    assert (tmp_path / "r" / "contact_sheet.png").read_bytes().startswith(b"\x89PNG")


def test_a_small_picture_keeps_its_pixels_in_the_contact_sheet(tmp_path):
    from PIL import Image

    for side, width in ((48, 240), (480, 1200)):
        write_contact_sheet(tmp_path / "a.png", [np.zeros((side, side, 3), np.uint8)] * 3)
        assert Image.open(tmp_path / "a.png").width == width


def test_all_codes_are_filmed_side_by_side(tmp_path):
    films = [Film([np.full((4, 6, 3), 10 * i + t, np.uint8) for t in range(i + 1)], 5, float(i)) for i in range(3)]
    both = side_by_side(films)
    assert (len(both.frames), both.total_reward) == (3, 1.0)
    for t, frame in enumerate(both.frames):
        assert frame.shape == (8, 12, 3)
        found = [frame[0, 0, 0], frame[0, 6, 0], frame[4, 0, 0], frame[4, 6, 0]]
        assert found == [0, 10 + min(t, 1), 20 + min(t, 2), 0]
    agent = rlgen.VIME("CartPole-v1", bonus="skills", codes=3, **SMALL).learn(64, progress=False)
    total = agent.film(tmp_path / "each.mp4", code="each")
    alone = [agent.film(tmp_path / f"{code}.mp4", code=code) for code in range(3)]
    assert total == pytest.approx(np.mean(alone))
    meta, *frames = imageio_ffmpeg.read_frames(str(tmp_path / "each.mp4"))
    assert (meta["size"], len(frames)) == ((600, 400), max(alone) + 1)
    agent.save(tmp_path / "saved")
    evaluate.main(evaluate.Arguments(tmp_path / "saved", episodes=1, video=True))
    assert imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "saved" / "video.mp4"))[0] > 5
    continuous = rlgen.VIME("CartPole-v1", bonus="skills", codes=2, continuous_codes=1, **SMALL)
    with pytest.raises(UsageError, match="categorical codes alone"):
        continuous.learn(64, progress=False).film(tmp_path / "x.mp4", code="each")
