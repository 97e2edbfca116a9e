"""The fast convolutions give what torch's give: results, gradients, types, and refusals."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from skin_gan.fast import convolutions, patches, winograd

METHODS = [winograd, patches]


def random(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator, dtype=torch.double, requires_grad=True)


def assert_same(fast: nn.Module, plain: nn.Module, x: Tensor) -> None:
    """Equal outputs and equal gradients of input and weights."""
    plain.load_state_dict(fast.state_dict())
    ours, theirs = fast(x), plain(x)
    torch.testing.assert_close(ours, theirs)
    up = torch.randn_like(ours)
    gradients = torch.autograd.grad(ours, [x, *fast.parameters()], up)
    expected = torch.autograd.grad(theirs, [x, *plain.parameters()], up)
    for pair in zip(gradients, expected, strict=True):
        torch.testing.assert_close(*pair)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("shape", "arguments"),
    [
        ((2, 128, 8, 8), (128, 6, 4, 2, 1)),  # Winograd
        ((2, 3, 8, 8), (3, 6, 4, 2, 1)),  # torch's
        ((2, 128, 6, 6), (128, 6, 4, 2, 1)),  # torch's: not a multiple of four
        ((2, 5, 4, 4), (5, 6, 4, 1, 0)),  # one product
        ((2, 5, 6, 6), (5, 6, 3, 1, 1)),  # torch's
    ],
)
def test_convolution(
    shape: tuple[int, ...], arguments: tuple[int, ...], bias: bool, memory_format: torch.memory_format
) -> None:
    x = random(*shape).detach().contiguous(memory_format=memory_format).requires_grad_()
    fast = convolutions.Conv2d(*arguments, bias=bias).double().to(memory_format=memory_format)
    assert_same(fast, nn.Conv2d(*arguments, bias=bias).double(), x)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("shape", "arguments"),
    [
        ((2, 6, 4, 4), (6, 128, 4, 2, 1)),  # Winograd
        ((2, 6, 4, 4), (6, 3, 4, 2, 1)),  # torch's
        ((2, 5, 1, 1), (5, 6, 4, 1, 0)),  # one product
        ((2, 5, 3, 3), (5, 6, 4, 1, 0)),  # torch's
    ],
)
def test_transposed_convolution(shape: tuple[int, ...], arguments: tuple[int, ...], bias: bool) -> None:
    fast = convolutions.ConvTranspose2d(*arguments, bias=bias).double()
    assert_same(fast, nn.ConvTranspose2d(*arguments, bias=bias).double(), random(*shape))


def test_the_methods_are_used_where_they_are_meant_to_be() -> None:
    deep = torch.empty(2, 128, 8, 8), torch.empty(6, 128, 4, 4)
    assert convolutions._method(*deep, 8) is winograd
    assert convolutions._method(deep[0].bfloat16(), deep[1], 8) is patches
    with torch.autocast("cpu", torch.bfloat16):
        assert convolutions._method(*deep, 8) is patches
    assert convolutions._method(deep[0], torch.empty(6, 64, 4, 4), 8) is None
    assert convolutions._method(deep[0].to("meta"), deep[1], 8) is None


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("function", [convolutions._Down, convolutions._Up])
def test_gradients(function: type[torch.autograd.Function], method: ModuleType) -> None:
    size = (8, 4) if function is convolutions._Down else (2, 2)
    channels = 2 if function is convolutions._Down else 3
    x, weight = random(2, channels, *size), random(3, 2, 4, 4)
    assert torch.autograd.gradcheck(lambda a, b: function.apply(a, b, method), (x, weight))
    assert torch.autograd.gradgradcheck(lambda a, b: function.apply(a, b, method), (x, weight))


@pytest.mark.parametrize("method", METHODS)
def test_each_merge_is_the_transpose_of_its_split(method: ModuleType) -> None:
    for split, merge, shape, size in (
        (method.split_high, method.merge_high, (2, 3, 8, 12), (2, 8, 12)),
        (method.split_low, method.merge_low, (2, 3, 4, 6), (2, 8, 12)),
        (method.split_weight, method.merge_weight, (5, 3, 4, 4), ()),
    ):
        x = random(*shape).detach()
        parts = split(x)
        terms = random(*parts.shape).detach()
        assert torch.allclose((parts * terms).sum(), (x * merge(terms.clone(), *size)).sum())


@pytest.mark.parametrize("kind", [convolutions.Conv2d, convolutions.ConvTranspose2d])
def test_autocast_computes_in_bfloat16_and_returns_float32_gradients(kind: type[nn.Module]) -> None:
    layer = kind(128, 128, 4, 2, 1)
    x = torch.randn(2, 128, 8, 8, requires_grad=True)
    exact = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    assert (y.float() - exact).abs().max() < 0.02 * exact.abs().max()
    y.float().square().sum().backward()
    assert x.grad is not None and x.grad.dtype == torch.float32
    assert layer.weight.grad.dtype == torch.float32


def test_without_gradients_the_result_is_the_same() -> None:
    layer, x = convolutions.Conv2d(128, 8, 4, 2, 1), torch.randn(2, 128, 8, 8)
    with torch.no_grad():
        assert torch.equal(layer(x), layer(x.requires_grad_()).detach())


def test_frozen_weights_get_no_gradient_and_inputs_do() -> None:
    layer, x = convolutions.Conv2d(128, 8, 4, 2, 1), torch.randn(2, 128, 8, 8, requires_grad=True)
    layer.requires_grad_(False)
    layer(x).sum().backward()
    assert x.grad is not None and layer.weight.grad is None


def layers(kind: str) -> list[tuple[type[nn.Module], tuple[int, ...]]]:
    """A small discriminator's layers, or a generator's, with every way in which a layer is computed."""
    if kind == "down":
        return [("Conv2d", (3, 128, 4, 2, 1)), ("Conv2d", (128, 16, 4, 2, 1)), ("Conv2d", (16, 1, 4, 1, 0))]
    return [
        ("ConvTranspose2d", (5, 8, 4, 1, 0)),
        ("ConvTranspose2d", (8, 128, 4, 2, 1)),
        ("ConvTranspose2d", (128, 3, 4, 2, 1)),
    ]


def penalised_gradients(module: ModuleType, kind: str, x: Tensor) -> list[Tensor]:
    """Gradients, to the input and the weights, of the squared norm of a network's gradient to its input."""
    torch.manual_seed(0)
    net = nn.Sequential()
    for name, arguments in layers(kind):
        net.extend([getattr(module, name)(*arguments), nn.Softplus()])
    net.double()
    (gradient,) = torch.autograd.grad(net(x).sum(), x, create_graph=True)
    penalty = gradient.square().sum()
    return list(
        torch.autograd.grad(penalty, [x, *net.parameters()], allow_unused=True, materialize_grads=True)
    )


