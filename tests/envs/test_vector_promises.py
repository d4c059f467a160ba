"""What gymnasium promises of a vector environment, of ours beside its own."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rlgen.envs import BatchedMujocoEnv, BatchedOdeEnv
from rlgen.envs.batched import require_same_step
from rlgen.errors import UsageError


def assert_same(ours, theirs):
    if isinstance(theirs, dict):
        assert set(ours) == set(theirs)
        for key, value in theirs.items():
            assert_same(ours[key], value)
    else:
        np.testing.assert_array_equal(ours, theirs, strict=True)


@pytest.mark.parametrize("env_id", ["HalfCheetah-v5", "Hopper-v4", "Ant-v5"])
def test_a_reset_mask_resets_some_as_gymnasiums_own(env_id):
    ours = BatchedMujocoEnv(env_id, 4, max_episode_steps=13)
    theirs = SyncVectorEnv([lambda: gym.make(env_id, max_episode_steps=13)] * 4, autoreset_mode=AutoresetMode.SAME_STEP)
    rng = np.random.default_rng(0)
    for seed in (3, None, [7, 8, None, 9]):
        mask = np.array([False, True, True, False]) if seed != 3 else None
        options = None if mask is None else {"reset_mask": mask}
        mine = ours.reset(seed=seed, options=options)
        if mask is not None:
            assert options == {"reset_mask": mask}
            assert mask.tolist() == [False, True, True, False]
        others = theirs.reset(seed=seed, options=options)
        assert_same(mine[0], others[0])
        assert_same(mine[1], others[1])
        for _ in range(17):
            actions = rng.uniform(-1, 1, ours.action_space.shape).astype(np.float32)
            for left, right in zip(ours.step(actions)[:4], theirs.step(actions)[:4], strict=True):
                assert_same(left, right)


@pytest.mark.parametrize("env_id", BatchedOdeEnv.tasks)
def test_a_reset_mask_leaves_the_others_where_they_are(env_id):
    envs = BatchedOdeEnv(env_id, 3, max_episode_steps=100)
    before, _ = envs.reset(seed=0)
    for _ in range(5):
        before, *_ = envs.step(np.ones((3, 1), np.float32))
    after, _ = envs.reset(seed=5, options={"reset_mask": np.array([True, False, False])})
    np.testing.assert_array_equal(after[1:], before[1:])
    np.testing.assert_array_equal(after[0], BatchedOdeEnv(env_id, 1).reset(seed=5)[0][0])
    assert envs.elapsed_steps.tolist() == [0, 5, 5]


def test_bad_seeds_and_masks_are_refused_and_change_nothing():
    ours = BatchedMujocoEnv("Hopper-v4", 2)
    theirs = SyncVectorEnv([lambda: gym.make("Hopper-v4")] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
    ours.reset(seed=1)
    state = ours.state_dict()["generators"]
    for error, arguments in (
        (ValueError, {"seed": [1]}),
        (ValueError, {"seed": [1, 2, 3]}),
        (ValueError, {"seed": []}),
        (gym.error.Error, {"seed": [1, -1]}),
        (TypeError, {"seed": 1.5}),
        (TypeError, {"options": {"reset_mask": [True, False]}}),
        (TypeError, {"options": {"reset_mask": np.array([1, 0])}}),
        (ValueError, {"options": {"reset_mask": np.array([True])}}),
        (ValueError, {"options": {"reset_mask": np.zeros(2, np.bool_)}}),
    ):
        for envs in (theirs, ours):
            with pytest.raises(error):
                envs.reset(**{key: dict(x) if isinstance(x, dict) else x for key, x in arguments.items()})
        assert ours.state_dict()["generators"] == state
    with pytest.raises(TypeError):  # 1.5 was taken for 1
        ours.reset(seed=[1.5, 2])


def test_the_specification_is_true():
    registered = gym.spec("Hopper-v4").max_episode_steps
    assert BatchedMujocoEnv("Hopper-v4", 1).spec.max_episode_steps == registered == 1000
    for limit, told in ((7, 7), (-1, None)):
        envs = BatchedMujocoEnv("Hopper-v4", 1, max_episode_steps=limit, healthy_reward=2.0)
        assert (envs.spec.max_episode_steps, envs.spec.kwargs) == (told, {"healthy_reward": 2.0})
        alone = gym.make(envs.spec)
        assert alone.spec.max_episode_steps == told
        alone.reset(seed=0)
        envs.reset(seed=0)
        action = np.zeros(3, np.float32)
        assert alone.step(action)[1] == envs.step(action[None])[1][0]
    assert gym.make_vec("rlgen/Hopper-v4", 1).spec.max_episode_steps == 1000
    assert gym.make_vec("rlgen/Hopper-v4", 1, max_episode_steps=7).spec.max_episode_steps == 7
    spec = gym.spec("Hopper-v4")
    assert (spec.max_episode_steps, spec.kwargs) == (registered, {})
    for limit in (0, -2):
        with pytest.raises(UsageError, match="max_episode_steps must be at least 1, or -1 for no limit"):
            BatchedMujocoEnv("Hopper-v4", 1, max_episode_steps=limit)


def test_attributes_are_each_environments():
    ours = BatchedMujocoEnv("Hopper-v4", 2, healthy_reward=2.0)
    theirs = SyncVectorEnv([lambda: gym.make("Hopper-v4", healthy_reward=2.0)] * 2)
    for envs in (ours, theirs):
        envs.reset(seed=4)
        assert envs.np_random_seed == (4, 5)
        assert envs.get_attr("np_random_seed") == (4, 5)
        assert envs.get_attr("render_mode") == (None, None)
        assert envs.get_attr("action_space") == (envs.single_action_space,) * 2
        assert [spec.id for spec in envs.call("spec")] == ["Hopper-v4"] * 2
    for left, right in zip(ours.np_random, theirs.np_random, strict=True):
        assert left.bit_generator.state == right.bit_generator.state
    assert ours.get_attr("healthy_reward") == (2.0, 2.0)
    with pytest.raises(AttributeError, match="step is a method"):
        ours.call("step", np.zeros(3))
    with pytest.raises(AttributeError, match=r"pass healthy_reward to rlgen\.make_vec"):
        ours.set_attr("healthy_reward", 1.0)


def test_a_closed_one_says_so():
    envs = BatchedMujocoEnv("Hopper-v4", 2)
    envs.close()
    for use in (envs.reset, lambda: envs.step(np.zeros((2, 3), np.float32))):
        with pytest.raises(ClosedEnvironmentError, match="Hopper-v4: these environments were closed"):
            use()


def test_actions_are_numbers_and_stay_as_they_are():
    envs = BatchedMujocoEnv("Ant-v5", 2)
    actions = np.full(envs.action_space.shape, 3.0)
    envs.step(actions)
    assert (actions == 3).all()
    for dtype in (np.complex128, object, "U3"):
        with pytest.raises(ValueError, match="actions must be real numbers"):
            envs.step(actions.astype(dtype))


def test_only_same_step_resets_will_do():
    require_same_step(BatchedMujocoEnv("Hopper-v4", 1))
    for mode in (AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED):
        with pytest.raises(UsageError, match=rf"SAME_STEP\); the autoreset mode is {mode.name}\. Make them by rlgen"):
            require_same_step(gym.make_vec("CartPole-v1", 1, "sync", vector_kwargs={"autoreset_mode": mode}))
