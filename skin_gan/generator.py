"""Saves and loads a generator: a folder with generator.safetensors (weights) and generator.yaml (its card).

Neither file can hold code. The card names the settings, the data, the fold and the metrics, and whether the
generator was accepted. `skin_gan.export` writes the same content under the names of the Hugging Face Hub.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from skin_gan.config import ModelSettings, TrialSettings, check
from skin_gan.errors import SkinGanError
from skin_gan.folders import TrialFolder
from skin_gan.installation import called
from skin_gan.io import write_atomic

if TYPE_CHECKING:  # torch is imported inside functions: command lines start without it
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

FORMAT = 1
WEIGHTS, CARD, SHEET = "generator.safetensors", "generator.yaml", "samples.png"
MODEL, CONFIG = "model.safetensors", "config.json"  # the same two files in an export
NOTICE = "Generated images, not photographs. For research only: not for clinical or commercial use."
# Images are always computed in full batches of this size: rounding may depend on the size of a batch, and
# image i must not depend on the number of images.
BATCH = 64


def save_generator(folder: TrialFolder, out: Path, extra: dict[str, Any]) -> dict[str, Any]:
    """Write the averaged generator of the trial's best.pt into `out`; returns its card.

    `extra` is added to the card: whether the generator was accepted, why not, and so on. Raises SkinGanError
    if best.pt is missing or damaged.
    """
    from safetensors.torch import save

    from skin_gan.training import grids
    from skin_gan.training.showcase import draw

    net, spec, state = best_generator(folder)
    weights = save({k: v.contiguous() for k, v in state["learner"]["ema"].items()})
    card = {**card_of(spec, state), "sha256": hashlib.sha256(weights).hexdigest(), **extra}
    shown = draw(net, latents(card["model"], seed=0, batch=0))
    grids.save(out / SHEET, grids.sheet(shown, caption=caption_of(card)))
    write_atomic(out / WEIGHTS, weights)
    write_atomic(out / CARD, yaml.safe_dump(card, sort_keys=False))  # last: it holds the weights' hash
    return card


def best_generator(folder: TrialFolder) -> tuple[nn.Module, dict[str, Any], dict[str, Any]]:
    """The averaged generator of the trial's best.pt, with the contents of trial.yaml and of that checkpoint.

    SkinGanError if best.pt is missing or damaged.
    """
    from skin_gan.training import checkpoint

    spec = read_yaml(folder.spec)
    if not folder.best.exists():
        raise SkinGanError(f"{folder.path} has no best.pt: the trial was never evaluated; train it further")
    state = checkpoint.load(folder.best, spec["id"])
    net = build_generator(spec["settings"]["model"])
    net.load_state_dict(state["learner"]["ema"])
    return net, spec, state


def card_of(spec: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
    """The card of the generator in a trial's best checkpoint."""
    row, data = state["best"], state["data"]
    return {
        "format": FORMAT, "notice": NOTICE, "label": spec["label"], **spec["settings"],
        "trial_id": spec["id"], "index": spec["index"], "seed": spec["seed"], "kimg": row["kimg"],
        "fold": spec["fold"], "fold_fingerprint": data["fold_fingerprint"], "data_fingerprint": spec["data"],
        "unit": data["unit"], "train_images": data["images"], "train_groups": data["groups"],
        "metrics": row,
    }  # fmt: skip


