import numpy as np
import pytest
import torch

from rlgen.errors import UsageError
from rlgen.nn.improved_gan import HistoricalAverage, MinibatchFeatures, VirtualBatchNorm


def distance_after(value, equilibrium, weight, start, rate=0.03, steps=1500):
    """From the equilibrium, once x has descended and y ascended `value` at the same time."""
    players = [torch.nn.Parameter(torch.tensor([float(x)])) for x in start]
    averages = [HistoricalAverage([player], weight) for player in players]
    for _ in range(steps):
        played = value(*players).sum()
        slopes = [
            torch.autograd.grad(sign * played + average(), player, retain_graph=True)[0]
            for sign, average, player in zip((1, -1), averages, players, strict=True)
        ]
        with torch.no_grad():
            for player, slope in zip(players, slopes, strict=True):
                player -= rate * slope
    return float(torch.dist(torch.cat(players).detach(), torch.tensor(equilibrium)))


@pytest.mark.parametrize(
    ("value", "equilibrium", "start"),
    [
        (lambda x, y: x * y, (0.0, 0.0), (1, 1)),
        (lambda x, y: (torch.where(x < 0, x, x.square()) - 1) * (y - 1), (1.0, 1.0), (0.5, 0.0)),  # the paper's
    ],
)
def test_players_who_circle_reach_their_equilibrium_by_historical_averaging(value, equilibrium, start):
    assert distance_after(value, equilibrium, 0.0, start) > 2
    assert distance_after(value, equilibrium, 0.1, start) < 0.01
    assert distance_after(value, equilibrium, 1.0, start) > 0.05  # it hardly moves


def test_historical_averaging_by_hand():
    parameter = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    average = HistoricalAverage([parameter], 0.5)
    assert average() == 0
    parameter.data = torch.tensor([3.0, 0.0])
    assert average() == 0.5 * (4 + 4)  # from [1, -2]
    parameter.data = torch.tensor([2.0, 2.0])
    penalty = average()
    assert penalty == 0.5 * (0 + 9)  # from [2, -1]
    assert torch.autograd.grad(penalty, parameter)[0].tolist() == [0, 3]


def test_virtual_batch_normalisation_standardises_the_reference_and_no_row_depends_on_another():
    norm, reference, rows = VirtualBatchNorm(3, 50), 4 + 3 * torch.randn(50, 3), torch.randn(7, 3)
    found = norm(torch.cat((reference, rows)))
    torch.testing.assert_close(found[:50].mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(found[:50].std(0, correction=0), torch.ones(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(norm(torch.cat((reference, rows[:1])))[50], found[50])
    exact = (rows - reference.mean(0)) / reference.std(0, correction=0)
    torch.testing.assert_close(found[50:], exact, atol=1e-4, rtol=0)


def test_minibatch_features_are_their_formula():
    features = torch.randn(6, 4)
    layer = MinibatchFeatures(4, 3, n_kernels=2, kernel_size=5)
    found = layer(features)
    assert torch.equal(found[:, :4], features)
    projected = np.einsum("bf,fkd->bkd", features.numpy(), layer.kernels.detach().numpy())
    for i in range(6):
        others = [j for j in range(6) if j // 3 == i // 3 and j != i]
        exact = np.mean([np.exp(-np.abs(projected[i] - projected[j]).sum(-1)) for j in others], 0)
        np.testing.assert_allclose(found[i, 4:].detach(), exact, atol=1e-6)
    with pytest.raises(UsageError, match="need groups of 3 rows; got 7 rows"):
        layer(torch.randn(7, 4))
