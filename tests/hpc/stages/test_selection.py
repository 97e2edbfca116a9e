"""Which trial of a class is taken, and what is said of it: accepted, poor or rejected."""

import csv

import pytest
from plans import launched

from hpc.report.publish import HEAD, table
from hpc.settings.compose import SelectSettings
from hpc.stages.select import best_row, choose, dispute, judgement, noted, word_of, write_leaderboard
from skin_gan.io import append_jsonl

S = SelectSettings(max_copies=0.05, min_coverage=0.2, poor_kid=100.0)


def row(kid: float, **changes: object) -> dict:
    good = {"trial": "0000-a", "kid": kid, "kid_low": kid - 9, "kid_high": kid + 9, "kid_floor": 0.0,
            "copies": 0.0, "coverage": 0.9, "coverage_floor": 1.0, "kimg": 4.0, "n_real": 20}  # fmt: skip
    return good | changes


@pytest.mark.parametrize(
    ("measured", "word", "reason"),
    [
        (row(40.0), "accepted", ""),
        (row(100.0), "accepted", ""),
        (row(219.0), "poor", "KID x1000: 219.0, 219 above what real images score; above 100 is poor"),
        (row(104.0, kid_floor=5.0), "accepted", ""),  # above real images, not above zero
        (row(104.0, kid_floor=None), "poor", "104 above"),
        (row(219.0, copies=0.06), "rejected", "copies: 0.060"),
        (row(40.0, coverage=0.19), "rejected", "coverage: 0.190; at least 0.200"),
        (row(40.0, coverage=0.19, coverage_floor=0.9), "accepted", ""),  # of what real images reach
        (row(40.0, copies=None), "rejected", "copies: undefined"),
    ],
)
def test_the_word_on_a_generator(measured, word, reason):
    found = judgement(measured, S)
    assert (found["selection"], found["accepted"]) == (word, word != "rejected")
    assert word_of(found) == word
    assert reason in "; ".join(found["reasons"]) and bool(found["reasons"]) == bool(reason)


def test_the_lowest_kid_of_those_that_are_not_rejected_is_taken_and_a_poor_one_before_a_rejected_one():
    rows = [row(20.0, trial="copies", copies=0.5), row(150.0, trial="poor"), row(180.0, trial="poorer")]
    chosen = choose(rows, S)
    assert chosen is not None
    assert (chosen.row["trial"], chosen.judgement["selection"]) == ("poor", "poor")
    only = choose([rows[0], row(10.0, trial="both", copies=0.5, coverage=0.0)], S)
    assert only is not None and (only.row["trial"], only.judgement["accepted"]) == ("copies", False)
    assert choose([row(0.0) | {"kid": None}], S) is None


def test_published_tables_say_that_a_kid_was_selected_and_which_word_a_generator_has():
    card = {"label": "df", "trial": "0001-b", "metrics": row(219.0), **judgement(row(219.0), S)}
    lines = table([card])
    assert lines[0] == HEAD and "KID x1000 (95%), selected minimum" in HEAD
    assert lines[2].startswith("| df | 0001 at 4 kimg | 219.0 (210.0 to 228.0) |")
    assert lines[2].endswith(
        "| poor: KID x1000: 219.0, 219 above what real images score; above 100 is poor |"
    )
    assert len(lines[0].split("|")) == len(lines[1].split("|")) == len(lines[2].split("|"))
    assert "the lowest of all trials" in lines[-1]


def test_the_note_names_those_whose_order_the_second_network_reverses():
    kids = [(10.0, 3.0), (20.0, 1.0), (30.0, 2.0), (40.0, 4.0), (50.0, None)]
    rows = [{"trial": f"000{i}-x", "kid": a, "kid2": b, "note": "small"} for i, (a, b) in enumerate(kids)]
    noted(rows)
    said = "the two networks disagree on the order of 0000 and 0001, 0002"
    assert rows[0]["note"] == f"small; {said}" and dispute(rows[0]) == said
    assert all(row["note"] == "small" and dispute(row) == "" for row in rows[1:])
    assert noted([row(1.0, kid2=2.0, note=None), row(2.0, kid2=2.0, note=None)])[0]["note"] is None


def test_the_leaderboard_shows_no_more_digits_than_anyone_reads_and_chooses_by_all(tmp_path):
    plan = launched(tmp_path)
    folder = plan.trials("df")[1][1]
    append_jsonl(folder.metrics, row(21.477362538888656, copies=1 / 3, images=4000, n_real=56))
    rows = write_leaderboard(plan, {})
    with plan.run.leaderboard.open(newline="") as file:
        shown = next(csv.DictReader(file))
    assert (shown["kid"], shown["copies"], shown["n_real"]) == ("21.4774", "0.333333", "56")
    assert rows[0]["kid"] == 21.477362538888656 == (best_row(folder) or {})["kid"]
