"""From checkpoint to generator to images: the same images, traceable, and nothing unsafe or half-written."""

import csv
import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from gan_samples import SIZE, judge, open_session, spec
from PIL import Image

from skin_gan import generate, pretrained
from skin_gan.errors import SkinGanError
from skin_gan.families.steps import sample
from skin_gan.folders import TrialFolder
from skin_gan.generate import main
from skin_gan.generator import build_generator, halve, load_generator, save_generator
from skin_gan.training import checkpoint, grids

ACCEPTED = {"accepted": True, "reasons": [], "trial": "0000-test"}


@pytest.fixture(scope="module")
def trial(tmp_path_factory) -> TrialFolder:
    folder = tmp_path_factory.mktemp("trial")
    session = open_session(folder, spec("aegan"))
    with torch.no_grad():  # fresh networks draw the same grey for every latent
        for parameter in session.learner.plain["generator"].parameters():
            parameter.mul_(5)
    session.advance(0.016, lambda images: {**judge(images), "kid": 2.0})
    session.advance(0.048, lambda images: {**judge(images), "kid": 3.0})
    session.close()
    return TrialFolder(folder)


@pytest.fixture
def best(trial, tmp_path) -> Path:
    save_generator(trial, tmp_path / "best" / "df", ACCEPTED)
    return tmp_path / "best" / "df"


def images(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.glob("*.png"))]


def run(best: Path, out: Path, *options: str) -> int:
    return main([str(best), "--out", str(out), *options])


def test_the_exported_generator_is_the_average_of_the_best_checkpoint(trial, best):
    net, card = load_generator(best)
    state = checkpoint.load(trial.best, spec("aegan").id)
    assert state["learner"]["images"] == 16
    weights = net.state_dict()
    assert weights.keys() == state["learner"]["ema"].keys()
    assert all(torch.equal(weights[k], state["learner"]["ema"][k]) for k in weights)
    assert not net.training
    assert card["fold_fingerprint"] == "fold-fingerprint"
    assert (card["label"], card["kimg"], card["metrics"]["kid"], card["accepted"]) == ("df", 0.016, 2.0, True)
    assert card["trial_id"] == spec("aegan").id
    assert Image.open(best / "samples.png").size[0] > 8 * 64


def test_a_halved_generator_draws_the_same_images_from_half_as_much(best, tmp_path):
    halve(best, tmp_path / "half")
    (whole, card), (half, halved) = load_generator(best), load_generator(tmp_path / "half")
    sizes = [(folder / "generator.safetensors").stat().st_size for folder in (best, tmp_path / "half")]
    assert sizes[1] < 0.7 * sizes[0]  # both have a header of names
    assert halved["sha256_fp32"] == card["sha256"] != halved["sha256"]
    z = torch.randn(16, card["model"]["latent"], generator=torch.Generator().manual_seed(0))
    difference = sample(whole, z).float() - sample(half, z).float()
    assert difference.abs().max() <= 2
    pairs = zip(whole.parameters(), half.parameters(), strict=True)
    assert all(torch.equal(a.half().float(), b) for a, b in pairs)


def test_a_generator_draws_without_the_weights_that_its_discriminator_was_built_on(monkeypatch, tmp_path):
    monkeypatch.setenv(pretrained.FOLDER, str(tmp_path))
    monkeypatch.setattr(pretrained, "WEIGHTS", {})
    model = {"family": "dcgan", "size": 16, "latent": 4, "base": 4, "discriminator": "projected"}
    assert build_generator(model)(torch.zeros(1, 4)).shape == (1, 3, 16, 16)


