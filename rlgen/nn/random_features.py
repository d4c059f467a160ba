"""Random features of the observation that a step leads to."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rlgen.nn.mlp import mlp
from rlgen.nn.normalizer import RunningNormalizer
from rlgen.types import Metrics, Transitions


class RandomFeatures(nn.Module):
    """Inputs and targets of Random Network Distillation: the next observation, and a fixed random network's view of it.

    Args:
        observation_size: D.
        n_features: F.
        net_arch: hidden layers of the random network.
        clip: of the standardised observations, as Burda et al. (2018, https://arxiv.org/abs/1810.12894) have it.
    """

    def __init__(
        self, observation_size: int, n_features: int = 32, net_arch: Sequence[int] = (64, 64), clip: float = 5.0
    ) -> None:
        super().__init__()
        self.n_inputs, self.n_targets = observation_size, n_features
        self.normalizer = RunningNormalizer(observation_size, clip)
        self.network = mlp(observation_size, net_arch, n_features, output_gain=1.0).requires_grad_(False)

    def inputs(self, transitions: Transitions) -> Tensor:
        """`[*B, D]`."""
        return self.normalizer(transitions.next_obs)

    @torch.no_grad()
    def targets(self, transitions: Transitions) -> Tensor:
        """`[*B, F]`."""
        return self.network(self.inputs(transitions))

    def update(self, transitions: Transitions) -> Metrics:
        """Let the observations' statistics learn."""
        self.normalizer.update(transitions.next_obs)
        return {}
