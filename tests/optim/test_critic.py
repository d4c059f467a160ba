import copy

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.nn import functional as F

from rlgen.nn.policy import Critic, Policy
from rlgen.optim.critic import CriticRegression, explained_variance


@pytest.mark.parametrize("max_grad_norm", [0.5, 1e3])
def test_a_fit_is_what_autograd_clipping_and_adam_do(max_grad_norm):
    policy = Policy(spaces.Box(-np.inf, np.inf, (4,), np.float64), spaces.Discrete(3))
    obs, returns = torch.randn(50, 4), 5 * torch.randn(50)
    policy.normalizer.update(obs)
    critic = Critic(policy.normalizer, (8, 8))
    theirs = copy.deepcopy(critic)
    regression = CriticRegression(critic, 1e-2, max_grad_norm)
    torch.manual_seed(0)
    loss = regression.fit(obs, returns, n_epochs=3, batch_size=20)  # the last minibatch has 10 rows
    regression.learning_rate = 5e-3
    regression.fit(obs, returns, n_epochs=1, batch_size=20)

    adam = torch.optim.Adam(theirs.network.parameters(), 1e-2)
    torch.manual_seed(0)
    losses = []
    for epoch in range(4):
        adam.param_groups[0]["lr"] = 1e-2 if epoch < 3 else 5e-3
        for rows in torch.randperm(50).split(20):
            error = F.mse_loss(theirs(obs[rows]), returns[rows])
            adam.zero_grad()
            error.backward()
            torch.nn.utils.clip_grad_norm_(theirs.network.parameters(), max_grad_norm)
            adam.step()
            losses.append(error.detach() * len(rows) / 50)
    torch.testing.assert_close(loss, sum(losses[6:9]))
    for name, tensor in critic.state_dict().items():
        torch.testing.assert_close(tensor, theirs.state_dict()[name], rtol=1e-4, atol=1e-5)
    # Adam doesn't see a gradient's scale, so the last one is compared itself.
    for ours, other in zip(critic.network.parameters(), theirs.network.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, other.grad, rtol=1e-3, atol=1e-4)


def test_gradients_are_clipped_at_a_half_unless_told():
    policy = Policy(spaces.Box(-np.inf, np.inf, (4,), np.float64), spaces.Discrete(3))
    assert CriticRegression(Critic(policy.normalizer), 1e-3).max_grad_norm == 0.5


def test_explained_variance_is_one_less_the_share_left():
    returns = torch.tensor([1.0, 2.0, 3.0, 6.0])  # variance 14 / 3
    assert explained_variance(returns, returns) == 1
    assert explained_variance(torch.zeros(4), returns) == 0
    torch.testing.assert_close(explained_variance(0.5 * returns, returns), torch.tensor(0.75))
    torch.testing.assert_close(explained_variance(-returns, returns), torch.tensor(-3.0))
