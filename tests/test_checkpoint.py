import json
import os

import numpy as np
import pytest
import safetensors.torch
import torch
from gymnasium import spaces

from rlgen.checkpoint import FILE, RUN, _digest, load_checkpoint, load_policy, save_checkpoint
from rlgen.errors import CheckpointError
from rlgen.nn.policy import Actor, Critic, Policy
from rlgen.spaces import describe_space

OBS = spaces.Box(-np.inf, np.inf, (3,), np.float64)


def save(folder, action_space):
    policy = Policy(OBS, action_space, (7, 5), log_std_init=-0.7)
    policy.normalizer.update(torch.randn(50, 3))
    facts = {"observation_space": describe_space(OBS), "action_space": describe_space(action_space), "env_steps": 3}
    state = {"policy": policy.state_dict(), "critic": Critic(policy.normalizer).state_dict()}
    save_checkpoint(folder, state, facts)
    return policy


@pytest.mark.parametrize("space", [spaces.Box(-2, 1, (2,), np.float32), spaces.Discrete(4)])
def test_a_policy_comes_back_as_it_was(tmp_path, space):
    policy = save(tmp_path, space)
    loaded = load_policy(tmp_path)
    obs = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    np.testing.assert_array_equal(Actor(loaded).output(obs), Actor(policy).output(obs))
    assert loaded.action_space == space
    facts, state = load_checkpoint(tmp_path)
    assert facts["env_steps"] == 3
    assert set(state) == {"policy", "critic"}


def test_no_flipped_byte_or_cut_loads(tmp_path):
    save(tmp_path, spaces.Discrete(4))
    path = tmp_path / FILE
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for position in [*range(0, 400, 7), *rng.integers(len(whole), size=100)]:
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(damaged))
        with pytest.raises(CheckpointError, match=r"model\.safetensors"):
            load_checkpoint(tmp_path)
    for length in [0, 7, 100, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"model\.safetensors"):
            load_checkpoint(tmp_path)


def test_one_of_another_format_is_refused_by_name(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("rlgen.checkpoint.FORMAT", "rlgen checkpoint 4")
        save(tmp_path, spaces.Discrete(4))
    with pytest.raises(CheckpointError, match=r"format: 'rlgen checkpoint 4'; this version reads 'rlgen checkpoint 6'"):
        load_policy(tmp_path)


def test_a_missing_one_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load_policy(tmp_path)


def crafted(folder, change):
    """A checkpoint whose content is changed and whose checksum is right."""
    path = folder / FILE
    with safetensors.safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        content = json.loads(file.metadata()["content"])
    change(content, tensors)
    metadata = {"content": json.dumps(content), "sha256": _digest(tensors, content)}
    path.write_bytes(safetensors.torch.save(tensors, metadata))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c, t: c.update(facts=[]), "field facts: must be an object"),
        (lambda c, t: c["facts"].update(observation_space="Box"), r"field facts\.observation_space"),
        (lambda c, t: c["facts"].pop("action_space"), r"field facts\.action_space: missing"),
        (lambda c, t: c.update(values="<tensor>"), "field values: must be an object"),
        (lambda c, t: c.update(versions={"torch": 2}), r"field versions\.torch: must be text"),
        (lambda c, t: c["values"]["policy"].update(extra="<tensor>"), "field /policy/extra: missing"),
        (lambda c, t: c["values"].update(policy=3), "field policy: must be an object"),
        (lambda c, t: c["values"]["policy"].update(log_std=[1]), "field log_std: must be a tensor"),
        (lambda c, t: t["/policy/log_std"].fill_(torch.nan), "field log_std: NaN or infinite"),
        (lambda c, t: t["/critic/network.0.bias"].fill_(torch.inf), r"field network\.0\.bias: NaN or infinite"),
        (lambda c, t: t.update({"/policy/log_std": torch.zeros(7)}), "the weights don't fit the spaces"),
        # Its layers would take four terabytes.
        (
            lambda c, t: t.update({f"/policy/network.{i}.bias": torch.zeros(1 << 20) for i in (0, 2)}),
            "the weights don't fit the spaces",
        ),
    ],
)
def test_wrong_content_with_a_right_checksum_is_named(tmp_path, change, message):
    save(tmp_path, spaces.Box(-2, 1, (2,), np.float32))
    crafted(tmp_path, change)
    with pytest.raises(CheckpointError, match=rf"model\.safetensors.*{message}"):
        load_policy(tmp_path)


@pytest.mark.parametrize("change", [{"env_id": ["Hopper-v4"]}, {"env_steps": "3"}, {"env_steps": True}, {"run": []}])
def test_wrong_facts_of_a_run_are_named(tmp_path, change):
    save(tmp_path, spaces.Discrete(4))
    crafted(tmp_path, lambda c, t: c["facts"].update({"env_id": "Toy-v0", "steps": 0, "run": {}} | change))
    with pytest.raises(CheckpointError, match=rf"model\.safetensors: field facts\.{next(iter(change))}: must be"):
        load_checkpoint(tmp_path, RUN)


def test_a_checkpoint_that_is_a_pipe_or_a_link_is_refused(tmp_path):
    save(tmp_path, spaces.Discrete(4))
    path = tmp_path / FILE
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="a link to another place"):
        load_checkpoint(tmp_path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(CheckpointError, match="not a regular file"):
        load_checkpoint(tmp_path)
