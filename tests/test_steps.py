"""One update: which weights move and by how much, what loss settings do, that only an Rng is random."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.nn import functional as F

from skin_gan.config import LossSettings, ModelSettings, OptimSettings, TrainSettings, TrialSettings
from skin_gan.losses import adversarial, zero_outputs
from skin_gan.models import FAMILIES, build
from skin_gan.steps import STEPS, Rng, discriminator_loss, make_optimiser, sample, view

LATENT, BATCH = 5, 6
MAKERS = ("generator", "encoder")


def settings(family: str = "aegan", **changes: object) -> TrialSettings:
    model = ModelSettings(family=family, size=16, latent=LATENT, base=4)  # type: ignore[arg-type]
    loss = LossSettings(adversarial_image=0.5)
    return replace(TrialSettings(model, loss, OptimSettings(), TrainSettings(batch=BATCH)), **changes)  # type: ignore[arg-type]


class Trial:
    """Networks and optimisers, and steps with them."""

    def __init__(self, s: TrialSettings, precision: str = "no") -> None:
        AcceleratorState._reset_state()
        self.settings, self.rng = s, Rng(1)
        self.accelerator = Accelerator(cpu=True, mixed_precision=precision)
        torch.manual_seed(0)
        self.nets = build(s.model)
        self.opt_g = make_optimiser(self.parameters(MAKERS), s.optim, s.optim.lr_g)
        self.opt_d = make_optimiser(self.parameters(self.nets.keys() - MAKERS), s.optim, s.optim.lr_d)
        self.draws = 0

    def parameters(self, names: Iterable[str]) -> list[nn.Parameter]:
        return [p for name in sorted(names) if name in self.nets for p in self.nets[name].parameters()]

    def draw(self) -> Tensor:
        self.draws += 1
        generator = torch.Generator().manual_seed(self.draws)
        return torch.rand(BATCH, 3, 16, 16, generator=generator) * 2 - 1

    def step(self) -> dict[str, Tensor]:
        step = STEPS[self.settings.model.family]
        return step(self.nets, self.opt_g, self.opt_d, self.draw, self.settings, self.rng, self.accelerator)

    def moved(self) -> dict[str, bool]:
        """Of each weight, whether a step changes it."""
        before = {name: p.detach().clone() for name, p in self.nets.named_parameters()}
        self.step()
        return {name: not torch.equal(p, before[name]) for name, p in self.nets.named_parameters()}


@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_moves_every_weight(family: str, precision: str) -> None:
    assert all(Trial(settings(family), precision).moved().values())


@pytest.mark.parametrize("optimiser", ["opt_g", "opt_d"])
@pytest.mark.parametrize("family", FAMILIES)
def test_each_optimiser_moves_its_own_networks(family: str, optimiser: str) -> None:
    trial = Trial(settings(family))
    getattr(trial, optimiser).param_groups[0]["lr"] = 0.0
    still = MAKERS if optimiser == "opt_g" else tuple(trial.nets.keys() - MAKERS)
    assert all(change != name.startswith(still) for name, change in trial.moved().items())


@pytest.mark.parametrize("family", FAMILIES)
def test_fooling_the_discriminators_leaves_no_gradient_in_them(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = Trial(settings(family))
    own: list[Tensor] = []
    judges = trial.parameters(trial.nets.keys() - MAKERS)
    step = trial.opt_d.step
    monkeypatch.setattr(trial.opt_d, "step", lambda: (own.extend(p.grad.clone() for p in judges), step()))
    trial.step()
    assert all(torch.equal(p.grad, g) for p, g in zip(judges, own, strict=True))
    assert all(p.requires_grad for p in judges)


def test_dcgan_follows_the_published_loop() -> None:
    """The same weights as the loop of PyTorch's example, written out, after two steps."""
    optim = OptimSettings(name="sgd", lr_g=0.05, lr_d=0.05, beta1=0.0)
    trial = Trial(settings("dcgan", optim=optim))
    nets, rng, batches = copy.deepcopy(trial.nets), Rng(1), Trial(trial.settings)
    g, d = nets["generator"], nets["discriminator"]
    one, zero = torch.ones(BATCH), torch.zeros(BATCH)
    for _ in range(2):
        trial.step()
        d.zero_grad()
        F.binary_cross_entropy(d(batches.draw()).sigmoid(), one).backward()
        fake = g(rng.normal(BATCH, LATENT))
        F.binary_cross_entropy(d(fake.detach()).sigmoid(), zero).backward()
        with torch.no_grad():
            [p.sub_(0.05 * p.grad) for p in d.parameters()]
        g.zero_grad()
        F.binary_cross_entropy(d(fake).sigmoid(), one).backward()
        with torch.no_grad():
            [p.sub_(0.05 * p.grad) for p in g.parameters()]
    for mine, expected in zip(trial.nets.parameters(), nets.parameters(), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-6)


