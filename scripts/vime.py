"""Explore where reward is silent: the command `rlgen vime`, whose code is in rlgen/commands/vime.py."""

import sys

from rlgen.commands.vime import main

if __name__ == "__main__":
    sys.exit(main())
