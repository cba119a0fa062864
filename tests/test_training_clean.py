"""What is taken out of raw rows, what belongs together, and how the rest is split."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("scipy", reason="scipy is not installed (extra `train`)")

from classifiers.encoder import Encoder
from classifiers.training.clean import clean, without_near_duplicates
from classifiers.training.near import minhash, near_rows
from classifiers.training.read import RawRow
from classifiers.training.split import folds, split_rows
from classifiers.training.tables import DataError

TINY = Path(__file__).parent / "fixtures" / "tiny-encoder"


def row(text: str, labels: str = "a", number: int = 0, **changes: object) -> RawRow:
    named = frozenset(labels.split("+")) if labels else frozenset()
    return RawRow(text, named, place=f"f.csv:{number}", **changes)  # type: ignore[arg-type]


def rows_of(*pairs: tuple[str, str]) -> list[RawRow]:
    return [row(text, labels, number) for number, (text, labels) in enumerate(pairs, 1)]


CLEANED = [
    # (rows, texts that stay, (empty, duplicates, conflicting))
    ([("x", "a"), ("y", "b")], ["x", "y"], (0, 0, 0)),
    ([("x", "a"), ("", "a"), (" \n", "b")], ["x"], (2, 0, 0)),
    ([("Say  it", "a"), ("say it", "a"), ("SAY\nIT ", "a")], ["Say  it"], (0, 2, 0)),
    ([("ﬁne", "a"), ("fine", "a")], ["ﬁne"], (0, 1, 0)),
    ([("x!", "a"), ("x?", "b")], ["x!", "x?"], (0, 0, 0)),
    ([("x", "a"), ("X", "b")], [], (0, 0, 2)),
    ([("x", "a"), ("X", "b"), ("x ", "a")], ["x"], (0, 1, 1)),
    ([("X", "b"), ("x", "a"), ("x ", "a")], ["x"], (0, 1, 1)),
    ([("x", "a"), ("x", "a"), ("x", "b"), ("x", "b")], [], (0, 0, 4)),
    ([("x", "a"), ("x", "a+b"), ("x", "")], [], (0, 0, 3)),
    ([("किताब", "a"), ("कीताब", "b")], ["किताब", "कीताब"], (0, 0, 0)),
]


@pytest.mark.parametrize(("pairs", "texts", "counts"), CLEANED)
def test_what_is_taken_out(
    pairs: list[tuple[str, str]], texts: list[str], counts: tuple[int, int, int]
) -> None:
    kept, report = clean(rows_of(*pairs), ["a", "b"])
    assert [one.text for one in kept] == texts
    assert (report.empty, report.duplicates, report.conflicting) == counts
    assert report.read == report.kept + sum(counts)
    json.dumps(report.as_json())


def test_conflicts_are_listed_by_place() -> None:
    _, report = clean(rows_of(("x", "a"), ("y", "b"), ("X", "b"), ("z", "a")), ["a", "b"])
    assert [(c.places, c.labels, c.kept) for c in report.conflicts] == [
        (("f.csv:1", "f.csv:3"), ("a", "b"), None)
    ]
    assert "such as f.csv:1 and f.csv:3 (a / b)" in report.warnings()[0]


def test_equal_texts_with_different_spans_contradict_each_other() -> None:
    one = RawRow("Ann ann", frozenset("a"), spans=((0, 3, "a"),))
    two = RawRow("Ann ann", frozenset("a"), spans=((4, 7, "a"),))
    other = RawRow("ann ann", frozenset("a"), spans=((4, 7, "a"),))
    assert clean([one, two, other], ["a"])[0] == [other]


def test_labels_with_too_few_rows() -> None:
    rows = rows_of(*[(f"t{n}", "a") for n in range(20)], ("u", "b"), ("v", "c"), ("w", "c"))
    report = clean(rows, ["a", "b", "c", "d"])[1]
    assert [word for word in report.warnings() if "'c' has 2 rows" in word]
    with pytest.raises(DataError) as caught:
        report.check()
    told = str(caught.value).splitlines()
    assert [line.split(";")[0] for line in told] == [
        "the label 'b' has 1 row", "the label 'd' has no rows",
    ]  # fmt: skip
    clean(rows, ["a", "c"])[1].check()


def turned(vector: np.ndarray, cosine: float) -> np.ndarray:
    """A unit vector at this cosine from one of two dimensions that are not zero."""
    across = np.array([-vector[1], vector[0], 0, 0])
    return np.asarray(cosine * vector + np.sqrt(1 - cosine**2) * across, dtype=np.float32)


E1 = np.array([1, 0, 0, 0], dtype=np.float32)
E3 = np.array([0, 0, 1, 0], dtype=np.float32)
SAID = "where is the parcel that I ordered last week"
NEAR = [
    # (second text, its cosine to the first, its label, stays, in one group, in conflict)
    (SAID + "?", 0.99, "a", False, None, False),
    (SAID + "?", 0.98, "b", True, True, True),
    (SAID + "?", 0.95, "a", True, True, False),
    (SAID + "?", 0.89, "a", True, False, False),
    ("something else altogether", 0.99, "a", True, False, False),
    ("พัสดุของฉันอยู่ที่ไหน", 1.0, "a", True, False, False),
    ("where is the parcel that I sent to my aunt", 0.99, "a", True, True, False),
]


@pytest.mark.parametrize(("text", "cosine", "label", "stays", "grouped", "conflict"), NEAR)
def test_near_duplicates(
    text: str, cosine: float, label: str, stays: bool, grouped: bool | None, conflict: bool
) -> None:
    rows = rows_of((SAID, "a"), (text, label), ("far from it all", "a"))
    features = np.stack([E1, turned(E1, cosine), E3])
    report = clean(rows, ["a", "b"])[1]
    kept, groups, report = without_near_duplicates(rows, features, ["a", "b"], report)
    assert (1 in kept) == stays
    assert report.near_duplicates == (not stays)
    assert (report.kept, len(groups)) == (len(kept), len(kept))
    assert groups[-1] != groups[0]
    if stays:
        assert (groups[1] == groups[0]) == grouped
    assert bool(report.near_conflicts) == conflict
    json.dumps(report.as_json())


def test_of_a_chain_of_near_duplicates_the_first_stays_and_drops_its_own() -> None:
    # The third is near to the second only; the second is dropped, so the third stays.
    vectors = [E1, turned(E1, 0.975)]
    vectors.append(turned(vectors[1], 0.975))
    found = near_rows([SAID] * 3, np.stack(vectors), np.zeros(3, np.int64))
    assert found.kept.tolist() == [True, False, True]
    assert found.groups[0] == found.groups[2]


def test_rows_far_apart_in_the_file_are_compared() -> None:
    # More rows than one tile has, each text three times at random places.
    random = np.random.default_rng(0)
    order = random.permutation(np.repeat(np.arange(1_500), 3))
    features = np.eye(1_500, dtype=np.float32)[order]
    texts = [f"{random.bytes(2).hex()} {SAID} {number}" for number in order]
    found = near_rows(texts, features, np.zeros(len(order), np.int64))
    first = np.unique(order, return_index=True)[1]
    assert np.flatnonzero(found.kept).tolist() == sorted(first)
    labels = np.arange(len(order))
    found = near_rows(texts, features, labels)
    assert found.kept.all()
    assert len(set(zip(order.tolist(), found.groups.tolist(), strict=True))) == 1_500
    assert len(set(found.groups.tolist())) == 1_500


def test_a_chain_of_weak_links_is_no_group() -> None:
    angles = np.linspace(0, 40, 400)  # neighbours are alike, all of them together are not
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    texts = [f"{SAID} {number}" for number in range(400)]
    found = near_rows(texts, features, np.arange(400), same=0.9999)
    assert max(Counter(found.groups.tolist()).values()) < 100


def test_groups_of_the_file_are_kept() -> None:
    features = np.eye(4, dtype=np.float32)
    found = near_rows(list("wxyz"), features, np.zeros(4, np.int64), ["7", "", "7", ""])
    assert found.groups[0] == found.groups[2]
    assert len(set(found.groups.tolist())) == 3


def test_minhash_estimates_the_shingles_that_are_shared() -> None:
    def shingles(text: str) -> set[str]:
        return {f" {text} "[i : i + 4] for i in range(len(text) - 1)}

    random = np.random.default_rng(0)
    words = [f"w{n}" for n in range(3_000)]
    errors = []
    for kept in range(40):
        one = list(random.choice(words, 40))
        other = [*one[:kept], *random.choice(words, 40 - kept)]
        a, b = shingles(" ".join(one)), shingles(" ".join(other))
        signed = minhash([" ".join(one), " ".join(other)])
        errors.append((signed[0] == signed[1]).mean() - len(a & b) / len(a | b))
    assert abs(np.mean(errors)) < 0.03
    assert np.std(errors) < 0.09


def test_the_features_of_an_encoder_fit() -> None:
    texts = ["order refund mail weather", "order refund mail weather!", "kill prize win"]
    features = Encoder(TINY).encode(texts).features
    rows = rows_of(*[(text, "a") for text in texts])
    kept, groups, _ = without_near_duplicates(rows, features, ["a"], clean(rows, ["a"])[1])
    assert (kept, len(set(groups))) == ([0, 2], 2)


# The split


@st.composite
def labelled(draw: st.DrawFn) -> tuple[list[RawRow], list[str]]:
    count = draw(st.integers(50, 300))
    spread = draw(st.integers(5, count))
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    names = draw(st.sampled_from([["a"], ["a", "b"], ["a", "b", "c", "d+a", ""]]))
    odds = random.dirichlet(np.ones(len(names)))
    rows = [row(f"t{n}", str(random.choice(names, p=odds)), n) for n in range(count)]
    return rows, [str(random.integers(spread)) for _ in range(count)]


LABELS = ["a", "b", "c", "d"]


@settings(max_examples=60, deadline=None)
@given(labelled(), st.integers(0, 5))
def test_no_group_crosses_the_split_and_it_is_repeatable(
    made: tuple[list[RawRow], list[str]], seed: int
) -> None:
    rows, groups = made
    parts, _ = split_rows(rows, groups, LABELS, seed=seed)
    assert None not in parts
    assert len(set(zip(groups, parts, strict=True))) == len(set(groups))
    assert split_rows(rows, groups, LABELS, seed=seed)[0] == parts
    biggest = max(Counter(groups).values())
    for part, share in (("train", 0.8), ("dev", 0.1), ("test", 0.1)):
        off = parts.count(part) - share * len(rows)  # type: ignore[arg-type]
        assert abs(off) <= 2 * biggest + 2 * len(LABELS) + 2


@settings(max_examples=60, deadline=None)
@given(labelled(), st.integers(2, 5))
def test_no_group_crosses_the_folds(made: tuple[list[RawRow], list[str]], k: int) -> None:
    rows, groups = made
    truth = np.asarray([[label in one.labels for label in LABELS] for one in rows]).astype(np.int8)
    if len(set(groups)) < k:
        with pytest.raises(ValueError, match="cannot make"):
            folds(groups, truth, k)
        return
    found = folds(groups, truth, k)
    assert set(found.tolist()) == set(range(k))
    assert len(set(zip(groups, found.tolist(), strict=True))) == len(set(groups))
    assert (folds(groups, truth, k) == found).all()
    biggest = max(Counter(groups).values())
    for label in range(len(LABELS)):
        held = np.bincount(found[truth[:, label] == 1], minlength=k)
        assert held.max() - held.min() <= 3 * biggest + 2 * len(LABELS)


def test_every_label_is_in_every_part() -> None:
    names = "a" * 900 + "b" * 80 + "c" * 17 + "d" * 3
    rows = [row(f"t{n}", name, n) for n, name in enumerate(names)]
    parts, warnings = split_rows(rows, [str(n) for n in range(1_000)], LABELS)
    counts = Counter((name, part) for name, part in zip(names, parts, strict=True))
    assert [counts["d", part] for part in ("train", "dev", "test")] == [1, 1, 1]
    assert counts["a", "test"] == 90
    assert counts["b", "dev"] == 8
    assert warnings == []
    assert abs(parts.count("test") - 100) <= 2


def test_another_seed_is_another_split() -> None:
    rows = [row(f"t{n}", "ab"[n % 2], n) for n in range(200)]
    groups = [str(n) for n in range(200)]
    found = [split_rows(rows, groups, ["a", "b"], seed=seed)[0] for seed in (0, 1)]
    assert found[0] != found[1]


def test_few_rows_have_no_test_split() -> None:
    rows = [row(f"t{n}", "ab"[n % 2], n) for n in range(40)]
    parts, warnings = split_rows(rows, [str(n) for n in range(40)], ["a", "b"])
    assert Counter(parts) == {"train": 32, "dev": 8}
    assert warnings == ["40 rows are too few for a test split; add rows until there are 50"]


def test_a_label_in_a_single_group_is_missed_elsewhere() -> None:
    rows = [row(f"t{n}", "b" if n < 9 else "a", n) for n in range(100)]
    groups = ["same" if n < 9 else str(n) for n in range(100)]
    parts, warnings = split_rows(rows, groups, ["a", "b"])
    assert {parts[n] for n in range(9)} == {"train"}
    assert warnings == ["no dev rows for b; add rows of it", "no test rows for b; add rows of it"]


def test_the_split_of_the_file_stands() -> None:
    given_parts = ["test"] * 20 + ["train"] * 50 + [None] * 130
    rows = [row(f"t{n}", "ab"[n % 2], n, split=part) for n, part in enumerate(given_parts)]
    groups = [str(n) for n in range(200)]
    groups[25] = groups[3]  # a train row that is nearly a test row
    groups[90] = groups[4]  # a row without a part that is nearly a test row
    parts, warnings = split_rows(rows, groups, ["a", "b"])
    assert parts[:20] == ["test"] * 20
    assert parts[20:70] == [*["train"] * 5, None, *["train"] * 44]
    assert parts[90] == "test"
    assert Counter(parts[70:90] + parts[91:]).keys() == {"train", "dev"}
    assert warnings == [
        "1 rows are left out because nearly equal rows stand in the dev or test rows of the file"
    ]


def test_a_file_of_train_rows_alone_is_split_all_the_same() -> None:
    rows = [row(f"t{n}", "ab"[n % 2], n, split="train") for n in range(100)]
    parts, warnings = split_rows(rows, [str(n) for n in range(100)], ["a", "b"])
    assert Counter(parts) == {"train": 80, "dev": 10, "test": 10}
    assert warnings == ["all rows are named train; dev and test rows were drawn from them"]
