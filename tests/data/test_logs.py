"""Logs of one's own, files and arrays, as demonstrations; files are written by the libraries that people use."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import h5py
import matplotlib
import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
import torch

import rlgen
from rlgen.commands import data as data_command
from rlgen.data import formats
from rlgen.data.convert import load_source, log_spaces, save_as, save_dataset
from rlgen.data.demonstrations import load_demonstrations, load_episodes, outside_by_column
from rlgen.data.formats import log
from rlgen.data.formats.log import mapping_of
from rlgen.errors import DemonstrationError, UsageError

LENGTHS = (5, 7, 4)
COLUMNS = {"obs": ["joint_pos"], "actions": ["torque"], "episode": "trial", "rewards": "r"}


def frame():
    """Three trials of a robot of three joints and two motors."""
    rng = np.random.default_rng(0)
    n = sum(LENGTHS)
    table = {"time": np.arange(n) * 0.01}
    table |= {f"joint_pos_{i}": rng.normal(size=n) for i in (2, 0, 1)}
    table |= {f"torque[{i}]": rng.uniform(-1, 1, n) for i in range(2)}
    table |= {"trial": np.repeat(["b", "a", "c"], LENGTHS), "r": rng.normal(size=n)}
    table["fell"] = np.isin(np.arange(n), [4, 15])
    return pd.DataFrame(table)


def expected(table=None):
    table = frame() if table is None else table
    obs = table[[f"joint_pos_{i}" for i in range(3)]].to_numpy()
    return obs, table[["torque[0]", "torque[1]"]].to_numpy(), table["r"].to_numpy(np.float32)


def read(path, time_limit=None, skip_broken=False, **columns):
    return log.read(path, time_limit, mapping_of(columns, "test"), skip_broken)


def assert_holds(recording, lengths=LENGTHS):
    assert [len(e.actions) for e in recording.episodes] == list(lengths)
    for field, values in zip(("obs", "actions", "rewards"), expected(), strict=True):
        np.testing.assert_allclose(np.concatenate([getattr(e, field) for e in recording.episodes]), values, rtol=1e-12)


WRITERS = {
    "plain.csv": lambda table, path: table.to_csv(path, index=False),
    "index.csv": lambda table, path: table.to_csv(path),
    "semicolons_and_commas.csv": lambda table, path: table.to_csv(path, sep=";", decimal=",", index=False),
    "tabs.csv": lambda table, path: table.to_csv(path, sep="\t", index=False),
    "bom.csv": lambda table, path: table.to_csv(path, encoding="utf-8-sig", index=False, lineterminator="\r\n"),
    "LOG.CSV": lambda table, path: table.to_csv(path, index=False),
    "log.parquet": lambda table, path: table.to_parquet(path),
    "log.npz": lambda table, path: np.savez(path, **{name: table[name].to_numpy(str if name == "trial" else None)
                                                     for name in table}),
    "log.npy": lambda table, path: np.save(path, table.astype({"trial": "category"}).assign(
        trial=lambda t: t.trial.cat.codes).to_records(index=False)),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_of_file_holds_the_same(tmp_path, name):
    WRITERS[name](frame(), tmp_path / name)
    found = read(tmp_path / name, **COLUMNS)
    assert_holds(found)
    assert found.names == {"obs": ["joint_pos_0", "joint_pos_1", "joint_pos_2"], "actions": ["torque[0]", "torque[1]"]}
    assert not any(e.terminated for e in found.episodes)
    flagged = read(tmp_path / name, **COLUMNS, terminated="fell")
    assert [(e.terminated, e.truncated) for e in flagged.episodes] == [(True, False), (False, True), (True, False)]


def test_arrays_and_lists_of_numbers_are_as_wide_as_they_are(tmp_path):
    """As npz files of robots, and LeRobot's Parquet, have them."""
    obs, actions, rewards = expected()
    np.savez(tmp_path / "log.npz", q=obs, u=actions.astype(np.float32), r=rewards, end=np.cumsum(LENGTHS) - 1)
    with pytest.raises(DemonstrationError, match=r"columns differ in length: q 16, u 16, r 16, end 3"):
        read(tmp_path / "log.npz", obs="q", actions="u", rewards="r", terminated="end")
    ids = np.repeat([3, 1, 2], LENGTHS)
    for kind in (pyarrow.list_(pyarrow.float64()), pyarrow.list_(pyarrow.float64(), 3)):
        table = {"observation.state": pyarrow.array(list(obs), kind), "action": list(actions), "reward": rewards}
        pyarrow.parquet.write_table(pyarrow.table(table | {"episode_index": ids}), tmp_path / "log.parquet")
        found = read(
            tmp_path / "log.parquet",
            obs="observation.state",
            actions="action",
            rewards="reward",
            episode="episode_index",
        )
        assert_holds(found)
        assert found.names["actions"] == ["action[0]", "action[1]"]


def test_a_plain_npy_has_columns_by_number(tmp_path):
    obs, actions, rewards = expected()
    np.save(tmp_path / "log.npy", np.hstack([np.repeat([0, 1, 2], LENGTHS)[:, None], obs, actions, rewards[:, None]]))
    assert_holds(read(tmp_path / "log.npy", obs=["1", "2", "3"], actions=["4", "5"], rewards="6", episode="0"))


@pytest.mark.parametrize("ending", ["csv", "parquet", "npz", "npy"])
def test_a_folder_has_an_episode_a_file_in_the_order_of_numbers(tmp_path, ending):
    kind = next(name for name in WRITERS if name.endswith(ending))
    for i, (_, rows) in zip((2, 9, 10), frame().groupby("trial", sort=False), strict=True):
        WRITERS[kind](rows, tmp_path / f"episode_{i}.{ending}")
    (tmp_path / "README.txt").write_text("about the robot")
    found = read(tmp_path, **{name: columns for name, columns in COLUMNS.items() if name != "episode"})
    assert_holds(found)


