"""Exploration: VIME and the bonuses it is compared with, and the learners beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import gymnasium as gym
import torch

from rlgen.data.replay import ReplayPool
from rlgen.nn.bayesian import BayesianNetwork, FactorisedGaussian
from rlgen.nn.dynamics import DynamicsCoder
from rlgen.nn.mlp import mlp
from rlgen.nn.random_features import RandomFeatures
from rlgen.optim.ppo import PPOConfig
from rlgen.optim.trpo import TRPOConfig
from rlgen.presets import Learner
from rlgen.rewards.combine import MedianScaled, WeightedSum
from rlgen.rewards.disagreement import Disagreement
from rlgen.rewards.environment import EnvironmentReward
from rlgen.rewards.noise import RewardNoise
from rlgen.rewards.pool_bonus import PoolConfig
from rlgen.rewards.prediction_error import PredictionError
from rlgen.rewards.vime import VIME, VIMEConfig
from rlgen.types import RewardModel


@dataclass(frozen=True)
class Bonus:
    """How a bonus learns and what it weighs.

    Attributes:
        eta: weight of the bonus beside the task's reward.
        n_updates: Adam steps an iteration of the network behind it.
        batch_size: transitions a step.
        learning_rate: Adam's step.
        net_arch: hidden layers of the network.
        pool_size: transitions that are kept to learn from.
    """

    eta: float = 1e-3
    n_updates: int = 50
    batch_size: int = 200
    learning_rate: float = 1e-2
    net_arch: tuple[int, ...] = (32,)
    pool_size: int = 100_000

    @property
    def pool_config(self) -> PoolConfig:
        """What all bonuses that learn from a pool are told."""
        return PoolConfig(self.learning_rate, self.n_updates, self.batch_size)

    def pool(self, envs: gym.vector.VectorEnv) -> ReplayPool:
        """An empty pool for the spaces of `envs`."""
        return ReplayPool(self.pool_size, envs.single_observation_space, envs.single_action_space)  # type: ignore[arg-type]


def vime(envs: gym.vector.VectorEnv, settings: Bonus) -> RewardModel:
    """A calibrated network: the KL weighs as much as the data's number tells, and the likelihood's noise is learned."""
    coder = _dynamics(envs)
    network = BayesianNetwork(coder.n_inputs, coder.n_targets, settings.net_arch)
    config = VIMEConfig(settings.learning_rate, settings.n_updates, settings.batch_size)
    return MedianScaled(VIME(network, coder, settings.pool(envs), config))


def vime_reference(envs: gym.vector.VectorEnv, settings: Bonus) -> RewardModel:
    """The settings of the authors' code: a fixed wide likelihood, 50 as the number of data, unbounded ratios.

    Of `settings` only the network's and the pool's size are used. The ratio's own clip at 1,000 nats is left out.
    """
    coder = _dynamics(envs, predict_change=False)
    network = BayesianNetwork(
        coder.n_inputs,
        coder.n_targets,
        settings.net_arch,
        partial(FactorisedGaussian, prior_std=0.5, mean_std=1.0, std=0.5),
        likelihood_std=5.0,
        learn_likelihood_std=False,
        analytic_output=False,
        shared_noise=True,
        n_samples=10,
    )
    config = VIMEConfig(learning_rate=1e-4, n_updates=500, batch_size=10, n_data=50)
    return MedianScaled(VIME(network, coder, settings.pool(envs), config), bounded=False)


def prediction_error(envs: gym.vector.VectorEnv, settings: Bonus) -> RewardModel:
    """The paper's L2 baseline."""
    coder = _dynamics(envs)
    network = mlp(coder.n_inputs, settings.net_arch, coder.n_targets, output_gain=1.0)
    return MedianScaled(PredictionError(network, coder, settings.pool(envs), settings.pool_config))


def rnd(envs: gym.vector.VectorEnv, settings: Bonus) -> RewardModel:
    """Random Network Distillation; its networks have 64 units a layer."""
    coder = RandomFeatures(_observation_size(envs))
    network = mlp(coder.n_inputs, (64, 64), coder.n_targets, output_gain=1.0)
    return MedianScaled(PredictionError(network, coder, settings.pool(envs), settings.pool_config))


def disagreement(envs: gym.vector.VectorEnv, settings: Bonus, n_members: int = 5) -> RewardModel:
    """An ensemble, each member with minibatches of its own."""
    coder = _dynamics(envs)
    members = [mlp(coder.n_inputs, settings.net_arch, coder.n_targets, output_gain=1.0) for _ in range(n_members)]
    config = replace(settings.pool_config, batch_size=settings.batch_size * n_members)
    return MedianScaled(Disagreement(members, coder, settings.pool(envs), config))


def noise(envs: gym.vector.VectorEnv, settings: Bonus) -> RewardModel:
    """Gaussian reward noise."""
    return RewardNoise()


BONUSES: dict[str, Callable[[gym.vector.VectorEnv, Bonus], RewardModel] | None] = {
    "vime": vime,
    "vime-reference": vime_reference,
    "l2": prediction_error,
    "rnd": rnd,
    "disagreement": disagreement,
    "noise": noise,
    "none": None,
}


def reward_model(
    envs: gym.vector.VectorEnv,
    device: torch.device | str,
    make_bonus: Callable[[gym.vector.VectorEnv, Bonus], RewardModel] | None,
    settings: Bonus,
) -> WeightedSum:
    """The task's reward (`env`) with a weighted bonus (`bonus`), on a device; None adds none."""
    terms: dict[str, tuple[RewardModel, float]] = {"env": (EnvironmentReward(), 1.0)}
    if make_bonus is not None:
        with torch.device(device):
            terms["bonus"] = (make_bonus(envs, settings), settings.eta)
    return WeightedSum(terms)


_TRPO = Learner(
    TRPOConfig(target_kl=0.01, batch_size=256),
    n_steps=500,
    n_envs=10,
    total_timesteps=400_000,
    gae_lambda=0.97,
    net_arch=(32,),
)
_LEARNERS = {"trpo": _TRPO, "ppo": replace(_TRPO, optimizer=PPOConfig(batch_size=500, n_epochs=10))}

# By task: the bound of TRPO's KL, environment steps, hidden units of policy and dynamics.
_TASKS = {"rlgen/SparseHalfCheetah": (0.03, 5_000_000, 64), "rlgen/SwimmerGather": (0.01, 5_000_000, 64)}


def settings(algo: str, env_id: str) -> tuple[Learner, Bonus]:
    """The policy's side and the bonus's for an environment.

    Args:
        algo: `trpo` or `ppo`.
        env_id: with its version.
    """
    learner, bonus = _LEARNERS[algo], Bonus()
    task = _TASKS.get(env_id.rsplit("-", 1)[0])
    if task is None:
        return learner, bonus
    target_kl, total_timesteps, width = task
    learner = replace(learner, total_timesteps=total_timesteps, net_arch=(width,))
    if isinstance(learner.optimizer, TRPOConfig):
        learner = replace(learner, optimizer=replace(learner.optimizer, target_kl=target_kl))
    return learner, replace(bonus, net_arch=(width,))


def _observation_size(envs: gym.vector.VectorEnv) -> int:
    return int(envs.single_observation_space.shape[0])  # type: ignore[index]


def _dynamics(envs: gym.vector.VectorEnv, predict_change: bool = True) -> DynamicsCoder:
    return DynamicsCoder(_observation_size(envs), envs.single_action_space, predict_change)
