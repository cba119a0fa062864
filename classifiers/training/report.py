"""The report of a classifier: one page that needs nothing else, and the same figures as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from classifiers.training import plots
from classifiers.training.evaluation import Evaluation, LabelFigures, json_text
from classifiers.training.verdict import percent, share, summarise

PAGE = "report.html"
DATA = "report.json"
TEMPLATES = Path(__file__).parent / "templates"
TABLE_LABELS = 16
"""The confusion of at most so many labels is a table with numbers; of more, a heat map."""
ABOUT = (
    ("version", "Version"),
    ("encoder_name", "Encoder"),
    ("decision", "Decision"),
    ("pooling", "Windows of long texts"),
    ("licence", "Licence"),
)
"""Keys of the manifest that the page shows, and what they are called."""
KEPT = {"yes": "kept", "unclear": "too few texts to tell", "no": "not kept"}


def write_report(folder: Path, manifest: Mapping[str, Any], evaluation: Evaluation) -> None:
    """Write ``report.html`` and ``report.json``.

    Args:
        folder: an existing folder; files of these names are replaced.
        manifest: the pack's: ``name`` and ``description`` and, where there, what made it.
        evaluation: its figures. Texts of mistakes are shown if it carries them.

    Raises:
        ImportError: matplotlib is not installed (it is in the extra ``train``).
    """
    page = render(manifest, evaluation)
    # A lone surrogate of a user's text becomes "?": it cannot be written.
    (folder / PAGE).write_text(page, "utf-8", errors="replace")
    (folder / DATA).write_text(json_text(evaluation.to_json()), "utf-8", errors="replace")


def render(manifest: Mapping[str, Any], evaluation: Evaluation) -> str:
    """The page: no script, no style sheet or font or image from elsewhere; everything escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        figure=_figure,
        wrap=_wrap, percent=percent, share=share, number=_number, svg=lambda one: Markup(one.svg)  # noqa: S704 (our drawing)
    )  # fmt: skip
    small = len(evaluation.confusion.held) <= TABLE_LABELS
    return environment.get_template(PAGE).render(
        name=str(manifest.get("name", "classifier")),
        summary=summarise(manifest, evaluation),
        e=evaluation,
        tiles=_tiles(evaluation),
        labels=sorted(evaluation.labels, key=_weakness),
        curves=plots.curve_plots(evaluation),
        reliability=plots.reliability_plot(evaluation),
        histograms=plots.histogram_plots(evaluation),
        confusion_table=_confusion_table(evaluation) if small else [],
        confusion=None if small else plots.confusion_plot(evaluation.confusion),
        confused=plots.most_confused(evaluation.confusion),
        learning=plots.learning_plot(evaluation),
        robustness=plots.robustness_plot(evaluation),
        kept=KEPT,
        about=[(title, manifest[key]) for key, title in ABOUT if key in manifest],
        sources=_sources(manifest),
    )


def _tiles(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    """(figure, what it is, what that means) of the figures that stand on top."""
    overall = evaluation.overall
    accuracy = overall.accuracy
    tiles = [
        (f"{overall.rows:,}", "held-out texts", "texts that it was judged on"),
        (percent(accuracy.value), "decided right", f"{percent(accuracy.low)} to {percent(accuracy.high)}"),
        (_number(overall.macro_f1), "macro F1", "1 is perfect; every label counts the same"),
        (_number(overall.weighted_f1), "weighted F1", "frequent labels count more"),
    ]  # fmt: skip
    if evaluation.any_flagged.of:
        stopped = evaluation.any_flagged
        tiles.append(
            (
                percent(stopped.value),
                "ordinary texts stopped",
                f"{stopped.hits:,} of {stopped.of:,}",
            )
        )
    error = overall.calibration_error
    tiles.append((percent(error), "calibration error", "how far probabilities are off"))
    tiles.append((_number(overall.brier), "Brier score", "error of the probabilities; 0 is best"))
    return tiles


def _confusion_table(evaluation: Evaluation) -> list[tuple[str, list[tuple[int, float]]]]:
    """(held label, [(count, share of the line)])."""
    confusion = evaluation.confusion
    return [
        (held, [(count, round(count / max(sum(line), 1), 3)) for count in line])
        for held, line in zip(confusion.held, confusion.counts, strict=True)
    ]


def _sources(manifest: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    sources = manifest.get("sources")
    if not isinstance(sources, Mapping):
        return []
    return [
        (str(name), one.get("rows", ""), one.get("licence", ""))
        for name, one in sorted(sources.items())
        if isinstance(one, Mapping)
    ]


def _weakness(one: LabelFigures) -> tuple[bool, float, str]:
    return (one.positives == 0, one.f1, one.label)


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _figure(value: float) -> str:
    """A count as it is, anything else with three digits."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _wrap(name: str) -> Markup:
    """A name that may be broken where a reader would break it."""
    safe = escape(name)
    for mark in "_/":
        safe = safe.replace(mark, Markup(f"{mark}<wbr>"))  # noqa: S704 (our own two characters)
    return safe
