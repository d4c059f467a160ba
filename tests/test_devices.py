"""The same results on a GPU as on the CPU; on a machine without one at least no operation mixes the two."""

import copy

import numpy as np
import pytest
import torch
from gymnasium import spaces
from pretend_cuda import PretendCUDA, SameDraws
from test_resume import assert_same, leaves, training_of

from rlgen.checkpoint import load_checkpoint, save_checkpoint
from rlgen.data.replay import ReplayPool
from rlgen.envs import make_vec
from rlgen.errors import UsageError
from rlgen.evaluation import evaluate
from rlgen.experiment import choose_device
from rlgen.exploration import BONUSES
from rlgen.functional import tanh_mlp
from rlgen.imitation import IMITATORS
from rlgen.nn.bayesian import BayesianNetwork, FactorisedGaussian
from rlgen.nn.mlp import mlp
from rlgen.nn.policy import Actor, Critic, Policy
from rlgen.optim.behaviour_cloning import BehaviourCloningConfig, clone_behaviour
from rlgen.optim.ppo import PPO, PPOConfig
from rlgen.optim.trpo import TRPO, TRPOConfig
from rlgen.types import PolicyBatch, Transitions

OBS = spaces.Box(-np.inf, np.inf, (4,), np.float32)
BOX, DISCRETE = spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(3)


def assert_close(left, right, tolerance, disturbed=None):
    """Nested states, each tensor by its own norm: Adam's first step takes a gradient's sign, whatever its size.

    `disturbed` is what rounding may do to `right`; three times that is allowed beside the tolerance.
    """
    left, right = leaves(left), leaves(right)
    disturbed = right if disturbed is None else leaves(disturbed)
    assert left.keys() == right.keys()
    for name in right:
        if isinstance(right[name], torch.Tensor | float):
            ours, theirs, apart = (
                torch.as_tensor(x[name]).cpu().double().nan_to_num() for x in (left, right, disturbed)
            )
            assert (ours - theirs).norm() <= tolerance * (theirs.norm() + 0.1) + 3 * (apart - theirs).norm(), name


def batch(action_space, rows=200):
    generator = torch.Generator().manual_seed(1)
    actions = torch.randn(rows, 2, generator=generator)
    if isinstance(action_space, spaces.Discrete):
        actions = torch.randint(3, (rows,), generator=generator)
    columns = [torch.randn(rows, generator=generator) for _ in range(4)]
    return PolicyBatch(torch.randn(rows, 4, generator=generator), actions, *columns)


@pytest.mark.parametrize("make", [lambda p, c: PPO(p, c, PPOConfig(batch_size=50)), lambda p, c: TRPO(p, c)])
@pytest.mark.parametrize("action_space", [BOX, DISCRETE])
def test_an_update_is_that_of_the_cpu(cuda, action_space, make):
    policy = Policy(OBS, action_space, (16, 16))
    policy.normalizer.update(torch.randn(50, 4))
    critic = Critic(policy.normalizer, (16, 16))
    rows = batch(action_space)
    with torch.no_grad():
        rows = PolicyBatch(**(vars(rows) | {"log_probs": policy(rows.obs).log_prob(rows.actions)}))
    results = []
    for device in ("cpu", cuda):
        ours = copy.deepcopy((policy, critic))
        networks = [network.to(device) for network in ours]
        optimizer = make(*networks)
        with SameDraws():
            torch.manual_seed(3)
            metrics = optimizer.update(rows.apply(lambda x, device=device: x.to(device)))
        metrics = {name: float(value) for name, value in metrics.items()}
        results.append([metrics, {str(i): network.state_dict() for i, network in enumerate(networks)}])
        assert {x.device.type for x in leaves(results[-1][1]).values()} == {torch.device(device).type}
    for cpu, gpu in zip(*results, strict=True):
        assert_close(gpu, cpu, 1e-3)


