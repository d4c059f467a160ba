"""Learning from an expert: the reward models to choose from, and the settings that suit a task."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import gymnasium as gym
from torch import Tensor

from rlgen.checkpoint import load_checkpoint
from rlgen.data.demonstrations import Demonstrations
from rlgen.errors import CheckpointError
from rlgen.files import read_json
from rlgen.functional.adversarial import reward_log_d, reward_logit, reward_softplus
from rlgen.nn.discriminator import FLOOR, Discriminator, ShapedDiscriminator
from rlgen.nn.mlp import mlp
from rlgen.nn.normalizer import RunningNormalizer
from rlgen.nn.policy import Policy
from rlgen.optim.ppo import PPOConfig
from rlgen.optim.trpo import TRPOConfig
from rlgen.presets import LONG_PPO_LEARNER, SHORT, TRPO_LEARNER, Learner, shortened
from rlgen.ranges import Checked, Count, Positive, Share, ShareBelowOne
from rlgen.rewards.apprenticeship import FEM, GTAL
from rlgen.rewards.endings import TerminationReward
from rlgen.rewards.gail import GAIL, ConstantDiscriminator, GAILConfig
from rlgen.rewards.recovered import RecoveredReward
from rlgen.run_log import check_unchanged
from rlgen.types import RewardModel, Transitions


@dataclass(frozen=True)
class Expert(Checked):
    """What a reward model learns from.

    Attributes:
        transitions: pairs `[P]`, on the policy's device.
        termination_rate: terminations per step of the episodes that they are from.
    """

    transitions: Transitions
    termination_rate: Share = 0.0


@dataclass(frozen=True)
class Imitation(Checked):
    """A learner beside what it imitates by.

    Attributes:
        learner: the policy's side.
        gail: how a discriminator learns.
        net_arch: its hidden layers.
        spectral_norm: see `rlgen.nn.discriminator.Discriminator`.
        dropout: likewise.
        expert_weight: how many observations the expert's pairs count as in the policy's statistics, before any of its
            own; it makes the first normalisation the expert's.
        ends_with_success: an early end is the aim, so that a step is to cost: log D rather than -log(1-D).
        symlog: see `rlgen.nn.discriminator.Discriminator`.
    """

    learner: Learner
    gail: GAILConfig
    net_arch: tuple[Count, ...] = (100, 100)
    spectral_norm: bool = False
    dropout: ShareBelowOne = 0.0
    expert_weight: Positive = 2000.0
    ends_with_success: bool = False
    symlog: bool = False

    def expert(self, envs: gym.vector.VectorEnv, policy: Policy, demonstrations: Demonstrations) -> Expert:
        """The expert's pairs on the policy's device, whose statistics start with them.

        Args:
            envs: what will be acted in.
            policy: fresh.
            demonstrations: the expert's pairs.

        Raises:
            DemonstrationError: the pairs were recorded in other spaces than those of `envs`.
        """
        device = policy.normalizer.mean.device
        expert = demonstrations.fitted_to(envs).transitions.apply(lambda x: x.to(device))
        policy.normalizer.update(expert.obs, weight=self.expert_weight)
        return Expert(expert, demonstrations.termination_rate)


Reward = Callable[[Tensor], Tensor]
"""From logits to rewards, see `rlgen.functional.adversarial`."""

REWARDS: Mapping[str, Reward] = {"softplus": reward_softplus, "log-d": reward_log_d, "logit": reward_logit}
"""By name; `softplus` is -log(1-D)."""

MakeImitator = Callable[[Imitation, Policy, Expert, Reward | None], RewardModel]
"""From settings, a policy and the expert's pairs on one device; the reward where told rather than the settings'."""


def gail(settings: Imitation, policy: Policy, expert: Expert, reward: Reward | None = None) -> RewardModel:
    """A discriminator of pairs (Ho & Ermon 2016); the settings' offset is subtracted from -log(1-D) alone."""
    discriminator = Discriminator(
        expert.transitions.obs.shape[-1],
        policy.action_space,
        settings.net_arch,
        settings.spectral_norm,
        settings.dropout,
        settings.symlog,
        policy.normalizer,
    )
    reward = reward or REWARDS[reward_name(settings, "gail")]
    pairs = expert.transitions
    return GAIL(discriminator.to(pairs.obs.device), pairs, _config(settings, reward), reward)


