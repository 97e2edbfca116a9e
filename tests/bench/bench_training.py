"""Training speed against the plain published loops: python tests/bench/bench_training.py [--help]

Every contestant trains in a process of its own; they take turns, round after round, so that whatever else
the machine does meets all alike. Printed are images per second (median round) and the median of the rounds'
ratios to the plain loop: fp32, default layout, torch's own layers, one pass after the other, as published.
"""

from __future__ import annotations

import argparse
import multiprocessing as mp
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PRESETS = {"dcgan 64": "dcgan", "aegan 32": "aegan_page"}
BASE = 64  # channels at the highest resolution, of all contestants
CONTESTANTS = ("plain", "fp32", "bf16")
Step = Callable[[Tensor], None]


def up(c_in: int, c_out: int) -> list[nn.Module]:
    return [nn.ConvTranspose2d(c_in, c_out, 4, 2, 1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(True)]


def nearest(c_in: int, c_out: int) -> list[nn.Module]:
    convolution = nn.Conv2d(c_in, c_out, 3, 1, 1, bias=False)
    return [nn.Upsample(scale_factor=2), convolution, nn.BatchNorm2d(c_out), nn.ReLU(True)]


def down(c_in: int, c_out: int) -> list[nn.Module]:
    return [nn.Conv2d(c_in, c_out, 4, 2, 1, bias=False), nn.BatchNorm2d(c_out), nn.LeakyReLU(0.2, True)]


def stem(z: int, c: int) -> list[nn.Module]:
    return [nn.ConvTranspose2d(z, c, 4, 1, 0, bias=False), nn.BatchNorm2d(c), nn.ReLU(True)]


def adam(lr: float, *nets: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam([p for net in nets for p in net.parameters()], lr=lr, betas=(0.5, 0.999))


def bce(logits: Tensor, target: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


def plain_dcgan(c: int) -> Step:
    """The loop of PyTorch's DCGAN example, with its logging of D(x) and D(G(z))."""
    g_layers = [*stem(100, 8 * c), *up(8 * c, 4 * c), *up(4 * c, 2 * c), *up(2 * c, c)]
    g = nn.Sequential(*g_layers, nn.ConvTranspose2d(c, 3, 4, 2, 1, bias=False), nn.Tanh())
    first = [nn.Conv2d(3, c, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, True)]
    d_layers = [*first, *down(c, 2 * c), *down(2 * c, 4 * c), *down(4 * c, 8 * c)]
    d = nn.Sequential(*d_layers, nn.Conv2d(8 * c, 1, 4, 1, 0, bias=False), nn.Sigmoid(), nn.Flatten(0))
    opt_g, opt_d, criterion = adam(2e-4, g), adam(2e-4, d), nn.BCELoss()

    def step(real: Tensor) -> None:
        d.zero_grad()
        label = torch.full((len(real),), 1.0)
        output = d(real)
        criterion(output, label).backward()
        output.mean().item()
        fake = g(torch.randn(len(real), 100, 1, 1))
        output = d(fake.detach())
        criterion(output, label.fill_(0.0)).backward()
        output.mean().item()
        opt_d.step()
        g.zero_grad()
        output = d(fake)
        criterion(output, label.fill_(1.0)).backward()
        output.mean().item()
        opt_g.step()

    return step


class PlainDense(nn.Module):
    """The latent discriminator: 16 layers of 16, each of which sees all before it."""

    def __init__(self, z: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(z + 16 * k, 16) for k in range(16))
        self.head = nn.Linear(z + 256, 1)

    def forward(self, z: Tensor) -> Tensor:
        for layer in self.layers:
            z = torch.cat([z, F.leaky_relu(layer(z), 0.2)], 1)
        return self.head(z)


def plain_aegan(c: int, z: int = 16) -> Step:
    """AEGAN's published loop, discriminators and then generators, each on samples of its own."""
    g_layers = [*stem(z, 4 * c), *nearest(4 * c, 2 * c), *nearest(2 * c, c), *nearest(c, c // 2)]
    g = nn.Sequential(*g_layers, nn.Conv2d(c // 2, 3, 3, 1, 1), nn.Tanh())

    def downwards(outputs: int) -> nn.Module:
        layers = [nn.Conv2d(3, c, 4, 2, 1), nn.LeakyReLU(0.2, True), *down(c, 2 * c), *down(2 * c, 4 * c)]
        return nn.Sequential(*layers, nn.Conv2d(4 * c, outputs, 4, 1, 0), nn.Flatten(1))

    e, dx, dz = downwards(z), downwards(1), PlainDense(z)
    opt_g, opt_d = adam(2e-4, g, e), adam(1e-4, dx, dz)

    def sampled(x: Tensor) -> tuple[Tensor, ...]:
        latent = torch.randn(len(x), z)
        generated, encoded = g(latent[:, :, None, None]), e(x)
        return latent, generated, encoded, g(encoded[:, :, None, None]), e(generated)

    def seen(images: Tensor) -> Tensor:
        return images + 0.02 * torch.randn_like(images)

    def step(x: Tensor) -> None:
        with torch.no_grad():
            latent, generated, encoded, reconstructed, recovered = sampled(x)
        images = (x, 0.95), (generated, 0.05), (reconstructed, 0.05)
        loss = sum(bce(F.dropout(dx(seen(v)), 0.1), target) for v, target in images)
        loss = loss + bce(dz(latent), 0.95) + bce(dz(encoded), 0.05) + bce(dz(recovered), 0.05)
        opt_d.zero_grad()
        loss.backward()
        opt_d.step()
        latent, generated, encoded, reconstructed, recovered = sampled(x)
        loss = F.l1_loss(reconstructed, x) + 0.5 * F.mse_loss(recovered, latent)
        loss = loss + 0.005 * (bce(dx(seen(generated)), 1.0) + bce(dx(seen(reconstructed)), 1.0))
        loss = loss + 0.1 * (bce(dz(encoded), 1.0) + bce(dz(recovered), 1.0))
        opt_g.zero_grad()
        loss.backward()
        opt_g.step()
        loss.item()

    return step


def ours(name: str, precision: str) -> Step:
    """The project's step as its training loop calls it."""
    from accelerate import Accelerator

    from skin_gan.families import build, step_of
    from skin_gan.families.steps import Context, make_optimiser
    from skin_gan.fast.convolutions import keep_memory
    from skin_gan.presets import preset
    from skin_gan.rng import Rng

    keep_memory()
    accelerator = Accelerator(cpu=True, mixed_precision="bf16" if precision == "bf16" else "no")
    s = preset(name)
    s = replace(s, model=replace(s.model, base=BASE))
    nets = build(s.model)
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for key, net in nets.items():
        groups["discriminator" in key] += net.parameters()
    opt_g = accelerator.prepare(make_optimiser(groups[False], s.optim, s.optim.lr_g))
    opt_d = accelerator.prepare(make_optimiser(groups[True], s.optim, s.optim.lr_d))
    prepared = {key: accelerator.prepare(net) for key, net in nets.items()}
    context = Context(prepared, opt_g, opt_d, lambda: torch.empty(0), s, Rng(0), accelerator)

    def step(real: Tensor) -> None:
        context.draw = lambda: real
        step_of(s.model)(context)

    return step


def contest(connection: Connection, name: str, contestant: str, threads: int, batch: int, size: int) -> None:
    """In a child process: train for as many steps as asked, answer with the seconds they took."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    plain = {"dcgan": plain_dcgan, "aegan_page": plain_aegan}
    step = plain[name](BASE) if contestant == "plain" else ours(name, contestant)
    real = torch.rand(batch, 3, size, size) * 2 - 1
    while steps := connection.recv():
        start = time.perf_counter(), time.process_time()
        for _ in range(steps):
            step(real)
        connection.send((time.perf_counter() - start[0], time.process_time() - start[1]))


def race(title: str, threads: int, rounds: int, contestants: list[str], cpu_time: bool) -> None:
    """Print one table: the contestants on one family with so many threads."""
    name = PRESETS[title]
    batch, size = (64, 64) if name == "dcgan" else (32, 32)
    context, runners = mp.get_context("spawn"), {}
    for contestant in contestants:
        connection, end = context.Pipe()
        arguments = (end, name, contestant, threads, batch, size)
        context.Process(target=contest, args=arguments, daemon=True).start()
        runners[contestant] = connection

    def run(connection: Connection, steps: int) -> float:
        connection.send(steps)
        return batch * steps / connection.recv()[cpu_time]

    steps = 2 if name == "dcgan" else 8
    for connection in runners.values():
        run(connection, 2)  # warm up
    speeds: dict[str, list[float]] = {contestant: [] for contestant in contestants}
    for _ in range(rounds):
        for contestant, connection in runners.items():
            speeds[contestant].append(run(connection, steps))
    for contestant, connection in runners.items():
        connection.send(0)
        ratios = [a / b for a, b in zip(speeds[contestant], speeds["plain"], strict=True)]
        speed, ratio = statistics.median(speeds[contestant]), statistics.median(ratios)
        result = f"{speed:7.1f} images/s  {ratio:5.2f} x plain"
        print(f"{title:9} {threads} threads  {contestant:6} {result}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", nargs="+", choices=PRESETS, default=list(PRESETS))
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--cpu-time", action="store_true", help="count seconds of the processor")
    args = parser.parse_args()
    for title in args.only:
        for threads in args.threads:
            race(title, threads, args.rounds, args.contestants, args.cpu_time)
