"""Read one foreign file with a gigabyte of memory, for `rlgen.data.formats.read`: an npz on stdout, or exit code 3."""

import os
import sys
from pathlib import Path

from rlgen.data.formats import pack, recognise
from rlgen.errors import DemonstrationError
from rlgen.files import MAX_BYTES


def limit_memory() -> None:
    """Let this process have `MAX_BYTES` more than it has."""
    if sys.platform != "linux":
        return
    import resource

    now = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (now + MAX_BYTES, now + MAX_BYTES))


def main() -> int:
    """Read, write, or say why not."""
    path, limit = Path(sys.argv[1]), sys.argv[2]
    try:
        limit_memory()
        pack(recognise(path).read(path, int(limit) if limit else None), sys.stdout.buffer)
    except MemoryError:
        print(f"error: {path}: needs more than {MAX_BYTES >> 20} MiB to read; damaged, or split it", file=sys.stderr)
        return 3
    except (DemonstrationError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
