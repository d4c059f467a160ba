"""Run experiment cells on several processes or machines, one CSV row each, and resume where a stopped run left off.

A cell is a dict of JSON values that determines its result (environment, algorithm, seed, settings). Its key is
the SHA-256 of that dict, so a changed setting reruns only its own cells.
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import io
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlgen import files
from rlgen.files import hardware, sha256, write_bytes
from rlgen.settings import without_added

if TYPE_CHECKING:
    from rlgen.imitation import Imitation

# Settings that came after rows were published, at what leaves everything as it was.
Cell = dict[str, Any]
Row = dict[str, Any]


def cell_key(cell: Cell) -> str:
    """The first 16 hex digits of the SHA-256 of the cell's canonical JSON."""
    return sha256(json.dumps(cell, sort_keys=True).encode())[:16]


def settings_text(settings: Imitation) -> str:
    """Settings of an imitator as a cell has them: a setting that came later leaves the keys of older rows alone."""
    told = without_added(settings)
    if not settings.code:
        del told["code"]
    return str(told)


def versions() -> str:
    """Versions of the packages that results depend on, in one field."""
    return " ".join(f"{package}={version}" for package, version in files.versions().items())


def provenance() -> dict[str, str]:
    """What made a row: hardware, GPU, versions, git revision ("unknown" without one) and command."""
    import torch

    from rlgen import run_log

    facts = run_log.provenance()
    return {
        "hardware": hardware(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "versions": versions(),
        "revision": (facts["git_revision"] or "unknown") + " with changes" * facts["git_changed"],
        "measured_by": " ".join(sys.argv),
    }


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


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other commands from rewriting files in this folder meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def run_cells(
    cells: Sequence[Cell], run: Callable[[Cell], Row], path: Path, jobs: int, ray_address: str | None = None
) -> list[dict[str, str]]:
    """Run the cells that `path` has no row for; give the rows of all of them.

    A cell that fails is told and leaves the others alone; a stopped run loses only the cells under way. The rows of
    these cells stand in their order, after whatever else the file holds.

    Args:
        cells: what to run; each dict is the complete configuration of one result.
        run: a top-level function from a cell to its measured values.
        path: the CSV, rewritten whole after each cell.
        jobs: processes at a time, one BLAS thread each.
        ray_address: hand the cells to this Ray cluster rather than to processes here; `local` starts one with `jobs`
            workers. A cell takes one processor, or as many as its `threads` says.

    Raises:
        RuntimeError: cells failed.
    """
    order = {cell_key(cell): i for i, cell in enumerate(cells)}
    done = {row["key"] for row in read_rows(path)}
    todo = [cell for cell in cells if cell_key(cell) not in done]
    print(f"{len(cells) - len(todo)} of {len(cells)} cells are in {path}; running {len(todo)}", flush=True)
    started = time.monotonic()
    failed = 0
    for finished, (cell, outcome) in enumerate(outcomes(todo, run, jobs, ray_address), 1):
        left = (time.monotonic() - started) / finished * (len(todo) - finished)
        progress = f"[{finished}/{len(todo)}, {left / 60:.0f} min left]"
        if isinstance(outcome, Exception):
            failed += 1
            print(f"{progress} FAILED {json.dumps(cell)}: {type(outcome).__name__}: {outcome}", flush=True)
            continue
        row = {"key": cell_key(cell)} | cell | outcome
        with _locked(path):  # another command may write there too
            rows: list[Mapping[str, Any]] = [other for other in read_rows(path) if other["key"] != row["key"]]
            write_rows(path, sorted([*rows, row], key=lambda row: order.get(row["key"], -1)))
        print(f"{progress} {json.dumps(row)}", flush=True)
    if failed:
        raise RuntimeError(f"{failed} cells failed; the same command tries them again")
    return [row for row in read_rows(path) if row["key"] in order]


Outcomes = Iterator[tuple[Cell, Row | Exception]]


def outcomes(cells: Sequence[Cell], run: Callable[[Cell], Row], jobs: int, ray_address: str | None) -> Outcomes:
    """Each cell with its row or its error, as they finish; the arguments are those of `run_cells`."""
    return _on_processes(cells, run, jobs) if ray_address is None else _on_ray(cells, run, jobs, ray_address)


def _on_processes(cells: Sequence[Cell], run: Callable[[Cell], Row], jobs: int) -> Outcomes:
    # Before the workers start: a benchmark imports NumPy, whose BLAS reads them, before any code in a worker could.
    os.environ.update(ONE_THREAD)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, max_tasks_per_child=1) as pool:
        futures = {pool.submit(_measured, run, cell): cell for cell in cells}
        try:
            for future in as_completed(futures):
                error = future.exception()
                yield futures[future], error if isinstance(error, Exception) else future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _on_ray(cells: Sequence[Cell], run: Callable[[Cell], Row], jobs: int, address: str) -> Outcomes:
    import ray

    # Workers must find this folder's modules, and the benchmark itself, under the names that they have here.
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {"env_vars": ONE_THREAD | {"PYTHONPATH": paths}}
    here = (
        {"num_cpus": jobs * max([cell.get("threads", 1) for cell in cells], default=1)}
        if address == "local"
        else {"address": address}
    )
    ray.init(**here, runtime_env=environment, log_to_driver=False, include_dashboard=False, logging_level="warning")
    try:
        task = ray.remote(max_retries=0)(_measured)
        pending = {task.options(num_cpus=cell.get("threads", 1)).remote(run, cell): cell for cell in cells}
        while pending:
            (done,), _ = ray.wait(list(pending))
            cell = pending.pop(done)
            try:
                yield cell, ray.get(done)
            except ray.exceptions.RayTaskError as error:
                yield cell, error.cause
            except ray.exceptions.RayError as error:  # the worker died
                yield cell, error
    finally:
        ray.shutdown()


def _measured(run: Callable[[Cell], Row], cell: Cell) -> Row:
    """What a cell gave, and where: hardware and versions are the worker's, unless the run tells its own."""
    return {"hardware": hardware(), "versions": versions()} | run(cell)
