"""Several runs that differ in their seed alone, each in a process of its own."""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from rlgen.checkpoint import FILE
from rlgen.errors import CheckpointError, UsageError
from rlgen.files import short
from rlgen.ranges import available_processors
from rlgen.report import table
from rlgen.report.runs import Run
from rlgen.run_log import read_config, read_summary

MAX_SEEDS = 1000


def read_seeds(text: str) -> list[int]:
    """The seeds in `0:5`, which are 0 to 4, or in `0,3,7`.

    Raises:
        UsageError: the text is neither, or names a seed twice.
    """
    if found := re.fullmatch(r"(\d{1,9}):(\d{1,9})", text):
        first, end = map(int, found.groups())
        seeds = list(range(first, min(end, first + MAX_SEEDS + 1)))
    elif re.fullmatch(r"\d{1,18}(,\d{1,18})*", text):
        seeds = [int(seed) for seed in text.split(",")]
    else:
        seeds = []
    if not 0 < len(set(seeds)) == len(seeds) <= MAX_SEEDS:
        raise UsageError(f"--seeds must be such as 0:5 or 0,3,7, at most {MAX_SEEDS} and each once; got {text}")
    return seeds


def run_seeds(
    command: str, words: Sequence[str], seeds: Sequence[int], base: Path, threads: int | None, settings: str = ""
) -> int:
    """Run a command once a seed, as many at a time as there are processors, then tell what came out.

    The run of a seed goes to `seed_<seed>` in `base`, and what it prints to `seed_<seed>.log`. One that is done isn't
    repeated, and one that was stopped goes on from its checkpoint. A failed one leaves the others alone. A signal ends
    the runs under way as it would end each alone.

    Args:
        command: its name.
        words: its flags, without seed, threads and folder.
        seeds: one a run.
        base: the folder of the runs.
        threads: CPU threads of each run (default: 1).
        settings: the text of its settings file.

    Returns:
        0, the exit code of a run that failed, or 128 and the signal.

    Raises:
        UsageError: a folder holds a run by other flags or settings.
    """
    lines = {seed: _line(command, words, seed, base, threads or 1) for seed in seeds}
    for seed, line in lines.items():
        _check_same(base / f"seed_{seed}", line, settings)
    base.mkdir(parents=True, exist_ok=True)
    waiting = [seed for seed in seeds if _summary(base, seed).get("status") != "done"]
    print(f"{base}: {len(waiting)} of {len(seeds)} runs to do", flush=True)
    running: dict[int, subprocess.Popen[bytes]] = {}
    code = 0

    def end(number: int, frame: object) -> None:
        nonlocal code
        code = 128 + number
        waiting.clear()
        print("interrupted: the runs under way end after their iteration, then evaluate", flush=True)
        for process in running.values():
            # A terminal's Ctrl-C reaches them by itself.
            if number != signal.SIGINT and process.poll() is None:
                process.send_signal(number)

    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.signal(getattr(signal, name), end) for name in names}
    try:
        while waiting or running:
            while waiting and len(running) < max(1, available_processors() // (threads or 1)):
                seed = waiting.pop(0)
                running[seed] = _start(lines[seed], base / f"seed_{seed}")
            time.sleep(0.2)
            for seed, process in list(running.items()):
                if process.poll() is not None:
                    del running[seed]
                    code = code or process.returncode
                    print(f"seed {seed}: {_told(base, seed, process.returncode)}", flush=True)
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler or signal.SIG_DFL)
        for process in running.values():
            process.terminate()
    _print_table(base, seeds)
    return code


def _line(command: str, words: Sequence[str], seed: int, base: Path, threads: int) -> list[str]:
    folder = str(base / f"seed_{seed}")
    return [command, *words, "--seed", str(seed), "--threads", str(threads), "--run-dir", folder]


def _check_same(folder: Path, line: Sequence[str], settings: str) -> None:
    """Refuse to take a run by other flags, or by another content of its settings file, for this one."""
    if not (folder / "config.json").exists():
        return
    config = read_config(folder)
    kept = shlex.split(str(config.get("command")))
    if kept[1:] != list(line):
        raise UsageError(f"{folder} holds a run by other flags ({shlex.join(kept)}); choose another --run-dir")
    try:
        before = (config["arguments"]["run"]["settings"] or {"text": ""})["text"]
    except (LookupError, TypeError):
        before = None
    if before != settings:
        raise UsageError(f"{folder} holds a run by other settings; choose another --run-dir")


def _start(line: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    if (folder / FILE).exists():
        line = [line[0], "--resume", str(folder), *_told_again(line)]
    elif (folder / "config.json").exists():  # killed before its first checkpoint
        shutil.rmtree(folder)
    # -P: a file of the current folder is no module of Python's
    program = [sys.executable, "-P", "-m", "rlgen"]
    with folder.with_name(f"{folder.name}.log").open("ab") as log:
        return subprocess.Popen([*program, *line], stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def _told_again(line: Sequence[str]) -> list[str]:
    """What a resumed run has to be told again: a module to import, and to be tracked."""
    again = ["--track"] if "--track" in line else []
    for word, following in pairwise([*line, ""]):
        name, given, value = word.partition("=")
        if name == "--env" and ":" in (value if given else following):
            again += ["--env", value if given else following]
    return again


def _summary(base: Path, seed: int) -> dict[str, object]:
    try:
        return read_summary(base / f"seed_{seed}")
    except CheckpointError:
        return {}


def _told(base: Path, seed: int, code: int) -> str:
    summary = _summary(base, seed)
    mean, score = summary.get("return_mean"), summary.get("normalised_score")
    if not code and summary.get("status") == "done" and mean is None:
        return "done"
    if code or not isinstance(mean, float):
        return f"exit code {code}; see {base / f'seed_{seed}.log'}"
    return f"return {short(mean)}{f', score {score:.3f}' if isinstance(score, float) else ''}"


def _print_table(base: Path, seeds: Sequence[int]) -> None:
    """A row a seed, and one for all that have a run."""
    runs = {}
    for seed in seeds:
        with contextlib.suppress(CheckpointError):  # what is wrong stands in its log
            runs[f"seed {seed}"] = Run.read(base / f"seed_{seed}")
    if not runs:
        return
    scored = any(run.summary.get("normalised_score") is not None for run in runs.values())
    groups = {name: [run] for name, run in runs.items()} | {"all": list(runs.values())}
    task = next(iter(runs.values())).task
    rows = [table.row(task, name, group, normalise=scored) for name, group in groups.items()]
    print(table.text(rows, shutil.get_terminal_size().columns), end="")
