"""The table of Ho & Ermon (2016): environments x dataset sizes x algorithms x seeds, one CSV row a run.

python benchmarks/imitation.py --jobs 2
python benchmarks/imitation.py --envs Hopper-v4 --trajectories 4 --algorithms GAIL BC --seeds 0 1
python benchmarks/imitation.py --envs Hopper-v4 --trajectories 1 4 --algorithms "GAIL states"
python benchmarks/imitation.py --trajectories 4 --algorithms "GAIL by SVG" --output benchmarks/results/few_steps.csv
python benchmarks/imitation.py --ray auto
python benchmarks/imitation_report.py

A stopped run goes on with the same command, and a changed preset reruns its own cells alone. A row holds the curve too:
the normalised score of the deterministic policy, eight episodes, after each of twenty equal parts of the run.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cells import Cell, Row, run_cells, settings_text

if TYPE_CHECKING:
    from rlgen.data.demonstrations import Demonstrations
    from rlgen.imitation import Imitation

RESULTS = Path(__file__).parent / "results" / "imitation.csv"
ROOT = Path(__file__).parents[1]
PARTS = 20
CURVE_EPISODES = 8


@dataclass(frozen=True)
class Task:
    """The paper's protocol for an environment: numbers of trajectories, and one pair in how many is kept.

    And the environment steps that we take.
    """

    trajectories: tuple[int, ...]
    subsample: int
    steps: int


TASKS = {
    "CartPole-v1": Task((1, 4, 10), 10, 200_000),
    "Acrobot-v1": Task((1, 4, 10), 5, 200_000),
    "MountainCar-v0": Task((1, 4, 10), 5, 300_000),
    "Reacher-v4": Task((4, 11, 18), 1, 300_000),
    "HalfCheetah-v4": Task((4, 11, 25), 20, 600_000),
    "Hopper-v4": Task((4, 11, 25), 20, 600_000),
    "Walker2d-v4": Task((4, 11, 25), 20, 600_000),
    "Ant-v4": Task((4, 11, 25), 20, 600_000),
    "Humanoid-v4": Task((80,), 20, 3_000_000),
}
# By the name in the table: what imitates, of `rlgen.imitation.IMITATORS`.
ADVERSARIAL = {
    "GAIL": "gail",
    "GAIL states": "gail",
    "GAIL by SVG": "gail",
    "GAIL by SAC": "gail",
    "BC then GAIL": "gail",
    "FEM": "fem",
    "GTAL": "gtal",
    "AIRL": "airl",
    "constant": "constant",
}
# What differs from the default.
CHANGES: dict[str, dict[str, Any]] = {"GAIL states": {"state_only": True}}
# Learners by which an algorithm's name goes; others learn by --algo.
LEARNERS = {"GAIL by SVG": "svg", "GAIL by SAC": "sac"}
OFF_POLICY_STEPS = 100_000
# Behaviour cloning: what differs from the paper's. With a penalty all pairs are fitted and none held out.
CLONING = {"BC": {}, "BC+L2": {"weight_decay": 0.01, "validation_share": 0.0}}
ALGORITHMS = [*CLONING, *ADVERSARIAL]


def run(cell: Cell) -> Row:
    """Train one cell and evaluate its last policy over 50 deterministic and 50 stochastic episodes."""
    import torch

    from rlgen.data.demonstrations import load_demonstrations

    torch.set_num_threads(cell["threads"])
    demonstrations = load_demonstrations(
        ROOT / "expert_data", cell["env_id"], cell["n_trajectories"], cell["subsample"], seed=cell["seed"]
    )
    cloning = cell["algorithm"] in CLONING
    row = clone(cell, demonstrations) if cloning else imitate(cell, demonstrations, settings_of(cell))
    return row | {
        "expert_return_mean": demonstrations.dataset_return_mean,
        "worst_demonstration": min(demonstrations.episode_returns),
    }


def imitate(cell: Cell, demonstrations: Demonstrations, settings: Imitation) -> Row:
    """TRPO or PPO on the reward of an imitator."""
    import rlgen
    from rlgen.command import RunOptions
    from rlgen.evaluation import evaluate
    from rlgen.nn.policy import Actor
    from rlgen.train import Iteration

    total, env_id, seed, threads = (cell[x] for x in ("total_timesteps", "env_id", "seed", "threads"))
    curve: list[float] = []
    tested = trained = cloned = 0.0
    init = None
    if cell["algorithm"] == "BC then GAIL":
        started = time.perf_counter()
        init = rlgen.BC(env_id, demonstrations, seed=seed, device="cpu", n_threads=threads).learn(progress=False)
        cloned = time.perf_counter() - started
    agent = rlgen.GAIL(
        env_id,
        demonstrations,
        reward_model=ADVERSARIAL[cell["algorithm"]],
        algo=cell["algo"],
        settings=settings,
        init=init,
        seed=seed,
        device="cpu",
        n_threads=threads,
    )

    def test(iteration: Iteration) -> None:
        nonlocal tested, trained
        trained, started = iteration.wall_seconds - tested, time.perf_counter()
        while iteration.env_steps >= total * (len(curve) + 1) / PARTS:
            actor = Actor(agent.training.policy)
            curve.append(evaluate(actor, env_id, CURVE_EPISODES, seed + 30_000, n_threads=threads).mean)
        tested += time.perf_counter() - started

    with tempfile.TemporaryDirectory() as folder:
        summary = agent.run(RunOptions(run_dir=Path(folder) / "run"), callback=test).summary
    if summary["status"] == "interrupted":
        raise RuntimeError("interrupted: a shorter run is another cell")
    zero, one = summary["random_return_mean"], summary["expert_return_mean"]
    return {name: summary[name] for name in COLUMNS} | {
        "wall_seconds": round(trained + cloned, 2),
        "curve": " ".join(f"{(value - zero) / (one - zero):.4f}" for value in curve),
    }


COLUMNS = (
    "return_mean",
    "stochastic_return_mean",
    "normalised_score",
    "stochastic_normalised_score",
    "wall_seconds",
    "env_steps",
    "random_return_mean",
)


def clone(cell: Cell, demonstrations: Demonstrations) -> Row:
    """Behaviour cloning on the same pairs."""
    import numpy as np
    import torch

    from rlgen.data.episodes import RandomActor
    from rlgen.envs import make_vec
    from rlgen.evaluation import evaluate, normalised_score
    from rlgen.nn.policy import Actor, Policy
    from rlgen.optim.behaviour_cloning import BehaviourCloningConfig, clone_behaviour

    torch.manual_seed(cell["seed"])
    envs = make_vec(cell["env_id"], 1)
    policy = Policy(envs.single_observation_space, envs.single_action_space, (100, 100))
    started = time.perf_counter()
    clone_behaviour(policy, demonstrations.transitions, BehaviourCloningConfig(**CLONING[cell["algorithm"]]))
    seconds = time.perf_counter() - started
    actor, seed = Actor(policy, np.random.default_rng(0)), cell["seed"] + 10_000
    deterministic = evaluate(actor, cell["env_id"], seed=seed).mean
    stochastic = evaluate(actor, cell["env_id"], seed=seed, deterministic=False).mean
    zero = evaluate(RandomActor(envs.single_action_space, seed), cell["env_id"], seed=seed).mean
    one = demonstrations.dataset_return_mean
    return {
        "return_mean": deterministic,
        "stochastic_return_mean": stochastic,
        "normalised_score": normalised_score(deterministic, zero, one),
        "stochastic_normalised_score": normalised_score(stochastic, zero, one),
        "wall_seconds": round(seconds, 2),
        "env_steps": 0,
        "random_return_mean": zero,
        "curve": "",
    }


def settings_of(cell: Cell) -> Imitation:
    """The settings of an adversarial cell."""
    from rlgen import imitation

    settings = replace(imitation.settings("default", cell["algo"]), **CHANGES.get(cell["algorithm"], {}))
    return settings.for_steps(cell["total_timesteps"])


def cells_of(options: argparse.Namespace) -> list[Cell]:
    """One cell a run; its settings are part of it, so that a changed preset reruns its cells alone."""
    cells: list[Cell] = []
    for env_id, seed, algorithm in itertools.product(options.envs, options.seeds, options.algorithms):
        for n in options.trajectories or TASKS[env_id].trajectories:
            cell: Cell = {
                "env_id": env_id,
                "algorithm": algorithm,
                "algo": LEARNERS.get(algorithm, options.algo),
                "n_trajectories": n,
                "subsample": options.subsample or TASKS[env_id].subsample,
                "seed": seed,
                "total_timesteps": 0,
                "threads": options.threads,
            }
            if algorithm in CLONING:
                cell |= {"algo": "", "settings": str(CLONING[algorithm])}
            else:
                steps = OFF_POLICY_STEPS if algorithm in LEARNERS else TASKS[env_id].steps
                cell["total_timesteps"] = int(options.total_timesteps or steps)
                cell["settings"] = settings_text(settings_of(cell))
            cells.append(cell)
    return cells


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--trajectories", nargs="+", type=int, help="default: the paper's")
    parser.add_argument("--subsample", type=int, help="keep one pair in this many (default: the paper's)")
    parser.add_argument("--algorithms", nargs="+", default=["GAIL", "BC", "BC+L2", "FEM", "GTAL"], choices=ALGORITHMS)
    parser.add_argument("--algo", default="trpo", choices=["trpo", "ppo"], help="policy optimizer")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--total-timesteps", type=float, help="default: the task's")
    parser.add_argument("--threads", type=int, default=1, help="of each run")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--ray", metavar="ADDRESS", help="hand the runs to this Ray cluster; local starts one here")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    run_cells(cells_of(options), run, options.output, options.jobs, options.ray)


if __name__ == "__main__":
    main()
