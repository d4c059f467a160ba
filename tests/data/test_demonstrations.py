import dataclasses
import io
import json
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlgen.data.demonstrations import (
    DemonstrationError,
    failed_episodes,
    load_demonstrations,
    load_expert,
    save_demonstrations,
)
from rlgen.data.episodes import Episode
from rlgen.envs import make_vec
from rlgen.files import canonical_json, sha256
from rlgen.nn.policy import Policy
from rlgen.spaces import describe_space

OBS = spaces.Box(-np.inf, np.inf, (3,), np.float64)
BOX = spaces.Box(-1, 1, (2,), np.float32)


def episode(length=60, seed=0, reward=1.0, terminated=False, action_space=BOX):
    rng = np.random.default_rng(seed)
    if isinstance(action_space, spaces.Discrete):
        actions = rng.integers(action_space.n, size=length)
    else:
        actions = rng.uniform(-1, 1, (length, 2)).astype(np.float32)
    obs = rng.normal(size=(length + 1, 3))
    return Episode(obs, actions, np.full(length, reward, np.float32), terminated, not terminated)


def save(folder, episodes, action_space=BOX, env_id="Toy-v0", policy=None, keep_every=1):
    save_demonstrations(
        folder / env_id,
        env_id=env_id,
        observation_space=OBS,
        action_space=action_space,
        episodes=episodes,
        deterministic=False,
        algorithm="trpo",
        command="python scripts/expert.py",
        seed=0,
        policy=policy,
        keep_every=keep_every,
    )
    return folder / env_id


def rewrite(folder, manifest=None, **arrays):
    """Change arrays or the manifest and repair the checksums, as a wrong but intact dataset would have them."""
    content = dict(np.load(folder / "episodes.npz")) | arrays
    np.savez_compressed(folder / "episodes.npz", **content)
    written = json.loads((folder / "manifest.json").read_text()) | (manifest or {})
    written.pop("sha256_manifest")
    written["sha256"] = {"episodes.npz": sha256((folder / "episodes.npz").read_bytes())}
    (folder / "manifest.json").write_text(json.dumps(written | {"sha256_manifest": sha256(canonical_json(written))}))


@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    discrete=st.booleans(),
    terminated=st.booleans(),
    seed=st.integers(0, 5),
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_round_trip(tmp_path, lengths, discrete, terminated, seed):
    space = spaces.Discrete(4) if discrete else BOX
    episodes = [episode(n, seed + i, 1.0, terminated, space) for i, n in enumerate(lengths)]
    save(tmp_path, episodes, space)
    loaded = load_demonstrations(tmp_path, "Toy-v0", subsample=1, include_failed=True)
    t = loaded.transitions
    np.testing.assert_array_equal(t.obs, np.concatenate([e.obs[:-1] for e in episodes]))
    np.testing.assert_array_equal(t.next_obs, np.concatenate([e.obs[1:] for e in episodes]))
    np.testing.assert_array_equal(t.actions, np.concatenate([e.actions for e in episodes]))
    ends = np.cumsum(lengths) - 1
    assert np.flatnonzero(t.terminated).tolist() == (ends.tolist() if terminated else [])
    assert np.flatnonzero(t.truncated).tolist() == ([] if terminated else ends.tolist())
    assert loaded.episode_returns == lengths


def test_the_papers_protocol(tmp_path):
    episodes = [episode(1000, i) for i in range(6)]
    save(tmp_path, episodes)
    loaded = load_demonstrations(tmp_path, "Toy-v0", n_trajectories=4, subsample=20, seed=1)
    assert loaded.transitions.obs.shape == (200, 3)
    offsets = set()
    for k, i in enumerate(loaded.episode_indices):
        rows = loaded.transitions[slice(50 * k, 50 * (k + 1))]
        offset = int(np.flatnonzero((episodes[i].obs == rows.obs[0].numpy()).all(1))[0])
        offsets.add(offset)
        np.testing.assert_array_equal(rows.obs, episodes[i].obs[offset:-1:20])
        np.testing.assert_array_equal(rows.next_obs, episodes[i].obs[offset + 1 :: 20])
    assert len(offsets) > 1
    assert max(offsets) < 20
    again = load_demonstrations(tmp_path, "Toy-v0", 4, 20, seed=1)
    assert torch.equal(again.transitions.obs, loaded.transitions.obs)
    other = load_demonstrations(tmp_path, "Toy-v0", 4, 20, seed=2)
    assert not torch.equal(other.transitions.obs, loaded.transitions.obs)
    assert "200 pairs of 4 Toy-v0 trajectories" in str(loaded)


