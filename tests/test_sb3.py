from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from sb3_contrib import TRPO
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecCheckNan,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
)

from rlgen import exploration
from rlgen.data.demonstrations import load_demonstrations
from rlgen.data.episodes import RandomActor, run_episodes
from rlgen.envs import make_vec
from rlgen.errors import UsageError
from rlgen.evaluation import evaluate
from rlgen.functional.adversarial import reward_softplus
from rlgen.functional.returns import gae
from rlgen.nn.discriminator import Discriminator
from rlgen.nn.normalizer import RewardScaler
from rlgen.nn.policy import Actor, Policy
from rlgen.rewards.environment import EnvironmentReward
from rlgen.rewards.gail import GAIL
from rlgen.sb3 import RewardModelCallback, SB3VecEnv

ROOT = Path(__file__).parents[1]


def assert_same_infos(ours, theirs):
    """Keys and values of both; times differ."""
    assert [sorted(info) for info in ours] == [sorted(info) for info in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        for key, value in other.items():
            if key == "episode":
                assert {**mine[key], "t": 0} == {**value, "t": 0}
            else:
                np.testing.assert_array_equal(mine[key], value, err_msg=key)


@pytest.mark.parametrize("env_id", ["HalfCheetah-v4", "Hopper-v4", "CartPole-v1"])
def test_the_same_steps_and_infos_as_sb3s_own(env_id):
    ours = SB3VecEnv(make_vec(env_id, 2, max_episode_steps=60))
    theirs = DummyVecEnv([lambda: Monitor(gym.make(env_id, max_episode_steps=60))] * 2)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert ours.render_mode == theirs.render_mode
    for envs in (ours, theirs):
        assert envs.seed(4) == [4, 5]
    np.testing.assert_array_equal(ours.reset(), theirs.reset(), strict=True)
    assert_same_infos(ours.reset_infos, theirs.reset_infos)
    ours.action_space.seed(0)
    ends = 0
    for _ in range(150):
        actions = np.array([ours.action_space.sample() for _ in range(2)])
        mine, others = ours.step(actions), theirs.step(actions)
        for left, right in zip(mine[:3], others[:3], strict=True):
            np.testing.assert_array_equal(left, right, strict=True)
        assert_same_infos(mine[3], others[3])
        assert_same_infos(ours.reset_infos, theirs.reset_infos)
        ends += mine[2].sum()
    assert ends > 2


def test_attributes_and_methods_as_sb3s_own():
    class Counts(gym.Wrapper):
        seen = None

        def reset(self, *, seed=None, options=None):
            self.seen = (seed, options)
            return super().reset(seed=seed)

        def told(self):
            return self.seen

        def add(self, x, y=0):
            return x + y + self.unwrapped.gravity

    def make():
        return Counts(gym.make("CartPole-v1"))

    ours = SB3VecEnv(SyncVectorEnv([make] * 3, autoreset_mode=AutoresetMode.SAME_STEP))
    theirs = DummyVecEnv([lambda: Monitor(make())] * 3)
    for envs in (ours, theirs):
        assert envs.get_attr("gravity") == [9.8] * 3
        envs.set_attr("seen", "here", [1])
        assert envs.get_attr("seen", [0, 1]) == [None, "here"]
        assert envs.env_method("add", 1, y=2, indices=[2, 0]) == [12.8] * 2
        assert envs.env_method("add", 1, indices=1) == [10.8]
        assert envs.has_attr("add")
        assert not envs.has_attr("absent")
        assert envs.env_is_wrapped(Monitor) == envs.env_is_wrapped(Counts) == [True] * 3
        assert envs.env_is_wrapped(gym.wrappers.ClipReward, 0) == [False]
        assert envs.unwrapped is envs
        envs.seed(1)
        envs.set_options({"low": -0.01, "high": 0.01})
        envs.reset()
        assert envs.env_method("told") == [(i, {"low": -0.01, "high": 0.01}) for i in (1, 2, 3)]
        envs.seed(1)
        envs.set_options([{}, {"low": 0.0}, {"low": 0.01}])
        envs.reset()
        assert [options or {} for _, options in envs.env_method("told")] == [{}, {"low": 0.0}, {"low": 0.01}]
        assert [seed for seed, _ in envs.env_method("told")] == [1, 2, 3]
        envs.reset()
        assert [seed or options for seed, options in envs.env_method("told")] == [None] * 3


def test_attributes_of_a_batch():
    envs = SB3VecEnv(make_vec("Hopper-v4", 3, max_episode_steps=70, healthy_reward=2.0))
    assert envs.get_attr("healthy_reward", [0, 2]) == [2.0, 2.0]
    assert [spec.max_episode_steps for spec in envs.get_attr("spec")] == [70] * 3
    assert envs.get_attr("action_space") == [envs.action_space] * 3
    assert len({id(rng) for rng in envs.get_attr("np_random")}) == 3
    assert not envs.has_attr("action_masks")
    assert not envs.has_attr("step")
    with pytest.raises(AttributeError, match=r"pass healthy_reward to rlgen.make_vec"):
        envs.set_attr("healthy_reward", 1.0, 0)
    with pytest.raises(AttributeError):
        envs.env_method("step", np.zeros(3), indices=[0])


def test_pictures_of_environments_that_render():
    pytest.importorskip("pygame")
    envs = SB3VecEnv(make_vec("CartPole-v1", 2, render_mode="rgb_array"))
    envs.reset()
    assert envs.render_mode == "rgb_array"
    assert envs.render().shape == (800, 600, 3)


def test_another_autoreset_mode_is_refused_by_name():
    envs = gym.make_vec("CartPole-v1", 2)
    for use in (SB3VecEnv, lambda envs: run_episodes(RandomActor(envs.single_action_space, 0), envs)):
        with pytest.raises(UsageError, match=r"CartPole-v1: .*SAME_STEP.* is NEXT_STEP.* rlgen.make_vec"):
            use(envs)


def test_sb3_learns_and_evaluates_on_ours():
    envs = SB3VecEnv(make_vec("HalfCheetah-v4", 2, seed=0))
    model = PPO("MlpPolicy", envs, n_steps=64, batch_size=64, n_epochs=1, device="cpu")
    model.learn(256)
    assert model.num_timesteps == 256
    returns, lengths = evaluate_policy(model, envs, 2, return_episode_rewards=True)
    assert lengths == [1000, 1000]
    assert np.isfinite(returns).all()


def test_sb3_evaluates_our_actor():
    envs = SB3VecEnv(make_vec("Reacher-v4", 2, seed=0))
    torch.manual_seed(0)
    actor = Actor(Policy(envs.observation_space, envs.action_space))
    mean, _ = evaluate_policy(actor, envs, 4)
    assert -100 < mean < 0


def learner(algorithm, env_id="HalfCheetah-v4", n_steps=64, max_episode_steps=50, seed=0):
    envs = SB3VecEnv(make_vec(env_id, 2, seed=seed, max_episode_steps=max_episode_steps))
    return algorithm("MlpPolicy", envs, n_steps=n_steps, batch_size=64, seed=seed, device="cpu")


@pytest.mark.parametrize("algorithm", [PPO, TRPO])
def test_the_environments_reward_changes_nothing_to_the_last_bit(algorithm):
    # Each is made just before it learns: SB3 draws from torch's global random numbers.
    plain = learner(algorithm).learn(512)
    paid = learner(algorithm).learn(512, callback=RewardModelCallback(EnvironmentReward()))
    for left, right in zip(plain.policy.parameters(), paid.policy.parameters(), strict=True):
        assert torch.equal(left, right)
    np.testing.assert_array_equal(plain.rollout_buffer.advantages, paid.rollout_buffer.advantages)


@pytest.mark.parametrize("make_envs", [SB3VecEnv, None])
def test_under_vec_normalize_the_environments_reward_changes_nothing_either(make_envs):
    def train(**callback):
        if make_envs is None:
            envs = DummyVecEnv([lambda: Monitor(gym.make("Hopper-v4"))] * 2)
        else:
            envs = make_envs(make_vec("Hopper-v4", 2))
        envs = VecCheckNan(VecNormalize(VecMonitor(envs), norm_reward=False))
        return PPO("MlpPolicy", envs, n_steps=64, batch_size=64, seed=0, device="cpu").learn(512, **callback)

    plain, paid = train(), train(callback=RewardModelCallback(EnvironmentReward()))
    for left, right in zip(plain.policy.parameters(), paid.policy.parameters(), strict=True):
        assert torch.equal(left, right)
    np.testing.assert_array_equal(plain.rollout_buffer.advantages, paid.rollout_buffer.advantages)


class Distance:
    """Pays -|s' - s|, and keeps what it was shown."""

    def __call__(self, transitions):
        return -(transitions.next_obs - transitions.obs).norm(dim=-1)

    def update(self, transitions):
        self.seen = transitions
        return {"steps": torch.tensor(float(transitions.rewards.numel()))}


@pytest.mark.parametrize("env_id", ["HalfCheetah-v4", "Hopper-v4"])
def test_a_replaced_reward_gives_the_advantages_of_independent_gae(env_id):
    """Time limits in the middle of a rollout, and on Hopper falls: the values behind each are where they belong."""
    model, reward = learner(PPO, env_id), Distance()
    model.learn(1)
    values_of = model.policy.predict_values

    class Spy(RewardModelCallback):
        def _on_rollout_end(self):
            super()._on_rollout_end()
            seen, buffer = self.reward_model.seen, self.model.rollout_buffer
            with torch.no_grad():
                values, next_values = (
                    values_of(x.flatten(0, 1)).view(seen.rewards.shape) for x in (seen.obs, seen.next_obs)
                )
            expected = gae(self.reward_model(seen), values, next_values, seen.terminated, seen.truncated, 0.99, 0.95)
            np.testing.assert_allclose(buffer.advantages, expected.numpy(), rtol=1e-3, atol=1e-4)
            self.ends = int(seen.terminated.sum()), int(seen.truncated.sum())

    spy = Spy(reward)
    model.learn(128, callback=spy)
    assert spy.ends[env_id == "HalfCheetah-v4"] > 0
    # What the model was shown is executed actions, and the environment's own steps.
    assert reward.seen.actions.abs().max() <= 1
    assert torch.equal(reward.seen.obs[1:][~(reward.seen.terminated | reward.seen.truncated)[:-1]],
                       reward.seen.next_obs[:-1][~(reward.seen.terminated | reward.seen.truncated)[:-1]])  # fmt: skip


def test_gail_and_vime_pay_sb3_and_contrib():
    demonstrations = load_demonstrations(ROOT / "expert_data", "HalfCheetah-v4", 2)
    ppo = learner(PPO, max_episode_steps=None)  # at a time limit SB3 adds a value, whose sign is either
    discriminator = Discriminator(ppo.observation_space.shape[0], ppo.action_space)
    gail = GAIL(discriminator, demonstrations.transitions, reward=reward_softplus)
    before = {name: value.clone() for name, value in discriminator.state_dict().items()}
    ppo.learn(256, callback=RewardModelCallback(gail))
    assert any(not torch.equal(value, before[name]) for name, value in discriminator.state_dict().items())
    assert (ppo.rollout_buffer.rewards > 0).all()  # softplus, not the environment's

    config = exploration.settings("trpo", "CartPole-v1", "vime").bonus
    trpo = learner(TRPO, "CartPole-v1", max_episode_steps=None)
    vime = exploration.reward_model(trpo.env.envs, "cpu", exploration.vime, config)
    trpo.learn(512, callback=RewardModelCallback(vime))
    assert (trpo.rollout_buffer.rewards != 1).any()


def test_centred_rewards_are_those_of_our_own_training():
    """The callback's scaler sees the same rewards, ends and discount."""

    class Spy(RewardModelCallback):
        def _on_rollout_end(self):
            steps = [np.stack(x) for x in zip(*self._steps, strict=True)]
            rewards, terminated, truncated = (torch.from_numpy(steps[i]) for i in (3, 4, 5))
            super()._on_rollout_end()
            scaler = RewardScaler(2, 0.99, centre=True)
            exact = scaler(rewards, terminated, truncated)
            self.ends = int(terminated.sum())
            np.testing.assert_allclose(self.model.rollout_buffer.rewards, exact.numpy(), rtol=1e-5)

    spy = Spy(EnvironmentReward(), centre_rewards=True)
    learner(PPO, "CartPole-v1").learn(128, callback=spy)
    assert spy.ends > 0


def test_rewards_may_be_whole_numbers_and_a_callback_serves_another_number_of_environments():
    class Counts:
        def __call__(self, transitions):
            return torch.ones_like(transitions.rewards, dtype=torch.int64)

        def update(self, transitions):
            return {}

    for centre in (False, True):
        callback = RewardModelCallback(Counts(), centre_rewards=centre)
        for n_envs in (2, 4):
            envs = SB3VecEnv(make_vec("CartPole-v1", n_envs, seed=0))
            PPO("MlpPolicy", envs, n_steps=16, batch_size=16, device="cpu").learn(16 * n_envs, callback=callback)


def test_a_learner_that_keeps_no_rollouts_is_refused():
    envs = SB3VecEnv(make_vec("HalfCheetah-v4", 1, seed=0))
    with pytest.raises(UsageError, match="needs a learner with SB3's on-policy rollouts, as PPO, A2C, TRPO; not SAC"):
        SAC("MlpPolicy", envs, device="cpu").learn(1, callback=RewardModelCallback(EnvironmentReward()))


class Raw(gym.Wrapper):
    """Keeps every step as the environment gave it."""

    def __init__(self, env, steps):
        super().__init__(env)
        self.steps = steps

    def reset(self, **arguments):
        self.obs, info = self.env.reset(**arguments)
        return self.obs, info

    def step(self, action):
        obs, self.obs = self.obs, None
        self.obs, reward, terminated, truncated, info = self.env.step(action)
        self.steps.append((obs, np.array(action), self.obs, reward, terminated, truncated and not terminated))
        return self.obs, reward, terminated, truncated, info


class Keeps(EnvironmentReward):
    """The environment's reward; keeps all transitions."""

    def __init__(self):
        self.seen = []

    def update(self, transitions):
        self.seen.append(transitions)
        return {}


def assert_seen(model, reward_model, steps, flat=lambda obs: obs):
    """What a reward model was shown are the environment's own steps, of one environment."""
    seen = [transitions[:, 0] for transitions in reward_model.seen]
    for name, column in zip(("obs", "actions", "next_obs", "rewards", "terminated", "truncated"),
                            zip(*steps, strict=True), strict=True):  # fmt: skip
        found = torch.cat([getattr(transitions, name) for transitions in seen]).numpy()
        wanted = np.stack([flat(x) for x in column] if name.endswith("obs") else column)
        np.testing.assert_array_equal(found.astype(np.float32), wanted.astype(np.float32), err_msg=name)
    assert sum(step[4] or step[5] for step in steps) > 2


@pytest.mark.parametrize("norm_reward", [False, True])
def test_under_vec_normalize_a_reward_model_sees_and_pays_raw(norm_reward):
    steps, reward = [], Keeps()
    envs = DummyVecEnv([lambda: Monitor(Raw(gym.make("Hopper-v4", max_episode_steps=15), steps))])
    # Everything is clipped, final observations too.
    envs = VecNormalize(envs, clip_obs=0.1, norm_reward=norm_reward)
    model = PPO("MlpPolicy", envs, n_steps=64, batch_size=64, n_epochs=1, device="cpu")
    model.learn(64, callback=RewardModelCallback(reward))
    model.learn(64, callback=RewardModelCallback(reward), reset_num_timesteps=False)
    assert_seen(model, reward, steps)
    paid = model.rollout_buffer.rewards[:, 0]
    ended = np.array([step[5] for step in steps[-64:]])
    np.testing.assert_array_equal(paid[~ended], np.array([step[3] for step in steps[-64:]], np.float32)[~ended])
    assert "step_wait" not in vars(envs.venv)


def test_wrappers_that_cannot_be_undone_are_refused_by_name():
    class Halves(VecMonitor):
        pass

    for wrap in (lambda envs: VecFrameStack(envs, 2), lambda envs: VecNormalize(Halves(envs))):
        envs = wrap(SB3VecEnv(make_vec("CartPole-v1", 2)))
        model = PPO("MlpPolicy", envs, n_steps=64, device="cpu")
        with pytest.raises(UsageError, match=r"(VecFrameStack|Halves) may change observations"):
            model.learn(128, callback=RewardModelCallback(EnvironmentReward()))
        with pytest.raises(UsageError, match=r"(VecFrameStack|Halves) may change observations"):
            run_episodes(model, make_vec("CartPole-v1", 2))


class Parts(gym.Env):
    """A Dict whose keys aren't in the alphabet's order, with a Discrete and a box of two dimensions."""

    observation_space = gym.spaces.Dict(
        [
            ("speed", gym.spaces.Box(-9, 9, (1,), np.float32)),
            ("mode", gym.spaces.Discrete(3)),
            ("grid", gym.spaces.Box(-9, 9, (2, 2), np.float32)),
        ]
    )
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def observe(self):
        return {
            "grid": self.np_random.uniform(-1, 1, (2, 2)).astype(np.float32),
            "mode": np.int64(self.t % 3),
            "speed": np.array([self.t], np.float32),
        }

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.observe(), {}

    def step(self, action):
        self.t += 1
        return self.observe(), -abs(float(action[0])), self.t == 7, False, {}


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("make", [DummyVecEnv, lambda fns: SB3VecEnv(SyncVectorEnv(fns, autoreset_mode="SameStep"))])
def test_dict_observations_reach_a_reward_model_flat_in_their_order(make, normalize):
    steps, reward = [], Keeps()
    envs = make([lambda: Raw(Parts(), steps)])
    if normalize:
        envs = VecNormalize(envs, norm_obs_keys=["grid", "speed"])
    model = PPO("MultiInputPolicy", envs, n_steps=32, batch_size=32, n_epochs=1, device="cpu")
    before = [x.clone() for x in model.policy.parameters()]
    model.learn(64, callback=RewardModelCallback(reward))
    assert any(not torch.equal(x, y) for x, y in zip(before, model.policy.parameters(), strict=True))
    assert_seen(model, reward, steps, lambda obs: gym.spaces.flatten(Parts.observation_space, obs))


def test_episodes_of_a_normalised_model_are_those_of_sb3s_own_evaluation():
    def normalised(**arguments):
        return VecNormalize(SB3VecEnv(make_vec("CartPole-v1", 8, seed=0)), **arguments)

    model = PPO("MlpPolicy", normalised(), n_steps=128, batch_size=256, seed=0, device="cpu").learn(12_000)
    count = model.get_vec_normalize_env().obs_rms.count
    found = evaluate(model, "CartPole-v1", 8, seed=3)
    assert model.get_vec_normalize_env().obs_rms.count == count
    envs = normalised(training=False, norm_reward=False)
    envs.obs_rms = model.get_vec_normalize_env().obs_rms
    envs.seed(3)
    returns, _ = evaluate_policy(model, envs, 8, return_episode_rewards=True)
    assert sorted(found.returns) == sorted(returns)
    assert found.mean > 150  # without statistics the policy falls at once


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda transitions: transitions.rewards[0], ValueError),
        (lambda transitions: transitions.rewards * np.nan, FloatingPointError),
    ],
)
def test_wrong_rewards_are_told_before_anything_learns_from_them(wrong, error):
    class Wrong(EnvironmentReward):
        def __call__(self, transitions):
            return wrong(transitions)

    model = PPO("MlpPolicy", SB3VecEnv(make_vec("InvertedPendulum-v4", 2)), n_steps=16, device="cpu")
    before = [p.clone() for p in model.policy.parameters()]
    with pytest.raises(error, match="reward"):
        model.learn(32, callback=RewardModelCallback(Wrong()))
    assert all(torch.equal(x, y) for x, y in zip(before, model.policy.parameters(), strict=True))
