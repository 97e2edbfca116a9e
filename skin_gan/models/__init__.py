"""The networks: a readable file per family, and the registry of their builders."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from skin_gan.config import ModelSettings
from skin_gan.errors import SkinGanError
from skin_gan.models import aegan, dcgan
from skin_gan.models.blocks import check_model

FAMILIES: dict[str, Callable[[ModelSettings], nn.ModuleDict]] = {"dcgan": dcgan.build, "aegan": aegan.build}


def build(m: ModelSettings) -> nn.ModuleDict:
    """The networks of a family: generator, discriminator; aegan also encoder, latent_discriminator.

    Fresh weights come from torch's global generator: seed it first. An unknown family, upsampling or
    normalisation raises SkinGanError.
    """
    if m.family not in FAMILIES:
        raise SkinGanError(f"model.family={m.family!r}: choose one of {', '.join(FAMILIES)}")
    check_model(m)
    # Channels last is what convolutions on CPUs and tensor cores compute with: it saves conversions.
    return FAMILIES[m.family](m).to(memory_format=torch.channels_last)