def test_a_thinned_dataset_holds_every_kth_pair_with_its_true_successor(tmp_path):
    episodes = [episode(length=n, seed=n, terminated=n == 45) for n in (60, 45, 3)]
    save(tmp_path, episodes, keep_every=5)
    thin = load_demonstrations(tmp_path, "Toy-v0", subsample=5, include_failed=True)
    assert thin.episode_returns == [60, 45, 3]
    of_step = {e.obs[t].tobytes(): (e, t) for e in episodes for t in range(len(e.actions))}
    steps = thin.transitions
    found = [of_step[obs.numpy().tobytes()] for obs in steps.obs]
    assert sorted({len(e.actions) for e, _ in found}) == [3, 45, 60]
    for row, (e, t) in enumerate(found):
        assert np.array_equal(steps.actions[row], e.actions[t])
        assert np.array_equal(steps.next_obs[row], e.obs[t + 1])
        assert steps.terminated[row] == (e.terminated and t == len(e.actions) - 1)
    times = [t for e, t in found if e is episodes[0]]
    assert np.diff(times).tolist() == [5] * 11
    thinner = load_demonstrations(tmp_path, "Toy-v0", 1, subsample=15, seed=1)
    assert len(thinner.transitions.rewards) in (3, 4)
    with pytest.raises(DemonstrationError, match="stores every 5th pair: subsample must be a multiple of 5; got 7"):
        load_demonstrations(tmp_path, "Toy-v0", subsample=7)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"steps": np.arange(12)[::-1]}, "field steps: must be rising int64 from 0 to 119"),
        ({"steps": np.arange(12)}, "episode 1: field steps: no pair is stored"),
        ({"next_obs": np.zeros((11, 3))}, "field next_obs: shape"),
        ({"obs": np.full((12, 3), np.nan)}, "episode 0: field obs: NaN"),
    ],
)
def test_wrong_arrays_of_a_thinned_dataset_are_named(tmp_path, arrays, message):
    folder = save(tmp_path, [episode(seed=i) for i in range(2)], keep_every=10)
    rewrite(folder, **arrays)
    with pytest.raises(DemonstrationError, match=message):
        load_demonstrations(tmp_path, "Toy-v0", subsample=10)


@pytest.mark.parametrize("keep_every", [1, 5])
def test_terminations_are_counted_over_the_whole_episodes_that_were_drawn(tmp_path, keep_every):
    episodes = [episode(40, seed=0, terminated=True), episode(60, seed=1), episode(20, seed=2, terminated=True)]
    save(tmp_path, episodes, keep_every=keep_every)
    for n in (1, 2, 3):
        found = load_demonstrations(tmp_path, "Toy-v0", n, 10, seed=3)
        drawn = [episodes[i] for i in found.episode_indices]
        expected = sum(e.terminated for e in drawn) / sum(len(e.actions) for e in drawn)
        assert found.termination_rate == expected
        assert found.n_terminated == sum(e.terminated for e in drawn)


def test_every_how_many_pairs_is_told_in_words(tmp_path):
    save(tmp_path, [episode(60, seed=i) for i in range(12)])
    told = {
        1: "every pair;",
        2: "every 2nd pair;",
        3: "every 3rd pair;",
        11: "every 11th pair;",
        21: "every 21st pair;",
    }
    for subsample, words in told.items():
        assert words in str(load_demonstrations(tmp_path, "Toy-v0", 4, subsample))
    # Not a line of numbers where there are many.
    assert "returns 60 to 60" in str(load_demonstrations(tmp_path, "Toy-v0", 12, 1))


