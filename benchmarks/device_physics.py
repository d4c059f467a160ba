"""MuJoCo Warp beside C MuJoCo: one-step agreement over visited states, whole trainings, and steps a second on a GPU.

    python benchmarks/device_physics.py                        # agreement: about ten minutes on one core
    python benchmarks/device_physics.py --sections frames      # why some of Ant's steps differ: half a minute
    python benchmarks/device_physics.py --sections training    # trained on Warp, scored on both: minutes a task
    python benchmarks/device_physics.py --sections stepping    # a GPU's rates; without one nothing is measured

The module isn't called warp, for that is the name of the package that it measures.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import mujoco
import numpy as np
import numpy.typing as npt
import torch
from cells import provenance, write_rows

import rlgen
from rlgen import Actor, load_expert, make_vec
from rlgen.envs import TASKS, BatchedMujocoEnv
from rlgen.envs.batched_mujoco import load_model
from rlgen.errors import DemonstrationError
from rlgen.nn.policy import Policy

RESULTS = Path(__file__).parent / "results"
EXPERTS = Path(__file__).parents[1] / "expert_data"
IDS = [*TASKS, "rlgen/SparseHalfCheetah-v0"]
RATES = ["HalfCheetah-v4", "Hopper-v4", "Ant-v5", "Humanoid-v5"]


def by_newton(task: type) -> type:
    """The task with Newton's method as its solver."""

    def model(self: Any) -> mujoco.MjModel:
        compiled = task.model(self)
        compiled.opt.solver = mujoco.mjtSolver.mjSOL_NEWTON
        return compiled

    return type(task.__name__, (task,), {"model": model})


class NewtonEnv(BatchedMujocoEnv):
    """C MuJoCo with the device's solver, where gymnasium's Humanoid stops PGS after 50 sweeps."""

    tasks: ClassVar[dict[str, type]] = {}


NewtonEnv.tasks |= {env_id: by_newton(task) for env_id, task in BatchedMujocoEnv.tasks.items()}


def agreement(env_id: str, kind: type[BatchedMujocoEnv], device: str, n_envs: int, n_steps: int) -> dict[str, Any]:
    """One step of both from the same states, which C MuJoCo visits with the shipped expert or random actions.

    States are rounded to float32 beforehand, so that errors are the step's. The relative error of a state is the norm
    of the difference of its positions and velocities, each over its own norm.
    """
    ours: Any = make_vec(env_id, n_envs, backend="warp", device=device)
    theirs = kind(env_id, n_envs, 1)
    rng = np.random.default_rng(0)
    try:
        actor: Actor | None = Actor(load_expert(EXPERTS, env_id), rng)
    except DemonstrationError:
        actor = None
    obs, _ = theirs.reset(seed=0)
    shape, high = theirs.action_space.shape, theirs.single_action_space.high
    errors, rewards, ends = [], [], 0
    for step in range(100 * (actor is not None) + n_steps):
        actions = actor.sample(obs) if actor is not None else high * rng.uniform(-1, 1, shape)
        actions = np.clip(actions, -high, high).astype(np.float32)
        measured = step >= 100 * (actor is not None)
        if measured:
            for name in ("qpos", "qvel"):
                state = getattr(theirs.sim, name)
                state[:] = state.astype(np.float32)
                getattr(ours.sim, name).copy_(torch.from_numpy(state))
            for name, x in theirs.sim.derived.items():
                ours.sim.derived[name].copy_(torch.from_numpy(x.copy()))
            ours.elapsed_steps.zero_()
            # The automatic reset would hide the state that is to be compared.
            restart, ours._restart = ours._restart, lambda mask: ours._obs
            _, reward, terminated, _, _ = ours.step(torch.from_numpy(actions).to(device))
            ours._restart = restart
        after, reward_c, terminated_c, truncated_c, _ = theirs.advance(actions)
        if measured:
            pairs = [(getattr(ours.sim, name).cpu().numpy(), getattr(theirs.sim, name)) for name in ("qpos", "qvel")]
            apart = [np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1) for a, b in pairs]
            errors.append(np.maximum(*apart))
            rewards.append(np.abs(reward.cpu().numpy() - reward_c) / (np.abs(reward_c) + 1))
            ends += int((terminated.cpu().numpy() != terminated_c).sum())
        obs = after.copy()
        if (done := np.flatnonzero(terminated_c | truncated_c).astype(np.int32)).size:
            obs[done] = theirs._reset_rows(done)
    ours.check_buffers()
    error, reward_error = np.concatenate(errors), np.concatenate(rewards)
    return {
        "task": env_id,
        "device": device,
        "c_solver": "Newton" if kind is NewtonEnv else "gymnasium's",
        "states": len(error),
        "visited_by": "expert" if actor is not None else "random actions",
        **{f"state_{name}": f"{np.quantile(error, q):.1e}" for name, q in QUANTILES.items()},
        **{f"reward_{name}": f"{np.quantile(reward_error, q):.1e}" for name, q in QUANTILES.items()},
        "share_within_5e-4": round(float((error <= 5e-4).mean()), 5),
        "terminations_that_differ": ends,
    }


