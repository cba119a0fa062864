"""The chat endpoint: no text of a request or a reply goes unseen, and local answers are real ones."""

from __future__ import annotations

import copy

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from policies.decision import Reply
from proxy.endpoints import ENDPOINTS
from proxy.endpoints.base import ReplyContext, Usage, put_string, string_at
from proxy.errors import InvalidRequest
from proxy.sse import Parser

CHAT = ENDPOINTS["/v1/chat/completions"]
USER = {"role": "user", "content": "hello there"}
IMAGE = "data:image/png;base64,iVBORw0KGgo="


def body(*messages, **fields):
    return {"model": "m", "messages": list(messages) or [USER], **fields}


def seen(request):
    return [(text.content, text.role) for text in CHAT.texts(request) if not text.derived]


TEXTS = [
    ("string", body(USER), [("hello there", "user")]),
    ("system", body({"role": "system", "content": "Be kind."}), [("Be kind.", "system")]),
    ("developer", body({"role": "developer", "content": "Be."}), [("Be.", "developer")]),
    (
        "unknown role",
        body({"role": "human", "content": "a b"}),
        [("human", "user"), ("a b", "user")],
    ),
    (
        "a role that is a sentence",
        body({"role": "do evil", "content": "x"}),
        [("do evil", "user"), ("x", "user")],
    ),
    (
        "parts",
        body(
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "one"},
                    {"type": "input_text", "text": "two"},
                    {"type": "refusal", "refusal": "three"},
                    {"type": "file", "file": {"filename": "four.pdf", "file_data": IMAGE}},
                    {"type": "image_url", "image_url": {"url": IMAGE, "detail": "high"}},
                    {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
                    {"type": "from the future", "future": {"deep": [["five"]]}},
                ],
            }
        ),
        [(text, "user") for text in ("one", "two", "three", "four.pdf", "from the future", "five")],
    ),
    (
        "an image behind a link",
        body(
            {
                "role": "user",
                "content": [{"type": "image_url", "image_url": {"url": "https://x.y/?q=1"}}],
            }
        ),
        [("https://x.y/?q=1", "user")],
    ),
    (
        "a data url with words in it",
        body(
            {
                "role": "user",
                "content": [{"type": "image_url", "image_url": {"url": "data:,do evil"}}],
            }
        ),
        [("data:,do evil", "user")],
    ),
    ("base64 that the model reads", body({"role": "user", "content": IMAGE}), [(IMAGE, "user")]),
    (
        "tool calls and results",
        body(
            {
                "role": "assistant",
                "content": None,
                "refusal": "no",
                "reasoning_content": "hm",
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "f", "arguments": '{"q": "x y"}'},
                    },
                    {"id": "call_2", "type": "custom", "custom": {"name": "g", "input": "raw"}},
                ],
                "function_call": {"name": "h", "arguments": "{}"},
            },
            {
                "role": "tool",
                "tool_call_id": "call_1",
                "content": [{"type": "text", "text": "result"}],
            },
            {"role": "function", "name": "h", "content": "done"},
        ),
        [
            *((t, "assistant") for t in ("no", "hm", "f", '{"q": "x y"}', "g", "raw", "h", "{}")),
            ("result", "tool"),
            ("h", "function"),
            ("done", "function"),
        ],
    ),
    (
        "an id that is a sentence",
        body({**USER, "id": "do evil"}),
        [("hello there", "user"), ("do evil", "user")],
    ),
    ("name", body({**USER, "name": "Bob"}), [("hello there", "user"), ("Bob", "user")]),
    (
        "tool definitions are the operator's",
        body(
            tools=[
                {
                    "type": "function",
                    "function": {
                        "name": "get_weather",
                        "description": "Weather now",
                        "parameters": {
                            "type": "object",
                            "required": ["city"],
                            "properties": {
                                "city": {
                                    "type": "string",
                                    "description": "A city",
                                    "enum": ["Bern"],
                                }
                            },
                        },
                    },
                }
            ],
            functions=[{"name": "old", "description": "Old one"}],
        ),
        [
            ("hello there", "user"),
            *(
                (t, "developer")
                for t in ("get_weather", "Weather now", "city", "A city", "Bern", "old", "Old one")
            ),
        ],
    ),
    (
        "fields of the operator's code",
        body(
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "n", "description": "d d"},
            },
            metadata={"team": "blue"},
            user="u-1",
            stop=["END", "two words"],
            tool_choice={"type": "function", "function": {"name": "f"}},
        ),
        [("hello there", "user")]
        + [(t, "developer") for t in ("n", "d d", "blue", "u-1", "END", "two words", "f")],
    ),
    (
        "prediction",
        body(prediction={"type": "content", "content": "draft"}),
        [("hello there", "user"), ("draft", "user")],
    ),
    (
        "fields nobody knows count as the user's",
        body(future={"a": ["do evil"]}, system="x y"),
        [("hello there", "user"), ("do evil", "user"), ("x y", "user")],
    ),
    (
        "settings are no text",
        body(
            reasoning_effort="high",
            service_tier="auto",
            tool_choice="auto",
            modalities=["text", "audio"],
            audio={"voice": "alloy", "format": "mp3"},
            temperature=0.5,
        ),
        [("hello there", "user")],
    ),
    (
        "a setting that is a sentence",
        body(tool_choice="do evil"),
        [("hello there", "user"), ("do evil", "developer")],
    ),
]


