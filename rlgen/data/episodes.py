"""Whole episodes: what evaluation counts and what a demonstration dataset holds."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from rlgen.envs.batched import require_same_step
from rlgen.envs.codes import batch_of
from rlgen.envs.make import environment_name, make_vec
from rlgen.errors import UsageError
from rlgen.spaces import ActionUnits, FlatBox

_log = logging.getLogger("rlgen")

Array = npt.NDArray[Any]

SECONDS_BETWEEN = 20
"""Seconds after which the logger "rlgen" tells how far episodes are, again and again."""

LONGEST = 100_000
"""Steps of an episode at most: an environment without a time limit may never end one."""


N_PROBED = 10_000
"""Random steps in which an environment without a time limit has to end an episode."""


def time_limit(envs: gym.vector.VectorEnv[Any, Any, Any]) -> int | None:
    """The environments' time limit in steps; None without one."""
    spec, batch = envs.spec, batch_of(envs)
    return batch.max_episode_steps if batch is not None else None if spec is None else spec.max_episode_steps


def check_ends(envs: gym.vector.VectorEnv[Any, Any, Any], env: Any, env_kwargs: Mapping[str, Any] | None) -> None:
    """Refuse an environment that has no time limit, and whose episodes random actions don't end.

    Args:
        envs: environments of it, which stay as they are.
        env: what they were made of, see `rlgen.make_vec`.
        env_kwargs: likewise.

    Raises:
        UsageError: with the way out.
    """
    if time_limit(envs) is not None:
        return
    probe = make_vec(env, 1, 0, env_kwargs=env_kwargs)
    probe.action_space.seed(0)
    ended = any(np.any(probe.step(probe.action_space.sample())[2:4]) for _ in range(N_PROBED))
    probe.close()
    if not ended:
        raise UsageError(
            f"{environment_name(env)} has no time limit, and {N_PROBED:,} random steps ended no episode: register it "
            """with max_episode_steps, or pass the environment's arguments {"max_episode_steps": 1000} (--env-kwargs)"""
        )


class Predictor(Protocol):
    """What acts in an evaluation: SB3's `predict`."""

    def predict(self, observation: Array, *, deterministic: bool = False) -> tuple[Array, Any]:
        """Executable actions `[N, ...]` for observations `[N, D]`."""
        ...


@dataclass(frozen=True)
class Episode:
    """One complete episode of T steps.

    Attributes:
        obs: `[T + 1, D]`, flat (`rlgen.spaces.FlatBox`), the last being the true final observation; `[T, D]` where a
            converted file doesn't have that.
        actions: `[T, *action_shape]` as executed: int64, or floats of the action space's precision; `[T, 0]` where a
            log has states alone.
        rewards: `[T]` float32; NaN where a log has none.
        terminated: ended in the task's own sense.
        truncated: cut by the time limit.
    """

    obs: Array
    actions: Array
    rewards: Array
    terminated: bool
    truncated: bool

    @property
    def total_reward(self) -> float:
        """The undiscounted return; NaN where a log has no rewards."""
        return float(self.rewards.sum(dtype=np.float64))


def joined(episodes: Sequence[Episode]) -> dict[str, Array]:
    """Episodes one after the other.

    Returns:
        `obs`, `actions` and `rewards` `[sum of T, ...]`; `lengths`, `terminated` and `truncated` `[E]`; and, where
        every episode has one, `final_obs` `[E, D]`.
    """
    arrays = {
        "obs": np.concatenate([e.obs[: len(e.actions)] for e in episodes]),
        "actions": np.concatenate([e.actions for e in episodes]),
        "rewards": np.concatenate([e.rewards for e in episodes]),
        "lengths": np.array([len(e.actions) for e in episodes], np.int64),
        "terminated": np.array([e.terminated for e in episodes]),
        "truncated": np.array([e.truncated for e in episodes]),
    }
    if all(len(e.obs) > len(e.actions) for e in episodes):
        arrays["final_obs"] = np.stack([e.obs[-1] for e in episodes])
    return arrays


def parted(arrays: Mapping[str, Array]) -> list[Episode]:
    """The episodes that `joined` joined."""
    bounds = np.cumsum(arrays["lengths"])[:-1]
    obs, actions, rewards = (np.split(arrays[name], bounds) for name in ("obs", "actions", "rewards"))
    if "final_obs" in arrays:
        obs = [np.concatenate([rows, last[None]]) for rows, last in zip(obs, arrays["final_obs"], strict=True)]
    ends = (arrays[name].tolist() for name in ("terminated", "truncated"))
    return [Episode(*parts) for parts in zip(obs, actions, rewards, *ends, strict=True)]


class RandomActor:
    """Uniform actions from a single environment's action space: the zero of a normalised score.

    Row i of the observations has its own stream of random numbers, whatever the number of rows.
    """

    def __init__(self, action_space: gym.Space[Any], seed: int) -> None:
        self.action_space = action_space
        self.seed = seed
        self._spaces: list[gym.Space[Any]] = []

    def predict(self, observation: Array, *, deterministic: bool = False) -> tuple[Array, None]:
        """One action an observation; there is no deterministic one."""
        for i in range(len(self._spaces), len(observation)):
            space = copy.deepcopy(self.action_space)
            space.seed(int(np.random.SeedSequence([self.seed, i]).generate_state(1)[0]))
            self._spaces.append(space)
        return np.stack([space.sample() for space in self._spaces[: len(observation)]]), None


