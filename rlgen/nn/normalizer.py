"""Normalisers as modules: their statistics are buffers, so they travel with the network that uses them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from rlgen.errors import UsageError


def require_float32(fn: Callable[[Tensor], Tensor]) -> None:
    """Refuse to give a module another precision, as `module.double()` would, by a UsageError.

    Args:
        fn: what `torch.nn.Module._apply` is given.
    """
    if (dtype := fn(torch.zeros(())).dtype) != torch.float32:
        raise UsageError(f"networks are float32 here, and statistics float64; {dtype} would part them. Use .to(device)")


class RunningNormalizer(nn.Module):
    """Standardises by cumulative mean and variance, which change only in `update`.

    y = clip((x - mean) / std, -clip, clip), in float64 until it is standardised, so that a large mean costs no
    precision. Statistics are merged by Chan et al.'s parallel formula. A feature that has never varied gives 0. Without
    an absolute floor nothing here depends on the units of x: rows a x + b give the same y.

    Args:
        n_features: their number.
        clip: the largest y, in standard deviations.
        floor: the least standard deviation that is divided by, which keeps features that hardly vary from being blown
            up: in units of x, or where `spread` is given in its standard deviations.
        spread: statistics of other rows of the same features; read, never changed.
        symlog: sign(y) log(1 + abs(y)) in place of the clip, so that of two rows far from all that the statistics saw
            the farther has the larger y (Hafner et al. 2023, https://arxiv.org/abs/2301.04104).
    """

    mean: Tensor
    var: Tensor
    count: Tensor

    def __init__(
        self,
        n_features: int,
        clip: float = 10.0,
        floor: float = 0.0,
        spread: RunningNormalizer | None = None,
        symlog: bool = False,
    ) -> None:
        super().__init__()
        self.clip = clip
        self.floor = floor
        self._spread = (spread,)  # in a tuple: its statistics are no part of this module
        self.symlog = symlog
        self.register_buffer("mean", torch.zeros(n_features, dtype=torch.float64))
        self.register_buffer("var", torch.ones(n_features, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move to another device; statistics stay float64."""
        require_float32(fn)
        return super()._apply(lambda x: x.to(fn(x).device), recurse)

    def std(self) -> Tensor:
        """Standard deviations `[n_features]` float64; 0 where a feature varies no more than rounding does."""
        std = self.var.sqrt()
        return std.where(std > 1e-12 * (1 + self.mean.abs()), 0.0)

    def scale(self) -> Tensor:
        """What x - mean is multiplied by, `[n_features]` float64."""
        (spread,) = self._spread
        least = self.floor if spread is None else self.floor * spread.std()
        std = self.std().clamp_min(least)
        return torch.where(std > 0, 1 / std, 0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Standardise `[*B, n_features]`; float32."""
        y = (x.double() - self.mean).mul_(self.scale())
        return (y.sign() * y.abs().log1p() if self.symlog else y.clamp_(-self.clip, self.clip)).float()

    def with_slope(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Standardised x, and dy / dx, `[*B, n_features]` float32 each."""
        scale = self.scale()
        y = (x.double() - self.mean).mul_(scale)
        if self.symlog:
            size = y.abs()
            return (y.sign() * size.log1p()).float(), (scale / (1 + size)).float()
        clipped = y.clamp(-self.clip, self.clip)
        return clipped.float(), torch.where(clipped == y, scale, 0.0).float()

    def part(self, columns: slice) -> RunningNormalizer:
        """The statistics of some columns alone: these themselves, so that either changes with the other.

        While both stay on their device. An update of the part alone counts its rows for the others too.
        """
        part = RunningNormalizer(len(self.mean[columns]), self.clip)
        part.mean, part.var, part.count = self.mean[columns], self.var[columns], self.count
        return part

    @torch.no_grad()
    def update(self, x: Tensor, weight: float | None = None) -> None:
        """Merge rows `[*B, n_features]` into the statistics.

        Args:
            x: the rows.
            weight: how many rows they count as (default: their number).
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


class RewardScaler(nn.Module):
    """Divides rewards by the running standard deviation of their discounted return, as SB3's VecNormalize does.

    One running return an environment, R <- gamma R + r, zeroed after an episode's end.

    With `centre` a running mean m of the rewards is subtracted first, and a termination's reward grows by gamma times
    -m / (1 - gamma), which is m less a step for ever: every policy's return changes by the same constant, as it would
    not by subtracting m alone. A critic predicts about 0 at first; if all rewards are negative, it then takes whatever
    was not visited yet for better than what was, and if all are positive for worse.

    Args:
        n_envs: N.
        gamma: discount.
        centre: subtract the mean.

    Raises:
        UsageError: centred rewards with a `gamma` of 1.
    """

    returns: Tensor
    recent: Tensor

    def __init__(self, n_envs: int, gamma: float, centre: bool = False) -> None:
        super().__init__()
        if centre and not gamma < 1:
            raise UsageError(f"centred rewards need gamma below 1; got {gamma}")
        self.gamma = gamma
        self.centre = centre
        self.statistics = RunningNormalizer(1)
        self.register_buffer("returns", torch.zeros(n_envs))
        # Weighted sum of the rollouts' means, and the sum of the weights.
        self.register_buffer("recent", torch.zeros(2), persistent=centre)

    @torch.no_grad()
    def forward(self, rewards: Tensor, terminated: Tensor, truncated: Tensor) -> Tensor:
        """Scaled rewards `[T, N]`; the statistics learn from this rollout first.

        Args:
            rewards: `[T, N]`.
            terminated: `[T, N]` bool.
            truncated: `[T, N]` bool.
        """
        if self.centre:
            self.recent.mul_(0.9).add_(torch.stack((rewards.mean(), torch.ones_like(self.recent[1]))))
            mean = self.recent[0] / self.recent[1]
            rewards = rewards - mean - terminated * (self.gamma * mean / (1 - self.gamma))
        running = torch.empty_like(rewards)
        views: Any = (rewards, ~(terminated | truncated), running, self.returns)
        if rewards.device.type == "cpu":  # in NumPy a loop of small operations over time costs ten times less
            views = [x.numpy() for x in views]
        paid, goes_on, follows, current = views
        for t in range(len(paid)):
            follows[t] = current = self.gamma * current + paid[t]
            current = current * goes_on[t]
        self.returns.copy_(torch.as_tensor(current))
        self.statistics.update(running.unsqueeze(-1))
        return rewards / self.std()

    def std(self) -> Tensor:
        """Of the discounted returns so far, 0-d float32; what rewards are divided by."""
        return self.statistics.var.sqrt().clamp_min(1e-4).float().squeeze()


class RewardCentre(nn.Module):
    """Subtracts a running mean of rewards, and makes up for it at terminations, as `RewardScaler` does with `centre`.

    Args:
        gamma: discount, below 1.
        decay: weight of the mean of a batch beside that of the next.
    """

    recent: Tensor

    def __init__(self, gamma: float, decay: float = 0.9) -> None:
        super().__init__()
        self.gamma, self.decay = gamma, decay
        self.register_buffer("recent", torch.zeros(2))

    @torch.no_grad()
    def forward(self, rewards: Tensor, terminated: Tensor) -> tuple[Tensor, Tensor]:
        """Centred rewards `[*B]`, and what a step grew by, -m, 0-d; the mean m learns from these rewards first."""
        self.recent.mul_(self.decay).add_(torch.stack((rewards.mean(), torch.ones_like(self.recent[1]))))
        shift = -self.recent[0] / self.recent[1]
        return rewards + shift + terminated * self.of_end(shift), shift

    def of_end(self, shift: Tensor) -> Tensor:
        """What a termination grew by beside its step: as much as each step after it would have, for ever."""
        return self.gamma / (1 - self.gamma) * shift
