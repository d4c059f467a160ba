"""Multilayer perceptrons."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rlgen.functional import silu_mlp


def mlp(
    n_inputs: int, net_arch: Sequence[int], n_outputs: int, output_gain: float, relu: bool = False
) -> nn.Sequential:
    """Linear layers with tanh, or ReLU, between; orthogonal weights (gain sqrt 2, last `output_gain`), zero biases."""
    layers: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise((n_inputs, *net_arch, n_outputs)):
        linear = nn.Linear(n_in, n_out)
        nn.init.orthogonal_(linear.weight, 2**0.5 if len(layers) < 2 * len(net_arch) else output_gain)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.ReLU() if relu else nn.Tanh()]
    return nn.Sequential(*layers[:-1])


class MLPs(nn.Module):
    """K independent SiLU MLPs of one shape, evaluated and differentiated side by side (`rlgen.functional.silu_mlp`).

    Weights start as Kaiming's uniform ones, biases at zero, the last layer at `output_gain` times that.

    Args:
        n_networks: K.
        n_inputs: D.
        net_arch: hidden layer sizes.
        n_outputs: of each.
        layer_norm: normalise each hidden layer.
        output_gain: scale of the last layer's first weights.
    """

    def __init__(
        self,
        n_networks: int,
        n_inputs: int,
        net_arch: Sequence[int],
        n_outputs: int,
        layer_norm: bool = False,
        output_gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.layer_norm = layer_norm
        self.weights = nn.ParameterList()
        sizes = list(itertools.pairwise((n_inputs, *net_arch, n_outputs)))
        for i, (n_in, n_out) in enumerate(sizes):
            gain = output_gain if i == len(sizes) - 1 else 1.0
            self.weights.append(torch.empty(n_networks, n_in, n_out).uniform_(-1, 1) * gain * n_in**-0.5)
            self.weights.append(torch.zeros(n_networks, 1, n_out))

    def sweep(self, inputs: Tensor) -> silu_mlp.Sweep:
        """Outputs and what gradients need; inputs `[K, B, D]`, or `[B, D]` the same for all."""
        if inputs.ndim == 2:
            inputs = inputs.expand(len(self.weights[0]), *inputs.shape)
        return silu_mlp.forward(inputs, list(self.weights), self.layer_norm)

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs `[K, B, n_outputs]`, without gradient."""
        return self.sweep(inputs).output
