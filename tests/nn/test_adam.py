import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

from rlgen.nn.adam import Adam


def steps(optimizer, parameters, n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(n):
        for p in parameters:
            p.grad = torch.randn(p.shape, generator=generator)
        optimizer.step()


def parameters():
    torch.manual_seed(3)
    return [nn.Parameter(torch.randn(7, 3)), nn.Parameter(torch.randn(()))]


@pytest.mark.parametrize("options", [{}, {"eps": 1e-5}, {"weight_decay": 0.1}])
def test_it_is_torchs_to_the_bit(options):
    ours, theirs = parameters(), parameters()
    steps(Adam(ours, 0.01, **options), ours, 20)
    steps(torch.optim.Adam(theirs, 0.01, fused=True, **options), theirs, 20)
    assert all(map(torch.equal, ours, theirs))


def test_the_rate_may_change():
    ours, theirs = parameters(), parameters()
    adam, other = Adam(ours, 0.01), torch.optim.Adam(theirs, 0.01, fused=True)
    steps(adam, ours, 3)
    steps(other, theirs, 3)
    adam.learning_rate = other.param_groups[0]["lr"] = 0.1
    steps(adam, ours, 3, seed=1)
    steps(other, theirs, 3, seed=1)
    assert all(map(torch.equal, ours, theirs))


def test_it_goes_on_from_a_state():
    first, second = parameters(), parameters()
    adam = Adam(first, 0.01)
    steps(adam, first, 5)
    other = Adam(second, 0.01)
    other.load_state_dict(copy.deepcopy(adam.state_dict()))
    for p, value in zip(second, first, strict=True):
        p.data.copy_(value)
    steps(adam, first, 5, seed=1)
    steps(other, second, 5, seed=1)
    assert all(map(torch.equal, first, second))


def test_an_empty_state_is_that_of_the_start():
    first, second = parameters(), parameters()
    adam = Adam(first, 0.01)
    steps(adam, first, 5)
    adam.load_state_dict({})
    for p, value in zip(first, second, strict=True):
        p.data.copy_(value)
    steps(adam, first, 5)
    steps(Adam(second, 0.01), second, 5)
    assert all(map(torch.equal, first, second))


def test_a_parameter_without_a_gradient_stays():
    ours, theirs = parameters(), parameters()
    for optimizer, some in ((Adam(ours, 0.01), ours), (torch.optim.Adam(theirs, 0.01, fused=True), theirs)):
        optimizer.step()
        steps(optimizer, some[:1], 2)
        steps(optimizer, some, 2, seed=1)
    assert all(map(torch.equal, ours, theirs))


def test_gradients_are_set_to_zero_where_there_are_any():
    first, second = parameters()
    first.grad = torch.ones(7, 3)
    gradient = first.grad
    Adam([first, second], 0.01).zero_grad()
    assert first.grad is gradient
    assert not gradient.any()
    assert second.grad is None


def test_no_compiler_is_imported():
    """It would take a second and 70 MB of each command."""
    code = (
        "import sys, rlgen, torch\n"
        "from rlgen.nn.adam import Adam\n"
        "p = torch.nn.Parameter(torch.zeros(2)); p.grad = torch.ones(2)\n"
        "Adam([p], 0.1).step()\n"
        "print('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
