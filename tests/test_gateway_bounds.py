"""What is hostile, broken or slow is bounded, and its record says what happened."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from gateway_kit import (
    WAIT,
    Door,
    ScriptedUpstream,
    StartGateway,
    WordClassifier,
    chunk,
    completion,
    events,
    reply_body,
    respond,
    sleeping,
    word_classifiers,
    words,
)

from classifiers.heads import TokenShare
from classifiers.types import Batch, Prediction, Text
from policies.decision import Decision
from proxy import pipeline, routes
from proxy.endpoints import ENDPOINTS
from proxy.endpoints.base import ReplyContext
from proxy.gateway import MAX_EXPLAINING
from proxy.local import MAX_EXPLAIN_CHARS
from proxy.prices import Prices
from proxy.sse import DONE, Event, encode, parse_event
from proxy.stream_pace import Pace
from proxy.streaming import guarded, merged

GUARD = 'rules: [{name: guard, when: {guard: attack}, do: {block: "No."}}]'
LEAKS = 'rules: [{name: leaks, when: {guard: secret}, check: [output], do: {block: "No."}}]'
ASK = {"model": "default", "messages": [{"role": "user", "content": "What is a heap?"}]}


def post(door: Door, body: Any, path: str = "/v1/chat/completions") -> httpx.Response:
    return httpx.post(f"{door.url}{path}", json=body, timeout=WAIT)


def wait_for(holds: Any) -> None:
    limit = time.monotonic() + WAIT
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.005)


@dataclass(frozen=True)
class Gate(WordClassifier):
    """Says what it did, and does not go on with a text with ``wait`` before it is let."""

    go: threading.Event = field(default_factory=threading.Event)
    begun: list[str] = field(default_factory=list)
    together: list[int] = field(default_factory=list)
    lock: Any = field(default_factory=threading.Lock)

    def predict(self, batch: Batch) -> list[tuple[Prediction, ...]]:
        if any("wait" in text for text in batch.texts):
            self.begun.extend(batch.texts)
            self.go.wait(WAIT)
        return super().predict(batch)

    def explain(self, text: str, label: str) -> Sequence[TokenShare]:
        assert self.lock.acquire(blocking=False), "two explanations at once"
        self.begun.append(text)
        self.go.wait(WAIT)
        self.lock.release()
        return [TokenShare("attack", 0, 6, 1.0)]


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate("guard", {"attack": r"\battack\b", "secret": r"\bsecret\b"})
    yield gate
    gate.go.set()


def with_gate(gate: Gate) -> dict[str, Any]:
    return {"classifiers": [c for c in word_classifiers() if c.name != "guard"] + [gate]}


# -- sizes ----------------------------------------------------------------------------------------


def test_a_request_of_many_small_parts_is_refused(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    door = gateway(GUARD)
    parts = [{"type": "text", "text": "x"}] * 10_001
    body = {**ASK, "messages": [{"role": "user", "content": parts}]}
    answer = post(door, body)
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "request_too_large"
    assert "limits.max_texts" in answer.json()["error"]["message"]
    assert upstream.seen == []
    body["messages"][0]["content"] = parts[:9000]
    assert post(door, body).status_code == 200
    record = door.records.next()
    assert record.texts == 9000
    assert len(record.content) < 1000


def test_a_large_body_is_read_off_the_event_loop(
    gateway: StartGateway, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = gateway(GUARD)
    threads: dict[str, list[str]] = {"parse": [], "read": []}
    parse, read = routes.parse, pipeline._read

    def seen_parse(*args: Any) -> Any:
        threads["parse"].append(threading.current_thread().name)
        return parse(*args)

    def seen_read(*args: Any) -> None:
        threads["read"].append(threading.current_thread().name)
        read(*args)

    monkeypatch.setattr(routes, "parse", seen_parse)
    monkeypatch.setattr(pipeline, "_read", seen_read)
    post(door, ASK)
    small = {"role": "user", "content": "x " * 10}
    post(door, {**ASK, "messages": [small] * 2500})
    assert [name.startswith("large-body") for name in threads["parse"]] == [False, True]
    assert [name.startswith("large-body") for name in threads["read"]] == [False, True]


def test_a_large_body_that_is_blocked_or_redacted_is_so_as_a_small_one(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    rules = GUARD[:-1] + ', {name: hide, when: {pii: EMAIL}, do: {redact: {as: "<{label}>"}}}]'
    door = gateway(rules)
    many = [{"role": "user", "content": f"x {i} ann@example.com"} for i in range(2500)]
    assert post(door, {**ASK, "messages": many}).status_code == 200
    assert b"example.com" not in upstream.seen[0].raw
    assert len(upstream.seen[0].json["messages"]) == 2500
    many[1700]["content"] = "attack"
    answer = post(door, {**ASK, "messages": many})
    assert answer.json()["choices"][0]["message"]["content"] == "No."


# -- time -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rules", [GUARD])
def test_waiting_for_the_classifiers_ends(
    gateway: StartGateway, upstream: ScriptedUpstream, gate: Gate, rules: str
) -> None:
    door = gateway(rules, "limits: {classify_seconds: 0.2}", **with_gate(gate))
    body = {**ASK, "messages": [{"role": "user", "content": "wait for me"}]}
    answer = post(door, body)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "classify_timeout"
    assert "limits.classify_seconds" in answer.json()["error"]["message"]
    record = door.records.next()
    assert (record.action, record.status, record.ended) == ("error", 503, "classify_timeout")
    assert upstream.seen == []


# -- explanations ---------------------------------------------------------------------------------


def test_explanations_wait_in_a_line_that_ends(gateway: StartGateway, gate: Gate) -> None:
    door = gateway("", **with_gate(gate))

    def explain(number: int) -> int:
        body = {"input": f"attack {number}", "classifiers": ["guard"], "explain": True}
        return post(door, body, "/v1/classify").status_code

    held = door.app.state.gateway
    with ThreadPoolExecutor(MAX_EXPLAINING) as pool:
        waiting = [pool.submit(explain, number) for number in range(MAX_EXPLAINING)]
        wait_for(lambda: held._explaining == MAX_EXPLAINING)
        assert explain(99) == 503
        assert len(gate.begun) == 1
        gate.go.set()
        assert [future.result(WAIT) for future in waiting] == [200] * MAX_EXPLAINING
    assert len(gate.begun) == MAX_EXPLAINING
    assert explain(100) == 200


def test_a_caller_that_leaves_gives_up_its_place_in_the_line(
    gateway: StartGateway, gate: Gate
) -> None:
    door = gateway("", **with_gate(gate))
    for number in range(3):
        body = {"input": f"attack {number}", "classifiers": ["guard"], "explain": True}
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{door.url}/v1/classify", json=body, timeout=0.3)
    wait_for(lambda: door.app.state.gateway._explaining == 0)
    gate.go.set()
    body = {"input": "attack again", "classifiers": ["guard"], "explain": True}
    assert post(door, body, "/v1/classify").status_code == 200
    assert gate.begun == ["attack 0", "attack again"]


def test_what_is_too_long_is_not_explained(gateway: StartGateway) -> None:
    door = gateway("")
    texts = ["attack " + "x" * (MAX_EXPLAIN_CHARS // 2)] * 2
    answer = post(door, {"input": texts, "explain": True}, "/v1/classify")
    assert answer.status_code == 413
    assert str(MAX_EXPLAIN_CHARS) in answer.json()["error"]["message"]
    assert post(door, {"input": texts}, "/v1/classify").status_code == 200


# -- what upstream counts -------------------------------------------------------------------------

ODD_USAGE = [
    {"prompt_tokens": -5, "completion_tokens": 3},
    {"prompt_tokens": 5, "completion_tokens": -3},
    {"prompt_tokens": True, "completion_tokens": 3},
    {"prompt_tokens": 5, "completion_tokens": "many"},
    {"prompt_tokens": 1.5},
]


@pytest.mark.parametrize("usage", ODD_USAGE)
def test_counts_that_are_none_are_estimated(
    gateway: StartGateway, upstream: ScriptedUpstream, usage: dict[str, Any]
) -> None:
    upstream.script = completion("fine", usage=usage)
    door = gateway(GUARD)
    assert post(door, ASK).status_code == 200
    record = door.records.next()
    assert record.tokens is not None
    assert record.tokens.basis == "estimated"
    assert record.cost_usd is not None
    assert record.cost_usd > 0


def test_a_negative_number_of_tokens_has_no_price() -> None:
    prices = Prices.load()
    assert prices.cost("gpt-4o", -1, 5) is None
    assert prices.cost("gpt-4o", 1, -5) is None
    assert prices.cost("gpt-4o", 0, 0) == 0.0


class BrokenPrices(Prices):
    def cost(self, price_key: str, prompt_tokens: int, completion_tokens: int) -> float | None:
        raise ArithmeticError("no prices today")


def test_a_request_is_answered_and_recorded_whatever_its_accounting_does(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    door = gateway(GUARD)
    door.app.state.gateway.accounts._prices = BrokenPrices({})
    upstream.script = respond(200, reply_body("fine"))
    blocked = {**ASK, "messages": [{"role": "user", "content": "attack"}]}
    for body, statuses in ((ASK, (200,)), (blocked, (500,))):
        answer = post(door, body)
        record = door.records.next()
        assert answer.status_code in statuses
        assert record.status == answer.status_code
        assert record.request_id == answer.headers["x-request-id"]


# -- clients that leave ---------------------------------------------------------------------------


def leave(door: Door, body: Any) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{door.url}/v1/chat/completions", json=body, timeout=0.3)


def test_a_client_that_leaves_before_a_decision(gateway: StartGateway, gate: Gate) -> None:
    door = gateway(GUARD, **with_gate(gate))
    leave(door, {**ASK, "messages": [{"role": "user", "content": "wait for me"}]})
    record = door.records.next()
    assert (record.action, record.status, record.ended) == ("none", 499, "client_left")


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_while_the_reply_is_checked(
    gateway: StartGateway, upstream: ScriptedUpstream, gate: Gate, stream: bool
) -> None:
    upstream.script = words("wait ", "for me") if stream else completion("wait for me")
    door = gateway(LEAKS, **with_gate(gate))
    leave(door, {**ASK, "stream": stream})
    record = door.records.next()
    assert (record.action, record.status, record.ended) == ("forward", 499, "client_left")
    assert record.upstream_status == 200


def test_a_client_that_leaves_while_upstream_thinks(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script = sleeping(WAIT * 2)
    door = gateway(GUARD)
    leave(door, ASK)
    assert (door.records.next().action, upstream.gone.get(timeout=WAIT)) == ("forward", "left")


# -- replies that are blocked ---------------------------------------------------------------------

SAYS_SO = LEAKS.replace('{block: "No."}', '{block: {message: "No.", as: error}}')


def test_a_blocked_reply_says_what_was_billed(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script = completion("the secret is 42")
    usage = post(gateway(LEAKS), ASK).json()["usage"]
    assert usage == {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}


def test_a_stream_that_is_blocked_with_an_error_has_its_status(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    # The role comes well before any text that could be checked.
    upstream.script = events(
        chunk({"role": "assistant", "content": ""}),
        0.2,
        chunk({"content": "the secret is 42"}),
        chunk({}, finish="stop"),
    )
    door = gateway(SAYS_SO, "streaming: {hold_seconds: 0.05}")
    answer = post(door, {**ASK, "stream": True})
    assert answer.status_code == 400
    assert answer.headers["x-should-retry"] == "false"
    assert answer.json()["error"]["code"] == "content_filter"
    record = door.records.next()
    assert (record.action, record.status, record.upstream_called) == ("block", 400, True)
    assert record.exposed_chars == 0


def test_a_stream_whose_upstream_fails_after_the_role_has_a_status(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script = events(chunk({"role": "assistant", "content": ""}), done=False)
    answer = post(gateway(SAYS_SO), {**ASK, "stream": True})
    assert answer.status_code == 502


def test_the_cut_of_a_stream_goes_on_as_it_began(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script = words(*["harmless word "] * 60, "the secret is 42")
    door = gateway(LEAKS)
    answer = post(door, {**ASK, "stream": True})
    sent = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    assert sent[-1]["choices"][0]["finish_reason"] == "content_filter"
    assert {(e["id"], e["model"], e["created"]) for e in sent} == {
        ("chatcmpl-upstream", "upstream-model", 1)
    }
    assert sum("role" in e["choices"][0]["delta"] for e in sent) == 1


# -- accounts -------------------------------------------------------------------------------------


def test_a_route_to_a_dearer_model_is_counted_as_that(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    rules = "rules: [{name: up, when: {topic: cheap}, do: {route: default}}]"
    door = gateway(rules)
    cheap = {"model": "small", "messages": [{"role": "user", "content": "a cheap one"}]}
    assert post(door, cheap).status_code == 200
    saved = door.records.next().saved_usd
    assert saved is not None
    assert saved < 0
    lines = door.app.state.gateway.metrics.text().decode().splitlines()
    counted = dict(line.rsplit(" ", 1) for line in lines if line.startswith("doorman_"))
    assert float(counted["doorman_extra_usd_total"]) == pytest.approx(-saved)
    assert float(counted["doorman_saved_usd_total"]) == 0.0


def test_a_name_does_not_make_a_question_of_a_greeting(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    rules = """rules:
  - {name: guard, when: {guard: attack}, do: {block: "No."}}
  - {name: hi, when: {intent: greeting}, do: {answer: "Hello!"}}
