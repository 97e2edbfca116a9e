"""Tables as people and programs write them; photographs among masks and copies; own tables."""

import io
import itertools
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from data_samples import HEADER, cli, encode, findings, ham10000, jpeg, pack, picture, table, unpack
from PIL import Image

from skin_gan.data.ingest import Options, ingest
from skin_gan.data.own import Columns
from skin_gan.data.store import Store
from skin_gan.errors import SkinGanError

IDS = [f"ISIC_{i:07d}" for i in range(12)]
CLASS = {x: ("MEL", "NV")[i // 2 % 2] for i, x in enumerate(IDS)}
LESION = {x: f"IL_{i // 2}" for i, x in enumerate(IDS)}  # six lesions of two photographs
PATIENT = {x: f"IP_{i // 4}" for i, x in enumerate(IDS)}  # three patients of two lesions
TRUTH = "image,MEL,NV\n" + "".join(f"{x},{CLASS[x] == 'MEL':d}.0,{CLASS[x] == 'NV':d}.0\n" for x in IDS)


def make(source: Path, out: Path, *sizes: int, **options: object) -> Store:
    return ingest(source, out, Options(list(sizes) or [8], **options))[0]


def photographs(folder: str = "images", suffix: str = ".jpg") -> dict[str, bytes]:
    return {f"{folder}/{x}{suffix}": jpeg(i) for i, x in enumerate(IDS)}


def lines(header: str, *columns: dict[str, str], extension: str = "") -> bytes:
    """A table with one row per image."""
    body = "".join(",".join([x + extension, *(c[x] for c in columns)]) + "\n" for x in IDS)
    return f"{header}\n{body}".encode()


def sizes_of_groups(store: Store) -> list[int]:
    return sorted(Counter(store.manifest["group"]).values())


FORMS = {
    "utf-8 with a mark": TRUTH.encode("utf-8-sig"),
    "utf-16": TRUTH.encode("utf-16"),
    "utf-16 without a mark": TRUTH.encode("utf-16-be"),
    "utf-32": TRUTH.encode("utf-32"),
    "cp1252": TRUTH.replace("\n", ",geprüft –\n").replace("NV,geprüft –", "NV,Bemerkung", 1).encode("cp1252"),
    "semicolons": TRUTH.replace(",", ";").encode(),
    "decimal commas": TRUTH.replace(",", ";").replace(".0", ",0").encode(),
    "tabs, old Mac": TRUTH.replace(",", "\t").replace("\n", "\r").encode(),
    "empty columns and rows": TRUTH.replace("\n", ",,\r\n,,,,\r\n").encode(),
    "an index without a name": "\n".join(
        (f"{i - 1}," if i else ",") + line for i, line in enumerate(TRUTH.splitlines())
    ).encode(),
    "Excel's word for the separator": b"sep=;\r\n" + TRUTH.replace(",", ";").encode(),
    "capitals": TRUTH.replace("image", "IMAGE").encode(),
    "True and False": TRUTH.replace("1.0", "True").replace("0.0", "False").encode(),
    "true and false": TRUTH.replace("1.0", "true").replace("0.0", "false").encode(),
    "whole numbers": TRUTH.replace(".0", "").encode(),
    "quoted": "".join(
        ",".join(f'"{value}"' for value in line.split(",")) + "\n" for line in TRUTH.splitlines()
    ).encode(),
    "ids with extension": TRUTH.replace("\nISIC", "\nISIC").replace(",1.0,", ".JPG,1.0,").replace(
        ",0.0,1", ".JPG,0.0,1").encode(),
    "an order of its own": "\n".join([TRUTH.splitlines()[0], *TRUTH.splitlines()[:0:-1]]).encode(),
}  # fmt: skip


class TestForms:
    @pytest.mark.parametrize("form", FORMS)
    def test_a_ground_truth_in_any_form_gives_the_classes(self, tmp_path: Path, form: str) -> None:
        source = unpack(tmp_path / "in", photographs() | {"GroundTruth.csv": FORMS[form]})
        store = make(source, tmp_path / "out")
        assert dict(zip(store.manifest["image_id"], store.manifest["dx"], strict=True)) == CLASS

    @pytest.mark.parametrize("form", ["cp1252", "utf-16", "columns", "extension", "semicolons"])
    def test_a_table_of_lesions_in_any_form_gives_the_lesions(self, tmp_path: Path, form: str) -> None:
        remark = dict.fromkeys(IDS, "geprüft –")
        plain = lines(
            "image,lesion_id,remark", LESION, remark, extension=".jpg" if form == "extension" else ""
        )
        text = plain.decode()
        text = text.replace("\n", ",,\n") if form == "columns" else text
        text = text.replace(",", ";") if form == "semicolons" else text
        data = text.encode(form if form in ("cp1252", "utf-16") else "utf-8")
        files = photographs() | {"GroundTruth.csv": TRUTH.encode(), "LesionGroupings.csv": data}
        store = make(unpack(tmp_path / "in", files), tmp_path / "out")
        assert store.unit == "lesion" and sizes_of_groups(store) == [2] * 6
        assert store.manifest["remark"].eq("geprüft –").all()

    @pytest.mark.parametrize(
        "word", ["NA", "nan", "NaN", "None", "NULL", "null", "N/A", "<NA>", "", "unknown"]
    )
    @pytest.mark.parametrize("layout", ["challenge", "ham10000"])
    def test_an_unknown_lesion_is_nobodys_lesion(self, tmp_path: Path, layout: str, word: str) -> None:
        known = {x: LESION[x] if i < 4 else word for i, x in enumerate(IDS)}
        labels = {x: c.lower() for x, c in CLASS.items()}
        files = photographs() | (
            {"GroundTruth.csv": TRUTH.encode(), "ISIC_Metadata.csv": lines("image,lesion_id", known)}
            if layout == "challenge"
            else {"HAM10000_metadata.csv": lines("image_id,lesion_id,dx", known, labels)}
        )
        store = make(unpack(tmp_path / "in", files), tmp_path / "out")
        assert sizes_of_groups(store) == [1] * 8 + [2, 2] and store.unit == "group"
        assert any("lesions are known for 4 of 12 images" in n for n in store.notes)
        assert "12 images of 10 groups" in store.extent

    def test_numbers_of_lesions_and_of_images_are_not_mixed_up(self, tmp_path: Path) -> None:
        """Lesion 3 of image 1 is not the image called 3, whose lesion is unknown."""
        text = "image,MEL,NV\n" + "".join(f"{i},1,0\n" for i in range(6))
        lesions = "image,lesion_id\n" + "".join(f"{i},{'NA' if i > 2 else 3}\n" for i in range(6))
        files = {f"images/{i}.jpg": jpeg(i) for i in range(6)}
        files |= {"GroundTruth.csv": text.encode(), "LesionGroupings.csv": lesions.encode()}
        assert sizes_of_groups(make(unpack(tmp_path / "in", files), tmp_path / "out")) == [1, 1, 1, 3]


class TestNoTableIsIgnoredInSilence:
    def refused(self, source: Path, tmp_path: Path, *said: str) -> None:
        result = cli("ingest", source, "--size", "8", "--out", tmp_path / "out")
        assert result.returncode == 2 and len(result.stderr.strip().splitlines()) == 1
        for text in said:
            assert text in result.stderr
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("name", "data", "why"),
        [
            ("labels.csv", lines("image,diagnosis", CLASS), "--id image --label diagnosis"),
            ("labels.csv", b"image,MEL\nISIC_0000001", "line 2"),
            ("labels.csv", b"image,MEL\n\"ISIC_0000001,1\n", "quotation mark"),
            ("labels.csv", b"\0\1\2", "no text"),
            ("labels.xlsx", b"PK", "spreadsheet"),
            ("whatever.tsv", lines("a,b", CLASS).replace(b",", b"\t"), "--id a --label COLUMN"),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("folders", ["images", "classes"])
    def test_a_table_that_could_be_labels_is_named(
        self, tmp_path: Path, folders: str, name: str, data: bytes, why: str
    ) -> None:
        files = {(f"{CLASS[x]}/{x}.jpg" if folders == "classes" else f"images/{x}.jpg"): jpeg(0) for x in IDS}
        source = unpack(tmp_path / "in", files | {name: data})
        self.refused(source, tmp_path, name, why, "--folders")
        store = make(source, tmp_path / "said", folders=True)
        assert set(store.counts) == ({"MEL", "NV"} if folders == "classes" else {"images"})
        assert any(name in note and "not used" in note for note in store.notes)

    @pytest.mark.parametrize(
        "folder",
        ["images", "train", "imgs_part_1", "ISIC_2019_Training_Input", "HAM10000_images_part_1", "224x224",
         "ISIC-2017_Training_Data", "jpeg", "data_v2"],
    )  # fmt: skip
    def test_the_folders_of_a_download_are_no_classes(self, tmp_path: Path, folder: str) -> None:
        source = unpack(tmp_path / "in", photographs(folder) | {"nv/1.jpg": jpeg(50)})
        self.refused(source, tmp_path, folder)

    @pytest.mark.parametrize(
        "folder", ["001", "1", "nv", "melanoma in situ", "Nävus", "class_a", "part of a mole"]
    )
    def test_other_folders_are(self, tmp_path: Path, folder: str) -> None:
        source = unpack(tmp_path / "in", photographs(folder) | {"other/1.jpg": jpeg(50)})
        assert make(source, tmp_path / "out").counts == {folder: 12, "other": 1}

    def test_a_table_of_lesions_that_names_no_image_is_named(self, tmp_path: Path) -> None:
        lesions = lines("image,lesion_id", LESION).replace(b"ISIC", b"HAM")
        files = photographs() | {"GroundTruth.csv": TRUTH.encode(), "Lesions.csv": lesions}
        store = make(unpack(tmp_path / "in", files), tmp_path / "out")
        assert any("Lesions.csv is not used" in n and "HAM_0000000" in n for n in store.notes)
        assert any("the unit is the image" in n for n in store.notes)
        assert "Lesions.csv is not used" in (store.path / "report.md").read_text()

    def test_tables_without_images_do_not_disturb_class_folders(self, tmp_path: Path) -> None:
        files = {"a/x1.jpg": jpeg(1), "b/x2.jpg": jpeg(2), "hmnist_8_8_L.csv": b"pixel0000,label\n1,2\n"}
        store = make(unpack(tmp_path / "in", files), tmp_path / "out")
        assert store.counts == {"a": 1, "b": 1} and not findings(store.path)
        assert any("hmnist_8_8_L.csv is not used" in n for n in store.notes)


class TestLayouts:
    def test_isic_2016_has_no_line_of_names(self, tmp_path: Path) -> None:
        words = {x: {"MEL": "malignant", "NV": "benign"}[CLASS[x]] for x in IDS}
        train, test = IDS[:8], IDS[8:]
        files = photographs("ISBI2016_ISIC_Part3_Training_Data") | {
            "ISBI2016_ISIC_Part3_Training_GroundTruth.csv": "".join(
                f"{x},{words[x]}\n" for x in train
            ).encode(),
            "ISBI2016_ISIC_Part3_Test_GroundTruth.csv": "".join(
                f"{x},{words[x] == 'malignant':d}.0\n" for x in test
            ).encode(),
        }
        store = make(unpack(tmp_path / "in", files), tmp_path / "out")
        assert dict(zip(store.manifest["image_id"], store.manifest["dx"], strict=True)) == words
        assert store.kind == "isic2016" and store.unit == "image"

    def test_isic_2017_calls_what_is_neither_a_nevus(self, tmp_path: Path) -> None:
        words = {x: ("melanoma", "seborrheic_keratosis", "nevus")[i % 3] for i, x in enumerate(IDS)}
        body = "".join(
            f"{x},{w == 'melanoma':d}.0,{w == 'seborrheic_keratosis':d}.0\n" for x, w in words.items()
        )
        folder = "ISIC-2017_Training_Data"
        files = photographs(folder) | {f"{folder}/{x}_superpixels.png": encode(picture(90 + i), "PNG")
                                       for i, x in enumerate(IDS)}  # fmt: skip
        files["ISIC-2017_Training_Part3_GroundTruth.csv"] = (
            f"image_id,melanoma,seborrheic_keratosis\n{body}".encode()
        )
        store = make(unpack(tmp_path / "in", files), tmp_path / "out", strict=True)
        assert dict(zip(store.manifest["image_id"], store.manifest["dx"], strict=True)) == words

    @pytest.mark.parametrize("head", ["image,MEL,NV,male,biopsed", "image,diagnosis,male,biopsed"])
    def test_columns_of_yes_and_no_are_no_classes(self, tmp_path: Path, head: str) -> None:
        """Beside classes whose values are all unknown, and where a table called GroundTruth has no other."""
        flags = [{x: str(i % 2) for i, x in enumerate(IDS)}, {x: str(1 - i % 2) for i, x in enumerate(IDS)}]
        unknown = [dict.fromkeys(IDS, "NA")] * (head.count(",") - 2)
        source = unpack(tmp_path / "in", photographs() | {"GroundTruth.csv": lines(head, *unknown, *flags)})
        with pytest.raises(SkinGanError, match=r"GroundTruth.csv"):
            make(source, tmp_path / "out")

    def test_elsewhere_a_row_without_a_class_is_an_error(self, tmp_path: Path) -> None:
        text = TRUTH.replace("ISIC_0000003,0.0,1.0", "ISIC_0000003,0.0,0.0")
        source = unpack(tmp_path / "in", photographs() | {"GroundTruth.csv": text.encode()})
        with pytest.raises(
            SkinGanError, match=r"GroundTruth.csv: 1 images without exactly one.*ISIC_0000003"
        ):
            make(source, tmp_path / "out")

    @pytest.mark.parametrize("version", [1, 2])
    def test_isic_2020_is_split_by_patient(self, tmp_path: Path, version: int) -> None:
        benign = {x: {"MEL": "malignant", "NV": "benign"}[CLASS[x]] for x in IDS}
        target = {x: str(int(benign[x] == "malignant")) for x in IDS}
        unknown = dict.fromkeys(IDS, "unknown")
        if version == 1:
            data = lines(
                "image_name,patient_id,diagnosis,benign_malignant,target", PATIENT, unknown, benign, target
            )
        else:
            data = lines("image_name,patient_id,lesion_id,diagnosis,benign_malignant,target",
                         PATIENT, LESION, unknown, benign, target)  # fmt: skip
        zeros = b"image_name,target\nISIC_9,0\n"
        files = photographs("train") | {"train.csv": data, "sample_submission.csv": zeros}
        store = make(unpack(tmp_path / "in", files), tmp_path / "out")
        assert store.counts == {"benign": 6, "malignant": 6} and store.unit == "patient"
        assert sizes_of_groups(store) == [4, 4, 4] and "12 images of 3 patients" in store.extent
        assert any("sample_submission.csv is not used" in n for n in store.notes)

    @pytest.mark.parametrize("column", ["diagnosis", "diagnosis_3", "benign_malignant"])
    def test_the_isic_archive(self, tmp_path: Path, column: str) -> None:
        label = {x: {"MEL": "Melanoma, NOS", "NV": "indeterminate/benign"}[CLASS[x]] for x in IDS} | {
            IDS[0]: ""
        }
        quoted = {x: f'"{v}"' for x, v in label.items()}
        patients = {x: PATIENT[x] if i < 8 else "" for i, x in enumerate(IDS)}
        empty = dict.fromkeys(IDS, "")
        head = f"isic_id,attribution,diagnosis_5,{column},lesion_id,patient_id,melanocytic"
        booleans = dict.fromkeys(IDS, "True")
        data = lines(head, empty, empty, quoted, LESION, patients, booleans)
        store = make(
            unpack(tmp_path / "in", photographs("images") | {"metadata.csv": data}), tmp_path / "out"
        )
        assert store.kind == "isic_archive" and store.counts == {
            "Melanoma, NOS": 5,
            "indeterminate-benign": 6,
        }
        assert sorted(sizes_of_groups(store)) == [
            2,
            2,
            3,
            4,
        ]  # two patients (one image left out), two lesions
        assert any("class unknown for 1 of 12 images" in n and IDS[0] in n for n in store.notes)
        assert any(
            f"classes by {column}, lesions by lesion_id, patients by patient_id" in n for n in store.notes
        )

    def test_bcn20000(self, tmp_path: Path) -> None:
        files = photographs("bcn_20k_train") | {
            "bcn_20k_train.csv": lines("bcn_filename,diagnosis,lesion_id,split", CLASS, LESION,
                                       dict.fromkeys(IDS, "train"), extension=".jpg"),
            "bcn_20k_test.csv": b"bcn_filename,age_approx\nBCN_1.jpg,55\n",
        }  # fmt: skip
        store = make(unpack(tmp_path / "in", files), tmp_path / "out")
        assert store.kind == "bcn20000" and store.counts == {"MEL": 6, "NV": 6} and store.unit == "lesion"
        assert any("bcn_20k_test.csv is not used" in n for n in store.notes)

    def test_pad_ufes_20(self, tmp_path: Path) -> None:
        files: dict[str, bytes] = {}
        body = "patient_id,lesion_id,smoke,biopsed,diagnostic,img_id\n"
        for i, x in enumerate(IDS):
            files[f"images/imgs_part_{1 + i // 4}/{x}.png"] = encode(picture(i), "PNG")
            body += f"{PATIENT[x]},{LESION[x]},True,False,{CLASS[x]},{x}.png\n"
        source = unpack(tmp_path / "in", files | {"metadata.csv": body.encode()})
        store = make(source, tmp_path / "out")
        assert store.kind == "pad_ufes_20" and store.counts == {"MEL": 6, "NV": 6}
        assert store.unit == "patient" and sizes_of_groups(store) == [4, 4, 4]

    @pytest.mark.parametrize("name", ["dermamnist", "dermamnist_64", "pathmnist"])
    def test_medmnist(self, tmp_path: Path, name: str) -> None:
        random = np.random.default_rng(0)
        sets = {"train": 7, "val": 3, "test": 4}
        arrays, labels = {}, []
        for split, n in sets.items():
            arrays[f"{split}_images"] = random.integers(0, 256, (n, 28, 28, 3), dtype=np.uint8)
            arrays[f"{split}_labels"] = random.integers(0, 7, (n, 1), dtype=np.uint8)
            labels += arrays[f"{split}_labels"][:, 0].tolist()
        np.savez_compressed(tmp_path / f"{name}.npz", **arrays)
        store = make(tmp_path / f"{name}.npz", tmp_path / "out", 28)
        kinds = ["akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"] if "derma" in name else list("0123456")
        order = ["test", "train", "val"]  # rows are in the order of their ids
        by_split = dict(zip(sets, np.split(labels, np.cumsum(list(sets.values()))[:-1]), strict=True))
        assert store.manifest["dx"].tolist() == [kinds[i] for s in order for i in by_split[s]]
        pixels = np.concatenate([arrays[f"{s}_images"] for s in order])
        np.testing.assert_array_equal(store.images(28), pixels)
        assert any("no lesion ids" in n for n in store.notes) and store.unit == "image"

    def test_an_npz_is_not_unpickled(self, tmp_path: Path) -> None:
        arrays = {f"{s}_labels": np.array([print], dtype=object) for s in ("train", "val", "test")}
        np.savez(tmp_path / "dermamnist.npz", **arrays)
        with pytest.raises(SkinGanError, match=r"dermamnist.npz: train_labels cannot be read"):
            make(tmp_path / "dermamnist.npz", tmp_path / "out")

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"val_images": None}, "has no array val_images"),
            ({"val_labels": np.zeros((2, 14), np.uint8)}, "one integer per image"),
            ({"val_images": np.zeros((2, 28, 28, 28), np.uint8)}, "expected uint8"),
            ({"val_images": np.zeros((3, 28, 28, 3), np.uint8)}, "expected uint8"),
            ({"val_labels": np.full((2, 1), 7, np.uint8)}, "label 7, expected 0 to 6"),
        ],
    )
    def test_an_npz_of_another_kind(self, tmp_path: Path, change: dict[str, np.ndarray], said: str) -> None:
        arrays = {f"{s}_{k}": np.zeros((2, 28, 28, 3) if k == "images" else (2, 1), np.uint8)
                  for s in ("train", "val", "test") for k in ("images", "labels")}  # fmt: skip
        np.savez(tmp_path / "dermamnist.npz", **{k: v for k, v in (arrays | change).items() if v is not None})
        with pytest.raises(SkinGanError, match=said):
            make(tmp_path / "dermamnist.npz", tmp_path / "out")

    def test_a_release_whose_test_set_lies_beside_it(self, tmp_path: Path) -> None:
        """The Dataverse page has a table of the same columns for ISIC 2018's test images."""
        source = ham10000(tmp_path / "in")
        other = [[f"L{i}", f"ISIC_{90 + i}", "nv", *[""] * 5] for i in range(3)]
        (source / "ISIC2018_Task3_Test_GroundTruth.csv").write_bytes(table(HEADER, other))
        pack(
            source / "ISIC2018_Task3_Test_Images.zip", {f"ISIC_{90 + i}.jpg": jpeg(90 + i) for i in range(3)}
        )
        store = make(source, tmp_path / "out", strict=True)
        assert sum(store.counts.values()) == 28
        assert any("Test_Images.zip" in n for n in store.notes)
        assert any("Test_GroundTruth.csv is not used" in n for n in store.notes)


