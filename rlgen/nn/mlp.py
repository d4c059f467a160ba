"""Multilayer perceptrons."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import nn


def mlp(
    n_inputs: int, net_arch: Sequence[int], n_outputs: int, output_gain: float, activation: type[nn.Module] = nn.Tanh
) -> nn.Sequential:
    """Linear layers with an activation between; orthogonal weights (gain sqrt 2, last `output_gain`), zero biases."""
    sizes = [n_inputs, *net_arch]
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers += [_linear(before, after, 2**0.5), activation()]
    return nn.Sequential(*layers, _linear(sizes[-1], n_outputs, output_gain))


def _linear(n_inputs: int, n_outputs: int, gain: float) -> nn.Linear:
    layer = nn.Linear(n_inputs, n_outputs)
    torch.nn.init.orthogonal_(layer.weight, gain)
    torch.nn.init.zeros_(layer.bias)
    return layer
