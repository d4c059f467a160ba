"""Behaviour cloning: maximum likelihood on the expert's pairs, the baseline that needs no environment."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch

from rlgen.nn.adam import Adam
from rlgen.nn.policy import Policy
from rlgen.ranges import Checked, Count, NotNegative, ShareBelowOne
from rlgen.types import Metrics, State, Transitions


@dataclass(frozen=True)
class BehaviourCloningConfig(Checked):
    """Settings, by default those of Ho & Ermon (2016), who choose the weights by held-out action error instead.

    Attributes:
        learning_rate: Adam's step.
        batch_size: pairs a step.
        n_steps: Adam steps.
        validation_share: pairs held out; the weights with the best held-out likelihood are kept, the last ones where
            none are held out.
        weight_decay: L2 penalty of the weights.
    """

    learning_rate: NotNegative = 1e-3
    batch_size: Count = 128
    n_steps: Count = 20_000
    validation_share: ShareBelowOne = 0.3
    weight_decay: NotNegative = 0.0


class BehaviourCloning:
    """Fits a policy to an expert's pairs by the mean negative log-likelihood -log pi(a given s), in nats.

    Args:
        policy: fresh, on its final device. Its normaliser is set to the pairs' statistics. After each update it is the
            best by held-out likelihood so far, or the latest where no pairs are held out.
        expert: pairs `[P]`.
        config: settings.
    """

    def __init__(self, policy: Policy, expert: Transitions, config: BehaviourCloningConfig) -> None:
        policy.normalizer.update(expert.obs)
        self.policy, self.config = policy, config
        self.obs, self.samples = expert.obs, policy.actions.samples(expert.actions)
        order = torch.randperm(len(expert.obs), device=expert.obs.device)
        n_held_out = min(round(config.validation_share * len(order)), len(order) - 1)
        self.held_out, self.rows = order[:n_held_out], order[n_held_out:]
        self.best_loss = torch.tensor(float("inf"), device=order.device)
        # What learns, where that isn't always the best.
        self.learner = copy.deepcopy(policy) if n_held_out else policy
        self.optimizer = Adam(self.learner.parameters(), config.learning_rate, weight_decay=config.weight_decay)

    def update(self, n_steps: int) -> Metrics:
        """So many Adam steps, then a look at the held-out pairs; losses of the last minibatch, and of those."""
        for _ in range(n_steps):
            rows = self.rows[torch.randint(len(self.rows), (self.config.batch_size,), device=self.rows.device)]
            loss = self._loss(rows)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        metrics = {"training_loss": loss.detach()}
        if len(self.held_out):
            with torch.no_grad():
                metrics["validation_loss"] = validation = self._loss(self.held_out)
            if validation < self.best_loss:
                self.best_loss = validation
                self.policy.load_state_dict(self.learner.state_dict())
            metrics["best_validation_loss"] = self.best_loss
        return metrics

    def _loss(self, rows: torch.Tensor) -> torch.Tensor:
        return -self.learner(self.obs[rows]).log_prob(self.samples[rows]).mean()

    def state_dict(self) -> State:
        """Everything that the next update depends on; which pairs are held out is drawn again."""
        return {
            "learner": self.learner.state_dict(),
            "best_loss": self.best_loss,
            "adam": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from a state of the same pairs and settings."""
        self.learner.load_state_dict(state["learner"])
        self.best_loss = state["best_loss"].to(self.best_loss.device)
        self.optimizer.load_state_dict(state["adam"])


STEPS_PER_LOOK = 100
"""Adam steps between looks at the held-out pairs."""


def clone_behaviour(policy: Policy, expert: Transitions, config: BehaviourCloningConfig | None = None) -> Metrics:
    """Fit a fresh policy in place to an expert's pairs `[P]`, and set its normaliser to their statistics."""
    config = config or BehaviourCloningConfig()
    cloning = BehaviourCloning(policy, expert, config)
    metrics: Metrics = {}
    for done in range(0, config.n_steps, STEPS_PER_LOOK):
        metrics = cloning.update(min(STEPS_PER_LOOK, config.n_steps - done))
    return {"training_loss": metrics["training_loss"], "validation_loss": cloning.best_loss}
