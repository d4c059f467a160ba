"""The command lines, run as a user runs them."""

import csv
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from processes import RLGEN, anew, command, forked

from rlgen.agents.recovered import recovered_reward
from rlgen.checkpoint import load_checkpoint, load_policy
from rlgen.commands.plot import setting
from rlgen.evaluation import evaluate
from rlgen.nn.policy import Actor
from rlgen.report.runs import Run

ROOT = Path(__file__).parents[1]
SUMMARY = {
    "env_id", "algorithm", "reward", "seed", "env_steps", "wall_seconds", "steps_per_second", "return_mean",
    "return_std", "episodes", "expert_return_mean", "random_return_mean", "normalised_score",
}  # fmt: skip
SMALL = ["--threads", "1", "--n-envs", "8", "--n-steps", "32", "--eval-episodes", "3"]


def gail(cwd, *arguments, start=forked):
    return start("gail.py", "--expert", str(ROOT / "expert_data"), *SMALL, *arguments, cwd=cwd)


def metrics(folder):
    """metrics.csv without the times."""
    with (folder / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if "seconds" not in k} for row in csv.DictReader(file)]


@pytest.mark.parametrize("algo", ["trpo", "ppo"])
def test_gail_leaves_a_complete_folder_and_a_seed_repeats(tmp_path, algo):
    for name, start in (("a", anew), ("b", forked)):
        done = gail(tmp_path, "--algo", algo, "--total-timesteps", "1024", "--run-dir", name, start=start)
        assert done.returncode == 0, done.stderr
        assert not set(done.stdout) & {"\r", "\x1b", "\b"}  # a file's log, unlike a terminal's
    folder = tmp_path / "a"
    assert {p.name for p in folder.iterdir()} == {  # no episode has ended, so there is no curve
        "checkpoint", "config.json", "metrics.csv", "summary.json", "tensorboard",
    }  # fmt: skip
    facts, state = load_checkpoint(folder)
    assert facts["env_steps"] == 1024
    assert set(state) >= {"policy", "critic", "reward_model", "optimizer", "collector"}
    found = evaluate(Actor(load_policy(folder)), "HalfCheetah-v4", 3, seed=10_000)
    assert found.mean == json.loads((folder / "summary.json").read_text())["return_mean"]
    summary = json.loads((folder / "summary.json").read_text())
    assert set(summary) >= SUMMARY
    assert summary["env_steps"] == 1024
    assert summary["normalised_score"] == pytest.approx(
        (summary["return_mean"] - summary["random_return_mean"])
        / (summary["expert_return_mean"] - summary["random_return_mean"])
    )
    config = json.loads((folder / "config.json").read_text())
    assert config["versions"]["mujoco"]
    assert config["arguments"]["algo"] == algo
    assert config["demonstrations"].keys() == {"episodes.npz", "policy.safetensors"}
    assert len(metrics(folder)) == 4
    assert metrics(folder) == metrics(tmp_path / "b")


@pytest.mark.parametrize(
    "arguments",
    [["--preset", "paper"], ["--reward", "log-d"]]
    + [["--reward-model", name] for name in ("airl", "fem", "gtal", "constant")],
)
def test_other_settings_run(tmp_path, arguments):
    done = gail(tmp_path, *arguments, "--total-timesteps", "512", "--run-dir", "a")
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "a" / "summary.json").read_text())
    assert arguments[1] in (summary["preset"], summary["reward"], summary["algorithm"].removesuffix("-trpo"))


