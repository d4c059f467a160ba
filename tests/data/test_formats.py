"""Other packages' files: written by those packages, by us, or by hand in their layout."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import datasets
import gymnasium as gym
import h5py
import minari
import numpy as np
import pytest
from fuzz import fuzz

from rlgen.commands import data as data_command
from rlgen.data import formats
from rlgen.data.convert import load_source, save_as, save_dataset
from rlgen.data.demonstrations import load_demonstrations, load_episodes
from rlgen.data.episodes import Episode, RandomActor, run_episodes
from rlgen.envs import make_vec
from rlgen.errors import DemonstrationError, UsageError

NAMES = {"minari": "toy-v0", "imitation": "folder", "d4rl": "toy.hdf5", "sb3": "toy.npz"}
HOPPER, CARTPOLE = "Hopper-v4", "CartPole-v1"


def episode(length, seed=0, env_id=HOPPER, terminated=True, final=True):
    rng = np.random.default_rng(seed)
    n_obs = {HOPPER: 11, CARTPOLE: 4}[env_id]
    obs = rng.normal(size=(length + final, n_obs)).astype(np.float32)
    actions = rng.uniform(-1, 1, (length, 3)).astype(np.float32) if env_id == HOPPER else rng.integers(2, size=length)
    return Episode(obs, actions, rng.normal(size=length).astype(np.float32), terminated, not terminated)


def episodes_of(env_id=HOPPER):
    limit = gym.spec(env_id).max_episode_steps
    return [episode(30, 0, env_id), episode(limit, 1, env_id, terminated=False), episode(7, 2, env_id)]


def assert_equal(found, expected, final=True):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a.obs, b.obs if final else b.obs[: len(b.actions)])
        np.testing.assert_array_equal(a.actions, b.actions)
        assert a.actions.dtype == b.actions.dtype
        np.testing.assert_array_equal(a.rewards, b.rewards)
        assert (a.terminated, a.truncated) == (b.terminated, b.truncated)


@pytest.fixture(params=formats.WRITABLE, ids=lambda kind: kind.NAME)
def kind(request):
    return request.param


@pytest.mark.parametrize("env_id", [HOPPER, CARTPOLE])
def test_what_is_written_is_read(tmp_path, kind, env_id):
    path = tmp_path / NAMES[kind.NAME]
    kind.write(path, episodes_of(env_id), env_id)
    assert formats.recognise(path) is kind
    found = load_source(path, env_id)
    assert_equal(found.episodes, episodes_of(env_id), final=kind.NAME != "sb3")
    assert found.tells_ends == (kind.NAME in ("minari", "d4rl"))
    # And on to a dataset of ours, whose pairs have true successors alone.
    save_dataset([found], tmp_path / "ours", command="convert")
    manifest, again = load_episodes(tmp_path / "ours", env_id)
    assert_equal(again, episodes_of(env_id), final=kind.NAME != "sb3")
    assert manifest["source"]["format"] == kind.NAME
    assert manifest["versions"] == {}
    with pytest.warns(UserWarning, match="of unknown version"):
        pairs = load_demonstrations(tmp_path / "ours", env_id, subsample=1, include_failed=True).transitions
    known = [e.obs[1:] for e in again]
    np.testing.assert_array_equal(pairs.next_obs, np.concatenate(known))
    assert pairs.terminated.sum() == (0 if kind.NAME == "sb3" else 2)


def test_the_environments_arguments_are_told_where_no_file_tells_them(tmp_path):
    told = {"healthy_reward": 2.0}
    formats.minari.write(tmp_path / "hopper-expert-v0", episodes_of(), HOPPER)
    path = tmp_path / "hopper-expert-v0"
    words = [sys.executable, "-m", "rlgen", "data", "convert", str(path), "--env-kwargs", json.dumps(told)]
    done = subprocess.run([*words, "--output", str(tmp_path)], capture_output=True, text=True)
    assert "--env-kwargs is of --env, an environment's id" in done.stderr
    done = subprocess.run([*words, "--env", HOPPER, "--output", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert load_episodes(tmp_path, HOPPER)[0]["env_kwargs"] == told
    assert load_source(tmp_path / HOPPER, HOPPER, env_kwargs=told).manifest["env_kwargs"] == told
    with pytest.raises(DemonstrationError, match=r'recorded in Hopper-v4 with {"healthy_reward": 2.0}, not'):
        load_source(tmp_path / HOPPER, HOPPER, env_kwargs={"healthy_reward": 1.0})


def test_minari_opens_what_is_written(tmp_path, monkeypatch):
    formats.minari.write(tmp_path / "hopper-expert-v0", episodes_of(), HOPPER)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    found = minari.load_dataset("hopper-expert-v0")
    assert found.env_spec.id == HOPPER
    assert found.total_episodes == 3
    for a, b in zip(found.iterate_episodes(), episodes_of(), strict=True):
        np.testing.assert_array_equal(a.observations, b.obs)
        np.testing.assert_array_equal(a.actions, b.actions)
        np.testing.assert_array_equal(a.rewards, b.rewards)
        assert (a.terminations[-1], a.truncations[-1]) == (b.terminated, b.truncated)
    assert os.environ["MINARI_DATASETS_PATH"] == str(tmp_path)


@pytest.mark.parametrize("data_format", ["hdf5", "arrow", "parquet"])
def test_minaris_own_files_are_read(tmp_path, monkeypatch, data_format):
    """With a dictionary of observations, as its mazes have."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    space = gym.spaces.Dict(
        {"goal": gym.spaces.Box(-9, 9, (2,), np.float64), "at": gym.spaces.Box(-9, 9, (3,), np.float64)}
    )
    rng = np.random.default_rng(0)
    obs = {"goal": rng.normal(size=(6, 2)), "at": rng.normal(size=(6, 3))}
    actions = rng.uniform(-1, 1, (5, 2)).astype(np.float32)
    flags = np.array([False] * 4 + [True])
    whole, cut = (
        minari.data_collector.EpisodeBuffer(
            observations=obs, actions=actions, rewards=list(range(5)), terminations=ends, truncations=[False] * 5
        )
        for ends in (flags, ~flags & False)
    )
    minari.create_dataset_from_buffers(
        "maze-v0",
        buffer=[whole, cut],
        observation_space=space,
        action_space=gym.spaces.Box(-1, 1, (2,), np.float32),
        data_format=data_format,
    )
    found = formats.read(tmp_path / "maze-v0")
    (only,) = found.episodes
    np.testing.assert_allclose(only.obs, np.hstack([obs["at"], obs["goal"]]))
    np.testing.assert_array_equal(only.obs[2], gym.spaces.flatten(space, {k: v[2] for k, v in obs.items()}))
    assert found.n_incomplete == 1
    assert found.env_id is None
    assert only.terminated


