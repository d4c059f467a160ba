"""Clone an expert's behaviour: the command `rlgen bc`, whose code is in rlgen/commands/bc.py."""

import sys

from rlgen.command import call
from rlgen.commands import bc

if __name__ == "__main__":
    sys.exit(call(bc))
