"""Demonstrations of any known format, of logs and of arrays, as episodes; and the way back."""

from __future__ import annotations

import math
import re
import shlex
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from rlgen.data import formats
from rlgen.data.demonstrations import (
    Demonstrations,
    dataset_folder,
    drawn_of,
    load_episodes,
    outside_by_column,
    save_demonstrations,
    with_kwargs,
)
from rlgen.data.episodes import Episode, time_limit
from rlgen.data.formats import log
from rlgen.data.formats.log import LogMapping
from rlgen.data.formats.recording import Recording, Writable, fail
from rlgen.envs import make_vec
from rlgen.envs.make import Environment, environment_name, told_kwargs
from rlgen.errors import DemonstrationError, UsageError
from rlgen.files import printable
from rlgen.spaces import (
    MAX_ELEMENTS,
    ActionUnits,
    FlatBox,
    column_order,
    describe_space,
    described_space,
    flat_box,
)

OURS = "rlgen"


def load_source(
    path: Path,
    env_id: str | None = None,
    *,
    mapping: LogMapping | None = None,
    skip_broken: bool = False,
    env_kwargs: Mapping[str, Any] | None = None,
) -> Recording:
    """Read a file or folder of any known format; the recording's `env_id` is the user's, else the file's.

    Args:
        path: where.
        env_id: the environment; in place of what a foreign file tells.
        mapping: read a log, whose columns are these.
        skip_broken: leave out episodes that can't be used.
        env_kwargs: the environment's constructor arguments, which no foreign file tells.

    Raises:
        DemonstrationError: it can't be read, or a dataset of ours is of another environment.
        UsageError: gymnasium knows no such environment.
    """
    path = path.expanduser()
    if mapping is None and dataset_folder(path, env_id) is not None:
        manifest, episodes = load_episodes(path, env_id)
        source = manifest.get("source", {})
        names, labels = source.get("names", {}), manifest.get("labels")
        recording = Recording(OURS, episodes, manifest["env_id"], names=names, manifest=manifest, labels=labels)
    elif mapping is None and (found := sorted(file.parent.name for file in path.glob("*/manifest.json"))):
        raise DemonstrationError(f"{path}: holds datasets of {', '.join(found)}; tell one's folder, or --env")
    else:
        limit = None if env_id is None else _time_limit(env_id)
        recording = formats.read(path, limit, mapping=mapping, skip_broken=skip_broken)
    if (told := recording.env_id) is not None:
        if ":" in told:
            raise DemonstrationError(f"{path}: its environment {told!r} names a module, which no file is to import")
        if env_id not in (None, told):
            warnings.warn(f"{path} was recorded in {told}, not in {env_id}", stacklevel=2)
        if env_id is None and not recording.tells_ends:
            recording = formats.read(path, _time_limit(told), skip_broken=skip_broken)
    recording = replace(recording, env_id=env_id or told, path=path)
    if env_kwargs is not None:
        kept = recording.manifest.get("env_kwargs")
        if kept is not None and kept != env_kwargs:
            was, given = (with_kwargs(recording.manifest["env_id"], kwargs) for kwargs in (kept, env_kwargs))
            raise DemonstrationError(f"{path}: recorded in {was}, not {given}")
        recording = replace(recording, manifest={**recording.manifest, "env_kwargs": dict(env_kwargs)})
    return _without_broken(recording) if skip_broken else recording


def _without_broken(recording: Recording) -> Recording:
    """The recording without episodes that hold NaN or infinite values."""
    wrong = {
        i: f"episode {i}: NaN or infinite"
        for i, e in enumerate(recording.episodes)
        if not (np.isfinite(e.obs).all() and np.isfinite(e.actions).all())
        or not (np.isfinite(e.rewards).all() or np.isnan(e.rewards).all())
    }
    if len(wrong) == len(recording.episodes):
        raise DemonstrationError(f"{recording.path}: every episode holds NaN or infinite values")
    kept = [e for i, e in enumerate(recording.episodes) if i not in wrong]
    labels = recording.labels and [label for i, label in enumerate(recording.labels) if i not in wrong]
    return replace(recording, episodes=kept, broken=[*recording.broken, *wrong.values()], labels=labels)