@pytest.mark.parametrize("sub_sampling_factor", [1, 5])
def test_a_step_is_the_gradient_by_autograd(cuda, sub_sampling_factor):
    """TRPO's Fisher product and gradient against the double backward pass, there."""
    policy = Policy(OBS, BOX, (16,)).to(cuda)
    critic = Critic(policy.normalizer, (16,)).to(cuda)
    rows = batch(BOX).apply(lambda x: x.to(cuda))
    metrics = TRPO(policy, critic, TRPOConfig(sub_sampling_factor=sub_sampling_factor)).update(rows)
    assert float(metrics["kl"]) <= 0.01
    network = mlp(4, (16, 16), 2, output_gain=1.0).to(cuda)
    weights, inputs = list(network.parameters()), rows.obs
    loss = network(inputs).square().sum()
    expected = torch.autograd.grad(loss, weights)
    layers = tanh_mlp.forward(inputs, weights)
    found = [torch.empty_like(p) for p in weights]
    tanh_mlp.backward(layers, weights, 2 * layers[-1], found)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


NETWORKS = {
    "factorised": {},
    "sampled": {"analytic_output": False, "shared_noise": True, "n_samples": 3, "learn_likelihood_std": False},
    "wide": {"posterior": lambda n, m: FactorisedGaussian(n, m, std=0.5)},
}


@pytest.mark.parametrize("settings", NETWORKS)
def test_information_and_gradients_of_a_bayesian_network_are_those_of_the_cpu(cuda, settings):
    network = BayesianNetwork(5, 3, (8, 8), **NETWORKS[settings])
    inputs, targets = torch.randn(60, 5), torch.randn(60, 3)
    results = []
    for device in ("cpu", cuda):
        ours = copy.deepcopy(network).to(device)
        x, y = inputs.to(device), targets.to(device)
        with SameDraws():
            torch.manual_seed(3)
            loss = ours.add_loss_gradient(x, y, 0.01)
            mean, std = ours.predict(x)
            found = {"gain": ours.information_gain(x, y), "mean": mean, "std": std, "kl": ours.kl(), "loss": loss}
        found |= {name: p.grad for name, p in ours.named_parameters() if p.grad is not None}
        results.append(found)
    assert results[1]["gain"].device.type == "cuda"
    for name, theirs in results[0].items():
        torch.testing.assert_close(results[1][name].cpu(), theirs, rtol=1e-3, atol=1e-4)


