"""Trains one GAN on one class and measures it: no search, no cluster."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skin_gan.config import Operations, TrialSettings, TrialSpec, check
from skin_gan.data.store import Store, class_split
from skin_gan.errors import SkinGanError
from skin_gan.folders import COMPLETED, TrialFolder
from skin_gan.generator import save_generator
from skin_gan.pretrained import settled

if TYPE_CHECKING:
    from torch import Tensor

PARTS = 20  # of a training, each of which ends with a checkpoint and a report of progress


@dataclass(frozen=True)
class Trained:
    """What `train` leaves on disk."""

    folder: TrialFolder  # checkpoints, metrics.jsonl, sheets of samples, TensorBoard events
    generator: Path  # the folder of the generator at its best evaluation, for `skin_gan.load_generator`
    scores: dict[str, Any]  # the last evaluation, on 256 images: see `skin_gan.measure_images`


def train(
    store: Store,
    label: str,
    settings: TrialSettings,
    *,
    kimg: float,
    out: Path,
    fold: int = 0,
    seed: int = 0,
    threads: int = 1,
    progress: Callable[[float], object] = lambda kimg: None,
) -> Trained:
    """Train one GAN on the training images of class `label`, to `kimg` thousands of real images shown.

    Settings are those of a preset, `skin_gan.preset(NAME, size)`, or of your own; the store has images of
    their size. The trial is `out`/LABEL-ID, where ID follows from what decides its result. Called again, it
    resumes from the last checkpoint, or trains further if `kimg` is larger. It is measured at the end against
    the validation images of `fold` (0 to 4); the test images of the fold are never opened. `threads`: of the
    CPU. `progress` is called with the kimg so far.

    SkinGanError for an unknown or tiny class, settings out of range, or if the training diverges; before
    anything is written if it can be known then.
    """
    from skin_gan.training.session import Session

    if not 0 < kimg < 1e9:
        raise SkinGanError(f"kimg {kimg:g}: expected more than 0")
    settings = check(replace(settings, model=settled(settings.model)))
    split = class_split(store, label, settings.model.size, fold)
    spec = TrialSpec(label, index=0, seed=seed, fold=fold, data=store.fingerprint, settings=settings)
    folder = TrialFolder(out / f"{label}-{spec.id}")
    with closing(Session(spec, folder, split, Operations(threads=threads))) as session:
        for part in range(1, PARTS + 1):
            session.train(kimg * part / PARTS)
            progress(session.kimg)
        scores = session.advance(kimg, _judge(store, spec, out / "cache", threads))
        session.finish(COMPLETED)
    generator = folder.path / "generator"
    save_generator(folder, generator, {})
    return Trained(folder, generator, scores)


def _judge(store: Store, spec: TrialSpec, cache: Path, threads: int) -> Callable[[Tensor], dict[str, Any]]:
    """The evaluation of images uint8 [N,3,S,S]; its networks are loaded when there is something to judge."""
    from skin_gan.metrics.evaluate import evaluate, reference
    from skin_gan.metrics.features import extractor, second_extractor

    def judge(images: Tensor) -> dict[str, Any]:
        first, second = extractor(threads=threads), second_extractor(threads=threads)
        real = reference(store, spec.label, spec.settings.model.size, spec.fold, cache, first, second)
        return evaluate(images, real, first, second=second)

    return judge
