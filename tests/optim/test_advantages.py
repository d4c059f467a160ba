import numpy as np
import torch
from gymnasium import spaces

from rlgen.nn.policy import Critic, Policy
from rlgen.optim.advantages import policy_batch, standardize
from rlgen.types import Rollout, Transitions

OBS, BOX = spaces.Box(-np.inf, np.inf, (3,), np.float64), spaces.Box(-1, 1, (2,), np.float32)
GAMMA, LAMBDA = 0.95, 0.8


def test_a_truncated_step_bootstraps_from_its_true_successor_and_a_terminated_one_never():
    policy = Policy(OBS, BOX)
    policy.normalizer.update(torch.randn(100, 3))
    critic = Critic(policy.normalizer)
    steps, n_envs = 12, 4
    ends = torch.rand(steps, n_envs)
    terminated, truncated = ends < 0.15, ends > 0.85
    assert terminated.any()
    assert truncated.any()
    obs = torch.randn(steps + 1, n_envs, 3)
    over = (terminated | truncated).unsqueeze(-1)
    next_obs = torch.where(over, torch.randn(steps, n_envs, 3), obs[1:])
    sampled = torch.randn(steps, n_envs, 2)
    rewards = torch.randn(steps, n_envs)
    transitions = Transitions(obs[:-1], sampled.clamp(-1, 1), next_obs, torch.zeros(()), terminated, truncated)
    batch = policy_batch(policy, critic, Rollout(transitions, sampled, []), rewards, GAMMA, LAMBDA)

    with torch.no_grad():
        values, successors = critic(obs[:-1]), critic(next_obs)  # every successor on its own
        log_probs = policy(obs[:-1]).log_prob(sampled)
    expected = torch.zeros(steps, n_envs)
    for i in range(n_envs):
        following = 0.0
        for t in reversed(range(steps)):
            error = rewards[t, i] + GAMMA * successors[t, i] * (not terminated[t, i]) - values[t, i]
            following = error + GAMMA * LAMBDA * following * (not over[t, i])
            expected[t, i] = following
    torch.testing.assert_close(batch.advantages, expected.flatten(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(batch.returns, (expected + values).flatten(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(batch.log_probs, log_probs.flatten())


def test_standardised_advantages_have_mean_0_and_deviation_1_unless_nothing_differs():
    x = standardize(3 + 5 * torch.randn(1000))
    assert abs(float(x.mean())) < 1e-5
    assert abs(float(x.std()) - 1) < 1e-5
    assert not standardize(torch.full((8,), 2.0)).any()
    torch.testing.assert_close(
        standardize(torch.tensor([-1e-8, 1e-8])), torch.tensor([-0.41421, 0.41421]), rtol=1e-3, atol=0
    )
