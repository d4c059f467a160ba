"""Files that are whole or absent, and what made them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Callable
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
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


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
