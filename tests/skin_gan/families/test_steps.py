"""One update: which weights move and by how much, what loss settings do, that only an Rng is random."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.nn import functional as F

from skin_gan.config import LossSettings, ModelSettings, OptimSettings, TrainSettings, TrialSettings
from skin_gan.families import build, step_of, steps
from skin_gan.families.steps import Context, discriminator_loss, make_optimiser, sample, view
from skin_gan.fast import convolutions
from skin_gan.objectives.losses.bce import cross_entropy
from skin_gan.presets import PRESETS
from skin_gan.pretrained import settled
from skin_gan.rng import Rng
from skin_gan.variants import AUGMENTATIONS, LOSSES, PENALTIES, names, variant
from skin_gan.variants import FAMILIES as FOLDER

LATENT, BATCH = 5, 6
GANS = tuple(name for name in names(FOLDER) if hasattr(variant(FOLDER, name), "Discriminator"))
MAKERS = ("generator", "encoder")


def settings(family: str = "aegan", **changes: object) -> TrialSettings:
    model = ModelSettings(family=family, size=16, latent=LATENT, base=4)  # type: ignore[arg-type]
    loss = LossSettings(adversarial_image=0.5)
    return replace(TrialSettings(model, loss, OptimSettings(), TrainSettings(batch=BATCH)), **changes)  # type: ignore[arg-type]


class Trial:
    """Networks and optimisers, and steps with them."""

    def __init__(self, s: TrialSettings, precision: str = "no") -> None:
        AcceleratorState._reset_state()
        self.settings = s
        torch.manual_seed(0)
        self.nets = build(s.model)
        self.opt_g = make_optimiser(self.parameters(MAKERS), s.optim, s.optim.lr_g)
        self.opt_d = make_optimiser(self.parameters(self.nets.keys() - MAKERS), s.optim, s.optim.lr_d)
        self.draws = 0
        accelerator = Accelerator(cpu=True, mixed_precision=precision)
        self.context = Context(self.nets, self.opt_g, self.opt_d, self.draw, s, Rng(1), accelerator)

    def parameters(self, names: Iterable[str]) -> list[nn.Parameter]:
        return [p for name in sorted(names) if name in self.nets for p in self.nets[name].parameters()]

    def draw(self) -> Tensor:
        self.draws += 1
        generator = torch.Generator().manual_seed(self.draws)
        size = self.settings.model.size
        return torch.rand(BATCH, 3, size, size, generator=generator) * 2 - 1

    def step(self) -> dict[str, Tensor]:
        return step_of(self.settings.model)(self.context)

    def moved(self) -> dict[str, bool]:
        """Of each weight, whether a step changes it."""
        before = {name: p.detach().clone() for name, p in self.nets.named_parameters()}
        self.step()
        return {name: not torch.equal(p, before[name]) for name, p in self.nets.named_parameters()}


@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("family", GANS)
def test_a_step_moves_every_weight(family: str, precision: str) -> None:
    assert all(Trial(settings(family), precision).moved().values())


@pytest.mark.parametrize("optimiser", ["opt_g", "opt_d"])
@pytest.mark.parametrize("family", GANS)
def test_each_optimiser_moves_its_own_networks(family: str, optimiser: str) -> None:
    trial = Trial(settings(family))
    getattr(trial, optimiser).param_groups[0]["lr"] = 0.0
    still = MAKERS if optimiser == "opt_g" else tuple(trial.nets.keys() - MAKERS)
    assert all(change != name.startswith(still) for name, change in trial.moved().items())


@pytest.mark.parametrize("family", GANS)
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
    trial.context.draw = lambda: colours
    first, *_, last = (trial.step() for _ in range(12))
    assert last["reconstruction_image"] < 0.8 * first["reconstruction_image"]
    expected = 10 * last["reconstruction_image"] + last["reconstruction_latent"]
    torch.testing.assert_close(last["loss_g"], expected)


@pytest.mark.parametrize("family", GANS)
def test_the_scalars_are_finite_and_detached(family: str) -> None:
    scalars = Trial(settings(family)).step()
    assert {"loss_d", "loss_g", "d_real", "d_fake", "grad_d", "grad_g"} <= scalars.keys()
    for value in scalars.values():
        assert value.shape == () and value.isfinite() and not value.requires_grad
    assert 0 < scalars["d_real"] < 1 and scalars["grad_g"] > 0


@pytest.mark.parametrize("family", GANS)
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


@pytest.mark.parametrize("family", GANS)
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
    losses = torch.stack([cross_entropy(v[None], target) for v in logits])
    bounded = min(max(target, 0.0025), 0.9975)
    assert logits[losses.argmin()].sigmoid().item() == pytest.approx(bounded, abs=3e-3)


def test_the_discriminator_s_targets_are_the_settings() -> None:
    s = settings(loss=LossSettings(real_label=0.9, fake_label=0.2))
    real, fake = torch.tensor([math.log(9.0)]), torch.tensor([math.log(0.25)])
    real.requires_grad_(), fake.requires_grad_()
    discriminator_loss(real, [fake], Trial(s).context).backward()
    assert real.grad.item() == pytest.approx(0, abs=1e-6) and fake.grad.item() == pytest.approx(0, abs=1e-6)


def test_zeroed_outputs_teach_nothing() -> None:
    logits = torch.full((4000,), 2.0, requires_grad=True)
    s = settings(loss=LossSettings(zero_outputs=0.25))
    discriminator_loss(logits, [torch.zeros(4000)], Trial(s).context).backward()
    assert (logits.grad == 0).float().mean().item() == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize("name", names(LOSSES))
@pytest.mark.parametrize("family", GANS)
def test_every_loss_moves_every_weight_of_every_family(family: str, name: str) -> None:
    """But the bias that shifts all logits alike, where a loss depends on their differences only."""
    trial = Trial(settings(family, loss=LossSettings(name=name)))
    judges = {n: list(net.named_parameters())[-1][0] for n, net in trial.nets.items() if n not in MAKERS}
    still = {weight for weight, moved in trial.moved().items() if not moved}
    assert still <= {f"{net}.{last}" for net, last in judges.items() if last.endswith("bias")}


def test_the_generator_is_judged_beside_real_images_by_the_discriminator_as_it_is_then() -> None:
    s = settings("dcgan", loss=LossSettings(name="relativistic"))
    s.model.norm = s.model.d_norm = "none"
    trial = Trial(s)
    generator = copy.deepcopy(trial.nets["generator"])
    loss_g = trial.step()["loss_g"]
    fake, real = generator(Rng(1).normal(BATCH, LATENT)), Trial(s).draw()
    discriminator = trial.nets["discriminator"]  # updated before the generator, and not since
    expected = F.softplus(discriminator(real) - discriminator(fake)).mean()
    torch.testing.assert_close(loss_g, expected.detach())


PENALISED = {"r1": 0.5, "r2": 0.25, "gp": 1.0, "lecam": 0.1}


@pytest.mark.parametrize("name", [name for name, p in PRESETS.items() if p.model.family in GANS])
def test_penalties_work_with_every_preset_and_the_fast_convolutions_do_not_change_them(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two steps, the second with what the first one left: as with torch's own convolutions, in float64."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    s = copy.deepcopy(PRESETS[name])
    s.model = settled(s.model)
    s.model.size, s.model.base, s.train.batch, s.optim.name = 32, 64, BATCH, "sgd"
    s.optim.lr_d = s.optim.lr_g = 1e-3
    for penalty, weight in PENALISED.items():
        setattr(s.loss, penalty, weight)
    torch.set_default_dtype(torch.float64)
    try:
        fast = Trial(s)
        ours = [fast.step(), fast.step()]
        monkeypatch.setattr(convolutions, "_method", lambda *_: None)
        plain = Trial(s)
        theirs = [plain.step(), plain.step()]
    finally:
        torch.set_default_dtype(torch.float32)
    for mine, expected in zip(ours, theirs, strict=True):
        assert mine["penalty"] > 0
        torch.testing.assert_close(mine, expected)
    for mine, expected in zip(fast.nets.parameters(), plain.nets.parameters(), strict=True):
        torch.testing.assert_close(mine, expected)


@pytest.mark.parametrize("penalty", names(PENALTIES))
@pytest.mark.parametrize("family", GANS)
def test_each_penalty_changes_the_discriminator_and_nothing_else_of_the_step(
    family: str, penalty: str
) -> None:
    without, with_it = (Trial(settings(family, loss=LossSettings(**loss))) for loss in ({}, {penalty: 10.0}))
    scalars, penalised = without.step(), with_it.step()
    assert "penalty" not in scalars and penalised["penalty"] > 0
    torch.testing.assert_close(scalars["loss_d"], penalised["loss_d"])
    assert scalars["grad_d"] != penalised["grad_d"]


def test_lazy_penalties_are_rarer_and_as_much_stronger() -> None:
    """With learning rates of 0 every step has the same penalty but for the images that it draws."""
    optim = OptimSettings(lr_g=0.0, lr_d=0.0)
    each, lazy = (
        Trial(settings("dcgan", loss=LossSettings(r1=1.0, lazy=lazy), optim=optim)) for lazy in (1, 3)
    )
    often, seldom = ([trial.step()["penalty"].item() for _ in range(6)] for trial in (each, lazy))
    assert seldom == pytest.approx([0, 0, 3 * often[2], 0, 0, 3 * often[5]], rel=1e-5)
    rare = Trial(settings("dcgan", loss=LossSettings(consistency=1.0, lazy=3), optim=optim))
    assert [rare.step()["penalty"].item() > 0 for _ in range(6)] == [False, False, True] * 2


def test_scaled_penalties_are_stylegan2_adas_for_the_resolution_and_the_batch() -> None:
    plain, scaled = (
        Trial(settings("dcgan", loss=LossSettings(r1=1.0, scale_penalties=scale))) for scale in (False, True)
    )
    ratio = scaled.step()["penalty"] / plain.step()["penalty"]
    assert ratio.item() == pytest.approx(0.0002 * 16**2 / BATCH, rel=1e-5)


@pytest.mark.parametrize("family", GANS)
def test_mode_seeking_spreads_the_images_of_different_latents(family: str) -> None:
    """By the same steps but for the term, the images of a few latents end further apart."""
    z = torch.randn(16, LATENT, generator=torch.Generator().manual_seed(0))
    spread = {}
    for weight in (0.0, 1.0):
        trial = Trial(settings(family, loss=LossSettings(mode_seeking=weight)))
        first = trial.step()
        for _ in range(10):
            trial.step()
        spread[weight] = trial.nets["generator"](z).detach().std(0).mean(), first["loss_g"], first["grad_g"]
    assert spread[1.0][0] > 1.05 * spread[0.0][0]
    assert spread[1.0][1] == spread[0.0][1] and spread[1.0][2] != spread[0.0][2]


def test_lecam_keeps_moving_averages_of_the_logits() -> None:
    trial = Trial(settings("dcgan", loss=LossSettings(lecam=0.1)))
    logits: list[Tensor] = []
    trial.nets["discriminator"].register_forward_hook(lambda *args: logits.append(args[2].detach().mean()))
    trial.step(), trial.step()
    (real, fake), (next_real, next_fake) = logits[0:2], logits[3:5]
    expected = torch.stack([real.lerp(next_real, 0.01), fake.lerp(next_fake, 0.01)])
    torch.testing.assert_close(trial.context.state["logits"], expected)


def test_an_adaptive_augmentation_hears_the_real_logits_and_keeps_what_it_makes_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Here the images are darkened by a tenth for each discriminator update so far."""

    def adapt(logits: Tensor, shown: int, state: dict[str, float]) -> None:
        assert logits.shape == (BATCH,) and not logits.requires_grad
        state.update(times=state.get("times", 0) + 1, shown=shown)

    def darker(images: Tensor, rng: Rng, state: dict[str, float]) -> Tensor:
        return images * (1 - 0.1 * state.get("times", 0))

    adaptive = SimpleNamespace(ADAPTIVE=True, adapt=adapt, of_real=lambda x, rng, state: x, of_both=darker)
    found = {AUGMENTATIONS: adaptive}
    monkeypatch.setattr(steps, "variant", lambda folder, name: found.get(folder) or variant(folder, name))
    trial = Trial(settings("dcgan", optim=OptimSettings(d_steps=2)))
    shown: list[float] = []
    trial.nets["discriminator"].register_forward_pre_hook(lambda _, x: shown.append(x[0].abs().max().item()))
    trial.step()
    assert trial.context.state["augment"] == {"times": 2, "shown": 2 * BATCH}
    largest = [
        Trial.draw(SimpleNamespace(settings=trial.settings, draws=k)).abs().max().item() for k in (0, 1)
    ]
    assert shown[0] == pytest.approx(largest[0]) and shown[2] == pytest.approx(0.9 * largest[1])


def test_what_a_discriminator_has_frozen_stays_frozen() -> None:
    trial = Trial(settings("dcgan"))
    kept = next(trial.nets["discriminator"].parameters()).requires_grad_(False)
    before = kept.clone()
    trial.step(), trial.step()
    assert torch.equal(kept, before) and not kept.requires_grad


def test_input_noise_has_the_set_deviation() -> None:
    images = torch.zeros(8, 3, 16, 16)
    assert view(images, Trial(settings()).context) is images
    noisy = view(images, Trial(settings(loss=LossSettings(input_noise=0.1))).context)
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
