"""Texts that a model reads and that stand nowhere in a body as one string.

Parts of a message reach the model next to each other, JSON within JSON reaches it decoded. Such
texts are checked like all others. What is found in them is replaced in the strings they are made
of, as their pieces say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from classifiers.types import Piece, Text
from policies.json_source import is_document, strings
from proxy.endpoints import leaves

PART_KEYS = frozenset({"text", "input_text", "output_text", "refusal", "content"})
"""Keys of the strings that a model reads as the content of a message."""

BORDER_CHARS = 200
"""How far a joined text reaches to either side of a border: longer parts are checked as they are,
and reading them twice would double the price of every document that is sent as a part."""


def joined(texts: Sequence[Text]) -> Iterator[Text]:
    """Neighbours as one text, without anything between them and on lines of their own.

    A word may go on in the next part, or the next part may begin a new one: servers differ.

    Args:
        texts: strings that stand next to each other for the model, in order.
    """
    run: list[Piece] = []
    contents: list[str] = []
    for text in texts:
        size = len(text.content)
        cut = min(size, BORDER_CHARS)
        run.append(Piece(0, cut, text.address, 0, cut))
        contents.append(text.content[:cut])
        if size > 2 * BORDER_CHARS:
            yield from _run(texts[-1], contents, run)
            run = [Piece(0, cut, text.address, size - cut, size)]
            contents = [text.content[-cut:]]
        elif size > cut:
            run[-1] = Piece(0, size, text.address, 0, size)
            contents[-1] = text.content
    yield from _run(texts[-1], contents, run)


def decoded(text: Text) -> Iterator[Text]:
    """The strings of a text that is JSON source and has escapes in it, one a line."""
    if "\\" in text.content and is_document(text.content):
        found = [item for item in strings(text.content) if item[2]]
        pieces = [Piece(0, len(s), text.address, at, until) for at, until, s in found]
        if found:
            yield _made(text, [string for _, _, string in found], pieces, "\n")
    elif (meant := leaves.decoded(text.content)) is not None:
        whole = Piece(0, len(meant), text.address, 0, len(text.content))
        # No part of an encoded text can be replaced, so that a find anywhere takes all of it.
        yield replace(text, content=meant, derived=True, pieces=(whole,))


def _run(like: Text, contents: Sequence[str], pieces: Sequence[Piece]) -> Iterator[Text]:
    if len(contents) < 2:
        return
    yield _made(like, contents, pieces, "")
    if not all(a[-1:].isspace() or b[:1].isspace() for a, b in pairwise(contents)):
        yield _made(like, contents, pieces, "\n")


def _made(like: Text, contents: Sequence[str], pieces: Sequence[Piece], between: str) -> Text:
    placed: list[Piece] = []
    at = 0
    for piece, content in zip(pieces, contents, strict=True):
        placed.append(replace(piece, start=at, end=at + len(content)))
        at += len(content) + len(between)
    return replace(like, content=between.join(contents), derived=True, pieces=tuple(placed))
