"""Nothing generated is trusted before it is checked; nothing is tested that was trained on."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from bench_samples import SIZE, make_store, new_images, write_set
from data_samples import encode, pack
from PIL import Image

from skin_gan.ablation.arm import Arm
from skin_gan.ablation.arms import make_samples
from skin_gan.ablation.balance import images_to_add
from skin_gan.ablation.parts import image_split, labelled_part, leak, lesion_split
from skin_gan.ablation.samples import SampleSet, Survey, check_fold, read_samples, subset, survey
from skin_gan.ablation.trainingset import training_set
from skin_gan.data.store import Store, class_split, fold_fingerprint
from skin_gan.errors import SkinGanError
from skin_gan.generate import write_set as write_array


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("store") / "small")


@pytest.fixture
def folder(tmp_path: Path, store: Store) -> Path:
    """Samples of two classes from fold 0's generator."""
    for label in ("bcc", "mel"):
        write_set(tmp_path / "set", label, new_images(label, 6), fold_fingerprint(store, 0))
    return tmp_path / "set"


def as_arrays(folder: Path, tmp_path: Path) -> Path:
    """The set of a folder, with an array per class."""
    for label, sample in read_samples(folder, SIZE).items():
        write_array(tmp_path / "array" / label, dict(sample.origin), sample.images.transpose(0, 2, 3, 1))
    return tmp_path / "array"


def change(manifest: Path, **changes: object) -> None:
    manifest.write_text(yaml.safe_dump({**yaml.safe_load(manifest.read_text()), **changes}))


