"""Recipes of odd and damaged sources, and what an ingest of each must come to.

A recipe says which images there are, of which class, lesion and patient, how the table is written and what
else lies around. `write` makes the source of it; `expected` works out images, classes and units from the
recipe alone. Neither uses the product.
"""

from __future__ import annotations

import csv
import io
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from data_samples import encode, jpeg, picture
from hypothesis import strategies as st
from PIL import Image

PICTURES = [jpeg(i) for i in range(40)]
MASKS = []
for _i in range(40):
    _mask = np.zeros((45, 60), np.uint8)
    _mask[5 + _i % 7 : 30 + _i % 11, 8 + _i % 9 : 40] = 255
    MASKS.append(encode(Image.fromarray(_mask), "PNG"))
THUMBNAILS = [encode(picture(i).resize((20, 15))) for i in range(40)]
UNKNOWN = ["", "NA", "nan", "NaN", "None", "NULL", "null", "N/A", "<NA>", "n/a"]
HAM = ["akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"]


@dataclass(frozen=True)
class Shot:
    """One row of the table, and its file."""

    stem: str
    dx: str  # "" where the table does not know it
    lesion: str = ""
    patient: str = ""
    state: str = "whole"  # whole, missing, cut, text
    picture: int = 0


@dataclass(frozen=True)
class Style:
    """How a table is written."""

    encoding: str = "utf-8"
    delimiter: str = ","
    end: str = "\n"
    case: str = "lower"
    empty_columns: int = 0
    empty_rows: bool = False
    quoted: bool = False
    index: bool = False
    remark: bool = False  # a column with letters beyond ASCII
    order: int = 1  # 1 or -1
    sep_line: bool = False
    padded: bool = False  # blanks around every value


@dataclass(frozen=True)
class Recipe:
    """A source and how it is asked for."""

    layout: str
    shots: list[Shot]
    style: Style
    ids: str = "stem"  # stem, file (with extension), path
    word: int = 0  # of UNKNOWN
    truths: tuple[str, str] = ("1.0", "0.0")
    suffix: str = ".jpg"
    folder: str = "images"
    container: str = "folder"  # folder, zip, backslash, packed (images in a zip of their own), wrapped
    masks: str = ""  # folder of masks of the same names, or a suffix beginning with "_"
    leftovers: bool = False
    copies: bool = False
    extra: bool = False
    others: tuple[str, ...] = ()  # further tables: features, cut, spreadsheet, foreign, unrelated
    fault: str = ""
    groups: tuple[str, ...] = ("lesion", "patient")  # of an own table
    lesion_style: Style = Style()  # of the table of lesions beside a ground truth
    split: bool = False  # the label table in two, as challenges have training and validation
    again: str = ""  # what is there twice: rows, table, files, smaller
    outside: bool = False  # an own table that does not lie in the source
    scramble: tuple[int, int] = (0, 0)  # place and value of a byte
    flags: bool = False  # further columns of 0 and 1 beside those of classes
    columns: int = 0  # seed of the columns' order
    capitals: bool = False  # ids in capitals, unlike the files
    spelled: bool = False  # every second class of an own table in capitals
    unit_word: str = "NA"  # for a lesion or patient that is not known

    @property
    def unknown(self) -> str:
        return UNKNOWN[self.word]


@dataclass
class Expected:
    """A store with these rows, or an error with these words."""

    rows: dict[str, str] = field(default_factory=dict)  # image_id: class
    units: set[frozenset[str]] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    error: list[str] = field(default_factory=list)