def test_a_set_is_reproducible_and_says_where_it_comes_from(best, tmp_path):
    assert run(best, tmp_path / "a", "--count", "70", "--seed", "5") == 0
    assert run(best, tmp_path / "b", "--count", "70", "--seed", "5") == 0
    made = images(tmp_path / "a" / "df")
    assert made == images(tmp_path / "b" / "df")
    assert len(set(made)) == 70
    assert Image.open(tmp_path / "a" / "df" / "00069.png").size == (SIZE, SIZE)
    with open(tmp_path / "a" / "df" / "manifest.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == [f"{i:05d}.png" for i in range(70)]
    assert [row["sha256"] for row in rows] == [hashlib.sha256(png).hexdigest() for png in made]
    manifest = yaml.safe_load((tmp_path / "a" / "df" / "manifest.yaml").read_text())
    assert manifest["fold_fingerprint"] == "fold-fingerprint"
    weights = (best / "generator.safetensors").read_bytes()
    assert manifest["generator_sha256"] == hashlib.sha256(weights).hexdigest()
    assert (manifest["seed"], manifest["count"]) == (5, 70)


@pytest.mark.parametrize("count", [1, 10, 64, 65])
def test_a_smaller_set_is_the_beginning_of_a_larger_one(best, tmp_path, count):
    run(best, tmp_path / "small", "--count", str(count))
    run(best, tmp_path / "large", "--count", "130")
    assert images(tmp_path / "small" / "df") == images(tmp_path / "large" / "df")[:count]


def test_another_seed_gives_other_images(best, tmp_path):
    run(best, tmp_path / "a", "--count", "8", "--seed", "1")
    run(best, tmp_path / "b", "--count", "8", "--seed", "2")
    assert not set(images(tmp_path / "a" / "df")) & set(images(tmp_path / "b" / "df"))


def test_the_same_set_again_is_left_alone_and_another_is_an_error(best, tmp_path, capsys):
    run(best, tmp_path, "--count", "8")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "df").iterdir()}
    assert run(best, tmp_path, "--count", "8") == 0
    assert run(best, tmp_path, "--count", "9") == 2
    assert "count 8 and not 9" in capsys.readouterr().err
    assert run(best, tmp_path, "--count", "8", "--seed", "1") == 2
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "df").iterdir()} == before
    (tmp_path / "df" / "00003.png").unlink()
    assert run(best, tmp_path, "--count", "8") == 2
    assert "lacks 1 of its images, such as 00003.png" in capsys.readouterr().err


def test_an_array_holds_the_same_images_in_one_file(best, tmp_path, capsys):
    generate.generate(best, tmp_path, 70, 5, png=False)
    assert {p.name for p in (tmp_path / "df").iterdir()} == {"images.npy", "manifest.csv", "manifest.yaml"}
    array = np.load(tmp_path / "df" / "images.npy")
    run(best, tmp_path / "files", "--count", "70", "--seed", "5")
    files = [np.asarray(Image.open(p)) for p in sorted((tmp_path / "files" / "df").glob("*.png"))]
    assert array.dtype == np.uint8 and np.array_equal(array.transpose(0, 2, 3, 1), np.stack(files))
    [row] = csv.DictReader((tmp_path / "df" / "manifest.csv").read_text().splitlines())
    content = (tmp_path / "df" / "images.npy").read_bytes()
    assert row == {"file": "images.npy", "index": "0", "sha256": hashlib.sha256(content).hexdigest()}
    texts = [(p / "df" / "manifest.yaml").read_text() for p in (tmp_path, tmp_path / "files")]
    assert texts[0] == texts[1]


def test_image_files_stand_for_an_array_but_not_the_other_way_round(best, tmp_path, capsys):
    """So sets that earlier versions wrote stay, and who asks for files never gets none."""
    run(best, tmp_path / "files", "--count", "8")
    generate.generate(best, tmp_path / "files", 8, png=False)
    assert len(images(tmp_path / "files" / "df")) == 8 and not (tmp_path / "files/df/images.npy").exists()
    generate.generate(best, tmp_path / "array", 8, png=False)
    before = (tmp_path / "array/df/images.npy").stat().st_mtime_ns
    generate.generate(best, tmp_path / "array", 8, png=False)
    assert (tmp_path / "array/df/images.npy").stat().st_mtime_ns == before
    assert run(best, tmp_path / "array", "--count", "8") == 2
    assert (
        "holds these images in images.npy, not as PNG files: choose another --out" in capsys.readouterr().err
    )


def test_a_folder_of_something_else_is_never_written_into(best, tmp_path):
    (tmp_path / "df").mkdir()
    (tmp_path / "df" / "photograph.png").write_bytes(b"mine")
    assert run(best, tmp_path, "--count", "8") == 2
    assert [p.name for p in (tmp_path / "df").iterdir()] == ["photograph.png"]


def test_an_interrupted_set_leaves_nothing_that_looks_whole(best, tmp_path, monkeypatch):
    def interrupted(*arguments):
        yield np.zeros((8, 8, 3), np.uint8)
        raise KeyboardInterrupt

    monkeypatch.setattr(generate, "_images", interrupted)
    assert run(best, tmp_path / "out", "--count", "8") == 130
    assert list((tmp_path / "out").iterdir()) == []
    monkeypatch.undo()
    assert run(best, tmp_path / "out", "--count", "8") == 0


def test_a_rejected_generator_is_refused_with_the_reasons(trial, tmp_path, capsys):
    save_generator(
        trial, tmp_path / "best", {"accepted": False, "reasons": ["copies: 0.31", "coverage: 0.00"]}
    )
    assert run(tmp_path / "best", tmp_path / "out", "--count", "2") == 2
    assert "copies: 0.31; coverage: 0.00" in capsys.readouterr().err
    assert run(tmp_path / "best", tmp_path / "out", "--count", "2", "--allow-rejected") == 0
    manifest = yaml.safe_load((tmp_path / "out" / "df" / "manifest.yaml").read_text())
    assert manifest["accepted"] is False


