"""What makes two requests the same: keyed hashes of everything that changes the answer.

A hash is made with a secret of this process, so a key tells nothing of the text behind it.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from proxy.cache_shapes import SHAPES, Shape
from proxy.endpoints.base import Body
from proxy.upstream_anthropic import SENT_HEADERS as ANTHROPIC_HEADERS
from proxy.upstream_http import SENT_HEADERS

MAX_REQUEST_BYTES = 256 * 1024
"""Larger requests are not cached: nobody sends one twice, and they take long to hash."""

_UNRELATED = ("idempotency-key", "traceparent", "tracestate")
_HEADERS = tuple(sorted({*SENT_HEADERS, *ANTHROPIC_HEADERS} - set(_UNRELATED)))
"""Headers that go up and may change the answer."""

_QUESTION_PLACES = {"completions": "prompt", "responses": "input"}
_TEXT_PARTS = ("text", "input_text")


@dataclass(frozen=True, slots=True)
class Key:
    """What a request is found by.

    Attributes:
        plain: of the request, whatever form the reply is to have.
        form: of the form: empty for a complete reply, else of the options of the stream.
        rest: of the request without its newest turn; None where that is no single text of a user.
        question: that turn. It is not kept.
    """

    plain: bytes
    form: bytes
    rest: bytes | None = None
    question: str = ""


@dataclass(frozen=True, slots=True)
class Scope:
    """Who asks what, under which rules: replies never leave their scope.

    Attributes:
        tenant: name of the client's key, empty where there are none.
        endpoint: name of the API.
        alias: the model that the client asked for.
        target: the alias that a policy sent it to.
        policies: what identifies the attached policies, word for word.
    """

    tenant: str
    endpoint: str
    alias: str
    target: str
    policies: Sequence[str]


class Hasher:
    """Makes keys, with a secret of its own."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def digest(self, *parts: Any) -> bytes:
        """The keyed hash of values made of JSON's types; equal only where the values are."""
        # repr tells apart what str would not: a number and its digits, one string and two.
        raw = repr(parts).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(raw, digest_size=32, key=self._secret).digest()

    def key(
        self, scope: Scope, body: Body, raw: bytes, headers: Mapping[str, str], *, turns: bool
    ) -> Key | None:
        """The key of a request; None where no stored reply may answer it.

        Args:
            body: as the endpoint has validated it.
            raw: the same as bytes, each key once.
            turns: also look for the newest turn.
        """
        shape = SHAPES.get(scope.endpoint)
        if shape is None or len(raw) > MAX_REQUEST_BYTES or not _fits(shape, body):
            return None
        # Numbers as they were written: read as floats, two that differ could become one.
        values = json.loads(raw, parse_int=Decimal, parse_float=Decimal)
        fields = {
            name: value
            for name, value in sorted(values.items())
            if name in shape.keyed and value is not None and name != "temperature"
        }
        sent = [headers.get(name) for name in _HEADERS]
        where = (scope.tenant, scope.endpoint, scope.alias, scope.target, *scope.policies, sent)
        plain = self.digest("exact", where, fields)
        options = values.get("stream_options") or {}
        form = self.digest("form", options) if body.get("stream") is True else b""
        found = _question(scope.endpoint, fields) if turns else None
        if found is None:
            return Key(plain, form)
        question, fields = found
        return Key(plain, form, self.digest("rest", where, fields), question)


def _fits(shape: Shape, body: Body) -> bool:
    """Whether a request is of fields we know, and asks for one answer that is not drawn at random."""
    if not {name for name, value in body.items() if value is not None} <= (
        shape.keyed | shape.ignored
    ):
        return False
    if any(body.get(name) not in (None, 1) for name in ("n", "best_of")):
        return False
    temperature = body.get("temperature")
    return not shape.sampled or (type(temperature) in (int, float) and temperature == 0)


def _question(endpoint: str, fields: Body) -> tuple[str, Body] | None:
    """The newest turn where it is a single text of a user, and everything but that text."""
    if endpoint == "embeddings":
        return None
    name = _QUESTION_PLACES.get(endpoint, "messages")
    turns = fields.get(name)
    if isinstance(turns, str):
        return turns, {**fields, name: None}
    if endpoint == "completions" or not isinstance(turns, list) or not turns:
        return None
    last = turns[-1]
    if not isinstance(last, dict) or last.get("role") != "user":
        return None
    content = last.get("content")
    if isinstance(content, list):
        part = content[0] if len(content) == 1 and isinstance(content[0], dict) else {}
        plain = part.keys() == {"type", "text"} and part["type"] in _TEXT_PARTS
        content = part["text"] if plain else None
    if not isinstance(content, str):
        return None
    return content, {**fields, name: [*turns[:-1], {**last, "content": None}]}
