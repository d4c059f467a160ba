"""Proximal Policy Optimization, clipped (Schulman et al. 2017, https://arxiv.org/abs/1707.06347)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlgen.functional import tanh_mlp
from rlgen.nn.adam import Adam
from rlgen.nn.flat import check_views, clip_gradient, flatten_parameters
from rlgen.nn.policy import Critic, Policy
from rlgen.optim.advantages import standardize
from rlgen.optim.critic import explained_variance
from rlgen.ranges import Checked, Count, NotNegative, Positive, Share
from rlgen.types import Metrics, PolicyBatch, State


@dataclass(frozen=True)
class PPOConfig(Checked):
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

    learning_rate: NotNegative = 7e-4
    least_share: Share = 0.02
    n_epochs: Count = 5
    batch_size: Count = 1024
    clip_range: Positive = 0.2
    ent_coef: NotNegative = 0.0
    max_grad_norm: Positive = 0.5
    target_kl: Positive | None = None


class PPO:
    """Minibatch passes over the clipped surrogate and the critic's regression, two Adams in step.

    Both gradients are in closed form: at minibatches of 64 rows most of a step would go into building a graph. Policy
    and critic have to be on their final device.
    """

    def __init__(self, policy: Policy, critic: Critic, config: PPOConfig | None = None) -> None:
        self.policy = policy
        self.critic = critic
        self.config = config or PPOConfig()
        self.actor_weights = list(policy.network.parameters())
        head_weights = [] if policy.log_std is None else [policy.log_std]
        self.critic_weights = list(critic.network.parameters())
        flat_actor, self.actor_gradients = flatten_parameters([*self.actor_weights, *head_weights])
        flat_critic, self.critic_gradients = flatten_parameters(self.critic_weights)
        self.flat = [flat_actor, flat_critic]
        self.optimizer = Adam(self.flat, self.config.learning_rate, eps=1e-5)

    @torch.no_grad()
    def update(self, batch: PolicyBatch, progress_remaining: float = 1.0) -> Metrics:
        """All passes over one batch; metrics are means over their minibatches, each before its step."""
        config, policy = self.config, self.policy
        for flat, weights in zip(self.flat, (self.actor_weights, self.critic_weights), strict=True):
            check_views(flat, weights)
        self.optimizer.learning_rate = config.learning_rate * max(progress_remaining, config.least_share)
        inputs = policy.normalizer(batch.obs)
        advantages = standardize(batch.advantages)
        # By minibatch: log-ratios, advantages and the critic's errors of its rows, and its mean entropy.
        seen: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        for _ in range(config.n_epochs):
            order = torch.randperm(len(inputs), device=inputs.device)
            columns = (inputs, batch.actions, batch.log_probs, advantages, batch.returns)
            minibatches = zip(*(column[order].split(config.batch_size) for column in columns), strict=True)
            for rows, actions, log_probs, advantage, returns in minibatches:
                actor_layers = tanh_mlp.forward(rows, self.actor_weights)
                critic_layers = tanh_mlp.forward(rows, self.critic_weights)
                distribution = policy.head(actor_layers[-1])
                log_ratio = distribution.log_prob(actions) - log_probs
                ratio = log_ratio.exp()
                policy_gradient = distribution.log_prob_gradient(
                    actions, -surrogate_slope(ratio, advantage, config.clip_range) / len(rows)
                )
                if config.ent_coef:
                    for gradient, bonus in zip(policy_gradient, distribution.entropy_gradient(), strict=True):
                        gradient -= config.ent_coef * bonus
                error = critic_layers[-1] - returns.unsqueeze(-1)
                seen.append((log_ratio, advantage, error, distribution.entropy().mean().expand(len(rows))))

                output_gradient, *head_gradient = policy_gradient
                n_actor = len(self.actor_weights)
                tanh_mlp.backward(actor_layers, self.actor_weights, output_gradient, self.actor_gradients[:n_actor])
                tanh_mlp.backward(critic_layers, self.critic_weights, error * (2 / len(rows)), self.critic_gradients)
                for kept, gradient in zip(self.actor_gradients[n_actor:], head_gradient, strict=True):
                    kept.copy_(gradient)
                for flat in self.flat:
                    clip_gradient(flat, config.max_grad_norm)
                self.optimizer.step()
            if config.target_kl is not None and approximate_kl(log_ratio) > 1.5 * config.target_kl:
                break
        log_ratio, advantage, error, entropy = (torch.cat(parts) for parts in zip(*seen, strict=True))
        return {
            "explained_variance": explained_variance(batch.values, batch.returns),
            "kl": approximate_kl(log_ratio),
            "policy_loss": -clipped_surrogate(log_ratio.exp(), advantage, config.clip_range).mean(),
            "value_loss": error.square().mean(),
            "entropy": entropy.mean(),
        }

    def state_dict(self) -> State:
        """Both Adams'."""
        return {"adam": self.optimizer.state_dict()}

    def load_state_dict(self, state: State) -> None:
        """Go on from a state."""
        self.optimizer.load_state_dict(state["adam"])


def clipped_surrogate(ratio: Tensor, advantage: Tensor, clip_range: float) -> Tensor:
    """min(r A, clip(r, 1 - clip_range, 1 + clip_range) A) (eq. 7), `[B]`."""
    return torch.min(ratio * advantage, ratio.clamp(1 - clip_range, 1 + clip_range) * advantage)


def surrogate_slope(ratio: Tensor, advantage: Tensor, clip_range: float) -> Tensor:
    """The derivative of `clipped_surrogate` in log r, `[B]`: r A, or 0 once the clip holds the better side back."""
    unclipped = torch.where(advantage > 0, ratio < 1 + clip_range, ratio > 1 - clip_range)
    return ratio * advantage * unclipped


def approximate_kl(log_ratio: Tensor) -> Tensor:
    """The estimator (r - 1) - log r of KL(old || new), never negative (http://joschu.net/blog/kl-approx.html)."""
    return (log_ratio.exp() - 1 - log_ratio).mean()