def robomimic(path):
    """Twelve demonstrations as robomimic stores them, with images, nested groups and a filter beside them."""
    rng = np.random.default_rng(0)
    lengths = [4 + i for i in range(12)]
    with h5py.File(path, "w") as file:
        file.create_group("data").attrs["env_args"] = "{}"
        for i, n in enumerate(lengths):
            demo = file.create_group(f"data/demo_{i}")
            demo.attrs["num_samples"] = n
            eef, gripper = rng.normal(size=(n + 1, 3)), rng.normal(size=(n + 1, 2))
            for part, rows in (("obs", slice(n)), ("next_obs", slice(1, None))):
                demo.create_dataset(f"{part}/robot0_eef_pos", data=eef[rows], compression="gzip")
                demo.create_dataset(f"{part}/robot0_gripper_qpos", data=gripper[rows])
                demo.create_dataset(f"{part}/agentview_image", data=np.zeros((n, 4, 4, 3), np.uint8))
            demo["actions"] = rng.uniform(-1, 1, (n, 7))
            demo["rewards"] = np.arange(n) == n - 1
            demo["dones"] = np.arange(n) == n - 1
        file["mask/train"] = np.array([b"demo_0", b"demo_1"])
    return lengths


ROBOMIMIC = {
    "obs": ["obs/robot0_eef_pos", "obs/robot0_gripper_qpos"],
    "next_obs": ["next_obs/robot0_eef_pos", "next_obs/robot0_gripper_qpos"],
    "actions": "actions",
    "rewards": "rewards",
    "done": "dones",
    "episodes": "data/*",
}


