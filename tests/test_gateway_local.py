"""What the gateway answers by itself, and who may ask."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest
from gateway_kit import Door, ScriptedUpstream, StartGateway, WordClassifier

from classifiers.types import MODERATION, Batch, Classification, UnknownLabel
from proxy.local import explanations

KEYS = "keys: [{name: app, key: key-of-app-1}, {name: lab, key: key-of-lab-1}]"
ASK: dict[str, Any] = {"model": "default", "messages": [{"role": "user", "content": "hi"}]}


def post(door: Door, path: str, body: Any, **headers: str) -> httpx.Response:
    return httpx.post(f"{door.url}{path}", json=body, headers=headers, timeout=10)


def get(door: Door, path: str, **headers: str) -> httpx.Response:
    return httpx.get(f"{door.url}{path}", headers=headers, timeout=10)


def test_models(shared_gateway: StartGateway) -> None:
    door = shared_gateway()
    client = door.client()
    ids = [model.id for model in client.models.list()]
    assert ids[:2] == ["default", "small"]
    assert "doorman/guard" in ids
    assert client.models.retrieve("doorman/guard").object == "model"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("gpt-9")
    assert caught.value.code == "model_not_found"


def test_moderations(shared_gateway: StartGateway) -> None:
    client = shared_gateway().client()
    results = client.moderations.create(input=["I will kill you", "fine"]).results
    assert [result.flagged for result in results] == [True, False]
    categories = results[0].categories.model_dump(by_alias=True)
    assert set(MODERATION) <= set(categories)
    assert [label for label in MODERATION if categories[label]] == ["violence"]
    assert results[0].category_scores.violence == 0.99
    assert client.moderations.create(input="hateful").results[0].categories.hate is True


def test_moderation_of_parts_is_one_result(shared_gateway: StartGateway) -> None:
    parts: Any = [{"type": "text", "text": "fine"}, {"type": "text", "text": "kill"}]
    results = shared_gateway().client().moderations.create(input=parts).results
    assert [result.flagged for result in results] == [True]


def test_all_categories_of_the_public_interface(shared_gateway: StartGateway) -> None:
    client = shared_gateway().client()
    reply = client.moderations.create(model="omni-moderation-latest", input="I will kill you")
    assert reply.id.startswith("modr-")
    assert reply.model == "doorman/safety@test"
    [result] = reply.results
    for told in (result.categories, result.category_scores, result.category_applied_input_types):
        assert set(MODERATION) <= set(told.model_dump(by_alias=True))
    scores = result.category_scores.model_dump(by_alias=True)
    assert all(0.0 <= scores[label] <= 1.0 for label in MODERATION)
    assert result.category_applied_input_types.violence == ["text"]


def test_images_are_not_called_safe(shared_gateway: StartGateway) -> None:
    parts: Any = [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]
    with pytest.raises(openai.BadRequestError) as caught:
        shared_gateway().client().moderations.create(input=parts)
    assert caught.value.code == "unsupported_input"


def test_failed_moderation_is_not_safe(shared_gateway: StartGateway) -> None:
    answer = post(shared_gateway(), "/v1/moderations", {"input": "crash"})
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "policy_unavailable"


def test_moderation_needs_its_classifier(gateway: StartGateway) -> None:
    door = gateway(classifiers=[WordClassifier("guard", {"attack": "attack"})])
    answer = post(door, "/v1/moderations", {"input": "x"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_classifier")


def test_classify(shared_gateway: StartGateway) -> None:
    door = shared_gateway()
    answer = post(door, "/v1/classify", {"input": ["attack ann@example.com", "crash"]}).json()
    first, second = answer["data"]
    found = {(p["classifier"], p["label"]): p for p in first["predictions"]}
    assert found["guard", "attack"]["match"] is True
    assert found["guard", "secret"]["match"] is False
    assert found["pii", "EMAIL"]["span"] == {"start": 7, "end": 22}
    assert first["errors"] == {}
    assert set(second["errors"]) == {"guard", "pii", "safety"} - {"pii"}
    assert answer["timings"]["classify_ms"] >= 0
    assert answer["classifiers"]["guard"] == "test"


def test_classify_messages_and_chosen_classifiers(shared_gateway: StartGateway) -> None:
    body = {
        "input": [
            {"role": "system", "content": "Be nice."},
            {"role": "user", "content": [{"type": "text", "text": "attack"}]},
        ],
        "classifiers": ["guard"],
        "explain": True,
    }
    data = post(shared_gateway(), "/v1/classify", body).json()["data"]
    assert [entry["role"] for entry in data] == ["system", "user"]
    assert data[1]["address"] == ["messages", 1, "content", 0, "text"]
    assert {p["classifier"] for entry in data for p in entry["predictions"]} == {"guard"}
    assert data[1]["explanations"] == []


WRONG_BODIES = [
    ("/v1/moderations", {}, "input"),
    ("/v1/moderations", {"input": []}, "input"),
    ("/v1/moderations", {"input": 7}, "input"),
    ("/v1/moderations", {"input": ["a", 7]}, "input[0]"),
    ("/v1/moderations", {"input": ["a"] * 2000}, "input"),
    ("/v1/classify", {}, "input"),
    ("/v1/classify", {"input": []}, "input"),
    ("/v1/classify", {"input": "a", "classifiers": ["nope"]}, "classifiers"),
    ("/v1/classify", {"input": "a", "classifiers": "guard"}, "classifiers"),
    ("/v1/classify", {"input": "a", "explain": "yes"}, "explain"),
    ("/v1/chat/completions", {}, "model"),
    ("/v1/chat/completions", {**ASK, "model": 7}, "model"),
    ("/v1/chat/completions", {**ASK, "model": "gpt-9"}, "model"),
    ("/v1/chat/completions", {**ASK, "model": "doorman/guard"}, "model"),
    ("/v1/chat/completions", {**ASK, "messages": []}, "messages"),
    ("/v1/chat/completions", {**ASK, "messages": "hi"}, "messages"),
    ("/v1/chat/completions", {**ASK, "messages": ["hi"]}, "messages[0]"),
    ("/v1/chat/completions", {**ASK, "messages": [{"role": 7, "content": ""}]}, "messages[0].role"),
    ("/v1/chat/completions", {**ASK, "stream": "yes"}, "stream"),
    ("/v1/chat/completions", {**ASK, "n": 0}, "n"),
    ("/v1/chat/completions", {**ASK, "n": 10**9}, "n"),
    ("/v1/chat/completions", {**ASK, "tools": [7]}, "tools[0]"),
    ("/v1/chat/completions", {**ASK, "stream": True, "stream_options": 7}, "stream_options"),
]


@pytest.mark.parametrize(("path", "body", "param"), WRONG_BODIES)
def test_wrong_bodies_are_the_clients_fault(
    shared_gateway: StartGateway, upstream: ScriptedUpstream, path: str, body: Any, param: str
) -> None:
    answer = post(shared_gateway(), path, body)
    assert answer.status_code == (404 if body.get("model") in ("gpt-9", "doorman/guard") else 400)
    assert answer.json()["error"]["param"] == param
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert upstream.seen == []


JSON = {"content-type": "application/json"}
RAW: dict[str, tuple[bytes, dict[str, str], int, str | None]] = {
    "invalid json": (b'{"model": ', JSON, 400, None),
    "invalid utf-8": (b'{"model": "\xff"}', JSON, 400, None),
    "nan": (b'{"model": NaN}', JSON, 400, None),
    "lone surrogate": (b'{"model": "\\udc00"}', JSON, 400, None),
    "repeated key": (b'{"model": "a", "model": "b"}', JSON, 400, None),
    "deep": (b'{"a":' + b"[" * 200 + b"]" * 200 + b"}", JSON, 400, None),
    "empty": (b"", JSON, 400, None),
    "array": (b"[]", JSON, 400, None),
    "20 MB": (b'{"a": "' + b"x" * 20_000_000 + b'"}', JSON, 413, "request_too_large"),
    "no content type": (b"{}", {}, 415, "unsupported_media_type"),
    "form": (b"a=b", {"content-type": "text/plain"}, 415, "unsupported_media_type"),
    "compressed": (b"x", {**JSON, "content-encoding": "gzip"}, 415, "unsupported_media_type"),
}  # fmt: skip


@pytest.mark.parametrize(("raw", "headers", "status", "code"), RAW.values(), ids=RAW)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/moderations"])
def test_bodies_that_cannot_be_read(
    shared_gateway: StartGateway,
    upstream: ScriptedUpstream,
    path: str,
    raw: bytes,
    headers: dict[str, str],
    status: int,
    code: str | None,
) -> None:
    answer = httpx.post(f"{shared_gateway().url}{path}", content=raw, headers=headers, timeout=20)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert upstream.seen == []


def test_the_limit_on_bodies_is_the_configs(gateway: StartGateway) -> None:
    door = gateway("", "limits: {max_body_bytes: 200}")
    assert post(door, "/v1/chat/completions", ASK).status_code == 200
    long = {**ASK, "user": "x" * 200}
    assert post(door, "/v1/chat/completions", long).status_code == 413


def test_text_beyond_the_limit_is_refused_and_never_cut(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    rules = 'rules: [{name: guard, when: {guard: attack}, do: {block: "No."}}]'
    door = gateway(rules, "limits: {max_text_chars: 100}")
    for path, body in (
        ("/v1/chat/completions", {**ASK, "messages": [{"role": "user", "content": "x " * 60}]}),
        ("/v1/classify", {"input": ["x" * 60, "y" * 60]}),
        ("/v1/moderations", {"input": "x" * 101}),
    ):
        answer = post(door, path, body)
        assert answer.status_code == 413, path
        error = answer.json()["error"]
        assert error["code"] == "request_too_large"
        assert "limits.max_text_chars is 100" in error["message"]
    assert upstream.seen == []


def test_classifiers_cannot_be_chatted_with(shared_gateway: StartGateway) -> None:
    answer = post(shared_gateway(), "/v1/chat/completions", {**ASK, "model": "doorman/guard"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (404, "model_not_found")
    assert "POST /v1/classify and /v1/decisions" in error["message"]


PATHS = [
    ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
    ("DELETE", "/v1/models", 405, "method_not_allowed"),
    ("GET", "/v1/completions", 405, "method_not_allowed"),
    ("GET", "/v1/embeddings", 405, "method_not_allowed"),
    ("GET", "/v1/decisions", 405, "method_not_allowed"),
    ("POST", "/v1/chat/completions/", 404, "unknown_url"),
    ("POST", "/v1/embeddings/", 404, "unknown_url"),
    ("POST", "/v1/engines/gpt-4o/completions", 404, "unknown_url"),
    ("POST", "/v1/engines/gpt-4o/embeddings", 404, "unknown_url"),
    ("GET", "/docs", 404, "unknown_url"),
    ("GET", "/", 404, "unknown_url"),
    ("GET", "/v1/../etc/passwd", 404, "unknown_url"),
]


@pytest.mark.parametrize(("method", "path", "status", "code"), PATHS)
def test_other_paths_and_methods(
    shared_gateway: StartGateway,
    upstream: ScriptedUpstream,
    method: str,
    path: str,
    status: int,
    code: str,
) -> None:
    answer = httpx.request(method, f"{shared_gateway().url}{path}")
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert upstream.seen == []


AUTH: dict[str, tuple[dict[str, str], int]] = {
    "right": ({"authorization": "Bearer key-of-app-1"}, 200),
    "other key": ({"authorization": "bearer key-of-lab-1"}, 200),
    "none": ({}, 401),
    "wrong": ({"authorization": "Bearer key-of-app-2"}, 401),
    "beginning": ({"authorization": "Bearer key-of-app"}, 401),
    "empty": ({"authorization": "Bearer"}, 401),
    "other scheme": ({"authorization": "Basic key-of-app-1"}, 401),
    "no scheme": ({"authorization": "key-of-app-1"}, 401),
}


@pytest.mark.parametrize(("headers", "status"), AUTH.values(), ids=AUTH)
def test_keys(
    shared_gateway: StartGateway, upstream: ScriptedUpstream, headers: dict[str, str], status: int
) -> None:
    door = shared_gateway("", KEYS)
    for answer in (
        post(door, "/v1/chat/completions", ASK, **headers),
        post(door, "/v1/classify", {"input": "a"}, **headers),
        get(door, "/v1/models", **headers),
        get(door, "/metrics", **headers),
    ):
        assert answer.status_code == status
        if status == 401:
            assert answer.json()["error"]["code"] == "invalid_api_key"
            assert "key-of" not in answer.text
    assert len(upstream.seen) == (status == 200)


def test_health_and_readiness_need_no_key(gateway: StartGateway) -> None:
    door = gateway("", KEYS)
    assert get(door, "/health").json() == {"status": "ok"}
    assert get(door, "/ready").json() == {"status": "ready"}
    door.app.state.gateway.ready = False
    assert get(door, "/ready").status_code == 503
    assert get(door, "/health").status_code == 200
    answer = post(door, "/v1/chat/completions", ASK, authorization="Bearer key-of-app-1")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_ready")
    door.app.state.gateway.ready = True


def test_requests_without_a_record_are_counted(gateway: StartGateway) -> None:
    door = gateway("", "keys: [{name: app, key: abcdefgh}]")
    url, headers = f"{door.url}/v1/chat/completions", {"authorization": "Bearer abcdefgh"}
    text = {"content-type": "text/plain"}
    json_type = {"content-type": "application/json"}
    answers = [
        httpx.post(url, json={}),
        httpx.post(url, content="{}", headers=headers | text),
        httpx.post(url, content="{", headers=headers | json_type),
        httpx.get(url, headers=headers),
        httpx.get(f"{door.url}/invented", headers=headers),
    ]
    assert [answer.status_code for answer in answers] == [401, 415, 400, 405, 404]
    counted = get(door, "/metrics", **headers).text
    for status in (401, 415, 400, 405):
        line = f'doorman_requests_total{{path="/v1/chat/completions",status="{status}"}} 1.0'
        assert line in counted
    assert 'doorman_requests_total{path="other",status="404"} 1.0' in counted
    assert "invented" not in counted
    good = post(door, "/v1/chat/completions", ASK, **headers)
    assert door.records.next().decision_id == good.headers["x-doorman-decision-id"]


def test_metrics(gateway: StartGateway) -> None:
    door = gateway("rules: [{name: r, when: {guard: attack}, do: {block: 'No.'}}]")
    for text in ("attack", "fine"):
        body = {**ASK, "messages": [{"role": "user", "content": text}]}
        post(door, "/v1/chat/completions", body)
        door.records.next()
    text = get(door, "/metrics").text
    for line in (
        'doorman_decisions_total{action="block",policy="test@1",rule="r"} 1.0',
        'doorman_requests_total{path="/v1/chat/completions",status="200"} 2.0',
        "doorman_overhead_seconds_count 2.0",
        'doorman_classify_seconds_count{stage="input"} 2.0',
        "doorman_policies_loaded 1.0",
    ):
        assert line in text.splitlines()
    assert "doorman_saved_usd_total" in text


def test_unexpected_exceptions_say_nothing(
    gateway: StartGateway, caplog: pytest.LogCaptureFixture
) -> None:
    door = gateway()
    door.app.state.gateway.upstreams = Broken()
    answer = post(door, "/v1/chat/completions", ASK)
    error = answer.json()["error"]
    assert answer.status_code == 500
    assert answer.headers["x-request-id"] in error["message"]
    assert "xyzzy" not in answer.text
    assert "RuntimeError" in caplog.text
    assert "xyzzy" not in caplog.text
    assert json.loads(json.dumps(error))["type"] == "server_error"


class Broken:
    """Upstreams whose failure quotes the user."""

    def resolve(self, alias: str) -> Any:
        raise RuntimeError("user said xyzzy")

    async def close(self) -> None:
        return


def test_what_is_the_lack_of_evidence_is_not_explained() -> None:
    """A head's ``out_of_scope`` may match; no token made it."""

    class Outsider(WordClassifier):
        def explain(self, text: str, label: str) -> list[Any]:
            if label == "out_of_scope":
                raise UnknownLabel("no token made it")
            return []

    one = Outsider("desk", {"out_of_scope": "cup", "refund": "cup"})
    found = Classification({"desk": tuple(one.predict(Batch(["the cup"]))[0])})
    rows = explanations("the cup", found, {"desk": one})
    assert [row["label"] for row in rows] == ["refund"]
