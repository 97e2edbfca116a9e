"""The training loop of a classifier.

A run is a function of its settings, seed and data: the random numbers of an update follow from
(seed, update), so that a killed run resumes exactly from its last saved state.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from skin_gan.ablation import networks
from skin_gan.ablation.arm import Arm
from skin_gan.ablation.augment import DRAWS, augment, mix, other_kind
from skin_gan.ablation.batches import ALL, Batches
from skin_gan.ablation.classifiers import ClassifierSettings
from skin_gan.ablation.runs import ArmRun
from skin_gan.ablation.trainingset import Rows
from skin_gan.ablation.weights import loss_weights
from skin_gan.training import checkpoint
from skin_gan.training.interruption import Interruption

SAVE_SECONDS = 60.0  # at most this much work is lost to a kill
POINTS = 40  # of a loss curve
Progress = Callable[[int], object]  # called with the number of updates done


def fit(
    inputs: Tensor | Rows,
    labels: Tensor,
    generated: NDArray[np.bool_],
    classes: int,
    run: ArmRun,
    device: str = "cpu",
    state: Path | None = None,
    progress: Progress | None = None,
) -> tuple[nn.Module, Tensor]:
    """The network of `run` after its updates, in evaluation mode, and the loss of each update [steps].

    inputs: uint8 images [N,3,S,S], or features [N,d] for network="head"; labels [N] in 0..classes-1;
    generated [N]: whether each is a generated image. `state`: file of the state during training, from which
    training resumes if it exists; it is saved every minute, and when the process is told to stop.
    """
    c, arm = run.classifier, run.arm
    draw = Batches(labels.numpy(), generated, c.batch, arm, run.seed, c.steps)
    weighed = {p: _weighed(draw, p, labels.numpy(), generated, classes, device) for p in draw.phases}
    made = torch.from_numpy(generated).to(device)
    inputs, labels = inputs.to(device), labels.to(device)
    with torch.random.fork_rng(), Interruption() as interruption:
        torch.manual_seed(_stream(run.seed, 0))
        net = network(c, inputs, classes)
        norms = networks.own_norms(net) if arm.own_norm else []
        net = net.to(device).train()
        optimiser = make_optimiser(c, net)
        losses = torch.zeros(c.steps, device=device)
        begin, saved = _restore(state, run.id, net, optimiser, losses), time.monotonic()
        for step in range(begin, c.steps):
            torch.manual_seed(_stream(run.seed, 1, step))  # augmentation and dropout
            optimiser.param_groups[0]["lr"] = c.lr * rate(c.schedule, step / c.steps)
            rows = torch.from_numpy(draw(step)).to(device)
            x = prepare(inputs[rows])
            if arm.augment != "none" and x.ndim == 4:  # features are of augmented views already
                x = augment(x, DRAWS[arm.augment](len(x)))
            weight, prior = weighed[draw.phase(step)]
            for norm in norms:
                norm.generated = made[rows]
            w = None if weight is None else weight[rows]
            loss = loss_of(arm, net, x, labels[rows], w, prior, made[rows])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            losses[step] = loss.detach()
            if progress:
                progress(step + 1)
            if state and (interruption.noted or time.monotonic() - saved > SAVE_SECONDS):
                _save(state, run.id, step + 1, net, optimiser, losses)
                saved = time.monotonic()
            if interruption.noted:
                interruption.act()
    if arm.adjust_after:
        net = Adjusted(net, -arm.adjust_after * weighed[draw.phase(c.steps - 1)][1])
    return net.eval(), losses.cpu()


def loss_curve(losses: Tensor, points: int = POINTS) -> list[tuple[int, float]]:
    """At most `points` finite pairs (updates made, mean loss since the last pair) of losses [steps]."""
    parts = losses.split(-(-len(losses) // points) or 1)
    ends = np.cumsum([len(part) for part in parts]).tolist()
    curve = ((end, round(part.mean().item(), 5)) for end, part in zip(ends, parts, strict=True))
    return [(end, mean) for end, mean in curve if np.isfinite(mean)]


def make_optimiser(c: ClassifierSettings, net: nn.Module) -> torch.optim.Optimizer:
    """AdamW; for the linear head SGD with momentum, which converges to logistic regression's solution.

    Adam's equal steps in each of 1280 correlated features do not: accuracy .70 instead of .74.
    """
    if c.network == "head":
        return torch.optim.SGD(
            net.parameters(), lr=c.lr, momentum=0.9, nesterov=True, weight_decay=c.weight_decay
        )
    return torch.optim.AdamW(net.parameters(), lr=c.lr, weight_decay=c.weight_decay)


def network(c: ClassifierSettings, inputs: Tensor | Rows, classes: int) -> nn.Module:
    """An untrained network for these inputs, its weights from torch's global generator."""
    if c.network == "head":
        return networks.head(inputs.shape[1], classes)
    if c.network == "cnn":
        net: nn.Module = networks.SmallCNN(c.size, classes, c.dropout)
    else:
        net = networks.residual(c.network, c.size, classes, c.pretrained)
    return net.to(memory_format=torch.channels_last)