def test_groups_of_hdf5_are_an_episode_each(tmp_path):
    path = tmp_path / "low_dim.hdf5"
    lengths = robomimic(path)
    found = formats.read(path, mapping=mapping_of(ROBOMIMIC, "test"))
    assert [len(e.actions) for e in found.episodes] == lengths  # demo_2 before demo_10
    assert all(e.total_reward == 1 and e.terminated and e.obs.shape == (len(e.actions) + 1, 5) for e in found.episodes)
    with h5py.File(path) as file:
        last = file["data/demo_11"]
        np.testing.assert_array_equal(found.episodes[-1].obs[:-1, :3], last["obs/robot0_eef_pos"])
        np.testing.assert_array_equal(found.episodes[-1].obs[-1, 3:], last["next_obs/robot0_gripper_qpos"][-1])
        np.testing.assert_array_equal(found.episodes[-1].actions, last["actions"])
    assert found.names["obs"][-1] == "obs/robot0_gripper_qpos[1]"
    done = command("data", "inspect", path.name, cwd=tmp_path)
    assert "with the columns actions, dones, next_obs/agentview_image, " in done.stderr
    assert "--env ID --episodes 'data/demo_*' --obs NAME" in done.stderr
    done = command("data", "convert", path.name, "--name", "arm", "--episodes", "data/demo_*", "--obs",
                   "obs/robot0_eef_pos", "--actions", "actions", "--output", "out", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert load_demonstrations(tmp_path / "out", "arm").episode_lengths == lengths
    for changes, message in (
        ({"episodes": "data/demo"}, r"no group matches data/demo. There are data, data/demo_0, data/demo_0/next_obs, "),
        ({"episodes": "mask"}, r"low_dim.hdf5: mask: no column or array obs/robot0_eef_pos.* There are train"),
        ({"obs": "obs/robot0_eef"}, "data/demo_0: no column .*; did you mean obs/robot0_eef_pos"),
    ):
        with pytest.raises(DemonstrationError, match=message):
            formats.read(path, mapping=mapping_of(ROBOMIMIC | changes, "test"))
    with h5py.File(path, "a") as file:
        file["data/demo_3/obs/robot0_eef_pos"][2, 1] = np.nan
        file["data/demo_5/obs/robot0_eef_pos"][:] = np.inf
    with pytest.raises(DemonstrationError, match=r"data/demo_3: .*NaN or infinite of 7 rows: .*eef_pos\[1\] in 1 rows"):
        formats.read(path, mapping=mapping_of(ROBOMIMIC, "test"))
    left = formats.read(path, mapping=mapping_of(ROBOMIMIC, "test"), skip_broken=True)
    assert (len(left.episodes), len(left.broken)) == (10, 2)
    with h5py.File(path, "a") as file:
        file["data/demo_12/actions"] = h5py.ExternalLink("other.hdf5", "actions")
    with pytest.raises(DemonstrationError, match=r"data/demo_12/actions: its values are in another place"):
        formats.read(path, mapping=mapping_of(ROBOMIMIC, "test"))


def test_plain_arrays_of_hdf5_are_columns(tmp_path):
    obs, actions, rewards = expected()
    trials = np.repeat([b"b", b"a", b"c"], LENGTHS)
    with h5py.File(tmp_path / "log.h5", "w") as file:
        file["state/joint_pos"], file["torque"], file["r"], file["trial"] = obs, actions, rewards, trials
    columns = {"obs": "state/joint_pos", "actions": "torque", "rewards": "r", "episode": "trial"}
    assert_holds(read(tmp_path / "log.h5", **columns))
    with pytest.raises(DemonstrationError, match="field trial: not an array of numbers"):
        read(tmp_path / "log.h5", **columns | {"rewards": "trial"})
    frame().to_csv(tmp_path / "log.csv")
    with pytest.raises(DemonstrationError, match=r"log.csv: only HDF5 has groups"):
        read(tmp_path / "log.csv", **COLUMNS, episodes="data/*")


def test_flags_split_a_log_without_an_episode_column(tmp_path):
    table = frame().assign(stopped=lambda t: t.index == 11)
    table.to_csv(tmp_path / "log.csv", index=False)
    columns = {"obs": "joint_pos", "actions": "torque", "rewards": "r"}
    found = read(tmp_path / "log.csv", **columns, terminated="fell", truncated="stopped")
    assert_holds(found)
    assert [e.terminated for e in found.episodes] == [True, False, True]
    assert found.tells_ends
    # The steps after the last flag belong to an episode that is cut off.
    found = read(tmp_path / "log.csv", **columns, truncated="stopped")
    assert [len(e.actions) for e in found.episodes] == [12]
    assert found.n_incomplete == 1
    # How one ended isn't told by `done`: by the time limit then.
    found = read(tmp_path / "log.csv", time_limit=11, **columns, done="fell")
    assert [(len(e.actions), e.terminated) for e in found.episodes] == [(5, True), (11, False)]
    assert not found.tells_ends


def test_a_column_of_modes_labels_the_dataset(tmp_path):
    table = frame().assign(who=np.repeat([1, -1, 0], LENGTHS))
    table.to_csv(tmp_path / "log.csv", index=False)
    source = read(tmp_path / "log.csv", **COLUMNS, label="who")
    assert_holds(source)
    assert source.labels == [1, None, 0]
    data_command.main(
        data_command.Convert(
            path=tmp_path / "log.csv",
            name="arm",
            obs=("joint_pos",),
            actions=("torque",),
            episode="trial",
            label="who",
            output=tmp_path / "out",
        )
    )
    labels = load_demonstrations(tmp_path / "out", "arm", 3).labels.tolist()
    # Of each episode but its last step, whose successor this log doesn't tell.
    assert labels == [1] * 4 + [-1] * 6 + [0] * 3
    for wrong, message in (
        (table.who + (table.index == 2), r"who.* the same in all rows of an episode; row 3 differs"),
        (table.who - 0.5, r"who.* whole numbers from 0"),
        (table.who - 1, r"who.* whole numbers from 0"),
    ):
        table.assign(who=wrong).to_csv(tmp_path / "wrong.csv", index=False)
        with pytest.raises(DemonstrationError, match=message):
            read(tmp_path / "wrong.csv", **COLUMNS, label="who")


def test_the_final_observation_is_kept_where_it_is_known(tmp_path):
    table = frame()
    following = table[[f"joint_pos_{i}" for i in range(3)]].shift(-1).fillna(0.5)
    following.columns = [f"next_{i}" for i in range(3)]
    ends = np.cumsum(LENGTHS) - 1
    following.iloc[ends] = 0.25
    pd.concat([table, following], axis=1).to_csv(tmp_path / "log.csv", index=False)
    found = read(tmp_path / "log.csv", next_obs="next", **COLUMNS)
    assert [len(e.obs) for e in found.episodes] == [n + 1 for n in LENGTHS]
    assert all((e.obs[-1] == 0.25).all() for e in found.episodes)
    following.iloc[2] += 1  # rows that were left out
    pd.concat([table, following], axis=1).to_csv(tmp_path / "log.csv", index=False)
    with pytest.raises(DemonstrationError, match=r"next_obs of row 3 isn't obs of the next row \(1 such rows\)"):
        read(tmp_path / "log.csv", next_obs="next", **COLUMNS)
    obs, actions, _ = expected()
    np.savez(tmp_path / "one.npz", q=obs, u=actions[:-1])
    (only,) = read(tmp_path / "one.npz", obs="q", actions="u").episodes
    assert (len(only.obs), len(only.actions)) == (16, 15)
    np.savez(tmp_path / "one.npz", q=obs, u=actions[:-1], end=np.arange(15) % 5 == 4)
    with pytest.raises(DemonstrationError, match="obs has a row more than the rest"):
        read(tmp_path / "one.npz", obs="q", actions="u", terminated="end")


@pytest.mark.parametrize(
    ("there", "found"),
    [
        (["x"], ["x"]),
        (["x", "x_0", "x_1"], ["x"]),  # its own name first
        (["x_10", "x_2", "y", *(f"x_{i}" for i in (0, 1, 3, 4, 5, 6, 7, 8, 9))], [f"x_{i}" for i in range(11)]),
        (["x[1]", "x[0]"], ["x[0]", "x[1]"]),
        (["x1", "x2", "x3"], ["x1", "x2", "x3"]),
        (["x.0", "x.1", "x_max"], ["x.0", "x.1"]),
        (["x_0"], ["x_0"]),
        (["x_0", "x[0]"], "x may be any of"),
        (["x_0", "x_2"], "x has gaps in its numbers, x_0, x_2"),
        (["x_3"], "x has gaps"),
        (["x_1", "x_01"], "x has gaps"),
        (["xx", "y"], "no column or array x; did you mean xx"),
        (["speed"], "no column or array x. There are speed"),
    ],
)
def test_what_a_name_stands_for(there, found):
    if isinstance(found, list):
        assert log._find("x", there, "log") == found
    else:
        with pytest.raises(DemonstrationError, match=found):
            log._find("x", there, "log")


def written(path, change=lambda table: table, **options):
    change(frame()).to_csv(path, **{"index": False} | options)


@pytest.mark.parametrize(
    ("change", "columns", "message"),
    [
        (lambda t: t.drop(columns="torque[1]").rename(columns={"torque[0]": "torqe"}), {},
         "no column or array torque; did you mean torqe"),
        (lambda t: t.assign(joint_pos_1=t.joint_pos_1.where(t.index % 5 != 3)), {},
         "NaN or infinite of 16 rows: joint_pos_1 in 3 rows, the first 4"),
        (lambda t: t.replace({"r": {t.r[2]: np.inf}}), {}, "r in 1 rows, the first 3"),
        (lambda t: t.astype({"r": object}).replace({"r": {t.r[6]: "fast"}}), {}, "r: 'fast' in row 7 is no number"),
        (lambda t: t.rename(columns={"time": "r"}), {}, "several columns are named r"),
        (lambda t: t.iloc[:0], {}, "a header and no rows"),
        (lambda t: t.iloc[[0, 6, 1]], {}, "field trial: an episode goes on after another one began"),
        (lambda t: t.replace({"trial": {"a": None}}), {}, "field trial: empty in row 6"),
        (lambda t: t, {"rewards": "joint_pos"}, "rewards must be one column; got joint_pos_0, joint_pos_1"),
        (lambda t: t, {"actions": ["joint_pos_1"]}, "joint_pos_1 is told twice among obs and actions"),
        (lambda t: t, {"terminated": "time"}, "field time: must be 0 or 1"),
        (lambda t: t.assign(fell=t.index == 2), {"terminated": "fell"}, "the episode in row 3, before its last row"),
        (lambda t: t.assign(fell=0).drop(columns="trial"), {"terminated": "fell", "episode": None},
         "no row ends an episode"),
    ],
)  # fmt: skip
def test_a_log_that_cannot_be_used_is_told(tmp_path, change, columns, message):
    written(tmp_path / "log.csv", change)
    columns = {name: value for name, value in (COLUMNS | columns).items() if value is not None}
    with pytest.raises(DemonstrationError, match=rf"log\.csv: .*{message}"):
        read(tmp_path / "log.csv", **columns)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b"x,y\n1,2\n3\n4,5\n", "line 3 has 1 fields; the header has 2"),
        (b"0.5,1\n2,3\n", "the first line must name the columns; it holds numbers"),
        (b"x,y\n1,\xff\n", "not a CSV file in UTF-8"),
        ("x,y\n1,2\n".encode("utf-16"), "not a CSV file in UTF-8"),
        (b"x,y\n1,2,5\n", "line 2 has 3 fields"),
    ],
)
def test_a_damaged_csv_is_told(tmp_path, content, message):
    (tmp_path / "log.csv").write_bytes(content)
    with pytest.raises(DemonstrationError, match=rf"log\.csv: .*{message}"):
        read(tmp_path / "log.csv", obs="x", actions="y")


