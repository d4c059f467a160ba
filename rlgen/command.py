"""What command lines share: step counts, run folders, one-line failures with an exit code."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import gymnasium as gym

from rlgen.errors import CheckpointError, DemonstrationError, UsageError


@dataclass
class Failure:
    """The exit code of a command that failed: 2 usage, 3 data, 4 files."""

    code: int = 0


@contextlib.contextmanager
def describe_failure() -> Iterator[Failure]:
    """Turn the errors that a user can mend into one line on stderr and an exit code."""
    failure = Failure()
    try:
        yield failure
    except DemonstrationError as error:
        failure.code = 3
        print(f"error: {error}", file=sys.stderr)
    except (OSError, CheckpointError) as error:
        failure.code = 4
        print(f"error: {error}", file=sys.stderr)
    except (UsageError, gym.error.Error) as error:
        failure.code = 2
        print(f"error: {error}", file=sys.stderr)


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


def new_run_dir(env_id: str, algorithm: str, seed: int) -> Path:
    """`runs/<environment>__<algorithm>__<seed>__<date and time>`."""
    now = datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    return Path("runs") / f"{env_id.replace('/', '_')}__{algorithm}__{seed}__{now}"
