"""Tells photographs from masks, thumbnails and copies, which often have the same names.

Of several files of one name these are passed over, in this order: files in folders of masks or thumbnails,
copies of equal bytes, black-and-white masks, damaged files, smaller versions of the same picture. If two
remain, that is an error that names both.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from skin_gan.data.decode import FORMATS, MAX_PIXELS
from skin_gan.data.files import IMAGE_SUFFIXES, READ_ERRORS, File
from skin_gan.data.words import CONFLICT, DERIVED_SUFFIX, is_derived
from skin_gan.errors import SkinGanError

SAME = 8.0  # grey levels: below this mean difference two 16x16 reductions show the same picture


@dataclass
class Photographs:
    """The photographs of SOURCE, apart from files that were derived from them."""

    files: list[File]
    derived: list[File] = field(default_factory=list)  # masks and thumbnails by their folder's or own name
    copies: list[tuple[File, File]] = field(default_factory=list)  # (conflict copy, its original)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._by_stem: dict[str, list[File]] = {}
        for file in self.files:
            self._by_stem.setdefault(file.path.stem.lower(), []).append(file)

    def named(self, image_id: str) -> list[File]:
        """The files with the name of an id, and with its folders and extension if it has any.

        Folders are compared from the file upwards, so that paths of another machine match too.
        """
        folders, stem, suffix = split_id(image_id.lower())
        found = []
        for file in self._by_stem.get(stem, []):
            parents = [part.lower().removesuffix(".zip") for part in file.path.parent.parts]
            same = all(a == b for a, b in zip(reversed(folders), reversed(parents), strict=False))
            if same and suffix in ("", file.path.suffix.lower()):
                found.append(file)
        return found


def split_id(image_id: str) -> tuple[list[str], str, str]:
    """Folders, name and extension of an id such as "part_1/ISIC_0024306.jpg"; the last two may be ""."""
    parts = [part for part in image_id.replace("\\", "/").split("/") if part not in ("", ".")]
    *folders, name = parts or [""]
    stem, dot, suffix = name.rpartition(".")
    if dot and stem and f".{suffix.lower()}" in IMAGE_SUFFIXES:
        return folders, stem, f".{suffix}"
    return folders, name, ""


def photographs(files: Sequence[File], by_folder: bool = True) -> Photographs:
    """Sort out masks, thumbnails and conflict copies by their names, with a note on each folder of them.

    `by_folder`: also by the names of their folders.
    """
    images = [f for f in files if f.is_image]
    places = {(f.path.parent, f.path.stem.lower()): f for f in images}
    stems = Counter(f.path.stem.lower() for f in images)
    kept, derived, copies = [], [], []
    for file in images:
        suffix = DERIVED_SUFFIX.search(file.path.stem)
        is_named_derived = suffix and stems[file.path.stem[: suffix.start()].lower()]
        if is_named_derived or (by_folder and any(map(is_derived, file.path.parent.parts))):
            derived.append(file)
        elif original := _original(file, places):
            copies.append((file, original))
        else:
            kept.append(file)
    count = Counter(str(f.path.parent) for f in derived)
    why = "are masks or thumbnails by their names, and were passed over"
    notes = [f"{n} images in {place} {why}" for place, n in sorted(count.items())]
    if len(notes) > 5:
        notes = [f"{len(derived)} images in {len(count)} folders, such as {min(count)}, {why}"]
    return Photographs(kept, derived, copies, notes)


def _original(file: File, places: dict[tuple[PurePosixPath, str], File]) -> File | None:
    """The original of a conflict copy, or None: "a (1).jpg" is a copy only if its bytes equal "a.jpg"."""
    named = CONFLICT.fullmatch(file.path.stem)
    base = (named["base"] or named["original"]).lower() if named else ""
    original = places.get((file.path.parent, base)) if base else None
    numbered = file.path.stem.endswith(")") and "conflict" not in file.path.stem.lower()
    return None if original is None or (numbered and not file.same_content(original)) else original


def copy_line(copy: File, original: File) -> str:
    """The finding on a conflict copy."""
    return f"{copy.path}: a copy of {original.path} by its name, which is used"


@dataclass
class Choice:
    """The file that is used for an id, and the others with the same name."""

    file: File
    twins: list[File] = field(default_factory=list)  # files of equal bytes
    others: list[tuple[File, str]] = field(default_factory=list)  # (file, why it is not used)


def choose(image_id: str, files: Sequence[File]) -> Choice:
    """The photograph among the files of one id; SkinGanError if two candidates remain."""
    choice, candidates = Choice(files[0]), [files[0]]
    for file in files[1:]:
        same = any(file.same_content(other) for other in candidates)
        (choice.twins if same else candidates).append(file)
    if len(candidates) > 1:
        candidates = _by_content(candidates, choice)
    if len(candidates) > 1:
        raise SkinGanError(
            f"{candidates[0].path} and {candidates[1].path} show different pictures, and both could be "
            f"{image_id}: remove one of them, or name images with their folders in the table"
        )
    choice.file = candidates[0]
    return choice


def of_one_name(files: Sequence[File], findings: list[str]) -> list[File]:
    """The files without masks, smaller versions and the like of another file of one name in their folder.

    Two different pictures both stay: if no table names images, their extensions tell them apart.
    """
    named: dict[tuple[PurePosixPath, str], list[File]] = {}
    for file in files:
        named.setdefault((file.path.parent, file.path.stem.lower()), []).append(file)
    excluded: set[int] = set()
    for same in named.values():
        suffixes = {f.path.suffix.lower() for f in same}
        if len(suffixes) < len(same) or len(same) == 1:
            continue  # one path twice in an archive is found elsewhere
        choice = Choice(same[0])
        kept = _by_content(same, choice)
        excluded |= {id(f) for f in same if f not in kept}
        findings += [f"{f.path} is passed over ({why}), {kept[0].path} is used" for f, why in choice.others]
    return [f for f in files if id(f) not in excluded]


def _by_content(files: list[File], choice: Choice) -> list[File]:
    """The files without masks, damaged files and smaller versions; those are added to `choice.others`."""
    previews = {f.path: _preview(f) for f in files}
    masks = {path for path, preview in previews.items() if preview.mask}
    damaged = {path for path, preview in previews.items() if preview.small is None}
    for unusable, why in ((masks, "a black-and-white mask"), (damaged, "damaged")):
        kept = [f for f in files if f.path not in unusable]
        if kept:
            choice.others += [(f, why) for f in files if f not in kept]
            files = kept
    files = sorted(files, key=lambda f: (-previews[f.path].pixels, str(f.path)))
    largest = previews[files[0].path]
    same = [f for f in files[1:] if largest.shows(previews[f.path])]
    choice.others += [(f, "the same picture, not larger") for f in same]
    return [f for f in files if f not in same]


@dataclass(frozen=True)
class _Preview:
    """An image reduced for comparison."""

    pixels: int  # 0 for a damaged file
    small: NDArray[np.float64] | None = None  # [16,16,3], 0..255
    mask: bool = False

    def shows(self, other: _Preview) -> bool:
        """Whether both show the same picture."""
        if self.small is None or other.small is None:
            return False
        return float(np.abs(self.small - other.small).mean()) < SAME


def _preview(file: File) -> _Preview:
    try:
        image = Image.open(io.BytesIO(file.read()), formats=FORMATS)
        width, height = image.size
        if width * height > MAX_PIXELS:
            return _Preview(width * height)
        image.draft("RGB", (64, 64))
        rgb = image.convert("RGB")
    except (*READ_ERRORS, SyntaxError, ValueError, Image.DecompressionBombError):
        return _Preview(0)
    nearest = np.asarray(rgb.resize((64, 64), Image.Resampling.NEAREST))
    small = np.asarray(rgb.resize((16, 16), Image.Resampling.BOX), dtype=np.float64)
    return _Preview(width * height, small, looks_like_mask(nearest))


def looks_like_mask(image: NDArray[np.uint8]) -> bool:
    """Whether an image [H,W,3] has no colour and only two tones, as a mask of a lesion has."""
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    if np.count_nonzero(spread > 8) > 0.01 * spread.size:
        return False  # the quick answer for nearly every photograph
    grey = image.mean(-1)
    low, high = grey.min(), grey.max()
    tones = (np.abs(grey - low) <= 24) | (np.abs(grey - high) <= 24)
    return bool(tones.mean() > 0.9 and (high - low > 100 or high == low))