@pytest.mark.parametrize(("name", "request_body", "expected"), TEXTS, ids=[row[0] for row in TEXTS])
def test_texts(name, request_body, expected):
    assert seen(request_body) == expected
    for text in CHAT.texts(request_body):
        assert text.stage == "input"
        if text.derived:
            continue
        assert string_at(request_body, text.address) == text.content


LEAVES = st.recursive(
    st.text(max_size=8) | st.integers() | st.none(),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=8), LEAVES, max_size=4), LEAVES)
def test_a_sentence_anywhere_is_seen(fields, extra):
    """Every string with a blank in it is text wherever it stands."""
    request = body({"role": "user", "content": [{"type": "x", "x": extra}]}) | fields
    found = {text.address for text in CHAT.texts(request)}
    stack = [((), request)]
    while stack:
        address, value = stack.pop()
        if isinstance(value, dict | list):
            items = value.items() if isinstance(value, dict) else enumerate(value)
            stack += [((*address, key), item) for key, item in items]
        elif isinstance(value, str) and " " in value:
            assert address in found


def test_deep_bodies_do_not_exhaust_the_stack():
    deep = "down here"
    for _ in range(5000):
        deep = [deep]
    assert [text.content for text in CHAT.texts(body(x=deep))][-2:] == ["down here", "x"]


A, T, S = (
    {"role": "assistant", "content": "a"},
    {"role": "tool", "tool_call_id": "1", "content": "t"},
    {"role": "system", "content": "s"},
)
U = {"role": "user", "content": "u"}
TURNS = [
    ("one message", [U], [0]),
    ("history is not the last turn", [U, A, U], [2]),
    ("several messages of the user", [S, U, A, U, U], [3, 4]),
    ("a reminder of the operator at the end", [U, A, U, S], [2]),
    ("a reminder in between", [U, A, U, S, U], [2, 4]),
    ("a tool result", [U, A, T, T], [2, 3]),
    ("the user after a tool result", [U, A, T, U], [3]),
    ("a prefilled answer", [U, A], []),
    ("only instructions", [S], []),
]


@pytest.mark.parametrize(("name", "messages", "last"), TURNS, ids=[row[0] for row in TURNS])
def test_turns(name, messages, last):
    texts = [text for text in CHAT.texts(body(*messages, user="x y")) if not text.derived]
    assert [text.turn for text in texts] == [*range(len(messages)), -1]
    assert [text.turn for text in texts if text.last_turn] == last


def test_what_cannot_be_read_is_reported():
    content = [
        {"type": "text", "text": IMAGE},
        {"type": "image_url", "image_url": {"url": IMAGE}},
        {"type": "image_url", "image_url": {"url": "https://x.y/z.png"}},
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "file", "file": {"file_data": IMAGE, "filename": "a.pdf"}},
    ]
    assert CHAT.unscanned(body({"role": "user", "content": content})) == [
        "messages.0.content.1.image_url.url",
        "messages.0.content.2.image_url.url",
        "messages.0.content.3.input_audio.data",
        "messages.0.content.4.file.file_id",
        "messages.0.content.5.file.file_data",
    ]
    assert CHAT.unscanned(body()) == []


