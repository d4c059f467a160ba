"""Give the loaders files with right checksums and wrong content, and count what becomes of them.

python benchmarks/crafted.py --inputs 10000

Datasets, checkpoints and run folders are changed where only their author can: any value of a manifest, a configuration
or a checkpoint's content becomes one of another type, size or nesting; arrays and tensors get other shapes, dtypes and
values that are no numbers, headers tell of more than there is, files become pipes, folders, links, links to /dev/zero,
or JSON that is nested without end. Checksums are made anew. A loader must give the error that its users catch, or data.
One child process loads one input after the other, so that its peak of memory is that of the worst.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import os
import shutil
import signal
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from cells import hardware, versions

from rlgen.files import canonical_json, sha256

RESULTS = Path(__file__).parent / "results" / "crafted.csv"
SECONDS = 60

Change = Callable[[Path, np.random.Generator], None]
Load = Callable[[Path, np.random.Generator], object]


def deep(levels: int) -> Any:
    """A list in a list in a list."""
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


WEIRD: list[Any] = [
    None, True, False, 0, 1, -1, 3, 2**31, 2**62, 2**63, 10**30, 10**400, 0.5, -0.0, 1e308, "", "text", "3", "<tensor>",
    "<array>", "\x1b]0;title\x07", "=1+1", "../../outside", "/tmp/outside", "os:mkdir", "os:Outside-v0", "\ud800",
    [], [[]], [None], [1, 2], [0.5] * 3000, ["a"], {}, {"a": 1}, {"type": "Box"}, {"type": "Discrete", "n": 2**62},
    {"type": "Discrete", "n": 2**24}, {"type": "Box", "shape": [2**40], "low": None, "high": None},
    {"type": "Box", "shape": [1 << 23], "low": None, "high": None, "dtype": "float64"},
    {"type": "Dict", "spaces": [["a", {"type": "MultiBinary", "shape": [3]}]]}, {"type": "Tuple", "spaces": []},
    "a" * 5000, deep(20), deep(200),
]  # fmt: skip


def changed_value(value: Any, rng: np.random.Generator) -> Any:
    """The JSON value with something at a random place in it changed, added, doubled or left out."""
    value = copy.deepcopy(value)
    at, steps = value, 0
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        if not keys:
            return WEIRD[rng.integers(len(WEIRD))] if not steps else value
        key = keys[rng.integers(len(keys))]
        inner = at[key]
        if not isinstance(inner, dict | list) or not inner or rng.random() < 0.4:
            break
        at, steps = inner, steps + 1
    match rng.integers(6):
        case 0:
            del at[key]
        case 1 if isinstance(at, list):
            at.extend([inner] * int(rng.integers(1, 100)))
        case 2 if isinstance(inner, int | float):
            at[key] = [-inner, inner + 1, float(inner), inner * 10**9, str(inner), bool(inner)][rng.integers(6)]
        case _:
            at[key] = WEIRD[rng.integers(len(WEIRD))]
    return value


def json_text(value: Any, rng: np.random.Generator) -> bytes:
    """JSON of it; now and then nested without end, with NaN, or with a name twice."""
    text = json.dumps(value)
    match rng.integers(40):
        case 0:
            text = "[" * 100_000
        case 1:
            text = '{"a":' * 5_000 + "1" + "}" * 5_000
        case 2:
            text = text.replace("1", "NaN", 1)
        case 3:
            text = text.replace("{", '{"format": 1, ', 1)
        case 4:
            text = "[" + "0," * 1_900_000 + "0]"
        case 5:
            text += "\0"
    return text.encode()


def changed_array(array: Any, rng: np.random.Generator, rows: int = 1 << 18) -> Any:
    """An array of another shape, dtype or content; one of `rows` zeros now and then."""
    flat = array.reshape(-1).copy()
    match rng.integers(12):
        case 0:
            return array[:-1] if array.ndim else array[None]
        case 1:
            return array[None]
        case 2:
            return array.astype([np.float64, np.float16, np.int32, np.uint8, np.bool_, np.complex64][rng.integers(6)])
        case 3:
            return np.zeros((0, *array.shape[1:]), array.dtype)
        case 4:
            return np.concatenate([array, array]) if array.ndim else array
        case 5:
            return np.array(["text"] * max(len(flat), 1))
        case 6 if array.dtype == np.bool_:
            return np.full(array.shape, 7, np.uint8).view(np.bool_)
        case 7 if array.dtype.kind == "i":
            return np.full(array.shape, [2**62, -1, 10**10, 3 * 10**8, np.iinfo(np.int64).min][rng.integers(5)])
        case 8 if array.dtype.kind == "i":
            return np.array([[2**62] * 4 + [12500], [300_000_000], [10**10], [-1, 12501]][rng.integers(4)])
        case 9:
            return np.zeros((rows, *array.shape[1:]), array.dtype)
    if array.dtype.kind == "f" and len(flat):
        flat[rng.integers(len(flat))] = [np.nan, np.inf, -np.inf, 1e38][rng.integers(4)]
    elif len(flat):
        flat = flat[rng.permutation(len(flat))] if rng.random() < 0.5 else ~flat
    return flat.reshape(array.shape)


def packed(arrays: dict[str, Any], rng: np.random.Generator) -> bytes:
    """An npz; now and then with a header that tells of more than there is."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    if rng.random() < 0.1:
        import zipfile

        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as members:
            liar = list(arrays)[rng.integers(len(arrays))]
            for name, array in arrays.items():
                member = io.BytesIO()
                np.save(member, array)
                data = member.getvalue()
                if name == liar:
                    shape = [(2**62,), (2**31, 2**31), (-1,), (10**9, 4), (2**62, 4)][rng.integers(5)]
                    header = io.BytesIO()
                    told = {"descr": array.dtype.str, "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(header, told)
                    data = header.getvalue() + data[128:]
                members.writestr(f"{name}.npy", data)
    return content.getvalue()


def special(path: Path, rng: np.random.Generator, elsewhere: Path) -> None:
    """Put something that is no file of its own in a file's place."""
    path.unlink()
    match rng.integers(6):
        case 0:
            os.mkfifo(path)
        case 1:
            path.symlink_to("/dev/zero")
        case 2:
            path.symlink_to(elsewhere)
        case 3:
            path.mkdir()
        case 4:
            path.symlink_to(path)
        case _:
            with path.open("wb") as file:
                file.truncate(int(rng.choice([0, 1 << 20, 1 << 29])))


def dataset(whole: Path, elsewhere: Path) -> tuple[Change, Load]:
    """How a dataset is changed, and what loads it."""
    import safetensors.numpy

    from rlgen.data.convert import load_source
    from rlgen.data.demonstrations import load_demonstrations, load_episodes, load_expert

    manifest = json.loads((whole / "manifest.json").read_text())
    manifest.pop("sha256_manifest")
    arrays = dict(np.load(whole / "episodes.npz"))
    weights = safetensors.numpy.load((whole / "policy.safetensors").read_bytes())

    def change(path: Path, rng: np.random.Generator) -> None:
        told: Any = manifest
        which = rng.random()
        if which < 0.35:
            name = list(arrays)[rng.integers(len(arrays))]
            content = packed(arrays | {name: changed_array(arrays[name], rng, 1 << 23)}, rng)  # to a thousandth
            (path / "episodes.npz").write_bytes(content)
            told = manifest | {"sha256": manifest["sha256"] | {"episodes.npz": sha256(content)}}
        elif which < 0.5:
            content = changed_safetensors(weights, {}, rng)
            (path / "policy.safetensors").write_bytes(content)
            told = manifest | {"sha256": manifest["sha256"] | {"policy.safetensors": sha256(content)}}
        if which > 0.45:
            told = changed_value(told, rng)
        if isinstance(told, dict):
            with contextlib.suppress(RecursionError):
                told = told | {"sha256_manifest": sha256(canonical_json(told))}
        (path / "manifest.json").write_bytes(json_text(told, rng))
        if rng.random() < 0.08:
            special(path / ["manifest.json", "episodes.npz", "policy.safetensors"][rng.integers(3)], rng, elsewhere)

    def load(path: Path, rng: np.random.Generator) -> None:
        env_id = manifest["env_id"]
        steps = [
            lambda: load_demonstrations(path, env_id, subsample=int(rng.choice([1, 20])), include_failed=True),
            lambda: load_episodes(path),
            lambda: load_expert(path, env_id),
            lambda: load_source(path),
        ]
        attempt(steps)

    return change, load


def changed_safetensors(tensors: dict[str, Any], metadata: dict[str, str], rng: np.random.Generator) -> bytes:
    """A safetensors file with other tensors, or with a header that tells of others."""
    import safetensors.numpy

    tensors = dict(tensors)
    name = list(tensors)[rng.integers(len(tensors))]
    if rng.random() < 0.2:
        del tensors[name]
    else:
        array = changed_array(tensors[name], rng)
        tensors[name if rng.random() < 0.8 else "\x1b[2J"] = (
            array if array.dtype.kind in "biuf" else np.atleast_1d(array).view(np.uint8)
        )
    if rng.random() < 0.1:
        tensors[name] = np.zeros(1 << 20, np.float32)
    content = safetensors.numpy.save({k: np.ascontiguousarray(v) for k, v in tensors.items()}, metadata)
    if rng.random() < 0.3:
        n = int.from_bytes(content[:8], "little")
        header = json_text(changed_value(json.loads(content[8 : 8 + n]), rng), rng)
        told = len(header) if rng.random() < 0.9 else int(rng.choice([0, 1 << 20, 1 << 40]))
        content = told.to_bytes(8, "little") + header + content[8 + n :]
    return content


def checkpoint(whole: Path, elsewhere: Path) -> tuple[Change, Load]:
    """How a checkpoint is changed, and what loads it."""
    import safetensors
    import safetensors.torch
    import torch

    from rlgen.checkpoint import FILE, RUN, _digest, load_checkpoint, load_policy

    with safetensors.safe_open(whole / FILE, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
        content = json.loads(file.metadata()["content"])

    def change(path: Path, rng: np.random.Generator) -> None:
        told, held = content, dict(tensors)
        which = rng.random()
        if which < 0.6:
            told = changed_value(content, rng)
        if which > 0.5:
            name = list(held)[rng.integers(len(held))]
            array = changed_array(held[name].numpy(), rng)
            with contextlib.suppress(TypeError):
                held[name] = torch.from_numpy(np.ascontiguousarray(array))
        if which > 0.95:
            raw = changed_safetensors({n: t.numpy() for n, t in tensors.items()}, {"content": json.dumps(told)}, rng)
            (path / FILE).write_bytes(raw)
        else:
            digest = "0" * 64
            with contextlib.suppress(RecursionError, ValueError):
                digest = _digest(held, told)
            metadata = {"content": json_text(told, rng).decode(), "sha256": digest}
            (path / FILE).write_bytes(safetensors.torch.save({n: t.contiguous() for n, t in held.items()}, metadata))
        if rng.random() < 0.05:
            special(path / FILE, rng, elsewhere)

    def load(path: Path, rng: np.random.Generator) -> None:
        attempt([lambda: load_checkpoint(path, RUN), lambda: load_policy(path), lambda: resume(path, rng, 0.1)])

    return change, load


def resume(path: Path, rng: np.random.Generator, share: float) -> None:
    """Go on with a run by the command, for a share of the inputs, since it takes long where the run is whole."""
    if rng.random() < share:
        from rlgen.command import call
        from rlgen.commands import vime

        check(call(vime, ["--resume", str(path)]), (2, 3, 4, 5))


def run_folder(whole: Path, elsewhere: Path) -> tuple[Change, Load]:
    """How a run's folder is changed, and what reads it."""
    from rlgen.checkpoint import FILE
    from rlgen.command import call
    from rlgen.commands import plot
    from rlgen.run_log import read_config, read_metrics, read_summary

    def change(path: Path, rng: np.random.Generator) -> None:
        name = ["config.json", "config.json", "summary.json", "metrics.csv"][rng.integers(4)]
        file = path / name
        if rng.random() < 0.08:
            special(path / str(rng.choice([name, "metrics.csv", "config.json", str(FILE)])), rng, elsewhere)
        elif name == "metrics.csv":
            rows = [line.split(",") for line in file.read_text().splitlines()]
            row = rows[rng.integers(len(rows))]
            row[rng.integers(len(row))] = str(WEIRD[rng.integers(len(WEIRD))])
            if rng.random() < 0.3:
                row.append("1")
            file.write_text("\n".join(map(",".join, rows)) + "\n", errors="replace")
        else:
            file.write_bytes(json_text(changed_value(json.loads(file.read_text()), rng), rng))

    def load(path: Path, rng: np.random.Generator) -> None:
        def table() -> None:
            check(call(plot, [str(path), "--table"]), (2, 3, 4))

        steps = [lambda: read_config(path), lambda: read_summary(path), lambda: read_metrics(path), table]
        attempt([*steps, lambda: resume(path, rng, 0.2)])

    return change, load


def check(code: int, refusals: tuple[int, ...]) -> None:
    """A command's exit code as `attempt` counts it."""
    from rlgen.errors import UsageError

    if code in refusals:
        raise UsageError(f"exit code {code}")
    if code:
        raise AssertionError(f"code {code}")


def attempt(steps: list[Callable[[], object]]) -> None:
    """Do each; the errors that users catch are what should come."""
    from rlgen.errors import CheckpointError, DemonstrationError, UsageError

    refused = 0
    for step in steps:
        try:
            step()
        except (CheckpointError, DemonstrationError, UsageError, OSError):
            refused += 1
    if refused:
        raise UsageError(f"{refused} of {len(steps)} refused it")


def make_subjects(folder: Path) -> None:
    """A small whole dataset, and a small whole run, which is a checkpoint too."""
    import rlgen
    from rlgen.command import call
    from rlgen.commands import vime
    from rlgen.data.demonstrations import save_demonstrations
    from rlgen.data.episodes import run_episodes
    from rlgen.nn.policy import Actor, Policy

    envs = rlgen.make_vec("CartPole-v1", 5, seed=0)
    policy = Policy(envs.single_observation_space, envs.single_action_space, (8,))
    save_demonstrations(
        folder / "dataset",
        env_id="CartPole-v1",
        observation_space=envs.single_observation_space,
        action_space=envs.single_action_space,
        episodes=run_episodes(Actor(policy, np.random.default_rng(0)), envs, seed=0),
        deterministic=False,
        algorithm="none",
        command="none",
        seed=0,
        policy=policy,
    )
    flags = [
        "--env",
        "CartPole-v1",
        "--total-timesteps",
        "256",
        "--n-envs",
        "4",
        "--n-steps",
        "32",
        "--eval-episodes",
        "2",
    ]
    call(vime, [*flags, "--threads", "1", "--run-dir", str(folder / "run")])
    shutil.copytree(folder / "run", folder / "checkpoint")


KINDS = {"dataset": dataset, "checkpoint": checkpoint, "run": run_folder}


def child(kind: str, folder: Path, numbers: range, seed: int, log: Path) -> None:
    """Load one input after the other; a line a result goes to `log`, so that a crash is seen by the parent."""
    from rlgen.errors import UsageError

    change, load = KINDS[kind](folder / "whole" / kind, folder / "whole" / "elsewhere")
    place = folder / "inputs" / "input"
    with log.open("a") as file:
        for number in numbers:
            rng = np.random.default_rng([seed, number, sorted(KINDS).index(kind)])
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(folder / "whole" / kind, place)
            print(number, end=" ", file=file, flush=True)
            change(place, rng)
            Path("/proc/self/clear_refs").write_text("5")  # the peak of memory is from here on
            before = peak_mib()
            started = time.monotonic()
            signal.alarm(SECONDS)
            what = "data"
            try:
                load(place, rng)
            except UsageError:
                what = "refused"
            except BaseException:
                what = "traceback"
                trace = traceback.format_exc()
                with Path(f"{log}.tracebacks").open("a") as traces:
                    traces.write(f"--- {kind} {number}\n{trace}\n")
            signal.alarm(0)
            print(what, f"{time.monotonic() - started:.3f}", peak_mib(), before, file=file, flush=True)


def peak_mib() -> int:
    """This process's peak of memory since it was last reset."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) >> 10


def tree(folder: Path) -> dict[str, Any]:
    """All that lies in a folder but for the inputs, with its time of change."""
    return {str(p): p.lstat().st_mtime_ns for p in folder.rglob("*") if "inputs" not in p.relative_to(folder).parts}


def craft(inputs: int, seed: int) -> pd.DataFrame:
    """One row a kind of input: what became of how many, files written elsewhere, peak of memory, longest time."""
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "all"
        (folder / "whole").mkdir(parents=True)
        (folder / "inputs").mkdir()
        (folder / "whole" / "elsewhere").write_text("{}")
        os.environ["HOME"] = str(folder)
        if (maker := os.fork()) == 0:
            quiet(partial(make_subjects, folder / "whole"))
        os.waitpid(maker, 0)
        before = tree(Path(temporary))
        for number, kind in enumerate(KINDS):
            log, total = Path(temporary) / f"{kind}.log", inputs // 3 + (number < inputs % 3)
            log.touch()
            crashes = 0
            while (done := len(lines := log.read_text().splitlines())) < total:
                if (process := os.fork()) == 0:
                    os.chdir(folder)
                    quiet(partial(child, kind, folder, range(done, total), seed, log))
                _, status = os.waitpid(process, 0)
                if os.WIFSIGNALED(status) or os.WEXITSTATUS(status):
                    crashes += 1
                    with log.open("a") as file:
                        print("crash 0 0 0", file=file)
                    print(f"{kind} {len(log.read_text().splitlines()) - 1}: status {status}", flush=True)
            results = [line.split()[1:] for line in lines]
            told = Path(f"{log}.tracebacks")
            if told.exists():
                print(told.read_text(), flush=True)
                told.unlink()
            outcome = [what for what, *_ in results]
            log.unlink()
            after = tree(Path(temporary))
            if changed := {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}:
                print("written:", *sorted(changed), flush=True)
            largest = max(range(len(results)), key=lambda i: int(results[i][2]))
            slowest = max(range(len(results)), key=lambda i: float(results[i][1]))
            print(f"{kind}: most memory with input {largest}, most time with {slowest}", flush=True)
            rows.append(
                {
                    "kind": kind,
                    "inputs": len(results),
                    "refused": outcome.count("refused"),
                    "data": outcome.count("data"),
                    "tracebacks": outcome.count("traceback"),
                    "crashes": crashes,
                    "written_elsewhere": len(changed),
                    "peak_mib": max(int(peak) for _, _, peak, _ in results),
                    "loading_mib": max(int(peak) - int(before) for _, _, peak, before in results),
                    "longest_seconds": max(float(seconds) for _, seconds, *_ in results),
                }
            )
            print(rows[-1], flush=True)
    return pd.DataFrame(rows)


def quiet(work: Callable[[], None]) -> None:
    """Do it in this forked process without output, and end the process."""
    code = 1
    try:
        told = os.fdopen(os.dup(2), "w")
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        warnings.simplefilter("ignore")
        work()
        code = 0
    except Exception:
        traceback.print_exc(file=told)
        told.flush()
    finally:
        os._exit(code)


def main() -> None:
    """Craft, print the table and keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=10_000, help="over all kinds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    table = craft(options.inputs, options.seed)
    print(table.to_string(index=False))
    table.assign(seed=options.seed, hardware=hardware(), versions=versions()).to_csv(options.output, index=False)


if __name__ == "__main__":
    main()
