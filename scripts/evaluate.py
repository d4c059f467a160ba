"""Evaluate what a run learned: the command `rlgen evaluate`, whose code is in rlgen/commands/evaluate.py."""

import sys

from rlgen.command import call
from rlgen.commands import evaluate

if __name__ == "__main__":
    sys.exit(call(evaluate))
