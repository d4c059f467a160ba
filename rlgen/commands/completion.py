"""A shell's completion of the command `rlgen`.

eval "$(rlgen completion bash)"
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Arguments:
    """Print a completion script."""

    shell: tyro.conf.Positional[Literal["bash", "zsh", "tcsh"]]
    """For which shell."""


def main(arguments: Arguments) -> None:
    """Print it."""
    from rlgen.commands import data, doctor, evaluate, expert, gail, plot, vime

    sub = tyro.conf.subcommand
    every = (
        Annotated[gail.Arguments, sub("gail")]
        | Annotated[vime.Arguments, sub("vime")]
        | Annotated[expert.Arguments, sub("expert")]
        | Annotated[evaluate.Arguments, sub("evaluate")]
        | Annotated[plot.Arguments, sub("plot")]
        | Annotated[data.Arguments, sub("data")]
        | Annotated[doctor.Arguments, sub("doctor")]
        | Annotated[Arguments, sub("completion")]
    )
    with contextlib.suppress(SystemExit):
        tyro.cli(every, prog="rlgen", args=["--tyro-print-completion", arguments.shell])
