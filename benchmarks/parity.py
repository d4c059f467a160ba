"""Final return of our PPO and TRPO beside SB3's PPO and sb3-contrib's TRPO at the same number of steps.

    python benchmarks/parity.py --jobs 2

The peers run with their own default settings on 8 environments x 256 steps, with VecNormalize (which their
authors use on these tasks), one thread each. Ours run with our defaults and, as "peer settings", with the peers' batch,
minibatch, passes, rates and trust region; sb3-contrib's `target_kl` is a mean over the action's dimensions (see
NOTES.md), so ours is theirs times their number.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from cells import Cell, Row, run_cells
from statistics_of_seeds import interval_of_difference

if TYPE_CHECKING:
    from rlgen.presets import Learner

RESULTS = Path(__file__).parent / "results" / "parity.csv"
EPISODES = 20
RETURN = "deterministic_return"
ALGORITHMS = ["sb3 PPO", "sb3-contrib TRPO", "rlgen PPO", "rlgen PPO, peer settings", "rlgen TRPO, peer settings"]
PEERS = {"rlgen PPO": "sb3 PPO", "rlgen TRPO, peer settings": "sb3-contrib TRPO"}


def run(cell: Cell) -> Row:
    """Train one cell and evaluate its last policy for 20 episodes, deterministic and stochastic."""
    import torch

    torch.set_num_threads(1)
    row = (_run_rlgen if cell["algorithm"].startswith("rlgen") else _run_peer)(cell)
    return row | {"process_seconds": round(time.process_time(), 1)}


def _run_peer(cell: Cell) -> Row:
    from sb3_contrib import TRPO
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.vec_env import VecNormalize

    learner = {"sb3 PPO": PPO, "sb3-contrib TRPO": TRPO}[cell["algorithm"]]
    envs = VecNormalize(make_vec_env(cell["env_id"], 8, seed=cell["seed"]))
    model = learner("MlpPolicy", envs, n_steps=256, seed=cell["seed"], device="cpu")
    started = time.monotonic()
    model.learn(cell["total_timesteps"])
    seconds = time.monotonic() - started
    envs.training, envs.norm_reward = False, False
    row: Row = {"wall_seconds": round(seconds, 1)}
    for name, deterministic in (("deterministic", True), ("stochastic", False)):
        mean, std = evaluate_policy(model, envs, EPISODES, deterministic=deterministic)
        row |= {f"{name}_return": round(float(mean), 1), f"{name}_std": round(float(std), 1)}
    return row


def _run_rlgen(cell: Cell) -> Row:
    import numpy as np
    import torch

    from rlgen.envs import make_vec
    from rlgen.evaluation import evaluate
    from rlgen.nn.policy import Actor
    from rlgen.rewards.environment import EnvironmentReward

    torch.manual_seed(cell["seed"])
    learner = learner_of(cell["env_id"], cell["algorithm"])
    envs = make_vec(cell["env_id"], learner.n_envs, cell["seed"], n_threads=1)
    learner = replace(learner, total_timesteps=cell["total_timesteps"])
    training = learner.training(envs, lambda envs, policy: EnvironmentReward(), cell["seed"])
    started = time.monotonic()
    for _ in training:
        pass
    row: Row = {"wall_seconds": round(time.monotonic() - started, 1)}
    actor = Actor(training.policy, np.random.default_rng(0))
    for name, deterministic in (("deterministic", True), ("stochastic", False)):
        found = evaluate(actor, cell["env_id"], EPISODES, seed=10_000, deterministic=deterministic)
        row |= {f"{name}_return": round(found.mean, 1), f"{name}_std": round(found.std, 1)}
    return row


def learner_of(env_id: str, algorithm: str) -> Learner:
    """Our settings for a row of the table."""
    import gymnasium as gym

    from rlgen import presets
    from rlgen.optim.ppo import PPOConfig
    from rlgen.optim.trpo import TRPOConfig

    default = presets.LEARNERS["ppo" if "PPO" in algorithm else "trpo"]
    if "peer settings" not in algorithm:
        return default
    n_actions = gym.make(env_id).action_space.shape[0]
    trpo = TRPOConfig(target_kl=0.01 * n_actions, cg_max_steps=15, n_critic_updates=10, batch_size=128)
    ppo = PPOConfig(learning_rate=3e-4, least_share=1.0, n_epochs=10, batch_size=64)
    return replace(default, optimizer=ppo if "PPO" in algorithm else trpo, n_envs=8, n_steps=256, log_std_init=0.0)


def differences(table: pd.DataFrame) -> pd.DataFrame:
    """Intervals of the difference of ours to the peer's deterministic return."""
    rows = []
    for ours, theirs in PEERS.items():
        for env_id, group in table.groupby("env_id"):
            values, others = (group.loc[group["algorithm"] == name, RETURN].to_numpy() for name in (ours, theirs))
            if len(values) and len(others):
                low, high = interval_of_difference(values, others)
                rows.append({"env_id": env_id, "algorithm": ours, "less": theirs, "low": low, "high": high})
    return pd.DataFrame(rows, columns=["env_id", "algorithm", "less", "low", "high"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", default=["HalfCheetah-v4", "Hopper-v4"])
    parser.add_argument("--algorithms", nargs="+", default=ALGORITHMS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--total-timesteps", type=int, default=1_000_000)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    options = parser.parse_args()
    cells: list[Cell] = [
        {"env_id": env_id, "algorithm": algorithm, "seed": seed, "total_timesteps": options.total_timesteps}
        | ({"settings": str(asdict(learner_of(env_id, algorithm)))} if algorithm.startswith("rlgen") else {})
        for seed in options.seeds
        for algorithm in options.algorithms
        for env_id in options.envs
    ]
    returns = [RETURN, "stochastic_return"]
    table = pd.DataFrame(run_cells(cells, run, RESULTS, options.jobs))
    table[returns] = table[returns].astype(float)
    print(table.groupby(["env_id", "algorithm"])[returns].agg(["count", "mean", "std", "min"]).round(0).to_string())
    print(differences(table).round(0).to_string(index=False))


if __name__ == "__main__":
    main()
