"""Behaviour cloning as a training: its settings, and its loop."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import torch

from rlgen.nn.policy import Policy
from rlgen.optim.behaviour_cloning import STEPS_PER_LOOK, BehaviourCloning, BehaviourCloningConfig
from rlgen.presets import Settings
from rlgen.ranges import Count
from rlgen.train import Loop
from rlgen.types import State, Transitions


@dataclass(frozen=True)
class CloningSettings(Settings):
    """A policy's network beside how it is fitted.

    Attributes:
        optimizer: how it is fitted.
        net_arch: hidden layers of the policy.
        log_std_init: initial log standard deviation of a Gaussian policy, which is learned too.
    """

    optimizer: BehaviourCloningConfig = field(default_factory=BehaviourCloningConfig)
    net_arch: tuple[Count, ...] = (100, 100)
    log_std_init: float = 0.0

    @property
    def total_timesteps(self) -> int:
        """Gradient steps in all."""
        return self.optimizer.n_steps

    def for_steps(self, total_timesteps: int | None) -> Self:
        """The same for another number of gradient steps; None leaves it."""
        if total_timesteps is None:
            return self
        return replace(self, optimizer=replace(self.optimizer, n_steps=total_timesteps))


class Cloning(Loop):
    """A policy being fitted to an expert's pairs; an iteration is a hundred gradient steps.

    Args:
        policy: fresh, on its final device. It is the best by held-out likelihood after each iteration.
        expert: pairs `[P]`, on any device.
        config: how it is fitted.
    """

    unit: ClassVar[str] = "gradient_steps"

    def __init__(self, policy: Policy, expert: Transitions, config: BehaviourCloningConfig) -> None:
        device = policy.normalizer.mean.device
        self.cloning = BehaviourCloning(policy, expert.apply(lambda x: x.to(device)), config)
        super().__init__(policy, config.n_steps, min(STEPS_PER_LOOK, config.n_steps))

    def __str__(self) -> str:
        return f"behaviour cloning of {len(self.cloning.obs):,} pairs"

    def _iterate(self) -> tuple[dict[str, float], None, dict[str, float]]:
        started = time.perf_counter()
        metrics = self.cloning.update(self.steps_per_iteration)
        metrics = {"gradient_steps": torch.tensor(self.steps + self.steps_per_iteration), **metrics}
        return self._measured(metrics), None, {"policy": time.perf_counter() - started}

    def state_dict(self) -> State:
        """Everything that the next iteration depends on, by part."""
        return {**super().state_dict(), "cloning": self.cloning.state_dict()}

    def load_state_dict(self, state: State) -> None:
        """Go on from a state of the same pairs and settings."""
        super().load_state_dict(state)
        self.cloning.load_state_dict(state["cloning"])
