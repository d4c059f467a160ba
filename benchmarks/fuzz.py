"""Give the loaders damaged files, each in a process of its own, and count what becomes of them.

python benchmarks/fuzz.py --inputs 10000

Files of each format that we write are cut, overwritten, bit-flipped and spliced, and arrays of Python objects put into
them whose unpickling would leave a mark. A loader must give the error that its users catch, or data; never crash, hang,
take a gigabyte or leave the mark. Datasets and checkpoints of ours carry checksums, so they must give the error or
equal data.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import pickle
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from cells import hardware, versions

RESULTS = Path(__file__).parent / "results" / "fuzz.csv"
SECONDS = 20
LIMIT = 1 << 30

Load = Callable[[Path], object]
"""From a path to what equal data are equal in; raises an error of `rlgen.errors` else."""


class Marked:
    """Its unpickling makes a folder."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, ...]]:
        return os.mkdir, (str(self.mark),)


def subjects(folder: Path) -> dict[str, tuple[Path, Load]]:
    """By format: a small whole file or folder, and what loads it."""
    import gymnasium as gym

    import rlgen
    from rlgen.checkpoint import load_checkpoint, save_checkpoint
    from rlgen.data import formats
    from rlgen.data.demonstrations import load_demonstrations, save_demonstrations
    from rlgen.data.episodes import Episode
    from rlgen.nn.policy import Policy

    rng = np.random.default_rng(0)
    box, actions = gym.spaces.Box(-np.inf, np.inf, (11,), np.float32), gym.spaces.Box(-1, 1, (3,), np.float32)
    episodes = [
        Episode(
            rng.normal(size=(n + 1, 11)).astype(np.float32),
            rng.uniform(-1, 1, (n, 3)).astype(np.float32),
            rng.normal(size=n).astype(np.float32),
            n < 100,
            n == 100,
        )
        for n in (100, 37, 100)
    ]
    found: dict[str, tuple[Path, Load]] = {}

    def foreign(path: Path) -> object:
        return [
            array.tobytes()
            for e in formats.recognise(path).read(path, 100).episodes
            for array in (e.obs, e.actions, e.rewards, np.array([e.terminated, e.truncated]))
        ]

    for kind, name in zip(formats.WRITABLE, ("hopper-v0", "imitation", "d4rl.hdf5", "sb3.npz"), strict=True):
        kind.write(folder / name, episodes, "Hopper-v4")
        found[kind.NAME] = folder / name, foreign
    path = folder / "imitation.npz"
    n = [len(e.actions) for e in episodes]
    np.savez_compressed(
        path,
        obs=np.concatenate([e.obs for e in episodes]),
        acts=np.concatenate([e.actions for e in episodes]),
        rews=np.concatenate([e.rewards for e in episodes]),
        terminal=np.ones(3, bool),
        infos=np.zeros(sum(n)),
        indices=np.cumsum(n)[:-1],
    )
    found["imitation npz"] = path, foreign

    rows = pd.DataFrame(np.concatenate([e.actions for e in episodes]), columns=["x", "y", "u"])
    rows = rows.assign(trial=np.repeat(range(3), n))
    rows.to_csv(folder / "log.csv", index=False)
    rows.to_parquet(folder / "log.parquet")
    np.save(folder / "log.npy", rows.to_records(index=False))
    mapping = formats.log.mapping_of({"obs": ["x", "y"], "actions": "u", "episode": "trial"}, "columns")

    def log(path: Path) -> object:
        read = formats.log.read(path, None, mapping).episodes
        return [array.tobytes() for e in read for array in (e.obs, e.actions)]

    found |= {f"log {kind}": (folder / f"log.{kind}", log) for kind in ("csv", "parquet", "npy")}

    dataset = folder / "rlgen"
    policy = Policy(box, actions, (8,))
    save_demonstrations(
        dataset,
        env_id="Hopper-v4",
        observation_space=box,
        action_space=actions,
        episodes=episodes,
        deterministic=False,
        algorithm="none",
        command="none",
        seed=0,
        policy=policy,
    )

    def ours(path: Path) -> object:
        pairs = load_demonstrations(path, "Hopper-v4", subsample=1, include_failed=True).transitions
        weights = rlgen.load_expert(path, "Hopper-v4").state_dict()
        return [
            x.numpy().tobytes() for x in (pairs.obs, pairs.actions, pairs.next_obs, pairs.rewards, *weights.values())
        ]

    found["rlgen dataset"] = dataset, ours
    save_checkpoint(folder / "run", {"policy": policy.state_dict()}, {"env_id": "Hopper-v4"})

    def checkpoint(path: Path) -> object:
        facts, state = load_checkpoint(path)
        return json.dumps(facts, sort_keys=True), [x.numpy().tobytes() for x in state["policy"].values()]

    found["rlgen checkpoint"] = folder / "run", checkpoint
    return found


