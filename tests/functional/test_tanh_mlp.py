import torch

from rlgen.functional import tanh_mlp
from rlgen.nn.mlp import mlp


def test_layers_and_gradients_are_autograds():
    network = mlp(4, (6, 5), 3, output_gain=1.0).double()
    parameters = list(network.parameters())
    inputs, target = torch.randn(20, 4, dtype=torch.float64), torch.randn(20, 3, dtype=torch.float64)
    layers = tanh_mlp.forward(inputs, parameters)
    output = network(inputs)
    assert [x.shape[1] for x in layers] == [4, 6, 5, 3]
    torch.testing.assert_close(layers[-1], output.detach())

    expected = torch.autograd.grad((output - target).square().mean(), parameters)
    gradients = [torch.full_like(p, 7.0) for p in parameters]
    tanh_mlp.backward(layers, parameters, 2 * (layers[-1] - target) / target.numel(), gradients)
    for found, exact in zip(gradients, expected, strict=True):
        torch.testing.assert_close(found, exact, rtol=1e-12, atol=1e-14)
