import numpy as np
import pytest
import torch
from gymnasium import spaces

from rlgen.checkpoint import FILE, load_checkpoint, load_policy, save_checkpoint
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


def test_a_missing_one_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load_policy(tmp_path)
