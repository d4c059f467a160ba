"""Adam (Kingma & Ba 2015, https://arxiv.org/abs/1412.6980)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor


class Adam:
    """`torch.optim.Adam(fused=True)` to the bit, without what that imports.

    Making one of torch's imports its compiler, which costs a second and 70 MB each time that a command starts.

    Args:
        parameters: on their final device; `step` leaves those without a gradient, in `.grad`, as they are.
        learning_rate: assign to change it.
        eps: added to the root of the second moment.
        weight_decay: added to the gradient, times the parameter.
    """

    def __init__(
        self, parameters: Iterable[Tensor], learning_rate: float, eps: float = 1e-8, weight_decay: float = 0.0
    ) -> None:
        self.parameters = list(parameters)
        self.learning_rate, self.eps, self.weight_decay = learning_rate, eps, weight_decay
        self.means = [torch.zeros_like(p, requires_grad=False) for p in self.parameters]
        self.squares = [torch.zeros_like(p, requires_grad=False) for p in self.parameters]
        self.steps = [torch.zeros((), device=p.device) for p in self.parameters]

    @torch.no_grad()
    def step(self) -> None:
        """One step along all gradients."""
        kept = zip(self.parameters, self.means, self.squares, self.steps, strict=True)
        learned = [(p, p.grad, *rest) for p, *rest in kept if p.grad is not None]
        if not learned:
            return
        parameters, gradients, means, squares, steps = zip(*learned, strict=True)
        torch._foreach_add_(steps, 1)
        torch._fused_adam_(
            parameters,
            gradients,
            means,
            squares,
            (),
            steps,
            lr=self.learning_rate,
            beta1=0.9,
            beta2=0.999,
            weight_decay=self.weight_decay,
            eps=self.eps,
            amsgrad=False,
            maximize=False,
        )

    def zero_grad(self) -> None:
        """Set the gradients that there are to zero, in place."""
        for p in self.parameters:
            if p.grad is not None:
                p.grad.zero_()

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """What it remembers of each parameter, by its number; rates and the like are settings."""
        kept = zip(self.steps, self.means, self.squares, strict=True)
        names = ("step", "exp_avg", "exp_avg_sq")
        return {str(i): dict(zip(names, x, strict=True)) for i, x in enumerate(kept)}

    def load_state_dict(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Go on from a state; an empty one is that of the start."""
        for i, kept in self.state_dict().items():
            for name, x in kept.items():
                x.copy_(state[i][name]) if state else x.zero_()
