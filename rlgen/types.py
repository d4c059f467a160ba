"""The types that flow between collector, reward models, advantages and policy optimizers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol, Self, TypeGuard, runtime_checkable

from torch import Tensor

Metrics = Mapping[str, Tensor]
"""Named 0-d tensors on the learner's device; moved to the host once an iteration."""


State = Mapping[str, Any]
"""What a part of a training must keep to go on exactly: tensors, arrays and JSON values, nested by name."""


class Tensors:
    """Base of the tensor dataclasses: the same operation on every field."""

    def apply(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Map a function over every field, e.g. `batch.apply(lambda x: x[rows])`."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return dataclasses.replace(self, **{f.name: function(getattr(self, f.name)) for f in fields})  # type: ignore[type-var]

    def __getitem__(self, rows: object) -> Self:
        """Index the leading dimensions of every field."""
        return self.apply(lambda x: x[rows])  # type: ignore[index]


@dataclasses.dataclass(frozen=True)
class Transitions(Tensors):
    """Steps of the environment with leading dimensions `*B`: a rollout `[T, N]`, a minibatch `[B]`, demonstrations.

    Attributes:
        obs: `[*B, D]`, the raw observation before the step, flat (`rlgen.spaces.FlatBox`); float64 where float32 would
            lose some of it.
        actions: `[*B, *action_shape]` as **executed**, in the environment's own units: int64, or floats as precise as
            the action space.
        next_obs: `[*B, D]`, the **true** successor, never the observation after a reset.
        rewards: `[*B]` float32, the environment's own reward.
        terminated: `[*B]` bool, the episode ended in the task's own sense; never merged with
        truncated: `[*B]` bool, the episode was cut by a time limit.
    """

    obs: Tensor
    actions: Tensor
    next_obs: Tensor
    rewards: Tensor
    terminated: Tensor
    truncated: Tensor

    def flatten(self) -> Self:
        """The same steps with one leading dimension."""
        last = self.rewards.ndim - 1
        return self.apply(lambda x: x.flatten(0, last))


@dataclasses.dataclass(frozen=True)
class Rollout:
    """What one collection of `T` steps in `N` environments gives.

    Attributes:
        transitions: `[T, N]`.
        sampled_actions: what the policy sampled, `[T, N, A]` float32 in units of the space before clipping, or indices:
            the policy loss needs these, a reward model must see the executed ones.
        episode_returns: true returns of the whole episodes that ended in this rollout, for reporting only.
    """

    transitions: Transitions
    sampled_actions: Tensor
    episode_returns: list[float]


@dataclasses.dataclass(frozen=True)
class PolicyBatch(Tensors):
    """What a policy optimizer needs, flattened to `[B]`.

    Attributes:
        obs: `[B, D]` raw observations.
        actions: as sampled, see `Rollout`.
        log_probs: `[B]` log-probability of `actions` under the policy that sampled them.
        values: `[B]` the critic's prediction before this update.
        advantages: `[B]` generalised advantage estimates, not standardised.
        returns: `[B]` the critic's regression targets, `advantages + values`.
    """

    obs: Tensor
    actions: Tensor
    log_probs: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor


class RewardModel(Protocol):
    """Scores transitions, then learns from them. VIME and GAIL are both this."""

    def __call__(self, transitions: Transitions) -> Tensor:
        """Rewards `[*B]`: pure, without gradient."""
        ...

    def update(self, transitions: Transitions) -> Metrics:
        """Learn from a rollout `[T, N]`."""
        ...


@dataclasses.dataclass(frozen=True)
class RewardGradient(Tensors):
    """The derivatives of rewards `[B]` in what they depend on, 0 where they don't.

    Attributes:
        obs: `[B, D]`, in the observation's own units.
        actions: `[B, A]`, in units of the space (`rlgen.nn.actions.ActionCoder`).
        next_obs: `[B, D]`.
    """

    obs: Tensor
    actions: Tensor
    next_obs: Tensor


@runtime_checkable
class DifferentiableReward(Protocol):
    """A reward model whose rewards have a gradient, so that a policy can be improved along it (`rlgen.optim.svg`)."""

    def gradient(self, transitions: Transitions) -> tuple[Tensor, RewardGradient]:
        """Rewards `[B]` of steps `[B]` that end nothing, and their derivatives."""
        ...


def rewards_of(model: RewardModel, transitions: Transitions) -> Tensor:
    """Rewards `[*B]` of a model.

    Raises:
        ValueError: it gave another shape.
    """
    rewards = model(transitions)
    if rewards.shape != transitions.rewards.shape:
        expected, got = list(transitions.rewards.shape), list(rewards.shape)
        raise ValueError(f"a reward model gives one reward a step, [T, N] = {expected}; this one gave {got}")
    return rewards


class Stateful(Protocol):
    """What keeps something from one iteration to the next, a module or not; a checkpoint holds its state."""

    def state_dict(self) -> State:
        """Its state."""
        ...

    def load_state_dict(self, state: State) -> object:
        """Go on from a state."""
        ...


def is_stateful(model: object) -> TypeGuard[Stateful]:
    """Whether a reward model has both methods of `Stateful`; one that has none keeps nothing."""
    return hasattr(model, "state_dict") and hasattr(model, "load_state_dict")


class PolicyOptimizer(Stateful, Protocol):
    """Improves policy and critic from one batch; never knows where its rewards came from.

    Its state is its own; the networks have theirs.
    """

    def update(self, batch: PolicyBatch, progress_remaining: float = 1.0) -> Metrics:
        """One iteration's update of policy and critic; `progress_remaining` falls from 1 to 0 over the training."""
        ...
