"""From a rollout and its rewards to the batch that a policy optimizer takes."""

from __future__ import annotations

import torch
from torch import Tensor

from rlgen.functional.returns import gae
from rlgen.nn.policy import Critic, Policy
from rlgen.types import PolicyBatch, Rollout


@torch.no_grad()
def policy_batch(
    policy: Policy, critic: Critic, rollout: Rollout, rewards: Tensor, gamma: float, gae_lambda: float
) -> PolicyBatch:
    """Values, log-probabilities and advantages of a rollout `[T, N]`, flattened to `[T * N]`.

    Args:
        policy: the policy that sampled the rollout.
        critic: values every state, and the true successors at episode ends and in the last row; elsewhere the
            successor's value is the next row's.
        rollout: what was collected.
        rewards: `[T, N]`, from the reward model.
        gamma: discount.
        gae_lambda: see `rlgen.functional.returns.gae`.
    """
    steps = rollout.transitions
    values = critic(steps.obs)
    next_values = torch.empty_like(values)
    next_values[:-1] = values[1:]
    apart = steps.terminated | steps.truncated
    apart[-1] = True
    next_values[apart] = critic(steps.next_obs[apart])
    advantages = gae(rewards, values, next_values, steps.terminated, steps.truncated, gamma, gae_lambda)
    log_probs = policy(steps.obs).log_prob(rollout.sampled_actions)
    batch = PolicyBatch(steps.obs, rollout.sampled_actions, log_probs, values, advantages, advantages + values)
    return batch.apply(lambda x: x.flatten(0, 1))


def standardize(x: Tensor) -> Tensor:
    """(x - mean) / (std + 1e-8)."""
    return (x - x.mean()) / (x.std() + 1e-8)
