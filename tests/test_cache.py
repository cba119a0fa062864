"""The exact cache, end to end: what is asked again is answered from memory, in the form asked for."""

from __future__ import annotations

import json
import time
from typing import Any

import openai
import pytest
from cache_kit import ANSWER, APIS, EXACT, QUESTION, action, ask, post
from gateway_kit import ScriptedUpstream, StartGateway, chunk, completion, events, words

MESSAGES: list[Any] = [{"role": "user", "content": QUESTION}]


@pytest.mark.parametrize("name", APIS)
def test_the_second_request_is_answered_without_the_model(
    name: str, gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    door, api = gateway("", EXACT), APIS[name]
    upstream.script = api.whole
    body = {"model": "default", **api.body}
    first, second = post(door, api.path, body), post(door, api.path, body)
    assert (action(first), action(second)) == ("forward", "cache"), first.text
    assert second.content == first.content
    assert api.text(second.json()) == api.text(first.json())
    assert len(upstream.seen) == 1
    assert "age" not in first.headers
    assert 0 <= int(second.headers["age"]) < 600
    miss, hit = door.records.next(), door.records.next()
    assert miss.cache == {"outcome": "miss", "kept": True}
    assert hit.cache is not None
    assert hit.action == "cache"
    assert (hit.cache["outcome"], hit.cache["kind"]) == ("hit", "exact")
    assert hit.cache["decision_id"] == miss.decision_id == first.headers["x-doorman-decision-id"]
    assert hit.decision_id == second.headers["x-doorman-decision-id"] != miss.decision_id
    assert not hit.upstream_called
    assert hit.tokens is None
    assert hit.cost_usd is None
    assert miss.tokens is not None
    assert hit.cache["prompt_tokens"] == miss.tokens.prompt


@pytest.mark.parametrize("name", [name for name, api in APIS.items() if api.stream])
@pytest.mark.parametrize("first", ["whole", "stream"])
@pytest.mark.parametrize("second", ["whole", "stream"])
def test_either_form_is_answered_where_it_can_be(
    name: str, first: str, second: str, gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    door, api = gateway("", EXACT), APIS[name]
    replies = []
    for form in (first, second):
        upstream.script = api.whole if form == "whole" else api.stream  # type: ignore[assignment]
        extra = {"stream": True} if form == "stream" else {}
        replies.append(post(door, api.path, {"model": "default", **api.body, **extra}))
    # A stream that tells no usage stands for itself alone: a complete reply has to tell one.
    silent = name != "responses" and (first, second) == ("stream", "whole")
    assert action(replies[1]) == ("forward" if silent else "cache"), replies[0].text
    assert len(upstream.seen) == 1 + silent
    kind = replies[1].headers["content-type"].split(";")[0]
    assert kind == ("application/json" if second == "whole" else "text/event-stream")
    if second == "whole":
        assert api.text(replies[1].json()) == ANSWER


def test_with_the_openai_client(gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    door = gateway("", EXACT)
    client = door.client()
    create = client.chat.completions.create
    upstream.script = completion(ANSWER)
    first = create(model="default", messages=MESSAGES, temperature=0)
    again = create(model="default", messages=MESSAGES, temperature=0, user="somebody else")
    assert again == first
    options: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
    stream = list(create(model="default", messages=MESSAGES, temperature=0, **options))
    said = "".join(c.delta.content or "" for part in stream for c in part.choices)
    assert said == ANSWER
    assert stream[-1].usage == first.usage
    assert {part.id for part in stream} == {first.id}
    with client.chat.completions.stream(model="default", messages=MESSAGES, temperature=0) as run:
        final = run.get_final_completion()
    assert final.choices[0].message.content == ANSWER
    assert final.choices[0].finish_reason == "stop"
    upstream.script = APIS["responses"].whole
    responses = [
        client.responses.create(model="default", input=QUESTION, temperature=0) for _ in range(2)
    ]
    assert responses[0] == responses[1]
    *_, last = client.responses.create(model="default", input=QUESTION, temperature=0, stream=True)
    assert last.type == "response.completed"
    assert last.response.output_text == ANSWER
    assert last.response.id == responses[0].id
    upstream.script = APIS["embeddings"].whole
    made = [client.embeddings.create(model="default", input=QUESTION) for _ in range(2)]
    assert made[0].data == made[1].data
    upstream.script = APIS["completions"].whole
    texts = [client.completions.create(model="default", prompt="a", temperature=0) for _ in "ab"]
    assert texts[0] == texts[1]
    assert len(upstream.seen) == 4


def test_a_stream_is_told_again_word_for_word(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    door = gateway("", EXACT)
    upstream.script = words("One ", "two ", "three.")
    create = door.client().chat.completions.create
    runs = [
        list(create(model="default", messages=MESSAGES, temperature=0, stream=True)) for _ in "ab"
    ]
    assert runs[0] == runs[1]
    assert len(upstream.seen) == 1


def test_a_stream_that_tells_its_usage_answers_plain_requests(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    door = gateway("", EXACT)
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    tail = {"id": "chatcmpl-upstream", "object": "chat.completion.chunk", "created": 1}
    last = {**tail, "model": "upstream-model", "choices": [], "usage": usage}
    upstream.script = events(chunk({"content": ANSWER}), chunk({}, finish="stop"), last)
    create = door.client().chat.completions.create
    asked: dict[str, Any] = {"model": "default", "messages": MESSAGES, "temperature": 0}
    list(create(**asked, stream=True, stream_options={"include_usage": True}))
    plain = create(**asked)
    assert plain.choices[0].message.content == ANSWER
    assert plain.usage is not None
    assert plain.usage.total_tokens == 10
    # A stream without the usage is another one, and is made of the complete reply.
    bare = list(create(**asked, stream=True))
    assert all(part.usage is None for part in bare)
    assert len(upstream.seen) == 1


def test_a_hit_saves_what_its_call_has_cost(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    door = gateway("", EXACT)
    ask(door)
    hit = ask(door)
    miss_record, hit_record = door.records.next(), door.records.next()
    assert miss_record.cost_usd
    assert hit_record.saved_usd == miss_record.cost_usd
    assert hit_record.saved_basis is not None
    assert hit_record.saved_basis.startswith("cached")
    assert float(hit.headers["x-doorman-saved-usd"]) == pytest.approx(
        miss_record.cost_usd, abs=1e-6
    )
    metrics = door.app.state.gateway.metrics.text().decode()
    assert 'doorman_cache_total{kind="exact",outcome="hit"} 1.0' in metrics
    assert 'doorman_cache_total{kind="exact",outcome="miss"} 1.0' in metrics
    assert 'doorman_cache_total{kind="exact",outcome="kept"} 1.0' in metrics


@pytest.mark.parametrize(
    "extra",
    [
        {"temperature": None}, {"temperature": 0.1}, {"temperature": 1}, {"n": 2},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
        {"web_search_options": {}}, {"store": True}, {"some_new_field": 1},
    ],
)  # fmt: skip
def test_what_is_drawn_at_random_or_may_do_something_goes_to_the_model(
    extra: dict[str, Any], gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    door = gateway("", EXACT)
    assert [action(ask(door, **extra)) for _ in "ab"] == ["forward", "forward"]
    assert len(upstream.seen) == 2
    assert door.records.next().cache is None


@pytest.mark.parametrize(
    ("extra", "same"),
    [
        ({"user": "u2"}, True), ({"metadata": {"a": "b"}}, True), ({"temperature": 0.0}, True),
        ({"stop": None}, True), ({"seed": 1}, False), ({"max_tokens": 5}, False),
        ({"model": "small"}, False), ({"top_p": 0.5}, False),
        ({"response_format": {"type": "json_object"}}, False),
        ({"messages": [{"role": "system", "content": "Be short."}, *MESSAGES]}, False),
        ({"messages": [{"role": "user", "content": QUESTION + " "}]}, False),
    ],
)  # fmt: skip
def test_what_changes_the_answer_is_part_of_the_key(
    extra: dict[str, Any], same: bool, gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    door = gateway("", "cache: {exact: {models: ['*']}}")
    ask(door)
    assert action(ask(door, **extra)) == ("cache" if same else "forward")


def test_only_the_named_models(gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    door = gateway("", EXACT)
    assert [action(ask(door, model="small")) for _ in "ab"] == ["forward", "forward"]


def test_off_by_default(gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    door = gateway()
    assert [action(ask(door)) for _ in "ab"] == ["forward", "forward"]
    assert door.records.next().cache is None


def test_what_is_too_old_is_forgotten(gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    door = gateway("", "cache: {exact: {models: [default], ttl_seconds: 0.2}}")
    ask(door)
    time.sleep(0.3)
    assert action(ask(door)) == "forward"


@pytest.mark.parametrize(
    ("orders", "again", "stored"),
    [
        ("no-cache", "forward", True), ("No-Cache", "forward", True), ("max-age=0", "forward", True),
        ("max-age=60, foo", "cache", True), ("max-age=-1", "forward", True),
        ("no-store", "forward", False), ("x, no-store", "forward", False), ("public", "cache", True),
    ],
)  # fmt: skip
def test_clients_may_refuse_the_cache(
    orders: str, again: str, stored: bool, gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    door, header = gateway("", EXACT), {"cache-control": orders}
    ask(door, headers=header)
    assert action(ask(door, headers=header)) == again
    assert action(ask(door)) == ("cache" if stored else "forward")


def test_a_fresh_reply_takes_the_place_of_the_old(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    door = gateway("", EXACT)
    upstream.script = completion("old")
    ask(door)
    upstream.script = completion("new")
    ask(door, headers={"cache-control": "no-cache"})
    assert ask(door).json()["choices"][0]["message"]["content"] == "new"


def test_openai_errors_stay_errors(gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    door = gateway("", EXACT)
    with pytest.raises(openai.BadRequestError):
        door.client().chat.completions.create(model="default", messages=[], temperature=0)
    assert json.loads(ask(door).text)["object"] == "chat.completion"