def damage(path: Path, rng: np.random.Generator, mark: Path) -> None:
    """Change one file, in a folder a random one of its."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    file = files[rng.integers(len(files))]
    content = bytearray(file.read_bytes())
    size = len(content)
    at = int(rng.integers(size))
    match rng.integers(7):
        case 0:
            del content[at:]
        case 1 | 2:
            for i in rng.integers(size, size=rng.integers(1, 9)):
                content[i] ^= 1 << rng.integers(8)
        case 3:
            content[at : at + 512] = bytes(min(512, size - at))
        case 4:
            content[at : at + 64] = rng.bytes(64)
        case 5:
            other = int(rng.integers(size))
            content[at : at + 256] = content[other : other + 256]
        case _:
            payload = np.array([Marked(mark)] * 3, object)
            if file.suffix == ".npz":
                with np.load(io.BytesIO(content)) as arrays:
                    kept = {name: arrays[name] for name in arrays}
                kept[list(kept)[rng.integers(len(kept))]] = payload
                replaced = io.BytesIO()
                np.savez(replaced, allow_pickle=True, **kept)
                content = bytearray(replaced.getvalue())
            else:
                content = bytearray(pickle.dumps(payload))
    file.write_bytes(content)


def outcome(load: Load, path: Path, expected: object) -> tuple[str, int]:
    """What a loader did in a process of its own, and its peak of memory in bytes."""
    from rlgen.data.formats.__main__ import limit_memory
    from rlgen.errors import CheckpointError, DemonstrationError

    codes = {0: "equal data", 1: "other data", 3: "error"}
    child = os.fork()
    if child == 0:
        code = 4
        try:
            silent = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silent, 1)
            os.dup2(silent, 2)
            signal.alarm(SECONDS)
            limit_memory(LIMIT)
            code = 0 if load(path) == expected else 1
        except (DemonstrationError, CheckpointError, MemoryError, OSError):
            code = 3
        except BaseException as error:
            Path(f"{path}.error").write_text(repr(error))
        finally:
            os._exit(code)
    _, status, usage = os.wait4(child, 0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return "hang" if number == signal.SIGALRM else f"crash (signal {number})", usage.ru_maxrss << 10
    return codes.get(os.WEXITSTATUS(status), "another exception"), usage.ru_maxrss << 10


def fuzz(inputs: int, seed: int) -> pd.DataFrame:
    """One row a format: how many inputs came to which outcome, and the largest memory and time of one."""
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        whole = Path(temporary) / "whole"
        whole.mkdir()
        found = subjects(whole)
        for number, (name, (path, load)) in enumerate(found.items()):
            rng = np.random.default_rng([seed, number])
            expected = load(path)
            counts: dict[str, int] = {}
            memory, longest = 0, 0.0
            mark = Path(temporary) / "mark"
            for i in range(inputs // len(found) + (number < inputs % len(found))):
                copy = Path(temporary) / f"input{path.suffix}"
                shutil.copytree(path, copy) if path.is_dir() else shutil.copy(path, copy)
                damage(copy, rng, mark)
                started = time.monotonic()
                what, peak = outcome(load, copy, expected)
                longest, memory = max(longest, time.monotonic() - started), max(memory, peak)
                if mark.exists():
                    what = "unpickled"
                    mark.rmdir()
                if (told := Path(f"{copy}.error")).exists():
                    print(f"{name}, input {i}: {told.read_text()}", flush=True)
                    told.unlink()
                counts[what] = counts.get(what, 0) + 1
                shutil.rmtree(copy) if copy.is_dir() else copy.unlink()
            rows.append(
                {"format": name, "inputs": sum(counts.values()), **counts}
                | {"peak_mib": memory >> 20, "longest_seconds": round(longest, 2)}
            )
            print(rows[-1], flush=True)
    order = ["format", "inputs", "error", "equal data", "other data"]
    table = pd.DataFrame(rows)
    table = table[[*order, *(c for c in table.columns if c not in order)]].fillna(0)
    return table.astype({column: int for column in table.columns if column not in ("format", "longest_seconds")})


def main() -> None:
    """Fuzz, print the table and keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=10_000, help="over all formats")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    table = fuzz(options.inputs, options.seed)
    print(table.to_string(index=False))
    table.assign(seed=options.seed, hardware=hardware(), versions=versions()).to_csv(options.output, index=False)


if __name__ == "__main__":
    main()
