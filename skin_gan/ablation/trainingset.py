"""What a classifier is trained on in one arm: real images of the training part, repeats, generated images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skin_gan.ablation.arm import Arm
from skin_gan.ablation.arms import own
from skin_gan.ablation.balance import images_to_add
from skin_gan.ablation.parts import LabelledPart, Split, labelled_part
from skin_gan.ablation.samples import SampleSet, check_fold, require, subset
from skin_gan.data.store import Store
from skin_gan.errors import SkinGanError


@dataclass(frozen=True)
class TrainingSet:
    """Real images first, then generated ones."""

    images: NDArray[np.uint8]  # [N,3,S,S]
    labels: NDArray[np.int64]  # [N]
    rows: NDArray[np.int64]  # [R] place in the store of the real ones, images[:R]; repeats are allowed
    altered: int  # of the real ones the last A, images[R-A:R], are not as they are in the store
    made: tuple[tuple[SampleSet, int], ...]  # the sets, and how many from each one's beginning
    unverified: tuple[str, ...]  # classes whose samples do not say what their generator has seen

    @property
    def samples(self) -> dict[str, str]:
        """Fingerprint of the generated images used, by class."""
        return {s.label: subset(s, np.arange(n)).fingerprint for s, n in self.made}

    def count(self, classes: Sequence[str], synthetic: bool) -> dict[str, int]:
        """Images per class, generated or real."""
        part = self.labels[len(self.rows) :] if synthetic else self.labels[: len(self.rows)]
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
    """The images of `arm`. A class without any, samples of another fold, or too few are SkinGanErrors.

    Only the training part is read. Samples are not held to the fold where the split is by image: generators
    are trained by lesion, so theirs have seen some of its test images, one more reason why it leaks.
    """
    real = labelled_part(store, split, "train", size)
    counts = {c: int((real.labels == k).sum()) for k, c in enumerate(store.classes)}
    absent = [c for c, n in counts.items() if n == 0]
    if absent:
        raise SkinGanError(
            f"{', '.join(absent)}: no training image, {split.name}: leave the class out of the store"
        )
    chosen = np.arange(len(real.labels))
    repeated, alter = chosen[:0], own(arm, "alter")
    if arm.duplicate:
        repeated = repeats(real, images_to_add(counts, arm.balance), store.classes, seed)
    again = real.images[repeated]
    if alter:
        again = alter(again, np.random.default_rng([seed, 4]))
    made: tuple[tuple[SampleSet, int], ...] = ()
    if arm.synthetic != "none":
        made = _made(split, size, arm, samples, images_to_add(counts, arm.balance), unverified)
    if arm.synthetic == "alone":
        _need_every_class(store.classes, made)
        chosen = chosen[:0]
    labels = real.labels[chosen], real.labels[repeated]
    return TrainingSet(
        images=np.concatenate([real.images[chosen], again, *(s.images[:n] for s, n in made)]),
        labels=np.concatenate([*labels, *(np.full(n, store.classes.index(s.label)) for s, n in made)]),
        rows=np.concatenate([real.rows[chosen], real.rows[repeated]]),
        altered=len(repeated) if alter else 0,
        made=made,
        unverified=tuple(s.label for s, _ in made if s.fold_fingerprint is None),
    )


def repeats(
    real: LabelledPart, wanted: Mapping[str, int], classes: Sequence[str], seed: int
) -> NDArray[np.int64]:
    """Places of real images to repeat: in each class as evenly as can be, the odd ones chosen by `seed`."""
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