@pytest.mark.parametrize(("kind", "shape"), [("down", (2, 3, 16, 16)), ("up", (2, 5, 1, 1))])
def test_second_derivatives_are_those_of_torchs_own_layers(kind: str, shape: tuple[int, ...]) -> None:
    x = random(*shape)
    ours, theirs = penalised_gradients(convolutions, kind, x), penalised_gradients(nn, kind, x)
    for mine, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, expected)
    assert ours[0].abs().max() > 0


def test_with_and_without_a_graph_the_gradient_is_the_same() -> None:
    layer, x = convolutions.Conv2d(128, 8, 4, 2, 1), torch.randn(2, 128, 8, 8, requires_grad=True)
    wanted = [x, layer.weight]
    plain = torch.autograd.grad(layer(x).square().sum(), wanted)
    graph = torch.autograd.grad(layer(x).square().sum(), wanted, create_graph=True)
    assert all(torch.equal(a, b) for a, b in zip(plain, graph, strict=True))


def test_bfloat16_has_second_derivatives() -> None:
    layer, x = convolutions.Conv2d(128, 8, 4, 2, 1), torch.randn(2, 128, 8, 8, requires_grad=True)

    def penalised() -> Tensor:
        (gradient,) = torch.autograd.grad(layer(x).float().square().sum(), x, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), layer.weight)[0]

    exact = penalised()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = penalised()
    assert rounded.dtype == torch.float32
    assert (rounded - exact).norm() < 0.02 * exact.norm()
