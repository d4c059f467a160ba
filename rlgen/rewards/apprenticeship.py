"""Apprenticeship learning: rewards that are linear in fixed features, the baselines of Ho & Ermon (2016)."""

from __future__ import annotations

import abc
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlgen.nn.actions import ActionCoder
from rlgen.nn.normalizer import RunningNormalizer
from rlgen.rewards.endings import TerminationReward
from rlgen.types import Metrics, Transitions


class LinearReward(nn.Module, abc.ABC):
    """Pays w . phi(s, a), where w is the reward of its class that best tells the expert from the last rollout.

    Features: phi = [s, a, s^2, a^2], or one block [s, s^2, 1] an action where actions are Discrete, standardised by
    the expert's statistics, so that the expert's own mean is 0.

    Args:
        expert: pairs `[P]`.
        action_space: Box (clipped to its bounds) or Discrete.
        endings: reward of an episode's end (default: none).
    """

    weights: Tensor

    def __init__(
        self, expert: Transitions, action_space: spaces.Space[Any], endings: TerminationReward | None = None
    ) -> None:
        super().__init__()
        self.actions = ActionCoder(action_space)
        self.endings = endings
        device = expert.obs.device
        self.actions.to(device)
        raw = self._raw_features(expert)
        # The floor leaves constants, and what few demonstrations show as one, at zero.
        self.normalizer = RunningNormalizer(raw.shape[-1], floor=1e-2).to(device)
        self.normalizer.update(raw)
        self.register_buffer("weights", torch.zeros(raw.shape[-1], device=device))

    @abc.abstractmethod
    def best_response(self, gap: Tensor) -> Tensor:
        """The weights `[F]` of the class that maximise w . gap, the expert's mean features less the policy's."""

    @torch.no_grad()
    def forward(self, transitions: Transitions) -> Tensor:
        """Rewards `[*B]` by the weights as they are; with `endings`, of a whole rollout, whose mean counts."""
        rewards = self._of_steps(transitions)
        return rewards if self.endings is None else self.endings(transitions, rewards)

    def _of_steps(self, transitions: Transitions) -> Tensor:
        return self.normalizer(self._raw_features(transitions)) @ self.weights

    @torch.no_grad()
    def update(self, transitions: Transitions) -> Metrics:
        """Answer a rollout `[T, N]` with the weights that tell it best from the expert."""
        of_endings = {} if self.endings is None else self.endings.update(transitions, self._of_steps(transitions))
        gap = -self.normalizer(self._raw_features(transitions.flatten())).mean(0)
        self.weights.copy_(self.best_response(gap))
        return {"feature_gap": gap.norm(), **of_endings}

    def _raw_features(self, transitions: Transitions) -> Tensor:
        obs, actions = transitions.obs, self.actions(transitions.actions)
        if self.actions.units.sizes is None:
            return torch.cat((obs, actions, obs.square(), actions.square()), -1)
        block = torch.cat((obs, obs.square(), torch.ones_like(obs[..., :1])), -1)
        return (actions.unsqueeze(-1) * block.unsqueeze(-2)).flatten(-2)


class FEM(LinearReward):
    """Feature expectation matching (Abbeel & Ng 2004): rewards `w . phi` with `|w| <= 1`."""

    def best_response(self, gap: Tensor) -> Tensor:
        """The gap's direction."""
        return gap / gap.norm().clamp_min(torch.finfo(gap.dtype).tiny)


class GTAL(LinearReward):
    """Game-theoretic apprenticeship learning (Syed & Schapire 2007): w in the simplex over phi and -phi."""

    def best_response(self, gap: Tensor) -> Tensor:
        """The one feature, or negative of a feature, with the largest gap."""
        widest = gap.abs().argmax()
        return torch.zeros_like(gap).index_fill(0, widest, 1.0) * gap[widest].sign()
