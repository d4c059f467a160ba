"""A learned model of the environment to roll out: an ensemble that predicts change, termination and reward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlgen.functional import silu_mlp
from rlgen.nn.mlp import MLPs
from rlgen.nn.normalizer import RunningNormalizer
from rlgen.types import RewardGradient, Tensors


@dataclass(frozen=True)
class ModelSteps(Tensors):
    """Transitions as a learned model and critics see them.

    Attributes:
        z: standardised observations, `[B, D]`.
        actions: in units of the space, `[B, A]`.
        following: the z after them, `[B, D]`.
        ends: 1 where the step terminated, `[B]`.
        rewards: `[B]`.
    """

    z: Tensor
    actions: Tensor
    following: Tensor
    ends: Tensor
    rewards: Tensor


class DynamicsModel(nn.Module):
    """K networks from (standardised state z, action in units of the space) to what follows.

    Each gives the standardised change of z, the logit of the probability that the step terminates the episode, and
    its reward. Targets of change are divided by their running standard deviation, so that what hardly moves counts as
    much as what moves a lot.

    Args:
        n_obs: size of z.
        n_actions: size of an action.
        n_networks: K.
        net_arch: hidden layers of each.
    """

    def __init__(self, n_obs: int, n_actions: int, n_networks: int = 2, net_arch: Sequence[int] = (128, 128)) -> None:
        super().__init__()
        self.n_obs = n_obs
        self.networks = MLPs(n_networks, n_obs + n_actions, net_arch, n_obs + 2, output_gain=0.1)
        with torch.no_grad():  # terminations are rare
            self.networks.weights[-1][..., n_obs] = -5.0
        self.of_change = RunningNormalizer(n_obs)

    def scale(self) -> Tensor:
        """Standard deviations of the changes of z, `[D]` float32."""
        return self.of_change.std().float()

    def sweep(self, z: Tensor, actions: Tensor) -> silu_mlp.Sweep:
        """Outputs for rows `[B, D]` and `[B, A]`, of which each network has an equal share: `[K, B / K, D + 2]`."""
        k = len(self.networks.weights[0])
        return self.networks.sweep(torch.cat((z, actions), -1).view(k, len(z) // k, -1))

    def back(
        self,
        sweep: silu_mlp.Sweep,
        of_next: Tensor,
        of_end: Tensor,
        of_reward: Tensor,
        reward: RewardGradient | None,
    ) -> tuple[Tensor, Tensor]:
        """From d J / d what follows a step to d J / d z `[B, D]` and d J / d action `[B, A]`.

        Args:
            sweep: what `sweep` gave.
            of_next: d J / d the z after it, `[B, D]`.
            of_end: d J / d the logit of its termination, `[B]`.
            of_reward: d J / d its reward, `[B]`.
            reward: its reward's derivatives in z, action and the z after it; None: the reward is the one predicted.
        """
        weight = of_reward.unsqueeze(1)
        if reward is not None:
            of_next = torch.addcmul(of_next, weight, reward.next_obs)
        of_predicted = weight if reward is None else torch.zeros_like(weight)
        of_output = torch.cat((of_next * self.scale(), of_end.unsqueeze(1), of_predicted), 1)
        of_inputs = silu_mlp.backward(sweep, list(self.networks.weights), of_output.view_as(sweep.output))
        of_z, of_action = of_inputs.flatten(0, 1).tensor_split([self.n_obs], -1)
        of_z = of_z + of_next
        if reward is None:
            return of_z, of_action
        return torch.addcmul(of_z, weight, reward.obs), torch.addcmul(of_action, weight, reward.actions)

    def gradient(self, steps: ModelSteps, gradients: Sequence[Tensor]) -> Tensor:
        """Write the loss's gradient: squared errors of change and reward, cross-entropy of termination.

        Args:
            steps: `[K B]`; each network has its own B rows.
            gradients: overwritten, of `networks.weights`.

        Returns:
            The three losses, `[3]`; that of change is relative to no change.
        """
        n_obs, scale = self.n_obs, self.scale()
        sweep = self.sweep(steps.z, steps.actions)
        output = sweep.output.flatten(0, 1)
        n = sweep.output.shape[1]
        error = output[:, :n_obs] - (steps.following - steps.z) * torch.where(scale > 0, 1 / scale, 0.0)
        surprise = output[:, n_obs].sigmoid() - steps.ends
        missed = output[:, n_obs + 1] - steps.rewards
        delta = torch.cat((error * (2 / (n * n_obs)), (surprise / n).unsqueeze(1), (missed * (2 / n)).unsqueeze(1)), 1)
        of_output = delta.view_as(sweep.output)
        silu_mlp.backward(sweep, list(self.networks.weights), of_output, gradients)
        of_ends = F.binary_cross_entropy_with_logits(output[:, n_obs], steps.ends)
        return torch.stack((error.square().mean(), of_ends, missed.square().mean()))
