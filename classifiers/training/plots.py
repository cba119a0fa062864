"""Plots of an evaluation as inline SVG, each with a text that says what it shows.

Drawn with matplotlib, which is imported when the first plot is. Colours are placeholders that become
CSS variables, so that one drawing serves light and dark pages; ids are unique on the page, and the
same figures give the same bytes.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from classifiers.training.evaluation import Confusion, Evaluation, LabelCurves
from classifiers.training.metrics import HISTOGRAM_BINS

INK, GRID, FILL = "#010203", "#010204", "#010205"
SERIES = tuple(f"#0102{16 + index:02x}" for index in range(7))
"""Placeholders; :data:`COLOURS` says what each becomes."""
COLOURS: Mapping[str, str] = {
    INK: "currentColor",
    GRID: "var(--grid)",
    FILL: "var(--page)",
    **{code: f"var(--c{index})" for index, code in enumerate(SERIES)},
}
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)))
"""Lines differ by dash as well as by colour."""
STYLE: Mapping[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GRID,
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "image.interpolation": "none",
}
LEAST_RATE = 0.001
"""The axis of false positives is logarithmic from here on: that is where thresholds lie."""
WIDTH = 4.4
"""Inches: drawn for a phone, enlarged on wider screens."""


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing for the page: ``svg`` is safe to insert as it is, ``text`` says what it shows."""

    name: str
    title: str
    svg: str
    text: str


