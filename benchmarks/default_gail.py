"""GAIL by the default settings, as benchmarks of few trajectories run it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlgen.data.demonstrations import Demonstrations
    from rlgen.evaluation import Evaluation
    from rlgen.imitation import Imitation


def settings_of(total_timesteps: int) -> Imitation:
    """The default, for so many steps."""
    from rlgen import imitation

    settings = imitation.settings()
    return replace(settings, learner=replace(settings.learner, total_timesteps=total_timesteps))


@dataclass(frozen=True)
class Imitated:
    """What 50 episodes show of the last policy, deterministic, and of random actions, and how long training took."""

    policy: Evaluation
    random: Evaluation
    seconds: float


def imitate(
    demonstrations: Demonstrations, settings: Imitation, seed: int, env_kwargs: Mapping[str, Any] | None = None
) -> Imitated:
    """Train on GAIL's reward, then evaluate; on one thread."""
    import rlgen
    from rlgen.data.episodes import RandomActor
    from rlgen.evaluation import evaluate

    agent = rlgen.GAIL(
        demonstrations.env_id, demonstrations, settings=settings, seed=seed, n_threads=1, env_kwargs=env_kwargs
    ).learn(progress=False)
    random = RandomActor(agent.policy.action_space, seed)
    return Imitated(
        agent.evaluate(),
        evaluate(random, demonstrations.env_id, seed=seed + 10_000, n_threads=1, env_kwargs=env_kwargs),
        round(agent.training.wall_seconds, 2),
    )
