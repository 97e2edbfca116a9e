"""Times the work of a sweep on this machine for some seconds: what a dry run's cost estimate is made of.

Random pixels are trained on and measured by the real session, judge and classifiers, in a temporary folder:
the speed does not depend on what the images show. Starts without torch.
"""

from __future__ import annotations

import multiprocessing
import signal
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import numpy as np

from hpc.plan.precision import with_precision
from hpc.settings.compose import Experiment
from skin_gan.ablation.arms import ARMS
from skin_gan.ablation.classifiers import ClassifierSettings
from skin_gan.config import AUTO, TrialSpec
from skin_gan.data.store import Store
from skin_gan.errors import SkinGanError
from skin_gan.folders import TrialFolder

IMAGES = 60  # of the made-up class, each of a lesion of its own
LABEL = "calibration"
EVALUATED = 32  # generated images of the timed evaluation
SHARES = {"training": 0.45, "updates": 0.2}  # of the time; measuring takes what it takes, about the rest


@dataclass(frozen=True)
class Speeds:
    """How fast one slot (a GPU, its share of one, or operations.threads cores) does each kind of work."""

    images: float  # of training, images per second
    evaluation: float  # seconds of one evaluation
    features: float  # images per second through the networks that measure
    start: float  # seconds until a job has started
    checkpoint: float  # bytes of a trial's checkpoint
    updates: Mapping[str, float] = field(default_factory=dict)  # of a classifier per second, by its name
    source: str = ""  # where these numbers are from, in words


def side_by_side(
    count: int, e: Experiment, classifiers: Mapping[str, ClassifierSettings], seconds: float
) -> list[Speeds]:
    """What `count` processes measure that work at the same time; an interrupt ends them at once.

    Raises the error of one that failed. A ProcessPoolExecutor may hang when it is interrupted twice.
    """
    context = multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    words = (answers, e, classifiers, seconds, time.time())
    workers = [context.Process(target=_answer, args=words, daemon=True) for _ in range(count)]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        for worker in workers:
            if worker.is_alive():
                worker.kill()
    found = [answers.get() for worker in workers if worker.exitcode == 0]
    for error in (one for one in found if isinstance(one, SkinGanError)):
        raise error
    if len(found) < count:
        codes = ", ".join(str(worker.exitcode) for worker in workers)
        raise SkinGanError(f"timing this machine failed: its processes ended with {codes}; see above")
    return found


def _answer(answers: SimpleQueue[Any], *words: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    try:
        answers.put(calibrate(*words))
    except SkinGanError as e:
        answers.put(e)


def calibrate(
    e: Experiment, classifiers: Mapping[str, ClassifierSettings], seconds: float, asked: float
) -> Speeds:
    """Time training, an evaluation and the updates of each classifier, for about so many seconds in all.

    `asked`: when this was started (time.time()), to know how long a process takes to start.
    """
    import torch

    from hpc.stages.inputs import Judge
    from skin_gan.data.store import class_split
    from skin_gan.metrics.features import extractor, second_extractor
    from skin_gan.metrics.reference import reference
    from skin_gan.training.devices import choose_device
    from skin_gan.training.session import Session

    if e.trial.train.precision == AUTO:  # prepare will measure it
        e = with_precision(e, "fp32")
    device, threads, size = choose_device(e.operations.device), e.operations.threads, e.trial.model.size
    torch.set_num_threads(threads)
    networks = extractor(device, threads), second_extractor(device, threads)
    start = time.time() - asked
    with tempfile.TemporaryDirectory() as temporary:
        store = made_up(Path(temporary, "store"), size)
        began = time.perf_counter()
        real = reference(store, LABEL, size, 0, Path(temporary, "cache"), *networks)
        features = IMAGES / (time.perf_counter() - began)
        folder, split = TrialFolder(Path(temporary, "trial")), class_split(store, LABEL, size, 0)
        evaluation = replace(e.evaluate, images=min(EVALUATED, e.evaluate.images))
        spec = TrialSpec(LABEL, 0, 0, 0, store.fingerprint, e.trial)
        session = Session(spec, folder, split, replace(e.operations, device=device), evaluation)
        try:
            images = training_speed(session, seconds * SHARES["training"])
            began = time.perf_counter()
            session.evaluate(Judge(real, *networks))
            measuring = time.perf_counter() - began + (e.evaluate.images - evaluation.images) / features
        finally:
            session.close()
        share = seconds * SHARES["updates"] / max(1, len(classifiers))
        updates = {name: update_speed(c, device, share) for name, c in classifiers.items()}
        return Speeds(images, measuring, features, start, folder.last.stat().st_size, updates)


def made_up(folder: Path, size: int) -> Store:
    """A store of random pixels: one class, a lesion per image."""
    from skin_gan.data.build import manifest_csv
    from skin_gan.data.store import describe_rows, open_store, store_json

    rows = [{"image_id": f"{i}", "lesion_id": f"{i}", "dx": LABEL, "group": f"{i}", "sha256": f"{i}"}
            for i in range(IMAGES)]  # fmt: skip
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(256, size=(IMAGES, size, size, 3), dtype=np.uint8)
    np.save(folder / f"images-{size}.npy", pixels)
    (folder / "manifest.csv").write_text(manifest_csv(rows))
    values = describe_rows(rows, {"size": size})
    store = Store(folder, LABEL, "folder", unit="lesion", partial=False, **values)
    (folder / "store.json").write_text(store_json(store))
    return open_store(folder)


def training_speed(session: Any, seconds: float) -> float:
    """Images per second of the session's training, after a first step that compiles and allocates."""
    step = session.learner.images_per_step
    if session.spec.settings.model.growth != "none":
        session.learner.context.images = 10**9  # its full size, at which it trains longest
    until, took = session.learner.images + step, 0.0
    session.train(until / 1000)
    before, steps = until, 1
    while took < seconds:
        began = time.perf_counter()
        until += step * steps
        session.train(until / 1000)
        took += time.perf_counter() - began
        pace = (until - before) / took / step  # steps per second
        steps = max(1, min(int(pace * (seconds - took)), 4 * steps))
    return (until - before) / took


class _Enough(Exception):
    """The time for a classifier is over."""


def update_speed(c: ClassifierSettings, device: str, seconds: float) -> float:
    """Updates per second of a classifier, after a first one; at least one is timed."""
    import torch

    from skin_gan.ablation.fit import fit
    from skin_gan.ablation.runs import ArmRun

    inputs: Any = torch.randn(256, 1280)
    if c.network != "head":
        inputs = torch.randint(256, (256, 3, c.size, c.size), dtype=torch.uint8)
    times: list[float] = []

    def progress(step: int) -> None:
        times.append(time.perf_counter())
        if len(times) > 1 and times[-1] - times[0] > seconds:
            raise _Enough

    labels, generated = torch.arange(256) % 7, np.zeros(256, bool)
    run = ArmRun(replace(c, pretrained=""), ARMS["real"], 0, LABEL)
    with suppress(_Enough):
        fit(inputs, labels, generated, 7, run, device, progress=progress)
    return (len(times) - 1) / max(times[-1] - times[0], 1e-9) if len(times) > 1 else 1.0