def test_a_minari_dataset_never_makes_its_environment(tmp_path, monkeypatch):
    """Without spaces in the metadata Minari calls `gym.make`, whose entry point is whatever the file says."""
    formats.minari.write(tmp_path / "toy-v0", episodes_of(), HOPPER)
    path = tmp_path / "toy-v0" / "data" / "metadata.json"
    metadata = json.loads(path.read_text())
    spec = json.loads(metadata["env_spec"])
    spec |= {"entry_point": "os:mkdir", "kwargs": {"path": str(tmp_path / "mark")}, "max_episode_steps": None}
    for field in ("observation_space", "action_space"):
        path.write_text(json.dumps({k: v for k, v in metadata.items() if k != field} | {"env_spec": json.dumps(spec)}))
        with pytest.raises(DemonstrationError, match=f"field {field}: missing"):
            formats.read(tmp_path / "toy-v0")
    path.write_text(json.dumps(metadata | {"env_spec": json.dumps(spec)}))
    assert len(formats.read(tmp_path / "toy-v0").episodes) == 3
    assert not (tmp_path / "mark").exists()


def test_the_datasets_package_opens_what_is_written(tmp_path):
    formats.imitation.write(tmp_path / "folder", episodes_of(), HOPPER)
    found = datasets.load_from_disk(str(tmp_path / "folder"))
    assert found.column_names == ["obs", "acts", "infos", "terminal", "rews"]
    for row, expected in zip(found, episodes_of(), strict=True):
        np.testing.assert_array_equal(np.array(row["obs"], np.float32), expected.obs)
        np.testing.assert_array_equal(np.array(row["acts"], np.float32), expected.actions)
        np.testing.assert_array_equal(np.array(row["rews"], np.float32), expected.rewards)
        assert row["terminal"]
        assert row["infos"] == ["{}"] * len(expected.actions)