def test_numpys_own_text_is_read(tmp_path):
    np.savetxt(tmp_path / "log.csv", np.arange(12).reshape(4, 3), delimiter=",", header="x, y, u")
    (only,) = read(tmp_path / "log.csv", obs=["x", "y"], actions="u").episodes
    np.testing.assert_array_equal(only.obs, [[0, 1], [3, 4], [6, 7], [9, 10]])


def test_a_long_csv_is_read_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(formats.tables, "ROWS", 3)
    written(tmp_path / "log.csv")
    assert_holds(read(tmp_path / "log.csv", **COLUMNS))
    written(tmp_path / "log.csv", lambda t: t.astype({"r": object}).replace({"r": {t.r[11]: "?"}}))
    with pytest.raises(DemonstrationError, match=r"'\?' in row 12"):
        read(tmp_path / "log.csv", **COLUMNS)


def test_pickles_and_other_objects_stay_unread(tmp_path):
    np.savez(tmp_path / "log.npz", q=np.array([{}] * 3), u=np.zeros(3))
    np.save(tmp_path / "log.npy", {"q": np.zeros(3)})
    for name in ("log.npz", "log.npy"):
        with pytest.raises(DemonstrationError, match=r"Object arrays"):
            read(tmp_path / name, obs="q", actions="u")
    assert len(read(tmp_path / "log.npz", obs="u").episodes) == 1  # what isn't asked for isn't read
    pd.DataFrame({"q": pd.date_range("2026", periods=3), "u": ["a", "b", "c"], "x": [[1], [1, 2], [3]]}).to_parquet(
        tmp_path / "log.parquet"
    )
    for name, message in (("q", "must be numbers"), ("u", "must be numbers"), ("x", "its rows differ in length")):
        with pytest.raises(DemonstrationError, match=f"field {name}: {message}"):
            read(tmp_path / "log.parquet", obs=name)


def test_published_files_are_read():
    """What pyarrow and matplotlib ship: prices of diamonds, with text between the columns, and of shares."""
    folder = Path(pyarrow.__file__).parent / "tests" / "data" / "parquet"
    (only,) = read(folder / "v0.7.1.parquet", obs=["x", "y", "z"], actions="price").episodes
    np.testing.assert_array_equal(only.actions, pd.read_parquet(folder / "v0.7.1.parquet").price)
    with pytest.raises(DemonstrationError, match="field cut: an episode goes on after another one began"):
        read(folder / "v0.7.1.parquet", obs=["x", "y", "z"], actions="price", episode="cut")
    folder = Path(matplotlib.__file__).parent / "mpl-data" / "sample_data"
    (only,) = read(folder / "msft.csv", obs=["Open", "High", "Low", "Close"], actions="Volume").episodes
    assert only.obs.shape == (len(only.actions), 4)
    assert only.actions.dtype == np.int64