def disturb(network):
    """Change weights by as much as rounding does."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for p in network.parameters():
            p.mul_(1 + 1e-6 * torch.randn(p.shape, generator=generator))


KINDS = [*IMITATORS, "infogail", *BONUSES, "environment"]


@pytest.mark.parametrize("algo", ["trpo", "ppo"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_training_is_that_of_the_cpu(cuda, kind, algo):
    """Two iterations with the same draws, so that the second has learned from the first; every kind of reward."""
    results = []
    for device in ("cpu", "disturbed", cuda):
        with SameDraws():
            torch.manual_seed(0)
            training = training_of(kind, algo, device="cpu" if device == "disturbed" else device)
            if device == "disturbed":
                disturb(training.policy), disturb(training.critic)
            found = [next(iter(training)).metrics for _ in range(2)]
        state = training.state_dict()
        results.append(({str(i): row for i, row in enumerate(found)}, state))
        networks = leaves({name: state[name] for name in ("policy", "critic", "reward_model", "scaler")})
        devices = {x.device.type for x in networks.values() if isinstance(x, torch.Tensor)}
        assert devices == {"cpu" if device == "disturbed" else torch.device(device).type}
    (expected, theirs), (rounded, apart), (found, ours) = results
    assert_close(found, expected, 1e-2, rounded)
    for part in ("policy", "critic", "scaler"):
        assert_close(ours[part], theirs[part], 1e-3, apart[part])


@pytest.mark.parametrize("kind", ["gail", "vime"])
def test_a_checkpoint_moves_to_the_cpu_and_back(cuda, tmp_path, kind):
    training = training_of(kind, "ppo", device=cuda)
    next(iter(training))
    save_checkpoint(tmp_path / "gpu", training.state_dict(), {})
    cpu = training_of(kind, "ppo", seed=5)
    cpu.load_state_dict(load_checkpoint(tmp_path / "gpu")[1])
    assert {p.device.type for p in cpu.policy.parameters()} == {"cpu"}
    ours, theirs = training.state_dict(), cpu.state_dict()
    del ours["random"]["cuda"], theirs["random"]["cuda"]
    assert_same(ours, theirs)
    save_checkpoint(tmp_path / "cpu", cpu.state_dict(), {})
    back = training_of(kind, "ppo", seed=6, device=cuda)
    back.load_state_dict(load_checkpoint(tmp_path / "cpu")[1])
    ours = back.state_dict()
    del ours["random"]["cuda"]
    assert_same(ours, theirs)
    next(iter(cpu)), next(iter(back))


def test_training_on_the_cpu_leaves_the_random_numbers_of_the_gpu_alone(cuda, monkeypatch):
    state = training_of("environment", "ppo", device=cuda).state_dict()
    assert state["random"]["cuda"] is not None
    training = training_of("environment", "ppo")
    monkeypatch.setattr("torch.cuda.set_rng_state", lambda state, device="cuda": pytest.fail("set"))
    training.load_state_dict(state)


def test_a_score_draws_none_of_the_training_s_random_numbers(cuda):
    training = training_of("vime", "ppo", device=cuda)
    next(iter(training))
    rollout = training.collector.collect(Actor(training.policy, training.rng)).transitions
    before = torch.cuda.get_rng_state(cuda)
    scores = training.reward_model(rollout)
    torch.testing.assert_close(torch.cuda.get_rng_state(cuda), before, rtol=0, atol=0)
    assert scores.device.type == "cuda"
    again = training.reward_model(copy.copy(rollout))  # another object: scored anew
    torch.testing.assert_close(again, scores, rtol=0, atol=0)


@pytest.mark.parametrize("action_space", [BOX, DISCRETE])
def test_a_pool_keeps_its_rows(cuda, action_space):
    pool = ReplayPool(50, OBS, action_space).to(cuda)
    for seed in range(3):
        rows = batch(action_space, 30)
        flags = rows.values > seed - 1
        pool.add(
            Transitions(rows.obs, rows.actions, rows.obs + seed, rows.values, flags, ~flags).apply(lambda x: x.to(cuda))
        )
    drawn = pool.sample(200)
    assert drawn.obs.device.type == "cuda"
    assert set((drawn.next_obs - drawn.obs).round().unique().tolist()) == {1.0, 2.0}
    other = ReplayPool(50, OBS, action_space).to(cuda)
    other.load_state_dict(pool.state_dict())
    assert_same(other.state_dict()["_extra_state"], pool.state_dict()["_extra_state"])


def test_a_policy_there_is_cloned_acts_and_is_evaluated(cuda):
    env = "InvertedPendulum-v4"
    envs = make_vec(env, 2)
    policy = Policy(envs.single_observation_space, envs.single_action_space, (8,)).to(cuda)
    obs, actions = torch.randn(300, 4), torch.rand(300, 1)
    rows = Transitions(obs, actions, obs, *[torch.zeros(300)] * 3).apply(lambda x: x.to(cuda))
    with torch.no_grad():
        before = -policy(rows.obs).log_prob(rows.actions).mean()
    metrics = clone_behaviour(policy, rows, BehaviourCloningConfig(n_steps=200, learning_rate=1e-2))
    assert float(metrics["validation_loss"]) < float(before)
    there = evaluate(Actor(policy), env, 3, seed=1)
    assert there.returns == evaluate(Actor(copy.deepcopy(policy).to("cpu")), env, 3, seed=1).returns


def test_a_gpu_that_is_not_there_is_refused_by_number(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert choose_device("auto") == torch.device("cuda")
    assert choose_device("cuda:1").index == 1
    with pytest.raises(UsageError, match=r"--device cuda:2: .* finds 2 CUDA devices, from cuda:0"):
        choose_device("cuda:2")


def test_the_pretence_refuses_what_cuda_refuses():
    with PretendCUDA():
        here, there = torch.ones(3), torch.zeros(3, device="cuda")
        for mix in (
            lambda: here + there,
            lambda: torch.cat((here, there)),
            lambda: torch.stack((here.sum(), there.sum())),
            lambda: here[there.long()],
            lambda: torch.zeros(()).add_(there.sum()),
            lambda: torch.mm(here.view(1, 3), here.view(3, 1), out=there.view(3, 1)[:1]),
        ):
            with pytest.raises(RuntimeError, match="same device"):
                mix()
        with pytest.raises(TypeError, match="can't convert cuda"):
            there.numpy()
        assert (there + 1).device.type == "cuda"
        assert there[here.long()].is_cuda
        assert not there.cpu().is_cuda
