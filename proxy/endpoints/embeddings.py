"""``POST /v1/embeddings``: texts in, numbers out; what is said of the numbers is still read."""

from __future__ import annotations

import re
from collections.abc import Collection, Hashable, Iterator, Sequence
from typing import Any

from classifiers.types import Text
from policies.decision import Reply
from proxy.endpoints import derived, leaves, prompts
from proxy.endpoints.base import Address, Body, Delta, Endpoint, ReplyContext, Usage
from proxy.errors import InvalidRequest

_NUMBERS = {int, float}
_FLOATS = re.compile(r"(?:[A-Za-z0-9+/]{16})*(?:[A-Za-z0-9+/]{6}==|[A-Za-z0-9+/]{11}=)?")
"""Base64 of whole four-byte floats."""
_NAMES = ("object", "model", "id")
_NAME = re.compile(r"[!-~]{0,128}")


class Embeddings(Endpoint):
    """The embeddings API. A reply is numbers, so blocks are errors and nothing is answered here."""

    name = "embeddings"
    path = "/v1/embeddings"
    operation = "embeddings"
    id_prefix = "embd-"
    prompt_field = "input"
    speaks = False

    def validate(self, body: Body) -> None:
        prompts.validate_model(body, "embeddings")
        if body.get("input") is None:
            raise InvalidRequest(
                "Missing required parameter: 'input'.", "input", "missing_required_parameter"
            )
        prompts.validate_prompts(body["input"], "input")
        if body.get("stream"):
            raise InvalidRequest(
                "Embeddings are not streamed; leave 'stream' out.", "stream", "invalid_value"
            )
        prompts.validate_names(body)

    def texts(self, body: Body) -> list[Text]:
        return prompts.texts(body, ("input",))

    def unread(self, body: Body) -> list[Address]:
        return list(leaves.unreadable(leaves.without(body, ("input",))))

    def reply_texts(self, reply: Body) -> list[Text]:
        found = [Text(text, "assistant", at, "output") for at, text in _strings(reply)]
        return [*found, *(made for text in found for made in derived.decoded(text))]

    def reply_unscanned(self, reply: Body) -> list[str]:
        return super().reply_unscanned(_without_vectors(reply))

    def usage(self, reply: Body) -> Usage | None:
        usage = reply.get("usage")
        prompt = usage.get("prompt_tokens") if isinstance(usage, dict) else None
        return Usage(prompt, 0) if type(prompt) is int and prompt >= 0 else None

    def sound(self, body: Body) -> bool:
        data = body.get("data")
        return (
            isinstance(data, list)
            and all(isinstance(item, dict) for item in data)
            and next(leaves.odd_keys(_without_vectors(body)), None) is None
        )

    # -- what only replies of text have: the pipeline asks for none of it, since ``speaks`` is False

    def deltas(self, event: Body) -> list[Delta]:
        return []

    def finished(self, event: Body) -> Sequence[Hashable]:
        return ()

    def answer(self, reply: Reply, context: ReplyContext, *, usage: Usage | None = None) -> Body:
        raise TypeError("an embedding cannot carry a message")

    def answer_events(self, reply: Reply, context: ReplyContext) -> list[bytes]:
        raise TypeError("embeddings are not streamed")

    def cut_events(
        self,
        reply: Reply,
        context: ReplyContext,
        open_choices: Sequence[int],
        *,
        silent: Sequence[int] = (),
        opened: Collection[Hashable] = (),
        usage: Usage | None = None,
    ) -> list[bytes]:
        raise TypeError("embeddings are not streamed")


def _strings(reply: Body) -> Iterator[tuple[Address, str]]:
    """Every string that is no vector and no name of the usual form."""
    for key in _NAMES:
        if isinstance(name := reply.get(key), str) and not _NAME.fullmatch(name):
            yield (key,), name
    named = [key for key in _NAMES if isinstance(reply.get(key), str)]
    yield from leaves.texts(leaves.without(_without_vectors(reply), named))


def _without_vectors(reply: Body) -> Body:
    """The reply without what is a vector, positions as they were. Vectors are most of a reply, and
    are looked at once and fast."""
    data = reply.get("data")
    if not isinstance(data, list):
        return reply
    rest = [
        leaves.without(item, ("embedding",))
        if isinstance(item, dict) and _is_vector(item.get("embedding"))
        else item
        for item in data
    ]
    return {**reply, "data": rest}


def _is_vector(value: Any) -> bool:
    if isinstance(value, str):
        return _FLOATS.fullmatch(value) is not None
    return isinstance(value, list) and _NUMBERS.issuperset(map(type, value))
