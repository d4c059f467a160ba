"""Give the loaders files with right checksums and wrong content, and count what becomes of them.

python benchmarks/crafted.py --inputs 10000

Datasets (with episodes, or with weights that record them on first use), checkpoints, run folders of VIME and of
behaviour cloning, agents that a run kept on its way, and logs with their mapping are changed where only their author
can: any value of a manifest, a configuration or a checkpoint's content becomes one of another type, size or nesting;
arrays and tensors get other shapes, dtypes and values that are no numbers, headers tell of more than there is, files
become pipes, folders, links, links to /dev/zero, or JSON that is nested without end. Checksums are made anew. A loader
must give the error that its users catch, or data. One child process loads one input after the other, so that its peak
of memory is that of the worst; each input is made by a process of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import dataclasses
import io
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlgen.files import canonical_json, sha256

if TYPE_CHECKING:
    import pandas as pd

RESULTS = Path(__file__).parent / "results" / "crafted.csv"
SECONDS = 300

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
    {"render_mode": 3}, {"max_episode_steps": -1}, {"xml_file": "/dev/zero"}, {"no_such": 1}, "Hopper-v4",
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


def weights(whole: Path, elsewhere: Path) -> tuple[Change, Load]:
    """How a dataset without episodes is changed, and what records it: into a cache among the inputs."""
    import safetensors.numpy

    from rlgen.data.demonstrations import load_demonstrations, load_expert

    manifest = json.loads((whole / "manifest.json").read_text())
    manifest.pop("sha256_manifest")
    tensors = safetensors.numpy.load((whole / "policy.safetensors").read_bytes())

    def change(path: Path, rng: np.random.Generator) -> None:
        told: Any = manifest
        if rng.random() < 0.3:
            content = changed_safetensors(tensors, {}, rng)
            (path / "policy.safetensors").write_bytes(content)
            told = manifest | {"sha256": {"policy.safetensors": sha256(content)}}
        if rng.random() < 0.3:
            name = ["env_kwargs", "seed", "n_episodes", "env_id", "deterministic", "returns"][rng.integers(6)]
            told = told | {name: WEIRD[rng.integers(len(WEIRD))]}
        elif rng.random() < 0.7:
            told = changed_value(told, rng)
        if isinstance(told, dict):
            with contextlib.suppress(RecursionError):
                told = told | {"sha256_manifest": sha256(canonical_json(told))}
        (path / "manifest.json").write_bytes(json_text(told, rng))
        if rng.random() < 0.05:
            special(path / ["manifest.json", "policy.safetensors"][rng.integers(2)], rng, elsewhere)

    def load(path: Path, rng: np.random.Generator) -> None:
        attempt([lambda: load_demonstrations(path, manifest["env_id"]), lambda: load_expert(path)])

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
    """How a checkpoint is changed, and what loads it; also one of behaviour cloning, and one beside a run's."""
    import safetensors
    import safetensors.torch
    import torch

    import rlgen
    from rlgen.agents.from_reward import initial_policy
    from rlgen.checkpoint import FILE, RUN, _digest, load_checkpoint
    from rlgen.states import read_visits

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
        steps = [
            lambda: load_checkpoint(path, RUN),
            lambda: initial_policy(path, "CartPole-v1"),
            *([lambda: read_visits(path)] if "visited" in content["values"] else []),
            lambda: rlgen.load(path),
            lambda: go_on(path, rng, 0.03),
        ]
        attempt(steps)

    return change, load


COMMANDS_MIB = [0]
"""The largest peak of memory of a command since it was last asked for."""


