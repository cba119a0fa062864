"""The chat model of the trainer: which one, with whose key, at what price."""

from __future__ import annotations

import pytest
from scripted_llm import ScriptedLlm

from proxy.config import ConfigError
from proxy.llm import NO_MODEL, LitellmChat, chat_model


@pytest.fixture
def server():
    with ScriptedLlm({"refund": "refund"}) as scripted:
        yield scripted


def test_without_a_model_two_ways_are_named():
    for params in (None, {}, ""):
        with pytest.raises(ConfigError) as caught:
            chat_model(params, {})
        assert str(caught.value) == NO_MODEL
    for part in ("model: PROVIDER/MODEL", "examples:", "data:"):
        assert part in NO_MODEL


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"model": "openai/x", "api_key": "${UNSET_KEY}"}, "environment variable UNSET_KEY"),
        ({"model": "nowhere/x"}, "litellm knows no provider"),
        ({"model": "openai/x", "input_cost_per_token": "cheap"}, "must be dollars per token"),
        ({"model": 5}, "the chat model: model must be text"),
    ],
)
def test_a_model_that_cannot_be_used(params, message):
    with pytest.raises(ConfigError, match=message):
        chat_model(params, {})


def test_keys_come_from_the_environment_and_go_only_where_they_belong(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai-own")
    given = {"model": "openai/scripted", "api_base": server.base}
    message = [
        {"role": "system", "content": "Label."},
        {"role": "user", "content": '[{"n": 1, "text": "a"}]'},
    ]
    for params, environ, sent in (
        (given, {}, "Bearer none"),
        (given, {"DOORMAN_LLM_API_KEY": "sk-d"}, "Bearer sk-d"),
        ({**given, "api_key": "${MINE}"}, {"MINE": "sk-m"}, "Bearer sk-m"),
        ("openai/scripted", {"DOORMAN_LLM_API_BASE": server.base}, "Bearer none"),
    ):
        with chat_model(params, environ) as model:
            model.complete(message, temperature=0, max_tokens=10, json_schema=None)
        assert server.asked[-1].headers["authorization"] == sent


def test_litellms_price_map_is_used():
    with LitellmChat("openai/gpt-4o-mini", {"api_key": "x"}) as model:
        assert model.price(1_000_000, 1_000_000) == pytest.approx(0.75)
