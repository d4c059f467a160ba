"""The objects: the commands' numbers, going on, saving and loading, and what is refused."""

import io
import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pandas as pd
import pytest
import torch
from processes import forked
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import rlgen
from rlgen import imitation, presets
from rlgen.agents.saved import AGENTS
from rlgen.checkpoint import load_checkpoint, save_checkpoint
from rlgen.errors import CheckpointError, DemonstrationError, UsageError
from rlgen.export import export_onnx
from rlgen.imitation import Imitation
from rlgen.run_log import Display
from rlgen.states import draw_states, read_visits

ROOT = Path(__file__).parents[1]
DATA = ROOT / "expert_data"
SMALL = {"n_envs": 4, "n_steps": 32, "n_threads": 1, "device": "cpu"}
FEW = {"n_threads": 1, "device": "cpu", "net_arch": (16,), "subsample": 20}
STEPS = 4 * 32 * 3


def make(kind, env="Hopper-v4", **values):
    expert = {"expert": DATA} if kind in ("GAIL", "BC") else {}
    if kind in ("SVG", "SAC"):
        values = {"learning_starts": 128, "updates_per_step": 0.1} | values
    return getattr(rlgen, kind)(env, **expert, **(FEW if kind == "BC" else SMALL) | values)


def weights(agent):
    return [x.clone() for x in agent.policy.state_dict().values()]


def same(left, right):
    return all(torch.equal(x, y) for x, y in zip(left, right, strict=True))


def without_times(table):
    return table[[name for name in table.columns if "seconds" not in name]]


COMMANDS = {
    "GAIL": ["gail.py", "--expert", str(DATA), "--env", "Hopper-v4", "--subsample", "20", "--dropout", "0.1"],
    "VIME": ["vime.py", "--env", "Hopper-v4", "--bonus", "rnd", "--eta", "0.5"],
    "PPO": ["expert.py", "--env", "Hopper-v4", "--algo", "ppo", "--learning-rate", "0.002", "--n-episodes", "1"],
}
VALUES = {
    "GAIL": {"subsample": 20, "dropout": 0.1},
    "VIME": {"bonus": "rnd", "eta": 0.5},
    "PPO": {"learning_rate": 0.002},
}


