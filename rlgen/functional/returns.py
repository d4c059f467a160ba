"""Generalised advantage estimation (Schulman et al. 2016, https://arxiv.org/abs/1506.02438)."""

from __future__ import annotations

import torch
from torch import Tensor


def gae(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    gamma: float,
    gae_lambda: float,
) -> Tensor:
    """Advantages `[T, N]` by the recursion of eq. 16, cut at every episode's end.

        delta_t = r_t + gamma (1 - terminated_t) V(s'_t) - V(s_t)
        A_t = delta_t + gamma lambda (1 - terminated_t)(1 - truncated_t) A_{t+1}

    A truncated step bootstraps from the value of its true successor, a terminated one never does. The last row
    bootstraps as if truncated.

    Args:
        rewards: `[T, N]`, r_t for the step from s_t to s'_t.
        values: `[T, N]`, V(s_t).
        next_values: `[T, N]`, V(s'_t) at the true successor, never at the observation after a reset.
        terminated: `[T, N]` bool.
        truncated: `[T, N]` bool.
        gamma: discount in [0, 1].
        gae_lambda: lambda in [0, 1]; 1 gives discounted returns minus values, 0 the one-step error.
    """
    deltas = rewards + gamma * next_values * ~terminated - values
    decay = gamma * gae_lambda * (~(terminated | truncated)).to(deltas.dtype)
    advantages = torch.empty_like(deltas)
    following = torch.zeros_like(deltas[0])
    for t in reversed(range(len(deltas))):
        following = torch.addcmul(deltas[t], decay[t], following, out=advantages[t])
    return advantages