BAD = [
    ({"model": "m"}, "messages", "missing_required_parameter"),
    ({"messages": [USER]}, "model", "missing_required_parameter"),
    ({"model": 1, "messages": [USER]}, "model", "missing_required_parameter"),
    (body() | {"messages": []}, "messages", "empty_array"),
    (body() | {"messages": "hi"}, "messages", "invalid_type"),
    (body() | {"messages": {}}, "messages", "invalid_type"),
    (body(USER, "hi"), "messages[1]", "invalid_type"),
    (body({"content": "x"}), "messages[0].role", "missing_required_parameter"),
    (body({"role": 1, "content": "x"}), "messages[0].role", "invalid_type"),
    (body({"role": "do-evil", "content": "x"}), "messages[0].role", "invalid_value"),
    (body(x={"a" * 257: 1}), None, "string_above_max_length"),
    (body({"role": "user", "content": 1}), "messages[0].content", "invalid_type"),
    (body({"role": "user", "content": {}}), "messages[0].content", "invalid_type"),
    (body({"role": "user", "content": ["x"]}), "messages[0].content[0]", "invalid_type"),
    (
        body({"role": "user", "content": [{"type": "text", "text": 1}]}),
        "messages[0].content[0].text",
        "invalid_type",
    ),
    (body({"role": "user", "content": "x", "do evil": 1}), "messages[0]", "unknown_parameter"),
    (body({"role": "user", "content": [{"a" * 65: 1}]}), "messages[0]", "unknown_parameter"),
    (body({"role": "assistant", "tool_calls": {}}), "messages[0].tool_calls", "invalid_type"),
    (body(n=0), "n", "integer_below_min_value"),
    (body(n=129), "n", "integer_above_max_value"),
    (body(n="2"), "n", "invalid_type"),
    (body(n=True), "n", "invalid_type"),
    (body(n=1.0), "n", "invalid_type"),
    (body(stream="yes"), "stream", "invalid_type"),
    (body(stream=1), "stream", "invalid_type"),
    (body(stream_options=[]), "stream_options", "invalid_type"),
    (body(stream_options={"include_usage": "x"}), "stream_options.include_usage", "invalid_type"),
    (body(tools={}), "tools", "invalid_type"),
    (body(tools=["x"]), "tools[0]", "invalid_type"),
    (body(tools=[None]), "tools[0]", "invalid_type"),
]


@pytest.mark.parametrize(("request_body", "param", "code"), BAD)
def test_invalid_requests(request_body, param, code):
    with pytest.raises(InvalidRequest) as caught:
        CHAT.validate(request_body)
    assert (caught.value.param, caught.value.code) == (param, code)
    assert "evil" not in caught.value.message


@pytest.mark.parametrize(
    "request_body",
    [
        body(),
        body(n=None, stream=None, stream_options=None, tools=None),
        body(n=128, stream=True, stream_options={"include_usage": True}),
        body({"role": "assistant", "content": None, "tool_calls": []}),
        body({"role": "tool", "content": [{"type": "text", "text": "x"}]}),
    ],
)
def test_valid_requests(request_body):
    before = copy.deepcopy(request_body)
    CHAT.validate(request_body)
    assert request_body == before


def test_reply_texts_and_scrub():
    reply = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "some-model",
        "system_fingerprint": "fp_1",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {
                    "role": "assistant",
                    "content": "one two",
                    "refusal": None,
                    "reasoning_content": "three",
                    "audio": {"id": "a", "data": "UklGRg==", "transcript": "four"},
                    "tool_calls": [
                        {
                            "id": "c",
                            "type": "function",
                            "function": {"name": "f", "arguments": "{}"},
                        }
                    ],
                    "annotations": [
                        {"type": "url_citation", "url_citation": {"url": "https://x.y"}}
                    ],
                },
                "logprobs": {"content": [{"token": "one"}, {"token": " two"}]},
            },
            {
                "index": 1,
                "message": {"content": "other"},
                "logprobs": {"content": [{"token": "other"}]},
            },
        ],
        "citations": ["https://c.d"],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
    }
    texts = [text for text in CHAT.reply_texts(reply) if not text.derived]
    assert [text.content for text in texts] == [
        "one two", "three", "four", "f", "{}", "https://x.y", "other", "https://c.d",
    ]  # fmt: skip
    assert {(text.role, text.stage) for text in texts} == {("assistant", "output")}
    assert CHAT.usage(reply) == Usage(3, 4)
    assert [CHAT.is_json(text.address) for text in texts] == [False] * 4 + [True] + [False] * 3
    put_string(reply, texts[0].address, "[x]")
    CHAT.scrub(reply, texts[0].address)
    assert b"one" not in orjson.dumps(reply)
    assert reply["choices"][1]["logprobs"] is not None


def chunk(delta, index=0, **choice):
    return {
        "id": "c",
        "object": "chat.completion.chunk",
        "choices": [{"index": index, "delta": delta, **choice}],
    }


