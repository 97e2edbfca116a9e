"""Published settings under the names that the field knows them by."""

from __future__ import annotations

from skin_gan.config import LossSettings, ModelSettings, OptimSettings, TrainSettings, TrialSettings
from skin_gan.errors import SkinGanError

PRESETS: dict[str, TrialSettings] = {
    # Radford 2016 as in pytorch/examples dcgan: z 100, ngf = ndf = 64, Adam 2e-4 (0.5, 0.999), batch 64, BCE.
    "dcgan": TrialSettings(
        model=ModelSettings(family="dcgan", size=64, latent=100, base=64, upsampling="transposed"),
        train=TrainSettings(batch=64),
    ),
    # The widths of Radford 2016's figure 1: 1024-512-256-128, twice those of the PyTorch example.
    "dcgan_wide": TrialSettings(
        model=ModelSettings(family="dcgan", size=64, latent=100, base=128, upsampling="transposed"),
        train=TrainSettings(batch=64),
    ),
    # AEGAN (Lazarou 2020) with the weights of the PyTorch version that drew 96x96 sprites ("PokeGAN"):
    # L1 image 1, MSE latent 0.5, adversarial 0.005 and 0.1, noise 0.02 on images, pixel shuffle, batch 32.
    "aegan_pytorch": TrialSettings(
        model=ModelSettings(family="aegan", latent=16, upsampling="pixelshuffle"),
        loss=LossSettings(
            image=1.0, latent=0.5, adversarial_image=0.005, adversarial_latent=0.1, input_noise=0.02
        ),
        optim=OptimSettings(lr_g=2e-4, lr_d=1e-4),
        train=TrainSettings(batch=32),
    ),
    # AEGAN with the weights of the author's Keras version: 10, 5, 1, 1, labels 0.95/0.05, layer norm,
    # upsample + convolution, a faster discriminator, gradients clipped to norm 1.
    "aegan_keras": TrialSettings(
        model=ModelSettings(family="aegan", latent=16, upsampling="nearest", norm="layer", d_norm="layer"),
        loss=LossSettings(
            real_label=0.95, fake_label=0.05,
            image=10.0, latent=5.0, adversarial_image=1.0, adversarial_latent=1.0,
        ),
        optim=OptimSettings(lr_g=2e-4, lr_d=5e-4, clip=1.0),
        train=TrainSettings(batch=32),
    ),
    # The project page's mix at 32x32: labels 0.95/0.05, randomly zeroed discriminator outputs, a lower
    # discriminator learning rate, upsample then convolve. It gives neither weights (here those of the Keras
    # version, to which it links) nor widths (here 32 channels at 16x16: classes are small).
    "aegan_page": TrialSettings(
        model=ModelSettings(family="aegan", latent=16, base=32, upsampling="nearest"),
        loss=LossSettings(
            real_label=0.95, fake_label=0.05, zero_outputs=0.1,
            image=10.0, latent=5.0, adversarial_image=1.0, adversarial_latent=1.0,
        ),
        optim=OptimSettings(lr_g=2e-4, lr_d=1e-4),
        train=TrainSettings(batch=32),
    ),
}  # fmt: skip


def preset(name: str) -> TrialSettings:
    """The preset called `name`; an unknown name is an error that lists them."""
    if name not in PRESETS:
        raise SkinGanError(f"unknown preset {name!r}: choose one of {', '.join(PRESETS)}")
    return PRESETS[name]