def draw(
    name: str, title: str, text: str, height: float, paint: Callable[[Any, Any], None]
) -> Plot:
    """Draw one plot.

    Args:
        name: unique on the page; letters and hyphens.
        title: what is above it.
        text: what a reader who cannot see it is told.
        height: inches.
        paint: is handed the figure and its axes.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    buffer = io.StringIO()
    style: dict[Any, Any] = {**STYLE, "svg.hashsalt": name}
    with matplotlib.rc_context(style), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # letters its font lacks: the page's has them
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        FigureCanvasSVG(figure)
        paint(figure, figure.subplots())
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    return Plot(name, title, _inline(buffer.getvalue(), name, text), text)


def curve_plots(evaluation: Evaluation) -> list[Plot]:
    """Precision over recall, and found over wrongly flagged."""
    if not evaluation.curves:
        return []
    by_label = {one.label: one for one in evaluation.labels}

    def named(curves: LabelCurves) -> str:
        return curves.label or "all labels together"

    def paint_pr(_: Any, axes: Any) -> None:
        for index, one in enumerate(evaluation.curves):
            _line(axes, one.pr.x, one.pr.y, index, named(one), step=True)
            if one.label:
                at = by_label[one.label]
                if at.precision.value is not None and at.recall.value is not None:
                    _dot(axes, at.recall.value, at.precision.value, index)
        _frame(axes, "found (recall)", "right when flagged (precision)")

    def paint_roc(_: Any, axes: Any) -> None:
        for index, one in enumerate(evaluation.curves):
            _line(axes, one.roc.x, one.roc.y, index, named(one))
            if one.label:
                at = by_label[one.label]
                if at.recall.value is not None and at.false_positive_rate.value is not None:
                    _dot(axes, at.false_positive_rate.value, at.recall.value, index)
        chance = np.linspace(0, 1, 200)
        axes.plot(chance, chance, color=GRID, linewidth=1)
        _frame(axes, "wrongly flagged (false positive rate, log scale)", "found (recall)")
        axes.set_xscale("symlog", linthresh=LEAST_RATE)
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(
            lambda value, _: f"{value:.1%}" if value < 0.01 else f"{value:.0%}"
        )

    areas = "; ".join(
        f"{one.label}: average precision {_number(one.average_precision)}, "
        f"AUROC {_number(one.auroc)}"
        for one in (by_label[label] for label in evaluation.matters)
    )
    text = f"The dots are the operating points. {areas}."
    height = 3.0 + 0.17 * len(evaluation.curves)
    return [
        draw("pr", "Precision and recall", f"Precision over recall. {text}", height, paint_pr),
        draw("roc", "Found and wrongly flagged", f"ROC curves. {text}", height, paint_roc),
    ]


def reliability_plot(evaluation: Evaluation) -> Plot | None:
    """What was claimed, and how often it was true."""
    bins = evaluation.reliability
    if not bins:
        return None

    def paint(_: Any, axes: Any) -> None:
        x = [one.claimed for one in bins]
        y = [one.true.value or 0.0 for one in bins]
        low = [value - one.true.low for value, one in zip(y, bins, strict=True)]
        high = [one.true.high - value for value, one in zip(y, bins, strict=True)]
        axes.plot([0, 1], [0, 1], color=GRID, linewidth=1.2)
        axes.errorbar(x, y, yerr=[np.maximum(low, 0), np.maximum(high, 0)], color=SERIES[1],
                      marker="o", markersize=3.5, linewidth=1.5, elinewidth=0.9)  # fmt: skip
        _frame(axes, "probability claimed", "share that was true")

    said = "; ".join(
        f"claimed {one.claimed:.2f}, true {one.true.value or 0:.2f} of {one.true.of}"
        for one in bins
    )
    text = f"Points on the diagonal mean that the probabilities can be taken at their word. {said}."
    return draw("reliability", "Are the probabilities true?", text, 3.2, paint)


def histogram_plots(evaluation: Evaluation) -> list[Plot]:
    """Scores of the labels that matter, with their thresholds."""
    by_label = {one.label: one for one in evaluation.labels}
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    plots = []
    for index, label in enumerate(evaluation.matters):
        figures, counts = by_label[label], evaluation.histograms[label]

        def paint(_: Any, axes: Any, counts: Any = counts, cut: float = figures.threshold) -> None:
            for values, colour, name, hatch in (
                (counts.negatives, SERIES[0], "does not hold", None),
                (counts.positives, SERIES[2], "holds", "///"),
            ):
                axes.stairs(values, edges, fill=True, color=colour, alpha=0.35)
                axes.stairs(values, edges, color=colour, linewidth=1.3, label=name, hatch=hatch)
            axes.axvline(
                cut, color=INK, linewidth=1.2, linestyle="--", label=f"threshold {cut:.2f}"
            )
            axes.set_yscale("symlog", linthresh=1)
            axes.set_ylim(0)
            axes.set_xlim(0, 1)
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
            axes.set_xlabel("score")
            axes.set_ylabel("texts (log scale)")
            axes.legend(
                loc="lower center",
                bbox_to_anchor=(0.5, 1),
                ncols=3,
                fontsize=8.5,
                columnspacing=1.2,
                handlelength=1.6,
            )

        text = (
            f"Scores of {figures.positives} texts that are {label} and {figures.negatives} that are "
            f"not. At the threshold {figures.threshold:.2f}, {figures.recall.hits} of the "
            f"{figures.recall.of} are found and {figures.false_positive_rate.hits} of the "
            f"{figures.false_positive_rate.of} others are flagged."
        )
        plots.append(draw(f"scores-{index}", label, text, 2.3, paint))
    return plots


def confusion_plot(confusion: Confusion) -> Plot:
    """A heat map without numbers, for many labels; each line is one held label, in shares."""
    counts = np.asarray(confusion.counts, dtype=float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    many = len(confusion.held) > 40

    def paint(_: Any, axes: Any) -> None:
        image = np.zeros((*shares.shape, 4))
        image[..., :3] = (0.2, 0.5, 0.85)
        image[..., 3] = np.sqrt(shares)  # so that a few percent can be seen
        axes.imshow(image, aspect="equal", interpolation="none")
        axes.grid(visible=False)
        if not many:  # of many, the columns stand in the order of the lines, and have no names
            axes.set_xticks(range(len(confusion.said)), confusion.said, rotation=90, fontsize=6.5)
        axes.set_yticks(range(len(confusion.held)), confusion.held, fontsize=2.9 if many else 6.5)
        axes.tick_params(length=1.5, width=0.4, pad=1)
        if many:
            axes.tick_params(axis="x", labelbottom=False)
        axes.set_xlabel("said (in the same order)" if many else "said", fontsize=6.5)
        axes.set_ylabel("holds", fontsize=6.5)

    pairs = [
        f"{one.share:.0%} of {one.held} are said to be {one.said}"
        for one in most_confused(confusion)
    ]
    text = f"Most often confused: {'; '.join(pairs) or 'nothing'}."
    return draw("confusion", "What is taken for what", text, WIDTH * 0.84, paint)


@dataclass(frozen=True, slots=True)
class Confused:
    """Texts of one label that were said to be another."""

    held: str
    said: str
    count: int
    share: float


def most_confused(confusion: Confusion, limit: int = 10) -> list[Confused]:
    """The pairs of labels that are confused most often, by count."""
    pairs = []
    for held, line in zip(confusion.held, confusion.counts, strict=True):
        total = sum(line)
        pairs += [
            Confused(held, said, count, count / total)
            for said, count in zip(confusion.said, line, strict=True)
            if count and said != held
        ]
    return sorted(pairs, key=lambda one: (-one.count, one.held, one.said))[:limit]


def learning_plot(evaluation: Evaluation) -> Plot | None:
    """The figure over the number of training rows."""
    points = evaluation.learning_curve
    if len(points) < 2:
        return None

    def paint(_: Any, axes: Any) -> None:
        axes.plot(*zip(*points, strict=True), color=SERIES[1], marker="o", markersize=4)
        axes.set_xlabel("training rows")
        axes.set_ylabel(evaluation.learning_figure)
        axes.set_xlim(0)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.set_ylim(max(0.0, min(value for _, value in points) - 0.1), 1)

    said = "; ".join(f"{rows:,} rows {value:.3f}" for rows, value in points)
    title = "Would more rows help?"
    return draw("learning", title, f"{evaluation.learning_figure} by rows: {said}.", 2.4, paint)


def robustness_plot(evaluation: Evaluation) -> Plot | None:
    """Share found by disguise, beside that of the texts as written."""
    families = [
        (name, float(value))
        for name, figures in evaluation.robustness.items()
        if (value := figures.get("found")) is not None
    ]
    if not families:
        return None

    def paint(_: Any, axes: Any) -> None:
        names = [name for name, _ in families]
        values = [value for _, value in families]
        colours = [SERIES[0], *[SERIES[1]] * (len(names) - 1)]
        axes.barh(names, values, height=0.66, color=colours)
        for line, value in enumerate(values):
            inside = value > 0.12
            axes.text(0.01 if inside else value + 0.01, line, f"{value:.0%}", va="center",
                      color=FILL if inside else INK)  # fmt: skip
        axes.axvline(values[0], color=INK, linewidth=0.9, linestyle="--")
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.set_xlabel("found (recall)")

    said = "; ".join(f"{name} {value:.0%}" for name, value in families)
    height = 0.7 + 0.24 * len(families)
    return draw("robustness", "Found although disguised", f"Share found: {said}.", height, paint)


# -- inside ---------------------------------------------------------------------------------------


def _line(
    axes: Any, x: Sequence[float], y: Sequence[float], index: int, name: str, *, step: bool = False
) -> None:
    style = "steps-pre" if step else "default"
    axes.plot(x, y, color=SERIES[index % len(SERIES)], linestyle=DASHES[index % len(DASHES)],
              linewidth=1.6, label=name, drawstyle=style)  # fmt: skip


def _dot(axes: Any, x: float, y: float, index: int) -> None:
    axes.plot([x], [y], "o", color=SERIES[index % len(SERIES)], markersize=5, markeredgecolor=FILL,
              clip_on=False, zorder=5)  # fmt: skip


def _frame(axes: Any, x: str, y: str) -> None:
    axes.set_xlim(0, 1.005)
    axes.set_ylim(0, 1.005)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if axes.get_legend_handles_labels()[0]:
        axes.figure.legend(loc="outside lower center", ncols=2, fontsize=8.5)


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _inline(svg: str, name: str, text: str) -> str:
    """The drawing as a part of a page: no prolog, no metadata, no fonts, ids of its own."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", body, flags=re.S)
    width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', body).groups()  # type: ignore[union-attr]
    opening = (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(text)}" '
        'focusable="false">'
    )
    body = opening + body[body.index(">") + 1 :]
    body = body.replace("xlink:href=", "href=")
    body = re.sub(r'(style="[^"<>]*?)font-family: [^;"<>]*;? ?', r"\g<1>", body)
    body = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", body)
    for code, colour in COLOURS.items():
        body = body.replace(code, colour)
    return re.sub(r"\s*\n\s*", "\n", body).strip()