def test_parquet_without_pyarrow_is_told(tmp_path, monkeypatch):
    frame().to_parquet(tmp_path / "log.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(DemonstrationError, match=r"needs pyarrow.*pip install 'rlgen\[data\]'"):
        read(tmp_path / "log.parquet", **COLUMNS)


def test_a_file_that_cannot_be_used_is_left_out_of_a_folder_if_asked(tmp_path):
    for i in range(3):
        written(tmp_path / f"{i}.csv", lambda t, i=i: t if i != 1 else t.drop(columns="r"))
    columns = {"obs": "joint_pos", "actions": "torque", "rewards": "r"}
    with pytest.raises(DemonstrationError, match=r"1\.csv: no column or array r"):
        read(tmp_path, **columns)
    found = read(tmp_path, skip_broken=True, **columns)
    assert len(found.episodes) == 2
    assert len(found.broken) == 1
    assert "1.csv" in found.broken[0]
    written(tmp_path / "1.csv", lambda t: t.rename(columns={"joint_pos_2": "joint_pos_two"}))
    with pytest.raises(DemonstrationError, match=r"1\.csv: has other columns than .*0\.csv"):
        read(tmp_path, **columns)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"obs": "x", "action": "u"}, "action says nothing of a log; did you mean actions"),
        ({"actions": "u"}, "field obs: missing"),
        ({"obs": 3}, "field obs: must be a column's name or a list of names; got 3"),
        ({"obs": {"a": []}}, "field obs: must be a column's name"),
        ({"obs": "x", "rewards": ["r"]}, "field rewards: must be text"),
        ({"obs": {"a": "x"}, "next_obs": "y"}, "next_obs must have the keys of obs, a"),
    ],
)
def test_a_wrong_mapping_is_told(told, message):
    with pytest.raises(UsageError, match=message):
        mapping_of(told, "robot.toml")


class Cart(gym.Env):
    """Its observations' names are not in alphabetical order, and one of them is an index."""

    observation_space = gym.spaces.Dict(
        [("velocity", gym.spaces.Box(-9, 9, (2,), np.float32)), ("gear", gym.spaces.Discrete(3))]
    )
    action_space = gym.spaces.Discrete(4, start=1)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return {"velocity": np.zeros(2, np.float32), "gear": 0}, {}

    def step(self, action):
        return {"velocity": np.ones(2, np.float32), "gear": 1}, 0.0, False, False, {}


class Simulator(gym.Env):
    """Of a robot of three joints and two motors that stands still."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(3, np.float32), {}

    def step(self, action):
        return np.zeros(3, np.float32), 0.0, False, False, {}


@pytest.fixture
def cart():
    if "tests/Cart-v0" not in gym.registry:
        gym.register("tests/Cart-v0", Cart, max_episode_steps=9)
    return "tests/Cart-v0"


def test_dict_observations_are_told_by_key_in_a_file(tmp_path, cart):
    table = pd.DataFrame({"vx": [1.5, 2, 3], "vy": [4, 5, 6], "gear": [0, 2, 1], "do": [1.0, 4.0, 2.0]})
    table.to_csv(tmp_path / "log.csv", index=False)
    (tmp_path / "cart.toml").write_text('actions = "do"\n[obs]\ngear = "gear"\nvelocity = ["vx", "vy"]\n')
    mapping = mapping_of(log.read_mapping(tmp_path / "cart.toml"), "cart.toml")
    source = load_source(tmp_path / "log.csv", cart, mapping=mapping)
    assert source.columns == (("gear", 1), ("velocity", 2))
    save_dataset([source], tmp_path / "out")
    _, (only,) = load_episodes(tmp_path / "out", cart)
    np.testing.assert_array_equal(only.obs, [[1.5, 4, 1, 0, 0], [2, 5, 0, 0, 1], [3, 6, 0, 1, 0]])
    np.testing.assert_array_equal(only.actions, [1, 4, 2])  # whole numbers that a file had as floats
    assert only.actions.dtype == np.int64
    for change, message in (
        ({"gear": [0, 3, 1]}, r"gear has values that are none of Discrete\(3\)"),
        ({"do": [1, 2.5, 2]}, r"2.5 is none of Discrete\(4, start=1\), which are whole numbers"),
        ({"do": [0, 1, 2]}, r"actions: outside Discrete.*do in 1 of 3 rows \(0 to 2\)"),
    ):
        table.assign(**change).to_csv(tmp_path / "log.csv", index=False)
        with pytest.raises(DemonstrationError, match=message):
            save_dataset([load_source(tmp_path / "log.csv", cart, mapping=mapping)], None)
    flat = mapping_of({"obs": ["vx", "vy", "gear"], "actions": "do"}, "test")
    with pytest.raises(
        DemonstrationError, match=r"its parts are observation \(3\); the environment's are velocity \(2\)"
    ):
        save_dataset([load_source(tmp_path / "log.csv", cart, mapping=flat)], None)
    (tmp_path / "cart.toml").write_text("obs = [")
    with pytest.raises(UsageError, match=r"cart\.toml: not a TOML file"):
        log.read_mapping(tmp_path / "cart.toml")


def pendulum(n=20, seed=0, **changes):
    """A log in Pendulum's spaces, of so many steps."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(-3, 3, n)
    obs = np.stack([np.cos(angle), np.sin(angle), rng.uniform(-8, 8, n)], 1)
    return {"obs": obs, "actions": rng.uniform(-2, 2, (n, 1)), "episode": np.arange(n) // 10} | changes


def test_arrays_become_demonstrations(tmp_path):
    steps = pendulum()
    found = rlgen.demonstrations_of(steps, env="Pendulum-v1")
    assert found.episode_lengths == [10, 10]
    assert found.n_terminated == 0
    assert found.dataset_return_mean is None
    assert found.action_space == gym.make("Pendulum-v1").action_space
    kept = np.setdiff1d(np.arange(20), [9, 19])  # the last ones' successors aren't known
    np.testing.assert_array_equal(found.transitions.obs.numpy(), steps["obs"][kept].astype(np.float32))
    np.testing.assert_array_equal(found.transitions.next_obs.numpy(), steps["obs"][kept + 1].astype(np.float32))
    assert found.transitions.rewards.isnan().all()
    assert "no rewards" in str(found)
    # Lists, tensors and data frames; an episode in each dict; stored, too.
    lists = [
        {"obs": torch.tensor(steps["obs"][:10]), "actions": steps["actions"][:10].tolist(), "rewards": [1] * 10},
        {"obs": pd.DataFrame(steps["obs"][10:]), "actions": pd.Series(steps["actions"][10:, 0]), "rewards": [2] * 10},
    ]
    again = rlgen.demonstrations_of(lists, "Pendulum-v1", str(tmp_path))
    np.testing.assert_array_equal(again.transitions.actions.numpy(), found.transitions.actions.numpy())
    assert again.episode_returns == [10, 20]
    stored = load_demonstrations(tmp_path, "Pendulum-v1", include_failed=True)
    assert stored.sha256 == again.sha256
    assert stored.path == again.path


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"reward": [1] * 20}, UsageError, "steps: reward says nothing of a log; did you mean rewards"),
        ({"actions": [[1.0], [1.0, 2.0]]}, DemonstrationError, "steps: actions: no array of numbers"),
        (
            {"actions": np.zeros((19, 1))},
            DemonstrationError,
            "columns differ in length: obs 20, actions 19, episode 20",
        ),
        ({"actions": ["left"] * 20}, DemonstrationError, "field actions: must be numbers; got <U4"),
        ({"obs": np.zeros((20, 4))}, DemonstrationError, r"its parts are observation \(4\); the environment's are"),
        (
            {"rewards": np.ones((20, 2))},
            DemonstrationError,
            r"field rewards: must be one number a row; got rewards\[0\]",
        ),
        ({"episode": ["a"] * 9 + ["b", "a"] * 5 + ["c"]}, DemonstrationError, "an episode goes on after another one"),
        ({"actions": np.full((20, 1), np.nan)}, DemonstrationError, r"NaN or infinite of 20 rows: actions in 20"),
        ({"actions": np.full((20, 2), 1.0)}, DemonstrationError, r"field actions: shape \(2,\)"),
    ],
)
def test_arrays_that_cannot_be_used_are_told(changes, error, message):
    with pytest.raises(error, match=message):
        rlgen.demonstrations_of(pendulum(**changes), env="Pendulum-v1")


