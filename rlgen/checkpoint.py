"""Checkpoints: the whole state of a run in one file, whole or absent, checked when it is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from safetensors.torch import save
from torch import Tensor

from rlgen.errors import CheckpointError
from rlgen.files import canonical_json, sha256, versions, write_bytes
from rlgen.nn.policy import Policy
from rlgen.spaces import described_space
from rlgen.types import State

FILE = Path("checkpoint") / "model.safetensors"
FORMAT = "rlgen checkpoint 3"
TENSOR, ARRAY = "<tensor>", "<array>"


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


def load_checkpoint(run_dir: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The facts of a run's checkpoint, with the `versions` that wrote it, and its state.

    Raises:
        CheckpointError: there is none, it is cut or damaged, or of another format.
    """
    path = Path(run_dir) / FILE
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
        content = json.loads(metadata["content"])
        intact = metadata["sha256"] == _digest(tensors, content)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no checkpoint; a run's folder has one") from None
    except (OSError, safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: not a checkpoint, or a damaged one ({type(error).__name__}: {error})") from None
    if not intact:
        raise CheckpointError(f"{path}: field sha256: the file was changed or damaged")
    if content["format"] != FORMAT:
        raise CheckpointError(f"{path}: field format: {content['format']!r}; this version reads {FORMAT!r}")
    return content["facts"] | {"versions": content["versions"]}, _with_tensors(content["values"], "", tensors)


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
    if value == ARRAY:
        return tensors[path].numpy()
    return tensors[path] if value == TENSOR else value


def load_policy(run_dir: str | Path) -> Policy:
    """The policy that a run ended with; `rlgen.nn.policy.Actor(policy)` acts and has SB3's `predict`.

    Raises:
        CheckpointError: there is no checkpoint, or it is cut or damaged.
    """
    facts, state = load_checkpoint(run_dir)
    observation_space, action_space = (described_space(facts[f"{kind}_space"]) for kind in ("observation", "action"))
    return Policy.from_state_dict(observation_space, action_space, state["policy"])


def _digest(tensors: Mapping[str, Tensor], content: Mapping[str, Any]) -> str:
    """SHA-256 of all that a checkpoint says."""
    hashes = {name: sha256(x.numpy().tobytes()) + f" {x.dtype} {list(x.shape)}" for name, x in tensors.items()}
    return sha256(canonical_json({"content": content, "tensors": hashes}))