def test_failed_episodes_are_kept_and_not_drawn(tmp_path):
    save(tmp_path, [episode(60, i, reward=0.2 if i == 2 else 1.0) for i in range(5)])
    assert load_demonstrations(tmp_path, "Toy-v0").episode_indices == [0, 1, 3, 4]
    everything = load_demonstrations(tmp_path, "Toy-v0", include_failed=True)
    assert everything.episode_indices == [0, 1, 2, 3, 4]
    assert everything.dataset_return_mean == pytest.approx((4 * 60 + 12) / 5)
    with pytest.raises(DemonstrationError, match=r"4 trajectories to draw from \(1 failed ones left out\)"):
        load_demonstrations(tmp_path, "Toy-v0", 5)
    assert failed_episodes([-4.0, -7.0, -4.5, -90.0]) == [3]
    assert failed_episodes([400.0, 401.0, 402.0, 399.0, 1.9]) == [4]


def test_failed_episodes_depend_on_neither_zero_nor_unit():
    rng = np.random.default_rng(0)
    ordinary = [rng.normal(0, 10, 25) for _ in range(200)]
    assert not any(failed_episodes(returns) for returns in ordinary)
    returns = np.concatenate([ordinary[0], [-900.0, -800.0]])
    assert failed_episodes(returns) == [25, 26]
    for shift, scale in ((1000, 1), (-37, 1), (0, 0.01), (5, 100)):
        assert failed_episodes(shift + scale * returns) == [25, 26]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"obs": np.zeros((120, 4), np.float32)}, r"field obs: shape \(120, 4\)"),
        ({"obs": np.zeros((119, 3), np.float32)}, r"field obs: shape \(119, 3\)"),
        ({"obs": np.zeros((120, 3), np.int64)}, "field obs: dtype int64"),
        ({"lengths": np.array([60, 61])}, "field lengths: must be at least 1 and add up to 120"),
        ({"lengths": np.array([120, 0])}, "field lengths"),
        ({"lengths": np.array([-1, 121])}, "field lengths"),
        ({"lengths": np.array([2**62, 2**62])}, "field lengths: .* they sum to 9223372036854775808"),
        ({"lengths": np.array([120])}, r"field lengths: shape \(1,\)"),
        ({"terminated": np.full(2, 2, np.uint8).view(bool)}, "field terminated: must be true or false"),
        ({"actions": np.full((120, 2), 1.01, np.float32)}, "episode 0: field actions: outside"),
        ({"final_obs": np.full((2, 3), np.inf)}, "episode 0: field final_obs: NaN or infinite"),
        ({"truncated": np.array([True, False])}, "episode 1: field terminated: neither"),
        ({"rewards": np.full(120, 2, np.float32)}, "episode 0: field returns: the manifest says 60"),
        ({"obs": np.array([None] * 120, object)}, "not an npz of plain arrays"),
    ],
)
def test_wrong_arrays_are_named(tmp_path, arrays, message):
    folder = save(tmp_path, [episode(60, i) for i in range(2)])
    rewrite(folder, **arrays)
    with pytest.raises(DemonstrationError, match=rf"episodes\.npz: .*{message}"):
        load_demonstrations(tmp_path, "Toy-v0")


def test_a_nan_is_named_by_episode(tmp_path):
    folder = save(tmp_path, [episode(60, i) for i in range(2)])
    obs = np.load(folder / "episodes.npz")["obs"]
    obs[61, 1] = np.nan
    rewrite(folder, obs=obs)
    with pytest.raises(DemonstrationError, match="episode 1: field obs: NaN"):
        load_demonstrations(tmp_path, "Toy-v0")


