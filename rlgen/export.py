"""A policy as a file that runs without this package."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from rlgen.errors import UsageError
from rlgen.files import versions, write_bytes
from rlgen.nn.actions import tensor_dtype
from rlgen.nn.policy import Policy
from rlgen.spaces import describe_space


class _Mode(nn.Module):
    """The action that a policy takes by its mode, standardisation, units and bounds included."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, obs: Tensor) -> Tensor:
        policy = self.policy
        output = policy.network(policy.normalizer(obs))
        return policy.actions.mode(output.chunk(2, -1)[0].tanh() if policy.squash else output)


def export_onnx(
    policy: Policy, path: str | Path, env_id: str = "", columns: Mapping[str, Sequence[str]] | None = None
) -> None:
    """Write a policy's mode as ONNX: input `obs` `[N, D]`, output `action` `[N, *action_shape]`.

    Observations are flat (`rlgen.spaces.FlatBox`) and of the space's precision, float64 for MuJoCo's tasks; actions are
    int64, or floats of their space's precision. Raw observations go in: the network standardises them itself.

    The file's metadata tell how it is to be used, each a JSON text: `observation` (name and width of each part, in
    order), `observation_space` and `action_space` with their bounds, `normalization` (the mean and standard deviation
    that observations are standardised by, and where they are clipped), `columns` (of `obs` and `actions`, the names
    that a log has for each number, in order), `env_id` and `rlgen_version`.

    Args:
        policy: on any device.
        path: replaced if it exists.
        env_id: the environment that it was trained for.
        columns: see above (default: none are known).

    Raises:
        UsageError: the packages that write ONNX aren't installed.
    """
    if not isinstance(policy, Policy):
        raise UsageError(f"export_onnx takes a policy, such as agent.policy; got {type(policy).__name__}")
    mode = _Mode(copy.deepcopy(policy)).cpu().eval()  # a module moves its parts in place
    space = policy.observation_space
    obs = torch.zeros(2, *space.shape, dtype=tensor_dtype(space.dtype))
    try:
        import onnx

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
    model, normalizer = program.model_proto, policy.normalizer
    told = {
        "env_id": env_id,
        "observation": policy.observation_space.columns,
        "observation_space": describe_space(policy.observation_space),
        "action_space": describe_space(policy.action_space),
        "normalization": {
            "mean": normalizer.mean.tolist(),
            "std": normalizer.std().tolist(),
            "clip": normalizer.clip,
        },
        "columns": columns or {},
        "rlgen_version": versions()["rlgen"],
    }
    onnx.helper.set_model_props(model, {name: json.dumps(value) for name, value in told.items()})
    write_bytes(Path(path), model.SerializeToString())
