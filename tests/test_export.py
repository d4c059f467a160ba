"""An exported policy acts as the policy does, in a process that doesn't know rlgen."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from gymnasium import spaces

import rlgen
from rlgen.export import export_onnx
from rlgen.nn.policy import Policy
from rlgen.spaces import described_space

ROOT = Path(__file__).parents[1]
RUN = """
import sys
import numpy as np
import onnxruntime
session = onnxruntime.InferenceSession("policy.onnx")
(actions,) = session.run(None, {"obs": np.load("obs.npy")})
np.save("actions.npy", actions)
assert not any(name in sys.modules for name in ("rlgen", "torch"))
"""


@pytest.mark.parametrize("env_id", ["Hopper-v4", "CartPole-v1", "squashed"])
def test_onnx_takes_the_policys_actions(tmp_path, env_id):
    if env_id == "squashed":
        policy = Policy(spaces.Box(-9, 9, (5,)), spaces.Box(np.float32([-3, 0]), np.float32([1, 2])), squash=True)
        for parameter in policy.network.parameters():
            parameter.data.add_(0.2 * torch.randn_like(parameter))
    else:
        policy = rlgen.load_expert(ROOT / "expert_data", env_id)
    policy.train()
    export_onnx(policy, tmp_path / "policy.onnx", env_id)
    assert policy.network.training
    rng = np.random.default_rng(0)
    mean, deviation = policy.normalizer.mean.numpy(), policy.normalizer.var.sqrt().numpy()
    obs = (mean + 3 * deviation * rng.normal(size=(500, len(mean)))).astype(np.float32)
    np.save(tmp_path / "obs.npy", obs)
    subprocess.run([sys.executable, "-c", RUN], cwd=tmp_path, check=True, timeout=120)
    expected, _ = rlgen.Actor(policy).predict(obs, deterministic=True)
    actions = np.load(tmp_path / "actions.npy")
    assert actions.dtype == expected.dtype
    np.testing.assert_allclose(actions, expected, atol=1e-5)
    assert len(np.unique(actions.round(2), axis=0)) > 1


def test_the_file_tells_how_it_is_used(tmp_path):
    policy = rlgen.load_expert(ROOT / "expert_data", "Hopper-v4")
    export_onnx(policy, tmp_path / "policy.onnx", "Hopper-v4")
    kept = onnxruntime.InferenceSession(tmp_path / "policy.onnx").get_modelmeta().custom_metadata_map
    told = {name: json.loads(text) for name, text in kept.items()}
    assert (told["env_id"], told["observation"]) == ("Hopper-v4", [["", 11]])
    assert described_space(told["action_space"]) == policy.action_space
    assert described_space(told["observation_space"]) == policy.observation_space.original
    np.testing.assert_array_equal(told["normalization"]["std"], policy.normalizer.std().numpy())