def log_spaces(source: Recording, mapping: LogMapping) -> tuple[gym.Space[Any], gym.Space[Any]]:
    """Observation and action space of a log without an environment: as its mapping tells, else as its values are.

    Observations are boxes without bounds. Actions are a float32 box of the least and the largest values, or Discrete
    where they are one column of whole numbers from 0 up.

    Raises:
        UsageError: what the mapping tells is no space, or nothing tells that of actions.
    """
    box: dict[str, Any] = {"type": "Box", "dtype": str(np.result_type(*(e.obs.dtype for e in source.episodes)))}
    told = dict(mapping.observation_space or {})
    if source.columns is None:
        observation_space = _space(box | {"shape": [source.episodes[0].obs.shape[1]]} | told, "observation_space")
    else:
        if told.keys() - dict(source.columns).keys():
            raise UsageError(f"observation_space: must be told by the keys of obs, {', '.join(dict(source.columns))}")
        observation_space = gym.spaces.Dict(
            [
                (name, _space(box | {"shape": [width]} | told.get(name, {}), f"observation_space.{name}"))
                for name, width in source.columns
            ]
        )
    actions = np.concatenate([e.actions for e in source.episodes])
    indices, actions = actions.ndim == 1, actions.reshape(len(actions), -1 if actions.size else 0)
    box = {"type": "Box", "shape": list(actions.shape[1:]), "dtype": "float32"}
    if mapping.action_space is not None:
        return observation_space, _space(box | dict(mapping.action_space), "action_space")
    if not actions.size:
        raise UsageError(
            f"{source.path}: there are no actions to derive their space from; tell the environment, --env (env=...), "
            "or the space, action_space"
        )
    if indices and actions.min() >= 0 and actions.max() < MAX_ELEMENTS:
        return observation_space, gym.spaces.Discrete(int(actions.max()) + 1)
    return observation_space, _space(box | {"low": actions.min(0).tolist(), "high": actions.max(0).tolist()}, "actions")


def _space(told: Mapping[str, Any], name: str) -> gym.Space[Any]:
    try:
        return described_space(told)
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from None


def check_log_name(name: str) -> None:
    """Refuse a name for a log without an environment that is no folder's, or that an environment has.

    Raises:
        UsageError: with what would be right.
    """
    if name in gym.registry or not re.fullmatch(r"[A-Za-z0-9][\w-]{0,99}", name, re.ASCII):
        raise UsageError(f"name {name}: must be of letters, digits, - and _, and no environment's id")


