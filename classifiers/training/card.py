"""The model card of a pack: what it is for, how good it is, what it was made of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

FIGURES = ("precision", "recall", "f1", "f1_at_half", "average_precision")
WEAK = 0.6
"""Labels whose F1 stays under this are called weak in the card."""


def write_card(path: Path, manifest: Mapping[str, Any]) -> None:
    """Write the card as Markdown.

    Args:
        path: file to write.
        manifest: the pack's manifest, with its metrics.
    """
    parts = (_head(manifest), _figures(manifest), _false_positives(manifest), _sources(manifest))
    path.write_text("\n".join(line for part in parts for line in part) + "\n", "utf-8")


def _head(manifest: Mapping[str, Any]) -> list[str]:
    return [
        f"# {manifest['name']}",
        "",
        manifest["description"],
        "",
        f"Linear head over {manifest['encoder_name']} and hashed n-grams; {manifest['decision']}, "
        f"windows of long text pooled by {manifest['pooling']}. It knows English best. Licence of "
        f"the weights: {manifest['licence']}.",
        "",
    ]


def _figures(manifest: Mapping[str, Any]) -> list[str]:
    metrics = manifest["metrics"]
    lines = [
        "## Labels, on rows it was not trained on (splits dev and test)",
        "",
        "The default threshold is the lowest that keeps the false-positive budget on held-out benign "
        "rows (one-sided 95 % exact binomial bound), or the recipe's least where that is higher.",
        "",
        "| label | rows | threshold | budget | precision | recall | F1 | F1 at 0.5 | average precision |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for label in manifest["labels"]:
        point = manifest["operating_points"][label]
        cut = f"{point['threshold']:.3f} | {point['max_false_positive_rate']:.1%}"
        figures = metrics["by_label"].get(label)
        if figures is None:
            lines.append(f"| {label} | 0 | {cut} | no held-out rows | | | | |")
            continue
        cells = " | ".join(f"{figures[key]:.3f}" for key in FIGURES)
        lines.append(f"| {label} | {figures['rows']} | {cut} | {cells} |")
    known = metrics["by_label"]
    weak = [name for name in manifest["labels"] if known.get(name, {"f1": 0.0})["f1"] < WEAK]
    if weak:
        lines += ["", f"Weak labels (F1 under {WEAK} at the default threshold): {', '.join(weak)}."]
    overall = ", ".join(f"{key} {value}" for key, value in metrics["overall"].items())
    return [*lines, "", f"Overall: {overall}.", ""]


def _false_positives(manifest: Mapping[str, Any]) -> list[str]:
    found = manifest["metrics"]["false_positives"]
    if not found:
        return []
    return [
        "## False positives at the default thresholds (any label, splits dev and test)",
        "",
        "Budgets are by label, these counts are of all labels together. Near misses were written or "
        "picked to look like what is looked for.",
        "",
        "| source | flagged |",
        "|---|---|",
        *(f"| {name} | {count} |" for name, count in found.items()),
        "",
        "## Found at the default thresholds (a label that holds, splits dev and test)",
        "",
        "Sources made from templates (SAP200, latent jailbreak, AdvBench) have near copies in the "
        "training rows and are easy; attacks in documents are the hardest.",
        "",
        "| source | found |",
        "|---|---|",
        *(f"| {name} | {count} |" for name, count in manifest["metrics"]["found"].items()),
        "",
    ]


def _sources(manifest: Mapping[str, Any]) -> list[str]:
    rows = sorted(manifest["sources"].items())
    return [
        "## Made of",
        "",
        "| source | rows | licence |",
        "|---|---|---|",
        *(f"| {name} | {source['rows']} | {source['licence']} |" for name, source in rows),
        "",
        "`ours` are rows written for this project (`classifiers/training/rows`), documents joined "
        "from the other sources, and documents with an attack put into them.",
    ]
