import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.func import functional_call

from rlgen.nn.policy import Critic, Policy
from rlgen.optim.trpo import TRPO, TRPOConfig, fisher_product, policy_parameters
from rlgen.types import PolicyBatch

OBS = spaces.Box(-np.inf, np.inf, (4,), np.float64)
ACTIONS = [spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(3)]


@pytest.mark.parametrize("actions", ACTIONS)
def test_fisher_product_is_the_kls_hessian(actions):
    policy = Policy(OBS, actions, net_arch=(5, 6), log_std_init=-0.3)
    policy.network.double()  # whose statistics are not used here
    if policy.log_std is not None:
        policy.log_std.data = policy.log_std.data.double()
    policy.network[-1].weight.data.normal_()
    inputs = torch.randn(30, 4, dtype=torch.float64)
    names = [f"{name}" for name, _ in policy.network.named_parameters(prefix="network")]
    names += ["log_std"] if policy.log_std is not None else []
    parameters = policy_parameters(policy)
    sizes = [p.numel() for p in parameters]
    old = policy.head(policy.network(inputs)).detach()

    def kl(flat):
        parts = {n: x.view(p.shape) for n, x, p in zip(names, flat.split(sizes), parameters, strict=True)}
        network = {n.removeprefix("network."): x for n, x in parts.items() if n != "log_std"}
        output = functional_call(policy.network, network, inputs)
        new = type(old)(output, parts["log_std"]) if "log_std" in parts else type(old)(output)
        return old.kl(new).mean()

    flat = torch.cat([p.detach().flatten() for p in parameters])
    hessian = torch.autograd.functional.hessian(kl, flat)
    product = fisher_product(policy, inputs, damping=0.1)
    for _ in range(3):
        vector = torch.randn_like(flat)
        torch.testing.assert_close(product(vector), hessian @ vector + 0.1 * vector, rtol=1e-9, atol=1e-10)


def batch_of(policy, critic, actions, rows=2000):
    obs = torch.randn(rows, 4)
    with torch.no_grad():
        distribution = policy(obs)
        if isinstance(actions, spaces.Discrete):
            sampled = torch.distributions.Categorical(logits=distribution.logits).sample()
        else:
            sampled = distribution.mean + distribution.log_std.exp() * torch.randn_like(distribution.mean)
        log_probs, values = distribution.log_prob(sampled), critic(obs)
    advantages = torch.randn(rows)
    return PolicyBatch(obs, sampled, log_probs, values, advantages, advantages + values)


@pytest.mark.parametrize("actions", ACTIONS)
def test_each_step_keeps_the_kl_and_improves(actions):
    policy = Policy(OBS, actions)
    critic = Critic(policy.normalizer)
    trpo = TRPO(policy, critic, TRPOConfig(target_kl=0.01, n_critic_updates=1))
    for _ in range(10):
        batch = batch_of(policy, critic, actions)
        with torch.no_grad():
            old = policy(batch.obs)
            old = old.detach() if isinstance(actions, spaces.Discrete) else type(old)(old.mean, old.log_std.clone())
        metrics = trpo.update(batch)
        with torch.no_grad():
            kl = old.kl(policy(batch.obs)).mean()
        torch.testing.assert_close(metrics["kl"], kl, rtol=1e-3, atol=1e-6)
        assert 0.001 < kl <= 0.01
        assert metrics["surrogate_improvement"] > 0


def test_a_step_without_gain_leaves_the_policy():
    policy = Policy(OBS, ACTIONS[0])
    critic = Critic(policy.normalizer)
    before = [p.clone() for p in policy.parameters()]
    batch = batch_of(policy, critic, ACTIONS[0])
    nothing = torch.zeros_like(batch.advantages)
    trpo = TRPO(policy, critic, TRPOConfig(n_critic_updates=0))
    trpo.update(PolicyBatch(batch.obs, batch.actions, batch.log_probs, batch.values, nothing, batch.returns))
    for p, q in zip(policy.parameters(), before, strict=True):
        assert torch.equal(p, q)


def test_sub_sampling_factor_takes_fewer_rows():
    policy = Policy(OBS, ACTIONS[0])
    inputs = torch.randn(100, 4)
    full, tenth = fisher_product(policy, inputs, 0.0), fisher_product(policy, inputs[::10], 0.0)
    vector = torch.randn(sum(p.numel() for p in policy_parameters(policy)))
    a, b = full(vector), tenth(vector)
    assert not torch.equal(a, b)
    assert torch.cosine_similarity(a, b, 0) > 0.8


@pytest.mark.parametrize(("progress_remaining", "share"), [(None, 1.0), (1.0, 1.0), (0.5, 0.6), (0.0, 0.2)])
def test_steps_shorten_to_their_final_share(progress_remaining, share):
    policy = Policy(OBS, ACTIONS[0])
    critic = Critic(policy.normalizer)
    config = TRPOConfig(target_kl=1e-3, final_share=0.2, n_critic_updates=1)
    trpo = TRPO(policy, critic, config)
    told = () if progress_remaining is None else (progress_remaining,)
    metrics = trpo.update(batch_of(policy, critic, ACTIONS[0]), *told)
    # The KL of so short a step is the quadratic one, less what damping takes, unless a search had to shorten it.
    assert 0.4 * share < float(metrics["kl"]) / config.target_kl <= share
    assert trpo.critic_regression.learning_rate == pytest.approx(config.learning_rate * share)
