"""`rlgen plot --states`: where agents have been."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from processes import anew, forked

import rlgen
from rlgen.checkpoint import FILE, load_checkpoint, save_checkpoint
from rlgen.data.visited import MAX_BYTES, MAX_STATES, VisitedStates
from rlgen.errors import UsageError
from rlgen.spaces import flat_box
from rlgen.states import chosen, draw_states, principal_components, read_visits
from rlgen.types import Transitions


def add(visited, n_iterations, n_steps=5, n_envs=4, n_dims=2):
    """Rollouts in which each number of a transition is told by its observation and rewards."""
    for _ in range(n_iterations):
        number = (visited.seen + 1 + torch.arange(n_steps * n_envs, dtype=torch.float64)).view(n_steps, n_envs)
        obs = number[..., None].expand(-1, -1, n_dims)
        ends = torch.zeros(n_steps, n_envs, dtype=torch.bool)
        visited.add(Transitions(-obs, ends, obs, number.float(), ends, ends), 3 * number.float())


def test_a_state_is_kept_with_its_step_and_its_rewards():
    visited = VisitedStates(2, np.float64)
    add(visited, 2000)
    sample = visited.sample()
    assert {name: len(array) for name, array in sample.items()} == dict.fromkeys(sample, MAX_STATES)
    steps = sample["env_steps"]
    assert (np.diff(steps) > 0).all()
    np.testing.assert_array_equal(sample["obs"], np.stack([steps, steps], 1))
    np.testing.assert_array_equal(sample["task_rewards"], steps)
    np.testing.assert_array_equal(sample["rewards"], 3 * steps)


def test_all_of_a_training_is_sampled_alike():
    visited = VisitedStates(2, np.float32)
    add(visited, 50, n_steps=1000)
    counts = np.histogram(visited.sample()["env_steps"], 10, (0, visited.seen))[0]
    assert counts.sum() == MAX_STATES
    assert (abs(counts - 1000) < 150).all()  # five standard deviations
    few = VisitedStates(2, np.float32)
    add(few, 3)
    np.testing.assert_array_equal(few.sample()["env_steps"], 1 + np.arange(60))


@pytest.mark.parametrize(("n_dims", "dtype"), [(1, np.float32), (17, np.float64), (376, np.float64), (10**6, "f4")])
def test_a_sample_is_of_bounded_size(n_dims, dtype):
    sizes = [x.nbytes for x in VisitedStates(n_dims, dtype).state_dict().values() if isinstance(x, np.ndarray)]
    assert sum(sizes) <= max(MAX_BYTES, n_dims * 4 + 16)
    assert sum(sizes) > MAX_BYTES / 3


def test_a_sample_that_goes_on_from_its_state_is_that_of_the_whole():
    whole, first, second = (VisitedStates(20, np.float64) for _ in range(3))
    add(whole, 900, n_dims=20)
    add(first, 450, n_dims=20)
    second.load_state_dict(first.state_dict())
    add(first, 1, n_dims=20)  # which the state is apart from
    add(second, 450, n_dims=20)
    for name, array in whole.sample().items():
        np.testing.assert_array_equal(second.sample()[name], array)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three runs of two environments, one of them by imitation."""
    folder = tmp_path_factory.mktemp("runs")
    small = {"n_envs": 4, "n_steps": 32, "n_threads": 1, "device": "cpu"}
    told = {"eval_episodes": 1, "progress": False}
    for bonus in ("vime", "none"):
        vime = rlgen.VIME("rlgen/SparseMountainCar-v0", bonus=bonus, **small)
        vime.learn(1024, run_dir=folder / bonus, **told)
    rlgen.GAIL("CartPole-v1", "expert_data", **small).learn(512, run_dir=folder / "gail", **told)
    return folder


