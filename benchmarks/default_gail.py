"""GAIL by the default settings, as benchmarks of few trajectories run it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlgen.data.demonstrations import Demonstrations
    from rlgen.evaluation import Evaluation
    from rlgen.imitation import Imitation


def settings_of(total_timesteps: int) -> Imitation:
    """The default, for so many steps."""
    from rlgen import imitation

    return imitation.settings().for_steps(total_timesteps)


@dataclass(frozen=True)
class Imitated:
    """What 50 episodes show of the last policy, deterministic, beside random actions, and how long training took."""

    policy: Evaluation
    seconds: float


def imitate(
    demonstrations: Demonstrations, settings: Imitation, seed: int, env_kwargs: Mapping[str, Any] | None = None
) -> Imitated:
    """Train on GAIL's reward, then evaluate; on one thread."""
    import rlgen

    agent = rlgen.GAIL(
        demonstrations.env_id, demonstrations, settings=settings, seed=seed, n_threads=1, env_kwargs=env_kwargs
    ).learn(progress=False)
    return Imitated(agent.evaluate(), round(agent.training.wall_seconds, 2))
