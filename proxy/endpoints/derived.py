"""Texts that a model reads and that stand nowhere in a body as one string.

Parts of a message reach the model next to each other, JSON within JSON reaches it decoded. Such
texts are checked like all others. What is found in them is replaced in the strings they are made
of, as their pieces say.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import chain, pairwise

from classifiers.types import Piece, Text
from policies.json_source import is_document, strings
from policies.refused import refused_turns
from proxy.endpoints import media, words

PART_KEYS = frozenset({"text", "input_text", "output_text", "refusal", "content"})
"""Keys of the strings that a model reads as the content of a message."""

PROSE_KEYS = PART_KEYS | {"prompt", "suffix", "input", "instructions", "system", "thinking"}
"""Keys of what is written in sentences; a name there is a word among others."""

_SAID_KEYS = PART_KEYS | {"input", "output"}

_MOST_MESSAGES = 3
"""How many messages before the newest turn are joined with it."""

_MOST_BEFORE = 400
"""How many of their characters."""

BORDER_CHARS = 200
"""How far a joined text reaches to either side of a border: longer parts are checked as they are,
and reading them twice would double the price of every document that is sent as a part."""


def joined(texts: Sequence[Text]) -> Iterator[Text]:
    """Neighbours as one text, without anything between them and on lines of their own.

    A word may go on in the next part, or the next part may begin a new one: servers differ. Where a
    sentence ends with a part, the next one is on a line of its own in both.

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


def across_turns(texts: Sequence[Text], refusals: Collection[str]) -> Iterator[Text]:
    """The last messages of one speaker as one text: what is said bit by bit is read as a whole.

    The newest turn is joined with what the same speaker (users, or tools) said in the messages
    before it, whatever stands between. A few hundred characters, because all of it is new to the
    classifiers with every turn. Where messages before were refused there is a second text without
    them: they may be taken out of the request (see ``policies.actions.Block``).

    Args:
        texts: all texts of the request.
        refusals: the words of the policies' refusals.
    """
    said = [text for text in texts if _is_said(text)]
    if not said:
        return
    last = max(said, key=lambda text: text.turn)
    speakers = ("user",) if last.role == "user" else ("tool", "function")
    said = [text for text in said if text.role in speakers]
    newest = {text.turn for text in said if text.last_turn} or {last.turn}
    before = [text for text in said if text.turn < min(newest)]
    after = [text for text in said if text.turn in newest]
    yield from _bridged(before, after)
    refused = refused_turns(texts, {text.turn for text in before}, refusals)
    latest = sorted({text.turn for text in before})[-_MOST_MESSAGES:]
    if not refused.isdisjoint(latest):
        yield from _bridged([text for text in before if text.turn not in refused], after)


def decoded(text: Text) -> Iterator[Text]:
    """What a text means that is no sentence: the strings of JSON source with escapes in it, one a
    line; a data URL decoded; a name such as that of a tool with its words apart."""
    if "\\" in text.content and is_document(text.content):
        found = [item for item in strings(text.content) if item[2]]
        pieces = [Piece(0, len(s), text.address, at, until) for at, until, s in found]
        if found:
            between = ["\n"] * (len(found) - 1)
            yield _made(text, [string for _, _, string in found], pieces, between)
    elif (meant := media.decoded(text.content)) is not None or (
        media.last_name(text.address) not in PROSE_KEYS
        and (meant := words.words(text.content)) is not None
    ):
        whole = Piece(0, len(meant), text.address, 0, len(text.content))
        # No part of an encoded text can be replaced, so that a find anywhere takes all of it.
        yield replace(text, content=meant, derived=True, pieces=(whole,))


def _run(
    like: Text, contents: Sequence[str], pieces: Sequence[Piece], *, across: bool = False
) -> Iterator[Text]:
    if len(contents) < 2:
        return
    borders = list(pairwise(contents))
    between = ["\n" if _is_end(a, b) else "" for a, b in borders]
    yield _made(like, contents, pieces, between, across=across)
    if not all(
        m or a[-1:].isspace() or b[:1].isspace() for m, (a, b) in zip(between, borders, strict=True)
    ):
        yield _made(like, contents, pieces, ["\n"] * len(borders), across=across)


_END = re.compile(r"[^\W\d_]{2}[.!?…。！？][\"')\]]*\Z")


def _is_end(before: str, after: str) -> bool:
    """Whether a sentence ends here: no word goes on in the next part."""
    return after[:1].isalpha() and _END.search(before, max(0, len(before) - 8)) is not None


def _bridged(before: Sequence[Text], after: Sequence[Text]) -> Iterator[Text]:
    """The end of what was said before and the beginning of what is said now."""
    turns = sorted({text.turn for text in before})[-_MOST_MESSAGES:]
    if not turns:
        return
    run: list[Piece] = []
    contents: list[str] = []
    left = _MOST_BEFORE
    for text in reversed([text for text in before if text.turn in turns]):
        size = len(text.content)
        at = size - min(size, BORDER_CHARS, left)
        run.insert(0, Piece(0, size - at, text.address, at, size))
        contents.insert(0, text.content[at:])
        left -= size - at
        if at or left <= 0:
            break
    left = BORDER_CHARS
    for text in after:
        until = min(len(text.content), left)
        run.append(Piece(0, until, text.address, 0, until))
        contents.append(text.content[:until])
        left -= until
        if left <= 0:
            break
    yield from _run(after[0], contents, run, across=True)


def _is_said(text: Text) -> bool:
    return (
        not text.derived
        and text.turn >= 0
        and text.role in ("user", "tool", "function")
        and media.last_name(text.address) in _SAID_KEYS
    )


def _made(
    like: Text,
    contents: Sequence[str],
    pieces: Sequence[Piece],
    between: Sequence[str],
    *,
    across: bool = False,
) -> Text:
    """Contents one after the other, with what stands between each two of them."""
    placed: list[Piece] = []
    at = 0
    for piece, content, mark in zip(pieces, contents, ("", *between), strict=True):
        at += len(mark)
        placed.append(Piece(at, at + len(content), piece.address, piece.at, piece.until))
        at += len(content)
    # Not replace(): each request has some of these, and it takes three times as long.
    return Text(
        "".join(chain.from_iterable(zip(("", *between), contents, strict=True))),
        like.role,
        like.address,
        like.stage,
        like.turn,
        like.last_turn,
        derived=True,
        pieces=tuple(placed),
        across=like.across or across,
    )
