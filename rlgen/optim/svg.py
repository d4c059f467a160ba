"""Stochastic value gradients through a learned model, with a soft twin critic: SVG(H), and SAC where H is 0.

Heess et al. (2015, https://arxiv.org/abs/1510.09142), in the soft form of Amos et al. (2021,
https://arxiv.org/abs/2008.12775); SAC is Haarnoja et al. (2018, https://arxiv.org/abs/1812.05905).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from torch import Tensor, nn

from rlgen.functional import silu_mlp
from rlgen.functional.squashed import Acts, act, deltas
from rlgen.nn.adam import Adam
from rlgen.nn.flat import check_views, flatten_parameters
from rlgen.nn.mlp import MLPs
from rlgen.nn.model import DynamicsModel, ModelSteps
from rlgen.nn.policy import Policy
from rlgen.ranges import Checked, Count, NotNegative, Positive, Range, Share
from rlgen.types import DifferentiableReward, Metrics, RewardGradient, State, Transitions


@dataclass(frozen=True)
class SVGConfig(Checked):
    """Settings.

    Attributes:
        horizon: H, imagined steps before the critic's value; 0 is SAC.
        batch_size: transitions of a minibatch, and states that imagination starts from.
        learning_rate: Adam's, of policy, critics and temperature.
        final_share: share of it that is left at the end of training; it falls linearly.
        tau: share of the critics that moves into their targets each update.
        policy_tau: share of the policy that learns which moves into its average each update; the average is the result.
        alpha: initial temperature, the weight of the policy's entropy.
        entropy_target: entropy a dimension that the temperature is tuned to, in units of the space.
        model_arch: hidden layers of each of the model's networks.
        n_models: number of them.
        model_learning_rate: Adam's.
        model_batch_size: transitions of a step of each.
        model_updates: steps of the model for each update of the policy.
        imagined_targets: the critics also learn the values of imagined steps.
        cloning_weight: of the squared error of the policy's modes on an expert's actions, where there are any, in units
            of the space; it falls linearly to 0 over the training.
    """

    horizon: Annotated[int, Range(0)] = 1
    batch_size: Count = 128
    learning_rate: NotNegative = 5e-4
    final_share: Share = 1.0
    tau: Share = 0.01
    policy_tau: Share = 0.001
    alpha: Positive = 0.05
    entropy_target: float = -2.0
    model_arch: tuple[Count, ...] = (128, 128)
    n_models: Count = 2
    model_learning_rate: NotNegative = 1e-3
    model_batch_size: Count = 256
    model_updates: Share = 0.4
    imagined_targets: bool = True
    cloning_weight: NotNegative = 0.0


@dataclass(frozen=True)
class Scores:
    """What a learner is told of the rewards of a batch.

    Attributes:
        rewards: of its steps, `[B]`.
        of_end: what a termination is given beside its step's own reward, 0-d.
        model: gives the rewards of imagined steps, and their gradient; None: the learned model predicts them.
        scale: what the rewards of `model` are multiplied by, 0-d.
        shift: what they grow by after that, 0-d.
    """

    rewards: Tensor
    of_end: Tensor
    model: DifferentiableReward | None
    scale: Tensor
    shift: Tensor


class SVG:
    """Improves a squashed policy by the gradient of its soft value in H imagined steps, from states of the replay:

        J = sum_{h<H} gamma^h (r_h - alpha log pi_h) + gamma^H (min_i Q_i(s_H, a_H) - alpha log pi_H)

    with s_{h+1} = s_h + model(s_h, a_h) and a_h reparameterised; each step counts by the probability that no step
    before it terminated. The critics learn r + gamma (1 - terminated) V'(s') of real transitions, V' by their targets,
    and the same J of the imagined first steps. All gradients are in closed form.

    Args:
        policy: squashed, on its final device: the average of `acting`, a copy that learns and acts. Their normaliser
            standardises what model and critics see.
        config: settings.
        gamma: discount.
        net_arch: hidden layers of the critics.
    """

    def __init__(self, policy: Policy, config: SVGConfig, gamma: float, net_arch: Sequence[int] = (128, 128)) -> None:
        device = policy.normalizer.mean.device
        n_obs, n_actions = policy.normalizer.mean.shape[0], policy.actions.size
        self.policy, self.config, self.gamma, self.n_obs = policy, config, gamma, n_obs
        self.acting = copy.deepcopy(policy)
        self.acting.normalizer = policy.normalizer
        self.critic = MLPs(2, n_obs + n_actions, net_arch, 1, layer_norm=True).to(device)
        self.target = copy.deepcopy(self.critic)
        self.model = DynamicsModel(n_obs, n_actions, config.n_models, config.model_arch).to(device)
        self.log_alpha = nn.Parameter(torch.tensor([math.log(config.alpha)], device=device))
        self.learned = {
            "policy": list(self.acting.network.parameters()),
            "critic": list(self.critic.weights),
            "alpha": [self.log_alpha],
            "model": list(self.model.networks.weights),
        }
        flat = {name: flatten_parameters(parameters) for name, parameters in self.learned.items()}
        self.flat = {name: vector for name, (vector, _) in flat.items()}
        self.gradients = {name: views for name, (_, views) in flat.items()}
        self.flat_target, _ = flatten_parameters(list(self.target.weights))
        self.flat_average, _ = flatten_parameters(list(policy.network.parameters()))
        self.rates = dict.fromkeys(flat, config.learning_rate) | {"model": config.model_learning_rate}
        self.adams = {name: Adam([x], self.rates[name]) for name, x in self.flat.items()}
        self.due = 0.0  # updates of the model that are due
        self.metrics: tuple[str, ...] = ("q", "critic_loss", "entropy", "alpha")
        if config.horizon:
            self.metrics += ("model_error", "termination_loss", "reward_error")

    @torch.no_grad()
    def update(
        self, batch: Transitions, scores: Scores, n_examples: int = 0, progress_remaining: float = 1.0
    ) -> Metrics:
        """Learn from minibatches one after the other.

        Args:
            batch: `[n * batch_size]`.
            scores: its rewards.
            n_examples: the last so many transitions of each minibatch are an expert's.
            progress_remaining: falls from 1 to 0 over the training.
        """
        policy, config = self.policy, self.config
        share = 1 - (1 - config.final_share) * (1 - progress_remaining)
        for name, parameters in self.learned.items():
            check_views(self.flat[name], parameters)
            self.adams[name].learning_rate = self.rates[name] * (1.0 if name == "model" else share)
        z, following = policy.normalizer(batch.obs), policy.normalizer(batch.next_obs)
        steps = ModelSteps(z, policy.actions(batch.actions), following, batch.terminated.float(), scores.rewards)
        alone = replace(steps, rewards=steps.rewards - steps.ends * scores.of_end)
        self.model.of_change.update(following - z)
        cloning = config.cloning_weight * progress_remaining if n_examples else 0.0
        found, of_model = [], []
        for first in range(0, len(z), config.batch_size):
            self.due += config.model_updates if config.horizon else 0.0
            if self.due >= 1:
                self.due -= 1
                drawn = torch.randint(len(z), (config.n_models * config.model_batch_size,), device=z.device)
                of_model.append(self.model.gradient(alone[drawn], self.gradients["model"]))
                self.adams["model"].step()
            rows = slice(first, first + config.batch_size)
            found.append(self._update(steps[rows], scores, cloning, n_examples))
        means = [*torch.stack(found).mean(0), *(torch.stack(of_model).mean(0) if of_model else ())]
        return dict(zip(self.metrics, means, strict=False))

    def _update(self, steps: ModelSteps, scores: Scores, cloning: float = 0.0, n_examples: int = 0) -> Tensor:
        """One step of critics, policy and temperature from a minibatch `[B]`; q, loss, entropy and alpha, `[4]`."""
        config, gamma, horizon, size = self.config, self.gamma, self.config.horizon, len(steps.z)
        alpha = self.log_alpha.detach().exp()
        acted, models, last_z = self._imagine(steps.z)
        both = act(torch.cat((last_z, steps.following)), self.learned["policy"])
        acted.append(both.first(size))
        target_v = _least(self.target(_pair(both)))[0] - alpha * both.log_prob

        # The critics' values of what they learn, real steps and imagined first ones, and of the imagined last ones.
        seen = [
            torch.cat((steps.z, steps.actions), -1),
            *([_pair(acted[0])] if horizon and config.imagined_targets else []),
        ]
        n_learned = size * len(seen)
        sweep = self.critic.sweep(torch.cat((*seen, _pair(acted[-1]))))
        q_last, second_is_least = _least(sweep.output[:, n_learned:])

        # The value from each imagined step on, backwards from the last, and how much each step counts.
        step_rewards, of_rewards = self._imagined_rewards(acted, models, scores)
        p_ends = [model.output[..., self.n_obs].flatten().sigmoid() for model in models]
        values, counts = [q_last - alpha * acted[-1].log_prob], [torch.ones_like(q_last)]
        for h in reversed(range(horizon)):
            after = (1 - p_ends[h]) * gamma * values[0] + p_ends[h] * scores.of_end
            values.insert(0, step_rewards[h] - alpha * acted[h].log_prob + after)
        for p_end in p_ends:
            counts.append(gamma * (1 - p_end) * counts[-1])

        targets = [steps.rewards + gamma * (1 - steps.ends) * target_v[size:]]
        if n_learned > size:
            targets.append(values[0] + alpha * acted[0].log_prob + counts[-1] * (target_v[:size] - values[-1]))
        # One sweep backwards: the critics' gradient from the rows they learn, that of the inputs for the last ones.
        error = sweep.output[:, :n_learned, 0] - torch.cat(targets)
        delta = torch.zeros_like(sweep.output)
        torch.mul(error, 2 / n_learned, out=delta[:, :n_learned, 0])
        torch.mul(counts[-1], second_is_least, out=delta[1, n_learned:, 0])
        torch.sub(counts[-1], delta[1, n_learned:, 0], out=delta[0, n_learned:, 0])
        of_inputs = silu_mlp.backward(sweep, self.learned["critic"], delta, self.gradients["critic"], n_learned)
        of_z, of_actions = of_inputs[:, n_learned:].sum(0).tensor_split([self.n_obs], -1)

        # And backwards through the imagined steps. J is maximised, so its gradient's negative is descended.
        through = []
        for h in reversed(range(horizon + 1)):
            if h < horizon:
                of_end = counts[h] * (scores.of_end - gamma * values[h + 1]) * p_ends[h] * (1 - p_ends[h])
                of_reward = None if of_rewards is None else of_rewards[h]
                of_z, of_actions = self.model.back(models[h], of_z, of_end, counts[h], of_reward)
            of_modes = None
            if cloning and h == 0:
                of_modes = torch.zeros_like(steps.actions)
                torch.mul((steps.actions - acted[0].modes)[-n_examples:], 2 * cloning, out=of_modes[-n_examples:])
            through.append(deltas(acted[h], self.learned["policy"], of_actions, -alpha * counts[h], of_modes))
            of_z = of_z + through[-1][0]
        layers = [torch.cat(x) for x in zip(*(acts.layers[:-1] for acts in reversed(acted)), strict=True)]
        of_outputs = [torch.cat(x) for x in zip(*through, strict=True)][1:]
        gradients = self.gradients["policy"]
        for i, of_output in enumerate(of_outputs):
            torch.mm(of_output.t(), layers[i], out=gradients[2 * i]).mul_(-1 / size)
            torch.sum(of_output, 0, out=gradients[2 * i + 1]).mul_(-1 / size)

        entropy = -acted[0].log_prob.mean()
        torch.sub(entropy, config.entropy_target * steps.actions.shape[1], out=self.gradients["alpha"][0][0])
        for name in ("critic", "policy", "alpha"):
            self.adams[name].step()
        self.flat_target.lerp_(self.flat["critic"], config.tau)
        self.flat_average.lerp_(self.flat["policy"], config.policy_tau)
        return torch.stack((sweep.output[:, :size].mean(), error.square().mean(), entropy, alpha[0]))

    def _imagine(self, z: Tensor) -> tuple[list[Acts], list[silu_mlp.Sweep], Tensor]:
        """H steps from standardised states `[B, D]`: what policy and model did, and the states after them."""
        acted, models, clip, scale = [], [], self.policy.normalizer.clip, self.model.scale()
        for _ in range(self.config.horizon):
            acted.append(act(z, self.learned["policy"]))
            models.append(self.model.sweep(z, acted[-1].actions))
            change = models[-1].output.flatten(0, 1)[:, : self.n_obs]
            z = torch.addcmul(z, change, scale).clamp_(-clip, clip)
        return acted, models, z

    def _imagined_rewards(
        self, acted: Sequence[Acts], models: Sequence[silu_mlp.Sweep], scores: Scores
    ) -> tuple[Sequence[Tensor], list[RewardGradient] | None]:
        """Rewards `[B]` of each imagined step, and their derivatives in z, actions and the z after it.

        None in place of these where the model predicts rewards.
        """
        if scores.model is None or not models:
            return [model.output[..., -1].flatten() for model in models], None
        normalizer, size = self.policy.normalizer, len(acted[0].actions)
        std = normalizer.std()
        obs = normalizer.mean + torch.cat([acts.inputs for acts in acted]) * std
        actions = self.policy.actions.executed(torch.cat([acts.actions for acts in acted[:-1]]))
        zeros = torch.zeros(len(actions), device=actions.device)
        imagined = Transitions(obs[:-size], actions, obs[size:], zeros, zeros.bool(), zeros.bool())
        rewards, of = scores.model.gradient(imagined)
        of_z = (scores.scale * std).float()
        of = RewardGradient(of.obs * of_z, of.actions * scores.scale, of.next_obs * of_z)
        by_step = [of[h * size : (h + 1) * size] for h in range(len(models))]
        return (rewards * scores.scale + scores.shift).split(size), by_step

    def state_dict(self) -> State:
        """Everything that the next update depends on but the policy."""
        return {
            "acting": self.acting.network.state_dict(),
            "critic": self.critic.state_dict(),
            "target": self.target.state_dict(),
            "model": self.model.state_dict(),
            "log_alpha": self.log_alpha.detach(),
            "adams": {name: adam.state_dict() for name, adam in self.adams.items()},
            "due": self.due,
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from a state."""
        self.acting.network.load_state_dict(state["acting"])
        for name in ("critic", "target", "model"):
            getattr(self, name).load_state_dict(state[name])
        self.log_alpha.data.copy_(state["log_alpha"])
        for name, adam in self.adams.items():
            adam.load_state_dict(state["adams"][name])
        self.due = float(state["due"])


def _pair(acts: Acts) -> Tensor:
    """Inputs and actions side by side, as critics and model see them."""
    return torch.cat((acts.inputs, acts.actions), -1)


def _least(values: Tensor) -> tuple[Tensor, Tensor]:
    """The less of two critics' values `[2, B, 1]`, and where it is the second's, `[B]` each."""
    first, second = values.squeeze(-1)
    return torch.minimum(first, second), (second < first).float()
