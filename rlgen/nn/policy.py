"""Policy and critic networks, and actors: a NumPy snapshot of a policy, or the policy itself on its device."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlgen.errors import UsageError
from rlgen.functional.distributions import Categorical, Distribution, Gaussian, MultiCategorical, SquashedGaussian
from rlgen.functional.squashed import log_std_of
from rlgen.nn.actions import ActionCoder
from rlgen.nn.mlp import mlp
from rlgen.nn.normalizer import RunningNormalizer
from rlgen.spaces import flat_box

Float32 = npt.NDArray[np.float32]


class Policy(nn.Module):
    """A tanh MLP on standardised observations; its output is the head of a distribution over actions.

    A Gaussian with a state-independent log-std for a Box, in units of the space (`rlgen.spaces.ActionUnits`), or a
    squashed one, whose log-std is an output too, between those of `LOG_STD`; logits for Discrete, and for each index of
    a MultiDiscrete or MultiBinary. The last layer starts at zero, so that the first
    policy is the same in every state, whatever the observations' statistics.

    Args:
        observation_space: see `rlgen.spaces.FlatBox`, also for errors.
        action_space: see `rlgen.spaces.ActionUnits`, likewise.
        net_arch: hidden layer sizes.
        log_std_init: initial log standard deviation, in units of the action space; a squashed one's starts midway.
        squash: of a bounded Box, tanh of a Gaussian, as off-policy learners need it.

    Raises:
        UsageError: also for a squashed policy of another action space.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        net_arch: Sequence[int] = (64, 64),
        log_std_init: float = 0.0,
        squash: bool = False,
    ) -> None:
        super().__init__()
        self.squash = squash
        self.observation_space = flat_box(observation_space)
        self.action_space = action_space
        self.net_arch = tuple(net_arch)
        self.actions = ActionCoder(action_space)
        n_observations = self.observation_space.shape[0]
        self.normalizer = RunningNormalizer(n_observations)
        units = self.actions.units
        if squash and not (units.sizes is None and np.isfinite(units.bounds).all()):
            raise UsageError(f"a squashed policy needs actions of a bounded Box; got {action_space}")
        self.log_std = (
            nn.Parameter(torch.full((units.n_outputs,), float(log_std_init)))
            if units.sizes is None and not squash
            else None
        )
        self.network = mlp(n_observations, net_arch, units.n_outputs * (1 + squash), output_gain=0.0, relu=squash)

    def forward(self, obs: Tensor) -> Distribution | SquashedGaussian:
        """The distribution of what is sampled, see `head`, at raw observations `[*B, D]`."""
        output = self.network(self.normalizer(obs))
        if not self.squash:
            return self.head(output)
        mean, raw = output.chunk(2, -1)
        return SquashedGaussian(mean, log_std_of(raw.tanh()))

    @contextlib.contextmanager
    def same_actions(self) -> Iterator[None]:
        """Observation statistics may change inside; the first layer is changed with them so that the actions don't.

        With mean m and scale s before, m' and s' after, W <- W s / s' and b <- b + W s (m' - m). The ratio s / s' is at
        most the normaliser's `clip`: where a feature varies that much more than before, most of it was clipped.
        """
        normalizer, (weight, bias, *_) = self.normalizer, self.network.parameters()
        mean, scale = normalizer.mean.clone(), normalizer.scale()
        yield
        now = normalizer.scale()
        ratio = torch.where(now > 0, scale / now, 0.0).clamp_max(normalizer.clip)
        with torch.no_grad():
            shift = (normalizer.mean - mean) * torch.where(now > 0, ratio * now, scale)
            bias.add_((weight.double() @ shift).float())
            weight.mul_(ratio.float())

    def head(self, output: Tensor) -> Distribution:
        """The distribution that an output `[*B, n_outputs]` of a policy that isn't squashed stands for.

        `actions.samples` gives its values.
        """
        if self.log_std is not None:
            return Gaussian(output, self.log_std)
        if not self.actions.units.sample_shape:
            return Categorical(output)
        blocks = output.split(self.actions.units.sizes, -1)  # type: ignore[arg-type]
        return MultiCategorical(tuple(Categorical(block) for block in blocks))


class Critic(nn.Module):
    """V(s): a tanh MLP on observations normalised by the policy's own statistics (shared, not copied)."""

    def __init__(self, normalizer: RunningNormalizer, net_arch: Sequence[int] = (64, 64)) -> None:
        super().__init__()
        self.normalizer = normalizer
        self.network = mlp(normalizer.mean.shape[0], net_arch, 1, output_gain=1.0)

    def forward(self, obs: Tensor) -> Tensor:
        """Values `[*B]` at raw observations `[*B, D]`."""
        return self.network(self.normalizer(obs)).squeeze(-1)


