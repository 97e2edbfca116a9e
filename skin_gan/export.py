"""Exports a generator as a folder to give away: `python -m skin_gan.export RESULTS/best/df --to DIR`.

    DIR/README.md          the model card: what it draws, data, licence, measures, use
    DIR/model.safetensors  the weights, and config.json: the layout of the Hugging Face Hub
    DIR/generator.onnx     the same network for onnxruntime and others
    DIR/generator.py       the same network as one file that needs torch alone
    DIR/samples.png        images that it drew

The folder appears whole or not at all. `skin_gan.generate` reads it, too.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from skin_gan.config import ModelSettings
from skin_gan.data.terms import OTHER, TERMS, terms_of
from skin_gan.errors import SkinGanError
from skin_gan.generator import (
    CONFIG,
    MODEL,
    NOTICE,
    SHEET,
    caption_of,
    files_of,
    latents,
    load_generator,
)
from skin_gan.io import new_folder
from skin_gan.variants import FAMILIES, SCORES, about, constant, names

if TYPE_CHECKING:  # torch is imported inside functions: command lines start without it
    from torch import Tensor, nn

SOURCE, GRAPH, README = "generator.py", "generator.onnx", "README.md"
TEMPLATES = Path(__file__).with_name("templates")
NEEDED = ("onnx", "onnxscript", "onnxruntime")
COMPARED = 8  # images that every written form has to draw equally
CLASSES = {
    "akiec": "actinic keratosis or intraepithelial carcinoma", "bcc": "basal cell carcinoma",
    "bkl": "benign keratosis", "df": "dermatofibroma", "mel": "melanoma", "nv": "melanocytic nevus",
    "vasc": "vascular lesion",
}  # fmt: skip


def export(source: Path, to: Path, data_kind: str = "", allow_rejected: bool = False) -> Path:
    """Write the generator in the folder `source` to the new folder `to`, which is returned.

    `data_kind` is the kind of store that it was trained on, for a card that does not say it. SkinGanError if
    `source` is no generator's folder, the generator was not accepted (unless `allow_rejected`), `to` is not
    empty, a package is missing, or the family cannot be written.
    """
    from skin_gan.families.plain import source as written
    from skin_gan.training import grids
    from skin_gan.training.showcase import draw

    check_packages()
    check_free(to)
    net, card = load_generator(source)
    card = {**card, "data_kind": kind_of(card, data_kind, source)}
    if not card.get("accepted", False) and not allow_rejected:
        why = "; ".join(card.get("reasons", [])) or "nobody has judged it"
        raise SkinGanError(f"the generator in {source} was not accepted ({why}): see --allow-rejected")
    z = latents(card["model"], seed=0, batch=0)
    images = draw(net, z)
    settings = ModelSettings(**card["model"])
    code = written(settings, net)
    with new_folder(to) as folder:
        shutil.copyfile(files_of(source)[0], folder / MODEL)
        (folder / CONFIG).write_text(json.dumps(config(card), indent=1, allow_nan=False) + "\n")
        (folder / SOURCE).write_text(code)
        facts = {"class": card["label"], "licence": terms_of(card["data_kind"]).licence, "notice": NOTICE}
        write_graph(folder, facts, z[:COMPARED], images[:COMPARED])
        grids.save(folder / SHEET, grids.sheet(images, caption=caption_of(card)))
        (folder / README).write_text(model_card(card, settings))
    return to


def check_packages() -> None:
    """SkinGanError that names the extra if a package for ONNX is missing."""
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise SkinGanError(
            f"an export needs {', '.join(missing)}: install the extra, pip install 'skin-gan[export]'"
        )


def check_free(to: Path) -> None:
    """SkinGanError if anything is at `to` but an empty folder."""
    if to.exists() and not (to.is_dir() and not any(to.iterdir())):
        raise SkinGanError(f"{to} is in the way: choose another --to, or remove it")


def kind_of(card: dict[str, Any], given: str, source: Path) -> str:
    """The kind of data the generator was trained on; SkinGanError if it is not known, or is another one."""
    recorded = card.get("data_kind", "")
    if not recorded and not given:
        raise SkinGanError(
            f"the card in {source} does not say what the generator was trained on, which the licence depends "
            f"on: give --data KIND, one of {', '.join(TERMS)}, or {OTHER} for photographs of another source"
        )
    if recorded and given and recorded != given:
        raise SkinGanError(f"--data {given}: the card in {source} says {recorded}; leave --data out")
    return recorded or given


def config(card: dict[str, Any]) -> dict[str, Any]:
    """The content of config.json: the facts that readers of the Hub look for, then the generator's card."""
    model = card["model"]
    return {
        "library_name": "skin-gan", "library_version": metadata.version("skin-gan"),
        "family": model["family"], "size": model["size"], "latent": model["latent"], "class": card["label"],
        **card,
    }  # fmt: skip


