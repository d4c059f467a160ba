"""HumanCompatibleAI/imitation's trajectories: a Hugging Face dataset on disk (Arrow), or the npz of earlier days."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlgen.data.episodes import Episode
from rlgen.data.formats.recording import (
    Array,
    Recording,
    arrow_array,
    ended,
    episode,
    fail,
    foreign,
    needed,
    npz_fields,
    read_npz,
    require_final_obs,
)
from rlgen.errors import DemonstrationError
from rlgen.files import read_json, write_bytes, write_json

NAME = "imitation"
FIELDS = ("obs", "acts", "rews", "terminal")
STATE = {"_data_files": [{"filename": str}]}


def recognise(path: Path) -> bool:
    """See `Format`."""
    return (path / "state.json").is_file() or npz_fields(path) >= {*FIELDS, "indices"}


def read(path: Path, time_limit: int | None, skip_broken: bool = False) -> Recording:
    """See `Format`. `terminal` tells whole episodes from those cut off, not how they end; `infos` is never decoded."""
    trajectories = _arrow(path) if path.is_dir() else _npz(path)
    episodes, broken, n_incomplete = [], [], 0
    for i, (obs, acts, rews, terminal) in enumerate(trajectories):
        if obs.ndim < 2 or len(obs) != len(acts) + 1 or len(rews) != len(acts) or not len(acts):
            told = f"trajectory {i}: {len(obs)} observations, {len(acts)} actions and {len(rews)} rewards"
            if not skip_broken:
                fail(path, "obs", told)
            broken.append(told)
            continue
        if terminal or len(acts) == time_limit:
            episodes.append(episode(obs, acts, rews, *ended(len(acts), time_limit)))
        else:
            n_incomplete += 1
    if not episodes:
        raise DemonstrationError(f"{path}: holds no complete episode")
    return Recording(NAME, episodes, n_incomplete=n_incomplete, broken=broken, tells_ends=False)


def write(path: Path, episodes: Sequence[Episode], env_id: str) -> None:
    """See `Writable`. A folder that `datasets.load_from_disk` opens."""
    pyarrow = needed("pyarrow")
    require_final_obs(episodes, NAME)
    arrays = {
        "obs": _lists([e.obs.reshape(len(e.obs), -1) for e in episodes]),
        "acts": _lists([e.actions for e in episodes]),
        "infos": pyarrow.array([["{}"] * len(e.actions) for e in episodes]),
        "terminal": pyarrow.array([True] * len(episodes)),
        "rews": _lists([e.rewards for e in episodes]),
    }
    features = {name: _feature(array.type) for name, array in arrays.items()}
    table = pyarrow.table(arrays).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    content = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(content, table.schema) as stream:
        stream.write_table(table)
    write_bytes(path / "data-00000-of-00001.arrow", content.getvalue().to_pybytes())
    write_json(path / "dataset_info.json", {"description": f"episodes of {env_id}", "features": features})
    state: dict[str, Any] = {
        "_data_files": [{"filename": "data-00000-of-00001.arrow"}],
        "_fingerprint": "0" * 16,
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    write_json(path / "state.json", state)


def _lists(rows: Sequence[Array]) -> Any:
    """Arrow's list a row of values `[T]`, or list of lists of values `[T, D]`."""
    pyarrow = needed("pyarrow")
    joined = np.concatenate(rows)
    values = pyarrow.array(joined.reshape(-1))
    if joined.ndim == 2:
        values = pyarrow.ListArray.from_arrays(np.arange(len(joined) + 1, dtype=np.int32) * joined.shape[1], values)
    return pyarrow.ListArray.from_arrays(np.cumsum([0, *map(len, rows)], dtype=np.int32), values)


def _feature(kind: Any) -> dict[str, Any]:
    """An Arrow type as the datasets package describes it."""
    if kind.num_fields:
        return {"feature": _feature(kind.value_type), "_type": "Sequence"}
    name = {"float": "float32", "double": "float64"}.get(str(kind), str(kind))
    return {"dtype": name, "_type": "Value"}


def _arrow(folder: Path) -> list[tuple[Array, Array, Array, bool]]:
    pyarrow = needed("pyarrow")
    found = []
    with foreign(folder, "a Hugging Face dataset on disk"):
        names = [entry["filename"] for entry in read_json(folder / "state.json", STATE, links=False)["_data_files"]]
        for name in names:
            if Path(name).name != name:
                fail(folder / "state.json", "_data_files", f"{name!r} is not a file of this folder")
            with pyarrow.OSFile(str(folder / name)) as file, pyarrow.ipc.open_stream(file) as stream:
                table = stream.read_all()
            table.validate(full=True)
            if missing := [field for field in FIELDS if field not in table.column_names]:
                fail(folder / name, missing[0], "missing")
            columns = [table[field] for field in FIELDS]
            for obs, acts, rews, terminal in zip(*columns, strict=True):
                obs, acts, rews = (arrow_array(scalar.values) for scalar in (obs, acts, rews))
                found.append((obs, acts, rews, bool(terminal.as_py())))
    return found


def _npz(path: Path) -> list[tuple[Array, Array, Array, bool]]:
    arrays = read_npz(path, path, (*FIELDS, "indices"))
    indices = arrays["indices"]
    indices = indices if indices.size else indices.astype(np.int64)  # of a single trajectory
    if indices.ndim != 1 or indices.dtype.kind not in "iu" or (np.diff(indices, prepend=0) < 0).any():
        fail(path, "indices", "must be rising whole numbers")
    if len(arrays["terminal"]) != len(indices) + 1:
        fail(path, "terminal", f"{len(arrays['terminal'])} flags for {len(indices) + 1} trajectories")
    obs = np.split(arrays["obs"], indices + np.arange(len(indices)) + 1)  # each has one more
    acts, rews = np.split(arrays["acts"], indices), np.split(arrays["rews"], indices)
    return list(zip(obs, acts, rews, map(bool, arrays["terminal"]), strict=True))
