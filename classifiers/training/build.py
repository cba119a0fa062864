"""Make the shipped head packs from their recipes: ``python -m classifiers.training.build --data DIR``."""

from __future__ import annotations

import argparse
import hashlib
import math
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, f1_score, precision_recall_fscore_support

from classifiers import calibration
from classifiers.encoder import Encoder
from classifiers.heads import HeadClassifier, load_heads, probabilities
from classifiers.packs import SHIPPED, read_pack, read_tensors, write_manifest, write_tensors
from classifiers.training.card import write_card
from classifiers.training.data import ROWS, Row
from classifiers.training.features import FeatureCache
from classifiers.training.fit import Fitted, fit, make_windows, truth_table
from classifiers.training.recipes import LICENCES, RECIPES, Recipe
from classifiers.types import Batch

CARD = "README.md"
CALIBRATION = "calibration.safetensors"
MAX_CALIBRATION_ROWS = 12_000


@dataclass(frozen=True, slots=True)
class Judged:
    """What a finished pack scores on rows it was not trained on."""

    by_label: dict[str, dict[str, float]]
    overall: dict[str, float]
    false_positives: dict[str, tuple[int, int]]
    found: dict[str, tuple[int, int]]


def build(recipe: Recipe, data: Path, encoder: Encoder, cache: FeatureCache, target: Path) -> Path:
    """Train one pack and write it.

    Args:
        recipe: which.
        data: folder of the public data sets.
        encoder: the shared encoder.
        cache: its features.
        target: folder of all packs; the pack becomes a folder in it.

    Returns:
        The pack's folder.
    """
    started = time.perf_counter()
    rows = recipe.rows(data)
    train = [row for row in rows if row.split == "train"]
    windows = make_windows(train, encoder, cache, recipe.pooling)
    fitted = fit(train, recipe.labels, recipe.decision, windows)
    folder = target / recipe.name
    manifest = _write(folder, recipe, encoder, train, fitted)
    _figures(recipe, folder, manifest, rows, encoder)
    print(f"{recipe.name}: {len(train)} rows, {time.perf_counter() - started:.0f} s", flush=True)
    return folder


def rejudge(recipe: Recipe, data: Path, encoder: Encoder, target: Path) -> Path:
    """Give a pack its operating points and figures anew, for a changed budget; it is not trained."""
    folder = target / recipe.name
    manifest = read_pack(folder, kind="head")
    held_out = read_tensors(folder / CALIBRATION)
    points = operating_points(recipe, held_out["logits"], held_out["truth"])
    kept = {k: v for k, v in manifest.items() if k not in ("format", "files", "hash", "metrics")}
    changed = {**kept, "operating_points": points}
    (folder / CARD).unlink(missing_ok=True)
    write_manifest(folder, changed)
    _figures(recipe, folder, changed, recipe.rows(data), encoder)
    return folder


def _figures(
    recipe: Recipe, folder: Path, manifest: dict[str, Any], rows: Sequence[Row], encoder: Encoder
) -> None:
    """Judge the pack as it will be served, and write its card and manifest."""
    judged = judge(load_heads([folder], encoder)[0], rows, recipe)
    manifest["metrics"] = {
        "overall": judged.overall,
        "by_label": judged.by_label,
        "false_positives": {k: f"{n} of {m}" for k, (n, m) in judged.false_positives.items()},
        "found": {k: f"{n} of {m}" for k, (n, m) in judged.found.items()},
    }
    write_card(folder / CARD, manifest)
    write_manifest(folder, manifest)
    print(recipe.name, judged.overall)
    for label, figures in judged.by_label.items():
        print("   ", label, manifest["operating_points"][label]["threshold"], figures)
    print("   ", judged.false_positives, judged.found, flush=True)