class Adjusted(nn.Module):
    """A network to whose logits [N,K] a shift [K] is added."""

    def __init__(self, net: nn.Module, shift: Tensor) -> None:
        super().__init__()
        self.net, self.shift = net, shift

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) + self.shift


def _weighed(
    draw: Batches,
    phase: str,
    labels: NDArray[np.integer],
    generated: NDArray[np.bool_],
    classes: int,
    device: str,
) -> tuple[Tensor | None, Tensor]:
    """The weight of each image [N] in a phase's loss (None: all equal); log shares of the classes [K]."""
    rows = draw.pools[phase]
    drawn = draw.drawn if phase == ALL else 1.0
    weights, shares = loss_weights(draw.arm, labels[rows], generated[rows], classes, drawn)
    prior = torch.from_numpy(shares).float().log().to(device)
    if weights is None:
        return None, prior
    whole = torch.zeros(len(labels))
    whole[torch.from_numpy(rows)] = torch.from_numpy(weights).float()
    return whole.to(device), prior


def loss_of(
    arm: Arm,
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    w: Tensor | None,
    prior: Tensor,
    made: Tensor,
) -> Tensor:
    """The arm's loss of a batch x [N,...], y [N] with weights w [N]; prior [K]: log shares of the classes.

    made [N]: which images are generated. A mixed image has both labels, each by its share.
    """
    how = arm.mix_generated if arm.mix_generated != "none" else arm.mix
    if how != "none":
        partner = other_kind(made) if arm.mix_generated != "none" else torch.randperm(len(x)).to(y.device)
        x, share = mix(x, partner, how)
        w = torch.ones_like(share) if w is None else w
        y, w = torch.cat([y, y[partner]]), torch.cat([share * w, (1 - share) * w[partner]])
    logits = net(x)
    if arm.adjust:
        logits = logits + arm.adjust * prior
    return focal_loss(logits.repeat(len(y) // len(logits), 1), y, arm.focal, w)


def focal_loss(logits: Tensor, y: Tensor, gamma: float = 0.0, weight: Tensor | None = None) -> Tensor:
    """Mean of w (1 - p_y)^gamma * -log p_y (Lin 2017, arXiv:1708.02002, eq. 5), divided by the mean of w.

    logits [N,K], y [N], weight w [N] of each image. With gamma 0 it is (weighted) cross entropy.
    """
    log_p = F.log_softmax(logits, 1).gather(1, y[:, None])[:, 0]
    w = torch.ones_like(log_p) if weight is None else weight
    # At p_y = 1 the power's gradient is not finite; rounding may even give p_y > 1.
    focus = (1 - log_p.exp()).clamp(min=1e-6) ** gamma if gamma else 1.0
    return -(w * focus * log_p).sum() / w.sum()


def rate(schedule: str, done: float) -> float:
    """The learning rate at a share `done` 0..1 of training, relative to that at its beginning."""
    if schedule == "steps":
        return 0.1 ** ((done >= 0.5) + (done >= 0.75))
    return 0.5 * (1 + float(np.cos(np.pi * done)))


def prepare(x: Tensor) -> Tensor:
    """uint8 images [N,3,S,S] -> float in [-1,1]; features are left as they are."""
    if x.dtype != torch.uint8:
        return x
    return x.to(torch.float32, memory_format=torch.channels_last).div_(127.5).sub_(1.0)


def _stream(seed: int, *purpose: int) -> int:
    return int(np.random.SeedSequence([seed, *purpose]).generate_state(1)[0])


def _save(
    path: Path, identity: str, step: int, net: nn.Module, optimiser: torch.optim.Optimizer, losses: Tensor
) -> None:
    content = {"step": step, "net": net.state_dict(), "optimiser": optimiser.state_dict(), "losses": losses}
    checkpoint.save(path, identity, content)


def _restore(
    path: Path | None, identity: str, net: nn.Module, optimiser: torch.optim.Optimizer, losses: Tensor
) -> int:
    """The number of updates of the saved state, which is loaded; `losses` is filled in."""
    if path is None or not path.exists():
        return 0
    content = checkpoint.load(path, identity)
    net.load_state_dict(content["net"])
    optimiser.load_state_dict(content["optimiser"])
    losses.copy_(content.get("losses", losses))  # a state of an earlier version has none
    return content["step"]