QUANTILES = {"median": 0.5, "p99": 0.99, "max": 1.0}


def agreements(options: argparse.Namespace) -> list[dict[str, Any]]:
    """All tasks; Humanoid's also against C with the solver that the device has."""
    rows = []
    for env_id in options.envs or IDS:
        for kind in (BatchedMujocoEnv, NewtonEnv):
            if kind is NewtonEnv and "Humanoid" not in env_id:
                continue
            rows.append(agreement(env_id, kind, options.device or "cpu", 256, 40))
            print(rows[-1], flush=True)
            write_rows(options.results / "warp_agreement.csv", [row | provenance() for row in rows])
    return rows


def frames(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Accelerations of both in states that random actions visit, apart by whether the contacts' frames are the same."""
    rows: list[dict[str, Any]] = []
    for env_id in options.envs or ["Ant-v5"]:
        ours: Any = make_vec(env_id, 128, backend="warp")
        theirs = NewtonEnv(env_id, 128, 1)
        theirs.reset(seed=0)
        model, rng, found = load_model(theirs.task), np.random.default_rng(0), []
        data, high = mujoco.MjData(model), theirs.single_action_space.high
        for step in range(60):
            actions = (high * rng.uniform(-1, 1, theirs.action_space.shape)).astype(np.float32)
            if step >= 40:
                for name, x in (("qpos", theirs.sim.qpos), ("qvel", theirs.sim.qvel), ("ctrl", actions)):
                    getattr(ours.sim, name).copy_(torch.from_numpy(x.astype(np.float32)))
                ours._forward()
                contact, n = ours._data.contact, ours._data.nacon.numpy()[0]
                worlds, frame = contact.worldid.numpy()[:n], contact.frame.numpy()[:n].reshape(n, 9)
                for i, acceleration in enumerate(ours._data.qacc.numpy()):
                    mujoco.mj_resetData(model, data)
                    for name in ("qpos", "qvel", "ctrl"):
                        getattr(data, name)[:] = getattr(ours.sim, name)[i]
                    mujoco.mj_forward(model, data)
                    apart = np.abs(frame[worlds == i][:, None] - data.contact.frame).max(-1)  # [ours, theirs]
                    same = apart.shape[0] == apart.shape[1] and (apart.size == 0 or apart.min(1).max() < 1e-3)
                    error = np.linalg.norm(acceleration - data.qacc) / np.linalg.norm(data.qacc)
                    found.append((same, error))
            theirs.step(actions)
        same, errors = (np.array(x) for x in zip(*found, strict=True))
        row = {
            "task": env_id,
            "states": len(same),
            "frames_differ": round(float((~same).mean()), 4),
            "largest_error_else": f"{errors[same].max():.1e}",
            "above_5e-4_if_they_do": round(float((errors[~same] > 5e-4).mean()), 4),
        }
        rows.append(row)
        print(rows[-1], flush=True)
        write_rows(options.results / "warp_frames.csv", [row | provenance() for row in rows])
    return rows


def stepping(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Control steps a second, with resets, of actions drawn on the device."""
    device = options.device or "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        print("no GPU: nothing measured")
        return []
    stop = time.perf_counter() + options.stop_after
    rows: list[dict[str, Any]] = []
    for n_envs in options.n_envs:
        for env_id in options.envs or RATES:
            if time.perf_counter() > stop:
                return rows
            started = time.perf_counter()
            envs: Any = make_vec(env_id, n_envs, 0, backend="warp", device=device)
            high = torch.as_tensor(envs.single_action_space.high, device=envs.device)
            made = time.perf_counter() - started

            def rollout(steps: int, envs: Any = envs, high: Any = high) -> float:
                started = time.perf_counter()
                for _ in range(steps):
                    envs.step((2 * torch.rand(envs.action_space.shape, device=envs.device) - 1) * high)
                if envs.device.type == "cuda":
                    torch.cuda.synchronize()
                return time.perf_counter() - started

            rollout(20)
            steps = max(10, int(options.seconds / rollout(10) * 10))
            seconds = sorted(rollout(steps) for _ in range(3))[1]
            envs.check_buffers()
            rows.append(
                {
                    "task": env_id,
                    "device": device,
                    "n_envs": n_envs,
                    "control_steps_per_second": round(n_envs * steps / seconds),
                    "physics_steps_per_second": round(n_envs * steps * envs.task.frame_skip / seconds),
                    "seconds_to_make": round(made, 1),
                }
            )
            print(rows[-1], flush=True)
            write_rows(options.results / "warp_stepping.csv", [row | provenance() for row in rows])
    return rows


@torch.no_grad()
def warp_returns(policy: Policy, env_id: str, device: str, n_episodes: int, seed: int) -> npt.NDArray[Any]:
    """Returns of the deterministic policy in as many environments on the device."""
    envs: Any = make_vec(env_id, n_episodes, backend="warp", device=device)
    obs, _ = envs.reset(seed=seed)
    totals, first = torch.zeros(n_episodes, device=envs.device), torch.ones(n_episodes, device=envs.device)
    for _ in range(envs.max_episode_steps):
        actions = policy.actions.mode(policy.network(policy.normalizer(obs)))
        obs, rewards, terminated, truncated, _ = envs.step(actions)
        totals += first * rewards
        first *= ~(terminated | truncated)
    envs.close()
    return totals.cpu().numpy()


def trainings(options: argparse.Namespace) -> list[dict[str, Any]]:
    """GAIL with its default settings on Warp, the last policy scored on Warp and on C MuJoCo over 50 episodes each."""
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    rows: list[dict[str, Any]] = []
    for env_id in options.envs or ["HalfCheetah-v4", "Hopper-v4", "Reacher-v4"]:
        agent = rlgen.GAIL(
            env_id,
            EXPERTS,
            seed=options.seed,
            backend="warp",
            device=device,
            n_threads=1,
            n_envs=options.training_envs,
            n_steps=options.training_steps,
        )
        agent.learn(options.total_timesteps, progress=False)
        on_c = agent.evaluate(50)
        on_warp = warp_returns(agent.policy, env_id, device, 50, options.seed + 10_000)
        means = {"c": on_c.mean, "warp": float(on_warp.mean())}
        scores = {name: (mean - on_c.random) / (on_c.expert - on_c.random) for name, mean in means.items()}
        errors = [float(np.std(x, ddof=1) / len(x) ** 0.5) for x in (on_c.returns, on_warp)]
        seconds = float(agent.metrics["wall_seconds"].iloc[-1])
        rows.append(
            {
                "task": env_id,
                "device": device,
                "seed": options.seed,
                "n_envs": options.training_envs,
                "n_steps": options.training_steps,
                "env_steps": agent.num_timesteps,
                "score_c": round(scores["c"], 4),
                "score_warp": round(scores["warp"], 4),
                "standard_error_of_their_difference": round(float(np.hypot(*errors)) / (on_c.expert - on_c.random), 4),
                "seconds": round(seconds, 1),
                "steps_per_second": round(agent.num_timesteps / seconds),
            }
        )
        print(rows[-1], flush=True)
        write_rows(options.results / "warp_training.csv", [row | provenance() for row in rows])
    return rows


def main() -> None:
    """Measure, print and save, each row as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sections = {"agreement": agreements, "frames": frames, "training": trainings, "stepping": stepping}
    parser.add_argument("--sections", nargs="+", default=["agreement"], choices=sections)
    parser.add_argument("--envs", nargs="+", choices=IDS, help="tasks (default: all, or four in stepping)")
    parser.add_argument("--n-envs", nargs="+", type=int, default=[64, 1024, 4096, 16384], help="in stepping")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: cpu for agreement, cuda for stepping")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each of a stepping row's three rounds")
    parser.add_argument("--stop-after", type=float, default=float("inf"), help="seconds after which no row is begun")
    parser.add_argument("--total-timesteps", type=int, default=300_000, help="in training")
    parser.add_argument("--training-envs", type=int, default=64, help="in training; a GPU wants thousands")
    parser.add_argument("--training-steps", type=int, default=16, help="of each environment and iteration, in training")
    parser.add_argument("--seed", type=int, default=0, help="in training")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the CSV files")
    options = parser.parse_args()
    options.results.mkdir(parents=True, exist_ok=True)
    for section in options.sections:
        sections[section](options)


if __name__ == "__main__":
    sys.exit(main())
