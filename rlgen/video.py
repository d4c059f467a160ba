"""Films of a policy: an MP4 and a contact sheet, of batched MuJoCo tasks and of whatever renders `rgb_array`."""

from __future__ import annotations

import ctypes.util
import dataclasses
import importlib
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import numpy.typing as npt
from mujoco.rendering.classic import gl_context

from rlgen.data.episodes import Predictor, check_ends
from rlgen.envs import BatchedMujocoEnv, make_vec
from rlgen.envs.batched_mujoco import load_model
from rlgen.envs.codes import Coded, stream
from rlgen.envs.make import Environment, environment_name, maker
from rlgen.errors import UsageError
from rlgen.files import write_atomically
from rlgen.spaces import flat_box

Frame = npt.NDArray[np.uint8]
WIDTH, HEIGHT = 480, 360


MAX_FRAMES = 5_000
"""Of a film: they are in memory all at once."""


@dataclass(frozen=True)
class Film:
    """One episode.

    Attributes:
        frames: `[height, width, 3]` each, the first of the state after the reset.
        frames_per_second: to show it as fast as it happened.
        total_reward: its undiscounted return.
    """

    frames: list[Frame]
    frames_per_second: float
    total_reward: float


def camera(env: Environment, env_kwargs: Mapping[str, Any] | None = None) -> Callable[[Predictor, int], Film]:
    """What films one deterministic episode of an actor, from a seed.

    Our batched MuJoCo tasks are rendered by MuJoCo, without shadows, reflections and multisampling: without a GPU these
    take ten times as long as the rest. Any other environment is made with `render_mode="rgb_array"` and renders itself,
    at the `render_fps` of its metadata (default: 30).

    Args:
        env: an id, or what else `rlgen.make_vec` takes.
        env_kwargs: the environment's constructor arguments.

    Raises:
        UsageError: imageio-ffmpeg isn't installed, the environment doesn't render, or an episode has no end; in
            filming, that it is longer than `MAX_FRAMES`.
    """
    if isinstance(env, Coded):
        coded, shoot = env, camera(env.env, env_kwargs)
        return lambda actor, seed: shoot(_Given(actor, coded, seed), seed)
    _ffmpeg()
    _render_without_a_screen()
    envs = make_vec(env, 1, env_kwargs=env_kwargs)
    check_ends(envs, env, env_kwargs)
    if isinstance(envs, BatchedMujocoEnv):
        list(_render(envs, [envs.sim.qpos[0]]))
        return lambda actor, seed: _film_batch(actor, envs, seed)
    envs.close()
    rendering = _made_to_render(env, env_kwargs or {})
    rendering.reset()
    _frame(rendering)
    return lambda actor, seed: _film(actor, rendering, seed)


def camera_of_codes(env: Coded, env_kwargs: Mapping[str, Any] | None = None) -> Callable[[Predictor, int], Film]:
    """As `camera`, but of one episode for each categorical code, from the same beginning, side by side.

    Raises:
        UsageError: as of `camera`; or there are continuous codes, of which no number is all.
    """
    if env.codes.continuous_codes:
        raise UsageError("films of each code need categorical codes alone; choose one")
    shoot, n = camera(env.env, env_kwargs), env.codes.codes
    every = math.ceil(math.sqrt(n))

    def film(actor: Predictor, seed: int) -> Film:
        films = []
        for code in range(n):
            of_code = shoot(_Given(actor, dataclasses.replace(env, code=code), seed), seed)
            small = [frame[::every, ::every].copy() for frame in of_code.frames]  # all are in memory at once
            films.append(dataclasses.replace(of_code, frames=small))
        return side_by_side(films)

    return film


def side_by_side(films: Sequence[Film]) -> Film:
    """Films of one size as one, in rows; one that has ended stays as it is, and the return is their mean."""
    n_columns = math.ceil(math.sqrt(len(films)))
    empty = np.zeros_like(films[0].frames[0])
    frames = []
    for t in range(max(len(film.frames) for film in films)):
        pictures = [film.frames[min(t, len(film.frames) - 1)] for film in films]
        pictures += [empty] * (-len(films) % n_columns)
        rows = [np.concatenate(pictures[i : i + n_columns], 1) for i in range(0, len(pictures), n_columns)]
        frames.append(np.concatenate(rows))
    return Film(frames, films[0].frames_per_second, sum(film.total_reward for film in films) / len(films))


class _Given:
    """An actor that is given one code: the environment's, or the first of an environment of this seed."""

    def __init__(self, actor: Predictor, env: Coded, seed: int) -> None:
        self.actor = actor
        drawn = env.codes.draw(stream(seed)) if env.code is None else env.code
        self.code = env.codes.row(drawn)

    def predict(self, observation: npt.NDArray[Any], *, deterministic: bool = False) -> tuple[npt.NDArray[Any], Any]:
        rows = np.concatenate((np.tile(self.code, (len(observation), 1)), observation), axis=1)
        return self.actor.predict(rows, deterministic=deterministic)


def _render_without_a_screen() -> None:
    """Have MuJoCo render by EGL, and pygame to memory, where there is no screen.

    Without EGL MuJoCo fails, and other environments still render.
    """
    if os.environ.get("DISPLAY") or sys.platform != "linux":
        return
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    if not os.environ.get("MUJOCO_GL") and ctypes.util.find_library("EGL") is not None:
        os.environ["MUJOCO_GL"] = "egl"
        importlib.reload(gl_context)  # which chose when mujoco was imported


