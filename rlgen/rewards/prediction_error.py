"""Prediction error as a bonus: of the dynamics (L2), or of random features (RND)."""

from __future__ import annotations

from torch import Tensor

from rlgen.functional import tanh_mlp
from rlgen.rewards.pool_bonus import PoolBonus


class PredictionError(PoolBonus):
    """Pays the mean squared error of a network's prediction of a transition.

    With `rlgen.nn.dynamics.DynamicsCoder` it is the error of the dynamics (L2); with
    `rlgen.nn.random_features.RandomFeatures` it is Random Network Distillation (Burda et al. 2018,
    https://arxiv.org/abs/1810.12894).

    Its arguments are those of `PoolBonus`, the network a tanh MLP (`rlgen.nn.mlp.mlp`).
    """

    def score(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Mean over the targets' dimensions, `[B]`."""
        return (tanh_mlp.forward(inputs, self.learned)[-1] - targets).square().mean(-1)

    def add_gradient(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """The mean squared error's; gives the error."""
        layers = tanh_mlp.forward(inputs, self.learned)
        error = layers[-1] - targets
        tanh_mlp.backward(layers, self.learned, error * (2 / error.numel()), self.gradients)
        return error.square().mean()

    def test(self, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Mean squared error."""
        return {"error": self.score(inputs, targets).mean()}
