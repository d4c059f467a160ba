"""What bonuses share that learn a prediction from a replay pool."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from rlgen.data.replay import ReplayPool
from rlgen.nn.adam import Adam
from rlgen.nn.coded_states import CodedStates
from rlgen.nn.dynamics import DynamicsCoder
from rlgen.nn.flat import check_views, flatten_parameters
from rlgen.nn.normalizer import require_float32
from rlgen.nn.random_features import RandomFeatures
from rlgen.ranges import Checked, Count, NotNegative
from rlgen.types import Metrics, Transitions

N_TESTED = 250
"""Transitions of a rollout that the network is tested on before it learns."""


Coder = DynamicsCoder | RandomFeatures | CodedStates
"""Transitions as `inputs` and `targets` of a network; its `update` lets statistics learn from transitions not seen
before."""


@dataclass(frozen=True)
class PoolConfig(Checked):
    """How the network learns.

    Attributes:
        learning_rate: Adam's step.
        n_updates: Adam steps an iteration.
        batch_size: transitions a step, drawn from the pool.
    """

    learning_rate: NotNegative = 1e-2
    n_updates: Count = 10
    batch_size: Count = 500


class PoolBonus(nn.Module, abc.ABC):
    """A reward model that scores transitions by a network, which learns from a pool of all that came before.

    Args:
        network: its prediction, with `coder.n_inputs` inputs and `coder.n_targets` outputs.
        coder: what the network is given and asked.
        pool: what it learns from.
        config: how.
    """

    config_class: ClassVar[type[PoolConfig]] = PoolConfig

    def __init__(self, network: nn.Module, coder: Coder, pool: ReplayPool, config: PoolConfig | None = None) -> None:
        super().__init__()
        self.network = network
        self.coder = coder
        self.pool = pool
        self.config = config or self.config_class()
        self.learned = [p for p in network.parameters() if p.requires_grad]
        self._flatten()
        self._scored: tuple[Transitions, Tensor] | None = None
        self.register_load_state_dict_post_hook(_forget)

    def _flatten(self) -> None:
        # The vector stays the optimizer's alone: it isn't part of the module's state.
        flat, self.gradients = flatten_parameters(self.learned)
        self.optimizer = Adam([flat], self.config.learning_rate)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move everything, the optimizer too."""
        require_float32(fn)
        super()._apply(fn, recurse)
        self._flatten_again()
        return self

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy, or what was pickled: its weights are no longer views of the optimizer's vector."""
        super().__setstate__(state)
        self._flatten_again()

    def _flatten_again(self) -> None:
        state = self.optimizer.state_dict()
        self._flatten()
        self.optimizer.load_state_dict(state)
        self._forget()

    @abc.abstractmethod
    def score(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Bonuses `[B]`, not negative."""

    @abc.abstractmethod
    def add_gradient(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Put the loss's gradient into the parameters' `.grad`, which are zero; gives the loss, 0-d."""

    @abc.abstractmethod
    def test(self, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Metrics on a rollout that the network hasn't learned from."""

    @torch.no_grad()
    def forward(self, transitions: Transitions) -> Tensor:
        """Bonuses `[*B]` by the network as it is."""
        # Kept, since what is paid for a rollout is asked for again when its size is noted.
        if self._scored is None or self._scored[0] is not transitions:
            rows = transitions.flatten()
            # Noise of its own, the same until the next update: a score is a function of the transitions and the state.
            with torch.random.fork_rng([rows.rewards.device] if rows.rewards.is_cuda else []):
                torch.manual_seed(self.pool.added)
                scores = self.score(self.coder.inputs(rows), self.coder.targets(rows))
            self._scored = transitions, scores.view_as(transitions.rewards)
        return self._scored[1].clone()

    def get_extra_state(self) -> dict[str, Any]:
        """Adam's, beside the network's, the coder's and the pool's."""
        return {"adam": self.optimizer.state_dict()}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.optimizer.load_state_dict(state["adam"])

    def _forget(self) -> None:
        self._scored = None

    @torch.no_grad()
    def update(self, transitions: Transitions) -> Metrics:
        """Test the network on the rollout, put it into the pool, and learn from the pool."""
        rows, size = transitions.flatten(), self.config.batch_size
        self._forget()
        check_views(self.optimizer.parameters[0], self.learned)
        tested = rows[torch.randint(len(rows.rewards), (N_TESTED,), device=rows.rewards.device)]
        metrics = self.test(self.coder.inputs(tested), self.coder.targets(tested)) | dict(self.coder.update(rows))
        self.pool.add(rows)
        drawn = self.pool.sample(self.config.n_updates * size)
        minibatches = zip(self.coder.inputs(drawn).split(size), self.coder.targets(drawn).split(size), strict=True)
        for inputs, targets in minibatches:
            self.optimizer.zero_grad()
            loss = self.add_gradient(inputs, targets)
            self.optimizer.step()
        return metrics | {"loss": loss}


def _forget(bonus: nn.Module, _: object) -> None:
    assert isinstance(bonus, PoolBonus)
    bonus._forget()
