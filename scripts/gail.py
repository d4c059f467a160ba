"""Imitate an expert: the command `rlgen gail`, whose code is in rlgen/commands/gail.py."""

import sys

from rlgen.commands.gail import main

if __name__ == "__main__":
    sys.exit(main())
