"""Demonstration datasets: one folder an environment, `episodes.npz` (no pickles) and `manifest.json`.

A dataset may hold its expert's weights alone, `policy.safetensors`, with a manifest that tells how its episodes are
recorded and what returns they had. `recorded` does so on first use.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import io
import itertools
import json
import logging
import math
import os
import re
import shlex
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from safetensors.torch import save
from threadpoolctl import threadpool_limits

from rlgen.data.episodes import Array, Episode, Predictor, check_ends, joined, parted, run_episodes
from rlgen.data.formats.recording import Header, allowance, fail, read_npz
from rlgen.data.formats.tables import READERS
from rlgen.envs.make import Environment, environment_name, make_vec, told_kwargs
from rlgen.errors import DemonstrationError, UsageError
from rlgen.files import (
    COUNT,
    ENV_ID,
    MAX_BYTES,
    SHA256,
    cache_folder,
    canonical_json,
    check,
    checked,
    hardware,
    json_bytes,
    printable,
    read_json,
    read_safetensors,
    sha256,
    short,
    versions,
    write_folder,
)
from rlgen.nn.policy import Actor, Policy
from rlgen.nn.weights import policy_of_weights
from rlgen.spaces import ActionUnits, FlatBox, column_order, describe_space, described_space, flat_box
from rlgen.types import Transitions

_log = logging.getLogger("rlgen")

FORMAT = "rlgen demonstrations 2"
ARRAYS = ("obs", "actions", "rewards", "lengths", "terminated", "truncated")
# A dataset of whole episodes has the first, one that keeps every k-th pair alone the others.
WHOLE, THINNED = ("final_obs",), ("next_obs", "steps")
MANIFEST = {
    "env_id": ENV_ID,
    "env_kwargs?": dict,
    "observation_space": described_space,
    "action_space": described_space,
    "n_episodes": COUNT,
    "returns": [(None, float)],
    "return_mean?": (None, float),
    "return_std?": (None, float),
    "failed_episodes?": [range(1 << 40)],
    "labels?": [(None, range(1 << 20))],
    "deterministic": (bool, None),
    "keep_every?": COUNT,
    "final_obs?": bool,
    "actions?": bool,
    "rewards?": bool,
    "algorithm": str,
    "command": str,
    "training_command?": (str, None),
    "trained?": {"env_id": ENV_ID, "env_steps?": COUNT, "seed?": int, "versions": {"*": str}},
    "hardware?": str,
    "seed?": (int, None),
    "source?": {"path?": str, "format?": str, "tells_ends?": bool, "names?": {"*": [str]}},
    "versions": {"*": str},
    "sha256": {"episodes.npz?": SHA256, "policy.safetensors?": SHA256},
}

# Files of other packages' datasets, in their folders.
OTHER_PACKAGES = ("data/metadata.json", "metadata.json", "state.json")


def check_portable(value: Any) -> None:
    """Refuse constructor arguments that may name a file, by a ValueError: a dataset of weights alone holds none."""
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        check_portable(inner)
    if isinstance(value, str) and re.search(r"[/\\.~]", value):
        raise ValueError(f"{value!r} may be a file, which a dataset of weights alone doesn't hold")


# See `failed_episodes`.
FAILED_PART = 0.45
FAILED_DISTANCE = 20
# See `recorded`.
RETURN_TOLERANCE = 0.05
WEIGHTS_ONLY = {
    "n_episodes": range(1, 1_001),
    "seed": range(1 << 62),
    "deterministic": bool,
    "env_kwargs?": check_portable,
    "sha256": {"policy.safetensors": SHA256},
}


@dataclass(frozen=True)
class Demonstrations:
    """State-action pairs of an expert.

    Attributes:
        transitions: the kept pairs, `[P]`, float32; `next_obs` is each pair's true successor, also when subsampled.
            Rewards are NaN if a log had none, actions `[P, 0]` if it had states alone.
        env_id: the environment they were recorded in, or the name of a log that has none.
        episode_indices: which episodes of the dataset were drawn.
        episode_returns: the returns of those; None where a log had no rewards.
        episode_lengths: their numbers of steps, before they were subsampled.
        n_terminated: how many of those terminated; the others reached a time limit.
        terminations: the last pairs of the episodes that terminated, `[K]`, whether or not they were kept; without
            those whose final observation isn't stored.
        dataset_return_mean: mean return of all the dataset's episodes, failed ones too, the expert's score; None where
            a log had no rewards.
        dataset_return_std: its standard deviation.
        subsample: one pair in this many was kept.
        deterministic: whether the expert acted by its mode; None where a converted file doesn't tell.
        path: the dataset's folder.
        observation_space: of a single environment, as recorded.
        action_space: likewise.
        sha256: checksums of the dataset's files, by name.
        names: of a log, the names of the columns of `obs` and `actions`, in order.
        env_kwargs: the environment's constructor arguments; None where the dataset doesn't tell.
        labels: the mode that each pair is of, `[P]` int64, -1 where it isn't told; None where none is.
    """

    transitions: Transitions
    env_id: str
    episode_indices: list[int]
    episode_returns: list[float | None]
    episode_lengths: list[int]
    n_terminated: int
    terminations: Transitions
    dataset_return_mean: float | None
    dataset_return_std: float | None
    subsample: int
    deterministic: bool | None
    path: Path
    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    sha256: dict[str, str]
    names: Mapping[str, list[str]] = dataclasses.field(default_factory=dict)
    env_kwargs: Mapping[str, Any] | None = None
    labels: torch.Tensor | None = None

    @property
    def termination_rate(self) -> float:
        """Terminations per step."""
        return self.n_terminated / sum(self.episode_lengths)

    def require_actions(self, who: str) -> None:
        """Refuse demonstrations of states alone.

        Args:
            who: what needs actions, for the error.

        Raises:
            DemonstrationError: they hold no actions.
        """
        if not self.transitions.actions.numel():
            raise DemonstrationError(
                f"{self.path}: holds states and no actions, and {who} learns from actions. GAIL learns from states "
                "alone by --state-only (state_only=True)"
            )

    def fitted_to(self, envs: gym.vector.VectorEnv[Any, Any, Any]) -> Demonstrations:
        """The same pairs with the observations' parts in the order that `envs` has them, matched by name.

        Raises:
            DemonstrationError: the parts differ by name or width, as the same task has with other constructor
                arguments, or the action spaces differ.
        """
        here = flat_box(envs.single_observation_space)
        try:
            order = column_order(flat_box(self.observation_space).columns, here.columns)
        except ValueError as error:
            raise DemonstrationError(f"{self.path}/manifest.json: field observation_space: {error}") from None
        if describe_space(envs.single_action_space) != describe_space(self.action_space):
            raise DemonstrationError(
                f"{self.path}/manifest.json: field action_space: recorded in {self.action_space}, the environment has "
                f"{envs.single_action_space}"
            )
        steps, terminations = (
            dataclasses.replace(x, obs=x.obs[:, order], next_obs=x.next_obs[:, order])
            for x in (self.transitions, self.terminations)
        )
        names = dict(self.names)
        if len(names.get("obs", ())) == len(order):
            names["obs"] = [names["obs"][i] for i in order]
        return dataclasses.replace(
            self, transitions=steps, terminations=terminations, observation_space=here.original, names=names
        )

    def __str__(self) -> str:
        values = [value for value in self.episode_returns if value is not None]
        returns = "returns " + ", ".join(f"{value:.0f}" for value in values)
        if len(values) > 10:
            returns = f"returns {min(values):.0f} to {max(values):.0f}"
        expert = self.dataset_return_mean
        told = "no rewards" if expert is None else f"{returns}; the expert's mean {expert:.0f}"
        env = with_kwargs(self.env_id, self.env_kwargs)
        return (
            f"{len(self.transitions.rewards)} {'pairs' if self.transitions.actions.numel() else 'states'} of "
            f"{len(self.episode_indices)} {env} trajectories ({_pairs_kept(self.subsample)}; {told})"
        )


def with_kwargs(env_id: str, env_kwargs: Mapping[str, Any] | None) -> str:
    """An environment's id, and what constructor arguments it has, to print."""
    return f"{env_id} with {printable(json.dumps(env_kwargs))}" if env_kwargs else env_id


