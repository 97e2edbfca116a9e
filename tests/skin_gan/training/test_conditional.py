"""A class's influence on a pretraining: none at first, then learned, and in the end that of one class."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from gan_samples import SIZE, part, spec
from torch import nn

from skin_gan.config import ModelSettings, TrainSettings
from skin_gan.errors import SkinGanError
from skin_gan.families import build
from skin_gan.training import conditional
from skin_gan.training.learner import Learner

CLASSES = ["akiec", "df", "nv"]
SMALL = {"size": SIZE, "latent": 4, "base": 4}
MODELS = [
    ModelSettings(family="dcgan", d_norm="spectral", **SMALL),
    ModelSettings(family="dcgan", norm="layer", discriminator="both", features="random", **SMALL),
    ModelSettings(family="dcgan", growth="skip", **SMALL),
    ModelSettings(family="aegan", norm="group", d_norm="layer", **SMALL),
    ModelSettings(family="flow", size=SIZE, latent=3 * SIZE**2, base=8),
]


def taught(m: ModelSettings) -> nn.ModuleDict:
    """Conditional networks on which every class has an influence of its own, at three quarters of it."""
    torch.manual_seed(0)
    nets = build(m)
    conditional.condition(nets, len(CLASSES))
    for name, p in nets.named_parameters():
        if name.rpartition(".")[2] in ("gain", "projection") or p.dim() == 2 or m.family == "flow":
            nn.init.normal_(p, 0, 0.5 if m.family != "flow" else 0.1)
    conditional.show(nets, torch.zeros(1, dtype=torch.long), 0.75)
    for _ in range(20 if "discriminator" in nets else 0):  # until the estimates of spectral norms are exact
        nets["discriminator"](torch.rand(2, 3, SIZE, SIZE))
    return nets


@pytest.mark.parametrize("m", MODELS, ids=lambda m: f"{m.family}-{m.norm}-{m.d_norm}-{m.discriminator}")
@torch.no_grad()
def test_the_networks_of_a_class_draw_and_judge_as_the_conditional_ones_do_for_it(m: ModelSettings) -> None:
    nets, own = taught(m), build(m)
    if m.growth != "none":
        nets["generator"].reached.fill_(1)
    z, images = torch.randn(12, m.latent), torch.rand(12, 3, SIZE, SIZE) * 2 - 1
    nets["generator"].train()(z[:, : m.latent])  # batch normalisation's averages
    networks = {name: net.state_dict() for name, net in nets.items()} | {"classes": CLASSES}
    drawn = nets["generator"].eval()(z)  # of the three classes in turn
    seen = []
    for k, label in enumerate(CLASSES):
        weights = conditional.of_class(m, networks, label)
        for name, net in own.items():
            net.load_state_dict(weights[name])
        torch.testing.assert_close(own["generator"].eval()(z)[k::3], drawn[k::3], rtol=1e-4, atol=1e-5)
        if "discriminator" in nets:
            conditional.show(nets, torch.full((12,), k), 0.75)
            judged = nets["discriminator"].train()(images)
            # From the first look on, without an update that would correct the spectral norm.
            seen += [judged, own["discriminator"].eval()(images) if m.d_norm == "spectral" else judged]
            torch.testing.assert_close(own["discriminator"].train()(images), judged, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(seen[-1], judged, rtol=1e-4, atol=1e-5)
    assert not seen or not torch.allclose(seen[0], seen[2], atol=1e-3)
    assert not torch.allclose(drawn[0], own["generator"](z)[0], atol=1e-3)


@torch.no_grad()
def test_a_class_by_itself_keeps_its_images_when_batches_are_of_it_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nets = taught(m := MODELS[0])
    z = torch.randn(512, m.latent)
    for _ in range(60):
        nets["generator"].train()
        conditional.show({"g": nets["generator"]}, torch.arange(512) % 3, 0.75)
        nets["generator"](z)
    networks = {name: net.state_dict() for name, net in nets.items()} | {"classes": CLASSES}
    own = build(m)["generator"]
    own.load_state_dict(conditional.of_class(m, networks, "nv")["generator"])
    expected, unsettled = own.eval()(z), build(m)["generator"]
    monkeypatch.setattr(conditional, "settle", lambda *_: None)
    unsettled.load_state_dict(conditional.of_class(m, networks, "nv")["generator"])
    settled, lost = ((net.train()(z) - expected).abs().mean() / expected.std() for net in (own, unsettled))
    assert settled < 0.05 and lost > 0.2


def coloured() -> object:
    """Dark images of one class, bright ones of another."""
    both = part(24, 1)
    labels = np.array(["df", "nv"]).repeat(12)
    images = np.where((labels == "df")[:, None, None, None], both.images // 8, 255 - both.images // 8)
    return replace(both, images=images.astype(np.uint8), labels=labels, weights=np.ones(24))


def learner(fade: list[float], **train: object) -> Learner:
    s = spec(lr_g=2e-3, lr_d=2e-3).settings
    s = replace(s, loss=replace(s.loss, zero_outputs=0.0), train=TrainSettings(batch=16, ema_kimg=0, **train))
    return Learner(replace(spec(), settings=s, class_fade=fade), coloured(), Accelerator(cpu=True))


def test_the_influence_is_none_before_the_first_mark_and_whole_after_the_second() -> None:
    one = learner([0.032, 0.096])
    seen = []
    for _ in range(8):
        one.step()
        modules = [m for net in one.plain.values() for m in net.modules()]
        layers = [m for m in modules if isinstance(m, conditional.ByClass)]
        (faded,) = {float(m.faded) for m in layers}
        moved = [float(p.detach().abs().sum()) for m in layers for p in m.parameters(recurse=False)]
        seen.append((faded, sum(moved) > 0))
    assert [faded for faded, _ in seen] == [0, 0, 0, 0.25, 0.5, 0.75, 1, 1]
    assert [moved for _, moved in seen] == [False] * 3 + [True] * 5
    assert torch.equal(layers[0].labels, one.labels[one.sampler.drawn])


def test_each_class_starts_from_what_was_learned_of_it() -> None:
    one = learner([0.0, 0.016])
    for _ in range(150):
        one.step()
    networks, brightness = one.networks(), {}
    for label in ("df", "nv"):
        trial = replace(spec(), label=label, start="x")
        own = Learner(trial, part(24, 2), Accelerator(cpu=True))
        own.start_from(networks)
        z = torch.randn(64, 4, generator=torch.Generator().manual_seed(1))
        nets = own.plain["generator"].eval(), own.ema.net
        brightness[label], averaged = (float(net(z).detach().mean()) for net in nets)
        assert averaged == pytest.approx(brightness[label])
    assert brightness["df"] < -0.3 and brightness["nv"] > 0.3
    other = Learner(replace(spec(), label="mel", start="x"), part(24, 2), Accelerator(cpu=True))
    with pytest.raises(SkinGanError, match="know no class mel: they know df, nv"):
        other.start_from(networks)


def test_a_generator_without_normalisation_is_refused() -> None:
    with pytest.raises(SkinGanError, match=r"set model\.norm=batch, layer or group"):
        conditional.condition(build(ModelSettings(family="dcgan", norm="none", **SMALL)), 2)
