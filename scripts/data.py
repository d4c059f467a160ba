"""Look at demonstrations, check and convert them: the command `rlgen data`, whose code is in rlgen/commands/data.py."""

import sys

from rlgen.commands.data import main

if __name__ == "__main__":
    sys.exit(main())