def dataset_of(
    sources: Sequence[Recording],
    *,
    command: str = "",
    clip_actions: bool = False,
    keep_actions: bool = False,
    deterministic: bool | None = None,
    spaces: tuple[gym.Space[Any], gym.Space[Any]] | None = None,
) -> dict[str, Any]:
    """The arguments of `save_demonstrations` for the episodes of one source or more.

    Args:
        sources: of one environment.
        command: what made the data.
        clip_actions: clip actions to the bounds rather than refuse those outside.
        keep_actions: widen the bounds rather than refuse them.
        deterministic: whether the expert acted by its mode (default: what the sources tell).
        spaces: of observations and actions (default: those of the sources' environment).

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
    told = [source.manifest["env_kwargs"] for source in sources if "env_kwargs" in source.manifest]
    if other := [kwargs for kwargs in told if kwargs != told[0]]:
        raise DemonstrationError(
            "of several environments: "
            + " and ".join(with_kwargs(f"{env_id}", kwargs) for kwargs in (told[0], other[0]))
        )
    if 0 < len(told) < len(sources):
        silent = next(source for source in sources if "env_kwargs" not in source.manifest)
        warnings.warn(f"{silent.path} doesn't tell the environment's arguments, so the dataset doesn't", stacklevel=3)
    if env_id is None:
        raise UsageError(f"{sources[0].path} doesn't tell its environment; tell it: --env ID")
    if spaces is None and env_id not in gym.registry and all(source.format == OURS for source in sources):
        spaces = _stored_spaces(sources)
    elif spaces is None:
        envs = make_vec(env_id, 1, env_kwargs=told[0] if told else None)
        spaces = envs.single_observation_space, envs.single_action_space
        envs.close()
        limits = [source for source in sources if not source.tells_ends and any(e.terminated for e in source.episodes)]
        if limits and _time_limit(env_id) is None:
            warnings.warn(f"{limits[0].path} doesn't tell how episodes end: taken for terminated", stacklevel=3)
    observation_space, action_space = spaces
    flat, units = flat_box(observation_space), ActionUnits(action_space)
    ordered = [_ordered(source, flat) for source in sources]
    episodes = [_executed(episode, units, source.path) for source in ordered for episode in source.episodes]
    names = ordered[0].names
    if not all(source.names == names for source in ordered):
        names = {}
    where = ", ".join(str(source.path) for source in sources)
    episodes, action_space = _inside(episodes, action_space, clip_actions, keep_actions, names.get("actions"), where)

    labels = [x for source in sources for x in source.labels or [None] * len(source.episodes)]

    def common(name: str) -> Any:
        values = [source.manifest.get(name) for source in sources]
        return values[0] if all(value == values[0] for value in values) else None

    return {
        "env_id": env_id,
        "observation_space": observation_space,
        "action_space": action_space,
        "episodes": episodes,
        "deterministic": common("deterministic") if deterministic is None else deterministic,
        "algorithm": common("algorithm") or "unknown",
        "command": command,
        "training_command": common("training_command"),
        "seed": common("seed"),
        "env_kwargs": told[0] if len(told) == len(sources) else None,
        "labels": labels if any(label is not None for label in labels) else None,
        "source": {
            "path": where,
            "format": ", ".join(source.format for source in sources),
            "tells_ends": all(source.tells_ends for source in sources),
            **({"names": names} if names else {}),
            "versions": common("versions") or {},
        },
    }


def save_dataset(
    sources: Sequence[Recording],
    folder: Path | None,
    *,
    command: str = "",
    clip_actions: bool = False,
    keep_actions: bool = False,
    deterministic: bool | None = None,
    spaces: tuple[gym.Space[Any], gym.Space[Any]] | None = None,
) -> list[Episode]:
    """Write one dataset of ours from the episodes of one source or more, checked against its spaces.

    Args:
        sources: as for `dataset_of`, which has the other arguments and the errors too.
        folder: `<env_id>` in it is the dataset's; None only checks.
        command: likewise.
        clip_actions: likewise.
        keep_actions: likewise.
        deterministic: likewise.
        spaces: likewise.

    Returns:
        The episodes.
    """
    found = dataset_of(
        sources,
        command=command,
        clip_actions=clip_actions,
        keep_actions=keep_actions,
        deterministic=deterministic,
        spaces=spaces,
    )
    save_demonstrations(folder and folder / found["env_id"], **found)
    return found["episodes"]


def demonstrations_of(
    steps: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    env: Environment | None = None,
    folder: str | Path | None = None,
    *,
    name: str = "log",
    env_kwargs: Mapping[str, Any] | None = None,
    observation_space: gym.Space[Any] | None = None,
    action_space: gym.Space[Any] | None = None,
    clip_actions: bool = False,
    keep_actions: bool = False,
    deterministic: bool | None = None,
) -> Demonstrations:
    """Demonstrations out of arrays, checked as a dataset is.

        rlgen.demonstrations_of({"obs": obs, "actions": actions, "episode": trial}, env="Hopper-v4")

    Args:
        steps: arrays, lists or data frames with a row a step: `obs` (arrays by key for a Dict), and of `actions`,
            `next_obs`, `rewards`, `terminated`, `truncated`, `done` and `episode` those that there are, see
            `rlgen.data.formats.log.LogMapping`; or a sequence of such dicts, one an episode. In one episode `obs` may
            have a row more, the final observation.
        env: an id or what else `rlgen.make_vec` takes; None where there is no environment, only a robot.
        folder: also write the dataset to the folder of the environment's name in this one (default: write nothing).
        name: of the dataset without an environment.
        env_kwargs: the environment's constructor arguments.
        observation_space: without an environment (default: a box without bounds).
        action_space: likewise (default: a box of the values' bounds, or Discrete of whole numbers from 0 up).
        clip_actions: clip actions to their bounds rather than refuse those outside.
        keep_actions: widen the bounds rather than refuse them; GAIL needs the environment's.
        deterministic: whether the expert acted by its mode, if that is known.

    Raises:
        DemonstrationError: the arrays don't fit together or into the spaces, or hold NaN.
        UsageError: a key that says nothing of steps, or a name that can't be used.
    """
    if isinstance(steps, Mapping):
        steps = [steps]
    if not steps or not all(isinstance(table, Mapping) for table in steps):
        raise UsageError("steps must be a dict of arrays, or a sequence of such dicts, one an episode")
    limit = None
    if env is None:
        check_log_name(name)
    else:
        if observation_space is not None or action_space is not None:
            raise UsageError("the environment has spaces; leave out observation_space and action_space")
        envs = make_vec(env, 1, env_kwargs=env_kwargs)
        observation_space, action_space = envs.single_observation_space, envs.single_action_space
        name, limit = environment_name(env), time_limit(envs)
        envs.close()
    source = replace(log.recording_of(steps, limit), env_id=name)
    if observation_space is None or action_space is None:
        told = LogMapping({}, action_space=None if action_space is None else describe_space(action_space))
        derived = log_spaces(source, told)
        observation_space, action_space = observation_space or derived[0], derived[1]
    found = dataset_of(
        [source],
        command=shlex.join(sys.argv),
        clip_actions=clip_actions,
        keep_actions=keep_actions,
        deterministic=deterministic,
        spaces=(observation_space, action_space),
    )
    place = None if folder is None else Path(folder) / name
    found["env_kwargs"] = None if env is None else told_kwargs(env, env_kwargs)
    arrays, manifest = save_demonstrations(place, **found)
    return drawn_of(arrays, manifest, place or source.path, include_failed=True)


def save_as(source: Recording, path: Path, kind: Writable, clip_actions: bool = False) -> None:
    """Write a source in another package's format, checked as for ours.

    Raises:
        DemonstrationError: the format can't hold it.
        FileExistsError: there is something already.
        UsageError: the source doesn't tell its environment.
    """
    if not any(e.actions.size for e in source.episodes):
        raise DemonstrationError(f"{source.path}: holds states and no actions; {kind.NAME} stores actions")
    if any(np.isnan(e.rewards).all() for e in source.episodes):
        raise DemonstrationError(f"{source.path}: holds no rewards; {kind.NAME} stores rewards")
    if path.exists():
        raise FileExistsError(f"{path} exists; choose another --output")
    kind.write(path, save_dataset([source], None, clip_actions=clip_actions), str(source.env_id))


def _time_limit(env_id: str) -> int | None:
    try:
        return gym.spec(env_id).max_episode_steps
    except gym.error.Error as error:
        raise UsageError(f"{env_id}: {error}") from None


def _stored_spaces(sources: Sequence[Recording]) -> tuple[gym.Space[Any], gym.Space[Any]]:
    """The spaces that datasets of one log's name have, where there is no environment to ask."""
    names = ("observation_space", "action_space")
    for source in sources:
        if any(source.manifest[name] != sources[0].manifest[name] for name in names):
            raise DemonstrationError(
                f"{source.path} has other spaces than {sources[0].path}; tell both the same [observation_space] and "
                "[action_space] on converting"
            )
    observation_space, action_space = (described_space(sources[0].manifest[name]) for name in names)
    return observation_space, action_space


def _ordered(source: Recording, space: FlatBox) -> Recording:
    """The recording with flat observations, their parts in the environment's order where the file names them."""
    rows = [episode.obs.reshape(len(episode.obs), -1) for episode in source.episodes]
    names = dict(source.names)
    try:
        if source.format == log.NAME:
            found = source.columns or (("", rows[0].shape[1]),)
            coded, order = zip(*(space.coded(x, found) for x in rows), strict=True)
            rows, columns = list(coded), names.pop("obs")
            if order[0] is not None:
                names["obs"] = [columns[i] for i in order[0]]
        elif source.columns is not None:
            places = column_order(source.columns, space.columns)
            rows = [x[:, places] for x in rows]
    except ValueError as error:
        hint = ". Tell them by key: obs a dict, [obs] in a mapping" if source.names and len(space.columns) > 1 else ""
        raise DemonstrationError(f"{source.path}: field observations: {printable(error)}{hint}") from None
    episodes = [replace(episode, obs=x) for episode, x in zip(source.episodes, rows, strict=True)]
    return replace(source, episodes=episodes, names=names)


def _executed(episode: Episode, units: ActionUnits, path: Path) -> Episode:
    """The episode with actions in the environment's shape; whole numbers as such."""
    actions, shape = episode.actions, units.space.shape or ()
    if actions.shape[1:] == (0,):
        return episode
    if actions.shape[1:] != shape and actions[0].size == math.prod(shape):
        actions = actions.reshape(-1, *shape)
    if units.stored_dtype is not np.int64:
        actions = actions.astype(units.stored_dtype)
    elif actions.dtype.kind == "f" and np.isfinite(actions).all():
        if (broken := actions % 1 != 0).any():
            fail(path, "actions", f"{actions[broken][0]:g} is none of {units.space}, which are whole numbers")
        actions = actions.astype(np.int64)
    return replace(episode, actions=actions)


def _inside(
    episodes: list[Episode], space: gym.Space[Any], clip: bool, keep: bool, names: Sequence[str] | None, where: str
) -> tuple[list[Episode], gym.Space[Any]]:
    """The episodes, and the space that their actions are in: clipped, or widened to hold them; see `dataset_of`."""
    if any(e.actions.shape[1:] != space.shape for e in episodes):
        return episodes, space  # which is refused by name on saving
    actions = np.concatenate([e.actions for e in episodes])
    if not (told := outside_by_column(actions, space, names)):
        return episodes, space
    if clip and isinstance(space, gym.spaces.Box):
        warnings.warn(f"{where}: actions outside {space} are clipped: {told}", stacklevel=4)
        dtype = actions.dtype
        return [replace(e, actions=np.clip(e.actions, space.low, space.high).astype(dtype)) for e in episodes], space
    if keep and isinstance(space, gym.spaces.Box):
        warnings.warn(f"{where}: actions lie outside {space}, whose bounds are widened: {told}", stacklevel=4)
        low, high = np.minimum(space.low, actions.min(0)), np.maximum(space.high, actions.max(0))
        dtype = actions.dtype
        return episodes, gym.spaces.Box(low.astype(dtype), high.astype(dtype), dtype=dtype.type)
    first = next(i for i, e in enumerate(episodes) if outside_by_column(e.actions, space))
    fail(
        where,
        "actions",
        f"outside {space}: {told}. --clip-actions (clip_actions=True) clips them, --keep-actions (keep_actions=True) "
        "widens the bounds",
        first,
    )
