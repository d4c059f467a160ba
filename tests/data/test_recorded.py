"""Datasets of weights alone, whose episodes are recorded on first use."""

import json
import os
import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from processes import anew, forked

import rlgen
from rlgen.command import call
from rlgen.commands import data
from rlgen.data import demonstrations
from rlgen.data.convert import load_source, save_dataset
from rlgen.data.demonstrations import load_all, load_demonstrations, load_episodes, load_expert, record, record_expert
from rlgen.data.episodes import RandomActor
from rlgen.errors import DemonstrationError, UsageError
from rlgen.files import canonical_json, sha256
from rlgen.nn.policy import Policy

ENV = "Reacher-v5"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The folder that episodes are recorded into."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "rlgen" / "demonstrations"


def save(folder, env_id=ENV, **changes):
    """Weights that nobody trained, and the dataset's folder."""
    env = gym.make(env_id)
    policy = Policy(env.observation_space, env.action_space, net_arch=(8,))
    with torch.no_grad():
        policy.network[-1].weight.normal_()  # not the same in every state
    facts = {"deterministic": False, "seed": 3, "algorithm": "ppo", "command": "python scripts/expert.py"}
    record_expert(policy, env_id, folder / env_id, 5, **facts | {"weights_only": True} | changes)
    return folder / env_id


def rewrite(folder, **changes):
    manifest = json.loads((folder / "manifest.json").read_text()) | changes
    manifest.pop("sha256_manifest")
    (folder / "manifest.json").write_text(json.dumps(manifest | {"sha256_manifest": sha256(canonical_json(manifest))}))


def test_the_first_use_records_what_the_second_reads(tmp_path, cache):
    folder = save(tmp_path)
    told = json.loads((folder / "manifest.json").read_text())
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "policy.safetensors"]
    assert load_expert(tmp_path, ENV).action_space.shape == (2,)
    assert not cache.exists()  # weights alone need no episodes

    first = load_demonstrations(tmp_path, ENV, 3, seed=1)
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "policy.safetensors"]
    assert first.dataset_return_mean == told["return_mean"]
    (recorded,) = cache.iterdir()
    assert first.path == recorded
    (folder / "policy.safetensors").unlink()  # nothing could be recorded now
    assert torch.equal(load_demonstrations(folder, ENV, 3, seed=1).transitions.obs, first.transitions.obs)
    manifest, episodes = load_episodes(tmp_path, ENV)
    assert [episode.total_reward for episode in episodes] == manifest["returns"] == told["returns"]
    assert {**manifest, "sha256": told["sha256"]} == {name: told[name] for name in manifest}
    assert len(load_all(folder).episode_returns) == 5


@pytest.mark.parametrize("env_id", [ENV, "CartPole-v1", "Hopper-v5"])
def test_the_files_are_the_same_each_time_and_those_of_a_dataset_with_episodes(tmp_path, env_id, monkeypatch, cache):
    save(tmp_path, env_id)
    whole = record_expert(load_expert(tmp_path, env_id), env_id, tmp_path / "whole", 5, deterministic=False, seed=3,
                          algorithm="ppo", command="")  # fmt: skip
    found = [load_demonstrations(tmp_path, env_id).sha256]
    shutil.rmtree(cache)
    found.append(load_demonstrations(tmp_path, env_id).sha256)
    assert found[0] == found[1] == json.loads((tmp_path / "whole" / "manifest.json").read_text())["sha256"]
    assert [e.total_reward for e in whole] == load_demonstrations(tmp_path, env_id, include_failed=True).episode_returns


def test_a_process_that_was_slower_uses_what_is_there(tmp_path, cache, monkeypatch):
    save(tmp_path)
    record, others = demonstrations.record_expert, []

    def slow(*arguments, **facts):
        monkeypatch.setattr(demonstrations, "record_expert", record)
        others.append(load_demonstrations(tmp_path, ENV))
        return record(*arguments, **facts)

    monkeypatch.setattr(demonstrations, "record_expert", slow)
    mine = load_demonstrations(tmp_path, ENV)
    assert [mine.path] == [other.path for other in others] == list(cache.iterdir())
    assert mine.sha256 == others[0].sha256


def test_several_processes_at_once(tmp_path, cache):
    save(tmp_path, "Hopper-v5")
    with ThreadPoolExecutor() as pool:
        validate = ("data.py", "validate", tmp_path, "--env", "Hopper-v5")
        told = list(pool.map(lambda _: anew(*validate, cwd=tmp_path), range(2)))
    assert [done.returncode for done in told] == [0, 0], told
    assert len(list(cache.iterdir())) == 1


