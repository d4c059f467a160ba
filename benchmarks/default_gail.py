"""GAIL by the default settings, as benchmarks of few trajectories run it: record an expert, imitate it, score it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlgen.data.demonstrations import Demonstrations
    from rlgen.data.episodes import Predictor
    from rlgen.evaluation import Evaluation
    from rlgen.imitation import Imitation
    from rlgen.nn.policy import Policy


def settings_of(total_timesteps: int) -> Imitation:
    """The default, for so many steps."""
    from rlgen import imitation

    settings = imitation.settings()
    return replace(settings, learner=replace(settings.learner, total_timesteps=total_timesteps))


def record(
    actor: Predictor,
    env_id: str,
    folder: Path,
    n_episodes: int,
    *,
    algorithm: str,
    command: str,
    seed: int = 0,
    policy: Policy | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
) -> None:
    """An expert's dataset, in the folder of its environment's name in `folder`; actions are sampled."""
    from rlgen.data.demonstrations import save_demonstrations
    from rlgen.data.episodes import run_episodes
    from rlgen.envs import make_vec

    envs = make_vec(env_id, n_episodes, env_kwargs=env_kwargs)
    save_demonstrations(
        folder / env_id,
        env_id=env_id,
        observation_space=envs.single_observation_space,
        action_space=envs.single_action_space,
        episodes=run_episodes(actor, envs, seed=seed),
        deterministic=False,
        algorithm=algorithm,
        command=command,
        seed=seed,
        policy=policy,
    )


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
