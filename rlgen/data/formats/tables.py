"""Tables by column: CSV, Parquet, npz, npy and HDF5 files, of which only the columns that are asked for are read."""

from __future__ import annotations

import csv
import fnmatch
import functools
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rlgen.data.formats.recording import (
    Array,
    arrow_array,
    fail,
    foreign,
    needed,
    npz_fields,
    opened_hdf5,
    read_npz,
)
from rlgen.errors import DemonstrationError
from rlgen.files import opened, plain_files, printable

Table = Mapping[str, Array]
"""Columns or arrays by name, a row a step."""

ROWS = 1 << 14
"""Rows of a CSV file that are held as text at a time."""


class Wanted(NamedTuple):
    """The columns to read: as numbers, and as labels, of which only equality counts."""

    numbers: Sequence[str]
    labels: Sequence[str] = ()


Pick = Callable[[Sequence[str]], Wanted]
"""From the names that a file has to those to read."""


def read_table(path: Path, pick: Pick) -> Table:
    """The columns of one file that `pick` picks, a label as a whole number or text.

    Raises:
        DemonstrationError: the file is damaged or empty, or a column is no numbers; what `pick` raises passes through.
    """
    return READERS[path.suffix.lower()](path, pick)


def table_parts(path: Path, episodes: str | None) -> Iterator[tuple[str, Callable[[Pick], Table]]]:
    """What of a file is a table: itself, or with a pattern each group of HDF5 that matches, in the order of numbers.

    Each with its name for errors, and its `read_table`, to be called before the next is asked for.

    Raises:
        DemonstrationError: no group matches, or the file has none.
    """
    if episodes is None:
        yield str(path), functools.partial(read_table, path)
        return
    if READERS[path.suffix.lower()] is not _hdf5:
        raise DemonstrationError(f"{path}: only HDF5 has groups, one an episode; an episode column splits a table")
    with opened_hdf5(path) as file:
        pattern, there = episodes.strip("/").split("/"), _inside(file, datasets=False)
        groups = [name for name in there if _matches(name.split("/"), pattern)]
        if not groups:
            told = f"{', '.join(there[:20])}{', ...' * (len(there) > 20)}" if there else "none"
            raise DemonstrationError(f"{path}: no group matches {printable(episodes)}. There are {printable(told)}")
        for name in groups:
            yield f"{path}: {printable(name)}", functools.partial(_read_group, file[name], path)


def _matches(parts: Sequence[str], patterns: Sequence[str]) -> bool:
    return len(parts) == len(patterns) and all(map(fnmatch.fnmatchcase, parts, patterns))


def table_files(path: Path) -> list[Path]:
    """The tables at a path: a file, or a folder's files in the order of the numbers in their names; maybe none."""
    files = plain_files(path) if path.is_dir() else [path]
    found = [file for file in files if file.suffix.lower() in READERS and not file.name.startswith(".")]
    kinds = sorted({file.suffix.lower() for file in found})
    if len(kinds) > 1:
        raise DemonstrationError(f"{path}: has files of several kinds, {', '.join(kinds)}; keep one episode a file")
    return sorted(found, key=lambda file: _by_number(str(file)))


def _by_number(name: str) -> list[Any]:
    return [int(x) if x.isdigit() else x for x in re.split(r"(\d+)", name)]


def _csv(path: Path, pick: Pick) -> Table:
    """UTF-8 with a header. Columns are separated by what the header has most of, of comma, semicolon, tab and bar."""
    with foreign(path, "a CSV file in UTF-8"), opened(path) as file:
        text = io.TextIOWrapper(file, "utf-8-sig", newline="")
        header = text.readline().lstrip("#")
        separator = max(",;\t|", key=header.count)
        names = [name.strip() for name in next(csv.reader([header], delimiter=separator), [])]
        _check_names([name for name in names if name], path)  # pandas' index has none
        if all(_is_number(name) for name in names):
            raise DemonstrationError(f"{path}: the first line must name the columns; it holds numbers")
        wanted = pick([name for name in names if name])
        at = {name: names.index(name) for name in (*wanted.numbers, *wanted.labels)}
        chunks: dict[str, list[Array]] = {name: [] for name in at}
        codes: dict[str, dict[str, int]] = {name: {} for name in wanted.labels}
        rows = csv.reader(text, delimiter=separator)
        n_rows = 0
        while chunk := _rows(rows, len(names), path):
            for name, column in at.items():
                cells = [row[column].strip() for row in chunk]
                if name in codes:
                    if "" in cells:
                        fail(path, printable(name), f"empty in row {n_rows + cells.index('') + 1}")
                    of = codes[name]
                    chunks[name].append(np.array([of.setdefault(cell, len(of)) for cell in cells]))
                else:
                    chunks[name].append(_numbers(cells, separator, path, name, n_rows))
            n_rows += len(chunk)
    if not n_rows:
        raise DemonstrationError(f"{path}: has a header and no rows")
    return {name: np.concatenate(arrays) for name, arrays in chunks.items()}


