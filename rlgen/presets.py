"""A learner and its settings that were measured to work."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import gymnasium as gym
import numpy as np
import torch

from rlgen.data.collect import collector_of
from rlgen.data.replay import ReplayPool
from rlgen.errors import UsageError
from rlgen.nn.normalizer import RewardCentre, RewardScaler
from rlgen.nn.policy import Critic, Policy
from rlgen.off_policy import OffPolicyTraining
from rlgen.optim.ppo import PPO, PPOConfig
from rlgen.optim.svg import SVG, SVGConfig
from rlgen.optim.trpo import TRPO, TRPOConfig
from rlgen.ranges import Checked, Count, Positive, Seed, Share, check
from rlgen.settings import lines
from rlgen.train import Training
from rlgen.types import PolicyOptimizer, RewardModel, Transitions


@dataclass(frozen=True)
class _Overridable(Checked):
    def override(
        self, n_envs: int | None = None, n_steps: int | None = None, total_timesteps: int | None = None
    ) -> Self:
        """The same with what a command line tells; None leaves a setting."""
        told = {"n_envs": n_envs, "n_steps": n_steps, "total_timesteps": total_timesteps}
        return replace(self, **{name: value for name, value in told.items() if value is not None})


@dataclass(frozen=True)
class Learner(_Overridable):
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
        centre_rewards: subtract the rewards' mean; see `rlgen.nn.normalizer.RewardScaler`.

    Raises:
        UsageError: a number outside its range, or a batch of too few rows.
    """

    optimizer: TRPOConfig | PPOConfig
    n_steps: Count
    n_envs: Count = 64
    total_timesteps: Count = 3_000_000
    gamma: Share = 0.99
    gae_lambda: Share = 0.95
    net_arch: tuple[Count, ...] = (64, 64)
    log_std_init: float = 0.0
    centre_rewards: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.centre_rewards and self.gamma == 1:
            raise UsageError("gamma must be below 1 with centre_rewards (centre_rewards=False takes 1); got 1")
        rows = self.n_envs * self.n_steps
        share = self.optimizer.sub_sampling_factor if isinstance(self.optimizer, TRPOConfig) else 1
        if rows < 2 * share:
            of_share = "" if share == 1 else f" with sub_sampling_factor {share}"
            raise UsageError(f"n_envs * n_steps must be at least {2 * share} rows{of_share}; got {rows}")

    def build(
        self, envs: gym.vector.VectorEnv, device: torch.device | str = "cpu", initial: Policy | None = None
    ) -> tuple[Policy, Critic, PolicyOptimizer]:
        """Networks for the spaces of `envs`, on a device, and their optimizer; fresh ones but for an initial policy."""
        policy = copy.deepcopy(initial) or Policy(
            envs.single_observation_space, envs.single_action_space, self.net_arch, self.log_std_init
        )
        critic = Critic(policy.normalizer, self.net_arch)
        policy.to(device)
        critic.to(device)
        match self.optimizer:
            case TRPOConfig():
                return policy, critic, TRPO(policy, critic, self.optimizer)
            case PPOConfig():
                return policy, critic, PPO(policy, critic, self.optimizer)

    def training(
        self,
        envs: gym.vector.VectorEnv,
        make_reward: Callable[[gym.vector.VectorEnv, Policy], RewardModel],
        seed: int = 0,
        device: torch.device | str = "cpu",
        initial: Policy | None = None,
        critic_warmup: int = 0,
    ) -> Training:
        """Training in `envs`; iterate it.

        Args:
            envs: same-step autoreset.
            make_reward: from environments and policy (on its device) to the reward model.
            seed: of networks, actions and minibatches; the caller's random numbers stay as they are.
            device: of the networks.
            initial: the policy to start from, copied (default: a fresh one).
            critic_warmup: see `rlgen.train.Training`; only of an initial policy.
        """
        check("seed", seed, Seed)
        device = torch.device(device)
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            policy, critic, optimizer = self.build(envs, device, initial)
            with contextlib.nullcontext() if initial is None else policy.same_actions():
                reward_model = make_reward(envs, policy)
            return Training(
                collector_of(envs, self.n_steps, device),
                policy,
                critic,
                optimizer,
                reward_model,
                total_timesteps=self.total_timesteps,
                gamma=self.gamma,
                gae_lambda=self.gae_lambda,
                rng=np.random.default_rng(seed),
                centre_rewards=self.centre_rewards,
                critic_warmup=critic_warmup,
            )


