"""Trains one trial: the loop, its records and evaluations. All state is in the trial's folder.

    session = Session(spec, folder, split, ops, evaluation)     # new, or resumed from the folder's last.pt
    row = session.advance(12.0, judge)                          # trains to 12 kimg and evaluates
    session.finish(COMPLETED)
    session.close()

Any process may be killed at any moment. The next session resumes from the last checkpoint, and on one CPU the
weights at the end are the same, bit for bit. A session that is asked to stop saves a checkpoint first.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor

from skin_gan.config import EvalSettings, Operations, TrialSpec
from skin_gan.data.store import ClassSplit
from skin_gan.errors import SkinGanError
from skin_gan.folders import ALARMED, DIVERGED, RUNNING, SHEETS, TrialFolder
from skin_gan.io import append_jsonl, lock, read_jsonl, write_atomic
from skin_gan.training import checkpoint, grids
from skin_gan.training.board import STATUS, Board
from skin_gan.training.devices import make_accelerator
from skin_gan.training.interruption import Interruption
from skin_gan.training.learner import Learner
from skin_gan.training.meter import Clock, Meter
from skin_gan.training.showcase import Showcase
from skin_gan.training.tags import TRAINING
from skin_gan.training.watch import alarm, best_of, overfitting

Row = dict[str, Any]
Judge = Callable[[Tensor], Row]  # uint8 [N,3,S,S] -> metrics, finite or None; "kid" is one of them
PROGRESS_SECONDS = 2.0


class Diverged(SkinGanError):
    """A loss or a weight is not finite: this trial has ended, others may continue."""


class Stopped(SkinGanError):
    """Evaluations raised the alarm, and `evaluate.stop_on_alarm` ends such a trial; others may continue."""


class Session:
    """Trains and evaluates one trial. With several processes each opens its own and makes the same calls."""

    def __init__(
        self,
        spec: TrialSpec,
        folder: TrialFolder,
        split: ClassSplit,
        ops: Operations,
        evaluation: EvalSettings | None = None,
        accelerator: Accelerator | None = None,
        source: Path | None = None,
    ) -> None:
        """Start the trial, or resume it from its last checkpoint.

        `source` is the file of the pretrained networks that `spec.start` names, if any. SkinGanError if
        another process trains the trial, the images do not fit the spec, or a file is damaged or another
        trial's.
        """
        check_fit(spec, split)
        self.spec, self.folder, self.split, self.ops = spec, folder, split, ops
        self.evaluation = evaluation or EvalSettings()
        self.accelerator = accelerator or make_accelerator(spec.settings.train.precision, ops)
        self.main = self.accelerator.is_main_process
        self.source = source
        self.target = self.reported = 0.0
        self.board: Board | None = None  # in the main process, until the trial has ended
        self._learner: Learner | None = None  # until the session is closed
        with ExitStack() as opening:
            self._open(opening)
            self.opened = opening.pop_all()

    def _open(self, opening: ExitStack) -> None:
        """Lock the trial's folder and load its state; `opening` gets what has to be closed."""
        self.began, self.seconds_before = time.monotonic(), 0.0
        if self.main:
            self._claim(opening)
            self.seconds_before = self.folder.state().get("seconds", 0.0)
        self.accelerator.wait_for_everyone()
        state = checkpoint.load(self.folder.last, self.spec.id) if self.folder.last.exists() else None
        self.rows = [row for row in read_jsonl(self.folder.metrics) if "images" in row]
        if self.main:
            self.board = self._describe(state["learner"]["images"] if state else 0)
            opening.callback(self.board.close)
        self._learner = Learner(self.spec, self.split.train, self.accelerator)
        self.meter = Meter(self.accelerator, self.learner.images_per_step)
        self.clock = Clock(self.accelerator, self.ops.checkpoint_seconds)
        self.meter.start(self.learner.images)
        self.showcase = Showcase(self.spec, self.split, self.evaluation)
        if state:
            self.learner.load_state_dict(state["learner"])
            self.meter.load_state_dict(state["meter"])
        elif self.spec.start:
            self.learner.start_from(checkpoint.load_networks(self.source, self.spec.start))
        if self._current_row():  # recorded after that checkpoint was saved
            self.meter.evaluated(self.learner.images)

    def _claim(self, opening: ExitStack) -> None:
        """Lock the folder; SkinGanError if another process trains the trial."""
        if opening.enter_context(lock(self.folder.lock)) is None:
            raise SkinGanError(f"another process trains {self.folder.path}: wait until it ends, or stop it")
        for leftover in self.folder.path.glob(".*.tmp"):  # of a process that was killed while it wrote
            leftover.unlink()

    def _describe(self, images: int) -> Board:
        """Write trial.yaml and open the TensorBoard log, before any training."""
        text = yaml.safe_dump({"id": self.spec.id, **asdict(self.spec)}, sort_keys=False)
        write_atomic(self.folder.spec, text)
        board = Board(self.folder.path, self.spec, images)
        for row in self.rows:
            if row["images"] > images:  # TensorBoard drops records beyond the checkpoint
                board.row(row)
        return board

    @property
    def learner(self) -> Learner:
        """The networks in training, while the session is open."""
        assert self._learner is not None, "the session is closed"
        return self._learner

    @property
    def kimg(self) -> float:
        """Thousands of real images that the discriminator has been shown."""
        return self.learner.images / 1000

    @property
    def seconds(self) -> float:
        """How long sessions of this trial have been open, evaluations and lost work included."""
        return self.seconds_before + time.monotonic() - self.began

    @property
    def best(self) -> Row | None:
        """The evaluation that best.pt holds, chosen by KID and coverage: see `best_of`."""
        return best_of(self.rows)

    def advance(self, kimg: float, judge: Judge, target: float | None = None) -> Row:
        """Train to `kimg` and evaluate there, and before at every `every_kimg`; returns the last row.

        Training stops at the first step at or beyond `kimg`. If it is beyond already, the first evaluation
        since then is returned. `target` is shown as the trial's goal. Raises Diverged, and Stopped after an
        evaluation that raises the alarm if that is to end the trial.
        """
        self.target = target or kimg
        end, every = images_at(kimg), images_at(self.evaluation.every_kimg)
        for stop in [*(range(every, end, every) if every else ()), end]:
            self._train(stop)
            made = (r for r in self.rows if stop <= r["images"] <= self.learner.images)
            row = next(made, None) or self.evaluate(judge)
            if self.evaluation.stop_on_alarm and (why := self.alarm_at(row["images"])):
                self.finish(ALARMED, why)
                raise Stopped(why)
        return row

    def alarm_at(self, images: int) -> str:
        """Why the evaluations up to `images` real images raise an alarm; "" if they do not."""
        return alarm([row for row in self.rows if row["images"] <= images], self.evaluation)

    def train(self, until_kimg: float) -> None:
        """Train to the first step at or beyond `until_kimg` and save a checkpoint. Raises Diverged.

        On Ctrl-C, SIGTERM or Slurm's warning (SIGUSR2) the current step ends and a checkpoint is saved before
        the signal takes effect.
        """
        self.target = max(self.target, until_kimg)
        self._train(images_at(until_kimg))

    def _train(self, until: int) -> None:
        learner, interval = self.learner, max(1, images_at(self.ops.log_kimg))
        if learner.images >= until:
            return
        self.meter.start(learner.images)
        self.clock.start()
        with Interruption() as interruption:
            while learner.images < until:
                self.meter.add(learner.step())
                self.report_progress()
                due = self.clock.due(bool(interruption.noted))
                if due or learner.images % interval < learner.images_per_step:
                    self.log()
                if due:
                    self.save()
                    interruption.act()
            self.log()
            self.save()

    def log(self) -> None:
        """Record the mean scalars since the last call. Raises Diverged if any number is not finite."""
        means, bad = self.meter.read(self.learner.images)
        if bad:
            first = min(bad.values())
            self._diverge([name for name in bad if bad[name] == first], first)
        if not self.learner.finite():
            self._diverge(["a weight"], self.learner.images)
        if self.board and means:
            shown = {**means, "images_per_second": self.meter.speed}
            self.board.scalars({f"{TRAINING}/{k}": v for k, v in shown.items()}, self.learner.images)

    def _diverge(self, names: list[str], images: int) -> None:
        reason = f"{', '.join(names)} not finite at {images / 1000:g} kimg"
        self.finish(DIVERGED, reason)
        raise Diverged(reason)

    def save(self) -> None:
        """Replace last.pt. Call it right after `log`, which has checked that all numbers are finite."""
        self.clock.start()
        if self.board:
            self.board.flush()
        if self.main:
            checkpoint.save(self.folder.last, self.spec.id, self.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """The content of a checkpoint."""
        split = self.split
        data = {"fold_fingerprint": split.fingerprint, "unit": split.unit, "images": len(split.train.images),
                "groups": len(set(split.train.lesions.tolist()))}  # fmt: skip
        return {"spec": asdict(self.spec), "data": data, "learner": self.learner.state_dict(),
                "meter": self.meter.state_dict(), "best": self.best}  # fmt: skip

    def evaluate(self, judge: Judge) -> Row:
        """Evaluate the averaged generator on fixed latents: a row of metrics.jsonl, sheets, maybe best.pt."""
        row = self._current_row()
        if row is None:
            self.log()
            row = broadcast_object_list([self._measure(judge) if self.main else None])[0]
            self.rows.append(row)
            self.report_progress(at_once=True)
        self.meter.evaluated(self.learner.images)
        return row

    def _current_row(self) -> Row | None:
        """The evaluation at the current number of images, if it was made."""
        return next((row for row in self.rows if row["images"] == self.learner.images), None)

    def _measure(self, judge: Judge) -> Row:
        """Evaluate and write all results, the row last: if it exists, so do the others."""
        images = self.learner.images
        row = {"kimg": self.kimg, "images": images, **self.meter.row(images)}
        samples = self.showcase.samples(self.learner)
        row |= {**self._watched(samples), **judge(samples)}
        for name, page in self.showcase.sheets(self.learner).items():
            grids.save(self.folder.samples / f"{self.kimg:08.3f}-{name}.png", page)
            if self.board:
                self.board.grid(name, page, images)
        grids.thin(self.folder.samples, SHEETS)
        if self.board:
            self.board.row(row)
            if why := alarm([*self.rows, row], self.evaluation):
                self.board.text("alarm", why, images)
            self.board.flush()
        if best_of([*self.rows, row]) is row:
            checkpoint.save(self.folder.best, self.spec.id, {**self.state_dict(), "best": row})
        append_jsonl(self.folder.metrics, row)
        return row

    def _watched(self, samples: Tensor) -> Row:
        real = self.learner.sampler.images, torch.from_numpy(self.split.val.images)
        discriminator = self.learner.plain.get("discriminator")
        return overfitting(discriminator, *real, samples, self.spec.settings.train.batch)

    def report_progress(self, at_once: bool = False) -> None:
        """Write the trial's progress to state.json, at most every two seconds unless `at_once`."""
        if self.main and (at_once or time.monotonic() - self.reported >= PROGRESS_SECONDS):
            self._write_state(RUNNING, "")

    def _write_state(self, state: str, reason: str) -> None:
        self.reported = time.monotonic()
        last, best = self.rows[-1] if self.rows else {}, self.best or {}
        self.folder.update(
            state=state, reason=reason, kimg=self.kimg, target=self.target,
            alarm=self.alarm_at(self.learner.images), images_per_second=round(self.meter.speed, 2),
            seconds=round(self.seconds, 2), trained_seconds=round(self.meter.seconds, 2),
            evaluations=len(self.rows),
            kid=last.get("kid"), best_kid=best.get("kid"), best_kimg=best.get("kimg"),
        )  # fmt: skip

    def finish(self, state: str, reason: str = "") -> None:
        """Record that the trial ended in `state`, one of `skin_gan.folders.STATES`."""
        if self.main:
            self._write_state(state, reason)
            self._end_board()

    def _end_board(self) -> None:
        """Write the final state to TensorBoard, if the trial has one."""
        record = self.folder.state()
        if self.board and record["state"] in STATUS:
            self.board.end(record["state"], record.get("reason", ""), self.learner.images)
            self.board = None

    def close(self) -> None:
        """Release the trial. Training since the last checkpoint is lost."""
        self._end_board()  # a trial is pruned from outside, while its session is open
        self.opened.close()
        self._learner = None
        gc.collect()  # Accelerate ties networks into cycles, which would fill the next trial's memory


def images_at(kimg: float) -> int:
    """The whole number of images in `kimg` thousands; training counts images to avoid rounding."""
    return round(1000 * kimg)


def check_fit(spec: TrialSpec, split: ClassSplit) -> None:
    """SkinGanError if the images are not of the trial's class, fold and size."""
    size = spec.settings.model.size
    if (split.label, split.fold, split.size) != (spec.label, spec.fold, size):
        raise SkinGanError(
            f"trial of class {spec.label}, fold {spec.fold}, {size} pixels: the images given are of class "
            f"{split.label}, fold {split.fold}, {split.size} pixels; open the store at size {size}"
        )