def test_saving_validates_too(tmp_path):
    broken = episode()
    broken.actions[3] = 5
    with pytest.raises(DemonstrationError, match="episode 1: field actions: outside"):
        save(tmp_path, [episode(), broken])
    assert not list(tmp_path.iterdir())


def test_another_environment_or_version(tmp_path):
    folder = save(tmp_path, [episode()], env_id="HalfCheetah-v4")
    with pytest.raises(
        DemonstrationError, match=r"no dataset for HalfCheetah-v5; it has HalfCheetah-v4; the nearest is"
    ):
        load_demonstrations(tmp_path, "HalfCheetah-v5")
    with pytest.raises(DemonstrationError, match="field env_id: it was recorded in HalfCheetah-v4, not HalfCheetah-v5"):
        load_demonstrations(folder, "HalfCheetah-v5")
    with pytest.raises(DemonstrationError, match=r"no such folder.*Record one: rlgen expert --env Ant-v4"):
        load_demonstrations(tmp_path / "absent", "Ant-v4")


def test_other_spaces_than_the_environments_are_refused(tmp_path):
    save(tmp_path, [episode()], env_id="Toy-v0")
    loaded = load_demonstrations(tmp_path, "Toy-v0")
    with pytest.raises(DemonstrationError, match=r"field observation_space: its parts are observation \(3\)"):
        loaded.fitted_to(make_vec("HalfCheetah-v4", 1))
    other = dataclasses.replace(loaded, observation_space=spaces.Box(-1, 1, (17,)))
    with pytest.raises(DemonstrationError, match="field action_space: recorded in"):
        other.fitted_to(make_vec("HalfCheetah-v4", 1))


def test_a_manifest_without_a_field_is_named(tmp_path):
    folder = save(tmp_path, [episode()])
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["versions"], manifest["sha256_manifest"]
    (folder / "manifest.json").write_text(json.dumps(manifest | {"sha256_manifest": sha256(canonical_json(manifest))}))
    with pytest.raises(DemonstrationError, match="field versions: missing"):
        load_demonstrations(tmp_path, "Toy-v0")


def test_another_mujoco_warns(tmp_path):
    folder = save(tmp_path, [episode()])
    manifest = json.loads((folder / "manifest.json").read_text())
    rewrite(folder, manifest={"versions": manifest["versions"] | {"mujoco": "3.0.0"}})
    with pytest.warns(UserWarning, match=r"recorded with MuJoCo 3\.0\.0"):
        load_demonstrations(tmp_path, "Toy-v0")


@pytest.mark.parametrize("name", ["episodes.npz", "manifest.json"])
def test_no_flipped_byte_or_cut_loads_as_other_data(tmp_path, name):
    folder = save(tmp_path, [episode(60, i) for i in range(2)])
    path = folder / name
    whole = path.read_bytes()
    expected = load_demonstrations(tmp_path, "Toy-v0")
    rng = np.random.default_rng(0)
    for position in rng.integers(len(whole), size=150):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(damaged))
        try:
            loaded = load_demonstrations(tmp_path, "Toy-v0")
        except DemonstrationError:
            continue
        # JSON has bytes that mean nothing, such as blanks.
        assert name == "manifest.json"
        assert str(loaded) == str(expected)
    for length in [*range(0, len(whole), 512), len(whole) - 1]:
        path.write_bytes(whole[:length])
        if whole[:length].strip() != whole.strip():
            with pytest.raises(DemonstrationError):
                load_demonstrations(tmp_path, "Toy-v0")


