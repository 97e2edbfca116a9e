"""Train one GAN on one lesion class, and measure its images: the library without a search or a cluster.

    python examples/train_one.py --label df --size 32 --kimg 20 --preset dcgan --out results/one

The first time, built-in images are drawn (--data STORE takes an ingested store of real ones). Ctrl-C stops at
any time: the same command goes on from there, and with more --kimg it trains further.
It ends with a sheet of samples and scores: kid_floor is the KID of real images against other real ones.
"""

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from rich.progress import Progress

from skin_gan.config import Operations, TrialSpec, check
from skin_gan.data.resolve import resolve
from skin_gan.data.store import class_split
from skin_gan.errors import SkinGanError
from skin_gan.folders import COMPLETED, TrialFolder
from skin_gan.metrics.evaluate import evaluate, reference
from skin_gan.metrics.features import extractor, second_extractor
from skin_gan.presets import PRESETS, preset
from skin_gan.pretrained import settled
from skin_gan.training.session import Session

FOLD = 0  # of five: its test images are never opened here, so that they can still judge


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
    if not 0 < o.kimg < 1e9:
        raise SkinGanError(f"--kimg {o.kimg:g}: expected more than 0")
    published = preset(o.preset)
    settings = check(replace(published, model=replace(settled(published.model), size=o.size)))
    store = resolve(o.data, [o.size], o.out)
    split = class_split(store, o.label, o.size, FOLD)  # training and validation images
    spec = TrialSpec(o.label, index=0, seed=o.seed, fold=FOLD, data=store.fingerprint, settings=settings)
    folder = TrialFolder(o.out / f"{o.label}-{spec.id}")  # other settings go to another folder

    def judge(images):
        first, second = extractor(threads=o.threads), second_extractor(threads=o.threads)
        real = reference(store, o.label, o.size, FOLD, o.out / "cache", first, second)
        return evaluate(images, real, first, second=second)

    with closing(Session(spec, folder, split, Operations(threads=o.threads))) as session, Progress() as bar:
        task = bar.add_task(f"training on {len(split.train.images)} images", total=o.kimg)
        for part in range(1, 21):  # each part ends with a checkpoint
            session.train(o.kimg * part / 20)
            bar.update(task, completed=session.kimg)
        row = session.advance(o.kimg, judge)  # measured already? then that is returned
        session.finish(COMPLETED)
    for name in ("kid", "kid_floor", "precision", "recall", "copies"):
        print(f"{name:<10} {row[name] and round(row[name], 3)}")
    print(f"images: {max(folder.samples.glob('*-samples.png'))}")


if __name__ == "__main__":
    try:
        train(arguments())
    except SkinGanError as e:
        sys.exit(f"error: {e}")
    except KeyboardInterrupt:
        sys.exit("stopped: the same command goes on from here")
