"""Every typed setting of the science. No torch: the planner and `--help` import this.

A `TrialSpec` is one GAN to be trained. Its identity is the hash of what determines its result; how long it
trains, how often it is evaluated and where it runs are not part of that, so that a search can be extended.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from skin_gan.errors import SkinGanError
from skin_gan.identity import differing, identity
from skin_gan.run import content_hash

# Part of every trial's identity. Raise it when the same settings would no longer give the same result, or
# when a default changes. 1 hashed every field, so that a new one changed all identities: see `formerly`.
SCHEMA = 2


@dataclass
class ModelSettings:
    """The networks. Presets with their sources are in `skin_gan.presets`."""

    family: Literal["dcgan", "aegan"] = "aegan"
    size: int = 32  # height and width of an image in pixels: a power of two
    latent: int = 16  # dimensions of z
    base: int = 64  # channels at half the image's size (ngf = ndf); doubled at each halving, up to 8 times
    upsampling: Literal["transposed", "nearest", "bilinear", "pixelshuffle"] = "nearest"
    norm: Literal["batch", "layer", "group", "none"] = "batch"  # generator and encoder
    d_norm: Literal["batch", "layer", "group", "spectral", "none"] = "batch"  # discriminators


@dataclass
class LossSettings:
    """Targets and weights of the losses. The four weights are AEGAN's (Lazarou 2020)."""

    real_label: float = 1.0  # the discriminator's target for real images: 0.95 is one-sided smoothing
    fake_label: float = 0.0  # its target for generated ones
    zero_outputs: float = 0.0  # probability of zeroing each discriminator output (logit) while it trains
    image: float = 1.0  # weight of |x - G(E(x))|
    latent: float = 0.5  # weight of (z - E(G(z)))^2
    adversarial_image: float = 0.005  # weight of fooling the image discriminator
    adversarial_latent: float = 0.1  # weight of fooling the latent discriminator
    input_noise: float = 0.0  # standard deviation of Gaussian noise on the image discriminator's input


@dataclass
class OptimSettings:
    name: Literal["adam", "sgd"] = "adam"
    lr_g: float = 2e-4  # generator (and encoder)
    lr_d: float = 2e-4  # discriminators
    beta1: float = 0.5  # for SGD: its momentum
    beta2: float = 0.999  # unused by SGD
    d_steps: int = 1  # discriminator updates for each generator update
    clip: float = 0.0  # largest gradient norm; 0 does not clip


@dataclass
class TrainSettings:
    batch: int = 64  # images over all processes, per discriminator update
    precision: Literal["fp32", "bf16"] = "fp32"  # bf16 is faster on GPUs and on CPUs with AMX only
    ema_kimg: float = 20.0  # half-life of the generator's moving average; 0 turns it off
    # none; dihedral: flips and quarter turns of real images (a lesion has no up);
    # diffaugment: those, and translation and cutout of real and generated alike (Zhao 2020)
    augment: Literal["none", "dihedral", "diffaugment"] = "none"


