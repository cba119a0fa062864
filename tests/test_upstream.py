"""From the config's entries to upstreams, what goes up of a body, the echo, and prices."""

from __future__ import annotations

import json

import orjson
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from proxy.config import ConfigError, LitellmParams, ModelEntry, Timeouts
from proxy.echo import MAX_ECHO_CHARS, Echo
from proxy.endpoints import ENDPOINTS
from proxy.prices import COMPLETION_TOKENS, Prices, estimate_completion
from proxy.upstream import PROVIDERS, STRIPPED_PARAMS, make_upstreams, outgoing
from proxy.upstream_http import HttpUpstream
from proxy.upstream_litellm import LitellmUpstream

TIMEOUTS = Timeouts()
CHAT = ENDPOINTS["/v1/chat/completions"]


def entry(model, info=None, **params):
    return ModelEntry(
        model_name="a", litellm_params=LitellmParams(model=model, **params), model_info=info or {}
    )


HERE = "http://127.0.0.1:8000/v1"
TARGETS = [
    # entry, kind of upstream, the model's name there, price key, provider, base URL
    (entry("openai/gpt-4o"), HttpUpstream, "gpt-4o", "openai/gpt-4o", "openai", "https://api.openai.com/v1"),
    (entry("gpt-4o", api_key="k"), HttpUpstream, "gpt-4o", "gpt-4o", "openai", "https://api.openai.com/v1"),
    (entry("my-own", api_base=HERE), HttpUpstream, "my-own", "my-own", "openai", HERE),
    (entry("openai/my/own", api_base=HERE), HttpUpstream, "my/own", "openai/my/own", "openai", HERE),
    (
        entry("groq/llama-3.1-8b-instant", rpm=5, timeout=30),
        HttpUpstream, "llama-3.1-8b-instant", "groq/llama-3.1-8b-instant", "groq", "https://api.groq.com/openai/v1",
    ),
    (
        entry("openrouter/openai/gpt-4o"),
        HttpUpstream, "openai/gpt-4o", "openrouter/openai/gpt-4o", "openrouter", "https://openrouter.ai/api/v1",
    ),
    (
        entry("fireworks_ai/llama-v3p1-8b-instruct"),
        HttpUpstream, "accounts/fireworks/models/llama-v3p1-8b-instruct",
        "fireworks_ai/llama-v3p1-8b-instruct", "fireworks_ai", "https://api.fireworks.ai/inference/v1",
    ),
    (entry("hosted_vllm/m", api_base=HERE), HttpUpstream, "m", "hosted_vllm/m", "hosted_vllm", HERE),
    (entry("m", custom_llm_provider="lm_studio", api_base=HERE), HttpUpstream, "m", "m", "lm_studio", HERE),
    (
        entry("openai/gpt-4o", {"base_model": "gpt-4o-2024-08-06"}),
        HttpUpstream, "gpt-4o", "gpt-4o-2024-08-06", "openai", "https://api.openai.com/v1",
    ),
    (entry("openai/g", drop_params=True), LitellmUpstream, "openai/g", "openai/g", "openai", None),
    (entry("anthropic/c"), LitellmUpstream, "anthropic/c", "anthropic/c", "anthropic", None),
    (entry("claude-x"), LitellmUpstream, "claude-x", "claude-x", "litellm", None),
    (entry("bedrock/x", aws_region_name="eu"), LitellmUpstream, "bedrock/x", "bedrock/x", "bedrock", None),
    (entry("doorman/echo", {"base_model": "gpt-4o"}), Echo, "doorman/echo", "gpt-4o", "doorman", None),
]  # fmt: skip


@pytest.mark.parametrize("row", TARGETS, ids=[str(i) for i in range(len(TARGETS))])
async def test_targets(row):
    configured, kind, model, price_key, provider, base = row
    upstreams = make_upstreams([configured], TIMEOUTS)
    target = upstreams.resolve("a")
    assert isinstance(target.upstream, kind)
    assert (target.model, target.price_key, target.provider) == (model, price_key, provider)
    assert base is None or target.upstream._base == base
    with pytest.raises(KeyError):
        upstreams.resolve("b")
    await upstreams.close()


