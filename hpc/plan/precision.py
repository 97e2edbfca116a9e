"""train.precision=auto: what a sweep's measurement on the machine that trains came to. No torch.

The stage prepare measures, once per sweep, and writes RUN/precision.json. All later stages read it, so the
identity of a trial holds fp32 or bf16, as if that had been given. The folder of the sweep is named with auto.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpc.settings.compose import Experiment
from skin_gan.config import AUTO
from skin_gan.errors import SkinGanError
from skin_gan.folders import RunFolder
from skin_gan.io import read_json


def precision_file(run: RunFolder) -> Path:
    return run.path / "precision.json"


def settled(run: RunFolder, e: Experiment) -> Experiment:
    """`e` with the measured precision in place of auto; with auto as long as nothing was measured."""
    if e.trial.train.precision != AUTO:
        return e
    record = read_json(precision_file(run))
    return e if record is None else with_precision(e, chosen(run, record))


def is_settled(run: RunFolder, e: Experiment) -> bool:
    """Whether the trials' precision is known."""
    return settled(run, e).trial.train.precision != AUTO


def with_precision(e: Experiment, precision: str) -> Experiment:
    train = replace(e.trial.train, precision=precision)  # type: ignore[arg-type]
    return replace(e, trial=replace(e.trial, train=train))


def chosen(run: RunFolder, record: Mapping[str, Any]) -> str:
    if record.get("precision") not in ("fp32", "bf16"):
        raise SkinGanError(
            f"{precision_file(run)} is damaged: expected the precision fp32 or bf16; write the one in the "
            "trials' trial.yaml, or remove the file if there are no trials"
        )
    return str(record["precision"])


def described(run: RunFolder) -> str:
    """The measurement in words; "" if there was none."""
    record = read_json(precision_file(run))
    if record is None:
        return ""
    speeds = record.get("images_per_second", {})
    shown = ", ".join(f"{name} {speed:.0f} images/s" for name, speed in speeds.items())
    return f"{chosen(run, record)} by measurement: {shown} on {record.get('device', 'an unknown device')}"
