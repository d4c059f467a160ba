"""Proximal Policy Optimization, clipped (Schulman et al. 2017, https://arxiv.org/abs/1707.06347)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from rlgen.nn.policy import Critic, Policy
from rlgen.optim.advantages import standardize
from rlgen.optim.critic import explained_variance
from rlgen.types import Metrics, PolicyBatch


@dataclass(frozen=True)
class PPOConfig:
    """Settings of PPO, by SB3's names.

    Attributes:
        learning_rate: Adam's step for policy and critic at the start.
        least_share: the rate falls linearly towards zero, but never below this share of its start; 1 keeps it.
        n_epochs: passes over the batch.
        batch_size: rows a minibatch.
        clip_range: the probability ratio is clipped to 1 +- this.
        ent_coef: weight of the entropy bonus.
        max_grad_norm: policy's and critic's gradients are each clipped to this norm.
        target_kl: stop the passes once the estimated KL exceeds 1.5 times this; None never does.
    """

    learning_rate: float = 7e-4
    least_share: float = 0.02
    n_epochs: int = 5
    batch_size: int = 1024
    clip_range: float = 0.2
    ent_coef: float = 0.0
    max_grad_norm: float = 0.5
    target_kl: float | None = None


class PPO:
    """Minibatch passes over the clipped surrogate and the critic's regression, two Adams in step."""

    def __init__(self, policy: Policy, critic: Critic, config: PPOConfig | None = None) -> None:
        self.policy = policy
        self.critic = critic
        self.config = config or PPOConfig()
        self.policy_weights = [p for p in policy.parameters() if p.requires_grad]
        self.critic_weights = list(critic.network.parameters())
        groups = [{"params": self.policy_weights}, {"params": self.critic_weights}]
        self.optimizer = torch.optim.Adam(groups, self.config.learning_rate, eps=1e-5, fused=True)

    def update(self, batch: PolicyBatch, progress_remaining: float = 1.0) -> Metrics:
        """All passes over one batch."""
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * max(progress_remaining, config.least_share)
        inputs = self.policy.normalizer(batch.obs)
        advantages = standardize(batch.advantages)
        metrics: dict[str, torch.Tensor] = {"explained_variance": explained_variance(batch.values, batch.returns)}
        for _ in range(config.n_epochs):
            for rows in torch.randperm(len(inputs), device=inputs.device).split(config.batch_size):
                distribution = self.policy.head(self.policy.network(inputs[rows]))
                log_ratio = distribution.log_prob(batch.actions[rows]) - batch.log_probs[rows]
                ratio = log_ratio.exp()
                clipped = ratio.clamp(1 - config.clip_range, 1 + config.clip_range)
                policy_loss = -torch.min(ratio * advantages[rows], clipped * advantages[rows]).mean()
                value_loss = F.mse_loss(self.critic.network(inputs[rows]).squeeze(-1), batch.returns[rows])
                loss = policy_loss + value_loss
                if config.ent_coef:
                    loss = loss - config.ent_coef * distribution.entropy().mean()
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.policy_weights, config.max_grad_norm)
                torch.nn.utils.clip_grad_norm_(self.critic_weights, config.max_grad_norm)
                self.optimizer.step()
            if config.target_kl is not None and approximate_kl(log_ratio) > 1.5 * config.target_kl:
                break
        return metrics | {
            "kl": approximate_kl(log_ratio),
            "policy_loss": policy_loss.detach(),
            "value_loss": value_loss.detach(),
            "entropy": distribution.entropy().mean().detach(),
        }


def approximate_kl(log_ratio: torch.Tensor) -> torch.Tensor:
    """The estimator (r - 1) - log r of KL(old || new), never negative (http://joschu.net/blog/kl-approx.html)."""
    return (log_ratio.exp() - 1 - log_ratio).mean().detach()
