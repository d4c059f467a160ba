"""Files: written whole or not at all; read as untrusted, checked against a schema before anything is made of them.

What reads raises OSError where a file can't be read, and ValueError for everything that is wrong with it: it is cut,
damaged, too large, a link or no regular file, or not what its schema says. The message names the file and the field.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import io
import json
import math
import os
import platform
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np
import numpy.typing as npt

try:
    import fcntl
except ImportError:  # Windows has none; there an open file can't be deleted anyway
    fcntl = None  # type: ignore[assignment]

MAX_BYTES = 1 << 30
MAX_JSON_BYTES = 4 << 20
MAX_JSON_ITEMS = 1 << 20
MAX_DEPTH = 32
MAX_FILES = 100_000

# Schemas that several formats share.
ENV_ID = re.compile(r"(?!\.)[\w:-]+(/[\w:.-]+)?|(?!\.)[\w:.-]+")
SHA256 = re.compile(r"[0-9a-f]{64}")
COUNT = range(1, 1 << 40)


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Have `write` fill a temporary file beside `path`, flush it to disk, then rename it: whole or absent.

    Temporary files that killed writes of the same path left are removed.

    Args:
        path: replaced if it exists; its folder is made if absent.
        write: called with a binary file. If it raises, `path` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    left = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}")
    for other in path.parent.iterdir():
        if left.fullmatch(other.name):
            _remove_unlocked(other)
    handle, temporary = _locked_temporary(path)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            if fcntl is not None:  # renamed while it is locked, so that no other writer removes it
                os.replace(temporary, path)
        if fcntl is None:
            os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _locked_temporary(path: Path) -> tuple[int, str]:
    """A new file beside `path`, locked as long as it is open; a killed process leaves it unlocked."""
    while True:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with contextlib.suppress(OSError):  # some network file systems have no locks
            lock(handle, wait=True)
        if fcntl is None or os.fstat(handle).st_nlink:
            return handle, temporary
        os.close(handle)  # another writer took it for one left behind, before the lock


def _remove_unlocked(path: Path) -> None:
    """Remove a temporary file that no process is writing."""
    with contextlib.suppress(OSError):
        if fcntl is None:
            path.unlink()
            return
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        try:
            lock(handle)
            path.unlink()
        finally:
            os.close(handle)


def lock(file: int | IO[Any], wait: bool = False) -> None:
    """Lock an open file until it is closed, also by a kill; there are no locks on Windows.

    Raises:
        BlockingIOError: another process has locked it, and `wait` is false.
    """
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


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


@contextlib.contextmanager
def opened(path: Path, limit: int = MAX_BYTES, *, links: bool = True) -> Iterator[BufferedReader]:
    """A regular file open for reading. Pipes, devices and folders are refused, and opening one never blocks.

    Args:
        path: where.
        limit: bytes that it may have.
        links: follow `path` where it is a symbolic link, as a user's own path may be.
    """
    mode = os.stat(path, follow_symlinks=links).st_mode
    if stat.S_ISLNK(mode):
        raise ValueError(f"{path}: a link to another place, which is not followed")
    if stat.S_ISREG(mode):
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(path, flags | (0 if links else getattr(os, "O_NOFOLLOW", 0))), "rb") as file:
            status = os.fstat(file.fileno())
            if stat.S_ISREG(status.st_mode):
                if status.st_size > limit:
                    raise ValueError(f"{path}: {status.st_size} bytes; at most {limit} are read")
                yield file
                return
    raise ValueError(f"{path}: not a regular file")


def read_regular(path: Path, limit: int = MAX_BYTES, *, links: bool = True) -> bytes:
    """The content of a regular file; arguments as for `opened`."""
    with opened(path, limit, links=links) as file:
        return file.read(os.fstat(file.fileno()).st_size)


@contextlib.contextmanager
def checked(path: Path, checksum: str) -> Iterator[BufferedReader]:
    """A file that is open for reading, if its SHA-256 is the given one."""
    with opened(path, links=False) as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != checksum:
            raise ValueError(f"{path}: field sha256: the file is cut, damaged or not the one of its manifest")
        file.seek(0)
        yield file


def plain_files(folder: Path) -> list[Path]:
    """The files in a folder and the folders below it, if nothing in it is a link; `folder` itself may be one."""
    found: list[Path] = []
    for parent, folders, names in os.walk(folder):
        for path in (Path(parent, name) for name in (*folders, *names)):
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                raise ValueError(f"{path}: a link to another place, which is not followed")
            if stat.S_ISREG(mode):
                found.append(path)
            elif not stat.S_ISDIR(mode):
                raise ValueError(f"{path}: not a regular file")
        if len(found) > MAX_FILES:
            raise ValueError(f"{folder}: more than {MAX_FILES} files")
    return found


def read_json(path: Path, schema: Any = dict, *, links: bool = True) -> Any:
    """The value in a JSON file; arguments as for `opened` and `check`."""
    return parse_json(read_regular(path, MAX_JSON_BYTES, links=links), path, schema)


def parse_json(content: bytes | str, path: Path, schema: Any = dict) -> Any:
    """The value of a JSON text out of a file `path`, of bounded size and depth; no NaN, no name twice in an object."""

    def refuse(word: str) -> NoReturn:
        raise ValueError(f"{word} is no number")

    def number(word: str) -> float:
        return x if math.isfinite(x := float(word)) else refuse(word)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(found := dict(pairs)) < len(pairs):
            raise ValueError("an object has a name twice")
        return found

    try:
        text = content.decode("utf-8") if isinstance(content, bytes) else content
        if sum(map(text.count, ",[{")) > MAX_JSON_ITEMS:
            raise ValueError(f"more than {MAX_JSON_ITEMS} values")
        value = json.loads(text, parse_constant=refuse, parse_float=number, object_pairs_hook=unique)
        if _deeper(value, MAX_DEPTH):
            raise RecursionError
    except RecursionError:
        raise ValueError(f"{path}: not JSON (nested more than {MAX_DEPTH} deep)") from None
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    try:
        check(value, schema)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return value


def _deeper(value: Any, levels: int) -> bool:
    """Whether lists and objects are nested more than so deep."""
    if not isinstance(value, dict | list):
        return False
    return not levels or any(_deeper(x, levels - 1) for x in (value.values() if isinstance(value, dict) else value))


def check(value: Any, schema: Any, field: str = "") -> None:
    """Refuse a JSON value that is not what a schema says.

    A schema is data: `str`, `bool`, `int`, `float` (whole numbers too), `dict` or `list` (of anything), None; a range
    of whole numbers; a compiled pattern for a text; `[item]`, a list; `(one, other)`, either; a dict, an object with
    these fields, where "name?" may be absent, "*" stands for all others, and other fields are ignored; or a function
    that raises what is wrong with a value.

    Args:
        value: made by `parse_json`.
        schema: as above.
        field: its name in errors.
    """

    def fail(expected: str) -> NoReturn:
        raise ValueError(f"field {field or 'content'}: must be {expected}; got {json.dumps(value)[:60]}")

    if isinstance(schema, dict):
        if not isinstance(value, dict):
            fail("an object")
        prefix = f"{field}." if field else ""
        for name, inner in schema.items():
            plain = name.removesuffix("?")
            if name == "*":
                for other in value.keys() - {known.removesuffix("?") for known in schema}:
                    check(value[other], inner, prefix + printable(other))
            elif plain in value:
                check(value[plain], inner, prefix + plain)
            elif plain == name:
                raise ValueError(f"field {prefix}{plain}: missing")
    elif isinstance(schema, list):
        if not isinstance(value, list):
            fail("a list")
        for i, item in enumerate(value):
            check(item, schema[0], f"{field}[{i}]")
    elif isinstance(schema, tuple):
        for alternative in schema[:-1]:
            with contextlib.suppress(ValueError):
                return check(value, alternative, field)
        check(value, schema[-1], field)
    elif isinstance(schema, range):
        if type(value) is not int or value not in schema:
            fail(f"a whole number from {schema.start} to {schema.stop - 1}")
    elif isinstance(schema, re.Pattern):
        if not isinstance(value, str) or not schema.fullmatch(value):
            fail(f"text that matches {schema.pattern}")
    elif schema is None or isinstance(schema, type):
        fits = value is None if schema is None else type(value) is schema or (schema is float and type(value) is int)
        if not fits or (type(value) is int and abs(value) >= 1 << 63):
            words: dict[Any, str] = {
                str: "text",
                int: "a whole number",
                float: "a number",
                bool: "true or false",
                dict: "an object",
                list: "a list",
            }
            fail(words.get(schema, "null"))
    else:
        try:
            schema(value)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, AssertionError, IndexError) as error:
            raise ValueError(f"field {field}: {error or type(error).__name__}") from None


DTYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32, "I16": np.int16,
    "I8": np.int8, "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip
TENSOR = {"dtype": re.compile("|".join(DTYPES)), "shape": [range(1 << 40)], "data_offsets": [range(1 << 40)]}


def read_safetensors(file: BufferedReader, path: Path) -> tuple[dict[str, npt.NDArray[Any]], dict[str, str]]:
    """Arrays and metadata of a safetensors file, whose header must account for every byte before any is made."""
    size = os.fstat(file.fileno()).st_size
    n_header = int.from_bytes(file.read(8), "little")
    if not 8 + n_header <= size or n_header > 2 * MAX_JSON_BYTES:
        raise ValueError(f"{path}: its header is cut or too large")
    header = parse_json(file.read(n_header), path, {"__metadata__?": {"*": str}, "*": TENSOR})
    metadata = header.pop("__metadata__", {})
    at = 0
    tensors = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
    for name, told in tensors:
        n_bytes = math.prod(told["shape"]) * np.dtype(DTYPES[told["dtype"]]).itemsize
        if told["data_offsets"] != [at, at := at + n_bytes] or len(told["shape"]) > MAX_DEPTH:
            raise ValueError(f"{path}: field {printable(name)}: its place is not that of its shape and type")
    if size != 8 + n_header + at:
        raise ValueError(f"{path}: it has {size} bytes; its header tells of {8 + n_header + at}")
    arrays = {}
    for name, told in tensors:
        content = bytearray(told["data_offsets"][1] - told["data_offsets"][0])
        if file.readinto(content) != len(content):
            raise ValueError(f"{path}: it was cut while it was read")
        arrays[name] = np.frombuffer(content, DTYPES[told["dtype"]]).reshape(told["shape"])
        check_booleans(arrays[name], f"{path}: field {printable(name)}")
    return arrays, metadata


def check_booleans(array: npt.NDArray[Any], where: str) -> None:
    """Refuse bytes other than 0 and 1 in an array of booleans, which NumPy takes for granted."""
    if array.dtype == np.bool_ and array.size and array.view(np.uint8).max() > 1:
        raise ValueError(f"{where}: must be true or false")


def short(x: float) -> str:
    """A return as people read it: 5,412 or 0.42."""
    return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}"


def printable(text: object) -> str:
    """Text out of a file for a terminal: control characters, which could command it, as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def csv_cell(value: Any) -> Any:
    """A value for a CSV file: text that a spreadsheet would run as a formula gets an apostrophe before it."""
    if not isinstance(value, str):
        return value
    with contextlib.suppress(ValueError):
        float(value)
        return value
    text = printable(value)
    return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@")) else text


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


def cache_folder() -> Path:
    """Where to keep what can be made again: `$XDG_CACHE_HOME/rlgen`, else `~/.cache/rlgen`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "rlgen"


def sha256(content: Any) -> str:
    """The SHA-256 in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def canonical_json(value: Any) -> bytes:
    """The same bytes for equal values, to take checksums of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on, without importing them."""
    packages = ("rlgen", "numpy", "torch", "gymnasium", "mujoco", "stable-baselines3")
    return {"python": platform.python_version()} | {package: version_of(package) for package in packages}


def hardware() -> str:
    """The processor's name and core count, as printed beside every result."""
    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as lines:
            name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), name)
    return f"{name} x{os.cpu_count()}"


def version_of(package: str) -> str:
    """An installed package's version; "absent" where there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
