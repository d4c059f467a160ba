"""A Bayesian neural network: weights with a distribution, trained and asked for information in closed form."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlgen.functional.information_gain import averaged_information, factorised_information, gaussian_kl

ROWS_PER_BLOCK = 2500
"""Rows whose information gain is worked out at a time: what belongs to a block stays in the cache."""


class Units(NamedTuple):
    """A layer's pre-activations; S is the number of noise samples, 1 where all of them see the same inputs.

    Attributes:
        mean: `[S, B, m]` over the weights' distribution.
        variance: `[S, B, m]`.
        saved: what the posterior keeps for its gradients.
    """

    mean: Tensor
    variance: Tensor
    saved: tuple[Tensor, ...]


class WeightPosterior(Protocol):
    """The distribution of one layer's weights: what a network needs of it. Another posterior is another such class.

    Losses reach the weights through the pre-activations' mean and variance, so gradients come as `d_mean` and
    `d_variance`, `[S, B, m]`, the derivatives of each row's loss in the two. `d_variance` is `[S, 1, m]` where all rows
    have the same, as at an output that is integrated out.
    """

    def units(self, inputs: Tensor) -> Units:
        """Moments of the pre-activations at inputs `[S, B, n]`."""
        ...

    def input_gradient(self, units: Units, d_mean: Tensor, d_variance: Tensor) -> Tensor:
        """d loss / d inputs, `[S, B, n]`."""
        ...

    def add_gradient(self, units: Units, d_mean: Tensor, d_variance: Tensor) -> None:
        """Add the sum over samples and rows of d loss / d parameters to the parameters' `.grad`."""
        ...

    def information(self, units: Units, d_mean: Tensor, d_variance: Tensor) -> Tensor:
        """g^T H^-1 g, `[B]`: g a row's gradient averaged over the samples, H the curvature of the KL."""
        ...

    def kl(self) -> Tensor:
        """KL(posterior || prior) in nats, 0-d."""
        ...

    def add_kl_gradient(self, weight: float) -> None:
        """Add `weight` d kl / d parameters to the parameters' `.grad`."""
        ...


class FactorisedGaussian(nn.Module):
    """Independent weights N(mean, std^2) with std = log(1 + exp(rho)) and prior N(0, prior_std^2).

    Args:
        n_inputs: n.
        n_outputs: m.
        prior_std: of each weight.
        mean_std: the means start as N(0, mean_std^2).
        std: the standard deviations start here. As wide as the prior they drown the first thousand updates in noise.
    """

    def __init__(
        self, n_inputs: int, n_outputs: int, prior_std: float = 0.5, mean_std: float = 0.1, std: float = 0.1
    ) -> None:
        super().__init__()
        shape = (n_outputs, n_inputs + 1)
        self.prior_std = prior_std
        self.mean = nn.Parameter(mean_std * torch.randn(shape))
        self.rho = nn.Parameter(torch.full(shape, math.log(math.expm1(std))))

    @property
    def std(self) -> Tensor:
        """`[m, n + 1]`, the last column is the bias's."""
        return F.softplus(self.rho)

    def units(self, inputs: Tensor) -> Units:
        """Mean mu x and variance sigma^2 x^2 (Kingma, Salimans & Welling 2015, https://arxiv.org/abs/1506.02557)."""
        x = F.pad(inputs, (0, 1), value=1.0)
        squared, weight_variance = x.square(), self.std.square()
        return Units(x @ self.mean.t(), squared @ weight_variance.t(), (x, squared, weight_variance))

    def input_gradient(self, units: Units, d_mean: Tensor, d_variance: Tensor) -> Tensor:
        """mu^T d_mean + 2 x (sigma^2)^T d_variance."""
        x, _, weight_variance = units.saved
        through_mean = d_mean @ self.mean[:, :-1]
        return through_mean.addcmul_(x[..., :-1], d_variance @ weight_variance[:, :-1], value=2)

    def add_gradient(self, units: Units, d_mean: Tensor, d_variance: Tensor) -> None:
        """d_mean x^T for the means; for rho, d_variance (x^2)^T by the chain rule."""
        x, squared, weight_variance = units.saved
        _gradient(self.mean).add_(_sum_of_products(d_mean, x))
        std, d_std = weight_variance.sqrt(), torch.sigmoid(self.rho)
        _gradient(self.rho).addcmul_(_sum_of_products(d_variance, squared), std.mul_(d_std), value=2)

    def information(self, units: Units, d_mean: Tensor, d_variance: Tensor) -> Tensor:
        """See `rlgen.functional.information_gain`."""
        x, squared, weight_variance = units.saved
        if len(x) > 1:
            return averaged_information(x, d_mean, d_variance, weight_variance)
        if len(d_mean) > 1:
            d_mean, d_variance = d_mean.mean(0, keepdim=True), d_variance.mean(0, keepdim=True)
        return factorised_information(squared[0], units.variance[0], d_mean[0], d_variance[0], weight_variance)

    def kl(self) -> Tensor:
        """sum log(prior_std / std) + (std^2 + mean^2) / (2 prior_std^2) - 1/2."""
        return gaussian_kl(self.mean, self.std, torch.zeros_like(self.mean), self.prior_std)

    def add_kl_gradient(self, weight: float) -> None:
        """mean / prior_std^2, and std / prior_std^2 - 1 / std by the chain rule."""
        precision, std = self.prior_std**-2, self.std
        _gradient(self.mean).add_(self.mean, alpha=weight * precision)
        in_std = std.mul(precision).sub_(std.reciprocal())
        _gradient(self.rho).addcmul_(in_std, torch.sigmoid(self.rho), value=weight)


