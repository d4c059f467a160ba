"""Vector environments: batched MuJoCo, sparse exploration tasks, and gymnasium's own for everything else."""

from functools import partial as _partial
from typing import Any as _Any

import gymnasium as _gymnasium

from rlgen.envs.batched import BatchedEnv, SingleEnv
from rlgen.envs.batched_mujoco import BatchedMujocoEnv
from rlgen.envs.batched_ode import BatchedOdeEnv
from rlgen.envs.circles import BatchedCirclesEnv
from rlgen.envs.make import make_vec
from rlgen.envs.ode_tasks import ODE_TASKS
from rlgen.envs.sparse_mujoco import SPARSE_MUJOCO_TASKS
from rlgen.envs.tasks import TASKS

__all__ = [
    "EXPLORATION_TASKS",
    "TASKS",
    "BatchedCirclesEnv",
    "BatchedEnv",
    "BatchedMujocoEnv",
    "BatchedOdeEnv",
    "make_vec",
]

EXPLORATION_TASKS = ODE_TASKS | SPARSE_MUJOCO_TASKS


def _vector(env_class: type[BatchedEnv], env_id: str, num_envs: int, **arguments: _Any) -> BatchedEnv:
    return env_class(env_id, num_envs, **arguments)


def _single(env_class: type[BatchedEnv], env_id: str, **arguments: _Any) -> SingleEnv:
    return SingleEnv(env_class(env_id, 1, max_episode_steps=-1, **arguments))


for _env_id in TASKS:
    # gymnasium.make_vec("rlgen/HalfCheetah-v4", 64) for people who use none of our learners.
    _gymnasium.register(f"rlgen/{_env_id}", vector_entry_point=_partial(_vector, BatchedMujocoEnv, _env_id))

for _env_id, _task in EXPLORATION_TASKS.items():
    _env_class = BatchedOdeEnv if _env_id in ODE_TASKS else BatchedMujocoEnv
    _gymnasium.register(
        _env_id,
        entry_point=_partial(_single, _env_class, _env_id),
        vector_entry_point=_partial(_vector, _env_class, _env_id),
        max_episode_steps=500,
        reward_threshold=_task.reachable_return,
    )

for _env_id in BatchedCirclesEnv.tasks:
    _gymnasium.register(
        _env_id,
        entry_point=_partial(_single, BatchedCirclesEnv, _env_id),
        vector_entry_point=_partial(_vector, BatchedCirclesEnv, _env_id),
        max_episode_steps=63,  # once around the largest
    )
