"""The chat model of the trainer: which one, with whose key, at what price."""

from __future__ import annotations

import pytest
from scripted_llm import ScriptedLlm

from classifiers.training.spend import CallFailed
from proxy.config import ConfigError, Timeouts
from proxy.llm import NO_MODEL, LitellmChat, chat_model
from proxy.upstream_litellm import LitellmUpstream


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


KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY", "GEMINI_API_KEY", "OR_API_KEY")


@pytest.mark.parametrize(
    ("model", "environ", "names"),
    [
        ("openai/x", {}, ("OPENAI_API_KEY",)),
        ("gpt-4o-mini", {}, ("OPENAI_API_KEY",)),
        ("openai/x", {"OPENAI_API_KEY": "k"}, ()),
        ("openai/x", {"ANTHROPIC_API_KEY": "k"}, ("OPENAI_API_KEY",)),
        ("gemini/x", {}, ("GOOGLE_API_KEY", "GEMINI_API_KEY")),
        ("gemini/x", {"GEMINI_API_KEY": "k"}, ()),
        ("openrouter/x", {"OR_API_KEY": "k"}, ()),
        ("bedrock/anthropic.claude-v2", {}, ()),  # may sign in by a role of the machine
        ("anthropic.claude-v2", {}, ()),
        ("ollama/x", {}, ()),  # needs no key
    ],
)
def test_which_key_is_missing(monkeypatch, model, environ, names):
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert LitellmUpstream(model, {}, Timeouts()).missing_key() == names
    assert LitellmUpstream(model, {"api_key": "own"}, Timeouts()).missing_key() == ()


def test_without_a_key_nothing_is_sent_and_the_variable_is_named(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with chat_model("openai/x", {}) as model, pytest.raises(CallFailed) as caught:
        model.complete([], temperature=0, max_tokens=10, json_schema=None)
    assert caught.value.kind == "refused"
    for part in ("openai/x: there is no key", "OPENAI_API_KEY", "DOORMAN_LLM_API_BASE"):
        assert part in str(caught.value)


def test_failed_calls_are_not_logged_since_the_trainer_tells_of_them(server, caplog, capfd):
    server.always["label"] = "401"
    message = [{"role": "user", "content": '[{"n": 1, "text": "a"}]'}]
    given = {"model": "openai/scripted", "api_base": server.base}
    with chat_model(given, {}) as model, pytest.raises(CallFailed, match="refused the key"):
        model.complete(message, temperature=0, max_tokens=10, json_schema=None)
    assert server.asked
    assert [record for record in caplog.records if record.name == "doorman.litellm"] == []
    assert capfd.readouterr() == ("", "")


def test_litellms_price_map_is_used():
    with LitellmChat("openai/gpt-4o-mini", {"api_key": "x"}) as model:
        assert model.price(1_000_000, 1_000_000) == pytest.approx(0.75)
