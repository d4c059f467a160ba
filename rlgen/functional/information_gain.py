"""What a Gaussian posterior over weights would learn from each row of data, without a gradient for each row.

Notation: a layer with weights N(mu, sigma^2) and inputs x has pre-activations of mean gamma = mu x and variance
v = sigma^2 x^2. A row's loss reaches the weights through these two alone, so with d_mean = d loss / d gamma and
d_variance = d loss / d v, d loss / d mu_ji = d_mean_j x_i and d loss / d sigma^2_ji = d_variance_j x_i^2.

Against the exact posterior of a linear regression the sum of these gains is too large: several times with few rows a
weight, where steps are long and each weight moves as if it alone had to explain the row; 1.01 to 1.13 times for 4 to 32
weights and rows 151 to 300 (benchmarks/NOTES.md).
"""

from __future__ import annotations

import torch
from torch import Tensor


def factorised_information(
    squared_inputs: Tensor, variance: Tensor, d_mean: Tensor, d_variance: Tensor, weight_variance: Tensor
) -> Tensor:
    """g^T H^-1 g of each row for one layer, g the row's gradient in (mu, rho), H the curvature of the KL, `[B]`.

        g^T H^-1 g = sum_ji [g_mu^2 sigma^2 + 2 g_(sigma^2)^2 sigma^4] = sum_j [d_mean_j^2 v_j + 2 d_variance_j^2 q_j]

    with q = sigma^4 x^4: one product more than a forward pass, and nothing of size B x weights. H is diagonal,
    1 / sigma^2 in mu and 2 (d sigma / d rho)^2 / sigma^2 in rho, the second derivatives of KL(q || q_old) at q_old
    (Houthooft et al. 2016, https://arxiv.org/abs/1605.09674), and the parametrisation of sigma drops out.

    Args:
        squared_inputs: x^2, `[B, n]`.
        variance: v, `[B, m]`.
        d_mean: `[B, m]`.
        d_variance: `[B, m]`; `[1, m]` where it is the same for all rows, and the product is one with a vector.
        weight_variance: sigma^2, `[m, n]`.
    """
    of_mean = d_mean.square().mul_(variance)
    if len(d_variance) == 1:
        summed = d_variance.square() @ weight_variance.square()
        return of_mean.sum(-1).addmv_(squared_inputs.square(), summed[0], alpha=2)
    fourth = squared_inputs.square() @ weight_variance.square().t()
    return of_mean.addcmul_(d_variance.square(), fourth, value=2).sum(-1)


def averaged_information(inputs: Tensor, d_mean: Tensor, d_variance: Tensor, weight_variance: Tensor) -> Tensor:
    """The same where a row's gradient is the mean over S noise samples, taken before squaring, `[B]`.

    Such a gradient has rank S and doesn't factorise; it is formed for each row, `[B, m, n]`, by a batched product.

    Args:
        inputs: x, `[S, B, n]`.
        d_mean: `[S, B, m]`.
        d_variance: `[S, B, m]`, or `[S, 1, m]`.
        weight_variance: sigma^2, `[m, n]`.
    """
    n_samples = len(inputs)

    def gradient(outputs: Tensor, inputs: Tensor) -> Tensor:
        return torch.einsum("sbm,sbn->bmn", outputs, inputs) / n_samples

    of_mean = gradient(d_mean, inputs).square() * weight_variance
    of_variance = gradient(d_variance.expand_as(d_mean), inputs.square()).square() * weight_variance.square()
    return (of_mean + 2 * of_variance).sum((-2, -1))


def gaussian_kl(mean: Tensor, std: Tensor, other_mean: Tensor, other_std: Tensor | float) -> Tensor:
    """KL(N(mean, std^2) || N(other_mean, other_std^2)) summed over all entries, in nats, 0-d."""
    other_std = torch.as_tensor(other_std, dtype=mean.dtype, device=mean.device)
    ratio = (std / other_std).square()
    moved = ((mean - other_mean) / other_std).square()
    return 0.5 * (ratio + moved - 1 - ratio.log()).sum()
