"""What an episode's end says of a policy: the absorbing states of adversarial imitation, in closed form."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from rlgen.data.replay import ReplayPool
from rlgen.ranges import Count, Positive, Share, ShareBelowOne, check
from rlgen.types import Metrics, RewardModel, Transitions


class TerminalStates(nn.Module):
    """How much likelier a terminal observation is with the expert than with the policy: f = log(q_E / q).

    Few terminations of the expert say little of where it never ends. So f is shrunk towards 0, as if m more
    terminations of the expert had been seen beside its n, distributed as the policy's are; with the discriminator's
    logit l,

        f = log((n e^l + m) / (n + m)).

    Args:
        model: gives l of next observations and learns it from terminations, such as `rlgen.rewards.gail.GAIL`.
        pool: keeps the policy's recent terminations, since a rollout may hold one or none.
        n_expert: n.
        prior_count: m.

    Raises:
        UsageError: a number outside its range.
    """

    # Of a policy that hardly ever terminates, so many are kept however old they are.
    least = 50

    def __init__(self, model: RewardModel, pool: ReplayPool, n_expert: int, prior_count: float = 10.0) -> None:
        super().__init__()
        check("n_expert", n_expert, Count)
        check("prior_count", prior_count, Positive)
        self.model, self.pool, self.n_expert, self.prior_count = model, pool, n_expert, prior_count

    def forward(self, terminations: Transitions) -> Tensor:
        """f `[B]` of terminations `[B]`."""
        n, m = self.n_expert, self.prior_count
        logits = self.model(terminations)
        prior = torch.full_like(logits, math.log(m))
        return torch.logaddexp(logits + math.log(n), prior) - math.log(n + m)

    def update(self, transitions: Transitions, n_recent: float) -> None:
        """Learn from the terminations of a rollout and `n_recent` before it, but `least` where these are fewer."""
        self.pool.add(transitions[transitions.terminated])
        if len(self.pool):
            size = self.pool.capacity
            self.model.update(self.pool.sample(size, max(math.ceil(n_recent), self.least)))


def ending_weight(expert_rate: float, gamma: float) -> float:
    """The expert's terminations expected within the horizon 1 / (1 - gamma) of returns, at most 1."""
    return min(1.0, expert_rate * (1 + gamma / (1 - gamma)))


