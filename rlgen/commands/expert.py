"""Train an expert on the true reward and record its demonstrations.

python scripts/expert.py --env HalfCheetah-v4 --output expert_data/
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from rlgen.command import RunArguments, RunFlags, default, environment_id
from rlgen.errors import CheckpointError, UsageError
from rlgen.files import check_writable, read_json
from rlgen.ranges import Count

if TYPE_CHECKING:
    from rlgen.experiment import Result
    from rlgen.nn.policy import Policy


@dataclass(frozen=True)
class Arguments:
    """Train on the environment's own reward, then record complete episodes, failed ones too."""

    env: str = "HalfCheetah-v4"
    """Gymnasium id with its version. module:Id first imports the module that registers it."""
    output: Path = Path("expert_data")
    """Folder of datasets; this one goes into a folder with the environment's name in it."""
    overwrite: bool = False
    """Replace the dataset that is there."""
    reward: Annotated[Path | None, default("the environment's reward")] = None
    """Folder of a run of `gail --reward-model airl`, whose recovered reward is trained on. All returns that are
    reported and recorded are the environment's."""
    policy: Annotated[Path | None, default("train one")] = None
    """Folder of a run, or of a dataset with its expert, whose policy is recorded instead of training one."""
    n_episodes: Count = 25
    """Number of complete episodes to record."""
    keep_every: Count = 1
    """Store one state-action pair in this many, which keeps datasets of large observations small."""
    deterministic: bool = False
    """Record the policy's mode. By default actions are sampled, as those of the paper's experts were."""
    algo: Literal["trpo", "ppo"] = "trpo"
    """Policy optimizer."""
    run: RunFlags = field(default_factory=RunArguments)


def train(arguments: Arguments, env_id: str) -> Result:
    """Train on the environment's own reward, or on a recovered one."""
    from rlgen.agents import PPO, TRPO

    make = TRPO if arguments.algo == "trpo" else PPO
    agent = make(env_id, recovered=arguments.reward, **arguments.run.of_agent(env_id))
    result = agent.run(arguments.run, arguments)
    reached, random = result.summary["return_mean"], result.summary["random_return_mean"]
    if random is not None and reached <= random:
        warnings.warn("this expert is no better than random actions: train it longer (--total-timesteps)", stacklevel=1)
    return result


def load(folder: Path, env_id: str) -> tuple[Policy, str, str]:
    """The policy of a run or of a dataset, with the algorithm and the command that trained it."""
    from rlgen.checkpoint import RUN, load_checkpoint, load_policy
    from rlgen.data.demonstrations import load_expert, open_dataset

    if (folder / "checkpoint").is_dir():
        facts, _ = load_checkpoint(folder, RUN)
        if facts["env_id"] != env_id:
            raise CheckpointError(f"{folder}: its policy was trained in {facts['env_id']}, not {env_id}")
        config = read_json(folder / "config.json")
        return load_policy(folder), config["agent"]["arguments"]["algo"], config["command"]
    _, manifest = open_dataset(folder, env_id)
    return load_expert(folder, env_id), manifest["algorithm"], manifest.get("training_command", manifest["command"])


def main(arguments: Arguments) -> int:
    """Compose, run, record; the exit code."""
    import numpy as np

    from rlgen.data.demonstrations import save_demonstrations
    from rlgen.data.episodes import check_ends, run_episodes
    from rlgen.envs import make_vec
    from rlgen.nn.policy import Actor
    from rlgen.run_log import command_line

    env_id = environment_id(arguments.env)
    folder = arguments.output / env_id
    if arguments.policy is not None and arguments.reward is not None:
        raise UsageError("--reward has no effect with --policy, which is not trained")
    if (folder / "manifest.json").exists() and not arguments.overwrite:
        raise FileExistsError(f"{folder} holds a dataset; choose another --output, or --overwrite it")
    check_writable(folder.parent)
    algorithm: str = arguments.algo
    training_command = None
    if arguments.policy is None:
        result = train(arguments, env_id)
        if result.interrupted:
            return result.exit_code
        policy = result.policy
        if arguments.run.resume is not None:
            training_command = read_json(arguments.run.resume / "config.json")["command"]
    else:
        policy, algorithm, training_command = load(arguments.policy, env_id)
    env_kwargs = arguments.run.env_kwargs
    envs = make_vec(env_id, arguments.n_episodes, env_kwargs=env_kwargs)
    check_ends(envs, env_id, env_kwargs)
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
