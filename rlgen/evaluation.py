"""Returns of a policy in the batched environments."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rlgen.data.episodes import Predictor, RandomActor, RowStreams, check_ends, run_episodes
from rlgen.envs import make_vec
from rlgen.envs.make import Environment
from rlgen.files import short
from rlgen.nn.policy import Actor


@dataclass(frozen=True)
class Evaluation:
    """Undiscounted returns and lengths of complete episodes.

    Attributes:
        returns: by episode.
        lengths: likewise.
        random: mean return of random actions, the zero of the score; None where it isn't known.
        expert: that of the expert, its one.
    """

    returns: list[float]
    lengths: list[int]
    random: float | None = None
    expert: float | None = None

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(np.mean(self.returns))

    @property
    def std(self) -> float | None:
        """Standard deviation over episodes; None of one episode, which shows none."""
        return float(np.std(self.returns)) if len(self.returns) > 1 else None

    def interval(self) -> tuple[float, float] | None:
        """The 95% interval of the mean return over episodes; None of one episode, which shows none."""
        return bootstrap_interval(np.array(self.returns)) if len(self.returns) > 1 else None

    @property
    def score(self) -> float | None:
        """`normalised_score`; None without an expert."""
        return (
            None
            if self.random is None or self.expert is None
            else normalised_score(self.mean, self.random, self.expert)
        )

    def __str__(self) -> str:
        n, interval, score = len(self.returns), self.interval(), self.score
        text = f"return {short(self.mean)}"
        if interval is not None:
            text += f" (95% interval {short(interval[0])} to {short(interval[1])})"
        if score is not None:
            text += f", score {score:.3f} (0 random, 1 expert)"
        return f"{text}, {n} episode{'s'[: n > 1]}"


def bootstrap_interval(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The 95% interval of the mean of `values` `[n]`, by a seeded bootstrap."""
    means = values[np.random.default_rng(0).integers(len(values), size=(10_000, len(values)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def evaluate(
    actor: Predictor,
    env: Environment,
    n_episodes: int = 50,
    seed: int = 0,
    deterministic: bool = True,
    n_threads: int | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    expert: float | None = None,
) -> Evaluation:
    """Run `n_episodes` fresh episodes side by side and give their true returns.

    Episode i depends on `seed` and i alone: its environment is seeded with `seed + i`, and a sampling `Actor`'s noise,
    as `RandomActor`'s actions, is a stream of its own. So the first k of n episodes are those of `n_episodes=k`, up to
    the rounding of float32 in a policy's products, which may differ with the number of rows in the last places. Where
    the task is chaotic (contacts: HalfCheetah, Ant, Humanoid), such a difference grows with each step, and the returns
    of long episodes agree in distribution only.

    Args:
        actor: anything with SB3's `predict`; a sampling one that isn't ours draws as it does.
        env: an id, or what else `rlgen.make_vec` takes.
        n_episodes: number of episodes.
        seed: of the environments and of sampled actions.
        deterministic: act by the mode.
        n_threads: threads of the simulation (default: all processors); they change nothing.
        env_kwargs: the environment's constructor arguments.
        expert: mean return of an expert, such as `Demonstrations.dataset_return_mean`, for a score; random actions, its
            zero, are evaluated too then.

    Raises:
        UsageError: episodes have no end, see `rlgen.data.episodes.check_ends`.
    """
    if isinstance(actor, Actor | RandomActor):
        actor = copy.deepcopy(actor)
    if isinstance(actor, Actor):
        actor.rng = RowStreams(seed)  # type: ignore[assignment]
    envs = make_vec(env, n_episodes, n_threads=n_threads, env_kwargs=env_kwargs)
    check_ends(envs, env, env_kwargs)
    episodes = run_episodes(actor, envs, deterministic, seed)
    random = None
    if expert is not None:
        acting = RandomActor(envs.single_action_space, seed)
        random = float(np.mean([e.total_reward for e in run_episodes(acting, envs, False, seed)]))
    envs.close()
    return Evaluation([e.total_reward for e in episodes], [len(e.actions) for e in episodes], random, expert)


def normalised_score(value: float, random: float, expert: float) -> float | None:
    """(value - random) / (expert - random): 0 is a random policy, 1 the expert; None if that is no better."""
    return (value - random) / (expert - random) if expert > random else None
