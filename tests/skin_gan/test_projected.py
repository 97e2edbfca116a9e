"""The discriminator on frozen features: whose features, what is trained, what it tells apart."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor
from torchvision.models import mobilenet_v2

from skin_gan import pretrained, projected
from skin_gan.config import TrialSettings, check
from skin_gan.errors import SkinGanError
from skin_gan.families import build, step_of
from skin_gan.families.steps import Context, make_optimiser
from skin_gan.presets import preset
from skin_gan.rng import Rng


def settings(discriminator: str = "projected", family: str = "dcgan", **loss: float) -> TrialSettings:
    s = preset("projected")
    model = replace(s.model, size=32, base=4, latent=5, family=family, discriminator=discriminator)  # type: ignore[arg-type]
    return replace(s, model=model, loss=replace(s.loss, **loss), train=replace(s.train, batch=6))


def context(s: TrialSettings) -> Context:
    torch.manual_seed(0)
    nets = build(s.model)
    judges = [
        p for n, net in nets.items() if "discriminator" in n for p in net.parameters() if p.requires_grad
    ]
    makers = [p for n, net in nets.items() if "discriminator" not in n for p in net.parameters()]
    generator = torch.Generator().manual_seed(1)
    return Context(
        nets=nets,
        opt_g=make_optimiser(makers, s.optim, s.optim.lr_g),
        opt_d=make_optimiser(judges, s.optim, s.optim.lr_d),
        draw=lambda: torch.rand(6, 3, 32, 32, generator=generator) * 2 - 1,
        settings=s,
        rng=Rng(1),
        accelerator=Accelerator(cpu=True),
    )


def images(n: int = 4, size: int = 64) -> Tensor:
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(n)) * 2 - 1


def test_features_are_those_of_torchvision_s_network_with_the_package_s_weights() -> None:
    """The oracle is torchvision's code with batch normalisation, given the file's tensors in their order."""
    source = torch.load(pretrained.weights_file("mobilenetv2"), weights_only=True)
    net = mobilenet_v2(weights=None).features.eval()
    net.load_state_dict(dict(zip(net.state_dict(), source.values(), strict=True)))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (projected.MEAN, projected.STD))
    expected = ours = (images() / 2 + 0.5 - mean) / std
    for index, (layer, folded) in enumerate(zip(net, projected.backbone("mobilenetv2"), strict=False)):
        expected, ours = layer(expected), folded(ours)
        assert torch.allclose(ours, expected, atol=1e-3), index
    assert index == max(projected.TAPS)


@pytest.mark.parametrize("discriminator", ["projected", "both"])
@pytest.mark.parametrize("family", ["dcgan", "aegan"])
def test_a_step_trains_heads_and_generator_and_no_frozen_weight(family: str, discriminator: str) -> None:
    c = context(settings(discriminator, family))
    before = {name: p.detach().clone() for name, p in c.nets.named_parameters()}  # type: ignore[attr-defined]
    scalars = step_of(c.settings.model)(c)
    assert all(v.isfinite() for v in scalars.values())
    for name, p in c.nets.named_parameters():  # type: ignore[attr-defined]
        frozen = ".backbone." in name or ".mixers." in name
        assert p.requires_grad is not frozen
        if not name.endswith("bias"):  # the gradients of some biases cancel at first
            assert torch.equal(p, before[name]) is frozen, name


def test_features_shared_by_both_updates_give_the_generator_the_gradient_of_fresh_ones() -> None:
    """The generator's update reuses the features of its own images: as if they were computed again."""
    net = build(settings().model)["discriminator"].eval()  # spectral norms as they are
    fake = images(3, 32).requires_grad_()
    (fresh,) = torch.autograd.grad(net(fake).sum(), fake)
    features = net.features(fake)
    net([x.detach() for x in features]).sum().backward()  # the discriminator's own update
    (shared,) = torch.autograd.grad(net(features).sum(), fake)
    assert torch.allclose(fresh, shared, atol=1e-6)


@pytest.mark.parametrize("penalty", ["r1", "r2", "gp", "lecam", "consistency"])
def test_penalties_work_on_it(penalty: str) -> None:
    scalars = step_of(settings().model)(context(settings(**{penalty: 0.1})))
    assert scalars["penalty"].isfinite() and scalars["penalty"] >= 0


