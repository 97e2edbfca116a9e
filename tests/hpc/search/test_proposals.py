"""Adaptive samplers in a search: recorded before they run, never drawn again, told what is comparable."""

import math
import statistics

import pytest
from plans import complete, plan_of
from simulated_search import Killed, by_rates, runner, search

from hpc.cluster.executor import scripts
from hpc.jobs import task
from hpc.plan.sweep_plan import SEARCH, Plan, proposals, rounds
from hpc.search.proposals import at_rungs, compared, derived_again, propose_until
from hpc.settings.space import SAMPLERS, adaptive, ordered
from hpc.settings.told import FAILED, MEASURED, PRUNED, RUNNING, Told
from skin_gan.folders import COMPLETED, DIVERGED, TrialFolder
from skin_gan.folders import FAILED as HAS_FAILED
from skin_gan.io import append_jsonl, read_jsonl
from skin_gan.variants import variant

pytest.importorskip("optuna")
RUNGS = "search.rungs=[4,12,36]"
ARRAY = ("backend=array", "search.scheduler=none")


def tpe(results, *words: str) -> Plan:
    return plan_of(
        results, "classes=[df]", RUNGS, "search.sampler=tpe", "search.startup=4", "search.trials=10", *words
    )


def lines(plan: Plan) -> list[dict]:
    return read_jsonl(proposals(plan.run, "df"))


def points(plan: Plan) -> list[dict]:
    return [line["values"] for line in lines(plan)]


def assert_sound(plan: Plan, trials: int) -> None:
    """Each trial is recorded once, has the settings in the record, ran once, and follows from the record."""
    rows = lines(plan)
    assert [row["index"] for row in rows] == list(range(trials))
    specs = plan.trials("df")
    assert len(specs) == trials == len([*(plan.run.trials / "df").glob("0*")]), "no trial has two folders"
    for (spec, folder), row in zip(specs, rows, strict=True):
        o = spec.settings.optim
        assert {"optim.lr_g": o.lr_g, "optim.lr_d": o.lr_d} == row["values"]
        rungs = [made["kimg"] for made in read_jsonl(folder.metrics)]
        assert rungs and rungs == sorted(set(rungs)), "no rung is trained twice"
        if row["sampler"] == "tpe":
            assert derived_again(plan, "df", rows, spec.index) == row["values"]
    assert {row["sampler"] for row in rows} == {"published", "sobol", "tpe"}


class TestASearchThatIsKilled:
    def test_proposes_what_it_would_have(self, tmp_path):
        """One slot, so that what is known at each proposal does not depend on timing."""
        search(whole := tpe(tmp_path / "whole"), "df")
        assert_sound(whole, 10)
        for steps in (1, 12, 13):
            killed = tpe(tmp_path / str(steps))
            with pytest.raises(Killed):
                search(killed, "df", steps=steps)
            search(tpe(tmp_path / str(steps)), "df")
            assert lines(killed) == lines(whole)
            assert_sound(killed, 10)

    def test_keeps_its_proposals_with_several_slots(self, tmp_path):
        with pytest.raises(Killed):
            search(tpe(tmp_path), "df", slots=3, steps=14)
        before = lines(tpe(tmp_path))
        assert before[-1]["sampler"] == "tpe" and len(before) < 10
        running = [known[0] for known in before[-1]["told"].values()].count(RUNNING)
        assert running, "the other slots' trials are told as running"
        plan = tpe(tmp_path)
        assert not complete(plan, plan.stages[1].jobs[0])
        search(plan, "df", slots=3)
        assert lines(plan)[: len(before)] == before
        assert_sound(plan, 10)
        assert complete(plan, plan.stages[1].jobs[0])

    def test_goes_on_after_a_line_that_was_cut_off(self, tmp_path):
        with pytest.raises(Killed):
            search(plan := tpe(tmp_path), "df", steps=12)
        kept = lines(plan)
        with proposals(plan.run, "df").open("ab") as file:
            file.write(b'{"index": 6, "sampler": "tpe", "val')
        search(tpe(tmp_path), "df")
        assert lines(plan)[: len(kept)] == kept
        assert_sound(plan, 10)


