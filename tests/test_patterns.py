"""Patterns that operators write: what they find, where, and what is said about bad ones."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from classifiers.patterns import MAX_FINDS, PatternClassifier, PatternConfig
from classifiers.spans import Find, without_overlaps
from classifiers.types import Batch, ClassifierError, OperatingPoint, UnknownLabel


def build(*patterns: dict[str, Any]) -> PatternClassifier:
    return PatternClassifier("house", PatternConfig.model_validate({"patterns": list(patterns)}))


def found(classifier: PatternClassifier, text: str) -> list[tuple[str, str]]:
    (predictions,) = classifier.predict(Batch([text]))
    return [(p.label, text[p.span.start : p.span.end]) for p in predictions if p.span is not None]


ZEUS = {"label": "SECRET", "keywords": ["Project Zeus", "über", "art work", "work", "C++"]}
CROSSING = {"label": "X", "keywords": ["falcon", "炸弹", "ばくだん", "폭탄", "миру"]}
CARD = {"label": "CARD", "regex": r"\d{4}(?:[ -]?\d{4}){3}", "checksum": "luhn", "score": 1.0}
BADGE = {"label": "BADGE", "regex": r"[A-Z]{2}-\d{4}", "context": ["badge", "staff id"]}


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        (ZEUS, "about Project Zeus today", ["Project Zeus"]),
        (ZEUS, "PROJECT\n  zeus", ["PROJECT\n  zeus"]),
        (ZEUS, "😀 über 😀 Über", ["über", "Über"]),
        (ZEUS, "work,work art work", ["work", "work", "art work"]),
        (ZEUS, "start work", ["work"]),
        (ZEUS, "I write C++, always", ["C++"]),
        (ZEUS, "pr0j3ct zeus", ["pr0j3ct zeus"]),
        (ZEUS, "p r o j e c t   zeus", ["p r o j e c t   zeus"]),
        (ZEUS, "Proj\u200bect Ｚeus!", ["Proj\u200bect Ｚeus"]),
        (ZEUS, "a lone \ud800 surrogate and work", ["work"]),
        (CARD, "é 4111 1111 1111 1111.", ["4111 1111 1111 1111"]),
        (CARD, "４１１１１１１１１１１１１１１１", ["４１１１１１１１１１１１１１１１"]),
        (BADGE, "my badge is AB-1234", ["AB-1234"]),
        (BADGE, "AB-1234 is my Staff  ID", ["AB-1234"]),
        (CROSSING, "请告诉我falcon的事", ["falcon"]),
        (
            CROSSING,
            "falcon² falconの falcon① falconª الfalcon falcon을 ｆａｌｃｏｎ的",
            [
                "falcon",
                "falcon",
                "falcon",
                "falcon",
                "falcon",
                "falcon",
                "ｆａｌｃｏｎ",
            ],
        ),
        (CROSSING, "เกี่ยวกับfalconครับ", ["falcon"]),
        (CROSSING, "如何制造炸弹呢", ["炸弹"]),
        (CROSSING, "こどものばくだんです 폭탄을", ["ばくだん", "폭탄"]),
        (CROSSING, "мир мира миру5 миру", ["миру"]),
        (CROSSING, "falcons falcon1 éfalcon falconé gyrfalcon", []),
        (CARD | {"context": ["卡号"]}, "我的卡号是4111 1111 1111 1111", ["4111 1111 1111 1111"]),
        (
            ZEUS,
            "project\u2028zeus, project\x85zeus, project\u1680zeus, project\x1czeus",
            [
                "project\u2028zeus",
                "project\x85zeus",
                "project\u1680zeus",
                "project\x1czeus",
            ],
        ),
        (ZEUS, "projects zeus", []),
        (ZEUS, "workshop, homework, éwork, worké", []),
        (ZEUS, "uber", []),
        (ZEUS, "", []),
        (ZEUS, "project. zeus", []),
        (CARD, "4111 1111 1111 1112", []),
        (CARD, "four thousand", []),
        (BADGE, "AB-1234", []),
        (BADGE, "badges: AB-1234", []),
        (BADGE, "badge" + " of mine" * 10 + " AB-1234", []),
        (BADGE, "badge ab-1234", []),
        (BADGE, "the staffid AB-1234", []),
    ],
)
def test_finds(pattern: dict[str, Any], text: str, expected: list[str]) -> None:
    assert [value for _, value in found(build(pattern), text)] == expected


@pytest.mark.parametrize(
    ("checksum", "good", "bad"),
    [
        ("luhn", "79927398713", "79927398710"),
        ("iban", "GB82 WEST 1234 5698 7654 32", "GB82 WEST 1234 5698 7654 33"),
        ("verhoeff", "234123412346", "234123412345"),
        ("mod97", "794431", "794432"),
    ],
)
def test_checksums(checksum: str, good: str, bad: str) -> None:
    classifier = build({"label": "N", "regex": "[A-Z0-9][A-Z0-9 ]+", "checksum": checksum})
    assert found(classifier, good) == [("N", good)]
    assert found(classifier, bad) == []


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ({"label": "X", "regex": "(ab"}, ["'X'", "missing )", "close the parenthesis"]),
        ({"label": "X", "regex": "a(?=b)"}, ["'X'", "look-around", "context"]),
        ({"label": "X", "regex": r"(a)\1"}, ["'X'", "back-references"]),
        ({"label": "X", "regex": "[a-"}, ["'X'", "missing ]"]),
        ({"label": "X", "regex": "*a"}, ["'X'", "repetition"]),
        ({"label": "X", "regex": "a{2000}"}, ["'X'", "at most 1000"]),
        ({"label": "X", "regex": "a*"}, ["'X'", "empty text"]),
        ({"label": "X"}, ["'X'", "either `regex` or `keywords`"]),
        ({"label": "X", "regex": "a", "keywords": ["b"]}, ["'X'", "either"]),
        ({"label": "X", "keywords": []}, ["'X'", "at least one"]),
        ({"label": "X", "keywords": [" "]}, ["keywords"]),
        ({"label": "bad label", "regex": "a"}, ["label"]),
        ({"label": "X", "regex": "a", "checksum": "crc"}, ["luhn"]),
        ({"label": "X", "regex": "a", "score": 1.5}, ["score"]),
        ({"label": "X", "regx": "a"}, ["regx"]),
    ],
)
def test_a_bad_pattern_is_refused_with_its_name_and_the_fix(
    pattern: dict[str, Any], says: list[str]
) -> None:
    with pytest.raises(ValidationError) as refused:
        build(pattern)
    for part in says:
        assert part in str(refused.value)


def test_labels_scores_and_version_come_from_the_config() -> None:
    classifier = build(ZEUS, CARD, {"label": "SECRET", "regex": "zz+", "score": 0.6})
    assert classifier.labels == ("SECRET", "CARD")
    assert classifier.kind == "spans"
    (predictions,) = classifier.predict(Batch(["zzz work"]))
    assert [(p.classifier, p.score) for p in predictions] == [("house", 0.6), ("house", 0.9)]
    assert (
        classifier.version
        == build(ZEUS, CARD, {"label": "SECRET", "regex": "zz+", "score": 0.6}).version
    )
    assert classifier.version != build(ZEUS, CARD).version


def test_thresholds() -> None:
    classifier = build(ZEUS, CARD)
    assert classifier.thresholds(["SECRET"], OperatingPoint()) == {"SECRET": 0.5}
    assert classifier.thresholds(["CARD"], OperatingPoint("at", 0.95)) == {"CARD": 0.95}
    with pytest.raises(UnknownLabel, match="did you mean 'SECRET'"):
        classifier.thresholds(["SECRETS"], OperatingPoint())
    for kind in ("max_false_positive_rate", "min_recall"):
        with pytest.raises(UnknownLabel, match=f"cannot promise {kind}.*`at:`"):
            classifier.thresholds(["CARD"], OperatingPoint(kind, 0.01))  # type: ignore[arg-type]


def test_too_many_finds_give_no_verdict_instead_of_half_of_one() -> None:
    classifier = build({"label": "X", "regex": "x"})
    assert len(found(classifier, "x " * (MAX_FINDS - 1))) == MAX_FINDS - 1
    with pytest.raises(ClassifierError, match=f"more than {MAX_FINDS}"):
        classifier.predict(Batch(["x " * (MAX_FINDS + 1)]))


def test_a_long_text_does_not_slow_a_nested_repetition() -> None:
    # Exponential for an engine that backtracks: this test would not end.
    assert found(build({"label": "X", "regex": "(?:a+)+b"}), "a" * 200_000) == []


@given(st.text(), st.text())
def test_a_planted_keyword_is_found_where_it_stands(before: str, after: str) -> None:
    text = f"{before} work {after}"
    (predictions,) = build(ZEUS).predict(Batch([text]))
    start = len(before) + 1
    assert any(p.span and p.span.start <= start and p.span.end >= start + 4 for p in predictions)


finds = st.builds(
    lambda start, length, label, score: Find(start, start + length, label, score),
    st.integers(0, 50),
    st.integers(1, 12),
    st.sampled_from("AB"),
    st.sampled_from([0.7, 0.85, 1.0]),
)


@given(st.lists(finds))
def test_what_stays_does_not_overlap_and_only_yields_to_the_more_certain(
    given_finds: list[Find],
) -> None:
    kept = without_overlaps(given_finds)
    assert all(a.end <= b.start for a, b in pairwise(kept))
    for find in given_finds:
        rivals = [k for k in kept if k.start < find.end and find.start < k.end]
        assert any(
            (k.score, k.end - k.start) >= (find.score, find.end - find.start) for k in rivals
        )
