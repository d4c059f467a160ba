"""The variational discriminator bottleneck (Peng et al. 2019, https://arxiv.org/abs/1810.00821)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlgen.types import Metrics


class Bottleneck(nn.Module):
    """Encodes features as z ~ N(mean, std^2), which tells I_c nats of them at most: E KL(N(mean, std^2) || N(0, 1)).

    Calling `penalty` once a step is the paper's dual gradient descent: the multiplier beta of the constraint
    rises while it is violated, and otherwise falls to 0.

    Args:
        n_features: of the inputs, and of z.
        limit: I_c, in nats.
        step: of beta, for each nat above the limit. 1e-5 is usual, for many more steps than a discriminator takes here.
    """

    beta: Tensor
    information: Tensor

    def __init__(self, n_features: int, limit: float, step: float = 1e-2) -> None:
        super().__init__()
        self.limit, self.step = limit, step
        self.encoder = nn.Linear(n_features, 2 * n_features)
        nn.init.zeros_(self.encoder.bias)
        self.register_buffer("beta", torch.zeros(()))
        self.register_buffer("information", torch.zeros(()))
        self._latest: Tensor | None = None

    def forward(self, features: Tensor) -> Tensor:
        """z `[B, n_features]`: a sample in training, the mean otherwise."""
        mean, log_std = self.encoder(features).chunk(2, -1)
        if not self.training:
            return mean
        self._latest = information(mean, log_std).mean()
        return mean + log_std.exp() * torch.randn_like(mean)

    def penalty(self) -> Tensor:
        """beta (KL - I_c) of the latest rows, 0-d; then beta moves."""
        assert self._latest is not None
        penalty = self.beta * (self._latest - self.limit)
        self.information = self._latest.detach()
        self.beta = (self.beta + self.step * (self.information - self.limit)).clamp(min=0)
        return penalty

    def metrics(self) -> Metrics:
        """KL and beta of the last step, whose graph is let go."""
        self._latest = None
        return {"information": self.information, "information_weight": self.beta}


def information(mean: Tensor, log_std: Tensor) -> Tensor:
    """KL(N(mean, std^2) || N(0, 1)) = sum (mean^2 + std^2 - 1) / 2 - log std, `[*B]` of `[*B, Z]`, in nats."""
    return (0.5 * (mean.square() + (2 * log_std).exp() - 1) - log_std).sum(-1)