def apart(step: Callable[[], object]) -> None:
    """Do it in a process of its own, as commands are: they import a compiler, tables and pictures, which stay."""
    from rlgen.errors import CheckpointError, DemonstrationError, UsageError

    reader, writer = os.pipe()
    if (process := os.fork()) == 0:
        told = ""
        try:
            signal.alarm(SECONDS)
            step()
        except (CheckpointError, DemonstrationError, UsageError, OSError):
            told = "refused"
        except BaseException:
            told = traceback.format_exc()[-9999:]
        os.write(writer, told.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        told = file.read().decode()
    _, status, usage = os.wait4(process, 0)
    COMMANDS_MIB[0] = max(COMMANDS_MIB[0], usage.ru_maxrss >> 10)
    if told == "refused":
        raise UsageError(told)
    if told or status:
        raise AssertionError(f"status {status}: {told}")


def go_on(path: Path, rng: np.random.Generator, share: float) -> None:
    """Resume and evaluate a run by the commands, for a share of the inputs: both take long where the run is whole."""
    from rlgen.command import call, command_of_run
    from rlgen.commands import bc, evaluate, vime

    if rng.random() < share:
        command = {"bc": bc, "vime": vime}.get(command_of_run(path)[0], vime)
        apart(lambda: check(call(command, ["--resume", str(path)]), (2, 3, 4, 5)))
    if rng.random() < share:
        apart(lambda: check(call(evaluate, [str(path), "--episodes", "1"]), (2, 3, 4, 5)))


def run_folder(whole: Path, elsewhere: Path) -> tuple[Change, Load]:
    """How a run's folder is changed, and what reads it; one of behaviour cloning too."""
    import rlgen
    from rlgen.checkpoint import FILE
    from rlgen.command import call
    from rlgen.commands import plot
    from rlgen.commands.expert import load as policy_of_run
    from rlgen.run_log import first_metrics, read_config, read_evaluations, read_summary

    def change(path: Path, rng: np.random.Generator) -> None:
        name = ["config.json", "config.json", "summary.json", "metrics.csv", "evaluations.csv"][rng.integers(5)]
        file = path / name
        if rng.random() < 0.08:
            special(path / str(rng.choice([name, "metrics.csv", "config.json", str(FILE)])), rng, elsewhere)
        elif name.endswith(".csv"):
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
            if rng.random() < 0.1:
                apart(lambda: check(call(plot, [str(path), "--table"]), (2, 3, 4)))

        steps = [read_config, read_summary, partial(first_metrics, n_rows=9), read_evaluations, rlgen.load]
        steps.append(partial(policy_of_run, env_id="CartPole-v1"))
        attempt([*(partial(step, path) for step in steps), table, lambda: go_on(path, rng, 0.03)])

    return change, load


def own_log(whole: Path, elsewhere: Path) -> tuple[Change, Load]:
    """How a log and its mapping are changed, and what converts them."""
    from rlgen.command import call
    from rlgen.commands import data
    from rlgen.data.convert import log_spaces, save_dataset
    from rlgen.data.formats import log as logs

    mapping = {"obs": ["x", "v"], "actions": "u", "episode": "trial", "rewards": "r", "done": "end"}
    mapping |= {"observation_space": {"low": -9, "high": [9, 9]}, "action_space": {"type": "Discrete", "n": 2}}

    def change(path: Path, rng: np.random.Generator) -> None:
        import pandas as pd

        table = pd.read_csv(whole / "log.csv")
        ending = ["csv", "npz", "npy", "parquet"][rng.integers(4)]
        columns = {str(name): table[name].to_numpy() for name in table}
        file = path / f"log.{ending}"
        (path / "log.csv").unlink()
        name = list(columns)[rng.integers(len(columns))]
        if rng.random() < 0.7:
            columns[name] = changed_array(columns[name], rng, 1 << 18)
        if rng.random() < 0.1:
            columns[["x_0", "\x1b]0;", "", "x[2]", "=1+1"][rng.integers(5)]] = columns[name]
        if ending == "npz":
            file.write_bytes(packed(columns, rng))
        elif ending == "csv":
            rows = [list(columns), *map(list, zip(*map(np.atleast_1d, columns.values()), strict=False))]
            if rng.random() < 0.6:
                row = rows[rng.integers(len(rows))]
                row[rng.integers(len(row))] = WEIRD[rng.integers(len(WEIRD))]
            separator = ",;\t|\0"[rng.integers(5)]
            file.write_text("\n".join(separator.join(map(str, row)) for row in rows), errors="replace")
        else:
            n = min(len(np.atleast_1d(x)) for x in columns.values())
            same = {name: np.atleast_1d(x)[:n] for name, x in columns.items()}
            if ending == "npy":
                named = np.zeros(n, [(name or "f", x.dtype, x.shape[1:]) for name, x in same.items()])
                for name, x in same.items():
                    named[name or "f"] = x
                np.save(file, named)
            else:
                listed = {name: list(x) if x.ndim > 1 else x for name, x in same.items() if x.dtype.kind != "c"}
                pd.DataFrame(listed).to_parquet(file)
        told = changed_value(mapping, rng) if rng.random() < 0.5 else mapping
        if rng.random() < 0.5 and isinstance(told, dict):
            told = {name: value for name, value in told.items() if not name.endswith("space")}
        (path / "mapping.toml").write_text(toml(told), errors="replace")
        if rng.random() < 0.05:
            special([file, path / "mapping.toml"][rng.integers(2)], rng, elsewhere)

    def load(path: Path, rng: np.random.Generator) -> None:
        file = next(x for x in path.iterdir() if x.name.startswith("log."))
        flags = ["convert", str(file), "--name", "robot", "--mapping", str(path / "mapping.toml")]

        def converted() -> None:
            told = logs.mapping_of(logs.read_mapping(path / "mapping.toml"), "mapping")
            source = dataclasses.replace(logs.read(file, None, told), env_id="robot", path=file)
            save_dataset([source], path / "out", spaces=log_spaces(source, told))

        def by_command() -> None:
            if rng.random() < 0.03:
                apart(lambda: check(call(data, [*flags, "--output", str(path / "again")]), (2, 3, 4)))

        attempt([lambda: apart(converted), by_command])

    return change, load


def toml(value: Any) -> str:
    """A table as TOML; what isn't one comes out as some text."""

    def inline(x: Any) -> str:
        if isinstance(x, dict):
            return "{" + ", ".join(f"{json.dumps(name)} = {inline(y)}" for name, y in x.items()) + "}"
        return "[" + ", ".join(map(inline, x)) + "]" if isinstance(x, list) else json.dumps(x)

    if not isinstance(value, dict):
        return inline(value)
    return "\n".join(f"{json.dumps(name)} = {inline(x)}" for name, x in value.items())


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
    """A small whole one of each kind."""
    import pandas as pd

    import rlgen
    from rlgen.command import call
    from rlgen.commands import bc, vime
    from rlgen.data.demonstrations import record_expert
    from rlgen.nn.policy import Policy

    envs = rlgen.make_vec("CartPole-v1", 1)
    policy = Policy(envs.single_observation_space, envs.single_action_space, (8,))
    facts = {"deterministic": False, "algorithm": "none", "command": "none", "seed": 0}
    record_expert(policy, "CartPole-v1", folder / "dataset", 5, **facts)
    record_expert(policy, "CartPole-v1", folder / "weights", 5, weights_only=True, **facts)
    common = ["--env", "CartPole-v1", "--eval-episodes", "2", "--threads", "1"]
    small = ["--total-timesteps", "256", "--n-envs", "4", "--n-steps", "32", "--eval-every", "128"]
    sys.argv = ["rlgen", "vime"]  # as the run is to tell what began it
    call(vime, [*common, *small, "--run-dir", str(folder / "run")])
    cloning = ["--gradient-steps", "300", "--n-trajectories", "2", "--eval-every", "100", "--net-arch", "8"]
    sys.argv = ["rlgen", "bc"]
    call(bc, [*common, *cloning, "--expert", str(folder / "dataset"), "--run-dir", str(folder / "bc")])
    shutil.copytree(folder / "run", folder / "checkpoint")
    shutil.copytree(folder / "bc", folder / "bc checkpoint")
    shutil.copytree(folder / "run" / "steps" / "128", folder / "step")
    (folder / "log").mkdir()
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(40, 3)), columns=["x", "v", "r"]).assign(u=rng.integers(2, size=40))
    table.assign(trial=np.repeat([0, 1], 20), end=np.tile(np.arange(20) == 19, 2)).to_csv(
        folder / "log" / "log.csv", index=False
    )


