"""Make the shipped head packs from their recipes: ``python -m classifiers.training.build --data DIR``."""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score, f1_score, precision_recall_fscore_support

from classifiers.encoder import Encoder
from classifiers.heads import HeadClassifier, load_heads
from classifiers.loading import load_packs
from classifiers.packs import SHIPPED, read_tensors
from classifiers.training.card import write_card
from classifiers.training.data import ROWS, Row, bucket, group_key
from classifiers.training.features import FeatureCache
from classifiers.training.fit import truth_table
from classifiers.training.methods.base import Context
from classifiers.training.methods.head import HeadMethod
from classifiers.training.methods.spans import span_metrics, train_spans, write_span_pack
from classifiers.training.pack import (
    CALIBRATION,
    CARD,
    Promise,
    Subject,
    finish,
    manifest_of,
    operating_points,
    write_pack,
)
from classifiers.training.recipes import LICENCES, RECIPES, Recipe
from classifiers.types import Batch

STRENGTHS = (10.0,)
"""Of the n-grams and the encoder alike; with so many rows it matters little."""
REPLAY_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class Judged:
    """What a finished pack scores on rows it was not trained on."""

    by_label: dict[str, dict[str, float]]
    overall: dict[str, float]
    false_positives: dict[str, tuple[int, int]]
    found: dict[str, tuple[int, int]]


def build(
    recipe: Recipe,
    data: Path,
    encoder: Encoder,
    cache: FeatureCache,
    target: Path,
    threads: int = 2,
) -> Path:
    """Train one pack and write it.

    Args:
        recipe: which.
        data: folder of the public data sets.
        encoder: the shared encoder.
        cache: its features.
        target: folder of all packs; the pack becomes a folder in it.
        threads: labels that are fitted at once.

    Returns:
        The pack's folder.
    """
    if recipe.decision == "spans":
        return build_spans(recipe, data, encoder, target)
    started = time.perf_counter()
    rows = recipe.rows(data)
    train = [row for row in rows if row.split == "train"]
    folds = np.asarray([bucket(row.group or group_key(row.text)) for row in train])
    folder = target / recipe.name
    with tempfile.TemporaryDirectory() as scratch:
        context = Context(encoder, cache, recipe.pooling, folds, Path(scratch), threads=threads)
        method = HeadMethod(strengths=STRENGTHS)
        trained = method.train(train, recipe.labels, recipe.decision, context)
        manifest = write_pack(
            folder, subject(recipe, train), trained, train, encoder, promise(recipe)
        )
    _figures(recipe, folder, manifest, rows, encoder)
    print(f"{recipe.name}: {len(train)} rows, {time.perf_counter() - started:.0f} s", flush=True)
    return folder


def build_spans(recipe: Recipe, data: Path, encoder: Encoder, target: Path) -> Path:
    """Train one token head and write it."""
    started = time.perf_counter()
    rows = recipe.rows(data)
    train = [row for row in rows if row.split == "train"]
    folder = target / recipe.name
    about = subject(recipe, train)
    more = {
        "description": about.description,
        "decision": recipe.decision,
        "pooling": recipe.pooling,
        "licence": about.licence,
        "sources": about.sources,
        **about.more,
    }
    trained = train_spans(train, recipe.labels, encoder)
    (folder / CARD).unlink(missing_ok=True)
    write_span_pack(folder, trained, name=recipe.name, encoder=encoder, more=more)
    manifest = manifest_of(folder, "spans")
    classifier = load_packs([folder], encoder)[0]
    held = [row for row in rows if row.split != "train"]
    manifest["metrics"] |= span_metrics(classifier, held)
    for source in sorted({row.source for row in held}):
        own = span_metrics(classifier, [row for row in held if row.source == source])
        manifest["metrics"]["overall"][f"f1 on {source}"] = own["overall"]["f1"]
    write_card(folder / CARD, manifest)
    finish(folder, manifest)
    print(f"{recipe.name}: {len(train)} rows, {time.perf_counter() - started:.0f} s")
    print("   ", manifest["metrics"]["overall"], flush=True)
    return folder


def rejudge(recipe: Recipe, data: Path, encoder: Encoder, target: Path) -> Path:
    """Give a pack its operating points and figures anew, for a changed budget; it is not trained."""
    folder = target / recipe.name
    manifest = manifest_of(folder)
    held_out = read_tensors(folder / CALIBRATION)
    manifest["operating_points"] = operating_points(
        recipe.name,
        recipe.labels,
        recipe.decision,
        held_out["logits"],
        held_out["truth"],
        promise(recipe),
    )
    (folder / CARD).unlink(missing_ok=True)
    finish(folder, manifest)
    _figures(recipe, folder, manifest, recipe.rows(data), encoder)
    return folder


def promise(recipe: Recipe) -> Promise:
    """What the recipe's default points keep."""
    return Promise(budget=recipe.budget, least=recipe.least, strict=True)


def subject(recipe: Recipe, train: Sequence[Row]) -> Subject:
    """What the recipe's pack is about."""
    sources = Counter(row.source for row in train)
    return Subject(
        name=recipe.name,
        description=recipe.description,
        labels=recipe.labels,
        decision=recipe.decision,
        pooling=recipe.pooling,
        sources={
            name: {"rows": count, "licence": LICENCES[name.split(",")[0]]}
            for name, count in sources.items()
        },
        more={"rows_sha256": rows_hash(recipe.own)},
        replay_rows=REPLAY_ROWS,
    )


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
    finish(folder, manifest)
    print(recipe.name, judged.overall)
    for label, figures in judged.by_label.items():
        print("   ", label, manifest["operating_points"][label]["threshold"], figures)
    print("   ", judged.false_positives, judged.found, flush=True)


def rows_hash(names: Sequence[str]) -> str:
    """sha256 over the own rows of a recipe: a pack that has another was made of older rows."""
    digest = hashlib.sha256()
    for path in (ROWS / f"{name}.jsonl" for name in sorted(names)):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def judge(classifier: HeadClassifier, rows: Sequence[Row], recipe: Recipe) -> Judged:
    """Score a pack on the rows of the splits dev and test, as it will be served."""
    held = [row for row in rows if row.split != "train"]
    texts = [row.text for row in held]
    scores = np.asarray(
        [
            [prediction.score for prediction in found]
            for first in range(0, len(texts), 64)
            for found in classifier.predict(Batch(texts[first : first + 64]))
        ]
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Rebuild the shipped heads."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the public data sets")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "doorman")
    parser.add_argument("--target", type=Path, default=SHIPPED)
    parser.add_argument(
        "--encoder", type=Path, default=SHIPPED / "encoder", help="pack of the shared encoder"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--rejudge", action="store_true", help="renew thresholds and figures, do not train"
    )
    parser.add_argument("packs", nargs="*", default=list(RECIPES), help="default: all")
    options = parser.parse_args(arguments)
    if unknown := set(options.packs) - set(RECIPES):
        print(f"no recipe {', '.join(unknown)}; there are {', '.join(RECIPES)}", file=sys.stderr)
        return 2
    encoder = Encoder(options.encoder, threads=options.threads)
    cache = FeatureCache(encoder, options.cache)
    for name in options.packs:
        if options.rejudge:
            rejudge(RECIPES[name], options.data, encoder, options.target)
            continue
        build(RECIPES[name], options.data, encoder, cache, options.target, options.threads)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
