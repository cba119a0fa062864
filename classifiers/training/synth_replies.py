"""Reading a model's replies: JSON of one shape, whatever stands around it.

The shapes are pydantic models in strict mode; the JSON schema that the model is sent is made of
them, so that what is asked for and what is accepted cannot differ.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from classifiers.training.spend import Reply
from classifiers.training.synth_journal import MAX_REPLY_CHARS

_FENCED = re.compile(r"```[a-zA-Z]*[ \t]*\n(.*?)\n?[ \t]*```", re.DOTALL)
_THOUGHTS = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)


class BadReply(Exception):
    """A reply that cannot be used; one line that says why.

    Args:
        cut_off: it ended at ``max_tokens``.
    """

    def __init__(self, message: str, *, cut_off: bool = False) -> None:
        super().__init__(message)
        self.cut_off = cut_off


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Example(_Shape):
    """A text that was written for one of the numbered requests."""

    n: int
    text: str


class NearMiss(_Shape):
    """A text that looks like one label and belongs to another one, or to none."""

    n: int
    text: str
    belongs_to: str


class Examples(_Shape):
    """The reply to a request for texts."""

    examples: list[Example]


class NearMisses(_Shape):
    """The reply to a request for near misses."""

    examples: list[NearMiss]


class Verdict(_Shape):
    """The labels of one numbered text."""

    n: int
    labels: list[str]


class Verdicts(_Shape):
    """The reply to a request to label texts."""

    verdicts: list[Verdict]


S = TypeVar("S", bound=_Shape)


def json_of(reply: Reply) -> Any:
    """The JSON value that a reply is, or that stands in it between code fences.

    Raises:
        BadReply: there is none, or the reply is empty, cut off or too long.
    """
    if reply.finish_reason == "length":
        raise BadReply("the reply was cut off at its token limit", cut_off=True)
    if len(reply.text) > MAX_REPLY_CHARS:
        raise BadReply(f"the reply has more than {MAX_REPLY_CHARS:,} characters")
    text = _THOUGHTS.sub("", reply.text).strip()
    if not text:
        raise BadReply("the reply is empty")
    fenced = _FENCED.search(text)
    for candidate in (text, fenced[1] if fenced else None):
        if candidate is None:
            continue
        try:
            return json.loads(candidate)
        except (ValueError, RecursionError):
            continue
    raise BadReply("the reply is not JSON")


def items_of(
    reply: Reply, shape: type[_Shape], key: str, item: type[S], most: int
) -> tuple[list[S], list[str]]:
    """The items of a reply of the form ``{key: [item, ...]}``.

    Args:
        reply: the reply.
        shape: of the whole reply.
        key: the name of its one list.
        item: of each item.
        most: items beyond so many are left out.

    Returns:
        The items of the right shape, and what is wrong with the others.

    Raises:
        BadReply: it is nothing of the kind, or most of its items are not.
    """
    value = json_of(reply)
    if not isinstance(value, dict) or not isinstance(value.get(key), list):
        raise BadReply(f"the reply has no list {key!r}")
    if extra := sorted(map(str, value.keys() - shape.model_fields.keys())):
        raise BadReply(f"the reply has an unknown key {extra[0][:40]!r}")
    good: list[S] = []
    bad: list[str] = []
    for raw in value[key][:most]:
        try:
            good.append(item.model_validate(raw))
        except ValidationError as error:
            fault = error.errors(include_url=False, include_input=False)[0]
            bad.append(f"{'.'.join(map(str, fault['loc'])) or key}: {fault['msg']}"[:200])
    if len(good) <= len(bad):
        raise BadReply(f"the list {key!r} is empty" if not bad else f"{bad[0]}, in most items")
    return good, bad


def schema_of(shape: type[_Shape]) -> Mapping[str, Any]:
    """The JSON schema of a reply, with nothing optional and nothing else allowed."""
    schema = shape.model_json_schema()
    found: Mapping[str, Any] = _plain(schema, schema.get("$defs", {}))
    return found


def _plain(node: Any, parts: Mapping[str, Any]) -> Any:
    """Without references, titles and descriptions, which some providers refuse."""
    if isinstance(node, list):
        return [_plain(item, parts) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _plain(parts[node["$ref"].rpartition("/")[2]], parts)
    texts = ("title", "description")
    return {
        key: _plain(value, parts)
        for key, value in node.items()
        if key != "$defs" and not (key in texts and isinstance(value, str))
    }
