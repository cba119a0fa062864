"""A scripted server that speaks Anthropic's API, and gateways with models behind it and behind an
OpenAI-compatible one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anthropic
from gateway_kit import Door, Script, events, respond, serve

from proxy.config import loads
from proxy.echo import Echo
from proxy.upstream import Upstreams, make_upstreams

HELLO: list[Any] = [{"role": "user", "content": "What is a heap?"}]


@contextmanager
def messages_gateway(
    folder: Path, port: int, policy: str = "", more: str = "", **options: Any
) -> Iterator[Door]:
    """Aliases: ``claude`` is passed through, ``gpt`` translated, ``echo`` embedded.

    A chat with ``claude`` is not to be had here: litellm, which would answer it, takes its time.
    """
    (folder / "policy.yaml").write_text("name: test\nversion: 1\n" + policy)
    text = f"""
model_list:
  - model_name: claude
    litellm_params:
      {{model: anthropic/claude-x, api_base: "http://127.0.0.1:{port}", api_key: sk-ant-upstream}}
  - model_name: gpt
    litellm_params:
      {{model: openai/gpt-4o, api_base: "http://127.0.0.1:{port}/v1", api_key: sk-upstream}}
  - model_name: echo
    litellm_params: {{model: doorman/echo}}
policies: [{"policy.yaml" if policy else ""}]
watch_policies: false
{more}
"""
    config = loads(text, folder / "config.yaml")
    made = make_upstreams(config.model_list, config.timeouts)
    targets = [made.resolve(alias) for alias in made.aliases]
    targets[0] = replace(targets[0], upstream=Echo())
    with serve(config, upstream=Upstreams(targets, made._pool), **options) as door:
        yield door


def client(door: Door, **options: Any) -> anthropic.Anthropic:
    """The official client, pointed at the gateway as its users would."""
    given = {"base_url": door.url, "api_key": "any-key", "max_retries": 0, "timeout": 20, **options}
    return anthropic.Anthropic(**given)


def message_body(*content: dict[str, Any] | str, **extra: Any) -> dict[str, Any]:
    """A complete message; strings are blocks of text."""
    blocks = [{"type": "text", "text": c} if isinstance(c, str) else c for c in content]
    return {
        "id": "msg_01upstream9",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": blocks,
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 1000, "output_tokens": 100},
        **extra,
    }


def message(*content: dict[str, Any] | str, **extra: Any) -> Script:
    return respond(200, message_body(*content, **extra))


def event(body: dict[str, Any]) -> bytes:
    return f"event: {body['type']}\ndata: {json.dumps(body)}\n\n".encode()


def start(index: int, block: dict[str, Any]) -> bytes:
    return event({"type": "content_block_start", "index": index, "content_block": block})


def delta(index: int, kind: str, **value: Any) -> bytes:
    body = {"type": kind, **value}
    return event({"type": "content_block_delta", "index": index, "delta": body})


def stop(index: int) -> bytes:
    return event({"type": "content_block_stop", "index": index})


def text_block(index: int, *pieces: str) -> list[bytes]:
    deltas = [delta(index, "text_delta", text=piece) for piece in pieces]
    return [start(index, {"type": "text", "text": ""}), *deltas, stop(index)]


BEGIN = event(
    {
        "type": "message_start",
        "message": message_body(stop_reason=None, usage={"input_tokens": 1000, "output_tokens": 1}),
    }
)
PING = event({"type": "ping"})


def finish(reason: str = "end_turn") -> list[bytes]:
    return [
        event(
            {
                "type": "message_delta",
                "delta": {"stop_reason": reason, "stop_sequence": None},
                "usage": {"output_tokens": 100},
            }
        ),
        event({"type": "message_stop"}),
    ]


def stream(*items: bytes | float, reason: str = "end_turn", whole: bool = True) -> Script:
    """A stream of Anthropic's API; without its end if it is not to be whole."""
    return events(BEGIN, PING, *items, *(finish(reason) if whole else []), done=False)
