"""Checkpoints: the networks of a run in one file, whole or absent, checked when it is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import save
from torch import Tensor, nn

from rlgen.errors import CheckpointError
from rlgen.files import canonical_json, sha256, write_bytes
from rlgen.nn.policy import Policy
from rlgen.spaces import described_space

FILE = Path("checkpoint") / "model.safetensors"


def save_checkpoint(run_dir: Path, modules: Mapping[str, nn.Module], facts: Mapping[str, Any]) -> None:
    """Replace a run's checkpoint.

    Args:
        run_dir: the run's folder.
        modules: their weights and statistics are saved, by these names.
        facts: JSON values to keep beside them; `load_policy` needs `observation_space` and `action_space`.
    """
    tensors = {
        f"{module}.{name}": tensor.detach().cpu().clone()  # apart from a storage that it shares
        for module, owner in modules.items()
        for name, tensor in owner.state_dict().items()
    }
    metadata = {"facts": canonical_json(facts).decode(), "sha256": _digest(tensors, facts)}
    write_bytes(run_dir / FILE, save(tensors, metadata))


def load_checkpoint(run_dir: str | Path) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
    """The facts of a run's checkpoint, and each module's state by name.

    Raises:
        CheckpointError: there is none, or it is cut or damaged.
    """
    path = Path(run_dir) / FILE
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
        facts = json.loads(metadata["facts"])
        intact = metadata["sha256"] == _digest(tensors, facts)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no checkpoint; a run's folder has one") from None
    except (OSError, safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: not a checkpoint, or a damaged one ({type(error).__name__}: {error})") from None
    if not intact:
        raise CheckpointError(f"{path}: field sha256: the file was changed or damaged")
    modules: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        module, _, rest = name.partition(".")
        modules.setdefault(module, {})[rest] = tensor
    return facts, modules


def load_policy(run_dir: str | Path) -> Policy:
    """The policy that a run ended with; `rlgen.nn.policy.Actor(policy)` acts and has SB3's `predict`.

    Raises:
        CheckpointError: there is no checkpoint, or it is cut or damaged.
    """
    facts, modules = load_checkpoint(run_dir)
    observation_space, action_space = (described_space(facts[f"{kind}_space"]) for kind in ("observation", "action"))
    return Policy.from_state_dict(observation_space, action_space, modules["policy"])


def _digest(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> str:
    """SHA-256 of all that a checkpoint says."""
    hashes = {name: sha256(x.numpy().tobytes()) + f" {x.dtype} {list(x.shape)}" for name, x in tensors.items()}
    return sha256(canonical_json({"facts": facts, "tensors": hashes}))
