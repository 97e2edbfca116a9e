"""From a file's bytes to pixels: orientation, colour, bit depth, crop; and how much decoding small costs."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from data_samples import encode, jpeg, picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from skin_gan.data.decode import Damage, Decoded, decode

BLACK = (0, 0, 0)


def pixels(data: bytes, size: int = 16) -> np.ndarray:
    result = decode(data, [size], BLACK)
    assert isinstance(result, Decoded), result
    return result.images[size].astype(int)


def full(data: bytes, size: int) -> np.ndarray:
    """The plain way: decode all of it, crop, reduce."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    return np.asarray(square.resize((size, size), Image.Resampling.BICUBIC)).astype(int)


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "GIF"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1"])
def test_formats_and_modes(format: str, mode: str) -> None:
    image = picture(1).convert(mode)
    data = encode(image, format)
    np.testing.assert_array_equal(pixels(data), full(data, 16))


def test_lossless_images_of_the_right_size_are_kept_as_they_are() -> None:
    image = picture(1, (32, 32))
    np.testing.assert_array_equal(pixels(encode(image, "PNG"), 32), np.asarray(image))


@pytest.mark.parametrize("size", [(60, 45), (45, 60), (61, 44), (45, 45)])
def test_the_centre_square_is_cut(size: tuple[int, int]) -> None:
    side = min(size)
    image = Image.new("RGB", size, (255, 0, 0))
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    image.paste((0, 0, 255), (left, top, left + side, top + side))
    assert (pixels(encode(image, "PNG")) == (0, 0, 255)).all()


def test_cmyk() -> None:
    data = encode(picture(1).convert("CMYK"), "JPEG", quality=95)
    assert np.abs(pixels(data) - full(encode(picture(1), "PNG"), 16)).mean() < 12


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(format: str) -> None:
    grey = np.linspace(0, 65535, 45 * 45).reshape(45, 45).astype(np.uint16)
    result = pixels(encode(Image.fromarray(grey), format))
    assert result.min() < 8 and result.max() > 247 and abs(result.mean() - 127) < 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    upright = picture(3, (48, 48))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Pillow's Transpose that the tag takes back
    stored = upright.transpose(Image.Transpose(undo[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(pixels(encode(stored, "PNG", exif=exif), 48), np.asarray(upright))
    rotated = pixels(encode(stored, "JPEG", exif=exif, quality=95, subsampling=0))
    assert np.abs(rotated - full(encode(upright, "PNG"), 16)).mean() < 2


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency(mode: str) -> None:
    image = Image.new(mode, (16, 16))
    result = decode(encode(image, "TIFF" if mode == "PA" else "PNG"), [16], (9, 99, 199))
    if mode == "PA":  # few writers know it
        assert isinstance(result, Decoded | Damage)
    else:
        assert isinstance(result, Decoded) and result.transparent
        assert (result.images[16] == (9, 99, 199)).all()


def test_several_sizes_come_from_one_decoding() -> None:
    result = decode(jpeg(1), [8, 16, 32], BLACK)
    assert isinstance(result, Decoded)
    assert {s: i.shape for s, i in result.images.items()} == {s: (s, s, 3) for s in (8, 16, 32)}


@pytest.mark.parametrize(("size", "worst"), [(28, 1.0), (32, 1.0), (64, 1.0), (128, 1.0)])
def test_decoding_small_looks_like_decoding_in_full(size: int, worst: float) -> None:
    """On 600x450 with fine grain, in grey levels: the mean over an image, and nearly every pixel."""
    for seed in range(5):
        grain = np.random.default_rng(seed).normal(0, 10, (450, 600, 3))
        image = np.clip(np.asarray(picture(seed, (600, 450))) + grain, 0, 255).astype(np.uint8)
        data = encode(Image.fromarray(image), "JPEG", quality=92)
        difference = np.abs(pixels(data, size) - full(data, size))
        assert difference.mean() < worst and np.quantile(difference, 0.999) <= 6


@pytest.mark.skipif(not os.environ.get("SKIN_GAN_DATA"), reason="SKIN_GAN_DATA is not set")
def test_decoding_small_looks_like_decoding_in_full_on_real_images() -> None:
    with zipfile.ZipFile(Path(os.environ["SKIN_GAN_DATA"]) / "ham10000_256.zip") as archive:
        names = [n for n in archive.namelist() if n.endswith(".jpg")][:40]
        for data in map(archive.read, names):
            difference = np.abs(pixels(data, 32) - full(data, 32))
            assert difference.mean() < 0.8 and np.quantile(difference, 0.999) <= 8


WHOLE = {"jpeg": jpeg(1), "png": encode(picture(1), "PNG"), "tiff": encode(picture(1), "TIFF")}


@pytest.mark.parametrize("name", ["jpeg", "png"])
@pytest.mark.parametrize("kept", [0, 30, 0.3, 0.7, 0.95, -1])
def test_a_cut_file_is_truncated(name: str, kept: float) -> None:
    data = WHOLE[name]
    cut = data[: int(kept * len(data))] if isinstance(kept, float) else data[:kept]
    result = decode(cut, [16], BLACK)
    assert isinstance(result, Damage) and result.kind == "truncated"


@pytest.mark.parametrize("data", [b"hello", b"\0" * 500, b"<html>", "ü".encode() * 40], ids=repr)
def test_what_is_no_image(data: bytes) -> None:
    result = decode(data, [16], BLACK)
    assert isinstance(result, Damage) and result.kind == "non_image"


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(WHOLE)), st.data())
def test_no_damage_escapes(name: str, data: st.DataObject) -> None:
    """Whatever bytes are changed, the result is an image or a named kind of damage."""
    broken = bytearray(WHOLE[name])
    for place in data.draw(st.lists(st.integers(0, len(broken) - 1), max_size=6)):
        broken[place] = data.draw(st.integers(0, 255))
    result = decode(bytes(broken), [16], BLACK)
    if isinstance(result, Decoded):
        assert result.images[16].shape == (16, 16, 3)
    else:
        assert result.kind in ("corrupt", "non_image", "truncated") and result.why
