"""Augmentations: what they do to pixels, that gradients pass, that only the given numbers decide."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from skin_gan.objectives.augmentations import ada
from skin_gan.objectives.augmentations.diffaugment import cutout, translate
from skin_gan.objectives.augmentations.dihedral import oriented
from skin_gan.objectives.augmentations.geometric import reflected_shift
from skin_gan.rng import Rng
from skin_gan.variants import AUGMENTATIONS as FOLDER
from skin_gan.variants import names, variant

Augment = Callable[[Tensor, Tensor], Tensor]
AUGMENTATIONS: list[tuple[Augment, tuple[int, ...]]] = [
    (oriented, ()),
    (translate, (2,)),
    (reflected_shift, (2,)),
    (cutout, (2,)),
]


def images(n: int = 3, size: int = 16) -> Tensor:
    generator = torch.Generator().manual_seed(n)
    return torch.rand(n, 3, size, size, generator=generator, dtype=torch.double) * 2 - 1


def uniform(n: int, shape: tuple[int, ...]) -> Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(1))


def test_dihedral_gives_the_eight_orientations() -> None:
    image = images(1)
    turned = oriented(image.expand(8, -1, -1, -1), (torch.arange(8) + 0.5) / 8)
    array = image[0].numpy()
    expected = [np.rot90(v, k, (1, 2)) for v in (array, array[:, :, ::-1]) for k in range(4)]
    assert {x.numpy().tobytes() for x in turned} == {np.ascontiguousarray(x).tobytes() for x in expected}


@pytest.mark.parametrize(("where", "shift"), [(0.0, -2), (0.5, 0), (0.999, 2)])
def test_translation_by_whole_pixels_brings_in_zeros(where: float, shift: int) -> None:
    x = images()
    moved = translate(x, torch.tensor([[where, 0.5]]).expand(3, 2))
    expected = torch.zeros_like(x)
    for row in range(16):
        if 0 <= row - shift < 16:
            expected[:, :, row] = x[:, :, row - shift]
    assert torch.equal(moved, expected)


def test_cutout_removes_one_square_of_half_the_side() -> None:
    x = torch.ones(2, 3, 16, 16)
    holes = (cutout(x, torch.tensor([[0.5, 0.5], [0.0, 0.5]])) == 0).all(1)
    assert holes[0, 4:12, 4:12].all() and holes[0].sum() == 64
    assert holes[1].sum() == 32  # half of it outside


@pytest.mark.parametrize(("augment", "shape"), AUGMENTATIONS)
def test_gradients_pass(augment: Augment, shape: tuple[int, ...]) -> None:
    x = images(1, 8).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: augment(v, uniform(1, shape)), (x,))


@pytest.mark.parametrize(("augment", "shape"), AUGMENTATIONS)
def test_only_the_given_numbers_decide(augment: Augment, shape: tuple[int, ...]) -> None:
    x, u = images(), uniform(3, shape)
    before = torch.get_rng_state()
    together = augment(x, u)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(together, torch.cat([augment(x[k : k + 1], u[k : k + 1]) for k in range(3)]))


@pytest.mark.parametrize(("augment", "shape"), AUGMENTATIONS)
def test_colours_stay_as_they_are(augment: Augment, shape: tuple[int, ...]) -> None:
    x, u = images(), uniform(3, shape)
    recoloured = x.flip(1) * 0.5  # a change of colours, before or after
    assert torch.allclose(augment(recoloured, u), augment(x, u).flip(1) * 0.5)


@pytest.mark.parametrize("name", names(FOLDER))
def test_each_by_its_name_is_random_by_its_rng_alone_and_lets_gradients_pass(name: str) -> None:
    x, chosen = images(6).requires_grad_(), variant(FOLDER, name)
    for augment in (chosen.of_real, chosen.of_both):
        before = torch.get_rng_state()
        first, second = (augment(x, Rng(5), {}) for _ in range(2))
        assert torch.equal(before, torch.get_rng_state()) and torch.equal(first, second)
        assert first.shape == x.shape and first.abs().max() <= 1
        (gradient,) = torch.autograd.grad(first.sum(), x)
        # Each pixel shows once, or not at all, or, mirrored at edges, some times.
        most = 4.0 if name == "geometric" and augment is chosen.of_both else 1.0
        assert {*gradient.unique().tolist()} <= {0.0, 1.0, 2.0, 4.0} and gradient.max() == most


def test_what_each_does_to_real_images_and_to_both() -> None:
    x = images(64)
    changes = {
        name: [not torch.equal(augment(x, Rng(5), {}), x) for augment in (chosen.of_real, chosen.of_both)]
        for name, chosen in ((name, variant(FOLDER, name)) for name in names(FOLDER))
    }
    assert changes == {
        "none": [False, False],
        "dihedral": [True, False],
        "diffaugment": [True, True],
        "geometric": [False, True],
        "ada": [False, False],  # before it has found any overfitting
    }


@pytest.mark.parametrize(("where", "shift"), [(0.0, -2), (0.5, 0), (0.999, 2)])
def test_a_reflected_shift_brings_in_the_image_s_own_edge(where: float, shift: int) -> None:
    x = images()
    moved = reflected_shift(x, torch.tensor([[where, 0.5]]).expand(3, 2))
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (2, 2), (0, 0)), mode="reflect")
    assert np.array_equal(moved.numpy(), padded[:, :, 2 - shift : 18 - shift])


def test_ada_s_probability_rises_while_real_images_are_certain_and_falls_again() -> None:
    state: dict[str, object] = {}
    shown = 0
    for _ in range(ada.EVERY * 10):
        shown += 500
        ada.adapt(torch.ones(8), shown, state)
    assert state["p"] == pytest.approx(shown / (1000 * ada.KIMG))
    for _ in range(ada.EVERY * 5):
        shown += 500
        ada.adapt(torch.tensor([1.0, -1.0]), shown, state)
    assert state["p"] == pytest.approx(5 * ada.EVERY * 500 / (1000 * ada.KIMG))


def test_ada_changes_the_share_of_images_that_its_probability_says() -> None:
    x = images(400)
    for p in (0.0, 0.3):
        changed = (ada.of_both(x, Rng(0), {"p": p}) != x).flatten(1).any(1).double().mean()
        untouched = (1 - p * 7 / 8) * (1 - p * 24 / 25) * (1 - p) ** 2  # one orientation, one shift are none
        assert changed == pytest.approx(1 - untouched, abs=0.07)


def test_scaling_by_two_shows_the_middle_and_by_none_everything() -> None:
    x = images()
    assert torch.allclose(ada.scaled(x, torch.zeros(3)), x)
    ramp = torch.arange(16.0).expand(1, 3, 16, 16) / 8 - 1
    larger = ada.scaled(ramp, torch.ones(1))
    assert torch.allclose(larger[..., 1:-1].diff(dim=-1), torch.tensor(1 / 16), atol=1e-5)
