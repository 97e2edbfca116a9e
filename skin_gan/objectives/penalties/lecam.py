"""LeCam regularisation (Tseng 2021, arXiv 2104.03310): logits stay near the other side's average.

Proposed for small data sets, where a discriminator that memorises the images drives the two sides apart.
"""

from __future__ import annotations

from torch import Tensor

from skin_gan.objectives import Judged, mean

NEEDS = "logits"


def penalty(judged: Judged) -> Tensor:
    average_real, average_fake = judged.averages
    real = (judged.on_real.float() - average_fake).relu().square().mean()
    return real + mean([(average_real - fake.float()).relu().square().mean() for fake in judged.on_fakes])
