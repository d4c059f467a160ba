"""The reward that AIRL recovered, to train other policies on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rlgen.nn.normalizer import RunningNormalizer
from rlgen.types import Metrics, Transitions


class RecoveredReward(nn.Module):
    """g(s) of AIRL, without its shaping and its likelihoods: what carries over to other dynamics. It learns nothing.

    Its constant is arbitrary (Fu et al. 2018, theorem 5.1): where an episode can end early, living on may be worth more
    or less than to the expert.

    Args:
        of_obs: standardises the observations.
        g: network from standardised observations to the reward.
        observation_space: of the task that it was recovered in, as `rlgen.spaces.describe_space` tells it.
    """

    def __init__(self, of_obs: RunningNormalizer, g: nn.Module, observation_space: Any = None) -> None:
        super().__init__()
        self.of_obs, self.g, self.observation_space = of_obs, g, observation_space
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(self, transitions: Transitions) -> Tensor:
        """g(s), `[*B]`."""
        return self.g(self.of_obs(transitions.obs)).squeeze(-1)

    def update(self, transitions: Transitions) -> Metrics:
        """Nothing to learn."""
        return {}