def test_one_long_episode_where_the_environment_has_a_limit_is_told():
    steps = pendulum(n=201)
    del steps["episode"]
    with pytest.raises(DemonstrationError, match=r"one episode of 201 steps; the environment's time limit is 200"):
        rlgen.demonstrations_of(steps, env="Pendulum-v1")


def test_actions_outside_are_counted_by_column(tmp_path):
    steps = pendulum()
    steps["actions"][[3, 17]] = [[2.5], [-4]]
    message = r"episode 0: field actions: outside Box\(-2.0, 2.0, .*: actions in 2 of 20 rows \(-4 to 2.5\)"
    with pytest.raises(DemonstrationError, match=message):
        rlgen.demonstrations_of(steps, env="Pendulum-v1")
    with pytest.warns(UserWarning, match=r"are clipped: actions in 2 of 20 rows"):
        found = rlgen.demonstrations_of(steps, env="Pendulum-v1", clip_actions=True)
    assert found.transitions.actions.abs().max() == 2
    source = dataclasses.replace(log.recording_of([steps], 200), env_id="Pendulum-v1")
    with pytest.warns(UserWarning, match=r"bounds are widened: actions in 2 of 20 rows"):
        save_dataset([source], tmp_path, keep_actions=True)
    kept = load_demonstrations(tmp_path, "Pendulum-v1", include_failed=True)
    assert (kept.action_space.low, kept.action_space.high) == (-4, 2.5)
    with pytest.raises(DemonstrationError, match="field action_space: recorded in Box"):
        rlgen.GAIL("Pendulum-v1", kept, n_envs=2, n_steps=32, n_threads=1).learn(64, progress=False)


def test_columns_are_counted_by_number_where_their_names_do_not_fit():
    space, rows = gym.spaces.Box(-1, 1, (2,), np.float32), np.array([[0, 2], [0, 0]], np.float32)
    assert outside_by_column(rows, space, ["x", "y"]) == "y in 1 of 2 rows (0 to 2)"
    assert outside_by_column(rows, space, ["x"]) == "column 1 in 1 of 2 rows (0 to 2)"
    assert outside_by_column(rows[1:], space) == ""


def test_observations_outside_are_counted_in_one_warning():
    steps = pendulum()
    steps["obs"][4:6, 2] = 9
    with pytest.warns(UserWarning, match=r"observations lie outside Box.*: obs\[2\] in 2 of 20 rows") as told:
        rlgen.demonstrations_of(steps, env="Pendulum-v1")
    assert len(told) == 1


def test_states_alone_are_learned_from_and_nothing_else_takes_them(tmp_path):
    steps = {name: value for name, value in pendulum(n=40).items() if name != "actions"}
    found = rlgen.demonstrations_of(steps, env="Pendulum-v1", folder=tmp_path)
    assert found.transitions.actions.shape == (36, 0)
    assert "36 states of 4" in str(found)
    settings = {"n_envs": 2, "n_steps": 32, "n_threads": 1}
    gail = rlgen.GAIL("Pendulum-v1", tmp_path, n_trajectories=4, state_only=True, **settings)
    gail.learn(128, progress=False)
    assert gail.metrics["discriminator_loss"].notna().all()
    assert gail.evaluate(2).score is None  # the log has no rewards to compare with
    for model in ("gail", "airl", "fem", "gtal"):
        with pytest.raises(DemonstrationError, match=rf"no actions, and reward model {model} learns from actions"):
            rlgen.GAIL("Pendulum-v1", found, reward_model=model, **settings).learn(64, progress=False)
    from rlgen.nn.discriminator import Discriminator
    from rlgen.rewards.gail import GAIL

    with pytest.raises(UsageError, match="hold states and no actions"):
        GAIL(Discriminator(3, found.action_space), found.transitions)
    source = load_source(tmp_path, "Pendulum-v1")
    save_dataset([source], tmp_path / "again")
    assert load_episodes(tmp_path / "again", "Pendulum-v1")[0]["actions"] is False
    with pytest.raises(DemonstrationError, match="holds states and no actions; d4rl stores actions"):
        save_as(source, tmp_path / "x.hdf5", formats.d4rl)
    other = dataclasses.replace(log.recording_of([pendulum()], 200), env_id="Pendulum-v1")
    with pytest.raises(DemonstrationError, match=r"field actions: shape \(0,\); the environment's is \(1,\)"):
        save_dataset([source, other], None)