class Actor:
    """A frozen copy of a policy in NumPy float32, several times faster than torch at a collector's batch sizes.

    It has SB3's `predict`, so `stable_baselines3.common.evaluation.evaluate_policy` takes it.

    Args:
        policy: copied, on any device; later changes of the policy don't reach the actor.
        rng: where actions are sampled from.
    """

    def __init__(self, policy: Policy, rng: np.random.Generator | None = None) -> None:
        def array(x: Tensor) -> npt.NDArray[Any]:
            return x.detach().cpu().numpy().copy()

        self.rng = rng or np.random.default_rng()
        self.observation_space = policy.observation_space
        self.action_space = policy.action_space
        self.units = policy.actions.units
        self.clip = policy.normalizer.clip
        self.mean, self.scale = array(policy.normalizer.mean), array(policy.normalizer.scale())
        linear = [m for m in policy.network if isinstance(m, nn.Linear)]
        self.layers = [(array(m.weight.T), array(m.bias)) for m in linear]
        self.std = None if policy.log_std is None else array(policy.log_std.exp())
        self.squash = policy.squash

    def output(self, obs: npt.NDArray[Any]) -> Float32:
        """Gaussian means or logits `[N, n_outputs]` at raw observations `[N, D]`."""
        standardised = (obs - self.mean) * self.scale
        np.clip(standardised, -self.clip, self.clip, out=standardised)
        x = standardised.astype(np.float32)
        for weight, bias in self.layers[:-1]:
            x = x @ weight
            x += bias
            if self.squash:
                np.maximum(x, 0, out=x)
            else:
                np.tanh(x, out=x)
        weight, bias = self.layers[-1]
        return x @ weight + bias

    def sample(self, obs: npt.NDArray[Any], deterministic: bool = False) -> npt.NDArray[Any]:
        """What the policy samples: `[N, A]` float32 in units of a Box, not clipped; indices `[N]` or `[N, K]` int64."""
        output = self.output(obs)
        if self.squash:
            mean, raw = np.split(output, 2, 1)
            if not deterministic:
                mean = mean + np.exp(log_std_of(np.tanh(raw))) * self.rng.standard_normal(mean.shape, np.float32)
            return np.tanh(mean)
        if self.std is not None:
            if not deterministic:
                output += self.std * self.rng.standard_normal(output.shape, np.float32)
            return output
        if not deterministic:  # the Gumbel-max trick: argmax(logits + Gumbel noise) ~ softmax(logits)
            output += self.rng.gumbel(size=output.shape)
        if not self.units.sample_shape:
            return output.argmax(-1)
        blocks = np.split(output, np.cumsum(self.units.sizes)[:-1], axis=1)  # type: ignore[arg-type]
        return np.stack([block.argmax(-1) for block in blocks], axis=1)

    def execute(self, samples: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The environment's actions for samples: inside its space, of its shape and dtype."""
        return self.units.execute(samples)

    def predict(
        self,
        observation: Any,
        state: None = None,
        episode_start: npt.NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[npt.NDArray[Any], None]:
        """SB3's interface: executable actions for observations; there is no recurrent state.

        Args:
            observation: flat ones `[N, D]` or `[D]`, or elements of the original space, one or stacked.
            deterministic: the mode rather than a sample.
        """
        rows, single = self.observation_space.rows(observation)
        actions = self.execute(self.sample(rows, deterministic))
        return (actions[0] if single else actions), None


class UniformActor(Actor):
    """Actions uniform over a bounded Box, in place of the policy's."""

    def sample(self, obs: npt.NDArray[Any], deterministic: bool = False) -> npt.NDArray[Any]:
        """Uniform in units of the space, `[N, A]` float32."""
        return self.rng.uniform(-1, 1, (len(obs), self.units.n_outputs)).astype(np.float32)


class TensorActor:
    """A policy that acts on its own device, for environments that are there too.

    Args:
        policy: read, not copied: it is not to change while it acts.
        uniform: actions uniform over a bounded Box, in place of the policy's.
    """

    def __init__(self, policy: Policy, uniform: bool = False) -> None:
        self.policy, self.uniform = policy, uniform

    @torch.no_grad()
    def sample(self, obs: Tensor) -> Tensor:
        """What the policy samples at `[N, D]`, as `Actor.sample`, by torch's global random numbers."""
        if self.uniform:
            return 2 * torch.rand(len(obs), self.policy.actions.units.n_outputs, device=obs.device) - 1
        return self.policy(obs).sample()

    def execute(self, samples: Tensor) -> Tensor:
        """As `Actor.execute`."""
        return self.policy.actions.execute(samples)