"""
    door = gateway(rules)
    for name, said in (("alice", "Hello!"), ("josé", "Hello!"), ("attack", "No."), ("a b", "ok")):
        message = {"role": "user", "name": name, "content": "hello"}
        answer = post(door, {**ASK, "messages": [message]}).json()
        assert answer["choices"][0]["message"]["content"] == said, name


def test_a_caller_without_a_key_matches_no_name(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    body = {**ASK, "messages": [{"role": "user", "content": "attack"}]}
    for attach, said in (("anonymous", "ok"), ("?*", "ok"), ("*", "No.")):
        door = gateway(f'attach: {{keys: ["{attach}"]}}\n{GUARD}')
        answer = post(door, body).json()
        assert answer["choices"][0]["message"]["content"] == said, attach
        assert door.records.next().key is None


async def test_the_head_of_a_stream_waits_for_text_but_not_for_ever() -> None:
    role = parse_event(b"", encode(chunk({"role": "assistant", "content": ""})))
    said = chunk({"content": "word"}, finish="stop")

    async def upstream_events() -> AsyncIterator[Event]:
        yield Event(role.data, chunk({"role": "assistant", "content": ""}), False, role.raw)
        await asyncio.sleep(0.3)
        yield Event(b"x", said, False, encode(said))
        yield parse_event(b"[DONE]", DONE)

    async def allow(_: Sequence[Text]) -> Decision:
        return Decision("output")

    for head_seconds, pieces in ((0.0, 2), (0.05, 2), (30.0, 1)):
        stream = guarded(
            upstream_events(),
            ENDPOINTS["/v1/chat/completions"],
            allow,
            ReplyContext("id", "m", 1),
            Pace(10, 0, head_seconds=head_seconds),
        )
        sent = [piece async for piece in stream]
        assert b"".join(sent) == role.raw + encode(said) + DONE
        assert sent[0].startswith(role.raw)
        assert len(sent) - (DONE in sent) == pieces, head_seconds


def test_a_certain_block_of_a_stream_outranks_a_failed_check() -> None:
    block, failed = Decision("output", "block"), Decision("output", "error")
    assert merged(failed, block).outcome == merged(block, failed).outcome == "block"
