"""The page of an ablation: what it says first, what it admits, and that it holds all it shows."""

import functools
import http.server
import json
import re
import shutil
import threading
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from browser import open_page
from report_samples import CLASSES, COMBINED, damage, folder_of, make_run, origin, write_choices

from hpc.cli.conclusion import gain_lines
from hpc.jobs.notify import verdict
from hpc.plan.sweep_plan import reopen
from hpc.report import plots
from hpc.report.comparisons import GainRow
from hpc.report.leakage import LeakRow, leak_row
from hpc.report.page import data_uri, write_quiz, write_report
from hpc.report.sample_sets import Sampled, used
from hpc.report.statement import statement
from hpc.report.tables import Cost, tables, write_csv, write_tables
from hpc.report.wording import arm_title, gain
from hpc.settings import compose
from skin_gan.ablation.predictions import load
from skin_gan.ablation.samples import read_samples
from skin_gan.folders import RunFolder
from skin_gan.generator import CARD
from skin_gan.generator import FORMAT as CARD_FORMAT
from skin_gan.io import append_jsonl, write_atomic, write_json
from skin_gan.training import grids
from skin_gan.words import CONTROL, HARMS, HELPS, LEAKAGE, NOT_JUDGED, NOTHING, RULED_OUT, UNRESOLVED

LABELS = {HELPS, HARMS, RULED_OUT, UNRESOLVED, NOT_JUDGED, LEAKAGE, NOTHING, CONTROL}

SECTIONS = ("What each arm is worth", "Gains", "Recall of each class", "Training of the classifier",
            "Do generated images repeat test photographs?", "The generators", "Leaderboard", "Training",
            "What they look like", "Cost", "What this cannot say", "Where it comes from")  # fmt: skip
SCORES = {"kid": 40.0, "kid_low": 30.0, "kid_high": 50.0, "kid_floor": -0.04, "coverage": 0.5,
          "coverage_floor": 0.9, "copies": 0.0}  # fmt: skip
COST = [Cost("search", "df", 2, 1.5), Cost("ablate", "head", 12, 0.25)]


def colours(seed: int, n: int) -> np.ndarray:
    """uint8 [n,3,8,8], no two alike."""
    return np.random.default_rng(seed).integers(0, 256, (n, 3, 8, 8), dtype=np.uint8)


def make_report(place, photographs: bool = True, **changes):
    """A report's folder with all of its parts; returns it with its tables."""
    run = make_run(place, **changes)
    folder = run.path / "report"
    entries = []
    for k, label in enumerate(CLASSES):
        names = {kind: f"sheets/{label}-{kind}.png" for kind in ("generated", "nearest")}
        for j, name in enumerate(names.values()):
            grids.save(folder / name, grids.sheet(colours(10 * k + j, 16), 8))
        pairs = [{"generated": "00000.png", "photograph": "x", "distance": 1.0, "copy": False}]
        entries.append({"class": label, "source": "best", "fold": 0, "judged": 64, "pairs": pairs, **names})
        for trial, kid in (("0000-a", 40.0), ("0001-b", 60.0)):
            for kimg in (4.0, 12.0):
                row = {"kimg": kimg, "kid": kid / kimg, "seconds": 60 * kimg}
                append_jsonl(run.trials / label / trial / "metrics.jsonl", row)
        card = {"format": CARD_FORMAT, "label": label, "model": {}, "sha256": "", "fold_fingerprint": "",
                "trial": "0000-a", "kimg": 12.0, "accepted": True, "reasons": [],
                "metrics": SCORES}  # fmt: skip
        write_json(run.best(label) / CARD, card)  # JSON is YAML
    rows = [f"{c},000{k}-a,completed,12.0,40.0,0.5,0.0,1e-4\n" for c in CLASSES for k in (0, 1)]
    head = "class,trial,state,trained_kimg,kid,coverage,copies,optim.lr_g\n"
    write_atomic(run.leaderboard, head + "".join(rows))
    write_json(folder / "sheets.json", {"sheets": entries})
    leaks = [LeakRow(0, "best", c, 640, 64, 1, 1 / 64, 0.01, 0, 0.5, False, "") for c in CLASSES]
    write_csv(folder / "leakage.csv", leaks, LeakRow)
    if photographs:
        images = {c: (colours(100 + k, 12), colours(200 + k, 12)) for k, c in enumerate(CLASSES)}
        write_quiz(folder / "quiz.html", images, run.path.name)
    found = tables(run, 200)
    write_tables(found, folder)
    write_csv(folder / "costs.csv", COST, Cost)
    write_report(run, found, COST, folder, photographs)
    return folder, found


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return make_report(tmp_path_factory.mktemp("report"), folds=(0, 1))