def test_an_extended_search_keeps_its_trials_and_learns_from_them(tmp_path):
    search(short := tpe(tmp_path, "search.trials=6"), "df")
    before, folders = lines(short), [folder.path.name for _, folder in short.trials("df")]
    longer = tpe(tmp_path)
    assert longer.run == short.run and longer.proposed_later == 4
    search(longer, "df")
    assert lines(longer)[:6] == before
    assert [folder.path.name for _, folder in longer.trials("df")][:6] == folders
    assert_sound(longer, 10)
    other = tpe(tmp_path, "search.startup=8")  # what is recorded does not follow later settings
    assert points(other) == points(longer) and other.trials("df") == longer.trials("df")


def test_a_failed_trial_keeps_its_settings_and_is_not_taken_for_a_good_one(tmp_path):
    failing = {5}

    def evaluation(spec, kimg):
        if spec.index in failing:
            raise ValueError("a bad disk")
        return by_rates(spec, kimg)

    search(plan := tpe(tmp_path), "df", evaluation=evaluation)
    values, rows = points(plan), lines(plan)
    assert plan.trials("df")[5][1].state()["state"] == HAS_FAILED
    assert [row["told"]["5"] for row in rows if "5" in row["told"]] == [[FAILED, None, None, 0.0, None]]
    failing.clear()
    search(tpe(tmp_path), "df", evaluation=evaluation)
    assert points(plan) == values and plan.trials("df")[5][1].state()["state"] != HAS_FAILED
    assert_sound(plan, 10)


def test_a_diverged_trial_is_told_as_the_worst(tmp_path):
    def evaluation(spec, kimg):
        row = by_rates(spec, kimg)
        return {**row, "kid": None, "note": "no image is finite"} if spec.index == 2 else row

    search(plan := tpe(tmp_path), "df", evaluation=evaluation)
    assert plan.trials("df")[2][1].state()["state"] == DIVERGED
    told = {k: v for row in lines(plan) for k, v in row["told"].items()}
    assert told["2"] == [MEASURED, None, None, 0.0, {"coverage": 0.5, "copies": 0.95}]
    assert_sound(plan, 10)


def results_at(folder: TrialFolder, state: str, **kids: float) -> None:
    """Evaluations of a trial at `k4`, `k12`, ..., at some of which it has less coverage than is asked."""
    for at, kid in kids.items():
        row = {"kimg": float(at[1:]), "images": 1000 * int(at[1:]), "kid": kid}
        append_jsonl(folder.metrics, row | {"coverage": 0.3, "coverage_floor": 1.0, "copies": 0.01})
    folder.update(state=state)


def test_only_results_after_equal_training_are_compared(tmp_path):
    plan = tpe(tmp_path, "search.startup=3", "search.trials=8")
    for index in range(7):  # recorded, so that there are as many
        append_jsonl(
            proposals(plan.run, "df"), {"index": index, "values": {"optim.lr_g": 1e-4 * (index + 1)}}
        )
    trials = plan.trials("df")
    folders = [folder for _, folder in trials]
    results_at(folders[0], "running", k4=50.0)
    results_at(folders[1], "running", k4=60.0)
    assert compared(plan, trials)[0] is None, "too few to learn from"
    results_at(folders[2], "pruned", k4=90.0)
    assert compared(plan, trials)[0] == 4
    results_at(folders[0], COMPLETED, k12=40.0, k36=20.0)
    results_at(folders[1], "running", k12=30.0)
    results_at(folders[3], "running", k4=70.0)
    results_at(folders[4], HAS_FAILED)
    kimg, told = compared(plan, trials)
    assert kimg == 4
    assert [t.kid for t in told] == [50.0, 60.0, 90.0, 70.0, None, None, None]
    results_at(folders[5], "running", k4=10.0, k12=35.0)
    kimg, told = compared(plan, trials)
    assert kimg == 12, "three trials have reached it"
    assert [(t.state, t.kimg, t.kid) for t in told] == [
        (MEASURED, 12.0, 40.0),  # not its 20 after more training
        (MEASURED, 12.0, 30.0),
        (PRUNED, 4.0, 90.0),
        (RUNNING, None, None),
        (FAILED, None, None),
        (MEASURED, 12.0, 35.0),  # not its 10 after less
        (RUNNING, None, None),
    ]
    assert told[0].excess == pytest.approx({"coverage": 0.2, "copies": -0.04})
    assert [t.index for t in told] == list(range(7)) and told[2].values["optim.lr_g"] == pytest.approx(3e-4)


