"""The model card of a pack: what it is for, how good it is, what it was made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FIGURES = {
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "f1_at_half": "F1 at 0.5",
    "average_precision": "average precision",
    "overlap_precision": "precision, overlapping",
    "overlap_recall": "recall, overlapping",
}
"""Figures of a label and what they are called; those that a pack has are shown."""
WEAK = 0.6
"""Labels whose F1 stays under this are called weak in the card."""
METHODS = {
    "head": "Linear head over {encoder} and hashed n-grams",
    "examples": "Nearest examples by {encoder}",
    "spans": "Token head over {encoder} and the spelling of words",
}
DECISIONS = {
    "one_of": "each text has one of the labels",
    "any_of": "each text has any number of the labels",
    "spans": "it points at stretches of the text",
}
SPANS_ON = "its training rows, each judged by a head that had not seen it"


def write_card(path: Path, manifest: Mapping[str, Any]) -> None:
    """Write the card as Markdown.

    Args:
        path: file to write.
        manifest: the pack's manifest, with its metrics. One that says by ``judged_on`` which texts they
            are of was trained from a task, any other from a recipe of this project.
    """
    if "judged_on" in manifest:
        parts = [_task_head(manifest), _task_figures(manifest), _sources(manifest)]
    else:
        parts = [
            _head(manifest),
            _figures(manifest),
            _false_positives(manifest),
            _sources(manifest),
        ]
    text = "\n".join(line for part in parts for line in part) + "\n"
    path.write_text(text, "utf-8", errors="replace")


def _head(manifest: Mapping[str, Any]) -> list[str]:
    how = METHODS[manifest["kind"]].format(encoder=manifest["encoder_name"])
    pooled = f", windows of long text pooled by {manifest['pooling']}"
    lines = [
        f"# {manifest['name']}",
        "",
        manifest["description"],
        "",
        f"{how}; {manifest['decision']}{'' if manifest['kind'] == 'spans' else pooled}. The encoder "
        f"knows English best. Licence of the weights: {manifest['licence']}.",
        "",
    ]
    if shares := manifest.get("encoder_share"):
        values = {round(float(share), 2) for share in shares.values()}
        told = ", ".join(f"{share:g}" for share in sorted(values))
        lines += [
            f"Share of the encoder in the logit, chosen by cross-validation: {told} (the rest is the "
            "n-grams'; by label in manifest.json).",
            "",
        ]
    if corrected := manifest.get("updates"):
        count = sum(int(one["corrections"]) for one in corrected)
        lines += [f"Corrected since by {count} texts; the figures are from before that.", ""]
    return lines


def _figures(manifest: Mapping[str, Any]) -> list[str]:
    known: Mapping[str, Mapping[str, Any]] = manifest["metrics"]["by_label"]
    shown = [key for key in FIGURES if any(key in figures for figures in known.values())]
    points = manifest["operating_points"]
    lines = ["## Labels, on rows it was not trained on", "", _rule(manifest), ""]
    heads = ["label", "rows", "threshold", "budget", *(FIGURES[key] for key in shown)]
    lines += [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for label in manifest["labels"]:
        point, figures = points[label], known.get(label)
        budget = point.get("max_false_positive_rate")
        told = "-" if budget is None else f"{budget:.1%}"
        count = figures.get("rows", figures.get("spans", 0)) if figures else 0
        row = [label, str(count), f"{point['threshold']:.3f}", told]
        row += [f"{figures[key]:.3f}" if figures and key in figures else "" for key in shown]
        lines.append(f"| {' | '.join(row)} |")
    weak = [name for name in manifest["labels"] if known.get(name, {"f1": 0.0})["f1"] < WEAK]
    if weak:
        lines += ["", f"Weak labels (F1 under {WEAK} at the default threshold): {', '.join(weak)}."]
    overall = ", ".join(f"{key} {value}" for key, value in manifest["metrics"]["overall"].items())
    return [*lines, "", f"Overall: {overall}.", ""]


def _rule(manifest: Mapping[str, Any]) -> str:
    if manifest["kind"] == "spans":
        return (
            "Figures are of finds whose start, end and label are all right; overlapping ones share "
            "a character with a true one. The default threshold is the one with the best F1 on "
            "held-out rows."
        )
    return (
        "The default threshold is the lowest that keeps the false-positive budget on held-out benign "
        "rows (one-sided 95 % exact binomial bound), or a least one where that is higher."
    )


def _false_positives(manifest: Mapping[str, Any]) -> list[str]:
    found = manifest["metrics"].get("false_positives")
    if not found:
        return []
    lines = [
        "## False positives at the default thresholds (any label, held-out rows)",
        "",
        "Budgets are by label, these counts are of all labels together. Near misses were written or "
        "picked to look like what is looked for.",
        "",
        "| source | flagged |",
        "|---|---|",
        *(f"| {name} | {count} |" for name, count in found.items()),
        "",
        "## Found at the default thresholds (a label that holds, held-out rows)",
        "",
    ]
    if any(name.startswith("injection/") for name in found):
        lines += [
            "Sources made from templates (SAP200, latent jailbreak, AdvBench) have near copies in the "
            "training rows and are easy; attacks in documents are the hardest.",
            "",
        ]
    counts = manifest["metrics"]["found"].items()
    return [
        *lines,
        "| source | found |",
        "|---|---|",
        *(f"| {name} | {count} |" for name, count in counts),
        "",
    ]


def _sources(manifest: Mapping[str, Any]) -> list[str]:
    rows = sorted(manifest["sources"].items())
    cells = [(name, str(source["rows"]), source["licence"]) for name, source in rows]
    lines = ["## Made of", "", *_table(("source", "rows", "licence"), cells)]
    if any(name.split(",")[0] == "ours" for name, _ in rows):
        lines += [
            "",
            "`ours` are rows written for this project (`classifiers/training/rows`), documents and "
            "conversations joined from the other sources, and innocent texts with an attack or a "
            "harmful text put beside them.",
        ]
    return lines


# -- packs that were trained from a task ----------------------------------------------------------


def _task_head(manifest: Mapping[str, Any]) -> list[str]:
    made = METHODS[manifest["kind"]].format(encoder=manifest["encoder_name"])
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


def _task_figures(manifest: Mapping[str, Any]) -> list[str]:
    metrics, points = manifest["metrics"], manifest["operating_points"]
    rows = [
        [label, *_task_row(metrics["by_label"].get(label)), *_task_point(points[label])]
        for label in manifest["labels"]
    ]
    spans = manifest["decision"] == "spans"
    unit, where = ("spans", SPANS_ON) if spans else ("rows", manifest["judged_on"])
    head = ("label", unit, "precision", "recall", "F1", "threshold", "false-positive rate")
    lines = [f"## Labels, on {where}", "", *_table(head, rows), ""]
    if spans:
        lines += ["A find is right where label, start and end are.", ""]
    overall = ", ".join(f"{key} {value}" for key, value in metrics["overall"].items())
    lines += [f"Overall: {overall}.", ""]
    if given := [one["corrections"] for one in manifest.get("updates", ())]:
        lines += [
            f"Corrected since by {sum(given):,} texts (updates: {len(given)}). The figures above, but "
            "for the thresholds, are of the pack as it was trained.",
            "",
        ]
    return lines


def _task_row(figures: Mapping[str, Any] | None) -> list[str]:
    if figures is None:
        return ["0", "-", "-", "-"]
    count = figures.get("rows", figures.get("spans"))
    return [str(count), *(f"{figures[key]:.3f}" for key in ("precision", "recall", "f1"))]


def _task_point(point: Mapping[str, Any]) -> list[str]:
    budget = point.get("max_false_positive_rate")
    promise = "-" if budget is None else f"at most {budget:.4g}"
    if point.get("promised") is False:
        rows = f"{point['benign_rows']} of {point.get('benign_rows_needed')} rows"
        promise = f"not promised: {point.get('promise_fault', rows)}"
    return [f"{point['threshold']:.3f}", promise]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, *rows]
    told = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    return [told[0], "|---" * len(head) + "|", *told[1:]]
