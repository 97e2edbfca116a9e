"""Publishes a finished sweep as tables and sheets that may be committed: no photographs, no local paths."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

from hpc.plan.sweep_plan import Plan
from hpc.report import plots
from hpc.report.comparisons import ArmRow
from hpc.report.statement import limits, statement
from hpc.report.tables import HEADLINE, LEAKS, Tables, read_csv, tables
from hpc.report.wording import ADJUSTED, MINIMUM, SOURCES, arm_title, measure_title, span, value
from hpc.settings import compose
from hpc.stages.best import write_results
from hpc.stages.select import word_of
from hpc.state import endpoints
from hpc.state.confirmed import TABLE, told
from hpc.state.provenance import code_of
from skin_gan.generator import CARD, SHEET, halve, read_card
from skin_gan.identity import content_hash
from skin_gan.io import read_json, read_jsonl, write_atomic

NOTES = "NOTES.md"  # written by hand; never overwritten
DRAW = (
    "",
    "The chosen generators are in `best`, in half precision; `copies` is the share of their images that "
    "repeat a training photograph. They draw without any data: `python -m skin_gan.generate best/CLASS "
    "--count 100 --seed 0 --out DIR`. The licence of the photographs above binds their use, too.",
)
HEAD = (
    "| class | trial | KID x1000 (95%), selected minimum | real vs real | coverage (real) | copies "
    "| real images | selection |"
)


def publish(plan: Plan, out: Path, generators: bool = False) -> None:
    """Write leaderboard.csv, sweep.yaml, a card and a sheet per class, and README.md to `out`.

    With `generators` also each class's chosen generator in half precision, to `out`/best/CLASS.
    """
    out.mkdir(parents=True, exist_ok=True)
    made = read_json(plan.run.provenance) or {}
    write_results(plan)
    for file in (plan.run.leaderboard, plan.run.path / TABLE):
        if file.exists():
            shutil.copyfile(file, out / file.name)
    e = plan.experiment
    sources = {name: Path(path).name for name, path in e.ablate.sources.items()}
    settings = dataclasses.replace(
        e,
        data=made["data"]["name"],
        results="results",
        notify="",
        ablate=dataclasses.replace(e.ablate, sources=sources, external=Path(e.ablate.external).name),
        pretrain=dataclasses.replace(e.pretrain, source=Path(e.pretrain.source).name),
    )
    compose.save(settings, out / "sweep.yaml")
    cards = []
    for label in plan.experiment.classes:
        best = plan.run.best(label)
        if (best / CARD).exists():
            shutil.copyfile(best / SHEET, out / f"{label}.png")
            shutil.copyfile(best / CARD, out / f"{label}.yaml")
            cards.append(read_card(best / CARD))
            if generators:
                halve(best, out / "best" / label)
    notes = ["", f"[What is seen in them]({NOTES})"] if (out / NOTES).exists() else []
    sections = ablation(plan, made, out) if (plan.run.path / "report" / "arms.csv").exists() else []
    write_atomic(
        out / "README.md",
        "\n".join(
            [
                *heading(plan, made),
                "",
                *table(cards),
                "",
                *told(plan.run, e),
                *(DRAW if generators else ()),
                *notes,
                "",
                *sections,
            ]
        ),
    )


def heading(plan: Plan, made: dict[str, Any]) -> list[str]:
    """The sweep's name, data, settings, code and machine, as lines of Markdown."""
    e, data = plan.experiment, made["data"]
    rungs = ", ".join(f"{r:g}" for r in e.search.rungs)
    settings = content_hash([dataclasses.asdict(e.trial), dataclasses.asdict(e.search)])
    packages = ", ".join(f"{name} {version}" for name, version in made["packages"].items())
    partial = ", a partial copy of the release" if data["partial"] else ""
    return [
        f"# {plan.run.path.name}: {e.about}",
        "",
        f"Generated images, not photographs; not for clinical use. {SOURCES.get(data['kind'], '')}",
        "",
        f"- data: {data['name']}{partial}: {sum(data['counts'].values())} images, fingerprint "
        f"{data['fingerprint']}; split by {data['unit']}, fold {e.fold}",
        f"- settings: `sweep.yaml`, hash {settings}; seed {e.seed}; {e.search.trials} trials per class, "
        f"rungs at {rungs} kimg",
        f"- code: {code_of(made)}; {packages}",
        f"- machine: {made['machine']['cores']} cores; {cost(plan)}",
    ]


def table(cards: list[dict[str, Any]]) -> list[str]:
    """A row per class, as lines of Markdown."""
    confirmed = all(c.get("confirmed") for c in cards)
    lines = [
        HEAD.replace(", selected minimum", "") if confirmed else HEAD,
        "| --- " * HEAD.count(" | ") + "| --- |",
    ]
    for c in cards:
        m = c["metrics"]
        cells = [
            c["label"],
            f"{c.get('setting', c['trial'][:4])} at {m['kimg']:g} kimg",
            f"{m['kid']:.1f} ({m['kid_low']:.1f} to {m['kid_high']:.1f})",
            f"{m['kid_floor']:.1f}",
            f"{m['coverage']:.2f} ({m['coverage_floor']:.2f})",
            f"{m['copies']:.3f}",
            str(m["n_real"]),
            ": ".join(filter(None, [word_of(c), "; ".join(c["reasons"])])),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, "", *([] if confirmed else [MINIMUM])]


