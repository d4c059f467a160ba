"""Codes beside observations: one an episode, of a stream of its own, and the environments do what they do without."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rlgen.checkpoint import load_checkpoint, save_checkpoint
from rlgen.envs import make_vec
from rlgen.envs.codes import Coded, CodedEnv, Codes
from rlgen.errors import UsageError
from rlgen.spaces import FlatBox

KINDS = {"categorical": Codes(3), "continuous": Codes(0, 2), "both": Codes(3, 2)}


def steps(envs, n, seed=0):
    """`n` steps of random actions, each with what it gave."""
    low, high = envs.single_action_space.low, envs.single_action_space.high
    rng = np.random.default_rng(seed)
    for _ in range(n):
        yield envs.step(rng.uniform(low, high, (envs.num_envs, *low.shape)).astype(np.float32))


@pytest.mark.parametrize("env_id", ["Hopper-v4", "Pendulum-v1"])
@pytest.mark.parametrize("codes", KINDS.values(), ids=KINDS)
def test_a_code_lasts_an_episode_and_a_final_observation_has_the_old_one(env_id, codes):
    envs, plain = make_vec(Coded(env_id, codes), 4, seed=3), make_vec(env_id, 4, seed=3)
    flat = FlatBox(envs.single_observation_space)
    obs, _ = envs.reset(seed=3)
    theirs, _ = plain.reset(seed=3)
    rows = flat.flatten(obs, 4)
    np.testing.assert_array_equal(rows[:, codes.width :], theirs)
    n_ends, seen = 0, [rows[0, : codes.width]]
    for (obs, reward, terminated, truncated, infos), others in zip(steps(envs, 450), steps(plain, 450), strict=True):
        now, done = flat.flatten(obs, 4), terminated | truncated
        np.testing.assert_array_equal(now[:, codes.width :], others[0])
        np.testing.assert_array_equal(reward, others[1])
        np.testing.assert_array_equal(now[~done, : codes.width], rows[~done, : codes.width])
        for i in np.flatnonzero(done):
            final = flat.flatten(infos["final_obs"][i], 1)[0]
            np.testing.assert_array_equal(final[: codes.width], rows[i, : codes.width])
            np.testing.assert_array_equal(final[codes.width :], others[4]["final_obs"][i])
            seen.append(now[i, : codes.width])
        n_ends += done.sum()
        rows = now
    assert n_ends >= 8
    assert len(np.unique(seen, axis=0)) > 2


def test_codes_are_drawn_from_their_prior():
    rng = np.random.default_rng(0)
    codes = Codes(3, 2)
    rows = np.stack([codes.row(codes.draw(rng)) for _ in range(20_000)])
    mean, var = codes.moments()
    np.testing.assert_allclose(rows.mean(0), mean, atol=0.015)
    np.testing.assert_allclose(rows.var(0), var, atol=0.01)


def test_streams_are_the_environments_own():
    """Row i depends on seed + i alone, however many there are, and a reset without a seed goes on."""
    many, few = (make_vec(Coded("Hopper-v4", Codes(5, 1)), n, seed=7) for n in (6, 2))
    seeded = {n: envs.reset(seed=7)[0]["code"] for n, envs in (("many", many), ("few", few))}
    for left, right in zip(seeded["many"], seeded["few"], strict=True):
        np.testing.assert_array_equal(left[:2], right)
    assert len(np.unique(seeded["many"][0])) > 1
    again = many.reset()[0]["code"]
    assert not np.array_equal(again[1], seeded["many"][1])
    some = many.reset(options={"reset_mask": np.array([True] + [False] * 5)})[0]["code"]
    np.testing.assert_array_equal(some[1][1:], again[1][1:])
    assert some[1][0] != again[1][0]


@pytest.mark.parametrize("codes", KINDS.values(), ids=KINDS)
def test_they_go_on_exactly(tmp_path, codes):
    envs, other = (make_vec(Coded("Hopper-v4", codes), 4, seed=seed) for seed in (0, 9))
    list(steps(envs, 60))
    save_checkpoint(tmp_path, {"envs": envs.state_dict()}, {})
    other.load_state_dict(load_checkpoint(tmp_path)[1]["envs"])
    flat = FlatBox(envs.single_observation_space)
    ended = 0
    for ours, theirs in zip(steps(envs, 120, 1), steps(other, 120, 1), strict=True):
        np.testing.assert_array_equal(flat.flatten(ours[0], 4), flat.flatten(theirs[0], 4))
        ended += ours[2].sum()
    assert ended >= 4


def test_a_fixed_code_is_that_of_every_episode():
    envs = make_vec(Coded("Hopper-v4", Codes(3, 1), (2, 0.5)), 3, seed=0)
    for obs, _, terminated, _, infos in steps(envs, 80):
        assert obs["code"][0].tolist() == [2, 2, 2]
        assert (obs["code"][1] == 0.5).all()
        for i in np.flatnonzero(terminated):
            assert infos["final_obs"][i]["code"][0] == 2


def test_any_observation_space_will_do():
    class Task(gym.Env):
        observation_space = gym.spaces.Dict({"a": gym.spaces.Discrete(4), "b": gym.spaces.Box(-1, 1, (2, 2))})
        action_space = gym.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            return {"a": 3, "b": np.ones((2, 2), np.float32)}, {}

        def step(self, action):
            return {"a": 1, "b": np.zeros((2, 2), np.float32)}, 0.0, True, False, {}

    envs = make_vec(Coded(Task, Codes(2)), 3, seed=0)
    flat = FlatBox(envs.single_observation_space)
    assert flat.shape == (2 + 4 + 4,)
    obs, *_, infos = envs.step(np.zeros(3, np.int64))
    assert flat.flatten(obs, 3)[:, 2:].tolist() == [[0, 0, 0, 1, 1, 1, 1, 1]] * 3
    assert flat.flatten(infos["final_obs"][1], 1)[0, 2:].tolist() == [0, 1, 0, 0, 0, 0, 0, 0]


def test_a_person_s_own_vector_environment_is_wrapped():
    own = SyncVectorEnv([lambda: gym.make("CartPole-v1")] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
    envs = CodedEnv(own, Codes(2))
    obs, _ = envs.reset(seed=1)
    assert envs.observation_space.contains(obs)


@pytest.mark.parametrize(
    ("codes", "told", "message"),
    [
        (Codes(3), 3, "code must be a whole number from 0 to 2; got 3"),
        (Codes(3), -1, "from 0 to 2; got -1"),
        (Codes(3), 0.5, "from 0 to 2; got 0.5"),
        (Codes(3), "a", "from 0 to 2; got 'a'"),
        (Codes(0, 2), 0.5, "code must be 2 numbers from -1 to 1; got 0.5"),
        (Codes(0, 1), float("nan"), "got nan"),
        (Codes(3, 1), (1, 2.0), "a whole number from 0 to 2, then 1 numbers from -1 to 1"),
    ],
)
def test_codes_out_of_range_are_refused(codes, told, message):
    with pytest.raises(UsageError, match=message):
        codes.told(told)


def test_numbers_of_codes_that_make_no_sense_are_refused():
    for told, message in (
        ((-1,), "codes must be in .0, 1000.; got -1"),
        ((1,), "codes must be 0"),
        ((0, -2), "continuous_codes must be in .0, 1000.; got -2"),
    ):
        with pytest.raises(UsageError, match=message):
            Codes(*told)
    with pytest.raises(UsageError, match="no codes to draw"):
        make_vec(Coded("Hopper-v4", Codes()), 2)
