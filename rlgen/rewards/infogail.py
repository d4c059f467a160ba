"""InfoGAIL's code posterior (Li et al. 2017, https://arxiv.org/abs/1703.08840)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlgen.data.replay import ReplayPool
from rlgen.envs.codes import Codes
from rlgen.functional import tanh_mlp
from rlgen.nn.coded_states import CodedStates
from rlgen.nn.mlp import mlp
from rlgen.ranges import Count, Positive
from rlgen.rewards.pool_bonus import PoolBonus, PoolConfig
from rlgen.types import Metrics, Transitions


@dataclass(frozen=True)
class PosteriorConfig(PoolConfig):
    """How a code's posterior learns.

    Attributes:
        net_arch: hidden layers.
        pool_size: latest transitions that it learns from.
        std: standard deviation of the posterior of continuous codes.
    """

    learning_rate: Positive = 1e-3
    n_updates: Count = 20
    batch_size: Count = 256
    net_arch: tuple[Count, ...] = (64, 64)
    pool_size: Count = 10_000
    std: Positive = 0.3


class CodePosterior(PoolBonus):
    """Pays how surely a step's states tell the code that the policy acts by: log q(c | s, s') - log p(c), in nats.

    Its mean is a lower bound of the mutual information between code and states (Barber & Agakov 2003), whose maximum
    is log K for K equally likely values. As the only reward it is DIAYN's (Eysenbach et al. 2018,
    https://arxiv.org/abs/1802.06070). q is softmax of a tanh MLP for a categorical code and a Gaussian of fixed
    standard deviation for continuous ones; it learns by cross-entropy from the latest transitions.

    An undecided q pays about 0 and a sure one up to log K a step: it would pay for living on, whatever the expert
    does. `rlgen.nn.normalizer.RewardScaler` changes no policy's rank, so it leaves that as it is. With `neutral` a step
    loses the mean of what steps earned in the rollouts so far, each with 0.9 of the weight of the next, and a
    termination gets nothing for it: a usual step earns 0, and how long to live is up to the reward beside it.

    Args:
        codes: the codes, first in the observations.
        observation_space: with codes.
        action_space: of the transitions.
        config: how it learns.
        neutral: see above.
        labelled: an expert's transitions with the code that their mode is told to have, on the device; as many as a
            minibatch has rows are drawn beside each, and the cross-entropy on them is added to the loss, as Salimans et
            al. (2016) add that of labelled rows. Continuous codes are not told.
    """

    recent: Tensor
    network: nn.Sequential
    config: PosteriorConfig
    config_class = PosteriorConfig

    def __init__(
        self,
        codes: Codes,
        observation_space: spaces.Box,
        action_space: spaces.Space[Any],
        config: PosteriorConfig | None = None,
        neutral: bool = False,
        labelled: Transitions | None = None,
    ) -> None:
        config = config or PosteriorConfig()
        coder = CodedStates(observation_space.shape[0], codes.width)
        pool = ReplayPool(config.pool_size, observation_space, action_space)
        network = mlp(coder.n_inputs, config.net_arch, coder.n_targets, output_gain=0.0)
        super().__init__(network, coder, pool, config)
        self.codes, self.neutral, self.labelled = codes, neutral, labelled
        # Weighted sum of the rollouts' means, and the sum of the weights.
        self.register_buffer("recent", torch.zeros(2))

    @torch.no_grad()
    def forward(self, transitions: Transitions) -> Tensor:
        """Rewards `[*B]` by the network as it is."""
        total, weight = self.recent
        return super().forward(transitions) - (total / weight if weight > 0 else 0.0)

    @torch.no_grad()
    def update(self, transitions: Transitions) -> Metrics:
        """Note the mean, then learn as other bonuses do."""
        if self.neutral:
            mean = super().forward(transitions).mean()
            self.recent.mul_(0.9).add_(torch.stack((mean, torch.ones_like(mean))))
        return super().update(transitions)

    def score(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """log q - log p, `[B]`."""
        return self._log_ratio(tanh_mlp.forward(inputs, self.learned)[-1], targets)

    def _log_ratio(self, outputs: Tensor, targets: Tensor) -> Tensor:
        n, std = self.codes.codes, self.config.std
        error = (outputs[:, n:] - targets[:, n:]) / std
        gaussian = math.log(2) - math.log(std * math.sqrt(2 * math.pi)) - error.square() / 2
        categorical = (outputs[:, :n].log_softmax(-1) + math.log(max(n, 1))) * targets[:, :n]
        return gaussian.sum(-1) + categorical.sum(-1)

    def add_gradient(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """That of -log q, a mean over rows: softmax less the one-hot code, error over variance; gives mean -log q."""
        size, n = len(inputs), self.codes.codes
        if self.labelled is not None:
            rows = torch.randint(len(self.labelled.rewards), (size,), device=inputs.device)
            told = self.labelled[rows]
            inputs = torch.cat((inputs, self.coder.inputs(told)))
            targets = torch.cat((targets, self.coder.targets(told)))
        layers = tanh_mlp.forward(inputs, self.learned)
        outputs = layers[-1]
        error = outputs - targets
        error[:, :n] = outputs[:, :n].softmax(-1) - targets[:, :n]
        error[:, n:] /= self.config.std**2
        error[size:, n:] = 0
        tanh_mlp.backward(layers, self.learned, error / size, self.gradients)
        return -(self._log_ratio(outputs[:size], targets[:size]).mean() - self._log_prior)

    @property
    def _log_prior(self) -> float:
        """-log p(c)."""
        return math.log(max(self.codes.codes, 1)) + self.codes.continuous_codes * math.log(2)

    def test(self, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """The bound of mutual information in nats, the share of codes that q reads, and the continuous ones' error."""
        outputs, n = tanh_mlp.forward(inputs, self.learned)[-1], self.codes.codes
        found = {"information": self._log_ratio(outputs, targets).mean()}
        if n:
            found["accuracy"] = (outputs[:, :n].argmax(-1) == targets[:, :n].argmax(-1)).float().mean()
        if self.codes.continuous_codes:
            found["error"] = (outputs[:, n:] - targets[:, n:]).square().mean()
        return found
