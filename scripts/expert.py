"""Train and record an expert: the command `rlgen expert`, whose code is in rlgen/commands/expert.py."""

import sys

from rlgen.command import call
from rlgen.commands import expert

if __name__ == "__main__":
    sys.exit(call(expert))