class TestReading:
    def test_images_and_origin_come_back(self, folder: Path, store: Store) -> None:
        found = read_samples(folder, SIZE)
        assert list(found) == ["bcc", "mel"]
        np.testing.assert_array_equal(found["mel"].images, new_images("mel", 6))
        assert found["mel"].origin["seed"] == 0 and found["mel"].names[5] == "00005.png"
        check_fold(found["mel"], fold_fingerprint(store, 0))

    def test_sets_are_told_apart_by_their_content(self, folder: Path) -> None:
        found = read_samples(folder, SIZE)
        prints = {found["bcc"].fingerprint(), found["mel"].fingerprint()}
        prints.add(subset(found["mel"], np.arange(5)).fingerprint())
        assert found["mel"].fingerprint(5) in prints
        assert len(prints) == 3
        assert read_samples(folder, SIZE)["mel"].fingerprint() in prints

    @pytest.mark.parametrize(
        ("fault", "said"),
        [
            (lambda p: (p / "00002.png").unlink(), "lacks 1 of its images, such as 00002.png"),
            (lambda p: (p / "00009.png").write_bytes((p / "00001.png").read_bytes()), "does not list 1"),
            (lambda p: (p / "00002.png").write_bytes((p / "00001.png").read_bytes()), "other images than"),
            (lambda p: (p / "manifest.csv").unlink(), "no manifest.csv"),
            (lambda p: (p / "manifest.csv").write_text("nonsense\n1\n"), "manifest.csv is damaged"),
            (lambda p: (p / "manifest.csv").write_bytes(b"\xff\xfe\x00"), "manifest.csv is damaged"),
            (lambda p: (p / "manifest.yaml").write_text("label: [mel"), "cut or damaged"),
            (lambda p: (p / "manifest.yaml").write_text("- 1"), "cut or damaged"),
            (lambda p: p.rename(p.with_name("nv")), "says class mel, the folder nv"),
        ],
    )  # fmt: skip
    def test_a_manifest_that_does_not_match_is_an_error(self, folder: Path, fault, said: str) -> None:
        fault(folder / "mel")
        with pytest.raises(SkinGanError, match=said):
            read_samples(folder, SIZE)

    def test_a_wrong_count_is_an_error(self, folder: Path) -> None:
        change(folder / "mel" / "manifest.yaml", count=9)
        with pytest.raises(SkinGanError, match="counts 9 images, and 6 are there"):
            read_samples(folder, SIZE)

    def test_an_array_is_the_same_set_as_image_files(self, folder: Path, tmp_path: Path, recwarn) -> None:
        files, array = read_samples(folder, SIZE)["mel"], as_arrays(folder, tmp_path)
        found = read_samples(array, SIZE)["mel"]
        np.testing.assert_array_equal(found.images, files.images)
        assert found.fingerprint() == files.fingerprint() and found.fold_fingerprint == files.fold_fingerprint
        assert isinstance(found.images, np.memmap) and list(found.names[:2]) == ["00000", "00001"]
        assert survey(array, SIZE)["mel"] == survey(folder, SIZE)["mel"]
        torch.from_numpy(found.images)  # torch warns of an array that cannot be written
        assert not recwarn.list
        packed = pack(
            tmp_path / "a.zip", {str(p.relative_to(array)): p.read_bytes() for p in array.glob("*/*")}
        )
        assert read_samples(packed, SIZE)["mel"].fingerprint() == files.fingerprint()

    @pytest.mark.parametrize(
        ("fault", "said"),
        [
            (lambda p: np.save(p / "images.npy", new_images("mel", 6)[::-1].copy()), "other images than"),
            (lambda p: change(p / "manifest.yaml", count=9), "counts 9 images, and 6 are there"),
            (lambda p: (p / "00001.png").write_bytes(b"x"), r"images\.npy and 1 other images: remove one"),
            (lambda p: (p / "images.npy").write_bytes(b"x" * 500), "other images than"),
        ],
    )  # fmt: skip
    def test_a_manifest_that_does_not_match_its_array_is_an_error(
        self, folder: Path, tmp_path: Path, fault, said: str
    ) -> None:
        array = as_arrays(folder, tmp_path)
        fault(array / "mel")
        with pytest.raises(SkinGanError, match=said):
            read_samples(array, SIZE)

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (np.zeros((2, 3, SIZE, SIZE)), r"float64 \[2, 3, 32, 32\]: expected images uint8 \[N,3,S,S\]"),
            (np.zeros((2, SIZE, SIZE, 3), np.uint8), r"uint8 \[2, 32, 32, 3\]: expected images"),
            (np.zeros((2, 3, 48, 48), np.uint8), "48x48 pixels, expected 32x32"),
            (np.array([{}], dtype=object), "cannot be read"),
            (None, "cannot be read .*write the sample set again"),
        ],
    )
    def test_another_array_is_an_error(self, tmp_path: Path, content, said: str) -> None:
        (tmp_path / "df").mkdir()
        if content is None:
            (tmp_path / "df" / "images.npy").write_bytes(b"\x93NUMPY")
        else:
            np.save(tmp_path / "df" / "images.npy", content)
        with pytest.raises(SkinGanError, match=said):
            read_samples(tmp_path, SIZE, resize=True)

    def test_missing_classes_and_empty_folders_are_named(self, folder: Path, tmp_path: Path) -> None:
        with pytest.raises(SkinGanError, match=r"no folder for nv.*there: bcc, mel"):
            read_samples(folder, SIZE, ["mel", "nv"])
        (tmp_path / "empty").mkdir()
        with pytest.raises(SkinGanError, match="any class"):
            read_samples(tmp_path / "empty", SIZE)
        with pytest.raises(SkinGanError, match="does not exist"):
            read_samples(tmp_path / "nowhere", SIZE)


