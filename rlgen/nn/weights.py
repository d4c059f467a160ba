"""Policies out of files: weights are checked before a network of their size is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from rlgen.errors import UsageError
from rlgen.files import check, printable
from rlgen.nn.policy import Policy
from rlgen.spaces import described_space


def check_finite(state: Mapping[str, Any]) -> None:
    """Refuse weights or statistics that are not numbers, by a ValueError that names the tensor."""
    check(state, dict, "policy")
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor) or tensor.is_complex():
            raise ValueError(f"field {printable(name)}: must be a tensor")
        if not torch.isfinite(tensor).all():
            raise ValueError(f"field {printable(name)}: NaN or infinite")


def policy_of_weights(facts: Mapping[str, Any], state: Mapping[str, Any]) -> Policy:
    """The policy of weights out of a file; the hidden layers' sizes are theirs.

    Args:
        facts: with a description of the `observation_space` and the `action_space`, see `rlgen.spaces.described_space`.
        state: the weights by name.

    Raises:
        ValueError: the weights are not finite, or don't fit the spaces.
    """
    observation_space, action_space = (described_space(facts[f"{kind}_space"]) for kind in ("observation", "action"))
    check_finite(state)
    try:
        biases = [name for name in state if name.startswith("network.") and name.endswith(".bias")]
        *net_arch, _ = (len(state[name]) for name in sorted(biases, key=lambda name: int(name.split(".")[1])))
        with torch.device("meta"):  # compares the shapes without memory: a network's size is only known from its biases
            shapes = {name: tensor.to("meta") for name, tensor in state.items()}
            # A Gaussian has its log-std beside the network, a squashed one in its output.
            squash = isinstance(action_space, spaces.Box) and "log_std" not in state
            Policy(observation_space, action_space, net_arch, squash=squash).load_state_dict(shapes)
        with torch.random.fork_rng([]):  # what is drawn for it is replaced
            policy = Policy(observation_space, action_space, net_arch, squash=squash)
        policy.load_state_dict(state)
        return policy
    except (RuntimeError, UsageError, ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
        told = " ".join(str(error).split())
        raise ValueError(
            f"the weights don't fit the spaces ({type(error).__name__}: {printable(told)[:300]})"
        ) from None
