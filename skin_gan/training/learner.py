"""The state of one training, which its checkpoint holds: networks, average, optimisers, random streams.

With several processes each takes its share of every batch. Gradients are averaged over the processes; images,
latents and noise come from streams that are equal in all processes, so k processes with batch b/k compute the
same as one process with batch b. Batch normalisation is the exception: on CPUs each process normalises by its
own share, and the first one's running statistics are kept; on GPUs statistics are of the whole batch.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import Tensor, nn

from skin_gan.config import TrialSpec
from skin_gan.data.store import Part
from skin_gan.errors import SkinGanError
from skin_gan.families import build, step_of
from skin_gan.families.steps import Context, make_optimiser
from skin_gan.rng import Rng
from skin_gan.training import conditional
from skin_gan.training.ema import Ema


def stream_seed(seed: int, purpose: str) -> int:
    """The seed of a trial's independent random stream for `purpose`."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:6])


class Sampler:
    """Draws real images with replacement from a class that is held on the device."""

    def __init__(self, part: Part, batch: int, seed: int, accelerator: Accelerator) -> None:
        self.images = torch.from_numpy(part.images).to(accelerator.device)  # [N,3,S,S]
        self.weights = None if part.weights is None else torch.from_numpy(part.weights)
        self.drawn = torch.zeros(0, dtype=torch.long)  # the rows of this process's last batch
        self.batch = batch  # over all processes
        self.share = slice(accelerator.process_index, None, accelerator.num_processes)
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self) -> Tensor:
        """This process's part of the next batch, float [n,3,S,S] in [-1,1]."""
        self.drawn = self.rows()[self.share].to(self.images.device)
        x = self.images[self.drawn]
        return x.to(torch.float32, memory_format=torch.channels_last).div_(127.5).sub_(1.0)

    def rows(self) -> Tensor:
        """[batch]: the rows of the images in the next batch of all processes."""
        if self.weights is None:
            return torch.randint(len(self.images), (self.batch,), generator=self.generator)
        return torch.multinomial(self.weights, self.batch, replacement=True, generator=self.generator)


def freeze(discriminator: nn.Module, count: int) -> None:
    """Freeze the first `count` convolutions of a family's image discriminator (FreezeD, Mo 2020)."""
    own = getattr(discriminator, "pixels", discriminator)  # on frozen features: the head on pixels
    layers = [m for m in own.modules() if isinstance(m, nn.Conv2d)] if own is not None else []
    for layer in layers[:count]:
        layer.requires_grad_(False)