class BayesianNetwork(nn.Module):
    """A ReLU network with uncertain weights and a Gaussian likelihood with one standard deviation an output.

    Hidden pre-activations are sampled by local reparameterisation; the output layer's weights are integrated out where
    `analytic_output`, as a Gaussian likelihood allows. Both passes are written out: the same d loss / d mean and
    d loss / d variance of each layer give the training gradient and each row's information gain.

    Args:
        n_inputs: D.
        n_outputs: E.
        net_arch: hidden layer sizes.
        posterior: makes the weights' distribution of a layer from its numbers of inputs and outputs.
        likelihood_std: of the targets given the network's output, at the start.
        learn_likelihood_std: train it with the weights; otherwise it stays.
        least_likelihood_std: a learned one stays above this.
        analytic_output: integrate the output layer's weights out rather than sample them.
        shared_noise: one noise a unit for all rows, as the authors' code has it, in place of one a row.
        n_samples: S, noise samples that losses and gradients are averaged over.
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        net_arch: Sequence[int] = (32,),
        posterior: Callable[[int, int], nn.Module] = FactorisedGaussian,
        likelihood_std: float = 0.5,
        learn_likelihood_std: bool = True,
        least_likelihood_std: float = 0.02,
        analytic_output: bool = True,
        shared_noise: bool = False,
        n_samples: int = 1,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(itertools.starmap(posterior, itertools.pairwise((n_inputs, *net_arch, n_outputs))))
        self.log_likelihood_std = nn.Parameter(
            torch.full((n_outputs,), math.log(likelihood_std)), requires_grad=learn_likelihood_std
        )
        self.least_likelihood_variance = least_likelihood_std**2 if learn_likelihood_std else 0.0
        self.analytic_output = analytic_output
        self.shared_noise = shared_noise
        self.n_samples = n_samples

    @property
    def likelihood_variance(self) -> Tensor:
        """tau^2, `[E]`."""
        return self.least_likelihood_variance + torch.exp(2 * self.log_likelihood_std)

    def kl(self) -> Tensor:
        """KL(posterior || prior) over all layers in nats, 0-d."""
        return torch.stack([layer.kl() for layer in self._posteriors()]).sum()

    @torch.no_grad()
    def predict(self, inputs: Tensor, n_samples: int = 10) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the targets, each `[B, E]`, weights and likelihood both counted.

        Args:
            inputs: `[B, D]`.
            n_samples: of the hidden layers' noise.
        """
        output = self._forward(inputs, n_samples)[-1].units
        variance, mean = torch.var_mean(output.mean, 0, correction=0)
        return mean, (variance + output.variance.mean(0) + self.likelihood_variance).sqrt()

    @torch.no_grad()
    def add_loss_gradient(self, inputs: Tensor, targets: Tensor, kl_weight: float) -> Tensor:
        """Add the gradient of mean NLL + kl_weight KL to the parameters' `.grad`; gives the mean NLL in nats, 0-d.

        With kl_weight = 1 / N for N rows of data this is the negative evidence lower bound over N.

        Args:
            inputs: `[B, D]`.
            targets: `[B, E]`.
            kl_weight: weight of the KL to the prior.
        """
        passes = self._forward(inputs, self.n_samples)
        weight = 1 / (len(passes[-1].activation) * len(inputs))
        for layer, units, d_mean, d_variance in self._backward(passes, targets, weight):
            layer.add_gradient(units, d_mean, d_variance)
        for layer in self._posteriors():
            layer.add_kl_gradient(kl_weight)
        squared, variance = self._squared_error(passes[-1], targets).mean((0, 1)), self.likelihood_variance
        if self.log_likelihood_std.requires_grad:
            learned_share = 1 - self.least_likelihood_variance / variance
            _gradient(self.log_likelihood_std).add_(learned_share * (1 - squared / variance))
        return 0.5 * (squared / variance + torch.log(2 * math.pi * variance)).sum()

    @torch.no_grad()
    def information_gain(self, inputs: Tensor, targets: Tensor, step_size: float = 1.0) -> Tensor:
        """What each row alone would teach the weights, in nats, `[B]`; nothing is changed.

            KL(q_new || q) ~ 1/2 step_size^2 g^T H^-1 g

        after a natural-gradient step of `step_size` on the row's negative log-likelihood; an idea of Houthooft et al.
        (2016, https://arxiv.org/abs/1605.09674); the half follows from the KL's second order. Rows are scored in
        blocks; with `shared_noise` each block has its own.

        Args:
            inputs: `[B, D]`.
            targets: `[B, E]`.
            step_size: lambda.
        """
        gains = []
        for x, y in zip(inputs.split(ROWS_PER_BLOCK), targets.split(ROWS_PER_BLOCK), strict=True):
            backward = self._backward(self._forward(x, self.n_samples), y)
            terms = [layer.information(units, d_mean, d_variance) for layer, units, d_mean, d_variance in backward]
            gains.append(torch.stack(terms).sum(0).mul_(0.5 * step_size**2))
        return torch.cat(gains)

    def _posteriors(self) -> list[WeightPosterior]:
        return list(self.layers)  # type: ignore[arg-type]

    def _forward(self, inputs: Tensor, n_samples: int) -> list[_Pass]:
        x, passes = inputs.unsqueeze(0), []
        for depth, layer in enumerate(self._posteriors(), 1):
            units = layer.units(x)
            if depth == len(self.layers) and self.analytic_output:
                passes.append(_Pass(layer, units, units.variance, units.mean))
                break
            rows = 1 if self.shared_noise else len(inputs)
            noise = standard_noise(n_samples, rows, units.mean)
            std = units.variance.sqrt()
            activation = torch.addcmul(units.mean, std, noise)
            passes.append(_Pass(layer, units, noise / std, activation))
            x = activation.relu()
        return passes

    def _squared_error(self, output: _Pass, targets: Tensor) -> Tensor:
        """E (output - target)^2 over the output layer's weights, or of a sample of them, `[S, B, E]`."""
        squared = (output.activation - targets).square()
        return squared + output.units.variance if self.analytic_output else squared

    def _backward(
        self, passes: list[_Pass], targets: Tensor, weight: float = 1.0
    ) -> Iterator[tuple[WeightPosterior, Units, Tensor, Tensor]]:
        """Each layer with d_mean and d_variance of the weighted negative log-likelihoods, from the output down."""
        output, precision = passes[-1], weight / self.likelihood_variance
        d_mean = (output.activation - targets).mul_(precision)
        d_variance = (0.5 * precision).expand(1, 1, -1) if self.analytic_output else output.d_variance(d_mean)
        yield output.posterior, output.units, d_mean, d_variance
        for above, below in itertools.pairwise(reversed(passes)):
            d_mean = above.posterior.input_gradient(above.units, d_mean, d_variance)
            d_mean = torch.ops.aten.threshold_backward(d_mean, below.activation, 0)  # ReLU's, in one operation
            d_variance = below.d_variance(d_mean)
            yield below.posterior, below.units, d_mean, d_variance


