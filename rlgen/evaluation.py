"""Returns of a policy in the batched environments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rlgen.data.episodes import Predictor, RandomActor, run_episodes
from rlgen.envs import make_vec


@dataclass(frozen=True)
class Evaluation:
    """Undiscounted returns and lengths of complete episodes."""

    returns: list[float]
    lengths: list[int]

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(np.mean(self.returns))

    @property
    def std(self) -> float:
        """Standard deviation over episodes."""
        return float(np.std(self.returns))

    def interval(self, draws: int = 10_000) -> tuple[float, float]:
        """The 95% interval of the mean return over episodes."""
        return bootstrap_interval(np.array(self.returns), draws)


def bootstrap_interval(values: npt.NDArray[np.float64], draws: int = 10_000) -> tuple[float, float]:
    """The 95% interval of the mean of `values` `[n]`, by a seeded bootstrap."""
    means = values[np.random.default_rng(0).integers(len(values), size=(draws, len(values)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def evaluate(
    actor: Predictor,
    env_id: str,
    n_episodes: int = 50,
    seed: int = 0,
    deterministic: bool = True,
    n_threads: int | None = None,
) -> Evaluation:
    """Run `n_episodes` fresh episodes side by side and give their true returns."""
    envs = make_vec(env_id, n_episodes, n_threads=n_threads)
    episodes = run_episodes(actor, envs, deterministic, seed)
    envs.close()
    return Evaluation([e.total_reward for e in episodes], [len(e.actions) for e in episodes])


def random_return(env_id: str, n_episodes: int = 50, seed: int = 0) -> Evaluation:
    """The zero of a normalised score: uniformly random actions."""
    envs = make_vec(env_id, 1)
    action_space = envs.single_action_space
    envs.close()
    return evaluate(RandomActor(action_space, seed), env_id, n_episodes, seed)


def normalised_score(value: float, random: float, expert: float) -> float | None:
    """(value - random) / (expert - random): 0 is a random policy, 1 the expert; None if that is no better."""
    return (value - random) / (expert - random) if expert > random else None
