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
    ended,
    episode,
    fail,
    needed,
    npz_fields,
    read_npz,
    with_final_obs,
)
from rlgen.errors import DemonstrationError
from rlgen.files import write_bytes, write_json

NAME = "imitation"
FIELDS = ("obs", "acts", "rews", "terminal")


def recognise(path: Path) -> bool:
    """See `Format`."""
    return (path / "state.json").is_file() or npz_fields(path) >= {*FIELDS, "indices"}


def read(path: Path, time_limit: int | None) -> Recording:
    """See `Format`. `terminal` tells whole episodes from those cut off, not how they end; `infos` is never decoded."""
    trajectories = _arrow(path) if path.is_dir() else _npz(path)
    episodes, n_incomplete = [], 0
    for i, (obs, acts, rews, terminal) in enumerate(trajectories):
        if obs.ndim < 2 or len(obs) != len(acts) + 1 or len(rews) != len(acts) or not len(acts):
            fail(path, "obs", f"trajectory {i}: {len(obs)} observations, {len(acts)} actions and {len(rews)} rewards")
        if terminal or len(acts) == time_limit:
            episodes.append(episode(obs, acts, rews, *ended(len(acts), time_limit)))
        else:
            n_incomplete += 1
    if not episodes:
        raise DemonstrationError(f"{path}: holds no complete episode")
    return Recording(NAME, episodes, n_incomplete=n_incomplete, tells_ends=False)


def write(path: Path, episodes: Sequence[Episode], env_id: str) -> None:
    """See `Writable`. A folder that `datasets.load_from_disk` opens."""
    pyarrow = needed("pyarrow")
    with_final_obs(episodes, NAME)
    discrete = episodes[0].actions.dtype == np.int64
    # Type names of the datasets package beside those of Arrow.
    real, whole = ("float32", pyarrow.float32()), ("int64", pyarrow.int64())
    columns: dict[str, tuple[tuple[str, Any], int, list[Any]]] = {
        "obs": (real, 2, [e.obs.reshape(len(e.obs), -1).tolist() for e in episodes]),
        "acts": (whole if discrete else real, 1 if discrete else 2, [e.actions.tolist() for e in episodes]),
        "infos": (("string", pyarrow.string()), 1, [["{}"] * len(e.actions) for e in episodes]),
        "terminal": (("bool", pyarrow.bool_()), 0, [True] * len(episodes)),
        "rews": (real, 1, [e.rewards.tolist() for e in episodes]),
    }
    features: dict[str, Any] = {}
    arrays = {}
    for name, ((dtype, kind), depth, values) in columns.items():
        feature: dict[str, Any] = {"dtype": dtype, "_type": "Value"}
        for _ in range(depth):
            feature, kind = {"feature": feature, "_type": "Sequence"}, pyarrow.list_(kind)
        features[name] = feature
        arrays[name] = pyarrow.array(values, kind)
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


def _arrow(folder: Path) -> list[tuple[Array, Array, Array, bool]]:
    pyarrow = needed("pyarrow")
    found = []
    try:
        names = [entry["filename"] for entry in json.loads((folder / "state.json").read_text())["_data_files"]]
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
                found.append((_array(obs), _array(acts), _array(rews), bool(terminal.as_py())))
    except (DemonstrationError, MemoryError):
        raise
    except Exception as error:  # Arrow and json raise many kinds on damaged bytes
        raise DemonstrationError(
            f"{folder}: not a Hugging Face dataset on disk ({type(error).__name__}: {error})"
        ) from None
    return found


def _array(scalar: Any) -> Array:
    """The array `[T]` or `[T, D]` of a row's list or list of lists, which must be equally long."""
    values, shape = scalar.values, [len(scalar.values)]
    while hasattr(values, "flatten") and values.type.num_fields:
        values = values.flatten()
        shape.append(len(values) // max(len(scalar.values), 1))
    if any(len(row) != shape[1] for row in scalar.values if len(shape) > 1) or len(shape) > 2:
        raise ValueError("its rows differ in length")
    return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(shape)


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
