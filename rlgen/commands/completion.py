"""A shell's completion of the command `rlgen`.

eval "$(rlgen completion bash)"
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from rlgen.command import parse


@dataclass(frozen=True)
class Arguments:
    """Print a completion script."""

    shell: tyro.conf.Positional[Literal["bash", "zsh", "tcsh"]]
    """For which shell."""


def main(args: Sequence[str] | None = None) -> int:
    """Parse, print."""
    arguments: Arguments = parse(Arguments, __doc__, args)

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
    tyro.cli(every, prog="rlgen", args=["--tyro-print-completion", arguments.shell])
    return 0
