"""The networks: shapes and ranges of every variant, published sizes, initial weights, clear errors."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skin_gan.config import ModelSettings
from skin_gan.errors import SkinGanError
from skin_gan.families import build
from skin_gan.families.blocks import D_NORMS, NORMS, UPSAMPLING, NearestConv2d, widths
from skin_gan.presets import PRESETS, preset
from skin_gan.pretrained import settled
from skin_gan.variants import FAMILIES as FOLDER
from skin_gan.variants import names, variant

LATENT = 5
GANS = tuple(name for name in names(FOLDER) if hasattr(variant(FOLDER, name), "Discriminator"))


def settings(**changes: object) -> ModelSettings:
    return replace(ModelSettings(latent=LATENT, base=4, size=16), **changes)  # type: ignore[arg-type]


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("size", [16, 32, 64])
@pytest.mark.parametrize("upsampling", UPSAMPLING)
@pytest.mark.parametrize("family", GANS)
def test_generators_make_images_with_every_normalisation(family: str, upsampling: str, size: int) -> None:
    for norm in NORMS:
        nets = build(settings(family=family, size=size, upsampling=upsampling, norm=norm))
        images = nets["generator"](torch.randn(3, LATENT))
        assert images.shape == (3, 3, size, size), norm
        assert images.abs().max() <= 1
        images.square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in nets["generator"].parameters())


@pytest.mark.parametrize("size", [16, 32, 64])
@pytest.mark.parametrize("d_norm", D_NORMS)
@pytest.mark.parametrize("family", GANS)
def test_discriminators_and_encoder_read_images(family: str, d_norm: str, size: int) -> None:
    nets = build(settings(family=family, size=size, d_norm=d_norm))
    images = torch.rand(3, 3, size, size) * 2 - 1
    assert nets["discriminator"](images).shape == (3,)
    if family == "aegan":
        assert nets["encoder"](images).shape == (3, LATENT)
        assert nets["latent_discriminator"](torch.randn(3, LATENT)).shape == (3,)


@pytest.mark.parametrize("size", [128, 256])
def test_large_sizes(size: int) -> None:
    nets = build(settings(family="dcgan", size=size))
    assert nets["discriminator"](nets["generator"](torch.randn(2, LATENT))).shape == (2,)


def test_dcgan_has_the_published_numbers_of_parameters() -> None:
    nets = build(preset("dcgan").model)
    assert (count(nets["generator"]), count(nets["discriminator"])) == (3_576_704, 2_765_568)


def test_the_wide_dcgan_has_the_paper_s_channels() -> None:
    assert widths(preset("dcgan_wide").model) == [1024, 512, 256, 128]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_builds(name: str) -> None:
    m = settled(preset(name).model)
    nets = build(replace(m, base=8))
    assert nets["generator"](torch.randn(2, m.latent)).shape == (2, 3, m.size, m.size)
    assert "discriminator" in nets or m.family == "flow"


def test_dcgan_starts_from_the_published_distributions() -> None:
    for net in build(preset("dcgan").model).values():
        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                assert module.bias is None
                assert abs(module.weight.mean()) < 2e-3
                assert abs(module.weight.std() - 0.02) < 2e-3
            if isinstance(module, nn.BatchNorm2d):
                assert abs(module.weight.mean() - 1) < 0.01
                assert module.bias.abs().max() == 0


def test_pixel_shuffle_starts_without_a_checkerboard() -> None:
    nets = build(settings(family="dcgan", upsampling="pixelshuffle", norm="none"))
    images: Tensor = nets["generator"](torch.randn(2, LATENT))
    blocks = images.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))
    assert images.std() > 0
    assert torch.equal(blocks, blocks[:, :, :, :1, :, :1].expand_as(blocks))


def test_merged_nearest_upsampling_is_upsampling_and_convolution() -> None:
    layer = NearestConv2d(4, 3, 3, 1, 1).double()
    x = torch.randn(2, 4, 6, 6, dtype=torch.double)
    expected = F.conv2d(F.interpolate(x, scale_factor=2.0), layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(layer(x), expected)


def test_spectral_normalisation_bounds_every_layer() -> None:
    nets = build(settings(d_norm="spectral"))
    for name in ("discriminator", "latent_discriminator"):
        net = nets[name]
        for _ in range(30):  # power iterations
            net(torch.randn(2, 3, 16, 16) if name == "discriminator" else torch.randn(2, LATENT))
        layers = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        norms = [torch.linalg.matrix_norm(m.weight.flatten(1), 2).item() for m in layers]
        assert norms == pytest.approx([1.0] * len(layers), abs=0.05)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"family": "vae"}, ["vae", "dcgan", "aegan"]),
        ({"upsampling": "cubic"}, ["cubic", "nearest", "pixelshuffle"]),
        ({"norm": "spectral"}, ["spectral", "batch", "layer"]),
        ({"d_norm": "weight"}, ["weight", "spectral"]),
        ({"size": 48}, ["48", "power of two"]),
    ],
)
def test_an_unknown_choice_is_named_with_the_valid_ones(changes: dict[str, object], named: list[str]) -> None:
    with pytest.raises(SkinGanError) as error:
        build(settings(**changes))
    assert all(word in str(error.value) for word in named)
