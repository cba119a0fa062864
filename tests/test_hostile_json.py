"""Bodies that no honest client sends: refused alike by every path that takes one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateway_kit import Door, ScriptedUpstream, StartGateway, WordClassifier, serve
from hostile_kit import ASK, CHAT, chat, is_refusal, is_served, post, say

from proxy.config import loads
from proxy.upstream import STRIPPED_PARAMS, STRIPPED_PREFIXES

GUARD = 'rules: [{name: guard, when: {guard: attack}, do: {block: "No."}}]'
PATHS = (CHAT, "/v1/moderations", "/v1/classify")


@pytest.fixture
def door(shared_gateway: StartGateway, upstream: ScriptedUpstream) -> Door:
    return shared_gateway(GUARD, "limits: {max_body_bytes: 300000}")


def around(value: bytes) -> bytes:
    """A valid request of every path, but for one more field."""
    whole = json.dumps({**ASK, "input": "hi"}).encode()
    return whole[:-1] + b', "x": ' + value + b"}"


BODIES: dict[str, tuple[int, bytes]] = {
    "a key twice": (400, around(b'1, "x": 2')),
    "a key twice, escaped": (400, around(b'1, "\\u0078": 2')),
    "a key twice, deep within": (400, around(b'[[[{"a": {"b": 1, "b": 2}}]]]')),
    "the model twice": (400, around(b'1, "model": "small"')),
    "10,000 lists": (400, around(b"[" * 10_000 + b"]" * 10_000)),
    "10,000 objects": (400, around(b'{"a":' * 10_000 + b"1" + b"}" * 10_000)),
    "100,000 open lists": (413, around(b"[" * 100_000)),
    "NaN": (400, around(b"NaN")),
    "Infinity": (400, around(b"Infinity")),
    "-Infinity": (400, around(b"-Infinity")),
    "1e999999": (400, around(b"1e999999")),
    "-1e400": (400, around(b"-1e400")),
    "an integer of 100,000 digits": (400, around(b"9" * 100_000)),
    "a fraction of 100,000 digits": (200, around(b"0." + b"1" * 100_000)),
    "hexadecimal": (400, around(b"0x10")),
    "leading zero": (400, around(b"012")),
    "leading plus": (400, around(b"+1")),
    "lone high surrogate": (400, around(b'"\\ud83d"')),
    "lone low surrogate": (400, around(b'"\\ude00"')),
    "surrogates in the wrong order": (400, around(b'"\\ude00\\ud83d"')),
    "surrogate as a key": (400, around(b'{"\\ud800": 1}')),
    "half an escape": (400, around(b'"\\u12"')),
    "invalid UTF-8": (400, around(b'"\xff\xfe"')),
    "overlong UTF-8": (400, around(b'"\xc0\xaf"')),
    "UTF-8 of a surrogate": (400, around(b'"\xed\xa0\x80"')),
    "UTF-8 beyond Unicode": (400, around(b'"\xf4\x90\x80\x80"')),
    "byte order mark": (400, b"\xef\xbb\xbf" + around(b"1")),
    "UTF-16": (400, around(b"1").decode().encode("utf-16")),
    "UTF-32": (400, around(b"1").decode().encode("utf-32-be")),
    "raw line in a string": (400, around(b'"a\nb"')),
    "raw null in a string": (400, around(b'"a\0b"')),
    "null bytes behind": (400, around(b"1") + b"\0\0"),
    "two documents": (400, around(b"1") + around(b"1")),
    "a comment": (400, around(b"1 /* x */")),
    "trailing comma": (400, around(b"[1,]")),
    "single quotes": (400, around(b"'a'")),
    "cut short": (400, around(b'"a')[:-1]),
    "nothing": (400, b""),
    "white space": (400, b" \n\t "),
    "a list": (400, b"[1]"),
    "null": (400, b"null"),
    "form data": (400, b"model=default&messages=hi"),
    "too many bytes": (413, around(b'"' + b"a" * 300_000 + b'"')),
    "too many lists": (413, around(b"[" + b"[]," * 40_000 + b"1]")),
    "too many strings": (413, around(b"[" + b'"",' * 40_000 + b"1]")),
    "too many fields": (
        413,
        around(b"{" + b",".join(b'"%d":1' % i for i in range(25_000)) + b"}"),
    ),
    "many numbers": (200, around(b"[" + b"1," * 100_000 + b"1]")),
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("status", "body"), BODIES.values(), ids=BODIES)
def test_bodies(
    door: Door, upstream: ScriptedUpstream, status: int, body: bytes, path: str
) -> None:
    said = say(door.url, post(body, target=path.encode()))
    if status == 200:
        assert said.status == 200, said
        return
    is_refusal(said, status)
    assert upstream.seen == []
    is_served(door.url)


# -- names ------------------------------------------------------------------------------------------

MODELS: list[Any] = [
    "../default", "default/../small", "/default", "default ", " default", "default\n", "default\0",
    "DEFAULT", "dеfault", "ｄefault", "default\u200b", "defau\u0308lt", "openai/gpt-4o",
    "gpt-4o", "default,small", "default?api_base=http://x", "*", "", "a" * 100_000, "doorman/guard",
    "doorman/echo", "doorman/../default", "huggingface/http://127.0.0.1", "os.environ/HOME", "${HOME}",
    "{{7*7}}", "%64efault", "default\r\nset-cookie: a=b", "data: [DONE]", None, 0, True, ["default"],
    {"name": "default"},
]  # fmt: skip


@pytest.mark.parametrize("model", MODELS, ids=lambda m: repr(m)[:40])
@pytest.mark.parametrize("stream", [False, True])
def test_only_the_configured_names_are_models(
    door: Door, upstream: ScriptedUpstream, model: Any, stream: bool
) -> None:
    said = say(door.url, post(chat(model=model, stream=stream)))
    is_refusal(said, range(400, 405))
    assert "set-cookie" not in said.headers
    assert len(said.body) < 1000
    assert upstream.seen == []


def test_a_model_with_spaces_is_an_alias_like_any_other(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    target = f'api_base: "http://127.0.0.1:{upstream.port}/v1", api_key: sk-upstream'
    text = f"""
