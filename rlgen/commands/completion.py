"""Print a script that completes the command `rlgen` in a shell.

eval "$(rlgen completion bash)"
"""

from __future__ import annotations

import contextlib
import functools
import operator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro


@dataclass(frozen=True)
class Arguments:
    """Print a completion script."""

    shell: tyro.conf.Positional[Literal["bash", "zsh", "tcsh"]]
    """Shell that runs the script."""


def main(arguments: Arguments) -> None:
    """Print it."""
    from rlgen.commands import bc, completion, data, doctor, evaluate, expert, gail, plot, vime

    modules = (gail, bc, vime, expert, evaluate, plot, data, doctor, completion)
    each = [Annotated[m.Arguments, tyro.conf.subcommand(m.__name__.rpartition(".")[2])] for m in modules]
    every: Any = functools.reduce(operator.or_, each)
    with contextlib.suppress(SystemExit):
        tyro.cli(every, prog="rlgen", args=["--tyro-print-completion", arguments.shell])
