"""The training loop: collect, reward, improve, learn."""

from __future__ import annotations

import contextlib
import copy
import ctypes
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from rlgen.data.collect import Collector, TensorCollector
from rlgen.data.visited import VisitedStates
from rlgen.nn.normalizer import RewardScaler
from rlgen.nn.policy import Critic, Policy
from rlgen.optim.advantages import policy_batch
from rlgen.spaces import flat_box
from rlgen.types import Metrics, PolicyOptimizer, RewardModel, Rollout, State, Transitions, is_stateful, rewards_of


@dataclass(frozen=True)
class Iteration:
    """What one iteration reports.

    Attributes:
        number: from 1.
        env_steps: environment steps so far; 0 where none are taken.
        wall_seconds: since training began.
        episode_returns: true returns of the episodes that ended in it; for reporting only.
        metrics: means and losses by name, on the host.
        seconds: time spent by part of the loop.
        transitions: the rollout's, `[T, N]`: where the policy has been; None without one.
    """

    number: int
    env_steps: int
    wall_seconds: float
    episode_returns: list[float]
    metrics: dict[str, float]
    seconds: dict[str, float]
    transitions: Transitions | None


class Clock:
    """Seconds by part of a loop."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, part: str) -> None:
        """The time since the last lap was this part's."""
        now = time.perf_counter()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self._last
        self._last = now


def keep_freed_memory() -> None:
    """Let glibc reuse freed memory rather than give it back: a batch's large temporaries then cost no page faults.

    A setting of the whole process, so commands ask for it and `Training` doesn't. Nothing happens on other C libraries.
    """
    if sys.platform != "linux":
        return
    m_trim_threshold, m_mmap_threshold = -1, -3
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(m_mmap_threshold, 1 << 30)
        mallopt(m_trim_threshold, (1 << 31) - 1)


_PROGRESS = ("done", "began", "n_iterations", "wall_seconds")


