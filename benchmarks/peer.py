"""HumanCompatibleAI/imitation, in an environment of its own: its pins conflict with ours."""

from __future__ import annotations

import json
import subprocess
import venv
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
VENV = FOLDER.parent / ".venv-imitation"
RELEASE = "imitation==1.0.1"


def python() -> Path:
    """The interpreter of that environment, which the first call makes."""
    python = VENV / "bin" / "python"
    if not python.exists():
        venv.create(VENV, with_pip=True)
        packages = [RELEASE, "sb3-contrib==2.2.1", "gymnasium[mujoco]==0.29.1", "mujoco<4", "torch==2.13.0"]
        subprocess.run([python, "-m", "pip", "install", "-q", "torch==2.13.0"], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "setuptools<80", *packages], check=True)
    return python


def ask(script: str, argument: str) -> dict[str, Any]:
    """Run a script of this folder there; its last line is a JSON object.

    Raises:
        RuntimeError: the script failed.
    """
    # -P: this folder's imitation.py must not stand in for the peer's package.
    done = subprocess.run([python(), "-P", FOLDER / script, argument], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{script} {argument} failed: {done.stderr[-500:]}")
    return json.loads(done.stdout.splitlines()[-1])
