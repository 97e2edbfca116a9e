"""Trains one classifier in one arm and predicts validation or test images.

All arms have the same network, optimiser and number of updates; they differ in the training images and their
weights.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skin_gan.ablation.arm import Arm
from skin_gan.ablation.classifiers import ClassifierSettings
from skin_gan.ablation.fit import Progress, fit, loss_curve, prepare
from skin_gan.ablation.frozen import Frozen
from skin_gan.ablation.outside import OUTSIDE, Outside
from skin_gan.ablation.parts import PARTS, LabelledPart, Split, labelled_part
from skin_gan.ablation.predictions import Predictions, load, predictions
from skin_gan.ablation.runs import ArmRun, check, content, current, weights_of
from skin_gan.ablation.samples import SampleSet
from skin_gan.ablation.trainingset import Rows, TrainingSet, training_set
from skin_gan.data.store import Store
from skin_gan.errors import SkinGanError
from skin_gan.io import lock
from skin_gan.pixels import piece_size
from skin_gan.training import checkpoint

CHUNK = 256  # images predicted at a time, fewer from 128 pixels on
CHANNELS = 4  # values that a network holds for each value of an image, roughly: bounds its memory
CONSTANT = 0.01  # features with less than this share of the median standard deviation are not scaled


@dataclass(frozen=True)
class Task:
    """The settings and data that all arms of a comparison share."""

    store: Store
    split: Split
    settings: ClassifierSettings
    frozen: Frozen | None = None  # needed by network="head"
    device: str = "cpu"
    outside: Outside | None = None  # needed by the part "outside"


def run_arm(
    task: Task,
    arm: Arm,
    seed: int,
    samples: Mapping[str, SampleSet] | None = None,
    parts: Sequence[str] = ("val",),
    unverified: bool = False,
    folder: Path | None = None,
    progress: Progress | None = None,
    family: Path | None = None,
) -> dict[str, Predictions]:
    """Train once and return the predictions on each of `parts`: train, val, test or outside. Test images are
    predicted only if named.

    `samples`: generated images by class, for arms that use them; `unverified` as in `samples.check_fold`.
    `folder`: keeps each part's predictions as PART.npz, which are not computed again, and the state during
    training. Files of other runs and unreadable ones are removed when training begins.
    `family`: a folder that holds `folder` and those of other arms as ARM/SPLIT/SEED. If an arm there has made
    an equal run, its predictions are reused without training (`same_as` in the record).
    `progress` is called with the number of updates done. SkinGanError for samples of another fold, too few
    samples, or an empty part.
    """
    check(task.settings, arm)
    tests = {part: _part(task, part) for part in parts}
    train = training_set(task.store, task.split, task.settings.size, arm, samples, seed, unverified)
    weights = weights_of(task.settings.pretrained)
    run = ArmRun(task.settings, arm, seed, task.split.fingerprint, train.samples, weights)
    kept: dict[str, Predictions] = {}
    if folder:
        run, kept = _resume(folder, run, task.outside)
        if set(parts) <= kept.keys():
            return {part: kept[part] for part in parts}
        _clear(folder, kept, run.id)
    record = _record(task, run, train)
    # Two jobs may start equal runs at the same time: the second waits for the first.
    alone = family / "locks" / content(record) if family and folder else None
    with lock(alone, wait=math.inf) if alone else contextlib.nullcontext():
        found = _from_equal_run(family, folder, record, parts, task.outside) if family and folder else {}
        if not found:
            found = _train_and_predict(task, arm, train, run, record, tests, folder, progress)
        if folder:
            for part, value in found.items():
                value.save(folder / f"{part}.npz")
            (folder / "state.pt").unlink(missing_ok=True)
    return found


def _train_and_predict(
    task: Task,
    arm: Arm,
    train: TrainingSet,
    run: ArmRun,
    record: Mapping[str, Any],
    tests: Mapping[str, LabelledPart],
    folder: Path | None,
    progress: Progress | None,
) -> dict[str, Predictions]:
    began = time.monotonic()
    data = _inputs(task, arm, train)
    state = folder / "state.pt" if folder else None
    net, losses = fit(
        data.inputs, data.labels, data.generated, len(task.store.classes), run, task.device, state, progress
    )
    whole = {**record, "seconds": round(time.monotonic() - began, 1), "loss": loss_curve(losses)}
    if task.outside:
        whole["outside"] = task.outside.fingerprint
    return {p: _predict(task, net, of_part, data, {**whole, "part": p}) for p, of_part in tests.items()}


def _from_equal_run(
    family: Path,
    folder: Path,
    record: Mapping[str, Any],
    parts: Sequence[str],
    outside: Outside | None,
) -> dict[str, Predictions]:
    """The predictions of an equal run of another arm, with this arm's record; {} if there is none."""
    wanted = content(record)
    for place in sorted(family.glob(f"*/{folder.parent.name}/{folder.name}")):
        found = {}
        for part in parts if place != folder else ():
            with contextlib.suppress(SkinGanError):  # missing, damaged, or of another version
                p = load(place / f"{part}.npz")
                if current(p.record) and content(p.record) == wanted and _there(p, part, outside):
                    found[part] = p
        if found.keys() == set(parts):
            reused = {"seconds": 0.0, "same_as": next(iter(found.values())).record["arm"]["name"]}
            return {p: replace(v, record={**v.record, **record, **reused}) for p, v in found.items()}
    return {}


