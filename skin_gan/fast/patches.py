"""Convolution with kernel 4, stride 2 and padding 1 as one product with patches of the image ("im2col").

The functions are those of `skin_gan.fast.winograd`: each split is the transpose of its merge.
N images, H x W pixels at the higher resolution (even), C channels there and O at the lower one.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def split_high(x: Tensor) -> Tensor:
    """[N,C,H,W] -> [1, N*H/2*W/2, 16*C]: the 4x4 pixels that each output sees, channels last."""
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    windows = padded.unfold(1, 4, 2).unfold(2, 4, 2).permute(0, 1, 2, 4, 5, 3)
    return windows.reshape(1, -1, 16 * x.shape[1])


def merge_high(terms: Tensor, n: int, height: int, width: int) -> Tensor:
    """[1, n*height/2*width/2, 16*C] -> [n,C,height,width], overlaps added up.

    A patch's 4x4 pixels are 2x2 blocks of 2x2 pixels, each of which falls on a block of the padded image.
    """
    rows, columns = height // 2, width // 2
    blocks = terms.view(n, rows, columns, 2, 2, 2, 2, -1).permute(3, 5, 0, 1, 4, 2, 6, 7)
    padded = terms.new_zeros(n, rows + 1, 2, columns + 1, 2, blocks.shape[-1])
    for down in range(2):
        for right in range(2):
            padded[:, down : down + rows, :, right : right + columns] += blocks[down, right]
    # A view with gaps would send the layers that follow down slow paths.
    return padded.view(n, height + 2, width + 2, -1)[:, 1:-1, 1:-1].contiguous().permute(0, 3, 1, 2)


def split_low(y: Tensor) -> Tensor:
    """[N,O,H/2,W/2] -> [1, N*H/2*W/2, O]."""
    return y.permute(0, 2, 3, 1).reshape(1, -1, y.shape[1])


def merge_low(terms: Tensor, n: int, height: int, width: int) -> Tensor:
    """[1, n*height/2*width/2, O] -> [n,O,height/2,width/2]."""
    return terms.view(n, height // 2, width // 2, -1).permute(0, 3, 1, 2)


def split_weight(weight: Tensor) -> Tensor:
    """[O,C,4,4] -> [1,O,16*C]."""
    return weight.permute(0, 2, 3, 1).reshape(1, weight.shape[0], -1)


def merge_weight(terms: Tensor) -> Tensor:
    """[1,O,16*C] -> [O,C,4,4]."""
    return terms.view(terms.shape[1], 4, 4, -1).permute(0, 3, 1, 2)
