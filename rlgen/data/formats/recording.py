"""What a demonstration file of any format holds, and what the readers and writers of formats share.

Whatever is wrong with a file is a `DemonstrationError` that names the file and the field: it is damaged, too large or
lacks a field, or a field holds Python objects, no numbers, or what lies in another place. So is a missing package.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import io
import math
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn, Protocol

import numpy as np
import numpy.typing as npt

from rlgen.data.episodes import Episode
from rlgen.errors import DemonstrationError
from rlgen.files import MAX_BYTES, check_booleans, opened, printable
from rlgen.spaces import Columns, float_dtype

Array = npt.NDArray[Any]
Header = tuple[tuple[int, ...], np.dtype[Any]]

SMALL = 16 << 20
MAX_DIRECTORY_BYTES = 1 << 16
MAX_OBJECTS = 1_000_000


@dataclass(frozen=True)
class Recording:
    """Complete episodes out of a file.

    Attributes:
        format: its name.
        episodes: in the file's order.
        env_id: the environment as the file tells it; None where it doesn't.
        n_incomplete: episodes that were left out because they are cut off in mid-episode.
        broken: what is wrong with each episode that was left out because it can't be used.
        tells_ends: whether the file tells termination from truncation; otherwise the time limit decided.
        columns: name and width of each part of the observations, where the file names them.
        names: of the columns of a log that are observations (`obs`) and actions (`actions`); empty for other formats.
        path: the file or folder.
        manifest: of a dataset of ours; empty else.
        labels: of a mixture, the mode of each episode from 0, None where it isn't known; None if none is told.
    """

    format: str
    episodes: list[Episode]
    env_id: str | None = None
    n_incomplete: int = 0
    broken: Sequence[str] = ()
    tells_ends: bool = True
    columns: Columns | None = None
    names: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    path: Path = Path()
    manifest: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    labels: Sequence[int | None] | None = None


class Format(Protocol):
    """A module of this package: one file format."""

    NAME: str

    def recognise(self, path: Path) -> bool:
        """Whether a path looks like this format, by its name, its keys or the files in it."""
        ...

    def read(self, path: Path, time_limit: int | None, skip_broken: bool = False) -> Recording:
        """The file's complete episodes.

        Args:
            path: a file or folder.
            time_limit: of the environment, in steps: where a file doesn't tell how an episode ended, one of this length
                was truncated and a shorter one terminated.
            skip_broken: leave out an episode whose arrays don't fit together, where a file holds episodes apart.
        """
        ...


class Writable(Format, Protocol):
    """A format that is written too."""

    def write(self, path: Path, episodes: Sequence[Episode], env_id: str) -> None:
        """Write episodes, if the format can hold them."""
        ...


def fail(path: Path | str, field: str, message: str, episode: int | None = None) -> NoReturn:
    """Raise an error that names the file, the field and, where one is to blame, the episode."""
    where = "" if episode is None else f"episode {episode}: "
    raise DemonstrationError(f"{path}: {where}field {field}: {message}")


@contextlib.contextmanager
def foreign(path: Path, kind: str) -> Iterator[None]:
    """Whatever a format's library raises on damaged bytes, which is of many kinds, as a file that is not `kind`."""
    try:
        yield
    except (DemonstrationError, MemoryError):
        raise
    except Exception as error:
        raise DemonstrationError(f"{path}: not {kind} ({type(error).__name__}: {error})") from None


def split(
    path: Path,
    obs: Array,
    actions: Array,
    rewards: Array,
    lengths: Array,
    time_limit: int | None = None,
    ends: Sequence[tuple[bool, bool]] | None = None,
    final_obs: Array | None = None,
) -> list[Episode]:
    """Episodes out of arrays that hold one after the other.

    Args:
        path: the file, for errors.
        obs: `[N, ...]`.
        actions: `[N, ...]`.
        rewards: `[N]` or `[N, 1]`.
        lengths: `[E]`; steps after their sum are left out.
        time_limit: tells how episodes end, see `ended`, where `ends` is None.
        ends: of each episode, terminated and truncated.
        final_obs: `[E, ...]` where it is known.
    """
    for field, array in (("observations", obs), ("actions", actions), ("rewards", rewards)):
        if array.dtype.kind not in "biuf" or array.ndim < (2 if field == "observations" else 1):
            fail(path, field, f"must be numbers, a row a step; got {array.dtype} of shape {array.shape}")
    for field, array in (("actions", actions), ("rewards", rewards)):
        if len(array) != len(obs):
            fail(path, field, f"{len(array)} rows beside {len(obs)} observations")
    if rewards.size != len(rewards):
        fail(path, "rewards", f"must be one a step; got shape {rewards.shape}")
    if len(lengths) == 0:
        raise DemonstrationError(f"{path}: holds no complete episode")
    episodes = []
    stops = np.cumsum(lengths)
    for i, (start, stop) in enumerate(zip(stops - lengths, stops, strict=True)):
        rows = obs[start:stop]
        if final_obs is not None:
            rows = np.concatenate([rows, final_obs[i : i + 1]])
        how = ended(stop - start, time_limit) if ends is None else ends[i]
        episodes.append(episode(rows, actions[start:stop], rewards[start:stop], *how))
    return episodes


