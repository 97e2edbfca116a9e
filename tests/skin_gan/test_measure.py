"""Generators and folders of images measured against what training held back."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from data_samples import encode, pack, picture
from gan_samples import judge
from PIL import Image

from skin_gan.config import ModelSettings, Operations, TrialSettings, TrialSpec
from skin_gan.data.__main__ import main as ingest
from skin_gan.data.store import class_split, open_store
from skin_gan.folders import TrialFolder
from skin_gan.generator import CARD, CONFIG, MODEL, WEIGHTS, read_card, save_generator
from skin_gan.measure import main
from skin_gan.training.session import Session

SIZE = 16


def ingested(folder: Path, seed: int) -> Path:
    """A store of two classes of 40 drawn pictures each."""
    members = {
        f"{label}/{label}{i}.png": encode(picture(seed + 100 * k + i), "PNG")
        for k, label in enumerate("ab")
        for i in range(40)
    }
    source, out = pack(folder / "pictures.zip", members), folder / "store"
    assert ingest(["ingest", str(source), "--size", str(SIZE), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return ingested(tmp_path_factory.mktemp("measure"), seed=0)


@pytest.fixture(scope="module")
def generator(store, tmp_path_factory) -> Path:
    """A generator after two steps, by a session of its own."""
    folder, data = tmp_path_factory.mktemp("generator"), open_store(store)
    settings = TrialSettings(model=ModelSettings(family="dcgan", size=SIZE, base=8))
    spec = TrialSpec("a", 0, 0, 0, data.fingerprint, settings)
    session = Session(spec, TrialFolder(folder / "trial"), class_split(data, "a", SIZE, 0), Operations())
    session.advance(0.128, lambda images: {**judge(images), "kid": 2.0})
    session.close()
    best, card = folder / "best" / "a", {"accepted": True, "reasons": [], "trial": "0"}
    save_generator(TrialFolder(folder / "trial"), best, card)
    return best


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_held_out_images_measure_better_than_a_generator_of_two_steps(store, generator, tmp_path, capsys):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for i, image in enumerate(class_split(open_store(store), "a", SIZE, 0).train.images):
        Image.fromarray(image.transpose(1, 2, 0)).save(theirs / f"{i:03d}.png")
    words = f"{generator} {theirs} --data {store} --label a --size {SIZE} --count 16".split()
    assert main([*words, "--csv", str(tmp_path / "scores.csv")]) == 0
    drawn, real = rows(tmp_path / "scores.csv")
    assert float(drawn["kid"]) > 10 * abs(float(real["kid"])) and float(drawn["kid2"]) > float(real["kid2"])
    assert float(real["copies"]) > 0.9 > float(drawn["copies"]), "training images are copies of themselves"
    assert [row["n_fake"] for row in (drawn, real)] == ["16", "16"]
    shown = capsys.readouterr().out
    assert shown.split()[:2] == ["label", "kid"] and len(shown.splitlines()) == 3


def test_a_generator_of_other_data_is_refused_and_so_is_an_export_of_it(generator, tmp_path, capsys):
    other, exported = ingested(tmp_path, seed=7), tmp_path / "exported"
    exported.mkdir()
    (exported / CONFIG).write_text(json.dumps(read_card(generator / CARD)))
    shutil.copyfile(generator / WEIGHTS, exported / MODEL)
    for source in (generator, exported):
        assert main([str(source), "--data", str(other)]) == 2
        assert "was trained on other data" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [(["none"], "there is no folder"), (["."], "give --label and --size"),
     ([".", "--label", "a", "--size", "16", "--count", "4"], "holds 0 PNG or JPEG images"),
     ([".", "--count", "1"], "expected at least 2")],
)  # fmt: skip
def test_mistakes_are_one_line(words, message, store, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*words, "--data", str(store)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
