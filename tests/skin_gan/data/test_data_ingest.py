"""Each layout of SOURCE becomes the same kind of store; what is wrong with it is counted and named."""

import json
import os
import shutil
import zipfile
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from data_samples import (
    HEADER,
    cli,
    encode,
    findings,
    ham10000,
    jpeg,
    pack,
    picture,
    rows,
    table,
    unpack,
)
from PIL import Image

from skin_gan.data.ingest import Options, ingest
from skin_gan.data.store import Store, open_store
from skin_gan.errors import SkinGanError

DATA = os.environ.get("SKIN_GAN_DATA")
real = pytest.mark.skipif(not DATA, reason="set SKIN_GAN_DATA to a folder with ham10000/ and sprites.zip")


def make(source: Path, out: Path, *sizes: int, **options: object) -> Store:
    return ingest(source, out, Options(list(sizes) or [16], **options))[0]


class TestOfficialLayout:
    def test_two_zips_and_a_table(self, tmp_path: Path) -> None:
        store = make(ham10000(tmp_path / "in"), tmp_path / "out", 16, 8)
        assert (store.kind, store.unit, sum(store.counts.values())) == ("ham10000", "lesion", 28)
        assert store.counts == dict.fromkeys(["akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"], 4)
        assert set(store.lesions.values()) == {2}
        assert store.sizes == [8, 16] and store.images(16).shape == (28, 16, 16, 3)
        assert store.manifest["image_id"].is_monotonic_increasing
        assert list(store.manifest)[5:] == ["dx_type", "age", "sex", "localization", "dataset"]
        assert findings(store.path) == {}

    def test_a_part_of_the_release_says_so_per_class(self, tmp_path: Path) -> None:
        store = make(ham10000(tmp_path / "in"), tmp_path / "out")
        assert store.partial
        note = next(n for n in store.notes if "fewer" in n)
        assert "df 111" in note and "nv 6701" in note
        assert "| df | 4 | 2 | 115 | 111 |" in (store.path / "report.md").read_text()

    @pytest.mark.parametrize("spelling", ["part1", "part_1", "PART_1"])
    @pytest.mark.parametrize("zipped", [True, False])
    def test_spellings_of_the_parts(self, tmp_path: Path, spelling: str, zipped: bool) -> None:
        source = tmp_path / "in" / "nested"
        members = {f"ISIC_{i:07d}.JPG": jpeg(i) for i in range(14)}
        source.mkdir(parents=True)
        name = f"HAM10000_images_{spelling}"
        if zipped:
            pack(source / f"{name}.zip", members)
        else:
            unpack(source / name, members)
        (source / "HAM10000_metadata.csv").write_bytes(table(HEADER, rows(14)))
        store = make(tmp_path / "in", tmp_path / "out")
        assert sum(store.counts.values()) == 14 and not findings(store.path)

    @pytest.mark.parametrize(
        ("name", "delimiter", "bom"),
        [
            ("HAM10000_metadata", ",", b""),
            ("HAM10000_metadata.tab", "\t", b""),
            ("ham10000_metadata.CSV", ";", b"\xef\xbb\xbf"),
        ],
    )
    def test_forms_of_the_metadata(self, tmp_path: Path, name: str, delimiter: str, bom: bytes) -> None:
        source = ham10000(tmp_path / "in")
        (source / "HAM10000_metadata.csv").unlink()
        short = [line[:-1] for line in rows(28)]  # the first release has no `dataset`
        (source / name).write_bytes(bom + table([c.upper() for c in HEADER[:-1]], short, delimiter))
        store = make(source, tmp_path / "out")
        assert sum(store.counts.values()) == 28
        assert "dataset" not in store.manifest and store.manifest["age"].tolist() == ["50.0"] * 28

    def test_one_zip_of_everything_as_kaggle_packs_it(self, tmp_path: Path) -> None:
        source = ham10000(tmp_path / "in")
        members = {"HAM10000_metadata.csv": (source / "HAM10000_metadata.csv").read_bytes()}
        for part in ("part_1", "part_2"):
            with zipfile.ZipFile(source / f"HAM10000_images_{part}.zip") as archive:
                for name in archive.namelist():
                    members[f"HAM10000_images_{part}/{name}"] = archive.read(name)
                    members[f"ham10000_images_{part}/{name}"] = archive.read(name)
        members["hmnist_8_8_L.csv"] = b"pixel0000,label\n1,2\n"
        store = make(pack(tmp_path / "archive.zip", members), tmp_path / "out")
        assert sum(store.counts.values()) == 28 and not findings(store.path)
        assert sum("same files" in n for n in store.notes) == 2

    def test_an_unknown_column_is_kept_and_said(self, tmp_path: Path) -> None:
        source = ham10000(tmp_path / "in")
        lines = [[*line, "x"] for line in rows(28)]
        (source / "HAM10000_metadata.csv").write_bytes(table([*HEADER, "group"], lines))
        store = make(source, tmp_path / "out")
        assert store.manifest["source_group"].eq("x").all()
        assert any("does not have" in n and "group" in n for n in store.notes)

    def test_the_mirror_that_repeats_images_is_told(self, tmp_path: Path) -> None:
        source = ham10000(tmp_path / "in")
        (source / "HAM10000_metadata.csv").write_bytes(table(HEADER, rows(28) + rows(9)))
        store = make(source, tmp_path / "out")
        assert sum(store.counts.values()) == 28 and len(findings(store.path)["duplicate"]) == 9
        assert any("37 rows for 28 images" in n for n in store.notes)

    def test_other_archives_beside_the_parts_are_passed_over(self, tmp_path: Path) -> None:
        source = ham10000(tmp_path / "in")
        pack(source / "HAM10000_segmentations_lesion_tschandl.zip", {"ISIC_0000000_segmentation.png": b"x"})
        store = make(source, tmp_path / "out")
        assert not findings(store.path)
        assert any("segmentations" in n for n in store.notes)

    def test_chosen_classes(self, tmp_path: Path) -> None:
        store = make(ham10000(tmp_path / "in"), tmp_path / "out", classes=["df", "vasc"])
        assert store.counts == {"df": 4, "vasc": 4} and not findings(store.path)
        with pytest.raises(SkinGanError, match=r"--classes naevus.*akiec, bcc"):
            make(ham10000(tmp_path / "in"), tmp_path / "other", classes=["naevus"])


