"""Replies of the responses API through the gateway: blocked, redacted, restored, and broken ones."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from gateway_kit import ScriptedUpstream, StartGateway, events
from responses_kit import (
    GUARD,
    MAIL,
    RESTORE,
    answered,
    ask,
    ask_blocked,
    call,
    encoded,
    message,
    raw_stream,
    reasoning,
    refusal,
    response,
    stream,
    stream_events,
    streamed,
    told,
)

# -- blocked replies ------------------------------------------------------------------------------

OUTPUTS = [
    ("a message", message("it is the secret")),
    ("a refusal", message(refusal("it is the secret"))),
    ("a second part", message("Well.", "it is the secret")),
    ("arguments", call('{"q": "the secret"}')),
    ("a name", call("{}", name="secret")),
    ("a summary", reasoning("it is the secret")),
    ("reasoning", reasoning(content=["it is the secret"])),
    (
        "an annotation",
        {
            **message(),
            "content": [
                {
                    "type": "output_text",
                    "text": "See there.",
                    "annotations": [
                        {"type": "url_citation", "title": "a secret", "url": "https://x.y/"}
                    ],
                    "logprobs": [],
                }
            ],
        },
    ),
    ("unknown", {"id": "x1", "type": "prophecy", "vision": ["the secret"]}),
]


@pytest.mark.parametrize("item", [c[1] for c in OUTPUTS], ids=[c[0] for c in OUTPUTS])
def test_no_output_item_hides_a_secret(
    shared_gateway: StartGateway, upstream: ScriptedUpstream, item: Any
) -> None:
    door = shared_gateway(GUARD)
    assert ask_blocked(door, upstream, answered(item))
    upstream.script = streamed(item)
    found = stream(door)
    last = found[-1]
    assert last.type == "response.incomplete"
    assert last.response.incomplete_details.reason == "content_filter"
    shown = str([event.model_dump() for event in found])
    assert ("Withheld." in shown) is not ("Well." in shown)
    assert "secret" not in shown


def test_a_stream_is_cut_in_the_middle(gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    text = "word " * 300 + "and now the secret is told"
    upstream.script = streamed(reasoning("Let me see."), message(text))
    door = gateway(GUARD)
    found = stream(door)
    whole = told(found)
    assert all(len(texts) == 1 for texts in whole.values())
    assert whole["0.0"] == {"Let me see."}
    (shown,) = whole["1.0"]
    assert text.startswith(shown)
    assert 500 < len(shown) < 1500
    assert [event.type for event in found[-4:]] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.incomplete",
    ]
    response = found[-1].response
    assert response.id == found[0].response.id
    assert [item.status for item in response.output][1:] == ["incomplete"]
    record = door.records.next()
    assert (record.action, record.ended, record.exposed_chars) == (
        "block",
        "complete",
        len(shown) + 11,
    )


def test_half_a_call_is_not_given_as_a_whole_one(
    shared_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script = streamed(message("Well."), call('{"q": "' + "word " * 300 + 'the secret"}'))
    found = stream(shared_gateway(GUARD))
    assert "response.function_call_arguments.done" not in [event.type for event in found]
    assert found[-2].type == "response.output_item.done"
    assert found[-2].item.status == "incomplete"
    assert found[-1].response.output[1].status == "incomplete"


def test_a_secret_that_only_a_repetition_tells(
    shared_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    """The pieces are harmless, one of the events that should say the same again is not."""
    for kind in ("output_text.done", "content_part.done", "output_item.done", "completed"):
        told_events = stream_events(message("A heap is a tree."))
        for event in told_events:
            if event["type"] == f"response.{kind}":
                changed = json.dumps(event).replace("A heap is a tree.", "the secret")
                event.clear()
                event.update(json.loads(changed))
        upstream.script = events(*map(encoded, told_events), done=False)
        found = stream(shared_gateway(GUARD))
        assert found[-1].type == "response.incomplete", kind
        assert "secret" not in str([event.model_dump() for event in found])


# -- redacted and restored ------------------------------------------------------------------------

WORDS = "Write to <EMAIL_1>, <EMAIL_1> or bob@example.org. "
SAID = "Write to jane@example.com, jane@example.com or <EMAIL_2>. "


@pytest.mark.parametrize("size", [1, 4, 7, 50, 5000])
@pytest.mark.parametrize("times", [1, 40])
def test_every_telling_of_a_text_is_redacted_and_restored_alike(
    shared_gateway: StartGateway, upstream: ScriptedUpstream, size: int, times: int
) -> None:
    items = [reasoning(WORDS * times), message(WORDS * times, refusal(WORDS))]
    upstream.script = streamed(*items, size=size)
    found = stream(shared_gateway(MAIL), input="I am jane@example.com")
    assert told(found) == {
        "0.0": {SAID * times},
        "1.0": {SAID * times},
        "1.1": {SAID},
    }
    assert "bob@" not in str([event.model_dump() for event in found])
    upstream.script = answered(*items)
    reply = ask(shared_gateway(MAIL), input="I am jane@example.com")
    assert reply.output[0].summary[0].text == SAID * times
    assert reply.output[1].content[1].refusal == SAID
    assert upstream.seen[0].json["input"] == "I am <EMAIL_1>"


@pytest.mark.parametrize("policy", [MAIL, RESTORE], ids=["guarded", "restored only"])
def test_what_is_put_back_into_arguments_stays_json(
    shared_gateway: StartGateway, upstream: ScriptedUpstream, policy: str
) -> None:
    upstream.script = streamed(call('{"to": "<EMAIL_1>", "n": [1, 2]}'))
    found = stream(shared_gateway(policy), input="I am jane@example.com")
    (arguments,) = told(found)["0.None"]
    assert json.loads(arguments) == {"to": "jane@example.com", "n": [1, 2]}


def test_a_text_that_is_only_told_as_a_whole_is_restored(
    shared_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    all_events = stream_events(message(WORDS))
    kept = [e for e in all_events if not e["type"].endswith((".delta", "text.done", "_part.done"))]
    kept = [{**event, "sequence_number": number} for number, event in enumerate(kept)]
    upstream.script = events(*map(encoded, kept), done=False)
    found = stream(shared_gateway(MAIL), input="I am jane@example.com")
    assert told(found) == {"0.0": {SAID}}


# -- failures -------------------------------------------------------------------------------------

EVENTS = stream_events(message("A heap is a tree."))
FAILED = {
    "broken off": EVENTS[:6],
    "before its last event": EVENTS[:-1],
    "an error": [*EVENTS[:6], {"type": "error", "code": "x", "message": "key sk-1", "param": None}],
    "an error in an object": [*EVENTS[:6], {"type": "error", "error": {"message": "key sk-1"}}],
    "failed": [
        *EVENTS[:6],
        {
            "type": "response.failed",
            "response": response(status="failed", error={"code": "x", "message": "key sk-1"}),
        },
    ],
}


@pytest.mark.parametrize("policy", ["", GUARD], ids=["unguarded", "guarded"])
@pytest.mark.parametrize("done", [False, True], ids=["closed", "[DONE]"])
@pytest.mark.parametrize("sent", FAILED.values(), ids=FAILED.keys())
def test_a_stream_without_its_end_is_an_error(
    gateway: StartGateway, upstream: ScriptedUpstream, sent: list[Any], done: bool, policy: str
) -> None:
    upstream.script = events(*map(encoded, sent), done=done)
    door = gateway(policy)
    found: list[Any] = []
    with pytest.raises(openai.APIError):
        found.extend(ask(door, stream=True))
    wire = raw_stream(door)
    if wire:  # else it failed before anything had left, with a status
        name, last = wire[-1]
        assert (name, last["type"]) == ("error", "error")
        assert last["code"] == "upstream_invalid_response"
        numbers = [event["sequence_number"] for _, event in wire]
        assert numbers == list(range(len(wire)))
    assert "sk-1" not in str(wire)
    assert "response.completed" not in [name for name, _ in wire]
    assert door.records.next().ended == "upstream_invalid_response"
