"""Training in environments that are tensors on a device: rollouts, and whole trainings that go on exactly."""

import copy
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from tensor_env import TensorPoint
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

import rlgen
from rlgen import exploration, imitation, presets
from rlgen.checkpoint import load_checkpoint, save_checkpoint
from rlgen.data.collect import TensorCollector, collector_of
from rlgen.data.convert import demonstrations_of
from rlgen.envs import make_vec
from rlgen.errors import UsageError
from rlgen.evaluation import evaluate
from rlgen.functional.distributions import Categorical, Gaussian, MultiCategorical, SquashedGaussian
from rlgen.nn.normalizer import RewardScaler
from rlgen.nn.policy import Actor, Policy, TensorActor
from rlgen.presets import OffPolicyLearner
from rlgen.rewards.environment import EnvironmentReward
from rlgen.sb3 import SB3VecEnv

DATA = Path(__file__).parents[1] / "expert_data"


def agree(x):
    """Whether samples may be uniform over [0, 1]: Kolmogorov and Smirnov's test at the level of 0.001."""
    apart = x.sort().values - torch.arange(len(x)) / len(x)
    return apart.abs().max() < 1.95 / len(x) ** 0.5


def rollouts(n_envs=5, n_steps=70, stagger=False, uniform=False):
    torch.manual_seed(0)
    envs = TensorPoint(n_envs)
    policy = Policy(envs.single_observation_space, envs.single_action_space, (8,))
    collector = TensorCollector(envs, n_steps, stagger=stagger)
    first = collector.obs.clone()
    actor = collector.actor(policy, np.random.default_rng(0), uniform)
    return first, collector, policy, [collector.collect(actor) for _ in range(2)]


def test_a_rollout_holds_what_happened():
    obs, _, _, found = rollouts()
    elapsed, returns, ended = torch.zeros(5), torch.zeros(5), []
    for rollout in found:
        steps = rollout.transitions
        for t in range(70):
            torch.testing.assert_close(steps.obs[t], obs, rtol=0, atol=0)
            assert (steps.actions[t].abs() <= 2).all()
            torch.testing.assert_close(steps.actions[t], (2 * rollout.sampled_actions[t]).clamp(-2, 2))
            following = TensorPoint.physics(obs, steps.actions[t])
            torch.testing.assert_close(steps.next_obs[t], following, rtol=0, atol=0)
            torch.testing.assert_close(steps.rewards[t], 1 - following[:, 0].abs(), rtol=0, atol=0)
            elapsed += 1
            returns += steps.rewards[t]
            assert torch.equal(steps.terminated[t], following[:, 0].abs() > 2)
            assert torch.equal(steps.truncated[t], elapsed == 20)
            done = steps.terminated[t] | steps.truncated[t]
            ended += returns[done].tolist()
            elapsed, returns = elapsed * ~done, returns * ~done
            # Which state follows a reset is the environment's affair.
            obs = torch.where(done.unsqueeze(1), steps.obs[t + 1] if t < 69 else torch.nan, following)
        if rollout is found[0]:
            obs = torch.where(obs.isnan(), found[1].transitions.obs[0], obs)
    assert [pytest.approx(x, abs=1e-5) for x in ended] == [x for rollout in found for x in rollout.episode_returns]
    assert steps.terminated.any()
    assert steps.truncated.any()
    assert (found[0].sampled_actions.abs() > 1).any(), "none was clipped"


def test_staggered_clocks_are_reported_as_whole_episodes_only():
    _, collector, _, (rollout, _) = rollouts(n_envs=4, n_steps=20, stagger=True)
    assert rollout.transitions.truncated.any()
    done = rollout.transitions.terminated | rollout.transitions.truncated
    # All but the first environment began in the middle of an episode, and one ends less than one each.
    whole = int(done.sum()) - int(done[:, 1:].any(0).sum())
    assert len(rollout.episode_returns) == whole < int(done.sum())
    assert collector.exact


