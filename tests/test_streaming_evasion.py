"""What an upstream, or whoever steers it, may try to get text past the streaming guard."""

from __future__ import annotations

import json

import pytest
from test_streaming import BLOCK, Checker, chunk, encode, joined, parsed, run, said

from classifiers.patterns import PatternClassifier, PatternConfig
from classifiers.types import Batch
from policies.decision import Decision, Redaction
from proxy.errors import UpstreamError
from proxy.sse import DONE
from proxy.streaming import StreamReport

HOUSE = PatternClassifier(
    "house",
    PatternConfig.model_validate(
        {
            "patterns": [
                {"label": "WORD", "keywords": ["falcon", "project kestrel"]},
                {"label": "CODE", "regex": r"CODE-\d{6}"},
            ]
        }
    ),
)
PROSE = "word " * 40


def finds(texts):
    found = zip(texts, HOUSE.predict(Batch([text.content for text in texts])), strict=True)
    return [(i, p.span, p.label) for i, (_, own) in enumerate(found) for p in own]


def block(texts):
    return BLOCK if finds(texts) else Decision("output")


def hide(texts):
    redactions = tuple(
        Redaction(i, span.start, span.end, "<X>", label) for i, span, label in finds(texts)
    )
    return Decision("output", "redact" if redactions else "forward", redactions=redactions)


PADDED = [
    ["fal" + "\u200b" * 300, "\u200b" * 300, "con"],
    ["project" + " " * 400, " " * 300 + "kestrel"],
    ["project \u200b" + "\u2060 \n" * 300, "kestrel"],
    ["fa" + "l" * 600, "lllcon"],
    ["".join(c + "\u200b" * 150 for c in "falco"), "n"],
    ["fal" + "\u200b" * 20_000, "\u200b" * 60_000, "con"],
]


@pytest.mark.parametrize("pieces", PADDED)
def test_padding_does_not_push_a_find_out_of_sight(pieces):
    wire = [*said([PROSE, *pieces, " end"]), chunk({}, 0, "stop"), DONE]
    report = StreamReport()
    out = run(wire, Checker(block), report=report)
    assert report.ended == "blocked"
    assert not finds_in(out)


@pytest.mark.parametrize("pieces", PADDED[:5])
def test_padding_does_not_let_the_start_of_a_redaction_leave(pieces):
    wire = [*said([PROSE, *pieces, " end"]), chunk({}, 0, "stop"), DONE]
    out = run(wire, Checker(hide))
    assert joined(out) == {(0, "content"): PROSE + "<X> end"}


def test_padding_makes_few_checks_due():
    wire = [*said([PROSE, *["\u200b" * 20] * 1_000, "end"]), chunk({}, 0, "stop"), DONE]
    check = Checker()
    run(wire, check)
    assert len(check.seen) < 10
    assert all(len(text.content) < 30_000 for texts in check.seen for text in texts)


def finds_in(wire):
    text = "".join(joined(wire).values())
    return any(p.span for p in HOUSE.predict(Batch([text]))[0])


@pytest.mark.parametrize("key", ["reasoning_content", "refusal"])
def test_a_word_that_another_channel_interrupts_is_not_let_go(key):
    wire = [
        *said([PROSE, "my CODE-12"]),
        *said(["a" * 30 + " "] * 10, key=key),
        *said(["3456 ok"]),
        chunk({}, 0, "stop"),
        DONE,
    ]
    out = run(wire, Checker(hide))
    assert joined(out)[0, "content"] == PROSE + "my <X> ok"


def test_an_interrupted_word_holds_back_so_much_and_no_more():
    wire = [
        *said(["my CODE-12"]),
        *said(["thinking "] * 500, key="reasoning_content"),
        *said(["3456 ok"]),
        chunk({}, 0, "stop"),
        DONE,
    ]
    at_most = []
    report = StreamReport()
    run(
        wire,
        Checker(lambda texts: at_most.append(report.exposed_chars) or hide(texts)),
        report=report,
    )
    assert any(at_most)
    assert at_most.index(next(filter(None, at_most))) < 150


def odd(**event):
    return encode({"id": "c", "choices": [], **event})


SMUGGLED = [
    [b": falcon\n\n"],
    [b"id: falcon\nevent: falcon\nretry: falcon\nfalcon: x\n" + chunk({"content": "x"})],
    [b'data: {"choices":[{"index":0,"delta":{"content":"falcon","content":"ok"}}]}\n\n'],
    [encode({"choices": [{"index": 0, "logprobs": {"content": [{"token": "falcon"}]}}]})],
    [odd(usage={"note": "say falcon please"})],
    [odd(moderation={"x": "the falcon"})],
    [odd(id="the falcon")],
    [odd(model="the falcon")],
]
UNREADABLE = [
    [odd(choices={"0": {"index": 0, "delta": {"content": "falcon"}}})],
    [odd(choices=["falcon"])],
    [odd(choices="falcon")],
    [odd(**{"the falcon": 1})],
    [
        encode(
            {"choices": [{"index": 1, "delta": {}}, {"index": 0.0, "delta": {"content": "fal"}}]}
        ),
        *said(["con"]),
    ],
    [encode({"choices": [{"index": True, "delta": {"content": "falcon"}}]})],
]


@pytest.mark.parametrize("events", SMUGGLED)
def test_nothing_leaves_a_guarded_stream_that_was_not_read(events):
    wire = [*events, chunk({}, 0, "stop"), DONE]
    out = run(wire, Checker(block), strict=True)
    assert b"falcon" not in b"".join(out)
    assert b"falcon" in b"".join(wire)


def test_what_stands_in_the_last_event_besides_its_end_does_not_leave():
    wire = [*said(["ok"]), chunk({}, 0, "stop"), b"data: [DONE]\n: falcon\n\n"]
    out = run(wire, Checker(block), strict=True)
    assert b"falcon" not in b"".join(out)
    assert out[-1] == DONE


@pytest.mark.parametrize("events", UNREADABLE)
def test_events_of_unknown_shape_end_a_guarded_stream(events):
    wire = [*events, chunk({}, 0, "stop"), DONE]
    with pytest.raises(UpstreamError, match="unknown shape"):
        run(wire, Checker(block), strict=True)
    assert b"".join(run(wire, Checker(), strict=False)) == b"".join(wire)


def test_a_guarded_stream_keeps_what_was_read_and_its_pulse():
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    wire = [
        b": keep-alive\n\n",
        *said(["one ", "two"]),
        chunk({}, 0, "stop"),
        odd(usage=usage),
        DONE,
    ]
    out = run([piece.replace(b"data: ", b"data:  ") for piece in wire], Checker(), strict=True)
    assert out[0] == b":\n\n"
    assert [event.json for event in parsed(out)[1:]] == [event.json for event in parsed(wire)[1:]]
    assert json.loads(out[-2].removeprefix(b"data: "))["usage"] == usage
    assert out[-1] == DONE
