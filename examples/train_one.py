"""Train one GAN on one lesion class, and measure its images: the library without a search or a cluster.

    python examples/train_one.py --label df --size 32 --kimg 20 --preset dcgan --out results/one

The first time, built-in images are drawn (--data STORE takes an ingested store of real ones). Ctrl-C stops at
any time: the same command goes on from there, and with more --kimg it trains further.
It ends with a sheet of samples and scores: kid_floor is the KID of real images against other real ones.
"""

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path

from rich.progress import Progress

import skin_gan
from skin_gan.errors import SkinGanError
from skin_gan.presets import PRESETS


def arguments(words: list[str] | None = None) -> Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--label", default="df", help="lesion class of HAM10000: akiec bcc bkl df mel nv vasc (df)")
    add("--size", type=int, default=32, help="height and width of the images in pixels: 16, 32, 64, ... (32)")
    add("--kimg", type=float, default=20.0, help="thousands of real images to show the discriminator (20)")
    add("--preset", default="dcgan", help=f"networks and settings: {', '.join(PRESETS)} (dcgan)")
    add("--data", default="demo", help="demo, or the folder of an ingested store (demo)")
    add("--out", type=Path, default=Path("results/one"), help="folder for everything (results/one)")
    add("--threads", type=int, default=2, help="CPU threads (2)")
    add("--seed", type=int, default=0, help="other weights and other random numbers (0)")
    return parser.parse_args(words)


def train(o: Namespace) -> None:
    if not o.kimg > 0:
        raise SkinGanError(f"--kimg {o.kimg:g}: expected more than 0")
    settings = skin_gan.preset(o.preset, o.size)
    store = skin_gan.resolve(o.data, [o.size], o.out)
    with Progress() as bar:
        task = bar.add_task(f"training on images of {o.label}", total=o.kimg)
        trained = skin_gan.train(
            store, o.label, settings, kimg=o.kimg, out=o.out, seed=o.seed, threads=o.threads,
            progress=lambda kimg: bar.update(task, completed=kimg),
        )  # fmt: skip
    for name in ("kid", "kid_floor", "precision", "recall", "copies"):
        value = trained.scores[name]
        print(f"{name:<10} {value and round(value, 3)}")
    print(f"generator: {trained.generator}")
    print(f"images: {max(trained.folder.samples.glob('*-samples.png'))}")


if __name__ == "__main__":
    try:
        train(arguments())
    except SkinGanError as e:
        sys.exit(f"error: {e}")
    except KeyboardInterrupt:
        sys.exit("stopped: the same command goes on from here")