NAMES = {
    "ham": "HAM10000_metadata.csv", "onehot": "ISIC_2019_Training_GroundTruth.csv", "isic2020": "train.csv",
    "isic2016": "ISBI2016_ISIC_Part3_Training_GroundTruth.csv",
    "isic2017": "ISIC-2017_Training_Part3_GroundTruth.csv",
    "archive": "metadata.csv", "bcn": "bcn_20k_train.csv", "pad": "metadata.csv", "own": "Fälle.csv",
}  # fmt: skip
CLASSES = {
    "ham": HAM, "onehot": ["MEL", "NV", "BCC", "DF"], "isic2016": ["benign", "malignant"],
    "isic2017": ["melanoma", "seborrheic_keratosis", "nevus"], "isic2020": ["benign", "malignant"],
    "archive": ["Nevus", "Melanoma, NOS", "Basal cell carcinoma"], "bcn": ["MEL", "NV", "AK"],
    "pad": ["BCC", "ACK", "NEV"], "own": ["Nävus", "001", "true", "melanoma"],
    "folders": ["a", "nevus", "001"], "medmnist": HAM,
}  # fmt: skip
# what each layout's table (or, for one-hot, a table beside it) says of units
UNITS = {
    "ham": ("lesion",), "onehot": ("lesion",), "isic2020": ("patient",), "archive": ("lesion", "patient"),
    "bcn": ("lesion",), "pad": ("patient", "lesion"),
}  # fmt: skip
PARTLY = {"ham", "onehot", "archive", "bcn", "own"}  # whose units may be unknown here
UNLABELLED = {"ham", "onehot", "archive", "bcn", "own"}  # whose classes may be
FOLDERS = {
    "ham": ["HAM10000_images_part_1", "HAM10000_images_part1"], "pad": ["images/imgs_part_1"],
    "onehot": ["ISIC_2019_Training_Input", "images"], "isic2020": ["train", "jpeg/train"],
}  # fmt: skip


def header_and_rows(r: Recipe) -> tuple[list[str], list[list[str]]]:
    """The label table as the layout's makers write it."""
    known = lambda value: value or r.unknown  # noqa: E731
    unit = lambda value: value or r.unit_word  # noqa: E731
    flags = ["sex_male", "biopsed"] if r.flags else []
    marks = [r.truths[0], r.truths[1]] * 9
    if r.layout == "ham":
        head = ["lesion_id", "image_id", "dx", "age"]
        return head, [[unit(s.lesion), name(r, s), known(s.dx), "50"] for s in r.shots]
    if r.layout in ("onehot", "isic2017"):
        classes = [*CLASSES["onehot"], "UNK"] if r.layout == "onehot" else CLASSES["isic2017"][:2]
        head = ["image" if r.layout == "onehot" else "image_id", *classes, *flags]
        rows = []
        for i, s in enumerate(r.shots):
            ones = [r.truths[c != s.dx] if s.dx else r.unknown for c in classes]
            rows.append([name(r, s), *ones, *marks[i % 2 :][: len(flags)]])
        return head, rows
    if r.layout == "isic2016":
        return [], [[name(r, s), s.dx] for s in r.shots]
    if r.layout == "isic2020":
        head = ["image_name", "patient_id", "sex", "diagnosis", "benign_malignant", "target"]
        return head, [
            [name(r, s), unit(s.patient), "male", "unknown", s.dx, str(int(s.dx == "malignant"))]
            for s in r.shots
        ]
    if r.layout == "archive":
        head = ["isic_id", "attribution", "diagnosis_1", "diagnosis_3", "lesion_id", "patient_id"]
        return head, [
            [name(r, s), "MSK", "Benign", known(s.dx), unit(s.lesion), unit(s.patient)] for s in r.shots
        ]
    if r.layout == "bcn":
        head = ["bcn_filename", "age_approx", "diagnosis", "lesion_id"]
        return head, [[name(r, s), "60.0", known(s.dx), unit(s.lesion)] for s in r.shots]
    if r.layout == "pad":
        head = ["patient_id", "lesion_id", "smoke", "biopsed", "diagnostic", "img_id"]
        return head, [[s.patient, s.lesion, "True", "False", s.dx, name(r, s)] for s in r.shots]
    head = ["Bild", "Diagnose", "Läsion", "patient"]
    return head, [[name(r, s), known(spelling(r, s)), unit(s.lesion), unit(s.patient)] for s in r.shots]


def name(r: Recipe, shot: Shot) -> str:
    """How the table calls the image."""
    file = shot.stem + r.suffix
    called = {"stem": shot.stem, "file": file, "path": f"{r.folder}/{file}"}[r.ids]
    return called.upper() if r.capitals else called


