"""A user's file of settings by environment id, and what a run prints of its demonstrations."""

import dataclasses
import json
from pathlib import Path

import pytest
from processes import forked

from rlgen import exploration, imitation, presets
from rlgen.data.demonstrations import load_demonstrations
from rlgen.errors import UsageError
from rlgen.settings import SettingsFile, override, read_settings

ROOT = Path(__file__).parents[1]
DATA = str(ROOT / "expert_data")
SMALL = ["--threads", "1", "--eval-episodes", "1"]


def settings_of(folder):
    return json.loads((folder / "config.json").read_text())["settings"]


def test_a_table_replaces_the_fields_that_it_names():
    before = imitation.settings()
    table = {"dropout": 0, "net_arch": [16, 8], "learner": {"gamma": 0.9, "optimizer": {"cg_max_steps": 3}}}
    after = override(before, table)
    optimizer = dataclasses.replace(before.learner.optimizer, cg_max_steps=3)
    learner = dataclasses.replace(before.learner, gamma=0.9, optimizer=optimizer)
    assert after == dataclasses.replace(before, dropout=0.0, net_arch=(16, 8), learner=learner)
    assert type(after.dropout) is float
    assert override(before, {}) == before == imitation.settings()


def test_settings_that_go_together_may_come_together():
    paper = imitation.settings("paper")
    with pytest.raises(UsageError, match="absorbing_states needs a learner with centre_rewards"):
        override(paper, {"absorbing_states": True})
    assert override(paper, {"absorbing_states": True, "learner": {"centre_rewards": True}}).absorbing_states
    few_rows = SettingsFile("my.toml", "[X-v0]\nlearner = { n_envs = 4, n_steps = 4 }\ntrpo.sub_sampling_factor = 1")
    assert few_rows.apply(paper, "X-v0", "trpo").learner.n_steps == 4


@pytest.mark.parametrize(("algo", "target_kl"), [("trpo", 0.02), ("ppo", 0.5)])
def test_an_optimizers_table_counts_where_it_is_that_one(algo, target_kl):
    file = SettingsFile("my.toml", "[X-v0]\ntrpo = { target_kl = 0.02, cg_max_steps = 7 }\nppo.target_kl = 0.5")
    settings = imitation.settings("default", algo)
    assert file.apply(settings, "X-v0", algo).learner.optimizer.target_kl == target_kl
    assert file.apply(settings, "Y-v0", algo) == settings