model_list:
  - model_name: my own / model
    litellm_params: {{model: openai/gpt-4o, {target}}}
policies: []
"""
    with serve(loads(text, tmp_path / "config.yaml")) as door:
        said = say(door.url, post(chat(model="my own / model")))
        assert (said.status, upstream.seen[0].json["model"]) == (200, "gpt-4o")
        path = "/v1/models/my%20own%20%2F%20model"
        assert httpx.get(f"{door.url}{path}").json()["id"] == "my own / model"


# -- parameters that choose where a call goes -------------------------------------------------------

TARGETS = {"api_base": "http://127.0.0.1:9/v1", "base_url": "http://127.0.0.1:9/v1", "api_key": "x"}


def test_nothing_chooses_where_a_call_goes(door: Door, upstream: ScriptedUpstream) -> None:
    refused = {"input_ids", "prompt_token_ids"}  # with 400: they are a prompt in numbers
    named = dict.fromkeys([name for name in STRIPPED_PARAMS if name not in refused], TARGETS)
    by_prefix = {f"{prefix}x": TARGETS for prefix in STRIPPED_PREFIXES}
    more = {"litellm_metadata": TARGETS, "litellm_params": TARGETS, "metadata": {"a": "b"}}
    said = say(door.url, post(chat(**named, **by_prefix, **more, temperature=0.5)))
    assert said.status == 200, said
    seen = upstream.seen[0]
    assert set(seen.json) == {"model", "messages", "metadata", "temperature"}
    assert seen.headers["authorization"] == "Bearer sk-upstream"


def test_an_escaped_name_is_the_same_name(door: Door, upstream: ScriptedUpstream) -> None:
    body = chat()[:-1] + b', "api\\u005fbase": "http://127.0.0.1:9", "\\u0065xtra_body": {}}'
    assert say(door.url, post(body)).status == 200
    assert set(upstream.seen[0].json) == {"model", "messages"}


def test_metadata_is_data(door: Door, upstream: ScriptedUpstream) -> None:
    """It is the API's own field and goes up as it is; the call goes where it always goes."""
    assert say(door.url, post(chat(metadata=TARGETS))).status == 200
    assert upstream.seen[0].json["metadata"] == TARGETS
    assert upstream.seen[0].headers["authorization"] == "Bearer sk-upstream"


