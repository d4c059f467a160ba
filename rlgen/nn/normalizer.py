"""Normalisers as modules: their statistics are buffers, so they travel with the network that uses them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


class RunningNormalizer(nn.Module):
    """Standardises by cumulative mean and variance, which change only in `update`.

    y = clip((x - mean) / max(std, floor), -clip, clip). Statistics are kept in float64 and merged by Chan et al.'s
    parallel formula. The floor keeps dimensions that never vary from being blown up.

    Args:
        n_features: their number.
        clip: the largest y, in standard deviations.
        floor: the least standard deviation that is divided by.
        symlog: sign(y) log(1 + abs(y)) in place of the clip, so that of two rows far from all that the statistics saw
            the farther has the larger y (Hafner et al. 2023, https://arxiv.org/abs/2301.04104).
    """

    mean: Tensor
    var: Tensor
    count: Tensor

    def __init__(self, n_features: int, clip: float = 10.0, floor: float = 1e-4, symlog: bool = False) -> None:
        super().__init__()
        self.clip = clip
        self.floor = floor
        self.symlog = symlog
        self.register_buffer("mean", torch.zeros(n_features, dtype=torch.float64))
        self.register_buffer("var", torch.ones(n_features, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """Float32 `(scale, shift)` with y = x * scale + shift before clipping, each `[n_features]`."""
        scale = 1 / self.var.sqrt().clamp_min(self.floor)
        return scale.float(), (-self.mean * scale).float()

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `[*B, n_features]` float32."""
        scale, shift = self.scale_and_shift()
        y = torch.addcmul(shift, x, scale)
        return y.sign() * y.abs().log1p() if self.symlog else y.clamp(-self.clip, self.clip)

    @torch.no_grad()
    def update(self, x: Tensor, weight: float | None = None) -> None:
        """Merge rows `[*B, n_features]` into the statistics.

        Args:
            x: the rows.
            weight: how many rows they count as; their number unless told.
        """
        rows = x.reshape(-1, x.shape[-1]).double()
        count = float(len(rows)) if weight is None else weight
        var, mean = torch.var_mean(rows, 0, correction=0)
        total = self.count + count
        delta = mean - self.mean
        # With no rows yet the placeholder variance of one must not enter.
        self.var.copy_((self.var * self.count + var * count + delta.square() * self.count * count / total) / total)
        self.mean.add_(delta * (count / total))
        self.count.copy_(total)


class ReturnScaler(nn.Module):
    """Divides rewards by the running standard deviation of their discounted return, as SB3's VecNormalize does.

    One running return an environment, R <- gamma R + r, zeroed after an episode's end; rewards are not centred, which
    would change what an episode's length is worth.
    """

    returns: Tensor

    def __init__(self, n_envs: int, gamma: float) -> None:
        super().__init__()
        self.gamma = gamma
        self.statistics = RunningNormalizer(1)
        self.register_buffer("returns", torch.zeros(n_envs))

    @torch.no_grad()
    def forward(self, rewards: Tensor, done: Tensor) -> Tensor:
        """Scaled rewards `[T, N]`; the statistics learn from this rollout first.

        Args:
            rewards: `[T, N]`.
            done: `[T, N]` bool, terminated or truncated.
        """
        # In NumPy: a loop of small operations over time costs ten times less than in torch.
        paid, goes_on = rewards.cpu().numpy(), ~done.cpu().numpy()
        running, current = np.empty_like(paid), self.returns.cpu().numpy()
        for t in range(len(paid)):
            running[t] = current = self.gamma * current + paid[t]
            current = current * goes_on[t]
        self.returns.copy_(torch.from_numpy(current))
        self.statistics.update(torch.from_numpy(running).to(rewards.device).unsqueeze(-1))
        return rewards / self.statistics.var.sqrt().clamp_min(1e-4).float()
