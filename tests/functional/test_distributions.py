import numpy as np
import pytest
import torch
from torch import distributions as reference

from rlgen.functional.distributions import Categorical, Gaussian


@pytest.fixture
def pairs():
    generator = torch.Generator().manual_seed(1)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    gaussians = [Gaussian(normal(7, 3), 0.3 * normal(3)) for _ in range(2)]
    categoricals = [Categorical(normal(7, 4)) for _ in range(2)]
    return [
        (gaussians, [reference.Independent(reference.Normal(g.mean, g.log_std.exp()), 1) for g in gaussians]),
        (categoricals, [reference.Categorical(logits=c.logits) for c in categoricals]),
    ]


def test_equal_to_torch_distributions(pairs):
    for (p, q), (rp, rq) in pairs:
        actions = rp.sample()
        torch.testing.assert_close(p.log_prob(actions), rp.log_prob(actions))
        torch.testing.assert_close(p.entropy(), rp.entropy())
        torch.testing.assert_close(p.kl(q), reference.kl_divergence(rp, rq))
        assert torch.allclose(p.kl(p), torch.zeros(7, dtype=torch.float64), atol=1e-12)


def test_fisher_output_is_the_kls_hessian(pairs):
    for (p, _), _ in pairs:
        output = p.mean if isinstance(p, Gaussian) else p.logits
        row = output[0]

        def kl(x, p=p):
            moved = Gaussian(x, p.log_std) if isinstance(p, Gaussian) else Categorical(x)
            return p[0].kl(moved)

        hessian = torch.autograd.functional.hessian(kl, row)
        tangent = torch.from_numpy(np.random.default_rng(0).normal(size=row.shape))
        torch.testing.assert_close(p[0].fisher_output(tangent), hessian @ tangent)


def test_gradients_equal_autograd(pairs):
    for (p, _), (reference_p, _) in pairs:
        actions, weights = reference_p.sample(), torch.linspace(-1, 2, 7, dtype=torch.float64)
        parameters = [p.mean, p.log_std] if isinstance(p, Gaussian) else [p.logits]
        for parameter in parameters:
            parameter.requires_grad_()
        expected = torch.autograd.grad((weights * p.log_prob(actions)).sum(), parameters)
        torch.testing.assert_close(p.detach().log_prob_gradient(actions, weights), list(expected))
        expected = torch.autograd.grad(p.entropy().mean(), parameters, materialize_grads=True)
        torch.testing.assert_close(p.detach().entropy_gradient(), list(expected))


def test_likelihood_of_a_clipped_action_sums_to_one():
    """Density inside plus both tails' mass: by quadrature over the inside."""
    gaussian = Gaussian(torch.tensor([0.4], dtype=torch.float64), torch.tensor([0.2], dtype=torch.float64))
    low, high = torch.tensor([-1.0]), torch.tensor([1.5])
    inside = torch.linspace(-1, 1.5, 100_001, dtype=torch.float64)[1:-1, None]
    mass = gaussian.clipped_log_prob(inside, low, high).exp().sum() * 2.5 / 100_000
    ends = sum(gaussian.clipped_log_prob(end[None].double(), low, high).exp().sum() for end in (low, high))
    assert float(mass + ends) == pytest.approx(1, abs=1e-4)
    torch.testing.assert_close(gaussian.clipped_log_prob(inside, low, high), gaussian.log_prob(inside))
