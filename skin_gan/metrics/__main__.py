"""`python -m skin_gan.metrics warm STORE --size 32 --cache DIR`: real features, ahead of time."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from skin_gan.data.store import open_store
from skin_gan.errors import SkinGanError


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m skin_gan.metrics", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("warm", help="compute and keep the features of a store's images")
    command.add_argument("store", type=Path)
    command.add_argument("--size", type=int, required=True, help="pixels")
    command.add_argument("--cache", type=Path, required=True, help="folder for the features")
    command.add_argument("--threads", type=int, help="CPU threads")
    options = parser.parse_args(words)
    try:
        _warm(options.store, options.size, options.cache, options.threads)
    except SkinGanError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    return 0


def _warm(path: Path, size: int, cache: Path, threads: int | None) -> None:
    store = open_store(path)
    store.images(size)  # raises an error before slow imports

    from skin_gan.metrics.features import extractor, second_extractor
    from skin_gan.metrics.reference import warm

    columns = (TextColumn("features of {task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn()) as bar:
        task = bar.add_task(store.name, total=None)

        def report(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        second = second_extractor(threads=threads)
        warm(store, size, cache, extractor(threads=threads), progress=report, second=second)


if __name__ == "__main__":
    sys.exit(main())