# -- nothing that a client says becomes a header or a line of an event --------------------------------

INJECTIONS = [
    "a\r\nset-cookie: a=b\r\n\r\nHTTP/1.1 200 OK",
    "a\n\ndata: [DONE]\n\n",
    "a\r\rdata: {}\r\r",
    "a\nevent: error\nid: 7\nretry: 1",
    "a\u2028data: x\u2029\u0085\x0b\x0cdata: y",
    "\u0000\u0001\ufeffdata: z",
]


@pytest.mark.parametrize("text", INJECTIONS, ids=lambda t: repr(t)[:20])
@pytest.mark.parametrize("blocked", [False, True])
def test_what_is_said_stays_within_its_event(tmp_path: Path, text: str, blocked: bool) -> None:
    """The embedded upstream repeats the client's words, a block is made here: both as events."""
    rules = 'name: p\nrules: [{name: r, when: {guard: attack}, do: {block: "No.\\n\\ndata: x"}}]'
    (tmp_path / "p.yaml").write_text(rules)
    echo = "model_list: [{model_name: default, litellm_params: {model: doorman/echo}}]"
    config = loads(f"{echo}\npolicies: [p.yaml]\n", tmp_path / "config.yaml")
    message = {"role": "user", "content": text + (" attack" if blocked else ""), "name": text}
    call = {"id": text, "type": "function", "function": {"name": text, "arguments": text}}
    tools = [{"type": "function", "function": {"name": text}}]
    said_before = {"role": "assistant", "tool_calls": [call]}
    answered = {"role": "tool", "tool_call_id": text, "content": "fine"}
    messages = [message, said_before, answered, message]
    with serve(config, classifiers=[WordClassifier("guard", {"attack": "attack"})]) as door:
        body = json.dumps(
            {**ASK, "messages": messages, "tools": tools, "user": text, "stream": True}
        )
        said = say(door.url, post(body.encode()))
        plain = say(door.url, post(body.replace('"stream": true', '"stream": false').encode()))
    assert said.status == plain.status == 200
    for answer in (said, plain):
        assert set(answer.headers) <= {
            "date", "content-type", "content-length", "transfer-encoding", "cache-control", "x-request-id",
            "x-doorman-action", "x-doorman-decision-id", "x-doorman-overhead-ms", "x-doorman-policy",
            "x-doorman-saved-usd",
        }  # fmt: skip
    lines = said.body.decode().replace("\r", "\n").split("\n")
    events = [line for line in lines if line]
    assert all(line.startswith("data: ") for line in events)
    assert events[-1] == "data: [DONE]"
    deltas = [json.loads(line[6:])["choices"][0]["delta"] for line in events[:-1]]
    assert (
        "".join(delta.get("content") or "" for delta in deltas)
        == (plain.json["choices"][0]["message"]["content"])
    )


HEADERS_UP = [
    ("idempotency-key", "a\tb"), ("openai-beta", "é"), ("traceparent", "\x7f"), ("x-api-base", "http://x"),
    ("openai-organization", "theirs"), ("x-forwarded-for", "1.2.3.4"), ("cookie", "a=b"),
    ("proxy-authorization", "Basic x"), ("x-doorman-action", "forward"), ("x-litellm-tags", "a"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), HEADERS_UP)
def test_headers_that_do_not_go_up(
    door: Door, upstream: ScriptedUpstream, name: str, value: str
) -> None:
    line = f"{name}: {value}".encode("latin-1")
    assert say(door.url, post(chat(), line)).status in (200, 400)
    assert all(name not in seen.headers for seen in upstream.seen)
