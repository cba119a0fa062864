"""Train a token head: which stretches of a text carry which label.

Three cross-fits by group give held-out finds, from which come the calibration, the thresholds and
the figures; a last fit on all rows gives the head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from classifiers.chain import Steps, Wide, tags_of
from classifiers.encoder import Encoder
from classifiers.packs import write_manifest, write_tensors
from classifiers.tokens import find, probability
from classifiers.training.data import FOLDS, Row, bucket, group_key
from classifiers.training.methods.base import MAX_CALIBRATION_ROWS
from classifiers.training.methods.chain_fit import Chain, fit_chain
from classifiers.training.methods.span_words import ReadWords, aligned, check_spans, read_words
from classifiers.types import Batch, Classifier, OperatingPoint

Find = tuple[int, int, str, float]
"""(start, end, label, probability)."""
OUTSIDE_DISCOUNT = 2.0
"""How much less likely ``O`` is made to bring doubtful finds to light; see classifiers.tokens."""
GRID = np.linspace(0.3, 0.9, 13)
"""Thresholds that are tried."""


@dataclass(frozen=True, slots=True)
class SpanSettings:
    """What may be turned: penalties of the two kinds of weights, iterations of each fit."""

    states_penalty: float = 0.1
    lexical_penalty: float = 0.5
    iterations: int = 80
    last_iterations: int = 30


@dataclass(frozen=True, slots=True)
class TrainedSpans:
    """A token head, ready to be written.

    Attributes:
        tensors: of ``tokens.safetensors``.
        calibration: of ``calibration.safetensors``.
        manifest: labels, tags, operating points and figures on the held-out rows.
        held_out: for each row the finds of a head fitted without it, calibrated.
    """

    tensors: Mapping[str, npt.NDArray[Any]]
    calibration: Mapping[str, npt.NDArray[Any]]
    manifest: Mapping[str, Any]
    held_out: tuple[tuple[Find, ...], ...]


def train_spans(
    rows: Sequence[Row],
    labels: Sequence[str],
    encoder: Encoder,
    settings: SpanSettings | None = None,
) -> TrainedSpans:
    """Train a token head on rows with spans.

    Args:
        rows: all of them train; keep the rows that judge the head out.
        labels: in the order of the pack; spans of other labels are left untagged.
        encoder: the shared encoder.

    Raises:
        ValueError: a label has no span, or a span lies outside of its text.
    """
    settings = settings or SpanSettings()
    labels = tuple(labels)
    check_spans(rows, labels)
    read = read_words(rows, labels, encoder)
    folds = folds_of(rows)
    fitted: list[Chain] = []
    raw: list[list[tuple[int, int, int, float]]] = [[] for _ in rows]
    for fold in range(FOLDS):
        own = _full(read, np.flatnonzero(folds != fold))
        chain = _fit(read, own, None, settings)
        fitted.append(chain)
        for text in _full(read, np.flatnonzero(folds == fold)):
            raw[text] = _finds(read, chain, text)
    begin = fitted[0].like(np.mean([chain.flat() for chain in fitted], axis=0))
    head = _fit(read, _full(read, np.arange(len(rows))), begin, settings)
    platt = _platt(raw, rows, labels)
    held_out = tuple(_calibrated(finds, platt, labels) for finds in raw)
    calibration = _calibration(held_out, rows, labels)
    points = operating_points(held_out, rows, labels)
    return TrainedSpans(
        tensors={
            "states": np.einsum("fd,ndt->nft", read.basis, head.states).astype(np.float32),
            "lexical": read.spread(head.lexical).astype(np.float16),
            "bias": head.bias.astype(np.float32),
            "start": head.start.astype(np.float32),
            "follow": head.follow.astype(np.float32),
            "platt": platt.astype(np.float32),
        },
        calibration=calibration,
        manifest={
            "labels": list(labels),
            "tags": list(tags_of(labels)),
            "outside_discount": OUTSIDE_DISCOUNT,
            "operating_points": points,
            "metrics": {"held_out": figures(_above(held_out, points), rows, labels)},
        },
        held_out=held_out,
    )


def write_span_pack(
    folder: Path,
    trained: TrainedSpans,
    *,
    name: str,
    encoder: Encoder,
    more: Mapping[str, Any] | None = None,
) -> Path:
    """Write a token head as a pack into a folder that is made if missing.

    Args:
        more: further keys of the manifest: description, licence, sources, figures.

    Returns:
        The path of the manifest.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / "tokens.safetensors", trained.tensors)
    write_tensors(folder / "calibration.safetensors", trained.calibration)
    manifest = {
        "kind": "spans",
        "name": name,
        **trained.manifest,
        "encoder": encoder.hash,
        "encoder_name": encoder.name,
    }
    return write_manifest(folder, {**manifest, **(more or {})})


