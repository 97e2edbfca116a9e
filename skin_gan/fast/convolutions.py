"""Fast convolutions for DCGAN-like networks on CPUs.

`Conv2d` and `ConvTranspose2d` have the weights, the results and the interface of torch's. On CPUs they use
matrix products where these are faster (measured by tests/bench/bench_training.py):

- a layer between 4x4 and 1x1 pixels is one product, ten times as fast as torch's convolution;
- a layer with kernel 4, stride 2 and many channels at few pixels takes half to two thirds of the time with
  Winograd's method in float32 and with patches in bfloat16.

Otherwise, and on other devices, torch's own kernels are called.
"""

from __future__ import annotations

import ctypes
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skin_gan.fast import patches, winograd


class Conv2d(nn.Conv2d):
    """[N,c_in,H,W] -> [N,c_out,H',W']: torch's layer, computed as the module's docstring says."""

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cpu and self.padding == (0, 0) and self.kernel_size == x.shape[2:]:
            return add_bias((_rows(x) @ _rows(self.weight).t())[:, :, None, None], self.bias)
        method = _method(x, self.weight, x.shape[3]) if _halves(self) else None
        if method is None:
            return super().forward(x)
        return add_bias(_Down.apply(*_autocast(x, self.weight), method), self.bias)


class ConvTranspose2d(nn.ConvTranspose2d):
    """[N,c_in,H,W] -> [N,c_out,H',W']: torch's layer, computed as the module's docstring says."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if x.is_cpu and self.padding == (0, 0) and x.shape[2:] == (1, 1):
            y = (x.flatten(1) @ _rows(self.weight)).unflatten(1, (*self.kernel_size, -1))
            return add_bias(y.permute(0, 3, 1, 2), self.bias)
        if _halves(self):
            return add_bias(double(x, self.weight), self.bias)
        return super().forward(x, output_size)


def double(x: Tensor, weight: Tensor) -> Tensor:
    """[N,O,H/2,W/2] -> [N,C,H,W]: transposed convolution with weight [O,C,4,4], stride 2, padding 1."""
    method = _method(x, weight, 2 * x.shape[3])
    if method is None:
        return F.conv_transpose2d(x, weight, None, 2, 1)
    return _Up.apply(*_autocast(x, weight), method)


def add_bias(x: Tensor, bias: Tensor | None) -> Tensor:
    """x [N,C,H,W] plus bias [C]."""
    return x if bias is None else x + bias.to(x.dtype)[:, None, None]


def _halves(layer: nn.Conv2d | nn.ConvTranspose2d) -> bool:
    """Whether the layer halves or doubles the resolution with kernel 4."""
    geometry = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    return geometry == ((4, 4), (2, 2), (1, 1), (1, 1)) and layer.groups == 1


def _method(x: Tensor, weight: Tensor, width: int) -> ModuleType | None:
    """The module that computes a layer with weight [O,C,4,4] at `width` pixels (higher resolution), or None.

    Splitting costs time in proportion to C + O and saves time in proportion to C * O: it pays from 128
    channels on, while the parts fit into the caches.
    """
    if not x.is_cpu or width > 16 or weight.shape[1] < 128:
        return None
    if x.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu"):
        return patches
    return winograd if width % 4 == 0 else None


def _autocast(*tensors: Tensor) -> list[Tensor]:
    """The tensors in autocast's type, as for torch's own convolutions."""
    if not torch.is_autocast_enabled("cpu"):
        return list(tensors)
    return [t.to(torch.get_autocast_dtype("cpu")) for t in tensors]


def _rows(x: Tensor) -> Tensor:
    """[N,C,H,W] -> [N,H*W*C]: without a copy where `x` is channels last."""
    return x.permute(0, 2, 3, 1).flatten(1)


# Three functions, linear in each argument, whose gradients are the other two: so all derivatives exist.
# A first derivative uses again what was split; one that is derived itself (create_graph) needs the inputs.


class _Down(torch.autograd.Function):
    """y: convolution of x [N,C,H,W] with weight [O,C,4,4], stride 2, padding 1, by products of `method`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, method: ModuleType) -> Tensor:
        ctx.method, ctx.size = method, (x.shape[0], *x.shape[2:])
        high, filters = method.split_high(x), method.split_weight(weight)
        ctx.save_for_backward(x, weight, high, filters)
        return method.merge_low(high @ filters.mT, *ctx.size)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight, high, filters = ctx.saved_tensors
        need_x, need_weight, _ = ctx.needs_input_grad
        if torch.is_grad_enabled():
            grad_x = _Up.apply(grad, weight, ctx.method) if need_x else None
            return grad_x, _Weight.apply(x, grad, ctx.method) if need_weight else None, None
        low = ctx.method.split_low(grad)
        grad_x = ctx.method.merge_high(low @ filters, *ctx.size) if need_x else None
        grad_weight = ctx.method.merge_weight(low.mT @ high) if need_weight else None
        return grad_x, grad_weight, None


class _Up(torch.autograd.Function):
    """x: the transpose of `_Down`, of y [N,O,H/2,W/2] with weight [O,C,4,4] -> [N,C,H,W]."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, weight: Tensor, method: ModuleType) -> Tensor:
        ctx.method, ctx.size = method, (y.shape[0], 2 * y.shape[2], 2 * y.shape[3])
        low, filters = method.split_low(y), method.split_weight(weight)
        ctx.save_for_backward(y, weight, low, filters)
        return method.merge_high(low @ filters, *ctx.size)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        y, weight, low, filters = ctx.saved_tensors
        need_y, need_weight, _ = ctx.needs_input_grad
        if torch.is_grad_enabled():
            grad_y = _Down.apply(grad, weight, ctx.method) if need_y else None
            return grad_y, _Weight.apply(grad, y, ctx.method) if need_weight else None, None
        high = ctx.method.split_high(grad)
        grad_y = ctx.method.merge_low(high @ filters.mT, *ctx.size) if need_y else None
        grad_weight = ctx.method.merge_weight(low.mT @ high) if need_weight else None
        return grad_y, grad_weight, None


class _Weight(torch.autograd.Function):
    """weight: the gradient of `_Down` to it, of x [N,C,H,W] and the gradient y [N,O,H/2,W/2]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, method: ModuleType) -> Tensor:
        ctx.method = method
        ctx.save_for_backward(x, y)
        return method.merge_weight(method.split_low(y).mT @ method.split_high(x))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, y = ctx.saved_tensors
        need_x, need_y, _ = ctx.needs_input_grad
        grad_x = _Up.apply(y, grad, ctx.method) if need_x else None
        return grad_x, _Down.apply(x, grad, ctx.method) if need_y else None, None


def keep_memory() -> None:
    """Let this process keep freed memory for its next tensors (glibc only, else no effect).

    By default large tensors are fetched from and given back to the system at each operation, which then
    clears their pages: up to a sixth of a training step's time. Threads and results stay as they are.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        m_trim_threshold, m_top_pad, m_mmap_max = -1, -2, -4  # as in malloc.h
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, 2**31 - 1)
        libc.mallopt(m_top_pad, 64 * 2**20)
