"""Imitate an expert: GAIL on recorded demonstrations, from one command to an evaluated policy.

python scripts/gail.py --env HalfCheetah-v4 --expert expert_data/
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

from rlgen.command import PRESET, RunArguments, RunFlags, default, environment_id
from rlgen.errors import UsageError
from rlgen.ranges import Count


@dataclass(frozen=True)
class Arguments:
    """Imitate an expert by GAIL. The default learns HalfCheetah-v4 from four trajectories, every 20th pair."""

    env: str = "HalfCheetah-v4"
    """Gymnasium id with its version, that of the dataset. module:Id first imports the module that registers it."""
    expert: Path = Path("expert_data")
    """Folder with a dataset for each environment, or the folder of one dataset."""
    n_trajectories: Count = 4
    """Number of expert trajectories to draw. The paper's sizes are 4, 11, 18 and 25."""
    subsample: Annotated[Count | None, default("the paper's for its tasks, else 1")] = None
    """Keep one state-action pair in this many, from a random offset in each trajectory. The paper's are 20 for
    locomotion, 5 or 10 for classic control, and 1, which is every pair, for Reacher."""
    include_failed: bool = False
    """Also draw from the episodes in which the expert failed."""
    algo: Literal["trpo", "ppo"] = "trpo"
    """Policy optimizer."""
    preset: Literal["default", "paper"] = "default"
    """Settings: ours, or those of Ho & Ermon (2016), 25M steps in batches of 50,000."""
    reward_model: Literal["gail", "airl", "fem", "gtal", "constant"] = "gail"
    """Reward model to imitate with: `gail`, `airl`, the linear ones `fem` and `gtal`, or `constant`, a control that
    rewards every step alike."""
    reward: Annotated[Literal["softplus", "log-d", "logit"] | None, default("the task's")] = None
    """Reward computed from the discriminator's output D. `softplus` = -log(1-D) favours long episodes, `log-d` = log D
    short ones, `logit` neither. For AIRL its f takes the place of the logit, and is the default."""
    gradient_penalty_coef: Annotated[float | None, PRESET] = None
    """Weight of the discriminator's gradient penalty."""
    entropy_coef: Annotated[float | None, PRESET] = None
    """Weight of the discriminator's entropy bonus."""
    expert_label: Annotated[float | None, PRESET] = None
    """Label of the expert's pairs. Below 1 it is one-sided label smoothing."""
    input_noise: Annotated[float | None, PRESET] = None
    """Standard deviation of the noise added to the discriminator's normalised inputs in training, on both sides."""
    reward_offset: Annotated[float | None, PRESET] = None
    """Subtracted from each reward. Above 0, surviving is rewarded only where the expert is likely."""
    dropout: Annotated[float | None, PRESET] = None
    """Probability of dropping an input of the discriminator in training."""
    spectral_norm: Annotated[bool | None, PRESET] = None
    """Divide the weights of each of the discriminator's layers by their largest singular value."""
    symlog: Annotated[bool | None, default("only for tasks other than the paper's")] = None
    """Squash the discriminator's normalised inputs by a logarithm, instead of clipping them at ten deviations."""
    run: RunFlags = field(default_factory=RunArguments)


GAIL_FLAGS = ("gradient_penalty_coef", "entropy_coef", "expert_label", "input_noise", "reward_offset")
NETWORK_FLAGS = ("dropout", "spectral_norm", "symlog")
# By reward model, the flags that don't reach it.
USELESS = {"airl": ("dropout", "spectral_norm")} | dict.fromkeys(
    ("fem", "gtal", "constant"), ("reward", *GAIL_FLAGS, *NETWORK_FLAGS)
)


def main(arguments: Arguments) -> int:
    """Compose, run; the exit code."""
    # After parsing, so that --help doesn't wait for torch.
    from rlgen import imitation
    from rlgen.data.demonstrations import load_demonstrations, paper_subsample
    from rlgen.experiment import run

    env_id = environment_id(arguments.env)
    subsample = paper_subsample(env_id) if arguments.subsample is None else arguments.subsample
    demonstrations = load_demonstrations(
        arguments.expert,
        env_id,
        arguments.n_trajectories,
        subsample,
        seed=arguments.run.seed,
        include_failed=arguments.include_failed,
    )
    print(demonstrations, flush=True)
    preset = imitation.settings(arguments.preset, arguments.algo, env_id, arguments.reward_model)
    learner = arguments.run.override(preset.learner)
    told = {name: value for name, value in vars(arguments).items() if value is not None}
    useless = USELESS.get(arguments.reward_model, ())
    reward_name = arguments.reward or imitation.reward_name(preset, arguments.reward_model)
    if wrong := [flag for flag in useless if flag in told]:
        raise UsageError(f"--{wrong[0].replace('_', '-')} has no effect with --reward-model {arguments.reward_model}")
    if "reward_offset" in told and reward_name != "softplus":
        raise UsageError(f"--reward-offset is one of --reward softplus; this reward is {reward_name}")
    of_gail = {name: told[name] for name in GAIL_FLAGS if name in told}
    of_network = {name: told[name] for name in NETWORK_FLAGS if name in told}
    settings = replace(preset, learner=learner, gail=replace(preset.gail, **of_gail), **of_network)
    make = imitation.IMITATORS[arguments.reward_model]
    reward = imitation.REWARDS.get(reward_name)
    algorithm = f"{arguments.reward_model}-{arguments.algo}"

    result = run(
        arguments.run,
        env_id=env_id,
        learner=learner,
        make_reward=lambda envs, policy: make(settings, policy, settings.expert(envs, policy, demonstrations), reward),
        algorithm=algorithm,
        reward=reward_name,
        name=algorithm,
        config={
            "arguments": arguments,
            "settings": settings,
            "demonstrations": demonstrations.sha256,
            "subsample": subsample,
        },
        columns={
            "discriminator_accuracy_policy": "D(policy)",
            "discriminator_accuracy_expert": "D(expert)",
            "kl": "kl",
        },
        expert_return=demonstrations.dataset_return_mean,
        facts={
            "preset": arguments.preset,
            "n_trajectories": arguments.n_trajectories,
            "subsample": subsample,
            "demonstration_returns": demonstrations.episode_returns,
        },
    )
    return result.exit_code
