"""Read one foreign file with limited memory, for `rlgen.data.formats.read`: an npz on stdout, or exit code 3."""

import json
import os
import sys
from pathlib import Path

from rlgen.data.formats import ERROR, log, pack, recognise


def limit_memory(n_bytes: int) -> None:
    """Let this process have so much more than it has; only Linux knows both, elsewhere the time limit alone holds."""
    if sys.platform != "linux":
        return
    import resource  # Windows has none

    now = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    _, most = resource.getrlimit(resource.RLIMIT_AS)  # none of ours may be above it
    limit = now + n_bytes if most == resource.RLIM_INFINITY else min(now + n_bytes, most)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main() -> int:
    """Read, write, or say why not."""
    path, memory, options = Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
    time_limit, skip_broken = options["time_limit"], options["skip_broken"]
    try:
        limit_memory(memory)
        if options["mapping"] is not None:
            recording = log.read(path, time_limit, log.LogMapping(**options["mapping"]), skip_broken)
        else:
            recording = recognise(path).read(path, time_limit, skip_broken)
        pack(recording, sys.stdout.buffer)
    except MemoryError:
        print(f"{ERROR}{path}: needs more than {memory >> 20} MiB to read; damaged, or split it", file=sys.stderr)
        return 3
    except Exception as error:  # what a reader foresees tells the file; nothing else may end in a traceback
        told = str(error) if str(path) in str(error) else f"{path}: {type(error).__name__}: {error}"
        print(f"{ERROR}{told}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
