"""Sets of settings that were measured to work, and the learner made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import gymnasium as gym
import torch
from torch import Tensor

from rlgen.data.demonstrations import Demonstrations
from rlgen.errors import UsageError
from rlgen.functional.adversarial import reward_softplus
from rlgen.nn.discriminator import Discriminator
from rlgen.nn.policy import Critic, Policy
from rlgen.optim.ppo import PPO, PPOConfig
from rlgen.optim.trpo import TRPO, TRPOConfig
from rlgen.rewards.gail import GAIL, ConstantDiscriminator, GAILConfig
from rlgen.types import PolicyOptimizer, RewardModel


@dataclass(frozen=True)
class Learner:
    """Everything that a policy optimizer needs to be told.

    Attributes:
        optimizer: which one, by the type of its settings.
        n_steps: steps per environment and iteration.
        n_envs: environments side by side.
        total_timesteps: environment steps in all.
        gamma: discount.
        gae_lambda: GAE's lambda.
        net_arch: hidden layers of policy and critic each.
        log_std_init: initial log standard deviation of a Gaussian policy.

    Raises:
        UsageError: a count is not positive, or gamma or gae_lambda outside [0, 1].
    """

    optimizer: TRPOConfig | PPOConfig
    n_steps: int
    n_envs: int = 64
    total_timesteps: int = 3_000_000
    gamma: float = 0.99
    gae_lambda: float = 0.95
    net_arch: tuple[int, ...] = (64, 64)
    log_std_init: float = 0.0

    def __post_init__(self) -> None:
        for name in ("n_steps", "n_envs", "total_timesteps"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1; got {getattr(self, name)}")
        for name in ("gamma", "gae_lambda"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} must be in [0, 1]; got {getattr(self, name)}")

    def override(self, n_envs: int | None, n_steps: int | None, total_timesteps: int | None) -> Learner:
        """The same with what a command line tells; None leaves a setting."""
        return replace(
            self,
            n_envs=self.n_envs if n_envs is None else n_envs,
            n_steps=self.n_steps if n_steps is None else n_steps,
            total_timesteps=self.total_timesteps if total_timesteps is None else total_timesteps,
        )

    def build(
        self, envs: gym.vector.VectorEnv, device: torch.device | str = "cpu"
    ) -> tuple[Policy, Critic, PolicyOptimizer]:
        """Fresh networks for the spaces of `envs`, on a device, and their optimizer."""
        policy = Policy(envs.single_observation_space, envs.single_action_space, self.net_arch, self.log_std_init)
        critic = Critic(policy.normalizer, self.net_arch)
        policy.to(device)
        critic.to(device)
        match self.optimizer:
            case TRPOConfig():
                return policy, critic, TRPO(policy, critic, self.optimizer)
            case PPOConfig():
                return policy, critic, PPO(policy, critic, self.optimizer)


@dataclass(frozen=True)
class Imitation:
    """A learner beside a discriminator.

    Attributes:
        learner: the policy's side.
        gail: how the discriminator learns.
        net_arch: the discriminator's hidden layers.
        spectral_norm: see `rlgen.nn.discriminator.Discriminator`.
        dropout: likewise.
        expert_weight: how many observations the expert's pairs count as in the policy's statistics, before any of its
            own; it makes the first normalisation the expert's.
    """

    learner: Learner
    gail: GAILConfig
    net_arch: tuple[int, ...] = (100, 100)
    spectral_norm: bool = False
    dropout: float = 0.0
    expert_weight: float = 2000.0

    def build(
        self,
        envs: gym.vector.VectorEnv,
        policy: Policy,
        demonstrations: Demonstrations,
        reward: Callable[[Tensor], Tensor] | None = reward_softplus,
    ) -> RewardModel:
        """A fresh reward model on the policy's device.

        Args:
            envs: what will be acted in.
            policy: its statistics start with the expert's observations.
            demonstrations: the expert's pairs.
            reward: from logits to rewards; None for the control without a discriminator.

        Raises:
            DemonstrationError: the pairs were recorded in other spaces than those of `envs`.
        """
        demonstrations.check(envs)
        device = policy.normalizer.mean.device
        expert = demonstrations.transitions.apply(lambda x: x.to(device))
        policy.normalizer.update(expert.obs, weight=self.expert_weight)
        if reward is None:
            return ConstantDiscriminator()
        discriminator = Discriminator(
            expert.obs.shape[-1], policy.action_space, self.net_arch, self.spectral_norm, self.dropout
        )
        return GAIL(discriminator.to(device), expert, self.gail, reward)


TRPO_LEARNER = Learner(TRPOConfig(), n_steps=64)
PPO_LEARNER = Learner(PPOConfig(batch_size=256), n_steps=32, log_std_init=-0.5)
# Fewer and larger steps, for long training: the shipped HalfCheetah expert's.
_LONG_PPO_LEARNER = Learner(PPOConfig(), n_steps=128, log_std_init=-0.5)

LEARNERS = {"trpo": TRPO_LEARNER, "ppo": PPO_LEARNER}

# An expert is to act well stochastically too, so its noise starts small and its last steps are short.
EXPERT = {
    "trpo": replace(TRPO_LEARNER, optimizer=TRPOConfig(final_share=0.02), log_std_init=-1.0),
    "ppo": _LONG_PPO_LEARNER,
}

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

_GAIL = {
    "default": {
        "trpo": Imitation(
            replace(TRPO_LEARNER, optimizer=TRPOConfig(target_kl=0.02, sub_sampling_factor=4, n_critic_updates=5)),
            GAILConfig(),
        ),
        "ppo": Imitation(_LONG_PPO_LEARNER, GAILConfig()),
    },
    "paper": {
        "trpo": Imitation(_PAPER_LEARNER, _PAPER_GAIL),
        "ppo": Imitation(replace(_PAPER_LEARNER, optimizer=PPOConfig()), _PAPER_GAIL),
    },
}

# What was measured to suit a task (benchmarks/NOTES.md): the weight of the gradient penalty, the reward's offset and
# environment steps. Where an episode ends with a fall, a weight that suits HalfCheetah makes the reward so even that
# standing still pays best; the offset takes away what standing earns.
_MEASURED = {"HalfCheetah": (3.0, 0.0, 2_250_000), "Hopper": (0.1, 0.1, 1_500_000), "Walker2d": (0.1, 0.1, 1_500_000)}


def imitation(preset: str, algo: str, env_id: str) -> Imitation:
    """The settings of GAIL for an environment.

    Args:
        preset: `default` or `paper`.
        algo: `trpo` or `ppo`.
        env_id: with its version.
    """
    settings = _GAIL[preset][algo]
    measured = _MEASURED.get(env_id.split("-")[0])
    if preset == "paper" or measured is None:
        return settings
    coefficient, offset, total_timesteps = measured
    return replace(
        settings,
        learner=replace(settings.learner, total_timesteps=total_timesteps),
        gail=replace(settings.gail, gradient_penalty_coef=coefficient, reward_offset=offset),
    )
