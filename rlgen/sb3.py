"""For Stable-Baselines3's learners: our vector environments, and our reward models."""

from __future__ import annotations

import time
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvStepReturn

from rlgen.errors import UsageError
from rlgen.types import RewardModel, Transitions


class SB3VecEnv(VecEnv):
    """A same-step-autoreset vector environment as SB3's `VecEnv`, with Monitor's episode infos.

    Observations and rewards are float32. At an episode's end `infos[i]` holds `terminal_observation`,
    `TimeLimit.truncated` and `episode` (`r` return, `l` length, `t` seconds).

    Args:
        envs: as `rlgen.make_vec` gives.
    """

    def __init__(self, envs: gym.vector.VectorEnv[Any, Any, Any]) -> None:
        space = envs.single_observation_space
        if isinstance(space, gym.spaces.Box) and space.dtype == np.float64:
            space = gym.spaces.Box(space.low.astype(np.float32), space.high.astype(np.float32), dtype=np.float32)
        self.envs = envs
        self.render_mode = None
        self._started = time.time()
        self._returns = np.zeros(envs.num_envs)
        self._lengths = np.zeros(envs.num_envs, np.int64)
        super().__init__(envs.num_envs, space, envs.single_action_space)

    def reset(self) -> npt.NDArray[Any]:
        """Reset all, with the seeds given to `seed` if any."""
        seeds = list(self._seeds)
        obs, _ = self.envs.reset(seed=seeds if any(seed is not None for seed in seeds) else None)  # type: ignore[arg-type]
        self._reset_seeds()
        self._returns[:], self._lengths[:] = 0, 0
        return obs.astype(self.observation_space.dtype)

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step, and translate the ends of episodes."""
        obs, rewards, terminated, truncated, vector_infos = self.envs.step(self._actions)
        self._returns += rewards
        self._lengths += 1
        done = terminated | truncated
        infos: list[dict[str, Any]] = [{"TimeLimit.truncated": False} for _ in range(self.num_envs)]
        for i in np.flatnonzero(done).tolist():
            infos[i] = {
                "terminal_observation": np.asarray(vector_infos["final_obs"][i], self.observation_space.dtype),
                "TimeLimit.truncated": bool(truncated[i] and not terminated[i]),
                "episode": {
                    "r": float(self._returns[i]),
                    "l": int(self._lengths[i]),
                    "t": round(time.time() - self._started, 6),
                },
            }
            self._returns[i], self._lengths[i] = 0, 0
        return obs.astype(self.observation_space.dtype), rewards.astype(np.float32), done, infos

    def close(self) -> None:
        """Close the environments."""
        self.envs.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The vector environment's attribute, once for each index."""
        return [getattr(self.envs, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Not possible for one of many environments in a batch."""
        raise AttributeError("the environments of a batch share their attributes: set them on the vector environment")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """The vector environment's method, called once and given for each index."""
        result = getattr(self.envs, method_name)(*args, **kwargs)
        return [result] * len(list(self._get_indices(indices)))

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Monitor's work is done here; no other wrapper is."""
        from stable_baselines3.common.monitor import Monitor

        return [wrapper_class is Monitor] * len(list(self._get_indices(indices)))


class RewardModelCallback(BaseCallback):
    """Pays SB3's PPO or A2C, or sb3-contrib's TRPO, by a reward model, which learns from each rollout.

        model = PPO("MlpPolicy", SB3VecEnv(rlgen.make_vec("HalfCheetah-v4", 8)))
        model.learn(1_000_000, callback=RewardModelCallback(reward_model))

    At a rollout's end the buffer's rewards become the reward model's, each with what SB3 added for the value behind a
    time limit; returns and advantages are computed again, then the reward model learns. Transitions hold executed
    (clipped) actions and true successors. Episode returns that SB3 logs stay the environment's.

    Args:
        reward_model: on `device`.
        device: where transitions are put.

    Raises:
        UsageError: when training starts, the learner collects in another way, or observations are not a Box.
    """

    model: OnPolicyAlgorithm

    def __init__(self, reward_model: RewardModel, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.reward_model = reward_model
        self.device = device
        self._steps: list[tuple[npt.NDArray[Any], ...]] = []

    def _on_training_start(self) -> None:
        collect = getattr(type(self.model), "collect_rollouts", None)
        if collect is not OnPolicyAlgorithm.collect_rollouts:
            name = type(self.model).__name__
            raise UsageError(
                f"a reward model needs a learner with SB3's on-policy rollouts, as PPO, A2C, TRPO; not {name}"
            )
        if not isinstance(self.model.observation_space, gym.spaces.Box):
            raise UsageError(f"observations must be a Box; got {self.model.observation_space}")

    def _on_rollout_start(self) -> None:
        self._steps = []

    def _on_step(self) -> bool:
        found = self.locals
        done, infos = np.asarray(found["dones"], np.bool_), found["infos"]
        next_obs = np.array(found["new_obs"], np.float32)
        truncated = np.zeros_like(done)
        for i in np.flatnonzero(done).tolist():
            next_obs[i] = infos[i]["terminal_observation"]
            truncated[i] = infos[i].get("TimeLimit.truncated", False)
        obs = np.array(self.model._last_obs, np.float32)
        actions = np.array(found["clipped_actions"])
        # Copied: SB3 adds the value behind a time limit to this very array.
        rewards = np.array(found["rewards"], np.float32)
        self._steps.append((obs, actions, next_obs, rewards, done & ~truncated, truncated))
        return True

    def _on_rollout_end(self) -> None:
        transitions = Transitions(
            *(torch.from_numpy(np.stack(x)).to(self.device) for x in zip(*self._steps, strict=True))
        )
        buffer = self.model.rollout_buffer
        raw = transitions.rewards.cpu().double().numpy()
        rewards = self.reward_model(transitions).cpu().double().numpy()
        # In float64 the difference is exact, and so is its sum with a reward that is the environment's own.
        buffer.rewards[:] = rewards + (buffer.rewards.astype(np.float64) - raw)
        buffer.compute_returns_and_advantage(self.locals["values"], self.locals["dones"])
        for name, value in self.reward_model.update(transitions).items():
            self.logger.record(f"reward_model/{name}", float(value))
        self.logger.record("reward_model/reward", float(rewards.mean()))