def _pairs_kept(k: int) -> str:
    """Every pair, every 2nd pair, ..."""
    ending = "th" if k % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(k % 10, "th")
    return "every pair" if k == 1 else f"every {k}{ending} pair"


def failed_episodes(returns: Sequence[float | None]) -> list[int]:
    """Indices of episodes that are far worse than the others.

    There are some if the worst return lies more than 20 median absolute deviations below the median (13 standard
    deviations of normal noise); then those that are nearer to the worst return than 0.45 of its distance to the median.
    Adding a number to all returns or multiplying them by a positive one changes nothing. Where more than half of the
    returns are equal, every other one is far away. Without returns (NaN, None) none has failed.
    """
    values = np.array(returns, np.float64)
    if np.isnan(values).all():
        return []
    median, worst = np.median(values), values.min()
    if median - worst <= FAILED_DISTANCE * np.median(abs(values - median)):
        return []
    return np.flatnonzero(values < worst + FAILED_PART * (median - worst)).tolist()


def save_demonstrations(
    folder: str | Path | None,
    *,
    env_id: str,
    observation_space: gym.Space[Any],
    action_space: gym.Space[Any],
    episodes: Sequence[Episode],
    deterministic: bool | None,
    algorithm: str,
    command: str,
    seed: int | None,
    policy: Policy | None = None,
    training_command: str | None = None,
    trained: Mapping[str, Any] | None = None,
    keep_every: int = 1,
    source: Mapping[str, Any] | None = None,
    weights_only: bool = False,
    env_kwargs: Mapping[str, Any] | None = None,
    labels: Sequence[int | None] | None = None,
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Write a dataset, validated as it would be on loading; an older one is kept until the new one is whole.

    Args:
        folder: `expert_data/<env_id>`; None only validates.
        env_id: the environment.
        observation_space: of a single environment.
        action_space: of a single environment; executed actions lie inside.
        episodes: complete ones, failures too. Where one lacks its final observation, none is stored.
        deterministic: whether the expert acted by its mode, if that is known.
        algorithm: what trained the expert.
        command: what made the data.
        seed: of that command.
        policy: the expert; its weights go to `policy.safetensors`.
        training_command: what trained the expert, where that was another command.
        trained: where the policy was trained, `env_id`, for how many `env_steps`, by which `seed` and
            `versions`.
        keep_every: store one state-action pair in this many, from a random offset in each episode, so that tasks with
            many observations stay small. Rewards and lengths are whole all the same.
        source: what the data were converted from: its `path` stands in errors, its `versions` in place of ours, and its
            `names` of the columns of `obs` and `actions` are those of a log.
        weights_only: leave out the episodes, which `record_expert` made and `recorded` makes again.
        env_kwargs: the environment's constructor arguments as JSON values; None: unknown.
        labels: of a mixture, the mode of each episode from 0, None where it isn't to be told (default: none is).

    Returns:
        The arrays and the manifest.

    Raises:
        DemonstrationError: an episode is not what the spaces say.
    """
    where = str(source["path"] if source else Path(folder or "") / "episodes.npz")
    if not episodes:
        raise DemonstrationError(f"{where}: no episodes to save")
    if keep_every < 1:
        raise DemonstrationError(f"{where}: keep_every must be at least 1; got {keep_every}")
    flat = flat_box(observation_space)
    has_actions = any(e.actions.shape[1:] != (0,) for e in episodes)
    for i, e in enumerate(episodes):
        acted = action_space.shape if has_actions else (0,)
        for field, array, shape in (("obs", e.obs, flat.shape), ("actions", e.actions, acted)):
            if array.shape[1:] != shape:
                fail(where, field, f"shape {array.shape[1:]}; the environment's is {shape}", i)
    totals = [episode.total_reward for episode in episodes]
    arrays = joined(episodes)
    has_rewards = not np.isnan(arrays["rewards"]).all()
    returns = totals if has_rewards else [None] * len(totals)
    arrays |= {name: _stored(arrays[name]) for name in ("obs", "actions", "final_obs") if name in arrays}
    arrays["rewards"] = arrays["rewards"].astype(np.float32)
    final_obs = "final_obs" in arrays
    if keep_every > 1:
        if not final_obs:
            raise DemonstrationError(f"{where}: episodes without final observations are stored whole, keep_every 1")
        arrays = _thin(arrays, keep_every, np.random.default_rng(seed or 0))
    if (size := sum(array.nbytes for array in arrays.values())) > MAX_BYTES:
        raise DemonstrationError(f"{where}: {size} bytes; at most {MAX_BYTES} are read again. Leave out episodes")
    names = (source or {}).get("names", {})
    observation_space = _kept_bounds(observation_space, arrays, where, names.get("obs"))
    for write in (np.savez_compressed, np.savez):
        write(content := io.BytesIO(), allow_pickle=False, **arrays)
        if size <= allowance(content.tell()):  # else more than a reader believes of a compressed file
            break
    manifest = {
        "format": FORMAT,
        "env_id": env_id,
        "observation_space": describe_space(observation_space),
        "action_space": describe_space(action_space),
        "n_episodes": len(episodes),
        "returns": returns,
        "return_mean": float(np.mean(totals)) if has_rewards else None,
        "return_std": float(np.std(totals)) if has_rewards else None,
        "failed_episodes": failed_episodes(returns),
        "deterministic": deterministic,
        "keep_every": keep_every,
        "algorithm": algorithm,
        "command": command,
        "training_command": training_command if source else training_command or command,
        "seed": seed,
        "versions": versions(),
        "hardware": hardware(),
    }
    if trained is not None:
        manifest["trained"] = dict(trained)
    if env_kwargs is not None:
        manifest["env_kwargs"] = dict(env_kwargs)
    if labels is not None:
        manifest["labels"] = list(labels)
    told_absent = {"final_obs": final_obs, "actions": has_actions, "rewards": has_rewards}
    manifest |= {name: False for name, there in told_absent.items() if not there}
    if source is not None:
        told = dict(source)
        manifest |= {"versions": told.pop("versions", {}), "source": told}
        del manifest["hardware"]
    _validate_headers({name: (array.shape, array.dtype) for name, array in arrays.items()}, manifest, where)
    _validate(arrays, manifest, where)
    files = {} if weights_only else {"episodes.npz": content.getvalue()}
    if policy is not None:
        weights = {name: tensor.detach().cpu().clone() for name, tensor in policy.state_dict().items()}
        files["policy.safetensors"] = save(weights)
    manifest["sha256"] = {name: sha256(data) for name, data in files.items()}
    if folder is None:
        return arrays, manifest
    if weights_only:
        with _readable(Path(folder)):
            check(manifest, WEIGHTS_ONLY | {"env_kwargs": check_portable})
    files["manifest.json"] = json_bytes(manifest | {"sha256_manifest": sha256(canonical_json(manifest))})
    write_folder(Path(folder), files)
    return arrays, manifest


def record(
    actor: Predictor,
    env: Environment,
    folder: str | Path,
    n_episodes: int = 25,
    *,
    deterministic: bool = False,
    seed: int = 0,
    env_kwargs: Mapping[str, Any] | None = None,
    algorithm: str | None = None,
    command: str | None = None,
    policy: Policy | None = None,
) -> list[Episode]:
    """Record whole episodes of an expert as a dataset, failed ones too.

    Args:
        actor: anything with SB3's `predict`, such as a model of Stable-Baselines3 or an agent.
        env: an id or what else `rlgen.make_vec` takes.
        folder: of datasets; this one goes into a folder with the environment's name in it.
        n_episodes: number of episodes.
        deterministic: act by the mode.
        seed: of the environments; an actor that samples does so by its own.
        env_kwargs: the environment's constructor arguments.
        algorithm: what trained the expert, for the manifest (default: the actor's class).
        command: what recorded it, likewise (default: this process's).
        policy: the expert's, to store its weights beside the episodes.

    Returns:
        The episodes.

    Raises:
        UsageError: episodes have no end, see `rlgen.data.episodes.check_ends`.
    """
    facts: dict[str, Any] = {"algorithm": algorithm or type(actor).__name__, "command": command or shlex.join(sys.argv)}
    facts |= {"deterministic": deterministic, "seed": seed, "policy": policy}
    return _record(actor, env, Path(folder) / environment_name(env), n_episodes, seed, env_kwargs, facts)


def _record(
    actor: Predictor,
    env: Environment,
    folder: str | Path,
    n_episodes: int,
    env_seed: int,
    env_kwargs: Mapping[str, Any] | None,
    facts: dict[str, Any],
) -> list[Episode]:
    envs = make_vec(env, n_episodes, env_kwargs=env_kwargs)
    check_ends(envs, env, env_kwargs)
    if (policy := facts["policy"]) is not None:
        observations, actions = flat_box(envs.single_observation_space), envs.single_action_space
        if policy.observation_space.columns != observations.columns or policy.action_space != actions:
            raise UsageError(
                f"the policy is of {policy.observation_space.original} and {policy.action_space}; "
                f"{environment_name(env)} has {observations.original} and {actions}"
            )
    episodes = run_episodes(actor, envs, facts["deterministic"], seed=env_seed)
    save_demonstrations(
        folder,
        env_id=environment_name(env),
        observation_space=envs.single_observation_space,
        action_space=envs.single_action_space,
        episodes=episodes,
        env_kwargs=told_kwargs(env, env_kwargs),
        **facts,
    )
    envs.close()
    return episodes


def record_expert(
    policy: Policy,
    env_id: str,
    folder: str | Path,
    n_episodes: int,
    *,
    deterministic: bool,
    seed: int,
    env_kwargs: Mapping[str, Any] | None = None,
    **facts: Any,
) -> list[Episode]:
    """Record whole episodes of a policy as a dataset, whose files are the same each time on one machine.

    Args:
        policy: the expert, of a run or a dataset.
        env_id: the environment.
        folder: the dataset's own.
        n_episodes: number of episodes.
        deterministic: act by the mode.
        seed: of the environments and of sampled actions.
        env_kwargs: the environment's constructor arguments.
        facts: the others of `save_demonstrations`.

    Returns:
        The episodes.

    Raises:
        UsageError: the environment's spaces are not the policy's, or episodes have no end.
    """
    actor = Actor(policy, np.random.default_rng(seed + 1))
    facts |= {"deterministic": deterministic, "seed": seed, "policy": policy}
    with threadpool_limits(1, "blas"):  # several threads may round differently
        return _record(actor, env_id, folder, n_episodes, seed + 20_000, env_kwargs, facts)


def recorded(folder: Path, manifest: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    """A dataset with episodes: the given one, or where it holds weights alone, that which they record on first use.

    It is kept in the cache, `$XDG_CACHE_HOME/rlgen` or `~/.cache/rlgen`, under a name of the manifest's and all
    versions' checksum. Weights are checked by their checksum. Episodes have none beforehand, since another processor
    rounds differently and MuJoCo amplifies that; their mean return is compared with the manifest's, and may differ by
    `RETURN_TOLERANCE` of it or by four standard errors, whichever is more.

    Raises:
        DemonstrationError: the weights earn something else here, or the cache can't be written to.
    """
    if "episodes.npz" in manifest["sha256"]:
        return folder, manifest
    with _readable(folder / "manifest.json"):
        check(manifest, WEIGHTS_ONLY)
    env_id, cache = manifest["env_id"], cache_folder() / "demonstrations"
    home = cache / f"{Path(env_id).name}-{sha256(canonical_json([manifest, versions()]))[:16]}"
    if home.exists():
        return open_dataset(home, env_id)
    policy = load_expert(folder, env_id)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(dir=cache)
    except OSError as error:
        raise DemonstrationError(
            f"{error.filename}: {error.strerror}; the episodes of {folder} are recorded there. Set XDG_CACHE_HOME to a "
            "folder that can be written to"
        ) from None
    names = ("n_episodes", "deterministic", "seed", "keep_every", "algorithm", "command", "training_command", "trained")
    facts = {name: manifest[name] for name in names if name in manifest}
    env_kwargs = manifest.get("env_kwargs")
    with temporary as parent:
        new = Path(parent) / "dataset"
        _log.info("%s: recording %d episodes of %s into %s", folder, manifest["n_episodes"], env_id, home)
        try:
            episodes = record_expert(policy, env_id, new, env_kwargs=env_kwargs, **facts)
        except Exception as error:
            if env_kwargs or isinstance(
                error, UsageError
            ):  # out of the manifest, so whatever they lead to is its fault
                raise DemonstrationError(f"{folder}: {error}") from error
            raise
        _check_returns([episode.total_reward for episode in episodes], manifest, folder)
        try:
            new.rename(home)
        except OSError:
            if not home.exists():  # else another process was faster
                raise
    return open_dataset(home, env_id)


def _check_returns(returns: Sequence[float], manifest: Mapping[str, Any], folder: Path) -> None:
    """Refuse weights that earn something else than their manifest says."""
    told, here = np.array(manifest["returns"]), float(np.mean(returns))
    allowed = max(RETURN_TOLERANCE * abs(told.mean()), 4 * told.std() * math.sqrt(2 / len(told)))
    if not abs(here - told.mean()) <= allowed:
        raise DemonstrationError(
            f"{folder}: its weights earn {short(here)} here, by MuJoCo {version('mujoco')}; its manifest says "
            f"{short(told.mean())} +- {short(told.std())}, by {printable(manifest['versions'].get('mujoco'))}. "
            f"To record them nevertheless: {_again(folder, manifest)}"
        )


def _again(folder: Path, manifest: Mapping[str, Any]) -> str:
    """The command that records a dataset's episodes anew."""
    kwargs = manifest.get("env_kwargs")
    told = f" --env-kwargs {shlex.quote(json.dumps(kwargs))}" if kwargs else ""
    return f"rlgen expert --policy {folder} --env {manifest['env_id']}{told} --output ..."


def load_demonstrations(
    path: str | Path,
    env_id: str,
    n_trajectories: int | None = None,
    subsample: int | None = None,
    *,
    seed: int = 0,
    include_failed: bool = False,
) -> Demonstrations:
    """Draw trajectories by the protocol of Ho & Ermon (2016): every `subsample`-th pair from a random offset each.

    The draw leaves out failed episodes by default (see `failed_episodes`; the manifest lists them): in a pilot one
    failure among four trajectories held GAIL at half of the expert's return, because the agent was asked to match the
    failure too. Data and expert's mean keep them.

    Args:
        path: the folder that holds the datasets, or one dataset's folder.
        env_id: the environment, with its version.
        n_trajectories: how many episodes to draw without replacement (default: all that may be drawn).
        subsample: keep one pair in this many; where the dataset stores one in k, a multiple of k (default: all that it
            stores).
        seed: of the draw.
        include_failed: draw from failed episodes too.

    Raises:
        DemonstrationError: no such dataset, a damaged or inconsistent one, or too few episodes.
    """
    folder, manifest = recorded(*open_dataset(Path(path), env_id))
    arrays = _read_arrays(folder / "episodes.npz", manifest)
    simulated = "names" not in manifest.get("source", {})  # a log is replayed nowhere
    told = manifest["versions"].get("mujoco", "of unknown version")
    if simulated and told != (here := version("mujoco")):
        warnings.warn(
            f"{folder} was recorded with MuJoCo {printable(told)}, this is {here}: replays will differ",
            stacklevel=2,
        )
    return drawn_of(arrays, manifest, folder, n_trajectories, subsample, seed=seed, include_failed=include_failed)


def drawn_of(
    arrays: Mapping[str, Array],
    manifest: Mapping[str, Any],
    folder: Path,
    n_trajectories: int | None = None,
    subsample: int | None = None,
    *,
    seed: int = 0,
    include_failed: bool = False,
) -> Demonstrations:
    """Draw trajectories from a dataset's arrays and manifest; other arguments as for `load_demonstrations`."""
    keep_every = manifest.get("keep_every", 1)
    subsample = keep_every if subsample is None else subsample
    if subsample < 1:
        raise DemonstrationError(f"subsample must be at least 1; got {subsample}")
    if subsample % keep_every:
        raise DemonstrationError(
            f"{folder} stores {_pairs_kept(keep_every)}: subsample must be a multiple of {keep_every}; got {subsample}"
        )

    returns, env_id = manifest["returns"], manifest["env_id"]
    failed = [] if include_failed else failed_episodes(returns)
    candidates = np.setdiff1d(np.arange(manifest["n_episodes"]), failed)
    n_trajectories = len(candidates) if n_trajectories is None else n_trajectories
    if not 1 <= n_trajectories <= len(candidates):
        raise DemonstrationError(
            f"{folder} has {len(candidates)} trajectories to draw from ({len(failed)} failed ones left out); "
            f"n_trajectories is {n_trajectories}"
        )
    rng = np.random.default_rng(seed)
    drawn = sorted(rng.choice(candidates, n_trajectories, replace=False).tolist())
    starts = np.cumsum([0, *arrays["lengths"]])
    # Of each stored pair, its step in the whole dataset.
    steps = arrays["steps"] if keep_every > 1 else np.arange(starts[-1])
    first = np.searchsorted(steps, starts)
    kept = _every(subsample // keep_every, [(first[i], first[i + 1]) for i in drawn], rng)
    episode = np.searchsorted(starts, steps, side="right") - 1
    is_last = steps == starts[episode + 1] - 1
    terminating = np.flatnonzero(is_last & arrays["terminated"][episode] & np.isin(episode, drawn))
    if not manifest.get("final_obs", True):  # a last pair's successor isn't known
        kept, terminating = kept[~is_last[kept]], terminating[:0]
        if not len(kept):
            raise DemonstrationError(f"{folder}: no pair of those drawn has a successor; draw more trajectories")
    next_obs = arrays["next_obs"] if keep_every > 1 else _successors(arrays)
    labels = np.array([-1 if x is None else x for x in manifest["labels"]], np.int64) if "labels" in manifest else None

    def pairs(rows: Array) -> Transitions:
        return Transitions(
            obs=torch.from_numpy(arrays["obs"][rows]),
            actions=torch.from_numpy(arrays["actions"][rows]),
            next_obs=torch.from_numpy(next_obs[rows]),
            rewards=torch.from_numpy(arrays["rewards"][steps[rows]]),
            terminated=torch.from_numpy(is_last[rows] & arrays["terminated"][episode[rows]]),
            truncated=torch.from_numpy(is_last[rows] & arrays["truncated"][episode[rows]]),
        )

    return Demonstrations(
        pairs(kept),
        env_id,
        drawn,
        [returns[i] for i in drawn],
        arrays["lengths"][drawn].tolist(),
        int(arrays["terminated"][drawn].sum()),
        pairs(terminating),
        float(np.mean(returns)) if manifest.get("rewards", True) else None,
        float(np.std(returns)) if manifest.get("rewards", True) else None,
        subsample,
        manifest["deterministic"],
        folder,
        described_space(manifest["observation_space"]),
        described_space(manifest["action_space"]),
        manifest["sha256"],
        manifest.get("source", {}).get("names", {}),
        manifest.get("env_kwargs"),
        None if labels is None else torch.from_numpy(labels[episode[kept]]),
    )


def _every(k: int, ranges: Iterable[tuple[int, int]], rng: np.random.Generator) -> Array:
    """One number in `k` of each range, from a random offset in each."""
    return np.concatenate([np.arange(a + rng.integers(min(k, b - a)), b, k) for a, b in ranges])


def _successors(arrays: Mapping[str, Array]) -> Array:
    """The observation after each step; after an episode's last one it is only known where `final_obs` tells it."""
    following = np.concatenate([arrays["obs"][1:], arrays["obs"][-1:]])
    if "final_obs" in arrays:
        following[np.cumsum(arrays["lengths"]) - 1] = arrays["final_obs"]
    return following


def _thin(arrays: Mapping[str, Array], keep_every: int, rng: np.random.Generator) -> dict[str, Array]:
    """The arrays with one pair in `keep_every` of each episode."""
    steps = _every(keep_every, itertools.pairwise(np.cumsum([0, *arrays["lengths"]])), rng)
    whole = {name: arrays[name] for name in ("rewards", "lengths", "terminated", "truncated")}
    pairs = {"obs": arrays["obs"], "actions": arrays["actions"], "next_obs": _successors(arrays)}
    return whole | {name: array[steps] for name, array in pairs.items()} | {"steps": steps}


def load_all(path: str | Path, env_id: str | None = None) -> Demonstrations:
    """Every pair that a dataset stores, of failed episodes too; arguments and errors as for `load_episodes`."""
    folder, manifest = open_dataset(Path(path), env_id)
    return load_demonstrations(folder, manifest["env_id"], include_failed=True)


def load_episodes(path: str | Path, env_id: str | None = None) -> tuple[dict[str, Any], list[Episode]]:
    """A dataset's manifest and all its episodes, in the order in which they were recorded.

    Arguments and errors are those of `load_demonstrations`; without `env_id`, `path` is one dataset's folder. A dataset
    that stores single pairs is a `DemonstrationError` too.
    """
    folder, manifest = recorded(*open_dataset(Path(path), env_id))
    arrays = _read_arrays(folder / "episodes.npz", manifest)
    if manifest.get("keep_every", 1) > 1:
        raise DemonstrationError(
            f"{folder} stores {_pairs_kept(manifest['keep_every'])}: episodes can't be made of them. "
            f"Record again: {_again(folder, manifest)}"
        )
    return manifest, parted(arrays)


def load_expert(path: str | Path, env_id: str | None = None) -> Policy:
    """The policy that a dataset was recorded with; arguments and errors as for `load_episodes`.

    A dataset that was recorded without weights is a `DemonstrationError` too.
    """
    folder, manifest = open_dataset(Path(path), env_id)
    if "policy.safetensors" not in manifest["sha256"]:
        raise DemonstrationError(f"{folder}: it was recorded without its expert's weights")
    path = folder / "policy.safetensors"
    with _readable(path), checked(path, manifest["sha256"][path.name]) as file:
        arrays, _ = read_safetensors(file, path)
        return policy_of_weights(manifest, {name: torch.from_numpy(array) for name, array in arrays.items()})


def dataset_folder(path: Path, env_id: str | None) -> Path | None:
    """The folder `<env_id>` in `path`, or `path` itself, whichever holds a dataset of ours; None if neither does."""
    folders = (path / (env_id or ""), path)
    return next((folder for folder in folders if (folder / "manifest.json").is_file()), None)


def open_dataset(path: Path, env_id: str | None) -> tuple[Path, dict[str, Any]]:
    """The dataset's folder and its manifest; arguments and errors as for `load_episodes`."""
    folder = dataset_folder(path, env_id)
    if folder is None and env_id is not None:
        raise DemonstrationError(_without_dataset(path, env_id))
    if folder is None and path.is_dir():
        found = sorted(p.parent for p in path.glob("*/manifest.json"))
        if len(found) != 1:
            names = ", ".join(folder.name for folder in found)
            has = f"datasets of {names}; tell one's folder, or --env" if found else "no dataset"
            raise DemonstrationError(f"{path} holds {has}")
        folder = found[0]
    manifest = _read_manifest((folder or path) / "manifest.json")
    if env_id not in (None, manifest["env_id"]):
        raise DemonstrationError(
            f"{folder}/manifest.json: field env_id: it was recorded in {manifest['env_id']}, not {env_id}; versions of "
            "an environment differ and are never substituted"
        )
    return folder or path, manifest


def _without_dataset(path: Path, env_id: str) -> str:
    """What to say of a folder that holds no dataset of an environment."""
    record = f"Record one: rlgen expert --env {env_id} --output {path}"
    files = [path] if path.is_file() else sorted(path.glob("*"))
    logs = any(file.suffix.lower() in READERS for file in files)
    foreign = path.is_file() or logs or any((path / name).exists() for name in OTHER_PACKAGES)
    if foreign and not os.path.lexists(path / "manifest.json"):
        columns = " --obs NAME ... --actions NAME ..." if logs else ""
        command = f"rlgen data convert {shlex.quote(str(path))} --env {env_id} --output experts{columns}"
        known = ". Other packages' files need no names" if path.suffix in (".npz", ".hdf5", ".h5") else ""
        return f"{path}: no dataset of ours. Convert it: {command}; then --expert experts{known}"
    if not path.is_dir():
        return f"{path}: no such folder (from {Path.cwd()}). {record}"
    found = sorted(p.parent.name for p in path.glob("*/manifest.json"))
    near = difflib.get_close_matches(env_id, found, 1)
    here = f"it has {', '.join(found)}" if found else "it has none"
    nearest = f"; the nearest is {near[0]} (--env {near[0]}), which is another environment" if near else ""
    return f"{path}: no dataset for {env_id}; {here}{nearest}. {record}"


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """What is wrong with a dataset's file as an error that names it."""
    try:
        yield
    except OSError as error:
        raise DemonstrationError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise DemonstrationError(str(error) if str(path) in str(error) else f"{path}: {error}") from None


def _read_manifest(path: Path) -> dict[str, Any]:
    with _readable(path):
        manifest: dict[str, Any] = read_json(path, {"sha256_manifest": str, "format": str}, links=False)
        if manifest.pop("sha256_manifest") != sha256(canonical_json(manifest)):
            raise DemonstrationError(f"{path}: field sha256_manifest: the manifest was changed or damaged")
        if manifest["format"] != FORMAT:
            raise DemonstrationError(f"{path}: field format: {manifest['format']!r}; this version reads {FORMAT!r}")
        check(manifest, MANIFEST)
        if (told := len(manifest["returns"])) != manifest["n_episodes"]:
            fail(str(path), "returns", f"the manifest lists {told} of {manifest['n_episodes']}")
        if (told := len(manifest.get("labels", manifest["returns"]))) != manifest["n_episodes"]:
            fail(str(path), "labels", f"the manifest lists {told} of {manifest['n_episodes']}")
        return manifest


def _read_arrays(path: Path, manifest: Mapping[str, Any]) -> dict[str, Array]:
    """A dataset's arrays, validated; none is made before their shapes are."""
    last = WHOLE if manifest.get("final_obs", True) else ()
    names = ARRAYS + (THINNED if manifest.get("keep_every", 1) > 1 else last)
    with _readable(path), checked(path, manifest["sha256"][path.name]) as file:
        arrays = read_npz(file, path, names, lambda headers: _validate_headers(headers, manifest, str(path)))
    _validate(arrays, manifest, str(path))
    return arrays


def _stored(array: Array) -> Array:
    """Numbers as a dataset holds them: whole ones as int64, float64 as it is, others as float32."""
    if array.dtype.kind in "biu":
        return array.astype(np.int64)
    return array if array.dtype == np.float64 else array.astype(np.float32)


def _validate_headers(headers: Mapping[str, Header], manifest: Mapping[str, Any], file: str) -> None:
    """Shapes and dtypes that a dataset promises by its spaces and the numbers of its episodes and steps."""
    n_episodes, n_steps = manifest["n_episodes"], (headers["rewards"][0] or (0,))[0]
    n_pairs = (headers["steps"][0] or (0,))[0] if "steps" in headers else n_steps
    flat = flat_box(described_space(manifest["observation_space"]))
    action_space = described_space(manifest["action_space"])
    floats = (np.float32, np.float64)
    acted: tuple[tuple[int, ...], tuple[Any, ...]] = (
        (n_pairs, *(action_space.shape or ())),
        floats if np.issubdtype(action_space.dtype, np.floating) else (np.int64,),
    )
    if not manifest.get("actions", True):
        acted = (n_pairs, 0), floats
    expected: dict[str, tuple[tuple[int, ...], tuple[Any, ...]]] = {
        "lengths": ((n_episodes,), (np.int64,)),
        "rewards": ((n_steps,), (np.float32,)),
        "terminated": ((n_episodes,), (np.bool_,)),
        "truncated": ((n_episodes,), (np.bool_,)),
        "obs": ((n_pairs, *flat.shape), floats),
        "next_obs": ((n_pairs, *flat.shape), floats),
        "final_obs": ((n_episodes, *flat.shape), floats),
        "actions": acted,
        "steps": ((n_pairs,), (np.int64,)),
    }
    for field, (shape, dtype) in headers.items():
        if shape != expected[field][0]:
            fail(file, field, f"shape {shape}; the spaces, rewards and episodes say {expected[field][0]}")
        if dtype not in expected[field][1]:
            names = " or ".join(np.dtype(kind).name for kind in expected[field][1])
            fail(file, field, f"dtype {dtype}; must be {names}")


def _kept_bounds(
    space: gym.Space[Any], arrays: Mapping[str, Array], where: str, names: Sequence[str] | None
) -> gym.Space[Any]:
    """The space without the bounds that observations don't keep to, as those of many environments don't."""
    space = space.original if isinstance(space, FlatBox) else space
    if not isinstance(space, gym.spaces.Box):
        return space
    rows = [arrays[field] for field in ("obs", "next_obs", "final_obs") if field in arrays]
    least = np.min([x.min(0) for x in rows], 0).reshape(space.shape)
    most = np.max([x.max(0) for x in rows], 0).reshape(space.shape)
    below, above = least < space.low.astype(least.dtype), most > space.high.astype(most.dtype)
    if not (below | above).any():
        return space
    told = outside_by_column(np.concatenate(rows), space, names)
    warnings.warn(
        f"{where}: observations lie outside {space}, and the dataset promises no such bounds: {told}", stacklevel=3
    )
    dtype: Any = np.result_type(space.dtype, np.float32)
    return gym.spaces.Box(np.where(below, -np.inf, space.low), np.where(above, np.inf, space.high), dtype=dtype)


def outside_by_column(values: Array, space: gym.Space[Any], names: Sequence[str] | None = None) -> str:
    """How many rows of `values` `[N, ...]` are not in a space, by column; empty if all are.

    Args:
        values: as a dataset holds them.
        space: bounds are rounded as the values were.
        names: of the columns (default, and where there are more or fewer: their numbers).
    """
    rows, counts = values.reshape(len(values), -1), _outside(values, space).sum(0)
    if names is None or len(names) != len(counts):
        names = [f"column {i}" for i in range(len(counts))]
    return ", ".join(
        f"{printable(names[i])} in {counts[i]} of {len(rows)} rows ({rows[:, i].min():.4g} to {rows[:, i].max():.4g})"
        for i in np.flatnonzero(counts).tolist()
    )


def _outside(values: Array, space: gym.Space[Any]) -> Array:
    """Which of `values` `[N, ...]` are not in a space, `[N, D]`; bounds are rounded as the values were."""
    units = ActionUnits(space)
    rows = values.reshape(len(values), -1)
    return (rows < units.low.astype(values.dtype)) | (rows > units.high.astype(values.dtype))


def _validate(arrays: Mapping[str, Array], manifest: Mapping[str, Any], file: str) -> None:
    """Everything that a dataset promises; the same for saving and loading."""
    lengths, n_episodes, n_steps = arrays["lengths"].tolist(), len(arrays["lengths"]), len(arrays["rewards"])
    if min(lengths) < 1 or sum(lengths) != n_steps:  # in Python's integers, which don't overflow
        fail(file, "lengths", f"must be at least 1 and add up to {n_steps}, the rewards; they sum to {sum(lengths)}")
    episode_of_step = np.repeat(np.arange(n_episodes), lengths)
    episode_of_pair = episode_of_step
    if "steps" in arrays:
        steps = arrays["steps"]
        if not len(steps) or not (steps[1:] > steps[:-1]).all() or steps[0] < 0 or steps[-1] >= n_steps:
            fail(file, "steps", f"must be rising int64 from 0 to {n_steps - 1}")
        episode_of_pair = episode_of_step[steps]
        if (without := np.setdiff1d(np.arange(n_episodes), episode_of_pair)).size:
            fail(file, "steps", "no pair is stored", int(without[0]))
    episodes_of = {
        "obs": episode_of_pair,
        "actions": episode_of_pair,
        "rewards": episode_of_step,
        "next_obs": episode_of_pair,
        "final_obs": np.arange(n_episodes),
    }
    spaces = {"actions": described_space(manifest["action_space"])}
    observation_space = described_space(manifest["observation_space"])
    if isinstance(observation_space, gym.spaces.Box):  # parts of others may be coded
        spaces |= dict.fromkeys(("obs", "next_obs", "final_obs"), observation_space)
    absent = {field for field in ("actions", "rewards") if not manifest.get(field, True)}
    if "rewards" in absent and not np.isnan(arrays["rewards"]).all():
        fail(file, "rewards", "the manifest says that there are none")
    for field in (arrays.keys() & episodes_of.keys()) - absent:
        bad = np.flatnonzero(~np.isfinite(arrays[field].reshape(len(arrays[field]), -1)).all(1))
        if len(bad):
            fail(file, field, "NaN or infinite", int(episodes_of[field][bad[0]]))
        if field in spaces and (outside := _outside(arrays[field], spaces[field]).any(1)).any():
            fail(file, field, f"outside {spaces[field]}", int(episodes_of[field][np.flatnonzero(outside)[0]]))
    if not (ended := arrays["terminated"] | arrays["truncated"]).all():
        fail(file, "terminated", "neither terminated nor truncated: the episode is incomplete", int(ended.argmin()))
    if (None in manifest["returns"]) != ("rewards" in absent):
        fail(file, "returns", "the manifest must list them where there are rewards, and there alone")
    if "rewards" in absent:
        return
    returns = [float(x.sum(dtype=np.float64)) for x in np.split(arrays["rewards"], np.cumsum(lengths)[:-1])]
    for i, (told, found) in enumerate(zip(manifest["returns"], returns, strict=True)):
        if not math.isclose(told, found, rel_tol=1e-6, abs_tol=1e-3):
            fail(file, "returns", f"the manifest says {told}, the rewards sum to {found}", i)
