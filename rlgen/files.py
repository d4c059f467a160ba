"""Files that are whole or absent, and what made them."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import io
import json
import os
import platform
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

MAX_BYTES = 1 << 30


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Have `write` fill a temporary file beside `path`, flush it to disk, then rename it: whole or absent.

    Args:
        path: replaced if it exists; its folder is made if absent.
        write: called with a binary file. If it raises, `path` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file at once, atomically."""
    write_atomically(path, lambda file: file.write(content))


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON, atomically; NaN and infinities are refused since JSON has none."""
    write_bytes(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """Indented JSON, as `write_json` writes it."""
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files into a folder, all of them or none: a kill at any moment leaves what was there, or the new.

    They are written to a folder beside it, which then takes its place. Files of other names are kept.

    Args:
        folder: made if absent.
        files: content by name.
    """
    folder = folder.resolve()  # what a link points to, not the link
    new = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)  # what a killed process left
    try:
        for name, content in files.items():
            write_bytes(new / name, content)
        if folder.exists():
            _exchange(new, folder)
            for path in new.iterdir():
                if path.name not in files:
                    path.replace(folder / path.name)
        else:
            new.rename(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _exchange(left: Path, right: Path) -> None:
    """Exchange the names of two folders: at once on Linux, elsewhere by three renames."""
    if sys.platform == "linux":
        at_cwd, exchange = -100, 2
        rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
        if rename is not None and not rename(at_cwd, os.fsencode(left), at_cwd, os.fsencode(right), exchange):
            return
    aside = left.with_suffix(".old")
    right.rename(aside)
    left.rename(right)
    aside.rename(left)


def module_bytes(module: nn.Module) -> bytes:
    """A module's weights and statistics in the safetensors format."""
    from safetensors.torch import save

    return save({name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()})


def read_checked(path: Path, checksum: str) -> bytes:
    """A file's content, if its SHA-256 is the one told.

    Raises:
        OSError: it can't be read.
        ValueError: it is too large, cut, damaged or another file.
    """
    if (size := path.stat().st_size) > MAX_BYTES:
        raise ValueError(f"{path}: {size} bytes; at most {MAX_BYTES} are read")
    content = path.read_bytes()
    if sha256(content) != checksum:
        raise ValueError(f"{path}: field sha256: the file is cut, damaged or not the one of its manifest")
    return content


def read_text(path: Path, limit: int) -> str:
    """The text of a regular file of at most `limit` bytes.

    Raises:
        OSError: it can't be read.
        ValueError: it is larger, no regular file or no text.
    """
    # Opening a pipe would wait for its writer.
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError(f"{path}: not a regular file")
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"{path}: more than {limit} bytes")
    return content.decode()


def printable(text: str) -> str:
    """Text from a file without the characters that command a terminal; line ends and tabs become spaces."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)


def spreadsheet_safe(text: str) -> str:
    """Text for a CSV cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


class _Output(io.FileIO):
    """A standard stream that goes on as if it were read when its reader or its terminal is gone."""

    def write(self, content: Any) -> int:
        """Everything, to nobody from then on."""
        try:
            return super().write(content) or 0
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            return len(content)


def keep_writing() -> None:
    """Have no print fail when nobody reads on: training is not to end by that, as in `rlgen vime | head -1`."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed from the start: the next file would get its number, and what libraries print
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        # Not what a test or a notebook has put in its place.
        elif stream is getattr(sys, f"__{name}__") and not isinstance(getattr(stream.buffer, "raw", None), _Output):
            buffered = io.BufferedWriter(_Output(stream.fileno(), "w", closefd=False))
            at_once = stream.line_buffering or stream.write_through
            kept = io.TextIOWrapper(buffered, stream.encoding, stream.errors, line_buffering=at_once)
            setattr(sys, name, kept)
            setattr(sys, f"__{name}__", kept)


def check_writable(folder: Path) -> None:
    """Refuse a folder that can't be made or written to, without making it.

    Raises:
        OSError: of the folder, or the next one above it that exists.
    """
    path = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not path.is_dir() or not os.access(path, os.W_OK):
        code = errno.EACCES if path.is_dir() else errno.ENOTDIR
        raise OSError(code, os.strerror(code), str(path))


def sha256(content: bytes) -> str:
    """The SHA-256 in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def canonical_json(value: Any) -> bytes:
    """The same bytes for equal values, to take checksums of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on, without importing them."""
    found = {"python": platform.python_version()}
    for package in ("rlgen", "numpy", "torch", "gymnasium", "mujoco", "stable-baselines3"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found