def _there(p: Predictions, part: str, outside: Outside | None) -> bool:
    """Whether predictions are on the present photographs of their part."""
    return part != OUTSIDE or (outside is not None and p.record.get("outside") == outside.fingerprint)


def _resume(folder: Path, run: ArmRun, outside: Outside | None) -> tuple[ArmRun, dict[str, Predictions]]:
    """The run under the identity with which it was started, and its readable predictions in `folder`."""
    found, state = {}, folder / "state.pt"
    for part in (*PARTS, OUTSIDE):
        with contextlib.suppress(SkinGanError):  # missing or damaged: computed again
            p = load(folder / f"{part}.npz")
            if _there(p, part, outside):
                found[part] = p
    for known in (run, run.before):
        kept = {part: p for part, p in found.items() if p.record.get("id") == known.id}
        if kept or (state.exists() and checkpoint.of(state, known.id)):
            return known, kept
    return run, {}


def _clear(folder: Path, kept: Mapping[str, Predictions], identity: str) -> None:
    """Remove the files of runs other than `identity`, so that they are not mixed up after a kill."""
    for part in (*PARTS, OUTSIDE):
        if part not in kept:
            (folder / f"{part}.npz").unlink(missing_ok=True)
    state = folder / "state.pt"
    if state.exists() and not checkpoint.of(state, identity):
        state.unlink()


@dataclass(frozen=True)
class _Data:
    """The network's training inputs, and the function that prepares other images in the same way."""

    inputs: Tensor | Rows  # uint8 images [N,3,S,S] or standardised features [N,d]
    labels: Tensor  # [N]
    generated: NDArray[np.bool_]  # [N] whether each is a generated image
    encode: Callable[[LabelledPart], Tensor]


def _inputs(task: Task, arm: Arm, train: TrainingSet) -> _Data:
    labels = torch.from_numpy(train.labels)
    generated = np.arange(len(labels)) >= len(train.chosen)
    if task.settings.network != "head":
        return _Data(train.images, labels, generated, lambda part: torch.from_numpy(part.images))
    if task.frozen is None:
        raise SkinGanError("network=head works on features: give it an extractor (Task.frozen)")
    frozen = task.frozen
    made = [frozen.of(train.altered), *(frozen.of_sample(s, n) for s, n in train.made)]
    x = np.concatenate([frozen.all_real[train.real.rows[train.stored]], *made])
    if arm.augment != "none":
        views = np.concatenate([x[:, None], _views(frozen, train, arm.augment)], 1)
        labels, x = labels.repeat_interleave(views.shape[1]), views.reshape(-1, views.shape[2])
        generated = generated.repeat(views.shape[1])

    def of(part: LabelledPart) -> NDArray[np.float32]:
        there = task.outside and part is task.outside.part
        return frozen.of(part.images) if there else frozen.all_real[part.rows]

    # All arms standardise features by the real training images.
    real = frozen.all_real[task.split.parts == "train"]
    mean, scale = real.mean(0), real.std(0)
    # A feature that hardly varies in training would be huge in an image where it does.
    scale[scale < CONSTANT * np.median(scale)] = 1.0
    return _Data(
        torch.from_numpy((x - mean) / scale),
        labels,
        generated,
        lambda part: torch.from_numpy((of(part) - mean) / scale),
    )


def _views(frozen: Frozen, train: TrainingSet, how: str) -> NDArray[np.float32]:
    """[N,VIEWS,d]: features of augmented views; those of repeated images are computed once."""
    real = [frozen.views(train.real.images, how)[train.stored]] if len(train.stored) else []
    real += [frozen.views(train.altered, how)] if len(train.altered) else []
    return np.concatenate([*real, *(frozen.views(s.images, how)[:n] for s, n in train.made)])


def _part(task: Task, part: str) -> LabelledPart:
    """The images of one part; SkinGanError if there are none."""
    if part == OUTSIDE and task.outside:
        return task.outside.part
    found = labelled_part(task.store, task.split, part, task.settings.size)
    if not len(found.labels):
        raise SkinGanError(f"the split {task.split.name} has no {part} images: choose another part")
    return found


@torch.no_grad()
def _predict(
    task: Task, net: nn.Module, part: LabelledPart, data: _Data, record: Mapping[str, Any]
) -> Predictions:
    x = data.encode(part)
    batches = x.split(min(CHUNK, piece_size(x.shape[1:], CHANNELS)))
    logits = [net(prepare(batch.to(task.device))).cpu() for batch in batches]
    p = torch.cat(logits).softmax(1).numpy()
    return predictions(task.store.classes, part.image_ids, part.lesions, part.labels, p, record)


def _record(task: Task, run: ArmRun, train: TrainingSet) -> dict[str, Any]:
    """The record that is saved with predictions: settings, data and images of the run."""
    return {
        "id": run.id,
        **asdict(run),
        "split_name": task.split.name,
        "honest": task.split.honest,
        "store": task.store.name,
        "data": task.store.fingerprint,
        "real": train.count(task.store.classes, synthetic=False),
        "synthetic": train.count(task.store.classes, synthetic=True),
        "unverified": train.unverified,
    }
