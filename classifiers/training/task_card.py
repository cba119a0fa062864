"""The card of a pack that was trained from a task: what it is, what it promises, what it was made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

KINDS = {
    "head": "Linear head over {encoder} and hashed n-grams",
    "examples": "Nearest examples by the features of {encoder}",
    "spans": "Token head over {encoder} and features of words",
}
SPANS_ON = "its training rows, each judged by a head that had not seen it"
DECISIONS = {
    "one_of": "each text has one of the labels",
    "any_of": "each text has any number of the labels",
    "spans": "it points at stretches of the text",
}


def write_task_card(path: Path, manifest: Mapping[str, Any], judged_on: str) -> None:
    """Write the card as Markdown.

    Args:
        path: file to write.
        manifest: the pack's, with its metrics.
        judged_on: which texts the figures are of, as part of a sentence.
    """
    parts = (_head(manifest), _labels(manifest, judged_on), _updates(manifest), _sources(manifest))
    path.write_text("\n".join(line for part in parts for line in part), "utf-8", errors="replace")


def _head(manifest: Mapping[str, Any]) -> list[str]:
    made = KINDS[manifest["kind"]].format(encoder=manifest["encoder_name"])
    lines = [
        f"# {manifest['name']}",
        "",
        manifest["description"],
        "",
        f"{made}; {DECISIONS[manifest['decision']]}. Method {manifest['method']}: "
        f"{manifest['method_reason']}. Licence: {manifest['licence']}.",
        "",
    ]
    if manifest.get("out_of_scope"):
        lines += [
            "The further label `out_of_scope` scores how little a text is about any of the labels.",
            "",
        ]
    return lines


def _labels(manifest: Mapping[str, Any], judged_on: str) -> list[str]:
    metrics, points = manifest["metrics"], manifest["operating_points"]
    rows = [
        [label, *_figures(metrics["by_label"].get(label)), *_point(points[label])]
        for label in manifest["labels"]
    ]
    spans = manifest["decision"] == "spans"
    unit = "spans" if spans else "rows"
    head = ("label", unit, "precision", "recall", "F1", "threshold", "false-positive rate")
    lines = [f"## Labels, on {SPANS_ON if spans else judged_on}", "", *_table(head, rows), ""]
    if spans:
        lines += ["A find is right where label, start and end are.", ""]
    overall = ", ".join(f"{key} {value}" for key, value in metrics["overall"].items())
    return [*lines, f"Overall: {overall}.", ""]


def _figures(figures: Mapping[str, Any] | None) -> list[str]:
    if figures is None:
        return ["0", "-", "-", "-"]
    count = figures.get("rows", figures.get("spans"))
    return [str(count), *(f"{figures[key]:.3f}" for key in ("precision", "recall", "f1"))]


def _point(point: Mapping[str, Any]) -> list[str]:
    budget = point.get("max_false_positive_rate")
    promise = "-" if budget is None else f"at most {budget:.4g}"
    if point.get("promised") is False:
        promise = f"not promised: {point['benign_rows']} of {point['benign_rows_needed']} rows"
    return [f"{point['threshold']:.3f}", promise]


def _updates(manifest: Mapping[str, Any]) -> list[str]:
    given = [one["corrections"] for one in manifest.get("updates", ())]
    if not given:
        return []
    return [
        f"Corrected since by {sum(given):,} texts (updates: {len(given)}). The figures above, but for "
        "the thresholds, are of the pack as it was trained.",
        "",
    ]


def _sources(manifest: Mapping[str, Any]) -> list[str]:
    rows = [
        [name, str(source["rows"]), source["licence"]]
        for name, source in sorted(manifest["sources"].items())
    ]
    return ["## Made of", "", *_table(("source", "rows", "licence"), rows), ""]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in cells]
