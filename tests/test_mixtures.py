"""InfoGAIL and skills as agents and commands: codes in training, evaluation, files, and what is refused."""

import json
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from processes import forked
from test_resume import assert_same

import rlgen
from rlgen.checkpoint import load_checkpoint, save_checkpoint
from rlgen.data.convert import _without_broken, load_source, save_dataset
from rlgen.data.demonstrations import load_episodes, save_demonstrations
from rlgen.envs.codes import Coded, Codes
from rlgen.errors import DemonstrationError, UsageError
from rlgen.evaluation import evaluate
from rlgen.nn.policy import Actor

DATA = Path(__file__).parents[1] / "expert_data"
SMALL = {"n_envs": 4, "n_steps": 32, "n_threads": 1, "device": "cpu"}
STEPS = 4 * 32 * 3


def infogail(env="Hopper-v4", expert=DATA, **values):
    return rlgen.GAIL(env, expert, **SMALL | {"codes": 3} | values)


def skills(env="Hopper-v4", **values):
    off = {"learning_starts": 128, "updates_per_step": 0.1} if values.get("algo") in ("svg", "sac") else {}
    return rlgen.VIME(env, bonus="skills", **SMALL | off | values)


AGENTS = {
    "trpo": (infogail, {}),
    "ppo": (infogail, {"algo": "ppo"}),
    "continuous": (infogail, {"continuous_codes": 2}),
    "states": (infogail, {"state_only": True}),
    "fem": (infogail, {"reward_model": "fem"}),
    "not ours": (infogail, {"env": "CartPole-v1"}),
    "paper": (infogail, {"preset": "paper"}),
    "skills trpo": (skills, {}),
    "skills ppo": (skills, {"algo": "ppo", "codes": 4}),
    "skills sac": (skills, {"algo": "sac"}),
    "skills svg": (skills, {"algo": "svg"}),
}


def made(kind, **values):
    make, told = AGENTS[kind]
    return make(**told | values)


@pytest.mark.parametrize("kind", [kind for kind in AGENTS if kind != "not ours"])
def test_stopped_and_resumed_equals_never_stopped(tmp_path, kind):
    make, told = AGENTS[kind]
    expert = {"expert": rlgen.load_demonstrations(DATA, "Hopper-v4", 4)} if make is infogail else {}

    def made(seed=0):
        return make(**told, **expert, total_timesteps=6 * 128, seed=seed)

    whole = made().training
    expected = [iteration.metrics for iteration in whole]
    first = made().training
    steps = iter(first)
    found = [next(steps).metrics for _ in range(3)]
    save_checkpoint(tmp_path, first.state_dict(), {})
    second = made(seed=7).training
    second.load_state_dict(load_checkpoint(tmp_path)[1])
    found += [iteration.metrics for iteration in second]
    for left, right in zip(expected, found, strict=True):
        np.testing.assert_equal(left, right)
    assert_same(whole.state_dict(), second.state_dict())
    assert whole.exact


@pytest.mark.parametrize("kind", AGENTS)
def test_it_is_saved_and_loaded_with_its_codes(tmp_path, kind):
    agent = made(kind).learn(STEPS, progress=False)
    agent.save(tmp_path / "a")
    other = rlgen.load(tmp_path / "a")
    assert (other.settings, other.codes) == (agent.settings, agent.codes)
    observation = np.linspace(-1, 1, 4 if kind == "not ours" else 11)
    code = (1, 0.5, -0.5) if agent.codes.continuous_codes else 1
    told = {"code": (1, np.array([0.5, -0.5])) if agent.codes.continuous_codes else 1, "observation": observation}
    for one in (agent, other):
        assert one.evaluate(2, code=code).returns == agent.evaluate(2, code=code).returns
        np.testing.assert_array_equal(one.predict(observation, code=code)[0], agent.predict(told)[0])
        several, _ = one.predict(np.stack([observation] * 3), code=code)
        np.testing.assert_allclose(several[2], agent.predict(observation, code=code)[0], atol=1e-6)
    assert agent.evaluate(4).returns != agent.evaluate(4, code=code).returns or kind == "not ours"


def test_evaluation_draws_codes_as_environments_are_seeded():
    agent = infogail().learn(STEPS, progress=False)
    drawn = evaluate(Actor(agent.policy), Coded("Hopper-v4", agent.codes), 6, 10_000, n_threads=1).returns
    assert agent.evaluate(6).returns == drawn
    by_code = [agent.evaluate(6, code=code).returns for code in range(3)]
    assert all(any(x == row[i] for row in by_code) for i, x in enumerate(drawn))
    assert len({tuple(row) for row in by_code}) == 3


def test_without_codes_nothing_is_coded():
    agent = rlgen.GAIL("Hopper-v4", DATA, **SMALL)
    assert not agent.codes
    assert agent.training.collector.obs.shape == (4, 11)
    assert type(agent.training.reward_model).__name__ == "GAIL"
    assert "codes" not in agent._config()["agent"]
    with pytest.raises(UsageError, match="code has no effect: the agent was made without codes"):
        agent.evaluate(1, code=1)
    with pytest.raises(UsageError, match="code has no effect"):
        agent.predict(np.zeros(11), code=1)