def test_every_head_has_the_same_say_and_an_image_one_row() -> None:
    net = build(settings("both").model)["discriminator"]
    logits = net(images(5, 32))
    heads = len(projected.TAPS) + 2  # colours, and the family's own discriminator
    assert logits.shape[0] == 5 and logits.shape[1] % heads == 0
    own = logits[:, -logits.shape[1] // heads :]
    assert torch.equal(own, own[:, :1].expand_as(own))


def test_it_learns_to_tell_colour_and_variety_which_features_hardly_show() -> None:
    """Images of one colour against varied ones: the colour head alone is asked, trained for some steps."""
    s = settings()
    net = build(s.model)["discriminator"]
    optimiser = torch.optim.Adam(net.colour.parameters(), 1e-2, (0.0, 0.99))
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        varied = torch.rand(8, 3, 1, 1, generator=generator).expand(-1, -1, 32, 32) * 2 - 1
        same = (torch.rand(1, 3, 1, 1, generator=generator) * 2 - 1).expand(8, -1, 32, 32)
        logits = [net.colour(projected.with_spread(net.features(x)[4])).mean() for x in (varied, same)]
        loss = (1 - logits[0]).relu() + (1 + logits[1]).relu()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert logits[0] > 0.5 > -0.5 > logits[1]


def test_spread_is_the_batch_s_standard_deviation() -> None:
    x = images(4, 8)
    expected = x.numpy().std(0).mean(0)
    seen = projected.with_spread(x)
    assert torch.equal(seen[:, :3], x)
    assert torch.allclose(seen[:, 3], torch.from_numpy(expected).expand(4, 8, 8), atol=1e-3)


def test_a_random_network_has_none_of_the_pretrained_weights() -> None:
    random, real = projected.backbone("random"), projected.backbone("mobilenetv2")
    pairs = zip(random.parameters(), real.parameters(), strict=True)
    assert not any(torch.equal(a, b) for a, b in pairs if a.dim() > 1)
    x = random(images())
    assert x.isfinite().all() and 0.01 < x.std() < 100


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of weights."""
    monkeypatch.setenv(pretrained.FOLDER, str(tmp_path / "weights"))
    pretrained.weights_file.cache_clear()
    yield tmp_path / "weights"
    pretrained.weights_file.cache_clear()


def test_weights_that_are_not_there_are_one_error_that_says_how_to_get_them(weights: Path) -> None:
    with pytest.raises(SkinGanError, match=r"not on this machine .* fetch mobilenetv2_torchvision"):
        build(replace(settings().model, features="mobilenetv2_torchvision"))


@pytest.mark.parametrize("damage", ["cut", "other"])
def test_a_file_with_other_content_is_refused_and_not_kept(
    weights: Path, tmp_path: Path, damage: str
) -> None:
    whole = pretrained.find("mobilenetv2")
    assert whole is not None
    content = whole.read_bytes()
    (tmp_path / "file").write_bytes(content[:-1000] if damage == "cut" else b"another network")
    with pytest.raises(SkinGanError, match=r"expected a file whose sha256 begins with 2f518e773d44, got "):
        pretrained.fetch("mobilenetv2", tmp_path / "file")
    assert not [*weights.iterdir()]


def test_a_file_of_the_user_s_is_brought_into_the_folder_and_found_there(
    weights: Path, tmp_path: Path
) -> None:
    whole = pretrained.find("mobilenetv2")
    assert whole is not None
    shutil.copy(whole, tmp_path / "mine.pt")
    assert pretrained.main(["fetch", "mobilenetv2", "--file", str(tmp_path / "mine.pt")]) == 0
    assert pretrained.find("mobilenetv2") == weights / "mobilenetv2"
    assert pretrained.weights_file("mobilenetv2") == weights / "mobilenetv2"


def test_weights_in_a_package_are_brought_into_a_folder_that_others_share(weights: Path) -> None:
    """And what is cut there is replaced."""
    held = pretrained.find("mobilenetv2")
    assert held is not None and held.parent != weights
    for damage in (None, b"cut"):
        if damage:
            (weights / "mobilenetv2").write_bytes(damage)
        assert pretrained.fetch("mobilenetv2") == weights / "mobilenetv2"
        assert (weights / "mobilenetv2").read_bytes() == held.read_bytes()


def test_auto_is_settled_by_the_weights_on_this_machine(weights: Path) -> None:
    auto = replace(settings().model, discriminator="auto")
    assert pretrained.settled(auto) == settings().model
    assert pretrained.settled(replace(auto, features="random")).discriminator == "projected"
    elsewhere = replace(auto, features="mobilenetv2_torchvision")
    assert pretrained.settled(elsewhere) == replace(elsewhere, discriminator="own")
    with pytest.raises(SkinGanError, match="discriminator=auto: a launch settles it"):
        build(auto)


def test_weights_of_a_known_hash_that_do_not_fit_the_network_are_refused(weights: Path) -> None:
    with pytest.raises(SkinGanError, match="are not MobileNetV2's"):
        projected.load(mobilenet_v2(weights=None).features, "alexnet")


def test_unknown_names_list_the_known_ones(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pretrained.main(["fetch", "resnet"]) == 2
    assert "choose one of mobilenetv2" in capsys.readouterr().err


def test_the_perceptual_term_is_none_for_equal_images_and_four_for_opposite_features() -> None:
    x = images(3, 8)
    assert projected.feature_distance(x, x) == 0
    assert projected.feature_distance(x, 5 * x) < 1e-10  # their lengths do not count
    assert projected.feature_distance(x, -x).item() == pytest.approx(4)  # |u - (-u)|^2 of unit vectors


def test_the_perceptual_term_moves_generator_and_encoder_and_needs_frozen_features() -> None:
    plain, with_it = (context(settings("projected", "aegan", perceptual=w)) for w in (0.0, 1.0))
    before = step_of(plain.settings.model)(plain)
    after = step_of(with_it.settings.model)(with_it)
    assert after["loss_g"] > before["loss_g"] and after["loss_d"] == before["loss_d"]
    for name in ("generator", "encoder"):
        pairs = zip(plain.nets[name].parameters(), with_it.nets[name].parameters(), strict=True)
        assert any(not torch.equal(a, b) for a, b in pairs)
    with pytest.raises(SkinGanError, match=r"loss.perceptual=1 needs frozen features"):
        check(settings("own", "aegan", perceptual=1.0))
