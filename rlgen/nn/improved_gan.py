"""What keeps adversarial training steady (Salimans et al. 2016, https://arxiv.org/abs/1606.03498), as parts to add."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from rlgen.errors import UsageError


class HistoricalAverage(nn.Module):
    """A penalty on moving away from where the parameters have been (section 3.3).

        w norm(theta - mean of past theta)^2

    Two players who circle around their equilibrium by gradient descent reach it with the penalty.

    Args:
        parameters: theta, on their final device; read, never changed.
        weight: w.
    """

    mean: Tensor
    count: Tensor

    def __init__(self, parameters: Iterable[nn.Parameter], weight: float) -> None:
        super().__init__()
        self._of = tuple(parameters)  # in a tuple: they are no part of this module
        self.weight = weight
        now = self._now().detach()
        self.register_buffer("mean", torch.zeros_like(now))
        self.register_buffer("count", torch.zeros((), device=now.device))

    def _now(self) -> Tensor:
        return torch.cat([p.flatten() for p in self._of])

    def forward(self) -> Tensor:
        """The penalty, 0-d, to be asked for once a step: the mean takes in the parameters as they are. At first 0."""
        now, past = self._now(), self.mean.clone()
        self.count += 1
        self.mean += (now.detach() - past) / self.count
        return self.weight * (now - past).square().sum() * (self.count > 1)


class VirtualBatchNorm(nn.Module):
    """Standardises each feature by its mean and deviation over a fixed reference batch (section 3.6).

    A row's output depends on that row and the reference alone. The paper's statistics count the row itself as well.

    Args:
        n_features: their number.
        n_reference: the first rows of each input are the reference batch.
    """

    def __init__(self, n_features: int, n_reference: int) -> None:
        super().__init__()
        self.n_reference = n_reference
        self.weight = nn.Parameter(torch.ones(n_features))
        self.bias = nn.Parameter(torch.zeros(n_features))

    def forward(self, x: Tensor) -> Tensor:
        """Of `[B, n_features]`, the reference batch among them."""
        variance, mean = torch.var_mean(x[: self.n_reference], 0, correction=0)
        return (x - mean) * (self.weight * (variance + 1e-5).rsqrt()) + self.bias


class MinibatchFeatures(nn.Module):
    """Adds to each row's features how close it is to the other rows of its group (section 3.2).

    With M = f T, o_k(i) is the mean over the other rows j of the group of exp(-sum abs(M_ik - M_jk)), where the paper
    has the sum.

    Args:
        n_features: of each row.
        group: consecutive rows that make a group.
        n_kernels: number of features added.
        kernel_size: length of M_ik.
    """

    def __init__(self, n_features: int, group: int, n_kernels: int = 20, kernel_size: int = 5) -> None:
        super().__init__()
        self.group = group
        self.n_outputs = n_features + n_kernels
        self.kernels = nn.Parameter(torch.randn(n_features, n_kernels, kernel_size) / n_features**0.5)

    def forward(self, features: Tensor) -> Tensor:
        """`[B, n_features]` to `[B, n_outputs]`.

        Raises:
            UsageError: the rows don't make whole groups.
        """
        if len(features) % self.group:
            raise UsageError(f"minibatch features need groups of {self.group} rows; got {len(features)} rows")
        projected = torch.einsum("bf,fkd->bkd", features, self.kernels).unflatten(0, (-1, self.group))
        distances = (projected.unsqueeze(1) - projected.unsqueeze(2)).abs().sum(-1)  # [B / G, G, G, K]
        closeness = (distances.neg().exp().sum(2) - 1) / (self.group - 1)  # less the row's own, exp(0)
        return torch.cat((features, closeness.flatten(0, 1)), -1)