@pytest.mark.parametrize("kind", COMMANDS)
def test_the_numbers_are_the_commands_to_the_last_bit(tmp_path, kind):
    flags = ["--n-envs", "4", "--n-steps", "32", "--total-timesteps", str(STEPS), "--threads", "1", "--device", "cpu"]
    done = forked(*COMMANDS[kind], *flags, "--seed", "3", "--eval-episodes", "4", "--run-dir", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    agent = make(kind, seed=3, **VALUES[kind]).learn(STEPS, progress=False)
    loaded = rlgen.load(tmp_path / "run")
    assert type(loaded) is type(agent)
    assert same(weights(loaded), weights(agent))
    pd.testing.assert_frame_equal(without_times(agent.metrics), without_times(loaded.metrics), check_dtype=False)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    for found in (agent.evaluate(4), loaded.evaluate(4)):
        assert found.mean == summary["return_mean"]
        assert found.score == summary["normalised_score"]
    assert agent.evaluate(4, deterministic=False).mean == summary["stochastic_return_mean"]
    assert repr(agent) == repr(loaded)
    assert loaded.num_timesteps == STEPS


@pytest.mark.parametrize("kind", AGENTS)
def test_an_agent_goes_on_as_if_it_had_not_been_saved(tmp_path, kind):
    steps = 300 if kind == "BC" else STEPS
    agent = make(kind).learn(steps, progress=False)
    agent.save(tmp_path / "a")
    assert {path.suffix for path in (tmp_path / "a").rglob("*.*")} == {".json", ".safetensors", ".csv"}
    other = rlgen.load(tmp_path / "a")
    observation = np.linspace(-1, 1, 11)
    np.testing.assert_array_equal(agent.predict(observation)[0], other.predict(observation)[0])
    assert other.policy is not agent.policy
    assert (other.settings, other.arguments, other.facts) == (agent.settings, agent.arguments, agent.facts)
    pd.testing.assert_frame_equal(agent.metrics, other.metrics, check_dtype=False)
    other.save(tmp_path / "copy")  # without the data or the environments
    for one in (agent, other):
        one.learn(steps, progress=False)
    assert same(weights(agent), weights(other))
    assert not np.array_equal(agent.predict(observation)[0], rlgen.load(tmp_path / "a").predict(observation)[0])
    assert agent.num_timesteps == other.num_timesteps == 2 * steps
    with pytest.raises(FileExistsError, match="holds a run, or an agent"):
        agent.save(tmp_path / "a")
    agent.save(tmp_path / "a", overwrite=True)
    assert rlgen.load(tmp_path / "a").num_timesteps == 2 * steps


def test_learning_again_takes_steps_of_full_size():
    """TRPO's bound falls to a tenth over a training, and starts anew."""
    kl = make("GAIL").learn(STEPS * 4, progress=False).learn(STEPS * 4, progress=False).metrics["kl"]
    assert kl[11] < 0.4 * kl[0]
    assert kl[12] > 0.7 * kl[0]


def test_a_run_is_kept_where_it_is_told(tmp_path):
    agent = make("GAIL")
    agent.learn(STEPS, run_dir=str(tmp_path / "run"), eval_episodes=2, progress=False)
    assert {"config.json", "metrics.csv", "summary.json", "curve.png"} <= {x.name for x in (tmp_path / "run").iterdir()}
    assert same(weights(agent), weights(rlgen.load(str(tmp_path / "run"))))
    with pytest.raises(UsageError, match="make a new agent"):
        agent.learn(STEPS, run_dir=tmp_path / "other")
    with pytest.raises(FileExistsError, match="holds a run"):
        agent.save(tmp_path / "run", overwrite=True)
    agent.learn(STEPS, progress=False)  # its environments are open
    done = forked("gail.py", "--resume", "run", "--expert", str(DATA), cwd=tmp_path)
    assert (done.returncode, "a run from Python; rlgen.load(folder)" in done.stderr) == (4, True)
    for command in (["plot.py", "run"], ["evaluate.py", "run", "--episodes", "1"]):
        done = forked(*command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    with pytest.raises(FileExistsError, match="holds a run already"):
        make("GAIL").learn(STEPS, run_dir=tmp_path / "run", progress=False)


def test_progress_callback_and_threads(capsys):
    torch.set_num_threads(2)
    seen = []
    make("VIME").learn(STEPS, callback=lambda iteration: seen.append((iteration.number, torch.get_num_threads())))
    assert seen == [(1, 1), (2, 1), (3, 1)]
    assert torch.get_num_threads() == 2
    out = capsys.readouterr().out
    assert "calib. 90" in out.splitlines()[0]
    assert out.splitlines()[-1].split()[0] == str(STEPS)
    make("VIME").learn(STEPS, progress=False)
    assert capsys.readouterr().out == ""


def test_a_terminal_keeps_a_line_every_twentieth_of_the_way(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdout", screen)
    with Display(4000, {"kl": "kl"}) as display:
        for i in range(1, 41):
            display({"env_steps": 100 * i, "episodes": 0, "wall_seconds": i, "kl": 0.5})
    kept = screen.getvalue().split("\n")
    assert kept[0].split() == ["steps", "steps/s", "return", "kl", "left"]
    assert [line.split("\r")[-1].split()[0] for line in kept[1:-1]] == [f"{200 * i:,}" for i in range(1, 21)]
    assert kept[-1] == ""


@pytest.mark.parametrize("kind", AGENTS)
def test_tensorboard_has_metrics_in_groups(tmp_path, kind):
    make(kind).learn(STEPS, run_dir=tmp_path / "run", eval_episodes=1, progress=False)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    tags = events.Tags()["scalars"]
    assert {"final_eval/return_mean", "time/wall_seconds"} <= set(tags)
    assert events.Tags()["tensors"] == ["config/text_summary"]
    of_optimizer = {tag.removeprefix("train/") for tag in tags if tag.startswith("train/")}
    if kind == "BC":
        assert of_optimizer == {"gradient_steps", "training_loss", "validation_loss", "best_validation_loss"}
        assert [event.step for event in events.Scalars("train/validation_loss")] == [100, 200, 300, 400]
        return
    off_policy = {"q", "critic_loss", "entropy", "alpha"}
    expected = off_policy if kind in ("SVG", "SAC") else {"kl", "entropy", "value_loss", "explained_variance"}
    assert expected < of_optimizer
    assert {"rollout/return_mean", "time/seconds_collect"} <= set(tags)
    learned = {tag for tag in tags if tag.startswith("reward_model/")}
    assert learned
    assert not [tag for tag in learned if any(word in tag for word in ("policy_loss", "kl", "surrogate"))]


def test_ctrl_c_ends_after_an_iteration():
    agent = make("PPO")
    with pytest.raises(KeyboardInterrupt):
        agent.learn(STEPS, callback=lambda iteration: signal.raise_signal(signal.SIGINT), progress=False)
    assert agent.num_timesteps == STEPS / 3
    whole = make("PPO").learn(STEPS, progress=False)
    for _ in agent.training:  # goes on
        pass
    assert same(weights(agent), weights(whole))


def test_inside_a_callback_the_agent_is_the_one_that_learns(tmp_path):
    for run_dir in (None, tmp_path / "run"):
        agent, seen = make("PPO"), []

        def look(iteration, agent=agent, seen=seen):
            seen.append(agent.num_timesteps)
            np.testing.assert_array_equal(
                agent.predict(np.ones(11))[0], rlgen.Actor(agent.policy).predict(np.ones(11), deterministic=True)[0]
            )
            return agent.num_timesteps < 2 * STEPS / 3

        agent.learn(STEPS, callback=look, run_dir=run_dir, progress=False)
        assert seen == [STEPS / 3, 2 * STEPS / 3]
        assert len(agent.metrics) == 2


def test_looking_at_an_agent_before_it_learns_changes_nothing():
    agents = [rlgen.PPO("CartPole-v1", n_threads=1, device="cpu") for _ in range(2)]
    agents[0].predict(np.zeros(4))
    agents[0].evaluate(1)
    for agent in agents:
        agent.learn(2048, progress=False)
    assert [agent.training.collector.envs.num_envs for agent in agents] == [16, 16]
    assert same(*map(weights, agents))


def test_it_leaves_the_callers_random_numbers_alone(tmp_path):
    make("GAIL").save(tmp_path / "a")
    before = torch.get_rng_state()
    rlgen.load(tmp_path / "a").learn(STEPS, progress=False).evaluate(1)
    assert torch.equal(before, torch.get_rng_state())


def heavy(gravity=9.8):
    env = gym.make("CartPole-v1")
    env.unwrapped.gravity = gravity
    return env


@pytest.mark.parametrize("algo", ["ppo", "svg"])
def test_the_discriminators_options_go_with_whatever_an_agent_does(tmp_path, algo):
    options = {"reward": "feature-matching", "virtual_batch_norm": True, "information_limit": 0.5}
    options |= {"historical_averaging": 0.1, "state_only": True} | ({"minibatch_group": 8} if algo == "ppo" else {})
    more = {"learning_starts": 128, "updates_per_step": 0.1} if algo == "svg" else {}
    agent = make("GAIL", algo=algo, **options, **more)
    agent.learn(STEPS, run_dir=tmp_path / "run", eval_episodes=1, progress=False)
    loaded = rlgen.load(tmp_path / "run")
    assert loaded.settings == agent.settings
    for each in (agent, loaded):
        each.learn(STEPS, progress=False)
    assert same(weights(agent), weights(loaded))
    export_onnx(agent.policy, tmp_path / "policy.onnx")
    assert draw_states(tmp_path / "states.png", "png", [read_visits(tmp_path / "run")])


ENVIRONMENTS = {
    "id": lambda: "CartPole-v1",
    "spec": lambda: gym.spec("CartPole-v1"),
    "environment": lambda: gym.make("CartPole-v1"),
    "function": lambda: heavy,
    "vector": lambda: rlgen.make_vec("CartPole-v1", 4),
}


@pytest.mark.parametrize("kind", ENVIRONMENTS)
def test_any_environment_will_do(tmp_path, kind):
    demonstrations = rlgen.load_demonstrations(DATA, "CartPole-v1", 4)
    reference = rlgen.GAIL("CartPole-v1", DATA, **SMALL).learn(STEPS, progress=False)
    env = ENVIRONMENTS[kind]()
    agent = rlgen.GAIL(env, demonstrations, **SMALL).learn(STEPS, progress=False)
    assert same(weights(agent), weights(reference))
    assert agent.evaluate(3).returns == reference.evaluate(3).returns
    agent.save(tmp_path / "a")
    if kind != "id":
        other = rlgen.load(tmp_path / "a")
        other.predict(np.zeros(4))
        with pytest.raises(UsageError, match="pass env"):
            other.evaluate(3)
    other = rlgen.load(tmp_path / "a", env=env)
    assert other.evaluate(3).returns == reference.evaluate(3).returns
    with pytest.raises(UsageError, match="pass expert to load"):
        other.learn(STEPS)
    for expert in (demonstrations, DATA):
        again = rlgen.load(tmp_path / "a", env="CartPole-v1", expert=expert).learn(STEPS, progress=False)
        assert again.num_timesteps == 2 * STEPS


def test_a_vector_environment_gives_their_number_and_no_wrapper_is_left_out(tmp_path):
    agent = rlgen.PPO(rlgen.make_vec("CartPole-v1", 4), device="cpu", n_threads=1).learn(2048, progress=False)
    assert agent.settings.learner.n_envs == 4
    agent.save(tmp_path / "a")
    rlgen.load(tmp_path / "a", env=rlgen.make_vec("CartPole-v1", 4)).learn(512, progress=False)
    with pytest.raises(CheckpointError, match="doesn't fit CartPole-v1"):
        rlgen.load(tmp_path / "a", env=rlgen.make_vec("CartPole-v1", 5)).learn(512)
    with pytest.raises(UsageError, match="n_envs is 8, and the vector environment has 4"):
        rlgen.PPO(rlgen.make_vec("CartPole-v1", 4), n_envs=8)
    several = {"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP}
    theirs = gym.make_vec("CartPole-v1", 4, "sync", vector_kwargs=several)
    assert len(rlgen.PPO(theirs, n_steps=32, device="cpu").learn(128, progress=False).evaluate(2).returns) == 2
    wrapped = gym.wrappers.vector.TransformAction(rlgen.make_vec("CartPole-v1", 4), lambda a: 1 - a)
    with pytest.raises(UsageError, match="evaluate needs fresh environments"):
        rlgen.PPO(wrapped, device="cpu").evaluate(1)
    with pytest.raises(UsageError, match="no effect on a vector environment"):
        rlgen.PPO(rlgen.make_vec("CartPole-v1", 4), env_kwargs={"render_mode": None})


def test_a_run_s_data_are_those_of_its_id_in_another_environment(tmp_path):
    make("GAIL", "CartPole-v1").learn(STEPS, run_dir=tmp_path / "run", eval_episodes=1, progress=False)
    assert rlgen.load(tmp_path / "run", env=heavy).learn(STEPS, progress=False).num_timesteps == 2 * STEPS


def test_a_policy_that_is_changed_before_it_learns_is_what_learns():
    agent, other = make("GAIL"), make("GAIL")
    with torch.no_grad():
        agent.policy.log_std.fill_(-3.0)
    for one in (agent, other):
        one.learn(STEPS, progress=False)
    assert agent.policy.log_std.mean() < other.policy.log_std.mean() - 1


def test_in_another_environment_there_is_no_score():
    agent = rlgen.GAIL("Hopper-v4", DATA, env_kwargs={"terminate_when_unhealthy": False}, **SMALL)
    assert agent.evaluate(1).lengths == [1000]
    assert agent.evaluate(1).score is not None
    elsewhere = agent.evaluate(1, env="Hopper-v5")
    assert elsewhere.lengths[0] < 1000
    assert elsewhere.score is None


def test_numbers_may_be_numpys(tmp_path):
    values = {"gamma": np.float32(0.5), "net_arch": (np.int64(8),), "n_threads": np.int64(1), "seed": np.int64(3)}
    agent = rlgen.PPO("Hopper-v4", **SMALL | values).learn(np.float64(STEPS), progress=False)
    assert (agent.settings.learner.gamma, agent.settings.learner.net_arch) == (0.5, (8,))
    agent.save(tmp_path / "a")
    assert same(weights(rlgen.load(tmp_path / "a")), weights(agent))


def test_settings_are_told_whole_in_part_in_a_file_or_by_name(tmp_path):
    (tmp_path / "my.toml").write_text(
        "[Hopper-v4]\ngail.learning_rate = 0.5\nlearner.gamma = 0.9\ntrpo.target_kl = 0.2"
    )
    base = imitation.settings()
    for settings in (tmp_path / "my.toml", str(tmp_path / "my.toml")):
        found = make("GAIL", settings=settings, gamma=0.95, learning_rate=0.1, net_arch=[8]).settings
        assert (found.gail.learning_rate, found.learner.gamma, found.learner.optimizer.target_kl) == (0.5, 0.95, 0.2)
        # A name that several parts have is the learner's.
        assert (found.learner.optimizer.learning_rate, found.learner.net_arch) == (0.1, (8,))
        assert found.net_arch == base.net_arch
    table = {"gail": {"learning_rate": 0.5}}
    assert make("GAIL", settings=table).settings.gail == replace(base.gail, learning_rate=0.5)
    whole = replace(base, dropout=0.3)
    assert make("GAIL", settings=whole).settings.dropout == 0.3
    assert make("GAIL", preset="paper").settings.reward == "softplus"
    # As the expert's command: fewer rows in a rollout of a short training, but those that are told.
    short, long = (rlgen.PPO("Hopper-v4").settings_for(n).learner for n in (100_000, 5_000_000))
    assert (short.n_envs, long.n_envs) == (16, 64)
    assert rlgen.PPO("Hopper-v4", n_envs=8).settings_for(100_000).learner.n_envs == 8
    assert long == replace(presets.EXPERT["ppo"], total_timesteps=5_000_000)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gama": 0.9}, "gama: no such argument; did you mean gamma?"),
        ({"zzz": 0.9}, "zzz: no such argument; there are env, .*, net_arch, "),
        ({"n_trajectorys": 4}, r"did you mean n_trajectories\?"),
        ({"reward_mode": "airl"}, r"did you mean reward_model\?"),
        ({"gradient_steps": 4}, r"did you mean total_timesteps\?"),
        ({"algo": "tpro"}, "algo must be one of trpo, ppo, svg, sac; got tpro; did you mean trpo?"),
        ({"reward_model": "gaill"}, "did you mean gail?"),
        ({"preset": "papers"}, "did you mean paper?"),
        ({"reward_model": "fem", "dropout": 0.1}, "dropout has no effect with reward_model fem"),
        (
            {"reward_model": "airl", "virtual_batch_norm": True},
            "virtual_batch_norm has no effect with reward_model airl",
        ),
        ({"reward_model": "airl", "minibatch_group": 4}, "minibatch_group has no effect with reward_model airl"),
        ({"reward_model": "airl", "information_limit": 1}, "information_limit has no effect with reward_model airl"),
        ({"reward_model": "airl", "reward": "feature-matching"}, "reward has no effect with reward_model airl"),
        ({"reward_model": "gtal", "historical_averaging": 1}, "historical_averaging has no effect with .* gtal"),
        ({"information_limit": 0.0}, "information_limit must be above 0; got 0.0"),
        ({"minibatch_group": 0}, "minibatch_group must be at least 1; got 0"),
        ({"minibatch_group": 7}, "minibatch_group must divide n_steps, 64; got 7"),
        ({"minibatch_group": 8, "algo": "sac"}, "minibatch_group needs algo trpo or ppo"),
        ({"reward": "feature_matching"}, "reward must be one of softplus, log-d, logit, feature-matching"),
        ({"virtual_batchnorm": True}, r"did you mean virtual_batch_norm\?"),
        ({"gamma": 2.0}, r"learner.gamma must be in \[0, 1\]; got 2.0"),
        ({"gamma": "high"}, "learner.gamma: must be a number; got 'high'"),
        ({"n_trajectories": 0}, "n_trajectories must be at least 1; got 0"),
        ({"seed": -1}, "seed must be in"),
        ({"n_threads": 0}, "n_threads must be in"),
        ({"settings": {"gial": {}}}, "settings: gial: no such setting; did you mean gail?"),
        (
            {"settings": presets.LearnerSettings(presets.TRPO_LEARNER)},
            "settings must be Imitation; got LearnerSettings",
        ),
        ({"settings": 5}, "settings must be a folder's path; got 5"),
        ({"settings": imitation.settings(), "algo": "ppo"}, "algo is ppo; the settings' optimizer is TRPOConfig"),
        ({"settings": imitation.settings(), "preset": "paper"}, "whole settings take the preset's place"),
        ({"ent_coef": 0.1}, "ent_coef is no setting of trpo's"),
        ({"include_failed": "no"}, "include_failed: must be true or false; got 'no'"),
        ({"algo": ["trpo"]}, "algo: must be a text"),
        ({"vectorization": "thread"}, "vectorization: must be 'sync' or 'async'"),
        ({"expert": None}, "expert must be a folder's path; got None"),
    ],
)
def test_what_is_wrong_is_told_when_it_is_made(arguments, message):
    with pytest.raises(UsageError, match=message):
        rlgen.GAIL("Hopper-v4", **{"expert": DATA} | arguments)


def test_other_mistakes(tmp_path):
    (tmp_path / "my.toml").write_text("[Hoper-v4]\nlearner.gamma = 0.9")
    with pytest.warns(UserWarning, match=r"no settings, so none are changed; the ids in the file: Hoper-v4"):
        rlgen.PPO("Hopper-v4", settings=tmp_path / "my.toml")
    with pytest.raises(UsageError, match="draw from a folder"):
        rlgen.GAIL("Hopper-v4", rlgen.load_demonstrations(DATA, "Hopper-v4", 1), n_trajectories=2)
    with pytest.raises(UsageError, match=r"that gymnasium\.make didn't make"):
        rlgen.PPO(heavy().unwrapped.__class__())
    for steps in ("100", [1], float("inf"), True, 0):
        with pytest.raises(UsageError, match="total_timesteps must be a positive whole number"):
            make("PPO").learn(steps)
    with pytest.raises(UsageError, match=r"sed: no such argument; did you mean seed\?"):
        make("VIME", sed=1)
    with pytest.raises(UsageError, match=r"recoverd: no such argument; did you mean recovered\?"):
        make("PPO", recoverd="a")
    for wrong in ("total_timesteps", "gradient_steps"):
        with pytest.raises(UsageError, match=rf"{wrong}: no such argument; did you mean n_steps\?"):
            make("BC", **{wrong: 100})
    for kind in ("PPO", "BC"):
        with pytest.raises(UsageError, match=r"gradient_steps: no such argument; did you mean total_timesteps\?"):
            make(kind).learn(gradient_steps=100)
        with pytest.raises(UsageError, match=r"progress_bar: no such argument; did you mean progress\?"):
            make(kind).learn(100, progress_bar=True)
    with pytest.raises(UsageError, match="n_episodes must be a positive whole number"):
        make("PPO").evaluate(0)
    with pytest.raises(UsageError, match=r"bonus must be one of vime, .*; did you mean vime\?"):
        rlgen.VIME("Hopper-v4", bonus="vim")
    with pytest.raises(gym.error.NameNotFound, match="Did you mean: `Hopper`"):
        rlgen.VIME("Hoper-v4")
    with pytest.raises(UsageError, match="import it yourself"):
        rlgen.PPO("os:Hopper-v4")
    with pytest.raises(DemonstrationError, match="nowhere"):
        rlgen.GAIL("Hopper-v4", "nowhere")
    with pytest.raises(DemonstrationError, match="observation"):
        rlgen.GAIL("Walker2d-v4", rlgen.load_demonstrations(DATA, "Hopper-v4", 1)).learn(100)
    with pytest.raises(UsageError, match=r"total_timesteps must be a positive whole number; got 1\.5"):
        make("PPO").learn(1.5)
    with pytest.raises(UsageError, match="device must be auto, cpu or cuda; got cud"):
        rlgen.PPO("Hopper-v4", device="cud").learn(100)
    envs = rlgen.make_vec("CartPole-v1", 4)
    with pytest.raises(UsageError, match="an environment that can be made again"):
        rlgen.PPO(envs).learn(512, run_dir="nowhere")


def test_what_is_no_agent_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="holds no run"):
        rlgen.load(tmp_path)
    make("GAIL").save(tmp_path / "a")
    text = (tmp_path / "a" / "config.json").read_text()
    for old, new, message in (
        ('"kind": "GAIL"', '"kind": "os.system"', "changed since"),
        ('"n_trajectories": 4', '"n_trajectories": 5', "changed since"),
    ):
        assert old in text
        (tmp_path / "a" / "config.json").write_text(text.replace(old, new))
        with pytest.raises(CheckpointError, match=message):
            rlgen.load(tmp_path / "a")
    (tmp_path / "a" / "config.json").write_text(text)
    assert isinstance(rlgen.load(tmp_path / "a").settings, Imitation)
    facts, state = load_checkpoint(tmp_path / "a")
    del facts["versions"]
    save_checkpoint(tmp_path / "a", state | {"policy": 0.5}, facts)
    with pytest.raises(CheckpointError, match="policy: must be an object"):
        rlgen.load(tmp_path / "a")


def test_the_public_names():
    listed = subprocess.run(
        [sys.executable, "-c", "import rlgen, sys; print(*dir(rlgen)); print('torch' in sys.modules)"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert {"GAIL", "VIME", "TRPO", "PPO", "load", "evaluate", "make_vec"} <= set(listed)
    assert listed[-1] == "False"
    assert all(getattr(rlgen, name) is not None for name in rlgen.__all__)
