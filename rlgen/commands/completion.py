"""Print a script that completes the command `rlgen` in a shell.

eval "$(rlgen completion bash)"
rlgen completion fish > ~/.config/fish/completions/rlgen.fish
"""

from __future__ import annotations

import ast
import contextlib
import functools
import io
import operator
import re
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

import tyro

from rlgen.command import explain

Shell = Literal["bash", "zsh", "tcsh", "fish"]


@dataclass(frozen=True)
class Arguments:
    """Print a completion script."""

    shell: tyro.conf.Positional[Shell]
    """Shell that runs the script."""


def main(arguments: Arguments) -> None:
    """Print it."""
    match arguments.shell:
        case "bash":
            script = script_of("bash").replace("complete -F", "complete -o filenames -F")
            word = "${COMP_WORDS[COMP_CWORD]}"
            files = f'COMPREPLY=($(compgen -f -- "{word}"))'
            print(_or_files(script, word, files, "  # Parse completions and build"))
        case "zsh":
            print(_or_files(script_of("zsh"), "${words[CURRENT]}", "_files", "  # Parse completions into an array"))
        case "fish":
            print("\n".join(fish()))
        case shell:
            print(script_of(shell))


def modules() -> dict[str, types.ModuleType]:
    """Each command's."""
    from rlgen.commands import bc, completion, data, doctor, evaluate, expert, gail, plot, vime

    found = (gail, bc, vime, expert, evaluate, plot, data, doctor, completion)
    return {module.__name__.rpartition(".")[2]: module for module in found}


def script_of(shell: str) -> str:
    """The script that tyro writes for a shell."""
    each = []
    for name, module in modules().items():
        explain(module.Arguments)
        each.append(Annotated[module.Arguments, tyro.conf.subcommand(name)])
    every: Any = functools.reduce(operator.or_, each)
    written = io.StringIO()
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(written):
        tyro.cli(every, prog="rlgen", args=["--tyro-print-completion", shell])
    return written.getvalue()


def _or_files(script: str, word: str, files: str, before: str) -> str:
    """The script with files where flags alone would be offered for a word that isn't one: it is a path then."""
    only_flags = f'"{word}" != -* && -z "$(grep -v "^-" <<< "$completions")"'
    added = f"  if [[ {only_flags} ]]; then\n    {files}\n    return 0\n  fi\n\n"
    assert script.count(before) == 1
    return script.replace(before, added + before)


def fish() -> Iterator[str]:
    """The lines of fish's script, by what tyro's for bash knows of commands and flags."""
    found = re.search(r"^COMPLETION_SPEC = (.*)$", script_of("bash"), re.MULTILINE)
    assert found is not None
    spec = ast.literal_eval(found[1])
    yield "complete -c rlgen -e"
    for name, module in modules().items():
        about = _quoted(re.split(r"[.:] ?\n", str(module.__doc__))[0])
        yield f"complete -c rlgen -n __fish_use_subcommand -f -a {name} -d {about}"
        command = spec["subcommands"][name]
        yield from _flags(command, here := f"__fish_seen_subcommand_from {name}")
        inner = " ".join(command["subcommands"])
        for one, told in command["subcommands"].items():
            yield f"complete -c rlgen -n '{here}; and not __fish_seen_subcommand_from {inner}' -f -a {one}"
            yield from _flags(told, f"{here}; and __fish_seen_subcommand_from {one}")
    yield f"complete -c rlgen -n '__fish_seen_subcommand_from completion' -f -a '{' '.join(get_args(Shell))}'"


def _flags(command: dict[str, Any], condition: str) -> Iterator[str]:
    for option in command["options"]:
        kind, _, about = option["description"].rpartition(" • ")
        sentence = re.split(r"(?<=[a-z)])[.:] | \(default|\n", about)[0]
        value = ""
        if option["type"] == "choice":
            choices = sorted(set(option["choices"]) - {"None"})
            value = f" -x -a {_quoted(' '.join(choices))}"
        elif option["type"] in ("path", "value"):
            value = " -r -F" if "PATH" in kind or "FILE" in kind else " -x"
        for flag in option["flags"]:
            if flag.startswith("--"):
                yield f"complete -c rlgen -n '{condition}' -l {flag[2:]} -d {_quoted(sentence)}{value}"


def _quoted(text: str) -> str:
    """A word of fish's, where a backslash and a quote are escaped between quotes."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
