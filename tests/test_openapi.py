"""What ``/openapi.json`` says of a request is what the gateway takes."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from proxy.endpoints import ENDPOINTS
from proxy.errors import InvalidRequest
from proxy.openapi import OPERATIONS, document

HI = [{"role": "user", "content": "hi"}]
CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
RESPONSES, MESSAGES = "/v1/responses", "/v1/messages"
REQUESTS: list[tuple[str, dict[str, Any], bool]] = [
    # path, body without the model, whether it is taken
    (CHAT, {}, False),
    (CHAT, {"messages": []}, False),
    (CHAT, {"messages": HI, "n": 128}, True),
    (CHAT, {"messages": HI, "n": 129}, False),
    *[
        (CHAT, {"messages": [{"role": role, "content": "hi"}]}, role != "nobody")
        for role in ("system", "developer", "user", "assistant", "nobody")
    ],
    (COMPLETIONS, {}, True),
    (COMPLETIONS, {"prompt": None}, True),
    (COMPLETIONS, {"prompt": []}, False),
    (COMPLETIONS, {"prompt": ["a"] * 2048}, True),
    (COMPLETIONS, {"prompt": ["a"] * 2049}, False),
    (EMBEDDINGS, {}, False),
    (EMBEDDINGS, {"input": ["a"] * 2048}, True),
    (EMBEDDINGS, {"input": ["a"] * 2049}, False),
    (RESPONSES, {}, False),
    (RESPONSES, {"input": "hi"}, True),
    (RESPONSES, {"previous_response_id": "resp_1"}, True),
    (RESPONSES, {"prompt": {"id": "pmpt_1"}}, True),
    (RESPONSES, {"conversation": "conv_1"}, True),
    (RESPONSES, {"conversation": {"id": "conv_1"}}, True),
    (MESSAGES, {"messages": HI}, False),
    *[
        (MESSAGES, {"max_tokens": 9, "messages": [{"role": role, "content": "hi"}]}, known)
        for role, known in (("user", True), ("assistant", True), ("system", True), ("tool", False))
    ],
]


@pytest.mark.parametrize(("path", "body", "taken"), REQUESTS)
def test_a_request_is_taken_where_the_document_allows_it(
    path: str, body: dict[str, Any], taken: bool
) -> None:
    body = {"model": "m", **body}
    said = document()
    schema = said["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    told = Draft202012Validator({**schema, "components": said["components"]}).is_valid(body)
    try:
        ENDPOINTS[path].validate(body)
        done = True
    except InvalidRequest:
        done = False
    assert (told, done) == (taken, taken)


def test_what_is_forwarded_says_how_a_models_server_fails() -> None:
    assert {path for path, op in OPERATIONS.items() if op.forwarded} == ENDPOINTS.keys()
    for path in ENDPOINTS:
        assert {"502", "504", "default"} <= document()["paths"][path]["post"]["responses"].keys()


@pytest.mark.parametrize("path", [path for path, op in OPERATIONS.items() if op.request])
def test_a_key_may_be_refused_and_used_up(path: str) -> None:
    assert {"401", "403", "429"} <= document()["paths"][path]["post"]["responses"].keys()