def test_what_the_datasets_package_saves_is_read(tmp_path):
    rows = episodes_of()
    datasets.Dataset.from_dict(
        {
            "obs": [e.obs.astype(np.float64) for e in rows],
            "acts": [e.actions for e in rows],
            "infos": [["{}"] * len(e.actions) for e in rows],
            "terminal": [True, False, False],  # the second is as long as the time limit
            "rews": [e.rewards for e in rows],
        }
    ).save_to_disk(str(tmp_path / "folder"))
    found = load_source(tmp_path / "folder", HOPPER)
    assert_equal(found.episodes, rows[:2])
    assert found.n_incomplete == 1


def test_imitations_older_npz(tmp_path):
    rows = episodes_of()
    arrays = {
        "obs": np.concatenate([e.obs for e in rows]),
        "acts": np.concatenate([e.actions for e in rows]),
        "rews": np.concatenate([e.rewards for e in rows]),
        "terminal": np.ones(3, bool),
        "indices": np.cumsum([len(e.actions) for e in rows])[:-1],
    }
    objects = np.array([{}] * 5)  # as that package has them; they stay unread
    np.savez(tmp_path / "old.npz", infos=objects, **arrays)
    assert_equal(load_source(tmp_path / "old.npz", HOPPER).episodes, rows)
    alone = {"obs": rows[0].obs, "acts": rows[0].actions, "rews": rows[0].rewards, "terminal": np.ones(1, bool)}
    np.savez(tmp_path / "one.npz", indices=np.cumsum([]), **alone)
    assert_equal(load_source(tmp_path / "one.npz", HOPPER).episodes, rows[:1])
    np.savez(tmp_path / "old.npz", **(arrays | {"rews": objects}))
    with pytest.raises(DemonstrationError, match=r"old.npz: not an npz of plain arrays .*Object arrays"):
        formats.read(tmp_path / "old.npz")


def d4rl(path, steps=50, **changes):
    rng = np.random.default_rng(0)
    arrays = {
        "observations": rng.normal(size=(steps, 11)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (steps, 3)).astype(np.float32),
        "rewards": rng.normal(size=(steps, 1)).astype(np.float32),
        "terminals": np.isin(np.arange(steps), [9, 29]),
        "timeouts": np.arange(steps) == 39,
    } | changes
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            if array is not None:
                file[name] = array
    return arrays


def test_d4rl_without_what_it_may_lack(tmp_path):
    path = tmp_path / "hopper.hdf5"
    arrays = d4rl(path)
    found = formats.read(path)
    assert [len(e.actions) for e in found.episodes] == [10, 20, 10]
    assert found.n_incomplete == 1
    assert [e.terminated for e in found.episodes] == [True, True, False]
    np.testing.assert_array_equal(found.episodes[1].obs, arrays["observations"][10:30])
    np.testing.assert_array_equal(found.episodes[1].rewards, arrays["rewards"][10:30, 0])
    d4rl(path, timeouts=np.zeros(50))
    assert len(formats.read(path, time_limit=20).episodes) == 3  # its last flag is missing
    d4rl(path, timeouts=None, terminals=np.zeros(50))
    with pytest.raises(DemonstrationError, match="without timeouts the time limit splits its episodes; tell --env"):
        formats.read(path)
    d4rl(path, timeouts=None)
    found = formats.read(path, time_limit=15)
    assert [(len(e.actions), e.terminated) for e in found.episodes] == [(10, True), (15, False), (5, True), (15, False)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rewards": None}, "a log with the columns actions, observations, terminals, timeouts. Tell which are"),
        ({"rewards": np.zeros(49)}, "field rewards: 49 rows beside 50"),
        ({"timeouts": np.zeros(3)}, "field timeouts: 3 rows"),
        ({"next_observations": np.zeros((50, 10))}, "field next_observations: its shape"),
        ({"terminals": np.zeros(50), "timeouts": np.zeros(50)}, "no complete episode"),
        ({"observations": np.zeros(50)}, "field observations: must be numbers, a row a step"),
        ({"actions": [b"text"] * 50}, "field actions: not an array of numbers"),
        ({"actions": h5py.ExternalLink("other.hdf5", "actions")}, "field actions"),
    ],
)
def test_a_wrong_hdf5_is_named(tmp_path, changes, message):
    d4rl(tmp_path / "other.hdf5")
    d4rl(tmp_path / "wrong.hdf5", **changes)
    with pytest.raises(DemonstrationError, match=rf"wrong.hdf5.*{message}"):
        formats.read(tmp_path / "wrong.hdf5")


