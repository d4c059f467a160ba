"""The critic's regression, for optimizers that fit it apart from the policy."""

from __future__ import annotations

import torch
from torch import Tensor

from rlgen.functional import tanh_mlp
from rlgen.nn.adam import Adam
from rlgen.nn.flat import check_views, clip_gradient, flatten_parameters
from rlgen.nn.policy import Critic
from rlgen.types import State


class CriticRegression:
    """Minimises the mean of (V(s) - return)^2 by minibatch passes of Adam, with its gradient in closed form.

    Args:
        critic: on its final device; changed in place.
        learning_rate: Adam's step; assign to change it.
        max_grad_norm: the gradient's norm is clipped to this.
    """

    def __init__(self, critic: Critic, learning_rate: float, max_grad_norm: float = 0.5) -> None:
        self.critic = critic
        self.learning_rate = learning_rate
        self.max_grad_norm = max_grad_norm
        self.weights = list(critic.network.parameters())
        self.flat, self.gradients = flatten_parameters(self.weights)
        self.optimizer = Adam([self.flat], learning_rate)

    def state_dict(self) -> State:
        """Adam's."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state: State) -> None:
        """Go on from a state."""
        self.optimizer.load_state_dict(state)

    @torch.no_grad()
    def fit(self, obs: Tensor, returns: Tensor, n_epochs: int, batch_size: int) -> Tensor:
        """All passes over one batch; gives the last pass's mean loss, 0-d.

        Args:
            obs: `[B, D]`, raw.
            returns: `[B]`.
            n_epochs: passes over the batch.
            batch_size: rows a step.
        """
        check_views(self.flat, self.weights)
        self.optimizer.learning_rate = self.learning_rate
        inputs, targets = self.critic.normalizer(obs), returns.unsqueeze(-1)
        total = torch.zeros((), device=obs.device)
        for _ in range(n_epochs):
            order = torch.randperm(len(obs), device=obs.device)
            total.zero_()
            for rows, target in zip(inputs[order].split(batch_size), targets[order].split(batch_size), strict=True):
                layers = tanh_mlp.forward(rows, self.weights)
                error = layers[-1] - target
                total += error.square().sum()
                tanh_mlp.backward(layers, self.weights, error * (2 / len(error)), self.gradients)
                clip_gradient(self.flat, self.max_grad_norm)
                self.optimizer.step()
        return total / len(obs)


def explained_variance(values: Tensor, returns: Tensor) -> Tensor:
    """1 - var(returns - values) / var(returns): 1 is perfect, 0 no better than a constant."""
    return 1 - (returns - values).var() / returns.var().clamp_min(1e-12)
