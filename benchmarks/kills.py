"""Kill runs at random moments, resume each until it is done, and compare it with the run that nothing stopped.

python benchmarks/kills.py --kills 20 --iterations 120

A row is one configuration: how many kills (SIGKILL) it took, how many of them left a file half written, and whether
metrics.csv (but for times), the checkpoint's state (but for the time), the scalars of TensorBoard (every step once) and
an expert's dataset are in the end equal to the uninterrupted run's. Only environments of ours resume exactly.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cells import Cell, Row, run_cells

RESULTS = Path(__file__).parent / "results" / "kills.csv"
EXPERTS = Path(__file__).parents[1] / "expert_data"
CONFIGURATIONS = [
    ("gail", "trpo", "Hopper-v4"),
    ("gail", "ppo", "Hopper-v4"),
    ("gail", "trpo", "Walker2d-v4"),
    ("gail", "ppo", "HalfCheetah-v4"),
    ("vime", "trpo", "rlgen/SparseMountainCar-v0"),
    ("vime", "ppo", "rlgen/SparseCartPoleSwingup-v0"),
    ("vime", "trpo", "rlgen/SparseHalfCheetah-v0"),
    ("expert", "trpo", "Hopper-v4"),
    ("expert", "ppo", "HalfCheetah-v4"),
    ("expert", "ppo", "rlgen/SparseMountainCar-v0"),
]


def start(command: str, words: Sequence[str], log: Path) -> int:
    """The process id of `rlgen command words`: a fork of this process, which has the libraries imported."""
    from rlgen.command import call

    module = importlib.import_module(f"rlgen.commands.{command}")
    for name in (
        "rlgen.experiment",
        "rlgen.imitation",
        "rlgen.exploration",
        "torch.utils.tensorboard",
        "matplotlib.figure",
    ):
        importlib.import_module(name)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(output, 1)
            os.dup2(output, 2)
            sys.argv = ["rlgen", command, *words]
            code = call(module, list(words))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return child


def finish(
    child: int, seconds: float | None, log: Path, after: Path | None = None, writing_to: Path | None = None
) -> bool:
    """Wait for a process, or kill it some time after its start; whether it was killed.

    Args:
        child: its id.
        seconds: until it is killed; None waits.
        log: what it printed.
        after: the time begins when this file exists.
        writing_to: when the time is over, wait until a file in this folder is being written.

    Raises:
        RuntimeError: it failed.
    """
    end = None if seconds is None else time.monotonic() + seconds
    left = set() if writing_to is None else _unfinished(writing_to)
    while True:
        if seconds is not None and after is not None and not after.exists():
            end = time.monotonic() + seconds
        done, status = os.waitpid(child, os.WNOHANG if end is not None else 0)
        if done:
            if os.waitstatus_to_exitcode(status):
                raise RuntimeError(f"exit status {status}: {log.read_text()[-2000:]}")
            return False
        due = end is not None and time.monotonic() >= end
        if due and (writing_to is None or _unfinished(writing_to) - left):
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            return os.WIFSIGNALED(status)
        if not due:
            time.sleep(0.0005)


def content(run: Path) -> dict[str, Any]:
    """What two runs of one seed have in common, by name, each in a form that can be compared."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from rlgen.checkpoint import load_checkpoint
    from rlgen.run_log import read_metrics

    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0}, purge_orphaned_data=False)
    events.Reload()
    scalars = {
        tag: [
            (event.step, None if "seconds" in tag else np.float32(event.value).tobytes())
            for event in events.Scalars(tag)
        ]
        for tag in events.Tags()["scalars"]
    }
    metrics = read_metrics(run)
    same = [name for name in metrics if "seconds" not in name]
    state = _leaves(load_checkpoint(run)[1])
    del state["progress/wall_seconds"]
    datasets = {path.name: json.loads((path / "manifest.json").read_text())["sha256"] for path in _datasets(run)}
    return {"metrics": metrics[same].to_csv(), "checkpoint": state, "tensorboard": scalars, "dataset": datasets}