def folds_of(rows: Sequence[Row]) -> npt.NDArray[np.int64]:
    """The fold of each row, by its group; by its place where all fall into one fold."""
    folds = np.asarray([bucket(row.group or group_key(row.text)) for row in rows])
    return folds if len(set(folds)) > 1 else np.arange(len(rows)) % FOLDS


# -- fitting and judging --------------------------------------------------------------------------


def _full(read: ReadWords, texts: npt.NDArray[np.int64]) -> list[int]:
    return [int(text) for text in texts if read.places[int(text)]]


def _fit(
    read: ReadWords, texts: Sequence[int], begin: Chain | None, settings: SpanSettings
) -> Chain:
    data = read.sentences.choose(texts)
    return fit_chain(
        data,
        begin or Chain.zeros(data.states.shape[1], data.lexical.shape[1], read.tags),
        states_penalty=settings.states_penalty,
        lexical_penalty=settings.lexical_penalty,
        iterations=settings.iterations if begin is None else settings.last_iterations,
    )


def _finds(read: ReadWords, chain: Chain, text: int) -> list[tuple[int, int, int, float]]:
    """(start, end, index of the label, logarithm of the probability)."""
    scores = chain.scores(read.sentences.choose([text]))
    steps = Steps.constrained(chain.start, chain.follow)
    places = read.places[text]
    return [
        (places[one.first][0], places[one.last][1], one.label, float(log))
        for one, log in zip(*find(scores, steps, OUTSIDE_DISCOUNT), strict=True)
    ]


def _platt(
    raw: Sequence[Sequence[tuple[int, int, int, float]]],
    rows: Sequence[Row],
    labels: Sequence[str],
) -> Wide:
    """``[labels, 2]``: one slope for all labels, an offset for each, drawn towards the common one."""
    inputs, right = [], []
    for finds, row in zip(raw, rows, strict=True):
        true = aligned(row)
        for start, end, label, log in finds:
            chance = float(np.exp(min(max(log, -30.0), -1e-6)))
            inputs.append([np.log(chance) - np.log1p(-chance), *np.eye(len(labels))[label]])
            right.append((start, end, labels[label]) in true)
    if len(set(right)) < 2:
        return np.tile([1.0, 0.0], (len(labels), 1))
    model = LogisticRegression(C=1.0, max_iter=200).fit(np.asarray(inputs), right)
    slope, *offsets = model.coef_[0]
    return np.asarray([[max(slope, 0.1), offset + model.intercept_[0]] for offset in offsets])


def _calibrated(
    finds: Sequence[tuple[int, int, int, float]], platt: Wide, labels: Sequence[str]
) -> tuple[Find, ...]:
    if not finds:
        return ()
    chances = probability(np.asarray([f[3] for f in finds]), platt[[f[2] for f in finds]])
    return tuple(
        (start, end, labels[label], float(chance))
        for (start, end, label, _), chance in zip(finds, chances, strict=True)
    )


def _calibration(
    held_out: Sequence[Sequence[Find]], rows: Sequence[Row], labels: Sequence[str]
) -> dict[str, npt.NDArray[Any]]:
    """What the pack ships to keep its promises: best scores by text, scores of the true spans."""
    chosen = np.sort(np.random.default_rng(0).permutation(len(rows))[:MAX_CALIBRATION_ROWS])
    best = np.zeros((len(chosen), len(labels)))
    truth = np.zeros((len(chosen), len(labels)), dtype=np.int8)
    span_scores: list[float] = []
    span_labels: list[int] = []
    for place, index in enumerate(chosen):
        for _, _, label, score in held_out[index]:
            column = labels.index(label)
            best[place, column] = max(best[place, column], score)
        for start, end, label in rows[index].spans:
            if label not in labels:
                continue
            truth[place, labels.index(label)] = 1
            covers = [
                score
                for first, last, found, score in held_out[index]
                if found == label and 2 * (min(last, end) - max(first, start)) >= end - start
            ]
            span_scores.append(max(covers, default=0.0))
            span_labels.append(labels.index(label))
    return {
        "best": best.astype(np.float32),
        "truth": truth,
        "span_scores": np.asarray(span_scores, dtype=np.float32),
        "span_labels": np.asarray(span_labels, dtype=np.int16),
    }


