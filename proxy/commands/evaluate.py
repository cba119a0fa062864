"""Measure a classifier on labelled rows, as it is served: doorman evaluate PACK DATA."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxy.commands.output import CommandError, emit, json_option, one_blas_thread
from proxy.commands.train import encoder_folder, plain, training_faults

if TYPE_CHECKING:
    from rich.console import Console

    from classifiers.training.data import Row
    from classifiers.training.evaluation import Evaluation
    from classifiers.types import Classifier


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("pack", metavar="PACK", help="a shipped classifier, or a pack's folder")
    data_arguments(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FOLDER",
        help="write report.html and report.json there",
    )
    parser.add_argument(
        "--robust-rows",
        type=int,
        default=0,
        metavar="N",
        help="disguise so many rows in every way and judge them again (default: none)",
    )


def data_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what evaluate and compare share."""
    parser.add_argument(
        "data", type=Path, nargs="+", metavar="DATA", help="CSV, JSONL or Parquet with labels"
    )
    parser.add_argument("--text", metavar="COLUMN", help="of the texts (default: found)")
    parser.add_argument("--label", metavar="COLUMN", help="of the labels (default: found)")
    parser.add_argument(
        "--spans",
        metavar="COLUMN",
        help="of the stretches, for a pack of kind spans (default: found)",
    )
    parser.add_argument("--split", metavar="NAME", help="only rows of this split: train, dev, test")
    parser.add_argument(
        "--encoder", type=Path, metavar="FOLDER", help="another encoder pack than the shipped one"
    )
    parser.add_argument("--show-texts", action="store_true", help="show the texts of mistakes")
    json_option(parser)


def run(options: argparse.Namespace) -> int:
    """Measure."""
    one_blas_thread()
    with training_faults():
        from classifiers.training.evaluate import Given, evaluate_classifier
        from classifiers.training.report import write_report

        classifier = load_one(options.pack, options)
        rows = read_rows(options, classifier)
        given = Given(with_texts=options.show_texts)
        measured = evaluate_classifier(
            classifier, rows, robust_rows=options.robust_rows, given=given
        )
        if options.output is not None:
            options.output.mkdir(parents=True, exist_ok=True)
            manifest = getattr(classifier, "manifest", {"name": classifier.name})
            write_report(options.output, manifest, measured)
    emit(options, measured.to_json(), lambda console: render(console, classifier.name, measured))
    return 0


def load_one(name: str, options: argparse.Namespace) -> Classifier:
    """A shipped classifier by its name, or a pack by its folder."""
    from classifiers.api import load

    return load(name, encoder=encoder_folder(options), threads=2).classifier


def read_rows(options: argparse.Namespace, classifier: Classifier) -> list[Row]:
    """The rows of all files that are asked for.

    Raises:
        CommandError: there are none, or a column is named that a pack of this kind has no use for.
        DataError: a file cannot be used.
    """
    from classifiers.training.data import Row
    from classifiers.training.evaluate import task_labels
    from classifiers.training.read import read_task
    from classifiers.training.task import make_task

    labels = list(task_labels(classifier))
    columns: dict[str, Any] = {
        key: value for key in ("text", "label", "spans") if (value := getattr(options, key))
    }
    wrong, right = ("label", "spans") if classifier.kind == "spans" else ("spans", "label")
    if wrong in columns:
        raise CommandError(
            f"--{wrong}: {classifier.name} is of kind {classifier.kind}; name the column with --{right}"
        )
    task = make_task(
        {
            "name": "evaluation",
            "kind": classifier.kind,
            "labels": labels,
            "data": [{"path": str(path), **columns} for path in options.data],
            "max_rows": 10_000_000,
        }
    )
    raw, report = read_task(task, command=True)
    for line in report.warnings():
        _note(line)
    rows = [
        Row(
            row.text,
            row.labels,
            source=row.source,
            split=row.split or "test",
            benign=not row.labels,
            spans=row.spans,
            place=row.place,
        )
        for row in raw
        if options.split is None or row.split == options.split
    ]
    if not rows:
        raise CommandError(
            f"{', '.join(map(str, options.data))}: no rows"
            + (f" of the split {options.split!r}; leave --split out" if options.split else "")
        )
    return rows


def render(console: Console, name: str, measured: Evaluation) -> None:
    """A table of the labels."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(f"{name}, {measured.overall.rows:,} rows"))
    for head in ("label", "rows", "threshold", "precision", "recall", "F1", "AUROC"):
        table.add_column(head, justify="left" if head == "label" else "right")
    for one in measured.labels:
        values = (one.precision.value, one.recall.value, one.f1, one.auroc)
        cells = ["-" if value is None else f"{value:.3f}" for value in values]
        table.add_row(escape(one.label), str(one.positives), f"{one.threshold:.3f}", *cells)
    console.print(table)
    overall, say = measured.overall, plain(console)
    if overall.macro_f1 is not None:
        right = overall.accuracy
        say(f"decided right: {right.hits:,} of {right.of:,}; macro F1 {overall.macro_f1:.3f}")
    for source, share in measured.false_positives.items():
        say(f"stopped by mistake, {source}: {share.hits} of {share.of}")


def _note(line: str) -> None:
    import sys

    print(f"doorman: {line}", file=sys.stderr)
