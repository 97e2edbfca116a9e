"""A store: square uint8 images at one or more sizes, and a manifest of what each of them is.

    STORE/
        store.json        name, kind, classes, counts, unit, notes, fingerprint, where it came from
        manifest.csv      one row per image: image_id, lesion_id, dx, group, sha256, the source's own columns
        images-32.npy     uint8 [N,32,32,3], rows in the manifest's order; one such file per size
        report.json       what the ingest found missing, extra, corrupt, ...; report.md is it for reading

A store is written under another name and renamed when whole. Opening one reads store.json and no image.
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

from skin_gan.data.splits import N_FOLDS, RECIPE, assign_folds, split_parts
from skin_gan.errors import SkinGanError
from skin_gan.identity import content_hash
from skin_gan.pixels import pieces

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1  # of the files on disk
MIN_IMAGES, MIN_LESIONS = 10, 3  # below these a class cannot be trained on
ALL = "all"  # the label of a training on the images of every class
COLUMNS = ("image_id", "lesion_id", "dx", "group", "sha256")


@dataclass(frozen=True)
class Part:
    """The images of one class in one part of the split."""

    images: NDArray[np.uint8]  # [N,3,H,W] in 0..255
    lesions: NDArray[np.str_]  # [N] group of each image
    image_ids: NDArray[np.str_]  # [N]
    weights: NDArray[np.float64] | None = None  # [N] how often each is drawn, relatively; None: equally


@dataclass(frozen=True)
class ClassSplit:
    """What one training may see. The test fold is on purpose not here."""

    label: str  # the class, or ALL
    size: int
    fold: int
    fingerprint: str  # of the data, the split's recipe and the fold
    unit: str  # what was kept together: the store's
    train: Part
    val: Part


@dataclass(frozen=True)
class Store:
    """An opened store. Nothing but store.json has been read until images or manifest are asked for."""

    path: Path
    name: str
    kind: str  # the layout it was read from: ham10000, isic, folder, table, demo, ...
    classes: list[str]
    counts: dict[str, int]  # images per class
    lesions: dict[str, int]  # groups per class
    unit: str  # what a split keeps together: "lesion", "patient", "image", or "group" where some are known
    partial: bool  # fewer images than the source's own list or the known release
    fingerprint: str  # of ids, groups, labels and image contents; not of path, sizes or row order
    notes: list[str] = field(default_factory=list)
    source: dict[str, Any] = field(default_factory=dict)  # path and settings of the ingest
    units: int = 0  # groups in all: one of two classes counts once; 0 in stores of earlier versions
    format: int = FORMAT

    @property
    def sizes(self) -> list[int]:
        """Sizes of image, in pixels, that the store holds now."""
        names = (p.stem.removeprefix("images-") for p in self.path.glob("images-*.npy"))
        return sorted(int(n) for n in names if n.isdigit())

    def recipe_words(self) -> str:
        """SOURCE and the options that this store was made with, as a shell takes them."""
        recipe = self.source.get("recipe", {})
        words = [str(self.source.get("path")), *recipe.get("columns", [])]
        words += ["--folders"] if recipe.get("folders") else []
        words += ["--classes", *recipe["classes"]] if recipe.get("classes") else []
        if any(recipe.get("background", [])):
            words += ["--background", f"#{bytes(recipe['background']).hex()}"]
        return shlex.join(words)

    @property
    def extent(self) -> str:
        """Such as "8491 images of 6349 lesions"."""
        images = f"{sum(self.counts.values())} images"
        units = self.units or sum(self.lesions.values())
        return images if self.unit == "image" else f"{images} of {units} {self.unit}s"

    @property
    def grouped_by(self) -> str:
        """What the groups of the split are called: "lesions", "patients" or "groups"."""
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

    def images(self, size: int) -> np.memmap:
        """The images at `size` pixels: read-only uint8 [N,size,size,3]."""
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

        Each piece maps the file anew: pages that were read stay in the system's cache, not in this process.
        """
        out = np.empty((len(rows), 3, size, size), np.uint8)
        for piece in pieces(out):
            out[piece] = self.images(size)[rows[piece]].transpose(0, 3, 1, 2)
        return out

    @cached_property
    def folds(self) -> NDArray[np.int64]:
        """The fold, 0 to 4, of every image; computed from the manifest, never stored."""
        return assign_folds(self.manifest["group"].tolist(), self.manifest["dx"].tolist())


