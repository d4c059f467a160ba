"""Our vector environments for Stable-Baselines3's learners."""

from __future__ import annotations

import time
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvStepReturn


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
