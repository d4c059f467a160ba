"""Whatever gymnasium allows goes through everything, or is refused before anything runs."""

import copy
import dataclasses
import functools
import os

import gymnasium as gym
import numpy as np
import pandas as pd
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_environments import RandomEnv, environments, leaves, unusable_spaces

import rlgen
from rlgen import exploration, imitation
from rlgen.data.demonstrations import load_all, load_demonstrations, load_episodes, load_expert, save_demonstrations
from rlgen.data.episodes import RandomActor, run_episodes
from rlgen.data.formats import log
from rlgen.envs import make_vec
from rlgen.errors import UsageError
from rlgen.nn.policy import Actor
from rlgen.spaces import FlatBox

# More by RLGEN_EXAMPLES=2000 python -m pytest tests/test_random_environments.py
EXAMPLES = int(os.environ.get("RLGEN_EXAMPLES", "25"))
PROFILE = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES <= 25,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)


@PROFILE
@given(arguments=environments(), algo=st.sampled_from(["trpo", "ppo"]), imitator=st.sampled_from(["gail", "airl"]))
def test_a_random_environment_goes_through_everything(tmp_path_factory, arguments, algo, imitator):
    folder = tmp_path_factory.mktemp("random")

    def make():
        # gymnasium seeds and samples spaces in place
        return RandomEnv(**copy.deepcopy(arguments))

    envs = make_vec(make, 3, seed=0)
    flat = FlatBox(arguments["observation_space"])
    assert envs.single_observation_space.shape == flat.shape

    episodes = run_episodes(RandomActor(envs.single_action_space, 0), envs, seed=1)
    for episode, one in zip(episodes, envs.envs, strict=True):
        # Resets before this one came from make_vec.
        number = next(i for i, actions in enumerate(one.unwrapped.actions) if actions)
        seen = [flat.flatten(x, 1)[0] for x in one.unwrapped.observations[number]]
        np.testing.assert_array_equal(episode.obs, seen)
        np.testing.assert_array_equal(episode.actions, one.unwrapped.actions[number])

    learner = imitation.settings("default", algo).learner.override(3, 6, 18)
    policy = learner.build(envs)[0]
    save_demonstrations(
        folder / "Random-v0",
        env_id="Random-v0",
        observation_space=envs.single_observation_space,
        action_space=envs.single_action_space,
        episodes=episodes,
        deterministic=False,
        algorithm="random",
        command="test",
        seed=0,
        policy=policy,
    )
    _, again = load_episodes(folder / "Random-v0", "Random-v0")
    for a, b in zip(episodes, again, strict=True):
        for name in ("obs", "actions", "rewards"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
            assert getattr(a, name).dtype == getattr(b, name).dtype
    demonstrations = load_demonstrations(folder, "Random-v0", subsample=1, include_failed=True)

    chosen = dataclasses.replace(imitation.settings("default", algo), learner=learner)
    training = learner.training(
        envs,
        lambda envs, policy: imitation.IMITATORS[imitator](chosen, policy, chosen.expert(envs, policy, demonstrations)),
    )
    assert next(iter(training)).env_steps == 18
    bonus = exploration.BonusConfig(n_updates=1, batch_size=8, pool_size=100)
    vime = learner.training(
        envs, lambda envs, policy: exploration.reward_model(envs, "cpu", exploration.BONUSES["vime"], bonus)
    )
    next(iter(vime))

    actor = Actor(training.policy, np.random.default_rng(0))
    obs = run_episodes(actor, envs, seed=2)[0].obs
    original = envs.envs[0].unwrapped
    actions, _ = actor.predict(original.observation_space.sample())
    assert original.action_space.contains(actions)
    with torch.no_grad():
        exported = training.policy.actions.mode(training.policy.network(training.policy.normalizer(torch.tensor(obs))))
    np.testing.assert_allclose(
        exported.numpy().astype(np.float64),
        actor.predict(obs, deterministic=True)[0].astype(np.float64),
        rtol=2e-3 if original.action_space.dtype == np.float16 else 1e-5,
        atol=1e-5,
    )
    loaded = load_expert(folder, "Random-v0")
    assert all(torch.equal(x, y) for x, y in zip(loaded.parameters(), policy.parameters(), strict=True))


def logged(env):
    """The observations of the episode that was run, by part, as a robot would log them: whole numbers as such."""
    seen = env.observations[next(i for i, actions in enumerate(env.actions) if actions)]
    parts = {}
    for name, path, _ in FlatBox(env.observation_space)._leaves:
        parts[name] = np.stack([np.asarray(functools.reduce(lambda x, key: x[key], path, x)) for x in seen])
    return parts.get("", parts)


@PROFILE
@given(arguments=environments(), kind=st.sampled_from([rlgen.TRPO, rlgen.PPO]), rewards=st.booleans())
def test_its_log_is_cloned_and_started_from(tmp_path_factory, arguments, kind, rewards):
    folder = tmp_path_factory.mktemp("log")

    def make():
        return RandomEnv(**copy.deepcopy(arguments))

    envs = make_vec(make, 4, seed=0)
    episodes = run_episodes(RandomActor(envs.single_action_space, 0), envs, seed=1)
    steps = []
    for episode, one in zip(episodes, envs.envs, strict=True):
        ended = np.arange(1, len(episode.actions) + 1) == len(episode.actions) * episode.terminated
        steps.append({"obs": logged(one.unwrapped), "actions": episode.actions, "terminated": ended})
        if rewards:
            steps[-1]["rewards"] = episode.rewards
    demonstrations = rlgen.demonstrations_of(steps, make, folder, deterministic=True)
    pairs = demonstrations.transitions
    for name, there in (("obs", [e.obs[:-1] for e in episodes]), ("actions", [e.actions for e in episodes])):
        np.testing.assert_array_equal(getattr(pairs, name).numpy(), np.concatenate(there))
    assert pairs.terminated.sum() == sum(e.terminated for e in episodes)
    (dataset,) = folder.iterdir()
    assert len(load_all(dataset).transitions.rewards) == len(pairs.rewards)

    bc = rlgen.BC(make, demonstrations, n_steps=4, batch_size=5, net_arch=(4,), n_threads=1)
    bc.learn(progress=False)
    actor, original = Actor(bc.policy), make()
    assert original.action_space.contains(actor.predict(original.observation_space.sample())[0])
    bc.save(folder / "bc")
    loaded = rlgen.load(folder / "bc", make, expert=demonstrations)
    loaded.learn(4, progress=False)
    assert np.isfinite(loaded.metrics["training_loss"]).all()

    agent = kind(make, init=folder / "bc", critic_warmup=1, n_envs=2, n_steps=6, n_threads=1)
    obs = episodes[0].obs
    before = bc.predict(obs)[0]
    agent.learn(12, progress=False)
    if np.issubdtype(before.dtype, np.integer):
        np.testing.assert_array_equal(agent.predict(obs)[0], before)
    else:
        coarse = original.action_space.dtype == np.float16
        np.testing.assert_allclose(agent.predict(obs)[0], before, rtol=2e-3 if coarse else 1e-4, atol=1e-4)


@PROFILE
@given(arguments=environments(), ending=st.sampled_from(["csv", "npz", "npy", "parquet"]))
def test_its_log_in_a_file_is_read_as_it_was(tmp_path_factory, arguments, ending):
    folder = tmp_path_factory.mktemp("file")
    envs = make_vec(lambda: RandomEnv(**copy.deepcopy(arguments)), 3, seed=0)
    episodes = run_episodes(RandomActor(envs.single_action_space, 0), envs, seed=1)
    columns = {"end": np.concatenate([np.arange(1, len(e.actions) + 1) == len(e.actions) for e in episodes])}
    for part, rows in (("o", [e.obs[:-1] for e in episodes]), ("a", [e.actions for e in episodes])):
        rows = np.concatenate(rows).reshape(len(columns["end"]), -1)
        columns |= {f"{part}_{i}": x for i, x in enumerate(rows.T)}
    path = folder / f"log.{ending}"
    table = pd.DataFrame(columns)
    if ending == "npz":
        np.savez(path, **columns)
    elif ending == "npy":
        np.save(path, table.to_records(index=False))
    else:
        table.to_csv(path) if ending == "csv" else table.to_parquet(path)
    read = log.read(path, None, log.LogMapping({"": ["o"]}, ["a"], done="end")).episodes
    assert [len(e.actions) for e in read] == [len(e.actions) for e in episodes]
    for theirs, ours in zip(read, episodes, strict=True):
        np.testing.assert_array_equal(theirs.obs.astype(ours.obs.dtype), ours.obs[:-1])
        acted = ours.actions.reshape(len(ours.actions), -1)
        np.testing.assert_array_equal(theirs.actions.reshape(acted.shape).astype(acted.dtype), acted)


@PROFILE
@given(wrong=unusable_spaces, right=leaves, observed=st.booleans())
def test_what_cannot_be_used_is_refused_before_it_is_run(wrong, right, observed):
    arguments = {"observation_space": wrong if observed else right, "action_space": right if observed else wrong}
    made = []

    def make():
        made.append(RandomEnv(**arguments, length=2, ends="both", reuse=False))
        return made[-1]

    with pytest.raises(UsageError, match="observation" if observed else "action"):
        make_vec(make, 2)
    assert not made[0].observations


@PROFILE
@given(arguments=environments(), mode=st.sampled_from([AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED]))
def test_other_autoreset_modes_are_refused(arguments, mode):
    envs = SyncVectorEnv([lambda: RandomEnv(**copy.deepcopy(arguments))] * 2, autoreset_mode=mode)
    with pytest.raises(UsageError, match="SAME_STEP"):
        run_episodes(RandomActor(envs.single_action_space, 0), envs)


def test_an_array_that_is_used_again_is_not_the_successor():
    box = spaces.Box(-1, 1, (2,), np.float32)
    envs = make_vec(lambda: RandomEnv(copy.deepcopy(box), copy.deepcopy(box), 2, "both", True), 2, seed=0)
    for episode, one in zip(run_episodes(RandomActor(box, 0), envs, seed=1), envs.envs, strict=True):
        number = next(i for i, actions in enumerate(one.unwrapped.actions) if actions)
        np.testing.assert_array_equal(episode.obs, one.unwrapped.observations[number])


def test_dict_and_tuple_actions_are_refused_with_the_way_out():
    def make():
        actions = spaces.Dict({"a": spaces.Discrete(2)})
        return RandomEnv(spaces.Discrete(2), actions, 2, "both", False)

    with pytest.raises(UsageError, match=r"gymnasium\.ActionWrapper"):
        make_vec(make, 1)
    assert isinstance(make(), gym.Env)