def _datasets(run: Path) -> list[Path]:
    return sorted(path.parent for path in run.with_name(f"{run.name} data").rglob("manifest.json"))


def _leaves(value: Any, name: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in _leaves(item, f"{name}/{key}".lstrip("/")).items()}
    array = np.asarray(value) if hasattr(value, "shape") else None
    return {name: value if array is None else (str(array.dtype), array.shape, array.tobytes())}


def _unfinished(folder: Path) -> set[Path]:
    """Temporaries of writes, and of a dataset's folder."""
    return {path for path in folder.rglob(".*") if path.name.count(".") > 1}


def measure(cell: Cell) -> Row:
    """Kill one configuration so many times, in as many runs as that takes, and compare each with the whole run."""
    rng = random.Random(f"{cell['seed']} {cell['command']} {cell['algo']} {cell['env']}")
    row = {"runs": 0, "cut_writes": 0, "before_first_checkpoint": 0}
    equal = dict.fromkeys(("metrics", "checkpoint", "tensorboard", "dataset"), True)
    kills = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        log = folder / "log"

        def words(run: Path) -> list[str]:
            told = ["--env", cell["env"], "--algo", cell["algo"], "--seed", str(cell["seed"]), "--n-envs", "8"]
            told += ["--n-steps", "32", "--total-timesteps", str(256 * cell["iterations"]), "--eval-episodes", "2"]
            told += ["--threads", "1", "--checkpoint-seconds", "0", "--run-dir", str(run)]
            match cell["command"]:
                case "gail":
                    told += ["--expert", str(EXPERTS)]
                case "vime":
                    told += ["--n-updates", "5"]
                case "expert":
                    told += ["--n-episodes", "2", *outward(run)]
            return told

        def outward(run: Path) -> list[str]:
            return ["--output", f"{run} data", "--overwrite"] if cell["command"] == "expert" else []

        whole = folder / "whole"
        started = time.monotonic()
        finish(start(cell["command"], words(whole), log), None, log)
        span = 2 * (time.monotonic() - started) / cell["kills"] + 0.3
        expected = content(whole)
        while kills < cell["kills"]:
            run = folder / f"killed{row['runs']}"
            told, killed = words(run), True
            while killed:
                before = _unfinished(folder)
                child = start(cell["command"], told, log)
                # Most of the first ones fall when there is something to go on from.
                checkpoint = run / "checkpoint" / "model.safetensors"
                after = checkpoint if rng.random() < 0.9 else None
                seconds = rng.uniform(0, span) if kills < cell["kills"] else None
                # Every other one while a checkpoint is written.
                killed = finish(child, seconds, log, after, checkpoint.parent if kills % 2 and after else None)
                kills += killed
                row["cut_writes"] += bool(_unfinished(folder) - before)
                told = ["--resume", str(run), *outward(run)]
                if not checkpoint.exists():  # nothing to go on from
                    row["before_first_checkpoint"] += killed
                    shutil.rmtree(run, ignore_errors=True)
                    told = words(run)
            row["runs"] += 1
            found = content(run)
            equal = {name: equal[name] and found[name] == expected[name] for name in equal}
    return row | {f"{name}_equal": value for name, value in equal.items()}


def main() -> None:
    """Run the configurations that have no row yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="of each configuration")
    parser.add_argument("--iterations", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    cells = [
        {"command": command, "algo": algo, "env": env, "kills": options.kills, "iterations": options.iterations}
        | {"seed": options.seed}
        for command, algo, env in CONFIGURATIONS
    ]
    rows = run_cells(cells, measure, options.output, options.jobs)
    print(
        f"{sum(int(row['kills']) for row in rows)} kills, {sum(int(row['cut_writes']) for row in rows)} inside a write"
    )


if __name__ == "__main__":
    main()
