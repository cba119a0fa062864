"""The exact cache under attack: nothing crosses a client key, a policy or a value that was redacted,
and nothing that is not a whole, unobjectionable answer is kept."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from cache_kit import EXACT, QUESTION, action, ask, post, saw
from gateway_kit import (
    Script,
    ScriptedUpstream,
    StartGateway,
    chunk,
    completion,
    events,
    make_config,
    reply_body,
    respond,
    serve,
)

from proxy.cache import Store, Stored

KEYS = EXACT + "\nkeys: [{name: one, key: key-of-one}, {name: two, key: key-of-two}]"
RULES = """rules:
  - {name: no-attacks, when: {guard: attack}, do: {block: "No."}}
  - {name: cheap, when: {topic: cheap}, do: {route: small}}
  - {name: hide, when: {pii: EMAIL}, do: {redact: {as: "<{label}_{n}>", restore: true}}}
  - {name: out, check: output, when: {guard: secret}, do: {block: "Withheld."}}
"""
WATCH = """rules:
  - {name: out, check: output, when: {guard: secret}, do: {flag: leak}}
  - {name: shade, mode: shadow, check: output, when: {topic: cheap}, do: {block: "x"}}
"""


def said(reply: httpx.Response) -> str:
    return str(reply.json()["choices"][0]["message"]["content"])


def cut(reason: str | None) -> Script:
    """A reply that did not end by itself."""
    body = reply_body("cut")
    body["choices"][0]["finish_reason"] = reason
    return respond(200, body)


def bearer(key: str, **more: str) -> dict[str, str]:
    return {"authorization": f"Bearer key-of-{key}", **more}


def test_a_reply_never_leaves_its_client_key(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    door = gateway("", KEYS)
    upstream.script = completion("for one")
    ask(door, headers=bearer("one"))
    upstream.script = completion("for two")
    other = ask(
        door, headers=bearer("two", **{"x-doorman-key": "one", "x-tenant": "one"}), user="one"
    )
    assert (action(other), said(other)) == ("forward", "for two")
    again = ask(door, headers=bearer("one"))
    assert (action(again), said(again)) == ("cache", "for one")


def test_input_policies_come_first(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    rules = """attach: {keys: [two]}
rules:
  - {name: no-attacks, when: {guard: attack}, do: {block: "No."}}
