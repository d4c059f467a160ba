"""What command lines share: flags, step counts, run folders, one-line failures with an exit code."""

from __future__ import annotations

import contextlib
import ctypes.util
import importlib
import json
import os
import shlex
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from rlgen.errors import CheckpointError, DemonstrationError, UsageError

if TYPE_CHECKING:
    from rlgen.presets import Learner


@dataclass(frozen=True)
class RunArguments:
    """Flags that every training script has."""

    seed: int = 0
    """Seeds environments, networks, actions, and what is drawn from a dataset."""
    device: str = "auto"
    """Where the networks learn: cpu, cuda, or auto. Acting is on the CPU, where it is faster."""
    threads: int | None = None
    """Processor threads; all unless told."""
    n_envs: int | None = None
    """Environments side by side; the preset's unless told."""
    n_steps: int | None = None
    """Steps per environment in an iteration; the preset's unless told."""
    total_timesteps: Annotated[str | None, tyro.conf.arg(metavar="STEPS")] = None
    """Environment steps in all, as 3000000, 3e6 or 3M; the preset's unless told."""
    eval_episodes: int = 50
    """Episodes of the final evaluation, deterministic and stochastic each."""
    run_dir: Path | None = None
    """The run's folder; a new one under runs/ unless told."""
    checkpoint_seconds: float = 60.0
    """Time between checkpoints; what came after the last one is lost if the run is killed."""
    track: bool = False
    """Log to Weights & Biases too (pip install 'rlgen[track]'); WANDB_MODE=offline keeps that here."""
    resume: Path | None = None
    """Go on with the run in this folder, from its last checkpoint; nothing else is to be told."""

    def override(self, learner: Learner) -> Learner:
        """A preset with what the command line tells.

        Raises:
            UsageError: a count can't be used.
        """
        return learner.override(self.n_envs, self.n_steps, step_count(self.total_timesteps))

    def options(self) -> dict[str, Any]:
        """What `rlgen.experiment.run` is told of these, by its names."""
        names = ("seed", "device", "threads", "eval_episodes", "checkpoint_seconds", "track")
        return {name: getattr(self, name) for name in names} | {"resume": self.resume is not None}

    def folder(self, env_id: str, algorithm: str) -> Path:
        """`run_dir`, or `runs/<environment>__<algorithm>__<seed>__<date and time>`."""
        now = datetime.now().strftime("%Y%m%d-%H%M%S-%f")
        return self.run_dir or Path("runs") / f"{env_id.replace('/', '_')}__{algorithm}__{self.seed}__{now}"


# As a field of a script's own arguments: `run: RunFlags = RunArguments()` adds --seed, --device and so on.
RunFlags = Annotated[RunArguments, tyro.conf.OmitArgPrefixes]


def parse(kind: Any, description: str | None, args: Sequence[str] | None) -> Any:
    """A command's arguments; with --resume those that the run was started with.

    It exits if more than --resume was told, the folder holds no run, or one of another command.

    Args:
        kind: a dataclass, or a union of them, in the command's module.
        description: for --help.
        args: what follows `rlgen <command>`; None for a script's own.
    """
    # One line, as errors have, without the code that warned.
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    program = None if args is None else f"rlgen {_name(kind)}"
    arguments: Any = tyro.cli(kind, prog=program, description=description, args=args)
    if getattr(getattr(arguments, "run", None), "resume", None) is None:
        return arguments
    with describe_failure() as failure:
        return _arguments_of_run(kind, arguments)
    sys.exit(failure.code)


