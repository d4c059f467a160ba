"""GAIL on tasks that nobody tuned for: one set of values, the default, from four whole trajectories.

python benchmarks/untuned.py --jobs 2
python benchmarks/untuned.py --experts

The experts are trained on the tasks' own rewards, each by its own settings, and recorded where their datasets are
missing; with --experts that is all. Then each is imitated from seeds 0 to 4; only the number of steps differs from
task to task. A stopped benchmark goes on with the same command. To train an expert anew, delete its folder; its runs
are then repeated too.

LunarLander and BipedalWalker need `pip install 'rlgen[box2d]'`, PointMaze `pip install 'rlgen[robotics]'`.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from cells import Cell, Row, run_cells, settings_text
from default_gail import imitate, settings_of
from statistics_of_seeds import interquartile_mean

import rlgen
from rlgen.command import environment_id
from rlgen.optim.ppo import PPOConfig
from rlgen.optim.trpo import TRPOConfig
from rlgen.presets import Learner

if TYPE_CHECKING:
    from rlgen.nn.policy import Policy

RESULTS = Path(__file__).parent / "results" / "untuned.csv"
EXPERTS = Path(__file__).parents[1] / "runs" / "untuned_experts"
RECORDED = 40  # episodes of each expert
N_TRAJECTORIES = 4


@dataclass(frozen=True)
class Task:
    """An environment, how its expert is trained, and GAIL's steps."""

    env: str  # `module:Id` where a module registers it
    expert: Learner
    steps: int
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)


_PPO = Learner(PPOConfig(1e-3, batch_size=256), n_steps=256, n_envs=16, total_timesteps=500_000, log_std_init=-0.5)
# Its return is paid at the end, hundreds of steps away; with centred rewards, at this gamma, it learned to hover.
_LANDER = replace(
    _PPO, optimizer=PPOConfig(1e-3, batch_size=256, ent_coef=0.005), gamma=0.999, gae_lambda=0.98, centre_rewards=False
)
_PENDULUM = Learner(PPOConfig(1e-3, n_epochs=10, batch_size=64), 256, 8, total_timesteps=200_000, gamma=0.9)
# What a stroke earns shows only over many of the 1,000 steps.
_SWIMMER = replace(
    _PPO,
    optimizer=TRPOConfig(0.03, 0.1, batch_size=256),
    n_steps=512,
    total_timesteps=300_000,
    gamma=0.9999,
    gae_lambda=0.98,
)
_WALKER = replace(_PPO, total_timesteps=1_500_000, centre_rewards=False)
TASKS = {
    "LunarLander": Task("LunarLander-v3", _LANDER, 500_000),
    "LunarLanderContinuous": Task("LunarLander-v3", _LANDER, 500_000, {"continuous": True}),
    "Pendulum": Task("Pendulum-v1", _PENDULUM, 200_000),
    "InvertedDoublePendulum": Task("InvertedDoublePendulum-v5", _PPO, 200_000),
    "Swimmer": Task("Swimmer-v5", _SWIMMER, 300_000),
    "Pusher": Task("Pusher-v5", _PPO, 300_000),
    "PointMaze": Task("gymnasium_robotics:PointMaze_UMazeDense-v3", _PPO, 300_000),
    "BipedalWalker": Task("BipedalWalker-v3", _WALKER, 600_000),
}


def train(task: Task, seed: int) -> tuple[Policy, float]:
    """An expert's policy by the task's own reward, and the seconds that it took, on one thread."""
    import torch

    from rlgen.envs import make_vec
    from rlgen.rewards.environment import EnvironmentReward

    torch.set_num_threads(1)
    learner = task.expert
    envs = make_vec(environment_id(task.env), learner.n_envs, seed=seed, n_threads=1, env_kwargs=task.env_kwargs)
    training = learner.training(envs, lambda envs, policy: EnvironmentReward(), seed)
    for iteration in training:
        seconds = iteration.wall_seconds
    envs.close()
    return training.policy, seconds