def _write(
    folder: Path, recipe: Recipe, encoder: Encoder, train: Sequence[Row], fitted: Fitted
) -> dict[str, Any]:
    """Write the pack without its figures; returns what its manifest says."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CARD).unlink(missing_ok=True)
    truth = truth_table(train, recipe.labels)
    write_tensors(
        folder / "head.safetensors",
        {
            "encoder": fitted.head.encoder.astype(np.float32),
            "lexical": fitted.head.lexical.astype(np.float16),
            "bias": fitted.head.bias.astype(np.float32),
        },
    )
    kept = _calibration_rows(train, recipe)
    logits = fitted.held_out[kept].astype(np.float32)
    write_tensors(folder / CALIBRATION, {"logits": logits, "truth": truth[kept]})
    sources = Counter(row.source for row in train)
    manifest: dict[str, Any] = {
        "kind": "head",
        "name": recipe.name,
        "description": recipe.description,
        "labels": list(recipe.labels),
        "decision": recipe.decision,
        "pooling": recipe.pooling,
        "encoder": encoder.hash,
        "encoder_name": encoder.name,
        "encoder_share": dict(zip(recipe.labels, fitted.mix, strict=True)),
        "operating_points": operating_points(recipe, logits, truth[kept]),
        "licence": "Apache-2.0",
        "sources": {
            name: {"rows": count, "licence": LICENCES[name.split(",")[0]]}
            for name, count in sources.items()
        },
        "rows_sha256": rows_hash(),
    }
    write_manifest(folder, manifest)
    return manifest


def rows_hash() -> str:
    """sha256 over the rows of this repository: a pack that has another was made of older rows."""
    digest = hashlib.sha256()
    for path in sorted(ROWS.glob("*.jsonl")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def operating_points(
    recipe: Recipe, logits: npt.NDArray[Any], truth: npt.NDArray[np.int8]
) -> dict[str, dict[str, float]]:
    """The default threshold of each label: the lowest that keeps the recipe's false-positive budget on
    the benign calibration rows, and never under the recipe's least.

    For ``one_of`` heads the benign rows of a label are those of all other labels.

    Args:
        logits: ``[n, labels]`` calibrated, of rows that the head was not fitted on.
        truth: ``[n, labels]`` as in :func:`classifiers.training.fit.truth_table`.
    """
    scores = probabilities(logits, recipe.decision)
    benign = (truth == 0).all(axis=1) | (recipe.decision == "one_of")
    points = {}
    for column, label in enumerate(recipe.labels):
        quiet = scores[(truth[:, column] == 0) & benign, column]
        cut = calibration.false_positive_threshold(quiet, recipe.budget, f"{recipe.name}: {label}")
        cut = max(cut, recipe.least)
        found = truth[:, column] == 1
        points[label] = {
            "threshold": math.ceil(cut * 1e6) / 1e6,  # rounded down it would let a benign row in
            "max_false_positive_rate": recipe.budget,
            "benign_rows": len(quiet),
            "held_out_recall": round(float((scores[found, column] >= cut).mean()), 4),
        }
    return points


def judge(classifier: HeadClassifier, rows: Sequence[Row], recipe: Recipe) -> Judged:
    """Score a pack on the rows of the splits dev and test, as it will be served."""
    held = [row for row in rows if row.split != "train"]
    scores = np.asarray(
        [[p.score for p in classifier.predict(Batch([row.text]))[0]] for row in held]
    )
    truth = truth_table(held, recipe.labels)
    cuts = np.asarray(
        [
            recipe_point["threshold"]
            for recipe_point in classifier.manifest["operating_points"].values()
        ]
    )
    by_label: dict[str, dict[str, float]] = {}
    for column, label in enumerate(recipe.labels):
        known = truth[:, column] >= 0
        right, score = truth[known, column], scores[known, column]
        if not right.any():
            continue
        precision, recall, f1, _ = precision_recall_fscore_support(
            right, score >= cuts[column], average="binary", zero_division=0
        )
        by_label[label] = {
            "rows": int(right.sum()),
            "precision": round(float(precision), 4),
            "recall": round(float(recall), 4),
            "f1": round(float(f1), 4),
            "f1_at_half": round(float(f1_score(right, score >= 0.5, zero_division=0)), 4),
            "average_precision": round(float(average_precision_score(right, score)), 4),
        }
    overall: dict[str, float] = {"rows": len(held)}
    if recipe.decision == "one_of":
        overall["accuracy"] = round(float((scores.argmax(1) == truth.argmax(1)).mean()), 4)
    overall["macro_f1"] = round(float(np.mean([f["f1"] for f in by_label.values()])), 4)
    flagged = np.any(scores >= cuts, axis=1)
    groups: dict[str, list[int]] = {}
    for index, row in enumerate(held):
        if row.benign:
            groups.setdefault(row.source, []).append(index)
        elif not row.labels and row.known is None:
            groups.setdefault(f"{row.source}, near misses", []).append(index)
    false_positives = {
        name: (int(flagged[own].sum()), len(own)) for name, own in sorted(groups.items())
    }
    if recipe.decision == "one_of":
        return Judged(by_label, overall, {}, {})
    hits = ((scores >= cuts) & (truth == 1)).any(axis=1)
    by_source: dict[str, list[int]] = {}
    for index, row in enumerate(held):
        if row.labels:
            by_source.setdefault(row.source, []).append(index)
    found = {name: (int(hits[own].sum()), len(own)) for name, own in sorted(by_source.items())}
    return Judged(by_label, overall, false_positives, found)


def _calibration_rows(rows: Sequence[Row], recipe: Recipe) -> npt.NDArray[np.int64]:
    """Held-out rows that ship with the pack: benign ones and positives, seeded."""
    good = [
        i for i, row in enumerate(rows) if row.benign or row.labels or recipe.decision == "one_of"
    ]
    chosen = np.random.default_rng(0).permutation(good)[:MAX_CALIBRATION_ROWS]
    return np.sort(chosen)


def main(arguments: Sequence[str] | None = None) -> int:
    """Rebuild the shipped heads."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the public data sets")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "doorman")
    parser.add_argument("--target", type=Path, default=SHIPPED)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--rejudge", action="store_true", help="renew thresholds and figures, do not train"
    )
    parser.add_argument("packs", nargs="*", default=list(RECIPES), help="default: all")
    options = parser.parse_args(arguments)
    if unknown := set(options.packs) - set(RECIPES):
        print(f"no recipe {', '.join(unknown)}; there are {', '.join(RECIPES)}", file=sys.stderr)
        return 2
    encoder = Encoder(SHIPPED / "encoder", threads=options.threads)
    cache = FeatureCache(encoder, options.cache)
    for name in options.packs:
        if options.rejudge:
            rejudge(RECIPES[name], options.data, encoder, options.target)
            continue
        build(RECIPES[name], options.data, encoder, cache, options.target)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