def airl(settings: Imitation, policy: Policy, expert: Expert, reward: Reward | None = None) -> RewardModel:
    """A discriminator whose logit is a reward, shaped, less the policy's log-likelihood (Fu et al. 2018).

    By the expert's statistics alone: inputs normalised anew would hold the likelihoods of the policy after its update,
    not of the one that acted. f says nothing of an episode's end, whose reward is in closed form.
    """
    discriminator = ShapedDiscriminator(policy, settings.net_arch, settings.learner.gamma, settings.symlog)
    reward = reward or reward_logit
    config = replace(_config(settings, reward), follow_policy=False)
    pairs, endings = expert.transitions, TerminationReward(expert.termination_rate)
    return GAIL(discriminator.to(pairs.obs.device), pairs, config, reward, endings.to(pairs.obs.device))


def _config(settings: Imitation, reward: Reward) -> GAILConfig:
    """The discriminator's settings; their offset is one of -log(1-D), and no other reward carries it."""
    return settings.gail if reward is reward_softplus else replace(settings.gail, reward_offset=0.0)


def fem(settings: Imitation, policy: Policy, expert: Expert, reward: Reward | None = None) -> RewardModel:
    """Feature expectation matching (Abbeel & Ng 2004)."""
    return FEM(expert.transitions, policy.action_space, settings.ends_with_success)


def gtal(settings: Imitation, policy: Policy, expert: Expert, reward: Reward | None = None) -> RewardModel:
    """Game-theoretic apprenticeship learning (Syed & Schapire 2007)."""
    return GTAL(expert.transitions, policy.action_space, settings.ends_with_success)


def constant(settings: Imitation, policy: Policy, expert: Expert, reward: Reward | None = None) -> RewardModel:
    """The control: D = 1/2 everywhere."""
    return ConstantDiscriminator()


IMITATORS: Mapping[str, MakeImitator] = {"gail": gail, "airl": airl, "fem": fem, "gtal": gtal, "constant": constant}


def reward_name(settings: Imitation, imitator: str) -> str:
    """What an imitator pays unless told: one of `REWARDS`, or what its class alone pays."""
    of_gail = "log-d" if settings.ends_with_success else "softplus"
    return {"gail": of_gail, "airl": "logit", "constant": "constant"}.get(imitator, "linear")


# Noise starts near the expert's: from a deviation of 1 the discriminator tells Ant's pairs by the size of their
# actions. The offset is a little more than standing still earns, which else pays where an episode ends with a fall.
_TRPO_LEARNER = replace(
    TRPO_LEARNER,
    optimizer=TRPOConfig(target_kl=0.02, sub_sampling_factor=4, n_critic_updates=5),
    log_std_init=-1.0,
)
_DEFAULT_GAIL = GAILConfig(reward_offset=0.25)

# Ho & Ermon's settings, as their published code has them: 2 x 100 tanh networks, 50,000 pairs an iteration, one
# full-batch discriminator step of 0.01, no penalty. What stays ours in all presets: the critic is a regression without
# the time, rewards are scaled, a time limit bootstraps, weights start orthogonal, actions are clipped.
_PAPER_LEARNER = Learner(
    TRPOConfig(
        target_kl=0.01,
        cg_max_steps=10,
        cg_damping=0.1,
        line_search_shrinking_factor=0.5,
        sub_sampling_factor=10,
        n_critic_updates=2,
    ),
    n_steps=782,
    total_timesteps=25_000_000,
    gamma=0.995,
    gae_lambda=0.97,
    net_arch=(100, 100),
)
_PAPER_GAIL = GAILConfig(
    learning_rate=0.01,
    n_updates=1,
    batch_size=None,
    gradient_penalty_coef=0.0,
    entropy_coef=0.001,
    follow_policy=True,
)

_SETTINGS = {
    "default": {"trpo": Imitation(_TRPO_LEARNER, _DEFAULT_GAIL), "ppo": Imitation(LONG_PPO_LEARNER, _DEFAULT_GAIL)},
    "paper": {
        "trpo": Imitation(_PAPER_LEARNER, _PAPER_GAIL),
        "ppo": Imitation(replace(_PAPER_LEARNER, optimizer=PPOConfig()), _PAPER_GAIL),
    },
}

# Environment steps after which a task's result was measured (benchmarks/NOTES.md).
_STEPS = {
    "CartPole": 300_000,
    "Acrobot": 500_000,
    "MountainCar": 2_000_000,
    "Reacher": 1_500_000,
    "HalfCheetah": 2_250_000,
    "Hopper": 1_500_000,
    "Walker2d": 1_500_000,
    "Ant": 1_500_000,
    "Humanoid": 4_000_000,
}

