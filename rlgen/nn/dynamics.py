"""What a model of the dynamics is given and asked, for every kind of model."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlgen.nn.actions import ActionCoder
from rlgen.nn.normalizer import RunningNormalizer
from rlgen.types import Metrics, Transitions


class DynamicsCoder(nn.Module):
    """Transitions as standardised inputs (observation, executed action) and targets (the observation's change).

    Args:
        observation_size: D.
        action_space: see `rlgen.nn.actions.ActionCoder`.
        predict_change: the target is next_obs - obs; otherwise next_obs itself.
    """

    def __init__(
        self,
        observation_size: int,
        action_space: spaces.Space[Any],
        predict_change: bool = True,
    ) -> None:
        super().__init__()
        self.actions = ActionCoder(action_space)
        self.predict_change = predict_change
        self.n_inputs = observation_size + self.actions.size
        self.n_targets = observation_size
        self.of_inputs = RunningNormalizer(self.n_inputs)
        self.of_targets = RunningNormalizer(self.n_targets)

    def inputs(self, transitions: Transitions) -> Tensor:
        """`[*B, n_inputs]`."""
        return self.of_inputs(self._raw_inputs(transitions))

    def targets(self, transitions: Transitions) -> Tensor:
        """`[*B, n_targets]`."""
        return self.of_targets(self._raw_targets(transitions))

    @torch.no_grad()
    def update(self, transitions: Transitions) -> Metrics:
        """Let the statistics learn from transitions of any leading dimensions.

        Returns:
            The error of "no change", the guess that a model has to beat, in the units of the statistics before.
        """
        still = torch.zeros_like(transitions.obs) if self.predict_change else transitions.obs
        error = (self.of_targets(still) - self.targets(transitions)).square().mean()
        self.of_inputs.update(self._raw_inputs(transitions))
        self.of_targets.update(self._raw_targets(transitions))
        return {"no_change_error": error}

    def _raw_inputs(self, transitions: Transitions) -> Tensor:
        return torch.cat((transitions.obs, self.actions(transitions.actions)), -1)

    def _raw_targets(self, transitions: Transitions) -> Tensor:
        return transitions.next_obs - transitions.obs if self.predict_change else transitions.next_obs
