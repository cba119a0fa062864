"""The trainer of token heads on a tiny encoder: rows with spans in, a pack out that finds them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra `train`)")

from classifiers.chain import Steps
from classifiers.encoder import Encoder
from classifiers.tokens import TextWords, load_span_pack, word_scores
from classifiers.training.data import ROWS, Row, read_jsonl
from classifiers.training.methods.chain_fit import Chain, Likelihood
from classifiers.training.methods.span_words import read_words
from classifiers.training.methods.spans import figures, train_spans, write_span_pack
from classifiers.training.recipes.entities import ENTITIES, presidio_row, span_row
from classifiers.training.recipes.slots import SLOTS, slots_rows
from classifiers.types import Batch, OperatingPoint

TINY = Path(__file__).parent / "fixtures" / "tiny-encoder"
LABELS = ("GREETING", "THING")


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(TINY)


def toy_rows(count: int = 240) -> list[Row]:
    """Requests in which the word after "order" is a THING and "hello"/"hi" a GREETING."""
    random = np.random.default_rng(0)
    rows = []
    for number in range(count):
        thing = str(random.choice(["python code", "card", "mail", "free prize", "weather"]))
        greeting = str(random.choice(["hello", "hi", ""]))
        middle = str(random.choice(["please", "can you", "i", "where is my"]))
        text = f"{greeting} {middle} order {thing}, {random.choice(['thanks', 'bye', 'good'])} {number}"
        spans = [(text.index(thing), text.index(thing) + len(thing), "THING")]
        if greeting:
            spans.append((0, len(greeting), "GREETING"))
        if number % 4 == 0:
            text, spans = f"{number} {middle} help me {thing}", []
        rows.append(
            Row(text, frozenset(s[2] for s in spans), group=str(number), spans=tuple(spans))
        )
    return rows


def test_a_head_is_trained_written_and_served(tmp_path: Path, encoder: Encoder) -> None:
    rows = toy_rows()
    trained = train_spans(rows, LABELS, encoder)
    assert trained.manifest["metrics"]["held_out"]["overall"]["f1"] > 0.9
    write_span_pack(tmp_path / "toy", trained, name="toy", encoder=encoder, more={"licence": "x"})
    classifier = load_span_pack(tmp_path / "toy", encoder)
    assert (classifier.name, classifier.labels, classifier.kind) == ("toy", LABELS, "spans")
    served = classifier.predict(Batch([row.text for row in rows]))
    cuts = classifier.thresholds(LABELS, OperatingPoint())
    found = [
        [(p.span.start, p.span.end, p.label) for p in one if p.span and p.score >= cuts[p.label]]
        for one in served
    ]
    judged = figures(found, rows, LABELS)
    assert judged["overall"]["f1"] > 0.95
    assert judged["by_label"]["THING"]["spans"] == 180
    text = "hello please order python code, bye 7"
    spans = [p.span for p in classifier.predict(Batch([text]))[0] if p.score > 0.5]
    assert [text[s.start : s.end] for s in spans if s] == ["hello", "python code"]
    # Of texts without a THING at most 5 % have one found in them, proven on held-out texts.
    cut = classifier.thresholds(["THING"], OperatingPoint("max_false_positive_rate", 0.06))["THING"]
    wrong = [
        any(label == "THING" and score >= cut for _, _, label, score in own)
        for own, row in zip(trained.held_out, rows, strict=True)
        if not row.spans
    ]
    assert len(wrong) == 60
    assert np.mean(wrong) <= 0.06


def test_the_trained_chain_is_the_served_one(encoder: Encoder) -> None:
    rows = toy_rows(6)
    read = read_words(rows, LABELS, encoder)
    random = np.random.default_rng(1)
    data = read.sentences
    blank = Chain.zeros(data.states.shape[1], data.lexical.shape[1], 5)
    chain = blank.like(random.normal(size=len(blank.flat())))
    weight = np.einsum("fd,ndt->nft", read.basis, chain.states)
    trained = chain.scores(data)
    steps = Steps.constrained(chain.start, chain.follow)
    gold = 0.0
    for number, row in enumerate(rows):
        encoded = encoder.encode([row.text], np.hstack(list(weight)).astype(np.float32))
        own = [
            (window, tokens)
            for window, tokens in zip(encoded.windows, encoded.tokens, strict=True)
            if tokens is not None
        ]
        text = TextWords(row.text, own)
        served = word_scores(text, text.tokens, read.spread(chain.lexical), chain.bias)
        here = slice(data.starts[number], data.starts[number + 1])
        np.testing.assert_allclose(served, trained[here], rtol=0.01, atol=0.03)  # half precision
        tags = data.tags[here]
        gold += steps.start[tags[0]] + steps.follow[tags[:-1], tags[1:]].sum()
        gold += trained[here][np.arange(len(tags)), tags].sum()

    likelihood = Likelihood(data)
    value, slope = likelihood(chain)
    assert value > 0
    flat = chain.flat()
    free = np.flatnonzero(np.abs(slope) > 1e-6)
    for place in random.choice(free, 25):
        step = np.zeros_like(flat)
        step[place] = 1e-3
        ahead, back = likelihood(chain.like(flat + step))[0], likelihood(chain.like(flat - step))[0]
        assert (ahead - back) / 2e-3 == pytest.approx(slope[place], rel=0.02, abs=0.02)


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ((), "no row has a span of THING"),
        (((0, 99, "THING"),), r"rows.csv:7: span 0\.\.99 \(THING\) does not fit a text of 5"),
        (((3, 3, "THING"),), "start < end"),
    ],
)
def test_spans_that_cannot_be_trained_on(
    encoder: Encoder, spans: tuple[tuple[int, int, str], ...], message: str
) -> None:
    row = Row("hello", frozenset(), spans=spans, place="rows.csv:7")
    with pytest.raises(ValueError, match=message):
        train_spans([row], ["THING"], encoder)


def test_the_rows_of_this_repository_are_sound() -> None:
    text = "Ship to 12 Elm St\n Apt. 4\n Boston 02101 on 2001-02-03 04:05:06"
    parts = [
        ("12 Elm St", "STREET_ADDRESS"),
        ("Apt. 4", "STREET_ADDRESS"),
        ("Boston", "GPE"),
        ("02101", "ZIP_CODE"),
        ("2001-02-03 04:05:06", "DATE_TIME"),
    ]
    spans = [
        {"start": text.index(p), "end": text.index(p) + len(p), "type": kind} for p, kind in parts
    ]
    item = {"text": text, "spans": spans, "split": "train", "template_id": 1}
    found = [(text[s:e], label) for s, e, label in presidio_row(item, "presidio").spans]
    assert found == [
        ("12 Elm St\n Apt. 4\n Boston 02101", "ADDRESS"),
        ("2001-02-03", "DATE"),
        ("04:05:06", "TIME"),
    ]
    for rows, labels in ((slots_rows(Path()), SLOTS), (_own_entities(), ENTITIES)):
        assert {label for row in rows for _, _, label in row.spans} == set(labels)
        assert {row.split for row in rows} == {"train", "dev"}
        groups = {split: {r.group for r in rows if r.split == split} for split in ("train", "dev")}
        assert groups["train"] & groups["dev"] <= {""}
        for row in rows:
            ends = 0
            for start, end, _ in sorted(row.spans):
                assert ends <= start < end <= len(row.text)
                assert row.text[start:end] == row.text[start:end].strip()
                ends = end


def _own_entities() -> list[Row]:
    return [span_row(item, "ours") for item in read_jsonl(ROWS / "entities.jsonl")]
