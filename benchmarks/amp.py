"""Imitation from one clip's states, with the task's reward and with episodes that begin in the clip (AMP).

python benchmarks/amp.py

One trajectory, of which the discriminator sees states alone. Each part of AMP by itself and both together, beside the
task's reward alone by the same learner, from seeds 0 to 4. A stopped benchmark goes on with the same command.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from cells import Cell, Row, run_cells, settings_text
from statistics_of_seeds import interquartile_mean

import rlgen
from rlgen import imitation

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "amp.csv"
TASK_WEIGHT = 0.1  # of 0.1, 0.3 and 1, and START_SHARE of 0.5 and 1, the best on seed 100 of Walker2d-v4
START_SHARE = 0.5
VARIANTS: dict[str, dict[str, Any]] = {
    "states": {},
    "states, from the clip": {"start_share": START_SHARE},
    "states and task": {"task_reward_weight": TASK_WEIGHT},
    "AMP": {"start_share": START_SHARE, "task_reward_weight": TASK_WEIGHT},
    "task alone": {},
}


def settings_of(total_timesteps: int) -> imitation.Imitation:
    """The default for a number of steps."""
    return replace(imitation.settings().for_steps(total_timesteps), state_only=True)


def run(cell: Cell) -> Row:
    """Train, and evaluate the last policy over 50 episodes from the task's own beginnings."""
    env_id, seed = cell["env_id"], cell["seed"]
    told: dict[str, Any] = {"seed": seed, "device": "cpu", "n_threads": 1}
    settings = settings_of(cell["total_timesteps"])
    imitator = rlgen.GAIL(
        env_id, ROOT / "expert_data", n_trajectories=1, settings=settings, **told, **VARIANTS[cell["variant"]]
    )
    agent: Any = imitator
    if cell["variant"] == "task alone":
        learner = settings.learner
        values = {
            name: getattr(learner, name)
            for name in ("n_envs", "n_steps", "total_timesteps", "log_std_init", "centre_rewards")
        } | {name: getattr(learner.optimizer, name) for name in ("target_kl", "final_share", "batch_size")}
        agent = rlgen.TRPO(env_id, **told, **values)
    agent.learn(progress=False)
    returns = agent.metrics["return_mean"].to_numpy()
    parts = np.array_split(returns, 10)
    found, zero = agent.evaluate(50), imitator.evaluate(50).random
    expert = imitator.expert_return
    return {
        "score": (found.mean - zero) / (expert - zero),
        "return_mean": found.mean,
        "clip_return": imitator.demonstrations.episode_returns[0],
        "expert_return_mean": expert,
        "random_return_mean": zero,
        "curve": " ".join(f"{np.nanmean(part):.0f}" if np.isfinite(part).any() else "nan" for part in parts),
        "wall_seconds": round(float(agent.metrics["wall_seconds"].iloc[-1]), 1),
    }


def cells_of(options: argparse.Namespace) -> list[Cell]:
    """One cell a run."""
    settings = settings_text(settings_of(options.total_timesteps))
    return [
        {
            "env_id": env_id,
            "variant": variant,
            "arguments": str(VARIANTS[variant]),
            "seed": seed,
            "total_timesteps": options.total_timesteps,
            "settings": settings,
        }
        for env_id, seed, variant in itertools.product(options.envs, options.seeds, options.variants)
    ]


def summarise(rows: list[dict[str, str]]) -> pd.DataFrame:
    """One row an environment and variant."""
    table = pd.DataFrame(rows).astype({"score": float, "wall_seconds": float})
    return table.groupby(["env_id", "variant"], sort=False).agg(
        seeds=("score", "count"),
        score=("score", lambda scores: interquartile_mean(scores.to_numpy())),
        lowest=("score", "min"),
        highest=("score", "max"),
        seconds=("wall_seconds", "median"),
    )


def main() -> None:
    """Make the runs that are missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", default=["Walker2d-v4"])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--total-timesteps", type=int, default=300_000)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one thread each")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    rows = run_cells(cells_of(options), run, options.output, options.jobs)
    print(summarise(rows).to_string(float_format="%.3f"))


if __name__ == "__main__":
    main()
