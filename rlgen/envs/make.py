"""One way to make a vector environment of any gymnasium id."""

from __future__ import annotations

import logging
from typing import Any

import gymnasium as gym
from gymnasium.vector import AutoresetMode

from rlgen.envs.batched_mujoco import BatchedMujocoEnv
from rlgen.envs.batched_ode import BatchedOdeEnv
from rlgen.errors import UsageError

_log = logging.getLogger("rlgen")


def make_vec(
    env_id: str, n_envs: int, seed: int | None = None, *, n_threads: int | None = None, **env_arguments: Any
) -> gym.vector.VectorEnv[Any, Any, Any]:
    """A vector environment with same-step autoreset: batched where the task is one of ours, else gymnasium's.

    Observations that are not a Box, such as a maze's dict of position and goal, are flattened into one.

    Which it is stands in the logger "rlgen" and in the class: `BatchedMujocoEnv`, `BatchedOdeEnv` or
    `gymnasium.vector.SyncVectorEnv`.

    Args:
        env_id: a registered gymnasium id. An id of the form `module:Id` would import the module, and is refused:
            import it yourself first.
        n_envs: number of environments.
        seed: environment i starts with `seed + i`; a later `reset()` continues those streams.
        n_threads: threads of the batched back end; all processors unless told.
        env_arguments: the environment's constructor arguments.

    Raises:
        UsageError: an id of the form `module:Id`.
        gymnasium.error.NameNotFound: an unknown id, with near matches.
    """
    if ":" in env_id:
        raise UsageError(f"{env_id} names a module to import; import it yourself and pass {env_id.split(':')[1]}")
    envs: gym.vector.VectorEnv[Any, Any, Any]
    if env_id in BatchedMujocoEnv.tasks:
        envs = BatchedMujocoEnv(env_id, n_envs, n_threads, **env_arguments)
    elif env_id in BatchedOdeEnv.tasks:
        envs = BatchedOdeEnv(env_id, n_envs, n_threads, **env_arguments)
    else:
        same_step = {"autoreset_mode": AutoresetMode.SAME_STEP}
        envs = gym.make_vec(
            env_id,
            n_envs,
            "sync",
            vector_kwargs=same_step,
            wrappers=[_boxed],  # type: ignore[list-item]
            **env_arguments,
        )
    _log.info("%s: %d environments by %s", env_id, n_envs, type(envs).__name__)
    envs.reset(seed=seed)
    return envs


def _boxed(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    return env if isinstance(env.observation_space, gym.spaces.Box) else gym.wrappers.FlattenObservation(env)
