"""Train and record an expert: the command `rlgen expert`, whose code is in rlgen/commands/expert.py."""

import sys

from rlgen.commands.expert import main

if __name__ == "__main__":
    sys.exit(main())
