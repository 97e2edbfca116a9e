"""Convolution with kernel 4, stride 2 and padding 1 with 9/16 of the products: Winograd's F(2,2), twice.

With blocks of 2x2 pixels taken as channels the convolution has kernel 2 and stride 1. Along one direction
y0 = d0 g0 + d1 g1 and y1 = d1 g0 + d2 g1 are four products, of blocks d and halves g of the kernel. With

    m0 = (d0 - d1) g0,   m1 = d1 (g0 + g1),   m2 = (d2 - d1) g1:   y0 = m0 + m1,   y1 = m1 + m2

they are three (Winograd 1980; Lavin and Gray 2016, arXiv 1509.09308), and as no factor but 1 and -1 occurs,
little precision is lost. Both directions make 9 matrix products of what `split_high` and `split_weight`
return, which `merge_low` adds up. Each split is the transpose of a merge, so these give the gradients too.

N images, H x W pixels at the higher resolution (multiples of 4), C channels there and O at the lower one.
"""

from __future__ import annotations

import torch
from torch import Tensor


def split_high(x: Tensor) -> Tensor:
    """[N,C,H,W] -> [9, N*H/4*W/4, 4*C]: the d terms of each 2x2 outputs."""
    n, c, height, width = x.shape
    blocks = _pad(x).view(n, height // 2 + 1, 2, width // 2 + 1, 2, c)
    down = x.new_empty(3, n, height // 4, 2, width // 2 + 1, 2, c)
    _differences(blocks.movedim(1, 0), down.movedim(2, 1))
    both = x.new_empty(3, 3, n, height // 4, width // 4, 2, 2, c)
    _differences(down.movedim(4, 0), both.permute(1, 4, 0, 2, 3, 5, 6, 7))
    return both.view(9, -1, 4 * c)


def merge_high(terms: Tensor, n: int, height: int, width: int) -> Tensor:
    """The transpose of `split_high`: [9, n*height/4*width/4, 4*C] -> [n,C,height,width]."""
    both = terms.view(3, 3, n, height // 4, width // 4, 2, 2, -1)
    c = both.shape[-1]
    down = terms.new_empty(3, n, height // 4, 2, width // 2 + 1, 2, c)
    _add_differences(both.permute(1, 4, 0, 2, 3, 5, 6, 7), down.movedim(4, 0))
    blocks = terms.new_empty(n, height // 2 + 1, 2, width // 2 + 1, 2, c)
    _add_differences(down.movedim(2, 1), blocks.movedim(1, 0))
    padded = blocks.view(n, height + 2, width + 2, c)
    # A view with gaps would send the layers that follow down slow paths.
    return padded[:, 1:-1, 1:-1].contiguous().permute(0, 3, 1, 2)


def split_low(y: Tensor) -> Tensor:
    """The transpose of `merge_low`: [N,O,H/2,W/2] -> [9, N*H/4*W/4, O]."""
    n, channels, height, width = y.shape
    pairs = y.permute(0, 2, 3, 1).reshape(n, height // 2, 2, width // 2, 2, channels)
    down = y.new_empty(3, n, height // 2, width // 2, 2, channels)
    _sums(pairs[:, :, 0], pairs[:, :, 1], down)
    both = y.new_empty(3, 3, n, height // 2, width // 2, channels)
    _sums(down[..., 0, :], down[..., 1, :], both.transpose(0, 1))
    return both.view(9, -1, channels)


def merge_low(terms: Tensor, n: int, height: int, width: int) -> Tensor:
    """The m terms [9, n*height/4*width/4, O] -> [n,O,height/2,width/2]."""
    both = terms.view(3, 3, n, height // 4, width // 4, -1)
    down = both[:2] + both[1:]
    y = terms.new_empty(n, height // 4, 2, width // 4, 2, both.shape[-1])
    torch.add(down[:, :2], down[:, 1:], out=y.permute(2, 4, 0, 1, 3, 5))
    return y.view(n, height // 2, width // 2, -1).permute(0, 3, 1, 2)


def split_weight(weight: Tensor) -> Tensor:
    """[O,C,4,4] -> [9,O,4*C]: the g terms."""
    channels, c = weight.shape[:2]
    halves = weight.permute(0, 2, 3, 1).reshape(channels, 2, 2, 2, 2, c).permute(1, 3, 0, 2, 4, 5)
    both = weight.new_empty(3, 3, channels, 2, 2, c)
    both[::2, ::2] = halves
    torch.add(both[0, ::2], both[2, ::2], out=both[1, ::2])
    torch.add(both[:, 0], both[:, 2], out=both[:, 1])
    return both.view(9, channels, 4 * c)


def merge_weight(terms: Tensor) -> Tensor:
    """The transpose of `split_weight`: [9,O,4*C] -> [O,C,4,4]."""
    channels = terms.shape[1]
    both = terms.view(3, 3, channels, 2, 2, -1)
    down = both[:2] + both[1:]
    weight = terms.new_empty(channels, 2, 2, 2, 2, both.shape[-1])
    torch.add(down[:, :2], down[:, 1:], out=weight.permute(1, 3, 0, 2, 4, 5))
    return weight.view(channels, 4, 4, -1).permute(0, 3, 1, 2)


def _pad(x: Tensor) -> Tensor:
    """[N,C,H,W] -> [N,H+2,W+2,C] with zeros around."""
    n, c, height, width = x.shape
    padded = x.new_empty(n, height + 2, width + 2, c)
    padded[:, :: height + 1] = 0
    padded[:, :, :: width + 1] = 0
    padded[:, 1:-1, 1:-1] = x.permute(0, 2, 3, 1)
    return padded


def _differences(d: Tensor, out: Tensor) -> None:
    """d [2T+1,...] -> out [3,T,...]: d0 - d1, d1 and d2 - d1 of blocks 0,1,2; 2,3,4; ..."""
    torch.sub(d[:-1:2], d[1::2], out=out[0])
    out[1].copy_(d[1::2])
    torch.sub(d[2::2], d[1::2], out=out[2])


def _add_differences(terms: Tensor, out: Tensor) -> None:
    """The transpose of `_differences`: terms [3,T,...] -> out [2T+1,...]."""
    torch.sub(terms[1], terms[0], out=out[1::2])
    out[1::2] -= terms[2]
    out[:-1:2] = terms[0]
    out[-1] = terms[2, -1]
    out[2:-1:2] += terms[2, :-1]


def _sums(a: Tensor, b: Tensor, out: Tensor) -> None:
    """a, b [...] -> out [3,...]: a, a + b and b."""
    out[0].copy_(a)
    torch.add(a, b, out=out[1])
    out[2].copy_(b)
