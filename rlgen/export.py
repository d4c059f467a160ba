"""A policy as a file that runs without this package."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from rlgen.errors import UsageError
from rlgen.files import write_bytes
from rlgen.nn.actions import tensor_dtype
from rlgen.nn.policy import Policy


class _Mode(nn.Module):
    """The action that a policy takes by its mode, standardisation, units and bounds included."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, obs: Tensor) -> Tensor:
        policy = self.policy
        return policy.actions.mode(policy.network(policy.normalizer(obs)))


def export_onnx(policy: Policy, path: str | Path) -> None:
    """Write a policy's mode as ONNX: input `obs` `[N, D]`, output `action` `[N, *action_shape]`.

    Observations are flat (`rlgen.spaces.FlatBox`) and of the space's precision, float64 for MuJoCo's tasks; actions are
    int64, or floats of their space's precision.

    Args:
        policy: on any device.
        path: replaced if it exists.

    Raises:
        UsageError: the packages that write ONNX aren't installed.
    """
    mode = _Mode(copy.deepcopy(policy)).cpu().eval()  # a module moves its parts in place
    space = policy.observation_space
    obs = torch.zeros(2, *space.shape, dtype=tensor_dtype(space.dtype))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, about its tree functions
            program = torch.onnx.export(
                mode,
                (obs,),
                input_names=["obs"],
                output_names=["action"],
                dynamic_shapes={"obs": {0: torch.export.Dim("N")}},
                dynamo=True,
                verbose=False,
            )
    except ImportError:
        raise UsageError("exporting needs onnx and onnxscript: pip install 'rlgen[export]'") from None
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    write_bytes(Path(path), program.model_proto.SerializeToString())
