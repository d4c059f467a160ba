"""Demonstrations of any known format, ours among them, as episodes; and the way back."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from rlgen.data import formats
from rlgen.data.demonstrations import dataset_folder, load_episodes, save_demonstrations
from rlgen.data.episodes import Episode
from rlgen.data.formats.recording import Recording, Writable
from rlgen.envs import make_vec
from rlgen.errors import DemonstrationError, UsageError
from rlgen.files import printable
from rlgen.spaces import ActionUnits, FlatBox, column_order, flat_box

OURS = "rlgen"


def load_source(path: Path, env_id: str | None = None) -> Recording:
    """Read a file or folder of any known format; the recording's `env_id` is the user's, else the file's.

    Args:
        path: where.
        env_id: the environment; in place of what a foreign file tells.

    Raises:
        DemonstrationError: it can't be read, or a dataset of ours is of another environment.
        UsageError: gymnasium knows no such environment.
    """
    path = path.expanduser()
    if dataset_folder(path, env_id) is not None:
        manifest, episodes = load_episodes(path, env_id)
        recording = Recording(OURS, episodes, manifest["env_id"], manifest=manifest)
    elif found := sorted(file.parent.name for file in path.glob("*/manifest.json")):
        raise DemonstrationError(f"{path}: holds datasets of {', '.join(found)}; tell one's folder, or --env")
    else:
        recording = formats.read(path, None if env_id is None else _time_limit(env_id))
    if (told := recording.env_id) is not None:
        if ":" in told:
            raise DemonstrationError(f"{path}: its environment {told!r} names a module, which no file is to import")
        if env_id not in (None, told):
            warnings.warn(f"{path} was recorded in {told}, not in {env_id}", stacklevel=2)
        if env_id is None and not recording.tells_ends:
            recording = formats.read(path, _time_limit(told))
    return replace(recording, env_id=env_id or told, path=path)


def save_dataset(
    sources: Sequence[Recording],
    folder: Path | None,
    *,
    command: str = "",
    clip_actions: bool = False,
    deterministic: bool | None = None,
) -> list[Episode]:
    """Write one dataset of ours from the episodes of one source or more, checked against the environment's spaces.

    Args:
        sources: of one environment.
        folder: `<env_id>` in it is the dataset's; None only checks.
        command: what made the data.
        clip_actions: clip actions to the environment's bounds rather than refuse those outside.
        deterministic: whether the expert acted by its mode (default: what the sources tell).

    Raises:
        DemonstrationError: the sources differ in environment, or an episode isn't what its spaces say.
        UsageError: no source tells the environment.
    """
    env_ids = {source.env_id for source in sources}
    if len(env_ids) > 1:
        raise DemonstrationError(
            "of several environments: " + ", ".join(f"{source.path} of {source.env_id}" for source in sources)
        )
    env_id = env_ids.pop()
    if env_id is None:
        raise UsageError(f"{sources[0].path} doesn't tell its environment; tell it: --env ID")
    with_spaces = make_vec(env_id, 1)
    observation_space, action_space = with_spaces.single_observation_space, with_spaces.single_action_space
    with_spaces.close()
    flat, units = flat_box(observation_space), ActionUnits(action_space)
    limits = [source for source in sources if not source.tells_ends]
    if limits and _time_limit(env_id) is None:
        warnings.warn(f"{limits[0].path} doesn't tell how episodes end: taken for terminated", stacklevel=2)
    episodes = [
        _executed(_ordered(episode, source, flat), units, clip_actions)
        for source in sources
        for episode in source.episodes
    ]

    def common(name: str) -> Any:
        values = [source.manifest.get(name) for source in sources]
        return values[0] if all(value == values[0] for value in values) else None

    save_demonstrations(
        folder and folder / env_id,
        env_id=env_id,
        observation_space=observation_space,
        action_space=action_space,
        episodes=episodes,
        deterministic=common("deterministic") if deterministic is None else deterministic,
        algorithm=common("algorithm") or "unknown",
        command=command,
        training_command=common("training_command"),
        seed=common("seed"),
        source={
            "path": ", ".join(str(source.path) for source in sources),
            "format": ", ".join(source.format for source in sources),
            "tells_ends": all(source.tells_ends for source in sources),
            "versions": common("versions") or {},
        },
    )
    return episodes


def save_as(source: Recording, path: Path, kind: Writable, clip_actions: bool = False) -> None:
    """Write a source in another package's format, checked as for ours.

    Raises:
        DemonstrationError: the format can't hold it.
        FileExistsError: there is something already.
        UsageError: the source doesn't tell its environment.
    """
    if path.exists():
        raise FileExistsError(f"{path} exists; choose another --output")
    kind.write(path, save_dataset([source], None, clip_actions=clip_actions), str(source.env_id))


def _time_limit(env_id: str) -> int | None:
    try:
        return gym.spec(env_id).max_episode_steps
    except gym.error.Error as error:
        raise UsageError(f"{env_id}: {error}") from None


def _ordered(episode: Episode, source: Recording, space: FlatBox) -> Episode:
    """The episode with flat observations, their parts in the environment's order where the file names them."""
    obs = episode.obs.reshape(len(episode.obs), -1)
    if source.columns is not None:
        try:
            obs = obs[:, column_order(source.columns, space.columns)]
        except ValueError as error:
            raise DemonstrationError(f"{source.path}: field observations: {printable(error)}") from None
    return replace(episode, obs=obs)


def _executed(episode: Episode, units: ActionUnits, clip: bool) -> Episode:
    """The episode with actions in the environment's shape; whole numbers as such."""
    actions, shape = episode.actions, units.space.shape or ()
    if actions.shape[1:] != shape and actions[0].size == math.prod(shape):
        actions = actions.reshape(-1, *shape)
    if units.stored_dtype is not np.int64:
        actions = actions.astype(units.stored_dtype)
        if clip and actions.shape[1:] == shape:
            actions = np.clip(actions, units.space.low, units.space.high)  # type: ignore[attr-defined]
    elif actions.dtype.kind == "f" and (actions % 1 == 0).all():
        actions = actions.astype(np.int64)
    return replace(episode, actions=actions)
