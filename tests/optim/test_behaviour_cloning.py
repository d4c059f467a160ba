import numpy as np
import pytest
import torch
from gymnasium import spaces

from rlgen.nn.policy import Policy
from rlgen.optim.behaviour_cloning import BehaviourCloningConfig, clone_behaviour
from rlgen.types import Transitions

OBS, BOX = spaces.Box(-np.inf, np.inf, (3,), np.float64), spaces.Box(-1, 1, (2,), np.float32)


def pairs(n, noise=0.1):
    obs = torch.randn(n, 3)
    actions = 0.3 * obs[:, :2] - 0.1 + noise * torch.randn(n, 2)
    zeros = torch.zeros(n)
    return Transitions(obs, actions, obs, zeros, zeros.bool(), zeros.bool())


@pytest.mark.parametrize("validation_share", [0.0, 0.3])
def test_the_clone_is_the_expert_with_its_noise(validation_share):
    policy = Policy(OBS, BOX, (32,))
    config = BehaviourCloningConfig(learning_rate=3e-3, n_steps=1500, validation_share=validation_share)
    clone_behaviour(policy, pairs(2000), config)
    fresh = pairs(500, noise=0.0)
    with torch.no_grad():
        distribution = policy(fresh.obs)
    assert (distribution.mean - fresh.actions).abs().mean() < 0.03
    torch.testing.assert_close(distribution.log_std.exp(), torch.full((2,), 0.1), rtol=0.15, atol=0)


def test_the_weights_kept_are_those_with_the_best_held_out_likelihood():
    few = pairs(20, noise=0.5)
    torch.manual_seed(1)
    stopped = Policy(OBS, BOX, (64, 64))
    metrics = clone_behaviour(stopped, few, BehaviourCloningConfig(n_steps=1500))
    assert metrics["training_loss"] < metrics["validation_loss"] < 5


def test_the_held_out_pairs_are_looked_at_every_hundred_steps_and_at_the_end():
    class Counting(Policy):
        looks = 0

        def forward(self, obs):
            Counting.looks += len(obs) == 6  # 30% of 20, and no minibatch
            return super().forward(obs)

    policy = Counting(OBS, BOX, (8,))
    clone_behaviour(policy, pairs(20), BehaviourCloningConfig(n_steps=250))
    assert policy.looks == 3
