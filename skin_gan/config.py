"""The typed settings of a training. No torch, since the planner and `--help` import this.

A `TrialSpec` describes one GAN training. Its identity is a hash of everything that determines its result. The
length of the training, the evaluations and the machine are not part of it, so that a search can be extended.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, make_dataclass
from typing import TYPE_CHECKING, Any, Literal

from skin_gan.errors import SkinGanError
from skin_gan.identity import content_hash, differing, identity, whole
from skin_gan.ranges import check_ranges, setting
from skin_gan.variants import AUGMENTATIONS, FAMILIES, LOSSES, PENALTIES, about, names

# Part of every trial's identity. Raise it when the same settings no longer give the same result, or when a
# default changes. Schema 1 hashed every field, so that a new setting changed all identities: see `formerly`.
SCHEMA = 2
AUTO = "auto"  # train.precision of a sweep that measures; a trial is trained in what that came to


if TYPE_CHECKING:
    Family = str
    Loss = str
    Augmentation = str
else:  # the names of the files in these folders
    Family, Loss, Augmentation = (Literal[names(folder)] for folder in (FAMILIES, LOSSES, AUGMENTATIONS))


@dataclass
class ModelSettings:
    """The networks. Presets with their sources are in `skin_gan/presets`."""

    family: Family = setting("aegan", "model family: a file in skin_gan/families")
    size: int = setting(32, "height and width of an image", unit="pixels", among=(16, 32, 64, 128, 256))
    latent: int = setting(16, "dimensions of z", least=1)
    base: int = setting(
        64, "channels at half the image's size (ngf = ndf); doubled at each halving, up to 8 times",
        multiple=4, least=4,
    )  # fmt: skip
    upsampling: Literal["transposed", "nearest", "bilinear", "pixelshuffle"] = setting(
        "nearest", "how the generator doubles its resolution"
    )
    norm: Literal["batch", "layer", "group", "none"] = setting("batch", "of generator and encoder")
    d_norm: Literal["batch", "layer", "group", "spectral", "none"] = setting("batch", "of discriminators")
    discriminator: Literal["own", "projected", "both", "auto"] = setting(
        "own",
        "of images. own: the family's; projected: small heads on a pretrained network's frozen features "
        "(Sauer 2021); both: with the family's as a head more; auto: projected where the launching machine "
        "has the weights of model.features, else own, as sweep.yaml then records",
    )
    features: Literal["mobilenetv2", "mobilenetv2_torchvision", "random"] = setting(
        "mobilenetv2", "projected: the network; random: an untrained one, as a control"
    )
    features_size: int = setting(
        0, "projected: images are resized to this for the network; 0: shown as they are", unit="pixels",
        least=0, most=512, multiple=32,
    )  # fmt: skip
    head_channels: int = setting(64, "projected: channels of mixed features and heads", least=4, most=1024)
    colour_head: bool = setting(
        True, "projected: a head that judges colours and how much they vary in a batch"
    )
    growth: Literal["none", "skip", "fade"] = setting(
        "none", "the generator doubles its resolution while it trains; skip and fade bring a level in"
    )
    start_size: int = setting(
        8, "growth: height and width of its first images", unit="pixels", among=(4, 8, 16, 32, 64, 128)
    )
    batch_spread: bool = setting(True, "projected: heads see how much the features of a batch vary")

    @property
    def weights(self) -> str:
        """The name of the pretrained weights that the image discriminator needs; "" if it needs none."""
        return "" if self.discriminator == "own" or self.features == "random" else self.features


@dataclass
class Losses:
    """The adversarial loss, and the weights of AEGAN's terms (Lazarou 2020)."""

    name: Loss = setting("bce", "adversarial loss: a file in skin_gan/objectives/losses")
    real_label: float = setting(
        1.0, "bce: the discriminator's target for real images; 0.95 is one-sided smoothing", above=0.5, most=1
    )
    fake_label: float = setting(0.0, "bce: its target for generated ones", least=0, below=0.5)
    zero_outputs: float = setting(
        0.0, "probability of zeroing each discriminator output (logit) while it trains", least=0, below=1
    )
    lazy: int = setting(
        1,
        "penalties on gradients and consistency at every n-th discriminator update only, n times as strong",
        least=1,
        most=64,
    )
    scale_penalties: bool = setting(
        False,
        "r1 and r2 times 0.0002 * size^2 / batch (StyleGAN2-ADA, Karras 2020): a weight of 1 then suits any "
        "resolution and batch",
    )
    mode_seeking: float = setting(
        0.0,
        "weight of the generator's term that images differ as their latents do (Mao 2019): against images of "
        "few kinds",
        least=0,
    )
    image: float = setting(1.0, "aegan: weight of |x - G(E(x))|", least=0)
    perceptual: float = setting(
        0.0,
        "aegan: weight of the distance of x and G(E(x)) in a projected discriminator's frozen features "
        "(Zhang 2018)",
        least=0,
    )
    latent: float = setting(0.5, "aegan: weight of (z - E(G(z)))^2", least=0)
    adversarial_image: float = setting(0.005, "aegan: weight of fooling the image discriminator", least=0)
    adversarial_latent: float = setting(0.1, "aegan: weight of fooling the latent discriminator", least=0)
    input_noise: float = setting(
        0.0, "standard deviation of Gaussian noise on the image discriminator's input", least=0
    )


