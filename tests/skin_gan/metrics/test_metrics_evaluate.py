"""References and evaluation on the built-in data: corruptions, copies, collapse, floors, odd input, cache."""

from __future__ import annotations

import io
import json
import math
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2.functional import gaussian_blur

from skin_gan.data.ingest import Options, ingest
from skin_gan.data.resolve import resolve
from skin_gan.data.store import Store
from skin_gan.errors import SkinGanError
from skin_gan.metrics import copies
from skin_gan.metrics.__main__ import main
from skin_gan.metrics.evaluate import evaluate
from skin_gan.metrics.features import Extractor, extractor
from skin_gan.metrics.reference import RealSet, Reference, reference, warm
from skin_gan.metrics.scores.checkerboard import against_real, checkerboard
from skin_gan.metrics.scores.fd import fd
from skin_gan.metrics.scores.kid import kid

Images = np.ndarray


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("metrics")


@pytest.fixture(scope="module")
def store(folder: Path) -> Store:
    return resolve("demo", [32], folder)


@pytest.fixture(scope="module")
def nv(store: Store, folder: Path, lite: Extractor) -> Reference:
    return reference(store, "nv", 32, 0, folder / "cache", lite)


@pytest.fixture(scope="module")
def df(store: Store, folder: Path, lite: Extractor, nv: Reference) -> Reference:
    return reference(store, "df", 32, 0, folder / "cache", lite)


def blurred(x: Images, sigma: float) -> Images:
    return gaussian_blur(torch.as_tensor(x), [9, 9], [sigma, sigma]).numpy()


def noised(x: Images, sigma: float) -> Images:
    return np.clip(x + np.random.default_rng(0).normal(0, sigma, x.shape), 0, 255).astype(np.uint8)


def recoloured(x: Images, share: float) -> Images:
    return np.clip(x * np.array([1 + share, 1, 1 - share])[:, None, None], 0, 255).astype(np.uint8)


def jpeg(x: Images, quality: int) -> Images:
    out = []
    for image in x:
        file = io.BytesIO()
        Image.fromarray(image.transpose(1, 2, 0)).save(file, "JPEG", quality=quality)
        out.append(np.asarray(Image.open(file)).transpose(2, 0, 1))
    return np.stack(out)


def chequered(x: Images, height: int) -> Images:
    sign = np.indices(x.shape[2:]).sum(0) % 2 * 2 - 1
    return np.clip(x.astype(int) + height * sign, 0, 255).astype(np.uint8)


# --- what the scores say of real images made worse


@pytest.mark.parametrize(
    ("change", "steps"),
    [
        (blurred, (0.5, 0.8, 1.5)),
        (noised, (4, 10, 25)),
        (jpeg, (90, 60, 20)),
        (recoloured, (0.05, 0.15, 0.4)),
    ],
    ids=["blur", "noise", "jpeg", "colour"],
)
def test_kid_and_fd_rise_with_corruption(
    change: Callable[..., Images], steps: tuple[float, ...], nv: Reference, lite: Extractor
) -> None:
    x = nv.train.images[::6][:28]
    kids, fds = [], []
    for features in [lite(x), *(lite(change(x, s)) for s in steps)]:
        kids.append(kid(features, nv.val.features, nv.val.lesions))
        fds.append(fd(features, nv.val.features))
    assert kids == sorted(kids)
    assert fds == sorted(fds)


def test_real_images_score_like_their_floor_and_a_wrong_class_does_not(
    nv: Reference, df: Reference, lite: Extractor
) -> None:
    floor = evaluate(nv.train.images, nv, lite)
    assert abs(floor["kid_floor"]) < 2 * floor["kid_floor_sd"]
    assert floor["kid_low"] < 4 * floor["kid_floor_sd"]
    assert floor["recall"] == pytest.approx(floor["recall_floor"], abs=0.15)
    assert floor["coverage"] == pytest.approx(floor["coverage_floor"], abs=0.15)
    assert floor["c2st_train"] < 0.5 - 0.05, "copies of the training set sit on the wrong side"
    other = evaluate(df.train.images, nv, lite)
    assert other["kid_low"] > floor["kid_high"]
    assert other["fd"] > other["fd_floor"]
    assert other["c2st"] > 0.9 > other["c2st_floor"] + 0.2


def test_repeated_images_are_a_collapse(nv: Reference, lite: Extractor) -> None:
    varied = evaluate(nv.train.images[::3][:40], nv, lite)
    four = evaluate(nv.train.images[np.arange(40) % 4], nv, lite)
    assert varied["collapse"] < 0.25
    assert four["collapse"] > 0.8 and four["duplicates"] == 1
    assert 2 < four["vendi"] < 4.01


