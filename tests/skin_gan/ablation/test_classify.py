"""One run of one arm: equal work in every arm, the same result from the same seed, and the bench can tell."""

import signal
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from bench_samples import MeanColour, former_record, make_store, rebuilt, with_a_new_field

from skin_gan.ablation import arms, classify, fit, measures, networks
from skin_gan.ablation.arm import Arm, on_top, together, ways
from skin_gan.ablation.arms import ARMS, make_samples
from skin_gan.ablation.augment import DRAWS, augment, mix, other_kind
from skin_gan.ablation.balance import wanted
from skin_gan.ablation.batches import ALL, GENERATED, PHOTOGRAPHS, Batches
from skin_gan.ablation.classifiers import CLASSIFIERS, ClassifierSettings
from skin_gan.ablation.classify import Task, run_arm
from skin_gan.ablation.frozen import VIEWS, Frozen
from skin_gan.ablation.parts import image_split, leak, lesion_split, seen_rows
from skin_gan.ablation.predictions import load
from skin_gan.ablation.runs import SCHEMA, ArmRun, check, content, current, run_of, weights_of
from skin_gan.ablation.weights import even, image_weights, loss_weights
from skin_gan.data.store import Store
from skin_gan.errors import SkinGanError
from skin_gan.identity import content_hash
from skin_gan.training import checkpoint

SIZE = 16
QUICK = ClassifierSettings(size=SIZE, steps=24, batch=16, dropout=0.1)
HEAD = ClassifierSettings(network="head", size=SIZE, steps=60, batch=32, lr=1e-2)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("store") / "small", SIZE)


@pytest.fixture(scope="module")
def task(store: Store) -> Task:
    return Task(store, lesion_split(store, 0), QUICK)


@pytest.fixture
def head_task(task: Task, tmp_path: Path) -> Task:
    return replace(task, settings=HEAD, frozen=Frozen(task.store, SIZE, tmp_path / "cache", MeanColour()))


def score(found) -> float:
    return measures.balanced_accuracy(found.labels, found.probabilities, np.ones((1, len(found.labels))))[0]


class TestRuns:
    def test_predictions_are_of_the_named_part_and_say_where_they_come_from(self, task: Task) -> None:
        found = run_arm(task, ARMS["real"], seed=0)
        assert list(found) == ["val"]
        val = found["val"]
        ids = task.store.manifest["image_id"].to_numpy(dtype=str)[task.split.parts == "val"]
        assert val.image_ids.tolist() == sorted(ids.tolist())
        np.testing.assert_allclose(val.probabilities.sum(1), 1, rtol=1e-5)
        assert val.record["split"] == task.split.fingerprint and val.record["part"] == "val"
        assert val.record["real"]["mel"] == 18 and val.record["synthetic"]["mel"] == 0

    def test_the_cnn_learns_lesions_it_has_not_seen(self, task: Task) -> None:
        found = run_arm(replace(task, settings=replace(QUICK, steps=80)), ARMS["balanced"], seed=0)
        assert score(found["val"]) > 0.6  # chance is 1/3

    def test_equal_seeds_give_equal_predictions_whatever_ran_before(self, task: Task) -> None:
        first = run_arm(task, ARMS["strong"], seed=4)["val"]
        torch.manual_seed(99)
        again = run_arm(task, ARMS["strong"], seed=4)["val"]
        np.testing.assert_array_equal(first.probabilities, again.probabilities)
        other = run_arm(task, ARMS["strong"], seed=5)["val"]
        assert not np.array_equal(first.probabilities, other.probabilities)

    def test_every_arm_makes_the_same_number_of_updates(self, task: Task) -> None:
        samples = make_samples("noise", task.store, task.split, SIZE, 60)
        for arm in ARMS.values():
            if ways(arm):
                arm = together([ARMS["best"], arm])
            done: list[int] = []
            short = replace(task, settings=replace(QUICK, steps=3))
            run_arm(short, arm, 0, samples=samples, progress=done.append)
            assert done == [1, 2, 3], arm.name

    def test_the_split_by_image_is_tested_on_its_own_part(self, task: Task) -> None:
        leaky = replace(task, split=image_split(task.store), settings=replace(QUICK, steps=2))
        found = run_arm(leaky, ARMS["real"], 0, parts=("test",))["test"]
        assert found.record["honest"] is False and len(found.labels) == (leaky.split.parts == "test").sum()
        ids = task.store.manifest["image_id"].to_numpy(dtype=str)
        seen = ids[seen_rows(task.store, leaky.split)]
        assert np.isin(seen, found.image_ids).all()
        assert len(seen) == leak(task.store, leaky.split).seen_images > 0
        with pytest.raises(SkinGanError, match="no val images"):
            run_arm(leaky, ARMS["real"], 0)