def test_uniform_actions_and_the_policy_s_own():
    *_, (rollout, _) = rollouts(n_envs=50, uniform=True)
    assert agree((rollout.transitions.actions.flatten() + 2) / 4)
    _, _, policy, (rollout, _) = rollouts(n_envs=50)
    noise = (rollout.sampled_actions - policy(rollout.transitions.obs).mean).detach() / policy.log_std.detach().exp()
    assert agree(torch.special.ndtr(noise.flatten()))


@pytest.mark.parametrize(
    ("distribution", "log_prob_of_all"),
    [
        (Categorical(torch.tensor([[0.0, 1.0, -2.0]])), True),
        (MultiCategorical((Categorical(torch.tensor([[0.0, 1.0]])), Categorical(torch.tensor([[2.0, 0.0]])))), True),
        (Gaussian(torch.tensor([[0.3, -1.0]]), torch.tensor([0.1, -0.5])), False),
        (SquashedGaussian(torch.tensor([[0.3, -1.0]]), torch.tensor([[0.1, -0.5]])), False),
    ],
)
def test_samples_are_those_of_the_distribution(distribution, log_prob_of_all):
    """Their mean log-probability is minus the entropy, and each index is as frequent as its probability says."""
    torch.manual_seed(0)
    n = 40_000
    many = (
        replace(distribution, parts=tuple(Categorical(p.logits.expand(n, -1)) for p in distribution.parts))
        if isinstance(distribution, MultiCategorical)
        else type(distribution)(*(x.expand(n, *x.shape[1:]) if x.ndim > 1 else x for x in vars(distribution).values()))
    )
    drawn = many.sample()
    if log_prob_of_all:
        rows, counts = drawn.unique(dim=0, return_counts=True)
        parts = type(many)(tuple(p[: len(rows)] for p in many.parts)) if drawn.ndim > 1 else many[: len(rows)]
        np.testing.assert_allclose(counts / n, parts.log_prob(rows).exp(), atol=0.01)
    else:
        before = many.before(drawn) if isinstance(many, SquashedGaussian) else drawn
        z = (before - many.mean) / many.log_std.exp()
        assert all(agree(torch.special.ndtr(column)) for column in z.T)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(np.array([-3, 0, -np.inf]), np.array([1, 10, np.inf]), dtype=np.float32),
        spaces.Box(-100, 100, (2, 2), np.int16),
        spaces.Discrete(3, start=-1),
        spaces.MultiDiscrete([2, 3], start=[5, 6]),
        spaces.MultiBinary(3),
    ],
)
def test_actions_are_executed_as_in_numpy(space):
    policy = Policy(spaces.Box(-1, 1, (2,), np.float32), space, (4,), log_std_init=1.0)
    policy.network[-1].weight.data.normal_()
    obs = torch.randn(100, 2)
    actor = TensorActor(policy)
    samples = actor.sample(obs)
    expected = Actor(policy).execute(samples.numpy())
    np.testing.assert_array_equal(actor.execute(samples), expected)


def test_scaled_rewards_are_the_same_wherever_they_are_computed(monkeypatch):
    here = RewardScaler(4, 0.9, centre=True)
    there = copy.deepcopy(here)
    for _ in range(2):
        steps = torch.randn(15, 4), torch.rand(15, 4) < 0.2, torch.rand(15, 4) < 0.2
        expected = here(*steps)
        with monkeypatch.context() as patch:
            patch.setattr(torch.Tensor, "device", property(lambda x: torch.device("meta")))
            found = there(*steps)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
        torch.testing.assert_close(there.returns, here.returns, rtol=0, atol=0)


class Waits(TorchFunctionMode):
    """Counts what would wait for a device: values that Python asks for, and results whose size depends on values."""

    ASK = frozenset(["item", "tolist", "cpu", "numpy", "nonzero", "__bool__", "__float__", "__int__", "__index__"])
    n = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        masks = name in ("__getitem__", "__setitem__") and any(
            isinstance(x, torch.Tensor) and x.dtype == torch.bool for x in tree_leaves(args[1])
        )
        self.n += name in self.ASK or masks
        return func(*args, **(kwargs or {}))


