"""Trust Region Policy Optimization (Schulman et al. 2015, https://arxiv.org/abs/1502.05477)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from rlgen.functional.distributions import Distribution
from rlgen.functional.trust_region import conjugate_gradient, line_search, tanh_mlp_gauss_newton
from rlgen.nn.policy import Critic, Policy
from rlgen.optim.advantages import standardize
from rlgen.optim.critic import CriticRegression, explained_variance
from rlgen.ranges import Checked, Count, NotNegative, Positive, Range, Share
from rlgen.types import Metrics, PolicyBatch, State


@dataclass(frozen=True)
class TRPOConfig(Checked):
    """Settings of TRPO, by SB3-contrib's names.

    Attributes:
        target_kl: bound on the mean KL(old || new) of an update, in nats, at the start.
        final_share: what is left of `target_kl` and `learning_rate` at the end; both fall linearly. 1 is TRPO as
            published; less makes the last policies steadier.
        cg_max_steps: conjugate gradient iterations.
        cg_damping: added to the Fisher matrix's diagonal.
        line_search_shrinking_factor: each backtrack's length over the last.
        line_search_max_iter: backtracks at most.
        sub_sampling_factor: one row in this many, drawn at random, enters the Fisher product; gradient and line search
            use all rows.
        n_critic_updates: passes over the batch for the critic.
        batch_size: the critic's minibatch.
        learning_rate: the critic's Adam step.
    """

    target_kl: Positive = 0.01
    final_share: Share = 1.0
    cg_max_steps: Count = 10
    cg_damping: NotNegative = 0.1
    line_search_shrinking_factor: Annotated[float, Range(0, 1, open_low=True, open_high=True)] = 0.8
    line_search_max_iter: Count = 10
    sub_sampling_factor: Count = 1
    n_critic_updates: Annotated[int, Range(0)] = 10
    batch_size: Count = 1024
    learning_rate: NotNegative = 1e-3


class TRPO:
    """A natural-gradient step with a line search for the policy, then a regression for the critic."""

    def __init__(self, policy: Policy, critic: Critic, config: TRPOConfig | None = None) -> None:
        self.policy = policy
        self.config = config or TRPOConfig()
        self.critic_regression = CriticRegression(critic, self.config.learning_rate)

    def update(self, batch: PolicyBatch, progress_remaining: float = 1.0) -> Metrics:
        """One trust-region step, then the critic's passes."""
        config = self.config
        share = config.final_share + (1 - config.final_share) * progress_remaining
        metrics = dict(self._step(batch, config.target_kl * share))
        metrics["explained_variance"] = explained_variance(batch.values, batch.returns)
        self.critic_regression.learning_rate = config.learning_rate * share
        metrics["value_loss"] = self.critic_regression.fit(
            batch.obs, batch.returns, config.n_critic_updates, config.batch_size
        )
        return metrics

    def state_dict(self) -> State:
        """The critic's optimizer; a trust-region step remembers nothing."""
        return {"critic": self.critic_regression.state_dict()}

    def load_state_dict(self, state: State) -> None:
        """Go on from a state."""
        self.critic_regression.load_state_dict(state["critic"])

    def _step(self, batch: PolicyBatch, target_kl: float) -> Metrics:
        policy, config = self.policy, self.config
        parameters = policy_parameters(policy)
        inputs = policy.normalizer(batch.obs)
        advantages = standardize(batch.advantages)

        def surrogate(distribution: Distribution) -> Tensor:
            """The importance-weighted advantage (eq. 14); its value at the old policy is the advantages' mean, 0."""
            return (torch.exp(distribution.log_prob(batch.actions) - batch.log_probs) * advantages).mean()

        current = policy.head(policy.network(inputs))
        before = surrogate(current)
        gradient = parameters_to_vector(torch.autograd.grad(before, parameters))
        old = current.detach()
        start = parameters_to_vector(parameters).detach()

        rows = inputs
        if config.sub_sampling_factor > 1:
            # At random: every n-th row of a rollout would be the same few environments each time.
            rows = inputs[
                torch.randperm(len(inputs), device=inputs.device)[: len(inputs) // config.sub_sampling_factor]
            ]
        fisher = fisher_product(policy, rows, config.cg_damping)
        direction = conjugate_gradient(fisher, gradient, config.cg_max_steps)
        # The longest step with 1/2 x^T F x <= target_kl; the line search sees to the true KL.
        full_step = direction * torch.sqrt(2 * target_kl / direction.dot(fisher(direction)))

        @torch.no_grad()
        def evaluate(step: Tensor) -> tuple[Tensor, Tensor]:
            """Put the policy there; where the last call puts it, it stays."""
            vector_to_parameters(start + step, parameters)
            new = policy.head(policy.network(inputs))
            return surrogate(new) - before.detach(), old.kl(new).mean()  # type: ignore[arg-type]

        step = line_search(
            evaluate, full_step, target_kl, config.line_search_shrinking_factor, config.line_search_max_iter
        )
        return {
            "kl": step.kl,
            "surrogate_improvement": step.improvement,
            "line_search_share": torch.tensor(step.share),
            "entropy": old.entropy().mean(),
        }


def policy_parameters(policy: Policy) -> list[nn.Parameter]:
    """The policy's parameters in the order of `fisher_product`: weights and biases by layer, then the log-std."""
    network = list(policy.network.parameters())
    return network if policy.log_std is None else [*network, policy.log_std]


def fisher_product(policy: Policy, inputs: Tensor, damping: float) -> Callable[[Tensor], Tensor]:
    """v -> (F + damping I) v for the Fisher matrix F of the policy, averaged over normalised inputs `[B, D]`.

    The network's block is a Gauss-Newton product; the log-std's is 2 I and, for a Gaussian, the two don't interact.
    """
    with torch.no_grad():
        distribution = policy.head(policy.network(inputs)).detach()
    network = list(policy.network.parameters())
    product = tanh_mlp_gauss_newton(inputs, network, lambda tangent, rows: distribution[rows].fisher_output(tangent))
    n_network = sum(p.numel() for p in network)

    def damped(vector: Tensor) -> Tensor:
        parts = torch.cat([product(vector[:n_network]), 2 * vector[n_network:]])
        return parts + damping * vector

    return damped
