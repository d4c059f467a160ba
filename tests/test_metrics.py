"""docs/metrics.md explains every column that a run writes, and no other."""

import importlib
import io
import re
from contextlib import redirect_stdout, suppress
from pathlib import Path

import numpy as np
import pytest
import tyro
from matplotlib.image import imread

import rlgen
from rlgen.exploration import BONUSES
from rlgen.run_log import _tag, plot_curve

ROOT = Path(__file__).parents[1]
TASK = "rlgen/SparseMountainCar-v0"


def gail(**told):
    return rlgen.GAIL("CartPole-v1", ROOT / "expert_data", **told)


RUNS = {
    **{f"gail {algo}": (gail, {"algo": algo}) for algo in ("trpo", "ppo")},
    **{f"gail {name}": (gail, {"reward_model": name}) for name in ("fem", "gtal", "airl", "constant")},
    "gail state-only": (gail, {"state_only": True}),
    "gail task": (gail, {"task_reward_weight": 0.1}),
    "gail features": (gail, {"reward": "feature-matching", "information_limit": 0.5}),
    "gail paper": (gail, {"preset": "paper"}),
    "gail codes": (gail, {"codes": 2, "continuous_codes": 1}),
    **{f"vime {bonus}": (rlgen.VIME, {"env": TASK, "bonus": bonus}) for bonus in BONUSES},
    "bc": (lambda **told: rlgen.BC("CartPole-v1", ROOT / "expert_data", device=told["device"]), {}),
    "trpo": (rlgen.TRPO, {"env": "CartPole-v1"}),
    "ppo": (rlgen.PPO, {"env": "CartPole-v1"}),
    "sac": (rlgen.SAC, {"env": "Pendulum-v1", "learning_starts": 64}),
    "svg": (rlgen.SVG, {"env": "Pendulum-v1", "learning_starts": 64}),
}


@pytest.fixture(scope="module")
def columns():
    """The columns of each run's table, which is its `metrics.csv`."""
    found = {}
    for name, (make, told) in RUNS.items():
        agent = make(**told, n_envs=4, n_steps=16, n_threads=1, device="cpu").learn(128, progress=False)
        found[name] = set(agent.metrics.columns)
    return found


def test_the_page_explains_the_columns_of_every_run_and_no_other(columns):
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    explained = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    assert len(explained) == len(set(explained))
    assert set(explained) == set().union(*columns.values())


def test_every_row_says_what_it_is():
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = [row.strip("|").split("|") for row in re.findall(r"^\|.*\|$", text, re.MULTILINE)]
    assert {len(row) for row in rows} == {2, 4}
    assert all(row[1].strip() for row in rows)


def test_flags_on_the_page_exist():
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    helps = ""
    for name in ("gail", "bc", "vime", "plot"):
        out = io.StringIO()
        with redirect_stdout(out), suppress(SystemExit):
            tyro.cli(importlib.import_module(f"rlgen.commands.{name}").Arguments, args=["--help"])
        helps += out.getvalue()
    flags = set(re.findall(r"--[a-z][a-z-]+", text))
    assert len(flags) > 10
    assert not {flag for flag in flags if flag not in helps}


def test_a_run_ends_by_naming_the_page(tmp_path, capsys):
    small = {"n_envs": 2, "n_steps": 16, "n_threads": 1, "device": "cpu"}
    rlgen.PPO("CartPole-v1", **small).learn(32, run_dir=tmp_path / "r", eval_episodes=1)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"{tmp_path}/r/metrics.csv: one row per iteration; docs/metrics.md explains its columns"


def test_the_groups_of_tensorboard_are_those_of_the_page(columns):
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    groups = dict(re.findall(r"^\| `(rollout|train|reward_model|time)/` \| (.*) \|$", text, re.MULTILINE))
    every = set().union(*columns.values())
    losses = {name for name in every if name.endswith(("training_loss", "validation_loss"))}
    for group in ("rollout", "train"):
        told = set(re.findall(r"`(\w+)`", groups[group])) | (losses if group == "train" else set())
        assert told == {name for name in every if _tag(name).startswith(f"{group}/")}
    for tag in re.findall(r"`(\w+/\w+)`", groups["reward_model"]):
        assert _tag(tag.partition("/")[2]) == tag


def test_a_single_value_is_a_point_and_none_leaves_no_picture(tmp_path):
    row = {"iteration": 1, "env_steps": 32, "return_mean": 3.0, "episodes": 2}
    fitted = {"env_steps": 0, "gradient_steps": 9, "training_loss": 1.0, "episodes": 0}
    for rows, n_drawn in (
        ([], 0),
        ([row | {"episodes": 0}], 0),
        ([row], 1),
        ([row, row | {"episodes": 0}], 1),
        ([fitted], 1),
    ):
        plot_curve(path := tmp_path / f"{len(list(tmp_path.iterdir()))}.png", rows)
        assert path.exists() == bool(n_drawn)
        if n_drawn:
            blue = np.isclose(imread(path)[..., :3], np.array([31, 119, 180]) / 255, atol=0.02).all(-1)
            assert blue.sum() > 20