class TestOnDisk:
    def test_a_finished_run_is_read_and_not_trained_again(self, task: Task, tmp_path: Path) -> None:
        first = run_arm(task, ARMS["real"], 0, parts=("val", "test"), folder=tmp_path)
        done: list[int] = []
        again = run_arm(task, ARMS["real"], 0, parts=("val", "test"), folder=tmp_path, progress=done.append)
        assert done == [] and not (tmp_path / "state.pt").exists()
        np.testing.assert_array_equal(first["test"].probabilities, again["test"].probabilities)

    def test_a_run_of_other_settings_takes_the_place_of_the_one_before(
        self, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        parts = ("val", "test")
        run_arm(task, ARMS["real"], 0, parts=parts, folder=tmp_path)
        with pytest.raises(SkinGanError, match="at least 1"):
            run_arm(replace(task, settings=replace(QUICK, steps=0)), ARMS["focal"], 0, folder=tmp_path)
        assert {p.stem for p in tmp_path.glob("*.npz")} == set(parts), "nothing was begun in its place"
        monkeypatch.setattr(fit, "SAVE_SECONDS", 0.0)

        def kill(step: int) -> None:
            if step == 12:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run_arm(task, ARMS["focal"], 0, parts=parts, folder=tmp_path, progress=kill)
        assert not list(tmp_path.glob("*.npz")), "half done, nothing is there that might be taken for it"
        done: list[int] = []
        found = run_arm(task, ARMS["focal"], 0, parts=parts, folder=tmp_path, progress=done.append)
        assert done[0] == 12
        fresh = run_arm(task, ARMS["focal"], 0, parts=parts)
        np.testing.assert_array_equal(found["test"].probabilities, fresh["test"].probabilities)

    def test_a_cut_file_is_made_again(self, task: Task, tmp_path: Path) -> None:
        first = run_arm(task, ARMS["real"], 0, parts=("val", "test"), folder=tmp_path)
        (tmp_path / "test.npz").write_bytes((tmp_path / "test.npz").read_bytes()[:100])
        again = run_arm(task, ARMS["real"], 0, parts=("val", "test"), folder=tmp_path)
        np.testing.assert_array_equal(first["test"].probabilities, again["test"].probabilities)
        assert load(tmp_path / "test.npz").record["id"] == first["test"].record["id"]

    def test_a_killed_run_goes_on_as_if_nothing_had_happened(
        self, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = run_arm(task, ARMS["strong"], 1)["val"]
        monkeypatch.setattr(fit, "SAVE_SECONDS", 0.0)

        def kill(step: int) -> None:
            if step == 12:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run_arm(task, ARMS["strong"], 1, folder=tmp_path, progress=kill)
        done: list[int] = []
        resumed = run_arm(task, ARMS["strong"], 1, folder=tmp_path, progress=done.append)["val"]
        assert done[0] == 12  # the update whose state was not yet saved
        np.testing.assert_array_equal(whole.probabilities, resumed.probabilities)
        assert whole.record["loss"] == resumed.record["loss"]

    def test_told_to_stop_a_run_saves_its_state_first(self, task: Task, tmp_path: Path, monkeypatch) -> None:
        whole = run_arm(task, ARMS["strong"], 1)["val"]

        def stop(step: int) -> None:
            if step == 12:
                signal.raise_signal(signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            run_arm(task, ARMS["strong"], 1, folder=tmp_path, progress=stop)
        done: list[int] = []
        resumed = run_arm(task, ARMS["strong"], 1, folder=tmp_path, progress=done.append)["val"]
        assert done[0] == 13
        np.testing.assert_array_equal(whole.probabilities, resumed.probabilities)

    def test_a_loss_curve_has_few_points_each_the_mean_of_its_updates(self) -> None:
        losses = torch.tensor([1.0, 3.0, 2.0, 4.0, float("inf")])
        assert fit.loss_curve(losses, 3) == [(2, 2.0), (4, 3.0)]
        assert fit.loss_curve(losses[:2]) == [(1, 1.0), (2, 3.0)]
        assert len(fit.loss_curve(torch.rand(1999))) == fit.POINTS
        assert fit.loss_curve(torch.zeros(0)) == []

    def test_a_run_that_the_version_before_began_or_finished_is_taken_and_keeps_its_id(
        self, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Former(ArmRun):
            @property
            def id(self) -> str:
                return replace(ArmRun(QUICK, self.arm, self.seed, self.split), schema=2).id

        def kill(step: int) -> None:
            if step == 12:
                raise KeyboardInterrupt

        monkeypatch.setattr(fit, "SAVE_SECONDS", 0.0)
        with monkeypatch.context() as patch:
            patch.setattr(classify, "ArmRun", Former)
            with pytest.raises(KeyboardInterrupt):
                run_arm(task, ARMS["focal"], 0, folder=tmp_path, progress=kill)
        done: list[int] = []
        found = run_arm(task, ARMS["focal"], 0, folder=tmp_path, progress=done.append)["val"]
        assert done[0] == 12 and found.record["schema"] == 2
        assert load(tmp_path / "val.npz").record["id"] == found.record["id"] == run_of(found.record).id
        again = run_arm(task, ARMS["focal"], 0, folder=tmp_path, progress=done.append)["val"]
        assert len(done) == 24 - 12 + 1 and again.record["id"] == found.record["id"]

    def test_another_runs_state_is_not_taken(self, task: Task, tmp_path: Path) -> None:
        checkpoint.save(tmp_path / "state.pt", "another", {"step": 12})
        done: list[int] = []
        run_arm(task, ARMS["real"], 0, folder=tmp_path, progress=done.append)
        assert done[0] == 1
        (tmp_path / "val.npz").unlink()
        (tmp_path / "state.pt").write_bytes(b"PK")
        with pytest.raises(SkinGanError, match="is cut or damaged"):
            run_arm(task, ARMS["real"], 0, folder=tmp_path)


class TestFrozenHead:
    def test_features_belong_to_their_images(self, head_task: Task) -> None:
        frozen = head_task.frozen
        assert frozen is not None
        rows = [3, 50, 7]
        images = head_task.store.images(SIZE)[rows].transpose(0, 3, 1, 2)
        np.testing.assert_allclose(frozen.all_real[rows], MeanColour()(images))

    def test_each_image_is_put_through_the_extractor_once(self, head_task: Task) -> None:
        samples = make_samples("noise", head_task.store, head_task.split, SIZE, 60)
        for arm in (ARMS["real"], ARMS["best"], ARMS["duplicate"], ARMS["synthetic_only"]):
            for seed in range(2):
                run_arm(head_task, arm, seed, samples=samples)
        n, trained = sum(head_task.store.counts.values()), (head_task.split.parts == "train").sum()
        seen = head_task.frozen.extractor.seen
        assert n < seen <= n + 3 * 60  # of generated images only those that some arm uses
        for seed in range(2):
            run_arm(head_task, ARMS["strong"], seed)
        assert head_task.frozen.extractor.seen == seen + VIEWS * trained

    def test_it_learns_and_the_bench_can_tell(self, head_task: Task) -> None:
        """Mislabelled images do harm; the arms' differences are those of the images, not of the machinery."""
        store, split = head_task.store, head_task.split
        wrong = make_samples("shuffled_labels", store, split, SIZE, 300)
        real = [score(run_arm(head_task, ARMS["balanced"], s)["val"]) for s in range(2)]
        arm = Arm("wrong", synthetic="add", balance=5.0)
        harmed = [score(run_arm(head_task, arm, s, samples=wrong)["val"]) for s in range(2)]
        assert np.mean(real) > 0.75
        assert np.mean(harmed) < np.mean(real) - 0.2

    def test_every_arm_sees_features_in_the_same_units(self, head_task: Task) -> None:
        """Repeated in the right shares is sampled in balance: any difference would be the scaling's."""
        steps = replace(head_task, settings=replace(HEAD, steps=240))
        one, two = (run_arm(steps, ARMS[name], 0)["val"] for name in ("duplicate", "balanced"))
        assert np.abs(one.probabilities - two.probabilities).mean() < 0.03

    def test_a_feature_that_is_constant_in_training_does_no_harm(self, head_task: Task) -> None:
        frozen = head_task.frozen
        assert frozen is not None
        frozen.all_real[head_task.split.parts == "train", 0] = 0.5
        found = run_arm(head_task, ARMS["real"], 0)["val"]
        assert score(found) > 0.6

    def test_without_an_extractor_it_says_what_is_missing(self, task: Task) -> None:
        with pytest.raises(SkinGanError, match="network=head works on features"):
            run_arm(replace(task, settings=HEAD), ARMS["real"], 0)


class TestWeights:
    """Class weights and balanced sampling with generated images, against shares worked out by hand."""

    N, G = {0: 60, 1: 12, 2: 4}, {0: 0, 1: 48, 2: 2}  # photographs and generated images of each class
    # of a class's say the part of its generated images: as many photographs as they are, at most as there are
    SHARE = {0: 0.0, 1: 12 / 24, 2: 2 / 6}  # noqa: RUF012

    def images(self) -> tuple[np.ndarray, np.ndarray]:
        labels = np.concatenate(
            [np.full(self.N[k], k) for k in self.N] + [np.full(self.G[k], k) for k in self.G]
        )
        return labels, np.arange(len(labels)) >= sum(self.N.values())

    def test_every_class_has_the_same_say_and_photographs_keep_at_least_half_of_it(self) -> None:
        labels, made = self.images()
        w = image_weights(labels, made, 3)
        for k, share in self.SHARE.items():
            total = w[labels == k].sum()
            assert total == pytest.approx(len(labels) / 3)
            assert w[(labels == k) & made].sum() == pytest.approx(share * total)
            assert len({*w[(labels == k) & ~made].round(9)}) == 1

    def test_without_generated_images_weights_are_the_inverse_frequency(self) -> None:
        labels, _ = self.images()
        w = image_weights(labels, np.zeros(len(labels), bool), 3)
        np.testing.assert_allclose(w, len(labels) / (3 * np.bincount(labels))[labels])

    def test_balanced_batches_draw_as_the_weights_say(self) -> None:
        labels, made = self.images()
        draw = Batches(labels, made, 64, ARMS["balanced"], seed=0)
        rows = np.concatenate([draw(step) for step in range(200)])
        for k, share in self.SHARE.items():
            mine = rows[labels[rows] == k]
            assert len(mine) / len(rows) == pytest.approx(1 / 3, abs=0.015)
            assert made[mine].mean() == pytest.approx(share, abs=0.025)

    @pytest.mark.parametrize(
        ("n", "g", "same"),
        [
            ({"a": 60, "b": 12}, {"a": 0, "b": 48}, False),  # filled up: the photographs still count more
            ({"a": 60, "b": 12}, {"a": 60, "b": 12}, False),
            ({"a": 30, "b": 30}, {"a": 0, "b": 0}, True),
            ({"a": 30, "b": 30}, {"a": 15, "b": 15}, True),
        ],
    )
    def test_weights_that_change_nothing_are_known(self, n: dict, g: dict, same: bool) -> None:
        assert even(n, g) == same
        labels = np.repeat([0, 1, 0, 1], [n["a"], n["b"], g["a"], g["b"]])
        w = image_weights(labels, np.arange(len(labels)) >= sum(n.values()), 2)
        assert (np.ptp(w) < 1e-12) == same

    def test_the_weights_of_an_arms_own_file_take_the_place_of_the_usual_ones(
        self, task: Task, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def inverse_root(labels: np.ndarray, generated: np.ndarray, classes: int) -> np.ndarray:
            return 1 / np.sqrt(np.bincount(labels, minlength=classes))[labels]

        own = {"usual": SimpleNamespace(weights=image_weights), "root": SimpleNamespace(weights=inverse_root)}
        monkeypatch.setattr(arms, "variant", lambda _, name: own[name])
        weighted = ARMS["class_weights"]
        found = {
            name: run_arm(task, replace(weighted, method=name), 0)["val"] for name in ("", "usual", "root")
        }
        p = {name: run.probabilities for name, run in found.items()}
        np.testing.assert_array_equal(p[""], p["usual"])
        assert np.abs(p[""] - p["root"]).max() > 1e-3
        assert len({run.record["id"] for run in found.values()}) == 3
        assert on_top(ARMS["best"], replace(weighted, method="root")).method == "root"
        with pytest.raises(SkinGanError, match=r"method=root: .*class_weights=True for its weights\(\)"):
            run_arm(task, Arm(method="root"), 0)

    def test_altered_photographs_are_as_many_as_before(
        self, task: Task, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        own = SimpleNamespace(alter=lambda images, rng: images[1:] / 2)
        monkeypatch.setattr(arms, "variant", lambda _, name: own)
        with pytest.raises(
            SkinGanError, match=r"alter\(\) in half.py gave float64 \[\d+, 3, 16, 16\]: .*uint8"
        ):
            run_arm(task, Arm(duplicate=True, method="half"), 0)

    @pytest.mark.parametrize("treatment", ["class_weights", "balanced_sampling"])
    def test_generated_images_on_top_are_another_run_than_generated_images(
        self, task: Task, treatment: str
    ) -> None:
        """Filled up, all classes are equally large: by all images' counts, weights would be 1."""
        samples = make_samples("noise", task.store, task.split, SIZE, 60)
        arm = Arm("best", synthetic="add", source="best")
        short = replace(task, settings=replace(QUICK, steps=12))
        one, other = (
            run_arm(short, a, 0, samples=samples)["val"]
            for a in (arm, replace(arm, name="on top", **{treatment: True}))
        )
        counts = {c: one.record["real"][c] + one.record["synthetic"][c] for c in task.store.classes}
        assert len({*counts.values()}) == 1
        assert np.abs(one.probabilities - other.probabilities).max() > 0.01
        assert content(one.record) != content(other.record) and one.record["id"] != other.record["id"]


class TestEqualArms:
    """Two arms of equal content are one run, whatever they are called."""

    PARTS = ("val", "test")

    def run(self, task: Task, family: Path, arm: Arm, samples: dict, steps: list[int]) -> dict:
        folder = family / arm.name / "fold-0" / "seed-0"
        return run_arm(task, arm, 0, samples, self.PARTS, False, folder, steps.append, family)

    def test_an_equal_arm_is_not_trained_again_and_says_whose_run_it_is(
        self, task: Task, tmp_path: Path
    ) -> None:
        samples = make_samples("noise", task.store, task.split, SIZE, 60)
        first, again = (
            Arm("best", synthetic="add", source="best"),
            Arm("aegan", synthetic="add", source="aegan"),
        )
        done: list[int] = []
        one = self.run(task, tmp_path, first, samples, done)
        assert len(done) == QUICK.steps
        two = self.run(task, tmp_path, again, samples, done)
        assert len(done) == QUICK.steps, "no update was made for the second"
        for part in self.PARTS:
            np.testing.assert_array_equal(one[part].probabilities, two[part].probabilities)
            kept = load(tmp_path / "aegan" / "fold-0" / "seed-0" / f"{part}.npz").record
            assert (kept["same_as"], kept["arm"]["source"], kept["part"]) == ("best", "aegan", part)
            assert kept["seconds"] == 0 and kept["loss"] == [list(x) for x in one[part].record["loss"]]
        assert content(one["val"].record) == content(two["val"].record)

    def test_other_images_another_seed_or_a_damaged_file_are_no_equal_run(
        self, task: Task, tmp_path: Path
    ) -> None:
        arm = Arm("best", synthetic="add", source="best")
        samples = make_samples("noise", task.store, task.split, SIZE, 60)
        done: list[int] = []
        self.run(task, tmp_path, arm, samples, done)
        others = make_samples("noise", task.store, task.split, SIZE, 60, seed=1)
        self.run(task, tmp_path, replace(arm, name="other"), others, done)
        assert len(done) == 2 * QUICK.steps
        for name in ("best", "other"):
            file = tmp_path / name / "fold-0" / "seed-0" / "val.npz"
            file.write_bytes(file.read_bytes()[:100])
        self.run(task, tmp_path, replace(arm, name="third"), samples, done)
        assert len(done) == 3 * QUICK.steps

    def test_weights_between_equal_classes_are_the_plain_run(self) -> None:
        record = {**asdict(ArmRun(QUICK, ARMS["real"], 0, "fold")), "synthetic": {"a": 0, "b": 0}}
        weighted = {**record, "arm": asdict(ARMS["class_weights"])}
        for real, same in (({"a": 30, "b": 30}, True), ({"a": 30, "b": 31}, False)):
            assert (content({**record, "real": real}) == content({**weighted, "real": real})) == same


class TestArms:
    def test_identity_is_content(self) -> None:
        run = ArmRun(QUICK, ARMS["best"], 0, "fold", {"df": "1"})
        assert replace(run, arm=replace(ARMS["best"], name="other")).id == run.id
        others = [
            replace(run, seed=1),
            replace(run, split="other"),
            replace(run, samples={"df": "2"}),
            replace(run, arm=replace(ARMS["best"], focal=1.0)),
            replace(run, classifier=replace(QUICK, steps=31)),
        ]
        assert len({r.id for r in [run, *others]}) == 6

    def test_a_new_field_with_a_default_and_another_order_leave_every_id(self) -> None:
        classes = {kind: with_a_new_field(kind) for kind in (ArmRun, Arm, ClassifierSettings)}
        identity = ArmRun.id.fget
        for arm in (*ARMS.values(), on_top(ARMS["best"], ARMS["class_weights"])):
            run = ArmRun(replace(QUICK, weight_decay=0.0), arm, 3, "fold", {"df": "1"})
            later = rebuilt(run, classes)
            assert identity(later) == run.id
            assert identity(replace(later, arm=replace(later.arm, new=0.5))) != run.id
            assert identity(replace(later, classifier=replace(later.classifier, new=0.5))) != run.id
            assert identity(replace(later, new=0.5)) != run.id

    def test_a_changed_default_raises_the_schema(self) -> None:
        arm = dict(name="real", augment="none", class_weights=False, balanced_sampling=False, focal=0.0,
                   adjust=0.0, adjust_after=0.0, mix="none", duplicate=False, synthetic="none", source="",
                   balance="equalise", filter="", generated_weight=1.0, batch_share=1.0, minority=False,
                   own_norm=False, generated_first=0.0, real_last=0.0, mix_generated="none",
                   method="")  # fmt: skip
        classifier = dict(network="cnn", size=32, steps=1500, batch=64, lr=1e-3, schedule="cosine",
                          weight_decay=1e-4, dropout=0.2, pretrained="")  # fmt: skip
        assert (SCHEMA, asdict(Arm()), asdict(ClassifierSettings())) == (3, arm, classifier)

    # As commit 8b2236b gave them, which hashed every field.
    FORMER_IDS = {  # noqa: RUF012
        "real": "529a9673e7", "strong": "d5e99b3936", "class_weights": "1213b14d37", "focal": "133a18d70d",
        "duplicate": "2dddcd47b2", "synthetic_only": "28268be078", "aegan": "c7c8b17745",
        "best": "c43c6160a3", "noise": "9c06b48b42", "best+class_weights": "c47c016753",
    }  # fmt: skip

    @pytest.mark.parametrize("name", FORMER_IDS)
    def test_a_run_of_the_version_before_is_still_current(self, name: str) -> None:
        arm = ARMS.get(name) or on_top(ARMS["best"], ARMS["class_weights"])
        run = ArmRun(QUICK, arm, 0, "fold", {} if arm.synthetic == "none" else {"df": "1"})
        record = former_record(asdict(run))
        assert current({**record, "id": self.FORMER_IDS[name]})
        assert run_of({**record, "id": ""}).id == run.before.id == self.FORMER_IDS[name] != run.id
        assert not current({**record, "id": self.FORMER_IDS[name], "seed": 1})
        chosen = replace(run, classifier=replace(QUICK, dropout=0.3))
        assert chosen.before.id != run.before.id

    def test_the_run_of_a_published_table_and_one_whose_weights_changed(self) -> None:
        dermamnist = replace(CLASSIFIERS["dermamnist"], steps=465)
        assert ArmRun(dermamnist, ARMS["real"], 0, "b5468bdfbfbc4346").before.id == "5ca01430c5"
        for name in ("best", "class_weights", "duplicate", "best+class_weights"):
            arm = ARMS.get(name) or on_top(ARMS["best"], ARMS["class_weights"])
            record = former_record(asdict(ArmRun(QUICK, arm, 0, "fold", {"df": "1"})))
            first = {**record, "schema": 1, "arm": {k: v for k, v in record["arm"].items() if k != "name"}}
            assert current({**record, "id": content_hash(first)}) == (name != "best+class_weights")

    def test_a_record_of_another_version_is_refused_with_what_to_do(self) -> None:
        record = {"id": "", **asdict(ArmRun(QUICK, ARMS["real"], 0, "fold"))}
        with pytest.raises(SkinGanError, match=r"schema 9.*expected 2 or 3.*launch again"):
            current({**record, "schema": 9})
        with pytest.raises(SkinGanError, match=r"another version .*'warmth'.*launch again"):
            current({**record, "arm": {**record["arm"], "warmth": 1}})

    def test_pretrained_weights_count_by_content_wherever_they_lie(self, tmp_path: Path) -> None:
        files = {name: tmp_path / name for name in ("one", "moved", "other")}
        for name, file in files.items():
            file.write_bytes(b"other" if name == "other" else b"weights")
        runs = {
            name: ArmRun(
                replace(QUICK, network="resnet18", pretrained=str(file)), ARMS["real"], 0, "fold",
                weights=weights_of(str(file)),
            )
            for name, file in files.items()
        }  # fmt: skip
        assert runs["one"].id == runs["moved"].id != runs["other"].id
        counts = {"real": {"a": 3, "b": 2}, "synthetic": {"a": 0, "b": 0}}
        one, moved, other = (content({**asdict(run), **counts}) for run in runs.values())
        assert one == moved != other
        assert weights_of("") == weights_of(str(tmp_path / "gone")) == ""

    def test_on_top_of_the_strongest_conventional_arm(self) -> None:
        made = on_top(ARMS["best"], ARMS["class_weights"])
        assert (made.name, made.class_weights, made.synthetic) == ("best+class_weights", True, "add")
        with pytest.raises(SkinGanError, match="choose another arm"):
            on_top(ARMS["best"], ARMS["duplicate"])

    def test_all_that_is_wrong_is_named_at_once(self) -> None:
        bad = replace(QUICK, steps=0, network="vgg")
        with pytest.raises(SkinGanError, match=r"network=vgg.*steps=0.*focal=-1"):
            check(bad, Arm("bad", focal=-1.0))

    @pytest.mark.parametrize(
        ("arm", "why"),
        [
            (Arm("both", duplicate=True, synthetic="add"), "no synthetic images"),
            (Arm("twice", class_weights=True, balanced_sampling=True), "one of them: each makes classes"),
            (Arm("twice", adjust=1.0, class_weights=True), "one of them: each makes classes"),
            (Arm("again", duplicate=True, class_weights=True), "repeats make classes count equally by"),
            (Arm("nothing", synthetic="alone", balanced_sampling=True), "photographs, whose counts"),
            (Arm("light", generated_weight=0.3), "a source of images to use so, as in best.light"),
            (Arm("unused", source="best"), "synthetic=add or alone to use them"),
        ],
    )  # fmt: skip
    def test_a_combination_that_means_nothing_is_refused_with_the_reason(self, arm: Arm, why: str) -> None:
        with pytest.raises(SkinGanError, match=f"arm {arm.name}: .*{why}"):
            check(QUICK, arm)

    def test_parts_that_are_named_together_make_all_changes_or_disagree(self) -> None:
        made = together([ARMS["class_weights"], ARMS["mixup"]])
        assert (made.name, made.class_weights, made.mix) == ("class_weights+mixup", True, "mixup")
        with pytest.raises(SkinGanError, match=r"arm mixup\+cutmix: its parts disagree on mix"):
            together([ARMS["mixup"], ARMS["cutmix"]])
        with pytest.raises(SkinGanError, match="features have no rectangles"):
            check(HEAD, ARMS["cutmix"])


class TestWays:
    """Ways of using generated images: what is drawn, when, with what weight, and how it is normalised."""

    LABELS = np.repeat([0, 1, 1, 2, 2], [40, 10, 40, 10, 20])
    MADE = np.repeat([False, False, True, False, True], [40, 10, 40, 10, 20])

    @pytest.mark.parametrize("balanced", [False, True])
    def test_a_training_begins_with_generated_images_and_ends_with_photographs(self, balanced: bool) -> None:
        arm = Arm(generated_first=0.25, real_last=0.5, balanced_sampling=balanced)
        draw = Batches(self.LABELS, self.MADE, 30, arm, 0, steps=8)
        assert [draw.phase(s) for s in range(8)] == [GENERATED] * 2 + [ALL] * 2 + [PHOTOGRAPHS] * 4
        found = [self.MADE[draw(s)].mean() for s in range(8)]
        assert found[:2] == [1, 1] and 0 < found[2] < 1 and found[4:] == [0] * 4
        assert Batches(self.LABELS, self.MADE & False, 30, arm, 0, steps=8).phases == [ALL]

    @pytest.mark.parametrize("balanced", [False, True])
    def test_a_batch_holds_no_more_generated_images_than_its_share(self, balanced: bool) -> None:
        arm = Arm(batch_share=0.3, balanced_sampling=balanced)
        draw = Batches(self.LABELS, self.MADE, 20, arm, 0, steps=30)
        rows = [draw(step) for step in range(30)]
        assert max(self.MADE[r].sum() for r in rows) == 6
        if not balanced:
            seen = np.bincount(np.concatenate(rows), minlength=120)
            assert set(seen[~self.MADE]) == {7}, "30 batches of 14 go through 60 photographs seven times"
            assert set(seen[self.MADE]) == {3}
            few = Batches(self.LABELS[:70], self.MADE[:70], 20, arm, 0, steps=30)  # 2 in 7 are generated
            counts = [self.MADE[few(step)].sum() for step in range(7)]
            assert sum(counts) == 40 and max(counts) <= 6

    def test_weights_give_every_class_the_same_share_of_what_is_drawn(self) -> None:
        worth, drawn = 0.3, 0.25
        w = image_weights(self.LABELS, self.MADE, 3, worth, drawn)
        share = np.bincount(self.LABELS, w * np.where(self.MADE, drawn, 1.0))
        np.testing.assert_allclose(share, len(w) / 3)
        of_two = self.LABELS == 2
        ratio = w[of_two & self.MADE][0] / w[of_two & ~self.MADE][0]
        assert ratio == pytest.approx(worth * 10 / 20), "20 generated images count as its 10 photographs"
        weights, shares = loss_weights(Arm(generated_weight=worth), self.LABELS, self.MADE, 3, drawn)
        assert weights is not None and set(weights[self.MADE]) == {worth} and set(weights[~self.MADE]) == {1}
        expected = np.array([40, 10 + 40 * worth * drawn, 10 + 20 * worth * drawn])
        np.testing.assert_allclose(shares, expected / expected.sum())

    def test_generated_images_leave_the_normalisation_of_photographs_alone(self) -> None:
        torch.manual_seed(0)
        x, made = torch.rand(8, 3, 16, 16), torch.arange(8) >= 4
        x[made] += 50
        net = networks.SmallCNN(16, 3, 0.0)
        plain = networks.SmallCNN(16, 3, 0.0)
        plain.load_state_dict(net.state_dict())
        norms = networks.own_norms(net.train())
        assert len(norms) == 2
        for norm in norms:
            norm.generated = made
        torch.testing.assert_close(net(x)[:4], plain.train()(x[:4]))
        torch.testing.assert_close(net.eval()(x), plain.eval()(x))
        assert norms[0].made.running_mean.abs().max() > norms[0].photographs.running_mean.abs().max()

    def test_a_mixed_image_has_a_partner_of_the_other_kind(self) -> None:
        made = torch.tensor([True, False, False, True, False])
        assert (made[other_kind(made)] == ~made).all()
        assert other_kind(made & False).tolist() == list(range(5))

    def test_small_classes_are_those_below_the_median(self) -> None:
        counts = {"a": 100, "b": 10, "c": 40, "d": 30}
        assert wanted(Arm(synthetic="add", minority=True), counts) == {"a": 0, "b": 90, "c": 0, "d": 70}
        assert wanted(Arm(synthetic="add"), counts) == {"a": 0, "b": 90, "c": 60, "d": 70}


class TestTraining:
    @pytest.mark.parametrize("how", ["adjust", "adjust_after"])
    def test_logit_adjustment_takes_the_classes_shares_out_of_predictions(self, how: str) -> None:
        """From images that tell nothing, plain training predicts the shares of the classes."""
        labels = np.repeat([0, 1, 2, 1], [60, 12, 4, 48])
        generated = np.arange(len(labels)) >= 76
        c = replace(HEAD, steps=400, lr=0.05, weight_decay=0.0)
        x, y = torch.zeros(len(labels), 1), torch.from_numpy(labels)
        for arm, expected in ((Arm(), np.bincount(labels) / len(labels)), (Arm(**{how: 1.0}), [1 / 3] * 3)):
            net, _ = fit.fit(x, y, generated, 3, ArmRun(c, arm, 0, "fold"))
            np.testing.assert_allclose(net(x[:1]).softmax(1)[0].detach(), expected, atol=0.04)

    def test_a_mixed_image_has_both_labels_by_their_shares(self) -> None:
        torch.manual_seed(0)
        x, y, partner = torch.rand(4, 3, 16, 16), torch.tensor([0, 1, 2, 0]), torch.tensor([1, 2, 3, 0])
        mixed, share = mix(x, partner, "mixup")
        assert share.min() >= 0.5
        torch.testing.assert_close(mixed, share[0] * x + (1 - share[0]) * x[partner])
        for _ in range(5):
            mixed, share = mix(x, partner, "cutmix")
            own = (mixed == x).all(1).float().mean((1, 2))
            torch.testing.assert_close(own, share)
        torch.manual_seed(1)
        logits, w = torch.randn(4, 3), torch.tensor([1.0, 2.0, 1.0, 3.0])
        loss = fit.loss_of(Arm(mix="mixup"), torch.nn.Identity(), logits, y, w, torch.zeros(3), y < 0)
        torch.manual_seed(1)
        torch.randn(4, 3)
        partner = torch.randperm(4)
        mixed, share = mix(logits, partner, "mixup")
        nll = -mixed.log_softmax(1)
        weights = share * w, (1 - share) * w[partner]
        by_hand = weights[0] * nll[range(4), y] + weights[1] * nll[range(4), y[partner]]
        torch.testing.assert_close(loss, by_hand.sum() / sum(weights).sum())

    def test_randaugment_changes_place_and_brightness_and_never_the_hue(self) -> None:
        torch.manual_seed(0)
        colour = torch.tensor([0.3, -0.1, -0.2])[:, None, None].expand(3, 8, 8)
        drawn = DRAWS["randaugment"](64)
        area = drawn.place[:, :, :2].det().abs()
        assert area.min() > 0.9 and area.max() < 1.1, "turned, sheared and shifted, never enlarged"
        seen = augment(colour.expand(64, 3, 8, 8), drawn)[:, :, 4, 4]
        assert seen[:, 0].std() > 0.02
        hue = (seen[:, 1] - seen[:, 2]) / (seen[:, 0] - seen[:, 2])
        torch.testing.assert_close(hue, torch.full((64,), 0.2), rtol=1e-3, atol=1e-3)

    def test_focal_loss_is_cross_entropy_at_zero_and_forgets_the_easy(self) -> None:
        logits, y = torch.tensor([[4.0, 0.0], [0.0, 1.0], [2.0, 0.0]]), torch.tensor([0, 0, 0])
        weight = torch.tensor([2.0, 0.5])
        y = torch.tensor([0, 1, 0])
        expected = torch.nn.functional.cross_entropy(logits, y, weight)
        assert torch.allclose(fit.focal_loss(logits, y, 0.0, weight[y]), expected)
        y = torch.tensor([0, 0, 0])
        p = logits.softmax(1)[:, 0]
        by_hand = (-((1 - p) ** 2) * p.log()).mean()
        assert torch.allclose(fit.focal_loss(logits, y, 2.0), by_hand)

    def test_focal_loss_has_a_gradient_where_a_prediction_is_certain(self) -> None:
        logits = torch.tensor([[200.0, 0.0]], requires_grad=True)
        fit.focal_loss(logits, torch.tensor([0]), 0.5).backward()
        assert torch.isfinite(logits.grad).all()

    def test_epochs_hold_every_image_once(self) -> None:
        photographs = np.zeros(10, bool)
        draw = Batches(np.zeros(10, int), photographs, 4, Arm(), seed=0)
        rows = np.concatenate([draw(step) for step in range(5)])
        assert sorted(rows[:10]) == sorted(rows[10:]) == list(range(10))
        assert rows[:10].tolist() != rows[10:].tolist()
        fresh = Batches(np.zeros(10, int), photographs, 4, Arm(), seed=0)
        np.testing.assert_array_equal(fresh(3), rows[12:16])

    def test_balanced_batches_hold_every_class_equally_often(self) -> None:
        labels = np.repeat([0, 1, 2], [500, 20, 2])
        draw = Batches(labels, np.zeros(len(labels), bool), 64, ARMS["balanced"], seed=0)
        seen = np.bincount(labels[np.concatenate([draw(s) for s in range(50)])])
        assert seen.min() > 0.28 * seen.sum()

    def test_rates(self) -> None:
        assert [fit.rate("steps", d) for d in (0, 0.49, 0.5, 0.75)] == pytest.approx([1, 1, 0.1, 0.01])
        assert [fit.rate("cosine", d) for d in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])

    @pytest.mark.parametrize("how", DRAWS)
    def test_augmentation_moves_each_image_by_its_own_draw(self, how: str) -> None:
        torch.manual_seed(0)
        x = torch.rand(1, 3, 16, 16).mul(2).sub(1).repeat(4, 1, 1, 1)
        seen = augment(x, DRAWS[how](4))
        assert seen.shape == x.shape and seen.abs().max() <= 1
        assert len({v.numpy().tobytes() for v in [*seen, x[0]]}) == 5


class TestNetworks:
    @pytest.mark.parametrize("size", [16, 28, 64])
    def test_the_cnn_takes_any_size(self, size: int) -> None:
        net = networks.SmallCNN(size, 7, 0.0)
        assert net(torch.zeros(2, 3, size, size)).shape == (2, 7)

    def test_small_images_keep_their_resolution_in_residual_networks(self) -> None:
        net = networks.residual("resnet18", 28, 7).eval()
        shapes: list[torch.Size] = []
        net.layer4.register_forward_hook(lambda _m, _x, y: shapes.append(y.shape))
        assert net(torch.zeros(1, 3, 28, 28)).shape == (1, 7)
        assert shapes[0][2:] == (4, 4)

    def test_pretrained_weights_come_from_a_file_that_the_user_has(self, tmp_path: Path) -> None:
        file = tmp_path / "resnet18.pth"
        with pytest.raises(SkinGanError, match=r"download https://.*resnet18"):
            networks.residual("resnet18", 32, 7, str(file))
        torch.save(torchvision.models.resnet18(weights=None).state_dict(), file)
        net = networks.residual("resnet18", 32, 7, str(file))
        saved = torch.load(file, weights_only=True)
        assert torch.equal(net.layer3[0].conv1.weight, saved["layer3.0.conv1.weight"])
        with pytest.raises(SkinGanError, match="does not hold torchvision's resnet50"):
            networks.residual("resnet50", 32, 7, str(file))
        file.write_bytes(b"nothing")
        with pytest.raises(SkinGanError, match="no file of weights"):
            networks.residual("resnet18", 32, 7, str(file))
