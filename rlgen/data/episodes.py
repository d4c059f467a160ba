"""Whole episodes: what evaluation counts and what a demonstration dataset holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from rlgen.errors import UsageError
from rlgen.spaces import ActionUnits, FlatBox

Array = npt.NDArray[Any]

LONGEST = 100_000
"""Steps of an episode at most: an environment without a time limit may never end one."""


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
        actions: `[T, *action_shape]` as executed: int64, or floats of the action space's precision.
        rewards: `[T]` float32.
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
        """The undiscounted return."""
        return float(self.rewards.sum(dtype=np.float64))


class RandomActor:
    """Uniform actions from a single environment's action space: the zero of a normalised score."""

    def __init__(self, action_space: gym.Space[Any], seed: int) -> None:
        self.action_space = action_space
        self.action_space.seed(seed)

    def predict(self, observation: Array, *, deterministic: bool = False) -> tuple[Array, None]:
        """One action an observation; there is no deterministic one."""
        return np.stack([self.action_space.sample() for _ in observation]), None


def run_episodes(
    actor: Predictor, envs: gym.vector.VectorEnv[Any, Any, Any], deterministic: bool = False, seed: int | None = None
) -> list[Episode]:
    """Run the first episode of every environment, so that short episodes are not counted more often than long ones.

    Args:
        actor: acts on flat observations.
        envs: same-step autoreset, with a time limit; its number of environments is the number of episodes.
        deterministic: act by the mode.
        seed: of the environments.

    Raises:
        UsageError: an episode does not end within `LONGEST` steps.
    """
    space, stored = FlatBox(envs.single_observation_space), ActionUnits(envs.single_action_space).stored_dtype
    observation, _ = envs.reset(seed=seed)
    running = np.ones(envs.num_envs, np.bool_)
    ends: list[tuple[int, bool, bool, Array]] = [(0, False, False, np.empty(0))] * envs.num_envs
    obs: list[Array] = []
    actions: list[Array] = []
    rewards: list[Array] = []
    while running.any():
        if len(obs) == LONGEST:
            name = envs.spec.id if envs.spec is not None else "the environment"
            raise UsageError(f"{name}: an episode has not ended after {LONGEST} steps; register max_episode_steps")
        obs.append(space.flatten(observation, envs.num_envs))
        action, _ = actor.predict(obs[-1], deterministic=deterministic)
        observation, reward, terminated, truncated, infos = envs.step(action)
        actions.append(np.array(action, stored))
        rewards.append(reward.astype(np.float32))
        for i in np.flatnonzero(running & (terminated | truncated)).tolist():
            final = space.flatten(infos["final_obs"][i], 1)[0]
            ends[i] = (len(obs), bool(terminated[i]), bool(truncated[i]), final)
            running[i] = False
    episodes = []
    for i, (length, terminated_, truncated_, final) in enumerate(ends):
        rows = np.stack([*(x[i] for x in obs[:length]), final])
        acted = np.stack([x[i] for x in actions[:length]])
        paid = np.array([x[i] for x in rewards[:length]], np.float32)
        episodes.append(Episode(rows, acted, paid, terminated_, truncated_))
    return episodes