@pytest.mark.parametrize("space", [BOX, spaces.Discrete(4)])
def test_the_experts_weights_round_trip_and_are_checked(tmp_path, space):
    policy = Policy(OBS, space, net_arch=(5, 7), log_std_init=-0.5)
    policy.normalizer.update(torch.randn(50, 3))
    folder = save(tmp_path, [episode(action_space=space)], space, policy=policy)
    loaded = load_expert(tmp_path, "Toy-v0")
    obs = torch.randn(20, 3)
    assert loaded.action_space == space
    assert all(
        torch.equal(a, b) for a, b in zip(policy(obs).__dict__.values(), loaded(obs).__dict__.values(), strict=True)
    )
    weights = bytearray((folder / "policy.safetensors").read_bytes())
    weights[-3] ^= 1
    (folder / "policy.safetensors").write_bytes(bytes(weights))
    with pytest.raises(DemonstrationError, match=r"policy\.safetensors: field sha256"):
        load_expert(tmp_path, "Toy-v0")
    save(tmp_path, [episode(action_space=space)], space)
    with pytest.raises(DemonstrationError, match="without its expert's weights"):
        load_expert(tmp_path, "Toy-v0")


class Payload:
    def __reduce__(self):
        return (open, (Payload.marker, "w"))


def test_a_pickle_is_never_run(tmp_path):
    folder = save(tmp_path, [episode()])
    Payload.marker = str(tmp_path / "ran")
    np.savez(folder / "episodes.npz", obs=np.array([Payload()], object))
    with zipfile.ZipFile(folder / "episodes.npz") as file:
        assert b"ran" in file.read("obs.npy")  # the payload is there
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest.pop("sha256_manifest")
    manifest["sha256"] = {"episodes.npz": sha256((folder / "episodes.npz").read_bytes())}
    (folder / "manifest.json").write_text(json.dumps(manifest | {"sha256_manifest": sha256(canonical_json(manifest))}))
    with pytest.raises(DemonstrationError):
        load_demonstrations(tmp_path, "Toy-v0")
    (folder / "manifest.json").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(DemonstrationError, match=r"manifest\.json: not JSON"):
        load_demonstrations(tmp_path, "Toy-v0")
    assert not (tmp_path / "ran").exists()


def test_a_bomb_is_refused_before_it_unpacks(tmp_path, monkeypatch):
    folder = save(tmp_path, [episode()])
    monkeypatch.setattr("rlgen.data.formats.recording.MAX_BYTES", 10_000)
    content = io.BytesIO()
    np.savez_compressed(content, **(dict(np.load(folder / "episodes.npz")) | {"obs": np.zeros((60, 100_000), "f4")}))
    (folder / "episodes.npz").write_bytes(content.getvalue())
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest.pop("sha256_manifest")
    manifest["sha256"] = {"episodes.npz": sha256(content.getvalue())}
    (folder / "manifest.json").write_text(json.dumps(manifest | {"sha256_manifest": sha256(canonical_json(manifest))}))
    with pytest.raises(DemonstrationError, match="unpacks to"):
        load_demonstrations(tmp_path, "Toy-v0")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_episodes": True}, "field n_episodes: must be a whole number from 1"),
        ({"n_episodes": 10**30}, "field n_episodes"),
        ({"returns": ["60"]}, r"field returns\[0\]: must be a number"),
        ({"returns": [60, 60]}, "field returns: the manifest lists 2 of 1"),
        ({"versions": {"mujoco": 4}}, r"field versions\.mujoco: must be text"),
        ({"keep_every": 0}, "field keep_every"),
        ({"observation_space": []}, "field observation_space"),
        ({"action_space": {"type": "Box"}}, "field action_space"),
        ({"env_id": "../Toy-v0"}, "field env_id"),
        ({"deterministic": 1}, "field deterministic: must be null"),
        ({"source": "text"}, "field source: must be an object"),
        ({"return_mean": "=1+1"}, "field return_mean: must be a number"),
        ({"return_std": {}}, "field return_std: must be a number"),
        ({"failed_episodes": 1e308}, "field failed_episodes: must be a list"),
    ],
)
def test_a_manifest_of_wrong_types_is_named(tmp_path, changes, message):
    folder = save(tmp_path, [episode()])
    rewrite(folder, changes)
    with pytest.raises(DemonstrationError, match=rf"manifest\.json: {message}|episodes\.npz: {message}"):
        load_demonstrations(folder, changes.get("env_id", "Toy-v0"))


