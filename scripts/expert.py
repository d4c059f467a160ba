"""Train an expert on the true reward and record its demonstrations.

python scripts/expert.py --env HalfCheetah-v4 --output expert_data/
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import tyro

from rlgen.command import RunArguments, RunFlags, describe_failure, environment_id


@dataclass(frozen=True)
class Arguments:
    """Train on the environment's own reward, then record complete episodes, failed ones too."""

    env: str = "HalfCheetah-v4"
    """Gymnasium id, with its version."""
    output: Path = Path("expert_data")
    """The dataset goes to a folder of the environment's name in this one."""
    overwrite: bool = False
    """Replace a dataset that is there already."""
    n_episodes: int = 25
    """Complete episodes to record."""
    deterministic: bool = False
    """Record the policy's mode; experts of the paper were stochastic, which is the default."""
    algo: Literal["trpo", "ppo"] = "trpo"
    """Policy optimizer."""
    log_std_init: float | None = None
    """Initial log standard deviation of a Gaussian policy; the preset's unless told."""
    learning_rate: float | None = None
    """Adam's step at the start, TRPO's for the critic alone; the preset's unless told."""
    run: RunFlags = field(default_factory=RunArguments)


def main() -> int:
    """Parse, compose, run, record."""
    arguments = tyro.cli(Arguments, description=__doc__)

    import numpy as np

    from rlgen import presets
    from rlgen.data.demonstrations import save_demonstrations
    from rlgen.data.episodes import run_episodes
    from rlgen.envs import make_vec
    from rlgen.errors import UsageError
    from rlgen.experiment import print_summary, run
    from rlgen.nn.policy import Actor
    from rlgen.rewards.environment import EnvironmentReward

    with describe_failure() as failure:
        env_id = environment_id(arguments.env)
        folder = arguments.output / env_id
        if arguments.n_episodes < 1:
            raise UsageError(f"--n-episodes must be at least 1; got {arguments.n_episodes}")
        if (folder / "manifest.json").exists() and not arguments.overwrite:
            raise FileExistsError(f"{folder} holds a dataset; choose another --output, or --overwrite it")
        folder.mkdir(parents=True, exist_ok=True)
        learner = arguments.run.override(presets.EXPERT[arguments.algo])
        if arguments.log_std_init is not None:
            learner = replace(learner, log_std_init=arguments.log_std_init)
        if arguments.learning_rate is not None:
            learner = replace(learner, optimizer=replace(learner.optimizer, learning_rate=arguments.learning_rate))
        result = run(
            env_id=env_id,
            learner=learner,
            make_reward=lambda envs, policy: EnvironmentReward(),
            algorithm=arguments.algo,
            reward="environment",
            config={"arguments": arguments, "settings": learner},
            run_dir=arguments.run.folder(env_id, arguments.algo),
            columns={"explained_variance": "expl. var", "entropy": "entropy", "kl": "kl"},
            seed=arguments.run.seed,
            device=arguments.run.device,
            threads=arguments.run.threads,
            eval_episodes=arguments.run.eval_episodes,
        )
        print_summary(result.summary)
        if result.interrupted:
            return 128 + result.interrupted
        envs = make_vec(env_id, arguments.n_episodes)
        actor = Actor(result.policy, np.random.default_rng(arguments.run.seed + 1))
        episodes = run_episodes(actor, envs, arguments.deterministic, seed=arguments.run.seed + 20_000)
        save_demonstrations(
            folder,
            env_id=env_id,
            observation_space=envs.single_observation_space,
            action_space=envs.single_action_space,
            episodes=episodes,
            deterministic=arguments.deterministic,
            algorithm=arguments.algo,
            command=shlex.join(["python", *sys.argv]),
            seed=arguments.run.seed,
            policy=result.policy,
        )
        returns = [episode.total_reward for episode in episodes]
        print(f"{folder}: {len(episodes)} episodes, return {np.mean(returns):.0f} +- {np.std(returns):.0f}")
        return 0
    return failure.code


if __name__ == "__main__":
    sys.exit(main())