def _rows(reader: Iterable[list[str]], width: int, path: Path) -> list[list[str]]:
    """The next rows that aren't blank, as wide as the header."""
    found: list[list[str]] = []
    for row in reader:
        if row and len(row) != width:
            line = 1 + reader.line_num  # type: ignore[attr-defined]  # the header was read before
            raise DemonstrationError(f"{path}: line {line} has {len(row)} fields; the header has {width}")
        if row:
            found.append(row)
        if len(found) == ROWS:
            break
    return found


_WORDS = {"true": "1", "false": "0", "": "nan"}


def _numbers(cells: list[str], separator: str, path: Path, name: str, before: int) -> Array:
    """A column's cells as int64 or float64; a comma is a decimal one where columns are separated otherwise."""
    words = [_WORDS.get(cell.lower(), cell) for cell in cells]
    if separator != ",":
        words = [word.replace(",", ".") for word in words]
    for dtype in (np.int64, np.float64):
        try:
            return np.array(words).astype(dtype)
        except (ValueError, OverflowError):
            continue
    row = next(i for i, word in enumerate(words) if not _is_number(word))
    fail(path, printable(name), f"{cells[row][:40]!r} in row {before + row + 1} is no number")


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _npz(path: Path, pick: Pick) -> Table:
    names = sorted(npz_fields(path))
    if not names:
        raise DemonstrationError(f"{path}: not an npz of arrays, or without any")
    wanted = pick(names)
    return read_npz(path, path, (*wanted.numbers, *wanted.labels))


def _npy(path: Path, pick: Pick) -> Table:
    """An array with named fields, or one of rows and columns, whose columns are named 0, 1, ..."""
    with foreign(path, "an npy of numbers"), opened(path) as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
    if array.dtype.names is None and array.ndim != 2:
        raise DemonstrationError(f"{path}: must be an array of rows and columns; got shape {array.shape}")
    table = {name: array[name] for name in array.dtype.names or ()} or {str(i): x for i, x in enumerate(array.T)}
    wanted = pick(list(table))
    return {name: table[name] for name in (*wanted.numbers, *wanted.labels)}


def _parquet(path: Path, pick: Pick) -> Table:
    """Columns of numbers or of equally long lists of them."""
    parquet = needed("pyarrow.parquet")
    with foreign(path, "a Parquet file"), opened(path) as content:
        file = parquet.ParquetFile(content)
        names = file.schema_arrow.names
        _check_names(names, path)
        wanted = pick(names)
        read = file.read(columns=[*wanted.numbers, *wanted.labels])
        table = {name: read[name].combine_chunks() for name in wanted.numbers}
        found = {}
        for name, column in table.items():
            try:
                found[name] = arrow_array(column)
            except ValueError as error:
                fail(path, printable(name), str(error))
        return found | {
            name: read[name].combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
            for name in wanted.labels
        }


def _hdf5(path: Path, pick: Pick) -> Table:
    with opened_hdf5(path) as file:
        return _read_group(file, path, pick)


def _read_group(group: Any, path: Path, pick: Pick) -> Table:
    """The datasets below a group by their paths from there, as `obs/joint_pos`."""
    names = _inside(group, datasets=True)
    if not names:
        raise DemonstrationError(f"{path}: {printable(group.name)} holds no arrays")
    wanted = pick(names)
    for name in (*wanted.numbers, *wanted.labels):
        if group[name].dtype.kind not in ("biufS" if name in wanted.labels else "biuf"):
            fail(path, printable(f"{group.name}/{name}".lstrip("/")), "not an array of numbers")
    with foreign(path, "a readable HDF5 file"):
        return {name: group[name][()] for name in (*wanted.numbers, *wanted.labels)}


def _inside(group: Any, datasets: bool) -> list[str]:
    """The paths from a group to the datasets below it, or to the groups."""
    kind = needed("h5py").Dataset if datasets else needed("h5py").Group
    found: list[str] = []
    group.visititems(lambda name, item: found.append(name) if isinstance(item, kind) else None)
    return sorted(found, key=_by_number)


def _check_names(names: Sequence[str], path: Path) -> None:
    """Refuse a table without columns, or with two of one name."""
    if not names:
        raise DemonstrationError(f"{path}: empty")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise DemonstrationError(f"{path}: several columns are named {printable(', '.join(twice))}; rename them")


READERS: Mapping[str, Callable[[Path, Pick], Table]] = {
    ".csv": _csv,
    ".npz": _npz,
    ".npy": _npy,
    ".parquet": _parquet,
    ".hdf5": _hdf5,
    ".h5": _hdf5,
}
"""What reads a file, by the ending of its name."""
