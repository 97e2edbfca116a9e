"""Watched while a trial trains: overfitting, collapse and copies, and which evaluation is the best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from skin_gan.config import EvalSettings

if TYPE_CHECKING:  # the leaderboard is made without torch
    from torch import Tensor, nn

Row = dict[str, Any]
IMAGES = 256  # of each kind, at most, that the discriminator is shown
ROUNDING = 1e-5  # mean logits that differ by less than this part are equal: a quotient would be of rounding


def best_of(rows: Sequence[Row]) -> Row | None:
    """Of a trial's evaluations, in their order, the one that best.pt holds; None without any KID.

    The lowest KID among those whose coverage is at least half of the highest coverage so far: KID alone can
    be had by a few good images. It is decided as evaluations are made, since best.pt holds one state: where a
    new highest coverage disqualifies the best, that evaluation takes its place, and not one in between whose
    state is gone. An undefined coverage counts as 0. Rows without `overfit` are of versions that went by KID
    alone.
    """
    best, highest = None, 0.0
    for row in rows:
        if row["kid"] is None:
            continue
        highest = max(highest, _coverage(row))
        by_kid = best is None or row["kid"] < best["kid"]
        if "overfit" not in row:
            best = row if by_kid else best
        elif best is None or _coverage(best) < highest / 2 or (by_kid and _coverage(row) >= highest / 2):
            best = row
    return best


def _coverage(row: Row) -> float:
    return row.get("coverage") or 0.0


def alarm(rows: Sequence[Row], s: EvalSettings) -> str:
    """Why the last of a trial's evaluations raise an alarm; "" if they do not.

    The reason is collapse or copies above its limit in each of the last `alarm_after` evaluations. A value
    that is not defined is not above it.
    """
    last = rows[-s.alarm_after :]
    if len(last) < s.alarm_after:
        return ""
    found = []
    for name, limit in (("collapse", s.max_collapse), ("copies", s.max_copies)):
        if all((row.get(name) or 0.0) > limit for row in last):
            found.append(
                f"{name} of {last[-1][name]:.3g} at {last[-1]['kimg']:g} kimg, above {limit:g} in "
                f"{len(last)} evaluations in a row"
            )
    return " and ".join(found)


def overfitting(
    discriminator: nn.Module | None, train: Tensor, val: Tensor, generated: Tensor, batch: int
) -> Row:
    """Mean logits of real training and validation images, and how the discriminator tells these apart.

    d_train, d_val  mean logit of the image discriminator, without augmentation
    overfit         (train - val) / (train - generated): r_v of Karras 2020 (arXiv 2006.06676), which no scale
                    or shift of the logits changes. 0: images it was trained on look like others; 1: images
                    that it was not trained on look generated to it

    Images are uint8 [N,3,S,S]. Each kind is shown in batches of one size, at most `batch`, since logits may
    depend on the others of a batch; evaluation mode leaves the network as it is. None where there is no
    discriminator, or where generated images look at least as real as training images.
    """
    if discriminator is None:
        return dict.fromkeys(("d_train", "d_val", "overfit"))
    n = min(batch, len(train), len(val), len(generated))
    on_train, on_val, on_generated = (_logit(discriminator, x, n) for x in (train, val, generated))
    told = on_train - on_generated
    rounding = ROUNDING * (abs(on_train) + abs(on_generated))
    return {
        "d_train": on_train,
        "d_val": on_val,
        "overfit": (on_train - on_val) / told if told > rounding else None,
    }


def _logit(net: nn.Module, images: Tensor, batch: int) -> float:
    """Mean logit over at most IMAGES images, always the same random ones, in whole batches."""
    import torch

    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    rows = order[: min(len(images), max(batch, IMAGES)) // batch * batch]
    device, was_training = next(net.parameters()).device, net.training
    net.eval()
    with torch.no_grad():
        parts = [images[some].to(device).float() / 127.5 - 1 for some in rows.split(batch)]
        found = torch.cat([net(x).float().view(len(x), -1).mean(1) for x in parts])
    net.train(was_training)
    return float(found.mean())
