"""What one training consists of, and its checkpoint holds: networks, average, optimisers, random streams.

With several processes each takes its share of every batch. Gradients are averaged over the processes; images,
latents and noise come from streams that are the same in all of them, so k processes with batch b/k compute
what one computes with batch b. Batch normalisation is the exception: on CPUs each process normalises by its
own share, and the first one's running statistics are kept; on GPUs statistics are those of the whole batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from skin_gan.config import TrialSpec
from skin_gan.ema import Ema
from skin_gan.errors import SkinGanError
from skin_gan.models import build
from skin_gan.steps import STEPS, Rng, make_optimiser


def stream_seed(seed: int, purpose: str) -> int:
    """The seed of one of a trial's independent streams of random numbers."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:6])


class Sampler:
    """Real images drawn with replacement from a class that lies on the device whole."""

    def __init__(self, images: NDArray[np.uint8], batch: int, seed: int, accelerator: Accelerator) -> None:
        self.images = torch.from_numpy(images).to(accelerator.device)  # [N,3,S,S]
        self.batch = batch  # over all processes
        self.share = slice(accelerator.process_index, None, accelerator.num_processes)
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self) -> Tensor:
        """This process's part of the next batch, float [n,3,S,S] in [-1,1]."""
        rows = torch.randint(len(self.images), (self.batch,), generator=self.generator)[self.share]
        x = self.images[rows.to(self.images.device)]
        return x.to(torch.float32, memory_format=torch.channels_last).div_(127.5).sub_(1.0)


class Learner:
    """One GAN in training. Its `state_dict` is complete: loaded into another, that one goes on the same."""

    def __init__(self, spec: TrialSpec, images: NDArray[np.uint8], accelerator: Accelerator) -> None:
        """Fresh networks for `spec`, to be trained on `images` [N,3,S,S]."""
        s = self.settings = spec.settings
        self.accelerator = accelerator
        if s.train.batch % accelerator.num_processes:
            raise SkinGanError(
                f"train.batch={s.train.batch} cannot be shared equally by {accelerator.num_processes} "
                f"processes: choose a multiple of that"
            )
        with torch.random.fork_rng():
            torch.manual_seed(stream_seed(spec.seed, "weights"))
            nets = build(s.model).to(accelerator.device)
        self.ema = Ema(nets["generator"], 1000 * s.train.ema_kimg)
        if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
            nets = nn.SyncBatchNorm.convert_sync_batchnorm(nets)
        makers = [p for name in ("generator", "encoder") if name in nets for p in nets[name].parameters()]
        judges = [p for name in nets if "discriminator" in name for p in nets[name].parameters()]
        self.opt_g = accelerator.prepare(make_optimiser(makers, s.optim, s.optim.lr_g))
        self.opt_d = accelerator.prepare(make_optimiser(judges, s.optim, s.optim.lr_d))
        self.plain = dict(nets.items())
        self.nets: Mapping[str, nn.Module] = {name: accelerator.prepare(net) for name, net in nets.items()}
        self.sampler = Sampler(images, s.train.batch, stream_seed(spec.seed, "images"), accelerator)
        self.rng = Rng(
            stream_seed(spec.seed, "noise"),
            accelerator.process_index,
            accelerator.num_processes,
            accelerator.device,
        )
        self.images = 0  # real images shown to the discriminator so far, over all processes

    @property
    def images_per_step(self) -> int:
        return self.settings.train.batch * self.settings.optim.d_steps

    def step(self) -> dict[str, Tensor]:
        """One update of the discriminators and of the generator; the step's scalars, of this process."""
        update = STEPS[self.settings.model.family]
        scalars = update(
            self.nets, self.opt_g, self.opt_d, self.sampler, self.settings, self.rng, self.accelerator
        )
        self.images += self.images_per_step
        self.ema.update(self.plain["generator"], self.images_per_step, self.images)
        return scalars

    def finite(self) -> bool:
        """Whether every weight is a finite number. Waits for the device."""
        tensors = [p for net in [*self.plain.values(), self.ema.net] for p in net.parameters()]
        return bool(torch.stack([p.isfinite().all() for p in tensors]).all())

    def state_dict(self) -> dict[str, Any]:
        """Tensors and primitives only."""
        return {
            "images": self.images,
            "nets": {name: net.state_dict() for name, net in self.plain.items()},
            "ema": self.ema.net.state_dict(),
            "opt_g": self.opt_g.state_dict(),
            "opt_d": self.opt_d.state_dict(),
            "rng": self.rng.state_dict(),
            "sampler": self.sampler.generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.images = state["images"]
        for name, net in self.plain.items():
            net.load_state_dict(state["nets"][name])
        self.ema.net.load_state_dict(state["ema"])
        self.opt_g.load_state_dict(state["opt_g"])
        self.opt_d.load_state_dict(state["opt_d"])
        self.rng.load_state_dict(state["rng"])
        self.sampler.generator.set_state(state["sampler"])