def test_a_bonus_is_what_was_paid_beside_the_tasks_reward(runs):
    vime, none, gail = (read_visits(runs / name) for name in ("vime", "none", "gail"))
    assert [run.title for run in (vime, none, gail)] == ["bonus: vime, seed 0", "bonus: none, seed 0", "gail, seed 0"]
    assert [run.paid_name for run in (vime, none, gail)] == ["bonus", "bonus", "reward"]
    assert len(vime.obs) == len(vime.paid) == 1024
    metrics = rlgen.load(runs / "vime").metrics
    np.testing.assert_allclose(vime.paid.reshape(8, 128).mean(1), metrics["bonus_reward"], rtol=1e-4)
    assert (none.paid == 0).all()
    metrics = rlgen.load(runs / "gail").metrics
    np.testing.assert_allclose(gail.paid.reshape(4, 128).mean(1), metrics["reward"], rtol=1e-4)


def test_states_are_drawn(runs):
    done = anew("plot.py", "vime", "none", "--states", "--output", "a.png", cwd=runs)
    assert (done.returncode, done.stdout) == (0, "a.png: 2 runs; observation 0 and observation 1\n"), done.stderr
    assert (runs / "a.png").read_bytes().startswith(b"\x89PNG")
    done = forked("plot.py", "gail", "--states", "--output", "a.pdf", cwd=runs)
    assert done.stdout.startswith("a.pdf: 1 run; component 1 ("), done.stderr
    assert (runs / "a.pdf").read_bytes().startswith(b"%PDF")


class Rooms(gym.Env):
    """A walk from room (3, 3) of 7 x 8, with a battery."""

    observation_space = spaces.Dict(
        {"at": spaces.MultiDiscrete([7, 8], start=[0, 2]), "charge": spaces.Box(0, 1), "lamp": spaces.Discrete(2)}
    )
    action_space = spaces.Discrete(4)

    def _observed(self):
        return {"at": self.at + np.array([0, 2]), "charge": np.ones(1, np.float32), "lamp": int(self.at[0] > 3)}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = np.array([3, 3])
        return self._observed(), {}

    def step(self, action):
        self.at = np.clip(self.at + [(1, 0), (-1, 0), (0, 1), (0, -1)][action], 0, [6, 7])
        return self._observed(), 0.0, False, False, {}