def episode(obs: Array, actions: Array, rewards: Array, terminated: bool, truncated: bool) -> Episode:
    """An episode with the types that ours have; discrete actions without a column of their own."""
    if np.issubdtype(actions.dtype, np.integer):
        actions = actions.reshape(len(actions)) if actions.size == len(actions) else actions
        actions = actions.astype(np.int64, copy=False)
    else:
        actions = actions.astype(float_dtype(actions.dtype), copy=False)
    with np.errstate(over="ignore"):  # what overflows becomes infinite, which validation refuses by name
        obs, rewards = (
            obs.astype(float_dtype(obs.dtype), copy=False),
            rewards.reshape(-1).astype(np.float32, copy=False),
        )
    return Episode(obs, actions, rewards, terminated, truncated)


def ended(length: int, time_limit: int | None) -> tuple[bool, bool]:
    """Terminated and truncated of a complete episode whose file doesn't tell."""
    at_limit = time_limit is not None and length >= time_limit
    return not at_limit, at_limit


def require_final_obs(episodes: Sequence[Episode], name: str) -> None:
    """Refuse episodes without final observations, which the format `name` needs."""
    if any(len(e.obs) == len(e.actions) for e in episodes):
        raise DemonstrationError(
            f"{name} stores an observation after the last action, and these episodes have none; d4rl and sb3 need none"
        )


def read_npz(
    file: Path | IO[bytes],
    path: Path,
    names: Sequence[str] | None = None,
    check: Callable[[Mapping[str, Header]], None] = lambda headers: None,
) -> dict[str, Array]:
    """Plain arrays out of an npz; all of them by default.

    Args:
        file: what to read.
        path: its name in errors.
        names: must be there.
        check: is given shape and dtype of each array before any is made, and raises what is wrong with them.
    """
    with (
        opened(file) if isinstance(file, Path) else contextlib.nullcontext(file) as content,
        foreign(path, "an npz of plain arrays"),
        zipfile.ZipFile(_with_small_directory(content, path)) as members,
    ):
        names = [name.removesuffix(".npy") for name in members.namelist()] if names is None else names
        headers = {name: _header(members, name, path) for name in names}
        size = sum(math.prod(shape) * dtype.itemsize for shape, dtype in headers.values())
        if size > (limit := allowance(content.seek(0, io.SEEK_END))):
            raise DemonstrationError(f"{path}: unpacks to {size} bytes; at most {limit} are read")
        check(headers)
        arrays: dict[str, Array] = {}
        for name in names:
            with members.open(f"{name}.npy") as member:
                arrays[name] = np.lib.format.read_array(member, allow_pickle=False)
            check_booleans(arrays[name], f"{path}: field {printable(name)}")
        return arrays


def allowance(n_bytes: int) -> int:
    """How much a compressed file of so many bytes may unpack to: measurements never shrink by more than sixteen."""
    return min(MAX_BYTES, SMALL + 16 * n_bytes)


def _with_small_directory(file: IO[bytes], path: Path) -> IO[bytes]:
    """The file, unless its directory, which `zipfile` reads at once, is larger than an npz's."""
    file.seek(max(file.seek(0, io.SEEK_END) - 42, 0))
    end = file.read()
    n_bytes = int.from_bytes(end[-10:-6], "little")
    if end[-22:-18] != b"PK\x05\x06" or end[:4] == b"PK\x06\x07" or n_bytes > MAX_DIRECTORY_BYTES:
        raise DemonstrationError(f"{path}: not an npz of plain arrays (no zip file, or too many members)")
    file.seek(0)
    return file


