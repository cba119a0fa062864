"""Token heads: where the finds stand, how probable they are, what loading refuses."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifiers import words
from classifiers.chain import NEVER, Steps, Stretch, best_path, certainty, stretches, tags_of
from classifiers.encoder import Encoder
from classifiers.packs import PackError, read_tensors, write_manifest, write_tensors
from classifiers.tokens import SpanClassifier, load_span_pack, load_span_packs, word_rows
from classifiers.types import Batch, OperatingPoint, UnknownLabel
from classifiers.views import Reader

TINY = Path(__file__).parent / "fixtures" / "tiny-encoder"
LABELS = ("GREETING", "THING")


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(TINY)


def bucket_of(word: str) -> int:
    """The bucket of a word itself: its first lexical feature."""
    return int(words.features(word, words.words(word))[0, 0])


def make_pack(
    folder: Path,
    encoder: Encoder,
    begins: dict[str, str],
    inside: Sequence[str] = (),
    changes: Mapping[str, Any] | None = None,
) -> Path:
    """A head that knows the words it is given and reads nothing else."""
    folder.mkdir(parents=True)
    tags = tags_of(LABELS)
    lexical = np.zeros((words.BUCKETS, len(tags)), dtype=np.float16)
    for word, label in begins.items():
        lexical[bucket_of(word), tags.index(f"B-{label}")] = 12
    for word in inside:
        lexical[bucket_of(word), [2, 4]] = 12
    tensors = {
        "states": np.zeros((3, encoder.features, len(tags)), dtype=np.float32),
        "lexical": lexical,
        "bias": np.asarray([5, 0, 0, 0, 0], dtype=np.float32),
        "start": np.zeros(len(tags), dtype=np.float32),
        "follow": np.zeros((len(tags), len(tags)), dtype=np.float32),
        "platt": np.asarray([[1, 0], [1, 0]], dtype=np.float32),
    }
    write_tensors(folder / "tokens.safetensors", tensors)
    best = np.zeros((1000, 2), dtype=np.float32)
    best[:400] = np.linspace(0.5, 0.99, 400)[:, None]
    best[400:410] = 0.3
    truth = np.zeros((1000, 2), dtype=np.int8)
    truth[:400] = 1
    span_scores = np.concatenate([np.linspace(0.5, 0.99, 380), np.zeros(20)])
    held_out = {
        "best": best,
        "truth": truth,
        "span_scores": span_scores.astype(np.float32),
        "span_labels": np.zeros(400, dtype=np.int16),
    }
    write_tensors(folder / "calibration.safetensors", held_out)
    manifest = {
        "kind": "spans",
        "name": folder.name,
        "labels": list(LABELS),
        "tags": list(tags),
        "encoder": encoder.hash,
        "outside_discount": 0.0,
        "operating_points": {label: {"threshold": 0.6} for label in LABELS},
    }
    write_manifest(folder, {**manifest, **(changes or {})})
    return folder


@pytest.fixture
def greeter(tmp_path: Path, encoder: Encoder) -> SpanClassifier:
    begins = {"hello": "GREETING", "order": "THING", "日": "THING", "नमस्ते": "GREETING"}
    pack = make_pack(tmp_path / "greeter", encoder, begins, ["there", "本"])
    return load_span_pack(pack, encoder)


def finds(classifier: SpanClassifier, text: str) -> list[tuple[str, str]]:
    found = classifier.predict(Batch([text]))[0]
    assert all(p.span is not None and 0 <= p.score <= 1 for p in found)
    return [(p.label, text[p.span.start : p.span.end]) for p in found if p.span is not None]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("   \n\t ", []),
        ("nothing of the kind", []),
        ("hello", [("GREETING", "hello")]),
        ("well, hello there, order!", [("GREETING", "hello there"), ("THING", "order")]),
        ("hello hello", [("GREETING", "hello"), ("GREETING", "hello")]),
        ("there is no inside without a begin", []),
        ("👩‍👩‍👧🏽 Hello there 🙂", [("GREETING", "Hello there")]),
        ("今日日本order", [("THING", "日"), ("THING", "日本"), ("THING", "order")]),
        ("é नमस्ते!", [("GREETING", "नमस्ते")]),
        ("e\u0301e\u0301 hello\u0301 \ud800 order", [("THING", "order")]),
        ("\u200b\x00hello\u200b", [("GREETING", "hello")]),
    ],
)
def test_finds_stand_where_the_characters_are(
    greeter: SpanClassifier, text: str, expected: list[tuple[str, str]]
) -> None:
    assert finds(greeter, text) == expected


def test_words_leave_out_nothing_but_white_space() -> None:
    text = "O'Brien's  3/4/24 naïve cafe\u0301 นี้ดี 日本 x_y\n\u200d🙂\ud800"
    rest = list(text)
    for start, end in words.words(text):
        assert end > start
        rest[start:end] = [""] * (end - start)
    assert "".join(rest).strip() == ""
    assert "cafe\u0301" in [text[s:e] for s, e in words.words(text)]
    found = words.features(text, words.words(text))
    assert found.shape == (len(words.words(text)), words.FEATURES)
    assert found.min() >= 0
    assert found.max() < words.BUCKETS


def test_a_long_text_is_found_once_each(greeter: SpanClassifier, encoder: Encoder) -> None:
    text = (
        "the weather is nice. " * 15 + "hello there " + "please help me with code. " * 15 + "order"
    )
    assert len([w for w in encoder.windows([text]) if not w.sentence]) > 8
    assert finds(greeter, text) == [("GREETING", "hello there"), ("THING", "order")]
    many = "please hello there " * 60
    assert finds(greeter, many) == [("GREETING", "hello there")] * 60


def test_each_word_is_read_where_it_stands_deepest(encoder: Encoder) -> None:
    text = " ".join(f"hello order{n}" for n in range(40))
    cuts = [window for window in encoder.windows([text]) if not window.sentence]
    places = words.words(text)
    # Each token tells how far from the edges of its window it stands.
    numbered = []
    for window in cuts:
        size = len(window.ids) - 2
        depth = np.minimum(np.arange(size), size - 1 - np.arange(size))
        column = np.concatenate(([0], depth, [0])).astype(np.float32)
        numbered.append((window, column[:, None]))
    rows = word_rows(places, numbered)[:, 0]
    for (start, _), got in zip(places, rows, strict=True):
        best = max(
            column[token, 0]
            for window, column in numbered
            for token, (first, last) in enumerate(window.offsets)
            if last and first <= start < last
        )
        first_or_last = start < cuts[0].offsets[-4][1] or start > cuts[-1].offsets[4][0]
        assert got >= best - 1 or first_or_last


def test_states_of_neighbours_reach_the_next_word(tmp_path: Path, encoder: Encoder) -> None:
    pack = make_pack(tmp_path / "near", encoder, {})
    tensors = read_tensors(pack / "tokens.safetensors")
    hello = encoder.token_states(encoder.windows(["hello refund"])[0])[1]
    tensors["states"][1, :, 1] = hello * 60  # what hello says of the word to its right
    tensors["bias"][0] = 30
    write_tensors(pack / "tokens.safetensors", tensors)
    manifest = json.loads((pack / "manifest.json").read_text("utf-8"))
    write_manifest(
        pack, {k: v for k, v in manifest.items() if k not in ("format", "files", "hash")}
    )
    classifier = load_span_pack(pack, encoder)
    assert ("GREETING", "refund") in finds(classifier, "hello refund")
    assert ("GREETING", "hello") not in finds(classifier, "hello refund")


def test_a_verdict_does_not_depend_on_neighbours(greeter: SpanClassifier) -> None:
    texts = ["hello there", "", "order " * 40, "nothing"]
    together = greeter.predict(Batch(texts))
    assert together == [greeter.predict(Batch([text]))[0] for text in texts]


def test_packs_on_one_reader_share_a_pass(tmp_path: Path, encoder: Encoder) -> None:
    one = make_pack(tmp_path / "one", encoder, {"hello": "GREETING"})
    two = make_pack(tmp_path / "two", encoder, {"order": "THING"})
    reader = Reader(encoder)
    both = load_span_packs([one, two], reader)
    batch = Batch(["hello order"])
    assert [p.label for p in both[0].predict(batch)[0]] == ["GREETING"]
    views = reader.views(batch)
    assert [p.label for p in both[1].predict(batch)[0]] == ["THING"]
    assert reader.views(batch) is views
    np.testing.assert_array_equal(views.encoded.features, encoder.encode(["hello order"]).features)


# -- the chain ------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 4])
def test_the_chain_agrees_with_counting_every_path(length: int) -> None:
    random = np.random.default_rng(length)
    scores = random.normal(size=(length, 5)) * 2
    steps = Steps.constrained(random.normal(size=5), random.normal(size=(5, 5)))
    paths = list(itertools.product(range(5), repeat=length))
    worth = np.asarray(
        [
            steps.start[path[0]]
            + sum(scores[word, tag] for word, tag in enumerate(path))
            + sum(steps.follow[one, two] for one, two in itertools.pairwise(path))
            for path in paths
        ]
    )
    assert tuple(best_path(scores, steps)) == paths[int(worth.argmax())]
    total = np.logaddexp.reduce(worth)
    for first in range(length):
        for last in range(first, length):
            for label in range(2):
                one = Stretch(first, last, label)
                holding = [
                    value
                    for path, value in zip(paths, worth, strict=True)
                    if one in stretches(path) and value > NEVER / 2
                ]
                expected = np.logaddexp.reduce(holding) - total
                assert certainty(scores, steps, [one])[0] == pytest.approx(expected, abs=1e-8)


def test_no_path_begins_inside() -> None:
    steps = Steps.constrained(np.full(5, 50.0), np.full((5, 5), 50.0))
    random = np.random.default_rng(3)
    for _ in range(50):
        path = best_path(random.normal(size=(12, 5)) + np.asarray([0, -9, 9, -9, 9]), steps)
        for before, tag in itertools.pairwise([0, *path]):
            assert tag not in (2, 4) or before in (tag - 1, tag)


# -- thresholds -----------------------------------------------------------------------------------


def test_thresholds_keep_what_they_promise(greeter: SpanClassifier) -> None:
    both = list(LABELS)
    assert greeter.thresholds(both, OperatingPoint()) == dict.fromkeys(both, 0.6)
    assert greeter.thresholds(["THING"], OperatingPoint("at", 0.9)) == {"THING": 0.9}
    # 10 of the 600 texts without a label have a find at 0.3.
    strict = greeter.thresholds(both, OperatingPoint("max_false_positive_rate", 0.01))
    assert strict["THING"] == strict["GREETING"] > 0.3
    assert greeter.thresholds(both, OperatingPoint("max_false_positive_rate", 0.05))["THING"] <= 0.3
    assert (
        0.5 <= greeter.thresholds(["GREETING"], OperatingPoint("min_recall", 0.9))["GREETING"] < 0.6
    )


@pytest.mark.parametrize(
    ("labels", "point", "message"),
    [
        (["NAME"], OperatingPoint(), "has no label 'NAME'; it has GREETING, THING"),
        (["THING"], OperatingPoint("max_false_positive_rate", 0.001), "more are needed"),
        (["GREETING"], OperatingPoint("min_recall", 0.97), "95.00% of the true finds are found"),
        (["THING"], OperatingPoint("min_recall", 0.9), "cannot be promised from 0 texts"),
        (["GREETING"], OperatingPoint("min_recall", 1.0), "take 99% or less"),
    ],
)
def test_thresholds_that_cannot_be_had(
    greeter: SpanClassifier, labels: list[str], point: OperatingPoint, message: str
) -> None:
    with pytest.raises(UnknownLabel, match=message):
        greeter.thresholds(labels, point)


# -- damaged packs --------------------------------------------------------------------------------


def test_a_changed_file_is_refused(tmp_path: Path, encoder: Encoder) -> None:
    pack = make_pack(tmp_path / "pack", encoder, {})
    for name in ("tokens.safetensors", "calibration.safetensors"):
        broken = tmp_path / f"broken-{name}"
        shutil.copytree(pack, broken)
        data = bytearray((broken / name).read_bytes())
        data[-1] ^= 1
        (broken / name).write_bytes(bytes(data))
        with pytest.raises(PackError, match="changed since the pack was made"):
            load_span_pack(broken, encoder)
    (pack / "calibration.safetensors").unlink()
    with pytest.raises(PackError, match=r"calibration\.safetensors is missing"):
        load_span_pack(pack, encoder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "head"}, "'spans' is needed here"),
        ({"encoder": "0" * 64}, "made for encoder 000000000000"),
        ({"tags": ["O", "B-GREETING"]}, "tags are not those of its labels"),
        ({"operating_points": {"THING": {}}}, "no operating point for GREETING"),
        ({"labels": ["GREETING"], "tags": ["O", "B-GREETING", "I-GREETING"]}, "tensor 'states'"),
    ],
)
def test_a_pack_that_does_not_match_is_refused(
    tmp_path: Path, encoder: Encoder, changes: dict[str, Any], message: str
) -> None:
    pack = make_pack(tmp_path / "pack", encoder, {}, changes=changes)
    with pytest.raises(PackError, match=message):
        load_span_pack(pack, encoder)


@pytest.mark.parametrize("name", ["states", "lexical", "bias", "start", "follow", "platt"])
def test_a_tensor_that_is_missing_or_not_finite_is_refused(
    tmp_path: Path, encoder: Encoder, name: str
) -> None:
    pack = make_pack(tmp_path / "pack", encoder, {})
    manifest = json.loads((pack / "manifest.json").read_text("utf-8"))
    kept = {k: v for k, v in manifest.items() if k not in ("format", "files", "hash")}
    tensors = read_tensors(pack / "tokens.safetensors")
    whole = tensors[name]
    spoilt = whole.copy()
    spoilt.flat[0] = np.nan
    for other in ({}, {name: spoilt}, {name: whole[:-1]}):
        rest = {key: value for key, value in tensors.items() if key != name}
        write_tensors(pack / "tokens.safetensors", {**rest, **other})
        write_manifest(pack, kept)
        with pytest.raises(PackError, match=f"tensor '{name}' is"):
            load_span_pack(pack, encoder)
