"""The scores agree with independent implementations and behave as their definitions say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from skin_gan.metrics.arrays import distances
from skin_gan.metrics.scores import checkerboard
from skin_gan.metrics.scores.c2st import c2st
from skin_gan.metrics.scores.fd import fd
from skin_gan.metrics.scores.kid import kid, kid_interval
from skin_gan.metrics.scores.prdc import prdc
from skin_gan.metrics.scores.vendi import vendi


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def _sets(rng: np.random.Generator, n: int = 80, m: int = 60, d: int = 24) -> tuple[np.ndarray, np.ndarray]:
    mix = rng.normal(size=(d, d)) / np.sqrt(d)
    return (rng.normal(size=(n, d)) @ mix + 0.2).astype(np.float32), (rng.normal(size=(m, d)) @ mix).astype(
        np.float32
    )


class _Features(torch.nn.Module):
    """Hands features through torchmetrics as if it had computed them."""

    num_features = 24

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, 0, 0]


def test_kid_agrees_with_torchmetrics(rng: np.random.Generator) -> None:
    from torchmetrics.image.kid import KernelInceptionDistance

    fake, real = _sets(rng, 60, 60)
    theirs = KernelInceptionDistance(_Features(), subsets=1, subset_size=60)
    theirs.update(torch.as_tensor(real)[:, None, None], real=True)
    theirs.update(torch.as_tensor(fake)[:, None, None], real=False)
    assert kid(fake, real) == pytest.approx(1000 * theirs.compute()[0].item(), rel=1e-4)


def test_fd_agrees_with_torchmetrics(rng: np.random.Generator) -> None:
    from torchmetrics.image.fid import FrechetInceptionDistance

    fake, real = _sets(rng, 200, 150)
    theirs = FrechetInceptionDistance(_Features(), input_img_size=(1, 1, 24))
    theirs.set_dtype(torch.float64)
    theirs.update(torch.as_tensor(real)[:, None, None], real=True)
    theirs.update(torch.as_tensor(fake)[:, None, None], real=False)
    assert fd(fake, real) == pytest.approx(theirs.compute().item(), rel=1e-4)


def test_fd_of_fewer_images_than_dimensions_agrees_with_scipy(rng: np.random.Generator) -> None:
    from scipy.linalg import sqrtm

    fake, real = _sets(rng, 12, 9)
    c1, c2 = np.cov(fake.T), np.cov(real.T)
    root = sqrtm(c1 @ c2).real
    expected = ((fake.mean(0) - real.mean(0)) ** 2).sum() + np.trace(c1 + c2 - 2 * root)
    assert fd(fake, real) == pytest.approx(expected, rel=1e-3)


def test_precision_and_recall_agree_with_torch_fidelity(rng: np.random.Generator) -> None:
    prc = pytest.importorskip("torch_fidelity.metric_prc", reason="torch-fidelity is a development extra")
    fake, real = _sets(rng)
    theirs = prc.prc_features_to_metric(
        torch.as_tensor(fake), torch.as_tensor(real), prc_neighborhood=5, verbose=False
    )
    ours = prdc(fake, real, 5)
    assert ours["precision"] == pytest.approx(theirs[prc.KEY_METRIC_PRECISION])
    assert ours["recall"] == pytest.approx(theirs[prc.KEY_METRIC_RECALL])


def test_prdc_agrees_with_its_definition(rng: np.random.Generator) -> None:
    k, (fake, real) = 3, _sets(rng, 30, 20)

    def inside(centres: np.ndarray, x: np.ndarray) -> list[bool]:
        radii = [sorted(np.linalg.norm(c - centres, axis=1))[k] for c in centres]
        return [bool(np.linalg.norm(x - c) < r) for c, r in zip(centres, radii, strict=True)]

    in_real = np.array([inside(real, f) for f in fake])  # [fake, real]
    expected = {
        "precision": in_real.any(1).mean(),
        "recall": np.mean([any(inside(fake, r)) for r in real]),
        "density": in_real.sum() / (k * len(fake)),
        "coverage": in_real.any(0).mean(),
    }
    assert prdc(fake, real, k) == pytest.approx(expected)


def test_kid_with_lesions_is_unbiased_where_the_usual_kid_is_not(rng: np.random.Generator) -> None:
    """Both sides from one distribution: the real one in lesions of three similar photographs."""
    usual, grouped = [], []
    for _ in range(60):
        lesions = np.repeat(np.arange(8), 3)
        real = rng.normal(size=(8, 24))[lesions] + 0.3 * rng.normal(size=(24, 24))
        fake = rng.normal(size=(40, 24)) * np.sqrt(1.09)
        usual.append(kid(fake, real))
        grouped.append(kid(fake, real, lesions))
    error = np.std(grouped) / np.sqrt(60)
    assert abs(np.mean(grouped)) < 4 * error
    assert np.mean(usual) > 10 * error


def test_kid_interval_covers_the_known_answer(rng: np.random.Generator) -> None:
    """Shifted Gaussians in lesions of two: the truth is the estimate from very many images."""
    d, shift = 16, 0.5

    def draw(n: int, mean: float) -> np.ndarray:
        return rng.normal(size=(n, d)) + mean

    truth = kid(draw(1500, 0), draw(1500, shift))
    hits, repeats = 0, 60
    for _ in range(repeats):
        lesions = np.repeat(np.arange(20), 2)
        real = np.sqrt(0.5) * (draw(20, 0)[lesions] + draw(40, 0)) + shift
        low, high = kid_interval(draw(60, 0), real, lesions, draws=300) or (0, 0)
        hits += low <= truth <= high
    assert 0.85 * repeats <= hits <= repeats


@pytest.mark.parametrize("n", [0, 1])
def test_undefined_scores_are_none(n: int, rng: np.random.Generator) -> None:
    few, many = rng.normal(size=(n, 24)), rng.normal(size=(20, 24))
    assert kid(few, many) is None and kid(many, few) is None
    assert kid_interval(many, few) is None
    assert fd(few, many) is None
    assert set(prdc(few, many, 1).values()) == {None}
    assert c2st(few, many) is None
    assert vendi(few, 1.0) is None


def test_one_lesion_has_no_kid(rng: np.random.Generator) -> None:
    assert kid(rng.normal(size=(9, 24)), rng.normal(size=(5, 24)), np.zeros(5, int)) is None


def test_identical_sets_do_not_break_scores() -> None:
    x = np.ones((12, 24))
    assert kid(x, x) == pytest.approx(0, abs=1e-9)
    assert fd(x, x) == pytest.approx(0, abs=1e-9)
    assert vendi(x, 1.0) == pytest.approx(1)
    assert set(prdc(x, x, 5).values()) == {0.0}


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_equal_images_are_not_told_apart() -> None:
    x = np.ones((12, 24), np.float32)
    assert c2st(x, x) == 0.5


def test_rounding_is_no_distance(rng: np.random.Generator) -> None:
    """Features of equal images differ in their last digit: a set of such has no diversity to be measured."""
    x = np.float32(rng.normal(size=(1, 1280)) * (1 + 3e-7 * rng.normal(size=(12, 1280))))
    assert len(np.unique(x, axis=0)) == 12 and not distances(x, x).any()
    assert set(prdc(x[:6], x[6:], 2).values()) == {0.0}
    near = x * np.float32([1, *[1.0001] * 11])[:, None]
    assert distances(near[:1], near[1:]) / np.linalg.norm(x[0]) == pytest.approx(1e-4, rel=0.05)


def test_c2st_tells_apart_what_differs_and_only_that(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(150, 24)), rng.normal(size=(150, 24))
    assert c2st(x, y) == pytest.approx(0.5, abs=0.12)
    assert c2st(x + 1, y) > 0.95


def test_c2st_of_copies_is_below_one_half(rng: np.random.Generator) -> None:
    x = rng.normal(size=(60, 24))
    assert c2st(x.copy(), x) < 0.4


def test_c2st_lets_no_lesion_cross_folds(rng: np.random.Generator) -> None:
    """Twin photographs of 40 lesions against other images: told apart only by knowing the twin."""
    lesions = np.repeat(np.arange(40), 2)
    real = rng.normal(size=(40, 24))[lesions]
    fake = rng.normal(size=(80, 24))
    assert c2st(fake, real, lesions) < c2st(fake, real) + 0.02
    assert c2st(fake, real, lesions) == pytest.approx(0.5, abs=0.2)


def test_vendi_counts_modes(rng: np.random.Generator) -> None:
    centres = 100 * rng.normal(size=(7, 24))
    assert vendi(centres[np.arange(70) % 7], 1.0) == pytest.approx(7, rel=1e-3)


def test_scores_are_deterministic(rng: np.random.Generator) -> None:
    fake, real = _sets(rng)
    assert kid_interval(fake, real) == kid_interval(fake, real)
    assert c2st(fake, real) == c2st(fake, real)


def _class(rng: np.random.Generator, lesions: int, each: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Spectra [N,2,17] of images that differ by lesion more than within one, and the lesions [N]."""
    of_lesion = rng.normal(size=(lesions, 1, 2, 17)).repeat(each, axis=1)
    spectra = np.exp(of_lesion + 0.3 * rng.normal(size=(lesions, each, 2, 17))).reshape(-1, 2, 17)
    return spectra, np.arange(lesions).repeat(each).astype(str)