def operating_points(
    held_out: Sequence[Sequence[Find]], rows: Sequence[Row], labels: Sequence[str]
) -> dict[str, dict[str, float]]:
    """The default threshold of each label: the one with the best exact F1 on held-out rows."""
    scores: dict[str, list[float]] = {label: [] for label in labels}
    right: dict[str, list[bool]] = {label: [] for label in labels}
    total = dict.fromkeys(labels, 0)
    for finds, row in zip(held_out, rows, strict=True):
        true = aligned(row)
        for _, _, label in true:
            if label in total:
                total[label] += 1
        for start, end, label, score in finds:
            scores[label].append(score)
            right[label].append((start, end, label) in true)
    return {
        label: _best_point(np.asarray(scores[label]), np.asarray(right[label]), total[label])
        for label in labels
    }


def _best_point(scores: Wide, right: npt.NDArray[np.bool_], total: int) -> dict[str, float]:
    tried = []
    for cut in GRID:
        kept = scores >= cut
        hits = int((kept & right).sum())
        tried.append(
            {
                "threshold": round(float(cut), 2),
                "held_out_precision": round(hits / max(int(kept.sum()), 1), 4),
                "held_out_recall": round(hits / max(total, 1), 4),
                "held_out_f1": round(2 * hits / max(int(kept.sum()) + total, 1), 4),
            }
        )
    return max(tried, key=lambda point: point["held_out_f1"])


def _above(
    held_out: Sequence[Sequence[Find]], points: Mapping[str, Mapping[str, float]]
) -> list[list[tuple[int, int, str]]]:
    return [
        [(s, e, label) for s, e, label, score in finds
         if label in points and score >= points[label]["threshold"]]
        for finds in held_out
    ]  # fmt: skip


def figures(
    found: Sequence[Sequence[tuple[int, int, str]]], rows: Sequence[Row], labels: Sequence[str]
) -> dict[str, Any]:
    """Precision, recall and F1 over finds, overall and by label.

    A find is exact where start, end and label are right; the figures named ``overlap`` count one
    that shares a character with a true span of its label, each true span once.
    """
    counts = {label: np.zeros(5, dtype=np.int64) for label in labels}
    for finds, row in zip(found, rows, strict=True):
        true = aligned(row)
        for label in labels:
            mine = {(s, e) for s, e, name in finds if name == label}
            theirs = {(s, e) for s, e, name in true if name == label}
            touching = sum(any(s < e2 and s2 < e for s2, e2 in theirs) for s, e in mine)
            touched = sum(any(s < e2 and s2 < e for s2, e2 in mine) for s, e in theirs)
            counts[label] += (len(mine), len(theirs), len(mine & theirs), touching, touched)
    return {
        "overall": _ratios(np.sum(list(counts.values()), axis=0)),
        "by_label": {label: _ratios(count) for label, count in counts.items()},
    }


def span_metrics(classifier: Classifier, rows: Sequence[Row]) -> dict[str, Any]:
    """Figures of a token head at its default thresholds, in the form of a manifest's metrics."""
    cuts = classifier.thresholds(classifier.labels, OperatingPoint())
    found = [
        [
            (one.span.start, one.span.end, one.label)
            for one in classifier.predict(Batch([row.text]))[0]
            if one.span is not None and one.score >= cuts[one.label]
        ]
        for row in rows
    ]
    measured = figures(found, rows, classifier.labels)
    by_label = {
        label: {"rows": values.pop("spans"), **values}
        for label, values in measured["by_label"].items()
    }
    overall = measured["overall"]
    return {
        "by_label": by_label,
        "overall": {
            "rows": len(rows),
            "spans": overall["spans"],
            "precision": overall["precision"],
            "recall": overall["recall"],
            "f1": overall["f1"],
        },
    }


def _ratios(count: npt.NDArray[np.int64]) -> dict[str, float]:
    mine, theirs, both, touching, touched = (int(n) for n in count)

    def of(hits: int, total: int) -> float:
        return round(hits / total, 4) if total else 0.0

    return {
        "spans": theirs,
        "precision": of(both, mine),
        "recall": of(both, theirs),
        "f1": of(2 * both, mine + theirs),
        "overlap_precision": of(touching, mine),
        "overlap_recall": of(touched, theirs),
    }
