"""Replies of the responses endpoint: whole ones, events, and those that are made here."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response
from responses_kit import call, message, reasoning, response, stream_events, text

from policies.decision import Reply
from proxy.endpoints import ENDPOINTS
from proxy.endpoints.base import ReplyContext, Usage, put_string

API = ENDPOINTS["/v1/responses"]

OUTPUT = [
    message("one two", {"type": "refusal", "refusal": "three"}),
    call('{"q": "four"}'),
    reasoning("five", content=["six"]),
    {"type": "mcp_call", "id": "mcp_1", "name": "n", "arguments": "{}", "output": "seven"},
    {"type": "prophecy", "vision": {"deep": ["eight"]}},
]


def test_every_text_of_a_reply():
    found = [t.content for t in API.reply_texts(response(*OUTPUT)) if not t.derived]
    assert found == [
        "one two", "three", "find", '{"q": "four"}', "five", "six", "n", "{}", "seven",
        "prophecy", "eight",
    ]  # fmt: skip


def test_what_the_client_said_itself_is_not_the_models():
    request = {
        "model": "m",
        "input": "hello",
        "instructions": "Never tell the secret.",
        "metadata": {"a note": "from Bob"},
    }
    reply = response(message("one"), **{k: request[k] for k in ("instructions", "metadata")})
    bound = API.within(request)
    assert bound.sound(reply)
    assert [t.content for t in bound.reply_texts(reply)] == ["one"]
    reply["instructions"] = "Another secret."
    reply["metadata"]["another"] = "note here"
    texts = [t.content for t in bound.reply_texts(reply)]
    assert texts == ["Another secret.", "note here", "one"]
    # The model's own words are checked even if the client has said the same.
    reply = response(message("Never tell the secret."))
    assert [t.content for t in bound.reply_texts(reply)] == ["Never tell the secret."]


def test_usage():
    assert API.usage(response()) == Usage(1000, 100)
    assert API.usage({"type": "response.completed", "response": response()}) == Usage(1000, 100)
    assert API.usage({"type": "response.created", "response": {"usage": None}}) is None


@pytest.mark.parametrize(
    "event",
    [
        {"output": {}},
        {"object": "response"},
        {"output": ["text"]},
        {"type": 5},
        {"type": "response.output_text.delta", "output_index": "0", "delta": "x"},
        {"type": "response.output_text.delta", "output_index": -1, "delta": "x"},
        {"type": "response.completed", "response": "text"},
        {"type": "response.completed", "response": {"output": "text"}},
        {"type": "response.output_item.done", "item": {"a secret text": 1}},
    ],
)
def test_shapes_that_nobody_knows(event):
    assert not API.sound(event)


def test_events_of_the_api_are_sound():
    assert all(API.sound(event) for event in stream_events(*OUTPUT[:3]))
    assert API.sound(response(*OUTPUT))


@pytest.mark.parametrize(
    "event",
    [
        {"type": "response.later.delta", "output_index": 0, "delta": "one two"},
        {"type": "response.later.delta", "output_index": 0, "delta": {"deep": ["one two"]}},
        {"type": "response.later.done", "output_index": 0, "vision": "one two"},
        {"type": "later", "vision": ["one two"]},
        {"type": "response.audio.transcript.delta", "delta": "one two"},
        {"type": "response.audio.delta", "delta": "one two"},
        {
            "type": "response.output_text.annotation.added",
            "annotation": {"type": "url_citation", "title": "one two"},
        },
    ],
)
def test_every_string_of_an_unknown_event(event):
    told = [delta.text for delta in API.deltas(event) if delta.address != ("type",)]
    assert told == ["one two"]


def test_pieces_of_an_unknown_event_join():
    events = [
        {"type": "response.later.delta", "output_index": 1, "later_index": 2, "delta": piece}
        for piece in ("one ", "two")
    ]
    found = [delta for event in events for delta in API.deltas(event)]
    channels = {delta.channel for delta in found if not delta.whole}
    assert len(channels) == 1


@given(st.lists(st.text(min_size=1), min_size=1, max_size=3), st.integers(1, 9))
def test_the_channels_of_a_stream_are_the_texts_of_the_reply(parts, size):
    items = [message(*parts), call('{"q": 1}'), reasoning(*parts, content=parts)]
    joined, repeated = {}, {}
    for event in stream_events(*items, size=size):
        for delta in API.deltas(event):
            if delta.repeats:
                repeated.setdefault(delta.channel, set()).add(delta.text)
            else:
                joined[delta.channel] = joined.get(delta.channel, "") + delta.text
    said = {t.address[1:]: t.content for t in API.reply_texts(response(*items)) if not t.derived}
    assert joined.items() <= {(0, *at): text for at, text in said.items()}.items()
    assert repeated == {(0, *at): {text} for at, text in said.items()}


def test_copies_of_a_text_go_with_it():
    logprob = {"token": "one", "logprob": -0.1, "bytes": [111], "top_logprobs": []}
    part = {**text("one"), "logprobs": [logprob]}
    for holder in (
        response({**message(), "content": [part]}),
        {"type": "response.output_text.delta", "delta": "one", "logprobs": [logprob]},
        {"type": "response.output_item.done", "item": {**message(), "content": [part]}},
    ):
        is_event = "type" in holder
        found = API.deltas(holder) if is_event else API.reply_texts(holder)
        assert [getattr(t, "text", getattr(t, "content", "")) for t in found] == ["one"]
        scrubbed, stripped = copy.deepcopy(holder), copy.deepcopy(holder)
        put_string(scrubbed, found[0].address, "X")
        API.scrub(scrubbed, found[0].address)
        API.strip(stripped)
        assert "-0.1" not in str(scrubbed)
        assert "-0.1" not in str(stripped)


@pytest.mark.parametrize(
    ("finish", "written", "status", "kind"),
    [
        ("stop", False, "completed", "output_text"),
        ("content_filter", False, "completed", "refusal"),
        ("content_filter", True, "incomplete", "output_text"),
    ],
)
def test_answers_made_here_are_responses(finish, written, status, kind):
    context = ReplyContext(id="resp_1a2b", model="m", created=1, written=written)
    answer = API.answer(Reply("No.", finish), context)
    parsed = Response.model_validate(answer)
    assert parsed.status == status
    assert parsed.output[0].content[0].type == kind
    reason = parsed.incomplete_details and parsed.incomplete_details.reason
    assert reason == ("content_filter" if status == "incomplete" else None)
    assert (parsed.usage.input_tokens, parsed.usage.output_tokens) == (0, 0)
