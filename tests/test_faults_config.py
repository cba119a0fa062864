"""litellm's sections as operators write them, and what is said of slips in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.config import ConfigError, loads
from proxy.upstream import make_upstreams

FILE = Path("/etc/doorman/config.yaml")
MODELS = """model_list:
- {model_name: a, litellm_params: {model: x/a}}
- {model_name: b, litellm_params: {model: x/b}}
"""

SLIPS = {
    "an unknown key": ("router_settings: {num_retrys: 2}", "did you mean 'num_retries'?"),
    "an unknown alias": ("router_settings: {fallbacks: [{a: [c]}]}", "fallbacks: no model_name 'c'"),
    "an unknown alias first": ("litellm_settings: {fallbacks: [{aa: [b]}]}", "did you mean 'a'?"),
    "itself": ("router_settings: {fallbacks: [{a: [b, a]}]}", "'a' falls back to itself"),
    "twice": ("router_settings: {fallbacks: [{a: [b]}, {a: [b]}]}", "'a' stands twice"),
    "default": ("litellm_settings: {default_fallbacks: [c]}", "default_fallbacks: no model_name 'c'"),
    "any, for a reason": ("router_settings: {content_policy_fallbacks: [{'*': [a]}]}", "no model_name '*'"),
    "two ways": ("router_settings: {allowed_fails: 3}\nbreaker: {failures: 5}", "say the same; remove one"),
    "a strategy": ("router_settings: {routing_strategy: latency-based-routing}", "simple-shuffle"),
    "a number": ("breaker: {failures: 0}", "breaker.failures"),
    "no list": ("router_settings: {fallbacks: {a: [b]}}", "must be a list"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), SLIPS.values(), ids=SLIPS)
def test_slips(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loads(MODELS + text, FILE)
    assert message in str(caught.value)


def test_the_sections_are_put_together() -> None:
    text = """
litellm_settings: {num_retries: 3, request_timeout: 20, fallbacks: [{a: [b]}], cooldown_time: 9}
router_settings: {num_retries: 0, context_window_fallbacks: [{b: [a]}], allowed_fails: 0}
"""
    routing = loads(MODELS + text, FILE).routing
    assert (routing.retries, routing.timeout, routing.failures, routing.cooldown) == (0, 20, 1, 9)
    assert routing.after("a", "fallbacks") == ("b",)
    assert routing.after("b", "fallbacks") == ()
    assert routing.after("b", "context_window_fallbacks") == ("a",)


@pytest.mark.parametrize("params", ["weight: 0", "weight: much", "num_retries: -1", "order: true"])
def test_numbers_of_an_entry(params: str) -> None:
    text = f"model_list: [{{model_name: a, litellm_params: {{model: gpt-4o, {params}}}}}]"
    config = loads(text, FILE)
    with pytest.raises(ConfigError, match="must be a number of at least"):
        make_upstreams(config.model_list, config.timeouts)
