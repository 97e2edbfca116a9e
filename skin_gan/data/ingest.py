"""Makes a store from SOURCE: scan, read the layout, decode on all cores, group, check, write."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from skin_gan.cores import cores
from skin_gan.data import folder, layouts, own
from skin_gan.data.build import add_sizes, building, explained, manifest_csv, write_images
from skin_gan.data.decode import RECIPE, Damage, Decoded, decode
from skin_gan.data.duplicates import join_duplicates, mixed_groups
from skin_gan.data.files import READ_ERRORS, File, scan, signature
from skin_gan.data.layout import Layout
from skin_gan.data.listing import Findings, Listing, Record
from skin_gan.data.photographs import looks_like_mask, photographs
from skin_gan.data.report import report_json, report_md, saved_findings
from skin_gan.data.source import Source, nested_hint
from skin_gan.data.store import COLUMNS, Store, describe_rows, open_store, store_json
from skin_gan.data.tables import read_tables
from skin_gan.data.units import unit_note, unit_of
from skin_gan.errors import SkinGanError

BATCH = 512  # images decoded ahead of the writer: bounds the memory
CHUNK = 16  # images per task of a worker
MANY = 1000  # images above which starting workers saves time
SIGNALS = (signal.SIGINT, signal.SIGTERM)
Images = dict[int, NDArray[np.uint8]]


@dataclass(frozen=True)
class Options:
    """Options of an ingest. `classes` empty means all; `workers` 0 means one process per core."""

    sizes: list[int]
    classes: list[str] = field(default_factory=list)
    background: tuple[int, int, int] = (0, 0, 0)
    strict: bool = False
    workers: int = 0
    columns: own.Columns = field(default_factory=own.Columns)  # of a table that the user names
    folders: bool = False  # folders are the classes, whatever their names and whatever tables there are

    def recipe(self) -> dict[str, Any]:
        """The options that determine the images and the manifest of a source."""
        own = {"columns": self.columns.words(), "folders": self.folders}
        return {
            **RECIPE,
            "background": list(self.background),
            "classes": sorted(self.classes),
            **{name: value for name, value in own.items() if value},  # left out where not used
        }


def ingest(source: Path, out: Path, options: Options) -> tuple[Store, str]:
    """Make the store at `out`, add sizes to it, or recognise it; returns it with one line on what was done.

    Raises SkinGanError, and changes nothing, if `out` holds anything else or a store of another source.
    """
    source = source.expanduser()
    files, table, options = _files(source, options)
    origin = {"path": str(source.resolve()), "signature": signature(files), "recipe": options.recipe()}
    with explained(out):
        exists = out.exists() and not (out.is_dir() and not any(out.iterdir()))
    if exists:
        return _extend(files, table, out, origin, options)
    listing = read_layout(source, files, table, options)
    with building(out) as new:
        run = Run(listing, options)
        write_images(new, options.sizes, run.images(options.sizes))
        store = _describe(run, out, origin)
        if options.strict:
            _require_clean(run.findings, source)
        (new / "manifest.csv").write_text(manifest_csv(run.rows), encoding="utf-8")
        report = report_md(store, run.findings, run.rows, listing.release)
        (new / "report.md").write_text(report, encoding="utf-8")
        (new / "report.json").write_text(report_json(run.findings, store.notes, listing.release))
        (new / "store.json").write_text(store_json(store))
    return open_store(out), f"stored {len(run.rows)} images at {_sizes(options.sizes)}"


def _files(source: Path, options: Options) -> tuple[list[File], File | None, Options]:
    """All files of SOURCE, the table that the user names, and the options with the table's full path.

    The table need not be in SOURCE.
    """
    files = scan(source)
    if not options.columns.table:
        return files, None, options
    table, inside = own.table_file(options.columns, source, files)
    path = str(table.path if inside or table.disk is None else table.disk.resolve())
    columns = replace(options.columns, table=path)
    return files if inside else [*files, table], table, replace(options, columns=columns)


def read_layout(source: Path, files: Sequence[File], table: File | None, options: Options) -> Listing:
    """The listing of SOURCE in its layout; SkinGanError that lists the known layouts if it has none."""
    try:
        return _listing(source, files, table, options)
    except SkinGanError as e:
        raise SkinGanError(f"SOURCE {source}: {e}") from e


def _listing(path: Path, files: Sequence[File], table: File | None, options: Options) -> Listing:
    tables = read_tables(f for f in files if f.is_table or f.is_spreadsheet or _named_as_table(f))
    images = photographs(files, by_folder=not options.folders or bool(table and options.columns.label))
    source = Source(folder.slug(path.resolve().stem), files, images, tables, options.classes)
    if table is not None and options.columns.label:
        listing = own.find(source, options.columns, table)
    elif options.folders or table is not None:
        listing = _class_folders(source, any_name=options.folders)
        for other in tables.read:
            tables.unused.setdefault(other.name, "the folders are the classes")
        listing = own.add_units(listing, source, options.columns, table) if table else listing
    else:
        listing = layouts.find(source) or _unless_labelled(source)
    listing.notes[1:1] = source.images.notes
    listing.notes += [f"table {name} is not used: {why}" for name, why in sorted(tables.unused.items())]
    for label in {r.dx for r in listing.records}:
        if not label or label.startswith((".", "-")) or set(label) & set("/\\\0\n"):
            raise SkinGanError(f"{label!r} cannot be a class, since classes name folders: rename it")
    return listing


def _named_as_table(file: File) -> bool:
    """Whether a file without a table's suffix has the name of a layout's table, as HAM10000_metadata."""
    return any(
        layout.has_name(file)
        for layout in layouts.registry()
        if isinstance(layout, Layout) and not file.is_image and file.path.suffix.lower() != ".zip"
    )


def _unless_labelled(source: Source) -> Listing:
    """The listing of class folders; SkinGanError if a table seems to be meant as labels."""
    if reasons := layouts.reasons(source):
        some = "; ".join(f"{name} {why}" for name, why in list(reasons.items())[:3])
        raise SkinGanError(
            f"no table gives the classes: {some}. With --folders the names of folders are the classes"
        )
    if lacking := layouts.lacking_table(source):
        raise SkinGanError(lacking)
    for table in source.tables.read:
        source.tables.unused.setdefault(table.name, "no column names an image that is here")
    return _class_folders(source, any_name=False)


def _class_folders(source: Source, any_name: bool) -> Listing:
    listing = folder.read(source, any_name)
    if listing is None:
        titles = ", ".join(layout.title for layout in layouts.registry())
        raise SkinGanError(
            "has no layout that is known: expected one folder per class, a table given with --table, or one "
            f"of {titles}{nested_hint(source)}"
        )
    return listing


@dataclass
class Run:
    """One pass over the source: decodes its images and collects the manifest's rows and findings."""

    listing: Listing
    options: Options
    rows: list[dict[str, str]] = field(default_factory=list)
    transparent: int = 0
    smallest: int = 1 << 30  # pixels across
    masks: int = 0  # images that look like masks
    units: list[str] = field(default_factory=list)  # the widest known unit of each row
    _content: list[str] = field(default_factory=list)  # hash of each row's picture

    @property
    def findings(self) -> Findings:
        return self.listing.findings

    def images(self, sizes: list[int]) -> Iterator[Images]:
        """Each readable image at every size, in the order of ids; `rows` is complete at the end."""
        records = sorted(self.listing.records, key=lambda r: r.image_id)
        for record, decoded in _decode_all(records, sizes, self.options):
            if isinstance(decoded, Damage):
                damaged: list[str] = getattr(self.findings, decoded.kind)
                damaged.append(f"{record.image_id}: {record.file.path}: {decoded.why}")
                continue
            self.rows.append(_row(record, decoded))
            self.units.append(record.unit)
            self.masks += looks_like_mask(decoded.images[min(decoded.images)])
            self._content.append(decoded.content)
            self.transparent += decoded.transparent
            self.smallest = min(self.smallest, decoded.side)
            yield decoded.images
        if not self.rows:
            bad = self.findings.corrupt + self.findings.truncated + self.findings.non_image
            raise SkinGanError(f"none of the {len(records)} images can be read, the first is {bad[0]}")
        self.findings.duplicate += join_duplicates(self.rows, self._content)


