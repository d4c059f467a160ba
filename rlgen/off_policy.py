"""The training loop of off-policy learners: collect, keep, learn from what was kept."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from rlgen.data.collect import Collector, TensorCollector
from rlgen.data.replay import ReplayPool
from rlgen.nn.normalizer import RewardCentre, RewardScaler
from rlgen.nn.policy import Policy
from rlgen.optim import svg
from rlgen.train import Clock, Interaction
from rlgen.types import DifferentiableReward, RewardModel, Rollout, State, Transitions, rewards_of


class OffPolicyTraining(Interaction):
    """Policy, critics, model and reward model being trained in place from all steps so far; iterating it trains.

    Every transition is scored when it is drawn, so that a reward is never older than the reward model. A reward model
    with a gradient (`rlgen.types.DifferentiableReward`) is what the policy is improved by in imagined steps; of another
    one the learner's model predicts the rewards.

    Args:
        collector: as the policy, the reward model and the numbers of steps, see `rlgen.train.Interaction`.
        policy: see there.
        learner: improves the policy.
        reward_model: see there.
        replay: keeps the transitions.
        total_timesteps: see there.
        rng: see there.
        n_updates: of the learner, an iteration.
        learning_starts: environment steps with uniform actions before it learns.
        scaler: divides rewards by a tenth of the standard deviation of their discounted return so far, and clips them
            at 10, which the first of a sparse task are beyond; None: they stay as they are.
        centre: of what that gives, see `rlgen.nn.normalizer.RewardCentre`; None: it stays as it is.
        reward_batch: number of transitions that the reward model learns from an iteration, a third of them drawn from
            all and the others from the latest `n_recent`; None: the iteration's own, as on-policy.
        n_recent: see there.
        examples: transitions `[P]` of an expert, kept beside the policy's own (default: none).
        examples_share: share of each minibatch that is drawn from them.
    """

    def __init__(
        self,
        collector: Collector | TensorCollector,
        policy: Policy,
        learner: svg.SVG,
        reward_model: RewardModel,
        replay: ReplayPool,
        *,
        total_timesteps: int,
        rng: np.random.Generator,
        n_updates: int,
        learning_starts: int,
        scaler: RewardScaler | None,
        centre: RewardCentre | None,
        reward_batch: int | None = None,
        n_recent: int = 10_000,
        examples: Transitions | None = None,
        examples_share: float = 0.0,
    ) -> None:
        super().__init__(collector, policy, reward_model, total_timesteps, rng)
        self.learner = learner
        self.replay = replay
        self.n_updates = n_updates
        self.learning_starts = learning_starts
        self.scaler = scaler
        self.centre = centre
        self.reward_batch = reward_batch
        self.n_recent = n_recent
        self.examples = examples
        self.n_examples = 0 if examples is None else round(examples_share * learner.config.batch_size)

    def _iterate(self) -> tuple[dict[str, float], Rollout, dict[str, float]]:
        clock = Clock()
        learns = self.steps >= self.learning_starts
        rollout = self._collect(self.learner.acting, uniform=not learns)
        steps = rollout.transitions
        self.replay.add(steps)
        self.policy.normalizer.update(steps.obs)
        clock.lap("collect")
        rewards = rewards_of(self.reward_model, steps).float()
        self.visited.add(steps, rewards)
        if self.scaler is not None:
            self.scaler(rewards, steps.terminated, steps.truncated)
        clock.lap("reward")
        metrics = {"reward": rewards.mean()}
        if learns:
            batch = self._batch()
            metrics |= self.learner.update(batch, self._scores(batch), self.n_examples, self.progress_remaining)
        clock.lap("policy")
        metrics |= self.reward_model.update(self._for_reward_model(steps))
        found = dict.fromkeys(self.learner.metrics, float("nan")) | self._measured(metrics)
        clock.lap("reward model")
        return found, rollout, clock.seconds

    def _batch(self) -> Transitions:
        """`n_updates` minibatches one after the other, the expert's transitions last in each."""
        size, n_examples, n = self.learner.config.batch_size, self.n_examples, self.n_updates
        batch = self.replay.sample(n * (size - n_examples))
        if not n_examples:
            return batch
        assert self.examples is not None
        drawn = torch.randint(len(self.examples.rewards), (n * n_examples,), device=self.device)
        return joined(batch, self.examples[drawn], n)

    def _scores(self, batch: Transitions) -> svg.Scores:
        """The rewards of a batch, scaled and centred if they are to be."""
        rewards, ends = rewards_of(self.reward_model, batch).float(), batch.terminated
        self._check_finite("a reward of the reward model", float(rewards.sum()))
        shift = of_end = torch.zeros((), device=self.device)
        scale = torch.ones((), device=self.device) if self.scaler is None else 10 / self.scaler.std()
        if self.scaler is not None:
            rewards = (scale * rewards).clamp(-10, 10)
        if self.centre is not None:
            rewards, shift = self.centre(rewards, ends)
            of_end = self.centre.of_end(shift)
        model = self.reward_model if isinstance(self.reward_model, DifferentiableReward) else None
        if model is not None and ends.any():
            alone, _ = model.gradient(batch[ends])
            of_end = (rewards[ends] - scale * alone - shift).mean()
        return svg.Scores(rewards, of_end, model, scale, shift)

    def _for_reward_model(self, steps: Transitions) -> Transitions:
        if self.reward_batch is None:
            return steps
        n_old = self.reward_batch // 3
        return joined(self.replay.sample(self.reward_batch - n_old, self.n_recent), self.replay.sample(n_old))

    def state_dict(self) -> State:
        """Everything that the next iteration depends on, by part."""
        parts = {"learner": self.learner, "scaler": self.scaler, "centre": self.centre}
        kept = {name: {} if part is None else part.state_dict() for name, part in parts.items()}
        return {**super().state_dict(), **kept, "replay": self.replay.get_extra_state()}

    def load_state_dict(self, state: State) -> None:
        """Go on from a state of the same settings and environments."""
        super().load_state_dict(state)
        self.learner.load_state_dict(state["learner"])
        self.replay.set_extra_state(state["replay"])
        for name, part in (("scaler", self.scaler), ("centre", self.centre)):
            if part is not None:
                part.load_state_dict(state[name])


def joined(first: Transitions, second: Transitions, n: int = 1) -> Transitions:
    """`n` equal parts of two batches by turns: a part of the first, one of the second, and so on."""
    fields = {}
    for field in dataclasses.fields(first):
        a, b = getattr(first, field.name), getattr(second, field.name)
        parts = a.view(n, -1, *a.shape[1:]), b.to(a.dtype).view(n, -1, *b.shape[1:])
        fields[field.name] = torch.cat(parts, 1).flatten(0, 1)
    return Transitions(**fields)
