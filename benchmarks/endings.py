"""What an episode's end means: small tasks in which it is success, failure, both, neither, or what the expert is after.

python benchmarks/endings.py --jobs 2

One set of values, the default, imitates a scripted expert in each: from 20 trajectories where these are a few steps
long, from 4 where they are long. A row holds the score and the episodes' length beside the expert's. A stopped
benchmark goes on with the same command.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import default_gail
import gymnasium as gym
import numpy as np
import numpy.typing as npt
import pandas as pd
from cells import Cell, Row, run_cells, settings_text
from default_gail import settings_of

import rlgen

RESULTS = Path(__file__).parent / "results" / "endings.csv"
RECORDED = 40  # episodes of each expert

Array = npt.NDArray[Any]


class Point(gym.Env[Array, Any]):
    """A point in the plane, in a square of side 20, whose steps are 0.3 long.

    Args:
        goal: reaching the origin ends an episode with success, and each step costs 1; otherwise a step earns more the
            nearer the origin is.
        pit: an episode ends with failure, which costs 100, where a coordinate is larger (default: nowhere).
        drift: how far each step pushes outwards.
        discrete: four directions and standing still in place of a vector.
    """

    observation_space = gym.spaces.Box(-10, 10, (2,), np.float32)
    directions = np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]], np.float32)

    def __init__(self, goal: bool = False, pit: float = np.inf, drift: float = 0.0, discrete: bool = False) -> None:
        self.goal, self.pit, self.drift, self.discrete = goal, pit, drift, discrete
        self.action_space = gym.spaces.Discrete(5) if discrete else gym.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict]:
        """Somewhere in the square of side 6."""
        super().reset(seed=seed)
        self.at = self.np_random.uniform(-3, 3, 2).astype(np.float32)
        return self.at.copy(), {}

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict]:
        """One step and the drift."""
        step = self.directions[int(action)] if self.discrete else np.clip(action, -1, 1)
        self.at = np.clip(self.at + 0.3 * step + self.drift * np.sign(self.at), -10, 10).astype(np.float32)
        distance = float(np.linalg.norm(self.at))
        arrived = self.goal and distance < (0.45 if self.discrete else 0.3)
        fallen = bool(np.abs(self.at).max() > self.pit)
        reward = (-1.0 if self.goal else 1.0 - 0.1 * distance) - 100.0 * fallen
        return self.at.copy(), reward, arrived or fallen, False, {}


def to_the_origin(obs: Array, rng: np.random.Generator) -> Array:
    """Straight there, a little unsteadily."""
    aim = -obs / np.maximum(np.abs(obs).max(1, keepdims=True), 0.3)
    return np.clip(aim + rng.normal(0, 0.1, obs.shape), -1, 1).astype(np.float32)


def along_the_axes(obs: Array, rng: np.random.Generator) -> Array:
    """The farther coordinate first."""
    far = np.abs(obs).argmax(1)
    x = obs[np.arange(len(obs)), far]
    return np.where(np.abs(x) < 0.15, 0, 1 + 2 * far + (x > 0)).astype(np.int64)


def always_left(obs: Array, rng: np.random.Generator) -> Array:
    """Until the pole falls."""
    return np.zeros(len(obs), np.int64)


def balance(obs: Array, rng: np.random.Generator) -> Array:
    """Push to where the pole falls."""
    return (obs @ np.array([0.1, 0.4, 1.0, 0.4]) > 0).astype(np.int64)


@dataclass(frozen=True)
class Task:
    """An environment, its expert, and how many of the expert's trajectories are imitated."""

    env_id: str
    act: Callable[[Array, np.random.Generator], Array]
    n_trajectories: int


TASKS: dict[str, Task] = {
    "CartPole, the expert balances": Task("CartPole-v1", balance, 4),
    "CartPole, the expert falls on purpose": Task("CartPole-v1", always_left, 4),
}
KINDS: dict[str, tuple[int, int, dict[str, Any]]] = {  # trajectories, time limit, arguments
    "success": (20, 200, {"goal": True}),
    "failure": (4, 100, {"pit": 4.0, "drift": 0.15}),
    "success or failure": (20, 200, {"goal": True, "pit": 4.0}),
    "neither": (4, 100, {}),
}
for (kind, (n, limit, arguments)), discrete in itertools.product(KINDS.items(), (False, True)):
    env_id = f"{kind.title().replace(' ', '')}{'Discrete' if discrete else 'Continuous'}-v0"
    gym.register(env_id, Point, max_episode_steps=limit, kwargs=arguments | {"discrete": discrete})
    TASKS[f"{kind}, {'discrete' if discrete else 'continuous'}"] = Task(
        env_id, along_the_axes if discrete else to_the_origin, n
    )


class Scripted:
    """An expert from a function of observations."""

    def __init__(self, act: Callable[[Array, np.random.Generator], Array]) -> None:
        self.act = act
        self.rng = np.random.default_rng(0)

    def predict(self, observation: Array, *args: Any, **kwargs: Any) -> tuple[Array, None]:
        """As SB3's."""
        return self.act(observation, self.rng), None


def record(task: Task, folder: Path) -> None:
    """The expert's dataset."""
    command = "python benchmarks/endings.py"
    rlgen.record(Scripted(task.act), task.env_id, folder, RECORDED, algorithm="scripted", command=command)


def run(cell: Cell) -> Row:
    """Imitate one expert and evaluate the last policy over 50 episodes."""
    from rlgen.data.demonstrations import load_demonstrations
    from rlgen.evaluation import evaluate, normalised_score

    task, seed = TASKS[cell["task"]], cell["seed"]
    with tempfile.TemporaryDirectory() as folder:
        record(task, Path(folder))
        demonstrations = load_demonstrations(folder, task.env_id, cell["n_trajectories"], seed=seed)
    found = default_gail.imitate(demonstrations, settings_of(cell["total_timesteps"]), seed)
    expert = evaluate(Scripted(task.act), task.env_id, seed=seed + 10_000)
    # Against an expert that earns less than random actions do, as one that falls on purpose, the ratio of returns.
    score = normalised_score(found.policy.mean, found.policy.random, expert.mean)
    return {
        "score": found.policy.mean / expert.mean if score is None else score,
        "length": np.mean(found.policy.lengths),
        "expert_length": np.mean(expert.lengths),
        "wall_seconds": found.seconds,
    }


def cells_of(options: argparse.Namespace) -> list[Cell]:
    """One cell a run, its settings part of it."""
    total = int(options.total_timesteps)
    return [
        {
            "task": task,
            "n_trajectories": TASKS[task].n_trajectories,
            "seed": seed,
            "total_timesteps": total,
            "settings": settings_text(settings_of(total)),
        }
        for task, seed in itertools.product(options.tasks, options.seeds)
    ]


def summarise(rows: list[dict[str, str]]) -> pd.DataFrame:
    """One row a task: the median and the lowest score, and the shortest and longest mean length over the expert's."""
    table = pd.DataFrame(rows).astype({"score": float, "length": float, "expert_length": float})
    table["ratio"] = table["length"] / table["expert_length"]
    found = table.groupby("task", sort=False).agg(
        seeds=("score", "count"),
        score=("score", "median"),
        lowest=("score", "min"),
        shortest=("ratio", "min"),
        longest=("ratio", "max"),
    )
    return found.rename(columns={"shortest": "shortest / expert's", "longest": "longest / expert's"})


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--total-timesteps", type=float, default=150_000)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    rows = run_cells(cells_of(options), run, options.output, options.jobs)
    print(summarise(rows).to_string(float_format="%.3f"))


if __name__ == "__main__":
    main()
