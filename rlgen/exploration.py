"""Exploration: VIME and the bonuses it is compared with, and the learners beside them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import resources

import gymnasium as gym
import torch

from rlgen.data.replay import ReplayPool
from rlgen.envs.codes import CodedEnv, Codes
from rlgen.errors import UsageError
from rlgen.nn.bayesian import BayesianNetwork, FactorisedGaussian
from rlgen.nn.dynamics import DynamicsCoder
from rlgen.nn.mlp import mlp
from rlgen.nn.random_features import RandomFeatures
from rlgen.optim.ppo import PPOConfig
from rlgen.optim.trpo import TRPOConfig
from rlgen.presets import TASK_SVG_LEARNER, Learner, LearnerSettings
from rlgen.ranges import Count, NotNegative
from rlgen.rewards.combine import MedianScaled, WeightedSum
from rlgen.rewards.disagreement import Disagreement
from rlgen.rewards.environment import EnvironmentReward
from rlgen.rewards.infogail import CodePosterior, PosteriorConfig
from rlgen.rewards.noise import RewardNoise
from rlgen.rewards.pool_bonus import PoolConfig
from rlgen.rewards.prediction_error import PredictionError
from rlgen.rewards.vime import VIME, VIMEConfig
from rlgen.settings import SettingsFile
from rlgen.spaces import flat_box
from rlgen.train import Iteration
from rlgen.types import RewardModel


@dataclass(frozen=True)
class BonusConfig(PoolConfig):
    """How a bonus learns and what it weighs.

    Attributes:
        eta: weight of the bonus beside the task's reward.
        net_arch: hidden layers of the network behind it.
        pool_size: transitions that are kept to learn from.
    """

    eta: float = 1e-3
    net_arch: tuple[Count, ...] = (32,)
    pool_size: Count = 100_000


@dataclass(frozen=True)
class Exploration(LearnerSettings):
    """A learner beside the bonus that it explores by.

    Attributes:
        bonus: how it learns, and its weight.
        codes: the skills, of the bonus `skills`.
        task_weight: weight of the task's reward; 0 for skills.
    """

    bonus: BonusConfig
    codes: Codes = field(default_factory=Codes)
    task_weight: NotNegative = 1.0


MakeBonus = Callable[[gym.vector.VectorEnv, BonusConfig], RewardModel]


def vime(envs: gym.vector.VectorEnv, config: BonusConfig) -> RewardModel:
    """A calibrated network: the KL weighs as much as the data's number tells, and the likelihood's noise is learned."""
    coder = _dynamics(envs)
    network = BayesianNetwork(coder.n_inputs, coder.n_targets, config.net_arch)
    learning = VIMEConfig(config.learning_rate, config.n_updates, config.batch_size)
    return MedianScaled(VIME(network, coder, _pool(envs, config), learning))


def vime_reference(envs: gym.vector.VectorEnv, config: BonusConfig) -> RewardModel:
    """The authors' network: a fixed wide likelihood, 50 as the number of data, unbounded ratios.

    What still differs from their code: the curvature of the means is the KL's, which theirs misses; the median of the
    iteration itself doesn't enter its own scale; inputs and targets are clipped at 10 deviations; actions are clipped;
    gains are not cut at 1,000 before scaling; learning starts with the first rollout.
    """
    coder = _dynamics(envs, predict_change=False)
    network = BayesianNetwork(
        coder.n_inputs,
        coder.n_targets,
        config.net_arch,
        partial(FactorisedGaussian, prior_std=0.5, mean_std=1.0, std=0.5),
        likelihood_std=5.0,
        learn_likelihood_std=False,
        analytic_output=False,
        shared_noise=True,
        n_samples=10,
    )
    learning = VIMEConfig(config.learning_rate, config.n_updates, config.batch_size, n_data=50)
    return MedianScaled(VIME(network, coder, _pool(envs, config), learning), bounded=False)


def prediction_error(envs: gym.vector.VectorEnv, config: BonusConfig) -> RewardModel:
    """The dynamics' prediction error (L2)."""
    coder = _dynamics(envs)
    network = mlp(coder.n_inputs, config.net_arch, coder.n_targets, output_gain=1.0)
    return MedianScaled(PredictionError(network, coder, _pool(envs, config), config))


def rnd(envs: gym.vector.VectorEnv, config: BonusConfig) -> RewardModel:
    """Random Network Distillation; its networks have 64 units a layer."""
    coder = RandomFeatures(_observation_size(envs))
    network = mlp(coder.n_inputs, (64, 64), coder.n_targets, output_gain=1.0)
    return MedianScaled(PredictionError(network, coder, _pool(envs, config), config))


def disagreement(envs: gym.vector.VectorEnv, config: BonusConfig, n_members: int = 5) -> RewardModel:
    """An ensemble, each member with minibatches of its own."""
    coder = _dynamics(envs)
    members = [mlp(coder.n_inputs, config.net_arch, coder.n_targets, output_gain=1.0) for _ in range(n_members)]
    return MedianScaled(Disagreement(members, coder, _pool(envs, config), config))


def skills(envs: gym.vector.VectorEnv, config: BonusConfig) -> RewardModel:
    """Skills that can be told apart (DIAYN, Eysenbach et al. 2018, https://arxiv.org/abs/1802.06070)."""
    if not isinstance(envs, CodedEnv):
        raise UsageError("bonus skills needs codes: at least 2, or a continuous one")
    learning = PosteriorConfig(
        config.learning_rate, config.n_updates, config.batch_size, config.net_arch, config.pool_size
    )
    return CodePosterior(envs.codes, flat_box(envs.single_observation_space), envs.single_action_space, learning)


