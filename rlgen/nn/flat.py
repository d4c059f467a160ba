"""Parameters as views of one vector, so that clipping a gradient and Adam are one operation each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def flatten_parameters(parameters: Sequence[nn.Parameter]) -> tuple[nn.Parameter, list[Tensor]]:
    """Move parameters and their gradients into one vector `[P]`; each becomes a view of its part.

    Args:
        parameters: on their final device; moving them afterwards would part them from the vector.

    Returns:
        The vector, with a gradient of zeros, and each parameter's view of that gradient.
    """
    flat = nn.Parameter(torch.cat([p.detach().flatten() for p in parameters]))
    flat.grad = torch.zeros_like(flat)
    sizes = [p.numel() for p in parameters]
    gradients = [part.view(p.shape) for p, part in zip(parameters, flat.grad.split(sizes), strict=True)]
    for p, value, gradient in zip(parameters, flat.data.split(sizes), gradients, strict=True):
        p.data, p.grad = value.view(p.shape), gradient
    return flat, gradients


def check_views(flat: Tensor, parameters: Sequence[nn.Parameter]) -> None:
    """Make sure that the vector still is the parameters' storage.

    Raises:
        RuntimeError: they were moved, copied or replaced since, and learning would change a vector that nobody reads.
    """
    first = parameters[0]
    ours, theirs = (flat.data, flat.grad), (first.data, first.grad)
    if any(a is None or b is None or a.data_ptr() != b.data_ptr() for a, b in zip(ours, theirs, strict=True)):
        raise RuntimeError(
            "a network was moved, copied or had its gradients removed after its optimizer was made; "
            "move it before, and load a copy's state_dict into a new one"
        )


def clip_gradient(flat: nn.Parameter, max_norm: float) -> None:
    """Scale the gradient to `max_norm` if it is longer, as `torch.nn.utils.clip_grad_norm_` does in five operations."""
    assert flat.grad is not None
    flat.grad.view(1, -1).renorm_(2, 0, max_norm)