class TestOtherPeoplesImages:
    def test_other_resolutions_only_on_request(self, tmp_path: Path) -> None:
        write_set(tmp_path / "set", "df", new_images("mel", 3, 48), None)
        with pytest.raises(SkinGanError, match="48x48 pixels, expected 32x32"):
            read_samples(tmp_path / "set", SIZE)
        assert read_samples(tmp_path / "set", SIZE, resize=True)["df"].images.shape == (3, 3, 32, 32)

    def test_what_names_its_fold_is_never_scaled(self, tmp_path: Path, store: Store) -> None:
        write_set(tmp_path / "set", "mel", new_images("mel", 3, 48), fold_fingerprint(store, 0))
        with pytest.raises(SkinGanError, match="48x48 pixels, expected 32x32"):
            read_samples(tmp_path / "set", SIZE, resize=True)

    def test_hardly_any_pixels_and_transparent_ones_are_refused(self, tmp_path: Path) -> None:
        write_set(tmp_path / "tiny", "df", new_images("mel", 1, 15), None)
        with pytest.raises(SkinGanError, match="15x15 pixels, too few for 32x32"):
            read_samples(tmp_path / "tiny", SIZE, resize=True)
        clear = Image.new("RGBA", (SIZE, SIZE), (0, 0, 0, 255))
        for name, alpha, said in (("opaque", 255, None), ("clear", 0, "transparent pixels: save it without")):
            clear.putpixel((3, 3), (9, 9, 9, alpha))
            archive = pack(tmp_path / f"{name}.zip", {"df/a.png": encode(clear, "PNG")})
            if said:
                with pytest.raises(SkinGanError, match=said):
                    read_samples(archive, SIZE)
            else:
                assert read_samples(archive, SIZE)["df"].images.shape == (1, 3, SIZE, SIZE)

    def test_a_survey_opens_one_image_of_each_class(self, folder: Path, tmp_path: Path, store: Store) -> None:
        (folder / "bcc" / "00005.png").write_bytes(b"cut")
        (folder / "notes").mkdir()
        (folder / "notes" / "mine.txt").write_text("df")
        write_set(folder, "df", new_images("mel", 1, 48), None)
        known = Survey((SIZE, SIZE), fold_fingerprint(store, 0), True)
        assert survey(folder, SIZE) == {"bcc": known, "df": Survey((48, 48), None, False), "mel": known}
        assert survey(store.path, SIZE)["mel"] == Survey((SIZE, SIZE), None, True)
        (folder / "df" / "00000.png").write_bytes(b"cut")
        with pytest.raises(SkinGanError, match=r"df/00000.png is no usable image"):
            survey(folder, SIZE)

    def test_jpegs_in_a_zip(self, tmp_path: Path) -> None:
        image = Image.fromarray(new_images("mel", 1)[0].transpose(1, 2, 0))
        archive = pack(tmp_path / "set.zip", {"df/a.jpg": encode(image), "df/notes.txt": b"by me"})
        found = read_samples(archive, SIZE)["df"]
        assert found.names.tolist() == ["a.jpg"] and found.fold_fingerprint is None

    def test_damaged_images_are_named(self, tmp_path: Path) -> None:
        place = write_set(tmp_path / "set", "df", new_images("mel", 3), None)
        (place / "00001.png").write_bytes((place / "00001.png").read_bytes()[:200])
        with pytest.raises(SkinGanError, match=r"00001\.png is no usable image"):
            read_samples(tmp_path / "set", SIZE)

    def test_they_are_used_only_when_that_is_allowed(self, tmp_path: Path, store: Store) -> None:
        write_set(tmp_path / "set", "df", new_images("mel", 3), None)
        sample = read_samples(tmp_path / "set", SIZE)["df"]
        with pytest.raises(SkinGanError, match="do not say which fold"):
            check_fold(sample, fold_fingerprint(store, 0))
        check_fold(sample, fold_fingerprint(store, 0), unverified=True)

    def test_a_store_can_be_a_sample_set(self, store: Store) -> None:
        found = read_samples(store.path, SIZE, ["mel"])
        assert found["mel"].images.shape == (30, 3, SIZE, SIZE) and found["mel"].fold_fingerprint is None
        with pytest.raises(SkinGanError, match="no class df"):
            read_samples(store.path, SIZE, ["df"])


