"""Imitation of a mixture of experts, and skills without one: codes against the modes that they should find.

python benchmarks/modes.py --jobs 2
python benchmarks/modes.py --tasks circles --algorithms InfoGAIL --seeds 0

- circles: four walks on each of three circles in the plane, scripted, with noise in the directions;
- unbalanced: 32 walks on one circle and 8 on another, of each of which "InfoGAIL, labels" knows one label;
- half-cheetah: four trajectories of an expert that runs forwards and four of one that runs backwards
  (experts/backward, by the command in its manifest);
- point: no demonstrations; eight skills of a point in the plane that moves at constant speed.

But for those labels, no row of the demonstrations tells its mode. Episodes are judged by a rule that knows the task,
never by the posterior that the codes were learned with: `nmi` is the normalised mutual information of code and mode,
`as_told` the share of episodes whose mode is its code's by the best assignment, `modes_hit` counts the modes of at
least one episode in twenty. 60 deterministic episodes, of GAIL also 60 sampled ones (`modes_hit_sampling`); on the
point stochastic ones, whose mode is the skill that their last position is nearest to, by the mean last positions of 60
others. A stopped benchmark goes on with the same command.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from cells import Cell, Row, run_cells, settings_text

if TYPE_CHECKING:
    from rlgen.data.episodes import Episode

Array = npt.NDArray[Any]
Judge = Callable[[Sequence["Episode"]], tuple[Array, Array]]
"""From episodes to the mode of each, and how well each was done."""

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "modes.csv"
EPISODES, EACH = 60, 4
CIRCLES, CHEETAH = "rlgen/Circles-v0", "HalfCheetah-v5"


def mutual_information(codes: Array, modes: Array) -> float:
    """Normalised mutual information of two labellings `[n]`: 2 I / (H + H'), 0 if neither varies."""
    table = np.zeros((codes.max() + 1, modes.max() + 1))
    np.add.at(table, (codes, modes), 1 / len(codes))

    def entropy(p: Array) -> float:
        p = p[p > 0]
        return float(-(p * np.log(p)).sum())

    apart = entropy(table.sum(0)) + entropy(table.sum(1))
    return 2 * (apart - entropy(table.ravel())) / apart if apart > 0 else 0.0


def as_told(codes: Array, modes: Array) -> float:
    """Share of episodes whose mode is its code's, by the assignment of modes to codes for which it is largest."""
    n = max(codes.max(), modes.max()) + 1
    table = np.zeros((n, n))
    np.add.at(table, (codes, modes), 1 / len(codes))
    return float(max(table[np.arange(n), list(order)].sum() for order in itertools.permutations(range(n))))


def hit(modes: Array) -> int:
    """How many modes at least one episode in twenty has."""
    return int((np.bincount(modes) / len(modes) >= 0.05).sum())


def on_circles(episodes: Sequence[Episode]) -> tuple[Array, Array]:
    """The circle that an episode is nearest to, and its mean distance from that as a share of the radius."""
    from rlgen.envs.circles import Circles

    errors = np.stack([Circles().errors(episode.obs[1:, -2:]).mean(0) for episode in episodes])
    return errors.argmin(1), errors.min(1)


def record_circles(folder: Path, seed: int, each: Sequence[int] = (EACH,) * 3, labelled: bool = False) -> None:
    """Episodes of every circle, with normal noise of 0.1 rad in the directions; the first of each may be labelled."""
    from rlgen.data.episodes import run_episodes
    from rlgen.envs import make_vec

    envs = make_vec(CIRCLES, max(each))
    task, rng = envs.task, np.random.default_rng(seed)  # type: ignore[attr-defined]

    class Walk:
        def __init__(self, radius: float) -> None:
            self.radius = radius

        def predict(self, obs: Array, *, deterministic: bool = False) -> tuple[Array, None]:
            way = task.expert(obs, self.radius)
            angle = np.arctan2(way[:, 1], way[:, 0]) + 0.1 * rng.standard_normal(len(way))
            return np.stack((np.cos(angle), np.sin(angle)), 1).astype(np.float32), None

    episodes: list[Episode] = []
    labels: list[int | None] = []
    for k, (n, radius) in enumerate(zip(each, task.radii, strict=False)):
        episodes += run_episodes(Walk(radius), envs, seed=seed + 100 * k)[:n]
        labels += [k, *[None] * (n - 1)]
    _save(folder, CIRCLES, episodes, envs, seed, labels if labelled else None)


@functools.cache
def _cheetahs() -> list[list[Episode]]:
    """The episodes of both experts, failures left out, each with the reward of its direction."""
    from rlgen.data.demonstrations import failed_episodes, load_episodes

    found = []
    for folder in (HERE.parent / "expert_data", HERE / "experts" / "backward"):
        manifest, episodes = load_episodes(folder, CHEETAH)
        failed = failed_episodes(manifest["returns"])
        found.append([episode for i, episode in enumerate(episodes) if i not in failed])
    return found


def in_directions(episodes: Sequence[Episode]) -> tuple[Array, Array]:
    """0 forwards, 1 backwards, by the distance run; and the return by that direction's reward, the expert's being 1."""
    ran = np.array([episode.total_reward for episode in episodes])  # distance / time less the cost of actions
    cost = np.array([0.1 * np.square(episode.actions, dtype=np.float64).sum() for episode in episodes])
    backwards = ran + cost < 0
    experts = np.array([np.mean([episode.total_reward for episode in mode]) for mode in _cheetahs()])
    return backwards.astype(int), np.where(backwards, -ran - 2 * cost, ran) / experts[backwards.astype(int)]


def record_cheetahs(folder: Path, seed: int) -> None:
    """A draw from each expert's episodes."""
    from rlgen.envs import make_vec

    rng = np.random.default_rng(seed)
    drawn = [mode[i] for mode in _cheetahs() for i in rng.choice(len(mode), EACH, replace=False)]
    _save(folder, CHEETAH, drawn, make_vec(CHEETAH, 1), seed)


def _save(
    folder: Path,
    env_id: str,
    episodes: Sequence[Episode],
    envs: Any,
    seed: int,
    labels: Sequence[int | None] | None = None,
) -> None:
    from rlgen.data.demonstrations import save_demonstrations

    save_demonstrations(
        folder / env_id,
        env_id=env_id,
        observation_space=envs.single_observation_space,
        action_space=envs.single_action_space,
        episodes=episodes,
        deterministic=False,
        algorithm="mixture",
        command="benchmarks/modes.py",
        seed=seed,
        labels=labels,
    )


@dataclass(frozen=True)
class Task:
    """Where, of how many modes, for how many steps, by what; a mixture is recorded and judged."""

    env_id: str
    modes: int
    steps: int
    algorithms: tuple[str, ...]
    record: Callable[[Path, int], None] | None = None
    judge: Judge | None = None
    measure: str = ""


IMITATORS, LABELS = ("InfoGAIL", "GAIL"), "InfoGAIL, labels"
TASKS = {
    "circles": Task(CIRCLES, 3, 600_000, IMITATORS, record_circles, on_circles, "radial_error"),
    "unbalanced": Task(
        CIRCLES,
        2,
        600_000,
        ("InfoGAIL", LABELS),
        functools.partial(record_circles, each=(32, 8), labelled=True),
        on_circles,
        "radial_error",
    ),
    "half-cheetah": Task(CHEETAH, 2, 1_500_000, IMITATORS, record_cheetahs, in_directions, "score"),
    "point": Task(CIRCLES, 8, 400_000, ("skills",)),
}


def settings_of(cell: Cell) -> Any:
    """The settings of a cell."""
    from rlgen import exploration, imitation

    task = TASKS[cell["task"]]
    if cell["algorithm"] == "skills":
        return exploration.settings("trpo", task.env_id, "skills").for_steps(cell["total_timesteps"])
    settings = imitation.settings().for_steps(cell["total_timesteps"])
    codes = 0 if cell["algorithm"] == "GAIL" else task.modes
    return replace(settings, code=replace(settings.code, codes=codes))


def episodes_of(agent: Any, env_id: str, code: int | None, n: int, deterministic: bool, seed: int) -> list[Episode]:
    """Episodes of the policy with a code, which their observations are given without."""
    from rlgen.data.episodes import run_episodes
    from rlgen.envs import make_vec
    from rlgen.envs.codes import Coded
    from rlgen.nn.policy import Actor

    env = env_id if code is None else Coded(env_id, agent.codes, code)
    actor = Actor(agent.policy, np.random.default_rng(seed))
    found = run_episodes(actor, make_vec(env, n, n_threads=1), deterministic, seed)
    return [replace(episode, obs=episode.obs[:, agent.codes.width :]) for episode in found]


def imitated(agent: Any, task: Task, seed: int) -> Row:
    """What the policy's episodes are by the task's rule."""
    assert task.judge is not None
    n = max(agent.codes.codes, 1)
    codes = np.repeat(np.arange(n), EPISODES // n)
    told = range(n) if agent.codes else [None]
    episodes = [x for code in told for x in episodes_of(agent, task.env_id, code, EPISODES // n, True, seed)]
    modes, measured = task.judge(episodes)
    found: Row = {"nmi": mutual_information(codes, modes), "as_told": as_told(codes, modes)}
    if not agent.codes:  # whose mode from one start does one thing, but what it samples may vary
        sampled, _ = task.judge(episodes_of(agent, task.env_id, None, EPISODES, False, seed))
        found = {"modes_hit_sampling": hit(sampled)}
    return found | {
        "modes_hit": hit(modes),
        task.measure: float(measured.mean()),
        "by_code": " ".join(f"{x.mean():.3f}" for x in np.split(measured, n)),
        "mode_by_code": " ".join("/".join(map(str, np.unique(x))) for x in np.split(modes, n)),
        "code_information": float(agent.metrics["code_information"].tail(10).mean()) if agent.codes else "",
    }


def skilled(agent: Any, task: Task, seed: int) -> Row:
    """How well skills can be told apart by where their episodes end."""
    n, each = task.modes, -(-EPISODES // task.modes)
    first, second = (
        np.stack([[x.obs[-1, -2:] for x in episodes_of(agent, task.env_id, k, each, False, s)] for k in range(n)])
        for s in (seed, seed + 1_000)
    )
    distances = np.linalg.norm(second[:, :, None] - first.mean(1), axis=-1)  # [skill, episode, skill]
    codes, modes = np.repeat(np.arange(n), each), distances.argmin(-1).ravel()
    information = agent.metrics["bonus_information"].tail(10).mean()
    return {
        "nmi": mutual_information(codes, modes),
        "accuracy": float((codes == modes).mean()),
        "modes_hit": len(np.unique(modes)),
        "information_share": float(information / np.log(n)),
    }


def run(cell: Cell) -> Row:
    """Record, train, judge."""
    import torch

    import rlgen
    from rlgen.data.demonstrations import load_demonstrations

    torch.set_num_threads(1)
    task, seed = TASKS[cell["task"]], cell["seed"]
    options: dict[str, Any] = {"settings": settings_of(cell), "seed": seed, "n_threads": 1, "device": "cpu"}
    with tempfile.TemporaryDirectory() as folder:
        if task.record is None:
            agent: Any = rlgen.VIME(task.env_id, bonus="skills", **options)
        else:
            task.record(Path(folder), seed)
            drawn = load_demonstrations(folder, task.env_id)
            agent = rlgen.GAIL(task.env_id, drawn, labels=cell["algorithm"] == LABELS, **options)
        started = time.perf_counter()
        agent.learn(progress=False)
        seconds = round(time.perf_counter() - started, 1)
    judge = skilled if task.record is None else imitated
    return judge(agent, task, seed + 10_000) | {"wall_seconds": seconds}


def cells_of(options: argparse.Namespace) -> list[Cell]:
    """One cell a run, its settings part of it."""
    cells: list[Cell] = []
    for name, seed in itertools.product(options.tasks, options.seeds):
        for algorithm in TASKS[name].algorithms:
            if algorithm in options.algorithms:
                cell: Cell = {"task": name, "algorithm": algorithm, "seed": seed}
                cell["total_timesteps"] = options.total_timesteps or TASKS[name].steps
                settings = settings_of(cell)
                cells.append(cell | {"settings": str(settings) if algorithm == "skills" else settings_text(settings)})
    return cells


def main() -> None:
    """Run what is missing, then print the table."""
    import pandas as pd

    every = [*IMITATORS, LABELS, "skills"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--algorithms", nargs="+", default=every, choices=every)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--total-timesteps", type=int, help="default: the task's")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    rows = pd.DataFrame(run_cells(cells_of(options), run, options.output, options.jobs))
    print(rows.drop(columns=["key", "settings", "hardware", "versions"]).to_string(index=False))


if __name__ == "__main__":
    main()
