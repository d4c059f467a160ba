"""A board of times: environment steps and seconds until each method has 0.95 of the expert's score, task by task.

python benchmarks/board.py
python benchmarks/board.py --peer --envs HalfCheetah-v4 Hopper-v4 --seeds 0 1 2 --total-timesteps 2e6

The first writes board.md, results/board.png and results/board_steps.png from the rows of results/imitation.csv,
results/few_steps.csv and results/board_peer.csv. The second adds what is missing of the latter: GAIL of
HumanCompatibleAI's `imitation` on the same demonstrations, with the settings that project tuned, in an environment of
its own pins (.venv-imitation, made on first use).
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import peer
from cells import Cell, Row, run_cells
from imitation import CURVE_EPISODES, PARTS, RESULTS, ROOT, TASKS
from imitation_report import FOLDER, SCORE, curves, first_at, kept, load, markdown, median, numbers, panels

from rlgen.files import write_atomically, write_bytes

PEERS = FOLDER / "results" / "board_peer.csv"
OFF_POLICY = FOLDER / "results" / "few_steps.csv"
PEER = "imitation's GAIL"
TRAJECTORIES = 4
LEVEL = 0.95
UNITS = {"total_timesteps": 1000, "wall_seconds": 1}  # of a table's columns by seed
AXES = {"total_timesteps": "environment steps", "wall_seconds": "seconds"}
# By our environment's name, the task that imitation's GAIL was tuned on.
TUNED = {"HalfCheetah-v4": "half_cheetah", "Hopper-v4": "hopper", "Walker2d-v4": "walker", "Ant-v4": "ant"}
OURS = f"python benchmarks/imitation.py --trajectories {TRAJECTORIES} --algorithms"
ONE_SET = """`rlgen.imitation.settings()` with TRPO, one set of values for every task but the number of steps, chosen by
  true returns on seeds 100 to 102 of these tasks, and the form of the reward of endings on some of seeds 0 to 7 of
  Hopper, Walker2d, Ant and HalfCheetah ([NOTES.md](NOTES.md)); it is told how often, and where, the demonstrated
  episodes terminated"""
OFF = """`rlgen.imitation.settings(algo="{}")`, one set of values for every task, chosen by true returns on seeds 100 to
  102 of HalfCheetah and Hopper ([NOTES.md](NOTES.md))"""
# By algorithm: its command, and its settings with where they come from.
CARDS = {
    "BC": (f"{OURS} BC", "the defaults of `rlgen.optim.behaviour_cloning.BehaviourCloningConfig`"),
    "GAIL": (f"{OURS} GAIL", ONE_SET),
    "AIRL": (f"{OURS} AIRL", ONE_SET),
    "GAIL by SVG": (f'{OURS} "GAIL by SVG" --output benchmarks/results/few_steps.csv', OFF.format("svg")),
    "GAIL by SAC": (f'{OURS} "GAIL by SAC" --output benchmarks/results/few_steps.csv', OFF.format("sac")),
    PEER: (
        "python benchmarks/board.py --peer --total-timesteps STEPS",
        f"""those that the project tuned, `scripts/config/tuned_hps/gail_seals_*_best_hp_eval.json` in {peer.RELEASE},
  with PPO of Stable-Baselines3 and eight environments in one process. They were tuned on `seals/` variants of these
  tasks, whose episodes all have one length and whose observations hold the position too, with more demonstrations; here
  the tasks are gymnasium's, and episodes may end early. A batch of demonstrations that is larger than the data becomes
  the largest power of two that isn't: 128 in place of 8,192 on HalfCheetah-v4""",
    ),
}


def run(cell: Cell) -> Row:
    """Train the peer on the pairs that our cell of this task and seed has, and score it as ours are."""
    from rlgen.data.demonstrations import load_demonstrations
    from rlgen.data.episodes import RandomActor
    from rlgen.envs import make_vec
    from rlgen.evaluation import evaluate, normalised_score

    env_id, seed = cell["env_id"], cell["seed"]
    drawn = cell["n_trajectories"], cell["subsample"]
    demonstrations = load_demonstrations(ROOT / "expert_data", env_id, *drawn, seed=seed)
    pairs = demonstrations.transitions
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pairs.npz"
        arrays = {"obs": pairs.obs, "acts": pairs.actions, "next_obs": pairs.next_obs, "dones": pairs.terminated}
        np.savez(path, **{name: values.numpy() for name, values in arrays.items()})
        told = {"tuned": TUNED[env_id], "parts": PARTS, "episodes": CURVE_EPISODES, "pairs": str(path)}
        row = peer.ask("board_peer.py", json.dumps(cell | told))
    zero = evaluate(RandomActor(make_vec(env_id, 1).single_action_space, seed), env_id, seed=seed + 10_000).mean
    one = demonstrations.dataset_return_mean
    curve = " ".join(f"{normalised_score(value, zero, one):.4f}" for value in row.pop("returns"))
    return row | {"random_return_mean": zero, "expert_return_mean": one, "curve": curve}