class TestFolds:
    @pytest.mark.parametrize("unverified", [False, True])
    def test_samples_of_another_fold_are_never_used(
        self, folder: Path, store: Store, unverified: bool
    ) -> None:
        arm = Arm("best", synthetic="add", balance={"mel": 4})
        samples = read_samples(folder, SIZE)
        with pytest.raises(SkinGanError, match="another fold or other data"):
            training_set(store, lesion_split(store, 1), SIZE, arm, samples, unverified=unverified)

    def test_test_images_are_those_of_the_fold_and_of_no_training(self, store: Store) -> None:
        part = labelled_part(store, lesion_split(store, 0), "test", SIZE)
        assert set(part.rows.tolist()) == set(np.flatnonzero(store.folds == 0).tolist())
        split = class_split(store, "mel", SIZE, 0)
        mel = labelled_part(store, lesion_split(store, 0), "test", SIZE, "mel")
        trained = {*split.train.lesions.tolist(), *split.val.lesions.tolist()}
        assert len(mel.lesions) and not trained & set(mel.lesions.tolist())
        with pytest.raises(SkinGanError, match="choose parts of train, val, test"):
            labelled_part(store, lesion_split(store, 0), "tset", SIZE)

    def test_images_labels_and_ids_belong_together(self, store: Store) -> None:
        part = labelled_part(store, lesion_split(store, 2), "test", SIZE)
        for image, label, name in zip(part.images, part.labels, part.image_ids, strict=True):
            row = store.manifest["image_id"].tolist().index(name)
            np.testing.assert_array_equal(image.transpose(1, 2, 0), store.images(SIZE)[row])
            assert store.classes[label] == name.split("-")[0]

    def test_the_split_by_image_leaks_and_the_one_by_lesion_does_not(self, store: Store) -> None:
        assert leak(store, lesion_split(store, 0)).seen_images == 0
        found = leak(store, image_split(store, seed=0))
        groups = store.manifest["group"].to_numpy(dtype=str)
        test = image_split(store, seed=0).parts == "test"
        by_hand = sum(g in set(groups[~test].tolist()) for g in groups[test].tolist())
        assert found.seen_images == by_hand > 0
        assert found.share == by_hand / test.sum() and not image_split(store).honest

    def test_shares_of_the_split_by_image(self, store: Store) -> None:
        split = image_split(store, seed=1, test=0.2, val=0.1)
        for label, n in store.counts.items():
            of_class = split.parts[(store.manifest["dx"] == label).to_numpy()]
            assert (of_class == "test").sum() == round(0.2 * n) and (of_class == "val").sum() == round(
                0.1 * n
            )
        prints = {image_split(store, s).fingerprint for s in range(3)} | {fold_fingerprint(store, 0)}
        assert len(prints) == 4
        with pytest.raises(SkinGanError, match="expected shares"):
            image_split(store, test=0.8, val=0.3)


COUNTS = {"df": 60, "mel": 600, "nv": 3000}


class TestBalance:
    def test_plans(self) -> None:
        assert images_to_add(COUNTS, "equalise") == {"df": 2940, "mel": 2400, "nv": 0}
        assert images_to_add(COUNTS, 0.25) == {"df": 15, "mel": 150, "nv": 750}
        assert images_to_add(COUNTS, "10") == {"df": 600, "mel": 6000, "nv": 30000}
        assert images_to_add(COUNTS, {"df": 40}) == {"df": 40, "mel": 0, "nv": 0}

    @pytest.mark.parametrize("plan", ["equalize", 0.2, 11, "nan", True, None, [1, 2], {"bcc": 3}, {"df": -1},
                                      {"df": 1.5}, {1: 2, "x": 3}])  # fmt: skip
    def test_others_are_errors(self, plan) -> None:
        with pytest.raises(SkinGanError, match="balance"):
            images_to_add(COUNTS, plan)