def command_of_run(folder: Path) -> tuple[str, list[str]]:
    """The name of the command that started a run, and what it was told.

    Raises:
        CheckpointError: the folder holds no run.
    """
    try:
        # `rlgen gail ...` or `python scripts/gail.py ...`
        _, command, *told = shlex.split(json.loads((folder / "config.json").read_text())["command"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder}: holds no run ({type(error).__name__}: {error})") from None
    return Path(command).stem, told


def _name(kind: Any) -> str:
    """Of the command in whose module its arguments are."""
    return str(getattr(kind, "__args__", (kind,))[0].__module__.rpartition(".")[2])


def _arguments_of_run(kind: Any, arguments: Any) -> Any:
    folder: Path = arguments.run.resume
    command, told = command_of_run(folder)
    if command != _name(kind):
        raise UsageError(f"{folder} is a run of {command}; resume it with that")
    before: Any = tyro.cli(kind, args=told)
    # An id out of a file is not to import a module unless a person repeats it.
    module = before.env is not None and ":" in before.env
    alone: Any = tyro.cli(kind, args=["--resume", str(folder), *(["--env", before.env] if module else [])])
    if arguments != alone:
        if module and arguments.env != before.env:
            raise UsageError(f"add --env {before.env}: a module that a file names is imported only when told again")
        raise UsageError("--resume goes on with the run's own arguments; tell nothing else")
    return replace(before, run=replace(before.run, run_dir=folder, resume=folder))


def render_without_a_screen() -> None:
    """Have MuJoCo render by EGL where there is no screen; before mujoco is imported, which chooses then.

    Raises:
        UsageError: there is no EGL either.
    """
    if os.environ.get("MUJOCO_GL") or os.environ.get("DISPLAY") or sys.platform != "linux":
        return
    if ctypes.util.find_library("EGL") is None:
        raise UsageError("--video needs a screen or EGL, and there is neither (Debian: apt install libegl1)")
    os.environ["MUJOCO_GL"] = "egl"


@dataclass
class Failure:
    """The exit code of a command that failed: 2 usage, 3 data, 4 files, 5 numbers, 130 Ctrl-C."""

    code: int = 0


@contextlib.contextmanager
def describe_failure() -> Iterator[Failure]:
    """Turn the errors that a user can mend into one line on stderr and an exit code."""
    import gymnasium as gym

    failure = Failure()
    try:
        yield failure
    except DemonstrationError as error:
        failure.code = 3
        print(f"error: {error}", file=sys.stderr)
    except (OSError, CheckpointError) as error:
        failure.code = 4
        print(f"error: {error}", file=sys.stderr)
    except FloatingPointError as error:
        failure.code = 5
        print(f"error: {error}", file=sys.stderr)
    except (UsageError, gym.error.Error) as error:
        failure.code = 2
        print(f"error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        failure.code = 130
        print("interrupted", file=sys.stderr)


def step_count(text: str | None) -> int | None:
    """Read 3000000, 3e6, 3M or 500k.

    Raises:
        UsageError: it is not a positive whole number of steps.
    """
    if text is None:
        return None
    factor = {"k": 1_000, "m": 1_000_000}.get(text[-1:].lower(), 1)
    try:
        steps = float(text[:-1] if factor > 1 else text) * factor
    except ValueError:
        steps = -1
    if not (1 <= steps < 1e15 and steps == int(steps)):
        raise UsageError(f"--total-timesteps must be a positive whole number such as 3000000, 3e6 or 3M; got {text!r}")
    return int(steps)


def environment_id(text: str) -> str:
    """The id in `Id` or `module:Id`, gymnasium's notation for a module that registers it, which is imported.

    The current folder is looked in too, last. Only for what a person types: an id that stands in a file is never
    imported (`rlgen.make_vec` refuses it).

    Raises:
        UsageError: there is no such module, or no such environment.
    """
    module, _, env_id = text.rpartition(":")
    if module:
        if (here := os.getcwd()) not in sys.path:
            sys.path.append(here)
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise UsageError(f"--env {text}: cannot import {module}: {error}") from None
    check_registered(env_id)
    return env_id


def check_registered(env_id: str) -> None:
    """Refuse an id that nothing has registered; nothing is imported for it.

    Raises:
        UsageError: with near matches, and how one's own is told.
    """
    import gymnasium as gym

    from rlgen.envs import TASKS  # registers the exploration tasks

    if env_id in TASKS:
        return
    try:
        gym.spec(env_id)
    except gym.error.Error as error:
        own = f"One of your own: --env MODULE:{env_id}, after the module that registers it."
        raise UsageError(f"--env {env_id}: {str(error).rstrip('.')}. {own}") from None
