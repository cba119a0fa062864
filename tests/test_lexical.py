"""Hashed n-grams: what counts as the same, and that every n-gram knows its place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifiers import lexical


def same(one: str, two: str) -> bool:
    first, second = lexical.features(one), lexical.features(two)
    return bool(np.array_equal(first[0], second[0]) and np.allclose(first[1], second[1], atol=1e-6))


@pytest.mark.parametrize(
    ("one", "two", "equal"),
    [
        ("Hello World", "hello world", True),
        ("order 4411", "order 9023", True),
        ("hello   world", "hello\n world", True),
        ("ÜBER", "über", True),
        ("hello world", "world hello", False),
        ("refund", "refunds", False),
        ("don't", "dont", False),
        ("", "", True),
    ],
)
def test_what_counts_as_the_same(one: str, two: str, equal: bool) -> None:
    assert same(one, two) is equal


def test_the_number_of_grams_is_known() -> None:
    found = lexical.grams("ab cde")
    # Characters: 4 of size 3, 3 of size 4, 2 of size 5; words: ab, cde and the pair.
    assert len(found.buckets) == 4 + 3 + 2 + 2 + 1
    words = found.buckets >= lexical.BUCKETS // 2
    places = sorted(zip(found.starts[words], found.ends[words], strict=True))
    assert places == [(0, 2), (0, 6), (3, 6)]


def test_words_are_told_apart_across_a_large_vocabulary() -> None:
    words = [f"w{a}{b}{c}" for a in "abcdefghij" for b in "klmnopqrst" for c in "uvwxyzabcd"]
    buckets = {int(lexical.grams(word).buckets.max()) for word in words}
    # 1,000 words in 65,536 buckets: about 8 collisions are expected (birthday bound).
    assert len(buckets) > 970


@given(st.text(max_size=200))
def test_every_gram_lies_in_the_text(text: str) -> None:
    found = lexical.grams(text)
    assert len(found.buckets) == len(found.starts) == len(found.ends)
    if len(found.buckets):
        assert found.starts.min() >= 0
        assert found.ends.max() <= len(text)
        assert (found.starts < found.ends).all()
        assert found.buckets.max() < lexical.BUCKETS
    buckets, values = lexical.weigh(found)
    assert (np.diff(buckets) > 0).all()
    assert np.linalg.norm(values) <= 1 + 1e-5


@given(st.text(alphabet="abc XY1", min_size=6, max_size=60))
def test_case_never_matters(text: str) -> None:
    assert same(text, text.upper())