def test_a_file_that_unpacks_to_more_than_a_gigabyte_is_refused(tmp_path):
    path = tmp_path / "bomb.hdf5"
    d4rl(path, observations=None)
    with h5py.File(path, "a") as file:
        file.create_dataset("observations", (50, 1 << 26), np.float32, chunks=(1, 1 << 20), compression="gzip")
    assert path.stat().st_size < 1 << 20
    with pytest.raises(DemonstrationError, match=r"bomb.hdf5: needs more than 1024 MiB"):
        formats.read(path)


@pytest.mark.parametrize(
    ("script", "message"),
    [("kill -SEGV $$", "signal 11"), ("sleep 60", "not read within 1 s"), ("echo oh >&2; exit 1", "oh")],
)
def test_a_reader_that_dies_is_an_error(tmp_path, monkeypatch, script, message):
    d4rl(tmp_path / "hopper.hdf5")
    reader = tmp_path / "python"
    reader.write_text(f"#!/bin/sh\n{script}\n")
    reader.chmod(stat.S_IRWXU)
    monkeypatch.setattr(sys, "executable", str(reader))
    with pytest.raises(DemonstrationError, match=rf"hopper.hdf5: .*{message}"):
        formats.read(tmp_path / "hopper.hdf5", timeout=1)


def test_stable_baselines_and_baselines_and_the_papers_files(tmp_path):
    rows = [episode(8, i, CARTPOLE) for i in range(3)]
    flat = {
        "obs": np.concatenate([e.obs[:-1] for e in rows]).astype(np.float64),
        "actions": np.concatenate([e.actions for e in rows])[:, None],
        "rewards": np.concatenate([e.rewards for e in rows]),
        "episode_starts": np.arange(24) % 8 == 0,
        "episode_returns": np.array([e.total_reward for e in rows]),
    }
    np.savez(tmp_path / "sb.npz", **flat)
    assert_equal(load_source(tmp_path / "sb.npz", CARTPOLE).episodes, rows, final=False)
    np.savez(tmp_path / "sb.npz", **(flat | {"episode_starts": np.zeros(24, bool)}))
    with pytest.raises(DemonstrationError, match="field episode_starts: must have"):
        formats.read(tmp_path / "sb.npz")

    stacked = {name: np.stack(values) for name, values in (
        ("obs", [e.obs[:-1] for e in rows]), ("acs", [e.actions for e in rows]), ("rews", [e.rewards for e in rows])
    )}  # fmt: skip
    np.savez(tmp_path / "baselines.npz", ep_rets=np.zeros(3), **stacked)
    assert_equal(load_source(tmp_path / "baselines.npz", CARTPOLE).episodes, rows, final=False)

    lengths = np.array([8, 5, 3])
    padded = np.arange(8) < lengths[:, None]
    with h5py.File(tmp_path / "paper.h5", "w") as file:
        file["obs_B_T_Do"] = stacked["obs"] * padded[:, :, None]
        file["a_B_T_Da"] = stacked["acs"] * padded
        file["r_B_T"] = stacked["rews"] * padded
        file["len_B"] = lengths
    found = load_source(tmp_path / "paper.h5", CARTPOLE).episodes
    assert [len(e.actions) for e in found] == [8, 5, 3]
    np.testing.assert_array_equal(found[1].obs, rows[1].obs[:5])
    with h5py.File(tmp_path / "paper.h5", "a") as file:
        file["len_B"][1] = 9
    with pytest.raises(DemonstrationError, match=r"field len_B: must lie in 1..8"):
        formats.read(tmp_path / "paper.h5")