@pytest.mark.parametrize("size", [32, 64])
def test_checkerboard_stands_out_and_blur_does_not(size: int, nv: Reference) -> None:
    x = nv.train.images.repeat(size // 32, axis=2).repeat(size // 32, axis=3)
    x = blurred(x, 0.6 * size / 32)
    assert checkerboard(chequered(x, 2)) > 3 * checkerboard(x)
    coarse = np.clip(x.astype(int) + 4 * (np.indices((size, size)) // 2 % 2 * 2 - 1).prod(0), 0, 255)
    assert checkerboard(coarse.astype(np.uint8)) > 3 * checkerboard(x)
    assert checkerboard(blurred(x, 1.0)) < 3 * checkerboard(x)


def test_real_images_lie_inside_their_interval_and_a_checkerboard_above_it(
    nv: Reference, lite: Extractor, tmp_path: Path
) -> None:
    ref = replace(nv, cache=tmp_path)
    real, drawn = (evaluate(x, ref, lite) for x in (nv.val.images, chequered(nv.val.images, 24)))
    ends = [(row["checkerboard_low"], row["checkerboard_high"]) for row in (real, drawn)]
    assert ends[0] == ends[1] and ends[0][0] < real["checkerboard_floor"] < ends[0][1]
    assert "inside" in against_real(real) and "above" in against_real(drawn)
    few = evaluate(nv.val.images[:8], ref, lite)
    assert few["checkerboard_high"] - few["checkerboard_low"] > 1.2 * (ends[0][1] - ends[0][0])


# --- copies


@pytest.mark.parametrize("label", ["nv", "df"])
@pytest.mark.parametrize(
    "change",
    [
        lambda x: x,
        lambda x: x[..., ::-1],
        lambda x: np.rot90(x, 1, (2, 3)),
        lambda x: np.rot90(x[..., ::-1], 3, (2, 3)),
        lambda x: jpeg(x, 60),
        lambda x: noised(x, 5),
        lambda x: blurred(x, 0.7),
        lambda x: recoloured(x, 0.08),
    ],
    ids=["exact", "flipped", "turned", "both", "jpeg", "noised", "blurred", "recoloured"],
)
def test_copies_are_caught(
    change: Callable[[Images], Images], label: str, nv: Reference, df: Reference, lite: Extractor
) -> None:
    ref = {"nv": nv, "df": df}[label]
    x = np.ascontiguousarray(change(ref.train.images[::5][:12]))
    judged = copies.judge(ref.training.distances(lite(x), x), ref.thresholds)
    assert judged.mean() > 0.9


def test_held_out_images_are_not_copies(nv: Reference, df: Reference) -> None:
    judged = [
        copies.judge(r.training.distances(r.val.features, r.val.images), r.thresholds) for r in (nv, df)
    ]
    assert np.concatenate(judged).mean() < 0.05


def test_blurry_means_of_many_images_are_not_copies(nv: Reference, lite: Extractor) -> None:
    rng = np.random.default_rng(0)
    means = [nv.train.images[rng.choice(len(nv.train.images), 20)].mean(0) for _ in range(40)]
    x = np.stack(means).astype(np.uint8)
    assert copies.judge(nv.training.distances(lite(x), x), nv.thresholds).mean() <= 0.1


def test_small_classes_share_thresholds_and_say_so(df: Reference, lite: Extractor) -> None:
    assert df.thresholds.pooled == ["akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"]
    assert df.thresholds.n > 100 > len(df.val.images)
    assert "pooled over" in evaluate(df.train.images, df, lite)["note"]


def test_a_large_class_is_judged_by_its_own_percentiles() -> None:
    d = copies.Distances(*(np.linspace(0, 1, 201) for _ in range(4)))
    t = copies.thresholds("nv", {"nv": d})
    assert (t.n, t.pooled) == (201, [])
    assert (t.feature, t.pixel_near, t.pixel_margin) == pytest.approx((0.01, 0.05, 0.01))


# --- odd input


@pytest.mark.parametrize(
    ("kind", "n"), [("constant", 2), ("identical", 3), ("noise", 3), ("identical", 40), ("constant", 40)]
)
def test_every_record_is_finite_and_says_what_is_undefined(
    kind: str, n: int, df: Reference, lite: Extractor
) -> None:
    make = {
        "constant": lambda: np.full((n, 3, 32, 32), 128, np.uint8),
        "identical": lambda: df.val.images[:1].repeat(n, axis=0),
        "noise": lambda: np.random.default_rng(0).integers(0, 256, (n, 3, 32, 32), np.uint8),
    }
    row = evaluate(torch.as_tensor(make[kind]()), df, lite)
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    numbers = [v for v in row.values() if isinstance(v, float)]
    assert all(map(math.isfinite, numbers))
    undefined = [key for key, value in row.items() if value is None]
    assert all(key in row["note"] for key in undefined)
    assert row["kid"] is not None
    assert ("checkerboard" in undefined) == (kind == "constant")
    assert ("kid_low" in undefined) == (n < 3)
    assert row["k"] < 5 and f"k = {row['k']} " in row["note"]


@pytest.mark.parametrize("n", [1, 2])
def test_a_validation_set_of_almost_nothing(n: int, df: Reference, lite: Extractor, tmp_path: Path) -> None:
    few = RealSet(df.val.images[:n], df.val.lesions[:n], df.val.features[:n])
    row = evaluate(df.train.images[:5], replace(df, val=few, cache=tmp_path), lite)
    json.dumps(row, allow_nan=False)
    assert row["kid"] is None and "kid" in row["note"] and row["copies"] == 1


def test_evaluation_is_deterministic(df: Reference, lite: Extractor) -> None:
    x = df.train.images[:20]
    assert evaluate(x, df, lite, seed=3) == evaluate(x, df, lite, seed=3)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((8, 3, 64, 64), np.uint8),
        np.zeros((1, 3, 32, 32), np.uint8),
        np.zeros((8, 3, 32, 32), np.float32),
        np.zeros((8, 32, 32, 3), np.uint8),
    ],
    ids=["size", "one", "float", "layout"],
)
def test_wrong_images_are_an_error(wrong: Images, df: Reference, lite: Extractor) -> None:
    with pytest.raises(SkinGanError, match="expected"):
        evaluate(wrong, df, lite)


def test_another_extractor_than_the_references_is_an_error(df: Reference) -> None:
    other = extractor()
    other.weights_sha = "0" * 16
    with pytest.raises(SkinGanError, match="use one for both"):
        evaluate(df.train.images, df, other)


# --- the second network


class Spread:
    """A second network whose features are each colour's spread, median and maximum in an image."""

    name, fd_name, weights_sha, dimensions = "spread", "FD-spread", "def", 9

    def __call__(self, images: Images) -> np.ndarray:
        x = np.asarray(images) / 255
        return np.concatenate([x.std((2, 3)), np.median(x, (2, 3)), x.max((2, 3))], axis=1).astype(np.float32)


def test_the_second_network_says_what_it_would_say_as_the_only_one(store: Store, tmp_path: Path) -> None:
    x = noised(class_images(store, "df"), 20)
    both = reference(store, "df", 32, 0, tmp_path, Counting(), Spread())
    row = evaluate(x, both, Counting(), second=Spread())
    alone = evaluate(x, reference(store, "df", 32, 0, tmp_path / "alone", Spread()), Spread())
    plain = evaluate(x, both, Counting())
    second = [name for name in row if name.endswith("2") or "2_" in name]
    assert {"kid2", "kid2_floor", "coverage2", "recall2", "extractor2"} <= set(second)
    assert {name: row[name] for name in second} == {n: alone[n.replace("2", "")] for n in second}
    rest = set(row) - {*second, "note"}
    assert {name: row[name] for name in rest} == {name: plain[name] for name in rest}
    assert "pretrained" not in row["note"]


def class_images(store: Store, label: str) -> Images:
    return store.pixels(32, np.flatnonzero((store.manifest["dx"] == label).to_numpy()))


def test_without_a_second_network_its_numbers_are_none_and_a_note_says_how_to_get_it(
    df: Reference, lite: Extractor
) -> None:
    row = evaluate(df.train.images[:5], df, lite)
    assert [row[name] for name in ("kid2", "kid2_floor", "coverage2", "recall2")] == [None] * 4
    assert row["note"].count("python -m skin_gan.pretrained") == 1 and row["extractor2"] == ""


def test_another_second_network_than_the_references_is_an_error(store: Store, tmp_path: Path) -> None:
    both = reference(store, "df", 32, 0, tmp_path, Counting(), Spread())
    with pytest.raises(SkinGanError, match="use one for both"):
        evaluate(both.train.images, both, Counting(), second=Counting())


# --- the cache


class Counting:
    """A cheap extractor that counts images; its features are mean colours."""

    name, fd_name, weights_sha, dimensions = "mean", "FD-mean", "abc", 3

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, images: Images) -> np.ndarray:
        self.seen += len(images)
        return np.asarray(images).mean((2, 3)).astype(np.float32)