class _Pass(NamedTuple):
    """A layer's forward pass; where its output is sampled, activation = mean + std noise."""

    posterior: WeightPosterior
    units: Units
    noise_over_std: Tensor
    activation: Tensor

    def d_variance(self, d_activation: Tensor) -> Tensor:
        """Through std = sqrt(variance); d_mean is d_activation itself."""
        return (d_activation * self.noise_over_std).mul_(0.5)


def standard_noise(n_samples: int, n_rows: int, like: Tensor) -> Tensor:
    """N(0, 1) for each unit, `[S, B, m]`; the second half of the rows has the first's with the other sign.

    A row is scored by its own noise alone, and drawing it takes longer than a product of matrices.
    """
    half = torch.randn((n_samples, (n_rows + 1) // 2, like.shape[-1]), dtype=like.dtype, device=like.device)
    return torch.cat((half, -half), 1)[:, :n_rows]


def _gradient(parameter: nn.Parameter) -> Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def _sum_of_products(outputs: Tensor, inputs: Tensor) -> Tensor:
    """sum_sb outputs_sbm inputs_sbn, `[m, n]`; either may be the same for all samples, outputs for all rows too."""
    if outputs.shape[1] < inputs.shape[1]:
        inputs = inputs.sum(1, keepdim=True)
    if len(inputs) < len(outputs):
        outputs = outputs.sum(0, keepdim=True)
    elif len(outputs) < len(inputs):
        inputs = inputs.sum(0, keepdim=True)
    return outputs.flatten(0, 1).t() @ inputs.flatten(0, 1)