def test_aegan_minimises_the_weighted_sum() -> None:
    """Only reconstruction counts: its losses fall, and a weight of zero leaves the term out."""
    loss = LossSettings(image=10.0, latent=1.0, adversarial_image=0.0, adversarial_latent=0.0)
    trial = Trial(settings(loss=loss, optim=OptimSettings(lr_g=3e-3)))
    colours = (trial.draw()[:, :, :1, :1]).expand(-1, -1, 16, 16)
    trial.draw = lambda: colours  # type: ignore[method-assign]
    first, *_, last = (trial.step() for _ in range(12))
    assert last["reconstruction_image"] < 0.8 * first["reconstruction_image"]
    expected = 10 * last["reconstruction_image"] + last["reconstruction_latent"]
    torch.testing.assert_close(last["loss_g"], expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_scalars_are_finite_and_detached(family: str) -> None:
    scalars = Trial(settings(family)).step()
    assert {"loss_d", "loss_g", "d_real", "d_fake", "grad_d", "grad_g"} <= scalars.keys()
    for value in scalars.values():
        assert value.shape == () and value.isfinite() and not value.requires_grad
    assert 0 < scalars["d_real"] < 1 and scalars["grad_g"] > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_only_the_rng_is_random(family: str) -> None:
    loss = LossSettings(zero_outputs=0.3, input_noise=0.1)
    s = settings(family, loss=loss, train=TrainSettings(batch=BATCH, augment="diffaugment"))
    first, second = Trial(s), Trial(s)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first.step()
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(2)
    second.step()
    weights = zip(first.nets.parameters(), second.nets.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in weights)


@pytest.mark.parametrize("family", FAMILIES)
def test_several_discriminator_steps_draw_as_many_batches(family: str) -> None:
    trial = Trial(settings(family, optim=OptimSettings(d_steps=3)))
    trial.step()
    assert trial.draws == 3


def test_clipping_bounds_the_gradient_and_reports_its_norm_before() -> None:
    free, clipped = (Trial(settings(optim=OptimSettings(name="sgd", clip=clip))) for clip in (0.0, 1e-3))
    assert torch.equal(free.step()["grad_d"], clipped.step()["grad_d"])
    gradients = [p.grad for p in clipped.parameters(clipped.nets.keys() - MAKERS)]
    assert nn.utils.get_total_norm(gradients).item() == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("target", [1.0, 0.95, 0.05, 0.0])
def test_smoothed_targets_are_where_the_loss_is_least(target: float) -> None:
    logits = torch.linspace(-6, 6, 1201)
    losses = torch.stack([adversarial(v[None], target) for v in logits])
    bounded = min(max(target, 0.0025), 0.9975)
    assert logits[losses.argmin()].sigmoid().item() == pytest.approx(bounded, abs=3e-3)


def test_the_discriminator_s_targets_are_the_settings() -> None:
    s = settings(loss=LossSettings(real_label=0.9, fake_label=0.2))
    real, fake = torch.tensor([math.log(9.0)]), torch.tensor([math.log(0.25)])
    real.requires_grad_(), fake.requires_grad_()
    discriminator_loss(real, [fake], s, Rng(0)).backward()
    assert real.grad.item() == pytest.approx(0, abs=1e-6) and fake.grad.item() == pytest.approx(0, abs=1e-6)


def test_zeroed_outputs_teach_nothing() -> None:
    logits = torch.full((4000,), 2.0, requires_grad=True)
    s = settings(loss=LossSettings(zero_outputs=0.25))
    discriminator_loss(logits, [torch.zeros(4000)], s, Rng(0)).backward()
    assert (logits.grad == 0).float().mean().item() == pytest.approx(0.25, abs=0.03)
    zeroed = zero_outputs(torch.ones(3), torch.tensor([0.1, 0.5, 0.9]), 0.5)
    assert torch.equal(zeroed, torch.tensor([0.0, 1.0, 1.0]))


def test_input_noise_has_the_set_deviation() -> None:
    images = torch.zeros(8, 3, 16, 16)
    assert view(images, settings(), Rng(0)) is images
    noisy = view(images, settings(loss=LossSettings(input_noise=0.1)), Rng(0))
    assert noisy.std().item() == pytest.approx(0.1, rel=0.05)


def test_processes_share_one_stream() -> None:
    alone, ranks = Rng(7), [Rng(7, rank, 2) for rank in range(2)]
    for draw in ("normal", "uniform"):
        whole = getattr(alone, draw)(6, 3)
        shares = [getattr(rng, draw)(3, 3) for rng in ranks]
        assert torch.equal(whole, torch.stack(shares, 1).flatten(0, 1))


def test_a_saved_stream_goes_on_where_it_was() -> None:
    rng, other = Rng(3), Rng(4)
    rng.normal(5)
    other.load_state_dict(rng.state_dict())
    assert torch.equal(rng.uniform(5, 2), other.uniform(5, 2))


def test_samples_are_images_and_leave_the_generator_as_it_was() -> None:
    generator = build(settings().model)["generator"]
    before = copy.deepcopy(generator.state_dict())
    images = sample(generator, torch.randn(4, LATENT))
    assert images.shape == (4, 3, 16, 16) and images.dtype == torch.uint8
    assert generator.training and not images.requires_grad
    assert all(torch.equal(v, before[k]) for k, v in generator.state_dict().items())


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)])
def test_optimisers(name: str, kind: type[torch.optim.Optimizer]) -> None:
    weight = nn.Parameter(torch.ones(3))
    o = OptimSettings(name=name, beta1=0.3, beta2=0.9)  # type: ignore[arg-type]
    optimiser = make_optimiser([weight], o, 0.1)
    group = optimiser.param_groups[0]
    assert isinstance(optimiser, kind) and group["lr"] == 0.1
    assert group["betas"] == (0.3, 0.9) if name == "adam" else group["momentum"] == 0.3