def cells_of(envs: list[str], seeds: list[int], steps: int) -> list[Cell]:
    """One cell a run of the peer; another release of it is another cell."""
    alike = {"algorithm": PEER, "algo": "ppo", "n_trajectories": TRAJECTORIES, "total_timesteps": steps, "threads": 1}
    tasks = [{"env_id": env_id, "subsample": TASKS[env_id].subsample, "settings": peer.RELEASE} for env_id in envs]
    return [alike | task | {"seed": seed} for task, seed in itertools.product(tasks, seeds)]


def rows_of(ours: Path, peers: Path, off_policy: Path = OFF_POLICY) -> pd.DataFrame:
    """Our rows and the peer's of the board's methods and number of trajectories."""
    tables = [load(ours)[0].astype({"env_id": str, "algorithm": str})]
    if off_policy.exists():
        tables.append(numbers(off_policy))
    if peers.exists():
        rows = numbers(peers)
        # No setting depends on a run's length, so that the longest hold what shorter ones show.
        tables.append(rows[rows["total_timesteps"] == rows.groupby("env_id")["total_timesteps"].transform("max")])
    table = pd.concat(tables, ignore_index=True)
    return table[table["algorithm"].isin(CARDS) & (table["n_trajectories"] == TRAJECTORIES)]


def lines(table: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame, pd.DataFrame]]:
    """Task, method, its runs by seed and their scores `[run, PARTS]`; of cloning, without a curve, those at the end."""
    found = dict(iter(table.sort_values("seed").groupby(["env_id", "algorithm"])))
    for task, method in itertools.product(TASKS, CARDS):
        if (runs := found.get((task, method))) is not None:
            scores = curves(runs)
            yield task, method, runs, scores if len(scores) else runs[[SCORE]].set_axis([PARTS], axis=1)


def times(table: pd.DataFrame, strict: bool) -> pd.DataFrame:
    """Steps and seconds to `LEVEL`, by seed and the median seed's; `strict` asks for this look and the next two."""
    rows = []
    for task, method, runs, scores in lines(table):
        reached = scores >= LEVEL
        share = first_at(kept(reached) if strict and scores.shape[1] > 1 else reached)
        missed = bool(np.isinf(median(share)))
        whole = runs[list(UNITS)]
        until = whole.mul(share, axis=0).where(np.isfinite(share), np.inf)
        steps, seconds = (median(values) for _, values in (whole if missed else until).items())
        each = [" ".join("-" if np.isinf(x) else f"{x:.0f}" for x in until[y] / unit) for y, unit in UNITS.items()]
        rows.append([task, method, "not reached in " * missed + f"{steps:,.0f} steps, {seconds:,.0f} seconds"])
        rows[-1] += [" ".join(map(str, runs["seed"])), *each]
    names = ["task", "method", "median seed", "seeds", "thousands of steps, by seed", "seconds, by seed"]
    return pd.DataFrame(rows, columns=names)


def plot(table: pd.DataFrame, path: Path, over: str = "wall_seconds") -> None:
    """Score over seconds, or steps, of training, a panel a task, a line a method: median and range of the seeds."""
    figure, axes_of = panels([task for task in TASKS if (table["env_id"] == task).any()])
    for task, method, runs, values in lines(table):
        axes, colour = axes_of[task], f"C{list(CARDS).index(method)}"
        taken = values.columns.to_numpy() / PARTS * runs[over].median()
        low, middle, high = values.min(), values.median(), values.max()
        style = {"color": colour, "label": method}
        if len(taken) > 1:
            axes.plot(taken, middle, **style)
            axes.fill_between(taken, low, high, color=colour, alpha=0.2, linewidth=0)
        elif taken[0]:
            axes.errorbar(taken, middle, [middle - low, high - middle], fmt="o", capsize=3, **style)
        else:  # cloning takes no steps
            axes.axhline(middle.item(), linestyle=":", **style)
    handles = {}
    for task, axes in axes_of.items():
        axes.axhline(LEVEL, color="black", linewidth=0.8, linestyle="--")
        axes.set(title=task, xlabel=AXES[over], ylabel="normalised score", ylim=(-0.2, 1.25))
        least = 1 if over == "wall_seconds" else 4000
        axes.set(xscale="log", xlim=(least, 1.1 * table[over].max()))  # one scale, to compare tasks by
        axes.xaxis.set_major_formatter("{x:,g}")
        axes.grid(alpha=0.3)
        handles |= dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=len(handles))
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=110))


