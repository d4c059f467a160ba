"""Losses and rewards of adversarial imitation, on logits: high means expert, D = sigmoid(logit).

Used alone the three rewards differ in what an episode's length is worth, their survival bias; each docstring states its
own. `rlgen.rewards.endings` takes the bias away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def reward_softplus(logits: Tensor) -> Tensor:
    """-log(1 - D) = softplus(logit), in (0, inf): Ho & Ermon (2016), Algorithm 1, with the sign of a reward.

    Survival bias: always positive, it pays for living on, even for an agent that looks nothing like the expert. It fits
    tasks in which staying alive is part of the skill (Hopper, Walker2d).
    """
    return F.softplus(logits)


def reward_log_d(logits: Tensor) -> Tensor:
    """log D = -softplus(-logit), in (-inf, 0).

    Survival bias: always negative, each step costs, and ending the episode early pays. It fits tasks that end on
    success (MountainCar, Acrobot).
    """
    return F.logsigmoid(logits)


def reward_logit(logits: Tensor) -> Tensor:
    """log D - log(1 - D) = logit: the reward of AIRL (Fu et al. 2018) without its shaping.

    Survival bias: no sign of its own. It is zero where policy and expert can't be told apart, and towards living on or
    towards an early end as the discriminator favours the policy's steps or not.
    """
    return logits


def discriminator_loss(
    policy_logits: Tensor, expert_logits: Tensor, expert_label: float = 1.0, entropy_coef: float = 0.0
) -> Tensor:
    """Binary cross-entropy of both sides less an entropy bonus, each side's mean counting once.

        L = mean_policy softplus(s) + mean_expert [softplus(s) - y s] - c (mean_policy H(D) + mean_expert H(D))

    Args:
        policy_logits: `[B]`, labelled 0.
        expert_logits: `[B']`, labelled `expert_label`; below 1 is one-sided label smoothing (Salimans et al. 2016).
        expert_label: y in (0, 1].
        entropy_coef: c, weight of the Bernoulli entropy H in nats.
    """
    loss = F.softplus(policy_logits).mean() + (F.softplus(expert_logits) - expert_label * expert_logits).mean()
    if entropy_coef:
        loss = loss - entropy_coef * (bernoulli_entropy(policy_logits).mean() + bernoulli_entropy(expert_logits).mean())
    return loss


def bernoulli_entropy(logits: Tensor) -> Tensor:
    """Entropy of Bernoulli(sigmoid(logit)) in nats: (1 - D) s - logsigmoid(s)."""
    return (1 - torch.sigmoid(logits)) * logits - F.logsigmoid(logits)


def gradient_penalty(
    network: Callable[[Tensor], Tensor],
    policy_inputs: Tensor,
    expert_inputs: Tensor,
    target_norm: float = 0.0,
    n_features: int | None = None,
) -> Tensor:
    """Mean of `(|d logit / d input| - target)^2` at random points between pairs of both sides.

    A target of 1 is Gulrajani et al. (2017); a target of 0 bounds the slope alone (Mescheder et al. 2018), so that the
    discriminator doesn't have to saturate.

    Args:
        network: `[B, D]` to logits `[B]`.
        policy_inputs: `[B, D]`.
        expert_inputs: `[B, D]`.
        target_norm: the norm that costs nothing.
        n_features: only the slope in this many first inputs counts (default: in all).
    """
    share = torch.rand(len(policy_inputs), 1, device=policy_inputs.device)
    points = (share * policy_inputs + (1 - share) * expert_inputs).requires_grad_()
    (slope,) = torch.autograd.grad(network(points).sum(), points, create_graph=True)
    slope = slope[:, :n_features]
    if target_norm == 0:
        return slope.square().sum(1).mean()
    return (slope.norm(dim=1) - target_norm).square().mean()


def late_gain(losses: Sequence[float]) -> float | None:
    """How much of what a policy gained on its discriminator came in the last fifth of training.

    The loss falls while the discriminator learns to tell the first policies from the expert, then rises as the policy
    gets closer: to 2 log 2 = 1.386 where both sides look alike. With its mean L_i over fifth i of the iterations, this
    is (L_5 - L_4) / (L_5 - min L_i). It needs no true return, and says whether more steps would help.

    Args:
        losses: the column `discriminator_loss` of a run's metrics.

    Returns:
        A share: 0.25 where the loss still rises evenly, near 0 where it has settled, below where it falls. None of
        fewer than ten iterations, or where the last fifth has the lowest loss.
    """
    if len(losses) < 10:
        return None
    fifths = [float(part.mean()) for part in torch.tensor(list(losses), dtype=torch.float64).tensor_split(5)]
    lowest = min(fifths)
    return (fifths[4] - fifths[3]) / (fifths[4] - lowest) if fifths[4] > lowest else None