def image_file(folder: Path, size: int) -> Path:
    return folder / f"images-{size}.npy"


def open_store(path: Path | str) -> Store:
    """Open the store at `path`; a folder that is none, or one of another format, is a SkinGanError."""
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
    """What to do about a path that leads to no store: it may lead to the images of one."""
    place, wanted = shlex.quote(str(path)), " ".join(map(str, sizes)) or "32"
    try:
        something = path.is_file() or any(path.iterdir())
    except OSError:
        something = False
    if something:
        return (
            f"{path} is not a store (it has no store.json): if it holds images, make a store of them with "
            f"`python -m skin_gan.data ingest {place} --size {wanted}`, which says where that is"
        )
    return (
        f"{path} is not a store, there is no such folder or nothing in it: make one with "
        f"`python -m skin_gan.data ingest SOURCE --size {wanted} --out {place}`"
    )


def describe_rows(rows: Iterable[dict[str, str]], recipe: dict[str, Any]) -> dict[str, Any]:
    """What store.json says of the manifest's rows: classes, counts, lesions and the fingerprint."""
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
    """Names the data together with who is training, validation and test: sample sets carry it."""
    return content_hash({"data": store.fingerprint, "split": RECIPE, "fold": fold}, 16)


def class_split(store: Store, label: str, size: int, fold: int) -> ClassSplit:
    """Training and validation images of one class; one too small to train on is a SkinGanError."""
    if label not in store.classes:
        raise SkinGanError(
            f"store {store.name} has no class {label!r}: choose from {', '.join(store.classes)}"
        )
    if not 0 <= fold < N_FOLDS:
        raise SkinGanError(f"fold {fold}: expected 0 to {N_FOLDS - 1}")
    of_class = (store.manifest["dx"] == label).to_numpy()
    parts = split_parts(store.folds, fold)
    train = _part(store, size, of_class & (parts == "train"))
    val = _part(store, size, of_class & (parts == "val"))
    _require_enough(store, label, fold, train, val)
    return ClassSplit(label, size, fold, fold_fingerprint(store, fold), store.unit, train, val)


def all_split(store: Store, size: int, fold: int) -> ClassSplit:
    """Training and validation images of all classes together, class c drawn in proportion to sqrt(n_c).

    So small classes are seen more often than they occur, and less often than in equal shares.
    """
    parts, labels = split_parts(store.folds, fold), store.manifest["dx"].to_numpy()

    def part(name: str) -> Part:
        counts = Counter(labels[parts == name])
        weights = np.array([counts[label] ** -0.5 for label in labels[parts == name]])
        return replace(_part(store, size, parts == name), weights=weights)

    return ClassSplit(ALL, size, fold, fold_fingerprint(store, fold), store.unit, part("train"), part("val"))


def _part(store: Store, size: int, rows: NDArray[np.bool_]) -> Part:
    index = np.flatnonzero(rows)
    text = store.manifest.iloc[index]
    return Part(
        images=store.pixels(size, index),
        lesions=_strings(text["group"]),
        image_ids=_strings(text["image_id"]),
    )


def _strings(values: Sequence[str]) -> NDArray[np.str_]:
    return np.array(list(values), dtype=np.str_)


def _require_enough(store: Store, label: str, fold: int, train: Part, val: Part) -> None:
    n, lesions = len(train.images), len(set(train.lesions.tolist()))
    if n < MIN_IMAGES or lesions < MIN_LESIONS or len(val.images) == 0:
        raise SkinGanError(
            f"class {label!r} of store {store.name} is too small: fold {fold} leaves {n} training images of "
            f"{lesions} {store.unit}s and {len(val.images)} for validation; at least {MIN_IMAGES} of "
            f"{MIN_LESIONS} and 1 are needed. Leave the class out of `classes`, or add images"
        )


def _unreadable(path: Path, why: str) -> SkinGanError:
    return SkinGanError(f"store {path} is damaged or not readable ({why}): remove it and ingest again")
