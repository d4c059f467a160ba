"""Report versions, threads, GPU and rendering, for a question or a bug report.

rlgen doctor
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import dataclass

from rlgen.files import version_of, versions
from rlgen.ranges import available_processors

# Renders in a process of its own, since a driver may take that down.
RENDER = """
import gymnasium, warnings
warnings.simplefilter("ignore")
env = gymnasium.make("HalfCheetah-v5", render_mode="rgb_array", width=64, height=64)
env.reset(seed=0)
print(env.render().std() > 0)
env.close()
"""
OPTIONAL = {
    "export": ("onnx", "onnxscript"),
    "video": ("imageio-ffmpeg",),
    "data": ("minari", "h5py", "pyarrow"),
    "robotics": ("gymnasium-robotics",),
    "cluster": ("ray",),
    "tune": ("optuna",),
    "track": ("wandb",),
    "warp": ("mujoco-warp", "warp-lang"),
    "benchmarks": ("sb3-contrib",),
}


@dataclass(frozen=True)
class Arguments:
    """Tell versions, threads, GPU and rendering; exit code 4 where simulating doesn't work."""


def main(arguments: Arguments) -> int:
    """Look, tell; the exit code."""
    print(f"{'system':<12} {platform.platform()}")
    for package, found in versions().items():
        print(f"{package:<12} {found}")
    for extra, packages in OPTIONAL.items():
        print(f"{'[' + extra + ']':<12} {', '.join(f'{package} {version_of(package)}' for package in packages)}")

    import torch

    threads = {name: os.environ[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if name in os.environ}
    told = "".join(f", {name}={value}" for name, value in threads.items())
    print(f"{'threads':<12} {available_processors()} processors, torch uses {torch.get_num_threads()}{told}")
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    print(f"{'GPU':<12} {', '.join(gpus) or 'none that torch sees; networks learn on the processor'}")

    print(f"{'rendering':<12} {_rendering()}")
    try:
        from rlgen.envs import make_vec

        envs = make_vec("HalfCheetah-v4", 2, seed=0)
        envs.reset(seed=0)
        envs.step(envs.action_space.sample())
    except Exception as error:  # whatever is wrong is what this command is for
        print(f"{'simulating':<12} fails: {type(error).__name__}: {error}")
        return 4
    print(f"{'simulating':<12} works")
    return 0


def _rendering() -> str:
    bare = sys.platform == "linux" and not os.environ.get("DISPLAY")
    backend = os.environ.get("MUJOCO_GL") or ("egl" if bare else "the system's window library")
    environment = os.environ | ({"MUJOCO_GL": "egl"} if backend == "egl" else {})
    try:
        done = subprocess.run(
            [sys.executable, "-c", RENDER], capture_output=True, text=True, timeout=60, env=environment
        )
    except subprocess.TimeoutExpired:
        return f"by {backend}: no picture within 60 s"
    if done.stdout.strip() == "True":
        return f"works, by {backend}"
    reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return f"by {backend} fails ({reason}); --video needs it (Debian: apt install libegl1)"
