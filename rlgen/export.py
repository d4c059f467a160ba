"""A policy as a file that runs without this package."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlgen.errors import UsageError
from rlgen.files import write_bytes
from rlgen.nn.policy import Policy


class _Mode(nn.Module):
    """The action that a policy takes by its mode, normaliser and clipping included."""

    scale: Tensor
    shift: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        scale, shift = policy.normalizer.scale_and_shift()
        self.clip = policy.normalizer.clip
        self.network = policy.network
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)
        space = policy.action_space
        self.box = isinstance(space, spaces.Box)
        if isinstance(space, spaces.Box):
            self.register_buffer("low", torch.as_tensor(space.low))
            self.register_buffer("high", torch.as_tensor(space.high))

    def forward(self, obs: Tensor) -> Tensor:
        output = self.network((obs * self.scale + self.shift).clamp(-self.clip, self.clip))
        if not self.box:
            return output.argmax(-1)
        return torch.minimum(torch.maximum(output, self.low), self.high)


def export_onnx(policy: Policy, path: str | Path) -> None:
    """Write a policy's mode as ONNX: input `obs` `[N, D]` float32, output `action`, `[N, A]` float32 or `[N]` int64.

    Args:
        policy: on any device.
        path: replaced if it exists.

    Raises:
        UsageError: the packages that write ONNX aren't installed.
    """
    mode = _Mode(copy.deepcopy(policy)).cpu().eval()  # a module moves its parts in place
    obs = torch.zeros(2, len(policy.normalizer.mean))
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
