"""Times a trial's own steps in each arithmetic on the device that trains, to choose between them."""

from __future__ import annotations

import platform
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch

from skin_gan.config import Operations, TrialSpec
from skin_gan.data.store import Part
from skin_gan.training.devices import PRECISIONS, choose_device, make_accelerator
from skin_gan.training.learner import Learner

ROUNDS, SECONDS, WARM_UP = 3, 1.0, 2  # rounds; seconds of each precision in a round; steps before them
GAIN = 1.1  # bf16 keeps 8 significant bits where fp32 keeps 24: it is chosen from this ratio of speeds on


def speeds(spec: TrialSpec, part: Part, ops: Operations) -> dict[str, float]:
    """Images per second by precision: medians over rounds in turns, so that other load meets all alike.

    0 for a precision that the device does not have.
    """
    found: dict[str, list[float]] = {name: [] for name in PRECISIONS}
    for _ in range(ROUNDS):
        for name, measured in found.items():
            train = replace(spec.settings.train, precision=name)  # type: ignore[arg-type]
            measured.append(speed(replace(spec, settings=replace(spec.settings, train=train)), part, ops))
    return {name: round(statistics.median(measured), 2) for name, measured in found.items()}


def faster(speeds: dict[str, float]) -> str:
    """The precision to train in."""
    return "bf16" if speeds["bf16"] >= GAIN * speeds["fp32"] else "fp32"


def speed(spec: TrialSpec, part: Part, ops: Operations) -> float:
    """Images per second of a training with fresh networks; 0 if the device lacks the precision."""
    try:
        accelerator = make_accelerator(spec.settings.train.precision, ops)
    except ValueError:  # Accelerate's: a GPU without bf16
        return 0.0
    learner = Learner(spec, part, accelerator)
    if spec.settings.model.growth != "none":
        learner.context.images = 10**9  # at its full size, at which it trains longest
    for _ in range(WARM_UP):
        step(learner)
    steps, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < SECONDS:
        step(learner)
        steps += 1
    return steps * learner.images_per_step / took


def step(learner: Learner) -> None:
    """One step, to its end on the device."""
    learner.step()
    if learner.accelerator.device.type == "cuda":
        torch.cuda.synchronize()


def device_name(ops: Operations) -> str:
    """The device that trains, such as "AMD EPYC, 2 threads" or "NVIDIA A100"."""
    if choose_device(ops.device) == "cuda":
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{next(names, platform.processor() or 'CPU')}, {ops.threads} thread{'s' * (ops.threads > 1)}"
