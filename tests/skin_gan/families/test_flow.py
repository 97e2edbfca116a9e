"""Flow matching: what is learned is the line from noise to an image, and steps along it lead there."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from skin_gan.config import LossSettings, ModelSettings, OptimSettings, TrainSettings, TrialSettings
from skin_gan.errors import SkinGanError
from skin_gan.families import build, flow
from skin_gan.families.steps import Context, make_optimiser
from skin_gan.rng import Rng

SIZE = 8


def model(**changes: int) -> ModelSettings:
    return ModelSettings(family="flow", **{"size": SIZE, "latent": 3 * SIZE**2, "base": 8} | changes)


class Straight(torch.nn.Module):
    """The velocity of a data set that is one image: from wherever one is, straight to it."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self.image = image
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.scale * (self.image - x) / (1 - t.view(-1, 1, 1, 1))


def test_steps_along_the_true_velocity_end_at_the_image() -> None:
    image = torch.rand(3, SIZE, SIZE) * 2 - 1
    generator = build(model())["generator"]
    generator.velocity = Straight(image)
    assert torch.allclose(generator(torch.randn(4, 3 * SIZE**2)), image.expand(4, -1, -1, -1), atol=1e-4)


def test_the_loss_is_none_for_the_true_velocity_and_as_it_should_be_for_another() -> None:
    image = torch.rand(3, SIZE, SIZE) * 2 - 1
    s = TrialSettings(model(), LossSettings(), OptimSettings(lr_g=1e-9), TrainSettings(batch=64))
    nets = build(s.model)
    nets["generator"].velocity = Straight(image)
    c = Context(
        nets=nets,
        opt_g=make_optimiser(nets.parameters(), s.optim, s.optim.lr_g),
        opt_d=make_optimiser([], s.optim, s.optim.lr_d),
        draw=lambda: image.expand(64, -1, -1, -1),
        settings=s,
        rng=Rng(0),
        accelerator=Accelerator(cpu=True),
    )
    assert flow.step(c)["loss_g"] < 1e-6
    with torch.no_grad():
        nets["generator"].velocity.scale.zero_()
    # A velocity of 0 is wrong by image - noise, whose mean square is image^2 + 1.
    assert flow.step(c)["loss_g"].item() == pytest.approx(image.square().mean().item() + 1, rel=0.05)
    assert c.images == 128


def test_a_flow_begins_by_standing_still_and_every_weight_has_a_part() -> None:
    nets = build(model())
    z = torch.randn(2, 3 * SIZE**2)
    assert torch.equal(nets["generator"](z), z.view(2, 3, SIZE, SIZE).clamp(-1, 1))
    for p in nets.parameters():
        torch.nn.init.normal_(p, 0.1, 0.1)
    nets["generator"](torch.randn(2, 3, SIZE, SIZE), torch.rand(2)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in nets.parameters())


@pytest.mark.parametrize(
    ("changes", "said"), [({"latent": 100}, "expected 192"), ({"base": 4}, "a multiple of 8")]
)
def test_shapes_that_do_not_fit_are_refused(changes: dict[str, int], said: str) -> None:
    with pytest.raises(SkinGanError, match=said):
        build(model(**changes))