def test_metrics_keep_the_imitators_names():
    table = infogail().learn(STEPS, progress=False).metrics
    assert {"discriminator_loss", "termination_rate", "imitation_reward", "code_reward", "code_accuracy"} <= set(table)
    table = skills().learn(STEPS, progress=False).metrics
    assert {"env_reward_max", "bonus_reward", "bonus_information", "bonus_accuracy"} <= set(table)
    assert (table["env_reward"] == 0).all()
    np.testing.assert_allclose(table["reward"], table["bonus_reward"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "told", "message"),
    [
        (infogail, {"codes": 1}, "codes must be 0"),
        (infogail, {"codes": -1}, "codes must be in .0, 1000.; got -1"),
        (infogail, {"continuous_codes": -1}, "continuous_codes must be in .0, 1000."),
        (infogail, {"code_weight": -1.0}, "code_weight must be at least 0"),
        (infogail, {"reward_model": "airl"}, "codes need another reward_model than airl"),
        (infogail, {"algo": "svg"}, "codes need algo trpo or ppo"),
        (infogail, {"code": 3}, "code: must be a table of settings|code: no such argument"),
        (infogail, {"codes": 0, "labels": True}, "labels have no effect without codes"),
        (skills, {"bonus": "rnd"}, None),
    ],
)
def test_what_is_wrong_is_told_when_it_is_made(make, told, message):
    if make is skills:
        with pytest.raises(UsageError, match="codes has no effect with bonus rnd"):
            rlgen.VIME("Hopper-v4", bonus="rnd", codes=4)
        with pytest.raises(UsageError, match="bonus skills needs codes"):
            skills(codes=0).learn(STEPS, progress=False)
        return
    with pytest.raises(UsageError, match=message):
        make(**told)


def test_a_name_that_code_and_discriminator_have_is_the_discriminators():
    settings = infogail(n_updates=7, net_arch=[8]).settings
    assert (settings.gail.n_updates, settings.learner.net_arch) == (7, (8,))
    assert settings.code.posterior.n_updates != 7
    assert infogail(settings={"code": {"posterior": {"n_updates": 3}}}).settings.code.posterior.n_updates == 3