class Learner:
    """One GAN in training. Its `state_dict` is complete: training continues from it bit for bit."""

    def __init__(self, spec: TrialSpec, part: Part, accelerator: Accelerator) -> None:
        """Make fresh networks for `spec`, to be trained on the images of `part`."""
        s = self.settings = spec.settings
        self.accelerator = accelerator
        if s.train.batch % accelerator.num_processes:
            raise SkinGanError(
                f"train.batch={s.train.batch} cannot be shared equally by {accelerator.num_processes} "
                f"processes: choose a multiple of that"
            )
        if accelerator.num_processes > 1 and s.model.growth != "none":
            raise SkinGanError("model.growth: a trial that grows needs one process; give it one device")
        with torch.random.fork_rng():
            torch.manual_seed(stream_seed(spec.seed, "weights"))
            nets = build(s.model)
        self.fade = spec.class_fade
        if self.fade:
            assert part.labels is not None, "images of one class know no others"
            self.classes, labels = np.unique(part.labels, return_inverse=True)
            self.labels = torch.from_numpy(labels).to(accelerator.device)  # [N] of the images
            conditional.condition(nets, len(self.classes))
        nets = nets.to(accelerator.device)
        self.label = spec.label
        self.ema = Ema(nets["generator"], 1000 * s.train.ema_kimg)
        if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
            nets = nn.SyncBatchNorm.convert_sync_batchnorm(nets)
        if spec.start and "discriminator" in nets:
            freeze(nets["discriminator"], s.train.frozen_layers)
        trained = [(name.split(".")[0], p) for name, p in nets.named_parameters() if p.requires_grad]
        discriminators = [p for net, p in trained if "discriminator" in net]
        generators = [p for net, p in trained if "discriminator" not in net]
        self.plain = dict(nets.items())
        self.sampler = Sampler(part, s.train.batch, stream_seed(spec.seed, "images"), accelerator)
        self.update = step_of(s.model)
        self.context = Context(
            opt_g=accelerator.prepare(make_optimiser(generators, s.optim, s.optim.lr_g)),
            opt_d=accelerator.prepare(make_optimiser(discriminators, s.optim, s.optim.lr_d)),
            nets={name: accelerator.prepare(net) for name, net in nets.items()},
            draw=self.draw,
            settings=s,
            rng=Rng(
                stream_seed(spec.seed, "noise"),
                accelerator.process_index,
                accelerator.num_processes,
                accelerator.device,
            ),
            accelerator=accelerator,
        )

    @property
    def images(self) -> int:
        """Real images shown to the discriminator so far, over all processes."""
        return self.context.images

    @property
    def images_per_step(self) -> int:
        return self.settings.train.batch * self.settings.optim.d_steps

    def draw(self) -> Tensor:
        """The next real images [n,3,S,S], of whose classes the networks are told if they are conditional."""
        images = self.sampler()
        if self.fade:
            faded = conditional.influence(self.fade, self.images)
            conditional.show(self.plain, self.labels[self.sampler.drawn], faded)
        return images

    def step(self) -> dict[str, Tensor]:
        """Update discriminators and generator once; returns this process's scalars."""
        scalars = self.update(self.context)
        self.ema.update(self.plain["generator"], self.images_per_step, self.images)
        return scalars

    def finite(self) -> bool:
        """Whether every weight is a finite number. Waits for the device."""
        tensors = [p for net in [*self.plain.values(), self.ema.net] for p in net.parameters()]
        return bool(torch.stack([p.isfinite().all() for p in tensors]).all())

    def start_from(self, networks: Mapping[str, Any]) -> None:
        """Load pretrained networks (see `networks`); optimisers and random streams stay fresh.

        Conditional ones become those of the trial's class. SkinGanError if their shapes differ.
        """
        try:
            if "classes" in networks:
                networks = conditional.of_class(self.settings.model, networks, self.label)
            for name, net in self.plain.items():
                net.load_state_dict(networks[name])
            self.ema.net.load_state_dict(networks["generator"])
        except (KeyError, RuntimeError) as e:
            why = str(e).splitlines()[-1].strip()
            raise SkinGanError(f"the pretrained networks do not fit {self.settings.model}: {why}") from e

    def networks(self) -> dict[str, Any]:
        """The networks' weights for `start_from`, the generator's as their moving average.

        With them the names of the classes in their order, if they are conditional.
        """
        weights: dict[str, Any] = {name: net.state_dict() for name, net in self.plain.items()}
        weights |= {"generator": self.ema.net.state_dict()}
        return weights | ({"classes": self.classes.tolist()} if self.fade else {})

    def state_dict(self) -> dict[str, Any]:
        """Tensors and primitives only."""
        c = self.context
        return {
            "images": c.images,
            "nets": {name: net.state_dict() for name, net in self.plain.items()},
            "ema": self.ema.net.state_dict(),
            "opt_g": c.opt_g.state_dict(),
            "opt_d": c.opt_d.state_dict(),
            "rng": c.rng.state_dict(),
            "sampler": self.sampler.generator.get_state(),
            "step": c.state,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        c = self.context
        c.images = state["images"]
        for name, net in self.plain.items():
            net.load_state_dict(state["nets"][name])
        self.ema.net.load_state_dict(state["ema"])
        c.opt_g.load_state_dict(state["opt_g"])
        c.opt_d.load_state_dict(state["opt_d"])
        c.rng.load_state_dict(state["rng"])
        self.sampler.generator.set_state(state["sampler"])
        # Checkpoints of earlier versions have no state of steps.
        c.state = send_to_device(copy.deepcopy(state.get("step", {})), self.accelerator.device)
