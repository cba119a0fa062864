"""The forms in which a reply is kept, and those that can be made of them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import orjson

from policies.decision import Decision, Reply
from proxy.cache import Stored
from proxy.cache_key import Key
from proxy.cache_shapes import SHAPES, Read
from proxy.endpoints.base import Body, Endpoint, ReplyContext, Usage
from proxy.sse import Parser


class Asked(Protocol):
    """The part of a call that the caches read; see :class:`proxy.exchange.Call`."""

    @property
    def endpoint(self) -> Endpoint: ...
    @property
    def body(self) -> Body: ...
    @property
    def raw(self) -> bytes: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def key(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def stream(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Made:
    """A reply as the model made it and the client got it, for the caches to judge.

    Attributes:
        output: what the output rules said; None where there are none.
        usage: as the upstream counted it.
        cost_usd: of the call.
        fit: nothing else stands against keeping it.
    """

    call: Asked
    decision_id: str
    output: Decision | None
    usage: Usage | None
    cost_usd: float | None
    fit: bool


def entries_of(key: Key, made: Made, body: bytes, stream: bool) -> list[Stored]:
    """The forms in which a reply is kept; none where it is not whole."""
    call = made.call
    shape = SHAPES[call.endpoint.name]
    now = time.time()

    def stored(content: bytes, form: bytes) -> Stored:
        return Stored(content, form, made.decision_id, now, made.usage, made.cost_usd)

    if not stream:
        return [stored(body, b"")] if shape.read(orjson.loads(body)).whole else []
    parser = Parser(len(body) + 1)
    events = [
        event.json for event in (*parser.feed(body), *parser.close()) if event.json is not None
    ]
    read = shape.read_stream(events)
    if not read.whole:
        return []
    found = [stored(body, key.form)]
    # A stream was checked piece by piece, so where there are rules it stands for itself alone.
    counted = made.usage is not None and made.usage.prompt_tokens > 0  # some servers tell zeros
    if made.output is None and read.text is not None and counted:
        reply = Reply(read.text, "stop")
        context = _context(call, read)
        found.append(
            stored(orjson.dumps(call.endpoint.answer(reply, context, usage=made.usage)), b"")
        )
    return found


def in_form(call: Asked, key: Key, stored: Stored) -> bytes | None:
    """A stored reply in the form that the client asked for; None where it cannot be had in it."""
    if stored.form == key.form:
        return stored.body
    if stored.form or not call.stream:
        return None
    read = SHAPES[call.endpoint.name].read(orjson.loads(stored.body))
    if read.text is None:
        return None
    context = _context(call, read)
    events = call.endpoint.cut_events(
        Reply(read.text, "stop"), context, [0], silent=[0], usage=stored.usage
    )
    return b"".join(events)


def _context(call: Asked, read: Read) -> ReplyContext:
    context = call.endpoint.context(call.body, id=read.id, created=read.created)
    return replace(context, id=read.id, model=read.model)
