"""Read one foreign file with limited memory, for `rlgen.data.formats.read`: an npz on stdout, or exit code 3."""

import os
import sys
from pathlib import Path

from rlgen.data.formats import ERROR, pack, recognise


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
    path, time_limit, memory = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    try:
        limit_memory(memory)
        pack(recognise(path).read(path, int(time_limit) if time_limit else None), sys.stdout.buffer)
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
