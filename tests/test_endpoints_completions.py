"""``/v1/completions``: nothing of a prompt goes unread, local answers and cuts are real completions."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest
from gateway_kit import Door, ScriptedUpstream, StartGateway, events, respond
from openai.types import Completion

from policies.decision import Reply
from proxy.endpoints import ENDPOINTS
from proxy.endpoints.base import ReplyContext, Usage
from proxy.errors import InvalidRequest
from proxy.sse import Parser

TEXT = ENDPOINTS["/v1/completions"]
POLICY = """
rules:
  - name: no-attacks
    when: {guard: attack}
    roles: [system, developer, user, assistant]
    do: {block: "No."}
  - {name: no-leaks, when: {guard: secret}, check: [output], do: {block: "Stays here."}}
  - {name: hide, when: {pii: EMAIL}, do: {redact: {as: "<{label}_{n}>", restore: true}}}
  - {name: small-talk, when: {intent: greeting}, do: {answer: "Hello!"}}
  - {name: cheap, when: {topic: cheap}, do: {route: small}}
"""
AS_ERROR = (
    'rules: [{name: refuse, when: {guard: attack}, do: {block: {message: "No.", as: error}}}]'
)


def whole(*texts: str, **extra: Any) -> dict[str, Any]:
    choices = [
        {"index": i, "text": text, "logprobs": None, "finish_reason": "stop"}
        for i, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    head = {"id": "cmpl-up", "object": "text_completion", "created": 1, "model": "up"}
    return {**head, "choices": choices, "usage": usage, **extra}


def piece(text: str, index: int = 0, finish: str | None = None, **extra: Any) -> dict[str, Any]:
    choice = {"index": index, "text": text, "finish_reason": finish, **extra}
    head = {"id": "cmpl-up", "object": "text_completion", "created": 1, "model": "up"}
    return {**head, "choices": [choice]}


def post(door: Door, **body: Any) -> httpx.Response:
    return httpx.post(f"{door.url}/v1/completions", json={"model": "default", **body}, timeout=10)


def test_a_prompt_goes_up_and_its_completion_comes_down(
    shared_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script = respond(200, whole(" is a tree."))
    client = shared_gateway(POLICY).client()
    raw = client.completions.with_raw_response.create(
        model="default", prompt="A heap", suffix=" indeed", stop=["\n"], user="u-1", echo=False,
        best_of=2, extra_body={"min_p": 0.1, "note": "keep me"},
    )  # fmt: skip
    reply = raw.parse()
    assert (reply.object, reply.choices[0].text) == ("text_completion", " is a tree.")
    assert raw.headers["x-doorman-action"] == "forward"
    sent = upstream.seen[0].json
    assert sent == {
        "model": "gpt-4o", "prompt": "A heap", "suffix": " indeed", "stop": ["\n"], "user": "u-1",
        "echo": False, "best_of": 2, "min_p": 0.1, "note": "keep me",
    }  # fmt: skip


ATTACKS: dict[str, dict[str, Any]] = {
    "the prompt": {"prompt": "an attack"},
    "a prompt that is a word": {"prompt": "attack"},
    "the last of several": {"prompt": ["fine", "fine", "attack now"]},
    "the suffix": {"prompt": "fine", "suffix": "attack"},
    "a stop": {"prompt": "fine", "stop": ["attack"]},
    "the user": {"prompt": "fine", "user": "attack now"},
    "a field nobody knows": {"prompt": "fine", "future": {"deep": [["an attack"]]}},
    "the name of a field": {"prompt": "fine", "attack": 1},
    "messages that a server might read": {"prompt": "fine", "messages": [{"content": "attack"}]},
    "no prompt at all": {"future": "attack now"},
    "an escape in JSON": {"prompt": '{"q": "\\u0061ttack"}'},
    "a coded data url": {"prompt": "data:text/plain;base64,YW4gYXR0YWNr"},
}


@pytest.mark.parametrize("body", ATTACKS.values(), ids=ATTACKS)
@pytest.mark.parametrize("stream", [False, True])
def test_it_is_blocked_wherever_it_stands(
    shared_gateway: StartGateway, upstream: ScriptedUpstream, body: Any, stream: bool
) -> None:
    answer = post(shared_gateway(POLICY), **body, stream=stream)
    assert answer.headers["x-doorman-action"] == "block"
    assert upstream.seen == []
    text = "".join(c["text"] for reply in _replies(answer, stream) for c in reply["choices"])
    assert text == "No." * (3 if isinstance(body.get("prompt"), list) else 1)


def _replies(answer: httpx.Response, stream: bool) -> list[dict[str, Any]]:
    if not stream:
        return [answer.json()]
    found = Parser().feed(answer.content)
    assert found[-1].done
    return [event.json for event in found[:-1] if event.json is not None]


UNREADABLE: list[tuple[dict[str, Any], str, str]] = [
    ({"prompt": [1, 2, 3]}, "prompt", "unsupported_input"),
    ({"prompt": [[1, 2], [3]]}, "prompt", "unsupported_input"),
    ({"prompt": ["fine", 7]}, "prompt", "unsupported_input"),
    ({"prompt": [[]]}, "prompt", "unsupported_input"),
    ({"prompt": "x", "prompt_embeds": "AAAA"}, "prompt_embeds", "unsupported_input"),
    ({"prompt": []}, "prompt", "empty_array"),
    ({"prompt": {"text": "x"}}, "prompt", "invalid_type"),
    ({"prompt": [None]}, "prompt[0]", "invalid_type"),
    ({"prompt": [True]}, "prompt[0]", "invalid_type"),
    ({"prompt": 7}, "prompt", "invalid_type"),
    ({"prompt": ["x"] * 2049}, "prompt", "integer_above_max_value"),
    ({"prompt": ["x"] * 1025, "n": 2}, "n", "integer_above_max_value"),
    ({"prompt": "x", "n": 0}, "n", "integer_below_min_value"),
    ({"prompt": "x", "n": True}, "n", "invalid_type"),
    ({"prompt": "x", "suffix": ["x"]}, "suffix", "invalid_type"),
    ({"prompt": "x", "stream": "yes"}, "stream", "invalid_type"),
    ({"prompt": "x", "stream_options": []}, "stream_options", "invalid_type"),
    ({"prompt": "x", "stream_options": {"include_usage": 1}}, "stream_options.include_usage",
     "invalid_type"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "param", "code"), UNREADABLE)
def test_what_cannot_be_read_is_refused(
    shared_gateway: StartGateway, upstream: ScriptedUpstream, body: Any, param: str, code: str
) -> None:
    answer = post(shared_gateway(), **body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, param, code)
    if code == "unsupported_input":
        assert "send the text" in error["message"]
    assert upstream.seen == []


def test_models_are_checked(shared_gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    client = shared_gateway().client()
    for model in ("gpt-9", "doorman/guard"):
        with pytest.raises(openai.NotFoundError) as caught:
            client.completions.create(model=model, prompt="hi")
        assert caught.value.code == "model_not_found"
    with pytest.raises(InvalidRequest):
        TEXT.validate({"prompt": "x"})
    assert upstream.seen == []


def test_a_block_and_an_answer_are_completions(
    shared_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    client = shared_gateway(POLICY).client()
    blocked = client.completions.create(model="default", prompt=["an attack", "fine"], n=2)
    assert [(c.index, c.text, c.finish_reason) for c in blocked.choices] == [
        (index, "No.", "content_filter") for index in range(4)
    ]
    assert blocked.id.startswith("cmpl-")
    assert blocked.usage is not None
    assert blocked.usage.total_tokens == 0
    answered = client.completions.create(model="default", prompt="hello there")
    assert (answered.choices[0].text, answered.choices[0].finish_reason) == ("Hello!", "stop")
    # A question beside the greeting is not for a canned answer.
    upstream.script = respond(200, whole("a", "b"))
    client.completions.create(model="default", prompt=["hello there", "what is a heap?"])
    assert len(upstream.seen) == 1


def test_as_error_names_the_prompt(shared_gateway: StartGateway) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        shared_gateway(AS_ERROR).client().completions.create(model="default", prompt="attack")
    assert (caught.value.code, caught.value.param) == ("content_filter", "prompt")


def test_redacted_on_the_way_up_and_put_back(
    shared_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script = respond(200, whole("to <EMAIL_1>"))
    client = shared_gateway(POLICY).client()
    reply = client.completions.create(model="default", prompt=["mail ann@example.com", "b"])
    assert upstream.seen[0].json["prompt"] == ["mail <EMAIL_1>", "b"]
    assert reply.choices[0].text == "to ann@example.com"
    upstream.script = events(piece("to <EMA"), piece("IL_1>"), piece("", finish="stop"))
    stream = client.completions.create(model="default", prompt="mail ann@example.com", stream=True)
    assert "".join(item.choices[0].text for item in stream) == "to ann@example.com"


def test_a_route_takes_the_other_model(
    shared_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script = respond(200, whole("ok"))
    shared_gateway(POLICY).client().completions.create(model="default", prompt="something cheap")
    assert upstream.seen[0].json["model"] == "gpt-4o-mini"


def test_a_reply_that_is_blocked(shared_gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    upstream.script = respond(200, whole("fine", "the secret is out"))
    reply = shared_gateway(POLICY).client().completions.create(model="default", prompt="x", n=2)
    assert [(c.text, c.finish_reason) for c in reply.choices] == [
        ("Stays here.", "content_filter")
    ] * 2
    assert reply.usage is not None
    assert reply.usage.total_tokens == 15


COPIES = {
    "logprobs": {"tokens": ["fine"], "token_logprobs": [-0.1], "text_offset": [0]},
    "prompt_logprobs": [{"1": {"decoded_token": "x", "logprob": -1}}],
    "token_ids": [1, 2],
}


def test_copies_of_the_text_do_not_pass_a_guard(
    shared_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    body = whole("fine")
    body["choices"][0] |= COPIES
    upstream.script = respond(200, body)
    kept = post(shared_gateway(), prompt="x", logprobs=1)
    assert kept.json() == body
    choice = post(shared_gateway(POLICY), prompt="x", logprobs=1).json()["choices"][0]
    assert [choice[name] for name in COPIES] == [None, None, None]
    upstream.script = events(piece("fine", **COPIES), piece("", finish="stop"))
    stream = post(shared_gateway(POLICY), prompt="x", logprobs=1, stream=True)
    for reply in _replies(stream, True):
        assert not any(choice.get(name) for choice in reply["choices"] for name in COPIES)


def test_a_stream(shared_gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    upstream.script = events(
        piece("A heap "), piece("Other", index=1), piece("is a tree."), piece("", 1, "stop"),
        piece("", 0, "length"), {**piece(""), "choices": [], "usage": usage},
    )  # fmt: skip
    stream = (
        shared_gateway(POLICY)
        .client()
        .completions.create(
            model="default", prompt=["x", "y"], stream=True, stream_options={"include_usage": True}
        )
    )
    items = list(stream)
    text, reasons = {0: "", 1: ""}, {}
    for item in items:
        for choice in item.choices:
            text[choice.index] += choice.text
            reasons[choice.index] = choice.finish_reason
    assert text == {0: "A heap is a tree.", 1: "Other"}
    assert reasons == {0: "length", 1: "stop"}
    assert items[-1].usage is not None
    assert items[-1].usage.total_tokens == 7


def test_a_stream_that_is_cut(shared_gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    fine = "All is well here, and it goes on. "
    calm = [piece(fine) for _ in range(40)]
    upstream.script = events(*calm, piece("the secret is out"), piece("", finish="stop"))
    answer = post(shared_gateway(POLICY), prompt="x", stream=True)
    replies = [Completion.construct(**reply) for reply in _replies(answer, True)]
    shown = "".join(choice.text for reply in replies for choice in reply.choices)
    assert shown
    assert (fine * 40).startswith(shown)
    assert "secret" not in shown
    assert [c.finish_reason for r in replies for c in r.choices][-1] == "content_filter"
    assert {reply.id for reply in replies} == {"cmpl-up"}


def test_a_stream_that_is_cut_before_its_first_word_says_why(
    shared_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script = events(piece("the secret is out"), piece("", finish="stop"))
    answer = post(shared_gateway(POLICY), prompt="x", stream=True)
    choices = [choice for reply in _replies(answer, True) for choice in reply["choices"]]
    assert "".join(choice["text"] for choice in choices) == "Stays here."
    assert choices[-1]["finish_reason"] == "content_filter"


def test_a_cut_ends_what_is_open() -> None:
    context = ReplyContext("cmpl-1", "m", 1, choices=3, include_usage=True)
    reply = Reply("No. " * 100, "content_filter")
    encoded = TEXT.cut_events(reply, context, [0, 2], silent=[2], usage=Usage(5, 6))
    found = [event.json for event in Parser().feed(b"".join(encoded)) if event.json is not None]
    bodies = [Completion.construct(**event) for event in found]
    shown = dict.fromkeys(range(3), "")
    for body in bodies:
        for choice in body.choices:
            shown[choice.index] += choice.text
    assert shown == {0: "", 1: "", 2: reply.content}
    assert [c.index for b in bodies for c in b.choices if c.finish_reason] == [0, 2]
    assert bodies[-1].usage is not None
    assert bodies[-1].usage.total_tokens == 11


def test_the_record_names_the_api(gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    upstream.script = respond(200, whole("ok"))
    door = gateway(POLICY)
    assert post(door, prompt=["one", "two"], user="u 1").status_code == 200
    record = door.records.next()
    assert (record.endpoint, record.texts, record.action) == ("completions", 3, "forward")
    assert record.tokens is not None
    assert (record.tokens.prompt, record.tokens.completion) == (10, 5)


def test_the_echo_answers(gateway: StartGateway) -> None:
    door = gateway(POLICY)
    door.app.state.gateway.upstreams = _echo()
    client = door.client()
    reply = client.completions.create(model="default", prompt="What is a heap?")
    assert reply.choices[0].text.endswith("You said: What is a heap?")
    stream = client.completions.create(model="default", prompt="What is a heap?", stream=True)
    assert "".join(item.choices[0].text for item in stream) == reply.choices[0].text


def _echo() -> Any:
    from proxy.config import LitellmParams, ModelEntry, Timeouts
    from proxy.upstream import make_upstreams

    entry = ModelEntry(model_name="default", litellm_params=LitellmParams(model="doorman/echo"))
    return make_upstreams([entry], Timeouts())


def test_every_string_is_a_text_with_its_address() -> None:
    body = json.loads(
        '{"model": "m", "prompt": ["a b", "c d"], "suffix": "e f", "stop": "g h", "x": {"y": "i"}}'
    )
    found = [(t.content, t.role, t.address, t.last_turn) for t in TEXT.texts(body) if not t.derived]
    assert found == [
        ("a b", "user", ("prompt", 0), True),
        ("c d", "user", ("prompt", 1), True),
        ("e f", "user", ("suffix",), True),
        ("g h", "developer", ("stop",), False),
        ("i", "user", ("x", "y"), False),
    ]