def test_a_recording_that_is_broken_off_leaves_nothing(tmp_path, cache, monkeypatch):
    save(tmp_path)
    monkeypatch.setattr(demonstrations, "_check_returns", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        load_demonstrations(tmp_path, ENV)
    assert not list(cache.iterdir())


def test_damaged_weights_are_refused(tmp_path, cache):
    path = save(tmp_path) / "policy.safetensors"
    weights = bytearray(path.read_bytes())
    weights[-3] ^= 1
    path.write_bytes(bytes(weights))
    with pytest.raises(DemonstrationError, match=r"policy\.safetensors: field sha256: the file is cut, damaged or not"):
        load_demonstrations(tmp_path, ENV)
    path.unlink()
    with pytest.raises(DemonstrationError, match=r"policy\.safetensors: No such file"):
        load_demonstrations(tmp_path, ENV)
    assert not cache.exists()


def test_damaged_episodes_in_the_cache_are_refused(tmp_path):
    save(tmp_path)
    path = load_demonstrations(tmp_path, ENV).path / "episodes.npz"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DemonstrationError, match=r"rlgen/demonstrations/.*episodes\.npz: field sha256"):
        load_demonstrations(tmp_path, ENV)


def test_a_folder_that_cannot_be_written_to(tmp_path, monkeypatch):
    folder = save(tmp_path)
    for path in (*folder.iterdir(), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert load_demonstrations(tmp_path, ENV).path.is_relative_to(tmp_path / "cache")
    assert len(list(folder.iterdir())) == 2
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "manifest.json"))
    with pytest.raises(DemonstrationError, match="Set XDG_CACHE_HOME to a folder that can be written to"):
        load_demonstrations(tmp_path, ENV)
    folder.chmod(0o755)


def test_weights_that_earn_something_else_here_are_refused(tmp_path, cache):
    folder = save(tmp_path)
    returns = np.array(json.loads((folder / "manifest.json").read_text())["returns"])
    rewrite(folder, returns=(returns * 1.04).tolist())
    load_demonstrations(tmp_path, ENV)  # as on a processor that rounds differently
    rewrite(folder, returns=(returns * 10 - 1e5).tolist())
    with pytest.raises(DemonstrationError, match=r"its weights earn -.* here, .*; its manifest says -1.*rlgen expert"):
        load_demonstrations(tmp_path, ENV)
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": {}}, r"field sha256\.policy\.safetensors: missing"),
        ({"returns": []}, "field returns: the manifest lists 0 of 5"),
        ({"returns": [1.0] * 5000, "n_episodes": 5000}, "field n_episodes: must be a whole number from 1 to 1000"),
        ({"seed": None}, "field seed: must be a whole number"),
        ({"deterministic": None}, "field deterministic: must be true or false"),
        ({"env_id": "Hopper-v5"}, "the policy is of Box.*Hopper-v5 has Box"),
        ({"env_id": "os:Reacher-v5"}, "os:Reacher-v5 names a module to import"),
        ({"keep_every": 0}, "field keep_every"),
        ({"trained": {"env_id": 1, "versions": {}}}, r"field trained\.env_id"),
    ],
)
def test_a_wrong_manifest_is_named(tmp_path, cache, changes, message):
    folder = save(tmp_path)
    rewrite(folder, **changes)
    with pytest.raises(DemonstrationError, match=message):
        load_all(folder)
    assert not cache.exists() or not list(cache.iterdir())


def test_other_versions_record_again(tmp_path, cache, monkeypatch):
    save(tmp_path)
    load_demonstrations(tmp_path, ENV)
    monkeypatch.setattr(demonstrations, "versions", lambda: {"mujoco": "9.9"})
    with pytest.warns(UserWarning, match=r"recorded with MuJoCo 9\.9"):
        load_demonstrations(tmp_path, ENV)
    assert len(list(cache.iterdir())) == 2


def test_an_agent_learns_from_them_and_is_loaded_again(tmp_path, cache):
    save(tmp_path)
    agent = rlgen.GAIL(ENV, tmp_path, include_failed=True, n_envs=2, n_steps=8, n_threads=1)
    agent.learn(32, progress=False)
    agent.save(tmp_path / "agent")
    shutil.rmtree(cache)
    again = rlgen.load(tmp_path / "agent")
    assert again.demonstrations.sha256 == agent.demonstrations.sha256


