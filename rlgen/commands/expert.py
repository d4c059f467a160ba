"""Train an expert on the true reward and record its demonstrations.

python scripts/expert.py --env HalfCheetah-v4 --output expert_data/
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rlgen.command import RunArguments, RunFlags, describe_failure, environment_id, parse

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv

    from rlgen.experiment import Result
    from rlgen.nn.policy import Policy
    from rlgen.types import RewardModel


@dataclass(frozen=True)
class Arguments:
    """Train on the environment's own reward, then record complete episodes, failed ones too."""

    env: str = "HalfCheetah-v4"
    """Gymnasium id, with its version. One of your own: module:Id, the module that registers it."""
    output: Path = Path("expert_data")
    """The dataset goes to a folder of the environment's name in this one."""
    overwrite: bool = False
    """Replace a dataset that is there already."""
    reward: Path | None = None
    """Train on the reward that this run of `gail --reward-model airl` recovered, in place of the environment's. All
    returns that are reported and recorded are the environment's (default: the environment's reward)."""
    policy: Path | None = None
    """Record this one rather than train: a run's folder, or a dataset's, whose expert then records again."""
    n_episodes: int = 25
    """Complete episodes to record."""
    keep_every: int = 1
    """Store one state-action pair in this many; a large observation needs it to stay small."""
    deterministic: bool = False
    """Record the policy's mode; experts of the paper were stochastic, which is the default."""
    algo: Literal["trpo", "ppo"] = "trpo"
    """Policy optimizer."""
    log_std_init: float | None = None
    """Initial log standard deviation of a Gaussian policy; the preset's unless told."""
    learning_rate: float | None = None
    """Adam's step at the start, TRPO's for the critic alone; the preset's unless told."""
    run: RunFlags = field(default_factory=RunArguments)


def train(arguments: Arguments, env_id: str) -> Result:
    """Train on the environment's own reward, or on a recovered one."""
    from rlgen import presets
    from rlgen.experiment import print_summary, run
    from rlgen.rewards.environment import EnvironmentReward
    from rlgen.rewards.recovered import RecoveredReward

    preset = presets.EXPERT[arguments.algo]
    learner = arguments.run.override(preset)
    if learner.total_timesteps < presets.SHORT:
        learner = arguments.run.override(presets.shortened(preset))
    if arguments.log_std_init is not None:
        learner = replace(learner, log_std_init=arguments.log_std_init)
    if arguments.learning_rate is not None:
        learner = replace(learner, optimizer=replace(learner.optimizer, learning_rate=arguments.learning_rate))
    reward = EnvironmentReward() if arguments.reward is None else RecoveredReward(arguments.reward)

    def make_reward(envs: VectorEnv, policy: Policy) -> RewardModel:
        return reward.to(policy.normalizer.mean.device) if isinstance(reward, RecoveredReward) else reward

    result = run(
        env_id=env_id,
        learner=learner,
        make_reward=make_reward,
        algorithm=arguments.algo,
        reward="environment" if arguments.reward is None else "recovered",
        config={"arguments": arguments, "settings": learner},
        run_dir=arguments.run.folder(env_id, arguments.algo),
        columns={"explained_variance": "expl. var", "entropy": "entropy", "kl": "kl"},
        **arguments.run.options(),
    )
    print_summary(result.summary)
    reached, random = result.summary["return_mean"], result.summary["random_return_mean"]
    if random is not None and reached <= random:
        warnings.warn("this expert is no better than random actions: train it longer (--total-timesteps)", stacklevel=1)
    return result


def load(folder: Path, env_id: str) -> tuple[Policy, str, str]:
    """The policy of a run or of a dataset, with the algorithm and the command that trained it."""
    from rlgen.checkpoint import load_checkpoint, load_policy
    from rlgen.data.demonstrations import load_expert
    from rlgen.errors import CheckpointError

    if (folder / "checkpoint").is_dir():
        facts, _ = load_checkpoint(folder)
        if facts["env_id"] != env_id:
            raise CheckpointError(f"{folder}: its policy was trained in {facts['env_id']}, not {env_id}")
        config = json.loads((folder / "config.json").read_text())
        return load_policy(folder), config["arguments"]["algo"], config["command"]
    policy = load_expert(folder, env_id)
    found = folder if (folder / "manifest.json").exists() else folder / env_id
    manifest = json.loads((found / "manifest.json").read_text())
    return policy, manifest["algorithm"], manifest.get("training_command", manifest["command"])


def main(args: Sequence[str] | None = None) -> int:
    """Parse, compose, run, record."""
    arguments: Arguments = parse(Arguments, __doc__, args)

    import numpy as np

    from rlgen.data.demonstrations import save_demonstrations
    from rlgen.data.episodes import run_episodes
    from rlgen.envs import make_vec
    from rlgen.errors import UsageError
    from rlgen.nn.policy import Actor
    from rlgen.run_log import command_line

    with describe_failure() as failure:
        env_id = environment_id(arguments.env)
        folder = arguments.output / env_id
        if arguments.n_episodes < 1:
            raise UsageError(f"--n-episodes must be at least 1; got {arguments.n_episodes}")
        if arguments.policy is not None and arguments.reward is not None:
            raise UsageError("--reward has no effect with --policy, which is not trained")
        if (folder / "manifest.json").exists() and not arguments.overwrite:
            raise FileExistsError(f"{folder} holds a dataset; choose another --output, or --overwrite it")
        folder.mkdir(parents=True, exist_ok=True)
        algorithm: str = arguments.algo
        training_command = None
        if arguments.policy is None:
            result = train(arguments, env_id)
            if result.interrupted:
                return 128 + result.interrupted
            policy = result.policy
            if arguments.run.resume is not None:
                training_command = json.loads((arguments.run.resume / "config.json").read_text())["command"]
        else:
            policy, algorithm, training_command = load(arguments.policy, env_id)
        envs = make_vec(env_id, arguments.n_episodes)
        actor = Actor(policy, np.random.default_rng(arguments.run.seed + 1))
        episodes = run_episodes(actor, envs, arguments.deterministic, seed=arguments.run.seed + 20_000)
        save_demonstrations(
            folder,
            env_id=env_id,
            observation_space=envs.single_observation_space,
            action_space=envs.single_action_space,
            episodes=episodes,
            deterministic=arguments.deterministic,
            algorithm=algorithm,
            command=command_line(),
            seed=arguments.run.seed,
            policy=policy,
            training_command=training_command,
            keep_every=arguments.keep_every,
        )
        returns = [episode.total_reward for episode in episodes]
        print(f"{folder}: {len(episodes)} episodes, return {np.mean(returns):.0f} +- {np.std(returns):.0f}")
        return 0
    return failure.code
