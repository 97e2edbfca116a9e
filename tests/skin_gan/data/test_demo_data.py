"""The built-in data: what the demo and most tests stand on."""

import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from skin_gan.data import demo
from skin_gan.data.resolve import resolve
from skin_gan.data.store import Store, class_split

HAM10000_BY_SIZE = ["nv", "mel", "bkl", "bcc", "akiec", "vasc", "df"]

# mean colour of each quarter of a class's first image, red green blue
FROZEN = {
    "akiec": [200, 151, 135, 189, 136, 124, 200, 152, 136, 189, 136, 125],
    "bcc": [227, 177, 155, 211, 167, 149, 215, 167, 147, 209, 166, 145],
    "bkl": [198, 159, 134, 189, 150, 126, 219, 175, 153, 209, 167, 144],
    "df": [189, 150, 130, 182, 144, 125, 182, 142, 123, 180, 143, 125],
    "mel": [162, 122, 103, 151, 109, 90, 183, 137, 117, 178, 134, 114],
    "nv": [200, 159, 135, 199, 160, 137, 191, 154, 131, 184, 147, 125],
    "vasc": [208, 147, 135, 216, 151, 140, 205, 146, 132, 212, 159, 144],
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return resolve("demo", [16, 32], tmp_path_factory.mktemp("results"))


def test_seven_classes_with_the_imbalance_in_small(store: Store) -> None:
    assert sorted(store.counts, key=lambda c: -store.counts[c])[0] == HAM10000_BY_SIZE[0]
    assert set(store.counts) == set(HAM10000_BY_SIZE)
    assert min(store.counts, key=store.counts.__getitem__) == "df"
    assert min(store.counts.values()) >= 40 and min(store.lesions.values()) >= 25
    assert sum(store.counts.values()) <= 800


def test_it_is_labelled_as_not_medical(store: Store) -> None:
    assert store.kind == "demo" and any("not medical" in note for note in store.notes)


def test_its_fingerprint_is_its_recipe(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store.fingerprint == resolve("demo", [8], tmp_path).fingerprint == demo.fingerprint()
    monkeypatch.setitem(demo.RECIPE, "seed", 1)
    assert demo.fingerprint() != store.fingerprint


def test_it_is_the_same_on_every_machine() -> None:
    """Means over blocks of one image per class: a last bit may differ, a grey level may not."""
    found = {
        c: demo.draw(c, 0, 0, 32).reshape(2, 16, 2, 16, 3).mean((1, 3)).round().astype(int)
        for c in demo.KINDS
    }
    assert {c: m.reshape(-1).tolist() for c, m in found.items()} == FROZEN


def test_drawing_again_gives_the_same_bytes() -> None:
    np.testing.assert_array_equal(demo.draw("mel", 5, 1, 32), demo.draw("mel", 5, 1, 32))


def test_sizes_show_the_same_picture() -> None:
    large = demo.draw("nv", 3, 0, 64).astype(float).reshape(32, 2, 32, 2, 3).mean((1, 3))
    assert np.abs(large - demo.draw("nv", 3, 0, 32)).mean() < 3


def test_a_size_drawn_later_is_the_size_drawn_at_once(store: Store, tmp_path: Path) -> None:
    resolve("demo", [8], tmp_path)
    later = resolve("demo", [8, 16], tmp_path)
    assert later.sizes == [8, 16]
    np.testing.assert_array_equal(later.images(16), store.images(16))


def test_classes_differ_and_photographs_of_a_lesion_do_not_much(store: Store) -> None:
    """A nearest-centroid rule on colours and their spread tells classes of unseen lesions apart."""
    images = store.images(32).astype(float)
    centre = images[:, 8:24, 8:24]
    traits = np.concatenate([centre.mean((1, 2)), centre.std((1, 2)), images.std((1, 2))], 1)
    traits = (traits - traits.mean(0)) / traits.std(0)
    label, train = store.manifest["dx"].to_numpy(), store.folds != 0
    centroids = {c: traits[train & (label == c)].mean(0) for c in store.classes}
    test = np.flatnonzero(~train)
    guess = [min(centroids, key=lambda c: np.linalg.norm(traits[i] - centroids[c])) for i in test]
    recall = [
        np.mean([g == c for g, i in zip(guess, test, strict=True) if label[i] == c]) for c in store.classes
    ]
    assert np.mean(recall) > 0.7
    group = store.manifest["group"]
    pairs = [np.flatnonzero(group == g) for g, n in Counter(group).items() if n == 2]
    within = np.mean([np.linalg.norm(traits[a] - traits[b]) for a, b in pairs])
    assert within < 0.6 * np.mean([np.linalg.norm(traits[a] - traits[a - 60]) for a, _ in pairs])


@pytest.mark.parametrize("label", HAM10000_BY_SIZE)
def test_every_class_can_be_trained_on(store: Store, label: str) -> None:
    split = class_split(store, label, 32, 0)
    assert len(split.train.images) >= 20 and len(set(split.val.lesions.tolist())) >= 5


def test_it_is_made_in_seconds(tmp_path: Path) -> None:
    start = time.process_time()  # not wall time: other work may share the machine
    resolve("demo", [32], tmp_path)
    assert time.process_time() - start < 10
