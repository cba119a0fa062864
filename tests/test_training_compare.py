"""Two classifiers side by side, and texts in disguise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra `train`)")

from classifiers.patterns import PatternClassifier, PatternConfig
from classifiers.training.compare import compare, mcnemar
from classifiers.training.data import Row
from classifiers.training.evaluate import score
from classifiers.training.evaluation import json_text
from classifiers.training.robustness import AS_WRITTEN, FAMILIES, disguised, robustness

NONE: frozenset[str] = frozenset()


def words(name: str, **labels: Sequence[str]) -> PatternClassifier:
    """A classifier that finds words, by label."""
    patterns = [{"label": label, "keywords": list(own)} for label, own in labels.items()]
    return PatternClassifier(name, PatternConfig.model_validate({"patterns": patterns}))


def test_disguises_are_seeded_and_change_the_text() -> None:
    texts = ["Please cancel my subscription, and send the invoice to my office address. " * 3, "ok"]
    first, again, other = disguised(texts), disguised(texts), disguised(texts, seed=1)
    assert first == again
    assert set(first) == set(FAMILIES)
    assert first["typos"] != other["typos"]
    for name, changed in first.items():
        assert changed[0] != texts[0], name
        assert len(changed) == 2
    for name in ("upper case", "random case", "lower case"):
        assert first[name][0].casefold() == texts[0].casefold()
    assert first["invisible characters"][0].replace("\u200b", "") == texts[0]
    assert first["missing spaces"][0].replace(" ", "") == texts[0].replace(" ", "")
    assert texts[0] in first["innocent text before"][0]
    assert disguised([""])["typos"] == [""]


def test_robustness_says_what_is_lost() -> None:
    rows = [Row("refund please", frozenset({"money"})) for _ in range(30)]
    rows += [Row("good morning", NONE, benign=True) for _ in range(100)]
    classifier = words("house", money=["refund"])
    found = robustness(
        lambda texts: score(classifier, texts), rows, ["money"], "any_of", {"money": 0.5}, limit=60
    )
    assert next(iter(found)) == AS_WRITTEN
    assert found[AS_WRITTEN] == {"rows": 60, "right": 1, "found": 1, "stopped": 0, "changed": 0}
    assert found["upper case"]["found"] == 1
    assert 0 < (found["typos"]["found"] or 0) < 1
    one = robustness(
        lambda texts: np.ones((len(texts), 1)), rows, ["money"], "one_of", {"money": 0.5}, limit=4
    )
    assert "innocent text after" in found
    assert "innocent text after" not in one
    assert found["typos"]["changed"] == pytest.approx((1 - (found["typos"]["found"] or 0)) / 2)


MONEY = ("refund", "invoice", "bill", "charge", "price", "fee")


def money_rows() -> list[Row]:
    rows = [
        Row(f"{n} about the {MONEY[n % 6]}", frozenset({"money"}), source="mail", place=f"m:{n}")
        for n in range(120)
    ]
    rows += [Row(f"{n} good morning", NONE, source="chat", benign=True) for n in range(120)]
    return rows


def test_the_better_of_two_is_named() -> None:
    old, new = words("old", money=MONEY[:3]), words("new", money=MONEY, law=["lawyer"])
    found = compare(old, new, money_rows())
    assert found.verdict.startswith("new is better than old: macro F1 0.667 and 1.000")
    assert (found.mcnemar.only_a, found.mcnemar.only_b) == (0, 60)
    assert found.macro_f1.difference == pytest.approx(1 / 3)
    assert 0 < (found.macro_f1.low or 0) < 1 / 3 < (found.macro_f1.high or 0)
    assert (found.only_a, found.only_b) == ((), ("law",))
    assert [(one.source, one.right_a.hits, one.right_b.hits) for one in found.sources] == [
        ("chat", 120, 120),
        ("mail", 60, 120),
    ]
    assert found.disagree == 60
    assert {one.place for one in found.disagreements} == {f"m:{n}" for n in range(120) if n % 6 > 2}
    text = json_text(found.to_json())
    assert "about the" not in text
    assert text == json_text(compare(old, new, money_rows()).to_json())
    assert "about the" in json_text(compare(old, new, money_rows(), with_texts=True).to_json())
    turned = compare(new, old, money_rows())
    assert turned.verdict.startswith("new is better than old: macro F1 1.000 and 0.667")


def test_a_difference_that_is_luck_is_called_so() -> None:
    old, new = words("old", money=MONEY), words("new", money=[*MONEY, "120"])
    found = compare(old, new, [*money_rows(), Row("120 euros", frozenset({"money"}))])
    assert found.mcnemar == mcnemar(np.zeros(1, bool), np.ones(1, bool))
    assert found.verdict.startswith("From 241 rows no difference can be proven")
    same = compare(old, old, money_rows())
    assert same.disagree == 0
    assert same.mcnemar.p == 1
    assert (same.a, same.b) == ("old (first)", "old (second)")
    assert "both decide the same texts right" in same.verdict


def test_mcnemar_is_exact() -> None:
    right_a = np.asarray([True] * 1 + [False] * 9 + [True] * 5)
    right_b = np.asarray([False] * 1 + [True] * 9 + [True] * 5)
    found = mcnemar(right_a, right_b)
    assert (found.only_a, found.only_b) == (1, 9)
    assert found.p == pytest.approx(2 * (1 + 10) / 2**10)


@pytest.mark.parametrize(
    ("other", "rows", "message"),
    [
        (words("b", law=["lawyer"]), money_rows(), "have no label in common"),
        (words("b", money=["fee"]), [Row("a", NONE)], "none of the 1 rows holds one of money"),
    ],
)
def test_what_cannot_be_compared(other: PatternClassifier, rows: list[Row], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare(words("a", money=MONEY), other, rows)