def test_one_hot_actions_are_refused_and_whole_floats_are_not(tmp_path):
    only = episode(8, 0, CARTPOLE)
    flat = {"obs": only.obs[:-1], "rewards": only.rewards, "episode_starts": np.arange(8) == 0}
    np.savez(tmp_path / "toy.npz", actions=np.eye(2)[only.actions], **flat)
    with pytest.raises(DemonstrationError, match=r"toy.npz: episode 0: field actions: shape \(2,\)"):
        save_dataset([load_source(tmp_path / "toy.npz", CARTPOLE)], tmp_path, command="")
    np.savez(tmp_path / "toy.npz", actions=only.actions[:, None].astype(np.float64), **flat)
    save_dataset([load_source(tmp_path / "toy.npz", CARTPOLE)], tmp_path, command="")
    _, (found,) = load_episodes(tmp_path, CARTPOLE)
    np.testing.assert_array_equal(found.actions, only.actions)


def test_no_file_imports_a_module(tmp_path, monkeypatch):
    """As `module:Id` would, in Minari's metadata or in a manifest."""
    (tmp_path / "payload.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'mark')!r})\n")
    monkeypatch.syspath_prepend(tmp_path)
    formats.minari.write(tmp_path / "toy-v0", episodes_of(), HOPPER)
    path = tmp_path / "toy-v0" / "data" / "metadata.json"
    metadata = json.loads(path.read_text())
    spec = json.loads(metadata["env_spec"]) | {"id": "payload:Foo-v0"}
    path.write_text(json.dumps(metadata | {"env_spec": json.dumps(spec)}))
    for env_id in (None, HOPPER):
        with pytest.raises(DemonstrationError, match="'payload:Foo-v0' names a module"):
            load_source(tmp_path / "toy-v0", env_id)
    assert not (tmp_path / "mark").exists()


def test_links_out_of_a_minari_dataset_are_refused(tmp_path):
    formats.minari.write(tmp_path / "toy-v0", episodes_of(), HOPPER)
    path = tmp_path / "toy-v0" / "data" / "main_data.hdf5"
    d4rl(tmp_path / "secret.hdf5")
    with h5py.File(path, "a") as file:
        del file["episode_0/actions"]
        file["episode_0/actions"] = h5py.ExternalLink(str(tmp_path / "secret.hdf5"), "actions")
    with pytest.raises(DemonstrationError, match="field episode_0/actions: its values are in another place"):
        formats.read(tmp_path / "toy-v0")
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DemonstrationError, match=r"main_data.hdf5: a link to another place"):
        formats.read(tmp_path / "toy-v0")


def test_linked_folders_of_a_minari_dataset_are_refused(tmp_path):
    formats.minari.write(tmp_path / "toy-v0", episodes_of(), HOPPER)
    (tmp_path / "toy-v0" / "data").rename(tmp_path / "elsewhere")
    (tmp_path / "toy-v0" / "data").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DemonstrationError, match=r"data: a link to another place"):
        formats.read(tmp_path / "toy-v0")


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/dev/zero", path)])
def test_special_files_are_refused_at_once(tmp_path, make):
    make(tmp_path / "toy.hdf5")
    with pytest.raises(DemonstrationError, match=r"toy\.hdf5: not a regular file"):
        formats.read(tmp_path / "toy.hdf5", timeout=60)
    formats.minari.write(tmp_path / "toy-v0", episodes_of(), HOPPER)
    make(tmp_path / "toy-v0" / "data" / "other.hdf5")
    with pytest.raises(DemonstrationError, match=r"other\.hdf5: (not a regular file|a link)"):
        formats.read(tmp_path / "toy-v0", timeout=60)


