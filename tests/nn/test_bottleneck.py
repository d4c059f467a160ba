import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from rlgen.nn.bottleneck import Bottleneck, information


def test_information_is_the_kl_from_the_prior():
    mean, log_std = torch.randn(5, 3), torch.randn(5, 3)
    exact = kl_divergence(
        Independent(Normal(mean, log_std.exp()), 1), Independent(Normal(torch.zeros(5, 3), torch.ones(5, 3)), 1)
    )
    torch.testing.assert_close(information(mean, log_std), exact)


def test_the_multiplier_rises_while_the_limit_is_exceeded_and_falls_to_nothing():
    bottleneck, rows = Bottleneck(3, limit=0.5, step=0.1), torch.randn(2000, 3)
    with torch.no_grad():
        bottleneck.encoder.weight[3:] = 0  # deviations are 1, so that the mean's square alone tells
        bottleneck.encoder.weight[:3] = torch.eye(3)
    excess = float(0.5 * rows.square().sum(-1).mean() - 0.5)
    assert excess > 0.8
    for beta in (0, 0.1 * excess):
        bottleneck(rows)
        assert bottleneck.penalty().item() == pytest.approx(beta * excess, rel=1e-5)
    assert bottleneck.metrics()["information_weight"] == pytest.approx(0.2 * excess, rel=1e-5)
    bottleneck(torch.zeros(4, 3))
    bottleneck.penalty()
    assert bottleneck.beta == pytest.approx(0.2 * excess - 0.05, rel=1e-4)
    for _ in range(9):
        bottleneck(torch.zeros(4, 3))
        bottleneck.penalty()
    assert bottleneck.beta == 0


def test_it_samples_in_training_alone():
    bottleneck, rows = Bottleneck(3, limit=0.5), torch.zeros(20_000, 3)
    assert bottleneck(rows).detach().std() == pytest.approx(1, abs=0.02)
    assert torch.equal(bottleneck.eval()(rows), torch.zeros(20_000, 3))
