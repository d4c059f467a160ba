"""Draw learning curves of runs, or list them: the command `rlgen plot`, whose code is in rlgen/commands/plot.py."""

import sys

from rlgen.command import call
from rlgen.commands import plot

if __name__ == "__main__":
    sys.exit(call(plot))
