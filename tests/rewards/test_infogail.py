"""The code posterior against exact values, and what a hidden code is hidden from."""

import copy
import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces

import rlgen
from rlgen import imitation
from rlgen.data.demonstrations import load_demonstrations
from rlgen.envs.codes import Coded, CodedEnv, Codes
from rlgen.errors import DemonstrationError
from rlgen.nn.normalizer import RewardScaler, RunningNormalizer
from rlgen.nn.policy import Policy
from rlgen.rewards.combine import HiddenCode
from rlgen.rewards.infogail import CodePosterior, PosteriorConfig
from rlgen.spaces import FlatBox
from rlgen.types import Transitions

DATA = Path(__file__).parents[2] / "expert_data"
BOX = spaces.Box(-1, 1, (1,), np.float32)


def steps(codes, observations):
    """Transitions of codes (rows `[n, width]`) and states `[n, D]`, which stay."""
    obs = torch.cat((codes, observations), 1)
    flags = torch.zeros(len(obs), dtype=torch.bool)
    return Transitions(obs, torch.zeros(len(obs), 1), obs, torch.zeros(len(obs)), flags, flags)


def posterior(codes, size, **config):
    space = FlatBox(spaces.Dict({"code": codes.space, "observation": spaces.Box(-np.inf, np.inf, (size,), np.float32)}))
    torch.manual_seed(0)
    return CodePosterior(codes, space, BOX, PosteriorConfig(**config))


def one_hot(rows, n):
    return torch.nn.functional.one_hot(torch.as_tensor(rows), n).float()


def test_the_bound_comes_to_the_exact_information_of_a_discrete_joint():
    joint = np.array([[0.3, 0.1, 0.1], [0.02, 0.38, 0.1]])  # code by state; codes are equally likely
    exact = (joint * np.log(joint / joint.sum(0) / joint.sum(1, keepdims=True))).sum()
    drawn = torch.from_numpy(np.random.default_rng(0).choice(6, 40_000, p=joint.ravel()))
    codes, states = drawn // 3, drawn % 3
    model = posterior(Codes(2), 3, pool_size=40_000, n_updates=200, learning_rate=3e-3)
    found = steps(one_hot(codes, 2), one_hot(states, 3))
    assert (model(found) == 0).all()  # a fresh one is undecided
    bounds = []
    for _ in range(8):
        bounds.append(float(model(found).mean()))
        model.update(found)
    assert float(model(found).mean()) == pytest.approx(exact, abs=0.005)
    assert max(bounds) <= exact + 0.01
    # Of each step, not of their mean.
    sure = steps(one_hot([0], 2), one_hot([0], 3))
    assert float(model(sure)) == pytest.approx(math.log(0.3 / 0.32 / 0.5), abs=0.05)


