"""A store: square uint8 images at one or more sizes, with a manifest of their classes and lesions.

    STORE/
        store.json        name, kind, classes, counts, unit, notes, fingerprint, source
        manifest.csv      one row per image: image_id, lesion_id, dx, group, sha256, the source's own columns
        images-32.npy     uint8 [N,32,32,3], rows in the manifest's order; one such file per size
        report.json       the ingest's findings: missing, extra, corrupt, ...; report.md for people

A store is written under a temporary name and then renamed. Opening one reads store.json and no image.
"""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skin_gan.data.splits import N_FOLDS, RECIPE, assign_folds, group_labels, split_parts
from skin_gan.errors import SkinGanError
from skin_gan.identity import content_hash
from skin_gan.pixels import pieces

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1  # of the files on disk
MIN_IMAGES, MIN_LESIONS = 10, 3  # a class with fewer in training cannot be trained on
ALL = "all"  # label of a training on all classes together
SOURCE = "dataset"  # the metadata's column that names the source of a photograph
COLUMNS = ("image_id", "lesion_id", "dx", "group", "sha256")


@dataclass(frozen=True)
class Part:
    """The images of one class in one part of the split."""

    images: NDArray[np.uint8]  # [N,3,H,W] in 0..255
    lesions: NDArray[np.str_]  # [N] group of each image
    image_ids: NDArray[np.str_]  # [N]
    weights: NDArray[np.float64] | None = None  # [N] relative frequency of drawing; None: uniform
    labels: NDArray[np.str_] | None = None  # [N] class of each image; None: all of the split's


@dataclass(frozen=True)
class ClassSplit:
    """The training and validation images of one training. It has no test images, on purpose."""

    label: str  # the class, or ALL
    size: int
    fold: int
    fingerprint: str  # of the data, the split's recipe and the fold
    unit: str  # the store's
    train: Part
    val: Part


