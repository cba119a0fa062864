"""A complete reply of a model: what it says, and the bytes it becomes. All of this walks the whole
reply, so the pipeline does it beside the event loop where the reply is large."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import orjson

from classifiers.types import Text
from policies import json_source
from policies.decision import Decision
from policies.engine import apply_redactions
from policies.json_source import is_document
from proxy.endpoints.base import Address, Body, Endpoint, Usage, put_string
from proxy.errors import UpstreamError
from proxy.restored import restored
from proxy.upstream_base import UpstreamReply


@dataclass(frozen=True, slots=True)
class Said:
    """What a reply says.

    Attributes:
        body: the reply as it was parsed.
        texts: those of it that are checked.
        unread: addresses of what no classifier can read.
        usage: tokens as the upstream counted them.
        chars: characters of its own texts, derived ones left out.
        guarded: some rule looks at it.
    """

    body: Body
    texts: Sequence[Text]
    unread: Sequence[str]
    usage: Usage | None
    chars: int
    guarded: bool


def read(endpoint: Endpoint, reply: UpstreamReply, *, guarded: bool) -> Said:
    """Find what a reply says; a guarded one loses what may hold text and is never classified.

    Raises:
        UpstreamError: it is no object, or its texts cannot all be found and some rule wants them.
    """
    body = reply.json
    if body is None:
        raise UpstreamError("protocol", "The model's server sent no JSON object.")
    if guarded:
        # First of all: log probabilities can be a hundred times as large as the text.
        endpoint.strip(body)
        if not endpoint.sound(body):
            raise UpstreamError("protocol", "The model's server sent a reply of unknown shape.")
    texts = endpoint.reply_texts(body)
    chars = sum(len(text.content) for text in texts if not text.derived)
    unread = endpoint.reply_unscanned(body)
    return Said(body, texts, unread, endpoint.usage(body), chars, guarded)


def written(
    endpoint: Endpoint, said: Said, raw: bytes, decision: Decision, originals: Mapping[str, str]
) -> bytes:
    """The bytes for the client: redacted as decided, with the client's own values put back.

    Args:
        raw: the reply as it came; so it leaves if nothing is changed and no rule looks at it.
        originals: what stands behind the placeholders of the request.
    """
    changes = redacted(said.texts, decision)
    for text in said.texts:
        if text.derived:
            continue
        content = changes.get(text.address, text.content)
        within = endpoint.is_json(text.address) or is_whole_document(content)
        complete = restored(content, originals, is_json=within)
        if complete != content:
            changes[text.address] = complete
    for address, content in changes.items():
        put_string(said.body, address, content)
        endpoint.scrub(said.body, address)
    # Written anew even if nothing changed: bytes can say more than was parsed, such as a key twice.
    return orjson.dumps(said.body) if changes or said.guarded else raw


def redacted(texts: Sequence[Text], decision: Decision) -> dict[Address, str]:
    """What the redacted texts become, by address."""
    changes = {}
    # They are sorted by text.
    for index, own in groupby(decision.redactions, key=lambda redaction: redaction.text):
        content = texts[index].content
        apply = json_source.apply_redactions if is_document(content) else apply_redactions
        changes[texts[index].address] = apply(content, own)
    return changes


def is_whole_document(content: str) -> bool:
    """Whether a reply's text is a JSON document as a whole."""
    if not content.lstrip().startswith(("{", "[")):
        return False
    try:
        orjson.loads(content)
    except orjson.JSONDecodeError:
        return False
    return True
