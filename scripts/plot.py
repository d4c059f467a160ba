"""Draw learning curves of runs, or list them: the command `rlgen plot`, whose code is in rlgen/commands/plot.py."""

import sys

from rlgen.commands.plot import main

if __name__ == "__main__":
    sys.exit(main())