def test_no_step_waits_for_the_device():
    counts = []
    for n_steps in (10, 40):
        collector = TensorCollector(TensorPoint(3), n_steps)
        policy = Policy(collector.envs.single_observation_space, collector.envs.single_action_space, (8,))
        with Waits() as waits:
            collector.collect(TensorActor(policy))
        counts.append(waits.n)
    assert counts[0] == counts[1] > 0


def training_of(kind, algo, device="cpu"):
    torch.manual_seed(0)
    envs = TensorPoint(6, device)
    if kind == "gail":
        settings = imitation.settings("default", algo)
        rng = np.random.default_rng(0)
        episodes = [{"obs": rng.normal(size=(21, 2)) / 5, "actions": rng.uniform(-1, 1, (20, 1))} for _ in range(4)]
        expert = demonstrations_of(
            episodes, observation_space=envs.single_observation_space, action_space=envs.single_action_space
        )
        learner = settings.learner

        def make(envs, policy):
            return imitation.gail(settings, policy, settings.expert(envs, policy, expert))

    elif kind == "vime":
        settings = exploration.settings(algo, "TensorPoint-v0", kind)
        learner, bonus = settings.learner, replace(settings.bonus, n_updates=3, batch_size=64, pool_size=300)

        def make(envs, policy):
            return exploration.reward_model(envs, device, exploration.BONUSES[kind], bonus)

    else:
        learner = presets.LEARNERS[algo]

        def make(envs, policy):
            return EnvironmentReward()

    learner = replace(learner, n_envs=6, n_steps=25, total_timesteps=6 * 150)
    if isinstance(learner, OffPolicyLearner):
        learner = replace(learner, learning_starts=150, updates_per_step=0.1)
    return learner.training(envs, make, 0, device)


KINDS = [("environment", "trpo"), ("environment", "sac"), ("gail", "ppo"), ("gail", "svg"), ("vime", "trpo")]


@pytest.mark.parametrize(("kind", "algo"), KINDS)
def test_a_training_goes_on_exactly(tmp_path, kind, algo):
    whole = iter(training_of(kind, algo))
    rows = [next(whole) for _ in range(5)]
    training = training_of(kind, algo)
    for _ in range(2):
        next(iter(training))
    save_checkpoint(tmp_path, training.state_dict(), {})
    again = training_of(kind, algo)
    again.load_state_dict(load_checkpoint(tmp_path)[1])
    for row in rows[2:]:
        found = next(iter(again))
        assert found.metrics == pytest.approx(row.metrics, rel=0, abs=0, nan_ok=True)
        assert found.episode_returns == row.episode_returns
    assert any(row.episode_returns for row in rows)


@pytest.mark.parametrize(("kind", "algo"), KINDS)
def test_a_training_stays_on_its_device(cuda, kind, algo):
    training = training_of(kind, algo, cuda)
    for _ in range(3):
        row = next(iter(training))
        assert row.transitions.obs.device.type == row.transitions.truncated.device.type == "cuda"


def test_environments_are_asked_once_a_rollout_what_went_wrong():
    class Asked(TensorPoint):
        times = 0

        def check_buffers(self):
            self.times += 1

    collector = TensorCollector(Asked(3), 7)
    policy = Policy(collector.envs.single_observation_space, collector.envs.single_action_space, (8,))
    for _ in range(2):
        collector.collect(TensorActor(policy))
    assert collector.envs.times == 2


def test_environments_and_networks_on_two_devices_are_refused():
    with pytest.raises(UsageError, match=r"one device; they are on cpu and cuda"):
        collector_of(TensorPoint(2), 10, "cuda")


