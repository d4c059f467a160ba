"""Discriminators: they tell an expert's state-action pairs from the policy's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from rlgen.errors import UsageError
from rlgen.functional import tanh_mlp
from rlgen.functional.distributions import Gaussian, SquashedGaussian
from rlgen.nn.actions import ActionCoder
from rlgen.nn.bottleneck import Bottleneck
from rlgen.nn.improved_gan import MinibatchFeatures, VirtualBatchNorm
from rlgen.nn.mlp import mlp
from rlgen.nn.normalizer import RunningNormalizer
from rlgen.nn.policy import Policy
from rlgen.types import RewardGradient, Transitions

FLOOR = 1e-2
"""Least standard deviation that the expert's inputs are divided by: a share of the policy's for observations, of the
space's unit for actions. What hardly varies in a few demonstrations would be blown up on the policy's side without."""


class _Inputs(nn.Module):
    """Observations and executed actions as a discriminator sees them: coded and normalised by their statistics."""

    parts: Sequence[str] = ("obs", "actions", "next_obs")
    n_flags = 0  # inputs beside the parts
    group = 1  # consecutive rows that are told apart together

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

    def score(self, inputs: Tensor) -> Tensor:
        """What a policy is rewarded for, before `rlgen.functional.adversarial`: the logits."""
        return self(inputs)

    @torch.no_grad()
    def gradient(self, transitions: Transitions) -> tuple[Tensor, RewardGradient]:
        """Scores `[B]` of steps `[B]` that end nothing, and their derivatives."""
        raw = self.raw_parts(transitions)
        seen = {name: self.of_part(name).with_slope(raw[name]) for name in self.parts}
        with torch.enable_grad():
            leaves = [y.requires_grad_() for y, _ in seen.values()]
            flags = torch.zeros(len(transitions.rewards), self.n_flags, device=leaves[0].device)
            scores = self.score(torch.cat((*leaves, flags), -1))
            of_leaves = torch.autograd.grad(scores.sum(), leaves, allow_unused=True, materialize_grads=True)
        slopes = (slope for _, slope in seen.values())
        return scores.detach(), self._in_units(raw, [x * y for x, y in zip(of_leaves, slopes, strict=True)])

    def _in_units(self, raw: Mapping[str, Tensor], found: Sequence[Tensor]) -> RewardGradient:
        of_parts = dict(zip(self.parts, found, strict=True))
        return RewardGradient(*(of_parts.get(x, torch.zeros_like(raw[x], dtype=torch.float32)) for x in raw))

    def penalties(self) -> Iterable[Callable[[], Tensor]]:
        """What a loss on the latest rows is to have added, each called once a step."""
        return [layer.penalty for layer in self.modules() if isinstance(layer, Bottleneck)]

    def compare(self, policy_inputs: Tensor, expert_inputs: Tensor) -> dict[str, Tensor]:
        """Take in both sides `[B, D]` after the steps of an iteration; metrics of its parts."""
        parts = (layer for layer in self.modules() if isinstance(layer, Bottleneck))
        return {name: value for layer in parts for name, value in layer.metrics().items()}


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
        reference: rows `[R]`, on the final device, by which hidden layers are normalised
            (`rlgen.nn.improved_gan.VirtualBatchNorm`; default: they aren't).
        group: number of consecutive rows that are told apart together, by `rlgen.nn.improved_gan.MinibatchFeatures`
            too where there are several.
        information_limit: nats that it may know of a row, see `rlgen.nn.bottleneck.Bottleneck` (default: no limit).

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
        reference: Transitions | None = None,
        group: int = 1,
        information_limit: float | None = None,
    ) -> None:
        super().__init__(observation_size, action_space, symlog, spread)
        self.parts = parts
        if not 0 <= dropout < 1:
            raise UsageError(f"dropout must be in [0, 1); got {dropout}")
        sizes = {"obs": observation_size, "actions": self.actions.size, "next_obs": observation_size}
        n_inputs = self.n_features = sum(sizes[part] for part in parts)
        *hidden, last = mlp(n_inputs, net_arch, 1, output_gain=0.01)
        self.reference, self.group = reference, group
        if reference is not None:
            norms = [VirtualBatchNorm(width, len(reference.rewards)) for width in net_arch]
            hidden = [x for i, norm in enumerate(norms) for x in (hidden[2 * i], norm, hidden[2 * i + 1])]
        self.n_hidden = len(hidden)
        width = self.n_last = net_arch[-1] if net_arch else n_inputs
        if group > 1:
            hidden.append(minibatch := MinibatchFeatures(width, group))
            width = minibatch.n_outputs
        if information_limit is not None:
            hidden.append(Bottleneck(width, information_limit))
        if len(hidden) > self.n_hidden:
            (last,) = mlp(width, (), 1, output_gain=0.01)
        self.network = nn.Sequential(*hidden, last)
        if spectral_norm:
            for layer in list(self.network.modules()):
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

    @torch.no_grad()
    def gradient(self, transitions: Transitions) -> tuple[Tensor, RewardGradient]:
        """Scores `[B]` of steps `[B]`, and their derivatives."""
        if not self._is_mlp():
            return super().gradient(transitions)
        raw = self.raw_parts(transitions)
        seen = [self.of_part(name).with_slope(raw[name]) for name in self.parts]
        weights = [x for layer in self.network if isinstance(layer, nn.Linear) for x in (layer.weight, layer.bias)]
        layers = tanh_mlp.forward(torch.cat([y for y, _ in seen], -1), weights, tanh_mlp.quick_tanh_)
        of_inputs = tanh_mlp.input_gradient(layers, weights, torch.ones_like(layers[-1]))[0]
        split = of_inputs.split([slope.shape[-1] for _, slope in seen], -1)
        found = [x * slope for x, (_, slope) in zip(split, seen, strict=True)]
        return layers[-1].squeeze(-1), self._in_units(raw, found)

    def _is_mlp(self) -> bool:
        """Whether the scores are those of a tanh MLP, which has a gradient in closed form."""
        return all(isinstance(layer, nn.Linear | nn.Tanh) for layer in self.network)

    def features(self, inputs: Tensor) -> Tensor:
        """The last hidden layer, `[B, H]`."""
        if self.dropout:
            inputs = F.dropout(inputs, self.dropout, self.training)
        hidden = list(self.network)[: self.n_hidden]
        if self.reference is None:
            return _through(hidden, inputs)
        reference = self.inputs(self.reference)
        return _through(hidden, torch.cat((reference, inputs)))[len(reference) :]

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits `[B]` of `inputs`."""
        return _through(list(self.network)[self.n_hidden :], self.features(inputs)).squeeze(-1)


