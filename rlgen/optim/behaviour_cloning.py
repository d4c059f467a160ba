"""Behaviour cloning: maximum likelihood on the expert's pairs, the baseline that needs no environment."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch

from rlgen.nn.policy import Policy
from rlgen.ranges import Checked, Count, NotNegative, ShareBelowOne
from rlgen.types import Metrics, Transitions


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


def clone_behaviour(policy: Policy, expert: Transitions, config: BehaviourCloningConfig | None = None) -> Metrics:
    """Fit a fresh policy in place to an expert's pairs `[P]`, and set its normaliser to their statistics."""
    config = config or BehaviourCloningConfig()
    policy.normalizer.update(expert.obs)
    samples = policy.actions.samples(expert.actions)
    order = torch.randperm(len(expert.obs), device=expert.obs.device)
    n_held_out = min(round(config.validation_share * len(order)), len(order) - 1)
    held_out, training = order[:n_held_out], order[n_held_out:]
    optimizer = torch.optim.Adam(policy.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    best, best_loss = copy.deepcopy(policy.state_dict()), torch.tensor(float("inf"))
    for step in range(config.n_steps):
        rows = training[torch.randint(len(training), (config.batch_size,), device=order.device)]
        loss = -policy(expert.obs[rows]).log_prob(samples[rows]).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if n_held_out and (step % 100 == 99 or step == config.n_steps - 1):
            with torch.no_grad():
                validation = -policy(expert.obs[held_out]).log_prob(samples[held_out]).mean()
            if validation < best_loss:
                best, best_loss = copy.deepcopy(policy.state_dict()), validation
    if n_held_out:
        policy.load_state_dict(best)
    return {"training_loss": loss.detach(), "validation_loss": best_loss}