def test_expert_writes_weights_alone_of_a_policy_of_another_version(tmp_path):
    shipped = Path(__file__).parents[2] / "expert_data"
    arguments = ["--env", "HalfCheetah-v5", "--n-episodes", "2", "--weights-only", "--output", "mine"]
    done = forked("expert.py", *arguments, "--policy", shipped / "HalfCheetah-v4", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "mine/HalfCheetah-v5: weights that record 2 episodes, return 6," in done.stdout
    folder = tmp_path / "mine" / "HalfCheetah-v5"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 30_000
    assert json.loads((folder / "manifest.json").read_text())["trained"]["env_id"] == "HalfCheetah-v4"
    done = forked("data.py", "inspect", "mine", cwd=tmp_path)
    assert "| HalfCheetah-v5 | PPO, in HalfCheetah-v4 | 2, recorded on first use | 6," in done.stdout
    assert "2 episodes of HalfCheetah-v5" in forked("data.py", "validate", folder, cwd=tmp_path).stdout
    done = forked("expert.py", *arguments, "--policy", shipped / "Hopper-v4", "--output", "other", cwd=tmp_path)
    assert (done.returncode, "the policy is of Box(-inf, inf, (11,)" in done.stderr) == (2, True), done.stderr
    assert "other" not in os.listdir(tmp_path)


def test_an_experts_spaces_are_the_environments(tmp_path):
    policy = Policy(gym.spaces.Box(-1, 1, (10,)), gym.spaces.Box(-2, 2, (2,), np.float32))
    with pytest.raises(UsageError, match=r"and Box\(-2\.0, 2\.0, \(2,\), float32\); Reacher-v5 has"):
        record_expert(policy, ENV, tmp_path, 1, deterministic=True, seed=0, algorithm="", command="")


def test_arguments_of_the_environment_are_kept_and_recorded_under(tmp_path, capsys):
    backwards = {"forward_reward_weight": -1.0, "ctrl_cost_weight": 0.0}
    folder = save(tmp_path, "HalfCheetah-v5", env_kwargs=backwards)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["env_kwargs"] == backwards
    first = load_demonstrations(tmp_path, "HalfCheetah-v5")
    assert first.env_kwargs == backwards
    assert "HalfCheetah-v5 with {" in str(first)
    assert first.dataset_return_mean == manifest["return_mean"]  # which is another one without them
    assert load_demonstrations(save(tmp_path / "plain"), ENV).env_kwargs == {}
    call(data, ["inspect", str(folder)])
    assert 'HalfCheetah-v5 with {"forward_reward_weight": -1.0, "ctrl_cost_weight": 0.0}' in capsys.readouterr().out
    call(data, ["inspect", str(tmp_path)])
    assert 'HalfCheetah-v5 with {"forward' in capsys.readouterr().out


def test_who_learns_under_other_arguments_is_warned(tmp_path):
    save(tmp_path, weights_only=False, env_kwargs={"reward_control_weight": 2})
    with pytest.warns(
        UserWarning, match=r'are of Reacher-v5 with \{"reward_control_weight": 2\}, the environment is Rea'
    ):
        rlgen.BC(ENV, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rlgen.GAIL(ENV, tmp_path, env_kwargs={"reward_control_weight": 2})
        rlgen.GAIL(gym.make(ENV, reward_control_weight=2), tmp_path / ENV)
    save(tmp_path / "plain", weights_only=False)
    with pytest.warns(UserWarning, match=r'are of Reacher-v5, the environment is Reacher-v5 with \{"rew'):
        rlgen.GAIL(ENV, tmp_path / "plain", env_kwargs={"reward_control_weight": 2})


def test_datasets_of_other_arguments_are_not_merged(tmp_path):
    one, other = (save(tmp_path / str(x), weights_only=False, env_kwargs={"reward_control_weight": x}) for x in (1, 2))
    merged = [load_source(one), load_source(one)]
    save_dataset(merged, tmp_path / "both")
    assert load_demonstrations(tmp_path / "both", ENV).env_kwargs == {"reward_control_weight": 1}
    with pytest.raises(DemonstrationError, match="of several environments: Reacher-v5 with"):
        save_dataset([load_source(one), load_source(other)], tmp_path / "other")


def test_a_recorder_tells_the_arguments_of_an_environment_that_was_made(tmp_path):
    actor = RandomActor(gym.make(ENV).action_space, 0)
    record(actor, gym.make(ENV, reward_control_weight=2), tmp_path, 2)
    assert load_demonstrations(tmp_path, ENV).env_kwargs == {"reward_control_weight": 2}
    record(actor, lambda: gym.make(ENV), tmp_path / "function", 2)
    (folder,) = (tmp_path / "function").iterdir()
    assert load_all(folder).env_kwargs is None


@pytest.mark.parametrize("kwargs", [{"no_such": 1}, {"reset_noise_scale": "x"}, {"xml_file": "/dev/zero"}, 3])
def test_arguments_out_of_a_file_that_cannot_be_used_are_refused(tmp_path, kwargs):
    folder = save(tmp_path)
    rewrite(folder, env_kwargs=kwargs)
    with pytest.raises(DemonstrationError, match=ENV):
        load_demonstrations(folder, ENV)


def test_weights_whose_environment_needs_a_file_are_not_saved_alone(tmp_path):
    arguments = ["--env", ENV, "--weights-only", "--output", str(tmp_path), "--env-kwargs", '{"xml_file": "./a.xml"}']
    done = forked("expert.py", *arguments, cwd=tmp_path)
    assert (done.returncode, "'./a.xml' may be a file" in done.stderr) == (2, True), done.stderr
