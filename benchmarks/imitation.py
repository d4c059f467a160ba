"""GAIL beside behaviour cloning and a constant discriminator, from the same pairs; one CSV row a run.

python benchmarks/imitation.py --jobs 2
python benchmarks/imitation.py --envs HalfCheetah-v4 --trajectories 4 --jobs 1 --threads 2
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
from cells import Cell, Row, read_rows, run_cells

RESULTS = Path(__file__).parent / "results" / "imitation.csv"
ROOT = Path(__file__).parents[1]
STEPS = {"HalfCheetah-v4": 3_000_000, "Hopper-v4": 3_000_000, "Walker2d-v4": 5_000_000, "CartPole-v1": 300_000}
COLUMNS = ["return_mean", "stochastic_return_mean", "normalised_score", "stochastic_normalised_score", "wall_seconds"]


def run(cell: Cell) -> Row:
    """Train one cell and evaluate its last policy over 50 deterministic and 50 stochastic episodes."""
    import torch

    from rlgen import presets
    from rlgen.data.demonstrations import load_demonstrations
    from rlgen.experiment import run as run_experiment
    from rlgen.nn.discriminator import Discriminator
    from rlgen.rewards.gail import GAIL, ConstantDiscriminator

    demonstrations = load_demonstrations(
        ROOT / "expert_data", cell["env_id"], cell["n_trajectories"], cell["subsample"], seed=cell["seed"]
    )
    if cell["algorithm"] == "behaviour cloning":
        return clone(cell, demonstrations)
    preset = presets.GAIL["default"][cell["algo"]]

    def make_reward(envs, policy):  # type: ignore[no-untyped-def]
        policy.normalizer.update(demonstrations.transitions.obs, weight=preset.expert_weight)
        if cell["algorithm"] == "constant":
            return ConstantDiscriminator()
        size = demonstrations.transitions.obs.shape[-1]
        discriminator = Discriminator(size, envs.single_action_space, preset.net_arch)
        return GAIL(discriminator, demonstrations.transitions, preset.gail)

    torch.set_num_threads(cell["threads"])
    with tempfile.TemporaryDirectory() as folder:
        summary = run_experiment(
            env_id=cell["env_id"],
            learner=replace(preset.learner, total_timesteps=cell["total_timesteps"]),
            make_reward=make_reward,
            algorithm=cell["algorithm"],
            reward="softplus",
            config=preset,
            run_dir=Path(folder) / "run",
            columns={},
            seed=cell["seed"],
            device="cpu",
            threads=cell["threads"],
            expert_return=demonstrations.dataset_return_mean,
        ).summary
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


def settings_of(algorithm: str, algo: str) -> str:
    """The settings that determine a cell beside its own fields, so that a changed preset reruns its cells."""
    from rlgen import presets

    return "" if algorithm == "behaviour cloning" else str(asdict(presets.GAIL["default"][algo]))


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", default=["HalfCheetah-v4", "Hopper-v4", "Walker2d-v4"])
    parser.add_argument("--trajectories", nargs="+", type=int, default=[4, 11])
    parser.add_argument("--algorithms", nargs="+", default=["GAIL", "behaviour cloning", "constant"])
    parser.add_argument("--algo", default="ppo", help="policy optimizer: trpo or ppo")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--total-timesteps", type=float, help="the environment's own unless told")
    parser.add_argument("--threads", type=int, default=1, help="of each run")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    cells: list[Cell] = [
        {
            "env_id": env_id,
            "algorithm": algorithm,
            "algo": options.algo,
            "n_trajectories": n,
            "subsample": 20,
            "seed": seed,
            "total_timesteps": int(options.total_timesteps or STEPS[env_id]),
            "threads": options.threads,
            "settings": settings_of(algorithm, options.algo),
        }
        for env_id in options.envs
        for n in options.trajectories
        for seed in options.seeds
        for algorithm in options.algorithms
    ]
    for _ in run_cells(cells, run, options.output, options.jobs):
        pass
    table = pd.DataFrame(read_rows(options.output))
    table[COLUMNS] = table[COLUMNS].astype(float)
    groups = table.groupby(["env_id", "n_trajectories", "algorithm", "algo", "total_timesteps"])
    pd.options.display.width, pd.options.display.max_columns = 220, 20
    print(groups.normalised_score.agg(["count", "mean", "min"]).join(groups[COLUMNS[1:]].mean(), rsuffix=" mean"))


if __name__ == "__main__":
    main()