class TestChallengeLayout:
    CLASSES = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC", "SCC", "UNK")

    def source(self, folder: Path, lesions: int | None = None) -> Path:
        """20 images of MEL, NV and SCC in turn; the rest stay empty. `lesions`: how many have an id."""
        unpack(folder / "Input", {f"ISIC_{i}.jpg": jpeg(i) for i in range(20)} | {"LICENSE.txt": b"CC"})
        lines = []
        for i in range(20):
            label = ("MEL", "NV", "SCC")[i // 2 % 3]
            lines.append([f"ISIC_{i}", *("1.0" if c == label else "0.0" for c in self.CLASSES)])
        (folder / "Training_GroundTruth.csv").write_bytes(table(["image", *self.CLASSES], lines))
        if lesions is not None:
            known = [[f"ISIC_{i}", f"L{i // 2}" if i < lesions else "", "histopathology"] for i in range(20)]
            header = ["image", "lesion_id", "diagnosis confirm type"]
            (folder / "LesionGroupings.csv").write_bytes(table(header, known))
        return folder

    def test_classes_come_from_the_data(self, tmp_path: Path) -> None:
        store = make(self.source(tmp_path / "in"), tmp_path / "out")
        assert store.counts == {"MEL": 8, "NV": 6, "SCC": 6} and store.kind == "isic"
        assert not store.partial and not findings(store.path)

    def test_without_lesions_the_unit_is_the_image_and_that_is_said(self, tmp_path: Path) -> None:
        store = make(self.source(tmp_path / "in"), tmp_path / "out")
        assert store.unit == "image" and store.lesions == store.counts
        assert any("the unit is the image" in n for n in store.notes)
        assert "the unit is the image" in cli("show", store.path).stdout

    def test_lesion_groupings_are_used(self, tmp_path: Path) -> None:
        store = make(self.source(tmp_path / "in", lesions=20), tmp_path / "out")
        assert store.unit == "lesion" and store.lesions == {"MEL": 4, "NV": 3, "SCC": 3}
        assert store.manifest["diagnosis confirm type"].eq("histopathology").all()

    def test_lesions_of_some_images_group_those(self, tmp_path: Path) -> None:
        store = make(self.source(tmp_path / "in", lesions=10), tmp_path / "out")
        assert store.unit == "group" and sum(store.lesions.values()) == 5 + 10
        assert any("lesions are known for 10 of 20 images" in n for n in store.notes)
        assert not any("the unit is the image" in n for n in store.notes)

    def test_an_image_of_two_classes_is_an_error(self, tmp_path: Path) -> None:
        source = self.source(tmp_path / "in")
        truth = source / "Training_GroundTruth.csv"
        truth.write_text(truth.read_text().replace("ISIC_1,1.0,0.0", "ISIC_1,1.0,1.0"))
        with pytest.raises(SkinGanError, match=r"1 images without exactly one class.*ISIC_1"):
            make(source, tmp_path / "out")


class TestFolders:
    def source(self, folder: Path) -> dict[str, bytes]:
        return {
            f"{c}/{i}.png": encode(picture(10 * n + i), "PNG") for n, c in enumerate("abc") for i in range(5)
        }

    def test_a_folder_and_a_zip_of_it_give_the_same_data(self, tmp_path: Path) -> None:
        members = self.source(tmp_path)
        one = make(unpack(tmp_path / "in", members), tmp_path / "one")
        wrapped = {f"wrapper/deeper/{name}": data for name, data in members.items()}
        two = make(pack(tmp_path / "in.zip", wrapped), tmp_path / "two")
        assert one.counts == {"a": 5, "b": 5, "c": 5} and one.unit == "image"
        assert one.fingerprint == two.fingerprint
        np.testing.assert_array_equal(one.images(16), two.images(16))

    def test_a_zip_per_class(self, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        pack(tmp_path / "in" / "a.zip", {"x.png": encode(picture(1), "PNG")})
        pack(tmp_path / "in" / "b.zip", {"x.png": encode(picture(2), "PNG")})
        assert make(tmp_path / "in", tmp_path / "out").counts == {"a": 1, "b": 1}

    def test_train_and_val_folders_are_taken_together(self, tmp_path: Path) -> None:
        members = {
            f"{part}/{c}/{part}{c}.png": encode(picture(i), "PNG")
            for i, (part, c) in enumerate(
                [("train", "cat"), ("train", "dog"), ("val", "cat"), ("val", "dog")]
            )
        }
        store = make(unpack(tmp_path / "in", members), tmp_path / "out")
        assert store.counts == {"cat": 2, "dog": 2}
        assert any("taken together" in n for n in store.notes)

    @pytest.mark.parametrize(("background", "shown"), [((0, 0, 0), 0), ((255, 255, 255), 255)])
    def test_transparency_shows_the_stated_background(
        self, tmp_path: Path, background: tuple[int, int, int], shown: int
    ) -> None:
        sprite = Image.new("RGBA", (16, 16), (0, 255, 0, 0))
        sprite.paste((200, 0, 0, 255), (4, 4, 12, 12))
        source = unpack(tmp_path / "in", {"a/1.png": encode(sprite, "PNG")})
        store = make(source, tmp_path / "out", background=background)
        image = store.images(16)[0]
        assert (image[0, 0] == shown).all() and image[8, 8].tolist() == [200, 0, 0]
        assert any("#" + bytes(background).hex() in n for n in store.notes)

    def test_names_of_any_bytes(self, tmp_path: Path) -> None:
        source = unpack(tmp_path / "in", {'a/grün, \n "1".jpg': jpeg(1), "a/2.jpg": jpeg(2)})
        os.rename(os.fsencode(source / "a" / "2.jpg"), os.fsencode(source / "a") + b"/\xff\xfe.jpg")
        store = make(source, tmp_path / "out")
        assert set(store.manifest["image_id"]) == {'a/grün, \n "1".jpg', "a/\\udcff\\udcfe.jpg"}

    def test_a_zip_with_backslashes(self, tmp_path: Path) -> None:
        source = pack(tmp_path / "in.zip", {"a\\1.jpg": jpeg(1), "b\\2.jpg": jpeg(2)})
        assert make(source, tmp_path / "out").counts == {"a": 1, "b": 1}

    def test_junk_of_file_managers_is_no_finding(self, tmp_path: Path) -> None:
        junk = {"__MACOSX/a/._0.png": b"x", "a/.DS_Store": b"x", "a/._1.png": b"x"}
        store = make(pack(tmp_path / "in.zip", self.source(tmp_path) | junk), tmp_path / "out")
        assert sum(store.counts.values()) == 15 and not findings(store.path)


WHOLE = jpeg(3)
CASES = {
    "missing": ({"ISIC_0000003.jpg": None}, "ISIC_0000003"),
    "extra": ({"ISIC_0099999.jpg": jpeg(999)}, "ISIC_0099999"),
    "corrupt": ({"ISIC_0000003.jpg": WHOLE[:20] + b"\0" * 40 + WHOLE[60:]}, "ISIC_0000003"),
    "non_image": ({"ISIC_0000003.jpg": b"<html>404 Not Found</html>"}, "ISIC_0000003"),
    "truncated": ({"ISIC_0000003.jpg": WHOLE[: len(WHOLE) // 2]}, "ISIC_0000003"),
    "duplicate": ({"ISIC_0000003.jpg": jpeg(8)}, "ISIC_0000008"),
}


class TestFindings:
    """Everything wrong is counted and named; --strict makes each of them an error that leaves nothing."""

    @pytest.mark.parametrize("kind", CASES)
    def test_is_counted_and_named(self, tmp_path: Path, kind: str) -> None:
        changes, name = CASES[kind]
        source = ham10000(tmp_path / "in", changes=changes)
        store = make(source, tmp_path / "out")
        found = findings(store.path)
        assert list(found) == [kind] and len(found[kind]) == 1 and name in found[kind][0]
        assert name in (store.path / "report.md").read_text()
        lost = kind in ("missing", "corrupt", "non_image", "truncated")
        assert sum(store.counts.values()) == 28 - lost
        with pytest.raises(SkinGanError, match=f"--strict.*1 {kind.replace('_', '-')}"):
            make(source, tmp_path / "strict", strict=True)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out"]

    def test_strict_accepts_clean_data_and_judges_a_store_that_is_there(self, tmp_path: Path) -> None:
        make(ham10000(tmp_path / "clean"), tmp_path / "one", strict=True)
        source = ham10000(tmp_path / "in", changes=CASES["missing"][0])
        make(source, tmp_path / "two")
        with pytest.raises(SkinGanError, match="1 missing"):
            make(source, tmp_path / "two", strict=True)

    def test_a_file_that_is_no_image_by_name(self, tmp_path: Path) -> None:
        source = ham10000(tmp_path / "in", changes={"notes.txt": b"hello"})
        (source / "todo.doc").write_bytes(b"x")
        found = findings(make(source, tmp_path / "out").path)["non_image"]
        assert len(found) == 2 and "notes.txt" in found[0] + found[1] and "todo.doc" in found[0] + found[1]

    def test_two_pictures_of_one_id_are_an_error_that_names_both(self, tmp_path: Path) -> None:
        source = ham10000(tmp_path / "in", changes={"ISIC_0000020.jpg": jpeg(77)})
        with pytest.raises(SkinGanError, match=r"part_1.zip/ISIC_0000020.jpg and .*part_2.zip/ISIC_0000020"):
            make(source, tmp_path / "out")

    def test_of_two_sizes_of_one_picture_the_larger_is_used(self, tmp_path: Path) -> None:
        small = encode(picture(20).resize((30, 22)), quality=90)
        source = ham10000(tmp_path / "in", changes={"ISIC_0000020.jpg": small})
        store = make(source, tmp_path / "out", 32)
        assert store.manifest.set_index("image_id")["sha256"]["ISIC_0000020"] == sha256(jpeg(20)).hexdigest()
        assert "part_1.zip/ISIC_0000020.jpg is passed over" in findings(store.path)["duplicate"][0]

    def test_a_bad_checksum_in_a_zip_is_corrupt(self, tmp_path: Path) -> None:
        source = ham10000(tmp_path / "in")
        part = source / "HAM10000_images_part_1.zip"
        with zipfile.ZipFile(part) as archive:
            info = archive.getinfo("ISIC_0000003.jpg")
        data = bytearray(part.read_bytes())
        data[info.header_offset + 80] ^= 0xFF
        part.write_bytes(data)
        assert "ISIC_0000003" in findings(make(source, tmp_path / "out").path)["corrupt"][0]


class TestDuplicates:
    def test_equal_pictures_join_lesions_and_are_never_split(self, tmp_path: Path) -> None:
        source = ham10000(
            tmp_path / "in", changes={"ISIC_0000003.jpg": jpeg(8), "ISIC_0000009.jpg": jpeg(12)}
        )
        manifest = make(source, tmp_path / "out").manifest.set_index("image_id")
        joined = [
            "ISIC_0000002",
            "ISIC_0000003",
            "ISIC_0000008",
            "ISIC_0000009",
            "ISIC_0000012",
            "ISIC_0000013",
        ]
        assert set(manifest["group"][joined]) == {"HAM_0000001"}
        assert manifest["lesion_id"]["ISIC_0000012"] == "HAM_0000006"
        assert (manifest["group"] == "HAM_0000001").sum() == 6

    def test_a_picture_is_recognised_under_other_metadata(self, tmp_path: Path) -> None:
        exif = Image.Exif()
        exif[0x010F] = "camera"
        images = {
            "a/1.jpg": jpeg(1),
            "a/2.jpg": jpeg(1)[:2] + b"\xff\xfe\x00\x07hello" + jpeg(1)[2:],  # a comment
            "b/3.png": encode(picture(2), "PNG"),
            "b/4.png": encode(picture(2), "PNG", exif=exif, compress_level=1),
        }
        found = findings(make(unpack(tmp_path / "in", images), tmp_path / "out").path)["duplicate"]
        assert len(found) == 2 and "a/2.jpg" in found[0] and "b/4.png" in found[1]

    def test_a_group_of_two_classes_stays_together_and_is_said(self, tmp_path: Path) -> None:
        store = make(
            unpack(tmp_path / "in", {"a/1.jpg": jpeg(1), "b/1.jpg": jpeg(1), "b/2.jpg": jpeg(2)}),
            tmp_path / "out",
        )
        assert store.manifest["group"].nunique() == 2
        assert "as a and as b" in findings(store.path)["duplicate"][0]
        assert any("two classes" in n for n in store.notes)


class TestIdentity:
    def test_the_fingerprint_is_of_content_only(self, tmp_path: Path) -> None:
        """Not of the path, the sizes, the order of rows or how the files are packed."""
        source = ham10000(tmp_path / "in")
        first = make(source, tmp_path / "one", 16)
        other = tmp_path / "other"
        for part in ("part_1", "part_2"):
            with zipfile.ZipFile(source / f"HAM10000_images_{part}.zip") as archive:
                unpack(other / f"HAM10000_images_{part}", {n: archive.read(n) for n in archive.namelist()})
        (other / "HAM10000_metadata").write_bytes(table(HEADER, rows(28)[::-1]))
        second = make(other, tmp_path / "two", 8, 32, workers=1)
        assert first.fingerprint == second.fingerprint

    @pytest.mark.parametrize("change", ["image", "label", "lesion"])
    def test_any_change_of_content_changes_it(self, tmp_path: Path, change: str) -> None:
        before = make(ham10000(tmp_path / "in"), tmp_path / "one").fingerprint
        source = ham10000(
            tmp_path / "in2", changes={"ISIC_0000003.jpg": jpeg(99)} if change == "image" else None
        )
        metadata = rows(28)
        metadata[5][2] = "df" if change == "label" else metadata[5][2]
        metadata[5][0] = "HAM_9" if change == "lesion" else metadata[5][0]
        (source / "HAM10000_metadata.csv").write_bytes(table(HEADER, metadata))
        assert make(source, tmp_path / "two").fingerprint != before


@real
def test_a_part_of_the_real_release(tmp_path: Path) -> None:
    """Real files under their real names: 60 images of part 1 and their rows."""
    source = Path(str(DATA)) / "ham10000"
    with zipfile.ZipFile(source / "HAM10000_images_part_1.zip") as archive:
        names = archive.namelist()[:60]
        unpack(tmp_path / "in" / "HAM10000_images_part_1", {n: archive.read(n) for n in names})
    shutil.copy(source / "HAM10000_metadata.csv", tmp_path / "in")
    store = make(tmp_path / "in", tmp_path / "out", 32)
    assert sum(store.counts.values()) == 60 and store.partial
    assert len(findings(store.path)["missing"]) == 8491 - 60
    images = store.images(32).astype(float)
    assert images.mean() > 100 and (images.std((1, 2, 3)) > 3).all()


@real
def test_real_sprites(tmp_path: Path) -> None:
    result = cli("ingest", Path(str(DATA)) / "sprites.zip", "--size", "32", "--out", tmp_path / "s")
    assert result.returncode == 0, result.stderr
    store = open_store(tmp_path / "s")
    assert store.counts == {"feature": 311, "floor": 371, "item": 623, "monster": 679, "wall": 423}
    assert "#000000" in json.dumps(store.notes)


@real
@pytest.mark.slow
def test_all_real_images(tmp_path: Path) -> None:
    store = make(Path(str(DATA)) / "ham10000", tmp_path / "out", 32)
    assert sum(store.counts.values()) == 8491 and sum(store.lesions.values()) == 6349
    assert list(findings(store.path)) == ["duplicate"]
    assert "ISIC_0029938" in findings(store.path)["duplicate"][0]