@pytest.mark.parametrize(
    "provider", [name for name, known in PROVIDERS.items() if not known.api_base]
)
def test_servers_of_ones_own_need_an_address(provider):
    with pytest.raises(ConfigError, match="api_base"):
        make_upstreams([entry(f"{provider}/m")], TIMEOUTS)


@pytest.mark.parametrize(
    "base", ["localhost:8000", "ftp://x/v1", "http://", "https://x/v1?key=secret", "/v1"]
)
def test_an_address_that_is_none(base):
    with pytest.raises(ConfigError, match="api_base") as caught:
        make_upstreams([entry("openai/m", api_base=base)], TIMEOUTS)
    assert "secret" not in str(caught.value)


def test_secrets_are_not_in_reprs():
    for model in ("openai/m", "anthropic/m"):
        configured = entry(model, api_key="sk-secret", api_base="http://u:sk-secret@host/v1")
        assert "sk-secret" not in repr(make_upstreams([configured], TIMEOUTS).resolve("a"))


RAW = b'{ "messages": [], "model" :"a", "future": 1.50 }'
OUTGOING = [
    ("nothing changes", RAW, "a", RAW),
    ("the model's name", RAW, "b/c", b'{ "messages": [], "model" :"b/c", "future": 1.50 }'),
    (
        "routing parameters",
        b'{"model": "a", "api_base": "http://169.254.169.254", "x": 1}',
        "a",
        b'{"model": "a", "x": 1}',
    ),
    (
        "credentials",
        b'{"model": "a", "aws_secret_access_key": "k", "_x": 1, "user": "u"}',
        "b",
        b'{"model": "b", "user": "u"}',
    ),
    (
        "a parameter beside numbers that must stay as they are written",
        b'{"tags": ["a", {"model": 1}], "seed": 123456789012345678901234567890, "model": "a",\n "x":1.50 , '
        b'"t\\u0061gs2": 1, "timeout": 3}',
        "b",
        b'{"seed": 123456789012345678901234567890, "model": "b",\n "x":1.50 , "t\\u0061gs2": 1}',
    ),
    ("an escaped name", b'{"model": "a", "t\\u0061gs": 1 }', "a", b'{"model": "a"}'),
]


@pytest.mark.parametrize(
    ("name", "raw", "model", "expected"), OUTGOING, ids=[row[0] for row in OUTGOING]
)
def test_outgoing(name, raw, model, expected):
    given = orjson.loads(raw)
    body, sent = outgoing(given, raw, model)
    assert given == orjson.loads(raw)
    assert body["model"] == model
    assert sent == expected
    assert orjson.loads(sent) == body


def test_every_stripped_parameter_is_stripped_and_ordinary_fields_are_not():
    ordinary = {
        "model": "m", "messages": [], "metadata": {"a": "b"}, "user": "u", "temperature": 1, "top_k": 5,
        "stream_options": {}, "store": True, "service_tier": "auto", "guided_json": {},
        "prompt_cache_key": "x", "safety_identifier": "s", "extra": None,
    }  # fmt: skip
    given = ordinary | dict.fromkeys(STRIPPED_PARAMS, "x")
    body, raw = outgoing(given, orjson.dumps(given), "m")
    assert (body, raw) == (ordinary, orjson.dumps(ordinary))
    assert outgoing(given, None, "m") == (ordinary, None)


# -- echo -----------------------------------------------------------------------------------------

ECHOES = [
    ([{"role": "user", "content": "hello  there\nyou"}], "hello  there\nyou"),
    (
        [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"},
            {"role": "tool", "content": "c"},
        ],
        "a",
    ),
    (
        [
            {
                "role": "user",
                "content": [{"type": "text", "text": "x"}, {"type": "image_url"}, {"text": "y"}],
            }
        ],
        "x\ny",
    ),
    ([{"role": "system", "content": "s"}], ""),
    ([{"role": "user", "content": None}], ""),
    ([{"role": "user", "content": "z" * 9000}], "z" * MAX_ECHO_CHARS + "..."),
]


