"""Imitation and exploration on fast, exact, vectorised MuJoCo with TRPO, PPO, SVG and SAC."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlgen.agents import BC, GAIL, PPO, SAC, SVG, TRPO, VIME, load
    from rlgen.checkpoint import load_policy
    from rlgen.data.convert import demonstrations_of
    from rlgen.data.demonstrations import load_demonstrations, load_expert, record
    from rlgen.envs import make_vec
    from rlgen.evaluation import evaluate
    from rlgen.nn.policy import Actor

_HOMES = {
    "BC": "rlgen.agents",
    "GAIL": "rlgen.agents",
    "VIME": "rlgen.agents",
    "TRPO": "rlgen.agents",
    "PPO": "rlgen.agents",
    "SAC": "rlgen.agents",
    "SVG": "rlgen.agents",
    "load": "rlgen.agents",
    "demonstrations_of": "rlgen.data.convert",
    "record": "rlgen.data.demonstrations",
    "Actor": "rlgen.nn.policy",
    "evaluate": "rlgen.evaluation",
    "load_demonstrations": "rlgen.data.demonstrations",
    "load_expert": "rlgen.data.demonstrations",
    "load_policy": "rlgen.checkpoint",
    "make_vec": "rlgen.envs",
}
__all__ = [
    "BC",
    "GAIL",
    "PPO",
    "SAC",
    "SVG",
    "TRPO",
    "VIME",
    "Actor",
    "demonstrations_of",
    "evaluate",
    "load",
    "load_demonstrations",
    "load_expert",
    "load_policy",
    "make_vec",
    "record",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Loaded on first use: `import rlgen` must not wait for torch.
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'rlgen' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
