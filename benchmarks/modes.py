"""Imitation of a mixture of experts, and skills without one: InfoGAIL's codes against the modes that they should find.

python benchmarks/modes.py --jobs 2
python benchmarks/modes.py --tasks circles --algorithms InfoGAIL --seeds 0

No row of the demonstrations tells its mode. What an episode did is judged by a rule that knows the task, never by the
posterior that the codes were learned with. Of each run, 20 deterministic episodes a code, or 60 of GAIL without codes:
the normalised mutual information of code and mode, the modes that at least one episode in twenty has, and how well
they are done. A stopped benchmark goes on with the same command.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from cells import Cell, Row, run_cells, settings_text

if TYPE_CHECKING:
    from rlgen.data.demonstrations import Demonstrations
    from rlgen.data.episodes import Episode

Array = npt.NDArray[Any]

RESULTS = Path(__file__).parent / "results" / "modes.csv"
EPISODES = 60


def mutual_information(codes: Array, modes: Array) -> float:
    """Normalised mutual information of two labellings `[n]`: 2 I / (H + H'), 0 if neither varies."""
    table = np.zeros((codes.max() + 1, modes.max() + 1))
    np.add.at(table, (codes, modes), 1 / len(codes))

    def entropy(p: Array) -> float:
        p = p[p > 0]
        return float(-(p * np.log(p)).sum())

    apart = entropy(table.sum(0)) + entropy(table.sum(1))
    return 2 * (apart - entropy(table.ravel())) / apart if apart > 0 else 0.0


@dataclass(frozen=True)
class Judged:
    """What a rule says of episodes.

    Attributes:
        modes: of each, `[n]`.
        error: what is told of how well each was done, `[n]`.
    """

    modes: Array
    error: Array


def on_circles(episodes: Sequence[Episode]) -> Judged:
    """The circle that an episode is nearest to, and its mean distance from that as a share of the radius."""
    from rlgen.envs.circles import Circles

    errors = np.stack([Circles().errors(episode.obs[1:, -2:]).mean(0) for episode in episodes])
    return Judged(errors.argmin(1), errors.min(1))


def record_circles(folder: Path, seed: int, each: int = 4, noise: float = 0.1) -> None:
    """Record `each` episodes of every circle, with normal noise of `noise` rad in the directions."""
    from rlgen.data.demonstrations import save_demonstrations
    from rlgen.data.episodes import run_episodes
    from rlgen.envs import make_vec

    env_id = "rlgen/Circles-v0"
    envs = make_vec(env_id, each)
    task, rng = envs.task, np.random.default_rng(seed)  # type: ignore[attr-defined]

    class Walk:
        def __init__(self, radius: float) -> None:
            self.radius = radius

        def predict(self, obs: Array, *, deterministic: bool = False) -> tuple[Array, None]:
            way = task.expert(obs, self.radius)
            angle = np.arctan2(way[:, 1], way[:, 0]) + noise * rng.standard_normal(len(way))
            return np.stack((np.cos(angle), np.sin(angle)), 1).astype(np.float32), None

    recorded = [run_episodes(Walk(radius), envs, seed=seed + 100 * k) for k, radius in enumerate(task.radii)]
    save_demonstrations(
        folder / env_id,
        env_id=env_id,
        observation_space=envs.single_observation_space,
        action_space=envs.single_action_space,
        episodes=list(itertools.chain(*recorded)),
        deterministic=False,
        algorithm="scripted",
        command="benchmarks/modes.py",
        seed=seed,
    )


@dataclass(frozen=True)
class Task:
    """A mixture: where, of how many modes, for how many steps, recorded and judged how."""

    env_id: str
    modes: int
    steps: int
    record: Callable[[Path, int], None]
    judge: Callable[[Sequence[Episode]], Judged]


TASKS = {"circles": Task("rlgen/Circles-v0", 3, 400_000, record_circles, on_circles)}
ALGORITHMS = ("InfoGAIL", "GAIL")


def agent_of(cell: Cell, demonstrations: str | Path | Demonstrations, **values: Any) -> Any:
    """What learns from the mixture: with as many codes as modes, or without."""
    import rlgen

    task = TASKS[cell["task"]]
    codes = {"codes": task.modes} if cell["algorithm"] == "InfoGAIL" else {}
    return rlgen.GAIL(
        task.env_id,
        demonstrations,
        seed=cell["seed"],
        n_threads=1,
        device="cpu",
        total_timesteps=cell["total_timesteps"],
        **codes | values,
    )


def judged(agent: Any, task: Task, seed: int) -> Row:
    """What the policy's episodes are by the task's rule."""
    from rlgen.data.episodes import run_episodes
    from rlgen.envs import make_vec
    from rlgen.envs.codes import Coded
    from rlgen.nn.policy import Actor

    n, codes = agent.codes.codes, []
    if not n:
        episodes = run_episodes(Actor(agent.policy), make_vec(task.env_id, EPISODES), True, seed)
    else:
        episodes = []
        for code in range(n):
            envs = make_vec(Coded(task.env_id, agent.codes, code), EPISODES // n)
            episodes += [dict_free(e, agent.codes.width) for e in run_episodes(Actor(agent.policy), envs, True, seed)]
            codes += [code] * (EPISODES // n)
    found = task.judge(episodes)
    shares = np.bincount(found.modes, minlength=task.modes) / len(episodes)
    return {
        "nmi": mutual_information(np.array(codes), found.modes) if n else "",
        "modes_hit": int((shares >= 0.05).sum()),
        "error": float(found.error.mean()),
        "error_by_code": " ".join(f"{x.mean():.3f}" for x in np.split(found.error, n or 1)),
        "mode_by_code": " ".join("/".join(map(str, np.unique(x))) for x in np.split(found.modes, n or 1)),
        "return_mean": float(np.mean([episode.total_reward for episode in episodes])),
    }


def dict_free(episode: Episode, width: int) -> Episode:
    """The episode without the code in its observations."""
    from dataclasses import replace

    return replace(episode, obs=episode.obs[:, width:])


def run(cell: Cell, **values: Any) -> Row:
    """Record, train, judge."""
    import torch

    torch.set_num_threads(1)
    task = TASKS[cell["task"]]
    with tempfile.TemporaryDirectory() as folder:
        task.record(Path(folder), cell["seed"])
        agent = agent_of(cell, folder, n_trajectories=task.modes * 4, **values)
        started = time.perf_counter()
        agent.learn(progress=False)
    last = agent.metrics.iloc[-1]
    return judged(agent, task, cell["seed"] + 10_000) | {
        "wall_seconds": round(time.perf_counter() - started, 1),
        "code_accuracy": float(last.get("code_accuracy", float("nan"))),
    }


def cells_of(options: argparse.Namespace) -> list[Cell]:
    """One cell a run, its settings part of it."""
    cells: list[Cell] = []
    for task, seed, algorithm in itertools.product(options.tasks, options.seeds, options.algorithms):
        cell: Cell = {"task": task, "algorithm": algorithm, "seed": seed}
        cell["total_timesteps"] = options.total_timesteps or TASKS[task].steps
        cells.append(cell | {"settings": settings_text(settings_of(cell))})
    return cells


def settings_of(cell: Cell) -> Any:
    """The settings of a cell."""
    import rlgen.imitation

    return rlgen.imitation.settings()


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--algorithms", nargs="+", default=list(ALGORITHMS), choices=ALGORITHMS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--total-timesteps", type=int, help="default: the task's")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    run_cells(cells_of(options), run, options.output, options.jobs)


if __name__ == "__main__":
    main()
