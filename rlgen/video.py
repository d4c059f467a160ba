"""Films of a policy: MuJoCo's headless renderer, an MP4 and a contact sheet."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt

from rlgen.data.episodes import Predictor
from rlgen.envs import BatchedMujocoEnv, make_vec
from rlgen.envs.batched_mujoco import load_model
from rlgen.errors import UsageError
from rlgen.files import write_atomically

Frame = npt.NDArray[np.uint8]
WIDTH, HEIGHT = 480, 360


def film(
    actor: Predictor, env_id: str, seed: int = 0, env_kwargs: Mapping[str, Any] | None = None
) -> tuple[list[Frame], float, float]:
    """The frames `[HEIGHT, WIDTH, 3]` of one deterministic episode, how many there are a second, and its return.

    Shadows, reflections and multisampling are off: without a GPU they take ten times as long as the rest.

    Raises:
        UsageError: the environment is no MuJoCo task of ours, or this machine can't render without a screen.
    """
    envs = make_vec(env_id, 1, seed, env_kwargs=env_kwargs)
    if not isinstance(envs, BatchedMujocoEnv):
        raise UsageError(f"{env_id}: only MuJoCo tasks are filmed; leave out --video")
    obs, _ = envs.reset()
    poses, total, done = [envs.sim.qpos[0].copy()], 0.0, False
    while not done:
        actions, _ = actor.predict(obs.astype(np.float32), deterministic=True)
        obs, rewards, terminated, truncated, _ = envs.advance(actions)
        total += float(rewards[0])
        done = bool(terminated[0] or truncated[0])
        poses.append(envs.sim.qpos[0].copy())
    return list(_render(envs, poses)), 1 / envs.sim.dt, total


def _render(envs: BatchedMujocoEnv, poses: Sequence[npt.NDArray[np.float64]]) -> Iterator[Frame]:
    model = load_model(envs.task)
    model.vis.global_.offwidth, model.vis.global_.offheight = WIDTH, HEIGHT
    model.vis.quality.offsamples = 0
    data = mujoco.MjData(model)
    try:
        renderer = mujoco.Renderer(model, HEIGHT, WIDTH)
    except Exception as error:  # each GL back end raises errors of its own
        raise UsageError(
            f"MuJoCo can't render here ({type(error).__name__}: {error}); without a screen the environment variable "
            "MUJOCO_GL must be egl before mujoco is imported"
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
    try:
        import imageio_ffmpeg
    except ImportError:
        raise UsageError('a video needs imageio-ffmpeg: pip install "rlgen[video]"') from None
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


def write_contact_sheet(path: Path, frames: Sequence[Frame], columns: int = 5, rows: int = 4) -> None:
    """Write frames at equal distances, first to last, as one PNG."""
    from PIL import Image

    picked = [frames[i] for i in np.linspace(0, len(frames) - 1, columns * rows).round().astype(int)]
    lines = [np.concatenate(picked[row * columns : (row + 1) * columns], axis=1) for row in range(rows)]
    sheet = Image.fromarray(np.concatenate(lines)[::2, ::2])
    write_atomically(path, lambda file: sheet.save(file, format="png"))