def _extend(
    files: Sequence[File], table: File | None, out: Path, origin: dict[str, Any], options: Options
) -> tuple[Store, str]:
    """Add missing sizes to the existing store `out`; SkinGanError if it is not a store of this source."""
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
    listing = read_layout(Path(origin["path"]), files, table, options)
    add_sizes(out, missing, _same_images(store, Run(listing, options), missing))
    return open_store(out), f"added {_sizes(missing)} to {out}"


def _same_images(store: Store, run: Run, sizes: list[int]) -> Iterator[Images]:
    """The source's images at further sizes; SkinGanError if they are not those of the store."""
    yield from run.images(sizes)
    if [r["sha256"] for r in run.rows] != store.manifest["sha256"].tolist():
        raise SkinGanError(
            f"the source of {store.path} is being changed: wait, and ingest it to another --out"
        )


def _decode_all(
    records: Sequence[Record], sizes: list[int], options: Options
) -> Iterator[tuple[Record, Decoded | Damage]]:
    """Decode in parallel processes, since Pillow reads JPEGs with the GIL held; results are in order."""
    work = partial(_decode_one, sizes=sizes, background=options.background)
    columns = (TextColumn("reading images"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    workers = options.workers or (cores() if len(records) >= MANY else 1)
    with ExitStack() as stack:
        run: Callable[..., Iterable[Decoded | Damage]] = map
        if workers > 1:
            pool = ProcessPoolExecutor(workers, get_context("spawn"), _prepare_worker, (os.getpid(),))
            stack.callback(pool.shutdown, cancel_futures=True)
            with _uninterrupted():
                list(pool.map(abs, range(workers)))  # returns when all workers have started
            run = partial(pool.map, chunksize=CHUNK)
        progress = stack.enter_context(Progress(*columns, console=Console(stderr=True), transient=True))
        task = progress.add_task("", total=len(records))
        for start in range(0, len(records), BATCH):
            batch = records[start : start + BATCH]
            yield from zip(batch, run(work, batch), strict=True)
            progress.advance(task, len(batch))


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Delay signals to the end of the block: an interrupted start of a worker prints long tracebacks."""
    received: list[int] = []
    before = {n: signal.signal(n, lambda number, _: received.append(number)) for n in SIGNALS}
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # inherited by the workers
    try:
        yield
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        for number in received[:1]:
            signal.raise_signal(number)


def _prepare_worker(parent: int) -> None:
    """In a worker: ignore Ctrl-C, which the parent handles, and exit when the parent has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _decode_one(record: Record, sizes: list[int], background: tuple[int, int, int]) -> Decoded | Damage:
    """Read and decode one image."""
    try:
        data = record.file.read()
    except READ_ERRORS as e:
        return Damage("corrupt", f"cannot be read: {e}")
    try:
        return decode(data, sizes, background)
    except SkinGanError as e:
        raise SkinGanError(f"{record.file.path} {e}; remove it from the source") from e


def _row(record: Record, decoded: Decoded) -> dict[str, str]:
    """The image's row of manifest.csv."""
    extra = {(f"source_{k}" if k in COLUMNS else k): v for k, v in record.extra.items()}
    return {
        "image_id": record.image_id,
        "lesion_id": record.lesion_id,
        "dx": record.dx,
        "group": record.group,
        "sha256": decoded.sha256,
        **extra,
    }


def _describe(run: Run, out: Path, origin: dict[str, Any]) -> Store:
    """The store that a finished run makes."""
    values = describe_rows(run.rows, RECIPE | {"background": list(run.options.background)})
    short = {c: n - values["counts"].get(c, 0) for c, n in run.listing.release.items()}
    lost = run.findings.missing or run.findings.corrupt or run.findings.truncated
    return Store(
        path=out,
        name=run.listing.name,
        kind=run.listing.kind,
        unit=unit_of(run.units),
        partial=bool(lost) or any(n > 0 for n in short.values()),
        notes=[*run.listing.notes, *_notes(run, short)],
        source=origin,
        **values,
    )


def _notes(run: Run, short: dict[str, int]) -> list[str]:
    """Notes for every user of the store."""
    found, groups, n = run.findings.summary(), mixed_groups(run.rows), len(run.rows)
    fewer = ", ".join(f"{label} {n}" for label, n in short.items() if n > 0)
    lesions = sum(bool(r["lesion_id"]) for r in run.rows)
    colour = bytes(run.options.background).hex()
    notes = [
        (fewer, f"fewer images than the release: {fewer}"),
        (found, f"found {found}"),
        (True, unit_note(run.units, lesions)),
        (run.masks, f"{run.masks} of {n} images have two tones and no colour, as masks of lesions do"),
        (run.transparent, f"{run.transparent} images with transparency were composited on #{colour}"),
        (True, f"the smallest image is {run.smallest} pixels across: above that size some are enlarged"),
        (run.options.classes, f"only these classes were asked for: {', '.join(run.options.classes)}"),
        (groups, f"{len(groups)} groups of two classes, each kept together: {', '.join(groups[:5])}"),
    ]
    return [note for applies, note in notes if applies]


def _require_clean(findings: Findings, source: Path) -> None:
    """SkinGanError if there are findings: the check of --strict."""
    if findings.summary():
        raise SkinGanError(
            f"--strict: {source} has {findings.summary()}; the first is {findings.first()}. Without "
            "--strict they are reported, and what can be read is stored"
        )


def _sizes(sizes: Sequence[int]) -> str:
    return ", ".join(f"{s}x{s}" for s in sizes)
