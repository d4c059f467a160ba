"""Episodes that begin in states of demonstrations, and the task's reward beside the imitation's."""

from pathlib import Path

import numpy as np
import pytest
import torch
from test_resume import assert_same

import rlgen
from rlgen.agents.recovered import recovered_reward
from rlgen.checkpoint import load_checkpoint, save_checkpoint
from rlgen.envs import make_vec
from rlgen.errors import UsageError

DATA = Path(__file__).parents[1] / "expert_data"
SMALL = {"n_envs": 4, "n_steps": 32, "n_threads": 1, "device": "cpu", "n_trajectories": 1}


def clip(env_id):
    return rlgen.load_demonstrations(DATA, env_id, 1).transitions


def nearest(rows, clip, width):
    """The distance of each row to the nearest of a clip, over the first columns."""
    return np.abs(rows[:, None, :width] - clip[None, :, :width]).max(2).min(1)


@pytest.mark.parametrize(("env_id", "width"), [("HalfCheetah-v4", 17), ("Hopper-v4", 11), ("Ant-v4", 27)])
def test_episodes_begin_in_the_demonstrations(env_id, width):
    obs = clip(env_id).obs.numpy()
    envs = make_vec(env_id, 40, seed=0, n_threads=1)
    assert (nearest(envs.reset(seed=1)[0], obs, width) > 1e-3).mean() > 0.9
    envs.start_from(obs)
    first, _ = envs.reset(seed=1)
    assert nearest(first, obs, width).max() < 1e-6
    assert len(np.unique(first, axis=0)) > 25
    np.testing.assert_array_equal(envs.reset(seed=1)[0], first)
    envs.elapsed_steps[:] = 999
    again, *_ = envs.step(np.zeros(envs.action_space.shape, np.float32))
    assert nearest(again, obs, width).max() < 1e-6
    envs.start_from(obs, 0.5)
    drawn = np.concatenate([envs.reset()[0] for _ in range(10)])
    assert 0.4 < (nearest(drawn, obs, width) < 1e-6).mean() < 0.6