if TYPE_CHECKING:

    class LossSettings(Losses):
        """`Losses`, and a weight for each penalty on the discriminator, by the name of its file."""
else:
    LossSettings = make_dataclass(
        "LossSettings",
        [
            (name, float, setting(0.0, f"weight of {about(PENALTIES, name)} 0: off", least=0))
            for name in names(PENALTIES)
        ],
        bases=(Losses,),
    )
    LossSettings.__module__ = __name__
    LossSettings.__doc__ = f"{Losses.__doc__} A weight for each penalty on the discriminator, 0 by default."


@dataclass
class OptimSettings:
    """The optimisers of generators and discriminators."""

    name: Literal["adam", "sgd"] = setting("adam", "optimiser")
    lr_g: float = setting(2e-4, "learning rate of generator and encoder", above=0, below=1)
    lr_d: float = setting(2e-4, "learning rate of discriminators", above=0, below=1)
    beta1: float = setting(0.5, "Adam's; of SGD its momentum", least=0, below=1)
    beta2: float = setting(0.999, "Adam's; SGD has none", least=0, below=1)
    d_steps: int = setting(1, "discriminator updates for each generator update", least=1, most=16)
    clip: float = setting(0.0, "largest gradient norm; 0 does not clip", least=0)


@dataclass
class TrainSettings:
    """Batches, arithmetic, moving average and augmentation."""

    batch: int = setting(
        64, "images over all processes, per discriminator update", unit="images", least=2, most=4096
    )
    precision: Literal["fp32", "bf16", "auto"] = setting(
        "fp32",
        "arithmetic; bf16 is faster on GPUs, and on CPUs that have instructions for it; auto: what is faster "
        "where the sweep is prepared, measured once",
    )
    ema_kimg: float = setting(
        20.0, "half-life of the generator's moving average; 0 turns it off", unit="kimg", least=0
    )
    augment: Augmentation = setting(
        "none",
        "none; dihedral: flips and quarter turns of real images (a lesion has no up); diffaugment: those, "
        "and translation and cutout of real and generated alike (Zhao 2020); geometric: orientation and "
        "reflected translation of both alike; ada: these, scale and cutout, as often as overfitting asks for "
        "(Karras 2020)",
    )
    level_kimg: float = setting(
        8.0, "growth: training at each size before it is doubled", unit="kimg", above=0
    )
    frozen_layers: int = setting(
        0,
        "after pretraining: first convolutions of the family's image discriminator that stay as they are "
        "(FreezeD, Mo 2020)",
        least=0,
        most=16,
    )


