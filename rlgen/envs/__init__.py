"""Vector environments: batched MuJoCo, and gymnasium's own for everything else."""

import gymnasium as _gymnasium

from rlgen.envs.batched_mujoco import BatchedMujocoEnv
from rlgen.envs.make import make_vec
from rlgen.envs.tasks import TASKS

__all__ = ["TASKS", "BatchedMujocoEnv", "make_vec"]


def _vector_entry_point(task_id: str):  # type: ignore[no-untyped-def]
    def entry(num_envs: int, **arguments: object) -> BatchedMujocoEnv:
        return BatchedMujocoEnv(task_id, num_envs, **arguments)  # type: ignore[arg-type]

    return entry


for _task_id in TASKS:
    # gymnasium.make_vec("rlgen/HalfCheetah-v4", 64) for people who use none of our learners.
    _gymnasium.register(f"rlgen/{_task_id}", vector_entry_point=_vector_entry_point(_task_id))
