from itertools import count
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch

from rlgen.data.collect import Collector
from rlgen.data.episodes import RandomActor, run_episodes
from rlgen.envs import BatchedMujocoEnv, make_vec
from rlgen.nn.policy import Actor, Policy


def actor_for(envs, seed=0):
    torch.manual_seed(seed)
    policy = Policy(envs.single_observation_space, envs.single_action_space, log_std_init=0.5)
    policy.normalizer.update(torch.randn(100, *envs.single_observation_space.shape))
    return policy, Actor(policy, np.random.default_rng(seed))


def test_rollout_replays_in_gymnasium():
    """Every transition is what a single gymnasium environment gives for the executed action, ends included."""
    envs = make_vec("Hopper-v4", 2, seed=3)
    _, actor = actor_for(envs)
    collector = Collector(envs, 120, stagger=False)
    envs.reset(seed=3)
    collector.obs, _ = envs.reset(seed=3)
    rollout = collector.collect(actor)
    steps = rollout.transitions
    ends = 0
    for i in range(2):
        single = gym.make("Hopper-v4")
        obs, _ = single.reset(seed=3 + i)
        for t in range(120):
            np.testing.assert_array_equal(steps.obs[t, i], obs)
            obs, reward, terminated, truncated, _ = single.step(steps.actions[t, i].numpy())
            np.testing.assert_array_equal(steps.next_obs[t, i], obs)
            assert steps.rewards[t, i] == np.float32(reward)
            assert (steps.terminated[t, i], steps.truncated[t, i]) == (terminated, truncated)
            if terminated or truncated:
                ends += 1
                obs, _ = single.reset()
    assert ends == len(rollout.episode_returns) > 2
    assert (rollout.sampled_actions.abs() > 1).any()
    torch.testing.assert_close(rollout.sampled_actions.clamp(-1, 1), steps.actions, rtol=0, atol=0)


def test_discrete_actions_and_gymnasiums_environments():
    envs = make_vec("CartPole-v1", 3, seed=0)
    _, actor = actor_for(envs)
    steps = Collector(envs, 60).collect(actor).transitions
    assert steps.actions.dtype == torch.int64
    assert steps.terminated.any()
    ended = torch.nonzero(steps.terminated[:-1])
    for t, i in ended.tolist():
        assert not torch.equal(steps.next_obs[t, i], steps.obs[t + 1, i])


def test_actor_agrees_with_the_policy():
    envs = make_vec("HalfCheetah-v4", 4, seed=0)
    policy, actor = actor_for(envs)
    obs = np.random.default_rng(0).normal(size=(4, 17)).astype(np.float32) * 20
    with torch.no_grad():
        expected = policy(torch.from_numpy(obs)).mean
    torch.testing.assert_close(torch.from_numpy(actor.output(obs)), expected, rtol=1e-5, atol=1e-6)
    draws = np.stack([actor.sample(obs) for _ in range(4000)])
    np.testing.assert_allclose(draws.mean(0), expected, atol=0.15)
    np.testing.assert_allclose(draws.std(0), np.exp(0.5), rtol=0.1)


def test_discrete_actor_samples_the_softmax():
    envs = make_vec("CartPole-v1", 1)
    policy, actor = actor_for(envs)
    policy.network[-1].weight.data.normal_()
    actor = Actor(policy, np.random.default_rng(0))
    obs = np.ones((1, 4), np.float32)
    with torch.no_grad():
        p = torch.softmax(policy(torch.from_numpy(obs)).logits, -1)[0, 1].item()
    draws = np.concatenate([actor.sample(obs) for _ in range(4000)])
    assert abs(draws.mean() - p) < 0.03


def test_staggered_clocks_spread_truncations():
    envs = BatchedMujocoEnv("Reacher-v4", 5)
    _, actor = actor_for(envs)
    truncated = Collector(envs, 50).collect(actor).transitions.truncated
    assert sorted(torch.nonzero(truncated)[:, 0].tolist()) == [9, 19, 29, 39, 49]


def test_returns_are_those_of_whole_episodes():
    envs = BatchedMujocoEnv("Reacher-v4", 5)
    _, actor = actor_for(envs)
    collector = Collector(envs, 50)
    first, second = collector.collect(actor), collector.collect(actor)
    assert len(first.episode_returns) == 1  # the one whose clock started at zero
    assert len(second.episode_returns) == 5
    both = torch.cat((first.transitions.rewards, second.transitions.rewards))
    ends = torch.cat((first.transitions.truncated, second.transitions.truncated))
    expected = [both[t - 49 : t + 1, i].sum().item() for t, i in torch.nonzero(ends).tolist() if t >= 49]
    np.testing.assert_allclose(first.episode_returns + second.episode_returns, expected, rtol=1e-5)


def test_an_actor_is_a_copy():
    envs = make_vec("InvertedPendulum-v4", 1)
    policy, actor = actor_for(envs)
    obs = np.ones((3, 4), np.float32)
    before = actor.output(obs)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(1.0)
    np.testing.assert_array_equal(actor.output(obs), before)


def test_episodes_are_the_first_of_each_environment():
    envs = make_vec("Hopper-v4", 6)
    _, actor = actor_for(envs)
    episodes = run_episodes(actor, envs, seed=0)
    assert len(episodes) == 6
    assert len({len(e.actions) for e in episodes}) > 1
    for e in episodes:
        assert e.obs.shape == (len(e.actions) + 1, 11)
        assert e.terminated
        assert not e.obs[-1, 0] > 0.7 or abs(e.obs[-1, 1]) > 0.2  # it fell in its last state


@pytest.mark.parametrize(("env_id", "most"), [("CartPole-v1", "500"), ("Unlimited-v0", "100,000")])
def test_long_episodes_tell_how_far_they_are(caplog, monkeypatch, env_id, most):
    gym.register("Unlimited-v0", gym.spec("CartPole-v1").entry_point)
    clock = count(0, 30)
    monkeypatch.setattr("rlgen.data.episodes.time", SimpleNamespace(monotonic=lambda: next(clock)))
    (episode,) = run_episodes(RandomActor(gym.spaces.Discrete(2), 0), make_vec(env_id, 1))
    del gym.registry["Unlimited-v0"]
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == len(episode.actions)  # each half a minute long
    assert told[1] == f"{env_id}: 0 of 1 episodes have ended after 1 steps; they have at most {most}"