class Loop:
    """Something that is trained in place, one `Iteration` at a time, by iterating it.

    `Training` learns from rewards, `rlgen.cloning.Cloning` from pairs alone. Its random numbers of torch go on from the
    global ones when it is made, and leave those alone. `state_dict` holds all that the following iterations depend on.

    Args:
        policy: what is trained.
        total: steps in all, rounded up to whole iterations.
        steps_per_iteration: steps of each.

    Attributes:
        done: iterations done.
        began: those done when step sizes began to shrink.
        n_iterations: those to do in all.
        wall_seconds: since training began.
        device: of the networks.
    """

    unit: ClassVar[str] = "env_steps"
    """What is counted as a step, by its name in metrics."""

    def __init__(self, policy: Policy, total: int, steps_per_iteration: int) -> None:
        self.policy = policy
        self.steps_per_iteration = steps_per_iteration
        self.n_iterations = -(-total // steps_per_iteration)
        self.done = self.began = 0
        self.wall_seconds = 0.0
        self.device = policy.normalizer.mean.device
        self._paused = 0.0
        self._gpus = [self.device] if self.device.type == "cuda" else []
        self._random = self._global_random()

    @property
    def steps(self) -> int:
        """Steps done."""
        return self.done * self.steps_per_iteration

    @property
    def total(self) -> int:
        """Steps to do in all."""
        return self.n_iterations * self.steps_per_iteration

    @property
    def env_steps(self) -> int:
        """Environment steps done."""
        return self.steps if self.unit == "env_steps" else 0

    @property
    def exact(self) -> bool:
        """Whether training that goes on from a state is the same to the last bit, on one machine."""
        return True

    def extend(self, steps: int) -> None:
        """Have so many steps more done, rounded up to whole iterations; step sizes that shrink start anew."""
        self.began = self.done
        self.n_iterations = self.done + -(-steps // self.steps_per_iteration)

    def __iter__(self) -> Iterator[Iteration]:
        """Train until `n_iterations` are done.

        Raises:
            FloatingPointError: an observation, a reward or a loss isn't finite.
            ValueError: the reward model gave rewards of another shape.
        """
        before = self.wall_seconds + self._paused
        started = time.perf_counter()
        while self.done < self.n_iterations:
            with self._own_random():
                found, rollout, seconds = self._iterate()
            self.done += 1
            self.wall_seconds = before + time.perf_counter() - started - self._paused
            returns, transitions = ([], None) if rollout is None else (rollout.episode_returns, rollout.transitions)
            yield Iteration(self.done, self.env_steps, self.wall_seconds, returns, found, seconds, transitions)

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Time inside, such as an evaluation's, is none of training."""
        started = time.perf_counter()
        yield
        self._paused += time.perf_counter() - started

    def _iterate(self) -> tuple[dict[str, float], Rollout | None, dict[str, float]]:
        """One iteration: metrics, what was collected, and seconds by part of the loop."""
        raise NotImplementedError

    @contextlib.contextmanager
    def _own_random(self) -> Iterator[None]:
        """Torch's global random numbers are this training's inside, and the caller's again afterwards."""
        with torch.random.fork_rng(self._gpus):
            torch.set_rng_state(self._random["torch"])
            if self._gpus and self._random["cuda"] is not None:
                torch.cuda.set_rng_state(self._random["cuda"], self.device)
            yield
            self._random = self._global_random()

    def _global_random(self) -> State:
        cuda = torch.cuda.get_rng_state(self.device) if self._gpus else None
        return {"torch": torch.get_rng_state(), "cuda": cuda}

    def _check_finite(self, name: str, value: float) -> None:
        if not math.isfinite(value):
            raise FloatingPointError(
                f"iteration {self.done + 1}: {name} is {value}; training stops, the last checkpoint stands"
            )

    def _measured(self, metrics: Metrics) -> dict[str, float]:
        """Metrics on the host, those finite that must be."""
        found = {name: float(value) for name, value in metrics.items()}
        for name, value in found.items():
            # Other metrics may be undefined, as an explained variance of nothing is.
            if name in ("reward", "kl") or name.endswith("loss"):
                self._check_finite(name, value)
        return found

    def state_dict(self) -> State:
        """Everything that the next iteration depends on, by part."""
        return {
            "policy": self.policy.state_dict(),
            "random": dict(self._random),
            "progress": {name: getattr(self, name) for name in _PROGRESS},
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from a state of the same settings and environments."""
        self.policy.load_state_dict(state["policy"])
        self._random = {name: state["random"][name] for name in ("torch", "cuda")}
        for name in _PROGRESS:
            setattr(self, name, state["progress"][name])


class Interaction(Loop):
    """A loop that steps environments and learns from a reward; an iteration begins with a rollout.

    Args:
        collector: steps the environments.
        policy: acts as it is at the beginning of an iteration.
        reward_model: scores steps with what it knew before them, then learns from them.
        total_timesteps: environment steps in all, rounded up to whole rollouts.
        rng: for the actions.

    Attributes:
        visited: a sample of the states so far, with the rewards that they were given.
    """

    def __init__(
        self,
        collector: Collector | TensorCollector,
        policy: Policy,
        reward_model: RewardModel,
        total_timesteps: int,
        rng: np.random.Generator,
    ) -> None:
        super().__init__(policy, total_timesteps, collector.n_steps * collector.envs.num_envs)
        self.collector = collector
        self.reward_model = reward_model
        self.rng = rng
        space = flat_box(collector.envs.single_observation_space)
        self.visited = VisitedStates(space.shape[0], space.dtype)

    def __str__(self) -> str:
        return f"{self.collector.envs.num_envs} x {type(self.collector.envs.unwrapped).__name__}"

    @property
    def exact(self) -> bool:
        """Whether the environments' state can be kept."""
        return self.collector.exact

    @property
    def progress_remaining(self) -> float:
        """Falls from 1 to 0 over the training; step sizes shrink with it."""
        return 1 - (self.done - self.began) / (self.n_iterations - self.began)

    def _collect(self, policy: Policy, uniform: bool = False) -> Rollout:
        """A rollout of a policy, or of uniform actions in its place, made sure to be finite."""
        actor: Any = self.collector.actor(policy, self.rng, uniform)
        rollout = self.collector.collect(actor)
        steps = rollout.transitions
        # A sum is finite only if every term is, and costs less to check.
        self._check_finite("observation", float(steps.obs.sum() + steps.next_obs.sum()))
        # Also where another reward is learned from: the task is broken, and its returns mean nothing.
        self._check_finite("the task's reward", float(steps.rewards.sum()))
        return rollout

    def state_dict(self) -> State:
        """Everything that the next iteration depends on, by part."""
        kept = super().state_dict()
        return {
            **kept,
            "reward_model": self.reward_model.state_dict() if is_stateful(self.reward_model) else {},
            "collector": self.collector.state_dict(),
            "visited": self.visited.state_dict(),
            "random": {"actions": self.rng.bit_generator.state, **kept["random"]},
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from a state of the same settings and environments."""
        super().load_state_dict(state)
        if is_stateful(self.reward_model):
            self.reward_model.load_state_dict(state["reward_model"])
        self.collector.load_state_dict(state["collector"])
        self.visited.load_state_dict(state["visited"])
        self.rng.bit_generator.state = state["random"]["actions"]


class Training(Interaction):
    """Policy, critic and reward model being trained in place on fresh rollouts; iterating it trains.

    Observation statistics change only between iterations, so that the policy that is improved is the one that acted.

    Args:
        collector: as the policy, the reward model and the numbers of steps, see `Interaction`.
        policy: see there.
        critic: shares the policy's normaliser.
        optimizer: improves both.
        reward_model: see there.
        total_timesteps: see there.
        gamma: discount.
        gae_lambda: GAE's lambda.
        rng: see there.
        centre_rewards: see `rlgen.nn.normalizer.RewardScaler`.
        critic_warmup: number of iterations in which critic and reward model learn and the policy stays as it is, which
            is a trained one then; 0 of a fresh policy.
    """

    def __init__(
        self,
        collector: Collector | TensorCollector,
        policy: Policy,
        critic: Critic,
        optimizer: PolicyOptimizer,
        reward_model: RewardModel,
        *,
        total_timesteps: int,
        gamma: float,
        gae_lambda: float,
        rng: np.random.Generator,
        centre_rewards: bool = False,
        critic_warmup: int = 0,
    ) -> None:
        super().__init__(collector, policy, reward_model, total_timesteps, rng)
        self.critic = critic
        self.optimizer = optimizer
        self.gamma = gamma
        self.gae_lambda = gae_lambda
        self.scaler = RewardScaler(collector.envs.num_envs, gamma, centre_rewards).to(self.device)
        self.critic_warmup = critic_warmup

    def _iterate(self) -> tuple[dict[str, float], Rollout, dict[str, float]]:
        clock = Clock()
        rollout = self._collect(self.policy)
        steps = rollout.transitions
        clock.lap("collect")
        warming_up = self.done < self.critic_warmup
        if warming_up:
            with self.policy.same_actions():
                self.policy.normalizer.update(steps.obs)
        elif self.done == 0:
            # The first policy acts alike in every state, so its observations may set their own statistics.
            self.policy.normalizer.update(steps.obs)
        # A task's observations may be float64, and so a reward made of them.
        rewards = rewards_of(self.reward_model, steps).to(steps.rewards.dtype)
        self.visited.add(steps, rewards)
        scaled = self.scaler(rewards, steps.terminated, steps.truncated)
        clock.lap("reward")
        batch = policy_batch(self.policy, self.critic, rollout, scaled, self.gamma, self.gae_lambda)
        trained = copy.deepcopy(self.policy.state_dict()) if warming_up else {}
        metrics = dict(self.optimizer.update(batch, progress_remaining=self.progress_remaining))
        if warming_up:
            self.policy.load_state_dict(trained)
            metrics["kl"] = torch.zeros(())
        clock.lap("policy")
        metrics = {"reward": rewards.mean(), **metrics, **self.reward_model.update(steps)}
        if self.done > 0 and not warming_up:
            self.policy.normalizer.update(steps.obs)
        found = self._measured(metrics)
        clock.lap("reward model")
        return found, rollout, clock.seconds

    def state_dict(self) -> State:
        """Everything that the next iteration depends on, by part."""
        return {
            **super().state_dict(),
            "critic": self.critic.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from a state of the same settings and environments."""
        super().load_state_dict(state)
        self.critic.load_state_dict(state["critic"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if "envs" not in state["collector"]:
            self.scaler.returns.zero_()  # new episodes begin
