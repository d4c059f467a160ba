"""Minari's datasets, HDF5 and Arrow (https://minari.farama.org), by the package itself."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from rlgen.data.episodes import Episode
from rlgen.data.formats.recording import Recording, episode, fail, foreign, needed, opened_hdf5, require_final_obs
from rlgen.envs import make_vec
from rlgen.errors import DemonstrationError
from rlgen.files import ENV_ID, check, parse_json, read_json
from rlgen.spaces import FlatBox

NAME = "minari"


def recognise(path: Path) -> bool:
    """See `Format`."""
    return _data(path) is not None


def read(path: Path, time_limit: int | None, skip_broken: bool = False) -> Recording:
    """See `Format`. Observations in dictionaries are flattened in the file's order, and their names kept."""
    minari = needed("minari")
    folder = _data(path)
    if folder is None:
        raise DemonstrationError(f"{path}: no Minari dataset (a folder with data/metadata.json)")
    with foreign(folder, "a Minari dataset"):
        metadata = read_json(folder / "metadata.json", links=False)
        # Without them Minari makes the environment of the metadata, whose entry point may be any function.
        for field in ("observation_space", "action_space"):
            if not isinstance(metadata.get(field), str):
                fail(folder / "metadata.json", field, "missing")
        env_id = None
        if metadata.get("env_spec"):
            check(metadata, {"env_spec": str})
            env_id = parse_json(metadata["env_spec"], folder / "metadata.json", {"id": ENV_ID})["id"]
        for file in folder.glob("*.hdf5"):
            with opened_hdf5(file):
                pass  # nothing in it lies elsewhere
        storage = minari.dataset.minari_storage.MinariStorage.read(folder)
        if not isinstance(storage.action_space, gym.spaces.Box | gym.spaces.Discrete | gym.spaces.MultiDiscrete):
            fail(folder / "metadata.json", "action_space", "must be one array of actions, a Box or a Discrete")
        space = FlatBox(storage.observation_space)
        episodes, broken, n_incomplete = [], [], 0
        for i in range(storage.total_episodes):
            try:
                with foreign(folder / f"episode_{i}", "an episode"):
                    found = _episode(storage, space, i, folder)
            except DemonstrationError as error:
                if not skip_broken:
                    raise
                broken.append(str(error))
                continue
            if found.terminated or found.truncated:
                episodes.append(found)
            else:
                n_incomplete += 1
    if not episodes:
        raise DemonstrationError(f"{path}: holds no complete episode{f'; {broken[0]}' if broken else ''}")
    columns = space.columns if space.columns[0][0] else None
    return Recording(NAME, episodes, env_id, n_incomplete, broken, columns=columns)


def _episode(storage: Any, space: FlatBox, i: int, folder: Path) -> Episode:
    """One episode of a Minari dataset."""
    (found,) = storage.get_episodes([i])
    try:
        obs = space.flatten(found["observations"], len(found["rewards"]) + 1)
    except ValueError as error:
        fail(folder, f"episode_{i}", f"observations: {error}")
    if ((obs < space.low) | (obs > space.high)).any():
        fail(folder, f"episode_{i}", f"observations outside {storage.observation_space}")
    actions, rewards = np.asarray(found["actions"]), np.asarray(found["rewards"])
    ends = [np.asarray(found[name]).astype(bool) for name in ("terminations", "truncations")]
    lengths = {len(obs) - 1, len(actions), len(rewards), *(len(end) for end in ends)}
    if len(lengths) != 1 or not len(actions):
        fail(folder, f"episode_{i}", "observations, actions, rewards and ends differ in length")
    if any(end[:-1].any() for end in ends):
        fail(folder, f"episode_{i}", "it ends before its last step")
    return episode(obs, actions, rewards, *(bool(end[-1]) for end in ends))


def write(path: Path, episodes: Sequence[Episode], env_id: str) -> None:
    """See `Writable`. The folder's name is the dataset's id, such as hopper-expert-v0, for a reader of its parent."""
    minari = needed("minari")
    path = path.absolute()  # Minari joins a relative one to its own folder
    require_final_obs(episodes, NAME)
    buffers = [
        minari.data_collector.EpisodeBuffer(
            id=i,
            observations=e.obs,
            actions=e.actions,
            rewards=list(e.rewards),
            terminations=[*[False] * (len(e.actions) - 1), e.terminated],
            truncations=[*[False] * (len(e.actions) - 1), e.truncated],
        )
        for i, e in enumerate(episodes)
    ]
    envs = make_vec(env_id, 1)
    action_space = envs.single_action_space
    envs.close()
    spec = gym.spec(env_id)
    named = not callable(spec.entry_point)  # otherwise JSON can't name it
    if not re.fullmatch(r"[A-Za-z0-9_-]+-v\d+", path.name):
        raise DemonstrationError(f"{path}: Minari wants a name with a version, as {path.name}-v0")
    # Minari writes by the id below a folder that the environment names: a temporary one, so that it is whole or absent.
    path.parent.mkdir(parents=True, exist_ok=True)
    before = os.environ.get("MINARI_DATASETS_PATH")
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        os.environ["MINARI_DATASETS_PATH"] = str(temporary)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about authors' addresses that weren't told
            minari.create_dataset_from_buffers(
                path.name,
                buffer=buffers,
                env=spec if named else None,
                # As recorded.
                observation_space=gym.spaces.Box(
                    -np.inf, np.inf, episodes[0].obs.shape[1:], episodes[0].obs.dtype.type
                ),
                action_space=action_space,
            )
        os.replace(temporary / path.name, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.environ.pop("MINARI_DATASETS_PATH")
        if before is not None:
            os.environ["MINARI_DATASETS_PATH"] = before


def _data(path: Path) -> Path | None:
    """The folder with the metadata, in a dataset's folder or this itself."""
    for folder in (path / "data", path):
        try:
            if "data_format" in read_json(folder / "metadata.json", links=False):
                return folder
        except (OSError, ValueError):
            continue
    return None