def _through(layers: Sequence[nn.Module], x: Tensor) -> Tensor:
    for layer in layers:  # a slice of nn.Sequential would be a new module each time
        x = layer(x)
    return x


class FeatureMatching(Discriminator):
    """Rewards what moves the policy's mean features to the expert's, as FEM does, by the features that it learned.

    f being the last hidden layer (Salimans et al. 2016, section 3.1, turned into a reward), and the means those of the
    rows that the last update saw,

        r(s, a) = w . (f(s, a) - mean_E f),  w = (mean_E f - mean_pi f) / norm(mean_E f - mean_pi f).

    So the expert earns 0 on average, and the policy minus the distance of the means. Before the first update all is 0.
    """

    direction: Tensor
    expert_mean: Tensor

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for name in ("direction", "expert_mean"):
            self.register_buffer(name, torch.zeros(self.n_last))

    def score(self, inputs: Tensor) -> Tensor:
        """r `[B]`."""
        return (self.features(inputs) - self.expert_mean) @ self.direction

    def _is_mlp(self) -> bool:
        return False

    @torch.no_grad()
    def compare(self, policy_inputs: Tensor, expert_inputs: Tensor) -> dict[str, Tensor]:
        """Let the means be those of these rows; the distance between them, beside the others' metrics."""
        self.eval()
        self.expert_mean = self.features(expert_inputs).mean(0)
        gap = self.expert_mean - self.features(policy_inputs).mean(0)
        self.direction = gap / gap.norm().clamp_min(torch.finfo(gap.dtype).tiny)
        return {"feature_gap": gap.norm(), **super().compare(policy_inputs, expert_inputs)}


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

    n_flags = 2

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
