"""Imitate an expert: the command `rlgen gail`, whose code is in rlgen/commands/gail.py."""

import sys

from rlgen.command import call
from rlgen.commands import gail

if __name__ == "__main__":
    sys.exit(call(gail))
