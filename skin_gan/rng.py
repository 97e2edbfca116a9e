"""Random numbers of a training that do not depend on the number of its processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


class Rng:
    """One stream of random numbers for all processes of a training, each of which keeps its share.

    Every process draws the numbers of the whole batch and keeps rows rank, rank + world, ..., so k processes
    with batch b/k get the numbers of one process with batch b.
    """

    def __init__(self, seed: int, rank: int = 0, world: int = 1, device: torch.device | str = "cpu") -> None:
        self.rank, self.world = rank, world
        self.generator = torch.Generator(device).manual_seed(seed)

    def normal(self, n: int, *shape: int) -> Tensor:
        """This process's [n, *shape] of N(0,1)."""
        return self._share(torch.randn, n, shape)

    def uniform(self, n: int, *shape: int) -> Tensor:
        """This process's [n, *shape], uniform in [0,1)."""
        return self._share(torch.rand, n, shape)

    def _share(self, draw: Callable[..., Tensor], n: int, shape: tuple[int, ...]) -> Tensor:
        device = self.generator.device
        return draw(n * self.world, *shape, generator=self.generator, device=device)[self.rank :: self.world]

    def state_dict(self) -> dict[str, Tensor]:
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.generator.set_state(state["generator"].cpu())
