"""The critic's regression, shared by optimizers that fit it apart from the policy."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from rlgen.nn.policy import Critic


def fit_critic(
    critic: Critic,
    optimizer: torch.optim.Optimizer,
    obs: Tensor,
    returns: Tensor,
    n_epochs: int,
    batch_size: int,
    max_grad_norm: float = 0.5,
) -> Tensor:
    """Minimise the mean of (V(s) - return)^2 by minibatch passes; gives the last pass's mean loss.

    Args:
        critic: changed in place.
        optimizer: holds the critic's parameters.
        obs: `[B, D]`.
        returns: `[B]`.
        n_epochs: passes over the batch.
        batch_size: rows a step.
        max_grad_norm: the gradient's norm is clipped to this.
    """
    inputs = critic.normalizer(obs)
    parameters = list(critic.network.parameters())
    loss = torch.zeros((), device=obs.device)
    for _ in range(n_epochs):
        total = torch.zeros((), device=obs.device)
        for rows in torch.randperm(len(obs), device=obs.device).split(batch_size):
            error = F.mse_loss(critic.network(inputs[rows]).squeeze(-1), returns[rows])
            optimizer.zero_grad(set_to_none=True)
            error.backward()
            torch.nn.utils.clip_grad_norm_(parameters, max_grad_norm)
            optimizer.step()
            total += error.detach() * len(rows)
        loss = total / len(obs)
    return loss


def explained_variance(values: Tensor, returns: Tensor) -> Tensor:
    """1 - var(returns - values) / var(returns): 1 is perfect, 0 no better than a constant."""
    return 1 - (returns - values).var() / returns.var().clamp_min(1e-12)
