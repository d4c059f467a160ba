"""Discriminators: they tell an expert's state-action pairs from the policy's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from rlgen.errors import UsageError
from rlgen.functional import tanh_mlp
from rlgen.functional.distributions import Gaussian, SquashedGaussian
from rlgen.nn.actions import ActionCoder
from rlgen.nn.mlp import mlp
from rlgen.nn.normalizer import RunningNormalizer
from rlgen.nn.policy import Policy
from rlgen.types import RewardGradient, Transitions

FLOOR = 1e-2
"""Least standard deviation that the expert's inputs are divided by: a share of the policy's for observations, of the
space's unit for actions. What hardly varies in a few demonstrations would be blown up on the policy's side without."""


class _Inputs(nn.Module):
    """Observations and executed actions as a discriminator sees them: coded and normalised by their statistics."""

    def __init__(
        self, observation_size: int, action_space: spaces.Space[Any], symlog: bool, spread: RunningNormalizer | None
    ) -> None:
        super().__init__()
        self.actions = ActionCoder(action_space)
        self.of_obs = RunningNormalizer(observation_size, floor=FLOOR, spread=spread, symlog=symlog)
        self.of_actions = RunningNormalizer(self.actions.size, floor=FLOOR, symlog=symlog)

    def update_statistics(self, transitions: Transitions, weight: float | None = None) -> None:
        """Let the inputs' statistics learn from transitions that count as `weight` rows (default: their number)."""
        self.of_obs.update(transitions.obs, weight)
        self.of_actions.update(self.actions(transitions.actions), weight)

    def raw_parts(self, transitions: Transitions) -> dict[str, Tensor]:
        """What can be seen of transitions: observations in their own units, actions in units of the space."""
        return {
            "obs": transitions.obs,
            "actions": self.actions(transitions.actions),
            "next_obs": transitions.next_obs,
        }

    def of_part(self, name: str) -> RunningNormalizer:
        """What normalises a part of transitions."""
        return self.of_actions if name == "actions" else self.of_obs


