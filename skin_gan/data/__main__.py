"""`python -m skin_gan.data`: makes a store from images, and shows stores."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from skin_gan.errors import SkinGanError
from skin_gan.installation import results

if TYPE_CHECKING:
    from skin_gan.data.own import Columns

EXAMPLES = """\
examples:
  python -m skin_gan.data ingest ~/HAM10000 --size 32 64 --out results/stores/ham10000
      ~/HAM10000 holds HAM10000_images_part_1.zip, HAM10000_images_part_2.zip and HAM10000_metadata.csv
      (https://doi.org/10.7910/DVN/DBW86T); the zips are read as they are.
  python -m skin_gan.data ingest ~/clinic --table ~/clinic/cases.csv --id file --label diagnosis \\
          --group lesion,patient --size 64
      own images and a table of them; what shares a lesion or a patient stays in one part of the split.
      Ids may have extensions and folders, or not.
  python -m skin_gan.data ingest ~/sorted --table cases.csv --id file --group patient --size 64
      one folder per class, and a table that says whose lesion each image shows.
  python -m skin_gan.data ingest sprites.zip --size 32 --background white
      a zip (or folder) with one folder per class; the store goes to results/stores/sprites.
  python -m skin_gan.data show results/stores/ham10000
"""
LAYOUTS = """\
understood without options: HAM10000, ISIC challenges 2016 to 2020, ISIC Archive (isic-cli), BCN20000,
PAD-UFES-20, MedMNIST's .npz, and one folder per class. Tables may be UTF-8, UTF-16 or cp1252, with comma,
semicolon or tab. NA, nan, None, null and empty cells mean "not known".

"""


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns its exit code: 0, 2 for a SkinGanError, 130 when interrupted."""
    options = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clean up as after Ctrl-C
    warnings.filterwarnings("ignore", module="PIL")  # the report lists damaged images
    try:
        return int(options.run(options))
    except SkinGanError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("interrupted: no half store was left, the same command starts again", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m skin_gan.data",
        description="Turn a data set of images into a store, and show what a store holds.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    make = commands.add_parser(
        "ingest",
        help="make a store from images, or add a size to one",
        description=(
            "Read images out of folders or zips, check them against their metadata, crop the centre square, "
            "reduce, and write a store. The same source again is recognised; further sizes are added to it."
        ),
        epilog=LAYOUTS + EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    make.add_argument(
        "source",
        type=Path,
        metavar="SOURCE",
        help="a folder or zip of a known data set, of class folders, or of any images that --table describes",
    )
    size = _number(4, 1024, "a number of pixels")
    make.add_argument("--size", type=size, nargs="+", required=True, metavar="PIXELS", help="e.g. 32 64")
    make.add_argument(
        "--out", type=Path, metavar="STORE", help="default: results/stores/NAME in the checkout"
    )
    make.add_argument(
        "--strict", action="store_true", help="anything missing, extra, damaged or double is an error"
    )
    own = make.add_argument_group("own data, or a table that is not understood by itself")
    own.add_argument("--table", default="", metavar="FILE", help="a table of the images, in SOURCE or not")
    own.add_argument("--id", default="", metavar="COLUMN", help="its column that names the images")
    own.add_argument(
        "--label",
        default="",
        metavar="COLUMN",
        help="its column of classes, or several of 0 and 1 with commas; else folders are the classes",
    )
    own.add_argument(
        "--group",
        default="",
        metavar="COLUMN[,COLUMN]",
        help="its columns that name lesion or patient: images that share one stay in one part of the split "
        "(default: the columns called lesion_id, patient_id and the like)",
    )
    own.add_argument("--folders", action="store_true", help="folders are the classes, whatever their names")
    make.add_argument("--classes", nargs="+", default=[], metavar="CLASS", help="only these classes")
    make.add_argument(
        "--background",
        type=_colour,
        default=(0, 0, 0),
        metavar="COLOUR",
        help="what shows through transparent pixels: black (default), white or #rrggbb",
    )
    workers = _number(1, 256, "a number")
    make.add_argument(
        "--workers", type=workers, default=0, metavar="N", help="processes (default: one per core)"
    )
    make.set_defaults(run=_ingest)
    show = commands.add_parser("show", help="counts, lesions per part of the split, notes")
    show.add_argument("store", type=Path, metavar="STORE")
    show.add_argument("--fold", type=int, choices=range(5), default=0, help="which fold is test (default 0)")
    show.set_defaults(run=_show)
    return parser


def _ingest(options: argparse.Namespace) -> int:
    from skin_gan.data.ingest import Options, ingest

    out = options.out or default_out(options.source)
    settings = Options(
        sizes=sorted(set(options.size)),
        classes=options.classes,
        background=options.background,
        strict=options.strict,
        workers=options.workers,
        columns=_columns(options),
        folders=options.folders,
    )
    store, done = ingest(options.source, out, settings)
    print(f"{done}\n{_summary(out)}\nuse it with data={store.path}")
    return 0


def _columns(options: argparse.Namespace) -> Columns:
    """The options that describe a table; SkinGanError if some are missing or contradict one another."""
    from skin_gan.data.own import Columns

    group = tuple(word.strip() for word in options.group.split(",") if word.strip())
    if options.table and not options.id:
        raise SkinGanError("--table needs --id COLUMN, its column that names the images")
    if not options.table and (options.id or options.label or group):
        raise SkinGanError("--id, --label and --group name columns of a table: give it with --table FILE")
    if options.folders and options.label:
        raise SkinGanError("--folders and --label both say what the classes are: give one of them")
    return Columns(options.table, options.id, options.label, group)


def default_out(source: Path) -> Path:
    """A store's default folder, where `data=auto` looks."""
    name = re.sub(r"[^\w]+", "-", source.resolve().stem.lower()).strip("-")
    return results() / "stores" / (name or "store")


def _show(options: argparse.Namespace) -> int:
    from skin_gan.data.report import split_table
    from skin_gan.data.store import open_store

    store = open_store(options.store)
    print(_summary(options.store))
    rows = store.manifest[["dx", "group"]].to_dict("records")
    print("\n".join(split_table(rows, store.grouped_by, options.fold)))
    return 0


def _summary(path: Path) -> str:
    """A few lines on a store: its size, counts and notes."""
    from skin_gan.data.store import open_store

    store = open_store(path)
    state = "PARTIAL" if store.partial else "complete"
    head = (
        f"{store.name} ({store.kind}, {state}): {store.extent}, sizes {', '.join(map(str, store.sizes))}, "
        f"fingerprint {store.fingerprint}"
    )
    counts = ", ".join(f"{label} {n}/{store.lesions[label]}" for label, n in store.counts.items())
    report = path / "report.md"
    details = [f"report: {report}"] if report.exists() else []
    return "\n".join(
        [head, f"images/{store.grouped_by}: {counts}", *(f"note: {n}" for n in store.notes), *details]
    )


def _number(least: int, most: int, meaning: str) -> Callable[[str], int]:
    """A parser of whole numbers in a range, for argparse."""

    def parse(text: str) -> int:
        if not text.isdigit() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r}: expected {meaning} from {least} to {most}")
        return int(text)

    return parse


def _colour(text: str) -> tuple[int, int, int]:
    """Red, green and blue, 0..255, of a colour's name or #rrggbb."""
    value = {"black": "#000000", "white": "#ffffff"}.get(text.lower(), text)
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", value):
        raise argparse.ArgumentTypeError(f"{text!r}: expected black, white or #rrggbb")
    return int(value[1:3], 16), int(value[3:5], 16), int(value[5:7], 16)


if __name__ == "__main__":
    sys.exit(main())