def masks(folder: str, suffix: str = ".png") -> dict[str, bytes]:
    files = {}
    for i, x in enumerate(IDS):
        mask = np.zeros((45, 60), np.uint8)
        mask[4 + i : 30, 10:40] = 255
        files[f"{folder}/{x}{suffix}"] = encode(Image.fromarray(mask), "PNG")
    return files


class TestPhotographs:
    def pictures(self, store: Store) -> bool:
        """Whether the store's images are the photographs, in colour."""
        images = store.images(8)
        return len(images) == 12 and float((images.max(-1) == images.min(-1)).mean()) < 0.2

    @pytest.mark.parametrize(
        "folder", ["Masks", "annotations", "ISIC2018_Task1_Training_GroundTruth", "aa", "zz"]
    )
    def test_masks_of_the_same_names_are_told_from_them(self, tmp_path: Path, folder: str) -> None:
        files = photographs() | masks(folder) | {"GroundTruth.csv": TRUTH.encode()}
        store = make(unpack(tmp_path / "in", files), tmp_path / "out")
        assert self.pictures(store)
        said = " ".join([*store.notes, *itertools.chain(*findings(store.path).values())])
        assert folder in said

    @pytest.mark.parametrize(
        "suffix", ["_mask.png", "_segmentation.png", "_superpixels.png", "_Segmentation.png"]
    )
    @pytest.mark.parametrize("layout", ["table", "folders"])
    def test_masks_beside_them(self, tmp_path: Path, layout: str, suffix: str) -> None:
        files = photographs("nv") | masks("nv", suffix)
        files |= {"GroundTruth.csv": TRUTH.encode()} if layout == "table" else {}
        assert self.pictures(make(unpack(tmp_path / "in", files), tmp_path / "out", strict=True))

    @pytest.mark.parametrize("layout", ["table", "folders"])
    def test_masks_that_only_the_extension_tells(self, tmp_path: Path, layout: str) -> None:
        files = photographs("nv") | masks("nv", ".png")
        files |= {"GroundTruth.csv": TRUTH.encode()} if layout == "table" else {}
        store = make(unpack(tmp_path / "in", files), tmp_path / "out")
        assert self.pictures(store) and len(findings(store.path)["duplicate"]) == 12

    def test_a_picture_in_two_formats_is_one_and_two_pictures_are_two(self, tmp_path: Path) -> None:
        files = {
            "nv/1.jpg": jpeg(1),
            "nv/1.png": encode(picture(1), "PNG"),
            "nv/2.jpg": jpeg(2),
            "nv/2.png": encode(picture(3), "PNG"),
        }
        store = make(unpack(tmp_path / "in", files), tmp_path / "out")
        assert store.counts == {"nv": 3} and sizes_of_groups(store) == [1, 1, 1]

    def test_where_there_are_only_masks_nothing_is_stored(self, tmp_path: Path) -> None:
        source = unpack(tmp_path / "in", masks("Masks") | {"GroundTruth.csv": TRUTH.encode()})
        with pytest.raises(SkinGanError, match=r"none of the images that GroundTruth.csv names is there"):
            make(source, tmp_path / "out")

    def test_a_missing_photograph_is_not_replaced_by_its_mask(self, tmp_path: Path) -> None:
        files = photographs() | masks("Masks") | {"GroundTruth.csv": TRUTH.encode()}
        del files[f"images/{IDS[3]}.jpg"]
        store = make(unpack(tmp_path / "in", files), tmp_path / "out")
        assert sum(store.counts.values()) == 11
        assert f"only Masks/{IDS[3]}.png" in findings(store.path)["missing"][0]

    def test_a_damaged_file_gives_way_to_a_whole_one(self, tmp_path: Path) -> None:
        files = photographs() | {"GroundTruth.csv": TRUTH.encode(), f"a/{IDS[0]}.jpg": jpeg(0)[:200]}
        store = make(unpack(tmp_path / "in", files), tmp_path / "out")
        assert sum(store.counts.values()) == 12 and "damaged" in findings(store.path)["duplicate"][0]

    LEFT = ("@eaDir/{x}.jpg/SYNOPHOTO_THUMB_M.jpg", "#recycle/{x}.jpg", "$RECYCLE.BIN/{x}.jpg",
            ".thumbnails/{x}.jpg", "__MACOSX/._{x}.jpg", "Thumbs.db", "desktop.ini", ".DS_Store", "Icon\r",
            "{x}.jpg:Zone.Identifier", ".Spotlight-V100/x", "System Volume Information/x",
            "@Recycle/{x}.jpg", "~$cases.csv")  # fmt: skip

    @pytest.mark.parametrize("leftover", LEFT)
    def test_what_systems_leave_behind_is_nothing(self, tmp_path: Path, leftover: str) -> None:
        files = {f"{c}/{i}.jpg": jpeg(10 * n + i) for n, c in enumerate("ab") for i in range(3)}
        files |= {
            f"{c}/{leftover.format(x=i)}": encode(picture(i).resize((20, 15))) for c in "ab" for i in range(3)
        }
        store = make(unpack(tmp_path / "in", files), tmp_path / "out", strict=True)
        assert store.counts == {"a": 3, "b": 3}

    def test_folders_of_windows_zips_are_no_files(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
            for name, data in {"a\\": b"", "b\\": b"", "a\\1.jpg": jpeg(1), "b\\2.jpg": jpeg(2)}.items():
                archive.writestr(zipfile.ZipInfo(name), data)
        assert make(tmp_path / "in.zip", tmp_path / "out", strict=True).counts == {"a": 1, "b": 1}

    @pytest.mark.parametrize(
        "copy",
        ["{} (Anna's conflicted copy 2024-01-02)",
         "{}.sync-conflict-20240102-101010-ABCDEF", "{} (1)", "{} - Copy",
         "{} - Kopie (2)", "Copy of {}", "{}-DESKTOP-4F2K1",
         "{} copy"],
    )  # fmt: skip
    def test_copies_that_cloud_drives_make_are_passed_over(self, tmp_path: Path, copy: str) -> None:
        files = {f"{c}/{i}.jpg": jpeg(10 * n + i) for n, c in enumerate("ab") for i in range(3)}
        source = unpack(tmp_path / "in", files | {f"a/{copy.format(1)}.jpg": jpeg(1)})
        store = make(source, tmp_path / "out")
        assert store.counts == {"a": 3, "b": 3} and copy.format(1) in findings(store.path)["duplicate"][0]

    def test_numbers_in_brackets_are_names_of_their_own(self, tmp_path: Path) -> None:
        source = unpack(
            tmp_path / "in", {f"a/x{end}.jpg": jpeg(i) for i, end in enumerate(["", " (1)", " (2)"])}
        )
        assert make(source, tmp_path / "out").counts == {"a": 3}


class TestOwnTable:
    COLUMNS = Columns("cases.csv", "file", "diagnosis", ("lesion", "patient"))

    def source(self, folder: Path, text: bytes, images: dict[str, bytes] | None = None) -> Path:
        return unpack(folder, (photographs() if images is None else images) | {"cases.csv": text})

    @pytest.mark.parametrize("ids", ["stem", "extension", "path", "backslashes", "absolute"])
    @pytest.mark.parametrize("zipped", [False, True])
    def test_by_patient_joins_lesions_whatever_ids_look_like(
        self, tmp_path: Path, ids: str, zipped: bool
    ) -> None:
        before = {"path": "images/", "backslashes": "images\\", "absolute": "/home/anna/images/"}.get(ids, "")
        text = "file,diagnosis,lesion,patient\n" + "".join(
            f"{before}{x}{'' if ids == 'stem' else '.jpg'},{CLASS[x]},{LESION[x]},{PATIENT[x]}\n" for x in IDS
        )
        source = self.source(tmp_path / "in", text.encode())
        if zipped:
            files = {p.relative_to(source).as_posix(): p.read_bytes() for p in source.rglob("*.*")}
            source = pack(tmp_path / "in.zip", files)
        store = make(source, tmp_path / "out", columns=self.COLUMNS)
        assert store.counts == {"MEL": 6, "NV": 6} and store.unit == "patient"
        assert sizes_of_groups(store) == [4, 4, 4]
        assert {g for g in store.manifest["group"]} == set(PATIENT.values())
        assert store.manifest["lesion_id"].tolist() == [LESION[x] for x in IDS]

    def test_chains_of_lesions_and_patients_are_one_unit(self, tmp_path: Path) -> None:
        """Images 0-1 share a lesion, 1-2 a patient, 3 and 4 nothing that is known."""
        text = b"file,diagnosis,lesion,patient\n" + b"".join(
            f"{IDS[i]},a,{lesion},{patient}\n".encode()
            for i, (lesion, patient) in enumerate(
                [("L1", "NA"), ("L1", "P"), ("L2", "P"), ("NA", ""), ("", "None")]
            )
        )
        store = make(self.source(tmp_path / "in", text), tmp_path / "out", columns=self.COLUMNS)
        assert sizes_of_groups(store) == [1, 1, 3] and store.unit == "group"
        assert any(
            "lesions are known for 3 of 5 images and patients are known for 2 of 5" in n for n in store.notes
        )

    def test_lesions_are_found_without_being_asked_for(self, tmp_path: Path) -> None:
        text = lines("file,diagnosis,lesion_id", CLASS, LESION)
        columns = Columns("cases.csv", "file", "diagnosis")
        assert make(self.source(tmp_path / "in", text), tmp_path / "out", columns=columns).unit == "lesion"

    def test_the_same_names_in_two_folders(self, tmp_path: Path) -> None:
        images = {
            f"{d}/{i}.jpg": jpeg(10 * n + i) for n, d in enumerate(("visit1", "visit2")) for i in range(3)
        }
        text = "file,diagnosis\n" + "".join(f"{path},{path[:6]}\n" for path in images)
        columns = Columns("cases.csv", "file", "diagnosis")
        store = make(self.source(tmp_path / "in", text.encode(), images), tmp_path / "out", columns=columns)
        assert store.counts == {"visit1": 3, "visit2": 3}
        stems = "file,diagnosis\n" + "".join(f"{i},a\n" for i in range(3))
        with pytest.raises(SkinGanError, match=r"visit1/0.jpg and visit2/0.jpg"):
            make(self.source(tmp_path / "two", stems.encode(), images), tmp_path / "no", columns=columns)

    def test_a_table_from_elsewhere(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        source = unpack(tmp_path / "in", photographs())
        (tmp_path / "cases.csv").write_bytes(lines("file,diagnosis", CLASS))
        words = ["--table", tmp_path / "cases.csv", "--id", "file", "--label", "diagnosis"]
        first = cli("ingest", source, "--size", "8", "--out", tmp_path / "out", *words)
        assert first.returncode == 0, first.stderr
        again = cli("ingest", source, "--size", "8", "--out", tmp_path / "out", *words)
        assert "nothing to do" in again.stdout
        monkeypatch.chdir(tmp_path)
        words[1] = "cases.csv"  # from here the same file
        assert (
            "nothing to do" in cli("ingest", source, "--size", "8", "--out", tmp_path / "out", *words).stdout
        )
        (tmp_path / "cases.csv").write_bytes(lines("file,diagnosis", dict.fromkeys(IDS, "MEL")))
        assert (
            "another source" in cli("ingest", source, "--size", "8", "--out", tmp_path / "out", *words).stderr
        )

    def test_the_command_that_adds_a_size_names_the_table(self, tmp_path: Path) -> None:
        source = self.source(tmp_path / "a source", lines("file,diagnosis,lesion", CLASS, LESION))
        store = make(source, tmp_path / "out", columns=Columns("cases.csv", "file", "diagnosis", ("lesion",)))
        with pytest.raises(
            SkinGanError, match=r"a source' --table cases.csv --id file --label diagnosis --group lesion"
        ):
            store.images(16)

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (
                {"id": "image"},
                r"--id image: cases.csv has no such column, it has file, diagnosis, lesion, patient",
            ),
            ({"label": "dx"}, r"--label dx: cases.csv has no such column, it has file"),
            ({"group": ("lesion", "case")}, r"--group case: cases.csv has no such column, it has file"),
            ({"table": "other.csv"}, r"--table other.csv: there is no such file.*cases.csv"),
        ],
    )
    def test_what_is_not_there_is_named_with_what_is(
        self, tmp_path: Path, change: dict[str, object], said: str
    ) -> None:
        text = lines("file,diagnosis,lesion,patient", CLASS, LESION, PATIENT)
        columns = Columns(**{**vars(self.COLUMNS), **change})
        with pytest.raises(SkinGanError, match=said):
            make(self.source(tmp_path / "in", text), tmp_path / "out", columns=columns)

    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [
            ("\nISIC_0000001,MEL", "\nISIC_0000001,NV,IL_0,IP_0\nISIC_0000001,MEL", "lists ISIC_0000001 as"),
            (
                "ISIC_0000001,MEL",
                "ISIC_0000001,NV",
                r"lesion IL_0 is MEL \(ISIC_0000000\) and NV \(ISIC_0000001\)",
            ),
            (
                "ISIC_0000011,NV,IL_5,IP_2",
                "ISIC_0000011,MEL,IL_0,IP_2",
                r"lesion IL_0 is of patient IP_0 \(ISIC_0000000\) and of patient IP_2 .*within each patient",
            ),
            ("\nISIC_0000001", "\n", "cases.csv line 3: file is 'empty'"),
            ("ISIC_", "DERM_", "none of the images that cases.csv names.*DERM_0000000.*ISIC_0000000.jpg"),
        ],
    )
    def test_contradictions_are_named(self, tmp_path: Path, old: str, new: str, said: str) -> None:
        text = lines("file,diagnosis,lesion,patient", CLASS, LESION, PATIENT).decode().replace(old, new)
        with pytest.raises(SkinGanError, match=said):
            make(self.source(tmp_path / "in", text.encode()), tmp_path / "out", columns=self.COLUMNS)

    def test_classes_in_columns_of_their_own(self, tmp_path: Path) -> None:
        acne = {x: str(int(CLASS[x] == "MEL")) for x in IDS}
        wart = {x: str(int(CLASS[x] == "NV")) for x in IDS}
        text = lines("file,acne,male,wart", acne, dict.fromkeys(IDS, "1"), wart)
        columns = Columns("cases.csv", "file", "acne,wart")
        store = make(self.source(tmp_path / "in", text), tmp_path / "out", columns=columns)
        assert store.counts == {"acne": 6, "wart": 6}
        words = lines("file,acne,wart", dict.fromkeys(IDS, "mild"), wart)
        with pytest.raises(SkinGanError, match=r"cases\.csv has 'mild' in acne"):
            make(self.source(tmp_path / "words", words), tmp_path / "no", columns=columns)

    def test_spellings_of_one_class_are_one(self, tmp_path: Path) -> None:
        label = {x: ("Nevus", "nevus", "Nevus ")[i % 3] if i < 9 else "unknown" for i, x in enumerate(IDS)}
        columns = Columns("cases.csv", "file", "diagnosis")
        store = make(
            self.source(tmp_path / "in", lines("file,diagnosis", label)), tmp_path / "out", columns=columns
        )
        assert store.counts == {"Nevus": 9, "unknown": 3}
        assert any("'nevus' (3 images) is taken as 'Nevus'" in n for n in store.notes)

    def test_folders_give_the_classes_and_a_table_the_patients(self, tmp_path: Path) -> None:
        images = {f"{CLASS[x]}/{x}.jpg": jpeg(i) for i, x in enumerate(IDS)}
        source = self.source(tmp_path / "in", lines("file,patient", PATIENT), images)
        store = make(source, tmp_path / "out", columns=Columns("cases.csv", "file", "", ("patient",)))
        assert store.counts == {"MEL": 6, "NV": 6} and sizes_of_groups(store) == [4, 4, 4]

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["--table", "x.csv"], "--table needs --id"),
            (["--label", "dx"], "give it with --table"),
            (["--table", "x.csv", "--id", "a", "--label", "b", "--folders"], "give one of them"),
        ],
    )
    def test_half_of_it_is_explained(self, tmp_path: Path, words: list[str], said: str) -> None:
        result = cli("ingest", tmp_path, "--size", "8", *words)
        assert result.returncode == 2 and said in result.stderr

    def test_help_shows_the_options_in_use(self) -> None:
        text = cli("ingest", "--help").stdout
        assert "--table ~/clinic/cases.csv --id file --label diagnosis" in text and "PAD-UFES-20" in text


def test_rows_of_a_mirror_are_used_once(tmp_path: Path) -> None:
    """Not only HAM10000's: any table may repeat its rows."""
    data = io.BytesIO(TRUTH.encode() + TRUTH.partition("\n")[2].encode()).getvalue()
    store = make(unpack(tmp_path / "in", photographs() | {"GroundTruth.csv": data}), tmp_path / "out")
    assert sum(store.counts.values()) == 12 and len(findings(store.path)["duplicate"]) == 12
