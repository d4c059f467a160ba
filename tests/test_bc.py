"""Behaviour cloning as an agent and a command, and what starts from its policy."""

import json
import shutil
from pathlib import Path

import gymnasium as gym
import numpy as np
import pandas as pd
import pytest
import torch
from processes import forked

import rlgen
from rlgen.command import RunOptions
from rlgen.commands.plot import setting
from rlgen.data.demonstrations import load_demonstrations, save_demonstrations
from rlgen.data.episodes import Episode
from rlgen.errors import DemonstrationError, UsageError
from rlgen.nn.policy import Policy
from rlgen.optim.behaviour_cloning import BehaviourCloningConfig, clone_behaviour
from rlgen.report.runs import Run

ROOT = Path(__file__).parents[1]
DATA = ROOT / "expert_data"
FEW = {"n_threads": 1, "device": "cpu", "subsample": 20}
SMALL = {"n_envs": 4, "n_steps": 32, "n_threads": 1, "device": "cpu"}
ITERATION = 4 * 32


def bc(env="Hopper-v4", expert=DATA, **values):
    return rlgen.BC(env, expert, **FEW | values)


@pytest.fixture(scope="module")
def cloned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bc") / "run"
    bc(net_arch=(32,)).learn(600, run_dir=folder, eval_episodes=2, progress=False)
    return folder