class Page(HTMLParser):
    """What a page would load, and its visible text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.unnamed: list[str] = []  # pictures without a text
        self.text = ""
        self.hidden = 0
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.hidden += tag in ("style", "script")
        loaded = ("src", "srcset", "poster", "data") + (("href", "xlink:href") if tag != "a" else ())
        self.loads += [value for name, value in attrs if name in loaded]
        self.links += [value for name, value in attrs if tag == "a" and name == "href"]
        if tag in ("img", "svg") and not {"alt", "aria-label"} & dict(attrs).keys():
            self.unnamed.append(tag)

    def handle_endtag(self, tag):
        self.hidden -= tag in ("style", "script")

    def handle_data(self, data):
        self.text += "" if self.hidden else data


def test_the_first_thing_said_is_the_verdict_in_one_sentence(report):
    page = Page((report[0] / "index.html").read_text())
    said = page.text[page.text.index("Generated images help: +") :]
    assert said.index("over class weights.") < 120
    assert page.text.index("Generated images help") < page.text.index("What each arm is worth")
    assert "On fold 0 alone" in page.text and "Fold 0 alone" in page.text
    assert "not for clinical" in page.text


@pytest.mark.parametrize("name", ["index.html", "quiz.html"])
def test_a_page_loads_nothing(report, name):
    html = (report[0] / name).read_text()
    assert all(load.startswith(("data:", "#")) for load in Page(html).loads)
    assert not re.findall(r"@import|url\((?!#|\"#)", html)
    assert "default-src 'none'" in html
    assert not re.findall(r"\b(fetch|import|XMLHttpRequest|WebSocket|EventSource|sendBeacon)\b *\(", html)


def test_every_section_is_there_in_its_order_below_the_verdict(report):
    html = (report[0] / "index.html").read_text()
    heads = [re.sub("<[^>]*>", "", head) for head in re.findall(r"<h[23][^>]*>(.*?)</h[23]>", html)]
    assert [head for head in heads if head in SECTIONS] == list(SECTIONS)
    assert html.index('class="sentence"') < html.index("<h2")
    text = Page(html).text
    for said in (
        "[+",
        "device-hours in all",
        "fingerprint",
        "no medical device",
        "df: dermatofibroma",
        "KID ×1000",
    ):
        assert said in text
    assert "-0.0" not in text


def test_links_lead_to_files_that_are_there_and_pictures_have_a_text(report):
    html = (report[0] / "index.html").read_text()
    page = Page(html)
    files = {link for link in page.links if not link.startswith("#")}
    tables = {"arms.csv", "gains.csv", "images.csv", "leakage.csv", "costs.csv", "../leaderboard.csv"}
    assert files == {*tables, "quiz.html"}
    assert all((report[0] / link).exists() for link in files)
    assert all(f'id="{link[1:]}"' in html for link in {*page.links} - files)
    assert page.unnamed == []


def test_paper_gets_all_but_the_controls(report):
    css = (report[0] / "index.html").read_text().partition("@media print {")[2].partition("</style>")[0]
    hidden = re.findall(r"([^{};]+){ *display: none;? *}", css.partition("\n}\n")[0])
    assert [selector.strip() for selector in hidden] == ["nav, .tabs > label, .no-print"]


def test_the_page_says_how_verdicts_were_adjusted_and_what_each_arm_was_given(report):
    text = " ".join(Page((report[0] / "index.html").read_text()).text.split())
    for said in ("on balanced accuracy, was fixed beforehand and is not adjusted", "each run counts once",
                 "fewer than 5 test lesions", "a specificity of 0.9 on validation images",
                 "Generated images that each arm was given"):  # fmt: skip
        assert said in text
    row = re.search(r">\+ best generator</th>\s*<td>(.*?)</td>", (report[0] / "index.html").read_text())
    assert row.group(1) == "240", "40 of each class in two folds"


def test_the_page_names_no_machine_and_no_path(report):
    html = (report[0] / "index.html").read_text()
    assert "secret-host" not in html
    assert str(report[0].parents[2]) not in html


def test_without_photographs_only_generated_images_are_in_the_page(tmp_path):
    folder, _ = make_report(tmp_path, photographs=False)
    html = (folder / "index.html").read_text()
    images = set(re.findall(r"data:image/png;base64,[^\"]+", html))
    assert images == {data_uri(folder / "sheets" / f"{c}-generated.png") for c in CLASSES}
    assert "quiz.html" not in html
    assert "holds photographs" not in html


def test_photographs_are_in_the_sheets_of_neighbours_and_said_to_be(report):
    html = (report[0] / "index.html").read_text()
    shown = set(re.findall(r"data:image/png;base64,[^\"]+", html))
    kinds = ("generated", "nearest")
    assert shown == {data_uri(report[0] / "sheets" / f"{c}-{kind}.png") for c in CLASSES for kind in kinds}
    assert "holds photographs of the data set" in html
    assert "holds photographs of the data set" in (report[0] / "quiz.html").read_text()


def test_missing_damaged_and_small_are_admitted(tmp_path):
    run = make_run(tmp_path, seeds=1)
    shutil.rmtree(folder_of(run, "strong", 0, 0))
    damage(folder_of(run, "shuffled", 0, 0) / "test.npz")
    write_json(run.provenance, origin("demo"))
    folder = run.path / "report"
    text = Page(write_report(run, tables(run, 200), [], folder).read_text()).text
    for said in (
        "2 classifier runs are missing",
        "not started",
        "test.npz is damaged",
        "one seed",
        "Demo data",
    ):
        assert said in text
    assert "What they look like" not in text  # no sheets, no section


def test_before_any_run_the_page_says_so(tmp_path):
    run = make_run(tmp_path)
    shutil.rmtree(run.path / "ablation")
    text = Page(write_report(run, tables(run, 200), [], run.path / "report").read_text()).text
    assert "No verdict yet. No classifier run has finished." in " ".join(text.split())


def test_before_anything_is_chosen_it_says_what_is_awaited(tmp_path):
    run = make_run(tmp_path)
    write_choices(run, strongest=None, combined=None)
    text = Page(write_report(run, tables(run, 200), [], run.path / "report").read_text()).text
    assert "stage combine" in text


def test_images_that_leak_take_the_verdict_away(report):
    _, found = report
    caught = [{"source": "best", "label": "mel", "fold": "0"}]
    said = statement(found, caught, {})
    assert said.sentence.startswith("No verdict: generated images of mel are near copies")
    assert "best/mel (fold 0)" in said.warnings[0]
    other = statement(found, [{"source": "shuffled", "label": "mel", "fold": "0"}], {})
    assert other.word == "helps" and "shuffled/mel" in other.warnings[0]


def test_sources_of_finished_runs_are_judged_and_what_cannot_be_is_named_without_its_place(tmp_path):
    run = make_run(tmp_path)
    e = compose.load(run.settings)
    place = tmp_path / "disk" / "images"
    e.ablate.sources = {"mine": str(place)}
    sampled = object.__new__(Sampled)
    sampled.run, sampled.e, sampled.a, sampled.sources = run, e, e.ablate, ["mine"]
    sampled.used, sampled.read, sampled.whole = used(reopen(run)), sampled._read, sampled._whole
    sampled.there = SimpleNamespace(made_here=lambda name: False, read=lambda *_: read_samples(place, 32))
    assert sampled.used == {(0, source, label) for source in ("best", "shuffled") for label in CLASSES}
    assert set(sampled.sets()) == sampled.used | {(0, "mine", label) for label in CLASSES}
    said = {source: leak_row(sampled, 0, source, "df", None).why for source in ("mine", "shuffled")}
    assert "the source mine does not exist" in said["mine"]
    assert "runs have used the images of shuffled" in said["shuffled"]
    assert not any(str(tmp_path) in why for why in said.values())


def test_what_is_judged_by_features_is_all_that_a_head_has_left_or_a_fixed_random_part():
    sample = SimpleNamespace(images=np.arange(7000))
    for unknown, n in ((0, 7000), (256, 7000), (257, 256)):
        sampled = object.__new__(Sampled)
        frozen = SimpleNamespace(unknown=lambda images, u=unknown: u, of=lambda images: images)
        sampled.there = SimpleNamespace(frozen=frozen)
        rows, features = sampled.judged(sample)
        assert len(rows) == len(set(rows.tolist())) == n and np.array_equal(rows, features)
    assert rows.max() > 6000 and np.array_equal(rows, sampled.judged(sample)[0])


@pytest.mark.parametrize(
    ("verdict", "sentence"),
    [
        (HARMS, "Generated images harm: +1.0 points"),
        (RULED_OUT, "A gain of 2 points is ruled out: +1.0 points"),
        (UNRESOLVED, "Not resolved, too few lesions or seeds to tell: +1.0 points"),
        (NOT_JUDGED, "Not judged: why."),
        (NOTHING, "No verdict: nothing was added"),
    ],
)
def test_every_verdict_has_its_sentence(report, monkeypatch, verdict, sentence):
    _, found = report
    numbers = {"gain": 0.01, "low": -0.02, "high": 0.04, "p": 0.5, "comparisons": 1, "p_adjusted": 0.5,
               "mde": 0.05}  # fmt: skip
    names = ("head", "pooled", COMBINED, "class_weights", "balanced_accuracy")
    row = GainRow(*names, **numbers, verdict=verdict, why="why")
    monkeypatch.setattr(type(found), "headline", row)
    assert statement(found, [], {}).sentence.startswith(sentence)
    unknown = replace(row, low=np.nan, high=np.nan, mde=np.nan)
    monkeypatch.setattr(type(found), "headline", unknown)
    said = statement(found, [], {})
    assert "nan" not in " ".join([said.sentence, *said.support])


def test_every_label_has_a_mark_and_no_two_sentences_begin_alike(report, monkeypatch):
    """Above all not those of a gain that is ruled out and of one that is not resolved."""
    assert set(plots.MARKS) == set(plots.VERDICTS) == LABELS
    assert len({*plots.MARKS.values()}) == len(LABELS)
    _, found = report
    row = found.headline
    sentences = []
    for word in (HELPS, HARMS, RULED_OUT, UNRESOLVED, NOT_JUDGED):
        monkeypatch.setattr(type(found), "headline", replace(row, verdict=word))
        sentences.append(statement(found, [], {}).sentence)
    assert len({" ".join(s.split()[:3]) for s in sentences}) == len(sentences)
    assert not {s.split()[0] for s in sentences[2:3]} & {s.split()[0] for s in sentences[3:]}


def test_what_belongs_to_the_verdict_stands_in_it_on_the_page_and_in_the_terminal(tmp_path):
    folder, found = make_report(tmp_path)
    run = make_run(tmp_path / "again")
    for seed in range(2):
        file = folder_of(run, COMBINED, 0, seed) / "test.npz"
        p = load(file)
        replace(p, record={**p.record, "synthetic": {"df": 40, "mel": 0, "nv": 0}}).save(file)
    found = tables(run, 200)
    html = write_report(run, found, [], folder).read_text()
    block = html[html.index('<section class="verdict') : html.index("</section>")]
    first = Page(block).text.split("\n")
    said = [line for line in first if line]
    assert (
        said[0].startswith("Generated images help: ")
        and said[1] == "No generated images were added to mel, nv."
    )
    kept = json.loads((folder / "verdict.json").read_text())
    assert kept == {"verdict": HELPS, "sentences": said[:2]}
    plan = SimpleNamespace(run=RunFolder(folder.parent), experiment=compose.load(run.settings))
    assert verdict(plan) == said[:2]
    rows = list(gain_lines(plan.run))
    assert any("class_weights over real" in row and f"  {HELPS}" in row for row in rows)
    assert all(len(row) < 80 for row in rows)


def test_the_quiz_has_as_many_real_images_as_generated_ones_and_is_shuffled(tmp_path):
    images = {"df": (colours(0, 4), colours(1, 30)), "nv": (colours(2, 30), colours(3, 30))}
    write_quiz(tmp_path / "a.html", images, "run", seed=1)
    write_quiz(tmp_path / "b.html", images, "run", seed=2)
    text = (tmp_path / "a.html").read_text()
    assert text.count('"real": true') == text.count('"real": false') == 4 + 10
    assert text != (tmp_path / "b.html").read_text()


def test_names_and_numbers_for_people():
    assert arm_title("best@0.5+class_weights") == "+ best generator ×0.5, class weights"
    assert arm_title("best/random as copies") == "+ best generator (random as copies)"
    assert (gain(-0.0001), gain(-0.012), gain(0.0123, "macro_auc")) == ("0.0", "−1.2", "+0.012")


PROBE = """<body><script>
const parts = [".sentence", "nav", "details table td", ".tabs.classifiers > .panel"];
const paper = page => {
  for (const details of page.querySelectorAll("details")) details.open = false;
  const rules = [...page.styleSheets[0].cssRules];
  for (const rule of rules) if (rule.media?.mediaText === "print") rule.media.mediaText = "all";
  return parts.map(part => page.querySelector(part).checkVisibility() ? "shown" : "hidden");
};
const sizes = [375, 1280], pages = ["index.html", "quiz.html"];
(async () => {
  const found = [];
  for (const page of pages) for (const width of sizes) {
    const frame = document.createElement("iframe");
    frame.style.cssText = `width:${width}px;height:800px`;
    frame.src = page;
    document.body.append(frame);
    await new Promise(done => frame.onload = done);
    const inner = frame.contentDocument;
    for (const d of inner.querySelectorAll("details")) d.open = true;
    for (const b of inner.querySelectorAll(width < 1000 ? "thead button, #real" : "thead button")) b.click();
    inner.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
    const fits = inner.documentElement.scrollWidth <= width ? "fits" : "overflows";
    const sorted = inner.querySelectorAll("[aria-sort]").length;
    for (const b of inner.querySelectorAll("button.zoom")) {
      b.click();
      inner.querySelector("dialog[open] img").parentElement.close();
    }
    if (page === "index.html") found.push(`on paper ${paper(inner).join()}`);
    found.push(`${page} ${width} ${fits} ${sorted} sorted; ${inner.querySelector("#told")?.textContent}`);
  }
  const pre = document.createElement("pre");
  pre.textContent = found.join("\\n");
  document.body.replaceChildren(pre);
})();
</script>"""


@pytest.mark.browser
def test_both_pages_work_in_a_browser_on_a_phone_and_on_a_desk(report, tmp_path):
    """Nothing wider than the screen, tables can be sorted, the quiz answers, the console stays empty."""
    folder = report[0]
    (folder / "probe.html").write_text(PROBE)
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/probe.html"
        done = open_page(url, tmp_path, "--enable-logging=stderr", timeout=280)
        server.shutdown()
    for page in ("index.html", "quiz.html"):
        for width in (375, 1280):
            assert f"{page} {width} fits" in done.stdout
    assert re.search(r"index.html 375 fits [1-9]", done.stdout)
    assert done.stdout.count("on paper shown,hidden,shown,shown") == 2
    assert len(re.findall(r"quiz.html .*(Right|Wrong): (a photograph|generated)", done.stdout)) == 2
    assert "CONSOLE" not in done.stderr, done.stderr


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass
