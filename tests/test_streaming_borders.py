"""Words that no single text of a reply holds: over the border of two texts, or in names."""

from __future__ import annotations

import asyncio

import pytest
from messages_kit import BEGIN, delta, finish, message_body, start, stop, text_block
from responses_kit import encoded, message, refusal, response, stream_events
from test_streaming import BLOCK, CONTEXT, chunk, parsed

from policies.decision import Decision, Redaction
from proxy.endpoints import ENDPOINTS
from proxy.sse import DONE, encode
from proxy.stream_pace import Pace
from proxy.streaming import StreamReport, guarded

CHAT, MESSAGES, RESPONSES = (
    ENDPOINTS[f"/v1/{path}"] for path in ("chat/completions", "messages", "responses")
)
SHAPE = {"hold_chars": 20, "overlap_chars": 20, "tail_chars": 16, "whole_chars": 40}


def guard(endpoint, wire, check):
    """How a guarded stream ends, and what of it came out."""
    report = StreamReport()

    async def source():
        for event in parsed(wire):
            yield event

    async def verdict(texts):
        return check(texts)

    async def consume():
        pace = Pace(**SHAPE, hold_seconds=60.0, strict=True)
        context = endpoint.context({"model": "m"}, id=CONTEXT.id, created=1)
        pieces = guarded(source(), endpoint, verdict, context, pace, report=report)
        return b"".join([piece async for piece in pieces])

    out = asyncio.run(consume())
    return report.ended, out


def block(texts):
    found = any("zebrafish" in text.content.lower() for text in texts)
    return BLOCK if found else Decision("output")


def hide(texts):
    """Replaces the end of the word where it stands in a text of its own."""
    found = [(i, text.content.find("zebrafish")) for i, text in enumerate(texts)]
    redactions = tuple(Redaction(i, at, at + 9, "<X>", "W") for i, at in found if at >= 0)
    return Decision("output", "redact" if redactions else "forward", redactions=redactions)


def chat(*events):
    return [*events, chunk({}, 0, "stop"), DONE]


def responses(*items, change=lambda event: event):
    return [encoded(change(event)) for event in stream_events(*items)]


def renamed(event):
    """A delta whose event has a name of the server's own."""
    kind = "response.zebrafish" if event["type"].endswith("text.delta") else event["type"]
    return {**event, "type": kind}


def spoken(event):
    item = event.get("item")
    return {**event, "item": {**item, "role": "zebrafish"}} if item else event


USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "zebrafish": 5}
LONG = "A calm sentence that says nothing. " * 20
HIDDEN = {
    "a name in a delta": (CHAT, chat(chunk({"content": "x", "zebrafish": 1}))),
    "a name beside the choices": (CHAT, chat(encode({"choices": [], "zebrafish": None}))),
    "a name in the usage": (CHAT, chat(encode({"choices": [], "usage": USAGE}))),
    "the type of an event": (RESPONSES, responses(message("Well."), change=renamed)),
    "the role of an item": (RESPONSES, responses(message("Well."), change=spoken)),
    "the id of an item": (RESPONSES, responses(message("Well.", id="zebrafish"))),
    "two blocks": (MESSAGES, [BEGIN, *text_block(0, "zebra"), *text_block(1, "fish"), *finish()]),
    "three blocks": (
        MESSAGES,
        [BEGIN, *text_block(0, "zeb"), *text_block(1, "ra"), *text_block(2, "fish"), *finish()],
    ),
    "a tool between": (
        MESSAGES,
        [
            BEGIN,
            *text_block(0, "zebra"),
            start(1, {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}),
            delta(1, "input_json_delta", partial_json="{}"),
            stop(1),
            *text_block(2, "fish"),
            *finish(),
        ],
    ),
    "a long block before": (
        MESSAGES,
        [BEGIN, *text_block(0, LONG, "zebra"), *text_block(1, "fi", "sh"), *finish()],
    ),
    "a long block after": (
        MESSAGES,
        [BEGIN, *text_block(0, "zebra"), *text_block(1, "fish", LONG), *finish()],
    ),
    "two parts": (RESPONSES, responses(message("zebra", "fish"))),
    "two items": (RESPONSES, responses(message("zebra"), message("fish", id="msg_2"))),
    "a text and a refusal": (RESPONSES, responses(message("zebra", refusal("fish")))),
    "a chat's content and refusal": (
        CHAT,
        chat(chunk({"content": "zebra"}), chunk({"refusal": "fish"})),
    ),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_no_word_hides_in_a_name_or_over_a_border(name):
    endpoint, wire = HIDDEN[name]
    ended, out = guard(endpoint, wire, block)
    assert ended == "blocked"
    assert b"zebrafish" not in out


CALM = {
    "chat": (CHAT, chat(chunk({"content": "Well."}), encode({"choices": [], "usage": {}}))),
    "messages": (MESSAGES, [BEGIN, *text_block(0, "zebra"), *text_block(1, "cat"), *finish()]),
    "responses": (RESPONSES, responses(message("zebra", "cat"))),
}


@pytest.mark.parametrize("name", CALM)
def test_what_holds_no_word_passes(name):
    endpoint, wire = CALM[name]
    ended, out = guard(endpoint, wire, block)
    assert ended == "done"
    assert len(parsed([out])) == len(parsed(wire))


def test_usual_names_are_no_texts():
    seen = []

    def check(texts):
        seen.extend(text.content for text in texts)
        return Decision("output")

    guard(RESPONSES, responses(message("Well.")), check)
    guard(CHAT, chat(chunk({"content": "Good."}), encode({"choices": [], "usage": USAGE})), check)
    assert set(seen) == {"Well.", "Good.", "zebrafish"}


def test_a_find_over_a_border_is_redacted_in_the_text_that_is_still_here():
    wire = [BEGIN, *text_block(0, "a zebra"), *text_block(1, "fish and more"), *finish()]
    ended, out = guard(MESSAGES, wire, hide)
    assert ended == "done"
    assert b"<X> and more" in out
    assert b"fish" not in out


def reply(message):
    return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}


def chat_parts(*texts):
    return [{"type": "text", "text": text} for text in texts]


PLAIN = {
    "parts": (CHAT, reply({"content": chat_parts("zebra", "fish")})),
    "content and refusal": (CHAT, reply({"content": "zebra", "refusal": "fish"})),
    "usage": (CHAT, {**reply({"content": "x"}), "usage": USAGE}),
    "two output texts": (RESPONSES, response(message("zebra", "fish"))),
    "two output items": (RESPONSES, response(message("zebra"), message("fish", id="msg_2"))),
    "the id of an output": (RESPONSES, response(message("x", id="how_to_breed_zebrafish"))),
    "two blocks": (MESSAGES, message_body("zebra", "fish")),
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_reply_is_read_over_its_borders(name):
    endpoint, body = PLAIN[name]
    assert any("zebrafish" in text.content for text in endpoint.reply_texts(body))


def test_choices_are_not_joined():
    body = reply({"content": "zebra"})
    body["choices"] += reply({"content": "fish"})["choices"]
    assert not any("zebrafish" in text.content for text in CHAT.reply_texts(body))
