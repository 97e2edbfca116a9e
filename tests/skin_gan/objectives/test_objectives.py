"""Losses and penalties: their formulas, on numbers and on a discriminator whose gradient is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from skin_gan.config import LossSettings
from skin_gan.objectives import Judged
from skin_gan.objectives.mode_seeking import mode_seeking
from skin_gan.variants import LOSSES, PENALTIES, names, variant

S = LossSettings()
REAL, FAKES = [1.5, -0.5, 0.25], [[0.5, -2.0, 3.0], [-1.0, 0.0, 1.0]]


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def average(values: list[float]) -> float:
    return sum(values) / len(values)


# Of the discriminator, and of the generator on the first kind, written out from the papers.
EXPECTED = {
    "bce": (
        average([softplus(-r) for r in REAL]) + average([softplus(f) for kind in FAKES for f in kind]),
        average([softplus(-f) for f in FAKES[0]]),
    ),
    "hinge": (
        average([max(0, 1 - r) for r in REAL]) + average([max(0, 1 + f) for kind in FAKES for f in kind]),
        -average(FAKES[0]),
    ),
    "relativistic": (
        average([softplus(-(r - f)) for kind in FAKES for r, f in zip(REAL, kind, strict=True)]),
        average([softplus(-(f - r)) for r, f in zip(REAL, FAKES[0], strict=True)]),
    ),
    "wgan": (average([f for kind in FAKES for f in kind]) - average(REAL), -average(FAKES[0])),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_losses_are_the_published_ones(name: str) -> None:
    loss, real, fakes = variant(LOSSES, name), torch.tensor(REAL), [torch.tensor(kind) for kind in FAKES]
    d_loss, g_loss = EXPECTED[name]
    assert loss.d_loss(real, fakes, S).item() == pytest.approx(d_loss, rel=1e-6)
    assert loss.g_loss(fakes[0], real, S).item() == pytest.approx(g_loss, rel=1e-6)


@pytest.mark.parametrize("name", names(LOSSES))
def test_every_loss_pulls_the_logits_apart_and_the_generator_together(name: str) -> None:
    loss = variant(LOSSES, name)
    real, fake = torch.tensor(REAL, requires_grad=True), torch.tensor(FAKES[0], requires_grad=True)
    up, down = torch.autograd.grad(loss.d_loss(real, [fake], S), [real, fake])
    assert (up <= 0).all() and (down >= 0).all() and up.sum() < 0 < down.sum()
    (raised,) = torch.autograd.grad(loss.g_loss(fake, real, S), fake)
    assert (raised < 0).all()


def test_what_pairs_needs_real_logits_and_what_does_not_ignores_them() -> None:
    fake, real = torch.tensor(FAKES[0]), torch.tensor(REAL)
    for name in names(LOSSES):
        loss = variant(LOSSES, name)
        changed = loss.g_loss(fake, real, S) != loss.g_loss(fake, real + 1, S)
        assert changed == loss.PAIRED, name


def judged(direction: Tensor, uniform: float = 0.3, scale: float = 1.0) -> Judged:
    """By D(x) = direction . x^2 / 2, whose gradient at x is direction * x."""
    generator = torch.Generator().manual_seed(0)
    real, *fakes = (torch.randn(5, 3, 4, 4, generator=generator).requires_grad_() for _ in range(3))

    def net(images: Tensor) -> Tensor:
        return (direction * images.square() / 2).flatten(1).sum(1)

    averages = torch.tensor([2.0, -3.0])
    on_fakes = [net(x) for x in fakes]
    moves = torch.tensor([[0.2, 0.5, 0.5]]).expand(5, 3)  # flipped left to right, not shifted
    uniforms = torch.full((5,), uniform), moves
    return Judged(net, real, fakes, net(real), on_fakes, averages, *uniforms, scale)


@pytest.fixture
def direction() -> Tensor:
    return torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()


def squared_norms(x: Tensor) -> Tensor:
    return x.square().sum((1, 2, 3))


def test_penalties_are_the_published_ones(direction: Tensor) -> None:
    j = judged(direction)
    first, second = j.fakes
    mixed = [0.7 * j.real + 0.3 * fake for fake in j.fakes]
    gp = [(squared_norms(direction * x).sqrt() - 1).square().mean() for x in mixed]
    lecam = [(2.0 - logits).clamp(min=0).square().mean() for logits in j.on_fakes]
    expected = {
        "r1": squared_norms(direction * j.real).mean() / 2,
        "r2": (squared_norms(direction * first) + squared_norms(direction * second)).mean() / 4,
        "gp": (gp[0] + gp[1]) / 2,
        "lecam": (j.on_real + 3.0).clamp(min=0).square().mean() + (lecam[0] + lecam[1]) / 2,
    }
    flips = [(j.net(x.flip(3)) - j.net(x)).square().mean() for x in (j.real, *j.fakes)]
    expected["consistency"] = flips[0] + (flips[1] + flips[2]) / 2
    assert expected.keys() == set(names(PENALTIES))
    for name, value in expected.items():
        penalty = variant(PENALTIES, name).penalty(j)
        torch.testing.assert_close(penalty, value)
        gradients = (torch.autograd.grad(p, direction, retain_graph=True)[0] for p in (penalty, value))
        torch.testing.assert_close(*gradients)


def test_only_r1_and_r2_are_scaled(direction: Tensor) -> None:
    once, scaled = judged(direction), judged(direction, scale=0.25)
    found = {name: variant(PENALTIES, name).penalty(scaled) / variant(PENALTIES, name).penalty(once)
             for name in names(PENALTIES)}  # fmt: skip
    assert {name for name, ratio in found.items() if ratio.item() == pytest.approx(0.25)} == {"r1", "r2"}
    assert {name for name, ratio in found.items() if ratio.item() == 1} == {"gp", "lecam", "consistency"}


def test_mode_seeking_is_the_latents_distance_over_the_images() -> None:
    z, images = torch.tensor([[0.0], [1.0], [3.0]]), torch.zeros(3, 3, 2, 2).requires_grad_()
    with torch.no_grad():
        images += torch.tensor([0.0, 0.1, 0.4]).view(3, 1, 1, 1)
    expected = ((3 + 1 + 2) / 3) / ((0.4 + 0.1 + 0.3) / 3)
    assert mode_seeking(z, images).item() == pytest.approx(expected, rel=1e-3)
    equal = mode_seeking(z, torch.zeros(3, 3, 2, 2))
    alone = mode_seeking(z[:1], images[:1])
    assert equal.item() == alone.item() == pytest.approx(1e5)


def test_every_penalty_has_a_weight_that_is_off_by_default() -> None:
    assert {name: getattr(S, name) for name in names(PENALTIES)} == dict.fromkeys(names(PENALTIES), 0.0)
