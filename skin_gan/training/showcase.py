"""The images by which a generator is evaluated and shown during training, from fixed latents."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from skin_gan.config import EvalSettings, TrialSpec
from skin_gan.data.store import ClassSplit
from skin_gan.families.steps import sample
from skin_gan.training.grids import Sheet, interpolate, sheet
from skin_gan.training.learner import Learner, stream_seed

BATCH = 64  # images sampled at a time
PATHS, STEPS = 8, 8  # of the interpolation sheet: from one latent to another, in so many images
PAIRS = 32  # of the reconstruction sheet


def fixed_latents(spec: TrialSpec, purpose: str, n: int) -> Tensor:
    """[n,latent] of N(0,1) that depend on the trial's seed and `purpose` alone."""
    generator = torch.Generator().manual_seed(stream_seed(spec.seed, purpose))
    return torch.randn(n, spec.settings.model.latent, generator=generator)


def draw(generator: torch.nn.Module, latents: Tensor) -> Tensor:
    """Images uint8 [N,3,S,S] on the CPU, of latents [N,latent]."""
    device = next(generator.parameters()).device
    return torch.cat([sample(generator, z.to(device)).cpu() for z in latents.split(BATCH)])


class Showcase:
    """The evaluation's samples and the sheets of one trial."""

    def __init__(self, spec: TrialSpec, split: ClassSplit, evaluation: EvalSettings) -> None:
        self.title = f"{spec.label}, trial {spec.index}"
        self.latents = fixed_latents(spec, "evaluation", evaluation.images)
        self.grid = fixed_latents(spec, "grid", evaluation.grid)
        start, end = fixed_latents(spec, "interpolation", 2 * PATHS).chunk(2)
        self.paths = interpolate(start, end, STEPS)
        rows = np.linspace(0, len(split.val.images) - 1, min(PAIRS, len(split.val.images))).astype(int)
        self.real = torch.from_numpy(split.val.images[rows])  # uint8 [n,3,S,S]

    def samples(self, learner: Learner) -> Tensor:
        """The images of an evaluation: uint8 [N,3,S,S]."""
        return draw(learner.ema.net, self.latents)

    def sheets(self, learner: Learner) -> dict[str, Sheet]:
        """Contact sheets by name. The sheet `reconstruction` shows real photographs: never publish it."""
        average, at = learner.ema.net, f"{self.title}, {learner.images / 1000:g} kimg"
        pages = {
            "samples": sheet(draw(average, self.grid), caption=f"{at}: samples"),
            "interpolation": sheet(draw(average, self.paths), STEPS, f"{at}: from one latent to another"),
        }
        if "encoder" in learner.plain:
            pairs = torch.stack([self.real, draw(average, self._encode(learner))], dim=1).flatten(0, 1)
            pages["reconstruction"] = sheet(pairs, 8, f"{at}: real | reconstructed, validation images")
        return pages

    @torch.no_grad()
    def _encode(self, learner: Learner) -> Tensor:
        encoder = learner.plain["encoder"].eval()
        z = encoder(self.real.to(learner.accelerator.device).float() / 127.5 - 1)
        encoder.train()
        return z
