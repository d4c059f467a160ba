"""Evaluate what a run learned: the command `rlgen evaluate`, whose code is in rlgen/commands/evaluate.py."""

import sys

from rlgen.commands.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