def test_an_evaluation_belongs_to_a_rung_if_it_is_within_a_step_of_it(tmp_path):
    spec, folder = tpe(tmp_path).trials("df")[0]
    step = spec.settings.train.batch * spec.settings.optim.d_steps
    for images in (4000 + step - 1, 12000 + step, 36000):
        append_jsonl(folder.metrics, {"kimg": images / 1000, "images": images, "kid": float(images)})
    assert {rung: row["images"] for rung, row in at_rungs(spec, folder, [4.0, 12.0, 36.0]).items()} == {
        4.0: 4000 + step - 1,
        36.0: 36000,
    }


SPACE = ordered(
    {"optim": {"lr_g": {"loguniform": [5e-5, 2e-3]}, "lr_d": {"loguniform": [2e-5, 1e-3]}}}
)  # that of aegan_lr


def searched(sampler: str, seed: int, evaluate, trials: int = 24, startup: int = 8) -> list[Told]:
    """The trials of a search that calls a sampler and nothing else, one after another."""
    told: list[Told] = []
    for index in range(trials):
        chosen = variant(SAMPLERS, sampler, "hpc")
        if adaptive(sampler) and index >= startup:
            values = chosen.propose(SPACE, seed, "df", index, told)
        else:
            drawing = variant(SAMPLERS, "sobol", "hpc") if adaptive(sampler) else chosen
            values = drawing.draw(SPACE, seed, "df", index)
        told.append(Told(index, values, MEASURED, 4.0, *evaluate(values)))
    return told


def away(values) -> float:
    """Squared distance of the rates from 3e-4 and 1e-4, in powers of e."""
    return math.log(values["optim.lr_g"] / 3e-4) ** 2 + math.log(values["optim.lr_d"] / 1e-4) ** 2


@pytest.mark.parametrize("sampler", ["tpe", "motpe"])
def test_it_beats_chance(sampler):
    """The least KID of 24 trials, median over ten seeds."""

    def least(name: str, seed: int) -> float:
        return min(t.kid for t in searched(name, seed, lambda v: (away(v), 0.9, {"coverage": -0.4})))

    found = {name: statistics.median(least(name, seed) for seed in range(10)) for name in (sampler, "random")}
    assert found[sampler] < 0.6 * found["random"], found


@pytest.mark.slow
def test_a_gaussian_process_beats_chance():
    """As above, on three seeds: a proposal takes seconds."""
    evaluate = {name: (lambda v: (away(v), 0.9, {"coverage": -0.4})) for name in ("gp", "random")}
    found = {
        name: [min(t.kid for t in searched(name, seed, evaluate[name], 14)) for seed in range(3)]
        for name in evaluate
    }
    assert statistics.median(found["gp"]) < 0.5 * statistics.median(found["random"]), found


def test_constraints_lead_away_from_a_low_kid_of_a_few_images():
    """Below lr_g = 3e-4 KID is lowest and everything is one image or a copy."""

    def low(*violated: str) -> int:
        def evaluate(values):
            rate = values["optim.lr_g"]
            bad = rate < 3e-4
            excess = {name: 0.1 if bad and name in violated else -0.1 for name in ("coverage", "copies")}
            return (abs(math.log(rate / 1e-4)) if bad else 50 + abs(math.log(rate / 1e-3))), 0.9, excess

        told = [t for seed in range(3) for t in searched("tpe", seed, evaluate)[8:]]
        return sum(t.values["optim.lr_g"] < 3e-4 for t in told)

    assert low() > 36 and low("coverage") < 12 and low("copies") < 12  # of 48


