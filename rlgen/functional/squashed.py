"""A squashed Gaussian policy in closed form: reparameterised actions of a ReLU MLP, and gradients back through them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rlgen.functional import tanh_mlp
from rlgen.functional.distributions import log_tanh_slope

LOG_STD = (-4.0, 1.0)
"""Least and largest log standard deviation."""


def log_std_of(x: Any) -> Any:
    """From an output's tanh in (-1, 1) to the range `LOG_STD`, of tensors and arrays alike."""
    low, high = LOG_STD
    return 0.5 * (high - low) * (x + 1) + low


@dataclass(frozen=True)
class Acts:
    """Actions a = tanh(mean + std noise), and what their gradient needs.

    Attributes:
        layers: of the network, see `rlgen.functional.tanh_mlp.forward`; the last holds means and raw log-stds.
        tanh_log_std: tanh of these, `[B, A]`.
        moved: std noise, `[B, A]`.
        actions: `[B, A]`.
        log_prob: log pi(a), `[B]`.
    """

    layers: list[Tensor]
    tanh_log_std: Tensor
    moved: Tensor
    actions: Tensor
    log_prob: Tensor

    @property
    def inputs(self) -> Tensor:
        """What the network was given, `[B, D]`."""
        return self.layers[0]

    @property
    def modes(self) -> Tensor:
        """The actions without noise, `[B, A]`."""
        return self.layers[-1][:, : self.actions.shape[1]].tanh()

    def first(self, n: int) -> Acts:
        """Those of the first rows."""
        rest = (x[:n] for x in (self.tanh_log_std, self.moved, self.actions, self.log_prob))
        return Acts([x[:n] for x in self.layers], *rest)


@torch.no_grad()
def act(inputs: Tensor, parameters: Sequence[Tensor]) -> Acts:
    """Sample at inputs `[B, D]` from the policy with these weights and biases."""
    layers = tanh_mlp.forward(inputs, parameters, torch.relu_)
    mean, raw = layers[-1].chunk(2, -1)
    tanh_log_std = raw.tanh()
    log_std, noise = log_std_of(tanh_log_std), torch.randn_like(mean)
    moved = log_std.exp() * noise
    u = mean + moved
    log_prob = -(0.5 * noise.square() + log_std + log_tanh_slope(u)).sum(-1)
    log_prob -= 0.5 * math.log(2 * math.pi) * mean.shape[-1]
    return Acts(layers, tanh_log_std, moved, u.tanh(), log_prob)


@torch.no_grad()
def deltas(
    acts: Acts,
    parameters: Sequence[Tensor],
    of_actions: Tensor,
    of_log_prob: Tensor,
    of_modes: Tensor | None = None,
) -> list[Tensor]:
    """d J / d inputs `[B, D]`, then d J / d output of each layer before its activation.

    Args:
        acts: what `act` gave.
        parameters: as there.
        of_actions: d J / d actions, `[B, A]`.
        of_log_prob: d J / d log pi, `[B]`.
        of_modes: d J / d modes, `[B, A]` (default: none).
    """
    a, weight = acts.actions, of_log_prob.unsqueeze(-1)
    of_mean = torch.addcmul(2 * weight * a, of_actions, 1 - a * a)
    of_log_std = of_mean * acts.moved - weight
    if of_modes is not None:
        of_mean = torch.addcmul(of_mean, of_modes, 1 - acts.modes.square())
    of_raw = of_log_std * (1 - acts.tanh_log_std.square()) * (0.5 * (LOG_STD[1] - LOG_STD[0]))
    return tanh_mlp.input_gradient(acts.layers, parameters, torch.cat((of_mean, of_raw), -1), relu=True)
