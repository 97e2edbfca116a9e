"""The training set of one arm: photographs of the training part, repeats of them, generated images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skin_gan.ablation.arm import Arm
from skin_gan.ablation.arms import own
from skin_gan.ablation.balance import wanted
from skin_gan.ablation.parts import LabelledPart, Split, labelled_part
from skin_gan.ablation.samples import SampleSet, check_fold, require
from skin_gan.data.store import Store
from skin_gan.errors import SkinGanError


class Rows:
    """Rows of several tensors as one tensor [N,...] that is gathered on access.

    A row may occur several times, but its values are held once.
    """

    def __init__(self, sources: Sequence[Tensor], index: Tensor) -> None:
        """sources: tensors [M,...] of one shape but for M; index [N]: places in all of them, 0..sum(M)-1."""
        self.sources, self.index = sources, index
        self.shape = torch.Size([len(index), *sources[0].shape[1:]])

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, places: Tensor) -> Tensor:
        """The values at places [B], on the sources' device."""
        wanted = self.index[places]
        if len(self.sources) == 1:
            return self.sources[0][wanted]
        out, start = self.sources[0].new_empty((len(wanted), *self.shape[1:])), 0
        for source in self.sources:
            here = (wanted >= start) & (wanted < start + len(source))
            out[here] = source[wanted[here] - start]
            start += len(source)
        return out

    def to(self, device: str) -> Rows:
        """A copy on another device as one tensor, since masks would wait for the device at each batch."""
        if torch.device(device) == self.index.device:
            return self
        lengths = [len(source) for source in self.sources]
        whole = torch.empty((sum(lengths), *self.shape[1:]), dtype=self.sources[0].dtype, device=device)
        for part, source in zip(whole.split(lengths), self.sources, strict=True):
            part.copy_(source)
        return Rows([whole], self.index.to(device))


@dataclass(frozen=True)
class TrainingSet:
    """Real images first, then generated ones."""

    images: Rows  # uint8 [N,3,S,S]
    labels: NDArray[np.int64]  # [N]
    real: LabelledPart  # the training part, each image once
    chosen: NDArray[np.int64]  # [R] places in `real` of the R real images, with repeats
    altered: NDArray[np.uint8]  # [A,3,S,S] the last A real images, as altered by the arm's file
    made: tuple[tuple[SampleSet, int], ...]  # sample sets, and the number of first images used of each
    unverified: tuple[str, ...]  # classes whose samples have no fold

    @property
    def rows(self) -> NDArray[np.int64]:
        """[R] places in the store of the real ones."""
        return self.real.rows[self.chosen]

    @property
    def stored(self) -> NDArray[np.int64]:
        """[R-A] places in `real` of the unaltered images."""
        return self.chosen[: len(self.chosen) - len(self.altered)]

    @property
    def samples(self) -> dict[str, str]:
        """The fingerprint of the generated images used, by class."""
        return {s.label: s.fingerprint(n) for s, n in self.made}

    def count(self, classes: Sequence[str], synthetic: bool) -> dict[str, int]:
        """Images per class, generated or real."""
        part = self.labels[len(self.chosen) :] if synthetic else self.labels[: len(self.chosen)]
        counts = np.bincount(part, minlength=len(classes))
        return {c: int(n) for c, n in zip(classes, counts, strict=True)}


def training_set(
    store: Store,
    split: Split,
    size: int,
    arm: Arm,
    samples: Mapping[str, SampleSet] | None = None,
    seed: int = 0,
    unverified: bool = False,
) -> TrainingSet:
    """The training images of `arm`. SkinGanError for an empty class, samples of another fold, or too few.

    Only the training part is read. With a split by image the samples' fold is not checked: their generators
    are trained on a split by lesion and have seen some of its test images, which adds to the leak.
    """
    real = labelled_part(store, split, "train", size)
    counts = {c: int((real.labels == k).sum()) for k, c in enumerate(store.classes)}
    absent = [c for c, n in counts.items() if n == 0]
    if absent:
        raise SkinGanError(
            f"{', '.join(absent)}: no training image, {split.name}: leave the class out of the store"
        )
    chosen, altered = np.arange(len(real.labels)), real.images[:0]
    if arm.duplicate:
        repeated = repeats(real, wanted(arm, counts), store.classes, seed)
        chosen = np.concatenate([chosen, repeated])
        if alter := own(arm, "alter"):
            plain = real.images[repeated]
            altered = alter(plain, np.random.default_rng([seed, 4]))
            if (altered.shape, altered.dtype) != (plain.shape, plain.dtype):
                raise SkinGanError(
                    f"the arm's alter() in {arm.method}.py gave {altered.dtype} {list(altered.shape)}: "
                    f"expected as many images as it was given, {plain.dtype} {list(plain.shape)}"
                )
    made: tuple[tuple[SampleSet, int], ...] = ()
    if arm.synthetic != "none":
        made = _made(split, size, arm, samples, wanted(arm, counts), unverified)
    if arm.synthetic == "alone":
        _need_every_class(store.classes, made)
        chosen = chosen[:0]
    return TrainingSet(
        images=_images(real, chosen, altered, made),
        labels=np.concatenate(
            [real.labels[chosen], *(np.full(n, store.classes.index(s.label)) for s, n in made)]
        ),
        real=real,
        chosen=chosen,
        altered=altered,
        made=made,
        unverified=tuple(s.label for s, _ in made if s.fold_fingerprint is None),
    )


def _images(
    real: LabelledPart,
    chosen: NDArray[np.int64],
    altered: NDArray[np.uint8],
    made: Sequence[tuple[SampleSet, int]],
) -> Rows:
    stored = chosen[: len(chosen) - len(altered)]
    sources = [real.images] if len(stored) else []
    new = [np.ascontiguousarray(altered)] if len(altered) else []
    new += [s.images[:n] for s, n in made]
    added = np.arange(sum(map(len, new))) + sum(map(len, sources))
    return Rows([*map(torch.from_numpy, sources + new)], torch.from_numpy(np.concatenate([stored, added])))


def repeats(
    real: LabelledPart, wanted: Mapping[str, int], classes: Sequence[str], seed: int
) -> NDArray[np.int64]:
    """Places of real images to repeat, in each class as evenly as possible; `seed` chooses the remainder."""
    rng = np.random.default_rng([seed, 1])
    places = [rng.permutation(np.flatnonzero(real.labels == k)) for k in range(len(classes))]
    return np.concatenate([np.resize(p, wanted[c]) for c, p in zip(classes, places, strict=True)])


def _made(
    split: Split,
    size: int,
    arm: Arm,
    samples: Mapping[str, SampleSet] | None,
    wanted: Mapping[str, int],
    unverified: bool,
) -> tuple[tuple[SampleSet, int], ...]:
    if not samples:
        raise SkinGanError(
            f"arm {arm.name} needs generated images ({arm.source or 'any source'}), none were given"
        )
    require(samples, wanted)
    used = [(samples[label], n) for label, n in wanted.items() if n]
    for sample, _ in used:
        if sample.images.shape[1:] != (3, size, size):
            raise SkinGanError(
                f"the samples of {sample.label} are {list(sample.images.shape[1:])}, expected 3x{size}x{size}"
            )
        if split.honest:
            check_fold(sample, split.fingerprint, unverified)
    return tuple(used)


def _need_every_class(classes: Sequence[str], made: Sequence[tuple[SampleSet, int]]) -> None:
    missing = sorted(set(classes) - {s.label for s, _ in made})
    if missing:
        raise SkinGanError(
            f"training on generated images alone needs all classes, and the balance adds none of {missing}: "
            "use a ratio, such as balance=1"
        )