def spelling(r: Recipe, shot: Shot) -> str:
    """How an own table writes the image's class."""
    capitals = r.spelled and int(shot.stem[-3:]) % 2 == 1
    return shot.dx.upper() if capitals else shot.dx


def break_table(r: Recipe, head: list[str], rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """The fault put into the rows; faults of the text are put in by `text`."""
    rows = [list(row) for row in rows]
    first = r.shots[0]
    place = next((i for i, v in enumerate(rows[0]) if v == name(r, first)), 0)
    classes = CLASSES.get(r.layout, [])
    if r.fault == "two classes":
        other = next(c for c in classes if c != first.dx)
        rows.append(
            header_and_rows(Recipe(**{**vars(r), "shots": [Shot(**{**vars(first), "dx": other})]}))[1][0]
        )
    elif r.fault == "two lesions":
        rows.append(
            header_and_rows(Recipe(**{**vars(r), "shots": [Shot(**{**vars(first), "lesion": "L-other"})]}))[
                1
            ][0]
        )
    elif r.fault == "no id":
        rows[0][place] = r.unknown
    elif r.fault == "ids of others":
        for i, row in enumerate(rows):
            row[place] = f"other_{i}"
    elif r.fault == "two ones":
        rows[0][1:3] = [r.truths[0]] * 2
    elif r.fault == "no one":
        rows[0][1 : len(head) - 2 * r.flags] = [r.truths[1]] * (len(head) - 1 - 2 * r.flags)
    elif r.fault == "unknown word":
        rows[0][2] = "wart"
    elif r.fault == "no class column":
        head = ["foo" if h in ("dx", "diagnosis", "diagnostic", "diagnosis_1", "diagnosis_3",
                               "benign_malignant", "target", "Diagnose") else h for h in head]  # fmt: skip
        head = [f"{h}{i}" if h == "foo" else h for i, h in enumerate(head)]
    elif r.fault == "column twice":
        head, rows = [*head, head[0]], [[*row, row[0]] for row in rows]
    order = (
        np.random.default_rng(r.columns).permutation(len(rows[0]))
        if r.columns and head
        else range(len(rows[0]))
    )
    return [head[i] for i in order] if head else [], [[row[i] for i in order] for row in rows]


def text(style: Style, head: list[str], rows: list[list[str]], fault: str = "") -> bytes:
    """The bytes of a table."""
    rows = [list(row) for row in rows][:: style.order]
    head = [cased(style, h) for h in head]
    if style.remark and head:
        head, rows = [*head, "Bemerkung"], [[*row, "geprüft – ok"] for row in rows]
    if style.index and head:
        head, rows = ["", *head], [[str(i), *row] for i, row in enumerate(rows)]
    blank = [""] * style.empty_columns
    lines = [[*row, *blank] for row in ([head, *rows] if head else rows)]
    if style.padded:
        lines = [[f" {value} " for value in line] for line in lines]
    if style.empty_rows:
        lines = [line for row in lines for line in (row, [""] * len(row))]
    out = io.StringIO()
    quoting = csv.QUOTE_ALL if style.quoted else csv.QUOTE_MINIMAL
    csv.writer(out, delimiter=style.delimiter, lineterminator="\n", quoting=quoting).writerows(lines)
    written = out.getvalue()
    if style.sep_line:
        written = f"sep={style.delimiter}\n{written}"
    if fault == "cut":
        written = written.rstrip("\n")
        written = written[: written.rindex(style.delimiter)]
    elif fault == "open quote":
        body = written.rstrip("\n")
        start = body.rindex("\n") + 1
        written = f'{body[:start]}"{body[start:]}\n'
    return written.replace("\n", style.end).encode(style.encoding)


def cased(style: Style, name: str) -> str:
    return {"lower": str, "upper": str.upper, "title": str.title}[style.case](name)


def write(r: Recipe, root: Path) -> tuple[Path, list[str]]:
    """Make the source; returns it and the options that it needs."""
    files: dict[str, bytes] = {}
    words: list[str] = []
    for shot in r.shots:
        place = f"{shot.dx}" if r.layout == "folders" else r.folder
        if shot.state != "missing":
            files[f"{place}/{shot.stem}{r.suffix}"] = content(shot)
        if r.masks == "same":  # beside the photograph, told only by its extension
            files[f"{place}/{shot.stem}.png"] = MASKS[shot.picture]
        elif r.masks.startswith("_"):
            files[f"{place}/{shot.stem}{r.masks}.png"] = MASKS[shot.picture]
        elif r.masks:
            files[f"{r.masks}/{shot.stem}.png"] = MASKS[shot.picture]
        if r.copies and shot.state == "whole":
            files[f"{place}/{shot.stem} (Anna's conflicted copy 2024-01-02){r.suffix}"] = content(shot)
        if r.leftovers and shot.state == "whole":
            files[f"{place}/@eaDir/{shot.stem}{r.suffix}/SYNOPHOTO_THUMB_M.jpg"] = THUMBNAILS[shot.picture]
    base = r.shots[0].dx if r.layout == "folders" else r.folder
    if r.leftovers:
        for leftover in (
            "Thumbs.db",
            "desktop.ini",
            ".DS_Store",
            "._x.jpg",
            "#recycle/old.jpg",
            "x.jpg:Zone.Identifier",
        ):
            files[f"{base}/{leftover}"] = PICTURES[39] if leftover.endswith("jpg") else b"x"
        files["__MACOSX/images/._a.jpg"] = b"x"
    if r.extra and r.layout != "folders":
        files[f"{base}/extra_1{r.suffix}"] = PICTURES[38]
    if r.layout in NAMES:
        head, rows = break_table(r, *header_and_rows(r))
        rows = rows + rows[:2] if r.again == "rows" else rows
        data = text(r.style, head, rows, r.fault)
        if r.fault == "scrambled":
            place = r.scramble[0] % len(data)
            data = data[:place] + bytes([r.scramble[1]]) + data[place + 1 :]
        files[NAMES[r.layout]] = data
        if r.split:
            half = len(rows) // 2
            files[NAMES[r.layout]] = text(r.style, head, rows[:half])
            files[NAMES[r.layout].replace("Training", "Test")] = text(r.lesion_style, head, rows[half:])
        if r.again == "table":
            files["copies/" + NAMES[r.layout]] = data
        if r.again == "contradiction":
            wrong = Recipe(**{**vars(r), "fault": "two classes"})
            head, rows = break_table(wrong, *header_and_rows(wrong))
            files["copies/" + NAMES[r.layout]] = text(r.style, head, rows[-1:])
    if r.again == "clash":
        for shot in r.shots:
            files[f"zz/{shot.stem}.jpg"] = PICTURES[20 + shot.picture]
    if r.fault == "table of labels":
        files["labels.csv"] = text(r.style, ["image", "dx"], [[s.stem, s.dx] for s in r.shots])
    if r.again in ("files", "smaller"):
        for shot in r.shots:
            if shot.state == "whole":
                small = encode(picture(shot.picture).resize((40, 30)), quality=90)
                files[f"zz/{shot.stem}.jpg"] = small if r.again == "smaller" else content(shot)
    if r.layout == "medmnist":
        return arrays(r, root), []
    if r.layout == "onehot":
        rows = [[name(r, s), "55", s.lesion or r.unit_word] for s in r.shots]
        rows = [[f"x{row[0]}", *row[1:]] for row in rows] if r.fault == "lesions of others" else rows
        broken = "open quote" if r.fault == "lesions unreadable" else ""
        head = ["image", "age_approx", "lesion_id"]
        files["ISIC_2019_Training_Metadata.csv"] = text(r.lesion_style, head, rows, broken)
    if r.layout == "own":
        words = ["--table", NAMES["own"], "--id", "bild", "--label", "Diagnose"]
        columns = [{"lesion": "läsion", "patient": "Patient"}[g] for g in r.groups]
        words += ["--group", ",".join(columns)] if columns else []
        if r.outside:
            (root / "tables").mkdir()
            words[1] = str(root / "tables" / NAMES["own"])
            Path(words[1]).write_bytes(files.pop(NAMES["own"]))
    if r.layout == "folders" and r.groups != ("lesion",):  # folders give classes, a table the patients
        rows = [[f"{s.dx}/{s.stem}{r.suffix}", s.patient or r.unit_word] for s in r.shots]
        files["who.csv"] = text(r.style, ["file", "patient"], rows)
        words = ["--table", "who.csv", "--id", "file", "--group", "patient"]
    if "features" in r.others:
        files["hmnist_8_8_L.csv"] = b"pixel0000,pixel0001,label\n1,2,0\n3,4,1\n"
    if "spreadsheet" in r.others:
        files["cases.xlsx"] = b"PK\3\4 nothing"
    if "cut" in r.others:
        files["more.csv"] = b"a,b,c\n1,2,3\n4,5\n"
    if "binary" in r.others:
        files["blob.csv"] = b"\0\1\2\3" * 20
    if "unrelated" in r.others:
        files["units.csv"] = b"unit,meaning\nkg,kilogram\n"
    return pack_up(r, root, files), words


def arrays(r: Recipe, root: Path) -> Path:
    """A MedMNIST file; states of files mean nothing in it."""
    sets: dict[str, np.ndarray] = {}
    for number, split in enumerate(("train", "val", "test")):
        shots = r.shots[number::3]
        pixels = [np.asarray(picture(s.picture, (28, 28))) for s in shots]
        sets[f"{split}_images"] = np.array(pixels, np.uint8).reshape(len(shots), 28, 28, 3)
        sets[f"{split}_labels"] = np.array([[HAM.index(s.dx)] for s in shots], np.uint8).reshape(-1, 1)
    if r.fault == "no array":
        del sets["val_labels"]
    path = root / "dermamnist_64.npz"
    np.savez_compressed(path, **sets)
    if r.fault == "cut":
        path.write_bytes(path.read_bytes()[:-30])
    return path


def content(shot: Shot) -> bytes:
    whole = PICTURES[shot.picture]
    return {"whole": whole, "cut": whole[: len(whole) // 2], "text": b"<html>404</html>"}[shot.state]


def pack_up(r: Recipe, root: Path, files: dict[str, bytes]) -> Path:
    """Write the files as the recipe's container has it."""
    if r.container in ("zip", "backslash"):
        source = root / "in.zip"
        with zipfile.ZipFile(source, "w") as archive:
            slash = "\\" if r.container == "backslash" else "/"
            for folder in sorted({str(Path(n).parent) for n in files} - {"."}):
                archive.writestr(zipfile.ZipInfo(folder.replace("/", slash) + slash), b"")
            for path, data in files.items():
                archive.writestr(zipfile.ZipInfo(path.replace("/", slash)), data)
        return source
    source = root / "in"
    source.mkdir()
    inner = source / "deeper" / "still" if r.container == "wrapped" else source
    if r.container == "packed":
        top = (r.shots[0].dx if r.layout == "folders" else r.folder).split("/")[0]
        with zipfile.ZipFile(source / f"{top}.zip", "w") as archive:
            for path in [p for p in files if p.startswith(f"{top}/")]:
                archive.writestr(path.removeprefix(f"{top}/"), files.pop(path))
    for path, data in files.items():
        (inner / path).parent.mkdir(parents=True, exist_ok=True)
        (inner / path).write_bytes(data)
    return source


ERRORS = {  # besides the table's name
    "two classes": "lists", "two lesions": "lists", "no id": "line", "ids of others": "none of the images",
    "two ones": "exactly one class", "no one": "exactly one class", "unknown word": "'wart'",
    "no class column": "", "column twice": "twice", "cut": "cut", "open quote": "quotation mark",
    "no such column": "Diagnose",
}  # fmt: skip


def expected(r: Recipe) -> Expected:
    """What the recipe must come to."""
    if r.layout == "medmnist" and r.fault:
        return Expected(
            error=["dermamnist_64.npz", {"no array": "val_labels", "cut": "no readable .npz"}[r.fault]]
        )
    if r.fault in ("table of labels", "download"):
        return Expected(error=["labels.csv" if r.fault == "table of labels" else "images", "--folders"])
    two = r.again in ("table", "contradiction") and r.container == "wrapped" and not r.outside
    if r.layout == "own" and two:  # the end of a path fits both
        return Expected(error=["is both", NAMES["own"]])
    if r.again == "contradiction" and r.layout not in ("ham", "own"):
        return Expected(
            error=[NAMES[r.layout], "lists", r.shots[0].stem.upper() if r.capitals else r.shots[0].stem]
        )
    if r.again == "clash" and r.layout != "ham" and r.ids != "path" and any(s.dx for s in r.shots):
        return Expected(error=["show different pictures", "zz/", f"{r.folder.split('/')[0]}"])
    if r.fault in ERRORS:
        return Expected(error=[NAMES[r.layout], ERRORS[r.fault]])
    unreadable = {"spreadsheet": "cases.xlsx", "cut": "more.csv", "binary": "blob.csv"}
    doubtful = [file for other, file in unreadable.items() if other in r.others]
    if r.layout == "folders" and doubtful and r.groups == ("lesion",):
        return Expected(error=[doubtful[0]])
    found = Expected(notes=[*doubtful, *(["units.csv"] if "unrelated" in r.others else [])])
    found.notes += ["hmnist_8_8_L.csv"] if "features" in r.others else []
    if r.layout == "medmnist":
        found.notes = ["no lesion ids"]
    stored = [s for s in r.shots if s.dx and (s.state == "whole" or r.layout == "medmnist")]
    if not stored:
        return Expected(error=["none of" if any(s.dx for s in r.shots) else ""])
    found.rows = {image_id(r, s): class_name(r, s.dx) for s in stored}
    kinds = r.groups if r.layout == "own" else UNITS.get(r.layout, ())
    if r.layout == "folders" and r.groups != ("lesion",):
        kinds = ("patient",)
    if r.fault.startswith("lesions "):
        kinds = ()
        found.notes.append("ISIC_2019_Training_Metadata.csv")
    if r.layout == "own" and "lesion" in kinds and contradicting(r.shots):
        return Expected(error=[NAMES["own"], contradicting(r.shots), "a lesion has one class"])
    if kinds:
        some = sum(any(getattr(s, k) for k in kinds) for s in stored)
        if len(kinds) == 1 and 0 < some < len(stored):
            found.notes.append(f"{kinds[0]}s are known for {some} of {len(stored)} images")
    found.units = units(r, stored, kinds)
    return found


def class_name(r: Recipe, dx: str) -> str:
    """A class is called as the table's column is, where it has one of its own."""
    if r.layout == "own":
        forms = [spelling(r, s) for s in r.shots if s.dx == dx]
        return min(forms, key=lambda form: (-forms.count(form), form))
    return cased(r.style, dx) if r.layout in ("onehot", "isic2017") and dx != "nevus" else dx


def contradicting(shots: list[Shot]) -> str:
    """A lesion of two classes, or ""."""
    for shot in shots:
        others = {s.dx for s in shots if s.lesion == shot.lesion and s.dx}
        if shot.lesion and len(others) > 1:
            return shot.lesion
    return ""


def units(r: Recipe, stored: list[Shot], kinds: tuple[str, ...]) -> set[frozenset[str]]:
    """Who must stay together: whoever shares a lesion, a patient or a picture, by way of whomever."""

    def akin(a: Shot, b: Shot) -> bool:
        same = any(getattr(a, k) and getattr(a, k) == getattr(b, k) for k in kinds)
        return same or (a in stored and b in stored and a.picture == b.picture)

    unseen, result = list(r.shots), set()
    while unseen:
        together, frontier = [], [unseen.pop()]
        while frontier:
            shot = frontier.pop()
            together.append(shot)
            near = [s for s in unseen if akin(s, shot)]
            unseen = [s for s in unseen if s not in near]
            frontier += near
        if unit := frozenset(image_id(r, s) for s in together if s in stored):
            result.add(unit)
    return result


def image_id(r: Recipe, shot: Shot) -> str:
    """How the manifest calls the image."""
    if r.layout == "medmnist":
        place = r.shots.index(shot)
        number = len(r.shots[place % 3 :: 3])
        return f"{('train', 'val', 'test')[place % 3]}/{place // 3:0{len(str(number - 1))}d}"
    if r.layout == "folders":
        packed = ".zip" if r.container == "packed" and shot.dx == r.shots[0].dx else ""
        return f"{shot.dx}{packed}/{shot.stem}{r.suffix}"
    called = f"{r.folder}/{shot.stem}" if r.ids == "path" else shot.stem
    return called.upper() if r.capitals else called


styles = st.builds(
    Style,
    encoding=st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"]),
    delimiter=st.sampled_from(",,;\t|"),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    case=st.sampled_from(["lower", "lower", "upper", "title"]),
    empty_columns=st.sampled_from([0, 0, 1, 3]),
    empty_rows=st.booleans(),
    quoted=st.booleans(),
    index=st.booleans(),
    remark=st.booleans(),
    order=st.sampled_from([1, -1]),
    sep_line=st.sampled_from([False, False, False, True]),
    padded=st.sampled_from([False, False, True]),
)
GROUPS = [("lesion",), ("patient",), ("lesion", "patient")]
TABLE_FAULTS = ["ids of others", "no id", "two classes", "cut", "open quote"]
FAULTS = {
    "ham": [*TABLE_FAULTS, "two lesions", "unknown word", "no class column", "column twice"],
    "onehot": ["ids of others", "no id", "cut", "open quote", "two ones", "no one", "lesions unreadable",
               "lesions of others", "column twice"],
    "isic2016": ["ids of others", "two classes", "no id"],
    "isic2017": ["ids of others", "no id", "two ones", "column twice", "cut"],
    "isic2020": [*TABLE_FAULTS, "no class column", "column twice"],
    "archive": [*TABLE_FAULTS, "two lesions", "no class column", "column twice"],
    "bcn": [*TABLE_FAULTS, "two lesions", "no class column", "column twice"],
    "pad": [*TABLE_FAULTS, "two lesions", "no class column", "column twice"],
    "own": [*TABLE_FAULTS, "two lesions", "no class column", "column twice"],
    "folders": ["table of labels", "download"],
    "medmnist": ["no array", "cut"],
}  # fmt: skip


@st.composite
def shots_of(draw: st.DrawFn, layout: str, fault: str) -> list[Shot]:
    """Images of a few lesions of a few patients; a lesion has one class, except sometimes in an own table."""
    n = draw(st.integers(2, 10))
    lesions = draw(st.lists(st.integers(0, 4), min_size=n, max_size=n))
    classes = draw(st.lists(st.sampled_from(CLASSES[layout]), min_size=5, max_size=5))
    patients = draw(st.lists(st.integers(0, 2), min_size=5, max_size=5))
    prefix = draw(st.sampled_from(["ISIC_000", "img ", "ä.b-", ""]))
    shots = []
    for i, lesion in enumerate(lesions):
        states = st.sampled_from(["whole"] * 12 + ["missing", "cut", "text"])
        partly = layout in PARTLY
        kept = draw(st.booleans()) if partly and draw(st.booleans()) else True
        known = draw(st.sampled_from([True, True, False])) if partly else True
        dx = classes[lesion]
        if layout in UNLABELLED and draw(st.sampled_from([False] * 9 + [True])):
            dx = ""
        elif layout == "own" and not fault and draw(st.sampled_from([False] * 20 + [True])):
            dx = draw(st.sampled_from(CLASSES["own"]))
        shots.append(
            Shot(
                stem=f"{prefix}{i:03d}",
                dx=dx,
                lesion=str(lesion) if kept else "",  # as short as ids of images: names may clash
                patient=str(patients[lesion]) if known else "",
                state="whole" if fault else draw(states),
                picture=draw(st.sampled_from([i, i, i, i, i, (i + 1) % 12])),
            )
        )
    if layout == "medmnist":  # equal images are one shot less to tell apart by position
        shots = [Shot(**{**vars(s), "patient": str(i), "state": "whole"}) for i, s in enumerate(shots)]
    if fault == "two ones":
        shots[0] = Shot(**{**vars(shots[0]), "dx": classes[lesions[0]]})
    if fault in ("two classes", "two lesions"):
        shots[0] = Shot(**{**vars(shots[0]), "dx": classes[lesions[0]], "lesion": "L-first"})
    if fault == "unknown word":
        shots[0] = Shot(**{**vars(shots[0]), "dx": "nv"})
    if (fault or layout == "archive") and not any(s.dx for s in shots):  # one fault at a time
        shots[0] = Shot(**{**vars(shots[0]), "dx": classes[lesions[0]]})
    if fault == "download":
        shots[-1] = Shot(**{**vars(shots[-1]), "dx": "images"})
    if layout == "folders":
        shots = [s for s in shots if s.state != "missing"] or [Shot("x000", "a")]
    return shots


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """Any source that this file can make."""
    layout = draw(st.sampled_from(sorted(FAULTS)))
    faulty = draw(st.sampled_from([False, False, True]))
    faults = [*FAULTS[layout], *(["scrambled"] if layout in NAMES else [])]
    fault = draw(st.sampled_from(faults)) if faulty else ""
    shots = draw(shots_of(layout, fault))
    style = draw(styles)
    if fault in ("cut", "open quote", "lesions unreadable"):
        style = Style(**{**vars(style), "empty_columns": 0, "empty_rows": False, "quoted": False})
    if layout == "isic2016" or fault == "column twice":
        style = Style(**{**vars(style), "index": False, "empty_columns": 0})
    missing = any(s.state == "missing" for s in shots)
    masks = st.sampled_from(["", "", "", "Masks", "annotations", "ISIC2018_Task1_GroundTruth",
                             "_mask", "_segmentation", "_superpixels",
                             *([] if missing else ["aa_bw", "zz_bw", "same"])])  # fmt: skip
    others = st.lists(
        st.sampled_from(["features", "spreadsheet", "cut", "binary", "unrelated"]), max_size=2, unique=True
    )
    drawn_masks = draw(masks)
    twice = (
        ["", "", "rows", "table", "files", "smaller", "contradiction", "clash"]
        if layout in NAMES and not fault
        else [""]
    )
    if missing or any(s.state != "whole" for s in shots):
        twice = [""]  # a second file would stand in for the first
    if not shots[0].dx or contradicting(shots):  # no contradiction, or a second one
        twice = [""]
    again = draw(st.sampled_from(twice))
    if layout == "folders" and drawn_masks.endswith("_bw"):
        drawn_masks = ""
    ids = ["stem", "stem", "file", "path"] if layout in ("own",) else ["stem", "file"]
    return Recipe(
        layout=layout,
        shots=shots,
        style=style,
        ids=draw(st.sampled_from(ids)),
        word=draw(st.integers(0, len(UNKNOWN) - 1)),
        truths=draw(
            st.sampled_from(
                [("1.0", "0.0"), ("1", "0"), ("True", "False"), ("true", "false"), ("TRUE", "FALSE")]
            )
        ),
        suffix=draw(st.sampled_from([".jpg", ".JPG", ".jpeg"])),
        folder=draw(st.sampled_from(FOLDERS.get(layout, ["images", "data/imgs_part_1", "Fotos"]))),
        container=draw(st.sampled_from(["folder", "folder", "zip", "backslash", "packed", "wrapped"])),
        masks=drawn_masks,
        leftovers=draw(st.booleans()),
        copies=draw(st.sampled_from([False, False, False, True])),
        extra=draw(st.booleans()),
        others=tuple(draw(others)) if draw(st.booleans()) and not (fault and layout == "folders") else (),
        fault=fault,
        lesion_style=Style(**{**vars(draw(styles)), "case": style.case})
        if fault != "lesions unreadable"
        else style,
        split=layout in ("onehot", "isic2016") and not fault and draw(st.booleans()),
        again=again,
        outside=layout == "own" and draw(st.booleans()),
        flags=draw(st.booleans()),
        columns=draw(st.integers(0, 3)),
        capitals=layout not in ("folders", "medmnist") and draw(st.sampled_from([False, False, True])),
        spelled=draw(st.booleans()),
        unit_word=draw(st.sampled_from([*UNKNOWN, "unknown", "Unknown"])),
        scramble=(draw(st.integers(0, 5000)), draw(st.integers(0, 255))),
        groups=("lesion",)
        if fault in ("two lesions", "table of labels", "download")
        else draw(st.sampled_from(GROUPS)),
    )
