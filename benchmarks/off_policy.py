"""Stable-Baselines3's SAC paid by our reward models: GAIL from few pairs, and VIME's bonus on a sparse task.

python benchmarks/off_policy.py --jobs 2
python benchmarks/off_policy.py --runs "GAIL on SAC, Hopper" --seeds 0

GAIL has the pairs of benchmarks/imitation.py: four trajectories, every 20th pair, drawn by the seed. Scores are of the
deterministic policy: 0 is random actions, 1 the expert's mean, or on the sparse task what its registered
`reward_threshold` says is reachable. A row's curve holds one, of eight episodes, after each of twenty equal parts of
the run. A stopped benchmark goes on with the same command. Printed are steps and seconds to 0.9, beside those of our
own TRPO by results/imitation.csv.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import pandas as pd
from cells import Cell, Row, run_cells
from imitation import CURVE_EPISODES, PARTS, ROOT, TASKS
from imitation import RESULTS as ON_POLICY
from imitation_report import curves, first_at, numbers

if TYPE_CHECKING:
    from rlgen.data.demonstrations import Demonstrations
    from rlgen.types import RewardModel

RESULTS = Path(__file__).parent / "results" / "off_policy.csv"
N_TRAJECTORIES = 4
LEVEL = 0.9


def demonstrations_of(env_id: str, seed: int) -> Demonstrations:
    """The pairs that our own GAIL has with this seed."""
    from rlgen.data.demonstrations import load_demonstrations

    return load_demonstrations(ROOT / "expert_data", env_id, N_TRAJECTORIES, TASKS[env_id].subsample, seed=seed)


def gail(envs: gym.vector.VectorEnv, seed: int) -> RewardModel:
    """By the default of `rlgen gail`, endings too."""
    from rlgen import imitation

    assert envs.spec is not None
    return imitation.reward_model(envs, demonstrations_of(envs.spec.id, seed))


def vime(envs: gym.vector.VectorEnv, seed: int) -> RewardModel:
    """The task's reward and the default bonus of `rlgen vime`."""
    from rlgen import exploration

    assert envs.spec is not None
    bonus = exploration.settings("trpo", envs.spec.id, "vime").bonus
    return exploration.reward_model(envs, "cpu", exploration.vime, bonus)


def none(envs: gym.vector.VectorEnv, seed: int) -> RewardModel:
    """The task's reward alone."""
    from rlgen.rewards.environment import EnvironmentReward

    return EnvironmentReward()


@dataclass(frozen=True)
class Paid:
    """What SAC learns, by what it is paid, for how long, and how: options of the buffer and of SB3's SAC."""

    env_id: str
    reward_model: Callable[[gym.vector.VectorEnv, int], RewardModel]
    steps: int
    buffer: Mapping[str, Any]
    sac: Mapping[str, Any]


_SMALL = {"learning_rate": 1e-3, "batch_size": 128, "learning_starts": 1_000, "ent_coef": "auto_0.1"}
_IMITATION = (
    {"update_every": 250, "n_recent": 10_000, "centre_rewards": True},
    _SMALL | {"policy_kwargs": {"net_arch": [128, 128]}},
)
_SPARSE = _SMALL | {"policy_kwargs": {"net_arch": [64, 64]}, "train_freq": 4}
RUNS = {
    "VIME on SAC, sparse MountainCar": Paid("rlgen/SparseMountainCar-v0", vime, 30_000, {}, _SPARSE),
    "SAC, sparse MountainCar": Paid("rlgen/SparseMountainCar-v0", none, 30_000, {}, _SPARSE),
    "GAIL on SAC, Hopper": Paid("Hopper-v4", gail, 100_000, *_IMITATION),
    "GAIL on SAC, HalfCheetah": Paid("HalfCheetah-v4", gail, 150_000, *_IMITATION),
}


