"""Variational Information Maximizing Exploration (Houthooft et al. 2016, https://arxiv.org/abs/1605.09674)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rlgen.nn.bayesian import BayesianNetwork
from rlgen.ranges import Positive
from rlgen.rewards.pool_bonus import PoolBonus, PoolConfig


@dataclass(frozen=True)
class VIMEConfig(PoolConfig):
    """How the dynamics' network learns.

    Attributes:
        n_data: the KL to the prior weighs 1 / n_data beside the mean log-likelihood. None takes the pool's size, which
            is the evidence lower bound; the authors' code fixes it at 50.
    """

    n_data: Positive | None = None


class VIME(PoolBonus):
    """Pays what a transition would teach a Bayesian network of the dynamics, in nats.

    Its arguments are those of `PoolBonus`, with a `BayesianNetwork` and a `VIMEConfig`.
    """

    network: BayesianNetwork
    config: VIMEConfig
    config_class = VIMEConfig

    def score(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Information gains `[B]`."""
        return self.network.information_gain(inputs, targets)

    def add_gradient(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """The negative evidence lower bound's, a row of data; gives the mean negative log-likelihood."""
        return self.network.add_loss_gradient(inputs, targets, 1 / (self.config.n_data or len(self.pool)))

    def test(self, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Mean squared error, and the share of targets inside the predicted 90% interval."""
        mean, std = self.network.predict(inputs)
        error = mean - targets
        return {
            "error": error.square().mean(),
            "calibration_90": (error.abs() < 1.645 * std).float().mean(),
            "likelihood_std": self.network.likelihood_variance.sqrt().mean(),
        }
