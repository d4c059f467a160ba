"""Action distributions in closed form: diagonal Gaussian (Box), categorical (Discrete), and several of those."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Gaussian:
    """Diagonal Gaussian N(mean, exp(log_std)^2).

    Attributes:
        mean: `[*B, A]`.
        log_std: `[A]`, the same in every state.
    """

    mean: Tensor
    log_std: Tensor

    def sample(self) -> Tensor:
        """Samples `[*B, A]` by torch's global random numbers."""
        return self.mean + self.log_std.exp() * torch.randn_like(self.mean)

    def log_prob(self, actions: Tensor) -> Tensor:
        """log N(a; mean, std^2) summed over the action's dimensions, `[*B]`."""
        z = (actions - self.mean) * torch.exp(-self.log_std)
        return -0.5 * (z.square().sum(-1) + self.mean.shape[-1] * math.log(2 * math.pi)) - self.log_std.sum()

    def clipped_log_prob(self, actions: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Log-likelihood of what a sample becomes when clipped to [low, high], `[*B]`.

        A density between the bounds, and on each bound the probability of all beyond it.

        Args:
            actions: `[*B, A]`, clipped.
            low: `[A]`.
            high: `[A]`.
        """
        inverse_std = torch.exp(-self.log_std)
        inside = -0.5 * ((actions - self.mean) * inverse_std).square() - self.log_std - 0.5 * math.log(2 * math.pi)
        below = torch.special.log_ndtr((low - self.mean) * inverse_std)
        above = torch.special.log_ndtr((self.mean - high) * inverse_std)
        return torch.where(actions <= low, below, torch.where(actions >= high, above, inside)).sum(-1)

    def entropy(self) -> Tensor:
        """Differential entropy in nats, `[*B]` (the same number in every state)."""
        value = self.log_std.sum() + 0.5 * self.mean.shape[-1] * (1 + math.log(2 * math.pi))
        return value.expand(self.mean.shape[:-1])

    def log_prob_gradient(self, actions: Tensor, weights: Tensor) -> list[Tensor]:
        """The gradient of sum_b weights_b log_prob_b in the mean, `[B, A]`, and in the log-std, `[A]`."""
        inverse_std = torch.exp(-self.log_std)
        z = (actions - self.mean) * inverse_std
        weighted = z * weights.unsqueeze(-1)
        return [weighted * inverse_std, (weighted * z).sum(0) - weights.sum()]

    def entropy_gradient(self) -> list[Tensor]:
        """The gradient of the mean entropy in the mean, which is 0, and in the log-std, which is 1."""
        return [torch.zeros_like(self.mean), torch.ones_like(self.log_std)]

    def kl(self, other: Gaussian) -> Tensor:
        """KL(self || other) = sum log(s2/s1) + (s1^2 + (m1 - m2)^2) / (2 s2^2) - 1/2, `[*B]`."""
        log_ratio = other.log_std - self.log_std
        inverse_variance = torch.exp(-2 * other.log_std)
        moved = (self.mean - other.mean).square() * inverse_variance
        return 0.5 * (moved + torch.exp(-2 * log_ratio) - 1).sum(-1) + log_ratio.sum()

    def fisher_output(self, tangent: Tensor) -> Tensor:
        """The Fisher matrix in the mean, diag(1/std^2), times a tangent `[*B, A]`."""
        return tangent * torch.exp(-2 * self.log_std)

    def detach(self) -> Gaussian:
        """The same distribution, cut from the graph."""
        return Gaussian(self.mean.detach(), self.log_std.detach())

    def __getitem__(self, rows: object) -> Gaussian:
        """Index the leading dimensions."""
        return Gaussian(self.mean[rows], self.log_std)  # type: ignore[index]


@dataclass(frozen=True)
class SquashedGaussian:
    """tanh of a diagonal Gaussian: actions inside (-1, 1), the bounds of a space in its units (Haarnoja et al. 2018).

    Attributes:
        mean: of the Gaussian, `[*B, A]`.
        log_std: likewise.
    """

    mean: Tensor
    log_std: Tensor

    def sample(self) -> Tensor:
        """Samples `[*B, A]` by torch's global random numbers."""
        return (self.mean + self.log_std.exp() * torch.randn_like(self.mean)).tanh()

    def before(self, actions: Tensor) -> Tensor:
        """What the Gaussian gave, `[*B, A]`; actions on a bound, which it can't have given, count as just inside."""
        return actions.clamp(-1 + 1e-4, 1 - 1e-4).atanh()

    def log_prob(self, actions: Tensor) -> Tensor:
        """log N(u; mean, std^2) - log(1 - tanh(u)^2) summed over the action's dimensions, `[*B]`."""
        u = self.before(actions)
        z = (u - self.mean) * torch.exp(-self.log_std)
        return (log_tanh_slope(u).neg() - 0.5 * z.square() - self.log_std - 0.5 * math.log(2 * math.pi)).sum(-1)

    def detach(self) -> SquashedGaussian:
        """The same distribution, cut from the graph."""
        return SquashedGaussian(self.mean.detach(), self.log_std.detach())


def log_tanh_slope(u: Tensor) -> Tensor:
    """log(1 - tanh(u)^2) = 2 (log 2 - u - softplus(-2 u)), which loses no digits where tanh is near 1."""
    return 2 * (math.log(2) - u - F.softplus(-2 * u))


@dataclass(frozen=True)
class Categorical:
    """Categorical distribution, softmax(logits).

    Attributes:
        logits: `[*B, n]`, unnormalised log-probabilities.
    """

    logits: Tensor

    def sample(self) -> Tensor:
        """Samples `[*B]` by torch's global random numbers: argmax(logits + Gumbel noise) ~ softmax(logits)."""
        return (self.logits - torch.empty_like(self.logits).exponential_().log()).argmax(-1)

    def log_prob(self, actions: Tensor) -> Tensor:
        """log softmax(logits)[a], `[*B]`, for integer actions `[*B]`."""
        return F.log_softmax(self.logits, -1).gather(-1, actions.unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor:
        """Entropy in nats, `[*B]`."""
        log_p = F.log_softmax(self.logits, -1)
        return -(log_p.exp() * log_p).sum(-1)

    def log_prob_gradient(self, actions: Tensor, weights: Tensor) -> list[Tensor]:
        """The gradient of sum_b weights_b log_prob_b in the logits, `[B, n]`: weights (one-hot(a) - p)."""
        gradient = F.softmax(self.logits, -1) * -weights.unsqueeze(-1)
        return [gradient.scatter_add_(-1, actions.unsqueeze(-1), weights.unsqueeze(-1))]

    def entropy_gradient(self) -> list[Tensor]:
        """The gradient of the mean entropy in the logits, `[B, n]`: -p (log p + H) / B."""
        log_p = F.log_softmax(self.logits, -1)
        return [-log_p.exp() * (log_p + self.entropy().unsqueeze(-1)) / len(self.logits)]

    def kl(self, other: Categorical) -> Tensor:
        """KL(self || other) = sum p (log p - log q), `[*B]`."""
        log_p = F.log_softmax(self.logits, -1)
        return (log_p.exp() * (log_p - F.log_softmax(other.logits, -1))).sum(-1)

    def fisher_output(self, tangent: Tensor) -> Tensor:
        """The Fisher matrix in the logits, diag(p) - p p^T, times a tangent `[*B, n]`."""
        weighted = F.softmax(self.logits, -1) * tangent
        return weighted - F.softmax(self.logits, -1) * weighted.sum(-1, keepdim=True)

    def detach(self) -> Categorical:
        """The same distribution, cut from the graph."""
        return Categorical(self.logits.detach())

    def __getitem__(self, rows: object) -> Categorical:
        """Index the leading dimensions."""
        return Categorical(self.logits[rows])  # type: ignore[index]


@dataclass(frozen=True)
class MultiCategorical:
    """Independent categorical distributions, one for each index of a MultiDiscrete or MultiBinary action.

    Attributes:
        parts: K of them, with logits `[*B, n_k]`; a head's output holds their logits one after the other.
    """

    parts: tuple[Categorical, ...]

    def sample(self) -> Tensor:
        """Samples `[*B, K]` by torch's global random numbers."""
        return torch.stack([part.sample() for part in self.parts], -1)

    def log_prob(self, actions: Tensor) -> Tensor:
        """The sum of the parts' log-probabilities, `[*B]`, for integer actions `[*B, K]`."""
        return _sum([part.log_prob(action) for part, action in zip(self.parts, actions.unbind(-1), strict=True)])

    def entropy(self) -> Tensor:
        """Entropy in nats, `[*B]`."""
        return _sum([part.entropy() for part in self.parts])

    def log_prob_gradient(self, actions: Tensor, weights: Tensor) -> list[Tensor]:
        """The gradient of sum_b weights_b log_prob_b in the logits, `[B, sum n_k]`."""
        columns = zip(self.parts, actions.unbind(-1), strict=True)
        return [torch.cat([part.log_prob_gradient(action, weights)[0] for part, action in columns], -1)]

    def entropy_gradient(self) -> list[Tensor]:
        """The gradient of the mean entropy in the logits, `[B, sum n_k]`."""
        return [torch.cat([part.entropy_gradient()[0] for part in self.parts], -1)]

    def kl(self, other: MultiCategorical) -> Tensor:
        """KL(self || other), the sum of the parts', `[*B]`."""
        return _sum([part.kl(theirs) for part, theirs in zip(self.parts, other.parts, strict=True)])

    def fisher_output(self, tangent: Tensor) -> Tensor:
        """The Fisher matrix in the logits, of one block a part, times a tangent `[*B, sum n_k]`."""
        blocks = tangent.split([part.logits.shape[-1] for part in self.parts], -1)
        return torch.cat([part.fisher_output(block) for part, block in zip(self.parts, blocks, strict=True)], -1)

    def detach(self) -> MultiCategorical:
        """The same distribution, cut from the graph."""
        return MultiCategorical(tuple(part.detach() for part in self.parts))

    def __getitem__(self, rows: object) -> MultiCategorical:
        """Index the leading dimensions."""
        return MultiCategorical(tuple(part[rows] for part in self.parts))


def _sum(terms: list[Tensor]) -> Tensor:
    return torch.stack(terms).sum(0)


Distribution = Gaussian | Categorical | MultiCategorical
"""What TRPO and PPO learn."""
