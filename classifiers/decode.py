"""Every form of a text that is worth reading: as it stands, without its disguise, decoded, unwrapped.

What is encoded is decoded where it stands, and read by itself as well; codes within codes to a depth of
three. Sentences inside of something else (a string, a cell, a log line) are read as sentences. No
decoder makes a text longer, each is linear, and there are as many forms as something was found: one
for ordinary text, whatever its language.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import re2

from classifiers import decode_codes, decode_escapes, decode_turned
from classifiers.decode_hidden import HIDDEN, may_hide
from classifiers.decode_kit import Segment
from classifiers.decode_wrapped import has_list, may_wrap, wrapped
from classifiers.normalize import plain, undo
from classifiers.normalize_map import Edit, Plain, State
from classifiers.types import Batch

DEPTH = 3
"""Codes within codes are decoded so often."""
MOST_ALONE = 6
"""Decoded segments that are read each by itself, the longest ones; the others are read together."""
SHORTEST_ALONE = 10
"""Characters; what is shorter says little by itself and is read in its place only."""
MOST_PIECES = 4
LONG_PIECE = 30
"""Of the sentences that something is wrapped around, so many lines, the longest ones, are read each by
itself as well, if they have so many characters."""
WHOLE = 4_000
"""Characters up to which a text is read as a whole once more with what is decoded in place; of a longer one,
what is near to it."""
NEAR = 300

_DECODERS: tuple[tuple[Callable[[str], Iterator[Segment]], str], ...] = (
    (decode_codes.hexadecimal, r"(?:[2-7][0-9a-fA-F](?:[\s,:;-]|0[xX]|\\x)*){6}"),
    (decode_codes.binary, r"[01]{7}[\s,]{0,2}[01]{7}|(?:[01]\s){14}"),
    (decode_codes.decimal, r"(?:[0-9]+[\s,;.|/-]+){5}[0-9]"),
    (decode_codes.morse, rf"(?:{decode_codes.SIGNS}+[\s/|]+){{4}}"),
    (decode_codes.braille, r"[\x{2801}-\x{28ff}]{2}"),
    (
        decode_codes.encoded_64,
        r"[A-Za-z0-9+/_-]{16}|[A-Za-z0-9+/]{3}="
        r"|[a-z0-9][A-Z][A-Za-z0-9+/]*\s+[A-Za-z0-9+/]*[a-z0-9][A-Z]",
    ),
    (decode_escapes.percent, r"%(?:[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4})"),
    (decode_escapes.entities, r"&(?:#[0-9xX]|[A-Za-z]+[0-9]*;)"),
    (decode_escapes.quoted_printable, r"=[0-9A-F]{2}|=[ \t]*\r?\n"),
    (decode_escapes.program_escapes, r"\\[uUx0-7][0-9a-fA-F{]|[Uu]\+[0-9a-fA-F]{4}"),
    (decode_turned.upside_down, decode_turned.TURNED),
    (decode_turned.backwards, decode_turned.REVERSED),
    (decode_turned.rot13, decode_turned.ROT13),
    (decode_turned.joined, decode_turned.JOINED),
)
"""Every decoder, and an expression (RE2) of what it cannot do without. Where two read the same place, the
first one does. The expressions are kept so simple that all of them together cost some microseconds for a
page: a few counts more, and the automaton outgrows its memory and is a hundred times slower."""


def _gate() -> re2.Set:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 64 << 20
    gate = re2.Set.SearchSet(options)
    for _, needed in _DECODERS:
        gate.Add(needed)
    gate.Compile()
    return gate


_GATE = _gate()


@dataclass(frozen=True, slots=True)
class Forms:
    """What a text says besides what it says as it stands.

    Attributes:
        aside: parts of it: decoded segments, unwrapped sentences.
        whole: all of it: the plain form if it differs, then the one with everything decoded.
    """

    aside: tuple[Plain, ...] = ()
    whole: tuple[Plain, ...] = ()


_NOTHING = Forms()


def views(text: str) -> tuple[str, ...]:
    """The texts a classifier should look at: the raw text first, then its other forms.

    White space alone makes no second view: no classifier here reads it, and a view costs a pass.
    """
    found = forms(text)
    seen = {" ".join(text.split()): text}
    for form in (*found.whole, *found.aside):
        seen.setdefault(" ".join(form.text.split()), form.text)
    return tuple(seen.values())


def forms(text: str) -> Forms:
    """Every other form of a text, each with its way back to the text; nothing for ordinary text."""
    shown = plain(text, words=False)
    hidden = list(_deep(_hidden(text), DEPTH)) if may_hide(text) else []
    found = segments(shown.text)
    wraps = may_wrap(shown.text) or has_list(shown.text)
    full = plain(text) if not shown.changed else _undone(State.of(shown), text)
    if not (found or hidden or wraps or full.changed):
        return _NOTHING
    whole, aside = [full], []
    base = shown
    if inline := [(part.start, part.end, part.text) for part in found if part.inline]:
        state = State.of(shown)
        if len(shown.text) <= WHOLE:
            state.apply(inline)
            base = state.plain(text)
            whole.append(_undone(State.of(base), text))
        else:
            state.apply(_near(inline, len(shown.text)))
            aside.append(_undone(state, text))
    pieces: list[Segment] = []
    if wraps or (base is not shown and may_wrap(base.text)):
        pieces = wrapped(base.text)
        state = State.of(base)
        state.apply(_cut_out(pieces, len(base.text)))
        aside.append(_undone(state, text))
    alone = [
        (part.text, *_place(form, part))
        for form, parts in ((None, hidden), (shown, found))
        for part in parts
        if len(part.text) >= SHORTEST_ALONE
    ]
    aside += _alone(alone, len(text))
    long = sorted(
        (
            (line, part)
            for part in pieces
            for line in part.text.split("\n")
            if len(line) >= LONG_PIECE
        ),
        key=lambda one: -len(one[0]),
    )
    aside += _alone([(line, *_place(base, p)) for line, p in long[:MOST_PIECES]], len(text))
    return _distinct(text, aside, whole)


def batch_forms(batch: Batch) -> tuple[Forms, ...]:
    """:func:`forms` of every text, computed once for all classifiers that read the batch."""
    return batch.shared(batch_forms, lambda one: tuple(map(forms, one.texts)))


def segments(text: str, depth: int = DEPTH) -> list[Segment]:
    """What is encoded in a text, decoded all the way, in order; none overlaps another."""
    hits = _GATE.Match(text.encode("utf-8", "replace"))
    if not hits:
        return []
    taken: list[Segment] = []
    starts: list[int] = []
    for index in sorted(hits):
        for part in _DECODERS[index][0](text):
            place = bisect_left(starts, part.start)
            if place and taken[place - 1].end > part.start:
                continue
            if place < len(starts) and starts[place] < part.end:
                continue
            starts.insert(place, part.start)
            taken.insert(place, part)
    return list(_deep(taken, depth))


def _hidden(text: str) -> Iterator[Segment]:
    for decoder in HIDDEN:
        yield from decoder(text)


def _deep(parts: Iterable[Segment], depth: int) -> Iterator[Segment]:
    """The segments with what is encoded in them decoded too."""
    for part in parts:
        within = segments(part.text, depth - 1) if depth > 1 else []
        state = State(part.text)
        state.apply((one.start, one.end, one.text) for one in within)
        yield Segment(part.start, part.end, state.text, part.inline)


def _undone(state: State, text: str) -> Plain:
    undo(state)
    return state.plain(text)


def _near(edits: Sequence[Edit], length: int) -> Iterator[Edit]:
    """The edits, and others that leave out what is far from all of them."""
    done = 0
    for start, end, replacement in edits:
        if start - NEAR > done:
            yield done, start - NEAR, "\n"
        yield start, end, replacement
        done = max(done, min(end + NEAR, length))
    if done < length:
        yield done, length, ""


def _cut_out(pieces: Sequence[Segment], length: int) -> Iterator[Edit]:
    """Edits that leave the pieces alone, a line each."""
    done = 0
    for piece in pieces:
        if piece.start > done:
            yield done, piece.start, "\n" if done else ""
        yield piece.start, piece.end, piece.text
        done = piece.end
    if done < length:
        yield done, length, ""


def _place(form: Plain | None, part: Segment) -> tuple[int, int]:
    if form is None:
        return part.start, part.end
    span = form.to_original(part.start, part.end)
    return span.start, span.end


def _alone(parts: Sequence[tuple[str, int, int]], length: int) -> Iterator[Plain]:
    """Decoded segments, each as a text; every character of one leads back to all of the segment."""
    chosen = sorted(parts, key=lambda part: -len(part[0]))
    groups = [[part] for part in chosen[:MOST_ALONE]]
    if len(chosen) > MOST_ALONE:
        groups.append(sorted(chosen[MOST_ALONE:], key=lambda part: part[1]))
    for group in groups:
        pieces: list[str] = []
        starts, ends = array("l"), array("l")
        for said, start, end in group:
            line = plain(said).text + ("\n" if len(group) > 1 else "")
            pieces.append(line)
            starts.extend([start] * len(line))
            ends.extend([end] * len(line))
        yield Plain("".join(pieces), True, length, starts, ends)


def _distinct(text: str, aside: Iterable[Plain], whole: Iterable[Plain]) -> Forms:
    """Without forms that differ from another one in white space alone, the whole text's excepted:
    patterns read it."""
    seen = {" ".join(text.split())}
    exact = {text}
    kept: list[list[Plain]] = []
    for group, known in ((whole, exact), (aside, seen)):
        own: list[Plain] = []
        for form in group:
            words = " ".join(form.text.split())
            if not words or (form.text if known is exact else words) in known:
                continue
            exact.add(form.text)
            seen.add(words)
            own.append(form)
        kept.append(own)
    return Forms(aside=tuple(kept[1]), whole=tuple(kept[0]))
