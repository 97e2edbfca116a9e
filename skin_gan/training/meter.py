"""Measures a training's speed and mean losses without waiting for the device at every step."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

NEVER = float("inf")


class Averages:
    """Sums of the scalars of several steps, and the first step at which each was not finite."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.count = 0
        self.names: list[str] = []
        self.sums = self.first_bad = torch.zeros(0)

    def add(self, scalars: Mapping[str, Tensor]) -> None:
        """Add one step's scalars, 0-d tensors; the names have to be the same at every step."""
        values = torch.stack(list(scalars.values())).detach().double()
        if self.count == 0:
            self.names = list(scalars)
            self.sums, self.first_bad = torch.zeros_like(values), torch.full_like(values, NEVER)
        self.count += 1
        self.sums += values
        bad = torch.where(values.isfinite(), NEVER, float(self.count))
        self.first_bad = torch.minimum(self.first_bad, bad)

    def take(self, accelerator: Accelerator) -> tuple[dict[str, float], dict[str, int]]:
        """Sums over steps, averaged over processes, and the first step (from 1) of each non-finite scalar.

        Clears the sums. Every process has to call it; all get the same result.
        """
        if self.count == 0:
            return {}, {}
        both = torch.stack([self.sums, self.first_bad])[None]
        sums, first = accelerator.gather(both).unbind(1)
        bad = {n: int(k) for n, k in zip(self.names, first.amin(0).tolist(), strict=True) if k < NEVER}
        result = dict(zip(self.names, sums.mean(0).tolist(), strict=True))
        self.clear()
        return result, bad


@dataclass
class Span:
    """The training since the last evaluation, over which the next row averages."""

    images: int = 0  # at its start
    seconds: float = 0.0
    steps: int = 0
    sums: dict[str, float] = field(default_factory=dict)


class Clock:
    """Tells when a checkpoint is due; all processes of a training agree.

    A single process reads its clock at every step. Several communicate about once a second, since that waits
    for the device.
    """

    def __init__(self, accelerator: Accelerator, seconds: float) -> None:
        """`seconds`: the largest age of a checkpoint, plus the current step."""
        self.accelerator, self.seconds = accelerator, seconds
        self.start()

    def start(self) -> None:
        """Restart the clock: training begins or a checkpoint was saved, in all processes at the same step."""
        self.begin = self.asked = time.monotonic()
        self.steps, self.pause = 0, 1  # steps since the processes communicated, and until they do so again

    def due(self, at_once: bool = False) -> bool:
        """Whether to save after this step; `at_once`: this process asks for it now."""
        now = time.monotonic()
        due = at_once or now - self.begin >= self.seconds
        if self.accelerator.num_processes == 1:
            return due
        self.steps += 1
        if self.steps < self.pause:
            return False
        mine = torch.tensor([[float(due), (now - self.asked) / self.steps]], device=self.accelerator.device)
        anyone, pace = self.accelerator.gather(mine).amax(0).tolist()
        self.asked, self.steps, self.pause = now, 0, max(1, int(1.0 / max(pace, 1e-3)))
        return bool(anyone)


class Meter:
    """Time, speed and mean scalars of a training, which evaluations or kills may interrupt."""

    def __init__(self, accelerator: Accelerator, images_per_step: int) -> None:
        self.accelerator, self.images_per_step = accelerator, images_per_step
        self.averages, self.span = Averages(), Span()
        self.seconds = 0.0  # of training, without evaluations
        self.speed = 0.0  # images per second, at the last reading

    def start(self, images: int) -> None:
        """Training begins or continues after `images` real images."""
        self.images, self.mark = images, time.perf_counter()

    def add(self, scalars: Mapping[str, Tensor]) -> None:
        self.averages.add(scalars)

    def read(self, images: int) -> tuple[dict[str, float], dict[str, int]]:
        """Means since the last reading or start, and the number of images at each non-finite scalar."""
        steps, before = self.averages.count, self.images
        sums, bad = self.averages.take(self.accelerator)
        elapsed = time.perf_counter() - self.mark
        if steps and not bad:
            self.span.steps += steps
            # Float64 holds sums of float32 almost exactly, so the times of readings do not matter.
            for name, total in sums.items():
                self.span.sums[name] = self.span.sums.get(name, 0.0) + total
            self.seconds += elapsed
            self.speed = (images - before) / elapsed
        self.start(images)
        means = {name: total / steps for name, total in sums.items()}
        return means, {name: before + step * self.images_per_step for name, step in bad.items()}

    def row(self, images: int) -> dict[str, float]:
        """The columns of an evaluation's row on the training since the last evaluation."""
        span, seconds = self.span, self.seconds - self.span.seconds
        return {
            "seconds": round(self.seconds, 3),
            "images_per_second": round((images - span.images) / seconds, 3) if seconds else 0.0,
            **{name: total / span.steps for name, total in span.sums.items()},
        }

    def evaluated(self, images: int) -> None:
        """Start a new span after an evaluation."""
        self.span = Span(images, self.seconds)

    def state_dict(self) -> dict[str, Any]:
        """The state, complete right after a reading."""
        return {"seconds": self.seconds, "span": asdict(self.span)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.seconds, self.span = state["seconds"], Span(**state["span"])
