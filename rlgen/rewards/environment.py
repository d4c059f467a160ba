"""The environment's own reward, as a reward model."""

from __future__ import annotations

from torch import Tensor

from rlgen.types import Metrics, Transitions


class EnvironmentReward:
    """Pays what the environment paid; learns nothing."""

    def __call__(self, transitions: Transitions) -> Tensor:
        """`transitions.rewards`, `[*B]`."""
        return transitions.rewards

    def update(self, transitions: Transitions) -> Metrics:
        """Nothing to learn; tells the largest reward of the rollout."""
        return {"reward_max": transitions.rewards.max()}