@dataclass
class TrialSettings:
    """All that decides what one training becomes, apart from its data and its seed."""

    model: ModelSettings = field(default_factory=ModelSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    optim: OptimSettings = field(default_factory=OptimSettings)
    train: TrainSettings = field(default_factory=TrainSettings)


@dataclass
class EvalSettings:
    """How a generator is measured. Not part of a trial's identity; recorded beside every number."""

    images: int = 256  # generated images per evaluation
    every_kimg: float = 0.0  # evaluate also at multiples of this between rungs; 0: at rungs only
    grid: int = 64  # images in a sample grid


@dataclass
class Operations:
    """How a trial is carried out: never changes its result, so never part of its identity."""

    device: str = "auto"  # auto, cpu, cuda
    threads: int = 1  # CPU threads per process
    checkpoint_seconds: float = 60.0  # at most this much work is lost to a kill
    log_kimg: float = 0.5  # scalars to TensorBoard this often, and with each checkpoint


@dataclass
class TrialSpec:
    """One GAN to be trained on one class: what, on which data, with which seed."""

    label: str  # lesion class (HAM10000's dx)
    index: int  # place in the class's sequence of trials
    seed: int
    fold: int
    data: str  # fingerprint of the store
    settings: TrialSettings

    schema: int = SCHEMA  # that of its identity: a trial keeps the one it was begun with

    @property
    def id(self) -> str:
        """Hash of everything that determines the result."""
        if self.schema == SCHEMA:
            return identity(SCHEMA, self)
        return content_hash({**asdict(self), "settings": formerly(self.settings)})


# The settings that there were when identities hashed every one of them.
FORMER = {
    "model": ("family", "size", "latent", "base", "upsampling", "norm", "d_norm"),
    "loss": ("real_label", "fake_label", "zero_outputs", "image", "latent", "adversarial_image",
             "adversarial_latent", "input_noise"),
    "optim": ("name", "lr_g", "lr_d", "beta1", "beta2", "d_steps", "clip"),
    "train": ("batch", "precision", "ema_kimg", "augment"),
}  # fmt: skip


def formerly(settings: TrialSettings) -> dict[str, Any]:
    """What schema 1 hashed of the settings. It knew no others: those are added where they were chosen."""
    chosen = differing(settings)
    return {
        group: {name: getattr(getattr(settings, group), name) for name in names} | chosen.get(group, {})
        for group, names in FORMER.items()
    }


def spec_from(values: Mapping[str, Any]) -> TrialSpec:
    """The spec that a trial.yaml holds; one that another version wrote is a SkinGanError."""
    try:
        groups = values["settings"]
        settings = TrialSettings(
            model=ModelSettings(**groups["model"]),
            loss=LossSettings(**groups["loss"]),
            optim=OptimSettings(**groups["optim"]),
            train=TrainSettings(**groups["train"]),
        )
        own = {name: values[name] for name in ("label", "index", "seed", "fold", "data")}
        schema = values.get("schema", 1)
    except (KeyError, TypeError) as e:
        raise SkinGanError(f"trial.yaml was written by another version ({e}): search again") from e
    if schema not in (1, SCHEMA):
        raise SkinGanError(
            f"trial.yaml has settings of schema {schema}, which this version does not know: expected 1 or "
            f"{SCHEMA}; use the version that wrote it, or search again"
        )
    return TrialSpec(**own, settings=check(settings), schema=schema)


def check(s: TrialSettings) -> TrialSettings:
    """Return `s` if its values are in range, else raise one error that names each that is not."""
    bad: list[str] = []

    def need(ok: bool, key: str, value: object, expected: str) -> None:
        if not ok:
            bad.append(f"{key}={value}: expected {expected}")

    m, lo, o, t = s.model, s.loss, s.optim, s.train
    need(m.size in (16, 32, 64, 128, 256), "model.size", m.size, "16, 32, 64, 128 or 256")
    need(m.latent >= 1, "model.latent", m.latent, "at least 1")
    need(m.base >= 4 and m.base % 4 == 0, "model.base", m.base, "a multiple of 4, at least 4")
    need(0.5 < lo.real_label <= 1, "loss.real_label", lo.real_label, "above 0.5, at most 1")
    need(0 <= lo.fake_label < 0.5, "loss.fake_label", lo.fake_label, "at least 0, below 0.5")
    need(0 <= lo.zero_outputs < 1, "loss.zero_outputs", lo.zero_outputs, "a probability below 1")
    for name in ("image", "latent", "adversarial_image", "adversarial_latent", "input_noise"):
        value = getattr(lo, name)
        need(value >= 0 and math.isfinite(value), f"loss.{name}", value, "a finite number, at least 0")
    for name in ("lr_g", "lr_d"):
        need(0 < getattr(o, name) < 1, f"optim.{name}", getattr(o, name), "above 0, below 1")
    for name in ("beta1", "beta2"):
        need(0 <= getattr(o, name) < 1, f"optim.{name}", getattr(o, name), "at least 0, below 1")
    need(1 <= o.d_steps <= 16, "optim.d_steps", o.d_steps, "1 to 16")
    need(o.clip >= 0, "optim.clip", o.clip, "at least 0")
    need(2 <= t.batch <= 4096, "train.batch", t.batch, "2 to 4096")
    need(t.ema_kimg >= 0, "train.ema_kimg", t.ema_kimg, "at least 0")
    if bad:
        raise SkinGanError("settings out of range: " + "; ".join(bad))
    return s
