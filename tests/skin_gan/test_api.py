"""What `import skin_gan` offers: few names, each imported when it is used, each documented."""

import inspect
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from places import ROOT

import skin_gan
from skin_gan.data.store import Store
from skin_gan.folders import COMPLETED, RunFolder
from skin_gan.generate import generate
from skin_gan.io import append_jsonl

PUBLISHED = ROOT / "results" / "published"
GENERATOR = PUBLISHED / "projected-ham10000-64" / "best" / "df"


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return skin_gan.resolve("demo", [16], tmp_path_factory.mktemp("results"))


def test_the_import_is_light_and_a_name_brings_only_what_it_needs():
    heavy = "{'torch', 'numpy', 'pandas', 'yaml', 'importlib.metadata'} & set(sys.modules)"
    code = f"import sys, skin_gan; print({heavy}); skin_gan.open_store; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["set()", "False"]


def test_every_name_is_there_is_no_module_and_has_a_docstring():
    modules = {p.stem for p in Path(skin_gan.__file__).parent.iterdir()}
    for name in skin_gan.__all__:
        found = getattr(skin_gan, name)
        assert inspect.getdoc(found) and found.__name__ == name and name in dir(skin_gan)
        assert name not in modules, f"importing skin_gan.{name} would hide the function"
    with pytest.raises(AttributeError, match="no_such"):
        _ = skin_gan.no_such


def test_there_is_one_version():
    words = [sys.executable, str(ROOT / "hpc" / "launch.py"), "--version"]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert said.startswith(f"skin-gan {skin_gan.__version__} (")
    assert "version" in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dynamic"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == skin_gan.__version__
    assert f"## {skin_gan.__version__} " in (ROOT / "CHANGELOG.md").read_text()
    assert version("skin-gan") == skin_gan.__version__


def test_images_are_those_that_the_command_writes_for_the_seed(tmp_path):
    network, card = skin_gan.load_generator(GENERATOR)
    images = skin_gan.sample_images(network, card, count=66, seed=3)
    assert images.shape == (66, 3, 64, 64) and images.dtype == np.uint8
    written = np.load(generate(GENERATOR, tmp_path, 66, seed=3, png=False) / "images.npy")
    assert np.array_equal(images, written)
    assert not np.array_equal(images[:5], skin_gan.sample_images(network, card, count=5, seed=4))
    with pytest.raises(skin_gan.SkinGanError, match="count=0"):
        skin_gan.sample_images(network, card, count=0)


@pytest.mark.slow
def test_a_gan_is_trained_resumed_loaded_and_measured(store, tmp_path):
    settings, seen = skin_gan.preset("dcgan", size=16), []
    words = {"out": tmp_path, "progress": seen.append}
    first = skin_gan.train(store, "df", settings, kimg=0.064, **words)
    again = skin_gan.train(store, "df", settings, kimg=0.128, **words)
    assert again.folder == first.folder and (first.scores["images"], again.scores["images"]) == (64, 128)
    assert again.folder.state()["state"] == COMPLETED and seen == sorted(seen) and seen[-1] == 0.128
    network, card = skin_gan.load_generator(again.generator)
    assert (card["label"], card["model"]["size"]) == ("df", 16)
    scores = skin_gan.measure_images(
        skin_gan.sample_images(network, card, 16), store, "df", cache=tmp_path / "cache"
    )
    real = skin_gan.class_split(store, "df", 16, fold=0).train.images
    known = skin_gan.measure_images(torch.from_numpy(real), store, "df", cache=tmp_path / "cache")
    assert known["copies"] > 0.9 > scores["copies"] and known["kid"] < scores["kid"]


def test_what_cannot_be_measured_or_trained_is_named_and_nothing_is_written(store, tmp_path):
    with pytest.raises(skin_gan.SkinGanError, match=r"uint8 \[N,3,H,W\].*\[4, 16, 16, 3\]"):
        skin_gan.measure_images(np.zeros((4, 16, 16, 3), np.uint8), store, "df")
    with pytest.raises(skin_gan.SkinGanError, match="size in pixels"):
        skin_gan.measure_images(tmp_path, store, "df")
    with pytest.raises(skin_gan.SkinGanError, match="no_such"):
        skin_gan.train(store, "no_such", skin_gan.preset("dcgan", 16), kimg=1, out=tmp_path)
    with pytest.raises(skin_gan.SkinGanError, match="17"):
        skin_gan.preset("dcgan", size=17)
    assert not list(tmp_path.iterdir())


def test_tables_of_a_published_sweep():
    run = PUBLISHED / "aegan_lr-ham10000-32"
    board = skin_gan.read_table(run, "leaderboard")
    assert board.groupby("class").size().eq(8).all() and board["kid"].dtype == float
    gains = skin_gan.read_table(run, "gains")
    (gain,) = gains.query(
        "classifier == 'cnn' and scope == 'fold 0' and arm == 'class_weights' and base == 'real' "
        "and measure == 'balanced_accuracy'"
    )["gain"]
    assert gain == pytest.approx(0.061, abs=0.001) and gains["low"].dtype == gains["high"].dtype == float
    with pytest.raises(skin_gan.SkinGanError, match=r"no table 'trials'.*tables there: .*leaderboard"):
        skin_gan.read_table(run, "trials")


def test_tables_of_a_running_sweep_keep_odd_class_names_as_text(tmp_path):
    run = RunFolder(tmp_path)
    for label in ("007", "NA"):
        trial = run.trial(label, 0, "abc")
        trial.path.mkdir(parents=True)
        trial.spec.write_text("{}")
        trial.update(state="running", kimg=4.0)
        for kimg in (2.0, 4.0):
            append_jsonl(trial.metrics, {"kimg": kimg, "images": 1000 * kimg, "kid": 10.0 / kimg})
    run.leaderboard.write_text("class,trial,kid\n007,0000-abc,2.5\nNA,0000-abc,\n")
    assert skin_gan.read_table(tmp_path, "trials")[["class", "kimg"]].values.tolist() == [
        ["007", 4.0],
        ["NA", 4.0],
    ]
    assert skin_gan.read_table(tmp_path, "evaluations")["kid"].tolist() == [5.0, 2.5, 5.0, 2.5]
    board = skin_gan.read_table(str(tmp_path), "leaderboard")
    assert board["class"].tolist() == ["007", "NA"] and board["kid"].isna().tolist() == [False, True]
