"""The smallest GANs that train, and images for them to train on."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from skin_gan.config import (
    EvalSettings,
    LossSettings,
    ModelSettings,
    Operations,
    OptimSettings,
    TrainSettings,
    TrialSettings,
    TrialSpec,
)
from skin_gan.data.store import ClassSplit, Part
from skin_gan.folders import TrialFolder
from skin_gan.training.session import Session

SIZE, BATCH = 16, 8
EVALUATION = EvalSettings(images=16, grid=9)
OPS = Operations(device="cpu", threads=1, log_kimg=0.016, checkpoint_seconds=0.0)


def spec(family: str = "dcgan", precision: str = "fp32", norm: str = "batch", **optim) -> TrialSpec:
    settings = TrialSettings(
        model=ModelSettings(family=family, size=SIZE, latent=4, base=4, norm=norm, d_norm=norm),
        loss=LossSettings(zero_outputs=0.1, input_noise=0.02),
        optim=OptimSettings(**optim),
        train=TrainSettings(batch=BATCH, precision=precision, ema_kimg=0.05, augment="diffaugment"),
    )
    return TrialSpec(label="df", index=0, seed=3, fold=0, data="0123456789abcdef", settings=settings)


def part(n: int, seed: int) -> Part:
    images = np.random.default_rng(seed).integers(0, 256, (n, 3, SIZE, SIZE), dtype=np.uint8)
    names = np.array([f"{seed}-{i:03d}" for i in range(n)])
    return Part(images=images, lesions=names, image_ids=names)


def split() -> ClassSplit:
    return ClassSplit("df", SIZE, 0, "fold-fingerprint", "lesion", train=part(24, 1), val=part(8, 2))


def judge(images: torch.Tensor) -> dict[str, object]:
    """Stands for the metrics: numbers that follow from the images, exactly."""
    digest = hashlib.sha256(images.numpy().tobytes()).digest()
    kid = int.from_bytes(digest[:2]) / 100
    return {"kid": kid, "kid_floor": 1.0, "recall": None, "note": "", "n_fake": len(images)}


def open_session(folder: Path, trial: TrialSpec | None = None, **changes) -> Session:
    """A session on `folder`; `changes` are of its operations."""
    return Session(trial or spec(), TrialFolder(folder), split(), replace(OPS, **changes), EVALUATION)


def same(a: object, b: object) -> bool:
    """Whether two nested states are equal bit for bit."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b
