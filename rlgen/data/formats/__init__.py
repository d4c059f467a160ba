"""Other packages' demonstration files, read without running what they hold, and written."""

from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import IO

import numpy as np

from rlgen.data.episodes import joined, parted
from rlgen.data.formats import baselines, d4rl, imitation, log, minari, openai_imitation, sb3
from rlgen.data.formats.recording import Format, Recording, Writable, read_npz
from rlgen.errors import DemonstrationError
from rlgen.files import MAX_BYTES, opened, parse_json, plain_files

FORMATS: tuple[Format, ...] = (minari, imitation, d4rl, sb3, baselines, openai_imitation)
WRITABLE: tuple[Writable, ...] = (minari, imitation, d4rl, sb3)


# What stands before the message of the process that reads.
ERROR = "rlgen can't read: "


def _size(path: Path) -> int:
    """Of a file or a folder's files, in bytes; a link or special file among them is refused."""
    try:
        if path.is_dir():
            return sum(file.stat().st_size for file in plain_files(path))
        with opened(path, sys.maxsize):
            return path.stat().st_size
    except FileNotFoundError:
        raise DemonstrationError(f"{path}: no such file or folder") from None
    except ValueError as error:
        raise DemonstrationError(str(error)) from None


def recognise(path: Path) -> Format:
    """The format of a file or folder."""
    _size(path)
    for known in FORMATS:
        if known.recognise(path):
            return known
    if columns := log.column_names(path):
        episodes, columns = log.grouped_by(columns)
        split = "" if episodes is None else f" --episodes {shlex.quote(episodes)}"
        raise DemonstrationError(
            f"{path}: a log with the columns {log.listed(columns)}. Tell which are what: rlgen data convert "
            f"{shlex.quote(str(path))} --output ... --env ID{split} --obs NAME ... --actions NAME ..."
        )
    names = ", ".join(known.NAME for known in FORMATS)
    raise DemonstrationError(f"{path}: none of the formats that are read: {names}")


def read(
    path: Path,
    time_limit: int | None = None,
    timeout: float = 600.0,
    *,
    mapping: log.LogMapping | None = None,
    skip_broken: bool = False,
) -> Recording:
    """A foreign file's complete episodes, see `Format.read`.

    The libraries for HDF5 and Arrow are large, and a damaged or malicious file may crash them, or claim to unpack to
    any size. So a process of its own reads it, and hands plain arrays over. Its memory is limited on Linux, to a
    gigabyte and eight times the file's size.

    Args:
        path: a file or folder of one of `FORMATS`.
        time_limit: of the environment, in steps.
        timeout: seconds.
        mapping: read the path as a log whose columns are these.
        skip_broken: leave out episodes that can't be used, see `Format.read`.
    """
    memory = MAX_BYTES + 8 * _size(path)
    # Nothing of the caller's folder is to be imported there.
    options = {"time_limit": time_limit, "skip_broken": skip_broken, "mapping": mapping and asdict(mapping)}
    command = [sys.executable, "-P", "-m", "rlgen.data.formats", str(path), str(memory), json.dumps(options)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=timeout, env=os.environ | {"OMP_NUM_THREADS": "1"})
    except subprocess.TimeoutExpired:
        raise DemonstrationError(f"{path}: not read within {timeout:.0f} s; damaged?") from None
    told = done.stderr.decode(errors="replace")
    if done.returncode == 3:
        raise DemonstrationError(told.rpartition(ERROR)[2].strip())
    if done.returncode:
        reason = f"signal {-done.returncode}" if done.returncode < 0 else told.strip()[-400:]
        raise DemonstrationError(f"{path}: reading it failed, damaged? ({reason})")
    return unpack(done.stdout, path)


ABOUT = {
    "format": str,
    "env_id": (str, None),
    "n_incomplete": range(1 << 40),
    "broken": [str],
    "tells_ends": bool,
    "columns": ([list], None),
    "names": {"*": [str]},
    "labels": ([(None, range(1 << 20))], None),
}
"""What a `Recording` says beside its episodes."""


def pack(recording: Recording, file: IO[bytes]) -> None:
    """Write a recording as an npz of plain arrays."""
    about = json.dumps({name: getattr(recording, name) for name in ABOUT})
    np.savez(file, allow_pickle=False, **joined(recording.episodes), about=np.array(about))


def unpack(content: bytes, path: Path) -> Recording:
    """What `pack` packed of a file `path`."""
    arrays = read_npz(io.BytesIO(content), path)
    about = parse_json(str(arrays["about"]), path, ABOUT)
    if about["columns"] is not None:
        about["columns"] = tuple((str(column), int(width)) for column, width in about["columns"])
    return Recording(episodes=parted(arrays), **{name: about[name] for name in ABOUT})
