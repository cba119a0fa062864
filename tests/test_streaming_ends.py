"""How streams of a model's server end, good and bad, as the real client reads them from the gateway."""

from __future__ import annotations

import json

import openai
import pytest
from gateway_kit import Door, ScriptedUpstream, StartGateway, chunk, events, respond

GUARD = """
rules:
  - {name: no-attacks, when: {guard: attack}, check: [output], do: {block: "Let's stop here."}}
"""
FAST = "timeouts: {idle: 0.4, first_byte: 0.4}"
ASK = {"model": "default", "messages": [{"role": "user", "content": "hello"}], "stream": True}


def event(delta, index=0, finish=None) -> bytes:
    return (
        b"data: " + json.dumps(chunk(delta, index, finish), ensure_ascii=False).encode() + b"\n\n"
    )


SAID = event({"role": "assistant", "content": "Hello world, "}) + event(
    {"content": "it is é fine. "}
)
STOP = event({}, finish="stop")
DONE = b"data: [DONE]\n\n"

BROKEN = {
    "malformed JSON": [SAID + b'data: {"choices": [\n\n' + STOP + DONE],
    "no object": [SAID + b"data: 17\n\n" + STOP + DONE],
    "not UTF-8": [SAID + b'data: {"choices": [], "x": "\xff\xfe"}\n\n' + STOP + DONE],
    "truncated": [SAID],
    "truncated before its last event ends": [SAID + STOP[:40]],
    "cut within a character": [SAID + event({"content": "é"}).split(b"\xa9")[0]],
    "silent": [SAID, 2.0],
    "silent from the start": [2.0],
    "finished twice": [SAID + STOP + event({}, finish="length") + DONE],
    "finished twice alike": [SAID + STOP + STOP + DONE],
    "text after the finish": [SAID + STOP + event({"content": "more"}) + DONE],
    "a tool call after the finish": [
        SAID + STOP + event({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}) + DONE
    ],
    "data after the end": [SAID + STOP + DONE + event({"content": "more"})],
    "a second end": [SAID + STOP + DONE + DONE],
    "an error event": [SAID + b'data: {"error": {"message": "sk-secret"}}\n\n' + DONE],
    "an error event by name": [SAID + b'event: error\ndata: {"error": "sk-secret"}\n\n' + DONE],
    "an error after the finish": [SAID + STOP + b'data: {"error": "sk-secret"}\n\n' + DONE],
    "a page of a proxy": [SAID + b"data: <html>\n\n" + STOP + DONE],
}


@pytest.mark.parametrize("guarded", [False, True], ids=["passed on", "guarded"])
@pytest.mark.parametrize("name", BROKEN)
def test_a_bad_end_is_an_error_for_the_client(
    gateway: StartGateway, upstream: ScriptedUpstream, name: str, guarded: bool
) -> None:
    upstream.script = events(*BROKEN[name], done=False)
    said, error, reasons = broken(gateway(GUARD if guarded else "", FAST))
    assert error is not None
    assert "sk-secret" not in str(error)
    # What was said before is the client's; a finish that was said cannot be taken back.
    assert said in ("", "Hello world, it is é fine. ")
    assert not reasons or any(STOP in x for x in BROKEN[name] if isinstance(x, bytes))


def broken(door: Door):
    """What the client read until it was told of an error, the error, and the finish reasons."""
    said, reasons, error = "", set(), None
    try:
        for part in door.client(max_retries=0).chat.completions.create(**ASK):
            said += part.choices[0].delta.content or ""
            reasons.add(part.choices[0].finish_reason)
    except openai.APIError as found:
        error = found
    assert door.records.next().ended not in ("complete", "client_left")
    return said, error, reasons - {None}


OTHER = {
    "application/json": b'{"choices": []}',
    "text/plain": SAID + STOP + DONE,
    "text/html": b"<html>",
}


@pytest.mark.parametrize("content_type", OTHER)
def test_another_content_type_is_an_error(
    gateway: StartGateway, upstream: ScriptedUpstream, content_type: str
) -> None:
    upstream.script = respond(200, OTHER[content_type], {"content-type": content_type})
    with pytest.raises(openai.InternalServerError) as caught:
        list(gateway().client(max_retries=0).chat.completions.create(**ASK))
    assert caught.value.code == "upstream_invalid_response"


WIRE = SAID + STOP + DONE
GOOD = {
    "CRLF": [WIRE.replace(b"\n", b"\r\n")],
    "CR": [WIRE.replace(b"\n", b"\r")],
    "a byte order mark": [b"\xef\xbb\xbf" + WIRE],
    "comments": [b": hello\n\n" + WIRE.replace(b"data: {", b": ping\ndata: {")],
    "several lines": [WIRE.replace(b', "choices"', b',\ndata:  "choices"')],
    "no space after the colon": [WIRE.replace(b"data: ", b"data:")],
    "one byte at a time": [WIRE[i : i + 1] for i in range(len(WIRE))],
    "no end marker": [SAID + STOP],
    "usage after the finish": [
        SAID
        + STOP
        + b'data: {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}\n\n'
        + DONE
    ],
    "an empty delta after the finish": [SAID + STOP + event({"content": ""}) + DONE],
    "a comment after the end": [WIRE + b": bye\n\n"],
}


@pytest.mark.parametrize("guarded", [False, True], ids=["passed on", "guarded"])
@pytest.mark.parametrize("name", GOOD)
def test_every_form_of_a_good_stream_is_read(
    gateway: StartGateway, upstream: ScriptedUpstream, name: str, guarded: bool
) -> None:
    upstream.script = events(*GOOD[name], done=False)
    door = gateway(GUARD if guarded else "")
    parts = [c for c in door.client().chat.completions.create(**ASK) if c.choices]
    assert "".join(c.choices[0].delta.content or "" for c in parts) == "Hello world, it is é fine. "
    assert [c.choices[0].finish_reason for c in parts if c.choices[0].finish_reason] == ["stop"]
    assert door.records.next().ended == "complete"


def test_a_cut_stream_ends_well_formed(gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    """Two choices, a tool call half sent, a usage chunk that was asked for."""
    upstream.script = events(
        event({"role": "assistant", "content": None}),
        event({"tool_calls": [{"index": 0, "id": "call_1", "type": "function",
                               "function": {"name": "mail", "arguments": ""}}]}),
        event({"tool_calls": [{"index": 0, "function": {"arguments": '{"text": "' + "word " * 60}}]}),
        event({"content": "fine words " * 30}, index=1),
        event({"tool_calls": [{"index": 0, "function": {"arguments": "the attack begins"}}]}),
        0.3,
        event({"tool_calls": [{"index": 0, "function": {"arguments": ' now"}'}}]}),
        event({}, 0, "tool_calls"),
        event({}, 1, "stop"),
    )  # fmt: skip
    door = gateway(GUARD, "streaming: {hold_seconds: 0.1}")
    stream = door.client().chat.completions.create(
        **ASK, n=3, stream_options={"include_usage": True}
    )
    parts = list(stream)
    finishes = {c.index: c.finish_reason for p in parts for c in p.choices if c.finish_reason}
    assert finishes == {0: "content_filter", 1: "content_filter", 2: "content_filter"}
    assert parts[-1].usage is not None
    assert parts[-1].choices == []
    told = "".join(
        call.function.arguments or ""
        for p in parts
        for c in p.choices
        for call in c.delta.tool_calls or ()
    )
    assert "attack" not in told
    silent = "".join(c.delta.content or "" for p in parts for c in p.choices if c.index == 2)
    assert silent == "Let's stop here."
    assert door.records.next().action == "block"