def test_a_gridworld_of_rooms_is_worth_log_k_to_skills_and_no_more():
    """A skill a room is DIAYN's optimum, log K exactly; skills that share rooms in pairs have log K/2."""
    k = 8
    for rooms, worth in ((torch.arange(k), math.log(k)), (torch.arange(k) // 2, math.log(k / 2))):
        skills = torch.arange(4096) % k
        model = posterior(Codes(k), k, n_updates=300, learning_rate=1e-2, batch_size=512)
        found = steps(one_hot(skills, k), one_hot(rooms[skills], k))
        for _ in range(3):
            metrics = model.update(found)
        rewards = model(found)
        assert float(rewards.mean()) == pytest.approx(worth, abs=0.01)
        assert float(rewards.max()) <= math.log(k)
    assert float(metrics["accuracy"]) == pytest.approx(0.5, abs=0.12)


@pytest.mark.parametrize("codes", [Codes(4), Codes(0, 2), Codes(3, 1)], ids=["categorical", "continuous", "both"])
def test_the_gradient_is_autograds(codes):
    model = posterior(codes, 3, net_arch=(5,), std=0.4)
    rng = np.random.default_rng(0)
    inputs = torch.randn(7, 6)
    targets = torch.from_numpy(np.stack([codes.row(codes.draw(rng)) for _ in range(7)]))
    for p in model.learned:
        p.data.normal_()
    loss = model.add_gradient(inputs, targets)
    closed = [p.grad.clone() for p in model.learned]
    outputs, n = model.network(inputs), codes.codes
    expected = torch.zeros(())
    if n:
        expected = torch.nn.functional.cross_entropy(outputs[:, :n], targets[:, :n].argmax(1))
    normal = torch.distributions.Normal(outputs[:, n:], 0.4)
    expected = expected - normal.log_prob(targets[:, n:]).sum(1).mean()
    torch.testing.assert_close(loss, expected.detach())
    for left, right in zip(closed, torch.autograd.grad(expected, list(model.network.parameters())), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-5)
    prior = -math.log(max(n, 1)) - codes.continuous_codes * math.log(2)
    torch.testing.assert_close(model.score(inputs, targets).mean(), -expected.detach() - prior)


def with_codes(env_id="Hopper-v4", n=4, codes=3, **changes):
    settings = imitation.settings()
    settings = dataclasses.replace(settings, code=imitation.CodeConfig(codes), **changes)
    envs = rlgen.make_vec(Coded(env_id, settings.code), n, seed=0)
    torch.manual_seed(0)
    policy = Policy(envs.single_observation_space, envs.single_action_space)
    demonstrations = load_demonstrations(DATA, env_id, 4, 20)
    model = imitation.with_codes(envs, settings, policy, demonstrations, imitation.gail)
    return envs, policy, model


def rollout(envs, n, seed=0):
    from rlgen.data.collect import Collector
    from rlgen.nn.policy import Actor

    policy = Policy(envs.single_observation_space, envs.single_action_space)
    return Collector(envs, n).collect(Actor(policy, np.random.default_rng(seed))).transitions


def test_gail_sees_no_code_and_the_posterior_does():
    envs, _, model = with_codes()
    found = rollout(envs, 64)
    for _ in range(3):
        model.update(found)
    other = found.obs.clone(), found.next_obs.clone()
    for x in other:
        x[..., :3] = x[..., :3].roll(1, -1)
    changed = dataclasses.replace(found, obs=other[0], next_obs=other[1])
    hidden, code = (model.terms[name][0] for name in ("imitation", "code"))
    assert isinstance(hidden, HiddenCode)
    assert found.terminated.any()
    torch.testing.assert_close(hidden(found), hidden(changed), rtol=0, atol=0)
    assert not torch.allclose(code(found), code(changed))
    torch.testing.assert_close(model(found), hidden(found) + 0.3 * code(found))
    assert hidden._hidden(found) is hidden._hidden(found)  # by which a model knows what it has scored


def test_the_imitator_is_that_of_plain_gail_to_the_last_bit():
    """On the observations without codes: same statistics, same rewards, same learning."""
    envs, _, model = with_codes()
    found = rollout(envs, 64)
    plain_envs = rlgen.make_vec("Hopper-v4", 4, seed=0)
    settings = imitation.settings()
    policy = Policy(plain_envs.single_observation_space, plain_envs.single_action_space)
    expert = settings.expert(plain_envs, policy, load_demonstrations(DATA, "Hopper-v4", 4, 20))
    plain = imitation.gail(settings, policy, expert)
    hidden = model.terms["imitation"][0]
    plain.load_state_dict(hidden.model.state_dict())
    bare = dataclasses.replace(found, obs=found.obs[..., 3:], next_obs=found.next_obs[..., 3:])
    for _ in range(2):
        torch.testing.assert_close(hidden(found), plain(bare), rtol=0, atol=0)
        states = []
        for one, seen in ((hidden, found), (plain, bare)):
            torch.manual_seed(1)
            one(seen)
            states.append(one.update(seen))
        assert states[0] == states[1]


def test_statistics_begin_with_the_experts_and_with_the_codes_prior():
    _, policy, _ = with_codes()
    expert = load_demonstrations(DATA, "Hopper-v4", 4, 20).transitions.obs
    torch.testing.assert_close(policy.normalizer.mean[3:], expert.double().mean(0))
    torch.testing.assert_close(policy.normalizer.mean[:3], torch.full((3,), 1 / 3, dtype=torch.float64))
    torch.testing.assert_close(policy.normalizer.var[:3], torch.full((3,), 2 / 9, dtype=torch.float64))
    assert float(policy.normalizer.count) == 2000


def test_a_part_of_statistics_is_the_same_as_they():
    whole, apart = RunningNormalizer(5), RunningNormalizer(3)
    part = whole.part(slice(2, None))
    for _ in range(3):
        rows = 3 * torch.randn(40, 5) + 1
        whole.update(rows)
        apart.update(rows[:, 2:])
        torch.testing.assert_close(part(rows[:, 2:]), apart(rows[:, 2:]), rtol=0, atol=0)
    part.update(torch.ones(10, 3))
    torch.testing.assert_close(whole.mean[2:], part.mean, rtol=0, atol=0)
    assert float(whole.count) == float(part.count) == 130


def test_a_sure_posterior_does_not_pay_for_living_on():
    """What one policy earns in 20 steps and another, as sure, in 400: no more, once the mean is taken off."""
    codes = torch.arange(400) % 4
    found = steps(one_hot(codes, 4), one_hot(codes, 4))
    worth = {}
    for neutral in (False, True):
        model = posterior(Codes(4), 4, n_updates=300, learning_rate=1e-2)
        model.neutral = neutral
        for _ in range(30):
            model.update(found)
        rewards = model(found)
        discounts = 0.99 ** torch.arange(400)
        worth[neutral] = [float((discounts * rewards)[:n].sum()) for n in (20, 400)]
    assert worth[False][1] - worth[False][0] > 50 * math.log(4)
    assert abs(worth[True][1] - worth[True][0]) < 5 * math.log(4)


def test_centring_alone_changes_no_rank():
    """So it wouldn't do: a life of log K a step keeps its lead over a short one."""
    rewards, terminated = torch.full((400, 2), math.log(4)), torch.zeros(400, 2, dtype=torch.bool)
    terminated[19::20, 0] = True
    scaler = RewardScaler(2, 0.99, centre=True)
    centred = scaler(rewards, terminated, torch.zeros_like(terminated))
    discounts = 0.99 ** torch.arange(400)
    short, long = (discounts * centred[:, 0])[:20].sum(), (discounts * centred[:, 1]).sum()
    assert long > short + 1


def test_it_goes_on_exactly():
    (envs, _, one), (_, _, two) = with_codes(), with_codes()
    found = rollout(envs, 32)
    one.update(found)
    two.load_state_dict(copy.deepcopy(one.state_dict()))
    for model in (one, two):
        torch.manual_seed(3)
        model.update(found)
    torch.testing.assert_close(one(found), two(found), rtol=0, atol=0)


def labelled_demonstrations(labels):
    drawn = load_demonstrations(DATA, "Hopper-v4", 4, 20)
    episode = np.repeat(np.arange(4), len(drawn.transitions.rewards) // 4)
    return dataclasses.replace(drawn, labels=torch.from_numpy(np.array(labels)[episode]))


@pytest.mark.parametrize("continuous", [0, 2])
def test_labels_join_the_loss(continuous):
    """The gradient of the sum of both losses, by autograd; rows without a label, and codes that none tells, are out."""
    codes = imitation.CodeConfig(3, continuous)
    drawn = labelled_demonstrations([-1, 2, 0, -1])
    told = imitation.labelled_transitions(drawn, drawn.transitions, codes)
    assert len(told.rewards) == 100
    assert sorted(told.obs[:, :3].argmax(1).unique().tolist()) == [0, 2]
    torch.testing.assert_close(told.obs[:50, 3 + continuous :], drawn.transitions.obs[50:100])
    model = posterior(codes, 11)
    for p in model.learned:
        p.data.normal_()
    model.labelled = told
    inputs = torch.randn(9, 22)
    targets = torch.cat((one_hot(torch.arange(9) % 3, 3), torch.rand(9, continuous)), 1)
    torch.manual_seed(5)
    model.add_gradient(inputs, targets)
    torch.manual_seed(5)
    rows = told[torch.randint(100, (9,))]
    cross = torch.nn.functional.cross_entropy
    outputs, of_labelled = model.network(inputs), model.network(model.coder.inputs(rows))
    expected = cross(outputs[:, :3], targets[:, :3].argmax(1)) + cross(of_labelled[:, :3], rows.obs[:, :3].argmax(1))
    expected = expected + ((outputs - targets)[:, 3:] / 0.3).square().sum(1).mean() / 2
    for p, gradient in zip(model.learned, torch.autograd.grad(expected, list(model.network.parameters())), strict=True):
        torch.testing.assert_close(p.grad, gradient, rtol=1e-4, atol=1e-5)


def test_labels_that_are_no_codes_are_refused():
    drawn = labelled_demonstrations([-1, 2, 0, -1])
    with pytest.raises(DemonstrationError, match="a label is 2, and codes is 2"):
        imitation.labelled_transitions(drawn, drawn.transitions, imitation.CodeConfig(2))
    for none in (dataclasses.replace(drawn, labels=None), labelled_demonstrations([-1] * 4)):
        with pytest.raises(DemonstrationError, match="tells no mode"):
            imitation.labelled_transitions(none, none.transitions, imitation.CodeConfig(3))


def test_codes_are_of_the_environments():
    assert isinstance(with_codes()[0], CodedEnv)