class Discriminator(_Inputs):
    """Logits of a tanh MLP on parts of transitions, by default (observation, executed action), high for the expert.

    Both sides pass through the same clipping, one-hot coding and normalisation here, so that neither carries a cue of
    how it was stored. It sees no time, no flags and no rewards.

    Args:
        observation_size: D.
        action_space: see `rlgen.nn.actions.ActionCoder`.
        net_arch: hidden layer sizes.
        spectral_norm: divide each layer's weight by its largest singular value (Miyato et al. 2018).
        dropout: share of the inputs that is dropped in training.
        symlog: of the inputs, see `rlgen.nn.normalizer.RunningNormalizer`; otherwise they are clipped.
        spread: statistics of the policy's observations, whose deviations `FLOOR` is a share of (default: the
            observations' own units).
        parts: what it sees, of `obs`, `actions` and `next_obs`.

    Raises:
        UsageError: a dropout outside [0, 1).
    """

    def __init__(
        self,
        observation_size: int,
        action_space: spaces.Space[Any],
        net_arch: Sequence[int] = (100, 100),
        spectral_norm: bool = False,
        dropout: float = 0.0,
        symlog: bool = False,
        spread: RunningNormalizer | None = None,
        parts: Sequence[str] = ("obs", "actions"),
    ) -> None:
        super().__init__(observation_size, action_space, symlog, spread)
        self.parts = parts
        if not 0 <= dropout < 1:
            raise UsageError(f"dropout must be in [0, 1); got {dropout}")
        sizes = {"obs": observation_size, "actions": self.actions.size, "next_obs": observation_size}
        n_inputs = self.n_features = sum(sizes[part] for part in parts)
        self.network = mlp(n_inputs, net_arch, 1, output_gain=0.01)
        if spectral_norm:
            for layer in self.network:
                if isinstance(layer, nn.Linear):
                    torch.nn.utils.parametrizations.spectral_norm(layer)
        self.dropout = dropout

    def update_statistics(self, transitions: Transitions, weight: float | None = None) -> None:
        """As for other discriminators, of the parts that this one sees."""
        for part in self.parts:
            if part == "actions":
                self.of_actions.update(self.actions(transitions.actions), weight)
            else:
                self.of_obs.update(getattr(transitions, part), weight)

    def inputs(self, transitions: Transitions) -> Tensor:
        """The parts, normalised, `[*B, n_features]`."""
        return torch.cat([self._normalised(transitions, part) for part in self.parts], -1)

    def _normalised(self, transitions: Transitions, part: str) -> Tensor:
        if part == "actions":
            return self.of_actions(self.actions(transitions.actions))
        return self.of_obs(getattr(transitions, part))

    def score(self, inputs: Tensor) -> Tensor:
        """What a policy is rewarded for, before `rlgen.functional.adversarial`: the logits."""
        return self(inputs)

    @torch.no_grad()
    def gradient(self, transitions: Transitions) -> tuple[Tensor, RewardGradient]:
        """Logits `[B]` of steps `[B]`, and their derivatives."""
        parts = self.raw_parts(transitions)
        seen = {name: self.of_part(name).with_slope(parts[name]) for name in self.parts}
        weights = [x for layer in self.network if isinstance(layer, nn.Linear) for x in (layer.weight, layer.bias)]
        layers = tanh_mlp.forward(torch.cat([y for y, _ in seen.values()], -1), weights, tanh_mlp.quick_tanh_)
        of_inputs = tanh_mlp.input_gradient(layers, weights, torch.ones_like(layers[-1]))[0]
        slopes = [slope for _, slope in seen.values()]
        split = of_inputs.split([slope.shape[-1] for slope in slopes], -1)
        found = {name: x * slope for name, x, slope in zip(seen, split, slopes, strict=True)}
        return layers[-1].squeeze(-1), RewardGradient(
            *(found[name] if name in found else torch.zeros_like(x, dtype=torch.float32) for name, x in parts.items())
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits `[*B]` of `inputs`."""
        if self.dropout:
            inputs = F.dropout(inputs, self.dropout, self.training)
        return self.network(inputs).squeeze(-1)


class ShapedDiscriminator(_Inputs):
    """AIRL's discriminator (Fu et al. 2018, eqs. 4 and 8), which tells e^f from the policy's likelihood pi.

        logit = log(1 + e^f) - log(1 + pi),  f(s, s') = g(s) + gamma h(s') - h(s), with h = 0 once terminated

    As in the paper's f - log pi, where the policy is the expert nothing can be told apart and f = log pi. If the
    dynamics are deterministic and link all states, that determines g up to a constant: it is the expert's reward if
    that depends on the state alone, and h its soft value (section 6). A g(s, a) is not determined: any shaping of the
    reward would do.

    pi is the likelihood of the action that was **executed**, relative to a standard normal policy: the ratio of
    densities inside the bounds, of the tails' masses at one (of Discrete actions, to the uniform policy). So it has no
    unit, and a clipped expert isn't told by its actions' bounds. The ones bound what log pi adds: it alone would tell a
    policy of little noise from the expert, whatever f is, and f would learn nothing.
    https://arxiv.org/abs/1710.11248

    Args:
        policy: whose actions are told from the expert's; read, never changed.
        net_arch: hidden layer sizes of g and h each.
        gamma: the learner's discount.
        symlog: as in `Discriminator`.
        state_only: g of the state alone; otherwise of state and action.
    """

    def __init__(
        self,
        policy: Policy,
        net_arch: Sequence[int] = (100, 100),
        gamma: float = 0.99,
        symlog: bool = False,
        state_only: bool = True,
    ) -> None:
        n_obs = policy.normalizer.mean.shape[0]
        super().__init__(n_obs, policy.action_space, symlog, policy.normalizer)
        # Held in a tuple: its weights are no part of this module.
        self._policy = (policy,)
        self.gamma = gamma
        self.state_only = state_only
        self.sizes = [n_obs, self.actions.size, n_obs, 1, 1]
        self.n_features = 2 * n_obs + self.actions.size
        n_inputs = n_obs if state_only else n_obs + self.actions.size
        self.network = nn.ModuleDict(
            {"g": mlp(n_inputs, net_arch, 1, output_gain=0.01), "h": mlp(n_obs, net_arch, 1, output_gain=0.01)}
        )

    def inputs(self, transitions: Transitions) -> Tensor:
        """Normalised observation, action, next observation; whether it terminated; log pi: `[*B, 2 D + A + 2]`."""
        return torch.cat(
            (
                self.of_obs(transitions.obs),
                self.of_actions(self.actions(transitions.actions)),
                self.of_obs(transitions.next_obs),
                transitions.terminated.unsqueeze(-1).float(),
                self.log_likelihood(transitions).unsqueeze(-1),
            ),
            -1,
        )

    @torch.no_grad()
    def log_likelihood(self, transitions: Transitions) -> Tensor:
        """log pi of the executed actions, `[*B]`."""
        (policy,) = self._policy
        distribution, samples = policy(transitions.obs), self.actions.samples(transitions.actions)
        if isinstance(distribution, SquashedGaussian):  # the slopes of tanh are the same on both sides
            zeros = torch.zeros_like(samples)
            return distribution.log_prob(samples) - SquashedGaussian(zeros, zeros).log_prob(samples)
        if not isinstance(distribution, Gaussian):
            return distribution.log_prob(samples) + math.log(math.prod(self.actions.units.sizes or ()))
        standard = Gaussian(torch.zeros_like(distribution.mean), torch.zeros_like(distribution.log_std))
        low, high = self.actions.low, self.actions.high
        return distribution.clipped_log_prob(samples, low, high) - standard.clipped_log_prob(samples, low, high)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits `[*B]` of `inputs`."""
        return F.softplus(self.score(inputs)) - F.softplus(inputs[..., -1])

    def score(self, inputs: Tensor) -> Tensor:
        """f `[*B]`, the shaped reward. The logit would reward noise besides: its -log pi is an entropy bonus."""
        obs, actions, next_obs, terminated, _ = inputs.split(self.sizes, -1)
        reward = self.network["g"](obs if self.state_only else torch.cat((obs, actions), -1))
        shaping = self.gamma * (1 - terminated) * self.network["h"](next_obs) - self.network["h"](obs)
        return (reward + shaping).squeeze(-1)

    @torch.no_grad()
    def gradient(self, transitions: Transitions) -> tuple[Tensor, RewardGradient]:
        """f `[B]` of steps `[B]` that end nothing, and its derivatives."""
        seen = {name: self.of_part(name).with_slope(x) for name, x in self.raw_parts(transitions).items()}
        with torch.enable_grad():
            leaves = [y.requires_grad_() for y, _ in seen.values()]
            flags = torch.zeros(len(transitions.rewards), 2, device=leaves[0].device)
            scores = self.score(torch.cat((*leaves, flags), -1))
            found = torch.autograd.grad(scores.sum(), leaves, allow_unused=True, materialize_grads=True)
        slopes = (slope for _, slope in seen.values())
        return scores.detach(), RewardGradient(*(x * slope for x, slope in zip(found, slopes, strict=True)))