class RowStreams:
    """Random numbers of which row i has its own stream, for an `Actor` in place of a generator.

    Args:
        seed: row i draws from a generator seeded by (`seed`, i).
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._rows: list[np.random.Generator] = []

    def _generators(self, n: int) -> list[np.random.Generator]:
        self._rows += [np.random.default_rng([self.seed, i]) for i in range(len(self._rows), n)]
        return self._rows[:n]

    def standard_normal(self, size: tuple[int, int], dtype: Any = np.float64) -> Array:
        """Normal numbers `[N, A]`."""
        return np.stack([rng.standard_normal(size[1], dtype) for rng in self._generators(size[0])])

    def gumbel(self, *, size: tuple[int, int]) -> Array:
        """Standard Gumbel numbers `[N, A]`."""
        return np.stack([rng.gumbel(size=size[1]) for rng in self._generators(size[0])])


def sb3_normalizers(env: Any) -> list[Any]:
    """The `VecNormalize` wrappers of a `VecEnv` of Stable-Baselines3, innermost first.

    Raises:
        UsageError: another wrapper changes observations, so that what the environments give is not what a model sees.
    """
    found = []
    while (below := vars(env).get("venv")) is not None:
        if hasattr(type(env), "normalize_obs"):
            found.append(env)
        elif type(env).__name__ not in ("VecMonitor", "VecCheckNan", "VecVideoRecorder"):
            raise UsageError(
                f"{type(env).__name__} may change observations, rewards or steps, which can't be undone; use a wrapper "
                "of gymnasium's around each environment, and around the VecEnv none but VecNormalize, VecMonitor, "
                "VecCheckNan and VecVideoRecorder"
            )
        env = below
    return found[::-1]


def run_episodes(
    actor: Predictor, envs: gym.vector.VectorEnv[Any, Any, Any], deterministic: bool = False, seed: int | None = None
) -> list[Episode]:
    """Run the first episode of every environment, so that short episodes are not counted more often than long ones.

    Args:
        actor: acts on flat observations. A model of Stable-Baselines3 that has its environment acts on what
            `VecNormalize` makes of them, whose statistics stay as they are.
        envs: same-step autoreset, with a time limit; its number of environments is the number of episodes.
        deterministic: act by the mode.
        seed: of the environments.

    Raises:
        FloatingPointError: an observation or a reward isn't finite.
        UsageError: an episode does not end within `LONGEST` steps, the environments have another autoreset mode, or
            the model was trained behind other wrappers that change observations.
    """
    space, stored = FlatBox(envs.single_observation_space), ActionUnits(envs.single_action_space).stored_dtype
    require_same_step(envs)
    model_env = actor.get_env() if hasattr(actor, "get_vec_normalize_env") else None  # type: ignore[attr-defined]
    normalizers = [] if model_env is None else sb3_normalizers(model_env)
    observation, _ = envs.reset(seed=seed)
    running = np.ones(envs.num_envs, np.bool_)
    episodes: dict[int, Episode] = {}
    obs: list[Array] = []
    actions: list[Array] = []
    rewards: list[Array] = []
    name = envs.spec.id if envs.spec is not None else "the environment"
    told = time.monotonic()
    while running.any():
        if time.monotonic() > told + SECONDS_BETWEEN:
            told, most = time.monotonic(), time_limit(envs) or LONGEST
            progress = f"{len(episodes)} of {envs.num_envs} episodes have ended after {len(obs):,} steps"
            _log.warning("%s: %s; they have at most %s", name, progress, f"{most:,}")
        if len(obs) == LONGEST:
            raise UsageError(f"{name}: an episode has not ended after {LONGEST} steps; register max_episode_steps")
        under_way = np.flatnonzero(running).tolist()
        seen = space.flatten(observation, envs.num_envs)
        _check_finite("observation", seen[running], under_way, len(obs))
        obs.append(seen)
        for normalizer in normalizers:
            seen = normalizer.normalize_obs(seen)
        action, _ = actor.predict(seen, deterministic=deterministic)
        observation, reward, terminated, truncated, infos = envs.step(action)
        actions.append(np.array(action, stored))
        rewards.append(reward.astype(np.float32))
        _check_finite("reward", rewards[-1][running], under_way, len(obs))
        for i in np.flatnonzero(running & (terminated | truncated)).tolist():
            final = space.flatten(infos["final_obs"][i], 1)[0]
            _check_finite("observation", final[None], [i], len(obs))
            rows, acted = np.stack([*(x[i] for x in obs), final]), np.stack([x[i] for x in actions])
            paid = np.array([x[i] for x in rewards], np.float32)
            episodes[i] = Episode(rows, acted, paid, bool(terminated[i]), bool(truncated[i]))
            running[i] = False
    return [episodes[i] for i in range(envs.num_envs)]


def _check_finite(name: str, rows: Array, episodes: Sequence[int], step: int) -> None:
    """Refuse NaN and infinities in the rows `[K, ...]` of K episodes."""
    wrong = np.argwhere(~np.isfinite(rows))
    if len(wrong):
        raise FloatingPointError(f"episode {episodes[wrong[0][0]]}, step {step}: {name} is {rows[tuple(wrong[0])]}")
