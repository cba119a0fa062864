"""What no classifier can read is stopped or let through as the policy says, and never said to have passed."""

from __future__ import annotations

from typing import Any

import httpx
import orjson
import pytest
from gateway_kit import Door, ScriptedUpstream, StartGateway, chunk, completion, events, reply_body
from gateway_kit import respond as reply_with

IN = 'rules: [{name: a, when: {guard: attack}, do: {block: "No."}}]'
OUT = 'rules: [{name: o, when: {guard: secret}, check: [output], do: {block: "No."}}]'
ROUTES = "rules: [{name: r, when: {topic: cheap}, do: {route: small}}]"
SHADOW = 'rules: [{name: a, mode: shadow, when: {guard: attack}, do: {block: "No."}}]'
ALLOW = "on_unscannable: allow\n"
PNG = "data:image/png;base64,iVBORw0KGgoAAA=="


def part(**fields: Any) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "x", **fields}, {"type": "text", "text": "hi"}]}


UNREAD: dict[str, tuple[dict[str, Any], str]] = {
    "an image": (part(image_url={"url": PNG}), "image_url.url"),
    "a link": (part(image_url={"url": "https://x.y/z.png"}), "image_url.url"),
    "audio": (part(input_audio={"data": "UklGRiQA/w==", "format": "wav"}), "input_audio.data"),
    "a stored file": (part(file={"file_id": "file-1"}), "file.file_id"),
    "a binary file": (part(file={"file_data": "JVBERi0xLjcK/w=="}), "file.file_data"),
    "encrypted text": (part(encrypted_content="gAAAAABo7wZz"), "encrypted_content"),
}


def send(door: Door, *messages: Any, **fields: Any) -> httpx.Response:
    body = {"model": "default", "messages": list(messages), **fields}
    return httpx.post(f"{door.url}/v1/chat/completions", json=body, timeout=30)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("case", UNREAD)
def test_it_is_stopped_by_default(
    gateway: StartGateway, upstream: ScriptedUpstream, case: str, stream: bool
) -> None:
    message, where = UNREAD[case]
    door = gateway(IN)
    response = send(door, message, stream=stream)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, "unscannable_content")
    assert error["doorman"]["policy"] == "test@1"
    assert error["doorman"]["rule"] is None
    assert response.headers["x-doorman-action"] == "block"
    assert response.headers["x-doorman-policy"] == "test@1"
    assert response.headers["x-doorman-unscanned"] == "1"
    assert upstream.seen == []
    record = door.records.next()
    assert record.unscanned == (f"messages.0.content.0.{where}",)
    assert record.stages["input"]["unscannable"] == {"policy": "test@1", "parts": 1}
    assert record.stages["input"]["cause"] is None
    assert record.stages["input"]["fired"] == []
    assert b"passed" not in orjson.dumps(record)
    metrics = door.app.state.gateway.metrics.text()
    assert b'action="block",policy="test@1",rule="on_unscannable"} 1.0' in metrics


@pytest.mark.parametrize("rules", [ALLOW + IN, OUT, ROUTES, SHADOW])
def test_it_goes_on_where_no_policy_keeps_it_out(
    gateway: StartGateway, upstream: ScriptedUpstream, rules: str
) -> None:
    door = gateway(rules)
    message = UNREAD["an image"][0]
    response = send(door, message)
    assert response.status_code == 200
    assert response.headers["x-doorman-unscanned"] == "1"
    assert upstream.seen[0].json["messages"] == [message]
    record = door.records.next()
    assert record.unscanned == ("messages.0.content.0.image_url.url",)
    assert record.stages["input"]["unscannable"] is None


def test_a_find_is_named_before_what_could_not_be_read(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    door = gateway(IN)
    response = send(door, UNREAD["an image"][0], {"role": "user", "content": "attack"})
    assert response.json()["choices"][0]["message"]["content"] == "No."
    assert door.records.next().stages["input"]["cause"]["rule"] == "a"


def test_a_text_file_is_read_and_not_reported(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    door = gateway(IN)
    fine = part(file={"filename": "a.txt", "file_data": "data:text/plain;base64,aGVsbG8gdGhlcmU="})
    assert "x-doorman-unscanned" not in send(door, fine).headers
    bad = part(file={"filename": "a.txt", "file_data": "YW4gYXR0YWNrIGhlcmU="})
    assert send(door, bad).headers["x-doorman-action"] == "block"
    assert len(upstream.seen) == 1


IMAGE = {"role": "assistant", "content": "look", "images": [{"image_url": {"url": PNG}}]}
AUDIO = {"role": "assistant", "audio": {"id": "a", "data": "UklGRiQA/w==", "transcript": "hi"}}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("message", [IMAGE, AUDIO], ids=["image", "audio"])
def test_a_reply_that_cannot_be_read(
    gateway: StartGateway, upstream: ScriptedUpstream, message: dict[str, Any], stream: bool
) -> None:
    whole = reply_body(choices=[{"index": 0, "message": message, "finish_reason": "stop"}])
    script = events(chunk(message), chunk({}, finish="stop")) if stream else reply_with(200, whole)
    ask = {"role": "user", "content": "draw"}
    upstream.script = script
    door = gateway(OUT)
    response = send(door, ask, stream=stream)
    assert "iVBOR" not in response.text
    assert "UklGR" not in response.text
    record = door.records.next()
    assert record.action == "block"
    assert record.stages["output"]["unscannable"] == {"policy": "test@1", "parts": 1}
    assert [where.split(".")[0] for where in record.unscanned] == ["reply"]
    for rules in (ALLOW + OUT, IN):
        door = gateway(rules)
        response = send(door, ask, stream=stream)
        assert "iVBOR" in response.text or "UklGR" in response.text
        assert door.records.next().unscanned == record.unscanned


def test_a_citation_is_no_picture(gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    link = {"type": "url_citation", "url_citation": {"url": "https://x.y"}}
    message = {"role": "assistant", "content": "see", "annotations": [link]}
    upstream.script = completion("x")
    upstream.script = reply_with(200, reply_body(choices=[{"index": 0, "message": message}]))
    response = send(gateway(OUT), {"role": "user", "content": "hi"})
    assert response.status_code == 200
    assert "x-doorman-unscanned" not in response.headers
