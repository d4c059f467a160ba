"""Imitate an expert from its demonstrations, by GAIL or another reward model.

python scripts/gail.py --env HalfCheetah-v4 --expert expert_data/
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from rlgen.command import PRESET, TRAJECTORIES, RunArguments, RunFlags, default, environment_id, told
from rlgen.ranges import Count
from rlgen.settings import ADDED


@dataclass(frozen=True)
class Arguments:
    """Imitate an expert by GAIL. The default learns HalfCheetah-v4 from four trajectories."""

    env: str = "HalfCheetah-v4"
    """Gymnasium id with its version, that of the dataset. module:Id first imports the module that registers it."""
    expert: Path = Path("expert_data")
    """Folder with a dataset for each environment, or the folder of one dataset."""
    n_trajectories: Annotated[Count | None, TRAJECTORIES] = None
    """Number of expert trajectories to draw. The paper's sizes are 4, 11, 18 and 25."""
    subsample: Annotated[Count | None, default("every pair in the dataset")] = None
    """Keep one state-action pair in this many, from a random offset in each trajectory. The paper's experiments keep
    one in 20 for locomotion, one in 5 or 10 for classic control."""
    include_failed: bool = False
    """Also draw from the episodes in which the expert failed."""
    algo: Literal["trpo", "ppo", "svg", "sac"] = "trpo"
    """Learner: `trpo` or `ppo`, from fresh rollouts; `sac`, off-policy, with far fewer environment steps and more time
    for each; or `svg`, which is SAC with gradients through a learned model of the dynamics."""
    preset: Literal["default", "paper"] = "default"
    """Settings: ours, or those of Ho & Ermon (2016), 25M steps in batches of 50,000. The paper also keeps fewer pairs:
    see --subsample."""
    reward_model: Literal["gail", "airl", "fem", "gtal", "constant"] = "gail"
    """Reward model to imitate with: `gail`, `airl`, the linear ones `fem` and `gtal`, or `constant`, a control that
    rewards every step alike."""
    codes: Annotated[int | None, default("0, none")] = None
    """Number of modes in the demonstrations, as of several people, styles or directions: the policy is given one of so
    many codes an episode, and learns which mode to imitate by each without being told (InfoGAIL)."""
    continuous_codes: Annotated[int | None, default("0, none")] = None
    """Number of codes from -1 to 1, for styles that vary by degree."""
    code_weight: Annotated[float | None, PRESET] = None
    """Weight of the reward for telling the code by states, beside the imitation's."""
    labels: bool = False
    """With --codes, also learn the codes from the modes that the dataset's manifest tells of some episodes."""
    task_reward_weight: float = field(default=0.0, metadata=ADDED)
    """Weight of the task's own reward, added to the imitation's: do the task in the style of the demonstrations. With
    --state-only True --start-share 0.5 that is AMP (Peng et al. 2021)."""
    start_share: float = field(default=0.0, metadata=ADDED)
    """Share of the training episodes that begin in a state of the demonstrations, rather than as the task has it
    (reference state initialisation). With 1 the policy may not learn to start. For batched MuJoCo tasks."""
    state_only: Annotated[bool | None, PRESET] = None
    """Show the discriminator each state and its successor, rather than state and action."""
    reward: Annotated[Literal["softplus", "log-d", "logit", "feature-matching"] | None, PRESET] = None
    """Reward computed from the discriminator's output D: `logit` = log D - log(1-D), `softplus` = -log(1-D), or
    `log-d` = log D. With --absorbing-states False `softplus` favours long episodes and `log-d` short ones. Or
    `feature-matching`: what moves the policy's mean features, of D's last hidden layer, to the expert's. AIRL's reward
    is its f."""
    absorbing_states: Annotated[bool | None, PRESET] = None
    """Reward the end of an episode by how often, and where, expert and policy terminate, so that the sign of the reward
    doesn't decide how long episodes last."""
    gradient_penalty_coef: Annotated[float | None, PRESET] = None
    """Weight of the discriminator's gradient penalty."""
    entropy_coef: Annotated[float | None, PRESET] = None
    """Weight of the discriminator's entropy bonus."""
    expert_label: Annotated[float | None, PRESET] = None
    """Label of the expert's pairs. Below 1 it is one-sided label smoothing."""
    input_noise: Annotated[float | None, PRESET] = None
    """Standard deviation of the noise added to the discriminator's normalised inputs in training, on both sides."""
    dropout: Annotated[float | None, PRESET] = None
    """Probability of dropping an input of the discriminator in training."""
    spectral_norm: Annotated[bool | None, PRESET] = None
    """Divide the weights of each of the discriminator's layers by their largest singular value."""
    historical_averaging: Annotated[float | None, PRESET] = field(default=None, metadata=ADDED)
    """Weight of the penalty on moving the discriminator's weights away from their mean over training so far."""
    virtual_batch_norm: Annotated[bool | None, PRESET] = field(default=None, metadata=ADDED)
    """Normalise the discriminator's hidden layers by their statistics over a fixed batch of the expert's pairs."""
    minibatch_group: Annotated[int | None, default("1, none")] = field(default=None, metadata=ADDED)
    """Number of consecutive pairs of which the discriminator also sees how alike they are (minibatch discrimination).
    It may then tell the two sides by how pairs were sampled alone."""
    information_limit: Annotated[float | None, default("no limit")] = field(default=None, metadata=ADDED)
    """Nats that the discriminator may know of a pair on average, through a variational bottleneck (VAIL). 0.5
    is usual."""
    symlog: Annotated[bool | None, PRESET] = None
    """Squash the discriminator's normalised inputs by a logarithm, rather than clip them at ten standard deviations."""
    run: RunFlags = field(default_factory=RunArguments)