@dataclass(frozen=True)
class OffPolicyLearner(_Overridable):
    """Everything that an off-policy learner needs to be told.

    Attributes:
        optimizer: its own settings.
        n_steps: steps per environment and iteration.
        n_envs: environments side by side.
        total_timesteps: environment steps in all.
        gamma: discount.
        net_arch: hidden layers of policy and critics each.
        scale_rewards: divide them by their return's deviation, see `rlgen.off_policy.OffPolicyTraining`.
        centre_rewards: see `rlgen.nn.normalizer.RewardCentre`.
        learning_starts: environment steps with uniform actions before it learns.
        updates_per_step: of policy and critics, for each environment step.
        buffer_size: transitions that are kept, no more than `total_timesteps`; the oldest make room.
        reward_batch: see `rlgen.off_policy.OffPolicyTraining`, as for the next two.
        n_recent: see there.
        examples_share: see there.

    Raises:
        UsageError: a number outside its range.
    """

    optimizer: SVGConfig
    n_steps: Count = 10
    n_envs: Count = 10
    total_timesteps: Count = 100_000
    gamma: Share = 0.99
    net_arch: tuple[Count, ...] = (128, 128)
    scale_rewards: bool = True
    centre_rewards: bool = True
    learning_starts: Count = 2_000
    updates_per_step: Positive = 1.0
    buffer_size: Count = 1_000_000
    reward_batch: Count | None = None
    n_recent: Count = 10_000
    examples_share: Share = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.centre_rewards and self.gamma == 1:
            raise UsageError("gamma must be below 1 with centre_rewards (centre_rewards=False takes 1); got 1")
        if self.n_envs * self.n_steps * self.updates_per_step < 1:
            raise UsageError("n_envs * n_steps * updates_per_step must be at least 1: an update an iteration")

    def training(
        self,
        envs: gym.vector.VectorEnv,
        make_reward: Callable[[gym.vector.VectorEnv, Policy], RewardModel],
        seed: int = 0,
        device: torch.device | str = "cpu",
        examples: Transitions | None = None,
    ) -> OffPolicyTraining:
        """Training in `envs`; iterate it. Arguments are those of `Learner.training`, beside

        Args:
            examples: transitions of an expert, on the device (default: none).
        """
        check("seed", seed, Seed)
        if self.learning_starts >= self.total_timesteps:
            told = f"learning_starts is {self.learning_starts:,} and total_timesteps {self.total_timesteps:,}"
            warnings.warn(f"nothing will be learned: {told}", stacklevel=2)
        device = torch.device(device)
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            policy = Policy(envs.single_observation_space, envs.single_action_space, self.net_arch, squash=True)
            policy.to(device)
            learner = SVG(policy, self.optimizer, self.gamma, self.net_arch)
            reward_model = make_reward(envs, policy)
            n_rows = self.n_envs * self.n_steps
            capacity = min(self.buffer_size, n_rows * -(-self.total_timesteps // n_rows))
            return OffPolicyTraining(
                collector_of(envs, self.n_steps, device),
                policy,
                learner,
                reward_model,
                ReplayPool(capacity, envs.single_observation_space, envs.single_action_space).to(device),
                total_timesteps=self.total_timesteps,
                rng=np.random.default_rng(seed),
                n_updates=round(n_rows * self.updates_per_step),
                learning_starts=self.learning_starts,
                scaler=RewardScaler(envs.num_envs, self.gamma).to(device) if self.scale_rewards else None,
                centre=RewardCentre(self.gamma).to(device) if self.centre_rewards else None,
                reward_batch=self.reward_batch,
                n_recent=self.n_recent,
                examples=examples,
                examples_share=self.examples_share,
            )


@dataclass(frozen=True)
class Settings(Checked):
    """The settings of an agent; printed, a line each."""

    def __str__(self) -> str:
        return "\n".join(lines(self))

    @property
    def total_timesteps(self) -> int:
        """Steps in all."""
        raise NotImplementedError

    def for_steps(self, total_timesteps: int | None) -> Self:
        """The same for another number of steps in all; None leaves it."""
        raise NotImplementedError


@dataclass(frozen=True)
class LearnerSettings(Settings):
    """The settings of an agent that learns from rewards: its learner's, and what its reward model needs beside them.

    Attributes:
        learner: the policy's side.
    """

    learner: Learner | OffPolicyLearner

    @property
    def total_timesteps(self) -> int:
        """Environment steps in all."""
        return self.learner.total_timesteps

    def for_steps(self, total_timesteps: int | None) -> Self:
        """The same for another number of environment steps in all; None leaves it."""
        return replace(self, learner=self.learner.override(total_timesteps=total_timesteps))


TRPO_LEARNER = Learner(TRPOConfig(), n_steps=64)
PPO_LEARNER = Learner(PPOConfig(batch_size=256), n_steps=32, log_std_init=-0.5)
# Fewer and larger steps, for long training: the shipped HalfCheetah expert's.
LONG_PPO_LEARNER = Learner(PPOConfig(), n_steps=128, log_std_init=-0.5)

SVG_LEARNER = OffPolicyLearner(SVGConfig())
SAC_LEARNER = OffPolicyLearner(SVGConfig(horizon=0))

LEARNERS: dict[str, Learner | OffPolicyLearner] = {
    "trpo": TRPO_LEARNER,
    "ppo": PPO_LEARNER,
    "svg": SVG_LEARNER,
    "sac": SAC_LEARNER,
}


def shortened(learner: Learner) -> Learner:
    """For a training of less than a million steps: rollouts of 2,048 steps, minibatches as SB3's PPO and TRPO have.

    With the rollouts and minibatches of long trainings there are too few updates in it: on a double integrator 200k
    steps left policies worse than random actions, and these learn the task (benchmarks/NOTES.md).
    """
    batch_size = 128 if isinstance(learner.optimizer, TRPOConfig) else 64
    return replace(learner, n_envs=16, n_steps=128, optimizer=replace(learner.optimizer, batch_size=batch_size))


SHORT = 1_000_000
"""Environment steps below which a training is better `shortened`."""

# The task's rewards have their own scale and need a longer horizon than an imitator's, and more noise.
TASK_SVG_LEARNER = replace(
    SVG_LEARNER,
    optimizer=SVGConfig(batch_size=256, entropy_target=-1.0, tau=0.005, alpha=0.2, final_share=0.1),
    centre_rewards=False,
    total_timesteps=300_000,
)

# An expert is to act well stochastically too, so its noise starts small and its last steps are short.
EXPERT: dict[str, Learner | OffPolicyLearner] = {
    "trpo": replace(TRPO_LEARNER, optimizer=TRPOConfig(final_share=0.02), log_std_init=-1.0),
    "ppo": LONG_PPO_LEARNER,
    "svg": TASK_SVG_LEARNER,
    "sac": replace(TASK_SVG_LEARNER, optimizer=replace(TASK_SVG_LEARNER.optimizer, horizon=0)),
}