def test_discrete_parts_are_drawn_by_their_indices(tmp_path):
    gym.register("Rooms-v0", Rooms, max_episode_steps=20)
    agent = rlgen.VIME("Rooms-v0", bonus="none", n_envs=2, n_steps=50, n_threads=1, device="cpu")
    agent.learn(100, run_dir=tmp_path / "run", eval_episodes=1, progress=False)
    visits = read_visits(tmp_path / "run")
    assert visits.columns == (("at", 2), ("charge", 1), ("lamp", 1))
    assert visits.indices.tolist() == [True, True, False, True]
    assert set(visits.obs[:, 0]) <= set(range(7))
    assert set(visits.obs[:, 1]) <= set(range(2, 10))
    assert {3.0, 4.0} <= set(visits.obs[:, 0])
    np.testing.assert_array_equal(visits.obs[:, 3], visits.obs[:, 0] > 3)
    assert draw_states(tmp_path / "a.png", "png", [visits], ["at"]) == "at:0 and at:1"
    one = replace(visits, columns=(("", 1),), obs=visits.obs[:, :1], indices=visits.indices[:1])
    assert draw_states(tmp_path / "b.png", "png", [one]) == "environment steps and observation 0"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["vime", "gail", "--states"], 2, "draws runs with the same observations; CartPole-v1 differs from"),
        (["vime", "--states", "--dims", "0", "2"], 2, "--dims 2: no dimension of the observations; there are 0 to 1"),
        (["vime", "--states", "--dims", "1"], 2, "--dims must name two dimensions; got observation 1"),
        (["vime", "--states", "--dims", "1", "1"], 2, "two dimensions; got observation 1, observation 1"),
        (["vime"] * 21 + ["--states"], 2, "draws at most 20 runs side by side; got 21"),
        (["vime", "--dims", "0", "1"], 2, "--dims has no effect without --states"),
        (["vime", "--states", "--table"], 2, "--table has no effect with --states"),
        (["vime", "--states", "--output", "a.bmp"], 2, "must end in .png, .pdf or .svg"),
    ],
)
def test_what_cannot_be_drawn_is_told(runs, words, code, message):
    done = forked("plot.py", *words, cwd=runs)
    assert (done.returncode, done.stderr.count("\n"), message in done.stderr) == (code, 1, True), done.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("visited"), "kept no visited states"),
        (lambda state: state["visited"]["obs"].fill(np.nan), "visited.obs: must be finite, of shape (10000, 2)"),
        (lambda state: state["visited"].update(rewards=np.zeros(3)), "visited.rewards: must be finite, of shape"),
        (lambda state: state["visited"].update(rewards=3), "holds no visited states"),
        (lambda state: state["visited"].update(seen=-1), "visited.seen: must be a whole number"),
        (lambda state: state["visited"].update(seen=0), "no states yet"),
    ],
)
def test_a_checkpoint_that_has_none_is_told(runs, tmp_path, change, message):
    facts, state = load_checkpoint(runs / "vime")
    change(state)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.json").write_bytes((runs / "vime" / "config.json").read_bytes())
    save_checkpoint(tmp_path / "a", state, {name: value for name, value in facts.items() if name != "versions"})
    assert (tmp_path / "a" / FILE).exists()
    done = forked("plot.py", "a", "--states", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n"), message in done.stderr) == (4, 1, True), done.stderr


COLUMNS = flat_box(
    spaces.Dict(
        {
            "goal": spaces.Box(-1, 1, (2,)),
            "speed": spaces.Box(-1, 1, (1,)),
            "arm": spaces.Box(-1, 1, (3,)),
        }
    )
).columns


@pytest.mark.parametrize(
    ("dims", "places"),
    [
        (["0", "5"], (0, 5)),
        (["goal"], (3, 4)),
        (["speed", "arm:2"], (5, 2)),
        (["goal:1", "goal:0"], (4, 3)),
    ],
)
def test_dimensions_are_named(dims, places):
    assert [name for name, _ in COLUMNS] == ["arm", "goal", "speed"]  # gymnasium's order
    assert chosen(dims, COLUMNS) == places


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        (["arm"], "must name two dimensions; got arm:0, arm:1, arm:2"),
        (["arms", "goal"], r"--dims arms: .* there are 0 to 5, arm \(3\), goal \(2\), speed \(1\)"),
        (["goal:2", "speed"], "--dims goal:2"),
        (["-1", "0"], "--dims -1"),
    ],
)
def test_names_of_no_two_dimensions_are_refused(dims, message):
    with pytest.raises(UsageError, match=message):
        chosen(dims, COLUMNS)


def test_components_are_those_of_all_runs_in_units_of_their_deviations():
    rng = np.random.default_rng(0)
    common = rng.normal(size=(500, 1))
    states = np.concatenate([common, 1000 * common + rng.normal(size=(500, 1)), rng.normal(size=(500, 1))], 1)
    states = np.concatenate([states, np.full((500, 1), 0.1)], 1)  # which never changes
    points, labels, told = principal_components([states[:200], states[200:]], (("", 4),))
    assert labels == ["component 1 (67% of the variance)", "component 2 (33% of the variance)"]
    assert "component 1 (67% of the variance): +0.71 observation" in told
    assert "nan" not in told
    together = np.concatenate(points)
    np.testing.assert_allclose(np.corrcoef(together[:, 0], common[:, 0])[0, 1], 1, rtol=1e-3)
    np.testing.assert_allclose(abs(np.corrcoef(together[:, 1], states[:, 2])[0, 1]), 1, rtol=1e-2)


def test_states_that_are_all_the_same_are_drawn(runs, tmp_path):
    visits = read_visits(runs / "gail")
    visits.obs[:] = 3
    visits.paid[:] = 0
    assert "component 1 (0% of the variance)" in draw_states(tmp_path / "a.svg", "svg", [visits])