def test_the_commands(tmp_path):
    flags = ["--n-envs", "4", "--n-steps", "32", "--total-timesteps", str(STEPS), "--threads", "1", "--device", "cpu"]
    told = ["--env", "Hopper-v4", "--expert", str(DATA), "--codes", "3", "--eval-episodes", "3", "--run-dir", "run"]
    done = forked("gail.py", *told, *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    agent = infogail().learn(STEPS, progress=False)
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["return_mean"] == agent.evaluate(3).mean
    done = forked("evaluate.py", "run", "--episodes", "3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert all(f"code {code}: " in done.stdout for code in range(3))
    report = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert report["code 2"]["returns"] == agent.evaluate(3, code=2, seed=20_000).returns
    done = forked("evaluate.py", "run", "--episodes", "3", "--code", "2", cwd=tmp_path)
    again = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert again["deterministic"]["returns"] == report["code 2"]["returns"]
    done = forked("evaluate.py", "run", "--code", "5", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "error: code must be a whole number from 0 to 2; got 5\n")
    done = forked("gail.py", *told[:4], "--eval-episodes", "1", "--run-dir", "plain", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = forked("evaluate.py", "plain", "--code", "0", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "error: --code 0: plain was trained without codes\n")


def test_onnx_takes_the_code_with_the_observation(tmp_path):
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    from rlgen.export import export_onnx

    agent = infogail().learn(STEPS, progress=False)
    export_onnx(agent.policy, tmp_path / "a.onnx")
    told = {p.key: json.loads(p.value) for p in onnx.load(tmp_path / "a.onnx").metadata_props}
    assert told["observation"] == [["code", 3], ["observation", 11]]
    observation = np.linspace(-1, 1, 11)
    session = runtime.InferenceSession(str(tmp_path / "a.onnx"))
    actions = []
    for code in range(3):
        row = np.concatenate((np.eye(3)[code], observation))[None]
        actions.append(session.run(None, {"obs": row})[0][0])
        np.testing.assert_allclose(actions[-1], agent.predict(observation, code=code)[0], atol=1e-5)
    assert len(np.unique(actions, axis=0)) == 3


def test_a_film_is_of_one_code(tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    agent = infogail().learn(STEPS, progress=False)
    try:
        returns = [agent.film(tmp_path / f"{code}.mp4", code=code) for code in range(2)]
    except UsageError as error:
        pytest.skip(str(error))
    # A film's first episode is the first that `evaluate` runs, also with a code that is drawn.
    seeds = range(5)
    drawn = [agent.evaluate(1, seed=seed).mean for seed in seeds]
    assert [agent.film(tmp_path / "x.mp4", seed=seed) for seed in seeds] == pytest.approx(drawn, rel=1e-4)
    assert returns == pytest.approx([agent.evaluate(1, code=code).mean for code in range(2)], rel=1e-4)


class Told(gym.Env):
    """Ten steps of an observation that is drawn from any space."""

    action_space = gym.spaces.Box(-1, 1, (2,))

    def __init__(self, space):
        self.observation_space, self.steps = space, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.steps += 1
        return self.observation_space.sample(), 0.0, False, self.steps == 10, {}


@pytest.mark.parametrize(
    "space",
    [
        gym.spaces.Discrete(4),
        gym.spaces.MultiDiscrete([2, 3]),
        gym.spaces.MultiBinary(3),
        gym.spaces.Box(-5, 5, (3,), np.int64),
        gym.spaces.Box(-1, 1, (3,), np.float16),
        gym.spaces.Dict({"a": gym.spaces.Box(-1, 1, (2,)), "b": gym.spaces.Discrete(3)}),
    ],
    ids=str,
)
def test_a_code_is_told_beside_any_observation(space):
    agent = skills(lambda: Told(space), codes=2, continuous_codes=1).learn(STEPS, progress=False)
    observation, code = space.sample(), (1, 0.123)
    beside, _ = agent.predict(observation, code=code)
    within, _ = agent.predict({"code": (1, np.array([0.123])), "observation": observation})
    np.testing.assert_array_equal(beside, within)
    assert not np.array_equal(beside, agent.predict(observation, code=(0, 0.123))[0])


def test_what_has_no_effect_without_codes_is_refused():
    with pytest.raises(UsageError, match="code_weight has no effect without codes"):
        rlgen.GAIL("Hopper-v4", DATA, code_weight=0.5, **SMALL)
    with pytest.raises(UsageError, match="codes have no effect with bonus vime"):
        rlgen.VIME("Hopper-v4", settings={"codes": {"codes": 3}}, **SMALL)


def test_a_merged_dataset_has_the_labels_of_its_parts(tmp_path):
    _, episodes = load_episodes(DATA, "CartPole-v1")
    envs = rlgen.make_vec("CartPole-v1", 1)
    spaces = {"observation_space": envs.single_observation_space, "action_space": envs.single_action_space}
    facts = {"env_id": "CartPole-v1", "deterministic": False, "algorithm": "x", "command": "y", "seed": 0}
    for name, n, labels in (("a", 3, [1, None, 0]), ("b", 2, None)):
        save_demonstrations(tmp_path / name / "CartPole-v1", episodes=episodes[:n], labels=labels, **facts, **spaces)
    save_dataset([load_source(tmp_path / name / "CartPole-v1") for name in "ab"], tmp_path / "both")
    assert load_episodes(tmp_path / "both", "CartPole-v1")[0]["labels"] == [1, None, 0, None, None]
    found = load_source(tmp_path / "a" / "CartPole-v1")
    found.episodes[1].obs[0] = np.nan
    save_dataset([_without_broken(found)], tmp_path / "whole")
    assert load_episodes(tmp_path / "whole", "CartPole-v1")[0]["labels"] == [1, 0]


def test_a_vector_environment_of_ones_own_is_given_codes():
    agent = rlgen.GAIL(rlgen.make_vec("Hopper-v4", 4), DATA, codes=2, n_steps=32, n_threads=1, device="cpu")
    agent.learn(STEPS, progress=False)
    assert agent.codes == agent.settings.code
    assert agent.training.collector.envs.codes.codes == Codes(2).codes


def test_labels_are_of_the_dataset(tmp_path):
    _, episodes = load_episodes(DATA, "CartPole-v1")
    n = len(episodes)
    envs = rlgen.make_vec("CartPole-v1", 1)
    spaces = {"observation_space": envs.single_observation_space, "action_space": envs.single_action_space}
    facts = {"env_id": "CartPole-v1", "episodes": episodes, "deterministic": False, "algorithm": "x", "command": "y"}
    labels = [i % 2 if i < 5 else None for i in range(n)]
    save_demonstrations(tmp_path / "CartPole-v1", **facts, **spaces, seed=0, labels=labels)
    drawn = rlgen.load_demonstrations(tmp_path, "CartPole-v1", n, 10)
    lengths = [-(-length // 10) for length in drawn.episode_lengths]
    told = [-1 if labels[i] is None else labels[i] for i in drawn.episode_indices]
    ends = np.cumsum([0, *lengths])
    assert all(
        abs(int((drawn.labels[a:b] == x).sum()) - (b - a)) <= 1
        for a, b, x in zip(ends[:-1], ends[1:], told, strict=True)
    )
    agent = rlgen.GAIL("CartPole-v1", tmp_path, codes=2, labels=True, n_trajectories=n, **SMALL)
    agent.learn(STEPS, progress=False)
    assert agent.training.reward_model.terms["code"][0].labelled is not None
    with pytest.raises(DemonstrationError, match="tells no mode"):
        rlgen.GAIL("CartPole-v1", DATA, codes=2, labels=True, **SMALL).learn(STEPS, progress=False)
    save_demonstrations(tmp_path / "bad", **facts, **spaces, seed=0, labels=[0])
    with pytest.raises(DemonstrationError, match="field labels: the manifest lists 1 of"):
        rlgen.load_demonstrations(tmp_path / "bad", "CartPole-v1")