def test_it_knows_what_it_is_told_of_and_nothing_else():
    """A proposal is a function of seed, class, index and what was told; running trials are part of that."""
    told = searched("random", 0, lambda v: (away(v), 0.9, {"coverage": -0.4}), 12)
    for name in ("tpe", "motpe"):
        propose = variant(SAMPLERS, name, "hpc").propose
        first = propose(SPACE, 0, "df", 12, told)
        assert propose(SPACE, 0, "df", 12, told) == first
        others = [propose(SPACE, 1, "df", 12, told), propose(SPACE, 0, "nv", 12, told),
                  propose(SPACE, 0, "df", 13, told), propose(SPACE, 0, "df", 12, told[:-4])]  # fmt: skip
        assert all(other != first for other in others)
        near = Told(12, first, RUNNING)
        assert propose(SPACE, 0, "df", 13, [*told, near]) != propose(SPACE, 0, "df", 13, told)


# backend=array


def test_a_trial_of_an_array_proposes_itself_and_a_round_learns_from_the_one_before(tmp_path, monkeypatch):
    plan = tpe(tmp_path, *ARRAY, "search.round=3")
    monkeypatch.setattr(task, "check_prepared", lambda run: None)
    monkeypatch.setattr(task, "Runner", lambda plan, label: runner(plan, label))
    groups = rounds(plan.experiment, plan.stages[1].jobs)
    assert [[job.index for job in group] for group in groups] == [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9]]
    jobs = [job for group in groups for job in reversed(group)]  # Slurm may start them in any order
    for job in jobs:
        assert not complete(plan, job)
        task.run_trial(tpe(tmp_path, *ARRAY), "df", job.index)
        assert complete(plan, job)
    assert_sound(plan, 10)
    rows = lines(plan)
    task.run_trial(tpe(tmp_path, *ARRAY), "df", 8)  # requeued after it has ended
    assert lines(plan) == rows
    assert {*rows[4]["told"]} == {"0", "1", "2", "3"} and {k for k, *_ in rows[4]["told"].values()} == {
        MEASURED
    }
    assert {row["kimg"] for row in rows[4:]} == {36.0}
    assert {"4", "5", "6"} <= {*rows[7]["told"]}


def test_a_round_of_an_array_waits_for_the_one_before_and_its_script_says_so(tmp_path):
    words = (*ARRAY, "search.round=3", "classes=[df,nv]", "profile.max_array=6", "profile.parallel=4")
    plan = tpe(tmp_path, *words)
    stage = next(s for s in plan.stages if s.name == SEARCH)
    made = scripts(plan, stage, tmp_path)
    sizes = [next(w for w in s.split() if w.startswith("--array=")) for s in made.values()]
    assert sizes == ["--array=0-5%2", "--array=0-1%2", "--array=0-5%4", "--array=0-5%4"]
    after = [s.partition("afterany:")[2].partition("'")[0].split(":") for s in made.values()]
    one, two, three, _ = (f"<{name}>" for name in made)
    assert after == [["<prepare>"], ["<prepare>"], ["<prepare>", one, two], ["<prepare>", three]]
    fixed = plan_of(tmp_path, *ARRAY, "classes=[df,nv]", "search.trials=10", "search.sampler=sobol")
    assert len(rounds(fixed.experiment, fixed.stages[1].jobs)) == 1


def test_two_processes_propose_a_trial_once(tmp_path):
    """As the ranks of a trial on several devices do, and elements of an array."""
    plan = tpe(tmp_path)
    for _ in range(2):
        propose_until(plan, "df", 3)
        propose_until(tpe(tmp_path), "df", 2)
    assert [row["index"] for row in lines(plan)] == [0, 1, 2, 3]


def test_a_sampler_that_depends_on_the_index_alone_records_nothing(tmp_path):
    search(plan := tpe(tmp_path, "search.sampler=sobol"), "df")
    assert not proposals(plan.run, "df").exists() and len(plan.trials("df")) == 10
