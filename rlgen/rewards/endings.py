"""What an episode's end says of a policy: the absorbing states of adversarial imitation, in closed form."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from rlgen.ranges import Positive, Share, ShareBelowOne, check
from rlgen.types import Transitions


class TerminationReward(nn.Module):
    """A constant for each step that makes ending as often as the expert worth what it is to the expert.

    Discriminator-Actor-Critic (Kostrikov et al. 2019) lets an episode that terminates go on in an absorbing state for
    ever and has the discriminator learn that state's reward. There is nothing to learn: weighed by its discounted
    future, an absorbing state makes up a share p = h / (h + 1 - gamma) of a policy's pairs, h being terminations per
    step, so the best discriminator's logit is log(p_E / p) there and is shifted by log((1 - p_E) / (1 - p)) at all
    other pairs. A reward of the logit's form may be moved by a constant if the absorbing state's moves too; with that
    at 0, as the end of an episode counts, gamma cancels and each step's reward grows by

        lambda = log((h + eps) / (h_E + eps)).

    A policy that terminates more often than the expert is rewarded for living on, one that does so less often for
    ending. Time limits terminate nothing. https://arxiv.org/abs/1809.02925

    Args:
        expert_rate: h_E, the terminations per step of the expert's whole episodes.
        decay: weight of all earlier rollouts beside the next.
        eps: terminations per step that count as none.

    Raises:
        UsageError: a number outside its range.
    """

    counts: Tensor

    def __init__(self, expert_rate: float, decay: float = 0.9, eps: float = 1e-4) -> None:
        super().__init__()
        check("expert_rate", expert_rate, Share)
        check("decay", decay, ShareBelowOne)
        check("eps", eps, Positive)
        self.expert_rate, self.decay, self.eps = expert_rate, decay, eps
        self.register_buffer("counts", torch.zeros(2, dtype=torch.float64))

    def _counts(self, transitions: Transitions) -> Tensor:
        ends = transitions.terminated
        return self.decay * self.counts + torch.stack((ends.sum(), torch.ones_like(ends).sum()))

    @torch.no_grad()
    def forward(self, transitions: Transitions) -> Tensor:
        """lambda, 0-d, by the rollouts so far and this one."""
        n_terminations, n_steps = self._counts(transitions)
        return (n_terminations / n_steps + self.eps).log() - math.log(self.expert_rate + self.eps)

    def update(self, transitions: Transitions) -> None:
        """Count a rollout."""
        self.counts.copy_(self._counts(transitions))
