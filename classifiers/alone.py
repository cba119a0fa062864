"""Sentences that stand out of a long text, read once more as if nothing stood around them.

Read among its neighbours, one harmful sentence within pages of innocent ones is taken for one of
them. Those few that look like it are read again, each by itself, and score as the plain message
would; the most suspected ones also with the sentences next to them, since an attack may have
several and stand anywhere among them. Where the next sentence seems to begin without a full stop
before it, there is a border too.

A sentence that is innocent where it stands may say something else by itself, so four things are
asked of it first:

- it is somewhat suspected where it stands,
- the text as a whole is about something else (where it is not, the context is what tells),
- its words speak for it whatever stands around them: the lexical part of the score; those of what
  is read together must do so too,
- nothing else in the text is as good as certain.

Where something forbidden is asked for, the context tells less than where somebody tells of violence
or despair: less is asked of such a sentence, if it is above all others of the text.

The figures were chosen on public attacks in 300 and 1,000 tokens of padding and on public innocent
texts of such lengths; benchmarks/RESULTS.md has the rates of both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
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
REQUESTS = ("illicit", "illicit/violent")
REQUEST_ELSEWHERE, REQUEST_WORDS, REQUEST_APART = -5.0, 2.4, 1.0
"""The same of these labels (0.7 %), and how far the sentence must be above all that do not touch it where the
text's middle sentence is over ``ELSEWHERE``."""
SHORTEST = 6
"""Tokens; what is shorter has little meaning of its own: read where it is among the most suspected, with its
neighbours too."""
MOST, MOST_ENLARGED, MOST_PARTS = 6, 3, 16
"""Of one text: sentences that are read alone, those of them also with their neighbours, and parts in all.
The most suspected ones: this bounds what a text may cost."""
NEIGHBOURS = ((0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (0, 3), (3, 0), (1, 2), (2, 1))
"""How many sentences before and after one are read with it: every run of up to four that it is in."""
LONGEST_PART, SHORTEST_PART = 600, 20
"""Characters of a sentence with its neighbours, and of what a sentence is cut into."""

_NEW_SENTENCE = re.compile(r"(?<=[a-z0-9\"')]) (?=[A-Z])")
_MOST_WITHIN = 3
"""Of what a suspected sentence is cut into, so much is taken with its neighbours."""

Stretch = tuple[int, int]
"""(start, end) of a part of a form, in characters."""
WordsOf = Callable[[Sequence[str]], Array]
"""``[texts, labels]`` the lexical part of the logits of some texts."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a form of a text: ``form[start:end]``, and the labels that it is suspected of."""

    form: int
    start: int
    end: int
    columns: Columns


@dataclass(frozen=True, slots=True)
class Bars:
    """What is asked of a sentence, label by label.

    Attributes:
        lifted: ``[labels]`` those of heads for which one window is enough.
        elsewhere, words: ``[labels]`` see ``ELSEWHERE`` and ``WORDS``.
    """

    lifted: Columns
    elsewhere: Array
    words: Array

    @classmethod
    def of(cls, labels: Sequence[str], lifted: Columns) -> Bars:
        """The bars of some labels, by their names."""
        requests = np.isin(labels, REQUESTS)
        return cls(
            lifted,
            np.where(requests, REQUEST_ELSEWHERE, ELSEWHERE).astype(np.float32),
            np.where(requests, REQUEST_WORDS, WORDS).astype(np.float32),
        )


def standing_out(
    views: Views, logits: Array, words: Array, bars: Bars, words_of: WordsOf
) -> list[Part]:
    """What is worth reading alone; nothing of short texts and next to nothing of innocent ones.

    Args:
        views: the windows.
        logits: ``[windows, labels]`` as they stand.
        words: ``[windows, labels]`` the lexical part of these.
        bars: of the labels.
        words_of: the lexical part of any text's logits.
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
        open_ = bars.lifted & (logits[text == form].max(axis=0) < CERTAIN)
        middle = np.median(logits[rows], axis=0)
        open_ &= middle <= bars.elsewhere
        marked = open_ & (logits[rows] >= SUSPECTED) & (words[rows] >= bars.words)
        for near in np.flatnonzero((marked & (middle > ELSEWHERE)).any(axis=1)).tolist():
            marked[near] &= (middle <= ELSEWHERE) | _apart(
                [windows[row] for row in rows], logits[rows], near
            )
        for row, own in zip(rows.tolist(), marked, strict=True):
            if own.any():
                suspicion = float(logits[row][own].max())
                ranked.setdefault(views.owners[form], []).append((-suspicion, row, own))
    return [part for found in ranked.values() for part in _parts(views, found, bars, words_of)]


def _apart(windows: Sequence[Window], logits: Array, row: int) -> Columns:
    """``[labels]`` whether a sentence is far above all others of its form that do not touch it."""
    starts = np.asarray([window.start for window in windows])
    ends = np.asarray([window.end for window in windows])
    others = (ends < starts[row] - 1) | (starts > ends[row] + 1)
    highest = logits[others].max(axis=0, initial=-np.inf)
    result: Columns = logits[row] - highest >= REQUEST_APART
    return result


def _parts(
    views: Views, found: list[tuple[float, int, Columns]], bars: Bars, words_of: WordsOf
) -> list[Part]:
    """The suspected sentences of one text, the most suspected ones also with their neighbours."""
    chosen: dict[str, tuple[Window, Columns]] = {}  # forms of one text repeat its sentences
    for _, row, own in sorted(found, key=lambda one: one[:2]):
        window = views.encoded.windows[row]
        if len(chosen) < MOST:
            said = views.forms[window.text][window.start : window.end]
            chosen.setdefault(said, (window, own))
    suspected = list(chosen.values())
    parts: dict[str, Part] = {}
    for form, start, end in _stretches(views, [window for window, _ in suspected]):
        own = np.zeros_like(suspected[0][1])
        for window, columns in suspected:  # of what any sentence in it is suspected
            if window.text == form and window.start < end and window.end > start:
                own |= columns
        parts.setdefault(views.forms[form][start:end], Part(form, start, end, own))
    speaking = (words_of(list(parts)) >= bars.words) if parts else ()
    return [
        part
        for part, words in zip(parts.values(), speaking, strict=True)
        if (part.columns & words).any()
    ][:MOST_PARTS]


def _stretches(views: Views, suspected: Sequence[Window]) -> Iterator[tuple[int, int, int]]:
    """What may be read of a text: (form, start, end), the most suspected sentences first."""
    for window in suspected:
        if window.last - window.first >= SHORTEST:
            yield window.text, window.start, window.end
    cut: dict[int, list[Stretch]] = {}
    for window in suspected[:MOST_ENLARGED]:
        if window.text not in cut:
            cut[window.text] = list(_sentences(views, window.text))
        for start, end in _runs(cut[window.text], window):
            yield window.text, start, end


def _runs(sentences: Sequence[Stretch], window: Window) -> Iterator[Stretch]:
    """The sentence that a window is in, or all that it is in, with so many neighbours."""
    within = [n for n, (a, b) in enumerate(sentences) if a < window.end and b > window.start]
    for before, after in NEIGHBOURS:
        for n in within[:_MOST_WITHIN]:
            start = sentences[max(0, n - before)][0]
            end = sentences[min(len(sentences) - 1, n + after)][1]
            if end - start <= LONGEST_PART:
                yield start, end


def _sentences(views: Views, form: int) -> Iterator[Stretch]:
    """The sentences of a form, without the pieces of long ones, cut where another seems to begin."""
    places = sorted(
        (w.start, -w.end) for w in views.encoded.windows if w.sentence and w.text == form
    )
    done = 0
    for start, negative in places:
        end = -negative
        if start < done:
            continue
        done = end
        for found in _NEW_SENTENCE.finditer(views.forms[form], start, end):
            if min(found.start() - start, end - found.end()) >= SHORTEST_PART:
                yield start, found.start()
                start = found.end()
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
