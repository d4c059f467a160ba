"""Train an expert on the true reward and record its demonstrations.

python scripts/expert.py --env HalfCheetah-v4 --output expert_data/
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from rlgen.command import RunArguments, RunFlags, default, environment_id
from rlgen.errors import UsageError
from rlgen.files import check_writable, short
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
    """Folder of a run, or of a dataset with its expert, whose policy is recorded instead of training one. It may have
    been trained in another environment of the same spaces, such as another version."""
    n_episodes: Count = 25
    """Number of complete episodes to record."""
    keep_every: Count = 1
    """Store one state-action pair in this many, which keeps datasets of large observations small."""
    deterministic: bool = False
    """Record the policy's mode. By default actions are sampled, as those of the paper's experts were."""
    weights_only: bool = False
    """Leave out the episodes: the dataset has the expert's weights and returns, a few kilobytes, and the same episodes
    are recorded when it is first read."""
    algo: Literal["trpo", "ppo", "svg", "sac"] = "trpo"
    """Learner: `trpo` or `ppo`, from fresh rollouts; `sac`, off-policy, with far fewer environment steps and more time
    for each; or `svg`, which is SAC with gradients through a learned model of the dynamics."""
    run: RunFlags = field(default_factory=RunArguments)


def train(arguments: Arguments, env_id: str) -> Result:
    """Train on the environment's own reward, or on a recovered one."""
    from rlgen import agents

    agent = getattr(agents, arguments.algo.upper())(
        env_id, recovered=arguments.reward, **arguments.run.of_agent(env_id)
    )
    result = agent.run(arguments.run, arguments)
    reached, random = result.summary["return_mean"], result.summary["random_return_mean"]
    if random is not None and reached <= random:
        warnings.warn("this expert is no better than random actions: train it longer (--total-timesteps)", stacklevel=1)
    return result


# What the configuration of a run must tell of its training.
TRAINED = {"command": str, "agent": {"kind": str, "arguments": {"seed": int, "algo?": str}}}


def load(folder: Path, env_id: str) -> tuple[Policy, dict[str, Any]]:
    """The policy of a run or of a dataset, with what a dataset tells of its training."""
    from rlgen.checkpoint import RUN, load_checkpoint, load_policy
    from rlgen.data.demonstrations import dataset_folder, load_expert, open_dataset
    from rlgen.run_log import read_config

    if (folder / "checkpoint").is_dir():
        facts, _ = load_checkpoint(folder, RUN)
        config = read_config(folder, TRAINED)
        told = config["agent"]["arguments"]
        trained = {name: facts[name] for name in ("env_id", "env_steps", "versions") if facts[name]}
        trained["seed"] = told["seed"]
        return load_policy(folder), {
            "algorithm": told.get("algo", config["agent"]["kind"].lower()),
            "training_command": config["command"],
            "trained": trained,
        }
    folder, manifest = open_dataset(folder, None if dataset_folder(folder, None) else env_id)
    trained = {name: manifest[name] for name in ("env_id", "versions")}
    return load_expert(folder), {
        "algorithm": manifest["algorithm"],
        "training_command": manifest.get("training_command", manifest["command"]),
        "trained": manifest.get("trained", trained),
    }


def main(arguments: Arguments) -> int:
    """Compose, run, record; the exit code."""
    import numpy as np

    from rlgen.data.demonstrations import check_portable, record_expert
    from rlgen.run_log import command_line

    env_id = environment_id(arguments.env)
    folder = arguments.output / env_id
    if arguments.policy is not None and arguments.reward is not None:
        raise UsageError("--reward has no effect with --policy, which is not trained")
    if arguments.weights_only:
        try:
            check_portable(arguments.run.env_kwargs)
        except ValueError as error:
            raise UsageError(f"--weights-only: {error}") from None
    if (folder / "manifest.json").exists() and not arguments.overwrite:
        raise FileExistsError(f"{folder} holds a dataset; choose another --output, or --overwrite it")
    check_writable(folder.parent)
    source = arguments.policy
    if source is None:
        result = train(arguments, env_id)
        if result.interrupted:
            return result.exit_code
        source = result.folder
    policy, facts = load(source, env_id)
    episodes = record_expert(
        policy,
        env_id,
        folder,
        arguments.n_episodes,
        deterministic=arguments.deterministic,
        seed=arguments.run.seed,
        env_kwargs=arguments.run.env_kwargs,
        command=command_line(),
        keep_every=arguments.keep_every,
        weights_only=arguments.weights_only,
        **facts,
    )
    returns = [episode.total_reward for episode in episodes]
    mean, std = short(float(np.mean(returns))), short(float(np.std(returns)))
    stored = "weights that record " if arguments.weights_only else ""
    print(f"{folder}: {stored}{len(episodes)} episodes, return {mean} +- {std}")
    return 0
