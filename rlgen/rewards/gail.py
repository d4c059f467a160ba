"""Generative Adversarial Imitation Learning (Ho & Ermon 2016, https://arxiv.org/abs/1606.03476)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from rlgen.errors import UsageError
from rlgen.functional.adversarial import discriminator_loss, gradient_penalty, reward_logit, reward_softplus
from rlgen.nn.adam import Adam
from rlgen.nn.discriminator import Discriminator, ShapedDiscriminator
from rlgen.nn.improved_gan import HistoricalAverage
from rlgen.ranges import Checked, Count, NotNegative, Range
from rlgen.rewards.endings import TerminationReward
from rlgen.settings import ADDED
from rlgen.types import Metrics, RewardGradient, Transitions


@dataclass(frozen=True)
class GAILConfig(Checked):
    """How the discriminator learns.

    Attributes:
        learning_rate: Adam's step.
        n_updates: Adam steps an iteration.
        batch_size: rows of each side a step; the expert's are drawn with replacement. None takes the whole rollout and
            all the expert's pairs, which is what drawing as many pairs as steps comes to on average.
        gradient_penalty_coef: weight of the gradient penalty.
        gradient_penalty_target: the slope that costs nothing: 0 or 1.
        entropy_coef: weight of the discriminator's entropy bonus.
        expert_label: below 1 smooths the expert's label.
        input_noise: standard deviation of Gaussian noise on the normalised inputs of both sides in training.
        historical_averaging: weight of the penalty on moving away from the mean of past parameters.
        follow_policy: update the input statistics with each rollout beside the expert's pairs, as the paper's code
            does; otherwise they are the expert's alone and the reward of a pair changes only with the network.
    """

    learning_rate: NotNegative = 3e-3
    n_updates: Count = 5
    batch_size: Annotated[int, Range(2)] | None = 1024  # half of the rows are penalised
    gradient_penalty_coef: NotNegative = 0.1
    gradient_penalty_target: NotNegative = 0.0
    entropy_coef: NotNegative = 0.0
    expert_label: Annotated[float, Range(0, 1, open_low=True)] = 1.0
    input_noise: NotNegative = 0.0
    historical_averaging: NotNegative = field(default=0.0, kw_only=True, metadata=ADDED)
    follow_policy: bool = False


class GAIL(nn.Module):
    """A reward model that pays for state-action pairs which a discriminator takes for the expert's.

    With a `ShapedDiscriminator` and `reward_logit` it is AIRL, whose reward is f.

    Args:
        discriminator: its inputs take the expert's statistics here.
        expert: pairs `[P]`, on the discriminator's device.
        config: how it learns.
        reward: from logits to rewards; see `rlgen.functional.adversarial` for the survival bias of each.
        endings: reward of an episode's end; without it the sign of `reward` decides how long to live.

    Raises:
        UsageError: fewer pairs than the discriminator tells apart together.
    """

    def __init__(
        self,
        discriminator: Discriminator | ShapedDiscriminator,
        expert: Transitions,
        config: GAILConfig | None = None,
        reward: Callable[[Tensor], Tensor] = reward_logit,
        endings: TerminationReward | None = None,
    ) -> None:
        super().__init__()
        self.discriminator = discriminator
        self.config = config or GAILConfig()
        self.reward = reward
        self.endings = endings
        self.expert = expert
        self._scored: tuple[Transitions, Tensor, Tensor] | None = None
        discriminator.update_statistics(expert)
        parameters = list(discriminator.network.parameters())
        self.optimizer = Adam(parameters, self.config.learning_rate)
        weight = self.config.historical_averaging
        self.average = HistoricalAverage(parameters, weight) if weight else None
        self._penalties: list[Callable[[], Tensor]] = list(discriminator.penalties())
        if self.average is not None:
            self._penalties.append(self.average)
        if len(expert.rewards) < discriminator.group:
            raise UsageError(f"minibatch features need {discriminator.group} expert pairs; got {len(expert.rewards)}")

    @torch.no_grad()
    def forward(self, transitions: Transitions) -> Tensor:
        """Rewards `[*B]` by the discriminator as it is; with `endings`, of a whole rollout, whose mean counts."""
        rewards = self._of_steps(transitions)
        return rewards if self.endings is None else self.endings(transitions, rewards)

    @torch.no_grad()
    def _of_steps(self, transitions: Transitions) -> Tensor:
        """Rewards `[*B]` before those of endings, and 0 for an undecided discriminator if there are any of endings."""
        self.eval()
        # Kept until `update`: by then the policy whose likelihoods AIRL's inputs hold is no longer the one that acted.
        steps = self._by_group(transitions)
        if self._scored is None or self._scored[0] is not transitions:
            inputs = self.discriminator.inputs(steps)
            self._scored = transitions, inputs.flatten(0, -2), self.discriminator.inputs(self.expert)
        scores = self.discriminator.score(self._scored[1]).view_as(steps.rewards)
        rewards = self.reward(scores if steps is transitions else scores.t())
        return rewards if self.endings is None else rewards - self.reward(torch.zeros_like(rewards))

    def _by_group(self, transitions: Transitions) -> Transitions:
        """A rollout `[T, N]` as `[N, T]` where rows are told apart in groups, which are steps of one environment."""
        if self.discriminator.group == 1 or transitions.rewards.ndim == 1:
            return transitions
        return transitions.apply(lambda x: x.transpose(0, 1))

    def gradient(self, transitions: Transitions) -> tuple[Tensor, RewardGradient]:
        """Rewards `[B]` of steps `[B]` that end nothing, by the discriminator as it is, and their derivatives."""
        self.eval()
        scores, of_scores = self.discriminator.gradient(transitions)
        with torch.enable_grad():
            rewards = self.reward(scores.requires_grad_())
            (slope,) = torch.autograd.grad(rewards.sum(), scores)
        rewards = rewards.detach()
        if self.endings is not None:
            undecided = self.reward(torch.zeros_like(rewards))
            rewards = rewards - undecided + self.endings.of_steps().to(rewards.dtype)
        return rewards, of_scores.apply(lambda x: x * slope.unsqueeze(-1))

    def get_extra_state(self) -> dict[str, Any]:
        """Adam's, beside the discriminator's."""
        return {"adam": self.optimizer.state_dict()}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.optimizer.load_state_dict(state["adam"])

    @torch.enable_grad()
    def update(self, transitions: Transitions) -> Metrics:
        """Adam steps on rows of a rollout `[T, N]` against rows of the expert."""
        of_endings = {} if self.endings is None else self.endings.update(transitions, self._of_steps(transitions))
        self.train()
        config, discriminator = self.config, self.discriminator
        rows = self._by_group(transitions).flatten()
        if config.follow_policy:
            discriminator.update_statistics(rows)
            discriminator.update_statistics(self.expert, weight=float(len(rows.rewards)))
        if config.follow_policy or self._scored is None or self._scored[0] is not transitions:
            policy, expert = discriminator.inputs(rows), discriminator.inputs(self.expert)
        else:
            _, policy, expert = self._scored
        self._scored = None
        size, group = config.batch_size, discriminator.group
        expert = expert[: len(expert) // group * group]
        for _ in range(config.n_updates):
            policy_rows = policy if size is None else policy[_draw(policy, size, group)]
            expert_rows = expert if size is None else expert[_draw(expert, size, group)]
            if config.input_noise:
                policy_rows, expert_rows = self._noisy(policy_rows), self._noisy(expert_rows)
            policy_logits, expert_logits = discriminator(torch.cat((policy_rows, expert_rows))).tensor_split(
                [len(policy_rows)]
            )
            loss = discriminator_loss(policy_logits, expert_logits, config.expert_label, config.entropy_coef)
            for penalty_of in self._penalties:
                loss = loss + penalty_of()
            if config.gradient_penalty_coef:
                # A second backward pass is the dearest part of a step: half the rows do.
                half = (size or len(policy)) // 2
                penalty = gradient_penalty(
                    discriminator,
                    policy_rows[_draw(policy_rows, half, group)],
                    expert_rows[_draw(expert_rows, half, group)],
                    config.gradient_penalty_target,
                    discriminator.n_features,
                )
                loss = loss + config.gradient_penalty_coef * penalty
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return {
            "discriminator_loss": loss.detach(),
            "discriminator_accuracy_policy": (policy_logits < 0).float().mean(),
            "discriminator_accuracy_expert": (expert_logits > 0).float().mean(),
            **discriminator.compare(policy, expert),
            **of_endings,
        }

    def _noisy(self, inputs: Tensor) -> Tensor:
        noise = self.config.input_noise * torch.randn_like(inputs)
        noise[:, self.discriminator.n_features :] = 0
        return inputs + noise


class ConstantDiscriminator:
    """The control: D = 1/2 everywhere, so that -log(1-D) pays the same for every step survived."""

    def __call__(self, transitions: Transitions) -> Tensor:
        """softplus(0) = log 2 for each step, `[*B]`."""
        return reward_softplus(torch.zeros_like(transitions.rewards))

    def update(self, transitions: Transitions) -> Metrics:
        """Nothing to learn."""
        return {}


def _draw(x: Tensor, size: int, group: int) -> Tensor:
    """`size` rows of x by whole groups, one more where that doesn't come out even."""
    groups = torch.randint(len(x) // group, (-(-size // group),), device=x.device)
    return groups if group == 1 else (group * groups.unsqueeze(-1) + torch.arange(group, device=x.device)).flatten()
