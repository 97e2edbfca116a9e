"""Proposes trials by an adaptive sampler, and records each before it runs. No torch, no Ray.

trials/CLASS/proposals.jsonl has a line per trial, in order, which is written once and only read from then on:

    index, sampler   the trial, and what its values are from: the sampler, `sobol`, or `published`
    values           of the searched settings, by their dotted names
    kimg             the rung whose evaluations were compared; null before there was one
    told             by index, what the sampler was told of earlier trials, where that has changed since the
                     line before: state, kimg, KID, coverage, excess (see `hpc.settings.told`)

So a search that was killed, preempted, extended or retried goes on with the trials that it had, and what was
proposed can be derived again from the file.

With successive halving trials have had unequal training. Their KIDs are compared at one rung, the highest at
which `search.startup` trials have been measured (as BOHB does: Falkner 2018), so that a model has enough of
them and no trial looks better only for having been trained longer. A trial that was stopped before that rung
lost a comparison after equal training, so it counts as worse than all that reached it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hpc.plan.sweep_plan import Plan, proposals
from hpc.settings.space import SAMPLERS, STARTUP, adaptive, distributions, draw, ordered, value_at
from hpc.settings.told import FAILED, MEASURED, PRUNED, RUNNING, Told
from skin_gan import folders
from skin_gan.config import TrialSpec
from skin_gan.folders import TrialFolder
from skin_gan.io import append_jsonl, lock, read_jsonl
from skin_gan.variants import variant

Row = dict[str, Any]


def propose_until(plan: Plan, label: str, index: int) -> None:
    """Record the class's trials up to `index`, proposing those that are not known; others wait meanwhile.

    Does nothing where trials follow from their index.
    """
    if not adaptive(plan.experiment.search.sampler):
        return
    path = proposals(plan.run, label)
    with lock(path.with_suffix(".lock"), wait=float("inf"), what=f"a proposal for {label}"):
        rows = read_jsonl(path)
        while len(rows) <= index:
            rows.append(proposal(plan, label, rows))
            append_jsonl(path, rows[-1], sync=True)


def proposal(plan: Plan, label: str, rows: Sequence[Row]) -> Row:
    """The line of the trial that comes after those in `rows`."""
    e, index, known = plan.experiment, len(rows), plan.trials(label)
    names = ordered(e.search.space)
    if index < len(known):  # it follows from its index
        settings, sampler = known[index][0].settings, STARTUP
        if e.search.baseline and index == 0:
            sampler = "published"
        values = {name: value_at(settings, name) for name in names}
        return {"index": index, "sampler": sampler, "values": values, "kimg": None, "told": {}}
    rung, told = compared(plan, known[:index])
    before = told_in(rows)
    news = {str(t.index): line(t) for t in told if before.get(str(t.index)) != line(t)}
    if rung is None:
        sampler, drawn = STARTUP, draw(e.search.space, e.trial, e.seed, label, index, STARTUP)
        values = {name: value_at(drawn, name) for name in names}
    else:
        sampler = e.search.sampler
        values = proposed(plan, label, index, told)
    return {"index": index, "sampler": sampler, "values": values, "kimg": rung, "told": news}


def proposed(plan: Plan, label: str, index: int, told: Sequence[Told]) -> dict[str, Any]:
    """The values that the sampler proposes, a function of the arguments alone."""
    e = plan.experiment
    space = ordered(e.search.space)
    # The published setting may lie outside the space.
    inside = [t for t in told if all(d.holds(t.values[name]) for name, d in space.items())]
    values = variant(SAMPLERS, e.search.sampler, "hpc").propose(space, e.seed, label, index, inside)
    return dict(values)


def compared(plan: Plan, trials: Sequence[tuple[TrialSpec, TrialFolder]]) -> tuple[float | None, list[Told]]:
    """The rung at which the trials are compared, in kimg, and what each is told to be there.

    None, and the first rung, while too few have been measured anywhere.
    """
    s = plan.experiment.search
    read = [(spec, folder.state()["state"], at_rungs(spec, folder, s.rungs)) for spec, folder in trials]
    enough = [
        rung for rung in s.rungs
        if sum(state == folders.DIVERGED or rung in rows for _, state, rows in read) >= s.startup
    ]  # fmt: skip
    rung = enough[-1] if enough else s.rungs[0]
    return (rung if enough else None), [outcome(plan, spec, state, rows, rung) for spec, state, rows in read]


def at_rungs(spec: TrialSpec, folder: TrialFolder, rungs: Sequence[float]) -> dict[float, Row]:
    """The trial's evaluation at each rung that it has reached, within a step of training."""
    step = spec.settings.train.batch * spec.settings.optim.d_steps
    rows = [row for row in read_jsonl(folder.metrics) if "images" in row and row.get("kid") is not None]
    found = {}
    for rung in rungs:
        near = (row for row in rows if 0 <= row["images"] - round(1000 * rung) < step)
        if (row := next(near, None)) is not None:
            found[rung] = row
    return found


def outcome(plan: Plan, spec: TrialSpec, state: str, rows: dict[float, Row], rung: float) -> Told:
    """What a sampler is told of a trial where trials are compared at this rung."""
    values = {name: value_at(spec.settings, name) for name in distributions(plan.experiment.search.space)}
    if state == folders.DIVERGED:  # at whatever length: its generator is worth nothing
        return Told(spec.index, values, MEASURED, None, None, 0.0, excess(plan, {}))
    if rung in rows:
        return measured(plan, spec.index, values, MEASURED, rows[rung])
    if state == folders.PRUNED and rows:
        return measured(plan, spec.index, values, PRUNED, rows[max(rows)])
    return Told(spec.index, values, FAILED if state in (folders.FAILED, folders.PRUNED) else RUNNING)


def measured(plan: Plan, index: int, values: dict[str, Any], state: str, row: Row) -> Told:
    """A trial with the result of an evaluation."""
    return Told(index, values, state, row["kimg"], row["kid"], coverage_of(row), excess(plan, row))


def coverage_of(row: Row) -> float:
    """Coverage as a share of what real images reach at equal n; 0 where it is undefined."""
    floor = row.get("coverage_floor")
    return (row.get("coverage") or 0.0) / floor if floor else 0.0


def excess(plan: Plan, row: Row) -> dict[str, float]:
    """By how much an evaluation violates each constraint, above 0; an undefined number violates it most."""
    e = plan.experiment
    copies = row.get("copies")
    return {
        "coverage": e.search.min_coverage - coverage_of(row),
        "copies": (1.0 if copies is None else copies) - e.select.max_copies,
    }


def line(t: Told) -> list[Any]:
    """A trial in the record of a proposal, without its values, which have a line of their own."""
    return [t.state, t.kimg, t.kid, t.coverage, None if t.excess is None else dict(t.excess)]


def told_in(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """What had been told by the end of these lines, by index."""
    found: dict[str, list[Any]] = {}
    for row in rows:
        found |= row["told"]
    return found


def derived_again(plan: Plan, label: str, rows: Sequence[Row], index: int) -> dict[str, Any]:
    """The values of a recorded proposal by its sampler, computed from the record alone."""
    known = told_in(rows[: index + 1])
    told = [Told(int(i), rows[int(i)]["values"], *known[i]) for i in sorted(known, key=int)]
    return proposed(plan, label, index, told)
