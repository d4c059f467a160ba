"""The discriminator: tells an expert's state-action pairs from the policy's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from rlgen.errors import UsageError
from rlgen.nn.actions import ActionCoder
from rlgen.nn.mlp import mlp
from rlgen.nn.normalizer import RunningNormalizer
from rlgen.types import Transitions


class Discriminator(nn.Module):
    """Logits of a tanh MLP on (observation, executed action), high for the expert.

    Both sides pass through the same clipping, one-hot coding and normalisation here, so that neither carries a cue of
    how it was stored. It sees no time, no flags and no rewards.

    Args:
        observation_size: D.
        action_space: Box (clipped to its bounds) or Discrete (one-hot).
        net_arch: hidden layer sizes.
        spectral_norm: divide each layer's weight by its largest singular value (Miyato et al. 2018).
        dropout: share of the inputs that is dropped in training.
    """

    def __init__(
        self,
        observation_size: int,
        action_space: spaces.Space[Any],
        net_arch: Sequence[int] = (100, 100),
        spectral_norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise UsageError(f"dropout must be in [0, 1); got {dropout}")
        self.actions = ActionCoder(action_space)
        n_inputs = observation_size + self.actions.size
        # The floor keeps near-constant inputs of a few demonstrations from being blown up on the policy's side.
        self.normalizer = RunningNormalizer(n_inputs, floor=1e-2)
        self.network = mlp(n_inputs, net_arch, 1, output_gain=0.01)
        if spectral_norm:
            for layer in self.network:
                if isinstance(layer, nn.Linear):
                    torch.nn.utils.parametrizations.spectral_norm(layer)
        self.dropout = dropout

    def features(self, transitions: Transitions) -> Tensor:
        """Raw inputs `[*B, D + A]`."""
        return torch.cat((transitions.obs, self.actions(transitions.actions)), -1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits `[*B]` of normalised inputs `[*B, D + A]`."""
        if self.dropout:
            inputs = F.dropout(inputs, self.dropout, self.training)
        return self.network(inputs).squeeze(-1)
