"""Growth: what each level shows, that a new one changes nothing at first, and how real images are reduced."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from gan_samples import judge, open_session, same, spec
from torch import Tensor
from torch.nn import functional as F

from skin_gan.config import ModelSettings, TrainSettings, TrialSpec
from skin_gan.errors import SkinGanError
from skin_gan.families import build
from skin_gan.families.growing import reached, reduced

SIZE, START, LEVELS = 32, 8, 2
GROWTHS = ("skip", "fade")


def generator(growth: str, family: str = "dcgan") -> torch.nn.Module:
    torch.manual_seed(0)
    m = ModelSettings(
        family=family, size=SIZE, latent=5, base=4, growth=growth, start_size=START, norm="none"
    )  # type: ignore[arg-type]
    net = build(m)["generator"].double()
    torch.nn.init.normal_(net.colours[0].weight, 0, 0.1)
    return net


def images(net: torch.nn.Module, levels: float) -> Tensor:
    net.reached.fill_(levels)
    return net(torch.randn(3, 5, generator=torch.Generator().manual_seed(1), dtype=torch.double)).detach()


def small(x: Tensor, factor: int) -> Tensor:
    return x[:, :, ::factor, ::factor]


@pytest.mark.parametrize("growth", GROWTHS)
@pytest.mark.parametrize("family", ["dcgan", "aegan"])
def test_images_have_the_size_of_all_and_the_detail_of_their_level(family: str, growth: str) -> None:
    net = generator(growth, family)
    for level in range(LEVELS + 1):
        x, factor = images(net, level), SIZE // START // 2**level
        assert x.shape == (3, 3, SIZE, SIZE) and x.abs().max() <= 1
        pixels = small(x, factor)
        assert torch.equal(pixels.repeat_interleave(factor, 2).repeat_interleave(factor, 3), x)


@pytest.mark.parametrize("growth", GROWTHS)
def test_a_new_level_begins_with_the_images_of_the_one_before_enlarged(growth: str) -> None:
    net = generator(growth)
    for level in range(1, LEVELS + 1):
        factor = SIZE // START // 2 ** (level - 1)
        before = small(images(net, level - 0.001), factor).atanh()
        enlarged = F.interpolate(before, scale_factor=2, mode="bilinear").tanh()
        assert torch.allclose(small(images(net, level), factor // 2), enlarged)
        if growth == "skip":  # the next level is asked about a network that has learnt this one
            torch.nn.init.normal_(net.colours[level].weight, 0, 0.1)


def test_fading_ends_with_the_level_s_own_colours_and_skips_keep_all() -> None:
    for growth, kept in (("fade", False), ("skip", True)):
        net = generator(growth)
        halfway, ended = images(net, 1.25), images(net, 1.5)
        net.colours[0].weight.data.mul_(2)
        assert not torch.equal(images(net, 1.25), halfway)
        assert torch.equal(images(net, 1.5), ended) is not kept


def test_a_level_lasts_as_long_as_set_and_the_last_for_ever() -> None:
    m, t = ModelSettings(size=SIZE, start_size=START), TrainSettings(level_kimg=2.0)
    found = [int(reached(m, t, 1000 * kimg)) for kimg in range(9)]
    assert found == [0, 0, 1, 1, 2, 2, 2, 2, 2]


@pytest.mark.parametrize("growth", GROWTHS)
def test_real_images_are_reduced_to_the_generator_s_detail(growth: str) -> None:
    m = ModelSettings(size=SIZE, start_size=START, growth=growth)  # type: ignore[arg-type]
    x = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    means = x.view(2, 3, 8, 4, 8, 4).mean((3, 5))
    assert torch.allclose(reduced(x, m, 0.0), means.repeat_interleave(4, 2).repeat_interleave(4, 3))
    assert torch.equal(reduced(x, m, LEVELS + 0.5), x)
    faded = reduced(x, m, 1.0)  # its first moment: of fading still the level before, and of skips the new one
    coarse = torch.allclose(faded, faded[:, :, ::4, ::4].repeat_interleave(4, 2).repeat_interleave(4, 3))
    assert coarse is (growth == "fade")


def growing_trial(growth: str = "skip", family: str = "dcgan") -> TrialSpec:
    trial = spec(family)
    model = replace(trial.settings.model, growth=growth, start_size=4)
    train = replace(trial.settings.train, level_kimg=0.04)
    return replace(trial, settings=replace(trial.settings, model=model, train=train))


@pytest.mark.parametrize("growth", GROWTHS)
@pytest.mark.parametrize("family", ["dcgan", "aegan"])
def test_a_growing_trial_that_is_interrupted_goes_on_the_same(tmp_path, family: str, growth: str) -> None:
    trial, states = growing_trial(growth, family), []
    for name, stops in (("whole", [0.12]), ("parts", [0.03, 0.05, 0.09, 0.12])):
        for kimg in stops:
            session = open_session(tmp_path / name, trial)
            session.advance(kimg, judge)
            state = session.learner.state_dict()
            assert session.learner.ema.net.reached == session.learner.plain["generator"].reached
            session.close()
        states.append(state)
    assert same(*states)
    assert states[0]["nets"]["generator"]["reached"] == pytest.approx(2.5, abs=0.3)


def test_a_first_size_beyond_the_last_is_refused() -> None:
    with pytest.raises(SkinGanError, match=r"model.start_size=64: expected at most model.size=32"):
        build(ModelSettings(size=32, growth="skip", start_size=64))