@pytest.mark.parametrize("command", ["gail", "vime", "expert"])
@pytest.mark.parametrize("algo", ["trpo", "ppo"])
def test_the_learners_flags_reach_it(tmp_path, command, algo):
    told = [
        "--n-envs", "2", "--n-steps", "32", "--total-timesteps", "64", "--gamma", "0.9", "--gae-lambda", "0.8",
        "--learning-rate", "0.01", "--target-kl", "0.02", "--batch-size", "16", "--net-arch", "8", "4",
        "--log-std-init", "-2", "--algo", algo, "--env", "Hopper-v4", "--eval-episodes", "1", "--run-dir", "a",
    ]  # fmt: skip
    more = {"gail": ["--expert", str(ROOT / "expert_data")], "vime": [], "expert": ["--n-episodes", "1"]}[command]
    done = forked(f"{command}.py", *told, *more, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    learner = json.loads((tmp_path / "a" / "config.json").read_text())["settings"]["learner"]
    wanted = {
        "n_envs": 2, "n_steps": 32, "total_timesteps": 64, "gamma": 0.9, "gae_lambda": 0.8, "net_arch": [8, 4],
        "log_std_init": -2.0,
    }  # fmt: skip
    assert wanted.items() <= learner.items()
    assert {"learning_rate": 0.01, "target_kl": 0.02, "batch_size": 16}.items() <= learner["optimizer"].items()


def test_the_discriminators_flags_reach_it(tmp_path):
    flags = {
        "gradient_penalty_coef": 0.5, "entropy_coef": 0.01, "expert_label": 0.9, "input_noise": 0.2, "dropout": 0.1,
        "spectral_norm": True, "symlog": False, "absorbing_states": False, "state_only": True,
        "historical_averaging": 0.01, "virtual_batch_norm": True, "minibatch_group": 4, "information_limit": 0.5,
        "reward": "feature-matching",
    }  # fmt: skip
    told = [x for name, value in flags.items() for x in ("--" + name.replace("_", "-"), str(value))]
    done = gail(tmp_path, *told, "--total-timesteps", "256", "--run-dir", "a")
    assert done.returncode == 0, done.stderr
    config = json.loads((tmp_path / "a" / "config.json").read_text())["settings"]
    assert flags.items() <= (config | config["gail"]).items()


def test_a_second_run_never_takes_a_folder(tmp_path):
    assert gail(tmp_path, "--total-timesteps", "256", "--run-dir", "a").returncode == 0
    before = (tmp_path / "a" / "summary.json").read_bytes()
    again = gail(tmp_path, "--total-timesteps", "256", "--run-dir", "a")
    assert again.returncode == 4
    assert "a holds a run already; choose another --run-dir" in again.stderr
    assert (tmp_path / "a" / "summary.json").read_bytes() == before


@pytest.mark.parametrize("times", [1, 2])
def test_interrupting_keeps_checkpoint_and_summary(tmp_path, times):
    arguments = ["--expert", str(ROOT / "expert_data"), *SMALL, "--total-timesteps", "50M", "--run-dir", "a"]
    process = subprocess.Popen(command("gail.py", *arguments), cwd=tmp_path, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not ((log := tmp_path / "a" / "metrics.csv").exists() and log.read_text().count("\n") > 2):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    for _ in range(times):
        os.kill(process.pid, signal.SIGINT)
        time.sleep(0.2)
    assert process.wait(60) == 130
    summary = json.loads((tmp_path / "a" / "summary.json").read_text())
    assert summary["status"] == "interrupted"
    assert 0 < summary["env_steps"] < 1_000_000
    assert (summary["normalised_score"] is None) == (times == 2)  # a second one skips the evaluation
    facts, _ = load_checkpoint(tmp_path / "a")
    assert facts["env_steps"] == summary["env_steps"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--env", "HumanoidStandup-v5"], 3, "no dataset for HumanoidStandup-v5"),
        (["--env", "HalfCheatah-v4"], 2, "--env MODULE:HalfCheatah-v4, after the module that registers it"),
        (["--expert", "nowhere"], 3, "nowhere: no such folder"),
        (["--n-trajectories", "99"], 3, "n_trajectories is 99"),
        (["--total-timesteps", "many"], 2, "must be a positive whole number such as 3000000, 3e6 or 3M; got 'many'"),
        (["--total-timesteps", "inf"], 2, "must be a positive whole number"),
        (["--device", "cuda:7"], 2, "no CUDA device"),
        (["--device", "gpu"], 2, "must be auto, cpu or cuda; got gpu"),
        (["--threads", "100000"], 2, "got 100000"),
        (["--threads", "0"], 2, f"(processors: {len(os.sched_getaffinity(0))}); got 0"),
        (["--n-envs", "0"], 2, "n_envs must be at least 1; got 0"),
        (["--eval-episodes", "0"], 2, "--eval-episodes must be at least 1; got 0"),
        (["--seed", "-1"], 2, "--seed must be in [0, 9223372036854775807]; got -1"),
        (["--seed", "9223372036854775808"], 2, "--seed must be in [0, 9223372036854775807]"),
        (["--checkpoint-seconds", "nan"], 2, "--checkpoint-seconds must be at least 0; got nan"),
        (["--subsample", "0"], 2, "--subsample must be at least 1; got 0"),
        (["--gradient-penalty-coef", "nan"], 2, "--gradient-penalty-coef must be a finite number; got nan"),
        (["--gradient-penalty-coef", "-1"], 2, "gradient_penalty_coef must be at least 0; got -1"),
        (
            ["--preset", "paper", "--n-envs", "2", "--n-steps", "2"],
            2,
            "at least 20 rows with sub_sampling_factor 10; got 4",
        ),
        (["--env-kwargs", "[1]"], 2, "must be a JSON object"),
        (["--env-kwargs", '{"xml": 1}'], 2, "HalfCheetah-v4 has no argument xml"),
        (["--vectorization", "async"], 2, "HalfCheetah-v4 is stepped as one batch"),
        (["--dropout", "1.5"], 2, "dropout must be in [0, 1); got 1.5"),
        (["--algo", "a2c"], 2, "trpo"),
        (["--reward-model", "fem", "--reward", "logit"], 2, "reward has no effect with reward_model fem"),
        (["--reward-model", "airl", "--dropout", "0.1"], 2, "dropout has no effect with reward_model airl"),
    ],
)
def test_mistakes_are_one_clear_line(tmp_path, arguments, code, message):
    done = gail(tmp_path, *arguments)
    assert done.returncode == code
    assert message in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_expert_records_what_gail_reads(tmp_path):
    done = anew(
        "expert.py", "--env", "CartPole-v1", "--algo", "ppo", "--n-envs", "4", "--n-steps", "64",
        "--total-timesteps", "512", "--n-episodes", "5", "--threads", "1", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "expert_data" / "CartPole-v1" / "manifest.json").read_text())
    assert manifest["n_episodes"] == 5
    assert "expert.py --env CartPole-v1" in manifest["command"]
    again = forked("expert.py", "--env", "CartPole-v1", cwd=tmp_path)
    assert again.returncode == 4
    assert "CartPole-v1 holds a dataset; choose another --output, or --overwrite it" in again.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    more = ["--resume", str(folder), "--total-timesteps", "768"]
    before = (folder / "checkpoint" / "model.safetensors").read_bytes()
    again = forked("expert.py", *more, cwd=tmp_path)
    assert (again.returncode, "or --overwrite it" in again.stderr) == (4, True), again.stderr
    assert (folder / "checkpoint" / "model.safetensors").read_bytes() == before  # before it trains
    for place, told in (("other", ["--output", "other"]), ("expert_data", ["--overwrite"])):
        again = forked("expert.py", *more, *told, cwd=tmp_path)
        assert again.returncode == 0, again.stderr
        assert (
            json.loads((tmp_path / place / "CartPole-v1" / "manifest.json").read_text())["trained"]["env_steps"] == 768
        )
        more = more[:2]
    weights = json.loads((tmp_path / "expert_data" / "CartPole-v1" / "manifest.json").read_text())["sha256"]
    # The weights record again, out of a dataset or a run; what trained them stays known.
    for number, source in enumerate(("expert_data", str(folder))):
        more = ["--policy", source, "--n-episodes", "3", "--keep-every", "2", "--output", f"more{number}"]
        done = forked("expert.py", "--env", "CartPole-v1", *more, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        recorded = json.loads((tmp_path / f"more{number}" / "CartPole-v1" / "manifest.json").read_text())
        assert recorded["training_command"] == manifest["command"]
        assert recorded["algorithm"] == "ppo"
        assert recorded["sha256"]["policy.safetensors"] == weights["policy.safetensors"]
    (tmp_path / "broken").mkdir()
    shutil.copytree(folder / "checkpoint", tmp_path / "broken" / "checkpoint")
    (tmp_path / "broken" / "config.json").write_text(
        '{"command": "rlgen vime", "agent": {"kind": "VIME", "arguments": {}}}'
    )
    wrong = forked("expert.py", "--env", "CartPole-v1", "--policy", "broken", "--output", "more2", cwd=tmp_path)
    assert (wrong.returncode, "field agent.arguments.seed: missing" in wrong.stderr) == (4, True), wrong.stderr
    wrong = forked("expert.py", "--env", "Acrobot-v1", "--policy", str(folder), cwd=tmp_path)
    assert wrong.returncode == 2
    assert "the policy is of Box(" in wrong.stderr
    assert "Acrobot-v1 has Box(" in wrong.stderr
    arguments = ["--env", "CartPole-v1", "--n-trajectories", "1", "--subsample", "2", "--total-timesteps", "256"]
    done = forked("gail.py", *arguments, *SMALL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_vime_leaves_a_complete_folder(tmp_path):
    done = anew("vime.py", *SMALL, "--sparse", "--eta", "0.01", "--target-kl", "0.02", "--total-timesteps", "512",
                "--run-dir", "a", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "no positive reward was met in training" in done.stdout
    summary = json.loads((tmp_path / "a" / "summary.json").read_text())
    assert summary["env_id"] == "rlgen/SparseHalfCheetah-v0"
    assert summary["first_reward_steps"] is None
    settings = json.loads((tmp_path / "a" / "config.json").read_text())["settings"]
    assert settings["bonus"]["eta"] == 0.01
    assert settings["learner"]["optimizer"]["target_kl"] == 0.02
    assert {"bonus_raw_median", "bonus_p90", "bonus_error", "bonus_no_change_error"} <= metrics(tmp_path / "a")[
        0
    ].keys()
    assert set(load_checkpoint(tmp_path / "a")[1]) >= {"policy", "critic", "reward_model"}
    assert load_policy(tmp_path / "a").action_space.shape == (6,)


def test_vime_takes_a_task_of_another_package(tmp_path):
    done = forked("vime.py", *SMALL, "--env", "gymnasium_robotics:PointMaze_UMaze-v3", "--bonus", "rnd",
                  "--total-timesteps", "512", "--run-dir", "a", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "a" / "summary.json").read_text())["env_id"] == "PointMaze_UMaze-v3"
    assert load_policy(tmp_path / "a").normalizer.mean.shape == (8,)  # position and speed, and both goals


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--env", "no_such_module:Hopper-v4"], "cannot import no_such_module"),
        (["--sparse", "--env", "Hopper-v4"], "--sparse chooses the environment itself"),
        (["--env", "Nothing-v0"], "Nothing"),
        (["--n-updates", "0"], "n_updates must be at least 1; got 0"),
        (["--eta", "nan"], "--eta must be a finite number; got nan"),
        (["--target-kl", "0"], "target_kl must be above 0; got 0"),
        (["--gae-lambda", "7"], "gae_lambda must be in [0, 1]; got 7"),
        (["--bonus", "none", "--eta", "1"], "eta has no effect with bonus none"),
    ],
)
def test_vimes_mistakes_are_one_clear_line(tmp_path, arguments, message):
    done = forked("vime.py", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("script", ["gail.py", "expert.py", "vime.py", "evaluate.py", "plot.py", "data.py"])
def test_help_explains_every_flag_without_torch(tmp_path, script):
    code = f"""
import runpy, sys
sys.argv = ["x", "--help"]
try:
    runpy.run_path({str(ROOT / "scripts" / script)!r}, run_name="__main__")
except SystemExit as end:
    sys.exit(end.code or "torch" in sys.modules)
sys.exit("--help went on")
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=tmp_path)
    flags = {"evaluate.py": "--video", "plot.py": "--table", "data.py": "convert"}
    assert flags.get(script, "--total-timesteps") in done.stdout


def rlgen(*arguments, cwd):
    return forked(RLGEN, *arguments, cwd=cwd)


def rlgen_anew(*arguments, cwd):
    return subprocess.run([RLGEN, *arguments], cwd=cwd, capture_output=True, text=True, timeout=120)


def test_one_command_does_what_the_scripts_do(tmp_path):
    """A run of either is resumed, plotted and evaluated by either."""
    env = ["--env", "CartPole-v1", "--expert", str(ROOT / "expert_data"), "--n-trajectories", "1", "--subsample", "10"]
    steps = [*SMALL, "--total-timesteps", "512", "--run-dir", "a"]
    done = rlgen_anew("gail", *env, *steps, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert config["command"].startswith("rlgen gail --env CartPole-v1")
    for again in (forked("gail.py", "--resume", "a", cwd=tmp_path), rlgen("gail", "--resume", "a", cwd=tmp_path)):
        assert again.returncode == 0, again.stderr
    assert rlgen("evaluate", "a", "--episodes", "2", cwd=tmp_path).returncode == 0
    table = rlgen("plot", "a", "--table", cwd=tmp_path)
    assert "CartPole-v1" in table.stdout
    wrong = rlgen("vime", "--resume", "a", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "a is a run of gail; resume it with that" in wrong.stderr


def test_one_command_tells_what_it_can_do(tmp_path):
    for arguments, code in ((["--help"], 0), ([], 2)):
        done = rlgen_anew(*arguments, cwd=tmp_path)
        assert done.returncode == code
        for name in ("gail", "vime", "expert", "evaluate", "plot", "data", "doctor", "completion", "exit codes"):
            assert name in done.stdout
    done = rlgen("gial", cwd=tmp_path)
    assert done.returncode == 2
    assert "no command gial; perhaps gail" in done.stderr
    assert "Traceback" not in done.stderr
    assert rlgen("--version", cwd=tmp_path).stdout.startswith("rlgen ")
    done = rlgen("gail", "--sed", "3", cwd=tmp_path)
    assert done.returncode == 2
    assert "--seed" in done.stderr + done.stdout


def test_the_doctor_looks_at_this_machine(tmp_path):
    import torch

    done = rlgen_anew("doctor", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"torch        {torch.__version__}" in done.stdout
    assert f"{len(os.sched_getaffinity(0))} processors" in done.stdout
    assert "simulating   works" in done.stdout
    assert "rendering    works" in done.stdout or "--video needs it" in done.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes_commands_and_flags(tmp_path):
    script = rlgen("completion", "bash", cwd=tmp_path).stdout
    asked = """
COMP_WORDS=(rlgen {words}); COMP_CWORD={last}
cur=${{COMP_WORDS[COMP_CWORD]}}
{function}
echo "${{COMPREPLY[@]}}"
"""
    function = re.search(r"complete .*-F (\S+) rlgen", script).group(1)
    (tmp_path / "runs").mkdir()
    for words, expected in (
        ("ga", "gail"),
        ("gail --see", "--seed"),
        ("data con", "convert"),
        ("plot ru", "runs"),
        ("plot ''", "runs"),
        ("plot --lab", "--labels"),
        ("data inspect r", "runs"),
    ):
        asking = asked.format(words=words, last=len(words.split()), function=function)
        done = subprocess.run(["bash", "-c", script + asking], capture_output=True, text=True, cwd=tmp_path)
        assert expected in done.stdout.split(), (words, done)


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh")
def test_zsh_reads_its_script(tmp_path):
    (tmp_path / "script").write_text(rlgen("completion", "zsh", cwd=tmp_path).stdout)
    done = subprocess.run(["zsh", "-n", "script"], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def fish_completes(tmp_path, words):
    (tmp_path / "script").write_text(rlgen("completion", "fish", cwd=tmp_path).stdout)
    asked = ["fish", "--no-config", "-c", f"source script; complete -C {shlex.quote(words)}"]
    done = subprocess.run(asked, capture_output=True, text=True, cwd=tmp_path)
    assert done.stderr == ""
    return {line.split("\t")[0] for line in done.stdout.splitlines()}


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish")
@pytest.mark.parametrize(
    ("words", "expected", "others"),
    [
        ("rlgen ga", {"gail"}, set()),
        ("rlgen gail --see", {"--seed", "--seeds"}, set()),
        ("rlgen gail --algo ", {"ppo", "trpo"}, {"runs/"}),
        ("rlgen gail --expert r", {"runs/"}, set()),
        ("rlgen data ", {"inspect", "validate", "convert", "merge"}, {"runs/"}),
        ("rlgen data convert --to s", {"sb3"}, set()),
        ("rlgen data convert ", {"runs/"}, {"merge"}),
        ("rlgen plot ru", {"runs/"}, set()),
        ("rlgen completion f", {"fish"}, set()),
    ],
)
def test_fish_completes_commands_flags_and_paths(tmp_path, words, expected, others):
    (tmp_path / "runs").mkdir()
    found = fish_completes(tmp_path, words)
    assert expected <= found
    assert not others & found


def test_fish_has_every_flag(tmp_path):
    script = rlgen("completion", "fish", cwd=tmp_path).stdout
    for name, flag in (("vime", "eta"), ("plot", "labels"), ("bc", "gradient-steps"), ("doctor", "help")):
        assert re.search(rf"__fish_seen_subcommand_from {name}' -l {flag} -d ", script)
    assert "from data; and __fish_seen_subcommand_from convert' -l episodes -d " in script


def test_data_is_converted_and_mistakes_are_one_clear_line(tmp_path):
    shipped = str(ROOT / "expert_data" / "CartPole-v1")
    done = anew("data.py", "inspect", shipped, cwd=tmp_path)
    assert done.returncode == 0
    assert "CartPole-v1" in done.stdout
    assert "500.0 +- 0.0" in done.stdout
    done = forked("data.py", "convert", shipped, "--to", "d4rl", "--output", "cartpole.hdf5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = forked("data.py", "convert", shipped, "--to", "sb3", "--output", "cartpole.npz", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    env = ["--env", "CartPole-v1"]
    humanoid = str(ROOT / "expert_data" / "Humanoid-v4")
    assert "84 episodes" in forked("data.py", "validate", humanoid, cwd=tmp_path).stdout
    assert "84 Humanoid-v4 trajectories" in forked("data.py", "inspect", humanoid, cwd=tmp_path).stdout
    assert forked("data.py", "validate", "cartpole.hdf5", *env, cwd=tmp_path).returncode == 0
    done = forked("data.py", "convert", "cartpole.hdf5", *env, "--output", "mine", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    before = {path.name: path.read_bytes() for path in (tmp_path / "mine" / "CartPole-v1").iterdir()}
    for arguments, code, message in (
        (["convert", "cartpole.hdf5", *env, "--output", "mine"], 4, "holds a dataset; choose another --output"),
        (["convert", shipped, "--to", "d4rl", "--output", "cartpole.hdf5"], 4, "cartpole.hdf5 exists"),
        (["validate", "cartpole.npz"], 2, "doesn't tell its environment; tell it: --env"),
        (
            ["convert", shipped, "--to", "sb3", "--output", "b", "--overwrite"],
            2,
            "--overwrite has no effect with --to sb3",
        ),
        (
            ["validate", "cartpole.hdf5", "--env", "Acrobot-v1"],
            3,
            "warning: cartpole.hdf5 was recorded in CartPole-v1, not in Acrobot-v1",
        ),
        (["inspect", "nothing.npz"], 3, "nothing.npz: no such file"),
        (["inspect", "cartpole.hdf5", "--env", "Nothing-v0"], 2, "Nothing-v0"),
        (["merge", "mine", "--output", "both", "--env", "Acrobot-v1"], 3, "mine: holds datasets of CartPole-v1"),
    ):
        done = forked("data.py", *arguments, cwd=tmp_path)
        assert done.returncode == code, done
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "mine" / "CartPole-v1").iterdir()}
    done = forked("data.py", "merge", "mine/CartPole-v1", "cartpole.hdf5", *env, "--output", "both", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "50 episodes" in done.stdout


def test_tracking_offline_changes_nothing_and_stays_in_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    arguments = ["--env", "CartPole-v1", "--n-trajectories", "1", "--subsample", "10", "--total-timesteps", "512"]
    for name in ("plain", "tracked"):
        done = gail(tmp_path, *arguments, "--run-dir", name, *(["--track"] if name == "tracked" else []))
        assert done.returncode == 0, done.stderr
    assert metrics(tmp_path / "plain") == metrics(tmp_path / "tracked")
    (log,) = (tmp_path / "tracked" / "wandb").glob("offline-run-*/*.wandb")
    content = log.read_bytes()
    assert content.count(b"discriminator_loss") >= 2
    assert b"normalised_score" in content
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("plain", "tracked")] == []


def test_tracking_without_the_package_says_what_to_install(tmp_path):
    code = f"""
import sys
sys.modules["wandb"] = None
sys.argv = ["gail.py", "--expert", {str(ROOT / "expert_data")!r}, "--track"]
from rlgen.command import call
from rlgen.commands import gail
sys.exit(call(gail))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2, done
    assert "--track needs Weights & Biases: pip install 'rlgen[track]'" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_an_expert_trains_on_the_reward_that_airl_recovered(tmp_path):
    airl = ["--reward-model", "airl", "--total-timesteps", "256", "--run-dir", "airl"]
    assert gail(tmp_path, *airl).returncode == 0
    assert gail(tmp_path, "--total-timesteps", "256", "--run-dir", "gail").returncode == 0
    told = [*SMALL, "--total-timesteps", "256", "--n-episodes", "2", "--output", "data", "--overwrite"]

    def expert(*arguments):
        return forked("expert.py", *told, *arguments, cwd=tmp_path)

    done = expert("--reward", "airl", "--run-dir", "a")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "a" / "summary.json").read_text())["reward"] == "recovered"
    assert setting(Run.read(tmp_path / "a"))["reward"].startswith("GAIL (")
    _, state = load_checkpoint(tmp_path / "airl")
    reward = recovered_reward(tmp_path / "airl")
    weights = {name: x for name, x in state["reward_model"].items() if name.startswith("discriminator.network.g.")}
    for name, x in weights.items():
        assert torch.equal(reward.g.state_dict()[name.removeprefix("discriminator.network.g.")], x)
    other = expert("--env", "Hopper-v4", "--reward", "airl", "--run-dir", "b")
    assert (other.returncode, "its reward is of observations" in other.stderr) == (4, True), other.stderr
    config = tmp_path / "airl" / "config.json"
    written = config.read_text()
    config.write_text(written.replace('"symlog": true', '"symlog": false'))
    edited = expert("--reward", "airl", "--run-dir", "b")
    assert (edited.returncode, "it was changed since the run began" in edited.stderr) == (4, True), edited.stderr
    config.write_text(written)
    assert not (tmp_path / "b").exists()
    for folder, message in (("gail", "only a run of"), ("nowhere", "there is no checkpoint")):
        done = expert("--reward", folder, "--run-dir", "b")
        assert done.returncode == 4
        assert message in done.stderr
        assert not (tmp_path / "b").exists()
        assert "Traceback" not in done.stderr