def test_a_web_of_hard_links_is_refused(tmp_path):
    """Thirty groups, each in the one before by two names, are a billion paths."""
    d4rl(tmp_path / "web.hdf5")
    with h5py.File(tmp_path / "web.hdf5", "a") as file:
        inner = file.create_group("last")
        for i in range(30):
            outer = file.create_group(f"level{i}")
            outer["a"] = outer["b"] = inner
            inner = outer
    with pytest.raises(DemonstrationError, match=r"web\.hdf5: field .*: its values are in another place"):
        formats.read(tmp_path / "web.hdf5", timeout=60)


def test_minari_is_written_to_a_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    formats.minari.write(Path("toy-v0"), episodes_of(), HOPPER)
    assert_equal(load_source(Path("toy-v0"), HOPPER).episodes, episodes_of())


class Named(gym.Env):
    """Its observations' names are not in alphabetical order."""

    observation_space = gym.spaces.Dict(
        [("velocity", gym.spaces.Box(-9, 9, (1,), np.float32)), ("angle", gym.spaces.Box(-9, 9, (2,), np.float32))]
    )
    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        return self.observation_space.sample(), {}


def minari_of_names(path, monkeypatch, space, obs):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(path.parent))
    buffer = minari.data_collector.EpisodeBuffer(
        observations=obs,
        actions=np.zeros((2, 2), np.float32),
        rewards=[1, 1],
        terminations=[False, True],
        truncations=[False] * 2,
    )
    minari.create_dataset_from_buffers(
        path.name, buffer=[buffer], observation_space=space, action_space=Named.action_space
    )


def test_observations_are_matched_by_name(tmp_path, monkeypatch):
    if "tests/Named-v0" not in gym.registry:
        gym.register("tests/Named-v0", Named, max_episode_steps=5)
    velocity, angle = np.full((3, 1), 7, np.float32), np.arange(6, dtype=np.float32).reshape(3, 2)
    obs = {"velocity": velocity, "angle": angle}
    minari_of_names(tmp_path / "named-v0", monkeypatch, Named.observation_space, obs)
    source = load_source(tmp_path / "named-v0", "tests/Named-v0")
    assert source.columns == (("angle", 2), ("velocity", 1))
    save_dataset([source], tmp_path / "out", command="test")
    _, (found,) = load_episodes(tmp_path / "out", "tests/Named-v0")
    np.testing.assert_array_equal(found.obs, np.hstack([velocity, angle]))
    space = gym.spaces.Dict({"speed": Named.observation_space["velocity"], "angle": Named.observation_space["angle"]})
    minari_of_names(tmp_path / "other-v0", monkeypatch, space, {"speed": velocity, "angle": angle})
    message = r"other-v0: field observations: its parts are angle \(2\), speed \(1\); the environment's are velocity"
    with pytest.raises(DemonstrationError, match=message):
        save_dataset([load_source(tmp_path / "other-v0", "tests/Named-v0")], tmp_path / "out", command="test")
    minari_of_names(tmp_path / "wide-v0", monkeypatch, Named.observation_space, obs | {"angle": 10 * angle})
    with pytest.raises(DemonstrationError, match=r"field episode_0: observations outside"):
        load_source(tmp_path / "wide-v0", "tests/Named-v0")


def minari_with_broken_episodes(folder):
    """Of five episodes the second has an action too few, the third no actions, and the fourth a NaN."""
    rows = [episode(6, i) for i in range(5)]
    rows[3].obs[2] = np.nan
    formats.minari.write(folder, rows, HOPPER)
    with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
        short = file["episode_1/actions"][:-1]
        del file["episode_1/actions"], file["episode_2/actions"]
        file["episode_1/actions"] = short
    return [rows[0], rows[4]]


