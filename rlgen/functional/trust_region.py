"""A trust region that knows no reinforcement learning: conjugate gradient, Fisher products, line search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rlgen.functional import tanh_mlp


def conjugate_gradient(
    product: Callable[[Tensor], Tensor], b: Tensor, max_steps: int = 15, tolerance: float = 1e-10
) -> Tensor:
    """Solve A x = b for a symmetric positive definite A known only through `product(v) = A v`.

    Args:
        product: maps `[P]` to `[P]`.
        b: `[P]`.
        max_steps: iterations at most; P of them are exact in exact arithmetic.
        tolerance: stop once the squared residual is below this share of `|b|^2`.
    """
    x = torch.zeros_like(b)
    residual = b.clone()
    direction = b.clone()
    squared = residual.dot(residual)
    stop = tolerance * squared
    for _ in range(max_steps):
        if squared <= stop:
            break
        image = product(direction)
        step = squared / direction.dot(image)
        x += step * direction
        residual -= step * image
        new_squared = residual.dot(residual)
        direction = residual + (new_squared / squared) * direction
        squared = new_squared
    return x


def tanh_mlp_gauss_newton(
    inputs: Tensor,
    parameters: Sequence[Tensor],
    fisher_output: Callable[[Tensor, slice], Tensor],
    rows_per_block: int = 1024,
) -> Callable[[Tensor], Tensor]:
    """The mean of J^T F J over rows, as a function of a flat vector, for a tanh MLP with a linear last layer.

    For an exponential family in its natural head (Gaussian mean, softmax logits), this Gauss-Newton product *is* the
    Fisher matrix of the policy and the Hessian of the KL at the old policy (Martens 2020, section 9,
    https://arxiv.org/abs/1412.1193). It costs a forward tangent and one backward sweep with stored activations, in
    place of a second backward pass through the graph, and works on blocks of rows that stay in the cache.

    Args:
        inputs: `[B, D]`, what the first layer sees.
        parameters: weight `[out, in]` and bias `[out]` of each layer in order.
        fisher_output: `(tangent [b, A], rows) -> [b, A]`, the Fisher matrix in the output of those rows.
        rows_per_block: 1-2k rows is fastest on CPUs.

    Returns:
        A function from `[P]` to `[P]`, P the parameters flattened and concatenated in order.
    """
    weights = [p.detach() for p in parameters[0::2]]
    sizes = [p.numel() for p in parameters]
    shapes = [p.shape for p in parameters]
    n_rows = len(inputs)
    blocks = [slice(i, min(i + rows_per_block, n_rows)) for i in range(0, n_rows, rows_per_block)]
    hidden = [tanh_mlp.forward(inputs[rows], parameters)[:-1] for rows in blocks]
    slopes = [[1 - h.square() for h in activations[1:]] for activations in hidden]

    @torch.no_grad()
    def product(vector: Tensor) -> Tensor:
        tangents = [part.view(shape) for part, shape in zip(vector.split(sizes), shapes, strict=True)]
        result = torch.zeros_like(vector)
        gradients = [part.view(shape) for part, shape in zip(result.split(sizes), shapes, strict=True)]
        for rows, activations, slope in zip(blocks, hidden, slopes, strict=True):
            moved = torch.addmm(tangents[1], activations[0], tangents[0].t())
            for layer in range(1, len(weights)):
                moved = moved * slope[layer - 1]
                moved = torch.addmm(tangents[2 * layer + 1], moved, weights[layer].t())
                moved.addmm_(activations[layer], tangents[2 * layer].t())
            delta = fisher_output(moved, rows)
            for layer in reversed(range(len(weights))):
                gradients[2 * layer].addmm_(delta.t(), activations[layer])
                gradients[2 * layer + 1].add_(delta.sum(0))
                if layer:
                    delta = (delta @ weights[layer]) * slope[layer - 1]
        return result / n_rows

    return product


class Step(NamedTuple):
    """Where a line search ended.

    Attributes:
        share: of the full step, 0.0 if none was accepted.
        improvement: of the surrogate over no step at all, 0-d.
        kl: in nats, 0-d.
    """

    share: float
    improvement: Tensor
    kl: Tensor


def line_search(
    evaluate: Callable[[Tensor], tuple[Tensor, Tensor]],
    full_step: Tensor,
    max_kl: float,
    shrinking_factor: float = 0.8,
    max_iter: int = 10,
) -> Step:
    """Backtrack from `full_step` until the surrogate improves and the KL stays within `max_kl`.

    Args:
        evaluate: `step [P] -> (improvement, kl)`, 0-d tensors; improvement is over no step at all. Its last call is
            with the step that the search ends at.
        full_step: `[P]`.
        max_kl: the bound, in nats.
        shrinking_factor: each try's length over the one before.
        max_iter: tries at most.

    Returns:
        The accepted step, or no step at all.
    """
    share = 1.0
    for _ in range(max_iter):
        improvement, kl = evaluate(share * full_step)
        # A NaN fails both comparisons and so is never accepted.
        if improvement > 0 and kl <= max_kl:
            return Step(share, improvement, kl)
        share *= shrinking_factor
    return Step(0.0, *evaluate(torch.zeros_like(full_step)))
