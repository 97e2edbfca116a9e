"""SOURCE in, store out: scan, list, decode on all cores, group, check, write."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from skin_gan.cores import cores
from skin_gan.data import folder, ham10000, isic
from skin_gan.data.build import add_sizes, building, manifest_csv, write_images
from skin_gan.data.decode import RECIPE, Damage, Decoded, decode
from skin_gan.data.duplicates import join_duplicates, mixed_groups
from skin_gan.data.files import READ_ERRORS, File, scan, signature
from skin_gan.data.listing import LAYOUTS, Findings, Listing, Record
from skin_gan.data.report import report_json, report_md, saved_findings
from skin_gan.data.store import COLUMNS, Store, describe_rows, open_store, store_json
from skin_gan.errors import SkinGanError

BATCH = 512  # images decoded ahead of the writer: bounds the memory
CHUNK = 16  # images that a worker is given at a time
MANY = 1000  # images: below that starting workers costs more than it saves
SIGNALS = (signal.SIGINT, signal.SIGTERM)
Images = dict[int, NDArray[np.uint8]]


@dataclass(frozen=True)
class Options:
    """How to ingest. `classes` empty means all; `workers` 0 means one process per core."""

    sizes: list[int]
    classes: list[str] = field(default_factory=list)
    background: tuple[int, int, int] = (0, 0, 0)
    strict: bool = False
    workers: int = 0

    def recipe(self) -> dict[str, Any]:
        """What of this decides the images and the manifest, besides the source."""
        return {**RECIPE, "background": list(self.background), "classes": sorted(self.classes)}


def ingest(source: Path, out: Path, options: Options) -> tuple[Store, str]:
    """Make, complete or recognise the store at `out`; returns it with one line on what was done.

    A folder that holds anything else, or a store of another source, is a SkinGanError and stays as it is.
    """
    files = scan(source)
    origin = {"path": str(source.resolve()), "signature": signature(files), "recipe": options.recipe()}
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        return _again(files, out, origin, options)
    listing = read_layout(source, files, options.classes)
    with building(out) as new:
        run = Run(listing, options)
        write_images(new, options.sizes, run.images(options.sizes))
        store = _describe(run, out, origin)
        if options.strict:
            _require_clean(run.findings, source)
        (new / "manifest.csv").write_text(manifest_csv(run.rows), encoding="utf-8")
        (new / "report.md").write_text(
            report_md(store, run.findings, run.rows, listing.release), encoding="utf-8"
        )
        (new / "report.json").write_text(report_json(run.findings, store.notes, listing.release))
        (new / "store.json").write_text(store_json(store))
    return open_store(out), f"stored {len(run.rows)} images at {_sizes(options.sizes)}"


def read_layout(source: Path, files: Sequence[File], classes: Sequence[str]) -> Listing:
    """The listing of whichever layout SOURCE has; an unknown one is an error that names those there are."""
    listing = ham10000.read(files, classes) or isic.read(files, classes)
    listing = listing or folder.read(files, classes, source.resolve().stem)
    nested = [str(f.path) for f in files if f.path.suffix.lower() == ".zip"]
    hint = f"; it holds a zip inside a zip ({nested[0]}): unpack the outer one" if nested else ""
    if listing is None:
        raise SkinGanError(f"SOURCE {source} has no layout that is known: expected {LAYOUTS}{hint}")
    if not listing.records:
        raise SkinGanError(
            f"SOURCE {source}: none of the images that its metadata names is there "
            f"({listing.findings.summary()}): give the folder that holds metadata and images{hint}"
        )
    bad = [label for label in {r.dx for r in listing.records} if not _is_folder_name(label)]
    if bad:
        raise SkinGanError(
            f"SOURCE {source}: {bad[0]!r} cannot be a class, since classes name folders: rename it"
        )
    return listing


@dataclass
class Run:
    """One pass over the source: decodes, and gathers the manifest's rows and what was found on the way."""

    listing: Listing
    options: Options
    rows: list[dict[str, str]] = field(default_factory=list)
    transparent: int = 0
    smallest: int = 1 << 30  # pixels across
    _content: list[str] = field(default_factory=list)

    @property
    def findings(self) -> Findings:
        return self.listing.findings

    def images(self, sizes: list[int]) -> Iterator[Images]:
        """Each readable image at every size, in the order of its id; `rows` are complete when it ends."""
        records = sorted(self.listing.records, key=lambda r: r.image_id)
        for record, decoded in _decode_all(records, sizes, self.options):
            if isinstance(decoded, Damage):
                getattr(self.findings, decoded.kind).append(
                    f"{record.image_id}: {record.file.path}: {decoded.why}"
                )
                continue
            self.rows.append(_row(record, decoded))
            self._content.append(decoded.content)
            self.transparent += decoded.transparent
            self.smallest = min(self.smallest, decoded.side)
            yield decoded.images
        if not self.rows:
            bad = self.findings.corrupt + self.findings.truncated + self.findings.non_image
            raise SkinGanError(f"none of the {len(records)} images can be read, the first is {bad[0]}")
        self.findings.duplicate += join_duplicates(self.rows, self._content)


def _again(files: Sequence[File], out: Path, origin: dict[str, Any], options: Options) -> tuple[Store, str]:
    """`out` is there already: nothing to do, sizes to add, or not ours to touch."""
    if not (out / "store.json").exists():
        raise SkinGanError(
            f"{out} is there already and is no store: choose another --out, or remove it first"
        )
    store = open_store(out)
    if store.source | {"path": ""} != origin | {"path": ""}:
        raise SkinGanError(
            f"{out} already holds a store of another source, or made with other options "
            f"({store.source.get('path')}): choose another --out, or remove it first"
        )
    if options.strict:
        _require_clean(saved_findings(out), Path(origin["path"]))
    missing = [size for size in options.sizes if size not in store.sizes]
    if not missing:
        return store, f"nothing to do: {out} already holds this source at {_sizes(options.sizes)}"
    listing = read_layout(Path(origin["path"]), files, options.classes)
    add_sizes(out, missing, _same_images(store, Run(listing, options), missing))
    return open_store(out), f"added {_sizes(missing)} to {out}"


