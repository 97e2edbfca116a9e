"""A generator to give away: three ways to draw the same images, and a card that says what it is."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from places import ROOT

from skin_gan import export
from skin_gan.config import ModelSettings
from skin_gan.errors import SkinGanError
from skin_gan.families import build
from skin_gan.families.graph import graph
from skin_gan.families.plain import source
from skin_gan.generate import main as generate
from skin_gan.generator import latents, load_generator
from skin_gan.training.showcase import draw

DF = ROOT / "results" / "published" / "projected-ham10000-64" / "best" / "df"
FILES = {
    "README.md", "config.json", "generator.onnx", "generator.py", "model.safetensors", "samples.png",
}  # fmt: skip


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Path:
    """The committed generator of df, exported."""
    folder = tmp_path_factory.mktemp("shared") / "df"
    assert export.main([str(DF), "--to", str(folder)]) == 0
    return folder


def pictures(folder: Path) -> np.ndarray:
    """uint8 [N,H,W,3] of the PNG files in a folder."""
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))])


def apart(a: np.ndarray, b: np.ndarray) -> int:
    """The largest difference of two sets of images, in grey levels."""
    assert a.shape == b.shape and len(a)
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def test_an_export_holds_these_files_and_no_trace_of_the_machine(shared):
    assert {path.name for path in shared.iterdir()} == FILES
    assert [path.name for path in shared.parent.iterdir()] == ["df"]
    for path in shared.iterdir():
        content = path.read_bytes()
        for trace in (str(ROOT), str(shared.parent), "site-packages", ".tmp/"):
            assert trace.encode() not in content, path


def test_one_file_draws_the_same_images_with_torch_alone(shared, tmp_path):
    assert generate([str(DF), "--count", "70", "--seed", "5", "--out", str(tmp_path / "ours")]) == 0
    # Of all packages only torch and what that needs may be imported, as if nothing else were installed.
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "for name in ('skin_gan', 'hpc', 'safetensors', 'numpy', 'PIL', 'torchvision', 'yaml'):\n"
        "    sys.modules[name] = None\n"
    )
    command = [sys.executable, shared / "generator.py", "--count", "70", "--seed", "5", "--out", "theirs"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    without = subprocess.run([sys.executable, "-c", "import skin_gan"], cwd=tmp_path, env=environment)
    assert without.returncode == 1
    assert apart(pictures(tmp_path / "ours" / "df"), pictures(tmp_path / "theirs")) <= 1


def test_onnxruntime_draws_the_same_images_for_any_number_of_latents(shared):
    import onnxruntime

    net, card = load_generator(DF)
    z = latents(card["model"], seed=7, batch=0)
    session = onnxruntime.InferenceSession(shared / "generator.onnx", providers=["CPUExecutionProvider"])
    facts = session.get_modelmeta().custom_metadata_map
    assert (facts["class"], facts["licence"]) == ("df", "cc-by-nc-4.0") and "clinical" in facts["notice"]
    for n in (1, 5):
        (images,) = session.run(["images"], {"latents": z[:n].numpy()})
        assert images.dtype == np.float32 and np.abs(images).max() <= 1
        drawn = ((images + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
        assert apart(drawn, draw(net, z[:n]).numpy()) <= 1


def test_this_library_reads_an_export_as_it_reads_a_sweeps_generator(shared, tmp_path):
    for origin, out in ((DF, "sweep"), (shared, "export")):
        assert generate([str(origin), "--count", "3", "--out", str(tmp_path / out)]) == 0
    assert apart(pictures(tmp_path / "sweep" / "df"), pictures(tmp_path / "export" / "df")) == 0


@pytest.mark.slow
def test_an_export_is_itself_exported_as_the_same_files(shared, tmp_path):
    assert export.main([str(shared), "--to", str(tmp_path / "again")]) == 0
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (shared / name).read_bytes()


def test_the_card_says_what_it_is_and_what_it_is_not_for(shared):
    from huggingface_hub import ModelCard

    card = ModelCard((shared / "README.md").read_text())
    assert card.data.license == "cc-by-nc-4.0" and card.data.library_name == "skin-gan"
    assert card.data.datasets == ["ham10000"] and {"dcgan", "gan", "onnx"} <= {*card.data.tags}
    for said in (
        "`df` (dermatofibroma), 64 by 64 pixels",
        "57 images of 35 lesions",
        "10.1038/sdata.2018.161",
        "256 generated images against 19 validation images of 12 lesions",
        "| kid | 75.9 | 30.5 to 135 | 1.13 | lower |",
        "1.2% of 256 generated images were judged to repeat a training image",
        "diagnosis or any clinical use",
        "float32 [N,100]",
    ):
        assert said in card.content, said
    config = json.loads((shared / "config.json").read_text())
    facts = ("library_name", "family", "size", "latent", "class")
    assert [config[key] for key in facts] == ["skin-gan", "dcgan", 64, 100, "df"]
    assert config["model"]["upsampling"] == "nearest" and config["library_version"]


def copied(tmp_path: Path, **changes) -> Path:
    """A copy of the generator of df whose card has these changes; None removes a key."""
    folder = tmp_path / "changed"
    shutil.copytree(DF, folder)
    card = {**yaml.safe_load((folder / "generator.yaml").read_text()), **changes}
    card = {key: value for key, value in card.items() if value is not None}
    (folder / "generator.yaml").write_text(yaml.safe_dump(card))
    return folder


REFUSED = {
    "rejected": ({"accepted": False, "reasons": ["copies: 0.31"]}, (), "not accepted (copies: 0.31)"),
    "of unknown data": ({"data_kind": None}, (), "give --data KIND, one of ham10000"),
    "of other data": ({}, ("--data", "demo"), "says ham10000; leave --data out"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_may_not_be_shared_is_refused(tmp_path, capsys, kind):
    changes, words, message = REFUSED[kind]
    assert export.main([str(copied(tmp_path, **changes)), "--to", str(tmp_path / "out"), *words]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["changed"]


def test_a_folder_that_is_no_generator_or_already_full_is_one_clear_error(tmp_path, capsys):
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "mine.png").write_bytes(b"mine")
    assert export.main([str(tmp_path / "photographs"), "--to", str(tmp_path / "out")]) == 2
    assert "expected a generator's folder, such as RESULTS/best/CLASS" in capsys.readouterr().err
    assert export.main([str(DF), "--to", str(tmp_path / "photographs")]) == 2
    assert "photographs is in the way: choose another --to" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["photographs", "mine.png"]


def test_nothing_is_left_where_a_form_draws_other_images(tmp_path, capsys, monkeypatch):
    def darker(m, net):
        return source(m, net).replace("return self.layers(z[:, :, None, None])",
                                      "return self.layers(z[:, :, None, None]) - 0.1")  # fmt: skip

    monkeypatch.setattr("skin_gan.families.plain.source", darker)
    assert export.main([str(DF), "--to", str(tmp_path / "out")]) == 2
    assert "generator.py draws other images than the generator, by up to 13" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


def test_a_missing_package_is_named_with_its_extra(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxscript" else True)
    assert export.main([str(DF), "--to", str(tmp_path / "out")]) == 2
    assert "needs onnxscript: install the extra, pip install 'skin-gan[export]'" in capsys.readouterr().err


def test_the_licence_of_other_photographs_is_not_guessed(tmp_path):
    _, card = load_generator(DF)
    text = export.model_card({**card, "data_kind": "other"}, ModelSettings(**card["model"]))
    assert yaml.safe_load(text.split("---")[1])["license"] == "other"
    assert "not known to skin-gan" in text and "HAM10000" not in text
    text = export.model_card({**card, "data_kind": "demo"}, ModelSettings(**card["model"]))
    assert yaml.safe_load(text.split("---")[1])["license"] == "mit" and "no photographs" in text


SMALL = ModelSettings(family="dcgan", size=32, latent=8, base=8)
FLOW = ModelSettings(family="flow", size=16, latent=768, base=8)
NETWORKS = {
    "nearest, batch": (SMALL, 0),
    "transposed, layer": (replace(SMALL, upsampling="transposed", norm="layer"), 0),
    "bilinear, group": (replace(SMALL, upsampling="bilinear", norm="group"), 0),
    "pixelshuffle, none": (replace(SMALL, upsampling="pixelshuffle", norm="none"), 0),
    "aegan": (replace(SMALL, family="aegan"), 0),
    "fading in": (replace(SMALL, growth="fade"), 1.25),
    "faded in": (replace(SMALL, growth="fade"), 2.5),
    "skip": (replace(SMALL, family="aegan", growth="skip", upsampling="transposed"), 1.75),
    "flow": (FLOW, 0),
}


def network(name: str) -> tuple[ModelSettings, torch.nn.Module]:
    """A generator that draws something: fresh ones are grey."""
    m, reached = NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = build(m)["generator"].eval().requires_grad_(False)
        for tensor in net.parameters():
            tensor.normal_(0, 0.2)
        for key, tensor in net.named_buffers():
            if "running" in key:
                tensor.uniform_(0.5, 1.5)
    if m.growth != "none":
        net.reached.fill_(reached)
    return m, net


def written(m: ModelSettings, net: torch.nn.Module, folder: Path):
    """The module of the generator's one file, and its network with the generator's weights."""
    (folder / "generator.py").write_text(source(m, net))
    plain = export.imported(folder / "generator.py")
    again = plain.Generator()
    again.load_state_dict(net.state_dict())
    return plain, again.eval().requires_grad_(False)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_generator_can_be_written_as_one_readable_file(name, tmp_path):
    m, net = network(name)
    _, again = written(m, net, tmp_path)
    z = torch.randn(3, m.latent, generator=torch.Generator().manual_seed(0))
    assert net(z).std() > 0.03
    torch.testing.assert_close(again(z), net(z), atol=1e-4, rtol=0)
    assert not {"jit", "exec", "eval("} & {*source(m, net).replace("(", " ").split()}
    for words in (["check", "--select", "E,F,I,B,UP,SIM"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *words, "-q", "--config", ROOT / "pyproject.toml"]
        done = subprocess.run([*ruff, tmp_path / "generator.py"], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_every_generator_can_be_written_as_onnx(name, tmp_path):
    import onnx
    import onnxruntime

    m, net = network(name)
    model = graph(*written(m, net, tmp_path))
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for n in (1, 5):
        z = torch.randn(n, m.latent, generator=torch.Generator().manual_seed(n))
        (images,) = session.run(["images"], {"latents": z.numpy()})
        np.testing.assert_allclose(images, net(z).numpy(), atol=1e-4)


def test_a_family_without_a_template_is_one_clear_error():
    m, net = network("aegan")
    with pytest.raises(SkinGanError, match=r"expected a template .*templates/tiny\.py\.j2"):
        source(replace(m, family="tiny"), net)