DELTAS = [
    (chunk({"role": "assistant", "content": ""}), []),
    (chunk({"content": "hi"}), [((0, "content"), "hi")]),
    (chunk({"content": "hi"}, index=2), [((2, "content"), "hi")]),
    (chunk({"refusal": "no"}), [((0, "refusal"), "no")]),
    (
        chunk({"reasoning_content": "a", "reasoning": "b"}),
        [((0, "reasoning_content"), "a"), ((0, "reasoning"), "b")],
    ),
    (
        chunk(
            {
                "tool_calls": [
                    {
                        "index": 1,
                        "id": "c",
                        "type": "function",
                        "function": {"name": "f", "arguments": "{"},
                    }
                ]
            }
        ),
        [
            ((0, "tool_calls", 1, "function", "name"), "f"),
            ((0, "tool_calls", 1, "function", "arguments"), "{"),
        ],
    ),
    (chunk({"function_call": {"arguments": "{"}}), [((0, "function_call", "arguments"), "{")]),
    (
        chunk({"audio": {"id": "a", "data": "UklG", "transcript": "say"}}),
        [((0, "audio", "transcript"), "say")],
    ),
    (chunk({"future": {"x": ["y"]}}), [((0, "future", "x", 0), "y")]),
    (chunk({"content": "a"}, logprobs={"content": [{"token": "a"}]}), [((0, "content"), "a")]),
    ({"choices": [{"index": 0, "text": "t"}]}, [((0, "text"), "t")]),
    ({"choices": [], "citations": ["https://c.d"]}, [(("citations", 0), "https://c.d")]),
    ({"choices": [], "obfuscation": "Ab3"}, []),
    ({"choices": None}, []),
    ({"choices": ["x", {"index": 0, "delta": {"content": "y"}}]}, [((0, "content"), "y")]),
]


@pytest.mark.parametrize(("event", "expected"), DELTAS)
def test_deltas(event, expected):
    deltas = CHAT.deltas(event)
    assert [(delta.channel, delta.text) for delta in deltas] == expected
    for delta in deltas:
        assert string_at(event, delta.address) == delta.text
        assert delta.json == (delta.channel[-1] == "arguments")
        assert delta.whole == (delta.channel[0] == "citations")


def test_finished_and_failed():
    assert CHAT.finished(chunk({}, finish_reason="stop")) == [0]
    assert CHAT.finished(chunk({}, index=3, finish_reason="length")) == [3]
    assert CHAT.finished(chunk({"content": "x"}, finish_reason=None)) == []
    assert CHAT.usage({"choices": [], "usage": None}) is None
    assert CHAT.failed({"error": {"message": "x"}})
    assert not CHAT.failed(chunk({}))


REPLY = Reply("Let's not. " * 30, "content_filter")


def events_of(encoded):
    parser = Parser()
    events = parser.feed(b"".join(encoded))
    assert events[-1].done
    return [ChatCompletionChunk.model_validate(event.json) for event in events[:-1]]


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("include_usage", [False, True])
def test_local_answers_are_what_the_sdk_expects(n, include_usage):
    request = body(n=n, stream_options={"include_usage": include_usage})
    context = CHAT.context(request, id="chatcmpl-x", created=7)
    assert context == ReplyContext("chatcmpl-x", "m", 7, n, include_usage)
    whole = ChatCompletion.model_validate(CHAT.answer(REPLY, context))
    assert [choice.message.content for choice in whole.choices] == [REPLY.content] * n
    assert {choice.finish_reason for choice in whole.choices} == {"content_filter"}
    assert whole.usage is not None
    assert whole.usage.total_tokens == 0

    chunks = events_of(CHAT.answer_events(REPLY, context))
    text, reasons, roles = dict.fromkeys(range(n), ""), {}, {}
    for event in chunks:
        assert (event.id, event.model, event.created) == ("chatcmpl-x", "m", 7)
        for choice in event.choices:
            text[choice.index] += choice.delta.content or ""
            roles.setdefault(choice.index, choice.delta.role)
            reasons[choice.index] = choice.finish_reason
    assert text == dict.fromkeys(range(n), REPLY.content)
    assert reasons == dict.fromkeys(range(n), "content_filter")
    assert roles == dict.fromkeys(range(n), "assistant")
    assert [event.usage is not None for event in chunks] == [False] * (len(chunks) - 1) + [
        include_usage
    ]


def test_a_cut_ends_what_is_open_and_speaks_where_nothing_was_shown():
    context = ReplyContext("i", "m", 1, choices=3, include_usage=True)
    events = events_of(CHAT.cut_events(REPLY, context, [0, 2], silent=[2], usage=Usage(5, 6)))
    shown = dict.fromkeys(range(3), "")
    for event in events:
        for choice in event.choices:
            shown[choice.index] += choice.delta.content or ""
    assert shown == {0: "", 1: "", 2: REPLY.content}
    assert [c.index for e in events for c in e.choices if c.finish_reason] == [0, 2]
    assert events[-1].usage is not None
    assert events[-1].usage.total_tokens == 11
