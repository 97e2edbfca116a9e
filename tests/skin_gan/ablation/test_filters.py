"""Filters drop what they are made to drop and say why; leaked test images are caught."""

from pathlib import Path

import numpy as np
import pytest
from bench_samples import SIZE, make_store, new_images
from gan_samples import judge, open_session

from skin_gan.ablation import filters
from skin_gan.ablation.arms import make_samples
from skin_gan.ablation.filters import discriminator_logits
from skin_gan.ablation.leakage import Images, leakage
from skin_gan.ablation.parts import labelled_part, lesion_split
from skin_gan.data.demo import draw
from skin_gan.data.store import Store
from skin_gan.errors import SkinGanError
from skin_gan.folders import TrialFolder
from skin_gan.metrics.copies import Training, thresholds
from skin_gan.metrics.reference import RealSet, Reference


def features(images: np.ndarray) -> np.ndarray:
    """Colours of an 8x8 image, sorted within each channel: flips and turns leave them as they are."""
    blocks = images.reshape(len(images), 3, 8, SIZE // 8, 8, SIZE // 8).mean((3, 5))
    return np.sort(blocks.reshape(len(images), 3, 64), axis=2).reshape(len(images), -1)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("store") / "small")


@pytest.fixture(scope="module")
def ref(store: Store) -> Reference:
    """The reference of nv, on the features above."""
    sets = []
    for part in ("train", "val"):
        p = labelled_part(store, lesion_split(store, 0), part, SIZE, "nv")
        sets.append(RealSet(p.images, p.lesions, features(p.images)))
    train, val = sets
    training = Training(train.features, train.images, train.lesions)
    limits = thresholds("nv", {"nv": training.distances(val.features, val.images)})
    return Reference(
        "nv", SIZE, 0, "lesion", "print", "colours", "sha", train, val, training, limits, 1.0, Path()
    )


