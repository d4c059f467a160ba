"""GAIL beside behaviour cloning and a constant discriminator, from the same pairs; one CSV row a run.

python benchmarks/imitation.py --jobs 2
python benchmarks/imitation.py --envs HalfCheetah-v4 --trajectories 4 --jobs 1 --threads 2
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
from cells import Cell, Row, run_cells

RESULTS = Path(__file__).parent / "results" / "imitation.csv"
ROOT = Path(__file__).parents[1]
COLUMNS = ["return_mean", "stochastic_return_mean", "normalised_score", "stochastic_normalised_score", "wall_seconds"]


def run(cell: Cell) -> Row:
    """Train one cell and evaluate its last policy over 50 deterministic and 50 stochastic episodes."""
    import torch

    from rlgen import presets
    from rlgen.data.demonstrations import load_demonstrations
    from rlgen.experiment import run as run_experiment
    from rlgen.functional.adversarial import reward_softplus

    demonstrations = load_demonstrations(
        ROOT / "expert_data", cell["env_id"], cell["n_trajectories"], cell["subsample"], seed=cell["seed"]
    )
    if cell["algorithm"] == "behaviour cloning":
        return clone(cell, demonstrations)
    preset = presets.imitation("default", cell["algo"], cell["env_id"])
    reward = None if cell["algorithm"] == "constant" else reward_softplus
    torch.set_num_threads(cell["threads"])
    with tempfile.TemporaryDirectory() as folder:
        summary = run_experiment(
            env_id=cell["env_id"],
            learner=replace(preset.learner, total_timesteps=cell["total_timesteps"]),
            make_reward=lambda envs, policy: preset.build(envs, policy, demonstrations, reward),
            algorithm=cell["algorithm"],
            reward="softplus",
            config={"settings": preset},
            run_dir=Path(folder) / "run",
            columns={},
            seed=cell["seed"],
            device="cpu",
            threads=cell["threads"],
            expert_return=demonstrations.dataset_return_mean,
        ).summary
    if summary["interrupted"]:
        raise RuntimeError("interrupted: a shorter run is another cell")
    return {name: summary[name] for name in [*COLUMNS, "env_steps", "expert_return_mean", "random_return_mean"]} | {
        "worst_demonstration": min(demonstrations.episode_returns)
    }


def clone(cell: Cell, demonstrations) -> Row:  # type: ignore[no-untyped-def]
    """Behaviour cloning on the same pairs."""
    import time

    import numpy as np
    import torch

    from rlgen.envs import make_vec
    from rlgen.evaluate import evaluate, normalised_score, random_return
    from rlgen.nn.policy import Actor, Policy
    from rlgen.optim.behaviour_cloning import clone_behaviour

    torch.manual_seed(cell["seed"])
    envs = make_vec(cell["env_id"], 1)
    policy = Policy(envs.single_observation_space, envs.single_action_space, (100, 100))
    started = time.perf_counter()
    clone_behaviour(policy, demonstrations.transitions)
    seconds = time.perf_counter() - started
    actor, seed = Actor(policy, np.random.default_rng(0)), cell["seed"] + 10_000
    deterministic = evaluate(actor, cell["env_id"], seed=seed).mean
    stochastic = evaluate(actor, cell["env_id"], seed=seed, deterministic=False).mean
    zero, one = random_return(cell["env_id"], seed=seed).mean, demonstrations.dataset_return_mean
    return {
        "return_mean": deterministic,
        "stochastic_return_mean": stochastic,
        "normalised_score": normalised_score(deterministic, zero, one),
        "stochastic_normalised_score": normalised_score(stochastic, zero, one),
        "wall_seconds": seconds,
        "env_steps": 0,
        "expert_return_mean": one,
        "random_return_mean": zero,
        "worst_demonstration": min(demonstrations.episode_returns),
    }


def cells_of(options: argparse.Namespace) -> list[Cell]:
    """One cell a run; its settings are part of it, so that a changed preset reruns its cells alone."""
    from rlgen import presets

    cells: list[Cell] = []
    for env_id, n, seed, algorithm in itertools.product(
        options.envs, options.trajectories, options.seeds, options.algorithms
    ):
        preset = presets.imitation("default", options.algo, env_id)
        cloning = algorithm == "behaviour cloning"
        cells.append(
            {
                "env_id": env_id,
                "algorithm": algorithm,
                "algo": "" if cloning else options.algo,
                "n_trajectories": n,
                "subsample": 20,
                "seed": seed,
                "total_timesteps": 0 if cloning else int(options.total_timesteps or preset.learner.total_timesteps),
                "threads": options.threads,
                "settings": "" if cloning else str(asdict(preset)),
            }
        )
    return cells


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", default=["HalfCheetah-v4", "Hopper-v4", "Walker2d-v4"])
    parser.add_argument("--trajectories", nargs="+", type=int, default=[4, 11])
    parser.add_argument("--algorithms", nargs="+", default=["GAIL", "behaviour cloning", "constant"])
    parser.add_argument("--algo", default="trpo", help="policy optimizer: trpo or ppo")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--total-timesteps", type=float, help="the preset's unless told")
    parser.add_argument("--threads", type=int, default=1, help="of each run")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    table = pd.DataFrame(run_cells(cells_of(options), run, options.output, options.jobs))
    table[COLUMNS] = table[COLUMNS].astype(float)
    groups = table.groupby(["env_id", "n_trajectories", "algorithm", "algo", "total_timesteps"])
    summary = groups.agg(
        seeds=("seed", "count"),
        score_mean=("normalised_score", "mean"),
        score_min=("normalised_score", "min"),
        stochastic_score_mean=("stochastic_normalised_score", "mean"),
        return_mean=("return_mean", "mean"),
        wall_seconds_mean=("wall_seconds", "mean"),
    )
    print(summary.round(3).to_string())


if __name__ == "__main__":
    main()