def outputs(policy):
    space = policy.observation_space
    obs = torch.randn(50, *space.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    normalizer = policy.normalizer
    with torch.no_grad():
        return policy.network(normalizer(normalizer.mean + obs * normalizer.std()))


def raw_outputs(policy, obs):
    with torch.no_grad():
        return policy.network(policy.normalizer(obs))


def weights(agent):
    return torch.cat([x.flatten().double() for x in agent.policy.state_dict().values()])


def test_it_is_clone_behaviour_to_the_last_bit():
    agent = bc(seed=3).learn(300, progress=False)
    drawn = load_demonstrations(DATA, "Hopper-v4", 4, 20, seed=3)
    envs = rlgen.make_vec("Hopper-v4", 1)
    torch.manual_seed(3)
    policy = Policy(envs.single_observation_space, envs.single_action_space, (100, 100))
    metrics = clone_behaviour(policy, drawn.transitions, BehaviourCloningConfig(n_steps=300))
    for ours, theirs in zip(agent.policy.state_dict().values(), policy.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
    assert agent.metrics["best_validation_loss"].iloc[-1] == float(metrics["validation_loss"])


def test_the_command_gives_the_same_and_goes_on_beyond_its_end(tmp_path):
    flags = ["--env", "Hopper-v4", "--expert", str(DATA), "--subsample", "20", "--threads", "1", "--device", "cpu"]
    done = forked("bc.py", *flags, "--gradient-steps", "300", "--eval-episodes", "2", "--run-dir", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "behaviour cloning of 200 pairs" in done.stdout
    assert "300 gradient steps in" in done.stdout
    run = tmp_path / "run"
    agent = bc().learn(300, progress=False)
    assert torch.equal(weights(rlgen.load(run)), weights(agent))
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["gradient_steps"], summary["env_steps"], summary["reward"]) == (300, 0, None)
    assert summary["return_mean"] == agent.evaluate(2).mean
    on = forked("bc.py", "--resume", "run", "--gradient-steps", "500", cwd=tmp_path)
    assert on.returncode == 0, on.stderr
    assert torch.equal(weights(rlgen.load(run)), weights(agent.learn(200, progress=False)))
    table = pd.read_csv(run / "metrics.csv")
    assert table["gradient_steps"].tolist() == [100, 200, 300, 400, 500]
    assert (table["best_validation_loss"] == table["validation_loss"].cummin()).all()
    assert json.loads((run / "summary.json").read_text())["went_on_after"] == 300
    assert (run / "curve.png").stat().st_size > 1000


def test_without_an_environment_the_policy_is_fitted_and_exported(tmp_path):
    drawn = load_demonstrations(DATA, "Hopper-v4", 1)
    steps = drawn.transitions
    obs = np.concatenate([steps.obs.numpy(), steps.next_obs[-1:].numpy()])
    episode = Episode(obs, steps.actions.numpy(), steps.rewards.numpy(), False, True)
    save_demonstrations(
        tmp_path / "arm",
        env_id="my-robot/Arm-v0",
        observation_space=drawn.observation_space,
        action_space=drawn.action_space,
        episodes=[episode],
        deterministic=None,
        algorithm="a person",
        command="by hand",
        seed=None,
    )
    flags = ["--n-trajectories", "1", "--gradient-steps", "200", "--threads", "1", "--run-dir", "run"]
    done = forked("bc.py", "--expert", "arm", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "no environment my-robot/Arm-v0 to evaluate in" in done.stdout
    agent = rlgen.load(tmp_path / "run", expert=tmp_path / "arm")
    assert agent.predict(obs[0])[0].shape == (3,)
    agent.learn(100, progress=False)
    with pytest.raises(UsageError, match="pass env"):
        agent.evaluate(1)
    exported = forked("evaluate.py", "run", "--onnx", "policy.onnx", cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr
    assert (tmp_path / "policy.onnx").stat().st_size > 1000
    refused = forked("evaluate.py", "run", cwd=tmp_path)
    assert refused.returncode == 2
    assert "tell it: --env MODULE:my-robot/Arm-v0" in refused.stderr
    by_name = forked("bc.py", "--expert", "arm", "--env", "my-robot/Arm-v0", *flags[:-1], "run2", cwd=tmp_path)
    assert by_name.returncode == 0, by_name.stderr
    visits = forked("plot.py", "run", "--states", cwd=tmp_path)
    assert "run: kept no visited states; behaviour cloning steps no environment" in visits.stderr


def test_a_folder_of_several_datasets_is_told_and_of_one_is_it(tmp_path):
    with pytest.raises(DemonstrationError, match=r"holds datasets of Acrobot-v1, .*; tell one's folder, or --env"):
        rlgen.BC(None, DATA)
    shutil.copytree(DATA / "CartPole-v1", tmp_path / "CartPole-v1")
    assert rlgen.BC(None, tmp_path).env_id == "CartPole-v1"
    with pytest.warns(UserWarning, match="the demonstrations are of CartPole-v1, the environment is Acrobot-v1"):
        rlgen.BC("Acrobot-v1", load_demonstrations(tmp_path, "CartPole-v1"))


def test_statistics_change_and_the_actions_do_not():
    space = gym.spaces.Box(-np.inf, np.inf, (4,), np.float64)
    torch.manual_seed(0)
    policy = Policy(space, gym.spaces.Box(-1, 1, (2,)), (16,))
    torch.nn.init.normal_(policy.network[-1].weight)
    rows = torch.randn(100, 4, dtype=torch.float64) * torch.tensor([1, 10, 0.1, 0]) + torch.tensor([0, 50, 0, 2])
    policy.normalizer.update(rows)
    before = raw_outputs(policy, rows)
    with policy.same_actions():
        policy.normalizer.update(rows * torch.tensor([2, 1, 1, 1.5]) + torch.tensor([0.5, 3, 0, 0]))
    torch.testing.assert_close(raw_outputs(policy, rows), before, rtol=1e-4, atol=1e-5)
    assert policy.normalizer.std()[3] > 0  # it varies now, and may be learned from


@pytest.mark.parametrize("algo", ["trpo", "ppo"])
def test_the_policy_stays_until_the_critic_is_warm(cloned, algo):
    agent = rlgen.GAIL(
        "Hopper-v4",
        DATA,
        init=cloned,
        critic_warmup=2,
        algo=algo,
        subsample=20,
        total_timesteps=4 * ITERATION,
        seed=1,  # other pairs, of other statistics, than the clone's
        **SMALL,
    )
    assert agent.settings.learner.net_arch == (32,)
    obs = agent.demonstrations.transitions.obs
    start = raw_outputs(rlgen.load(cloned).policy, obs)
    values = agent.training.critic(obs).detach()
    moved = []
    for iteration in agent.training:
        moved.append(float((raw_outputs(agent.policy, obs) - start).abs().max()))
        if iteration.number == 1:
            assert not torch.allclose(agent.training.critic(obs), values, atol=1e-2)
        assert (iteration.metrics["kl"] == 0) == (iteration.number <= 2)
    assert max(moved[:2]) < 1e-3 < min(moved[2:])


def test_what_starts_from_a_policy_goes_on_exactly_in_its_warm_up(tmp_path, cloned):
    def make(init):
        return rlgen.PPO("Hopper-v4", init=init, **SMALL, total_timesteps=6 * ITERATION)

    whole = make(rlgen.load(cloned)).learn(6 * ITERATION, progress=False)
    stopped = make(cloned).learn(6 * ITERATION, callback=lambda iteration: iteration.number < 2, progress=False)
    assert stopped.arguments.critic_warmup == 5
    stopped.save(tmp_path / "a")
    resumed = rlgen.load(tmp_path / "a")
    for _ in resumed.training:
        pass
    assert torch.equal(weights(resumed), weights(whole))


def test_an_expert_a_policy_and_an_agent_are_starts_too(tmp_path, cloned):
    expert = rlgen.load_expert(DATA, "Hopper-v4")
    from_data = rlgen.TRPO("Hopper-v4", init=DATA / "Hopper-v4", **SMALL)
    from_policy = rlgen.VIME("Hopper-v4", init=expert, **SMALL)
    for agent in (from_data, from_policy):
        assert agent.settings.learner.net_arch == expert.net_arch
        torch.testing.assert_close(outputs(agent.policy), outputs(expert))
    agent = rlgen.TRPO("Hopper-v4", init=rlgen.load(cloned), **SMALL)
    assert agent.arguments.init is None
    agent.policy.log_std.data.zero_()  # a copy
    assert not torch.equal(agent.policy.log_std, rlgen.load(cloned).policy.log_std)
    with pytest.raises(UsageError, match="log_std_init has no effect with init"):
        rlgen.PPO("Hopper-v4", init=cloned, log_std_init=-2.0)
    with pytest.raises(UsageError, match=r"critic_warmup has no effect without init"):
        rlgen.PPO("Hopper-v4", critic_warmup=3)
    with pytest.raises(UsageError, match="holds neither a run nor a dataset of Hopper-v4"):
        rlgen.PPO("Hopper-v4", init=tmp_path)
    with pytest.raises(UsageError, match=r"init: its policy sees observations .*HalfCheetah-v4 has Box"):
        _ = rlgen.PPO("HalfCheetah-v4", init=cloned, **SMALL).training
    other = Policy(expert.observation_space, gym.spaces.Discrete(3))
    with pytest.raises(UsageError, match=r"init: its policy's actions are Discrete\(3\)"):
        _ = rlgen.PPO("Hopper-v4", init=other, **SMALL).training


def test_runs_that_start_from_others_are_one_setting_if_these_differ_by_seed_alone(tmp_path, cloned):
    found = {}
    for name, start, seed in (
        ("a", cloned, 0),
        ("b", bc(net_arch=(32,), seed=1).learn(600, progress=False), 1),
        ("c", bc(net_arch=(32,), seed=1, weight_decay=0.1).learn(600, progress=False), 1),
        ("d", bc(net_arch=(32,), seed=1).learn(500, progress=False), 1),
    ):
        if not isinstance(start, Path):
            start.save(tmp_path / f"bc_{name}")
            start = tmp_path / f"bc_{name}"
        agent = rlgen.PPO("Hopper-v4", init=start, seed=seed, **SMALL)
        agent.learn(ITERATION, run_dir=tmp_path / name, eval_episodes=1, progress=False)
        found[name] = setting(Run.read(tmp_path / name))
    assert found["a"] == found["b"]
    assert found["a"]["init"].startswith("BC (")
    assert len({told["init"] for told in found.values()}) == 3
    again = rlgen.load(tmp_path / "a")  # which knows no longer where it was
    again.learn(ITERATION, progress=False).save(tmp_path / "again")
    assert setting(Run.read(tmp_path / "again"))["init"] == found["a"]["init"]


def test_a_command_starts_from_a_run_and_is_resumed(tmp_path, cloned):
    shutil.copytree(cloned, tmp_path / "bc")
    flags = ["--env", "Hopper-v4", "--expert", str(DATA), "--n-envs", "4", "--n-steps", "32", "--threads", "1"]
    flags += ["--eval-episodes", "1", "--init", "bc", "--critic-warmup", "1"]
    for steps, folder in (("2", "a"), ("4", "b")):
        total = str(int(steps) * ITERATION)
        done = forked("gail.py", *flags, "--total-timesteps", total, "--run-dir", folder, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    shutil.rmtree(tmp_path / "bc")  # trained anew since, by other settings
    bc(net_arch=(32,), weight_decay=0.1).learn(100, run_dir=tmp_path / "bc", eval_episodes=1, progress=False)
    on = forked("gail.py", "--resume", "a", "--total-timesteps", str(4 * ITERATION), cwd=tmp_path)
    assert on.returncode == 0, on.stderr
    found = [json.loads((tmp_path / run / "summary.json").read_text()) for run in ("a", "b")]
    assert [summary["env_steps"] for summary in found] == [4 * ITERATION] * 2
    assert [summary["went_on_after"] for summary in found] == [2 * ITERATION, None]
    less = forked("gail.py", "--resume", "a", "--total-timesteps", str(ITERATION), cwd=tmp_path)
    assert less.returncode == 2
    assert "has done 512 of 512 steps; to go on beyond them it must be told more in all" in less.stderr
    assert json.loads((tmp_path / "a" / "summary.json").read_text()) == found[0]


def test_evaluations_on_the_way_change_nothing_and_keep_the_agents(tmp_path):
    def learn(name, **options):
        agent = rlgen.PPO("Hopper-v4", **SMALL, total_timesteps=6 * ITERATION)
        agent.learn(6 * ITERATION, run_dir=tmp_path / name, eval_episodes=1, progress=False, **options)
        return agent

    with_them, without = learn("with", eval_every=2 * ITERATION), learn("without")
    assert torch.equal(weights(with_them), weights(without))
    run = tmp_path / "with"
    table = pd.read_csv(run / "evaluations.csv")
    assert table["steps"].tolist() == [2 * ITERATION, 4 * ITERATION, 6 * ITERATION]
    assert sorted(int(path.name) for path in (run / "steps").iterdir()) == table["steps"].tolist()
    for steps, mean in zip(table["steps"], table["return_mean"], strict=True):
        kept = rlgen.load(run / "steps" / str(steps))
        assert kept.num_timesteps == steps
        assert kept.evaluate(10).mean == mean
    assert torch.equal(weights(rlgen.load(run / "steps" / str(6 * ITERATION))), weights(with_them))
    assert not (tmp_path / "without" / "evaluations.csv").exists()
    with pytest.raises(UsageError, match="eval_every needs run_dir"):
        rlgen.PPO("Hopper-v4", **SMALL).learn(ITERATION, eval_every=ITERATION)


def test_a_stopped_run_told_its_own_total_goes_on_as_if_never_stopped(tmp_path):
    """And what was evaluated after its checkpoint is evaluated again, once."""

    def make():
        return rlgen.PPO("Hopper-v4", **SMALL, total_timesteps=6 * ITERATION)

    whole, run = make().learn(6 * ITERATION, progress=False), tmp_path / "run"
    options = {"eval_episodes": 1, "eval_every": 2 * ITERATION}
    make().learn(run_dir=run, callback=lambda iteration: iteration.number < 3, progress=False, **options)
    with (run / "evaluations.csv").open("a") as file:
        file.write(f"{4 * ITERATION},1.0,0.0,1.0,10\n")
    result = make().run(RunOptions(resume=run, go_on_to=6 * ITERATION, **options), progress=False)
    assert result.summary["went_on_after"] is None
    assert torch.equal(weights(rlgen.load(run)), weights(whole))
    table = pd.read_csv(run / "evaluations.csv")
    assert table["steps"].tolist() == [2 * ITERATION, 4 * ITERATION, 6 * ITERATION]
    assert table["return_mean"][1] != 1


def test_paused_time_is_none_of_training(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("rlgen.train.time.perf_counter", lambda: now[0])
    training = rlgen.PPO("Hopper-v4", **SMALL, total_timesteps=3 * ITERATION).training
    for _ in training:
        with training.pause():
            now[0] += 100
        now[0] += 1
    assert training.wall_seconds == 2
