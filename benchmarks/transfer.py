"""What AIRL's recovered reward is for: policies trained on it from nothing, also where the dynamics have changed.

python benchmarks/transfer.py --jobs 1

Each seed imitates the shipped half-cheetah by AIRL once. On g(s) of that run fresh policies are trained: on the same
half-cheetah, under another gravity, and with weak motors in its front leg. Beside them stand policies trained on the
task's own reward for as many steps, and the imitator's policy as it is. A stopped benchmark goes on with the same
command.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from cells import Cell, Row, run_cells

if TYPE_CHECKING:
    import mujoco

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "transfer.csv"
# The v5 task takes a model file; its observations, actions and reward are v4's.
RECORDED, TASK = "HalfCheetah-v4", "HalfCheetah-v5"
DYNAMICS = ("as recorded", "gravity x 0.5", "front leg x 0.25")
RECOVERED, OWN, MOVED = "recovered", "the task's", "none (the imitator's policy)"


def change(spec: mujoco.MjSpec, dynamics: str) -> None:
    """Edit the half-cheetah's model."""
    part, _, factor = dynamics.partition(" x ")
    if part == "gravity":
        spec.option.gravity = spec.option.gravity * float(factor)
    elif part == "front leg":
        for motor in spec.actuators:
            if motor.name.startswith("f"):
                motor.gear = motor.gear * float(factor)


def model_file(dynamics: str, folder: Path) -> Path:
    """The half-cheetah's model under these dynamics, as a file."""
    import mujoco
    from gymnasium.envs.mujoco.mujoco_env import expand_model_path

    spec = mujoco.MjSpec.from_file(expand_model_path("half_cheetah.xml"))
    change(spec, dynamics)
    path = folder / f"{dynamics.replace(' ', '_')}.xml"
    spec.compile()
    path.write_text(spec.to_xml())
    return path


def command(name: str, *arguments: object) -> None:
    """One of the scripts, to its end."""
    subprocess.run([sys.executable, str(ROOT / "scripts" / f"{name}.py"), *map(str, arguments)], check=True)


def run(cell: Cell, runs: Path) -> Row:
    """Train, or move a policy, and evaluate it by the task's own reward."""
    from rlgen import Actor, evaluate, load_policy

    folder = runs / f"seed-{cell['seed']}"
    common = ("--seed", cell["seed"], "--threads", 1, "--eval-episodes", 10)
    imitator = folder / "airl"
    if not (imitator / "summary.json").exists():
        shutil.rmtree(imitator, ignore_errors=True)
        command("gail", "--env", RECORDED, "--expert", ROOT / "expert_data", "--reward-model", "airl",
                "--run-dir", imitator, *common)  # fmt: skip
    trained, kwargs = imitator, {"xml_file": str(model_file(cell["dynamics"], runs))}
    if cell["reward"] != MOVED:
        trained = folder / f"{cell['dynamics']} {cell['reward']}".replace(" ", "_")
        shutil.rmtree(trained, ignore_errors=True)
        more = ("--reward", imitator) if cell["reward"] == RECOVERED else ()
        recorded = ("--output", trained / "data", "--n-episodes", 1)
        command("expert", "--env", TASK, "--env-kwargs", json.dumps(kwargs), "--run-dir", trained, *recorded, *more,
                "--total-timesteps", cell["total_timesteps"], *common)  # fmt: skip
    found = evaluate(Actor(load_policy(trained)), TASK, 50, cell["seed"] + 10_000, env_kwargs=kwargs, n_threads=1)
    return {"return_mean": found.mean, "return_std": found.std}


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--total-timesteps", type=int, default=600_000, help="of each policy that is trained anew")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "transfer", help="folder of the runs")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    cells = [
        {"dynamics": dynamics, "reward": reward, "total_timesteps": options.total_timesteps, "seed": seed}
        for seed in options.seeds
        for dynamics in DYNAMICS
        for reward in (RECOVERED, OWN, MOVED)
    ]
    options.runs.mkdir(parents=True, exist_ok=True)
    rows = run_cells(cells, partial(run, runs=options.runs), options.output, options.jobs)
    table = pd.DataFrame(rows).astype({"return_mean": float})
    print(table.pivot_table("return_mean", "dynamics", "reward", sort=False).round(0).to_string())


if __name__ == "__main__":
    main()
