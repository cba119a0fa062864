"""Whatever a client sends to whatever path: no fault of the gateway's own, an error in the API's shape,
nothing told that is private, and the next caller is served."""

from __future__ import annotations

import json
from typing import Any

import pytest
import schemathesis
from aiohttp import web
from gateway_kit import Door, ScriptedUpstream, StartGateway, completion, respond, words
from hostile_kit import ASK, PRIVATE, Said, head, is_served, post, say
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from proxy.app import create_app
from proxy.config import defaults
from proxy.openapi import OPERATIONS, document
from proxy.routes import routes

# Drawn anew each time; what fails is written out whole, so nothing has to be kept between runs.
quickly = settings(
    max_examples=12,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

POSTS = [path for path, operation in OPERATIONS.items() if operation.method == "post"]
GETS = ["/v1/models", "/v1/models/default", "/health", "/ready", "/metrics", "/openapi.json"]
LIMITS = "limits: {header_seconds: 2, body_seconds: 2}"
GUARD = 'rules: [{name: guard, when: {guard: attack}, do: {block: "No."}}]'


@pytest.fixture
def door(shared_gateway: StartGateway, upstream: ScriptedUpstream) -> Door:
    upstream.script = polite
    return shared_gateway(GUARD, LIMITS)


async def polite(request: web.Request) -> web.StreamResponse:
    """An upstream that knows chat completions alone, and says so."""
    if not request.path.endswith("/chat/completions"):
        return await respond(404, {"error": {"message": "No such API.", "type": "x"}})(request)
    streamed = json.loads(await request.read()).get("stream")
    return await (words("ok") if streamed else completion("ok"))(request)


def is_fair(said: Said, path: str) -> None:
    """An answer that is the client's to understand."""
    assert 200 <= said.status < 500, said
    text = said.body.decode()
    assert not [word for word in PRIVATE if word in text]
    if said.status >= 400:
        error = said.json["error"]
        assert isinstance(error["message"], str)
        assert isinstance(error["type"], str)
        if path.startswith("/v1/messages"):
            assert said.json["type"] == "error"
        else:
            # What a policy has stopped names the policy too.
            assert set(error) - {"doorman", "innererror"} == {"message", "type", "param", "code"}


leaves = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
)
values = st.recursive(
    leaves,
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(max_size=6), below, max_size=4),
    max_leaves=12,
)  # fmt: skip
FIELDS = [
    "model", "messages", "input", "prompt", "stream", "stream_options", "n", "tools", "max_tokens",
    "system", "classifiers", "explain", "tool_choice", "metadata", "api_base", "response_format", "stop",
]  # fmt: skip
GOOD: dict[str, Any] = {**ASK, "input": "hi", "prompt": "hi", "max_tokens": 5}


@pytest.mark.parametrize("path", POSTS)
def test_any_value_in_any_field(door: Door, path: str) -> None:
    @quickly
    @given(
        st.dictionaries(st.sampled_from(FIELDS), values, min_size=1, max_size=3),
        st.sets(st.sampled_from(["messages", "input", "prompt", "model"]), max_size=1),
    )
    def check(changes: dict[str, Any], gone: set[str]) -> None:
        body = {k: v for k, v in {**GOOD, **changes}.items() if k not in gone}
        is_fair(say(door.url, post(json.dumps(body).encode(), target=path.encode())), path)

    check()
    is_served(door.url)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found = [at]
    for key, item in items:
        found += places(item, (*at, key)) if isinstance(item, dict | list) else [(*at, key)]
    return found


def changed(value: Any, at: tuple[Any, ...], new: Any) -> Any:
    if not at:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[at[0]] = changed(value[at[0]], at[1:], new)
    return copy


CONVERSATION: dict[str, Any] = {
    "model": "default",
    "max_tokens": 5,
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "hi"}], "name": "ann"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "fine"},
        {"role": "user", "content": "and?"},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "stream_options": {"include_usage": True},
}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
def test_any_value_in_any_place_of_a_conversation(door: Door, path: str) -> None:
    whole = {**CONVERSATION, "input": CONVERSATION["messages"]}

    @quickly
    @given(st.sampled_from(places(whole)), values, st.booleans())
    def check(at: tuple[Any, ...], new: Any, stream: bool) -> None:
        body = changed(whole, at, new)
        if isinstance(body, dict):
            body = {**body, "stream": stream}
        is_fair(say(door.url, post(json.dumps(body).encode(), target=path.encode())), path)

    check()
    is_served(door.url)


@pytest.mark.parametrize("path", [*POSTS, *GETS])
def test_any_bytes_as_a_body(door: Door, path: str) -> None:
    whole = json.dumps(GOOD).encode()

    @quickly
    @given(
        st.binary(max_size=60)
        | st.tuples(
            st.integers(0, len(whole)), st.integers(0, 6), st.binary(max_size=6)
        ).map(lambda cut: whole[: cut[0]] + cut[2] + whole[cut[0] + cut[1] :])
    )  # fmt: skip
    def check(body: bytes) -> None:
        is_fair(say(door.url, post(body, target=path.encode())), path)

    check()
    is_served(door.url)


def test_any_path(door: Door) -> None:
    @quickly
    @given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40))
    def check(path: str) -> None:
        said = say(door.url, head(target=b"/v1/" + path.encode(), method=b"GET"))
        is_fair(said, "/v1/" + path)

    check()


def test_any_header(door: Door) -> None:
    @quickly
    @given(
        st.sampled_from(
            b"content-type content-length transfer-encoding authorization expect connection "
            b"x-request-id content-encoding idempotency-key x".split()
        ),
        st.binary(max_size=30),
    )
    def check(name: bytes, value: bytes) -> None:
        line = name + b": " + value.replace(b"\r\n\r\n", b"")
        said = say(door.url, post(json.dumps(GOOD).encode(), line))
        is_fair(said, "/v1/chat/completions")

    check()
    is_served(door.url)


def test_any_bytes_at_all(door: Door) -> None:
    @quickly
    @given(st.binary(min_size=1, max_size=80))
    def check(sent: bytes) -> None:
        is_fair(say(door.url, sent + b"\r\n\r\n"), "")

    check()
    is_served(door.url)


# -- the document -------------------------------------------------------------------------------------

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
SCHEMA = schemathesis.openapi.from_dict(document())


@SCHEMA.parametrize()
@settings(quickly, max_examples=12)
def test_the_document_is_true(case: schemathesis.Case, door: Door) -> None:
    case.call_and_validate(base_url=door.url, checks=CHECKS)


def test_every_path_is_in_the_document(door: Door) -> None:
    said = say(door.url, head(target=b"/openapi.json", method=b"GET"))
    assert said.json == document()
    doors = [(route.path.replace(":path", ""), route.endpoint) for route in routes()]
    served = {(path, door._method.lower()) for path, door in doors}
    told = {(path, method) for path, item in said.json["paths"].items() for method in item}
    assert told == served
    assert create_app(defaults()).openapi_url is None  # FastAPI's own would say less