def change_card(best: Path, **changes) -> None:
    card = yaml.safe_load((best / "generator.yaml").read_text())
    (best / "generator.yaml").write_text(yaml.safe_dump({**card, **changes}))


DAMAGE = {
    "no folder": (shutil.rmtree, "generator.yaml cannot be read"),
    "no weights": (lambda b: (b / "generator.safetensors").unlink(), "generator.safetensors cannot be read"),
    "no card": (lambda b: (b / "generator.yaml").unlink(), "generator.yaml cannot be read"),
    "cut weights": (lambda b: (b / "generator.safetensors").write_bytes(b"x" * 50), "cut, damaged"),
    "cut card": (lambda b: (b / "generator.yaml").write_text("format: [1"), "cut or damaged"),
    "empty card": (lambda b: (b / "generator.yaml").write_text(""), "cut or damaged"),
    "short card": (lambda b: (b / "generator.yaml").write_text("format: 1"), "lacks label, model"),
    "later format": (lambda b: change_card(b, format=2), "is of format 2"),
    "other network": (lambda b: change_card(b, model={"family": "dcgan", "size": SIZE}), "does not fit"),
    "unknown setting": (lambda b: change_card(b, model={"depth": 3}), "unknown to this version"),
    "bad setting": (lambda b: change_card(b, model={"size": 17}), "out of range"),
    "path as class": (lambda b: change_card(b, label="../../home"), "names a class"),
    "code in the card": (
        lambda b: (b / "generator.yaml").write_text("!!python/object/apply:os.system ['echo']"),
        "cut or damaged",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_generator_is_one_clear_error(best, tmp_path, capsys, kind):
    damage, message = DAMAGE[kind]
    damage(best)
    assert run(best, tmp_path / "out", "--count", "2") == 2
    error = capsys.readouterr().err
    assert message in error
    assert str(best) in error or "settings" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [("--count", "0"), ("--count", "-3"), ("--count", "2", "--seed", "-1")])
def test_counts_and_seeds_out_of_range_are_errors(best, tmp_path, options, capsys):
    assert run(best, tmp_path / "out", *options) == 2
    assert "expected at least 1 image" in capsys.readouterr().err


def test_a_trial_that_was_never_measured_has_nothing_to_export(tmp_path):
    session = open_session(tmp_path)
    session.train(0.016)
    session.close()
    with pytest.raises(SkinGanError, match=r"has no best\.pt"):
        save_generator(TrialFolder(tmp_path), tmp_path / "out", ACCEPTED)


def test_loading_does_not_disturb_the_random_numbers_of_others(best):
    torch.manual_seed(1)
    expected = torch.randn(3)
    torch.manual_seed(1)
    net, _ = load_generator(best)
    assert torch.equal(torch.randn(3), expected)
    assert sample(net, torch.zeros(2, 4)).dtype == torch.uint8


def test_a_sheet_shows_every_pixel_of_every_image_in_order():
    x = np.random.default_rng(0).integers(0, 256, (5, 3, 16, 16), dtype=np.uint8)
    page = grids.sheet(x, columns=3)
    enlarged = x.transpose(0, 2, 3, 1).repeat(4, axis=1).repeat(4, axis=2)
    step = 64 + grids.GAP
    for i, image in enumerate(enlarged):
        top, left = grids.GAP + i // 3 * step, grids.GAP + i % 3 * step
        assert np.array_equal(page[top : top + 64, left : left + 64], image)
    assert page.shape == (2 * step + grids.GAP, 3 * step + grids.GAP, 3)


def test_a_caption_stands_above_the_images_and_is_broken_to_fit():
    x = np.zeros((4, 3, 32, 32), dtype=np.uint8)
    plain, captioned = grids.sheet(x), grids.sheet(x, caption="a caption much wider than this small sheet is")
    assert captioned.shape[1] == plain.shape[1]
    above = captioned[: len(captioned) - len(plain)]
    assert len(above) >= 2 * grids.TEXT
    assert above.min() < 128
    assert np.array_equal(captioned[len(above) :], plain)
    wide = grids.sheet(np.zeros((20, 3, 32, 32), dtype=np.uint8), columns=20, caption="I")
    assert (wide[: wide.shape[0] // 2].min(2) < 128).any(1).sum() > 0.02 * wide.shape[1], (
        "letters grow with it"
    )


def test_interpolation_starts_and_ends_at_its_latents_and_keeps_their_length():
    a, b = torch.randn(3, 16), torch.randn(3, 16)
    a, b = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)
    path = grids.interpolate(a, b, 5).view(3, 5, 16)
    torch.testing.assert_close(path[:, 0], a)
    torch.testing.assert_close(path[:, -1], b)
    torch.testing.assert_close(path.norm(dim=2), torch.ones(3, 5))