def test_all_episodes_of_converted_data_are_learned_from(tmp_path):
    steps = {"obs": np.random.default_rng(0).normal(size=(60, 2)), "actions": np.linspace(-1, 1, 60)[:, None]}
    rlgen.demonstrations_of(steps | {"episode": np.repeat(np.arange(10), 6)}, name="arm", folder=tmp_path)
    assert len(rlgen.BC(None, tmp_path / "arm", n_threads=1).demonstrations.episode_indices) == 10
    assert len(rlgen.BC(None, tmp_path / "arm", n_trajectories=3).demonstrations.episode_indices) == 3
    shipped = Path(__file__).parents[2] / "expert_data"
    for agent in (rlgen.BC("CartPole-v1", shipped), rlgen.GAIL("CartPole-v1", shipped)):
        assert len(agent.demonstrations.episode_indices) == 4


def test_what_needs_rewards_says_so(tmp_path):
    rlgen.demonstrations_of(pendulum(), env="Pendulum-v1", folder=tmp_path)
    with pytest.raises(DemonstrationError, match="holds no rewards; d4rl stores rewards"):
        save_as(load_source(tmp_path, "Pendulum-v1"), tmp_path / "x.hdf5", formats.d4rl)
    gail = rlgen.GAIL("Pendulum-v1", tmp_path, n_trajectories=2, n_envs=2, n_steps=32, n_threads=1)
    run = gail.learn(64, run_dir=tmp_path / "run", eval_episodes=2, progress=False)
    summary = pd.read_json(tmp_path / "run" / "summary.json", typ="series")
    assert summary["expert_return_mean"] is None
    assert summary["normalised_score"] is None
    assert run.expert_return is None
    with_rewards = dataclasses.replace(log.recording_of([pendulum(rewards=np.ones(20))], 200), env_id="Pendulum-v1")
    with pytest.raises(DemonstrationError, match="field rewards: NaN"):
        save_dataset([load_source(tmp_path, "Pendulum-v1"), with_rewards], None)


def test_a_robot_without_a_simulator_has_the_spaces_of_its_log(tmp_path):
    written(tmp_path / "log.csv")
    mapping = mapping_of(COLUMNS, "test")
    source = dataclasses.replace(load_source(tmp_path / "log.csv", mapping=mapping), env_id="arm")
    save_dataset([source], tmp_path, spaces=log_spaces(source, mapping))
    found = load_demonstrations(tmp_path, "arm")
    _, actions, rewards = expected()
    assert found.observation_space == gym.spaces.Box(-np.inf, np.inf, (3,), np.float64)
    np.testing.assert_array_equal(found.action_space.low, actions.min(0).astype(np.float32))
    np.testing.assert_array_equal(found.action_space.high, actions.max(0).astype(np.float32))
    np.testing.assert_allclose(found.dataset_return_mean, rewards.sum() / 3, rtol=1e-6)
    manifest, _ = load_episodes(tmp_path, "arm")
    assert manifest["source"]["names"]["actions"] == ["torque[0]", "torque[1]"]
    # It is checked, merged and converted without an environment.
    save_dataset([load_source(tmp_path / "arm"), load_source(tmp_path / "arm")], tmp_path / "twice")
    assert load_episodes(tmp_path / "twice", "arm")[0]["n_episodes"] == 6
    # GAIL acts in an environment: a simulator that is registered by the log's name, with its spaces.
    with pytest.raises(gym.error.Error, match="arm"):
        rlgen.GAIL("arm", tmp_path)
    gym.register("arm", Simulator, max_episode_steps=7)
    try:
        told = mapping_of(COLUMNS | {"action_space": {"low": -1, "high": 1}}, "test")
        save_dataset([source], tmp_path / "bounded", spaces=log_spaces(source, told))
        gail = rlgen.GAIL("arm", tmp_path / "bounded", n_trajectories=3, n_envs=2, n_steps=32, n_threads=1)
        assert gail.learn(64, progress=False).metrics["discriminator_loss"].notna().all()
    finally:
        del gym.registry["arm"]


