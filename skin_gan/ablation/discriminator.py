"""What a GAN's own discriminator says of images: one of the scores that samples can be filtered by."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from skin_gan.config import ModelSettings
from skin_gan.errors import SkinGanError
from skin_gan.export import read_yaml
from skin_gan.families import build
from skin_gan.folders import TrialFolder
from skin_gan.training import checkpoint

CHUNK = 64  # images judged at a time


def discriminator_logits(folder: TrialFolder, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """[N] logits of being real, of images uint8 [N,3,S,S], by the discriminator of the trial's best.pt.

    Exported generators come without one: SkinGanError where the trial's folder has no best.pt.
    """
    if not folder.best.exists():
        raise SkinGanError(f"{folder.path} has no best.pt: without its discriminator choose another filter")
    spec = read_yaml(folder.spec)
    state = checkpoint.load(folder.best, spec["id"])
    with torch.random.fork_rng():
        net = build(ModelSettings(**spec["settings"]["model"]))["discriminator"]
    net.load_state_dict(state["learner"]["nets"]["discriminator"])
    net.eval().requires_grad_(False)
    x = torch.from_numpy(images)
    parts = [net(x[i : i + CHUNK].float().div(127.5).sub(1)) for i in range(0, len(x), CHUNK)]
    return torch.cat(parts).numpy()
