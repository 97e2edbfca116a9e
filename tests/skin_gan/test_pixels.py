"""Memory grows with a piece of the images, not with their number, and pieces change no value."""

import hashlib
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from skin_gan import pixels
from skin_gan.ablation import filters, leakage
from skin_gan.ablation.fit import prepare
from skin_gan.ablation.frozen import VIEWS, augmented
from skin_gan.ablation.trainingset import Rows
from skin_gan.data.store import Store
from skin_gan.metrics import copies
from skin_gan.metrics.scores.checkerboard import checkerboard

SIZE = 32
IMAGE = 3 * SIZE * SIZE  # bytes


def images(n: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, 3, SIZE, SIZE), np.uint8)


class Allocated(TorchDispatchMode):
    """Records the largest tensor that an operation returns, which tracemalloc does not see."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.largest = max(self.largest, out.numel() * out.element_size())
        return out


def memory(function: Callable[[], object]) -> int:
    """Bytes: the most that NumPy held at once, and the largest tensor."""
    tracemalloc.start()
    try:
        with Allocated() as torch_:
            function()
        return tracemalloc.get_traced_memory()[1] + torch_.largest
    finally:
        tracemalloc.stop()


def store(folder: Path, n: int) -> Store:
    np.save(folder / f"images-{SIZE}.npy", images(n).transpose(0, 2, 3, 1))
    return Store(folder, "s", "demo", ["nv"], {"nv": n}, {"nv": n}, "lesion", False, "abc")


def copy_checks(x: np.ndarray) -> copies.Distances:
    features = np.zeros((len(x), 1), np.float32)
    return copies.Training(features, x, np.arange(len(x)).astype(str)).distances(features[:9], x[:9])


def turned_copies(x: np.ndarray) -> np.ndarray:
    return leakage.identical(np.rot90(x[:9], 1, (2, 3)), x)


def epoch(x: np.ndarray) -> float:
    """An equalised training set: each image occurs ten times."""
    inputs = Rows([torch.from_numpy(x[:5]), torch.from_numpy(x[5:])], torch.arange(10 * len(x)) % len(x))
    return sum(float(prepare(inputs[batch]).sum()) for batch in torch.arange(len(inputs)).split(20))


def all_views(x: np.ndarray) -> float:
    return sum(float(views.mean()) for views in augmented(x, "strong"))


@pytest.mark.parametrize(
    "work", [checkerboard, copy_checks, turned_copies, filters.frame, filters.ruler, epoch]
)
def test_memory_does_not_grow_as_floats_of_all_images(work: Callable, monkeypatch) -> None:
    """From 100 to 300 images by less than the 200 as float32, or even as bytes."""
    monkeypatch.setattr(pixels, "BYTES", 10 * 4 * IMAGE)
    few, many = images(100), images(300)
    work(few)  # what is imported and kept at a first call is not the work's
    assert memory(lambda: work(many)) - memory(lambda: work(few)) < 200 * IMAGE / 2 + 200 * 768 * 4


def test_reading_a_store_holds_the_pixels_once(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(pixels, "BYTES", 10 * 4 * IMAGE)
    rows = np.random.default_rng(0).permutation(300)
    opened = store(tmp_path, 300)
    assert memory(lambda: opened.pixels(SIZE, rows)) < 1.2 * 300 * IMAGE
    np.testing.assert_array_equal(opened.pixels(SIZE, rows), images(300)[rows])


def test_views_are_floats_by_the_piece(monkeypatch) -> None:
    """256 images' views are bytes at a time; their floats are those of 10."""
    monkeypatch.setattr(pixels, "BYTES", 10 * 4 * VIEWS * IMAGE)
    with Allocated() as torch_:
        all_views(images(200))
    assert torch_.largest == 10 * 4 * VIEWS * IMAGE


@pytest.mark.parametrize("n", [0, 1, 3, 4, 25])
def test_pieces_cover_every_image_once_and_stay_within_bounds(n: int, monkeypatch) -> None:
    monkeypatch.setattr(pixels, "BYTES", 4 * 4 * IMAGE)
    found = list(pixels.pieces(images(n)))
    assert [i for piece in found for i in range(n)[piece]] == list(range(n))
    assert max(piece.stop - piece.start for piece in found) == min(n, 4)
    assert pixels.piece_size((3, 10**6, 10**6)) == 1


@pytest.mark.parametrize("work", [copy_checks, turned_copies, filters.frame, filters.ruler, all_views])
def test_pieces_change_no_bit(work: Callable, monkeypatch) -> None:
    x = images(64)
    whole = work(x)
    monkeypatch.setattr(pixels, "BYTES", 4 * 4 * VIEWS * IMAGE)
    for a, b in zip(values(whole), values(work(x)), strict=True):
        np.testing.assert_array_equal(a, b)


def values(found: object) -> list:
    return list(vars(found).values()) if isinstance(found, copies.Distances) else [found]


def test_the_spectrum_of_pieces_differs_by_rounding_alone(monkeypatch) -> None:
    x = images(64)
    whole = checkerboard(x)
    monkeypatch.setattr(pixels, "BYTES", 7 * 4 * IMAGE)
    assert checkerboard(x) == pytest.approx(whole, rel=1e-12)
    assert checkerboard(x[:20], x[20:]) == pytest.approx(whole, rel=1e-12)


def test_rows_of_several_sources_are_those_of_one() -> None:
    sources = [torch.from_numpy(images(n)) for n in (3, 1, 5)]
    index = torch.randint(9, (40,), generator=torch.Generator().manual_seed(0))
    rows, whole = Rows(sources, index), torch.cat(sources)[index]
    assert rows.shape == whole.shape and len(rows) == 40
    places = torch.tensor([39, 0, 0, 7])
    assert torch.equal(rows[places], whole[places])


def test_a_digest_is_that_of_text_and_pixels(monkeypatch) -> None:
    monkeypatch.setattr(pixels, "BYTES", 4 * 4 * IMAGE)
    x = images(9)
    assert (
        pixels.digest("head", x[..., ::-1])
        == hashlib.sha256(b"head" + x[..., ::-1].tobytes()).hexdigest()[:16]
    )
