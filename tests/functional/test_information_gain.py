"""Bayesian linear regression, where every posterior and what each row teaches are known in closed form."""

import pytest
import torch

from rlgen.nn.bayesian import BayesianNetwork


def sums_of_gains(dimension, n_rows=300, skip=0, likelihood_std=0.5, seed=0):
    """Over a stream of rows: the network's gains at the best factorised posterior, and the exact posterior's.

    The best factorised approximation of a Gaussian with precision L has its mean and the variances 1 / L_ii.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    network = BayesianNetwork(dimension - 1, 1, (), likelihood_std=likelihood_std, learn_likelihood_std=False).double()
    (layer,) = network.layers
    truth, precision, shift = (
        normal(dimension),
        torch.eye(dimension, dtype=torch.float64),
        torch.zeros(dimension).double(),
    )
    factorised = exact = 0.0
    for row in range(n_rows):
        x = torch.cat((normal(dimension - 1), torch.ones(1)))  # the bias is a weight like the others
        y = truth @ x + likelihood_std * normal(1)
        mean = torch.linalg.solve(precision, shift)
        layer.mean.data[0] = mean
        layer.rho.data[0] = torch.log(torch.expm1(precision.diagonal().rsqrt()))
        gain = network.information_gain(x[None, :-1], y[None])
        new_precision, new_shift = precision + torch.outer(x, x) / likelihood_std**2, shift + x * y / likelihood_std**2
        moved = torch.linalg.solve(new_precision, new_shift) - mean
        kl = 0.5 * (
            torch.trace(torch.linalg.solve(new_precision, precision))
            - dimension
            + moved @ precision @ moved
            + torch.logdet(new_precision)
            - torch.logdet(precision)
        )
        if row >= skip:
            factorised, exact = factorised + gain.item(), exact + kl.item()
        precision, shift = new_precision, new_shift
    return factorised, exact


def test_one_weight_is_exact_once_rows_teach_little():
    """With one weight nothing is lost by factorising, and the second order is all there is of a small step."""
    factorised, exact = sums_of_gains(1, n_rows=2000, skip=100)
    assert factorised == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize(("dimension", "late"), [(4, 1.1), (8, 1.15), (32, 1.25)])
def test_many_weights_are_overestimated_and_less_so_with_data(dimension, late):
    factorised, exact = sums_of_gains(dimension)
    assert factorised > 3 * exact  # a first row moves all weights far, each as if it were the only one
    factorised, exact = sums_of_gains(dimension, skip=150)
    assert 1.0 < factorised / exact < late
