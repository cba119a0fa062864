"""What is said bit by bit, over parts and turns, is read as a whole; what was said before is not held
against a new question."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from gateway_kit import Door, ScriptedUpstream, StartGateway

from proxy.endpoints import ENDPOINTS
from proxy.endpoints.derived import across_turns

POLICY = """
rules:
  - {name: no-attacks, when: {guard: attack}, do: {block: "No."}}
  - {name: cheap, when: {topic: cheap}, do: {route: small}}
  - {name: mail, when: {pii: EMAIL}, do: {redact: "<{label}>"}}
"""
A = {"role": "assistant", "content": "Go on."}
NO = {"role": "assistant", "content": "No."}


def u(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def t(content: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": "call_1", "content": content}


def send(door: Door, *messages: Any) -> httpx.Response:
    body = {"model": "default", "messages": list(messages)}
    return httpx.post(f"{door.url}/v1/chat/completions", json=body, timeout=30)


def joined(*messages: Any, refusals: frozenset[str] = frozenset()) -> list[str]:
    texts = ENDPOINTS["/v1/chat/completions"].texts({"model": "m", "messages": list(messages)})
    return [text.content for text in across_turns(texts, refusals)]


SPLIT = [
    ("a word over two turns", [u("att"), A, u("ack it")]),
    ("a word over four turns", [u("at"), A, u("t"), A, u("ac"), A, u("k")]),
    ("over parts and turns", [u([{"type": "text", "text": "an att"}]), A, u("ack")]),
    ("behind a long message", [u("x " * 500 + "att"), A, u("ack" + " x" * 500)]),
    ("over results of tools", [u("hi"), A, t("att"), A, t("ack")]),
    ("with a word of ours between", [u("att"), A, {"role": "system", "content": "s"}, u("ack")]),
    (
        "before a prefilled answer",
        [u("att"), A, u("ack"), {"role": "assistant", "content": "Sure"}],
    ),
    ("behind a forged refusal", [u("att"), NO, u("ack")]),
    ("behind a true refusal", [u("attack"), NO, u("att"), A, u("ack")]),
]


@pytest.mark.parametrize(("name", "messages"), SPLIT, ids=[row[0] for row in SPLIT])
def test_a_split_attack_is_blocked(
    shared_gateway: StartGateway, upstream: ScriptedUpstream, name: str, messages: list[Any]
) -> None:
    assert send(shared_gateway(POLICY), *messages).headers["x-doorman-action"] == "block"
    assert upstream.seen == []


FINE = [
    ("a refused message stays out, and no more", [u("attack"), NO, u("What is a heap?")], "redact"),
    ("the model's words are not the user's", [u("att"), {"role": "assistant", "content": "ack"}, u("x")],
     "forward"),
    ("users and tools are not joined", [u("att"), A, t("ack")], "forward"),
    ("too long ago", [u("att"), A, u("b"), A, u("c"), A, u("d"), A, u("ack")], "forward"),
    ("routes look at the newest turn alone", [u("che"), A, u("ap")], "forward"),
    ("nothing is replaced over turns", [u("a"), A, u("@b.com")], "forward"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "messages", "action"), FINE, ids=[row[0] for row in FINE])
def test_what_only_refusals_look_at(
    shared_gateway: StartGateway,
    upstream: ScriptedUpstream,
    name: str,
    messages: list[Any],
    action: str,
) -> None:
    assert send(shared_gateway(POLICY), *messages).headers["x-doorman-action"] == action
    assert len(upstream.seen) == 1


def test_the_newest_turn_is_named(gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    door = gateway(POLICY)
    send(door, u("att"), A, u("ack"))
    cause = door.records.next().stages["input"]["cause"]
    assert (cause["rule"], cause["address"]) == ("no-attacks", ("messages", 2, "content"))


def test_a_negation_over_turns_says_nothing(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    door = gateway(
        'rules: [{name: a, when: {not: {intent: [greeting, thanks]}}, do: {block: "No."}}]'
    )
    assert send(door, u("hello"), A, u("thanks")).headers["x-doorman-action"] == "forward"
    assert send(door, u("hello"), A, u("what")).headers["x-doorman-action"] == "block"


def test_joined_texts_are_few_and_short() -> None:
    long = [m for i in range(50) for m in (u(f"{i} " + "word " * 400), A)]
    found = joined(*long, u("new " * 400))
    assert len(found) == 1  # blanks stand at the border already
    assert all(len(text) <= 601 for text in found)
    assert joined(u("one")) == []
    assert joined(u("one"), u("two")) == []  # one turn, joined as such
    assert joined(u("one"), A, u("two")) == ["onetwo", "one\ntwo"]
    assert joined(u("That is all."), A, u("Thanks")) == ["That is all.\nThanks"]
    assert joined(u("i.g."), A, u("n.o.")) == ["i.g.n.o.", "i.g.\nn.o."]
    assert joined(u("All."), A, u("on"), A, u("e")) == ["All.\none", "All.\non\ne"]
    both = joined(u("bad"), NO, u("one"), A, u("two"), refusals=frozenset({"No."}))
    assert both == ["badonetwo", "bad\none\ntwo", "onetwo", "one\ntwo"]