def test_broken_minari_episodes_are_skipped_if_asked(tmp_path, capsys):
    whole = minari_with_broken_episodes(tmp_path / "toy-v0")
    with pytest.raises(DemonstrationError, match="field episode_1: observations, actions, rewards and ends differ"):
        load_source(tmp_path / "toy-v0")
    found = load_source(tmp_path / "toy-v0", skip_broken=True)
    assert_equal(found.episodes, whole)
    assert [told.partition(": ")[2][:9] for told in found.broken[:1]] == ["field epi"]
    assert len(found.broken) == 3
    data_command.main(data_command.Convert(path=tmp_path / "toy-v0", output=tmp_path, env=None, skip_broken=True))
    assert "3 broken episodes left out; the first: " in capsys.readouterr().err
    assert load_episodes(tmp_path, HOPPER)[0]["n_episodes"] == 2
    with h5py.File(tmp_path / "toy-v0" / "data" / "main_data.hdf5", "a") as file:
        del file["episode_0"], file["episode_3"], file["episode_4"]
    with pytest.raises(DemonstrationError, match=r"no complete episode; .*episode_0"):
        load_source(tmp_path / "toy-v0", skip_broken=True)


def test_broken_trajectories_and_nan_are_skipped_if_asked(tmp_path):
    rows = episodes_of()
    datasets.Dataset.from_dict(
        {
            "obs": [e.obs for e in rows],
            "acts": [e.actions[i == 1 :] for i, e in enumerate(rows)],
            "terminal": [True] * 3,
            "rews": [e.rewards for e in rows],
        }
    ).save_to_disk(str(tmp_path / "folder"))
    with pytest.raises(DemonstrationError, match="trajectory 1: 1001 observations, 999 actions and 1000 rewards"):
        load_source(tmp_path / "folder", HOPPER)
    found = load_source(tmp_path / "folder", HOPPER, skip_broken=True)
    assert_equal(found.episodes, [rows[0], rows[2]])
    assert len(found.broken) == 1
    arrays = d4rl(tmp_path / "hopper.hdf5")
    arrays["observations"][12] = np.nan
    d4rl(tmp_path / "hopper.hdf5", observations=arrays["observations"])
    found = load_source(tmp_path / "hopper.hdf5", HOPPER, skip_broken=True)
    assert [len(e.actions) for e in found.episodes] == [10, 10]
    assert found.broken == ["episode 1: NaN or infinite"]


def test_another_environment_than_the_files_warns(tmp_path):
    formats.minari.write(tmp_path / "toy-v0", episodes_of(), HOPPER)
    with pytest.warns(UserWarning, match=r"toy-v0 was recorded in Hopper-v4, not in Hopper-v5"):
        assert load_source(tmp_path / "toy-v0", "Hopper-v5").env_id == "Hopper-v5"