@pytest.mark.parametrize(("messages", "said"), ECHOES)
async def test_echo(messages, said):
    body = {
        "model": "x",
        "messages": messages,
        "n": 3,
        "tools": [{}],
        "stream_options": {"include_usage": True},
    }
    reply = await Echo().complete(body, None, {})
    whole = ChatCompletion.model_validate(reply.json)
    assert (
        whole.choices[0].message.content == "doorman/echo: no model was called. You said: " + said
    )
    assert whole.choices[0].finish_reason == "stop"
    assert json.loads(reply.body) == reply.json
    again = await Echo().complete(body, None, {})
    assert again.json["choices"] == reply.json["choices"]

    async with Echo().stream(body, None, {}) as stream:
        events = [event async for event in stream]
    chunks = [ChatCompletionChunk.model_validate(event.json) for event in events[:-1]]
    assert events[-1].done
    assert (
        "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        == whole.choices[0].message.content
    )
    assert len(chunks) > 8
    assert chunks[-1].usage == whole.usage
    assert whole.usage.completion_tokens > 0
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-2:] == [None, "stop"]


async def test_echo_speaks_chat_only():
    reply = await Echo().complete({}, None, {}, path="embeddings")
    assert reply.status == 404
    async with Echo().stream({}, None, {}, path="embeddings") as stream:
        assert stream.reply.status == 404


# -- prices ---------------------------------------------------------------------------------------

MAP = {
    "sample_spec": {"input_cost_per_token": 1.0, "output_cost_per_token": 1.0, "litellm_provider": "x"},
    "gpt-x": {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6, "litellm_provider": "openai"},
    "groq/llama-x": {"input_cost_per_token": 3e-6, "output_cost_per_token": 0, "litellm_provider": "groq"},
    "claude-x": {
        "input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6, "litellm_provider": "anthropic",
        "input_cost_per_token_above_200k_tokens": 2e-6, "output_cost_per_token_above_200k_tokens": 3e-6,
    },
    "gemini-x": {"input_cost_per_token": 1e-6, "litellm_provider": "vertex_ai-language-models"},
    "picture": {"output_cost_per_image": 0.1, "litellm_provider": "openai"},
    "odd": {"input_cost_per_token": "1", "output_cost_per_token": True},
    "broken": 5,
}  # fmt: skip
COSTS = [
    ("gpt-x", 1000, 100, 0.0012),
    ("openai/gpt-x", 1000, 100, 0.0012),
    ("gpt-x", 0, 0, 0.0),
    ("hosted_vllm/gpt-x", 1000, 100, None),
    ("openrouter/openai/gpt-x", 1000, 100, None),
    ("groq/llama-x", 1000, 100, 0.003),
    ("llama-x", 1000, 100, None),
    ("anthropic/claude-x", 200_000, 0, 0.2),
    ("anthropic/claude-x", 200_001, 1000, 0.403002),
    ("vertex_ai/gemini-x", 1000, 5, 0.001),
    ("picture", 1, 1, None),
    ("odd", 1, 1, None),
    ("broken", 1, 1, None),
    ("sample_spec", 1, 1, None),
    ("nonsense", 1, 1, None),
    ("", 1, 1, None),
]


@pytest.mark.parametrize(("key", "prompt", "completion", "dollars"), COSTS)
def test_costs(tmp_path, key, prompt, completion, dollars):
    path = tmp_path / "map.json"
    path.write_text(json.dumps(MAP))
    cost = Prices.load(path).cost(key, prompt, completion)
    assert cost == (None if dollars is None else pytest.approx(dollars))


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b'"x"'])
def test_a_gateway_can_do_without_prices(tmp_path, content):
    path = tmp_path / "map.json"
    if content is not None:
        path.write_bytes(content)
    prices = Prices.load(path)
    assert len(prices) == 0
    assert prices.cost("gpt-x", 1, 1) is None


def test_the_installed_map():
    prices = Prices.load()
    assert len(prices) > 1000
    assert 0 < prices.cost("gpt-4o-mini", 1_000_000, 0) < prices.cost("gpt-4o", 1_000_000, 0) < 100
    assert prices.cost("openai/gpt-4o", 10, 10) == prices.cost("gpt-4o", 10, 10)


def test_estimates():
    prices = Prices({})
    assert [prices.estimate_tokens(chars) for chars in (0, 1, 4, 5, 400)] == [0, 1, 1, 2, 100]
    assert estimate_completion() == estimate_completion(100_000) == COMPLETION_TOKENS
    assert estimate_completion(7) == 7