# Tasks in which nothing pays but not to fall: there is no standing still to take the pay from.
_STAYING_UP_IS_ALL = ("CartPole", "InvertedPendulum", "InvertedDoublePendulum")

# With 376 observations a discriminator tells the sides apart at once under the usual penalty, whatever the policy does.
_MANY_OBSERVATIONS = ("Humanoid", "HumanoidStandup")

# Tasks whose goal ends the episode.
_ENDS_WITH_SUCCESS = ("MountainCar", "MountainCarContinuous", "Acrobot")


def settings(preset: str, algo: str, env_id: str, imitator: str = "gail") -> Imitation:
    """The settings for an environment: as measured for the paper's tasks; of others 1M steps, in short rollouts.

    Args:
        preset: `default` or `paper`.
        algo: `trpo` or `ppo`.
        env_id: with its version.
        imitator: one of `IMITATORS`.
    """
    task = env_id.split("-")[0]
    found = _SETTINGS[preset][algo]
    if preset == "default" and task in _STEPS:
        found = replace(found, learner=replace(found.learner, total_timesteps=_STEPS[task]))
    if preset == "default" and task not in _STEPS:
        # Nothing may bound a task: where all inputs are cut off no direction leads back to the expert.
        found = replace(found, learner=replace(shortened(found.learner), total_timesteps=SHORT), symlog=True)
    if preset == "default" and task in _MANY_OBSERVATIONS:
        # As noisy as with a deviation of exp(-1) in the actions' own units, of which the space's are 0.4.
        noise = replace(found.learner, log_std_init=found.learner.log_std_init - math.log(0.4))
        found = replace(found, learner=noise, gail=replace(found.gail, gradient_penalty_coef=10.0, reward_offset=0.0))
    if preset == "default" and task in _ENDS_WITH_SUCCESS:
        # Each step costs, over episodes of 100 and more: shorter rollouts and a nearer horizon settle for a detour.
        found = replace(found, learner=replace(found.learner, n_steps=256, gamma=0.999))
    if task in (*_ENDS_WITH_SUCCESS, *_STAYING_UP_IS_ALL):
        found = replace(found, gail=replace(found.gail, reward_offset=0.0))
    if preset == "default" and imitator == "airl":
        # f = log pi_E is as steep as the expert is precise; what learns it slowly leaves log pi to decide alone.
        learner = replace(found.learner, centre_rewards=True)
        found = replace(found, learner=learner, gail=replace(found.gail, learning_rate=3e-3, gradient_penalty_coef=0.1))
    return replace(found, ends_with_success=task in _ENDS_WITH_SUCCESS)


def recovered_reward(run_dir: Path) -> RecoveredReward:
    """The reward g(s) that a run of `rlgen gail --reward-model airl` recovered; nothing in its folder is executed.

    Raises:
        CheckpointError: the folder holds no such run, or a damaged one. The discriminator of GAIL is no such reward: it
            tells the expert from the policies it was trained beside, and ends undecided.
    """
    facts, state = load_checkpoint(run_dir)
    try:
        wanted = {"settings": {"symlog": bool}, "arguments": {"reward_model": str}}
        config = read_json(run_dir / "config.json", wanted, links=False)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{run_dir}: only a run of rlgen gail holds a reward ({error})") from None
    check_unchanged(run_dir, config, facts.get("config", ""))
    if config["arguments"]["reward_model"] != "airl":
        raise CheckpointError(f"{run_dir}: only a run of rlgen gail --reward-model airl holds a reward")

    def part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): x for name, x in state.items() if name.startswith(prefix)}

    try:
        of_g, statistics = (part(state["reward_model"], f"discriminator.{name}.") for name in ("network.g", "of_obs"))
        biases = sorted((name for name in of_g if name.endswith(".bias")), key=lambda name: int(name.split(".")[0]))
        n_obs = len(statistics["mean"])
        spread = RunningNormalizer(n_obs)
        spread.load_state_dict(part(state["policy"], "normalizer."))
        of_obs = RunningNormalizer(n_obs, floor=FLOOR, spread=spread, symlog=config["settings"]["symlog"])
        of_obs.load_state_dict(statistics)
        g = mlp(n_obs, [len(of_g[name]) for name in biases[:-1]], 1, output_gain=1.0)
        g.load_state_dict(of_g)
    except (KeyError, RuntimeError, TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(f"{run_dir}: its checkpoint holds no reward of states ({error})") from None
    return RecoveredReward(of_obs, g, facts.get("observation_space"))