def test_a_point_learns_to_stay():
    """The known answer: the origin is worth 1 a step, 20 an episode; a fresh policy has less than half of it."""
    torch.manual_seed(0)
    learner = replace(presets.PPO_LEARNER, n_envs=32, n_steps=40, total_timesteps=40_000)
    training = learner.training(TensorPoint(32), lambda envs, policy: EnvironmentReward(), 0)
    returns = [np.mean(row.episode_returns) for row in training]
    assert returns[0] < 15
    assert np.mean(returns[-3:]) > 18


WARP = {"env": "HalfCheetah-v4", "backend": "warp", "device": "cpu", "n_envs": 8, "n_steps": 16, "n_threads": 1}


def test_an_agent_is_trained_by_warp_and_evaluated_by_mujoco(tmp_path):
    pytest.importorskip("mujoco_warp")

    def made(**values):
        return rlgen.GAIL(expert=DATA, **WARP, **values)

    whole = made(total_timesteps=4 * 128)
    whole.learn(progress=False)
    half = made(total_timesteps=2 * 128)
    half.learn(progress=False, run_dir=tmp_path / "run")
    again = rlgen.load(tmp_path / "run")
    assert str(again.training) == "8 x WarpMujocoEnv"
    assert again.arguments.backend == "warp"
    other = made(total_timesteps=4 * 128).training
    for _ in range(2):
        next(iter(other))
    save_checkpoint(tmp_path / "kept", other.state_dict(), {})
    last = made(total_timesteps=4 * 128).training
    last.load_state_dict(load_checkpoint(tmp_path / "kept")[1])
    rows = list(last)
    columns = ["reward", "kl", "discriminator_loss"]
    expected = whole.metrics[columns].to_numpy()[2:]
    np.testing.assert_array_equal([[row.metrics[name] for name in columns] for row in rows], expected)
    here = whole.evaluate(n_episodes=2, seed=3)
    policy = Actor(whole.policy)
    assert here.returns == evaluate(policy, "HalfCheetah-v4", 2, seed=3).returns


def test_what_warp_cannot_do_is_refused_by_name():
    pytest.importorskip("mujoco_warp")
    for values, message in (
        ({"env": "CartPole-v1"}, "ids of MuJoCo tasks"),
        ({"codes": 2}, "codes need backend"),
        ({"env_kwargs": {"nconmax": 100}}, "env_kwargs: nconmax is no argument of HalfCheetah-v4; backend_kwargs"),
        ({"env_kwargs": {"device": "cpu"}}, "env_kwargs: device"),
        ({"backend_kwargs": {"nconmax": "a"}}, "nconmax must be a whole number"),
        ({"backend_kwargs": {"deterministic": 1}}, "deterministic must be true or false"),
        ({"backend_kwargs": {"contacts": 1}}, "backend_kwargs are nconmax, njmax, deterministic; got contacts"),
        ({"backend": "jax"}, "backend"),
        ({"vectorization": "async"}, "vectorization async has no effect"),
    ):
        with pytest.raises(UsageError, match=message):
            rlgen.GAIL(expert=DATA, **WARP | values).learn(128, progress=False)
    with pytest.raises(UsageError, match="backend has no effect on a vector environment"):
        rlgen.PPO(make_vec("Hopper-v4", 2), backend="warp", device="cpu")
    envs = make_vec("HalfCheetah-v4", 2, backend="warp")
    for use in (
        lambda: rlgen.PPO(gym.wrappers.vector.RecordEpisodeStatistics(envs), device="cpu").learn(128, progress=False),
        lambda: rlgen.GAIL(envs, DATA / "HalfCheetah-v4", codes=2, device="cpu").learn(128, progress=False),
        lambda: SB3VecEnv(envs),
    ):
        with pytest.raises(UsageError, match="takes NumPy arrays; these environments give tensors"):
            use()


def test_warp_s_arguments_are_told_apart():
    pytest.importorskip("mujoco_warp")
    agent = rlgen.GAIL(expert=DATA, **WARP, backend_kwargs={"nconmax": 50, "njmax": 200})
    agent.learn(128, progress=False)
    assert agent.training.collector.envs._data.njmax == 200
    assert agent.evaluate(n_episodes=1).returns