def card(method: str, runs: pd.DataFrame) -> str:
    """What a method ran as."""
    command, settings = CARDS[method]
    names = ("env_id", "seed", "total_timesteps", "threads", "versions", "hardware")
    tasks, seeds, steps, threads, versions, hardware = (sorted(set(runs[name])) for name in names)
    return f"""**{method}**

- command: `{command} --envs {" ".join(tasks)} --seeds {" ".join(map(str, seeds))}`
- settings: {settings}
- steps of a run: {", ".join(map("{:,}".format, steps))}; threads: {", ".join(map(str, threads))}
- versions: {"; ".join(versions)}
- hardware: {"; ".join(hardware)}"""


def with_off_policy(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the tasks that SVG or SAC were run on."""
    return table[table["env_id"].isin(table.loc[table["algorithm"].isin(["GAIL by SVG", "GAIL by SAC"]), "env_id"])]


def report(table: pd.DataFrame, picture: str, of_steps: str) -> str:
    """The whole page."""
    cards = "\n\n".join(card(method, runs) for method, runs in table.groupby("algorithm"))
    missing = ", ".join(method for method in CARDS if method not in set(table["algorithm"])) or "none"
    return f"""# Times to {LEVEL} of the expert

Written by `python benchmarks/board.py` from `results/imitation.csv`, `results/few_steps.csv` and
`results/board_peer.csv`. Every method has the
same pairs: {TRAJECTORIES} trajectories, subsampled as in Ho & Ermon (2016), drawn by the seed. A score of 0 is a policy
of random actions, 1 the mean return of the expert's dataset. Methods without rows: {missing}.

Scored is the deterministic policy, {CURVE_EPISODES} episodes, after each of {PARTS} equal parts of a run: a time is a
multiple of a twentieth of its run. Behaviour cloning, which takes no environment steps, is scored once, at its end,
over 50 episodes. Seconds are of training alone, and taken as spent evenly along a run; other runs shared the cores of
some. The median is the middle seed's, the later of two, of steps and of seconds apart.

No run is stopped or left out by true returns, nor a policy or a seed picked. The cards tell by what settings
were chosen.

## First touch

The first look at {LEVEL} or more.

{markdown(times(table, strict=False))}

## Three looks in a row

The first look at {LEVEL} or more of which the next two are too; of behaviour cloning, its only one.

{markdown(times(table, strict=True))}

## Score over seconds

![Score over seconds]({picture})

The median of the seeds and their range, over the median of their seconds.

## Score over environment steps

![Score over environment steps]({of_steps})

Where SVG or SAC were run. The dotted line is the median of behaviour cloning, which takes no steps.

## Cards

Each row's column `settings` has all values.

{cards}
"""


def main() -> None:
    """Write page and picture, or run what is missing of the peer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", action="store_true", help="run what is missing of the peer")
    parser.add_argument("--envs", nargs="+", default=["HalfCheetah-v4"], choices=TUNED)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--total-timesteps", type=float, default=1e7, help="of a run (default: the tuned 10M)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--peer-rows", type=Path, default=PEERS)
    parser.add_argument("--output", type=Path, default=FOLDER / "board.md")
    options = parser.parse_args()
    if options.peer:
        peer.python()
        cells = cells_of(options.envs, options.seeds, int(options.total_timesteps))
        run_cells(cells, run, options.peer_rows, options.jobs)
        return
    table = rows_of(RESULTS, options.peer_rows)
    picture, of_steps = "results/board.png", "results/board_steps.png"
    plot(table, options.output.parent / picture)
    plot(with_off_policy(table), options.output.parent / of_steps, "total_timesteps")
    page = report(table, picture, of_steps)
    write_bytes(options.output, page.encode())
    print(page)


if __name__ == "__main__":
    main()
