"""Checkpoints: the whole state of a run in one file, whole or absent, checked when it is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from rlgen.errors import CheckpointError
from rlgen.files import (
    ENV_ID,
    SHA256,
    canonical_json,
    check,
    opened,
    parse_json,
    read_safetensors,
    sha256,
    versions,
    write_bytes,
)
from rlgen.nn.policy import Policy
from rlgen.nn.weights import check_finite, policy_of_weights
from rlgen.spaces import described_space
from rlgen.types import State

FILE = Path("checkpoint") / "model.safetensors"
FORMAT = "rlgen checkpoint 6"
TENSOR, ARRAY = "<tensor>", "<array>"
SPACES = {"observation_space": described_space, "action_space": described_space}
# The facts that a run keeps.
RUN = SPACES | {
    "env_id": ENV_ID,
    "env_steps": range(1 << 62),
    "steps": range(1 << 62),
    "run": dict,
    "config?": str,
    "env_kwargs?": (dict, None),
}


def save_checkpoint(run_dir: Path, state: State, facts: Mapping[str, Any]) -> None:
    """Replace a run's checkpoint.

    Args:
        run_dir: the run's folder.
        state: tensors, arrays and JSON values, nested by name; `load_policy` needs `policy`.
        facts: JSON values to keep beside them; `load_policy` needs `observation_space` and `action_space`.
    """
    tensors: dict[str, Tensor] = {}
    values = _without_tensors(state, "", tensors)
    content = {"format": FORMAT, "facts": facts, "values": values, "versions": versions()}
    metadata = {"content": canonical_json(content).decode(), "sha256": _digest(tensors, content)}
    write_bytes(run_dir / FILE, save(tensors, metadata))


def load_checkpoint(run_dir: str | Path, facts: Any = dict) -> tuple[dict[str, Any], dict[str, Any]]:
    """The facts of a run's checkpoint, with the `versions` that wrote it, and its state.

    Args:
        run_dir: the run's folder.
        facts: their schema, see `rlgen.files.check`; `RUN` for those of a run.

    Raises:
        CheckpointError: there is none, it is cut or damaged, of another format, or says what can't be.
    """
    path = Path(run_dir) / FILE
    try:
        with opened(path, links=False) as file:
            arrays, metadata = read_safetensors(file, path)
        check(metadata, {"content": str, "sha256": SHA256})
        content = parse_json(metadata["content"], path)
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        if metadata["sha256"] != _digest(tensors, content):
            raise ValueError(f"{path}: field sha256: the file was changed or damaged")
        if content.get("format") != FORMAT:
            raise ValueError(f"{path}: field format: {content.get('format')!r}; this version reads {FORMAT!r}")
        check(content, {"facts": facts, "values": dict, "versions": {"*": str}})
        state = _with_tensors(content["values"], "", tensors)
        for part in ("policy", "critic"):
            if isinstance(state.get(part), dict):
                check_finite(state[part])
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no checkpoint; a run's folder has one") from None
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(str(error) if str(path) in str(error) else f"{path}: {error}") from None
    return content["facts"] | {"versions": content["versions"]}, state


def _without_tensors(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """The nested value with a mark for each tensor or array, which goes into `tensors` by its path."""
    if isinstance(value, Mapping):
        return {name: _without_tensors(item, f"{path}/{name}", tensors) for name, item in value.items()}
    if isinstance(value, np.ndarray):
        tensors[path] = torch.from_numpy(np.ascontiguousarray(value))
        return ARRAY
    if isinstance(value, Tensor):
        tensors[path] = value.detach().cpu().contiguous().clone()  # apart from a storage that it shares
        return TENSOR
    return value


def _with_tensors(value: Any, path: str, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, dict):
        return {name: _with_tensors(item, f"{path}/{name}", tensors) for name, item in value.items()}
    if value not in (ARRAY, TENSOR):
        return value
    if path not in tensors:
        raise ValueError(f"field {path}: missing")
    return tensors[path].numpy() if value == ARRAY else tensors[path]


def load_policy(run_dir: str | Path) -> Policy:
    """The policy that a run ended with; `rlgen.nn.policy.Actor(policy)` acts and has SB3's `predict`.

    Errors are those of `load_checkpoint`.
    """
    facts, state = load_checkpoint(run_dir, SPACES)
    try:
        check(state, {"policy": dict})
        return policy_of_weights(facts, state["policy"])
    except ValueError as error:
        raise CheckpointError(f"{Path(run_dir) / FILE}: {error}") from None


def _digest(tensors: Mapping[str, Tensor], content: Mapping[str, Any]) -> str:
    """SHA-256 of all that a checkpoint says."""
    hashes = {name: sha256(x.numpy()) + f" {x.dtype} {list(x.shape)}" for name, x in tensors.items()}
    return sha256(canonical_json({"content": content, "tensors": hashes}))