WRONG = [
    ("[X-v0]\nlearner = {", r"my.toml: not TOML \("),
    ("a = " + "[" * 10_000, r"my.toml: not TOML \("),
    ("[X-v0]\n" + "a." * 3000 + "a = 1", r"my.toml: not TOML \("),
    ("gamma = 0.9", r'my.toml: gamma: settings stand in a table of an id, such as \["Task-v0"\]'),
    ("[[X-v0]]\ndropout = 0.1", "my.toml: X-v0: settings stand in a table of an id"),
    ("[X-v0]\ndropuot = 0.1", "my.toml: X-v0: dropuot: no such setting; did you mean dropout?"),
    ("[X-v0]\nlearner.gama = 0.9", r"my.toml: X-v0: learner.gama: no such setting; did you mean gamma?"),
    ("[X-v0]\nlearner.optimizer.clip_range = 0.2", "X-v0: learner.optimizer.clip_range: no such setting; .*cg_damping"),
    ("[X-v0]\ntrpo.clip_range = 0.2", "X-v0: learner.optimizer.clip_range: no such setting; .*cg_damping"),
    ("[X-v0]\ntrpo = 3", "X-v0: trpo: must be a table of settings; got 3"),
    ("[X-v0]\nbonus.eta = 1", "X-v0: bonus: no such setting"),
    ("[X-v0]\ngail = 0.9", "X-v0: gail: must be a table of settings; got 0.9"),
    ("[X-v0]\nlearner.gamma = '0.9'", "X-v0: learner.gamma: must be a number; got '0.9'"),
    (f"[X-v0]\nlearner.gamma = 1{'0' * 400}", "X-v0: learner.gamma: must be a number; got 1000"),
    ("[X-v0]\nppo = 3", "X-v0: ppo: must be a table of settings; got 3"),
    ("[X-v0]\nlearner = 3\ntrpo.target_kl = 0.1", "X-v0: learner: must be a table of settings; got 3"),
    ("[X-v0]\ngail.batch_size = 1.5", "X-v0: gail.batch_size: must be a whole number or nothing; got 1.5"),
    ("[X-v0]\nlearner.n_steps = 8.0", "X-v0: learner.n_steps: must be a whole number; got 8.0"),
    ("[X-v0]\nlearner.n_steps = true", "X-v0: learner.n_steps: must be a whole number; got True"),
    ("[X-v0]\nsymlog = 1", "X-v0: symlog: must be true or false; got 1"),
    ("[X-v0]\nnet_arch = 64", "X-v0: net_arch: must be a list; got 64"),
    ("[X-v0]\nnet_arch = [64, '64']", "X-v0: net_arch: must be a whole number; got '64'"),
    ("[X-v0]\ndropout = 2026-01-01", "X-v0: dropout: must be a number; got datetime"),
    ("[X-v0]\ndropout = 1.5", r"X-v0: dropout must be in \[0, 1\); got 1.5"),
    ("[X-v0]\nlearner.gamma = nan", r"X-v0: learner.gamma must be in \[0, 1\]; got nan"),
    ("[X-v0]\nlearner.net_arch = [0]", r"X-v0: learner.net_arch must be at least 1; got 0"),
    ("[X-v0]\ngail.n_updates = 0", r"X-v0: gail.n_updates must be at least 1; got 0"),
    ("[X-v0]\nreward = 'log_d'", "X-v0: reward must be one of softplus, log-d, logit, feature-matching; got log_d"),
    ("[X-v0]\nlearner.centre_rewards = false", "X-v0: absorbing_states needs a learner with centre_rewards"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_what_is_wrong_is_told_by_file_id_and_key(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    Path("my.toml").write_text(text)
    with pytest.raises(UsageError, match=message) as raised:
        read_settings(Path("my.toml")).apply(imitation.settings(), "X-v0", "trpo")
    assert str(raised.value).startswith("my.toml: ")


def test_only_a_regular_file_of_utf8_is_read(tmp_path):
    (tmp_path / "latin").write_bytes("# \u00e4".encode("latin-1"))
    with pytest.raises(UsageError, match=r"latin: not TOML \(.*utf-8"):
        read_settings(tmp_path / "latin")
    (tmp_path / "notepad").write_text("[X-v0]", encoding="utf-8-sig")
    assert read_settings(tmp_path / "notepad").table("X-v0") == {}
    (tmp_path / "large").write_text("#" * 70_000)
    with pytest.raises(UsageError, match="large: 70000 bytes; at most 65536 are read"):
        read_settings(tmp_path / "large")
    with pytest.raises(UsageError, match="not a regular file"):
        read_settings(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_settings(tmp_path / "absent")


@pytest.mark.parametrize("algo", ["trpo", "ppo"])
def test_the_shipped_settings_are_read_alike(algo):
    settings = exploration.settings(algo, "rlgen/SparseHalfCheetah-v0", "vime")
    learner, bonus = settings.learner, settings.bonus
    assert (learner.net_arch, learner.gamma, bonus.net_arch) == ((64,), 0.999, (64,))
    assert learner.optimizer.target_kl == (0.03 if algo == "trpo" else None)


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        (None, 4, "No such file or directory: 'my.toml'"),
        ("[", 2, "error: my.toml: not TOML"),
        (
            "[Hopper-v4]\nlearner.gama = 0.9",
            2,
            "error: my.toml: Hopper-v4: learner.gama: no such setting; did you mean gamma?",
        ),
        ("[Hopper-v4]\nlearner.gamma = 2", 2, "error: my.toml: Hopper-v4: learner.gamma must be in [0, 1]; got 2"),
    ],
)
@pytest.mark.parametrize("name", ["gail", "vime", "expert"])
def test_a_commands_mistakes_are_one_line(tmp_path, name, text, code, message):
    if text is not None:
        (tmp_path / "my.toml").write_text(text)
    told = ["--expert", DATA] if name == "gail" else []
    done = forked(f"{name}.py", "--env", "Hopper-v4", *told, "--settings", "my.toml", cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_flag_counts_before_the_file_and_the_file_before_what_is_shipped(tmp_path):
    (tmp_path / "my.toml").write_text(
        '["rlgen/SparseHalfCheetah-v0"]\n'
        "learner = { gae_lambda = 0.9, n_steps = 8, n_envs = 4, total_timesteps = 64 }\n"
        "trpo = { target_kl = 0.02, cg_max_steps = 7 }\n"
        "bonus = { eta = 0.5, n_updates = 1 }\n"
    )
    told = ["--sparse", "--settings", "my.toml", "--target-kl", "0.05", "--eta", "0.25", "--n-steps", "16"]
    done = forked("vime.py", *told, *SMALL, "--run-dir", "a", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "my.toml: rlgen/SparseHalfCheetah-v0: {'learner': {'gae_lambda': 0.9, " in done.stdout
    found = settings_of(tmp_path / "a")
    found = found["learner"]["optimizer"] | found["learner"] | {"eta": found["bonus"]["eta"]}
    of_flags = {"target_kl": 0.05, "eta": 0.25, "n_steps": 16}
    of_the_file = {"gae_lambda": 0.9, "n_envs": 4, "total_timesteps": 64, "cg_max_steps": 7}
    shipped, defaults = {"gamma": 0.999, "net_arch": [64]}, {"log_std_init": 0.0, "cg_damping": 0.1}
    expected = of_flags | of_the_file | shipped | defaults
    assert {name: found[name] for name in expected} == expected


def test_an_experts_settings_come_before_those_of_a_short_training(tmp_path):
    (tmp_path / "my.toml").write_text("[CartPole-v1]\nlearner = { n_envs = 4, total_timesteps = 512 }\n[X]\ny = 1")
    told = ["--env", "CartPole-v1", "--settings", "my.toml", "--n-episodes", "1", "--output", "data"]
    done = forked("expert.py", *told, *SMALL, "--run-dir", "a", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    learner = settings_of(tmp_path / "a")["learner"]
    assert (learner["n_envs"], learner["n_steps"], learner["total_timesteps"]) == (4, 128, 512)
    assert learner["optimizer"]["batch_size"] == presets.shortened(presets.EXPERT["trpo"]).optimizer.batch_size


def test_a_run_goes_on_with_the_settings_that_it_was_started_with(tmp_path):
    file = tmp_path / "my.toml"
    file.write_text("[Hopper-v4]\nlearner = { gamma = 0.9, n_envs = 4, n_steps = 16 }\n[X-v0]\ngail.n_updates = inf")
    told = ["--env", "Hopper-v4", "--expert", DATA, "--total-timesteps", "128", *SMALL]
    done = forked("gail.py", *told, "--settings", "my.toml", "--run-dir", "a", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for text in ("[Hopper-v4]\nlearner.gamma = 0.5", "[", None):
        file.unlink() if text is None else file.write_text(text)
        done = forked("gail.py", "--resume", "a", cwd=tmp_path)
        assert (done.returncode, "goes on after 128 steps" in done.stdout) == (0, True), done.stderr
        assert "my.toml: Hopper-v4: {'learner': {'gamma': 0.9, " in done.stdout
    file.write_text("[Hopper-v4]\nlearner.gamma = 0.5")
    done = forked("gail.py", "--resume", "a", "--settings", "my.toml", cwd=tmp_path)
    assert (done.returncode, "leave out --settings" in done.stderr) == (2, True), done.stderr
    assert settings_of(tmp_path / "a")["learner"]["gamma"] == 0.9


def test_a_file_that_says_nothing_of_a_task_says_so_and_changes_nothing(tmp_path):
    (tmp_path / "my.toml").write_text("[Hopper_v4]\nlearner.gamma = 0.9")
    told = ["--env", "Hopper-v4", "--expert", DATA, "--n-envs", "4", "--n-steps", "16", "--total-timesteps", "64"]
    for more in (["--settings", "my.toml", "--run-dir", "a"], ["--run-dir", "b"]):
        done = forked("gail.py", *told, *SMALL, *more, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        line = "my.toml: Hopper-v4: no settings, so none are changed; the ids in the file: Hopper_v4\n"
        assert (line in done.stdout) == ("a" in more)
    assert settings_of(tmp_path / "a") == settings_of(tmp_path / "b")


@pytest.mark.parametrize("env_id", ["HalfCheetah-v4", "Acrobot-v1"])
def test_what_is_derived_from_the_demonstrations_is_told(env_id):
    found = load_demonstrations(DATA, env_id, 4, seed=1)
    lengths = sorted(found.episode_lengths)
    assert sum(lengths) == len(found.transitions.rewards)
    settings = imitation.settings()
    first, second = settings.derived(found).split("\n")
    if env_id == "HalfCheetah-v4":
        assert first == "episodes of 1,000 steps, 0 of 4 terminated, 0 terminal observations known"
        rate = "terminations rewarded by their rate (the expert's: 0 per step), weight 0"
        assert second == f"{rate}; gamma 0.99, a horizon of 100 steps"
    else:
        ends = "4 of 4 terminated, 4 terminal observations known"
        assert first == f"episodes of {lengths[0]} to {lengths[-1]} steps, {ends}"
        weight = f"{min(1, 4 / sum(lengths) / 0.01):.2g}"
        assert f"(the expert's: {4 / sum(lengths):.2g} per step) and observations, weight {weight};" in second
    paper = override(imitation.settings("paper"), {"learner": {"gamma": 1.0}})
    assert paper.derived(found).endswith("terminations not rewarded; gamma 1, no horizon")


@pytest.mark.parametrize("env_id", ["HalfCheetah-v4", "Acrobot-v1"])
@pytest.mark.parametrize("reward_model", ["gail", "constant"])
def test_a_run_begins_with_what_it_derives(tmp_path, env_id, reward_model):
    told = ["--env", env_id, "--expert", DATA, "--n-envs", "4", "--n-steps", "16", "--total-timesteps", "64", *SMALL]
    done = forked("gail.py", *told, "--reward-model", reward_model, "--run-dir", "a", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "pairs of 4" in lines[0]
    assert lines[1].startswith("episodes of ")
    ends = "not rewarded" if reward_model == "constant" else "rewarded by their rate"
    assert lines[2].startswith(f"terminations {ends}")
    assert (" and observations, weight " in lines[2]) == (reward_model == "gail" and env_id == "Acrobot-v1")