@pytest.mark.parametrize(("lesions", "n"), [(40, 256), (40, 40), (400, 64)])
def test_the_interval_of_checkerboards_holds_other_images_of_the_class(
    lesions: int, n: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of few real images and many generated ones too, where resampling images alone gives half the width."""
    monkeypatch.setattr(checkerboard, "DRAWS", 200)
    held, below = 0, 0
    for _ in range(100):
        low, high = checkerboard.interval(*_class(rng, lesions), n)
        value = checkerboard._largest_ratio(_class(rng, n, 1)[0].sum(0))
        held, below = held + (low <= value <= high), below + (value < low)
    assert held >= 86 and below <= 12
    spectra, _ = _class(rng, lesions)
    narrow = checkerboard.interval(spectra, np.arange(len(spectra)).astype(str), 10 * n)
    wide = checkerboard.interval(spectra, np.arange(len(spectra)).astype(str), n // 4)
    assert wide[1] - wide[0] > 1.2 * (narrow[1] - narrow[0])


def test_the_interval_of_checkerboards_is_not_defined_for_too_little(rng: np.random.Generator) -> None:
    spectra, lesions = _class(rng, 10)
    assert checkerboard.interval(spectra, lesions, 8) is not None
    assert checkerboard.interval(spectra[:4], lesions[:4], 8) is None  # two lesions
    assert checkerboard.interval(np.zeros_like(spectra), lesions, 8) is None
    assert checkerboard.interval(spectra[:, :, :5], lesions, 8) is None  # images of 8 pixels


@pytest.mark.parametrize(
    ("value", "said"), [(0.5, "0.50, below"), (1.0, "1.00, inside"), (1.5, "1.50, above"), (None, "")]
)
def test_where_a_checkerboard_lies_is_said_in_words(value: float | None, said: str) -> None:
    row = {"checkerboard": value, "checkerboard_low": 0.75, "checkerboard_high": 1.25}
    assert checkerboard.against_real(row) == (said and f"{said} the interval of real images, 0.75 to 1.25")
    assert checkerboard.against_real({"checkerboard": value}) == ""  # of an earlier version