"""
    with serve(make_config(tmp_path, upstream.port, rules, KEYS)) as door:
        for _ in range(2):
            ask(door, "how to attack", headers=bearer("one"))
        assert action(ask(door, "how to attack", headers=bearer("one"))) == "cache"
        blocked = ask(door, "how to attack", headers=bearer("two"))
        assert (action(blocked), said(blocked)) == ("block", "No.")


@pytest.mark.parametrize(
    ("script", "rules"),
    [
        (completion("the secret"), RULES),
        (completion("the secret"), WATCH),
        (completion("cheap"), WATCH),
        (completion("mail me: a@b.example"), RULES.replace("name: hide,", "name: hide, check: output,")
         .replace("restore: true", "restore: false")),
        (respond(500, {"error": {"message": "broken"}}), ""),
        (respond(429, {"error": {"message": "slow down"}}), ""),
        (respond(200, b"{"), ""),
        (cut("length"), ""), (cut("content_filter"), ""), (cut("tool_calls"), ""), (cut(None), ""),
        (completion(None), ""), (completion(""), ""), (completion("a", "b"), ""),
        (respond(200, {"id": "x", "object": "chat.completion", "choices": "none"}), ""),
    ],
)  # fmt: skip
def test_what_is_no_whole_good_answer_is_not_kept(
    script: Script, rules: str, gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    door = gateway(rules, EXACT)
    upstream.script = script
    first = ask(door)
    upstream.script = completion("fine")
    second = ask(door)
    assert action(second) == "forward", first.text
    assert said(second) == "fine"


@pytest.mark.parametrize(
    ("script", "rules"),
    [
        (saw("the secret is out"), RULES), (saw("the secret"), WATCH), (saw("cut", finish="length"), ""),
        (saw("cut", finish="content_filter"), ""),
        (events(chunk({"content": "half"}), done=False), ""),
        (events(chunk({"content": "half"}), b"data: {\"error\": {\"message\": \"x\"}}\n\n"), ""),
        (events(chunk({"content": "a"}), chunk({"tool_calls": []}), chunk({}, index=1, finish="stop")), ""),
    ],
)  # fmt: skip
def test_the_same_of_streams(
    script: Script, rules: str, gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    door = gateway(rules, EXACT)
    upstream.script = script
    ask(door, stream=True)
    upstream.script = saw("fine")
    second = ask(door, stream=True)
    assert action(second) == "forward"
    assert "fine" in second.text


def test_an_unchecked_stream_is_not_kept(gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    door = gateway("stream_check: off\n" + RULES, EXACT)
    upstream.script = saw("the secret is out")
    assert [action(ask(door, stream=True)) for _ in "ab"] == ["forward", "forward"]


def test_a_checked_stream_answers_no_plain_request(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    door = gateway(RULES, EXACT)
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    last = {**chunk({}), "choices": [], "usage": usage}
    upstream.script = events(chunk({"content": "fine"}), chunk({}, finish="stop"), last)
    options = {"stream": True, "stream_options": {"include_usage": True}}
    assert [action(ask(door, **options)) for _ in "ab"] == ["forward", "cache"]
    upstream.script = completion("whole")
    assert action(ask(door)) == "forward"


def test_a_client_that_leaves_leaves_nothing_behind(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    door = gateway("", EXACT)
    upstream.script = events(chunk({"content": "half "}), 30.0, chunk({}, finish="stop"))
    body = {"model": "default", "messages": [{"role": "user", "content": QUESTION}]}
    with httpx.stream(
        "POST",
        f"{door.url}/v1/chat/completions",
        json={**body, "temperature": 0, "stream": True},
        timeout=20,
    ) as reply:
        next(reply.iter_bytes())
    assert upstream.gone.get(timeout=10) == "left"
    upstream.script = saw("fine")
    assert action(ask(door, stream=True)) == "forward"


def test_redacted_values_are_never_anybody_elses(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    door = gateway(RULES, EXACT)
    upstream.script = completion("I wrote to <EMAIL_1>.")
    replies = [ask(door, f"Write to {who}@b.example") for who in ("ann", "bob", "ann")]
    assert [said(reply) for reply in replies] == [
        f"I wrote to {who}@b.example." for who in ("ann", "bob", "ann")
    ]
    assert len(upstream.seen) == 3


def test_a_changed_policy_finds_nothing_even_under_its_old_name(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    config = make_config(tmp_path, upstream.port, RULES, EXACT)
    with serve(config) as door:
        upstream.script = completion("the password is swordfish")
        assert [action(ask(door)) for _ in "ab"] == ["forward", "cache"]
        store = door.app.state.gateway.policies
        door.loop.run(store.reload())
        assert action(ask(door)) == "cache", "nothing has changed"
        changed = RULES.replace("guard: secret", "any: [{guard: secret}, {topic: cheap}]")
        (tmp_path / "policy.yaml").write_text("name: test\nversion: 1\n" + changed)
        assert door.loop.run(store.reload())
        assert action(ask(door)) == "forward"
        assert len(door.app.state.gateway.replies._exact) == 1, "the old one is gone"


def test_a_routed_request_has_a_place_of_its_own(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    door = gateway(RULES, "cache: {exact: {models: ['*']}}")
    assert [action(ask(door, "cheap one")) for _ in "ab"] == ["route", "cache"]
    assert action(ask(door, "cheap one", model="small")) != "cache"


LARGE = ', "seed": 9999999999999999999%s'
RAW = '{"model": "default", "temperature": 0, "messages": [{"role": "user", "content": %s}]%s}'


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (RAW % ('"Ab"', ""), RAW % ('"\\u0041b"', ""), True),
        (RAW % ('"Ab"', ""), RAW % ('"Ab\\u0000"', ""), False),
        (RAW % ('"1"', ', "seed": 1'), RAW % ('"1"', ', "seed": 1.0'), False),
        (RAW % ('"1"', ', "seed": 1'), RAW % ('"1"', ', "seed": "1"'), False),
        (RAW % ('"1"', ', "seed": 1'), RAW % ('"1"', ', "seed": true'), False),
        (RAW % ('"1"', ', "top_p": 0.1'), RAW % ('"1"', ', "top_p": 0.10000000000000000001'), False),
        (RAW % ('"1"', LARGE % "9"), RAW % ('"1"', LARGE % "8"), False),
        (RAW % ('"1"', ', "stop": ["a", "b"]'), RAW % ('"1"', ', "stop": ["a\', \'b"]'), False),
        (RAW % ('"1"', ', "stop": ["1"]'), RAW % ('"1"', ', "stop": [1]'), False),
        (RAW % ('"caf\u00e9"', ""), RAW % ('"cafe\u0301"', ""), False),
        (RAW % ('"paypal"', ""), RAW % ('"p\u0430ypal"', ""), False),
    ],
)  # fmt: skip
def test_keys_collide_only_where_the_model_reads_the_same(
    one: str, other: str, same: bool, gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    door = gateway("", EXACT)
    assert action(post(door, "/v1/chat/completions", one.encode())) == "forward"
    second = post(door, "/v1/chat/completions", other.encode())
    assert action(second) == ("cache" if same else "forward")


def test_a_key_said_twice_is_refused_not_looked_up(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    door = gateway("", EXACT)
    post(door, "/v1/chat/completions", (RAW % ('"a"', "")).encode())
    twice = RAW % ('"a"', ', "model": "default"')
    reply = post(door, "/v1/chat/completions", twice.encode())
    assert reply.status_code == 400


def test_headers_that_reach_the_model_are_part_of_the_key(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    door = gateway("", EXACT)
    ask(door)
    assert action(ask(door, headers={"openai-beta": "other=v2"})) == "forward"
    assert action(ask(door, headers={"x-doorman-action": "cache", "age": "9"})) == "cache"


def test_huge_requests_and_replies_are_not_kept(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    door = gateway("", EXACT)
    assert [action(ask(door, "a " * 140_000)) for _ in "ab"] == ["forward", "forward"]
    upstream.script = completion("b" * 1_100_000)
    assert [action(ask(door)) for _ in "ab"] == ["forward", "forward"]
    assert door.records.next().cache is None


def test_many_at_once_all_get_the_answer(gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    door = gateway("", EXACT)
    turn = iter(range(10_000))

    async def script(request: Any) -> Any:
        first = next(turn) == 0
        body = {"error": {"message": "once"}} if first else reply_body("fine")
        return await respond(400 if first else 200, body)(request)

    upstream.script = script
    replies: list[httpx.Response] = []
    threads = [threading.Thread(target=lambda: replies.append(ask(door))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    codes = sorted(reply.status_code for reply in replies)
    assert codes == [200] * 11 + [400], "the failure of one is no answer to another"
    assert action(ask(door)) == "cache"


def test_no_text_of_a_request_is_kept(gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    door = gateway("", EXACT)
    ask(door, "unmistakable words of a user")
    held = door.app.state.gateway.replies._exact._partitions
    keys = [key for partition in held.values() for key in partition]
    assert keys
    assert "unmistakable" not in repr(keys) + json.dumps([str(k) for k in keys])


def kept(size: int) -> Stored:
    return Stored(b"x" * size, b"", "dec_1", 0.0, None, None)


def test_a_busy_client_pushes_out_its_own_replies_first() -> None:
    store: Store[Stored] = Store(60, max_entries=10, max_bytes=1 << 20)
    assert store.put("quiet", "q", kept(10))
    for number in range(100):
        store.put("busy", number, kept(10))
    assert len(store) == 10
    assert store.get("quiet", "q") is not None
    assert store.get("busy", 99) is not None
    assert store.get("busy", 0) is None
    assert store.get("busy", "q") is None


def test_bytes_are_bounded_too() -> None:
    store: Store[Stored] = Store(60, max_entries=1000, max_bytes=100_000)
    assert not store.put("a", 1, kept(50_000)), "one reply takes an eighth at most"
    for number in range(100):
        store.put(str(number % 3), number, kept(5000))
    assert 0 < store.bytes <= 100_000


def test_what_is_old_goes_before_what_is_not() -> None:
    now = [0.0]
    store: Store[Stored] = Store(10, max_entries=2, max_bytes=1 << 20, clock=lambda: now[0])
    store.put("a", 1, kept(10))
    now[0] = 11
    store.put("b", 2, kept(10))
    store.put("b", 3, kept(10))
    assert store.get("a", 1) is None
    assert store.get("b", 2) is not None
    assert len(store) == 2
