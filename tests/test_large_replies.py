"""A large reply is parsed, walked and written in a thread; a small one where it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from gateway_kit import ScriptedUpstream, StartGateway, reply_body, respond

from proxy import replies, upstream_http

RULES = 'rules: [{name: out, when: {guard: secret}, check: [output], do: {block: "No."}}]'
LOGPROBS = {"content": [{"token": "t", "logprob": -0.5, "top_logprobs": []}] * 3000}
ASK = {"model": "default", "messages": [{"role": "user", "content": "hi"}]}
STEPS = ((upstream_http, "_object"), (replies, "read"), (replies, "written"))


def on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@pytest.mark.parametrize("large", [False, True])
def test_a_large_reply_leaves_the_event_loop_to_others(
    gateway: StartGateway,
    upstream: ScriptedUpstream,
    monkeypatch: pytest.MonkeyPatch,
    large: bool,
) -> None:
    seen: dict[str, bool] = {}

    def watched(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **options: Any) -> Any:
            seen[name] = on_a_loop()
            return work(*args, **options)

        return step

    for module, name in STEPS:
        monkeypatch.setattr(module, name, watched(name, getattr(module, name)))
    body = reply_body("fine")
    body["choices"][0]["logprobs"] = LOGPROBS if large else None
    upstream.script = respond(200, body)
    answer = httpx.post(gateway(RULES).url + "/v1/chat/completions", json=ASK, timeout=30)
    assert answer.json()["choices"][0] == {**body["choices"][0], "logprobs": None}
    assert seen == {name: not large for _, name in STEPS}