def test_features_are_computed_once_even_by_two_at_once(store: Store, tmp_path: Path) -> None:
    counting = Counting()
    two = [
        threading.Thread(target=reference, args=(store, label, 32, 0, tmp_path, counting))
        for label in ("df", "vasc")
    ]
    for thread in two:
        thread.start()
    for thread in two:
        thread.join()
    assert counting.seen == sum(store.counts.values())
    reference(store, "mel", 32, 0, tmp_path, counting)
    reference(store, "mel", 32, 1, tmp_path, counting)
    assert counting.seen == sum(store.counts.values())


def test_features_belong_to_their_images(store: Store, tmp_path: Path) -> None:
    ref = reference(store, "akiec", 32, 2, tmp_path, Counting())
    for part in (ref.train, ref.val):
        np.testing.assert_allclose(part.features, part.images.mean((2, 3)), rtol=1e-6)


def test_training_and_validation_share_no_lesion(nv: Reference) -> None:
    assert not set(nv.train.lesions) & set(nv.val.lesions)


def test_halves_share_no_lesion_and_each_has_a_floor_of_its_own(store: Store, tmp_path: Path) -> None:
    whole = reference(store, "df", 32, 0, tmp_path, Counting(), Spread())
    one, other = whole.half(0), whole.half(1)
    assert not set(one.val.lesions) & set(other.val.lesions)
    assert len(one.val.images) + len(other.val.images) == len(whole.val.images)
    for half in (one, other):
        assert half.second is not None and half.second.val.lesions.tolist() == half.val.lesions.tolist()
        assert np.array_equal(half.val.features, Counting()(half.val.images))
        assert half.thresholds == whole.thresholds and half.train is whole.train
    assert len({ref.fingerprint for ref in (whole, one, other)}) == 3
    rows = [evaluate(whole.train.images, ref, Counting()) for ref in (whole, one, other)]
    assert len({row["kid_floor"] for row in rows}) == 3