def make_expert(name: str, experts: Path, seed: int = 0) -> None:
    """Train an expert and record it."""
    import numpy as np

    from rlgen.data.demonstrations import load_demonstrations
    from rlgen.nn.policy import Actor

    task, folder = TASKS[name], experts / name
    policy, seconds = train(task, seed)
    env_id, optimizer = environment_id(task.env), type(task.expert.optimizer).__name__.removesuffix("Config")
    rlgen.record(
        Actor(policy, np.random.default_rng(seed + 1)),
        env_id,
        folder,
        RECORDED,
        algorithm=f"{optimizer}, {task.expert.total_timesteps:,} steps",
        command=f"python benchmarks/untuned.py --experts --tasks {name}",
        seed=seed + 20_000,
        policy=policy,
        env_kwargs=task.env_kwargs,
    )
    expert = load_demonstrations(folder, env_id, include_failed=True)
    mean, lowest, std = expert.dataset_return_mean, min(expert.episode_returns), expert.dataset_return_std
    print(f"{name}: {seconds:.0f} s, return {mean:.1f} +- {std:.1f}, lowest {lowest:.1f}", flush=True)


def run(cell: Cell, experts: Path) -> Row:
    """Imitate one expert and evaluate the last policy over 50 episodes."""
    from rlgen.data.demonstrations import load_demonstrations, open_dataset
    from rlgen.evaluation import normalised_score

    task, seed = TASKS[cell["task"]], cell["seed"]
    env_id, folder = environment_id(task.env), experts / cell["task"]
    demonstrations = load_demonstrations(folder, env_id, cell["n_trajectories"], seed=seed)
    found = imitate(demonstrations, settings_of(cell["total_timesteps"]), seed, task.env_kwargs)
    zero, one = found.policy.random, demonstrations.dataset_return_mean
    _, manifest = open_dataset(folder, env_id)
    return {
        "score": normalised_score(found.policy.mean, zero, one),
        "return_mean": found.policy.mean,
        "length": sum(found.policy.lengths) / len(found.policy.lengths),
        "random_return_mean": zero,
        "expert_return_mean": one,
        "expert": manifest["algorithm"],
        "expert_command": manifest["command"],
        "wall_seconds": found.seconds,
    }


def cells_of(options: argparse.Namespace) -> list[Cell]:
    """One cell a run, its settings and its expert's data part of it."""
    from rlgen.data.demonstrations import open_dataset

    cells: list[Cell] = []
    for name, seed in itertools.product(options.tasks, options.seeds):
        total = int(options.total_timesteps or TASKS[name].steps)
        _, manifest = open_dataset(options.experts_folder / name, environment_id(TASKS[name].env))
        cells.append(
            {
                "task": name,
                "n_trajectories": N_TRAJECTORIES,
                "seed": seed,
                "total_timesteps": total,
                "expert_data": manifest["sha256"]["episodes.npz"][:16],
                "settings": settings_text(settings_of(total)),
            }
        )
    return cells


def summarise(rows: list[dict[str, str]]) -> pd.DataFrame:
    """One row a task."""
    numbers = ["score", "expert_return_mean", "random_return_mean", "total_timesteps", "wall_seconds"]
    table = pd.DataFrame(rows).astype(dict.fromkeys(numbers, float))
    found = table.groupby("task", sort=False).agg(
        seeds=("score", "count"),
        score=("score", lambda scores: interquartile_mean(scores.to_numpy())),
        lowest=("score", "min"),
        highest=("score", "max"),
        expert=("expert_return_mean", "mean"),
        random=("random_return_mean", "mean"),
        steps=("total_timesteps", "mean"),
        seconds=("wall_seconds", "median"),
    )
    return found.astype({"steps": int}).rename(columns={"score": "score (IQM)"})


def main() -> None:
    """Train the experts and make the runs that are missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--total-timesteps", type=float, help="default: the task's")
    parser.add_argument("--experts", action="store_true", help="train and record missing experts, and stop there")
    parser.add_argument("--experts-folder", type=Path, default=EXPERTS, help="of the datasets (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    for name in options.tasks:
        if not (options.experts_folder / name).exists():
            make_expert(name, options.experts_folder)
    if options.experts:
        return
    rows = run_cells(cells_of(options), partial(run, experts=options.experts_folder), options.output, options.jobs)
    print(summarise(rows).to_string(float_format="%.3f"))


if __name__ == "__main__":
    main()
