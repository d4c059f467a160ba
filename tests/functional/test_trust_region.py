import pytest
import torch

from rlgen.functional.trust_region import conjugate_gradient, line_search


def spd(size=20):
    root = torch.randn(size, size, dtype=torch.float64)
    return root @ root.T + torch.eye(size, dtype=torch.float64)


def test_conjugate_gradient_solves_the_system():
    matrix, b = spd(), torch.randn(20, dtype=torch.float64)
    x = conjugate_gradient(lambda v: matrix @ v, b, max_steps=60, tolerance=1e-24)
    torch.testing.assert_close(x, torch.linalg.solve(matrix, b), rtol=1e-9, atol=1e-9)


def test_conjugate_gradient_of_zero_is_zero():
    assert not conjugate_gradient(lambda v: v, torch.zeros(3)).any()


def test_line_search_takes_the_longest_step_allowed():
    def evaluate(step):
        return step.sum(), step.square().sum()

    step = line_search(evaluate, torch.tensor([2.0]), max_kl=1.0, shrinking_factor=0.5)
    assert step == (0.5, 1.0, 1.0)


NAN, ZERO, ONE = torch.tensor(float("nan")), torch.tensor(0.0), torch.tensor(1.0)


@pytest.mark.parametrize("result", [(-ONE, ZERO), (NAN, ZERO), (ONE, NAN)])
def test_line_search_gives_up_where_it_started(result):
    calls = []

    def evaluate(step):
        calls.append(step)
        return result if step.any() else (ZERO, ZERO)

    assert line_search(evaluate, torch.ones(2), 1.0) == (0.0, ZERO, ZERO)
    assert not calls[-1].any()


def test_searches_take_as_long_as_their_defaults_tell():
    shares = []

    def evaluate(step):
        shares.append(float(step))
        return -ONE, ZERO

    line_search(evaluate, torch.ones(1), 1.0)
    assert shares == pytest.approx([*(0.8**k for k in range(10)), 0.0])

    products = []
    matrix = torch.diag(torch.logspace(0, 6, 40, dtype=torch.float64))
    conjugate_gradient(lambda v: products.append(v) or matrix @ v, torch.ones(40, dtype=torch.float64))
    assert len(products) == 15
    products.clear()
    conjugate_gradient(lambda v: products.append(v) or v * (1 + 1e-4 * torch.arange(40)), torch.ones(40))
    assert len(products) == 2  # whose residual is below 1e-5 of b
