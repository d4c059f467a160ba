"""The datasets and weights in `expert_data/` are what their manifests say."""

import json
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

from rlgen.commands.data import table
from rlgen.data.demonstrations import load_demonstrations, load_expert
from rlgen.evaluation import evaluate
from rlgen.nn.policy import Actor

ROOT = Path(__file__).parents[1]
DATA = ROOT / "expert_data"
LEAST = {
    "CartPole-v1": 500,
    "Acrobot-v1": -100,
    "MountainCar-v0": -110,
    "Reacher-v4": -5,
    "HalfCheetah-v4": 4463,
    "Hopper-v4": 3000,
    "Walker2d-v4": 4000,
    "Ant-v4": 4000,
    "Humanoid-v4": 5000,
    "Reacher-v5": -5,
    "Pusher-v5": -30,
    "Swimmer-v5": 340,
    "HalfCheetah-v5": 5500,
    "Hopper-v5": 3600,
    "Humanoid-v5": 5000,
    "Ant-v5": 3500,
    "Walker2d-v5": 4500,
    "InvertedDoublePendulum-v5": 8000,
}


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.mark.parametrize("env_id", LEAST)
def test_dataset_is_an_expert_and_complete(env_id):
    demonstrations = load_demonstrations(DATA, env_id, 4)
    assert demonstrations.dataset_return_mean >= LEAST[env_id]
    manifest = json.loads((DATA / env_id / "manifest.json").read_text())
    assert manifest["n_episodes"] >= (80 if env_id == "Humanoid-v4" else 25)
    most = 8 << 20 if "episodes.npz" in manifest["sha256"] else 200 << 10
    assert sum(p.stat().st_size for p in (DATA / env_id).iterdir()) < most


@pytest.mark.parametrize("env_id", LEAST)
def test_weights_act_as_the_dataset_does(env_id):
    policy = load_expert(DATA, env_id)
    demonstrations = load_demonstrations(DATA, env_id)
    found = evaluate(Actor(policy, np.random.default_rng(0)), env_id, 10, deterministic=demonstrations.deterministic)
    spread = max(demonstrations.dataset_return_std, 0.02 * abs(demonstrations.dataset_return_mean))
    assert abs(found.mean - demonstrations.dataset_return_mean) < 2 * spread


def test_the_readme_has_the_table_of_the_command():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = [line for line in table(DATA).splitlines() if "-v5 |" in line]
    assert lines
    assert all(line in readme for line in lines), "\n".join(lines)


@pytest.mark.parametrize("env_id", ["HalfCheetah-v4", "Hopper-v4", "Walker2d-v4"])
def test_recorded_steps_are_the_environments(env_id):
    """Set the recorded state (all but the root's x, which nothing depends on) and step: the recorded successor."""
    demonstrations = load_demonstrations(DATA, env_id, 2, 100)
    env = gym.make(env_id).unwrapped
    env.reset(seed=0)
    nq = env.model.nq
    for i in range(len(demonstrations.transitions.obs)):
        step = demonstrations.transitions[i]
        obs = step.obs.double().numpy()
        if np.abs(obs[nq - 1 :]).max() >= 10:
            continue  # Hopper's and Walker2d's velocities are clipped in observations
        env.set_state(np.concatenate(([0.0], obs[: nq - 1])), obs[nq - 1 :])
        after = env.step(step.actions.numpy())[0]
        # float32 states and a fresh solver start: close, not equal.
        assert np.median(np.abs(after - step.next_obs.numpy())) < 1e-2
    assert torch.isfinite(demonstrations.transitions.obs).all()