def write_graph(folder: Path, facts: dict[str, str], z: Tensor, images: Tensor) -> None:
    """Write generator.onnx, made from the folder's generator.py, with `facts` as its metadata.

    Both have to draw `images`, uint8 [N,3,S,S], of the latents z [N,latent], within a grey level: else
    SkinGanError.
    """
    import onnx
    import onnxruntime
    import torch

    from skin_gan.families.graph import INPUT, graph
    from skin_gan.training.showcase import draw

    plain = imported(folder / SOURCE)
    net: nn.Module = plain.load()
    check_equal(SOURCE, draw(net, z), images)
    model = graph(plain, net)
    onnx.helper.set_model_props(model, facts)
    (folder / GRAPH).write_bytes(model.SerializeToString())
    session = onnxruntime.InferenceSession(str(folder / GRAPH), providers=["CPUExecutionProvider"])
    drawn = torch.from_numpy(session.run(None, {INPUT: z.numpy()})[0])
    check_equal(GRAPH, ((drawn + 1) * 127.5).round().clamp(0, 255).to(torch.uint8), images)


def imported(path: Path) -> ModuleType:
    """The module in a file, of which no bytecode is kept."""
    spec = importlib.util.spec_from_file_location("generator", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shutil.rmtree(path.with_name("__pycache__"), ignore_errors=True)
    return module


def check_equal(name: str, drawn: Tensor, images: Tensor) -> None:
    """SkinGanError if two sets of images, uint8 [N,3,S,S], differ by more than a grey level."""
    if (apart := int((drawn.int() - images.int()).abs().max())) > 1:
        raise SkinGanError(
            f"{name} draws other images than the generator, by up to {apart} grey levels: expected at most "
            "1; try other versions of torch, onnxscript and onnxruntime, and report this"
        )


def model_card(card: dict[str, Any], m: ModelSettings) -> str:
    """The content of README.md: YAML for the Hub, then text."""
    from skin_gan.families.plain import template

    metrics, label = card["metrics"], card["label"]
    known = {key: metrics.get(key, "?") for key in ("n_fake", "n_real", "n_lesions")}
    return template(TEMPLATES / "model_card.md.j2").render(
        **known, **{k: card[k] for k in ("data_kind", "label", "train_images", "train_groups", "unit", "kimg",
                                         "seed", "fold", "metrics")},
        m=m, terms=terms_of(card["data_kind"]), about=CLASSES.get(label, label), family=m.family.upper(),
        family_about=about(FAMILIES, m.family), version=metadata.version("skin-gan"),
        selection=": ".join([card.get("selection", "not judged"), *card.get("reasons", [])][:2]),
        accepted=card.get("accepted", False), confirmed=card.get("confirmed", False),
        rows=measures(metrics), copies=copies(metrics),
    )  # fmt: skip


def measures(metrics: dict[str, Any]) -> list[list[str]]:
    """A row per score of the card: name, value, interval, real images' value, which is better, meaning."""
    files = (constant(SCORES, file, "SCORES") for file in names(SCORES))
    known = {name: words for file in files for name, words in file.items()}
    rows = []
    for name, (better, meaning) in known.items():
        if better and metrics.get(name) is not None:
            ends = [number(metrics.get(f"{name}_{end}")) for end in ("low", "high")]
            # The ends of kid are its own; those of other scores are of real images.
            interval = f"{ends[0]} to {ends[1]}" if name == "kid" and all(ends) else ""
            floor = number(metrics.get(f"{name}_floor"))
            rows.append([name, number(metrics[name]), interval, floor, better, meaning])
    return rows


def number(value: float | None) -> str:
    """A score with three digits at least; "" where there is none."""
    return "" if value is None else f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def copies(metrics: dict[str, Any]) -> str:
    """A sentence on images that repeat a training image."""
    if (share := metrics.get("copies")) is None:
        return "not looked for."
    return (
        f"{100 * share:.1f}% of {metrics.get('n_fake', '?')} generated images were judged to repeat a "
        "training image, by features and by pixels. Images below that threshold may still resemble one."
    )


def main(argv: list[str] | None = None) -> int:
    """The command line; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m skin_gan.export", description=f"Export a generator as a folder to share. {NOTICE}"
    )
    parser.add_argument("generator", type=Path, help="a generator's folder, such as RESULTS/best/df")
    parser.add_argument("--to", type=Path, required=True, help="the new folder")
    parser.add_argument("--data", default="", choices=["", *TERMS, OTHER], metavar="KIND",
                        help="what it was trained on, where its card does not say it")  # fmt: skip
    parser.add_argument("--allow-rejected", action="store_true", help="export one that was not accepted")
    o = parser.parse_args(argv)
    try:
        print(export(o.generator, o.to, o.data, o.allow_rejected))
    except SkinGanError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; nothing was written", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
