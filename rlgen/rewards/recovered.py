"""The reward that AIRL recovered, to train other policies on."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlgen.errors import CheckpointError
from rlgen.nn.normalizer import RunningNormalizer
from rlgen.types import Metrics, Transitions


class RecoveredReward(nn.Module):
    """g(s) of AIRL, without its shaping and its likelihoods: what carries over to other dynamics. It learns nothing.

    Its constant is arbitrary (Fu et al. 2018, theorem 5.1): where an episode can end early, living on may be worth more
    or less than to the expert.

    Args:
        of_obs: standardises the observations.
        g: network from standardised observations to the reward.
    """

    def __init__(self, of_obs: RunningNormalizer, g: nn.Module) -> None:
        super().__init__()
        self.of_obs, self.g = of_obs, g
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(self, transitions: Transitions) -> Tensor:
        """g(s), `[*B]`.

        Raises:
            CheckpointError: the observations are of another size than the run's.
        """
        if transitions.obs.shape[-1] != len(self.of_obs.mean):
            raise CheckpointError(
                f"the reward is of {len(self.of_obs.mean)} observations, not {transitions.obs.shape[-1]}"
            )
        return self.g(self.of_obs(transitions.obs)).squeeze(-1)

    def update(self, transitions: Transitions) -> Metrics:
        """Nothing to learn."""
        return {}
