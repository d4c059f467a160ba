import torch
from torch.nn import functional as F

from rlgen.functional.adversarial import (
    bernoulli_entropy,
    discriminator_loss,
    gradient_penalty,
    reward_log_d,
    reward_logit,
    reward_softplus,
)

LOGITS = torch.linspace(-6, 6, 25, dtype=torch.float64)


def test_rewards_are_their_formulas_and_stay_finite():
    d = torch.sigmoid(LOGITS)
    torch.testing.assert_close(reward_softplus(LOGITS), -torch.log1p(-d))
    torch.testing.assert_close(reward_log_d(LOGITS), d.log())
    torch.testing.assert_close(reward_logit(LOGITS), d.log() - torch.log1p(-d))
    huge = torch.tensor([-1e4, 1e4])
    for reward in (reward_softplus, reward_log_d, reward_logit):
        assert reward(huge).isfinite().all()


def test_survival_bias_signs():
    assert (reward_softplus(LOGITS) > 0).all()
    assert (reward_log_d(LOGITS) < 0).all()


def test_loss_is_the_cross_entropy_less_the_entropy():
    policy, expert = LOGITS, LOGITS.flip(0) + 0.3
    entropy = torch.distributions.Bernoulli(logits=LOGITS).entropy()
    torch.testing.assert_close(bernoulli_entropy(LOGITS), entropy)
    bce = F.binary_cross_entropy_with_logits
    expected = bce(policy, torch.zeros_like(policy)) + bce(expert, torch.full_like(expert, 0.9))
    expected -= 0.1 * (entropy.mean() + torch.distributions.Bernoulli(logits=expert).entropy().mean())
    torch.testing.assert_close(discriminator_loss(policy, expert, 0.9, 0.1), expected)


def test_gradient_penalty_of_a_linear_network():
    weight = torch.tensor([3.0, 4.0])
    x, y = torch.randn(8, 2), torch.randn(8, 2)
    torch.testing.assert_close(gradient_penalty(lambda z: z @ weight, x, y), torch.tensor(25.0))
    torch.testing.assert_close(gradient_penalty(lambda z: z @ weight, x, y, target_norm=1.0), torch.tensor(16.0))


def test_nothing_but_the_cross_entropy_unless_told():
    torch.testing.assert_close(
        discriminator_loss(LOGITS, LOGITS + 1), F.softplus(LOGITS).mean() + F.softplus(-LOGITS - 1).mean()
    )


def test_the_penalty_is_taken_between_pairs_of_both_sides():
    x, y, seen = torch.zeros(200, 2), torch.ones(200, 2) * torch.tensor([1.0, -3.0]), []

    def network(z):
        seen.append(z.detach())
        return z.sum(1)

    gradient_penalty(network, x, y)
    shares = seen[0] / y
    torch.testing.assert_close(shares[:, 0], shares[:, 1])
    assert 0 <= shares.min() < 0.1
    assert 0.9 < shares.max() <= 1
    x += 5
    seen.clear()
    gradient_penalty(network, x, x)
    torch.testing.assert_close(seen[0], x)
