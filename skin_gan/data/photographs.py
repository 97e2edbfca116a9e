"""Which file is the photograph: masks, thumbnails and copies lie beside them and often bear the same names.

The rule for several files of one name, in this order: what lies in a folder of masks or thumbnails is passed
over; then copies of equal bytes; then black-and-white masks; then damaged files; then smaller versions of the
same picture. If two are left, nothing tells which one is meant, and that is an error that names both.
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

SAME = 8.0  # grey levels: mean difference of two 16x16 reductions below which they show the same picture


@dataclass
class Photographs:
    """The images of SOURCE without what was made from them."""

    files: list[File]
    derived: list[File] = field(default_factory=list)  # masks and thumbnails by their folder's or own name
    copies: list[tuple[File, File]] = field(default_factory=list)  # a conflict copy, and what it is a copy of
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._by_stem: dict[str, list[File]] = {}
        for file in self.files:
            self._by_stem.setdefault(file.path.stem.lower(), []).append(file)

    def named(self, image_id: str) -> list[File]:
        """The files that an id means: by its last part, and by folders and extension where it has any.

        Folders are compared from the file upwards, so that a path from elsewhere still fits.
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
    """Folders, name and extension of an id such as "part_1/ISIC_0024306.jpg"; the last two may be missing."""
    *folders, name = [part for part in image_id.replace("\\", "/").split("/") if part not in ("", ".")] or [
        ""
    ]
    stem, dot, suffix = name.rpartition(".")
    if dot and stem and f".{suffix.lower()}" in IMAGE_SUFFIXES:
        return folders, stem, f".{suffix}"
    return folders, name, ""


def photographs(files: Sequence[File], by_folder: bool = True) -> Photographs:
    """Leave out masks, thumbnails and conflict copies, as far as names tell; say what was left out.

    Without `by_folder` only the names of files count.
    """
    images = [f for f in files if f.is_image]
    places = {(f.path.parent, f.path.stem.lower()): f for f in images}
    stems = Counter(f.path.stem.lower() for f in images)
    kept, derived, copies = [], [], []
    for file in images:
        suffix = DERIVED_SUFFIX.search(file.path.stem)
        made = suffix and stems[file.path.stem[: suffix.start()].lower()]
        if made or (by_folder and any(map(is_derived, file.path.parent.parts))):
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
    """What the file is a copy of, by its name: "a (1).jpg" only where the content is that of "a.jpg"."""
    named = CONFLICT.fullmatch(file.path.stem)
    base = (named["base"] or named["original"]).lower() if named else ""
    original = places.get((file.path.parent, base)) if base else None
    numbered = file.path.stem.endswith(")") and "conflict" not in file.path.stem.lower()
    return None if original is None or (numbered and not file.same_content(original)) else original


def copy_line(copy: File, original: File) -> str:
    """A finding's text."""
    return f"{copy.path}: a copy of {original.path} by its name, which is used"


@dataclass
class Choice:
    """Of several files of one id the one that is used, and the others with the reason."""

    file: File
    twins: list[File] = field(default_factory=list)  # of equal bytes
    others: list[tuple[File, str]] = field(default_factory=list)


def choose(image_id: str, files: Sequence[File]) -> Choice:
    """The photograph among the files of one id; where the rule leaves two, a SkinGanError names them."""
    first, *rest = files
    choice = Choice(first)
    left = [first]
    for file in rest:
        if any(file.same_content(other) for other in left):
            choice.twins.append(file)
        else:
            left.append(file)
    if len(left) > 1:
        left = _photograph(left, choice)
    if len(left) > 1:
        raise SkinGanError(
            f"{left[0].path} and {left[1].path} show different pictures, and both could be "
            f"{image_id}: remove "
            "one of them, or name images with their folders in the table"
        )
    choice.file = left[0]
    return choice


def of_one_name(files: Sequence[File], findings: list[str]) -> list[File]:
    """The files without masks, smaller versions and the like that bear the name of another in their folder.

    Two different pictures both stay: where no table names images, their extensions tell them apart.
    """
    named: dict[tuple[PurePosixPath, str], list[File]] = {}
    for file in files:
        named.setdefault((file.path.parent, file.path.stem.lower()), []).append(file)
    passed: set[int] = set()
    for same in named.values():
        different = {f.path.suffix.lower() for f in same}
        if len(different) < len(same) or len(same) == 1:
            continue  # one path twice in an archive is another matter
        choice = Choice(same[0])
        left = _photograph(same, choice)
        passed |= {id(f) for f in same if f not in left}
        findings += [f"{f.path} is passed over ({why}), {left[0].path} is used" for f, why in choice.others]
    return [f for f in files if id(f) not in passed]


def _photograph(files: list[File], choice: Choice) -> list[File]:
    """Those left by content: no masks, nothing damaged, the largest of what shows one picture."""
    looks = {f.path: _look(f) for f in files}
    for excluded, why in ((_is_mask, "a black-and-white mask"), (_is_damaged, "damaged")):
        left = [f for f in files if not excluded(looks[f.path])]
        if left:
            choice.others += [(f, why) for f in files if f not in left]
            files = left
    files = sorted(files, key=lambda f: (-looks[f.path].pixels, str(f.path)))
    largest = looks[files[0].path]
    same = [f for f in files[1:] if _same_picture(largest, looks[f.path])]
    choice.others += [(f, "the same picture, not larger") for f in same]
    return [f for f in files if f not in same]


@dataclass(frozen=True)
class _Look:
    pixels: int  # 0 for a damaged file
    small: NDArray[np.float64] | None = None  # [16,16,3], 0..255
    mask: bool = False


def _look(file: File) -> _Look:
    try:
        image = Image.open(io.BytesIO(file.read()), formats=FORMATS)
        width, height = image.size
        if width * height > MAX_PIXELS:
            return _Look(width * height)
        image.draft("RGB", (64, 64))
        rgb = image.convert("RGB")
    except (*READ_ERRORS, SyntaxError, ValueError, Image.DecompressionBombError):
        return _Look(0)
    nearest = np.asarray(rgb.resize((64, 64), Image.Resampling.NEAREST))
    small = np.asarray(rgb.resize((16, 16), Image.Resampling.BOX), dtype=np.float64)
    return _Look(width * height, small, looks_like_mask(nearest))


def looks_like_mask(image: NDArray[np.uint8]) -> bool:
    """Whether an image [H,W,3] has no colour and only two tones, as a mask of a lesion has."""
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    if np.count_nonzero(spread > 8) > 0.01 * spread.size:
        return False  # nearly every photograph ends here, which is quick
    grey = image.mean(-1)
    low, high = grey.min(), grey.max()
    tones = (np.abs(grey - low) <= 24) | (np.abs(grey - high) <= 24)
    return bool(tones.mean() > 0.9 and (high - low > 100 or high == low))


def _is_mask(look: _Look) -> bool:
    return look.mask


def _is_damaged(look: _Look) -> bool:
    return look.small is None


def _same_picture(one: _Look, other: _Look) -> bool:
    if one.small is None or other.small is None:
        return False
    return float(np.abs(one.small - other.small).mean()) < SAME