KINDS = {
    "dataset": dataset,
    "weights": weights,
    "checkpoint": checkpoint,
    "run": run_folder,
    "bc": run_folder,
    "bc checkpoint": checkpoint,
    "step": checkpoint,
    "log": own_log,
}


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
            if (crafter := os.fork()) == 0:
                quiet(partial(change, place, rng))
            _, status = os.waitpid(crafter, 0)
            assert not status, f"{kind} {number} could not be made"
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
            seconds, commands, COMMANDS_MIB[0] = time.monotonic() - started, COMMANDS_MIB[0], 0
            print(what, f"{seconds:.3f}", peak_mib(), before, commands, file=file, flush=True)


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
        os.environ["XDG_CACHE_HOME"] = str(folder / "inputs" / "cache")
        if (maker := os.fork()) == 0:
            quiet(partial(make_subjects, folder / "whole"))
        os.waitpid(maker, 0)
        before = tree(Path(temporary))
        for number, kind in enumerate(KINDS):
            log = Path(temporary) / f"{kind}.log"
            total = inputs // len(KINDS) + (number < inputs % len(KINDS))
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
                        print("crash 0 0 0 0", file=file)
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
                    "imports_mib": min(int(before) for _, _, _, before, _ in results),
                    "peak_mib": max(int(peak) for _, _, peak, *_ in results),
                    "loading_mib": max(int(peak) - int(before) for _, _, peak, before, _ in results),
                    "commands_mib": max(int(commands) for *_, commands in results),
                    "longest_seconds": max(float(seconds) for _, seconds, *_ in results),
                }
            )
            print(rows[-1], flush=True)
    import pandas as pd  # here, as it would count among the memory of a loading process

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
    from cells import hardware, versions

    print(table.to_string(index=False))
    table.assign(seed=options.seed, hardware=hardware(), versions=versions()).to_csv(options.output, index=False)


if __name__ == "__main__":
    main()