@pytest.mark.parametrize("env_id", ["HalfCheetah-v4", "Walker2d-v4"])
def test_what_follows_is_what_followed(env_id):
    """The whole state is recovered: the demonstration's action leads where it led."""
    steps = clip(env_id)
    slow = steps.obs.abs().max(1).values < 10  # Walker2d's observed velocities are clipped
    for k in np.flatnonzero(slow)[:: len(slow) // 10]:
        envs = make_vec(env_id, 1, n_threads=1)
        envs.start_from(steps.obs[k : k + 1].numpy())
        envs.reset(seed=0)
        following, *_ = envs.step(steps.actions[k : k + 1].numpy())
        np.testing.assert_allclose(following[0], steps.next_obs[k], rtol=2e-3, atol=2e-3)


def test_warp_begins_in_the_demonstrations_too():
    pytest.importorskip("mujoco_warp")
    steps = clip("HalfCheetah-v4")
    envs = make_vec("HalfCheetah-v4", 40, seed=0, backend="warp")
    envs.start_from(steps.obs, 0.5)
    drawn = np.concatenate([envs.reset()[0].numpy() for _ in range(10)])
    assert 0.4 < (nearest(drawn, steps.obs.numpy(), 17) < 1e-6).mean() < 0.6
    agent = amp(env="HalfCheetah-v4", backend="warp", start_share=1.0)
    agent.learn(128, progress=False)
    first = agent.training.collector.envs.reset()[0].numpy()
    assert nearest(first, clip("HalfCheetah-v4").obs.numpy(), 17).max() < 1e-6
    with pytest.raises(UsageError, match="ReacherV4: episodes can't begin in states"):
        make_vec("Reacher-v4", 2, backend="warp").start_from(clip("Reacher-v4").obs)


def test_where_it_has_no_meaning_it_is_refused():
    envs = make_vec("Reacher-v4", 2)
    before = envs.sim.qpos.copy()
    with pytest.raises(UsageError, match="ReacherV4: episodes can't begin in states"):
        envs.start_from(clip("Reacher-v4").obs.numpy())
    np.testing.assert_array_equal(envs.sim.qpos, before)
    with pytest.raises(UsageError, match="start_share"):
        rlgen.GAIL("Hopper-v4", DATA, start_share=1.5, **SMALL)
    with pytest.raises(UsageError, match="task_reward_weight"):
        rlgen.GAIL("Hopper-v4", DATA, task_reward_weight=-1.0, **SMALL)
    with pytest.raises(UsageError, match="task_reward_weight needs algo trpo or ppo: sac learns"):
        rlgen.GAIL("Hopper-v4", DATA, task_reward_weight=0.1, algo="sac", **SMALL)
    with pytest.raises(UsageError, match="start_share needs a batched MuJoCo task; got CartPole-v1"):
        rlgen.GAIL("CartPole-v1", DATA, start_share=1.0, **SMALL).learn(128, progress=False)


def amp(**values):
    told = SMALL | {"state_only": True, "start_share": 0.7, "task_reward_weight": 0.5} | values
    return rlgen.GAIL(told.pop("env", "Hopper-v4"), DATA, **told)


def test_the_reward_is_the_imitation_s_and_the_task_s():
    agent = amp()
    agent.learn(256, progress=False)
    model = agent.training.reward_model
    steps = agent.training.collector.collect(
        agent.training.collector.actor(agent.policy, np.random.default_rng(0))
    ).transitions
    imitation = model.terms["imitation"][0]
    torch.testing.assert_close(model(steps), imitation(steps) + 0.5 * steps.rewards)
    assert {"imitation_reward", "task_reward", "discriminator_loss"} <= set(agent.metrics)


@pytest.mark.parametrize("values", [{}, {"algo": "ppo"}, {"codes": 2}])
def test_stopped_and_resumed_equals_never_stopped(tmp_path, values):
    ours, theirs = (amp(**values, total_timesteps=4 * 128).training for _ in range(2))
    for _ in range(2):
        next(iter(ours))
    save_checkpoint(tmp_path, ours.state_dict(), {})
    theirs.load_state_dict(load_checkpoint(tmp_path)[1])
    for _ in range(2):
        assert next(iter(ours)).episode_returns == next(iter(theirs)).episode_returns
    states = [dict(training.state_dict()) for training in (ours, theirs)]
    for state in states:
        del state["progress"]  # with seconds
    assert_same(*states)


def test_it_is_evaluated_from_the_task_s_own_beginnings():
    agent, plain = amp(), amp(start_share=0.0)
    plain.learn(128, progress=False)
    agent.learn(128, progress=False)
    agent.policy.load_state_dict(plain.policy.state_dict())
    ours, theirs = (x.evaluate(n_episodes=3) for x in (agent, plain))
    assert ours.returns == theirs.returns


def test_an_agent_leaves_nothing_behind_in_environments_of_ones_own():
    told = {name: x for name, x in SMALL.items() if name != "n_envs"} | {"n_steps": 16}
    obs = clip("Hopper-v4").obs.numpy()
    envs, others = (make_vec("Hopper-v4", 40, 0, n_threads=1) for _ in range(2))
    rlgen.GAIL(envs, DATA / "Hopper-v4", start_share=1.0, **told).learn(640, progress=False)
    assert nearest(envs.reset()[0], obs, 11).max() < 1e-6
    del told["n_trajectories"]
    for used in (envs, others):
        rlgen.PPO(used, **told).learn(640, progress=False)
    np.testing.assert_array_equal(*(used.reset(seed=3)[0] for used in (envs, others)))


def test_airl_s_reward_is_recovered_beside_the_task_s(tmp_path):
    agent = rlgen.GAIL("Hopper-v4", DATA, reward_model="airl", task_reward_weight=0.1, **SMALL)
    agent.learn(256, progress=False)
    agent.save(tmp_path / "airl")
    g = recovered_reward(tmp_path / "airl")
    steps = clip("Hopper-v4")
    airl = agent.training.reward_model.terms["imitation"][0].discriminator
    expected = airl.network["g"](airl.of_obs(steps.obs)).squeeze(-1)
    torch.testing.assert_close(g(steps), expected.detach())