def ablation(plan: Plan, made: dict[str, Any], out: Path) -> list[str]:
    """Copy the report's tables, draw its gains, and return its text as lines of Markdown."""
    report = plan.run.path / "report"
    if (fixed := endpoints.file_of(plan.run)).exists():
        shutil.copyfile(fixed, out / fixed.name)
    for name in ("arms.csv", "gains.csv", "images.csv", "published.csv", "leakage.csv", "costs.csv"):
        if (report / name).exists():
            shutil.copyfile(report / name, out / name)
    found = tables(plan.run)
    caught = [row for row in read_csv(report / LEAKS) if row["caught"] == "True"]
    verdict = statement(found, caught, made["data"])
    first = [f"**{said}**" for said in (verdict.sentence, *verdict.beside)]
    lines = ["## Does it help?", "", *first, "", *verdict.support, ""]
    caveats = limits(found, made["data"])
    lines += [f"- {said}" for said in (*verdict.warnings, *caveats)]
    if leak := read_json(report / "split.json"):
        lines.append(
            f"- Split by image: {100 * leak['share']:.1f}% of {leak['test_images']} test images show a "
            "lesion that is also in training; by lesion none do."
        )
    lines += [f"- {ADJUSTED}"]
    for classifier in found.classifiers:
        for scope in dict.fromkeys(a.scope for a in found.arms if a.classifier == classifier):
            bases = found.bases(classifier, scope)
            rows = [a for a in found.arms if (a.classifier, a.scope) == (classifier, scope)]
            lines += ["", f"### {classifier}, {scope}", "", *arm_table(found, rows, bases)]
            for base in bases:
                gains = [g for g in found.gains if (g.classifier, g.scope, g.base, g.measure)
                         == (classifier, scope, base, HEADLINE)]  # fmt: skip
                if gains:
                    name = f"{classifier}-{scope}-over-{base}.svg".replace(" ", "-")
                    write_atomic(out / name, plots.forest(gains))
                    lines += ["", f"![Gains over {arm_title(base)} in balanced accuracy]({name})"]
    return [*lines, *published(found), ""]


def published(found: Tables) -> list[str]:
    """Tables of results beside published ones, as lines of Markdown."""
    lines: list[str] = []
    for row in found.published:
        if row.source not in "".join(lines):
            lines += ["", f"### Beside {row.source}", ""]
            lines += [f"Real images only, split by image. {row.differs}", ""]
            lines += ["| measure | published | here |", "| --- | --- | --- |"]
        here = f"{value(row.value, row.measure)} {span(row.low, row.high, row.measure, signed=False)}"
        lines.append(f"| {measure_title(row.measure)} | {value(row.published, row.measure)} | {here} |")
    return lines


def arm_table(found: Tables, rows: list[ArmRow], bases: list[str]) -> list[str]:
    """A row per arm: balanced accuracy and accuracy, and the gain over each base in both."""
    by_arm = {a: {r.measure: r for r in rows if r.arm == a} for a in dict.fromkeys(r.arm for r in rows)}
    over = [f"over {arm_title(base)}: balanced accuracy | accuracy" for base in bases]
    lines = [f"| arm | seeds | balanced accuracy | accuracy | {' | '.join(over)} |"]
    lines.append("| --- " * (4 + 2 * len(bases)) + "|")
    for arm, by in by_arm.items():
        same = [arm_title(other) for other in by["accuracy"].same_run_as.split("; ") if other]
        said = f" (the same run as {' and '.join(same)})" if same else ""
        cells = [arm_title(arm) + said, str(len(by["accuracy"].seeds.split()))]
        cells += [percent(by[m].value, by[m].low, by[m].high) for m in (HEADLINE, "accuracy")]
        for base in bases:
            for measure in (HEADLINE, "accuracy"):
                gain = found.gain(by[measure].classifier, by[measure].scope, arm, base, measure)
                word = f" {gain.verdict}" if gain and measure == HEADLINE else ""
                cells.append(percent(gain.gain, gain.low, gain.high) + word if gain else "")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def percent(value: float, low: float, high: float) -> str:
    """A value 0..1 and its interval in percent."""
    known = f"[{100 * low:.1f}, {100 * high:.1f}]" if low <= high else "[not known]"
    return f"{100 * value:.1f} {known}"


def cost(plan: Plan) -> str:
    """Hours of training in the search, and hours from the first launch to the end of the last job.

    The latter include all stages, all launches and the waiting between them.
    """
    folders = [folder for label in plan.experiment.classes for _, folder in plan.trials(label)]
    seconds = sum(row["seconds"] for folder in folders for row in read_jsonl(folder.metrics)[-1:])
    launches = read_jsonl(plan.run.path / "launches.jsonl")
    ended = [(read_json(path) or {}).get("ended", 0.0) for path in plan.run.jobs.glob("*.json")]
    wall = max(ended) - launches[0]["time"]
    return (
        f"{seconds / 3600:.1f} hours of training in the search; {wall / 3600:.1f} hours from the first "
        "launch to the end of the last job, of all stages and launches"
    )