class TerminationReward(nn.Module):
    """What makes ending as often as the expert, and where the expert ends, worth what it is to the expert.

    Discriminator-Actor-Critic (Kostrikov et al. 2019) lets an episode that terminates go on in an absorbing state for
    ever and has the discriminator learn that state's reward. There is nothing to learn: weighed by its discounted
    future, an absorbing state makes up a share p = h / (h + 1 - gamma) of a policy's pairs, h being terminations per
    step, so the best discriminator's logit is log(p_E / p) there and is shifted by log((1 - p_E) / (1 - p)) at all
    other pairs. A reward of the logit's form may be moved by a constant if the absorbing state's moves too; with that
    at 0, as the end of an episode counts, gamma cancels and each step's reward grows by

        lambda = log((h + eps) / (h_E + eps)).

    A policy that terminates more often than the expert is rewarded for living on, one that does so less often for
    ending. Time limits terminate nothing. https://arxiv.org/abs/1809.02925

    That holds for the best discriminator and the true rate h_E. From few pairs a discriminator learns to tell the
    expert's from all of the policy's, and the mean m of the steps' own rewards r, for the logit minus the KL divergence
    between them, falls so far that every step costs more than an end. And h_E is known from a handful of episodes: an
    expert that falls once in thousands of steps doesn't mean to. So lambda has a weight s, the number of the expert's
    terminations expected within the horizon 1 / (1 - gamma) of returns, at most 1. With the other 1 - s a step's reward
    loses the mean, and may earn at most c for living on, or c / m^2 if that is more, and nothing for ending:

        s (r + lambda) + (1 - s) (r - m + min(max(lambda', 0), c max(1, 1 / m^2))),
        s = min(1, h_E / (1 - gamma)) (`ending_weight`).

    So the rates say little while the discriminator tells the policy's pairs from the expert's, and more the nearer the
    policy comes, as m goes to 0. m is the mean over the rollouts so far, each with 0.9 of the weight of the next. It is
    subtracted once one of the policy's episodes has terminated: where none does, there is nothing to weigh a step
    against. lambda' is lambda if all of the expert's episodes terminate. If some reach their time limit, the expert can
    live on, and lambda' is that of an expert that always does, with h_E = 0. At the expert lambda is 0, and r is 0 on
    average but for AIRL's.

    Where a task ends in more than one way, absorbing states are told apart by the observation x that they were entered
    with. Their logit is then log(p_E / p) + f(x), f being the logit of the best discriminator of terminal observations,
    and a termination's reward grows by f, with the weight s, from the next step on for ever:

        s gamma / (1 - gamma) f(x).

    Args:
        expert_rate: h_E, the terminations per step of the expert's whole episodes.
        terminal_states: gives f and learns it (default: f is 0, the best where a task ends in one way).
        gamma: the learner's discount.
        expert_survives: some of the expert's episodes reach their time limit.
        decay: weight of all earlier rollouts beside the next.
        eps: terminations per step that count as none.
        max_survival_reward: c. With more a policy learns to stand still before it learns to walk.
        off_policy: what is scored is drawn from all sides and says nothing of the rates: those of what the model
            learned from count alone. And c is all that living on may earn: a critic that is trained on the rewards of
            all iterations loses its way if what a fall costs is five times as much in one as in the next.

    Raises:
        UsageError: a number outside its range.
    """

    counts: Tensor

    def __init__(
        self,
        expert_rate: float,
        terminal_states: TerminalStates | None = None,
        gamma: float = 0.99,
        expert_survives: bool = False,
        decay: float = 0.9,
        eps: float = 1e-4,
        max_survival_reward: float = 0.5,
        off_policy: bool = False,
    ) -> None:
        super().__init__()
        check("gamma", gamma, ShareBelowOne)
        check("expert_rate", expert_rate, Share)
        check("decay", decay, ShareBelowOne)
        check("eps", eps, Positive)
        check("max_survival_reward", max_survival_reward, Positive)
        self.expert_rate, self.decay, self.eps, self.max_survival_reward = expert_rate, decay, eps, max_survival_reward
        self.expert_survives, self.off_policy = expert_survives, off_policy
        self.terminal_states = terminal_states
        self.weight, self.discounted_future = ending_weight(expert_rate, gamma), gamma / (1 - gamma)
        self.register_buffer("counts", torch.zeros(3, dtype=torch.float64))

    def _counts(self, transitions: Transitions, rewards: Tensor) -> Tensor:
        """Terminations, steps, and the sum of the steps' rewards."""
        ends = transitions.terminated
        found = (ends, torch.ones_like(ends), rewards)
        return self.decay * self.counts + torch.stack([x.sum(dtype=self.counts.dtype) for x in found])

    @torch.no_grad()
    def forward(self, transitions: Transitions, rewards: Tensor) -> Tensor:
        """From rewards of a whole rollout's steps `[*B]` to rewards with endings, by it and the rollouts so far."""
        of_steps = self.of_steps() if self.off_policy else self._of_steps(*self._counts(transitions, rewards))
        rewards = rewards + of_steps.to(rewards.dtype)
        if self.terminal_states is not None and transitions.terminated.any():
            f = self.terminal_states(transitions[transitions.terminated])
            rewards[transitions.terminated] += self.weight * self.discounted_future * f
        return rewards

    def of_steps(self) -> Tensor:
        """What a step that ends nothing is given beside its own reward by the rollouts so far, 0-d; 0 before them."""
        return self._of_steps(*self.counts) if self.counts[1] > 0 else torch.zeros_like(self.counts[0])

    def _of_steps(self, n_terminations: Tensor, n_steps: Tensor, total: Tensor) -> Tensor:
        rate = (n_terminations / n_steps + self.eps).log()
        living = rate - math.log(self.expert_rate + self.eps)
        beside = rate - math.log(self.eps) if self.expert_survives else living
        mean = total / n_steps
        at_most = torch.full_like(mean, self.max_survival_reward)
        if not self.off_policy:
            at_most = at_most * mean.square().reciprocal().clamp(min=1)
        surviving = beside.clamp(min=0).minimum(at_most)
        bounded = surviving - torch.where(n_terminations > 0, mean, 0)
        return torch.lerp(bounded, living, self.weight)

    @torch.no_grad()
    def update(self, transitions: Transitions, rewards: Tensor) -> Metrics:
        """Count a rollout with its steps' rewards `[*B]`, and learn from the recent terminations."""
        self.counts.copy_(self._counts(transitions, rewards))
        if self.terminal_states is not None:
            self.terminal_states.update(transitions, float(self.counts[0]))
        return {"termination_rate": self.counts[0] / self.counts[1]}
