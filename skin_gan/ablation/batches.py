"""The images of each update of a classifier's training. Pure, numpy only.

Training has up to three phases: generated images alone (`Arm.generated_first`), all images, photographs alone
(`Arm.real_last`). The random numbers of an update follow from (seed, update), so that a killed run resumes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skin_gan.ablation.arm import Arm
from skin_gan.ablation.weights import generated_share

ALL, PHOTOGRAPHS, GENERATED = "all", "photographs", "generated"
Rows = NDArray[np.integer]


class Batches:
    """The rows of each update's batch: epochs in random order, or every class equally often.

    Within a class generated images are drawn by their share in `skin_gan.ablation.weights`.
    """

    def __init__(
        self,
        labels: NDArray[np.integer],
        generated: NDArray[np.bool_],
        batch: int,
        arm: Arm,
        seed: int,
        steps: int = 1,
    ) -> None:
        """labels, generated [N]; `steps`: the updates of the whole training."""
        self.arm, self.batch, self.seed, self.steps = arm, batch, seed, steps
        rows = np.arange(len(labels))
        self.pools = {ALL: rows, PHOTOGRAPHS: rows[~generated], GENERATED: rows[generated]}
        of_class = [labels == k for k in np.unique(labels)] if arm.balanced_sampling else []
        # photographs and generated images of each class
        self.members = [(np.flatnonzero(c & ~generated), np.flatnonzero(c & generated)) for c in of_class]
        self.most = int(arm.batch_share * batch + 1e-9)  # generated images in a batch
        self.mean = min(self.most, batch * len(self.pools[GENERATED]) / len(rows))  # likewise, on average
        self._epochs: dict[str, tuple[int, Rows]] = {}

    def phase(self, step: int) -> str:
        """The pool of images that an update draws from; all of them if there is one kind only."""
        if not len(self.pools[PHOTOGRAPHS]) or not len(self.pools[GENERATED]):
            return ALL
        if step < self.arm.generated_first * self.steps:
            return GENERATED
        last = self.arm.real_last > 0 and step >= (1 - self.arm.real_last) * self.steps
        return PHOTOGRAPHS if last else ALL

    @property
    def phases(self) -> list[str]:
        """The phases of the training, in order."""
        return list(dict.fromkeys(self.phase(step) for step in range(self.steps)))

    @property
    def drawn(self) -> float:
        """How often a generated image is drawn for every draw of a photograph, while all are drawn."""
        photographs, made = len(self.pools[PHOTOGRAPHS]), len(self.pools[GENERATED])
        if self.most == self.batch or not photographs or not made:
            return 1.0
        return (self.mean / made) / ((self.batch - self.mean) / photographs)

    def __call__(self, step: int) -> Rows:
        """[batch] rows in 0..N-1, the same for the same `step`."""
        phase = self.phase(step)
        if self.members:
            return self._balanced(step, phase)
        if phase != ALL or self.most == self.batch:
            return self._take(phase, step * self.batch, self.batch)
        before, after = (int(s * self.mean + 1e-9) for s in (step, step + 1))
        photographs = self._take(PHOTOGRAPHS, step * self.batch - before, self.batch - (after - before))
        return np.concatenate([photographs, self._take(GENERATED, before, after - before)])

    def _balanced(self, step: int, phase: str) -> Rows:
        rng = np.random.default_rng([self.seed, 2, step])
        none = np.empty(0, int)
        members = {
            ALL: self.members,
            PHOTOGRAPHS: [(real, none) for real, _ in self.members if len(real)],
            GENERATED: [(none, made) for _, made in self.members if len(made)],
        }[phase]
        room = self.batch if phase == GENERATED else self.most
        found = []
        for k in rng.integers(len(members), size=self.batch):
            real, made = members[k]
            row, is_made = self._one(rng, real, made if room else none)
            room -= is_made
            found.append(row)
        return np.array(found)

    def _one(self, rng: np.random.Generator, real: Rows, made: Rows) -> tuple[int, bool]:
        """A row of one class, and whether it is a generated image."""
        if not len(made):
            return int(rng.choice(real)), False
        from_made = rng.random() < generated_share(len(real), len(made), self.arm.generated_weight)
        return int(rng.choice(made if from_made else real)), bool(from_made)

    def _take(self, pool: str, start: int, count: int) -> Rows:
        """`count` rows of a pool that is gone through again and again, from place `start` on."""
        n = len(self.pools[pool])
        return np.array([self._order(pool, p // n)[p % n] for p in range(start, start + count)], int)

    def _order(self, pool: str, epoch: int) -> Rows:
        if self._epochs.get(pool, (-1,))[0] != epoch:
            stream = [self.seed, 3, epoch] + [[ALL, PHOTOGRAPHS, GENERATED].index(pool)] * (pool != ALL)
            order = np.random.default_rng(stream).permutation(self.pools[pool])
            self._epochs[pool] = epoch, order
        return self._epochs[pool][1]
