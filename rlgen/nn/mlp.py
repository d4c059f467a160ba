"""Multilayer perceptrons."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import nn


def mlp(n_inputs: int, net_arch: Sequence[int], n_outputs: int, output_gain: float) -> nn.Sequential:
    """Linear layers with tanh between; orthogonal weights (gain sqrt 2, last `output_gain`), zero biases."""
    layers: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise((n_inputs, *net_arch, n_outputs)):
        linear = nn.Linear(n_in, n_out)
        nn.init.orthogonal_(linear.weight, 2**0.5 if len(layers) < 2 * len(net_arch) else output_gain)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.Tanh()]
    return nn.Sequential(*layers[:-1])
