"""Mode seeking (Mao 2019, arXiv 1903.05628): a generator's images are to differ as their latents do."""

from __future__ import annotations

from torch import Tensor

SMALL = 1e-5  # as in the authors' code


def mode_seeking(z: Tensor, images: Tensor) -> Tensor:
    """[]: mean distance of latents z [N,latent] over that of their images [N,3,S,S], both L1, of neighbours.

    The paper draws a second latent for each image. Here each is compared with the next one of its batch,
    which costs no pass.
    """
    latents, made = ((x.float() - x.float().roll(1, 0)).abs().mean() for x in (z, images))
    return 1 / (made / (latents + SMALL) + SMALL)
