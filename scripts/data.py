"""Look at demonstrations, check and convert them: the command `rlgen data`, whose code is in rlgen/commands/data.py."""

import sys

from rlgen.command import call
from rlgen.commands import data

if __name__ == "__main__":
    sys.exit(call(data))
