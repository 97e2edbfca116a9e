"""The model families: a file each, with its networks and its step."""

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
    """The networks of a family: a generator, and others that its step uses.

    Weights are drawn from torch's global generator: seed it first. Raises SkinGanError for an unknown family,
    upsampling or normalisation, and if the weights of a projected discriminator are missing.
    """
    check_model(m)
    nets = variant(FAMILIES, m.family).build(m)
    if m.growth != "none" and "discriminator" in nets:
        nets["generator"] = GrowingGenerator(m)
    if m.discriminator != "own" and "discriminator" in nets:
        nets["discriminator"] = Projected(m, nets["discriminator"] if m.discriminator == "both" else None)
    # Convolutions on CPUs and tensor cores compute in channels last: this saves conversions.
    return nets.to(memory_format=torch.channels_last)


def step_of(m: ModelSettings) -> Step:
    """The function that updates the family's networks once."""
    return variant(FAMILIES, m.family).step
