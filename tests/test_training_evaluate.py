"""What a classifier is worth: the figures, the disguises and the comparison of two."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra `train`)")

from sklearn.metrics import f1_score, precision_recall_fscore_support

from classifiers import calibration
from classifiers.encoder import Encoder
from classifiers.heads import load_heads
from classifiers.packs import read_pack
from classifiers.patterns import PatternClassifier, PatternConfig
from classifiers.training import metrics
from classifiers.training.build import build
from classifiers.training.data import Row
from classifiers.training.evaluate import (
    Given,
    evaluate,
    evaluate_classifier,
    judge_slice,
    score,
)
from classifiers.training.evaluation import Evaluation, json_text
from classifiers.training.features import FeatureCache
from classifiers.training.fit import truth_table
from classifiers.training.metrics import proportion
from classifiers.training.pack import finish, manifest_of
from classifiers.training.recipes import Recipe

TINY = Path(__file__).parent / "fixtures" / "tiny-encoder"
NONE: frozenset[str] = frozenset()


def words(name: str, **labels: Sequence[str]) -> PatternClassifier:
    """A classifier that finds words, by label."""
    patterns = [{"label": label, "keywords": list(own)} for label, own in labels.items()]
    return PatternClassifier(name, PatternConfig.model_validate({"patterns": patterns}))


def any_rows(count: int = 400, labels: Sequence[str] = ("billing", "legal")) -> list[Row]:
    random = np.random.default_rng(0)
    rows = []
    for number in range(count):
        held = frozenset(label for label in labels if random.random() < 0.25)
        rows.append(
            Row(f"text {number}", held, None, ("mail", "chat")[number % 2], "test",
                benign=not held and number % 3 > 0, place=f"rows.csv:{number + 2}")
        )  # fmt: skip
    return rows


def scores_for(rows: Sequence[Row], labels: Sequence[str], noise: float = 0.25) -> metrics.Scores:
    random = np.random.default_rng(1)
    truth = truth_table(rows, labels)
    return np.clip(np.maximum(truth, 0) * 0.7 + 0.15 + random.normal(0, noise, truth.shape), 0, 1)


def any_evaluation(given: Given | None = None, count: int = 400) -> Evaluation:
    rows, labels = any_rows(count), ("billing", "legal")
    truth = truth_table(rows, labels)
    cuts = {"billing": 0.5, "legal": 0.6}
    return evaluate(scores_for(rows, labels), truth, rows, labels, "any_of", cuts, given)


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    [  # Clopper and Pearson 1934, as published tables have them
        (0, 10, 0.0, 0.3085),
        (5, 10, 0.1871, 0.8129),
        (10, 10, 0.6915, 1.0),
        (1, 100, 0.0003, 0.0545),
        (0, 0, 0.0, 1.0),
    ],
)
def test_intervals_are_exact(hits: int, of: int, low: float, high: float) -> None:
    found = proportion(hits, of)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)
    assert found.value == (hits / of if of else None)


def test_a_share_of_more_than_all_is_refused() -> None:
    with pytest.raises(ValueError, match="got 3 of 2"):
        proportion(3, 2)


@pytest.mark.parametrize(("hits", "of"), [(0, 300), (3, 812), (17, 40), (40, 40), (0, 0)])
def test_bounds_are_those_of_the_calibration(hits: int, of: int) -> None:
    assert metrics.upper_bound(hits, of) == pytest.approx(
        calibration.upper_bound(hits, of), abs=1e-9
    )


def test_rows_needed_is_the_least_that_proves_the_rate() -> None:
    needed = metrics.rows_needed(0.01)
    assert calibration.allowed(0.01, needed) >= 0 > calibration.allowed(0.01, needed - 1)
    some = metrics.rows_needed(0.01, 0.005)
    assert metrics.upper_bound(round(0.005 * some), some) == pytest.approx(0.01, rel=0.06)
    with pytest.raises(ValueError, match="seen"):
        metrics.rows_needed(0.01, 0.02)


def test_figures_are_those_of_scikit_learn() -> None:
    rows, labels = any_rows(), ("billing", "legal")
    truth, scores = truth_table(rows, labels), scores_for(rows, labels)
    found = any_evaluation()
    flagged = scores >= (0.5, 0.6)
    precision, recall, f1, _ = precision_recall_fscore_support(truth, flagged, zero_division=0)
    for column, one in enumerate(found.labels):
        assert one.precision.value == pytest.approx(precision[column])
        assert one.recall.value == pytest.approx(recall[column])
        assert one.f1 == pytest.approx(f1[column])
        half = f1_score(truth[:, column], scores[:, column] >= 0.5)
        assert one.f1_at_half == pytest.approx(half)
    assert found.overall.macro_f1 == pytest.approx(f1_score(truth, flagged, average="macro"))
    assert found.overall.weighted_f1 == pytest.approx(f1_score(truth, flagged, average="weighted"))
    assert found.overall.accuracy.value == pytest.approx((truth == flagged).all(axis=1).mean())


def test_what_is_unknown_counts_nowhere() -> None:
    rows = [
        Row("a", frozenset({"x"}), frozenset({"x"})),
        Row("b", NONE, frozenset({"y"})),
        Row("c", frozenset({"y"})),
        Row("d", NONE, benign=True),
    ]
    scores = np.asarray([[0.9, 0.9], [0.9, 0.1], [0.2, 0.8], [0.1, 0.1]])
    cuts = {"x": 0.5, "y": 0.5}
    found = evaluate(scores, truth_table(rows, "xy"), rows, "xy", "any_of", cuts)
    x, y = found.labels
    assert (x.positives, x.negatives, x.unknown) == (1, 2, 1)
    assert (x.precision.hits, x.precision.of) == (1, 1)
    assert (y.positives, y.negatives, y.unknown) == (1, 2, 1)
    assert found.overall.accuracy.hits == 4
    assert found.hardest == ()


def test_calibration_error_and_brier() -> None:
    random = np.random.default_rng(2)
    scores = random.random(20_000)
    right = random.random(20_000) < scores
    assert (metrics.calibration_error(metrics.reliability(scores, right)) or 1) < 0.02
    sure = np.full(100, 0.9)
    error = metrics.calibration_error(metrics.reliability(sure, np.arange(100) < 50))
    assert error == pytest.approx(0.4)
    truth = np.asarray([[1, 0, -1]], dtype=np.int8)
    claimed = np.asarray([[0.8, 0.3, 0.9]])
    assert metrics.brier(claimed, truth, "any_of") == pytest.approx((0.04 + 0.09) / 2)
    assert metrics.brier(claimed, truth, "one_of") == pytest.approx(0.04 + 0.09)


def test_curves_are_thinned_and_keep_their_ends() -> None:
    random = np.random.default_rng(3)
    truth = random.random(5000) < 0.3
    scores = np.round(random.normal(truth, 1.0), 6)
    roc, pr = metrics.roc(truth, scores), metrics.pr_curve(truth, scores)
    assert 50 < len(roc.x) <= metrics.POINTS
    assert 50 < len(pr.x) <= metrics.POINTS
    assert (roc.x[0], roc.y[0], roc.x[-1], roc.y[-1]) == (0, 0, 1, 1)
    assert (pr.x[0], pr.x[-1]) == (0, 1)
    area = float(np.trapezoid(roc.y, roc.x))
    assert area == pytest.approx(metrics.auroc(truth, scores), abs=0.002)


def test_confusion_of_one_label() -> None:
    rows = [Row("a", frozenset("x")), Row("b", frozenset("y")), Row("c", NONE)]
    scores = np.asarray([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]])
    cuts = dict.fromkeys("xy", 0.5)
    found = evaluate(scores, truth_table(rows, "xy"), rows, "xy", "one_of", cuts)
    assert found.confusion.held == ("x", "y", "no label")
    assert found.confusion.said == ("x", "y")
    assert found.confusion.counts == ((1, 0), (1, 0), (0, 1))
    assert (found.overall.accuracy.hits, found.overall.accuracy.of) == (1, 2)
    assert found.overall.best_label_macro_f1 == pytest.approx(1 / 3)


def test_two_labels_that_both_hold_are_no_confusion() -> None:
    rows = [Row("a", frozenset("xy")), Row("b", frozenset("x")), Row("c", frozenset("x"))]
    scores = np.asarray([[0.9, 0.9], [0.9, 0.9], [0.1, 0.1]])
    cuts = dict.fromkeys("xy", 0.5)
    found = evaluate(scores, truth_table(rows, "xy"), rows, "xy", "any_of", cuts)
    assert found.confusion.said == ("x", "y", "no label")
    assert found.confusion.counts == ((2, 1, 1), (0, 1, 0))


@pytest.mark.parametrize(
    ("flagged", "of", "kept"), [(0, 1000, "yes"), (0, 100, "unclear"), (60, 1000, "no")]
)
def test_a_budget_is_proven_refuted_or_neither(flagged: int, of: int, kept: str) -> None:
    rows = [Row(str(n), NONE, benign=True) for n in range(of)] + [Row("x", frozenset("x"))]
    scores = np.asarray([[0.9]] * flagged + [[0.1]] * (of - flagged) + [[0.9]])
    given = Given(points={"x": {"max_false_positive_rate": 0.01, "benign_rows": 500}})
    found = evaluate(scores, truth_table(rows, "x"), rows, "x", "any_of", {"x": 0.5}, given)
    (budget,) = found.budgets
    assert (budget.kept, budget.achieved.hits, budget.calibration_rows) == (kept, flagged, 500)
    assert budget.upper == pytest.approx(calibration.upper_bound(flagged, of), abs=1e-9)


def test_mistakes_are_the_most_confident_first_and_keep_texts_to_themselves() -> None:
    found = any_evaluation()
    assert len(found.hardest) == 20
    confidence = [one.confidence for one in found.hardest]
    assert confidence == sorted(confidence, reverse=True)
    assert confidence[0] > 0.5
    assert all(one.place.startswith("rows.csv:") and not one.text for one in found.hardest)
    assert '"text 1' not in json_text(found.to_json())
    shown = any_evaluation(Given(with_texts=True)).hardest[0]
    assert shown.text == f"text {int(shown.place.split(':')[1]) - 2}"


def test_long_texts_are_cut() -> None:
    rows = [Row("x" * 1000, frozenset("x"))]
    truth, cuts = truth_table(rows, "x"), {"x": 0.5}
    given = Given(with_texts=True)
    found = evaluate(np.asarray([[0.1]]), truth, rows, "x", "any_of", cuts, given)
    assert found.hardest[0].text == "x" * 199 + "…"
    assert found.hardest[0].said == ()


def test_json_is_strict_and_stable() -> None:
    rows = [Row("a", frozenset("x")), Row("b", frozenset("x"))]
    truth, cuts = truth_table(rows, "x"), {"x": 0.5}
    one_kind = evaluate(np.asarray([[0.9], [0.8]]), truth, rows, "x", "any_of", cuts)
    assert one_kind.to_json()["labels"][0]["auroc"] is None
    assert json.loads(json_text(one_kind.to_json())) == one_kind.to_json()
    assert json_text(any_evaluation().to_json()) == json_text(any_evaluation().to_json())
    assert list(any_evaluation().to_json())[:3] == ["format", "decision", "judged_on"]


def test_only_the_labels_that_matter_have_curves() -> None:
    labels = [f"label{n}" for n in range(9)]
    rows = any_rows(600, labels)
    truth, cuts = truth_table(rows, labels), dict.fromkeys(labels, 0.5)
    scores = scores_for(rows, labels)
    scores[:, 4] = 0.0
    found = evaluate(scores, truth, rows, labels, "any_of", cuts)
    assert len(found.matters) == 6
    assert "label4" in found.matters
    assert [one.label for one in found.curves] == ["", *found.matters]


def test_out_of_scope() -> None:
    inside, outside = np.linspace(0.5, 1, 100), np.linspace(0.1, 0.6, 50)
    found = any_evaluation(Given(out_of_scope=(inside, outside))).out_of_scope
    assert found is not None
    assert (inside >= found.threshold).mean() == 0.95
    assert found.refused.hits == int((outside < found.threshold).sum())
    assert found.auroc == pytest.approx(0.98, abs=0.01)
    with pytest.raises(ValueError, match="0 outside; both are needed"):
        any_evaluation(Given(out_of_scope=(inside, outside[:0])))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decision": "spans"}, "decision 'spans' cannot be evaluated; take one_of or any_of"),
        ({"rows": []}, "nothing to evaluate: 0 rows, 2 labels"),
        ({"scores": np.zeros((3, 2))}, r"scores \(3, 2\) and truth \(1, 2\)"),
        ({"scores": np.full((1, 2), 7.0)}, r"probabilities in 0\.\.1; calibrate them first"),
        ({"scores": np.full((1, 2), np.nan)}, "must be probabilities"),
        ({"thresholds": {"x": 0.5}}, "no threshold for y; give one for each label"),
    ],
)
def test_what_cannot_be_evaluated_is_named(change: dict[str, object], message: str) -> None:
    rows = [Row("a", frozenset("x"))]
    arguments: dict[str, object] = {
        "scores": np.asarray([[0.5, 0.5]]),
        "truth": truth_table(rows, "xy"),
        "rows": rows,
        "labels": "xy",
        "decision": "any_of",
        "thresholds": {"x": 0.5, "y": 0.5},
    }
    with pytest.raises(ValueError, match=message):
        evaluate(**{**arguments, **change})  # type: ignore[arg-type]


@pytest.mark.parametrize("decision", ["any_of", "one_of"])
def test_the_metrics_of_a_manifest_are_those_of_its_judge(decision: str, tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    own = {"bad": ("bomb", "kill", "prize"), "dev": ("code", "python", "process")}
    rows = []
    for number in range(400):
        label = (
            ("bad", "dev", "")[number % 3] if decision == "any_of" else ("bad", "dev")[number % 2]
        )
        pool = [*own.get(label, ()), "order", "refund", "mail", "weather"]
        text = f"{number} " + " ".join(random.choice(pool, size=4))
        near = not label and number % 2 == 0
        held = frozenset({label}) if label else NONE
        split = "dev" if number % 4 == 0 else "train"
        rows.append(
            Row(text, held, None, ("ours", "ours, more")[number % 2], split,  # type: ignore[arg-type]
                benign=not label and not near)
        )  # fmt: skip
    made = Recipe(
        name="toy", labels=tuple(own), decision=decision, rows=lambda _: rows, budget=0.05,  # type: ignore[arg-type]
        least=0.3, description="Toy.", pooling="max" if decision == "any_of" else "mean",
    )  # fmt: skip
    encoder = Encoder(TINY)
    cache = FeatureCache(encoder, tmp_path / "cache")
    folder = build(made, tmp_path, encoder, cache, tmp_path / "packs")
    classifier = load_heads([folder], encoder)[0]
    held_out = [row for row in rows if row.split != "train"]
    found = evaluate_classifier(classifier, held_out)
    assert found.metrics() == read_pack(folder, kind="head")["metrics"]
    assert {one.label: one.rate for one in found.budgets} == {"bad": 0.05, "dev": 0.05}
    assert "if it was trained on some of them" in found.judged_on
    if decision == "one_of":
        # The label that such a pack may add by itself takes no part in the other figures.
        manifest = manifest_of(folder)
        manifest["out_of_scope"] = {"in_scope_kept": 0.95}
        manifest["operating_points"]["out_of_scope"] = {"threshold": 0.95}
        finish(folder, manifest)
        classifier = load_heads([folder], encoder)[0]
        assert classifier.labels == ("bad", "dev", "out_of_scope")
        again = evaluate_classifier(classifier, held_out)
        assert again.metrics() == found.metrics()
        assert again.out_of_scope is None
        foreign = [Row(f"weather {n}", NONE, source="ours") for n in range(9)]
        apart = evaluate_classifier(classifier, [*held_out, *foreign]).out_of_scope
        assert apart is not None
        assert (apart.in_scope, apart.outside) == (100, 9)


def test_a_classifier_of_finds_is_judged_by_text() -> None:
    classifier = words("house", money=["refund", "invoice"], law=["lawyer"])
    texts = ["refund the invoice", "my lawyer", "good morning"]
    scores = score(classifier, texts, batch=2)
    assert (scores > 0).tolist() == [[True, False], [False, True], [False, False]]
    rows = [
        Row(texts[0], frozenset({"money"}), source="mail"),
        Row(texts[1], frozenset({"law"}), source="mail"),
        Row("I want my money back", frozenset({"money"}), source="chat"),
        Row(texts[2], NONE, source="chat", benign=True),
    ]
    named = {"polite": rows[2:]}
    found = evaluate_classifier(classifier, rows, slices=named, robust_rows=4)
    assert {name: one.hits for name, one in found.found.items()} == {"chat": 0, "mail": 2}
    assert found.false_positives["chat"].of == 1
    assert [(one.name, one.passed, one.failed) for one in found.slices] == [("polite", 1, 1)]
    assert found.robustness["no punctuation"]["right"] == 0.75
    with pytest.raises(ValueError, match="none of the 1 rows holds a label of house"):
        evaluate_classifier(classifier, rows[3:])


def test_named_cases() -> None:
    rows = [Row("a", frozenset("x"), place="a:1"), Row("b", NONE, place="a:2")]
    scores = np.asarray([[0.9], [0.8]])
    found = judge_slice("tricky", rows, scores, "x", "any_of", {"x": 0.5})
    assert (found.passed, found.failed) == (1, 1)
    assert [(one.place, one.said, one.text) for one in found.failures] == [("a:2", ("x",), "")]


@pytest.mark.parametrize(
    ("held", "without", "scores", "passes"),
    [
        ("x", "", [0.6, 0.4], True),
        ("x", "", [0.4, 0.6], False),
        ("", "x", [0.4, 0.6], True),
        ("", "x", [0.6, 0.4], False),
        ("", "xy", [0.49, 0.48], True),
        ("", "xy", [0.4, 0.6], False),
    ],
)
def test_a_case_may_say_what_must_not_match(
    held: str, without: str, scores: list[float], passes: bool
) -> None:
    rows = [Row("a", frozenset(held), frozenset(held + without))]
    found = judge_slice("s", rows, np.asarray([scores]), "xy", "one_of", {"x": 0.5, "y": 0.5})
    assert found.passed == passes
