"""Resident memory of a long training: GAIL on HalfCheetah-v4, with log, checkpoints and display, as a user runs it.

python benchmarks/long_run.py --hours 2

The row holds the memory after the tenth iteration and the largest later, in MiB, and what the last hour's trend is.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from cells import hardware, versions

import rlgen
from rlgen.command import RunOptions
from rlgen.train import Iteration

RESULTS = Path(__file__).parent / "results" / "long_run.csv"
ROOT = Path(__file__).parents[1]


def resident() -> float:
    """This process's resident memory in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    """Train for as long as told, then tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--env", default="HalfCheetah-v4")
    parser.add_argument("--algo", default="trpo", choices=["trpo", "ppo"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    started = time.monotonic()
    seconds: list[float] = []
    memory: list[float] = []

    def measure(iteration: Iteration) -> None:
        seconds.append(time.monotonic() - started)
        memory.append(resident())
        if seconds[-1] > options.hours * 3600:
            os.kill(os.getpid(), signal.SIGTERM)

    with tempfile.TemporaryDirectory() as folder:
        agent = rlgen.GAIL(
            options.env, ROOT / "expert_data", subsample=20, algo=options.algo, n_threads=options.threads,
            total_timesteps=10**10,  # more than the time allows: the clock ends it, as Ctrl-C would
        )  # fmt: skip
        result = agent.run(RunOptions(run_dir=Path(folder) / "run", eval_episodes=4), callback=measure)
    tenth, later = memory[9], np.array(memory[10:])
    last = np.array(seconds) > seconds[-1] / 2
    slope = np.polyfit(np.array(seconds)[last] / 3600, np.array(memory)[last], 1)[0]
    row = {
        "env_id": options.env,
        "algo": options.algo,
        "hours": round(seconds[-1] / 3600, 3),
        "iterations": len(memory),
        "env_steps": result.summary["env_steps"],
        "after_tenth_mib": round(tenth, 1),
        "largest_later_mib": round(float(later.max()), 1),
        "growth": round(float(later.max() / tenth - 1), 4),
        "mib_an_hour_in_the_second_half": round(float(slope), 2),
        "hardware": hardware(),
        "versions": versions(),
    }
    print(json.dumps(row, indent=2))
    before = pd.read_csv(options.output) if options.output.exists() else pd.DataFrame()
    pd.concat([before, pd.DataFrame([row])]).to_csv(options.output, index=False)


if __name__ == "__main__":
    main()