@dataclass(frozen=True)
class Store:
    """An opened store. Manifest and images are read on first use."""

    path: Path
    name: str
    kind: str  # the layout of its source: ham10000, isic, folder, table, demo, ...
    classes: list[str]
    counts: dict[str, int]  # images per class
    lesions: dict[str, int]  # groups per class
    unit: str  # the unit of a split: "lesion", "patient", "image", or "group" if units are mixed
    partial: bool  # whether it has fewer images than the source's own list or the known release
    fingerprint: str  # of ids, groups, labels and image contents; not of path, sizes or row order
    notes: list[str] = field(default_factory=list)
    source: dict[str, Any] = field(default_factory=dict)  # path and settings of the ingest
    units: int = 0  # number of groups; a group of two classes counts once. 0 in stores of earlier versions
    format: int = FORMAT

    @property
    def sizes(self) -> list[int]:
        """The sizes of its images in pixels."""
        names = (p.stem.removeprefix("images-") for p in self.path.glob("images-*.npy"))
        return sorted(int(n) for n in names if n.isdigit())

    def recipe_words(self) -> str:
        """SOURCE and the options that this store was made with, quoted for a shell."""
        recipe = self.source.get("recipe", {})
        words = [str(self.source.get("path")), *recipe.get("columns", [])]
        words += ["--folders"] if recipe.get("folders") else []
        words += ["--classes", *recipe["classes"]] if recipe.get("classes") else []
        if any(recipe.get("background", [])):
            words += ["--background", f"#{bytes(recipe['background']).hex()}"]
        return shlex.join(words)

    @property
    def extent(self) -> str:
        """The numbers of images and units, such as "8491 images of 6349 lesions"."""
        images = f"{sum(self.counts.values())} images"
        units = self.units or sum(self.lesions.values())
        return images if self.unit == "image" else f"{images} of {units} {self.unit}s"

    @property
    def grouped_by(self) -> str:
        """The plural of the split's unit: "lesions", "patients" or "groups"."""
        return f"{self.unit}s" if self.unit in ("lesion", "patient") else "groups"

    @cached_property
    def manifest(self) -> pd.DataFrame:
        """One row per image, all columns text, in the order of `images`."""
        import pandas as pd

        file = self.path / "manifest.csv"
        try:
            frame = pd.read_csv(file, dtype=str, keep_default_na=False)
        except (OSError, ValueError) as e:
            raise _unreadable(self.path, f"manifest.csv: {e}") from e
        missing = [c for c in COLUMNS if c not in frame.columns]
        if missing or len(frame) != sum(self.counts.values()):
            raise _unreadable(self.path, f"manifest.csv has {len(frame)} rows, lacks columns {missing}")
        return frame

    def column(self, name: str) -> NDArray[np.str_]:
        """A column [N] of the manifest."""
        return self.manifest[name].to_numpy(dtype=str)  # type: ignore[no-any-return]

    def images(self, size: int) -> np.memmap:
        """The images at `size` pixels: read-only uint8 [N,size,size,3]. SkinGanError without that size."""
        if size not in self.sizes:
            have = ", ".join(map(str, self.sizes)) or "none"
            command = f"python -m skin_gan.data ingest {self.recipe_words()} --size {size} --out {self.path}"
            add = "data=demo draws what is missing" if self.kind == "demo" else f"add them with `{command}`"
            raise SkinGanError(f"store {self.path} has no images of size {size} (sizes there: {have}): {add}")
        try:
            images = np.load(image_file(self.path, size), mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as e:
            raise _unreadable(self.path, f"{image_file(self.path, size).name}: {e}") from e
        expected = (sum(self.counts.values()), size, size, 3)
        if images.shape != expected or images.dtype != np.uint8:
            raise _unreadable(
                self.path, f"images are {images.dtype} {images.shape}, expected uint8 {expected}"
            )
        return images

    def pixels(self, size: int, rows: NDArray[np.integer]) -> NDArray[np.uint8]:
        """The images at places `rows` [N] of the store: uint8 [N,3,size,size], read into memory.

        The file is mapped anew for each piece, so that pages do not count as this process's memory.
        """
        out = np.empty((len(rows), 3, size, size), np.uint8)
        for piece in pieces(out):
            out[piece] = self.images(size)[rows[piece]].transpose(0, 3, 1, 2)
        return out

    @cached_property
    def folds(self) -> NDArray[np.int64]:
        """The fold [N] of each image, 0 to 4; computed from the manifest."""
        return assign_folds(self.manifest["group"].tolist(), self.manifest["dx"].tolist())

    @cached_property
    def sources(self) -> list[str]:
        """The values of the column `dataset`, sorted: where photographs are from. Empty without it."""
        if SOURCE not in self.manifest.columns:
            return []
        return sorted({*self.column(SOURCE).tolist()} - {""})

    def parts(self, fold: int) -> NDArray[np.str_]:
        """The part of each image [N]: "train", "val" or "test".

        From `N_FOLDS` on a fold is a source: fold N_FOLDS + i is tested on the lesions of `sources[i]`, each
        with all its images, and a fifth of the others is for validation. SkinGanError without such a fold.
        """
        if fold < N_FOLDS:
            return split_parts(self.folds, fold)
        if fold - N_FOLDS >= len(self.sources):
            more = f", or a source: {N_FOLDS} to {N_FOLDS + len(self.sources) - 1}" if self.sources else ""
            raise SkinGanError(f"fold {fold}: expected 0 to {N_FOLDS - 1}{more}")
        groups = self.column("group")
        of_group = group_labels(groups.tolist(), self.column(SOURCE).tolist())
        held = np.array([of_group[group] == self.sources[fold - N_FOLDS] for group in groups])
        parts = np.full(len(groups), "test", dtype="<U5")
        others = assign_folds(groups[~held].tolist(), self.column("dx")[~held].tolist())
        parts[~held] = np.where(others == 0, "val", "train")
        return parts


def image_file(folder: Path, size: int) -> Path:
    """The file of a store's images at `size` pixels."""
    return folder / f"images-{size}.npy"


def open_store(path: Path | str) -> Store:
    """Open the store at `path`; SkinGanError if it is no store, is damaged or has another format."""
    path = Path(path)
    try:
        values = json.loads((path / "store.json").read_bytes())
        if values["format"] != FORMAT:
            raise _unreadable(path, f"format {values['format']}, this version reads {FORMAT}")
        return Store(path=path, **values)
    except (FileNotFoundError, NotADirectoryError) as e:
        raise SkinGanError(not_a_store(path)) from e
    except OSError as e:
        raise _unreadable(path, f"store.json: {e.strerror}") from e
    except (ValueError, KeyError, TypeError) as e:
        raise _unreadable(path, f"store.json: {e}") from e


def not_a_store(path: Path, sizes: Sequence[int] = ()) -> str:
    """An error text for a path that is no store: how to make one of it, or there."""
    place, wanted = shlex.quote(str(path)), " ".join(map(str, sizes)) or "32"
    try:
        has_content = path.is_file() or any(path.iterdir())
    except OSError:
        has_content = False
    if has_content:
        return (
            f"{path} is not a store (it has no store.json): if it holds images, make a store of them with "
            f"`python -m skin_gan.data ingest {place} --size {wanted}`, which says where that is"
        )
    return (
        f"{path} is not a store, there is no such folder or nothing in it: make one with "
        f"`python -m skin_gan.data ingest SOURCE --size {wanted} --out {place}`"
    )


def describe_rows(rows: Iterable[dict[str, str]], recipe: dict[str, Any]) -> dict[str, Any]:
    """The fields of store.json that follow from the manifest: classes, counts, lesions, fingerprint."""
    rows = list(rows)
    counts = Counter(r["dx"] for r in rows)
    lesions = Counter(label for label, _ in {(r["dx"], r["group"]) for r in rows})
    content = sorted([r["image_id"], r["group"], r["dx"], r["sha256"]] for r in rows)
    return {
        "classes": sorted(counts),
        "counts": {label: counts[label] for label in sorted(counts)},
        "lesions": {label: lesions[label] for label in sorted(counts)},
        "units": len({r["group"] for r in rows}),
        "fingerprint": content_hash({"rows": content, "recipe": recipe}, 16),
    }


def store_json(store: Store) -> str:
    """The text of store.json."""
    values = asdict(store)
    del values["path"]
    return json.dumps(values, indent=1) + "\n"


def fold_fingerprint(store: Store, fold: int) -> str:
    """A hash of the data and of its division into training, validation and test in this fold."""
    if fold >= N_FOLDS:
        recipe = {"data": store.fingerprint, "split": f"{RECIPE}, by source v1"}
        return content_hash({**recipe, "source": store.sources[fold - N_FOLDS]}, 16)
    return content_hash({"data": store.fingerprint, "split": RECIPE, "fold": fold}, 16)


def class_split(store: Store, label: str, size: int, fold: int) -> ClassSplit:
    """Training and validation images of one class; SkinGanError if it is unknown or too small."""
    if label not in store.classes:
        raise SkinGanError(
            f"store {store.name} has no class {label!r}: choose from {', '.join(store.classes)}"
        )
    of_class, parts = store.column("dx") == label, store.parts(fold)
    train = _part(store, size, of_class & (parts == "train"))
    val = _part(store, size, of_class & (parts == "val"))
    _require_enough(store, label, fold, train, val)
    return ClassSplit(label, size, fold, fold_fingerprint(store, fold), store.unit, train, val)


def all_split(store: Store, size: int, fold: int) -> ClassSplit:
    """Training and validation images of all classes together; class c is drawn in proportion to sqrt(n_c).

    So small classes are drawn more often than they occur, and less often than the large ones.
    """
    parts, labels = store.parts(fold), store.column("dx")

    def part(name: str) -> Part:
        own = labels[parts == name]
        counts = Counter(own)
        weights = np.array([counts[label] ** -0.5 for label in own])
        return replace(_part(store, size, parts == name), weights=weights, labels=own)

    return ClassSplit(ALL, size, fold, fold_fingerprint(store, fold), store.unit, part("train"), part("val"))


def _part(store: Store, size: int, rows: NDArray[np.bool_]) -> Part:
    """The images of a mask [N] of the store."""
    images = store.pixels(size, np.flatnonzero(rows))
    return Part(images, store.column("group")[rows], store.column("image_id")[rows])


def _require_enough(store: Store, label: str, fold: int, train: Part, val: Part) -> None:
    """SkinGanError if a class has too few images in training or validation."""
    n, lesions = len(train.images), len(set(train.lesions.tolist()))
    if n < MIN_IMAGES or lesions < MIN_LESIONS or len(val.images) == 0:
        raise SkinGanError(
            f"class {label!r} of store {store.name} is too small: fold {fold} leaves {n} training images of "
            f"{lesions} {store.unit}s and {len(val.images)} for validation; at least {MIN_IMAGES} of "
            f"{MIN_LESIONS} and 1 are needed. Leave the class out of `classes`, or add images"
        )


def _unreadable(path: Path, why: str) -> SkinGanError:
    return SkinGanError(f"store {path} is damaged or not readable ({why}): remove it and ingest again")