def run(cell: Cell) -> Row:
    """Train one model, look at it twenty times on the way, and evaluate the last over 50 episodes."""
    import torch
    from stable_baselines3 import SAC
    from stable_baselines3.common.callbacks import BaseCallback

    import rlgen.envs
    from rlgen.data.episodes import RandomActor
    from rlgen.evaluation import evaluate, normalised_score
    from rlgen.sb3 import RewardModelReplayBuffer, SB3VecEnv

    torch.set_num_threads(1)
    paid, env_id, seed, total = RUNS[cell["algorithm"]], cell["env_id"], cell["seed"], cell["total_timesteps"]
    envs = rlgen.envs.make_vec(env_id, 1, seed, n_threads=1)
    torch.manual_seed(seed)
    reward_model = paid.reward_model(envs, seed)
    model = SAC(
        "MlpPolicy",
        SB3VecEnv(envs),
        buffer_size=total,
        replay_buffer_class=RewardModelReplayBuffer,
        replay_buffer_kwargs={"reward_model": reward_model} | dict(paid.buffer),
        seed=seed,
        device="cpu",
        **copy.deepcopy(dict(paid.sac)),
    )
    zero = evaluate(RandomActor(envs.single_action_space, seed), env_id, seed=seed + 10_000, n_threads=1).mean
    one = demonstrations_of(env_id, seed).dataset_return_mean if env_id in TASKS else gym.spec(env_id).reward_threshold
    curve: list[float] = []

    class Looks(BaseCallback):
        tested, first_reward_steps = 0.0, None

        def _on_step(self) -> bool:
            if self.first_reward_steps is None and self.locals["rewards"].max() > 0:
                self.first_reward_steps = self.num_timesteps
            if self.num_timesteps >= total * (len(curve) + 1) / PARTS:
                started = time.perf_counter()
                looked = evaluate(self.model, env_id, CURVE_EPISODES, seed + 30_000, n_threads=1).mean
                curve.append(normalised_score(looked, zero, one))
                self.tested += time.perf_counter() - started
                print(f"{cell['algorithm']}, seed {seed}, {self.num_timesteps} steps: {curve[-1]:.3f}", flush=True)
            return True

    looks, started = Looks(), time.perf_counter()
    model.learn(total, looks, log_interval=None)
    seconds = time.perf_counter() - started - looks.tested
    found = evaluate(model, env_id, seed=seed + 10_000, n_threads=1).mean
    return {
        "return_mean": found,
        "normalised_score": normalised_score(found, zero, one),
        "wall_seconds": round(seconds, 2),
        "first_reward_steps": looks.first_reward_steps,
        "random_return_mean": zero,
        "expert_return_mean": one,
        "curve": " ".join(f"{score:.4f}" for score in curve),
    }


def cells_of(options: argparse.Namespace) -> list[Cell]:
    """One cell a run, its settings part of it."""
    return [
        {
            "algorithm": name,
            "env_id": RUNS[name].env_id,
            "seed": seed,
            "total_timesteps": options.total_timesteps or RUNS[name].steps,
            "settings": str({"buffer": RUNS[name].buffer, "sac": RUNS[name].sac}),
        }
        for seed, name in itertools.product(options.seeds, options.runs)
    ]


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Scores, and thousands of steps and seconds to the first look at `LEVEL`, by seed."""
    share = first_at(curves(table) >= LEVEL)
    columns = {
        "seeds": table["seed"].map("{:.0f}".format),
        "score": table["normalised_score"].map("{:.3f}".format),
        "thousand steps": (table["total_timesteps"] / 1000 * share).map("{:.0f}".format),
        "seconds": (table["wall_seconds"] * share).map("{:.0f}".format),
    }
    return pd.DataFrame(columns).groupby([table["algorithm"], table["total_timesteps"]], sort=False).agg(" ".join)


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", nargs="+", default=list(RUNS), choices=RUNS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--total-timesteps", type=int, help="default: the run's")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    run_cells(cells_of(options), run, options.output, options.jobs)
    ours = numbers(ON_POLICY)
    ours = ours[
        (ours["algorithm"] == "GAIL")
        & (ours["n_trajectories"] == N_TRAJECTORIES)
        & ours["env_id"].isin([RUNS[name].env_id for name in options.runs])
        & ours["seed"].isin(options.seeds)
    ]
    ours["algorithm"] = "GAIL on TRPO, " + ours["env_id"]
    found = numbers(options.output)
    found = found[found["algorithm"].isin(options.runs) & found["seed"].isin(options.seeds)]
    print(summarise(pd.concat([found, ours], ignore_index=True)).to_string())


if __name__ == "__main__":
    main()
