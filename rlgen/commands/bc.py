"""Clone an expert's behaviour: maximum likelihood on recorded demonstrations, without an environment.

python scripts/bc.py --env HalfCheetah-v4 --expert expert_data/
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from rlgen.command import TRAJECTORIES, CommandOptions, Steps, default, environment_id, told
from rlgen.ranges import Count


@dataclass(frozen=True)
class CloningArguments(CommandOptions):
    """Flags of the command."""

    of_steps: ClassVar[str] = "gradient_steps"

    gradient_steps: Annotated[Steps, default("20000")] = None
    """Number of gradient steps."""
    learning_rate: Annotated[float | None, default("0.001")] = None
    """Step size of Adam."""
    batch_size: Annotated[int | None, default("128")] = None
    """State-action pairs in a minibatch."""
    validation_share: Annotated[float | None, default("0.3")] = None
    """Share of the pairs that is held out. The policy with their highest likelihood is the result, or the last one with
    0."""
    weight_decay: Annotated[float | None, default("0")] = None
    """Weight of the L2 penalty of the policy's parameters."""
    net_arch: Annotated[tuple[int, ...] | None, default("100 100")] = None
    """Hidden layers of the policy, such as 64 64."""
    log_std_init: Annotated[float | None, default("0")] = None
    """Initial log standard deviation of a Gaussian policy, in units of the action space. It is fitted too."""


@dataclass(frozen=True)
class Arguments:
    """Fit a policy to an expert's state-action pairs; evaluate it where there is an environment."""

    env: Annotated[str | None, default("the dataset's, if --expert is the folder of one")] = None
    """Gymnasium id with its version, that of the dataset. module:Id first imports the module that registers it. Without
    a registered environment the policy is fitted and not evaluated."""
    expert: Path = Path("expert_data")
    """Folder with a dataset for each environment, or the folder of one dataset."""
    n_trajectories: Annotated[Count | None, TRAJECTORIES] = None
    """Number of expert trajectories to draw."""
    subsample: Annotated[Count | None, default("every pair in the dataset")] = None
    """Keep one state-action pair in this many, from a random offset in each trajectory."""
    include_failed: bool = False
    """Also draw from the episodes in which the expert failed."""
    run: Annotated[CloningArguments, tyro.conf.OmitArgPrefixes] = field(default_factory=CloningArguments)


FLAGS = ("learning_rate", "batch_size", "validation_share", "weight_decay", "net_arch", "log_std_init")


def main(arguments: Arguments) -> int:
    """Compose, run; the exit code."""
    # After parsing, so that --help doesn't wait for torch.
    import gymnasium as gym

    from rlgen.agents import BC
    from rlgen.agents.bc import recorded_in
    from rlgen.data.demonstrations import dataset_folder

    run, env_id, expert = arguments.run, arguments.env, arguments.expert
    if env_id is not None and (folder := dataset_folder(expert, env_id)) is not None and env_id not in gym.registry:
        env_id, expert = None, folder
    elif env_id is not None:
        env_id = environment_id(env_id)
    agent = BC(
        env_id,
        expert,
        n_trajectories=arguments.n_trajectories,
        subsample=arguments.subsample,
        include_failed=arguments.include_failed,
        **run.of_agent(env_id or recorded_in(expert)),
        **told({name: getattr(run, name) for name in FLAGS} | {"n_steps": run.gradient_steps}),
    )
    print(agent.demonstrations, flush=True)
    return agent.run(run, arguments).exit_code