def load_generator(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The generator in `folder`, a sweep's or an export, ready for `sample_images`, and its card.

    The network takes latents of N(0,1), float32 [N,latent], to images float32 [N,3,S,S] in [-1,1]. The card
    is the content of generator.yaml: `label`, `model` and other settings, `fold`, `accepted`, `metrics`.
    Raises SkinGanError if a file is missing or damaged, or if the two do not belong together.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    weights, described = files_of(folder)
    card = read_card(described)
    try:
        content = weights.read_bytes()
    except OSError as e:
        raise _unusable(weights, f"cannot be read ({e.strerror})") from e
    if hashlib.sha256(content).hexdigest() != card["sha256"]:
        raise _unusable(weights, f"is cut, damaged, or not the one that {described.name} describes")
    net = build_generator(card["model"])
    try:
        net.load_state_dict(load(content))
    except (SafetensorError, RuntimeError) as e:
        raise _unusable(weights, f"does not fit the model settings in {described.name} ({e})") from e
    return net, card


def files_of(folder: Path) -> tuple[Path, Path]:
    """The weights and the card of the generator in `folder`: an export's if it has config.json."""
    exported = (folder / CONFIG).exists()
    return (folder / MODEL, folder / CONFIG) if exported else (folder / WEIGHTS, folder / CARD)


def halve(folder: Path, out: Path) -> None:
    """Write the generator in `folder` to `out` in half precision, with its card and a sheet of what it draws.

    It is half as large, and draws images that differ by a grey level here and there. Its card names the other
    one's weights as `sha256_fp32`.
    """
    from safetensors.torch import save

    from skin_gan.training import grids
    from skin_gan.training.showcase import draw

    net, card = load_generator(folder)
    halves = {k: v.half() if v.is_floating_point() else v for k, v in net.state_dict().items()}
    weights = save({k: v.contiguous() for k, v in halves.items()})
    card |= {"sha256": hashlib.sha256(weights).hexdigest(), "sha256_fp32": card["sha256"]}
    net.load_state_dict(halves)
    grids.save(out / SHEET, grids.sheet(draw(net, latents(card["model"], 0, 0)), caption=caption_of(card)))
    write_atomic(out / WEIGHTS, weights)
    write_atomic(out / CARD, yaml.safe_dump(card, sort_keys=False))


def caption_of(card: dict[str, Any]) -> str:
    """What stands above a sheet of a generator's images."""
    return f"{card['label']}, {card['kimg']:g} kimg, KID x1000 {card['metrics']['kid']:.1f}: generated"


def read_card(path: Path) -> dict[str, Any]:
    """The card; SkinGanError if it lacks a key that every reader needs, or has another format."""
    card = read_yaml(path)
    missing = [k for k in ("format", "label", "model", "sha256", "fold_fingerprint") if k not in card]
    if missing or card["format"] != FORMAT:
        what = f"lacks {', '.join(missing)}" if missing else f"is of format {card['format']}, not {FORMAT}"
        raise _unusable(path, what)
    if Path(str(card["label"])).name != card["label"]:  # the label becomes a folder's name
        raise _unusable(path, f"names a class {card['label']!r}")
    return card


def build_generator(model: dict[str, Any]) -> nn.Module:
    """An untrained generator in evaluation mode."""
    import torch

    from skin_gan.families import build

    try:
        settings = check(TrialSettings(model=ModelSettings(**model))).model
    except TypeError as e:
        raise SkinGanError(f"the generator's card has model settings unknown to this version: {e}") from e
    settings = replace(settings, discriminator="own")  # a generator draws without pretrained weights
    with torch.random.fork_rng():
        return build(settings)["generator"].eval().requires_grad_(False)


def latents(model: dict[str, Any], seed: int, batch: int) -> Tensor:
    """[BATCH,latent] of N(0,1): the latents of images BATCH * batch onwards of the set with this seed."""
    import torch

    digest = hashlib.sha256(f"{seed}/{batch}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:6]))
    return torch.randn(BATCH, ModelSettings(**model).latent, generator=generator)


def batches(net: nn.Module, model: dict[str, Any], count: int, seed: int) -> Iterator[NDArray[np.uint8]]:
    """`count` images of a generator with the card's settings `model`: uint8 [n,3,S,S], n at most BATCH."""
    from skin_gan.training.showcase import draw

    for batch in range(-(-count // BATCH)):
        yield draw(net, latents(model, seed, batch))[: count - batch * BATCH].numpy()


def sample_images(net: nn.Module, card: dict[str, Any], count: int, seed: int = 0) -> NDArray[np.uint8]:
    """`count` images of the generator and card that `load_generator` returns: uint8 [count,3,S,S] in 0..255.

    They are those that `python -m skin_gan.generate` writes: image i depends on generator, `seed` (at least
    0) and i only, so fewer images are the beginning of more. SkinGanError if `count` is below 1.
    """
    import numpy as np

    if count < 1 or seed < 0:
        raise SkinGanError(f"count={count}, seed={seed}: expected at least 1 image and a seed of at least 0")
    return np.concatenate([*batches(net, card["model"], count, seed)])


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML or JSON file; SkinGanError if the file is missing, damaged or no mapping."""
    try:
        text = path.read_text()
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except OSError as e:
        raise _unusable(path, f"cannot be read ({e.strerror})") from e
    except (yaml.YAMLError, ValueError) as e:
        raise _unusable(path, "is cut or damaged") from e
    if not isinstance(content, dict):
        raise _unusable(path, "is cut or damaged")
    return content


def _unusable(path: Path, why: str) -> SkinGanError:
    return SkinGanError(
        f"{path} {why}: expected a generator's folder, such as RESULTS/best/CLASS; `{called('aggregate')} "
        f"RESULTS` writes those of a sweep again"
    )
