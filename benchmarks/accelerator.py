"""One part of `accelerator.sh`: tests, a command to its score, or a killed and resumed run; each result a CSV row.

    python benchmarks/accelerator.py --out OUT tests cuda
    python benchmarks/accelerator.py --out OUT gail cuda      # or vime, resume, warp_tests

PART_SECONDS tells a part its time: after 65% of it a training ends, is evaluated, and its row says how far it came.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from cells import provenance, read_rows, write_rows

ROOT = Path(__file__).parents[1]
SECONDS = float(os.environ.get("PART_SECONDS", "60"))
COMMANDS = {
    "gail": ["--env", "HalfCheetah-v4", "--expert", str(ROOT / "expert_data")],
    "vime": ["--sparse"],
}
KEPT = (
    "env_steps",
    "wall_seconds",
    "steps_per_second",
    "total_seconds",
    "interrupted",
    "return_mean",
    "random_return_mean",
    "normalised_score",
    "first_reward_steps",
)


def add_row(path: Path, row: dict[str, Any]) -> None:
    """Append a row with where it came from; the file is whole after each."""
    write_rows(path, [*read_rows(path), row | provenance()])


def script(name: str, *arguments: object) -> list[str]:
    """A command line of one of the scripts."""
    return [sys.executable, str(ROOT / "scripts" / f"{name}.py"), *map(str, arguments)]


def tests(device: str, path: Path, files: Sequence[str]) -> None:
    """The tests marked `cuda`, or on a CPU their pretence; a row each as it ends."""
    import pytest

    class Rows:
        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            if report.when == "call" or not report.passed:
                print(report.nodeid, report.outcome, flush=True)
                add_row(
                    path,
                    {
                        "test": report.nodeid,
                        "device": device,
                        "outcome": report.outcome,
                        "seconds": round(report.duration, 2),
                        "error": report.longreprtext[-500:],
                    },
                )

    chosen = ["-m", "cuda"] if device == "cuda" else ["-k", "pretended"]
    code = pytest.main(["-p", "no:cacheprovider", "--rootdir", str(ROOT), "-c", str(ROOT / "setup.cfg"),
                        *(str(ROOT / "tests" / file) for file in files), *chosen],
                       plugins=[Rows()])  # fmt: skip
    if code:
        raise RuntimeError(f"pytest ended with {code!r}")
    if not any(row["outcome"] == "passed" for row in read_rows(path)):
        raise RuntimeError("no test ran")


def command(name: str, device: str, path: Path) -> None:
    """A whole command until it is done or its time is over, and what it scored."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        line = script(name, *COMMANDS[name], "--device", device, "--eval-episodes", 10, "--run-dir", folder)
        process = subprocess.Popen(line)
        # The first signal ends training after its iteration, and it is evaluated; the second ends that too.
        for share in (0.65, 0.2):
            try:
                process.wait(share * SECONDS)
                break
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGTERM)
        code = process.wait()
        if code not in (0, 128 + signal.SIGTERM):
            raise RuntimeError(f"{name} ended with {code}")
        summary = json.loads((folder / "summary.json").read_text())
    status = "ok" if summary["return_mean"] is not None else "no time to evaluate"
    facts = {key: summary.get(key, "") for key in KEPT}
    add_row(path, {"command": " ".join(line[1:-2]), "device": device, "status": status, **facts})


def resume(device: str, path: Path) -> None:
    """Each command killed and resumed against the same uninterrupted: whether all is equal, else the difference."""
    from rlgen.checkpoint import load_checkpoint

    def tensors(state: Any, name: str = "") -> dict[str, Any]:
        if isinstance(state, dict):
            return {k: v for key, part in state.items() for k, v in tensors(part, f"{name}/{key}").items()}
        return {} if name == "/progress/wall_seconds" else {name: state}

    failures = []
    # Tasks whose evaluation is short.
    shorter = {"gail": ["--env", "Hopper-v4", *COMMANDS["gail"][2:]], "vime": []}
    for name, flags in shorter.items():
        common = [*flags, "--n-envs", 8, "--n-steps", 64, "--total-timesteps", 512 * 12, "--eval-episodes", 2,
                  "--threads", 1, "--checkpoint-seconds", 0, "--device", device]  # fmt: skip
        with tempfile.TemporaryDirectory() as scratch:
            whole, killed = Path(scratch) / "whole", Path(scratch) / "killed"
            uninterrupted = subprocess.Popen(script(name, *common, "--run-dir", whole))
            process = subprocess.Popen(script(name, *common, "--run-dir", killed))
            rows = killed / "metrics.csv"
            while process.poll() is None and not (rows.exists() and len(read_rows(rows)) > 3):
                time.sleep(0.005)
            process.kill()
            process.wait()
            done = len(read_rows(rows))
            subprocess.run(script(name, "--resume", killed), check=True)
            if uninterrupted.wait():
                raise RuntimeError(f"{name} ended with {uninterrupted.returncode}")
            ours, theirs = (tensors(load_checkpoint(folder)[1]) for folder in (killed, whole))
        different = sorted(
            key
            for key in ours.keys() | theirs.keys()
            if key not in ours or key not in theirs or not np.array_equal(ours[key], theirs[key])
        )
        add_row(
            path,
            {
                "command": " ".join(script(name, *common)[1:]),
                "device": device,
                "status": "different" if different else "ok",
                "iterations": 12,
                "killed_after": done,
                "compared": len(theirs),
                "different": len(different),
                "first_different": different[0] if different else "",
                "largest_difference": max(
                    (
                        float(np.abs(np.subtract(ours[key], theirs[key], dtype=np.float64)).max())
                        for key in different
                        if key in ours and key in theirs and hasattr(ours[key], "shape")
                    ),
                    default=0.0,
                ),
            },
        )
        failures += [name] * bool(different)
    if failures:
        raise RuntimeError(f"resumed differs from uninterrupted: {failures}")


PARTS = {
    "tests": partial(tests, files=["test_devices.py", "test_resume.py"]),
    "warp_tests": partial(tests, files=["envs/test_warp_mujoco.py"]),
    "resume": resume,
}


def main() -> int:
    """Run one part; a failure is a row too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the CSV files")
    parser.add_argument("part", choices=[*PARTS, *COMMANDS])
    parser.add_argument("device", choices=["cpu", "cuda"])
    options = parser.parse_args()
    path = options.out / f"{'commands' if options.part in COMMANDS else options.part}.csv"
    try:
        if options.part in COMMANDS:
            command(options.part, options.device, path)
        else:
            PARTS[options.part](options.device, path)
    except Exception as error:
        add_row(
            path,
            {
                "command": options.part,
                "device": options.device,
                "status": "failed",
                "error": f"{type(error).__name__}: {error}",
            },
        )
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
