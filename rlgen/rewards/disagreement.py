"""Disagreement of an ensemble as a bonus (Pathak et al. 2019, https://arxiv.org/abs/1906.04161)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rlgen.data.replay import ReplayPool
from rlgen.functional import tanh_mlp
from rlgen.nn.dynamics import DynamicsCoder
from rlgen.rewards.pool_bonus import PoolBonus, PoolConfig


class Disagreement(PoolBonus):
    """Pays the variance of the predictions of networks that differ in where they started and in what they saw.

    A step gives each network another part of its minibatch, drawn apart.

    Args:
        networks: tanh MLPs (`rlgen.nn.mlp.mlp`); the other arguments are those of `PoolBonus`.
    """

    network: nn.ModuleList

    def __init__(
        self, networks: Sequence[nn.Module], coder: DynamicsCoder, pool: ReplayPool, config: PoolConfig | None = None
    ) -> None:
        super().__init__(nn.ModuleList(networks), coder, pool, config)

    def predictions(self, inputs: Tensor) -> Tensor:
        """`[K, B, n_targets]`."""
        return torch.stack([tanh_mlp.forward(inputs, list(member.parameters()))[-1] for member in self.network])

    def score(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Variance over the networks, mean over the targets' dimensions, `[B]`."""
        return self.predictions(inputs).var(0, correction=0).mean(-1)

    def add_gradient(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """The mean squared error's of each network; gives the mean of the errors."""
        n_members, errors, gradients = len(self.network), [], iter(self.gradients)
        for member, rows, wanted in zip(
            self.network, inputs.tensor_split(n_members), targets.tensor_split(n_members), strict=True
        ):
            weights = list(member.parameters())
            layers = tanh_mlp.forward(rows, weights)
            error = layers[-1] - wanted
            tanh_mlp.backward(layers, weights, error * (2 / error.numel()), [next(gradients) for _ in weights])
            errors.append(error.square().mean())
        return torch.stack(errors).mean()

    def test(self, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Mean squared error of the mean prediction."""
        return {"error": (self.predictions(inputs).mean(0) - targets).square().mean()}