def test_the_parent_never_opens_a_foreign_file(tmp_path):
    """A process with the libraries does, since damaged bytes may crash those."""
    d4rl(tmp_path / "hopper.hdf5")
    code = f"""
import sys
from pathlib import Path
from rlgen.data.convert import load_source
source = load_source(Path({str(tmp_path / "hopper.hdf5")!r}), "Hopper-v4")
assert source.format == "d4rl"
sys.exit("h5py" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_task_that_json_cannot_name_goes_to_minari(tmp_path):
    env_id = "rlgen/SparseMountainCar-v0"
    envs = make_vec(env_id, 2)
    envs.reset(seed=0)
    rows = run_episodes(RandomActor(envs.single_action_space, 0), envs, seed=0)
    formats.minari.write(tmp_path / "toy-v0", rows, env_id)
    assert_equal(load_source(tmp_path / "toy-v0", env_id).episodes, rows)


def test_what_is_written_elsewhere_is_checked_too(tmp_path):
    d4rl(tmp_path / "hopper.hdf5", actions=np.full((50, 3), 9.0))
    source = load_source(tmp_path / "hopper.hdf5", HOPPER)
    with pytest.raises(DemonstrationError, match="field actions: outside"):
        save_as(source, tmp_path / "toy.npz", formats.sb3)
    save_as(source, tmp_path / "toy.npz", formats.sb3, clip_actions=True)
    assert load_source(tmp_path / "toy.npz", HOPPER).episodes[0].actions.max() == 1


def test_actions_outside_the_bounds_are_refused_or_clipped(tmp_path):
    arrays = d4rl(tmp_path / "hopper.hdf5", actions=2 * np.random.default_rng(0).normal(size=(50, 3)))
    source = load_source(tmp_path / "hopper.hdf5", HOPPER)
    with pytest.raises(DemonstrationError, match=r"hopper.hdf5: episode 0: field actions: outside"):
        save_dataset([source], tmp_path, command="")
    assert not (tmp_path / HOPPER).exists()
    save_dataset([source], tmp_path, command="", clip_actions=True)
    _, found = load_episodes(tmp_path, HOPPER)
    np.testing.assert_array_equal(found[0].actions, arrays["actions"][:10].clip(-1, 1).astype(np.float32))


def test_merging_keeps_what_the_sources_agree_on(tmp_path):
    for name in ("a", "b"):
        d4rl(tmp_path / f"{name}.hdf5")
        save_dataset(
            [load_source(tmp_path / f"{name}.hdf5", HOPPER)], tmp_path / name, command=name, deterministic=True
        )
    sources = [load_source(tmp_path / "a" / HOPPER), load_source(tmp_path / "b", HOPPER)]
    save_dataset(sources, tmp_path / "both", command="merge")
    manifest, found = load_episodes(tmp_path / "both" / HOPPER)
    assert_equal(found, sources[0].episodes + sources[1].episodes)
    assert manifest["deterministic"] is True
    assert manifest["algorithm"] == "unknown"
    formats.sb3.write(tmp_path / "cartpole.npz", [episode(8, 0, CARTPOLE)], CARTPOLE)
    with pytest.raises(DemonstrationError, match="of several environments"):
        save_dataset([*sources, load_source(tmp_path / "cartpole.npz", CARTPOLE)], tmp_path, command="")


def test_what_a_format_cannot_hold_is_said(tmp_path):
    without = [episode(8, final=False)]
    for kind in (formats.minari, formats.imitation):
        with pytest.raises(DemonstrationError, match="an observation after the last action"):
            kind.write(tmp_path / "toy-v0", without, HOPPER)
    with pytest.raises(DemonstrationError, match="wants a name with a version, as toy-v0"):
        formats.minari.write(tmp_path / "toy", [episode(8)], HOPPER)
    with pytest.raises(DemonstrationError, match="stores every 20th pair"):
        load_source(Path(__file__).parents[2] / "expert_data", "Humanoid-v4")
    (tmp_path / "text.npz").write_text("<html>not found</html>")
    with pytest.raises(DemonstrationError, match=r"text.npz: none of the formats that are read: minari"):
        formats.read(tmp_path / "text.npz")
    with pytest.raises(DemonstrationError, match=r"holds datasets of .*Hopper-v4.*; tell one's folder, or --env"):
        load_source(Path(__file__).parents[2] / "expert_data")
    formats.sb3.write(tmp_path / "toy.npz", [episode(8)], HOPPER)
    with pytest.raises(UsageError, match=r"doesn't tell its environment"):
        save_dataset([load_source(tmp_path / "toy.npz")], tmp_path, command="")


def test_damaged_files_are_errors_and_never_crash_hang_or_run():
    """benchmarks/fuzz.py has ten thousand."""
    table = fuzz(210, seed=1).set_index("format")
    assert set(table.columns) <= {
        "inputs", "error", "equal data", "other data", "peak_mib", "longest_seconds"
    }, table  # fmt: skip
    assert (table["error"] > 0).all()
    assert (table["peak_mib"] < 1024).all()
    # Where there are checksums, nothing else is loaded; others have none.
    assert table.loc[["rlgen dataset", "rlgen checkpoint", "sb3", "imitation npz"], "other data"].sum() == 0


def test_memory_is_limited_only_where_it_can_be(monkeypatch):
    """Windows has no `resource`; on Linux a limit above the one that holds would be refused."""
    from rlgen.data.formats import __main__ as reader

    resource = pytest.importorskip("resource")
    told = []
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limits: told.append(limits))
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1 << 40, 1 << 40))
    reader.limit_memory(1 << 50)
    assert told == [(1 << 40, 1 << 40)]
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "resource", None)
    reader.limit_memory(1 << 50)
    assert len(told) == 1
