"""Sentences that stand out of a long text, read once more as if nothing stood around them.

Read among its neighbours, one harmful sentence within pages of innocent ones is taken for one of
them. Those few that look like it are read again, each by itself, and score as the plain message
would; the most suspected ones also with the sentences next to them, since an attack may have
several, and cut where the next sentence seems to begin without a full stop before it.

A sentence that is innocent where it stands may say something else by itself, so four things are
asked of it first:

- it is somewhat suspected where it stands,
- the text as a whole is about something else (where it is not, the context is what tells),
- its words speak for it whatever stands around them: the lexical part of the score,
- nothing else in the text is as good as certain.

The figures were chosen on public attacks in 300 and 1,000 tokens of padding and on public innocent
texts of such lengths; benchmarks/RESULTS.md has the rates of both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from classifiers.encoder import Array, Encoded, Encoder, Window
from classifiers.views import Views

Columns = npt.NDArray[np.bool_]
"""``[labels]``: those that are meant."""

LONG = 3
"""Stretches of a text from which on neighbours hide a sentence."""
SUSPECTED, CERTAIN, ELSEWHERE = -2.3, 2.2, -6.5
"""Logits: of the sentence where it stands, at least (9 %); of the text's most certain window, less
than (90 %); of the text's middle sentence, at most (0.15 %)."""
WORDS = 2.7
"""What the n-grams of the sentence add to its logit, at least."""
SHORTEST = 6
"""Tokens; what is shorter has no meaning of its own."""
MOST, MOST_ENLARGED, MOST_PARTS = 6, 3, 16
"""Of one text: sentences that are read alone, those of them also enlarged and cut, and parts in all.
The most suspected ones: this bounds what a text may cost."""
NEIGHBOURS = ((1, 1), (0, 1), (0, 3))
"""How many sentences before and after one are read with it."""
LONGEST_PART, SHORTEST_PART = 600, 20
"""Characters of a sentence with its neighbours, and of a cut one."""

_NEW_SENTENCE = re.compile(r"(?<=[a-z0-9\"')]) (?=[A-Z])")
_MOST_CUTS = 2


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a form of a text: ``form[start:end]``, and the labels that it is suspected of."""

    form: int
    start: int
    end: int
    columns: Columns


def standing_out(views: Views, logits: Array, words: Array, columns: Columns) -> list[Part]:
    """What is worth reading alone; nothing of short texts and next to nothing of innocent ones.

    Args:
        views: the windows.
        logits: ``[windows, labels]`` as they stand.
        words: ``[windows, labels]`` the lexical part of these.
        columns: labels of heads for which one window is enough.
    """
    windows = views.encoded.windows
    text = np.asarray([window.text for window in windows])
    sentence = np.asarray([window.sentence for window in windows])
    stretches = np.bincount(text[~sentence], minlength=len(views.forms))
    ranked: dict[int, list[tuple[float, int, Columns]]] = {}
    for form in np.flatnonzero(stretches >= LONG).tolist():
        rows = np.flatnonzero((text == form) & sentence)
        if form in views.aside or not len(rows):  # a part is a text of its own already
            continue
        open_ = columns & (logits[text == form].max(axis=0) < CERTAIN)
        open_ &= np.median(logits[rows], axis=0) <= ELSEWHERE
        marked = open_ & (logits[rows] >= SUSPECTED) & (words[rows] >= WORDS)
        for row, own in zip(rows.tolist(), marked, strict=True):
            if own.any() and windows[row].last - windows[row].first >= SHORTEST:
                suspicion = float(logits[row][own].max())
                ranked.setdefault(views.owners[form], []).append((-suspicion, row, own))
    return [part for found in ranked.values() for part in _parts(views, found)]


def _parts(views: Views, found: list[tuple[float, int, Columns]]) -> list[Part]:
    """The suspected sentences of one text, and the most suspected ones enlarged and cut."""
    parts: dict[str, Part] = {}  # forms of one text repeat its sentences
    chosen: list[tuple[Window, Columns]] = []
    for _, row, own in sorted(found, key=lambda one: one[:2]):
        window = views.encoded.windows[row]
        said = views.forms[window.text][window.start : window.end]
        if said not in parts and len(parts) < MOST:
            parts[said] = Part(window.text, window.start, window.end, own)
            chosen.append((window, own))
    for window, own in chosen[:MOST_ENLARGED]:
        form = views.forms[window.text]
        for start, end in (*_enlarged(views, window), *_cut(form, window)):
            if len(parts) < MOST_PARTS:
                parts.setdefault(form[start:end], Part(window.text, start, end, own))
    return list(parts.values())


def _enlarged(views: Views, window: Window) -> Iterator[tuple[int, int]]:
    places = sorted(
        (w.start, -w.end) for w in views.encoded.windows if w.sentence and w.text == window.text
    )
    sentences: list[tuple[int, int]] = []
    for start, negative in places:  # without the pieces of long ones
        if not sentences or start >= sentences[-1][1]:
            sentences.append((start, -negative))
    within = [n for n, (a, b) in enumerate(sentences) if a < window.end and b > window.start]
    for before, after in NEIGHBOURS:
        start, end = window.start, window.end
        if before:
            start = sentences[max(0, within[0] - before)][0]
        if after:
            end = sentences[min(len(sentences) - 1, within[-1] + after)][1]
        if window.end - window.start < end - start <= LONGEST_PART:
            yield start, end


def _cut(form: str, window: Window) -> Iterator[tuple[int, int]]:
    cuts = [found.end() for found in _NEW_SENTENCE.finditer(form, window.start, window.end)]
    for cut in cuts[:_MOST_CUTS]:
        for start, end in ((window.start, cut - 1), (cut, window.end)):
            if end - start >= SHORTEST_PART:
                yield start, end


def read(encoder: Encoder, views: Views, parts: Sequence[Part]) -> Encoded:
    """Parts of some views as texts of their own.

    Returns:
        One window for each part, in their order, placed in the form that it is a part of. Of what
        fills more than one stretch, the first.
    """
    encoded = encoder.encode([views.forms[part.form][part.start : part.end] for part in parts])
    first: dict[int, int] = {}
    for row, window in enumerate(encoded.windows):
        first.setdefault(window.text, row)
    kept = [first[index] for index in range(len(parts))]
    windows = tuple(
        _moved(encoded.windows[row], part) for row, part in zip(kept, parts, strict=True)
    )
    return Encoded(windows, encoded.features[kept])


def joined(views: Views, more: Encoded) -> Views:
    """The views with further windows of the same forms behind all others."""
    encoded = Encoded(
        (*views.encoded.windows, *more.windows),
        np.concatenate([views.encoded.features, more.features]),
        (*views.encoded.tokens, *[None] * len(more.windows)) if views.encoded.tokens else (),
    )
    return replace(views, encoded=encoded)


def _moved(window: Window, part: Part) -> Window:
    """A window of a part by itself as one of the form that it was cut from."""
    offsets = tuple(
        (start + part.start, end + part.start) if end > start else (start, end)
        for start, end in window.offsets
    )
    return replace(
        window,
        text=part.form,
        start=window.start + part.start,
        end=window.end + part.start,
        offsets=offsets,
        sentence=True,
    )
