"""The spellings that data sets use for columns, missing values, folders and leftover files.

A new spelling is added here and nowhere else. All comparisons are in lower case.
"""

from __future__ import annotations

import re
from itertools import pairwise

# Columns, with spaces and dashes written as "_" (see `column_key`)
IMAGE_COLUMNS = (
    "image", "image_name", "image_id", "isic_id", "img_id", "img", "filename", "file_name", "file",
    "image_path", "img_path", "path", "filepath", "bcn_filename", "name", "id",
)  # fmt: skip
LESION_COLUMNS = ("lesion_id", "lesion", "lesionid", "lesion_nr", "lesion_no")
PATIENT_COLUMNS = ("patient_id", "patient", "patientid", "patient_nr", "patient_no", "subject_id", "subject")
# Parts of the names of such columns, as clinics write them in several languages
LESION_WORDS = ("lesion", "läsion", "laesion", "lésion", "lesión", "lesão", "lesione", "naevus_nr", "mole_id")
PATIENT_WORDS = ("patient", "pacient", "pazient", "subject", "person", "proband")
LABEL_COLUMNS = (
    "dx", "diagnosis", "diagnostic", "label", "class", "target", "benign_malignant", "category", "dx_type",
)  # fmt: skip
# Class columns of one-hot tables, as in ISIC's challenges. If a table has two of these, its other columns of
# 0 and 1 (sex_male, biopsed) are not classes.
CLASS_COLUMNS = {
    "mel", "nv", "bcc", "ak", "akiec", "bkl", "df", "vasc", "scc", "sccka", "unk", "sk", "ben_oth", "inf",
    "mal_oth", "melanoma", "nevus", "naevus", "seborrheic_keratosis", "benign", "malignant",
}  # fmt: skip

# Missing values as written by R, pandas, Python, SQL and Excel
MISSING = {
    "", "na", "n/a", "#n/a", "#na", "<na>", "nan", "-nan", "none", "null", "nil", "nat", "-", "--", "?", ".",
    "missing", "#value!", "#ref!",
}  # fmt: skip
# Missing lesions and patients. A class can be called "unknown", so these are not in MISSING.
NO_UNIT = MISSING | {"unknown", "unk", "not known", "not available", "unspecified"}
TRUTHS = {"true": True, "false": False, "wahr": True, "falsch": False, "vrai": True, "faux": False}

# Folders of files that were derived from photographs
DERIVED = {
    "mask", "masks", "segmentation", "segmentations", "seg", "segs", "superpixel", "superpixels",
    "annotation", "annotations", "groundtruth", "gt", "contour", "contours", "outline", "outlines", "heatmap",
    "heatmaps", "overlay", "overlays", "attributes", "saliency", "thumbnail", "thumbnails", "thumb", "thumbs",
    "preview", "previews", "label", "labels", "border", "borders", "boundary", "boundaries",
}  # fmt: skip
DERIVED_SUFFIX = re.compile(
    r"[ _.-]+(?:mask|masks|segmentation|segmented|seg|superpixels?|contour|heatmap|overlay|thumb|thumbnail|"
    r"gt|attribute(?:_\w+)?)(?:[ _.-]?\d+)?$",
    re.IGNORECASE,
)

# Folders of downloads: their names are no classes
DOWNLOAD = {
    "image", "images", "img", "imgs", "pic", "pics", "picture", "pictures", "photo", "photos", "photograph",
    "photographs", "jpg", "jpgs", "jpeg", "jpegs", "png", "pngs", "bmp", "tif", "tiff", "data", "dataset",
    "datasets", "input", "inputs", "raw", "original", "originals", "resized", "cropped", "files", "train",
    "training", "val", "valid", "validation", "test", "testing", "split", "fold", "part", "batch", "release",
    "archive", "download", "downloads", "dermoscopy", "dermoscopic", "dermatoscopic", "clinical",
    "isic", "isbi", "ham", "siim", "kaggle", "pad", "ufes", "hmnist", "medmnist",
}  # fmt: skip
FILLERS = {"v", "x", "k", "px", "set", "task", "new", "old", "bcn", "of", "the"}
SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}

# Files and folders that NAS systems, Windows, macOS and cloud drives leave behind
LEFTOVERS = {
    "__macosx", "@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "@sharebin", "@tmp",
    "$recycle.bin", "recycler", "system volume information", "lost+found", "network trash folder",
    "temporary items", "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r", "picasa.ini",
    "zbthumbnail.info", "albumartsmall.jpg", "__pycache__",
}  # fmt: skip
LEFTOVER = re.compile(
    r"\.(?!\.$).*|SYNO(?:PHOTO|INDEX|FILE|VIDEO)_.*|~\$.*|.*:(?:Zone\.Identifier|encryptable)", re.I
)
# Copies by Dropbox, Nextcloud, Syncthing and OneDrive; then by Windows, macOS, Google Drive and browsers
CONFLICT = re.compile(
    r"(?P<base>.+?)(?: \([^)]*conflicted copy[^)]*\)|\.sync-conflict-[\w-]+|-(?:DESKTOP|LAPTOP)-\w+|"
    r" - (?:copy|kopie|copie|copia)(?: \(\d+\))?| (?:copy|kopie)(?: \d+)?| ?\(\d+\))|"
    r"(?:copy of|kopie von|copie de|copia de) (?P<original>.+)",
    re.IGNORECASE,
)


def column_key(name: str) -> str:
    """A column's name for comparison: "Lesion ID" and "lesion-id" become `lesion_id`."""
    return re.sub(r"[ \-]+", "_", name.strip().lower())


def kind_of(column: str) -> str:
    """The kind of units that a column names: "lesion", "patient", or the column's name."""
    if any(word in column for word in LESION_WORDS):
        return "lesion"
    return "patient" if any(word in column for word in PATIENT_WORDS) else column


def is_missing(value: str) -> bool:
    """Whether the value of a class or an image means "not known"."""
    return value.strip().lower() in MISSING


def truth(value: str) -> bool | None:
    """The value of a cell of a one-hot table: True for 1, 1.0, "1,0" and "True"; None if it is neither."""
    word = value.strip().lower()
    try:
        return {0.0: False, 1.0: True}.get(float(word.replace(",", ".")))
    except ValueError:
        return TRUTHS.get(word)


def is_derived(folder: str) -> bool:
    """Whether a folder's name stands for masks, thumbnails and the like, such as "Lesion_Masks"."""
    words = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", folder.removesuffix(".zip")).lower())
    return bool(DERIVED & {*words, *map("".join, pairwise(words))})


def is_download(folder: str) -> bool:
    """Whether a folder is named as in a download, such as "imgs_part_1" or "ISIC_2019_Training_Input".

    A number alone may be a class; a size such as 224x224 is none.
    """
    name = folder.removesuffix(".zip").lower()
    words = set(re.findall(r"[a-z]+", name))
    rest = re.sub(r"[a-z0-9 ._()\[\]-]", "", name)
    plain = not rest and words <= DOWNLOAD | FILLERS and bool(words & DOWNLOAD)
    return plain or bool(re.fullmatch(r"\d+ ?x ?\d+(?: ?px)?", name)) or is_derived(folder)


def is_leftover(name: str) -> bool:
    """Whether a file or folder was left behind by an operating system, or is hidden."""
    return name.lower() in LEFTOVERS or bool(LEFTOVER.fullmatch(name))
