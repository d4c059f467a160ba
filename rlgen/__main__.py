"""The command `rlgen`, also as `python -m rlgen`."""

from __future__ import annotations

import difflib
import importlib
import sys

from rlgen.files import keep_writing

COMMANDS = {
    "gail": "imitate an expert from its demonstrations",
    "bc": "clone an expert's behaviour from its demonstrations alone",
    "vime": "explore where rewards are sparse",
    "expert": "train an expert on the task's reward, and record its demonstrations",
    "evaluate": "returns of a run's policy, with intervals and a video",
    "plot": "figure or table of several runs",
    "data": "inspect, validate, convert and merge demonstrations",
    "doctor": "versions, threads, GPU and rendering of this machine",
    "completion": "completion script for a shell",
}


def main() -> int:
    """Hand over to a command; its module alone is imported."""
    keep_writing()
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        print("usage: rlgen COMMAND [...]; rlgen COMMAND --help explains one\n")
        print("\n".join(f"  {command:<11} {what}" for command, what in COMMANDS.items()))
        print("\nexit codes: 0 done, 1 the task's error, 2 usage, 3 data, 4 files, 5 numbers, 129, 130 and 143 signals")
        return 0 if len(sys.argv) > 1 else 2
    if name == "--version":
        from rlgen import __version__

        print(f"rlgen {__version__}")
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"; perhaps {near[0]}" if near else ""
        print(f"error: no command {name}{hint}. There are {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    from rlgen.command import call

    return call(importlib.import_module(f"rlgen.commands.{name}"), sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