FLAGS = (
    "codes",
    "continuous_codes",
    "code_weight",
    "state_only",
    "reward",
    "absorbing_states",
    "gradient_penalty_coef",
    "entropy_coef",
    "expert_label",
    "input_noise",
    "dropout",
    "spectral_norm",
    "historical_averaging",
    "virtual_batch_norm",
    "minibatch_group",
    "information_limit",
    "symlog",
)
# A share of the discriminator loss's rise in the last fifth of training; see `rlgen.functional.adversarial.late_gain`.
STILL_LEARNING = 0.1


def main(arguments: Arguments) -> int:
    """Compose, run; the exit code."""
    # After parsing, so that --help doesn't wait for torch.
    from rlgen.agents import GAIL
    from rlgen.functional.adversarial import late_gain
    from rlgen.run_log import read_metrics

    env_id = environment_id(arguments.env)
    agent = GAIL(
        env_id,
        arguments.expert,
        n_trajectories=arguments.n_trajectories,
        subsample=arguments.subsample,
        include_failed=arguments.include_failed,
        reward_model=arguments.reward_model,
        algo=arguments.algo,
        preset=arguments.preset,
        labels=arguments.labels,
        task_reward_weight=arguments.task_reward_weight,
        start_share=arguments.start_share,
        **arguments.run.of_agent(env_id),
        **told({name: getattr(arguments, name) for name in FLAGS}),
    )
    print(agent.derived(), flush=True)
    result = agent.run(arguments.run, arguments)
    gain = late_gain(read_metrics(result.folder).get("discriminator_loss", ()))
    if gain is not None and gain < 0 and not result.interrupted:
        print("discriminator loss: it no longer rises; more steps would hardly help")
    elif gain is not None and not result.interrupted:
        advice = "train longer (--total-timesteps)" if gain >= STILL_LEARNING else "more steps would hardly help"
        print(f"discriminator loss: {gain:.0%} of its rise came in the last fifth of the steps; {advice}")
    return result.exit_code