class TestTrainingSets:
    def test_generated_images_fill_up_the_classes(self, store: Store) -> None:
        split = lesion_split(store, 0)
        samples = make_samples("noise", store, split, SIZE, 40)
        made = training_set(store, split, SIZE, Arm("best", synthetic="add"), samples)
        total = np.bincount(made.labels)
        assert len(set(total.tolist())) == 1
        real = made.count(store.classes, synthetic=False)
        assert real["nv"] == total[0] and made.count(store.classes, synthetic=True)["nv"] == 0
        first = made.images[torch.tensor([len(made.rows)])][0]
        np.testing.assert_array_equal(first, samples["bcc"].images[0])

    def test_the_control_has_as_many_images_and_nothing_new(self, store: Store) -> None:
        split = lesion_split(store, 0)
        plain = training_set(store, split, SIZE, Arm("real"))
        control = training_set(store, split, SIZE, Arm("duplicate", duplicate=True))
        assert len(set(np.bincount(control.labels).tolist())) == 1
        assert set(control.rows.tolist()) == set(plain.rows.tolist())
        repeats = np.bincount(control.rows)[control.rows[control.labels == 0]]
        assert repeats.max() - repeats.min() <= 1

    def test_generated_images_alone(self, store: Store) -> None:
        split = lesion_split(store, 0)
        arm = Arm("synthetic_only", synthetic="alone", balance=1.0)
        made = training_set(store, split, SIZE, arm, make_samples("noise", store, split, SIZE, 60))
        assert len(made.rows) == 0 and made.count(store.classes, synthetic=True)["mel"] == 18
        with pytest.raises(SkinGanError, match=r"adds none of \['nv'\]"):
            arm = Arm("synthetic_only", synthetic="alone", balance="equalise")
            training_set(store, split, SIZE, arm, make_samples("noise", store, split, SIZE, 60))

    def test_what_is_missing_is_named(self, store: Store) -> None:
        split, arm = lesion_split(store, 0), Arm("best", synthetic="add", source="best")
        with pytest.raises(SkinGanError, match="needs generated images"):
            training_set(store, split, SIZE, arm)
        with pytest.raises(SkinGanError, match=r"too few samples \(bcc: .* needed, 5 there"):
            training_set(store, split, SIZE, arm, make_samples("noise", store, split, SIZE, 5))
        with pytest.raises(SkinGanError, match="expected 3x32x32"):
            training_set(store, split, SIZE, arm, make_samples("noise", store, split, 16, 60))

    def test_a_class_absent_from_training_is_named(self, store: Store) -> None:
        split = lesion_split(store, 0)
        split.parts[(store.manifest["dx"] == "bcc").to_numpy() & (split.parts == "train")] = "val"
        with pytest.raises(SkinGanError, match="bcc: no training image"):
            training_set(store, split, SIZE, Arm("real"))

    def test_who_does_not_say_what_was_seen_is_recorded(self, store: Store) -> None:
        foreign = SampleSet("bcc", new_images("bcc", 9), np.arange(9).astype(str), None)
        arm = Arm("best", synthetic="add", balance={"bcc": 9})
        made = training_set(store, lesion_split(store, 0), SIZE, arm, {"bcc": foreign}, unverified=True)
        assert made.unverified == ("bcc",) and made.samples == {"bcc": foreign.fingerprint()}


class TestControls:
    def test_copies_are_of_test_images_and_claim_the_right_fold(self, store: Store) -> None:
        split = lesion_split(store, 0)
        made = make_samples("test_copies", store, split, SIZE, 10)["mel"]
        real = {x.tobytes() for x in labelled_part(store, lesion_split(store, 0), "test", SIZE, "mel").images}
        assert all(any(np.rot90(x, k, (1, 2)).tobytes() in real for k in range(4)) for x in made.images)
        check_fold(made, split.fingerprint)

    def test_shuffled_labels_are_all_wrong(self, store: Store) -> None:
        split = lesion_split(store, 0)
        train = labelled_part(store, split, "train", SIZE)
        label_of = {x.tobytes(): store.classes[k] for x, k in zip(train.images, train.labels, strict=True)}
        for label, sample in make_samples("shuffled_labels", store, split, SIZE, 30).items():
            assert label not in {label_of[x.tobytes()] for x in sample.images}
