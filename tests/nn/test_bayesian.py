import math

import pytest
import torch
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from rlgen.functional.information_gain import gaussian_kl
from rlgen.nn.bayesian import BayesianNetwork, FactorisedGaussian, standard_noise

VARIANTS = [
    {"net_arch": (6,)},
    {"net_arch": (6, 5)},
    {"net_arch": ()},
    {"net_arch": (), "n_samples": 4},
    {"net_arch": (6,), "analytic_output": False},
    {"net_arch": (6, 5), "analytic_output": False, "shared_noise": True, "n_samples": 3},
    {"net_arch": (6,), "n_samples": 4, "learn_likelihood_std": False, "likelihood_std": 5.0},
]


@pytest.fixture(params=VARIANTS, ids=str)
def network(request):
    torch.manual_seed(0)
    network = BayesianNetwork(4, 3, **request.param).double()
    for layer in network.layers:
        layer.rho.data += 0.5 * torch.randn_like(layer.rho)
    return network


def rows(count=7):
    return torch.randn(count, 4, dtype=torch.float64), torch.randn(count, 3, dtype=torch.float64)


def noises(network, count):
    """The noise that the network draws next, layer by layer; the generator is put back."""
    state = torch.get_rng_state()
    n_rows = 1 if network.shared_noise else count
    drawn = [standard_noise(network.n_samples, n_rows, layer.mean.t()) for layer in network.layers]
    torch.set_rng_state(state)
    return drawn


def test_noise_is_standard_and_its_second_half_mirrors_the_first():
    torch.manual_seed(0)
    noise = standard_noise(3, 20_001, torch.empty(2, dtype=torch.float64))
    assert noise.shape == (3, 20_001, 2)
    assert noise[:, :10_001].mean().abs() < 0.02
    assert noise.var() == pytest.approx(1, abs=0.02)
    torch.testing.assert_close(noise[:, 10_001:], -noise[:, :10_000])
    assert abs(torch.corrcoef(noise[:, :10_001].reshape(-1, 2).t())[0, 1]) < 0.02


def negative_log_likelihood(network, noise, x, y):
    """By definition, for one row, averaged over samples: `noise` holds [S, m] for each layer."""
    h = x.expand(network.n_samples, -1)
    for i, (layer, zeta) in enumerate(zip(network.layers, noise, strict=True)):
        h = F.pad(h, (0, 1), value=1.0)
        mean, variance = h @ layer.mean.T, h.square() @ F.softplus(layer.rho).square().T
        last = i == len(network.layers) - 1
        h = mean + variance.sqrt() * zeta
        h = h if last else h.relu()
    tau2 = network.likelihood_variance
    squared = (mean - y).square() + variance if network.analytic_output else (h - y).square()
    return 0.5 * (squared / tau2 + torch.log(2 * math.pi * tau2)).sum(-1).mean()


