"""Writes a generator as one Python file that needs torch alone, from a template beside its family.

Layers are written out as they are in the network; the fast convolutions of `skin_gan.fast` become torch's.
"""

from __future__ import annotations

from pathlib import Path

import jinja2
from torch import nn

from skin_gan.config import ModelSettings
from skin_gan.errors import SkinGanError
from skin_gan.families import flow
from skin_gan.families.blocks import NearestConv2d
from skin_gan.families.growing import GrowingGenerator, faded

TEMPLATES = Path(__file__).with_name("templates")


def source(m: ModelSettings, net: nn.Module) -> str:
    """The text of generator.py for a trained generator `net` with the settings `m`.

    Its class Generator takes the weights of `net` and draws the same images. SkinGanError if the family has
    no template.
    """
    name = "growing" if isinstance(net, GrowingGenerator) else m.family
    if not (TEMPLATES / f"{name}.py.j2").exists():
        raise SkinGanError(
            f"the family {name} cannot be written as one file of plain torch: expected a template "
            f"skin_gan/families/templates/{name}.py.j2, such as dcgan.py.j2 beside it"
        )
    facts = {"m": m, "net": net, "written": written, "steps": flow.STEPS}
    if isinstance(net, GrowingGenerator):
        facts |= growth(net)
    return template(TEMPLATES / f"{name}.py.j2").render(facts)


def template(path: Path) -> jinja2.Template:
    """The template of a text in which each line break counts; a name without a value is an error."""
    pages = jinja2.Environment(
        loader=jinja2.FileSystemLoader(path.parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return pages.get_template(path.name)


def growth(net: GrowingGenerator) -> dict[str, float]:
    """How far a growing generator has grown: its last level, how much of that is in, and what is missing."""
    reached = float(net.reached)
    return {
        "level": int(reached), "faded": faded(reached), "repeats": 2 ** (len(net.colours) - 1 - int(reached)),
    }  # fmt: skip


def written(layer: nn.Module) -> str:
    """The Python expression that makes such a layer of torch's own classes."""
    match layer:
        case nn.Sequential():
            layers = "".join(f"{' ' * 16}{written(inner)},\n" for inner in layer)
            return f"nn.Sequential(\n{layers}{' ' * 12})"
        case nn.Conv2d() | nn.ConvTranspose2d():
            return _convolution(layer)
        case nn.BatchNorm2d():
            return f"nn.BatchNorm2d({layer.num_features})"
        case nn.GroupNorm():
            return f"nn.GroupNorm({layer.num_groups}, {layer.num_channels})"
        case nn.PixelShuffle():
            return f"nn.PixelShuffle({layer.upscale_factor})"
        case nn.Upsample():
            return f"nn.Upsample(scale_factor={layer.scale_factor}, mode={layer.mode!r})".replace("'", '"')
        case nn.ReLU() | nn.Tanh() | nn.Identity():
            return f"nn.{type(layer).__name__}()"
    raise SkinGanError(f"a layer {type(layer).__name__} cannot be written in plain torch: see {__name__}")


def _convolution(layer: nn.Conv2d | nn.ConvTranspose2d) -> str:
    kind = "nn.ConvTranspose2d" if isinstance(layer, nn.ConvTranspose2d) else "nn.Conv2d"
    if isinstance(layer, NearestConv2d):
        kind = "NearestConv2d"
    words = [str(layer.in_channels), str(layer.out_channels), str(layer.kernel_size[0])]
    if layer.stride != (1, 1):
        words.append(f"stride={layer.stride[0]}")
    if layer.padding != (0, 0):
        words.append(f"padding={layer.padding[0]}")
    if layer.bias is None:
        words.append("bias=False")
    return f"{kind}({', '.join(words)})"
