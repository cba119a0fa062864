"""Hashed n-grams: what counts as the same, and that every n-gram knows its place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifiers import lexical
from classifiers.lexical_table import AT_ONCE, LexicalTable, widened


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


@given(st.lists(st.text(alphabet=st.characters(codec=None), max_size=60), min_size=1, max_size=5))
def test_several_texts_at_once_have_the_features_of_each(texts: list[str]) -> None:
    found = lexical.features_of(texts)
    for index, text in enumerate(texts):
        buckets, values = lexical.features(text)
        own = found.texts == index
        assert np.array_equal(found.buckets[own], buckets)
        assert np.allclose(found.values[own], values, atol=1e-6)


@pytest.mark.parametrize("labels", [1, 7])
def test_a_table_adds_up_the_weights_of_each_text(labels: int) -> None:
    weights = np.random.default_rng(1).normal(size=(lexical.BUCKETS, labels)).astype(np.float16)
    texts = [f"text {'with words ' * number}{number}" for number in range(2 * AT_ONCE + 1)]
    found = LexicalTable(weights).score([*texts, ""])
    for text, line in zip([*texts, ""], found, strict=True):
        buckets, values = lexical.features(text)
        assert np.allclose(line, values @ weights[buckets].astype(np.float32), atol=1e-5)


def test_halves_are_widened_exactly() -> None:
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = halves[np.isfinite(halves)]
    assert np.array_equal(widened(finite), finite.astype(np.float32))
