"""Reward models made of reward models."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from rlgen.types import Metrics, RewardModel, State, Stateful, Transitions, is_stateful


class _Kept(nn.Module):
    """A model that is no module but has a state, for the module that it is part of."""

    def __init__(self, model: Stateful) -> None:
        super().__init__()
        self.model = model

    def get_extra_state(self) -> State:
        return self.model.state_dict()

    def set_extra_state(self, state: State) -> None:
        self.model.load_state_dict(state)


def _keep(parent: nn.Module, name: str, model: RewardModel) -> None:
    """Have the state of `model` in its parent's, whether or not it is a module."""
    if isinstance(model, nn.Module):
        parent.add_module(name, model)
    elif is_stateful(model):
        parent.add_module(f"{name}_state", _Kept(model))


class WeightedSum(nn.Module):
    """sum_k weight_k reward_k: `{"env": (EnvironmentReward(), 1.0), "bonus": (VIME(...), eta)}` is VIME's reward.

    Args:
        terms: each reward model with its weight, by a name for the metrics.
        main: the term whose metrics keep their own names (default: none does).
    """

    def __init__(self, terms: Mapping[str, tuple[RewardModel, float]], main: str | None = None) -> None:
        super().__init__()
        self.terms = dict(terms)
        self.main = main
        for name, (model, _) in terms.items():
            _keep(self, name, model)

    @torch.no_grad()
    def forward(self, transitions: Transitions) -> Tensor:
        """Rewards `[*B]`."""
        total = torch.zeros_like(transitions.rewards)
        for model, weight in self.terms.values():
            total = total + weight * model(transitions)
        return total

    def update(self, transitions: Transitions) -> Metrics:
        """Every term learns; their metrics and each weighted reward's mean are given under the term's name."""
        metrics: dict[str, Tensor] = {}
        for name, (model, weight) in self.terms.items():
            metrics[f"{name}_reward"] = weight * model(transitions).mean()
            prefix = "" if name == self.main else f"{name}_"
            metrics |= {f"{prefix}{metric}": value for metric, value in model.update(transitions).items()}
        return metrics


class HiddenCode(nn.Module):
    """A reward model of observations without their code (`rlgen.envs.codes`), such as GAIL in InfoGAIL.

    Args:
        model: scores transitions without codes.
        width: columns of the code, the first ones.
    """

    def __init__(self, model: RewardModel, width: int) -> None:
        super().__init__()
        self.model, self.width = model, width
        _keep(self, "model", model)
        self._seen: tuple[Transitions, Transitions] | None = None

    def forward(self, transitions: Transitions) -> Tensor:
        """Rewards `[*B]`."""
        return self.model(self._hidden(transitions))

    def update(self, transitions: Transitions) -> Metrics:
        """The model learns from the same."""
        seen, self._seen = self._hidden(transitions), None
        return self.model.update(seen)

    def _hidden(self, transitions: Transitions) -> Transitions:
        # The same object again: models know what they scored by it.
        if self._seen is None or self._seen[0] is not transitions:
            obs, next_obs = (x[..., self.width :] for x in (transitions.obs, transitions.next_obs))
            self._seen = transitions, dataclasses.replace(transitions, obs=obs, next_obs=next_obs)
        return self._seen[1]


class MedianScaled(nn.Module):
    """A bonus in units of what is usual: log(1 + b / s), s the mean over the last iterations of their median of b.

    Before its first update it pays nothing, since its bonus knows nothing yet. Ratios of a well-calibrated bonus have a
    heavy tail; `bounded` takes the logarithm, without it the ratio itself is paid, as in the code of Houthooft et al.
    (2016, https://arxiv.org/abs/1605.09674).

    Args:
        bonus: a reward model that is not negative.
        n_iterations: whose medians are averaged.
        bounded: pay log(1 + ratio).
    """

    medians: Tensor
    n_updates: Tensor

    def __init__(self, bonus: RewardModel, n_iterations: int = 10, bounded: bool = True) -> None:
        super().__init__()
        self.bonus = bonus
        _keep(self, "bonus", bonus)
        self.bounded = bounded
        self.register_buffer("medians", torch.full((n_iterations,), torch.nan))
        self.register_buffer("n_updates", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def forward(self, transitions: Transitions) -> Tensor:
        """Scaled bonuses `[*B]`."""
        if self.n_updates == 0:
            return torch.zeros_like(transitions.rewards)
        return self._scaled(self.bonus(transitions))

    @torch.no_grad()
    def update(self, transitions: Transitions) -> Metrics:
        """Note the median of the rollout's bonuses, then let the bonus learn from it."""
        raw, scaled = torch.full((2, 1), torch.nan)  # the first rollout is scored by nothing yet
        if self.n_updates > 0:
            raw = self.bonus(transitions).flatten()
            scaled = self._scaled(raw)
            self.medians[self.n_updates % len(self.medians)] = raw.median()
        self.n_updates += 1
        sizes = {"raw_median": raw.median(), "p90": scaled.quantile(0.9), "max": scaled.max()}
        return sizes | dict(self.bonus.update(transitions))

    def _scaled(self, raw: Tensor) -> Tensor:
        scale = raw.median() if self.medians.isnan().all() else self.medians.nanmean()
        ratio = raw / scale.clamp_min(torch.finfo(raw.dtype).tiny)
        return ratio.log1p() if self.bounded else ratio
