"""The training loop: collect, reward, improve, learn."""

from __future__ import annotations

import ctypes
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rlgen.data.collect import Collector
from rlgen.nn.normalizer import ReturnScaler
from rlgen.nn.policy import Actor, Critic, Policy
from rlgen.optim.advantages import policy_batch
from rlgen.types import PolicyOptimizer, RewardModel


@dataclass(frozen=True)
class Iteration:
    """What one iteration reports.

    Attributes:
        number: from 1.
        env_steps: environment steps so far.
        wall_seconds: since training began.
        episode_returns: true returns of the episodes that ended in it; for reporting only.
        metrics: means and losses by name, on the host.
        seconds: time spent by part of the loop.
    """

    number: int
    env_steps: int
    wall_seconds: float
    episode_returns: list[float]
    metrics: dict[str, float]
    seconds: dict[str, float]


class _Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, part: str) -> None:
        now = time.perf_counter()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self._last
        self._last = now


def keep_freed_memory() -> None:
    """Let glibc reuse freed memory rather than give it back: a batch's large temporaries then cost no page faults.

    A setting of the whole process, so commands ask for it and `train` doesn't. Nothing happens on other C libraries.
    """
    m_trim_threshold, m_mmap_threshold = -1, -3
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(m_mmap_threshold, 1 << 30)
        mallopt(m_trim_threshold, (1 << 31) - 1)


def train(
    collector: Collector,
    policy: Policy,
    critic: Critic,
    optimizer: PolicyOptimizer,
    reward_model: RewardModel,
    *,
    total_timesteps: int,
    gamma: float,
    gae_lambda: float,
    rng: np.random.Generator,
    on_iteration: Callable[[Iteration], None] = lambda iteration: None,
) -> None:
    """Train policy, critic and reward model in place until `total_timesteps` environment steps are done.

    Observation statistics change only between iterations, so that the policy that is improved is the one that acted.

    Args:
        collector: steps the environments.
        policy: acts through a NumPy snapshot.
        critic: shares the policy's normaliser.
        optimizer: improves both.
        reward_model: scores each rollout with what it knew before it, then learns from it.
        total_timesteps: rounded up to whole rollouts.
        gamma: discount.
        gae_lambda: GAE's lambda.
        rng: for the actions.
        on_iteration: called after each iteration.

    Raises:
        FloatingPointError: a reward or a loss isn't finite.
    """
    scaler = ReturnScaler(collector.envs.num_envs, gamma).to(collector.device)
    per_iteration = collector.n_steps * collector.envs.num_envs
    n_iterations = -(-total_timesteps // per_iteration)
    started = time.perf_counter()
    for number in range(1, n_iterations + 1):
        clock = _Clock()
        rollout = collector.collect(Actor(policy, rng))
        clock.lap("collect")
        steps = rollout.transitions
        rewards = reward_model(steps)
        scaled = scaler(rewards, steps.terminated | steps.truncated)
        clock.lap("reward")
        batch = policy_batch(policy, critic, rollout, scaled, gamma, gae_lambda)
        metrics = optimizer.update(batch, progress_remaining=1 - (number - 1) / n_iterations)
        clock.lap("policy")
        metrics = {"reward": rewards.mean(), **metrics, **reward_model.update(steps)}
        policy.normalizer.update(steps.obs)
        found = {name: float(value) for name, value in metrics.items()}
        for name in ("reward", "kl", "value_loss"):
            if not math.isfinite(found.get(name, 0.0)):
                raise FloatingPointError(
                    f"iteration {number}: {name} is {found[name]}; training stops, the last checkpoint stands"
                )
        clock.lap("reward model")
        on_iteration(
            Iteration(
                number,
                number * per_iteration,
                time.perf_counter() - started,
                rollout.episode_returns,
                found,
                clock.seconds,
            )
        )
