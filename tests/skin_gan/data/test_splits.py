"""Folds: a lesion in two parts of the split would make every later number too good."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skin_gan.data.splits import (
    CONFIRMING,
    N_FOLDS,
    SEARCHED,
    assign_folds,
    group_labels,
    halves,
    split_parts,
)
from skin_gan.errors import SkinGanError

quick = settings(max_examples=40, deadline=None)


@st.composite
def data_sets(draw: st.DrawFn) -> tuple[list[str], list[str]]:
    """Groups and labels of up to 60 images; some groups hold images of two classes."""
    n = draw(st.integers(1, 60))
    groups = draw(st.lists(st.integers(0, 30).map("g{}".format), min_size=n, max_size=n))
    own = {g: draw(st.sampled_from(["df", "nv", "vasc"])) for g in sorted(set(groups))}
    odd = draw(st.sets(st.integers(0, n - 1), max_size=2))
    return groups, ["mel" if i in odd else own[g] for i, g in enumerate(groups)]


@quick
@given(data_sets())
def test_no_lesion_is_in_two_folds(data: tuple[list[str], list[str]]) -> None:
    groups, labels = data
    folds = assign_folds(groups, labels)
    assert len(set(zip(groups, folds.tolist(), strict=True))) == len(set(groups))


@quick
@given(data_sets())
def test_folds_are_stratified_by_lesion_and_by_image(data: tuple[list[str], list[str]]) -> None:
    groups, labels = data
    folds = dict(zip(groups, assign_folds(groups, labels).tolist(), strict=True))
    size = Counter(groups)
    label_of = group_labels(groups, labels)
    for label in set(label_of.values()):
        members = [g for g in size if label_of[g] == label]
        lesions = [sum(folds[g] == f for g in members) for f in range(N_FOLDS)]
        images = [sum(size[g] for g in members if folds[g] == f) for f in range(N_FOLDS)]
        assert max(lesions) - min(lesions) <= 1
        assert max(images) - min(images) <= max(size[g] for g in members)


@quick
@given(data_sets(), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(data: tuple[list[str], list[str]], random: object) -> None:
    groups, labels = data
    order = list(range(len(groups)))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = assign_folds([groups[i] for i in order], [labels[i] for i in order])
    np.testing.assert_array_equal(assign_folds(groups, labels)[order], shuffled)


def test_the_assignment_is_the_same_on_every_machine() -> None:
    groups = [f"lesion{i // 2}" for i in range(24)]
    assert assign_folds(groups, ["nv"] * 24).tolist()[::2] == [1, 0, 2, 2, 1, 0, 4, 3, 4, 3, 0, 1]


def test_another_seed_gives_other_folds() -> None:
    groups = [f"lesion{i}" for i in range(100)]
    assert (assign_folds(groups, ["nv"] * 100) != assign_folds(groups, ["nv"] * 100, seed=1)).any()


@quick
@given(data_sets(), st.integers(0, N_FOLDS - 1))
def test_each_fold_is_test_once_and_training_is_three_of_five(
    data: tuple[list[str], list[str]], fold: int
) -> None:
    folds = assign_folds(*data)
    parts = split_parts(folds, fold)
    np.testing.assert_array_equal(parts == "test", folds == fold)
    assert set(folds[parts == "val"].tolist()) <= {(fold + 1) % N_FOLDS}
    assert set(folds[parts == "train"].tolist()) <= set(range(N_FOLDS)) - {fold, (fold + 1) % N_FOLDS}


def test_a_large_class_is_split_three_to_one() -> None:
    groups = [f"lesion{i}" for i in range(1000)]
    parts = Counter(split_parts(assign_folds(groups, ["nv"] * 1000), 2).tolist())
    assert parts == {"train": 600, "val": 200, "test": 200}


def test_a_lesion_labelled_twice_goes_by_its_most_frequent_class() -> None:
    assert group_labels(["a", "a", "a", "b", "b"], ["nv", "mel", "mel", "nv", "mel"]) == {
        "a": "mel",
        "b": "mel",
    }


@pytest.mark.parametrize("fold", [-1, 5])
def test_a_fold_that_does_not_exist_is_an_error(fold: int) -> None:
    with pytest.raises(SkinGanError, match="expected 0 to 4"):
        split_parts(np.zeros(3, dtype=np.int64), fold)


@given(st.lists(st.integers(1, 6), min_size=2, max_size=30), st.randoms())
def test_halves_hold_whole_lesions_equally_many_and_do_not_depend_on_the_order(sizes, random):
    groups = [f"lesion {i}" for i, size in enumerate(sizes) for _ in range(size)]
    found = halves(groups)
    of = {group: half for group, half in zip(groups, found.tolist(), strict=True)}
    assert all(of[group] == half for group, half in zip(groups, found.tolist(), strict=True))
    lesions = [list(of.values()).count(half) for half in (SEARCHED, CONFIRMING)]
    assert sum(lesions) == len(sizes) and abs(lesions[0] - lesions[1]) <= 1
    assert abs(int((found == SEARCHED).sum()) - int((found == CONFIRMING).sum())) <= max(sizes)
    order = random.sample(range(len(groups)), len(groups))
    assert halves([groups[i] for i in order]).tolist() == found[order].tolist()