def _header(members: zipfile.ZipFile, name: str, path: Path) -> Header:
    """Shape and dtype of an npz's array, which must account for every byte of its member."""
    if f"{name}.npy" not in members.namelist():
        fail(path, printable(name), "missing")
    with members.open(f"{name}.npy") as member:
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, _, dtype = read[np.lib.format.read_magic(member)](member)
        if dtype.hasobject or dtype.kind not in "biufUS":
            raise ValueError("Object arrays and records are not read")
        size = member.tell() + math.prod(map(int, shape)) * dtype.itemsize
    if min(shape, default=0) < 0 or size != members.getinfo(f"{name}.npy").file_size:
        fail(path, printable(name), f"shape {shape} of {dtype} doesn't fit the array's size")
    return shape, dtype


def npz_fields(path: Path) -> set[str]:
    """The names of an npz's arrays; none if it isn't one."""
    try:
        with opened(path) as file, zipfile.ZipFile(_with_small_directory(file, path)) as members:
            return {name.removesuffix(".npy") for name in members.namelist()}
    except Exception:  # zip files' directories raise many kinds when damaged
        return set()


def has_fields(fields: Callable[[Path], set[str]], names: Sequence[str]) -> Callable[[Path], bool]:
    """`Format.recognise` of a format whose files have these fields, of those that `fields` finds."""
    return lambda path: fields(path) >= set(names)


def hdf5_fields(path: Path) -> set[str]:
    """The names at an HDF5 file's root; none if it isn't one."""
    if not path.is_file():
        return set()
    with opened(path, sys.maxsize) as start:
        if start.read(8) != b"\x89HDF\r\n\x1a\n":
            return set()
    h5py = needed("h5py")
    try:
        with h5py.File(path, "r") as file:
            return set(file)
    except Exception:  # a damaged one has no fields
        return set()


def refuse_links(file: Any, path: Path) -> None:
    """Refuse an HDF5 file in which something lies in another file, or has two names: it may have exponentially many."""
    h5py = needed("h5py")
    seen, groups = {h5py.h5o.get_info(file.id).addr}, [file["/"]]
    while groups:
        group = groups.pop()
        for name in group:
            linked = not isinstance(group.get(name, getlink=True), h5py.HardLink)
            found: Any = None if linked else group[name]
            address = None if linked else h5py.h5o.get_info(found.id).addr
            if linked or address in seen or (isinstance(found, h5py.Dataset) and (found.is_virtual or found.external)):
                fail(path, printable(f"{group.name.rstrip('/')}/{name}".lstrip("/")), "its values are in another place")
            seen.add(address)
            if isinstance(found, h5py.Group):
                groups.append(found)
        if len(seen) > MAX_OBJECTS:
            raise DemonstrationError(f"{path}: more than {MAX_OBJECTS} objects")


@contextlib.contextmanager
def opened_hdf5(path: Path) -> Iterator[Any]:
    """An HDF5 file whose values are in itself; what goes wrong with it becomes an error of the file."""
    with foreign(path, "a readable HDF5 file"), needed("h5py").File(path, "r") as file:
        refuse_links(file, path)
        yield file


def read_hdf5(path: Path, names: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Array]:
    """Arrays of numbers out of an HDF5 file; those of `optional` where it has them."""
    h5py = needed("h5py")
    found: dict[str, Array] = {}
    with opened_hdf5(path) as file:
        for name in (*names, *(name for name in optional if name in file)):
            array = file.get(name)
            if not isinstance(array, h5py.Dataset) or array.dtype.kind not in "biuf":
                fail(path, name, "missing" if array is None else "not an array of numbers")
            found[name] = array[()]
    return found


def arrow_array(values: Any) -> Array:
    """The array `[N]` or `[N, ...]` of an Arrow array of numbers, or of lists, which must be equally long."""
    shape = [len(values)]
    while values.type.num_fields and hasattr(values, "value_lengths"):
        lengths = np.unique(values.value_lengths().to_numpy(zero_copy_only=False))
        if len(lengths) != 1:
            raise ValueError("its rows differ in length")
        values = values.flatten()
        shape.append(int(lengths[0]))
    return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(shape)


def needed(module: str) -> Any:
    """Import an optional package."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise DemonstrationError(f"this format needs {module}: pip install 'rlgen[data]'") from None
