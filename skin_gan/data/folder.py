"""Reads one folder per class: the folder's name is the class, and each image is its own unit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from skin_gan.data.files import File
from skin_gan.data.listing import Findings, Listing, Record, only
from skin_gan.data.photographs import copy_line, of_one_name
from skin_gan.data.source import Source
from skin_gan.data.words import SPLITS, is_download
from skin_gan.errors import SkinGanError


def read(source: Source, any_name: bool = False) -> Listing | None:
    """The listing of a tree of class folders, or None if SOURCE has none.

    Raises SkinGanError for folders named as in a download ("images", "part_1"), unless `any_name`.
    """
    copies = [copy_line(*pair) for pair in source.images.copies]
    images = of_one_name(source.images.files, copies)
    root = _root(images)
    below = [f for f in images if _label(f.path, root)]
    if not below:
        return None
    findings, notes = Findings(duplicate=copies), []
    top = {_label(f.path, root) for f in below}
    depth = 1
    if len(top) > 1 and {t.lower() for t in top} <= SPLITS:
        depth = 2
        notes.append(f"the folders {', '.join(sorted(top))} are taken together: folds are made here")
    if not any_name:
        _require_class_names({_label(f.path, root, depth) for f in below} - {""} or top)
    records, seen = [], set()
    for file in images:
        label = _label(file.path, root, depth)
        if label:
            image_id = file.path.relative_to(root).as_posix()
            if image_id in seen:
                findings.duplicate.append(f"{image_id}: twice in the archive, the first is used")
                continue
            seen.add(image_id)
            records.append(Record(image_id=image_id, dx=label, group=image_id, file=file))
        else:
            findings.extra.append(f"{file.path}: in no class folder")
    findings.non_image += [
        f"{f.path}: no image by its name"
        for f in source.files
        if not (f.is_image or f.is_companion or f.is_spreadsheet
                or (f.is_table and not _label(f.path, root, depth)))
    ]  # fmt: skip
    notes.insert(0, "layout: one folder per class")
    return Listing("folder", source.name, only(records, source.classes), findings, notes)


def slug(name: str) -> str:
    """A source's name as the name of a store: lower case, `-` for other characters."""
    return re.sub(r"[^a-z0-9_]+", "-", name.lower()).strip("-") or "folder"


def _require_class_names(labels: set[str]) -> None:
    """SkinGanError if a folder is named as in a download: its name is no class."""
    downloads = sorted(label for label in labels if is_download(label))
    if downloads:
        raise SkinGanError(
            f"the folders {', '.join(downloads[:5])} have the names of a download, not of classes: sort the "
            "images into one folder per class, give a table with --table FILE --id COLUMN --label COLUMN, or "
            "say --folders if they are classes after all"
        )


def _root(images: Sequence[File]) -> PurePosixPath:
    """The folder that holds the class folders; folders with one folder and no image are skipped."""
    root = PurePosixPath()
    while True:
        inside = [f.path.relative_to(root) for f in images]
        first = {p.parts[0] for p in inside}
        if len(first) != 1 or any(len(p.parts) <= 2 for p in inside):
            return root
        root /= first.pop()


def _label(path: PurePosixPath, root: PurePosixPath, depth: int = 1) -> str:
    """The name of the file's class folder, or "" if it is in none."""
    if not path.is_relative_to(root):
        return ""
    parts = path.relative_to(root).parts
    return parts[depth - 1].removesuffix(".zip") if len(parts) > depth else ""
