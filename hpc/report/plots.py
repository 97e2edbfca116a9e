"""The report's figures as SVG, as wide as a phone's screen. No torch.

`inline` replaces the colours below by the page's CSS variables, so that a figure suits light and dark pages.
Lengths are in inches of 96 pixels.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hpc.report.comparisons import ArmRow, GainRow
from hpc.report.wording import arm_title, gain, measure_title, span, unit
from skin_gan.ablation.arms import CONTROLS
from skin_gan.words import CONTROL, HARMS, HELPS, LEAKAGE, NOT_JUDGED, NOTHING, RULED_OUT, UNRESOLVED

WIDTH = 3.6  # of every figure: 346 pixels
LABEL = 22  # letters of an arm's name per line
# Each colour occurs nowhere else in a figure; the page has a variable of each name.
COLOURS = {"ink": "#1a1b1c", "soft": "#6a6b6c", "line": "#d0d1d2", "good": "#0a7b5c", "bad": "#b23a2a",
           "unsure": "#5a6b8c", "accent": "#1c5d99"}  # fmt: skip
VERDICTS = {HELPS: "good", HARMS: "bad", RULED_OUT: "unsure", UNRESOLVED: "unsure", NOT_JUDGED: "soft",
            LEAKAGE: "bad", NOTHING: "soft", CONTROL: "soft"}  # fmt: skip
MARKS = {HELPS: "^", HARMS: "v", RULED_OUT: "o", UNRESOLVED: "s", NOT_JUDGED: "d", LEAKAGE: "x",
         NOTHING: "_", CONTROL: "."}  # fmt: skip
# Colours and line styles of up to three highlighted arms
ACCENTS, LINES = ("soft", "accent", "good"), ("-", "--", "-")
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "skin-gan", "font.size": 9, "axes.edgecolor": COLOURS["line"],
    "axes.labelcolor": COLOURS["ink"], "text.color": COLOURS["ink"], "xtick.color": COLOURS["soft"],
    "ytick.color": COLOURS["soft"], "xtick.labelcolor": COLOURS["ink"], "ytick.labelcolor": COLOURS["ink"],
    "axes.spines.top": False, "axes.spines.right": False, "xtick.labelsize": 8.5, "ytick.labelsize": 8.5,
}  # fmt: skip


def forest(rows: Sequence[GainRow]) -> str:
    """Gains of arms over one base in one measure with 95% intervals, a line each.

    Controls are left out, since their effects would dwarf the others; tables have them.
    """
    rows = [row for row in rows if row.arm not in CONTROLS] or rows
    names = [textwrap.fill(arm_title(row.arm), LABEL) for row in rows]
    lines = max(name.count("\n") + 1 for name in names)

    def draw(ax: Axes) -> None:
        factor, _, name = unit(rows[0].measure)
        for y, row in enumerate(rows):
            colour = COLOURS[VERDICTS[row.verdict]]
            ends = [factor * row.low, factor * row.high]
            ax.plot(ends, [y, y], color=colour, linewidth=1.8, solid_capstyle="butt")
            solid = colour if row.verdict in (HELPS, HARMS) else "white"
            ax.plot(
                factor * row.gain, y, MARKS[row.verdict], color=colour, markerfacecolor=solid, markersize=6
            )
        ax.axvline(0, color=COLOURS["soft"], linewidth=1)
        _rows(ax, names)
        ax.set_xlabel(f"gain, {name}")

    alt = f"Gains over {arm_title(rows[0].base)} in {measure_title(rows[0].measure)}: " + "; ".join(
        f"{arm_title(r.arm)} {gain(r.gain, r.measure)} {span(r.low, r.high, r.measure)}, {r.verdict}"
        for r in rows
    )
    return _svg(draw, 0.75 + (0.14 + 0.14 * lines) * len(rows), alt)


def recalls(rows: Mapping[str, Sequence[ArmRow]], labels: Mapping[str, str]) -> str:
    """Recall of each class in up to three arms; `labels`: the text for each class."""
    shapes = ("o", "s", "D")

    def draw(ax: Axes) -> None:
        for place, (arm, of_arm) in enumerate(rows.items()):
            found = {row.measure.removeprefix("recall_"): row for row in of_arm}
            for y, label in enumerate(labels):
                if row := found.get(label):
                    at, colour = y + 0.22 * (place - (len(rows) - 1) / 2), COLOURS[ACCENTS[place]]
                    ax.plot([100 * row.low, 100 * row.high], [at, at], color=colour, linewidth=1.2)
                    ax.plot(100 * row.value, at, shapes[place], color=colour, markersize=4.5, clip_on=False,
                            label=arm_title(arm) if y == 0 else None)  # fmt: skip
        _rows(ax, list(labels.values()))
        ax.set_xlim(0, 100)
        ax.set_xlabel("recall, %")
        _legend(ax, -0.35)

    alt = "Recall per class: " + "; ".join(
        f"{arm_title(arm)} " + ", ".join(f"{r.measure[7:]} {100 * r.value:.0f}%" for r in of_arm)
        for arm, of_arm in rows.items()
    )
    return _svg(draw, 0.75 + 0.2 * len(rows) + 0.42 * len(labels), alt)


def curves(label: str, trials: Sequence[tuple[str, Sequence[float], Sequence[float]]], chosen: str) -> str:
    """KID over kimg for the trials of a class, (name, kimg, KID) each; the `chosen` one is highlighted."""

    def draw(ax: Axes) -> None:
        for name, kimg, kid in sorted(trials, key=lambda t: t[0] == chosen):
            if name == chosen:
                ax.plot(kimg, kid, "-o", color=COLOURS["accent"], markersize=4, linewidth=1.8, clip_on=False)
            else:
                ax.plot(kimg, kid, "-o", color=COLOURS["soft"], markersize=2.5, linewidth=0.8, alpha=0.7)
        ax.set_title(label, fontsize=10, loc="left", color=COLOURS["ink"])
        ax.set_xlim(0, 1.05 * max(max(kimg) for _, kimg, _ in trials))
        ax.set_ylim(bottom=min(0, *(min(kid) for _, _, kid in trials)))
        ax.set_xlabel("kimg")
        ax.set_ylabel("KID ×1000")

    best = min(min(kid) for _, _, kid in trials)
    return _svg(draw, 2.1, f"KID over training of {len(trials)} trials of {label}; the lowest is {best:.1f}")


def losses(of: Mapping[str, Sequence[tuple[int, float]]], highlighted: Sequence[str]) -> str:
    """Training loss over updates of each arm, (updates, loss) each; up to three arms are `highlighted`."""

    def draw(ax: Axes) -> None:
        for arm in (arm for arm in of if arm not in highlighted):
            ax.plot(*zip(*of[arm], strict=True), color=COLOURS["soft"], linewidth=0.6, alpha=0.6)
        for place, arm in enumerate(highlighted):
            if arm in of:
                ax.plot(*zip(*of[arm], strict=True), LINES[place], color=COLOURS[ACCENTS[place]],
                        linewidth=1.6, label=arm_title(arm))  # fmt: skip
        ax.set_xlim(left=0)
        ax.set_ylim(bottom=0)
        ax.set_xlabel("updates")
        ax.set_ylabel("training loss")
        _legend(ax, -0.1)

    ends = "; ".join(f"{arm_title(arm)} {curve[-1][1]:.3g}" for arm, curve in of.items())
    return _svg(draw, 2.9, f"Training loss of each arm. At the end: {ends}")


def _legend(ax: Axes, left: float) -> None:
    """Put the legend above the axes, one line per arm."""
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="lower left", bbox_to_anchor=(left, 1.0), frameon=False, fontsize=8.5, ncols=1,
                  borderaxespad=0, handletextpad=0.4)  # fmt: skip


def _rows(ax: Axes, names: Sequence[str]) -> None:
    """Name the rows, the first at the top."""
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.grid(axis="x", color=COLOURS["line"], linewidth=0.6)
    ax.set_axisbelow(True)


def _svg(draw: Callable[[Axes], None], height: float, alt: str) -> str:
    """Draw a figure and return it as SVG with the description `alt`."""
    with matplotlib.rc_context(STYLE):
        figure = Figure((WIDTH, height), layout="constrained")
        figure.patch.set_alpha(0)
        ax = figure.subplots()
        ax.patch.set_alpha(0)
        draw(ax)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return _described(text.getvalue(), alt)


def _described(svg: str, alt: str) -> str:
    """The figure from its <svg> element on, with a description for screen readers."""
    svg = svg[svg.index("<svg") :]
    alt = alt.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{alt}" ', 1)


def inline(svg: str, prefix: str) -> str:
    """The figure for use inside a page: with the page's colours and font, and unique ids."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", svg)
    for name, colour in {**COLOURS, "paper": "#ffffff"}.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg.replace("'DejaVu Sans'", "inherit")