class TestFilters:
    def test_each_says_what_it_dropped_and_why(self) -> None:
        found = filters.by_confidence(np.array([0.9, 0.01, 0.5]), np.linspace(0.2, 1, 50))
        assert found.keep.tolist() == [True, False, True]
        assert found.reasons.tolist() == ["", "confidence: a classifier does not see its class in it", ""]
        assert found.threshold == pytest.approx(0.24) and found.share == pytest.approx(2 / 3)

    @pytest.mark.parametrize("tail", [0.0, 0.05, 0.2])
    def test_the_threshold_drops_the_stated_share_of_validation_images(self, tail: float) -> None:
        validation = np.random.default_rng(0).normal(size=200)
        for by in (filters.by_confidence, filters.by_discriminator):
            assert by(validation, validation, tail).share == pytest.approx(1 - tail, abs=0.006)

    def test_distance_drops_what_is_like_no_training_image(self, ref: Reference) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (5, 3, SIZE, SIZE), dtype=np.uint8)
        images = np.concatenate([new_images("nv", 40), noise // 8])
        keep = filters.by_distance(features(images), ref).keep
        assert keep[:40].mean() > 0.75 and not keep[40:].any()

    def test_copies_of_training_images_are_dropped_turned_or_not(self, ref: Reference) -> None:
        copied = np.concatenate([ref.train.images[:5], np.rot90(ref.train.images[5:10], 1, (2, 3))])
        images = np.concatenate([new_images("nv", 40), copied])
        found = filters.by_copies(images, features(images), ref)
        assert found.keep[:40].mean() > 0.9 and not found.keep[40:].any()
        assert found.reasons[44] == "copies: a near copy of a training image"

    def test_a_random_arm_has_as_many_images(self) -> None:
        chosen = filters.by_confidence(np.arange(100.0), np.arange(30.0, 100.0))
        other = filters.random_like(chosen, seed=1)
        assert other.keep.sum() == chosen.keep.sum() and not np.array_equal(other.keep, chosen.keep)
        np.testing.assert_array_equal(other.keep, filters.random_like(chosen, seed=1).keep)
        assert not np.array_equal(other.keep, filters.random_like(chosen, seed=2).keep)

    @pytest.mark.parametrize("validation", [np.array([]), np.array([0.5, np.nan])])
    def test_no_threshold_without_validation_images(self, validation: np.ndarray) -> None:
        with pytest.raises(SkinGanError, match="scores of validation images"):
            filters.by_confidence(np.ones(3), validation)


def test_the_discriminator_of_a_trial_is_asked_where_it_is_kept(tmp_path: Path) -> None:
    session = open_session(tmp_path)
    session.advance(0.064, judge)
    session.close()
    images = np.random.default_rng(0).integers(0, 256, (70, 3, 16, 16), dtype=np.uint8)
    logits = discriminator_logits(TrialFolder(tmp_path), images)
    assert logits.shape == (70,) and np.isfinite(logits).all() and logits.std() > 0
    np.testing.assert_allclose(discriminator_logits(TrialFolder(tmp_path), images[:3]), logits[:3], atol=1e-5)
    (tmp_path / "best.pt").unlink()
    with pytest.raises(SkinGanError, match=r"no best\.pt"):
        discriminator_logits(TrialFolder(tmp_path), images)


class TestArtefacts:
    @staticmethod
    def lesions(size: int, n: int = 12) -> np.ndarray:
        """Drawn lesions of several classes, some of them with hairs and dark corners."""
        found = [draw(label, i, 0, size) for label in ("nv", "mel", "bkl") for i in range(n)]
        return np.stack(found).transpose(0, 3, 1, 2)

    @pytest.mark.parametrize("size", [32, 64])
    def test_dark_frames(self, size: int) -> None:
        images = self.lesions(size)
        axis = np.linspace(-1, 1, size)
        light = np.clip((1.25 - np.hypot(axis[:, None], axis)) / 0.15, 0, 1)
        framed = (images * light).astype(np.uint8)
        plain = filters.frame(images)
        assert (filters.frame(framed) > np.quantile(plain, 0.8)).mean() > 0.9
        assert np.median(plain) < 0.05 < np.median(filters.frame(framed))

    @pytest.mark.parametrize(("size", "period"), [(32, 4), (64, 6)])
    def test_rulers(self, size: int, period: int) -> None:
        images = self.lesions(size)
        marked = images.copy()
        marked[:, :, : size // 8, ::period] //= 3
        plain = filters.ruler(images)
        assert (filters.ruler(marked) > np.quantile(plain, 0.95)).mean() > 0.9
        with pytest.raises(SkinGanError, match="too small to look for rulers"):
            filters.ruler(images[:, :, :16, :16])

    def test_thresholds_come_from_validation_images(self) -> None:
        images = self.lesions(32)
        framed = images.copy()
        framed[:, :, :8, :8] = 0
        found = filters.by_frame(framed, images)
        assert found.share < 0.2 and found.reasons[~found.keep][0] == "frame: dark frame"
        assert filters.by_ruler(images, images, tail=0.1).share == pytest.approx(0.9, abs=0.04)


class TestLeakage:
    @staticmethod
    def sides(store: Store) -> tuple[Images, Images, Images]:
        """Test and training images of nv, and training images of all classes."""
        split = lesion_split(store, 0)
        wanted = (("test", "nv"), ("train", "nv"), ("train", None))
        parts = (labelled_part(store, split, part, SIZE, label) for part, label in wanted)
        held_out, train, seen = (Images(p.images, features(p.images), p.lesions) for p in parts)
        return held_out, train, seen

    def test_copies_of_test_images_are_caught_though_their_manifest_is_in_order(self, store: Store) -> None:
        copied = make_samples("test_copies", store, lesion_split(store, 0), SIZE, 30)["nv"].images
        found = leakage(copied, features(copied), *self.sides(store))
        assert found.caught and found.share > 0.9 and found.identical > 0
        assert "near copies of held-out images" in found.why

    def test_a_tenth_of_altered_copies_is_enough(self, store: Store) -> None:
        held_out, train, seen = self.sides(store)
        rng = np.random.default_rng(0)
        turned = np.rot90(held_out.images[:12], 1, (2, 3)).astype(float)
        altered = np.clip(turned + rng.normal(0, 4, turned.shape), 0, 255).astype(np.uint8)
        images = np.concatenate([new_images("nv", 108), altered])
        found = leakage(images, features(images), held_out, train, seen)
        assert found.caught and found.identical == 0 and found.near[108:].mean() > 0.7

    def test_new_images_and_copies_of_training_images_are_no_leak(self, store: Store) -> None:
        held_out, train, seen = self.sides(store)
        for images in (new_images("nv", 120), train.images):
            found = leakage(images, features(images), held_out, train, seen)
            assert not found.caught, found.why

    def test_images_that_resemble_everything_accuse_nobody(self, store: Store) -> None:
        held_out, train, seen = self.sides(store)
        of_others = make_samples("shuffled_labels", store, lesion_split(store, 0), SIZE, 120)["nv"].images
        blurred = np.resize(seen.images.mean((2, 3), keepdims=True).round().astype(np.uint8), (120, 3, 1, 1))
        for images in (of_others, np.broadcast_to(blurred, (120, 3, SIZE, SIZE)).copy()):
            found = leakage(images, features(images), held_out, train, seen)
            assert not found.caught, found.why

    @pytest.mark.parametrize("turns", [0, 3])
    def test_copies_behind_the_judged_images_are_found_also_turned(self, store: Store, turns: int) -> None:
        held_out, train, seen = self.sides(store)
        copied = np.rot90(held_out.images[:9], turns, (2, 3))[..., ::-1]
        images, rows = np.concatenate([new_images("nv", 100), copied]), np.arange(64)
        found = leakage(images, features(images[rows]), held_out, train, seen, rows)
        assert found.caught and (found.identical, found.images, len(found.near)) == (9, 109, 64)
        assert "of 64 judged of 109" in found.why and "9 of 109 are identical" in found.why

    def test_one_identical_image_is_enough(self, store: Store) -> None:
        held_out, train, seen = self.sides(store)
        images = np.concatenate([new_images("nv", 200), held_out.images[:1]])
        found = leakage(images, features(images), held_out, train, seen)
        assert found.caught and found.identical == 1
