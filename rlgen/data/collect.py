"""Collects rollouts from a vector environment, stepped by the processor or on a device."""

from __future__ import annotations

import zlib
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from rlgen.envs.batched import require_same_step
from rlgen.envs.codes import batch_of
from rlgen.envs.tensors import TensorEnv, require_arrays
from rlgen.errors import UsageError
from rlgen.nn.actions import tensor_dtype
from rlgen.nn.policy import Actor, Policy, TensorActor, UniformActor
from rlgen.spaces import FlatBox
from rlgen.types import Rollout, State, Transitions


class Collector:
    """Steps a vector environment (same-step autoreset) with an actor, keeping the true successor of every step.

    Only acting and stepping happen here; values, log-probabilities and rewards come from one batched pass afterwards.

    Args:
        envs: a vector environment that resets in the same step, as `rlgen.make_vec` gives.
        n_steps: steps per environment in one rollout.
        device: where the rollout's tensors are put.
        stagger: start each environment's clock at another point of its time limit, where the environment is ours, so
            that a rollout shorter than an episode doesn't see one phase of the task at a time.
    """

    def __init__(
        self, envs: gym.vector.VectorEnv, n_steps: int, device: torch.device | str = "cpu", stagger: bool = True
    ) -> None:
        require_same_step(envs)
        require_arrays(envs, "a wrapper")
        self.envs = envs
        self.n_steps = n_steps
        self.device = torch.device(device)
        n_envs = envs.num_envs
        self._space = FlatBox(envs.single_observation_space)
        self.obs = self._space.flatten(envs.reset()[0], n_envs)
        self._cut_short = np.zeros(n_envs, np.bool_)
        self._kept: Any = envs if (batch := batch_of(envs)) is not None else None  # what has a state to keep
        if stagger and batch is not None and batch.max_episode_steps is not None:
            batch.elapsed_steps[:] = np.arange(n_envs) * batch.max_episode_steps // n_envs
            self._cut_short[:] = batch.elapsed_steps > 0
        self._returns = np.zeros(n_envs)

    @property
    def exact(self) -> bool:
        """Whether the environments are ours, whose state can be kept."""
        return self._kept is not None

    def actor(self, policy: Policy, rng: np.random.Generator, uniform: bool = False) -> Actor:
        """What acts here by a policy as it is now, or uniformly."""
        return (UniformActor if uniform else Actor)(policy, rng)

    def state_dict(self) -> State:
        """Where the episodes under way stand; of environments that are not ours, their state is left out."""
        kept = {"obs": self.obs.copy(), "cut_short": self._cut_short.copy(), "returns": self._returns.copy()}
        return kept | ({} if self._kept is None else {"envs": self._kept.state_dict()})

    def load_state_dict(self, state: State) -> None:
        """Go on from a state; environments that are not ours begin new episodes, for theirs is not to be had."""
        if self._kept is not None:
            self._kept.load_state_dict(state["envs"])
            self.obs = np.array(state["obs"])
            self._cut_short[:] = state["cut_short"]
            self._returns[:] = state["returns"]
        else:  # other episodes than those at the start of the run, but the same each time
            obs, _ = self.envs.reset(seed=zlib.crc32(state["obs"].tobytes()))
            self.obs = self._space.flatten(obs, self.envs.num_envs)

    def collect(self, actor: Actor) -> Rollout:
        """Step every environment `n_steps` times; the next call goes on where this one stopped."""
        steps, n_envs, units = self.n_steps, self.envs.num_envs, actor.units
        shape = (steps, n_envs)
        sampled = np.empty((*shape, *units.sample_shape), units.sample_dtype)
        executed = np.empty((*shape, *(units.space.shape or ())), units.stored_dtype)
        obs = np.empty((*shape, *self.obs.shape[1:]), self.obs.dtype)
        next_obs = np.empty_like(obs)
        rewards = np.empty(shape, np.float32)
        terminated, truncated = np.empty(shape, np.bool_), np.empty(shape, np.bool_)
        episode_returns: list[float] = []
        # BLAS threads spin for a while after each of the actor's products and would take the simulations' processors.
        with threadpool_limits(1, "blas"):
            for t in range(steps):
                obs[t] = self.obs
                sampled[t] = actor.sample(obs[t])
                actions = actor.execute(sampled[t])
                executed[t] = actions
                following, reward, terminated[t], truncated[t], infos = self.envs.step(actions)
                self.obs = self._space.flatten(following, n_envs)
                next_obs[t] = self.obs
                rewards[t] = reward
                self._returns += reward
                done = terminated[t] | truncated[t]
                if done.any():
                    ended = np.flatnonzero(done)
                    for i in ended:
                        next_obs[t, i] = self._space.flatten(infos["final_obs"][i], 1)[0]
                    # A staggered clock's first episode is not a whole one.
                    episode_returns += self._returns[done & ~self._cut_short].tolist()
                    self._cut_short[ended] = False
                    self._returns[ended] = 0

        def tensor(x: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(x).to(self.device)

        transitions = Transitions(
            tensor(obs), tensor(executed), tensor(next_obs), tensor(rewards), tensor(terminated), tensor(truncated)
        )
        return Rollout(transitions, tensor(sampled), episode_returns)


class TensorCollector:
    """What `Collector` is, of environments on a device: in a rollout nothing leaves the device or waits for it.

    Arguments are those of `Collector`; the device is the environments'.

    Raises:
        UsageError: the environments are on another device than the rollout is to be.
    """

    def __init__(self, envs: TensorEnv, n_steps: int, device: torch.device | str = "cpu", stagger: bool = True) -> None:
        require_same_step(envs)
        if torch.device(device).type != envs.device.type:
            raise UsageError(f"environments and networks must be on one device; they are on {envs.device} and {device}")
        self.envs = envs
        self.n_steps = n_steps
        self.device = envs.device
        self.exact = True
        self.obs, _ = envs.reset()
        if stagger and envs.max_episode_steps is not None:
            order = torch.arange(envs.num_envs, device=self.device)
            envs.elapsed_steps.copy_(order * envs.max_episode_steps // envs.num_envs)
        self._cut_short = envs.elapsed_steps > 0
        self._returns = torch.zeros(envs.num_envs, device=self.device)

    def actor(self, policy: Policy, rng: np.random.Generator, uniform: bool = False) -> TensorActor:
        """What acts here by a policy, or uniformly; its random numbers are torch's, not those of `rng`."""
        return TensorActor(policy, uniform)

    def state_dict(self) -> State:
        """Where the episodes under way stand."""
        kept = {"obs": self.obs, "cut_short": self._cut_short, "returns": self._returns}
        return {name: x.clone() for name, x in kept.items()} | {"envs": self.envs.state_dict()}

    def load_state_dict(self, state: State) -> None:
        """Go on from a state."""
        self.envs.load_state_dict(state["envs"])
        self.obs, self._cut_short, self._returns = (
            state[name].to(self.device, copy=True) for name in ("obs", "cut_short", "returns")
        )

    def collect(self, actor: TensorActor) -> Rollout:
        """Step every environment `n_steps` times; the next call goes on where this one stopped."""
        shape, units = (self.n_steps, self.envs.num_envs), actor.policy.actions.units

        def empty(*of_row: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.empty(*shape, *of_row, dtype=dtype, device=self.device)

        sampled = empty(*units.sample_shape, dtype=tensor_dtype(units.sample_dtype))
        steps = Transitions(
            obs=empty(*self.obs.shape[1:], dtype=self.obs.dtype),
            actions=empty(*(units.space.shape or ()), dtype=tensor_dtype(units.stored_dtype)),
            next_obs=empty(*self.obs.shape[1:], dtype=self.obs.dtype),
            rewards=empty(),
            terminated=empty(dtype=torch.bool),
            truncated=empty(dtype=torch.bool),
        )
        returns, whole = empty(), empty(dtype=torch.bool)
        for t in range(self.n_steps):
            steps.obs[t] = self.obs
            sampled[t] = actor.sample(self.obs)
            steps.actions[t] = actions = actor.execute(sampled[t])
            self.obs, steps.rewards[t], steps.terminated[t], steps.truncated[t], infos = self.envs.step(actions)
            steps.next_obs[t] = infos["final_obs"]
            self._returns += steps.rewards[t]
            done = steps.terminated[t] | steps.truncated[t]
            returns[t] = self._returns
            # A staggered clock's first episode is not a whole one.
            whole[t] = done & ~self._cut_short
            self._cut_short &= ~done
            self._returns *= ~done
        self.envs.check_buffers()
        return Rollout(steps, sampled, returns[whole].tolist())


def collector_of(envs: gym.vector.VectorEnv, n_steps: int, device: torch.device | str) -> Collector | TensorCollector:
    """The collector for environments, on a device or not."""
    return (TensorCollector if isinstance(envs, TensorEnv) else Collector)(envs, n_steps, device)  # type: ignore[arg-type]