@pytest.mark.parametrize("name", ["manifest.json", "episodes.npz"])
def test_links_and_special_files_in_a_dataset_are_refused(tmp_path, name):
    folder = save(tmp_path / "whole", [episode()])
    path = folder / name
    path.rename(tmp_path / name)
    path.symlink_to(tmp_path / name)
    with pytest.raises(DemonstrationError, match=rf"{name}: a link to another place"):
        load_demonstrations(folder, "Toy-v0")
    (tmp_path / "linked").symlink_to(folder)  # a person's own way to a dataset
    path.unlink()
    (tmp_path / name).rename(path)
    assert len(load_demonstrations(tmp_path / "linked", "Toy-v0", subsample=1).transitions.rewards) == 60
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DemonstrationError, match=r"not a regular file|no dataset"):
        load_demonstrations(folder, "Toy-v0")


def test_weights_that_are_no_numbers_or_of_another_shape_are_refused(tmp_path):
    policy = Policy(OBS, BOX, net_arch=(5,))
    with torch.no_grad():
        policy.network[0].weight[0, 0] = torch.nan
    save(tmp_path, [episode()], policy=policy)
    with pytest.raises(DemonstrationError, match=r"policy\.safetensors: field network\.0\.weight: NaN or infinite"):
        load_expert(tmp_path, "Toy-v0")
    save(tmp_path, [episode()], policy=Policy(OBS, spaces.Box(-1, 1, (3,)), net_arch=(5,)))
    with pytest.raises(DemonstrationError, match=r"policy\.safetensors: the weights don't fit the spaces"):
        load_expert(tmp_path, "Toy-v0")


def test_observations_outside_promised_bounds_are_refused(tmp_path):
    folder = save(tmp_path, [episode(60, i) for i in range(2)])
    bounded = spaces.Box(-9, 9, (3,), np.float32)
    obs = np.load(folder / "episodes.npz")["obs"].copy()
    obs[70, 1] = 9.5
    rewrite(folder, {"observation_space": describe_space(bounded)}, obs=obs)
    with pytest.raises(DemonstrationError, match="episode 1: field obs: outside"):
        load_demonstrations(tmp_path, "Toy-v0")


def test_a_path_may_be_text(tmp_path):
    save_demonstrations(
        str(tmp_path / "Toy-v0"), env_id="Toy-v0", observation_space=OBS, action_space=BOX, episodes=[episode()],
        deterministic=True, algorithm="x", command="x", seed=0,
    )  # fmt: skip
    assert (tmp_path / "Toy-v0" / "manifest.json").is_file()


def test_every_stored_pair_is_kept_unless_told(tmp_path):
    save(tmp_path, [episode() for _ in range(4)])
    assert load_demonstrations(tmp_path, "Toy-v0").subsample == 1
    save(tmp_path / "thin", [episode() for _ in range(4)], keep_every=5)
    assert load_demonstrations(tmp_path / "thin", "Toy-v0").subsample == 5


@pytest.mark.parametrize("keep_every", [1, 3])
def test_terminations_are_the_last_pairs_of_drawn_episodes_that_terminated_kept_or_not(tmp_path, keep_every):
    episodes = [episode(29, seed=i, terminated=i % 2 == 0) for i in range(6)]
    save(tmp_path, episodes, keep_every=keep_every)
    found = 0
    for seed in range(8):
        drawn = load_demonstrations(tmp_path, "Toy-v0", 4, keep_every * 2, seed=seed)
        ends = [episodes[i] for i in drawn.episode_indices if episodes[i].terminated]
        assert drawn.terminations.terminated.all()
        last = {tuple(e.obs[-1].tolist()) for e in ends}
        assert {tuple(x) for x in drawn.terminations.next_obs.tolist()} <= last
        assert keep_every > 1 or len(drawn.terminations.rewards) == len(ends)
        found += len(drawn.terminations.rewards)
    assert found > 0