def _same_images(store: Store, run: Run, sizes: list[int]) -> Iterator[Images]:
    """The source's images at further sizes, as long as they are those of the store's manifest."""
    yield from run.images(sizes)
    if [r["sha256"] for r in run.rows] != store.manifest["sha256"].tolist():
        raise SkinGanError(
            f"the source of {store.path} is being changed: wait, and ingest it to another --out"
        )


def _decode_all(
    records: Sequence[Record], sizes: list[int], options: Options
) -> Iterator[tuple[Record, Decoded | Damage]]:
    """Decode in processes (Pillow reads a JPEG with the interpreter's lock held); results in order."""
    work = partial(_decode_one, sizes=sizes, background=options.background)
    columns = (TextColumn("reading images"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    workers = options.workers or (cores() if len(records) >= MANY else 1)
    with ExitStack() as stack:
        run: Callable[..., Iterable[Decoded | Damage]] = map
        if workers > 1:
            pool = ProcessPoolExecutor(workers, get_context("spawn"), _attend, (os.getpid(),))
            stack.callback(pool.shutdown, cancel_futures=True)
            with _uninterrupted():
                list(pool.map(abs, range(workers)))  # all have started
            run = partial(pool.map, chunksize=CHUNK)
        progress = stack.enter_context(Progress(*columns, console=Console(stderr=True), transient=True))
        task = progress.add_task("", total=len(records))
        for start in range(0, len(records), BATCH):
            batch = records[start : start + BATCH]
            yield from zip(batch, run(work, batch), strict=True)
            progress.advance(task, len(batch))


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Signals wait until the block has ended: a worker whose start is cut short would complain at length."""
    came: list[int] = []
    before = {n: signal.signal(n, lambda number, _: came.append(number)) for n in SIGNALS}
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # for the workers, which inherit it
    try:
        yield
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        for number in came[:1]:
            signal.raise_signal(number)


def _attend(parent: int) -> None:
    """In a worker: leave Ctrl-C to the parent, and end when that has ended, however it did."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _decode_one(record: Record, sizes: list[int], background: tuple[int, int, int]) -> Decoded | Damage:
    try:
        data = record.file.read()
    except READ_ERRORS as e:
        return Damage("corrupt", f"cannot be read: {e}")
    try:
        return decode(data, sizes, background)
    except SkinGanError as e:
        raise SkinGanError(f"{record.file.path} {e}; remove it from the source") from e


def _row(record: Record, decoded: Decoded) -> dict[str, str]:
    extra = {(f"source_{k}" if k in COLUMNS else k): v for k, v in record.extra.items()}
    return {
        "image_id": record.image_id,
        "lesion_id": record.lesion_id,
        "dx": record.dx,
        "group": record.lesion_id or record.image_id,
        "sha256": decoded.sha256,
        **extra,
    }


def _describe(run: Run, out: Path, origin: dict[str, Any]) -> Store:
    known = sum(bool(r["lesion_id"]) for r in run.rows)
    values = describe_rows(run.rows, RECIPE | {"background": list(run.options.background)})
    short = {c: n - values["counts"].get(c, 0) for c, n in run.listing.release.items()}
    lost = run.findings.missing or run.findings.corrupt or run.findings.truncated
    return Store(
        path=out,
        name=run.listing.name,
        kind=run.listing.kind,
        unit="lesion" if known == len(run.rows) else "image",
        partial=bool(lost) or any(n > 0 for n in short.values()),
        notes=[*run.listing.notes, *_notes(run, known, short)],
        source=origin,
        **values,
    )


def _notes(run: Run, known: int, short: dict[str, int]) -> list[str]:
    """What everyone who uses the store should know."""
    found, groups = run.findings.summary(), mixed_groups(run.rows)
    fewer = ", ".join(f"{label} {n}" for label, n in short.items() if n > 0)
    some = f"known for {known} of {len(run.rows)} images only" if known else "not known"
    unknown = "the unit is the image, and photographs of one lesion may lie in several parts"
    colour = bytes(run.options.background).hex()
    notes = [
        (fewer, f"fewer images than the release: {fewer}"),
        (found, f"found {found}"),
        (known < len(run.rows), f"lesions are {some}: {unknown}"),
        (run.transparent, f"{run.transparent} images with transparency were composited on #{colour}"),
        (True, f"the smallest image is {run.smallest} pixels across: above that size some are enlarged"),
        (run.options.classes, f"only these classes were asked for: {', '.join(run.options.classes)}"),
        (groups, f"{len(groups)} groups of two classes, each kept together: {', '.join(groups[:5])}"),
    ]
    return [note for applies, note in notes if applies]


def _require_clean(findings: Findings, source: Path) -> None:
    if findings.summary():
        raise SkinGanError(
            f"--strict: {source} has {findings.summary()}; the first is {findings.first()}. Without "
            "--strict they are reported, and what can be read is stored"
        )


def _is_folder_name(label: str) -> bool:
    return bool(label) and not label.startswith((".", "-")) and not set(label) & set("/\\\0\n")


def _sizes(sizes: Sequence[int]) -> str:
    return ", ".join(f"{s}x{s}" for s in sizes)
