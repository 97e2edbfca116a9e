"""The model families: a file each, with its networks and its step, found by its name."""

from __future__ import annotations

import torch
from torch import nn

from skin_gan.config import ModelSettings
from skin_gan.families.blocks import check_model
from skin_gan.families.growing import GrowingGenerator
from skin_gan.families.steps import Step
from skin_gan.projected import Projected
from skin_gan.variants import FAMILIES, variant


def build(m: ModelSettings) -> nn.ModuleDict:
    """The networks of a family: a generator, and others that its step names.

    Fresh weights come from torch's global generator: seed it first. An unknown family, upsampling or
    normalisation raises SkinGanError; so does a projected discriminator whose weights are not there.
    """
    check_model(m)
    nets = variant(FAMILIES, m.family).build(m)
    if m.growth != "none" and "discriminator" in nets:
        nets["generator"] = GrowingGenerator(m)
    if m.discriminator != "own" and "discriminator" in nets:
        nets["discriminator"] = Projected(m, nets["discriminator"] if m.discriminator == "both" else None)
    # Channels last is what convolutions on CPUs and tensor cores compute with: it saves conversions.
    return nets.to(memory_format=torch.channels_last)


def step_of(m: ModelSettings) -> Step:
    """What one update of the family's networks is."""
    return variant(FAMILIES, m.family).step
