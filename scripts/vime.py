"""Explore where rewards are sparse: the command `rlgen vime`, whose code is in rlgen/commands/vime.py."""

import sys

from rlgen.command import call
from rlgen.commands import vime

if __name__ == "__main__":
    sys.exit(call(vime))
