"""Policy and critic networks, and the actor: a NumPy snapshot of a policy that acts in the environments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlgen.errors import UsageError
from rlgen.functional.distributions import Categorical, Distribution, Gaussian
from rlgen.nn.mlp import mlp
from rlgen.nn.normalizer import RunningNormalizer

Float32 = npt.NDArray[np.float32]


class Policy(nn.Module):
    """A tanh MLP on normalised observations: Gaussian mean with a state-independent log-std (Box), logits (Discrete).

    The last layer starts 100 times smaller, so that the first policy is the same in every state.

    Args:
        observation_space: a Box of one dimension.
        action_space: a Box of one dimension with finite bounds, or a Discrete.
        net_arch: hidden layer sizes.
        log_std_init: initial log standard deviation, in units of the action.

    Raises:
        UsageError: the spaces are others than these.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        net_arch: Sequence[int] = (64, 64),
        log_std_init: float = 0.0,
    ) -> None:
        super().__init__()
        if not isinstance(observation_space, spaces.Box) or len(observation_space.shape) != 1:
            raise UsageError(
                f"observations must be a Box of one dimension (see FlattenObservation); got {observation_space}"
            )
        self.normalizer = RunningNormalizer(observation_space.shape[0])
        self.action_space = action_space
        match action_space:
            case spaces.Box(shape=(n_actions,)) if np.isfinite([action_space.low, action_space.high]).all():
                self.log_std: nn.Parameter | None = nn.Parameter(torch.full((n_actions,), float(log_std_init)))
            case spaces.Discrete(start=0):
                n_actions, self.log_std = int(action_space.n), None
            case _:
                raise UsageError(
                    f"actions must be a bounded Box of one dimension or a Discrete from 0; got {action_space}"
                )
        self.network = mlp(observation_space.shape[0], net_arch, n_actions, output_gain=0.01)

    @classmethod
    def from_state_dict(
        cls, observation_space: spaces.Space[Any], action_space: spaces.Space[Any], state: Mapping[str, Tensor]
    ) -> Self:
        """The policy of saved weights; the hidden layers' sizes are theirs."""
        biases = [name for name in state if name.startswith("network.") and name.endswith(".bias")]
        sizes = [len(state[name]) for name in sorted(biases, key=lambda name: int(name.split(".")[1]))]
        policy = cls(observation_space, action_space, sizes[:-1])
        policy.load_state_dict(state)
        return policy

    def forward(self, obs: Tensor) -> Distribution:
        """The action distribution at raw observations `[*B, D]`."""
        return self.head(self.network(self.normalizer(obs)))

    def head(self, output: Tensor) -> Distribution:
        """The distribution that a network output `[*B, A]` stands for."""
        return Categorical(output) if self.log_std is None else Gaussian(output, self.log_std)


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
        def array(x: Tensor) -> Float32:
            return x.detach().cpu().float().numpy().copy()

        self.rng = rng or np.random.default_rng()
        self.action_space = policy.action_space
        self.clip = np.float32(policy.normalizer.clip)
        self.scale, self.shift = (array(x) for x in policy.normalizer.scale_and_shift())
        linear = [m for m in policy.network if isinstance(m, nn.Linear)]
        self.layers = [(array(m.weight.T), array(m.bias)) for m in linear]
        self.std = None if policy.log_std is None else array(policy.log_std.exp())

    def output(self, obs: npt.NDArray[np.floating[Any]]) -> Float32:
        """Gaussian means or logits `[N, A]` at raw observations `[N, D]`."""
        x = obs.astype(np.float32)
        x *= self.scale
        x += self.shift
        np.clip(x, -self.clip, self.clip, out=x)
        for weight, bias in self.layers[:-1]:
            x = x @ weight
            x += bias
            np.tanh(x, out=x)
        weight, bias = self.layers[-1]
        return x @ weight + bias

    def sample(self, obs: npt.NDArray[np.floating[Any]], deterministic: bool = False) -> npt.NDArray[Any]:
        """Actions before clipping: `[N, A]` float32, or `[N]` int64 for Discrete."""
        output = self.output(obs)
        if self.std is None:
            if not deterministic:  # the Gumbel-max trick: argmax(logits + Gumbel noise) ~ softmax(logits)
                output += self.rng.gumbel(size=output.shape)
            return output.argmax(-1)
        if not deterministic:
            output += self.std * self.rng.standard_normal(output.shape, np.float32)
        return output

    def execute(self, actions: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What the environment is given for a sampled action: clipped to the bounds of a Box."""
        if isinstance(self.action_space, spaces.Box):
            return np.clip(actions, self.action_space.low, self.action_space.high)
        return actions

    def predict(
        self,
        observation: npt.NDArray[np.floating[Any]],
        state: None = None,
        episode_start: npt.NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[npt.NDArray[Any], None]:
        """SB3's interface: executable actions for observations `[N, D]` or `[D]`, and no recurrent state."""
        actions = self.execute(self.sample(np.atleast_2d(observation), deterministic))
        return (actions if np.ndim(observation) > 1 else actions[0]), None
