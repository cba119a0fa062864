"""Make the shipped head packs from their recipes: ``python -m classifiers.training.build --data DIR``."""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from classifiers.encoder import Encoder
from classifiers.loading import load_packs
from classifiers.packs import SHIPPED, read_tensors
from classifiers.training.card import write_card
from classifiers.training.data import ROWS, Row, bucket, group_key
from classifiers.training.evaluate import evaluate_classifier
from classifiers.training.features import FeatureCache
from classifiers.training.methods.base import Context
from classifiers.training.methods.head import HeadMethod
from classifiers.training.methods.spans import span_metrics, train_spans, write_span_pack
from classifiers.training.pack import (
    CALIBRATION,
    CARD,
    Promise,
    Subject,
    check_target,
    finish,
    manifest_of,
    operating_points,
    replace_folder,
    write_pack,
)
from classifiers.training.recipes import LICENCES, RECIPES, Recipe
from classifiers.training.workplace import scratch_beside

STRENGTHS = (10.0,)
"""Of the n-grams and the encoder alike; with so many rows it matters little."""
REPLAY_ROWS = 1_000


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
    check_target(folder)
    with scratch_beside(folder) as scratch:
        made = scratch / "pack"
        context = Context(encoder, cache, recipe.pooling, folds, scratch, threads=threads)
        method = HeadMethod(strengths=STRENGTHS)
        trained = method.train(train, recipe.labels, recipe.decision, context)
        manifest = write_pack(
            made, subject(recipe, train), trained, train, encoder, promise(recipe)
        )
        _figures(recipe, made, manifest, rows, encoder)
        replace_folder(made, folder)
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
    check_target(folder)
    with scratch_beside(folder) as scratch:
        made = scratch / "pack"
        write_span_pack(made, trained, name=recipe.name, encoder=encoder, more=more)
        manifest = manifest_of(made, "spans")
        classifier = load_packs([made], encoder)[0]
        held = [row for row in rows if row.split != "train"]
        manifest["metrics"] |= span_metrics(classifier, held)
        for source in sorted({row.source for row in held}):
            own = span_metrics(classifier, [row for row in held if row.source == source])
            manifest["metrics"]["overall"][f"f1 on {source}"] = own["overall"]["f1"]
        write_card(made / CARD, manifest)
        finish(made, manifest)
        replace_folder(made, folder)
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
    with scratch_beside(folder) as scratch:
        made = scratch / "pack"
        shutil.copytree(folder, made)
        (made / CARD).unlink(missing_ok=True)
        finish(made, manifest)
        _figures(recipe, made, manifest, recipe.rows(data), encoder)
        replace_folder(made, folder)
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
    held = [row for row in rows if row.split != "train"]
    metrics = evaluate_classifier(load_packs([folder], encoder)[0], held).metrics()
    manifest["metrics"] = metrics
    write_card(folder / CARD, manifest)
    finish(folder, manifest)
    print(recipe.name, metrics["overall"])
    for label, figures in metrics["by_label"].items():
        print("   ", label, manifest["operating_points"][label]["threshold"], figures)
    print("   ", metrics["false_positives"], metrics["found"], flush=True)


def rows_hash(names: Sequence[str]) -> str:
    """sha256 over the own rows of a recipe: a pack that has another was made of older rows."""
    digest = hashlib.sha256()
    for path in (ROWS / f"{name}.jsonl" for name in sorted(names)):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


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
