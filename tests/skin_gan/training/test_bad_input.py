"""Classes of hardly any images, or of images with nothing in them: presets train on them and are measured.

Each run is sound: all weights, losses and scores are finite, and what is not defined is None and named.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gan_samples import OPS

from skin_gan.config import EvalSettings, TrialSpec
from skin_gan.data.build import manifest_csv
from skin_gan.data.store import FORMAT, Store, class_split, describe_rows, open_store, store_json
from skin_gan.families import build
from skin_gan.folders import COMPLETED, TrialFolder
from skin_gan.metrics.evaluate import Reference, evaluate, reference
from skin_gan.metrics.features import Extractor, extractor
from skin_gan.presets import preset
from skin_gan.training.devices import make_accelerator
from skin_gan.training.learner import Learner
from skin_gan.training.session import Session
from skin_gan.training.watch import overfitting

SIZE, COUNT = 16, 20  # of which 12 are for training and 4 for validation
AUGMENT = {"dcgan": "ada", "aegan_page": "diffaugment", "projected": "geometric", "flow": "dihedral"}


def images_of(kind: str) -> np.ndarray:
    """uint8 [COUNT,S,S,3]: "few" are noise, "equal" one picture, "flat" of one colour each, "black"."""
    noise = np.random.default_rng(0).integers(0, 256, (COUNT, SIZE, SIZE, 3), dtype=np.uint8)
    shape = noise.shape
    return {
        "few": noise,
        "equal": np.broadcast_to(noise[:1], shape),
        "flat": np.broadcast_to(noise[:, :1, :1], shape),
        "black": np.zeros_like(noise),
    }[kind]


KINDS = ("few", "equal", "flat", "black")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("odd")
    names = [(kind, f"{kind}-{i}") for kind in KINDS for i in range(COUNT)]
    rows = [
        {"image_id": name, "lesion_id": name, "dx": kind, "group": name, "sha256": name}
        for kind, name in names
    ]
    np.save(folder / f"images-{SIZE}.npy", np.concatenate([images_of(kind) for kind in KINDS]))
    (folder / "manifest.csv").write_text(manifest_csv(rows))
    made = Store(folder, folder.name, "folder", unit="lesion", partial=False, format=FORMAT,
                 **describe_rows(rows, {"size": SIZE}))  # fmt: skip
    (folder / "store.json").write_text(store_json(made))
    return open_store(folder)


@pytest.fixture(scope="module")
def lite() -> Extractor:
    return extractor(threads=1)


@pytest.fixture(scope="module")
def references(
    store: Store, lite: Extractor, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Reference]:
    cache = tmp_path_factory.mktemp("cache")
    return {kind: reference(store, kind, SIZE, 0, cache, lite) for kind in KINDS}


def spec_of(name: str, label: str, batch: int) -> TrialSpec:
    s = preset(name)
    features = {"discriminator": "projected", "features": "random"} if name == "projected" else {}
    s = replace(
        s,
        model=replace(s.model, size=SIZE, base=8, latent=3 * SIZE**2 if name == "flow" else 4, **features),
        loss=replace(s.loss, lecam=0.1, zero_outputs=0.1, r1=0.0 if name == "projected" else 0.1),
        train=replace(s.train, batch=batch, augment=AUGMENT[name]),
    )
    return TrialSpec(label, 0, 1, 0, "data", s)


# Each preset and each kind once, and the other pairs where there is time.
CASES = [
    pytest.param(name, kind, marks=[] if i == j else pytest.mark.slow)
    for i, name in enumerate(AUGMENT)
    for j, kind in enumerate(KINDS)
]


def finite(row: dict[str, object]) -> bool:
    return all(math.isfinite(value) for value in row.values() if isinstance(value, float))


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_a_preset_trains_on_it_and_is_measured(
    name: str, kind: str, store: Store, lite: Extractor, references: dict[str, Reference], tmp_path: Path
) -> None:
    """With a batch that is larger than the class."""
    session = Session(
        spec_of(name, kind, batch=32), TrialFolder(tmp_path), class_split(store, kind, SIZE, 0), OPS,
        EvalSettings(images=16, grid=4),
    )  # fmt: skip
    row = session.advance(0.128, lambda images: evaluate(images, references[kind], lite))
    assert session.learner.images == 128 and session.learner.finite() and finite(row)
    undefined = [key for key, value in row.items() if value is None and not key.endswith("2")]
    scores = [key for key in undefined if key not in ("d_train", "d_val", "overfit")]
    assert all(key in row["note"] for key in scores), (scores, row["note"])
    assert row["kid"] is not None
    session.finish(COMPLETED)
    session.close()


@pytest.mark.parametrize("name", AUGMENT)
def test_a_process_s_share_of_a_batch_may_be_one_image(name: str, store: Store) -> None:
    split = class_split(store, "few", SIZE, 0)
    learner = Learner(spec_of(name, "few", batch=2), split.train, make_accelerator("fp32", OPS))
    learner.sampler.batch = 1
    for _ in range(2):
        scalars = learner.step()
    assert all(value.isfinite().all() for value in scalars.values()) and learner.finite()


@pytest.mark.parametrize("name", [name for name in AUGMENT if name != "flow"])
def test_a_discriminator_is_watched_with_one_image_of_a_kind(name: str) -> None:
    torch.manual_seed(0)
    net = build(spec_of(name, "few", 2).settings.model)["discriminator"]
    images = torch.from_numpy(images_of("few").transpose(0, 3, 1, 2).copy())
    assert finite(overfitting(net, images, images[:1], images[:3], batch=64))
    for n in range(2, 9):  # equal images, of which means over n and over all differ by rounding
        same = images[n].expand_as(images)
        assert overfitting(net, same, same[:1], same[:n], batch=64)["overfit"] is None