class Loss(torch.nn.Module):
    """`negative_log_likelihood` as a module, so that `functional_call` can put parameters in."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, noise, x, y):
        return negative_log_likelihood(self.network, noise, x, y)


def per_row(network, noise, row):
    return [zeta[:, row if len(zeta[0]) > 1 else 0] for zeta in noise]


def test_training_gradient_is_autograds(network):
    inputs, targets = rows()
    noise = noises(network, len(inputs))
    nll = network.add_loss_gradient(inputs, targets, kl_weight=0.3)
    found = [p.grad.clone() for p in network.parameters() if p.requires_grad]

    losses = [
        negative_log_likelihood(network, per_row(network, noise, i), *row)
        for i, row in enumerate(zip(inputs, targets, strict=True))
    ]
    mean = torch.stack(losses).mean()
    learned = [p for p in network.parameters() if p.requires_grad]
    expected = torch.autograd.grad(mean + 0.3 * network.kl(), learned)
    torch.testing.assert_close(nll, mean.detach())
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_information_gain_equals_per_row_gradients(network):
    inputs, targets = rows()
    noise = noises(network, len(inputs))
    found = network.information_gain(inputs, targets, step_size=0.1)

    parameters = {f"network.{name}": p.detach() for name, p in network.named_parameters() if "layers" in name}
    loss = Loss(network)
    stacked = [torch.stack([per_row(network, noise, i)[k] for i in range(len(inputs))]) for k in range(len(noise))]
    gradients = vmap(grad(lambda p, z, x, y: functional_call(loss, p, (z, x, y))), in_dims=(None, 0, 0, 0))(
        parameters, stacked, inputs, targets
    )
    expected = torch.zeros(len(inputs), dtype=torch.float64)
    for name, g in gradients.items():
        rho = parameters[name.replace("mean", "rho")]
        curvature = 1 / F.softplus(rho).square()
        if name.endswith("rho"):
            curvature = 2 * torch.sigmoid(rho).square() * curvature
        expected += (g.square() / curvature).flatten(1).sum(1)
    torch.testing.assert_close(found, 0.5 * 0.1**2 * expected, rtol=1e-10, atol=0)


def test_information_gain_is_the_kl_of_a_small_natural_gradient_step(network):
    """The exact KL of the stepped posterior, to second order in the step."""
    (x,), (y,) = rows(1)
    ratios = []
    for step in (1e-2, 1e-3):
        noise = noises(network, 1)
        gain = network.information_gain(x[None], y[None], step)
        learned = [p for layer in network.layers for p in (layer.mean, layer.rho)]
        gradients = torch.autograd.grad(negative_log_likelihood(network, per_row(network, noise, 0), x, y), learned)
        moved = torch.zeros((), dtype=torch.float64)
        for layer, g_mean, g_rho in zip(network.layers, gradients[::2], gradients[1::2], strict=True):
            std = layer.std.detach()
            new_mean = layer.mean.detach() - step * g_mean * std.square()
            curvature = 2 * torch.sigmoid(layer.rho.detach()).square() / std.square()
            new_std = F.softplus(layer.rho.detach() - step * g_rho / curvature)
            moved += gaussian_kl(new_mean, new_std, layer.mean.detach(), std)
        ratios.append(float(moved / gain))
    assert abs(ratios[1] - 1) < 1e-2
    assert abs(ratios[1] - 1) < 0.2 * abs(ratios[0] - 1) + 1e-4


def test_rows_are_independent_and_gains_finite_and_not_negative():
    network = BayesianNetwork(4, 3, shared_noise=True)
    inputs, targets = torch.randn(50, 4), torch.randn(50, 3)
    torch.manual_seed(5)
    gains = network.information_gain(inputs, targets)
    assert (gains >= 0).all()
    torch.manual_seed(5)
    some = network.information_gain(inputs[10:20], targets[10:20])
    torch.testing.assert_close(some, gains[10:20])
    assert torch.isfinite(network.information_gain(inputs, 1e8 * targets)).all()


def test_kl_is_torch_distributions(network):
    normal = torch.distributions.Normal
    expected = sum(
        torch.distributions.kl_divergence(
            normal(layer.mean, layer.std), normal(torch.zeros_like(layer.mean), layer.prior_std)
        ).sum()
        for layer in network.layers
    )
    torch.testing.assert_close(network.kl(), expected)


def test_another_posterior_is_a_class():
    made = []

    def posterior(n_inputs, n_outputs):
        made.append((n_inputs, n_outputs))
        return FactorisedGaussian(n_inputs, n_outputs, prior_std=1.0, std=0.1)

    network = BayesianNetwork(4, 3, (8,), posterior)
    assert made == [(4, 8), (8, 3)]
    assert network.layers[0].std[0, 0].item() == pytest.approx(0.1)


def test_fits_and_is_calibrated():
    """Noise of 0.1 on a smooth function: found, and the intervals hold on new rows."""
    torch.manual_seed(0)

    def draw(count):
        x = 2 * torch.rand(count, 2) - 1
        return x, torch.sin(3 * x[:, :1]) + x[:, 1:].square() + 0.1 * torch.randn(count, 1)

    network = BayesianNetwork(2, 1, (32,))
    adam = torch.optim.Adam(network.parameters(), 1e-2)
    inputs, targets = draw(1000)
    for _ in range(2000):
        picked = torch.randint(1000, (100,))
        adam.zero_grad(set_to_none=False)
        network.add_loss_gradient(inputs[picked], targets[picked], 1 / 1000)
        adam.step()
    inputs, targets = draw(1000)
    mean, std = network.predict(inputs, 50)
    assert float((mean - targets).square().mean()) < 0.03
    inside = ((mean - targets).abs() < 1.645 * std).float().mean()
    assert 0.85 < float(inside) < 0.95
