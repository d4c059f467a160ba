"""Stable-Baselines3's SAC, TD3 and DQN, paid when a batch is sampled."""

import math
import pickle
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN, SAC, TD3
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from test_sb3 import Keeps, Parts, Raw

from rlgen import exploration, imitation
from rlgen.data.demonstrations import load_demonstrations
from rlgen.envs import make_vec
from rlgen.errors import DemonstrationError, UsageError
from rlgen.nn.discriminator import Discriminator, ShapedDiscriminator
from rlgen.nn.policy import Policy
from rlgen.rewards.endings import TerminationReward
from rlgen.rewards.environment import EnvironmentReward
from rlgen.rewards.gail import GAIL
from rlgen.sb3 import (
    RewardModelCallback,
    RewardModelDictReplayBuffer,
    RewardModelNStepReplayBuffer,
    RewardModelReplayBuffer,
    SB3VecEnv,
)

ROOT = Path(__file__).parents[1]


def small(**options):
    """A learner's arguments, anew each time: SB3 changes `policy_kwargs`."""
    alike = {"learning_starts": 40, "batch_size": 16, "buffer_size": 250, "device": "cpu", "seed": 0}
    return alike | {"policy_kwargs": {"net_arch": [16]}} | options


def same_weights(left, right):
    pairs = zip(left.policy.parameters(), right.policy.parameters(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def paid_by(model, buffer_class=RewardModelReplayBuffer, **options):
    options = {"reward_model": model, "update_every": 100} | options
    return {"replay_buffer_class": buffer_class, "replay_buffer_kwargs": options}


def normalised(envs):
    return VecNormalize(envs, norm_reward=False)


@pytest.mark.parametrize(
    ("algorithm", "env_id", "n_envs", "wrap", "options"),
    [
        (SAC, "Hopper-v4", 1, lambda envs: envs, {}),
        (SAC, "Hopper-v4", 3, normalised, {"gradient_steps": -1}),
        (TD3, "Pendulum-v1", 2, lambda envs: envs, {"action_noise": NormalActionNoise(np.zeros(1), np.ones(1))}),
        (DQN, "CartPole-v1", 1, lambda envs: envs, {"train_freq": 1}),
    ],
)
def test_the_environments_reward_changes_nothing_to_the_last_bit(algorithm, env_id, n_envs, wrap, options):
    def train(**given):
        envs = wrap(SB3VecEnv(make_vec(env_id, n_envs, seed=0)))
        return algorithm("MlpPolicy", envs, **small(), **options, **given).learn(400)

    plain, paid = train(), train(**paid_by(EnvironmentReward(), update_every=30))
    assert same_weights(plain, paid)
    untrained = algorithm("MlpPolicy", plain.env, **small(), **options)
    assert not same_weights(plain, untrained)


def test_nor_with_dict_observations_or_n_step_returns():
    def train(env, policy, **given):
        envs = DummyVecEnv([lambda: Monitor(env())] * 2)
        return SAC(policy, envs, **small(), **given).learn(400)

    for env, policy, theirs, ours, options in (
        (Parts, "MultiInputPolicy", DictReplayBuffer, RewardModelDictReplayBuffer, {}),
        (lambda: gym.make("Hopper-v4"), "MlpPolicy", NStepReplayBuffer, RewardModelNStepReplayBuffer,
         {"n_steps": 3, "gamma": 0.95}),
    ):  # fmt: skip
        plain = train(env, policy, replay_buffer_class=theirs, replay_buffer_kwargs=options)
        paid = train(env, policy, **paid_by(EnvironmentReward(), ours, **options))
        assert same_weights(plain, paid)


class Updates(EnvironmentReward):
    """Pays the number of its updates."""

    n = 0

    def __call__(self, transitions):
        return torch.full_like(transitions.rewards, self.n)

    def update(self, transitions):
        self.n += 1
        return {"n": torch.tensor(float(self.n))}


@pytest.mark.parametrize("n_envs", [1, 2])
def test_sampled_rewards_are_those_of_now(n_envs):
    class Spy(RewardModelReplayBuffer):
        def sample(self, *given, **options):
            batch = super().sample(*given, **options)
            seen.append((self.reward_model.n, self.pos + self.full * self.buffer_size, batch.rewards))
            return batch

    seen, model = [], Updates()
    envs = SB3VecEnv(make_vec("Pendulum-v1", n_envs, seed=0))
    sac = SAC("MlpPolicy", envs, **small(), **paid_by(model, Spy, update_every=50)).learn(220)
    assert model.n == 4
    assert sac.replay_buffer.metrics == {"reward": 3.0, "n": 4.0}
    for n, steps, rewards in seen:
        assert n == steps * n_envs // 50
        assert rewards.shape == (16, 1)
        assert (rewards == n).all()
    assert {n for n, *_ in seen} == {0, 1, 2, 3, 4}


class Sees(Keeps):
    """Keeps what it scored, too."""

    def __init__(self):
        super().__init__()
        self.scored = []

    def __call__(self, transitions):
        self.scored.append(transitions.flatten())
        return super().__call__(transitions)


def told(steps, flat):
    """Rows of what the environments gave, in order."""
    return [np.concatenate([flat(s), a, flat(x), [r, end, cut]]) for s, a, x, r, end, cut in steps]


@pytest.mark.parametrize(
    ("env", "policy", "buffer_class", "normalize"),
    [
        (lambda: gym.make("Hopper-v4", max_episode_steps=15), "MlpPolicy", RewardModelReplayBuffer, False),
        (lambda: gym.make("Hopper-v4", max_episode_steps=15), "MlpPolicy", RewardModelReplayBuffer, True),
        (lambda: gym.make("Pendulum-v1", max_episode_steps=15), "MlpPolicy", RewardModelNStepReplayBuffer, False),
        (Parts, "MultiInputPolicy", RewardModelDictReplayBuffer, False),
    ],
)
def test_a_reward_model_learns_from_the_environments_own_steps_and_scores_no_others(
    env, policy, buffer_class, normalize
):
    steps, model = ([], []), Sees()
    envs = DummyVecEnv([lambda kept=kept: Monitor(Raw(env(), kept)) for kept in steps])
    space = envs.observation_space
    if normalize:
        envs = VecNormalize(envs, clip_obs=1e3)
    sac = SAC(policy, envs, **small(), **paid_by(model, buffer_class, update_every=50))
    sac.learn(600)  # more than the buffer holds
    assert len(model.seen) == 12
    known = set()
    for i, kept in enumerate(steps):
        rows = np.stack(told(kept, lambda obs: spaces.flatten(space, obs))).astype(np.float32)
        columns = [torch.cat([getattr(x, name)[:, i].flatten(1) if getattr(x, name).ndim > 2 else
                              getattr(x, name)[:, i, None] for x in model.seen])
                   for name in ("obs", "actions", "next_obs", "rewards", "terminated", "truncated")]  # fmt: skip
        np.testing.assert_allclose(torch.cat(columns, 1).float(), rows, rtol=1e-5 * normalize, atol=1e-5 * normalize)
        assert rows[:, -2:].sum() > 2
        known |= {row.tobytes() for row in torch.cat([x.float() for x in columns], 1).numpy()}
    for x in model.scored:
        parts = x.obs, x.actions, x.next_obs, x.rewards[:, None], x.terminated[:, None], x.truncated[:, None]
        assert all(row.tobytes() in known for row in torch.cat([part.float() for part in parts], 1).numpy())


def test_a_reward_model_may_learn_from_older_steps_too():
    model, every = Keeps(), Keeps()
    for keeps, options in ((model, {"n_recent": 119}), (every, {})):
        envs = SB3VecEnv(make_vec("Pendulum-v1", 2, seed=0))
        SAC("MlpPolicy", envs, **small(), **paid_by(keeps, update_every=50, **options)).learn(350)
    assert [len(x.rewards) for x in model.seen] == [25, 50, 60, 60, 60, 60, 60]
    rewards = torch.cat([x.rewards for x in every.seen])
    for i, x in enumerate(model.seen, 1):
        assert torch.equal(x.rewards, rewards[: 25 * i][-60:])


class Distance(EnvironmentReward):
    """Pays -|s' - s|."""

    def __call__(self, transitions):
        return -(transitions.next_obs - transitions.obs).norm(dim=-1)


def test_n_step_returns_are_the_sums_of_what_a_reward_model_pays():
    envs = SB3VecEnv(make_vec("Hopper-v4", 2, seed=0, max_episode_steps=30))
    options = paid_by(Distance(), RewardModelNStepReplayBuffer, n_steps=3, gamma=0.9)
    buffer = SAC("MlpPolicy", envs, **small(), **options).learn(400).replay_buffer
    buffer.rewards[:] = np.nan
    batch, sizes = buffer.sample(60), set()
    paid = -np.linalg.norm(buffer.next_observations - buffer.observations, axis=-1)
    places = {buffer.observations[t, i].tobytes(): (t, i) for t in range(buffer.size()) for i in range(2)}
    for obs, reward, discount in zip(batch.observations.numpy(), batch.rewards, batch.discounts, strict=True):
        t, i = places[obs.tobytes()]
        total = n = 0
        while n < 3:
            row = (t + n) % buffer.buffer_size
            total, n = total + 0.9**n * paid[row, i], n + 1
            if buffer.dones[row, i] or row == buffer.pos - 1:
                break
        sizes.add(n)
        np.testing.assert_allclose([reward.item(), discount.item()], [total, 0.9**n], rtol=1e-5)
    assert sizes == {1, 2, 3}


def test_under_vec_normalize_the_reward_models_rewards_stay_as_they_are():
    envs = VecNormalize(SB3VecEnv(make_vec("Hopper-v4", 1, seed=0)))
    sac = SAC("MlpPolicy", envs, **small(), **paid_by(EnvironmentReward())).learn(200)
    batch = sac.replay_buffer.sample(50, env=envs)
    assert np.isin(batch.rewards.numpy(), sac.replay_buffer.env_rewards).all()
    assert not np.isin(batch.observations.numpy()[:, 0], sac.replay_buffer.observations[..., 0]).any()


# A chain of six states: action 0 goes on, 1 goes back, and both ends terminate.
N, GAMMA = 6, 0.9
NEXT = np.array([[s + 1, s - 1] for s in range(N)])
ENDS = (NEXT < 0) | (NEXT == N)
REWARDS = np.random.default_rng(0).normal(-1, 1, (N, 2)).astype(np.float32)
PI = np.random.default_rng(1).dirichlet((1, 1), N)


class Table(EnvironmentReward):
    """Pays what stands in a table of states and actions, and for endings."""

    def __init__(self, endings=None):
        self.endings = endings

    def of_steps(self, transitions):
        return torch.from_numpy(REWARDS)[transitions.obs.argmax(-1), transitions.actions]

    def __call__(self, transitions):
        rewards = self.of_steps(transitions)
        return rewards if self.endings is None else self.endings(transitions, rewards)

    def update(self, transitions):
        return {} if self.endings is None else self.endings.update(transitions, self.of_steps(transitions))


def q_values(rewards, absorbing=None):
    """Q of `PI` `[N, 2]`, by a linear system; after an end it is 0, or that of a state which earns `absorbing`."""
    transition = np.zeros((2 * N, 2 * N))
    for s, a in np.ndindex(N, 2):
        if not ENDS[s, a]:
            x = NEXT[s, a]
            transition[2 * s + a, 2 * x : 2 * x + 2] = PI[x]
    future = 0 if absorbing is None else ENDS.ravel() * GAMMA * absorbing / (1 - GAMMA)
    return np.linalg.solve(np.eye(2 * N) - GAMMA * transition, rewards.ravel() + future).reshape(N, 2)


def sampled_rewards(model, centre_rewards):
    """What is paid for each state and action `[N, 2]`, after one update from each three times."""
    buffer = RewardModelReplayBuffer(
        100, spaces.Discrete(N), spaces.Discrete(2), "cpu", reward_model=model, update_every=6 * N,
        centre_rewards=centre_rewards, gamma=GAMMA,
    )  # fmt: skip
    for s, a in np.random.default_rng(0).permutation(list(np.ndindex(N, 2)) * 3):
        buffer.add(np.array([s]), np.array([NEXT[s, a] % N]), np.array([a]), np.zeros(1), ENDS[s, [a]], [{}])
    batch = buffer.sample(2_000)
    found = np.full((N, 2), np.nan)
    found[batch.observations[:, 0], batch.actions[:, 0]] = batch.rewards[:, 0]
    np.testing.assert_array_equal(batch.dones[:, 0], ENDS[batch.observations[:, 0], batch.actions[:, 0]])
    return found.astype(np.float64)


def test_centred_rewards_are_an_absorbing_state_in_closed_form():
    """The critic's fixed point is that of the MDP whose absorbing state is centred too; no policy's rank changes."""
    found, mean = sampled_rewards(Table(), centre_rewards=True), REWARDS.mean(dtype=np.float64)
    np.testing.assert_allclose(q_values(found), q_values(REWARDS - mean, absorbing=-mean), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(q_values(found), q_values(REWARDS) - mean / (1 - GAMMA), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("centre_rewards", [False, True])
def test_endings_are_those_of_discriminator_actor_critic(centre_rewards):
    """A state behind each end that earns its own logit for ever has the same Q, moved by a constant."""
    expert_rate, rate = 0.3, ENDS.mean()
    endings = TerminationReward(expert_rate, gamma=GAMMA, eps=1e-12)
    found = sampled_rewards(Table(endings), centre_rewards)
    p, p_expert = (h / (h + 1 - GAMMA) for h in (rate, expert_rate))
    absorbing = math.log(p_expert / p)
    exact = q_values(REWARDS + math.log((1 - p_expert) / (1 - p)), absorbing)
    mean = REWARDS.mean(dtype=np.float64) + math.log(rate / expert_rate)
    moved = q_values(found) + (centre_rewards * mean + absorbing) / (1 - GAMMA)
    np.testing.assert_allclose(moved, exact, rtol=1e-5, atol=1e-5)


def test_gail_pays_sac_and_a_saved_model_goes_on(tmp_path):
    demonstrations = load_demonstrations(ROOT / "expert_data", "Hopper-v4", 2)
    envs = SB3VecEnv(make_vec("Hopper-v4", 1, seed=0))
    endings = TerminationReward(demonstrations.termination_rate)
    gail = GAIL(Discriminator(11, envs.action_space), demonstrations.transitions, endings=endings)
    before = {name: value.clone() for name, value in gail.state_dict().items() if "extra" not in name}
    sac = SAC("MlpPolicy", envs, **small(), **paid_by(gail, update_every=50, centre_rewards=True)).learn(200)
    assert any(not torch.equal(gail.state_dict()[name], value) for name, value in before.items())
    assert {"reward", "discriminator_loss", "termination_rate"} <= set(sac.replay_buffer.metrics)
    assert not np.isin(sac.replay_buffer.sample(50).rewards, sac.replay_buffer.env_rewards).any()

    sac.save(tmp_path / "model")
    sac.save_replay_buffer(tmp_path / "buffer")
    again = SAC.load(tmp_path / "model", envs, device="cpu")
    kept = again.replay_buffer.reward_model
    assert again.replay_buffer.size() == 0
    assert torch.equal(kept(demonstrations.transitions), gail(demonstrations.transitions))
    again.load_replay_buffer(tmp_path / "buffer")
    ours, theirs = (model.replay_buffer._get_samples(np.arange(200))[:5] for model in (sac, again))
    assert all(torch.equal(x, y) for x, y in zip(ours, theirs, strict=True))
    again.learn(100, reset_num_timesteps=False)


def test_vime_pays_dqn_and_learns_on_after_a_pickle():
    config = exploration.settings("trpo", "CartPole-v1", "vime").bonus
    envs = make_vec("CartPole-v1", 1, seed=0)
    vime = exploration.reward_model(envs, "cpu", exploration.vime, config)
    options = paid_by(vime, update_every=100)
    buffer = DQN("MlpPolicy", SB3VecEnv(envs), **small(), **options).learn(300).replay_buffer
    assert (buffer.sample(50).rewards > 1).any()
    again = pickle.loads(pickle.dumps(buffer))
    ours, theirs = (kept._get_samples(np.arange(100)).rewards for kept in (buffer, again))
    assert torch.equal(ours, theirs)
    again.reward_model.update(again._transitions(np.arange(100)))


def test_the_reward_model_of_the_command_is_there_for_other_learners():
    envs = make_vec("Hopper-v4", 1)
    demonstrations = load_demonstrations(ROOT / "expert_data", "Hopper-v4", 4, 20)
    torch.manual_seed(0)
    found = imitation.reward_model(envs, demonstrations)
    assert isinstance(found, GAIL)
    options = paid_by(found, update_every=50, centre_rewards=True)
    model = SAC("MlpPolicy", SB3VecEnv(envs), **small(**options)).learn(100)
    assert {"reward", "discriminator_loss", "termination_rate"} <= model.replay_buffer.metrics.keys()
    with pytest.raises(UsageError, match="AIRL's discriminator reads likelihoods"):
        RewardModelCallback(imitation.reward_model(envs, demonstrations, make=imitation.airl))
    with pytest.raises(DemonstrationError, match="field observation_space"):
        imitation.reward_model(make_vec("Walker2d-v4", 1), demonstrations)


def test_what_cannot_be_paid_is_refused_by_name():
    envs = SB3VecEnv(make_vec("Pendulum-v1", 1))
    steps = RewardModelReplayBuffer(
        5, envs.observation_space, envs.action_space, "cpu", reward_model=EnvironmentReward(), update_every=1
    )._transitions(np.arange(5))
    airl = GAIL(ShapedDiscriminator(Policy(envs.observation_space, envs.action_space)), steps)
    grouped = GAIL(Discriminator(3, envs.action_space, group=5), steps)
    for given, message in (
        ({"optimize_memory_usage": True}, "needs optimize_memory_usage=False and handle_timeout_termination=True"),
        (paid_by(EnvironmentReward(), handle_timeout_termination=False), "handle_timeout_termination=True"),
        (paid_by(airl), "AIRL's discriminator reads likelihoods"),
        (paid_by(grouped), "minibatch features need rollouts"),
        (paid_by(EnvironmentReward(), update_every=0), "update_every"),
        (paid_by(EnvironmentReward(), n_recent=0), "n_recent must be at least 1; got 0"),
        (paid_by(EnvironmentReward(), update_every=251), "update_every must be at most buffer_size, 250; got 251"),
        (paid_by(EnvironmentReward(), centre_rewards=True, gamma=1.0), r"gamma must be in \[0, 1\)"),
    ):
        with pytest.raises(UsageError, match=message):
            SAC("MlpPolicy", envs, **small(**paid_by(EnvironmentReward()) | given))
    with pytest.raises(UsageError, match=r"AIRL's discriminator reads likelihoods.*use GAIL with a Discriminator"):
        RewardModelCallback(airl)
    with pytest.raises(UsageError, match="use RewardModelDictReplayBuffer"):
        SAC("MultiInputPolicy", DummyVecEnv([Parts]), **small(), **paid_by(EnvironmentReward()))


def test_wrong_rewards_are_told_before_anything_learns_from_them():
    class Wrong(EnvironmentReward):
        def __call__(self, transitions):
            return super().__call__(transitions) * np.nan

    model = SAC("MlpPolicy", SB3VecEnv(make_vec("Pendulum-v1", 1)), **small(), **paid_by(Wrong()))
    before = [p.clone() for p in model.policy.parameters()]
    with pytest.raises(FloatingPointError, match="reward"):
        model.learn(60)
    assert all(torch.equal(x, y) for x, y in zip(before, model.policy.parameters(), strict=True))