BONUSES: dict[str, MakeBonus | None] = {
    "vime": vime,
    "vime-reference": vime_reference,
    "l2": prediction_error,
    "rnd": rnd,
    "disagreement": disagreement,
    "skills": skills,
    "noise": lambda envs, config: RewardNoise(),
    "none": None,
}


_OF_SKILLS = ("codes", "continuous_codes")
UNUSED: Mapping[str, tuple[str, ...]] = {
    **{bonus: _OF_SKILLS for bonus in BONUSES if bonus != "skills"},
    "none": ("eta", "n_updates", *_OF_SKILLS),
    "noise": ("n_updates", *_OF_SKILLS),
}
"""Settings without effect, by bonus."""


def reward_model(
    envs: gym.vector.VectorEnv,
    device: torch.device | str,
    make_bonus: MakeBonus | None,
    config: BonusConfig,
    task_weight: float = 1.0,
) -> WeightedSum:
    """The task's reward (`env`) with a weighted bonus (`bonus`), on a device; None adds none."""
    terms: dict[str, tuple[RewardModel, float]] = {"env": (EnvironmentReward(), task_weight)}
    if make_bonus is not None:
        terms["bonus"] = (make_bonus(envs, config), config.eta)
    # Made on the CPU and moved, so that a seed's first weights are the same on every device.
    return WeightedSum(terms).to(device)


class Milestones:
    """When training first met its task's reward, and half of the return that is known to be reachable.

    That return is the environment's registered `reward_threshold`; without a positive one the second stays unmet.

    Attributes:
        facts: environment steps and seconds of each, by name; None where it isn't met.
    """

    def __init__(self, env_id: str) -> None:
        spec = gym.registry.get(env_id)  # none of a function's environments
        threshold = None if spec is None else spec.reward_threshold
        self.half = threshold / 2 if threshold is not None and threshold > 0 else math.inf
        names = ("first_reward_steps", "first_reward_seconds", "half_return_steps", "half_return_seconds")
        self.facts: dict[str, float | None] = dict.fromkeys(names)

    def __call__(self, iteration: Iteration) -> None:
        """Look at one iteration: its largest reward, and the mean return of the episodes that ended in it."""
        returns = iteration.episode_returns
        met = {
            "first_reward": iteration.metrics["env_reward_max"] > 0,
            "half_return": bool(returns) and sum(returns) / len(returns) >= self.half,
        }
        for name, now in met.items():
            if now and self.facts[f"{name}_steps"] is None:
                self.facts[f"{name}_steps"] = iteration.env_steps
                self.facts[f"{name}_seconds"] = round(iteration.wall_seconds, 2)


_LEARNER = Learner(
    TRPOConfig(target_kl=0.01, batch_size=256),
    n_steps=100,
    n_envs=50,
    total_timesteps=400_000,
    gae_lambda=0.97,
    net_arch=(32,),
    # A sparse reward is 0 nearly everywhere, which is where the critic starts.
    centre_rewards=False,
)
_OPTIMIZERS = {"trpo": _LEARNER.optimizer, "ppo": PPOConfig(batch_size=500, n_epochs=10)}
_SVG = replace(TASK_SVG_LEARNER, net_arch=(64, 64), total_timesteps=100_000, updates_per_step=0.25)
_OFF_POLICY = {"svg": _SVG, "sac": replace(_SVG, optimizer=replace(_SVG.optimizer, horizon=0))}


# By bonus: how the network learns. The reference is the authors' code; five members share a minibatch.
_LEARNING = {
    "vime-reference": BonusConfig(learning_rate=1e-4, n_updates=500, batch_size=10),
    "disagreement": BonusConfig(batch_size=2500),
    "skills": BonusConfig(
        learning_rate=1e-3, n_updates=40, batch_size=256, eta=1.0, net_arch=(64, 64), pool_size=20_000
    ),
}
# What learns from the bonus alone, and its codes.
_WITHOUT_TASK = {"skills": Codes(8)}


_SHIPPED = SettingsFile("settings.toml", (resources.files("rlgen.envs") / "settings.toml").read_text("utf-8"))


def settings(algo: str, env_id: str, bonus: str) -> Exploration:
    """The settings for an environment; `algo` one of `rlgen.presets.LEARNERS`, `bonus` one of `BONUSES`."""
    bonus_config = _LEARNING.get(bonus, BonusConfig())
    learner = _OFF_POLICY[algo] if algo in _OFF_POLICY else replace(_LEARNER, optimizer=_OPTIMIZERS[algo])
    if bonus in _WITHOUT_TASK:
        # Its reward is paid in every state, and rises as it is learned.
        return Exploration(replace(learner, centre_rewards=True), bonus_config, _WITHOUT_TASK[bonus], task_weight=0.0)
    told = Exploration(learner, bonus_config)
    return told if algo in _OFF_POLICY else _SHIPPED.apply(told, env_id, algo)


def _pool(envs: gym.vector.VectorEnv, config: BonusConfig) -> ReplayPool:
    return ReplayPool(config.pool_size, envs.single_observation_space, envs.single_action_space)


def _observation_size(envs: gym.vector.VectorEnv) -> int:
    return flat_box(envs.single_observation_space).shape[0]


def _dynamics(envs: gym.vector.VectorEnv, predict_change: bool = True) -> DynamicsCoder:
    return DynamicsCoder(_observation_size(envs), envs.single_action_space, predict_change)
