"""The model card of a pack: what it is for, how good it is, what it was made of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

WEAK = 0.6
"""Labels whose F1 stays under this are called weak in the card."""


def write_card(path: Path, manifest: Mapping[str, Any]) -> None:
    """Write the card as Markdown.

    Args:
        path: file to write.
        manifest: the pack's manifest, with its metrics.
    """
    metrics = manifest["metrics"]
    lines = [
        f"# {manifest['name']}",
        "",
        manifest["description"],
        "",
        f"Linear head over {manifest['encoder_name']} and hashed n-grams; {manifest['decision']}, windows "
        f"of long text pooled by {manifest['pooling']}. It knows English best. Licence of the weights: "
        f"{manifest['licence']}.",
        "",
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
        cells = [
            f"{figures[key]:.3f}"
            for key in ("precision", "recall", "f1", "f1_at_half", "average_precision")
        ]
        lines.append(f"| {label} | {figures['rows']} | {cut} | {' | '.join(cells)} |")
    weak = [
        label
        for label in manifest["labels"]
        if metrics["by_label"].get(label, {"f1": 0.0})["f1"] < WEAK
    ]
    if weak:
        lines += ["", f"Weak labels (F1 under {WEAK} at the default threshold): {', '.join(weak)}."]
    lines += ["", "Overall: " + ", ".join(f"{k} {v}" for k, v in metrics["overall"].items()) + "."]
    if metrics["false_positives"]:
        lines += [
            "",
            "## False positives at the default thresholds (any label, splits dev and test)",
            "",
            "| source | flagged |",
            "|---|---|",
            *(f"| {name} | {count} |" for name, count in metrics["false_positives"].items()),
        ]
    lines += [
        "",
        "## Made of",
        "",
        "| source | rows | licence |",
        "|---|---|---|",
        *(
            f"| {name} | {source['rows']} | {source['licence']} |"
            for name, source in sorted(manifest["sources"].items())
        ),
        "",
        "`ours` are rows written for this project (`classifiers/training/rows`), documents joined from "
        "the other sources, and documents with an attack put into them.",
    ]
    path.write_text("\n".join(lines) + "\n", "utf-8")
