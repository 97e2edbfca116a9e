"""How fast a training goes and what its losses are, without making it wait for the device at every step."""

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
    """Sums of the scalars of several steps, and for each the first step at which it was not finite."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.count = 0
        self.names: list[str] = []
        self.sums = self.first_bad = torch.zeros(0)

    def add(self, scalars: Mapping[str, Tensor]) -> None:
        """Take in one step's scalars, each a 0-d tensor; always the same names."""
        values = torch.stack(list(scalars.values())).detach().double()
        if self.count == 0:
            self.names = list(scalars)
            self.sums, self.first_bad = torch.zeros_like(values), torch.full_like(values, NEVER)
        self.count += 1
        self.sums += values
        bad = torch.where(values.isfinite(), NEVER, float(self.count))
        self.first_bad = torch.minimum(self.first_bad, bad)

    def take(self, accelerator: Accelerator) -> tuple[dict[str, float], dict[str, int]]:
        """The sums over steps, means over processes, and at which step (from 1) each bad one first was.

        Then clear. Every process has to call it, and all get the same.
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
    """The training since the last evaluation: what its row averages."""

    images: int = 0  # where it began
    seconds: float = 0.0
    steps: int = 0
    sums: dict[str, float] = field(default_factory=dict)


class Clock:
    """When a checkpoint is due, on which all processes of a training agree.

    A single process looks at its clock at every step. Several ask one another about once a second: the answer
    has to wait for the device.
    """

    def __init__(self, accelerator: Accelerator, seconds: float) -> None:
        """`seconds`: the largest age of a checkpoint, but for the step that is under way."""
        self.accelerator, self.seconds = accelerator, seconds
        self.start()

    def start(self) -> None:
        """A checkpoint has been made, or training begins: by all processes after the same step."""
        self.begin = self.asked = time.monotonic()
        self.steps, self.pause = 0, 1  # since the processes asked one another; until they do so again

    def due(self, at_once: bool = False) -> bool:
        """Whether to save after this step; `at_once`: this process wants to, whatever the time."""
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
    """Time, speed and mean scalars of a training that may be interrupted for evaluations, or killed."""

    def __init__(self, accelerator: Accelerator, images_per_step: int) -> None:
        """Of a training that takes `images_per_step` real images at each step."""
        self.accelerator, self.images_per_step = accelerator, images_per_step
        self.averages, self.span = Averages(), Span()
        self.seconds = 0.0  # of training, evaluations not counted
        self.speed = 0.0  # images per second, of late

    def start(self, images: int) -> None:
        """Training begins, or goes on, after `images` real images."""
        self.images, self.mark = images, time.perf_counter()

    def add(self, scalars: Mapping[str, Tensor]) -> None:
        self.averages.add(scalars)

    def read(self, images: int) -> tuple[dict[str, float], dict[str, int]]:
        """Means since the last reading or start; and of each that was not finite, after how many images."""
        steps, before = self.averages.count, self.images
        sums, bad = self.averages.take(self.accelerator)
        elapsed = time.perf_counter() - self.mark
        if steps and not bad:
            self.span.steps += steps
            # Float64 holds sums of float32 exactly, or nearly: it does not matter when they are read.
            for name, total in sums.items():
                self.span.sums[name] = self.span.sums.get(name, 0.0) + total
            self.seconds += elapsed
            self.speed = (images - before) / elapsed
        self.start(images)
        means = {name: total / steps for name, total in sums.items()}
        return means, {name: before + step * self.images_per_step for name, step in bad.items()}

    def row(self, images: int) -> dict[str, float]:
        """What an evaluation's row says of the training since the one before."""
        span, seconds = self.span, self.seconds - self.span.seconds
        return {
            "seconds": round(self.seconds, 3),
            "images_per_second": round((images - span.images) / seconds, 3) if seconds else 0.0,
            **{name: total / span.steps for name, total in span.sums.items()},
        }

    def evaluated(self, images: int) -> None:
        """An evaluation was made: its successor's row begins here."""
        self.span = Span(images, self.seconds)

    def state_dict(self) -> dict[str, Any]:
        """Complete right after a reading."""
        return {"seconds": self.seconds, "span": asdict(self.span)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.seconds, self.span = state["seconds"], Span(**state["span"])