def test_a_cut_feature_file_is_made_again(store: Store, tmp_path: Path) -> None:
    first = reference(store, "df", 32, 0, tmp_path, Counting())
    (file,) = tmp_path.glob("*/df.npy")
    file.write_bytes(file.read_bytes()[:100])
    again = reference(store, "df", 32, 0, tmp_path, Counting())
    np.testing.assert_array_equal(again.train.features, first.train.features)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_cache_is_one_error(store: Store, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(SkinGanError, match="cannot write"):
        reference(store, "df", 32, 0, tmp_path / "cache", Counting())


def test_warming_reports_progress_and_leaves_nothing_to_do(store: Store, tmp_path: Path) -> None:
    counting, seen = Counting(), []
    warm(store, 32, tmp_path, counting, ["df"], lambda done, total: seen.append((done, total)))
    total = sum(store.counts.values())
    assert seen[-1] == (total, total) and seen == sorted(seen)
    reference(store, "df", 32, 0, tmp_path, counting)
    assert counting.seen == total


def test_the_second_networks_features_are_warmed_for_the_class_alone(store: Store, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    warm(store, 32, tmp_path, Counting(), ["df"], lambda done, total: seen.append((done, total)), Spread())
    both = sum(store.counts.values()) + store.counts["df"]
    assert seen[-1] == (both, both)
    assert [path.name for path in tmp_path.glob("*-def/*.npy")] == ["df.npy"]


def test_command_line_warms_and_explains(
    store: Store, nv: Reference, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--size", "32", "--cache", str(folder / "cache")]
    assert main(["warm", str(store.path), *words]) == 0
    assert main(["warm", str(folder / "absent"), *words]) == 2
    assert "is not a store" in capsys.readouterr().err


# --- real images


@pytest.mark.skipif(not os.environ.get("SKIN_GAN_DATA"), reason="SKIN_GAN_DATA is not set")
@pytest.mark.slow
def test_real_skin_images_of_two_small_classes(tmp_path: Path, lite: Extractor) -> None:
    source = Path(os.environ["SKIN_GAN_DATA"]) / "ham10000"
    store, _ = ingest(source, tmp_path / "store", Options(sizes=[32], classes=["df", "vasc"]))
    vasc = reference(store, "vasc", 32, 0, tmp_path / "cache", lite)
    df = reference(store, "df", 32, 0, tmp_path / "cache", lite)
    right, wrong = (evaluate(r.train.images[:64], vasc, lite) for r in (vasc, df))
    assert right["kid_low"] < 2 * right["kid_floor_sd"] and right["copies"] > 0.95
    assert wrong["kid_low"] > right["kid"] and wrong["copies"] < 0.1
    assert "validation images of" in right["note"]
