"""Run experiment cells on several processes, one CSV row each, and resume where a stopped run left off.

A cell is a dict of JSON values that determines its result (environment, algorithm, seed, settings). Its key is
the SHA-256 of that dict, so a changed setting reruns only its own cells.
"""

import csv
import io
import json
import multiprocessing
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from rlgen import files
from rlgen.files import sha256, write_bytes

Cell = dict[str, Any]
Row = dict[str, Any]


def cell_key(cell: Cell) -> str:
    """The first 16 hex digits of the SHA-256 of the cell's canonical JSON."""
    return sha256(json.dumps(cell, sort_keys=True).encode())[:16]


def hardware() -> str:
    """The processor's name and core count, as printed beside every result."""
    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as lines:
            name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), name)
    return f"{name} x{os.cpu_count()}"


def versions() -> str:
    """Versions of the packages that results depend on, in one field."""
    return " ".join(f"{package}={version}" for package, version in files.versions().items())


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a results CSV, every value a string; none if there is no file yet."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace the CSV by these rows: whole or not at all."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode())


def _one_thread_each() -> None:
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")


def run_cells(cells: Sequence[Cell], run: Callable[[Cell], Row], path: Path, jobs: int) -> list[dict[str, str]]:
    """Run the cells that `path` has no row for, `jobs` at a time; give the rows of all of them.

    A cell that fails is told and leaves the others alone; a stopped run loses only the cells under way.

    Args:
        cells: what to run; each dict is the complete configuration of one result.
        run: a top-level function from a cell to its measured values.
        path: the CSV, rewritten whole after each cell.
        jobs: processes, one BLAS thread each.

    Raises:
        RuntimeError: cells failed.
    """
    rows: list[Mapping[str, Any]] = list(read_rows(path))
    keys = {cell_key(cell) for cell in cells}
    done = {row["key"] for row in rows}
    todo = [cell for cell in cells if cell_key(cell) not in done]
    print(f"{len(cells) - len(todo)} of {len(cells)} cells are in {path}; running {len(todo)}", flush=True)
    started = time.monotonic()
    failed = 0
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, initializer=_one_thread_each, max_tasks_per_child=1) as pool:
        futures = {pool.submit(run, cell): cell for cell in todo}
        try:
            for finished, future in enumerate(as_completed(futures), 1):
                cell = futures[future]
                left = (time.monotonic() - started) / finished * (len(todo) - finished)
                progress = f"[{finished}/{len(todo)}, {left / 60:.0f} min left]"
                try:
                    values = future.result()
                except Exception as error:
                    failed += 1
                    print(f"{progress} FAILED {json.dumps(cell)}: {type(error).__name__}: {error}", flush=True)
                    continue
                row = {"key": cell_key(cell)} | cell | values | {"hardware": hardware(), "versions": versions()}
                rows.append(row)
                write_rows(path, rows)
                print(f"{progress} {json.dumps(row)}", flush=True)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if failed:
        raise RuntimeError(f"{failed} cells failed; the same command tries them again")
    return [row for row in read_rows(path) if row["key"] in keys]