def _film_batch(actor: Predictor, envs: BatchedMujocoEnv, seed: int) -> Film:
    obs, _ = envs.reset(seed=seed)
    poses, total, done = [envs.sim.qpos[0].copy()], 0.0, False
    while not done:
        actions, _ = actor.predict(obs, deterministic=True)
        obs, rewards, terminated, truncated, _ = envs.advance(actions)
        total += float(rewards[0])
        done = bool(terminated[0] or truncated[0])
        poses.append(envs.sim.qpos[0].copy())
    return Film(list(_render(envs, poses)), 1 / envs.sim.dt, total)


def _film(actor: Predictor, env: gym.Env[Any, Any], seed: int) -> Film:
    space = flat_box(env.observation_space)
    obs, _ = env.reset(seed=seed)
    frames, total, done = [_frame(env)], 0.0, False
    while not done:
        actions, _ = actor.predict(space.flatten(obs, 1), deterministic=True)
        obs, reward, terminated, truncated, _ = env.step(actions[0])
        total += float(reward)
        done = terminated or truncated
        frames.append(_frame(env))
        if len(frames) > MAX_FRAMES:
            name = environment_name(env)
            raise UsageError(f"{name}: the episode goes on beyond {MAX_FRAMES:,} frames; set a time limit")
    if len({frame.shape for frame in frames}) > 1:
        raise _no_picture(environment_name(env), "its pictures differ in size")
    return Film(frames, float(env.metadata.get("render_fps") or 30), total)


def _made_to_render(env: Environment, env_kwargs: Mapping[str, Any]) -> gym.Env[Any, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a render mode that isn't declared; a picture is asked for next
            return maker(env, {**env_kwargs, "render_mode": "rgb_array"})()
    except (TypeError, UsageError) as error:  # gymnasium's environments, and ours
        if "render_mode" not in str(error):
            raise
        raise _no_picture(environment_name(env), "it takes no render_mode") from None


def _frame(env: gym.Env[Any, Any]) -> Frame:
    """The picture that an environment renders; whatever its own code raises is told."""
    try:
        picture = env.render()
    except Exception as error:
        raise _no_picture(environment_name(env), f"its render raises {type(error).__name__}: {error}") from None
    if not (isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.shape[2:] == (3,)):
        found = f"{picture.dtype} {list(picture.shape)}" if isinstance(picture, np.ndarray) else type(picture).__name__
        raise _no_picture(environment_name(env), f"its render gives {found}")
    return picture


def _no_picture(name: str, why: str) -> UsageError:
    return UsageError(
        f"{name} can't be filmed: {why}. An environment is made with render_mode='rgb_array', and its render must then "
        "give uint8 [height, width, 3]; leave out the film otherwise"
    )


def _render(envs: BatchedMujocoEnv, poses: Sequence[npt.NDArray[np.float64]]) -> Iterator[Frame]:
    model = load_model(envs.task)
    model.vis.global_.offwidth, model.vis.global_.offheight = WIDTH, HEIGHT
    model.vis.quality.offsamples = 0
    data = mujoco.MjData(model)
    try:
        renderer = mujoco.Renderer(model, HEIGHT, WIDTH)
    except Exception as error:  # each GL back end raises errors of its own
        raise UsageError(
            f"MuJoCo can't render here ({type(error).__name__}: {error}); without a screen it needs EGL (Debian: apt "
            "install libegl1)"
        ) from None
    with renderer:
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            renderer.scene.flags[flag] = False
        tracks = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, "track") >= 0
        for pose in poses:
            data.qpos[:] = pose
            mujoco.mj_forward(model, data)
            renderer.update_scene(data, "track" if tracks else -1)
            yield renderer.render().copy()


def write_mp4(path: Path, frames: Sequence[Frame], frames_per_second: float) -> None:
    """Write a film, whole or not at all; of more than 75 frames a second so many are left out that about 50 remain.

    Raises:
        UsageError: imageio-ffmpeg isn't installed.
    """
    imageio_ffmpeg = _ffmpeg()
    every = max(1, round(frames_per_second / 50))
    height, width, _ = frames[0].shape
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.stem}.part.mp4")
    try:
        writer = imageio_ffmpeg.write_frames(
            str(unfinished),
            (width, height),
            fps=frames_per_second / every,
            macro_block_size=2,
            ffmpeg_log_level="error",
        )
        writer.send(None)
        for frame in frames[::every]:
            writer.send(np.ascontiguousarray(frame))
        writer.close()
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _ffmpeg() -> Any:
    try:
        import imageio_ffmpeg
    except ImportError:
        raise UsageError('a video needs imageio-ffmpeg: pip install "rlgen[video]"') from None
    return imageio_ffmpeg


def write_contact_sheet(path: Path, frames: Sequence[Frame]) -> None:
    """Write twenty frames at equal distances, first to last, as one PNG, five in a row."""
    from PIL import Image

    picked = [frames[i] for i in np.linspace(0, len(frames) - 1, 20).round().astype(int)]
    lines = [np.concatenate(picked[i : i + 5], axis=1) for i in range(0, 20, 5)]
    every = 2 if frames[0].shape[1] > WIDTH // 2 else 1
    sheet = Image.fromarray(np.concatenate(lines)[::every, ::every])
    write_atomically(path, lambda file: sheet.save(file, format="png"))