@dataclass
class TrialSettings:
    """All settings that determine the result of a training, apart from data and seed."""

    model: ModelSettings = field(default_factory=ModelSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    optim: OptimSettings = field(default_factory=OptimSettings)
    train: TrainSettings = field(default_factory=TrainSettings)


@dataclass
class EvalSettings:
    """Settings of evaluations. Not part of a trial's identity; recorded beside every number."""

    images: int = setting(256, "generated images per evaluation", unit="images", least=16)
    every_kimg: float = setting(
        0.0, "evaluate also at multiples of this between rungs; 0: at rungs only", unit="kimg", least=0
    )
    grid: int = setting(64, "images in a sample grid", unit="images", least=1)
    max_collapse: float = setting(
        0.8, "alarm above this collapse, 0 (as many different images as real) to 1 (all one)", least=0, most=1
    )
    max_copies: float = setting(
        0.05, "alarm above this share of generated images that are judged copies", least=0, most=1
    )
    alarm_after: int = setting(
        3, "evaluations in a row above a limit that raise its alarm, a flag on the trial", least=1
    )
    stop_on_alarm: bool = setting(
        False,
        "the alarm ends a trial of the search, early and without failing; a GAN that has hardly begun looks "
        "collapsed too, so evaluate rarely enough or let alarm_after be high",
    )
    second: Literal["auto", "alexnet", "none"] = setting(
        "auto",
        "the second network that measures; auto: alexnet where the launching machine has its weights, else "
        "none, as sweep.yaml then records, so that all rows have the same columns",
    )


@dataclass
class Operations:
    """Settings that never change a trial's result, so they are not part of its identity."""

    device: str = setting(
        "auto", "what trains; auto: a GPU where there is one", among=("auto", "cpu", "cuda")
    )
    threads: int = setting(1, "CPU threads per process", least=1)
    checkpoint_seconds: float = setting(
        60.0, "at most this much work is lost to a kill", unit="seconds", least=0
    )
    log_kimg: float = setting(
        0.5, "scalars to TensorBoard this often, and with each checkpoint", unit="kimg", above=0
    )
    png: bool = setting(
        False, "sets of generated images are PNG files, one per image, in place of one array per class"
    )


@dataclass
class TrialSpec:
    """One GAN training on one class: settings, data, fold and seed."""

    label: str  # lesion class (HAM10000's dx)
    index: int  # place in the class's sequence of trials
    seed: int
    fold: int
    data: str  # fingerprint of the store
    settings: TrialSettings

    schema: int = SCHEMA  # of its identity: a trial keeps the schema with which it was started
    start: str = ""  # identity of the pretrained networks that it starts from; "": fresh ones
    # Of a pretraining: the two marks, in kimg, between which the class is faded in; []: it has no influence.
    class_fade: list[float] = field(default_factory=list)

    @property
    def id(self) -> str:
        """Hash of everything that determines the result."""
        if self.schema == SCHEMA:
            return identity(SCHEMA, self)
        return content_hash({**differing(self), "settings": formerly(self.settings)})


# The settings of schema 1, whose identities hash all of them.
FORMER = {
    "model": ("family", "size", "latent", "base", "upsampling", "norm", "d_norm"),
    "loss": ("real_label", "fake_label", "zero_outputs", "image", "latent", "adversarial_image",
             "adversarial_latent", "input_noise"),
    "optim": ("name", "lr_g", "lr_d", "beta1", "beta2", "d_steps", "clip"),
    "train": ("batch", "precision", "ema_kimg", "augment"),
}  # fmt: skip


def formerly(settings: TrialSettings) -> dict[str, Any]:
    """The settings as schema 1 hashed them, with later settings that differ from their defaults."""
    return whole(settings, FORMER)


def spec_from(values: Mapping[str, Any]) -> TrialSpec:
    """The spec in the content of a trial.yaml; SkinGanError if another version wrote it."""
    try:
        groups = values["settings"]
        settings = TrialSettings(
            model=ModelSettings(**groups["model"]),
            loss=LossSettings(**groups["loss"]),
            optim=OptimSettings(**groups["optim"]),
            train=TrainSettings(**groups["train"]),
        )
        own = {name: values[name] for name in ("label", "index", "seed", "fold", "data")}
        start, schema = values.get("start", ""), values.get("schema", 1)
        fade = values.get("class_fade", [])
    except (KeyError, TypeError) as e:
        raise SkinGanError(f"trial.yaml was written by another version ({e}): search again") from e
    if schema not in (1, SCHEMA):
        raise SkinGanError(
            f"trial.yaml has settings of schema {schema}, which this version does not know: expected 1 or "
            f"{SCHEMA}; use the version that wrote it, or search again"
        )
    return TrialSpec(**own, settings=check(settings), start=start, schema=schema, class_fade=fade)


def check(s: TrialSettings) -> TrialSettings:
    """Return `s`; SkinGanError that names each value out of range."""
    check_ranges(s)
    if s.loss.perceptual and s.model.discriminator == "own":
        raise SkinGanError(
            f"loss.perceptual={s.loss.perceptual:g} needs frozen features: set model.discriminator=projected "
            "or both, or loss.perceptual=0"
        )
    return s