@pytest.mark.parametrize(
    ("told", "spaces"),
    [
        ({}, (gym.spaces.Box(-np.inf, np.inf, (2,), np.float64), gym.spaces.Discrete(3))),
        ({"action_space": {"low": -5, "high": 5}}, (None, gym.spaces.Box(-5, 5, (1,), np.float32))),
        ({"action_space": {"type": "Discrete", "n": 8}}, (None, gym.spaces.Discrete(8))),
        ({"observation_space": {"low": -1, "high": [1, 2]}},
         (gym.spaces.Box(np.array([-1, -1.0]), np.array([1, 2.0]), dtype=np.float64), None)),
        ({"obs": {"b": "x", "a": "y"}, "observation_space": {"b": {"low": 0}}},
         (gym.spaces.Dict([("b", gym.spaces.Box(0, np.inf, (1,), np.float64)),
                           ("a", gym.spaces.Box(-np.inf, np.inf, (1,), np.float64))]), None)),
        ({"action_space": {"low": 3, "high": 1}}, "action_space: a Box's low is above its high"),
        ({"observation_space": {"low": [1, 2, 3]}}, "observation_space: a Box's low must be one value or 2"),
        ({"obs": {"a": "x"}, "observation_space": {"low": 1}}, "must be told by the keys of obs, a"),
    ],
)  # fmt: skip
def test_spaces_are_derived_or_told(tmp_path, told, spaces):
    pd.DataFrame({"x": [0.5, 1], "y": [0.25, 0], "u": [2, 0]}).to_csv(tmp_path / "log.csv", index=False)
    mapping = mapping_of({"obs": ["x", "y"], "actions": "u"} | told, "test")
    source = log.read(tmp_path / "log.csv", None, mapping)
    if isinstance(spaces, str):
        with pytest.raises(UsageError, match=spaces):
            log_spaces(source, mapping)
        return
    found = log_spaces(source, mapping)
    assert all(there is None or there == here for there, here in zip(spaces, found, strict=True))
    save_dataset([dataclasses.replace(source, env_id="x")], tmp_path, spaces=found)
    assert load_demonstrations(tmp_path, "x").action_space == found[1]


def test_errors_of_arrays_tell_arguments_of_python():
    steps = pendulum()
    steps["actions"][3] = 2.5
    message = r"^steps: episode 0: field actions: .*\(clip_actions=True\) clips them, .* \(keep_actions=True\) widens"
    with pytest.raises(DemonstrationError, match=message):
        rlgen.demonstrations_of(steps, env="Pendulum-v1")
    with pytest.warns(UserWarning, match=r"^steps: .*bounds are widened"):
        assert rlgen.demonstrations_of(steps, env="Pendulum-v1", keep_actions=True).action_space.high == 2.5
    del steps["actions"]
    with pytest.raises(
        UsageError, match=r"^steps: there are no actions .*--env \(env=...\), or the space, action_space"
    ):
        rlgen.demonstrations_of(steps, name="arm")


def test_a_dict_of_arrays_needs_no_environment():
    found = rlgen.demonstrations_of(
        {"obs": {"arm": {"q": [[0.0, 1], [2, 3], [4, 5]]}, "load": [1.0, 2, 3]}, "actions": np.array([0, 2, 1])}
    )
    assert found.env_id == "log"
    with pytest.raises(UsageError, match=r"name \.\./x: must be of letters"):
        rlgen.demonstrations_of({"obs": [1.0], "actions": [0]}, name="../x")
    assert list(found.observation_space.spaces) == ["arm/q", "load"]
    assert found.action_space == gym.spaces.Discrete(3)
    np.testing.assert_array_equal(found.transitions.obs.numpy(), [[0, 1, 1], [2, 3, 2]])


def command(*words, cwd):
    words = [sys.executable, "-m", "rlgen", *map(str, words)]
    return subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=120)


def test_from_a_robots_csv_to_a_dataset_by_one_command(tmp_path):
    written(tmp_path / "robot.csv")
    done = command("data", "convert", "robot.csv", "--name", "arm", "--obs", "joint_pos", "--actions", "torque",
                   "--episode", "trial", "--output", "out", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "joint_pos_0, joint_pos_1, joint_pos_2" in done.stdout
    assert "unknown: no rewards" in done.stdout
    assert load_demonstrations(tmp_path / "out", "arm").episode_lengths == list(LENGTHS)
    assert "6 episodes" not in command("data", "inspect", "out/arm", cwd=tmp_path).stderr
    assert "one episode" not in done.stderr
    done = command("data", "convert", "robot.csv", "--name", "whole", "--obs", "joint_pos", "--actions", "torque",
                   "--output", "out", cwd=tmp_path)  # fmt: skip
    assert "robot.csv: one episode of 16 steps, since nothing tells where others begin; --episode names" in done.stderr
    # What isn't told is asked for, with the columns that there are.
    done = command("data", "inspect", "robot.csv", cwd=tmp_path)
    assert done.returncode == 3
    assert "a log with the columns time, joint_pos_2, joint_pos_0" in done.stderr
    assert "rlgen data convert robot.csv --output ... --env ID --obs NAME" in done.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"name": "arm"}, "--name is for a log"),
        ({"obs": ("x",)}, "tell the log's environment, --env ID, or a name"),
        ({"obs": ("x",), "name": "arm", "env": "CartPole-v1"}, "tell the log's environment"),
        ({"obs": ("x",), "name": "CartPole-v1"}, "name CartPole-v1: must be"),
        ({"obs": ("x",), "name": "../arm"}, r"name \.\./arm: must be"),
        ({"obs": ("x",), "name": "arm", "to": "d4rl"}, "--to d4rl needs an environment"),
        ({"actions": ("x",), "name": "arm"}, "the log's columns: field obs: missing"),
    ],
)
def test_flags_that_do_not_go_together_are_told(tmp_path, flags, message):
    written(tmp_path / "log.csv")
    arguments = data_command.Convert(path=tmp_path / "log.csv", output=tmp_path / "out", **{"env": None} | flags)
    with pytest.raises(UsageError, match=message):
        data_command.main(arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name", ["robot.csv", "my robot.hdf5", "steps.npz", "maze-v0/data/metadata.json", "logs/1.csv"]
)
def test_an_expert_of_another_format_names_the_command(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    given = tmp_path / Path(name).parts[0]
    quoted = f"'{given}'" if " " in name else str(given)
    with pytest.raises(DemonstrationError) as error:
        load_demonstrations(given, "Pendulum-v1")
    assert f"rlgen data convert {quoted} --env Pendulum-v1 --output experts" in str(error.value)
    assert ("--obs NAME" in str(error.value)) == name.endswith(("csv", "npz", "hdf5"))
