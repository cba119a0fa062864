"""The methods' shared seam: honest held-out scores, what is written, and rows that do not suffice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra `train`)")

from train_kit import TINY, rows_of, span_rows, text_of

from classifiers import lexical
from classifiers.encoder import Encoder
from classifiers.pooled import probabilities
from classifiers.training.data import Row
from classifiers.training.features import FeatureCache
from classifiers.training.fit import Settings, fit, truth_table
from classifiers.training.methods import METHODS, head
from classifiers.training.methods.base import Context, Tensors
from classifiers.training.methods.examples import PRIOR, left_out
from classifiers.training.methods.head import FEW_A_LABEL, STRENGTHS, HeadMethod, label_rows
from classifiers.training.methods.spans import train_spans
from classifiers.training.replay import remembered, thinned
from classifiers.training.windows import make_windows
from classifiers.types import Kind

LABELS = ("garden", "kitchen", "travel")


def context(tmp_path: Path, rows: list[Row], **more: Any) -> Context:
    encoder = Encoder(TINY)
    folds = np.arange(len(rows)) % 3
    values = {"pooling": "mean", "folds": folds, "scratch": tmp_path, **more}
    return Context(encoder, FeatureCache(encoder, tmp_path / "cache"), **values)


def some(count: int, labels: tuple[str, ...] = LABELS) -> list[Row]:
    return [Row(row["text"], frozenset({row["label"]})) for row in rows_of(count, labels)]


@pytest.mark.parametrize("name", ["head", "examples"])
@pytest.mark.parametrize("decision", ["one_of", "any_of"])
def test_what_every_method_hands_back(tmp_path: Path, name: str, decision: Kind) -> None:
    rows = some(20)
    trained = METHODS[name]().train(rows, LABELS, decision, context(tmp_path, rows))
    assert trained.kind == name
    assert trained.encoder is None
    assert trained.held_out.shape == (60, 3)
    assert np.isfinite(trained.held_out).all()
    assert trained.honest.dtype == bool
    assert trained.honest.shape == (60,)
    assert set(trained.tensors) == {f"{name}.safetensors"}
    assert bool(trained.replay) is (name == "head")
    scores = probabilities(trained.held_out, decision)
    assert ((scores >= 0) & (scores <= 1)).all()


def test_held_out_scores_come_from_models_that_had_not_seen_the_row(tmp_path: Path) -> None:
    lot = np.random.default_rng(0)
    rows = [Row(text_of("garden", n), frozenset({LABELS[lot.integers(3)]})) for n in range(90)]
    trained = HeadMethod().train(rows, LABELS, "one_of", context(tmp_path, rows))
    right = truth_table(rows, LABELS).argmax(axis=1) == trained.held_out.argmax(axis=1)
    assert right.mean() < 0.55  # labels by lot cannot be known


def test_each_row_is_judged_by_the_examples_of_other_groups() -> None:
    unit = np.asarray([[1, 0], [0.6, 0.8], [0, 1], [0.8, 0.6]], dtype=np.float32)
    held = np.asarray([[1, 0], [1, 0], [0, 1], [0, 1]], dtype=bool)
    # A second window of the first row, which shows the third.
    windows, owner = np.vstack([unit, [[0, 1]]]).astype(np.float32), np.asarray([0, 1, 2, 3, 0])
    near, honest = left_out(windows, owner, unit, held, np.asarray([0, 1, 2, 3]))
    wanted = [[0.8, 1.0], [0.6, 0.96], [0.8, 0.6], [0.96, 0.6]]
    assert near == pytest.approx(np.asarray(wanted))
    assert honest.all()
    near, honest = left_out(windows, owner, unit, held, np.asarray([0, 1, 2, 0]))
    # The first and the last row are one group: neither judges the other.
    assert near[3] == pytest.approx([0.96, 0.6])
    assert near[0] == pytest.approx([0.8, 1.0])


def test_a_row_without_another_example_of_a_label_is_not_judged() -> None:
    features = np.eye(4, dtype=np.float32)
    held = np.asarray([[1, 0], [1, 0], [0, 1], [0, 1]], dtype=bool)
    near, honest = left_out(features, np.arange(4), features, held, np.asarray([0, 0, 1, 2]))
    assert honest.tolist() == [False, False, True, True]
    assert near.shape == (4, 2)
    # Rows of the group that alone has a label do not count as quiet either.
    held[1] = [0, 1]
    _, honest = left_out(features, np.arange(4), features, held, np.asarray([0, 0, 1, 2]))
    assert honest.tolist() == [False, False, True, True]


def test_few_examples_take_the_prior(tmp_path: Path) -> None:
    rows = some(2)
    trained = METHODS["examples"]().train(rows, LABELS, "any_of", context(tmp_path, rows))
    tensors = trained.tensors["examples.safetensors"]
    assert tensors["scale"].tolist() == [PRIOR[0]] * 3
    assert tensors["shift"] == pytest.approx([-PRIOR[0] * PRIOR[1]] * 3)


@pytest.mark.parametrize("name", ["head", "examples"])
def test_a_label_without_rows_is_refused(tmp_path: Path, name: str) -> None:
    rows = some(6, ("garden", "kitchen"))
    with pytest.raises(ValueError, match="label 'travel' has no "):
        METHODS[name]().train(rows, LABELS, "one_of", context(tmp_path, rows))


@pytest.mark.parametrize("decision", ["one_of", "any_of"])
def test_folds_that_lack_a_label_or_its_opposite(tmp_path: Path, decision: Kind) -> None:
    rows = [*some(9, ("garden",)), Row("a pan", frozenset({"kitchen"}))]
    own = context(tmp_path, rows)
    trained = HeadMethod().train(rows, ("garden", "kitchen"), decision, own)
    assert np.isfinite(trained.held_out).all()
    head = trained.tensors["head.safetensors"]
    assert all(np.isfinite(tensor).all() for tensor in head.values())


def test_the_strength_is_chosen_and_one_alone_changes_nothing(tmp_path: Path) -> None:
    rows = some(20)
    own = context(tmp_path, rows)
    windows = make_windows(rows, own.encoder, own.cache, "mean")
    plain = fit(rows, LABELS, "one_of", windows, Settings(), own.folds)
    alone = HeadMethod(strengths=(10.0,)).train(rows, LABELS, "one_of", own)
    assert np.array_equal(plain.held_out, alone.held_out)
    chosen = HeadMethod().train(rows, LABELS, "one_of", own)
    assert {c for pair in chosen.manifest["strengths"].values() for c in pair} <= set(STRENGTHS)
    threads = HeadMethod().train(rows, LABELS, "one_of", context(tmp_path, rows, threads=1))
    assert np.array_equal(chosen.held_out, threads.held_out)


def test_what_is_remembered_is_what_was_learnt_from(tmp_path: Path) -> None:
    rows = some(12)
    own = context(tmp_path, rows)
    trained = HeadMethod().train(rows, LABELS, "any_of", own)
    replay = remembered(thinned(trained.replay, np.arange(36)))
    windows = make_windows(rows, own.encoder, own.cache, "mean")
    assert np.abs(replay.features - windows.features).max() < 0.01 * np.abs(windows.features).max()
    assert abs(replay.grams - windows.grams).max() < 1e-3
    assert np.array_equal(replay.truth, truth_table(rows, LABELS))
    assert replay.index.tolist() == list(range(36))


def test_rare_labels_are_remembered_first(tmp_path: Path) -> None:
    rows = [*some(30, ("garden", "kitchen")), *some(3, ("travel",))]
    trained = HeadMethod().train(rows, LABELS, "one_of", context(tmp_path, rows))
    kept = thinned(trained.replay, np.asarray([60, 0]), rows=9)
    assert kept["truth"].sum(axis=0).tolist() == [3, 3, 3]
    assert kept["index"].max() <= 1
    assert len(kept["features"]) == 9


def test_spans_outside_of_their_text_are_refused() -> None:
    rows = [Row("abc", frozenset({"plant"}), spans=((0, 9, "plant"),), place="rows.csv:2")]
    with pytest.raises(ValueError, match=r"rows\.csv:2: span 0\.\.9 \(plant\) does not fit"):
        train_spans(rows, ("plant",), Encoder(TINY))


def test_held_out_finds_of_a_token_head() -> None:
    rows = [
        Row(row["text"], frozenset({"plant", "day"}), spans=tuple(map(tuple, row["spans"])))
        for row in span_rows(45)
    ]
    trained = train_spans(rows, ("plant", "day"), Encoder(TINY))
    assert len(trained.held_out) == 45
    found = sum(bool(finds) for finds in trained.held_out)
    assert found > 30


def test_of_few_rows_the_names_of_the_labels_are_rows_too() -> None:
    told = {"garden": "plants and beds", "kitchen": " "}
    few = [*some(FEW_A_LABEL), Row("a tip", frozenset({"travel_tip"}))]
    rows = label_rows(few, ("garden", "kitchen", "travel_tip"), "one_of", told)
    assert [(row.text, *row.labels) for row in rows] == [
        ("garden", "garden"),
        ("plants and beds", "garden"),
        ("kitchen", "kitchen"),
        ("travel tip", "travel_tip"),
    ]
    assert label_rows(some(FEW_A_LABEL + 1), LABELS, "one_of", told) == []
    assert label_rows(some(3), LABELS, "any_of", told) == []


def test_what_is_said_of_a_label_teaches_and_is_not_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "ENCODER_SHARE", 0.0)  # the tiny encoder knows no words
    rows, word = some(8), "hello"
    assert not any(word in row.text for row in rows)
    folds = np.arange(24) // 3 % 3  # each fold has rows of every label
    given = context(tmp_path, rows, folds=folds, descriptions={"travel": word})
    plain = HeadMethod().train(rows, LABELS, "one_of", context(tmp_path, rows, folds=folds))
    told = HeadMethod().train(rows, LABELS, "one_of", given)
    assert told.held_out.shape == plain.held_out.shape == (24, 3)
    assert told.honest.shape == (24,)
    share = [travel_share(trained.tensors["head.safetensors"], word) for trained in (plain, told)]
    assert share[1] > share[0] + 0.1


def travel_share(tensors: Tensors, word: str) -> float:
    """What the n-grams of a word add to ``travel`` over the others."""
    buckets, values = lexical.features(word)
    logits = values @ tensors["lexical"][buckets].astype(np.float64)
    return float(logits[2] - logits[:2].mean())
