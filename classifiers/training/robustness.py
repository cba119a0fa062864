"""Texts as people in a hurry, or with something to hide, would write them; and what that changes."""

from __future__ import annotations

import string
import zlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from classifiers.training import metrics
from classifiers.training.data import Row
from classifiers.training.fit import truth_table
from classifiers.training.metrics import Mask, Scores, Truth

Random = np.random.Generator
Noise = Callable[[str, Random], str]
Figures = dict[str, float | int | None]

AS_WRITTEN = "as written"
TYPO_RATE = 0.06
"""Share of letters with a typo: about one word in four."""
HIDE_RATE = 0.3
"""Share of letters that a disguise replaces."""
KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
LEET = str.maketrans({"a": "4", "e": "3", "i": "1", "o": "0", "s": "5", "t": "7"})
LOOKALIKES = str.maketrans("aceopxyiABCEHKMOPTX", "асеорхуіАВСЕНКМОРТХ")
FULL_WIDTH = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
ZERO_WIDTH = "\u200b"
BEFORE = (
    "Good morning, I hope you are well. I have been reading about gardening this week and the "
    "tomatoes on my balcony are doing fine. One more thing. "
)
AFTER = (
    " Thanks a lot for your help. By the way, the train was on time today, and I will cook soup "
    "for my family tonight. Have a nice day."
)


def typos(text: str, random: Random) -> str:
    """Letters swapped, dropped, doubled or hit one key beside."""
    letters = list(text)
    hit = np.flatnonzero(random.random(len(letters)) < TYPO_RATE)
    for at in hit.tolist():
        own = letters[at]
        if len(own) != 1 or not own.isalpha():
            continue
        kind = int(random.integers(4))
        if kind == 0 and at + 1 < len(letters):
            letters[at], letters[at + 1] = letters[at + 1], own
        elif kind == 1:
            letters[at] = ""
        elif kind == 2:
            letters[at] = own * 2
        else:
            letters[at] = _neighbour(own, random)
    return "".join(letters)


def random_case(text: str, random: Random) -> str:
    """Each letter upper or lower by chance."""
    upper = random.random(len(text)) < 0.5
    return "".join(c.upper() if up else c.lower() for c, up in zip(text, upper, strict=True))


def no_punctuation(text: str, random: Random) -> str:
    """Without ASCII punctuation."""
    return text.translate(str.maketrans("", "", string.punctuation))


def missing_spaces(text: str, random: Random) -> str:
    """A fifth of the spaces lost."""
    return _each(text, random, 0.2, lambda c: "" if c == " " else c)


def leetspeak(text: str, random: Random) -> str:
    """Digits for letters."""
    return text.translate(LEET)


def look_alikes(text: str, random: Random) -> str:
    """Cyrillic letters that look like the Latin ones."""
    return _each(text, random, HIDE_RATE, lambda c: c.translate(LOOKALIKES))


def full_width(text: str, random: Random) -> str:
    """Full-width letters."""
    return text.translate(FULL_WIDTH)


def invisible(text: str, random: Random) -> str:
    """Zero-width spaces within words."""
    return _each(text, random, HIDE_RATE, lambda c: c + ZERO_WIDTH if c.isalpha() else c)


FAMILIES: Mapping[str, Noise] = {
    "typos": typos,
    "lower case": lambda text, random: text.lower(),
    "upper case": lambda text, random: text.upper(),
    "random case": random_case,
    "no punctuation": no_punctuation,
    "missing spaces": missing_spaces,
    "digits for letters": leetspeak,
    "look-alike letters": look_alikes,
    "full-width letters": full_width,
    "invisible characters": invisible,
    "innocent text before": lambda text, random: BEFORE + text,
    "innocent text after": lambda text, random: text + AFTER,
}
"""Every way a text is changed."""
PADDED = ("innocent text before", "innocent text after")
"""Not tried where one label is picked: the added text rightly has one of its own."""


def disguised(texts: Sequence[str], seed: int = 0) -> dict[str, list[str]]:
    """Every family's version of every text.

    A text's version depends on the seed, the family and its place in the list alone.
    """
    return {
        name: [
            change(text, np.random.default_rng([seed, zlib.crc32(name.encode()), index]))
            for index, text in enumerate(texts)
        ]
        for name, change in FAMILIES.items()
    }


def robustness(
    classify: Callable[[Sequence[str]], Scores],
    rows: Sequence[Row],
    labels: Sequence[str],
    decision: str,
    thresholds: Mapping[str, float],
    *,
    limit: int = 300,
    seed: int = 0,
) -> dict[str, Figures]:
    """What the disguises change.

    Args:
        classify: texts to ``[n, labels]`` probabilities.
        rows: labelled rows; ``limit`` of them are drawn, half of them with a label where possible.
        labels, decision, thresholds: as in :func:`classifiers.training.evaluate.evaluate`.
        seed: of the draw and of the disguises.

    Returns:
        Family -> ``rows``; ``right``, share decided right; ``found``, share of the texts with a
        label for which one that holds was flagged; ``stopped``, share of the texts without a label
        that were flagged; ``changed``, share decided otherwise than as written. The first entry
        is the texts as written. None where there is no such row.
    """
    rows = _draw(rows, limit, seed)
    truth = truth_table(rows, labels)
    cuts = np.asarray([thresholds[label] for label in labels])
    texts = [row.text for row in rows]
    clean = classify(texts)
    result = {AS_WRITTEN: _figures(clean, truth, clean >= cuts, decision, clean >= cuts, clean)}
    for name, changed in disguised(texts, seed).items():
        if decision == "one_of" and name in PADDED:
            continue
        scores = classify(changed)
        result[name] = _figures(scores, truth, scores >= cuts, decision, clean >= cuts, clean)
    return result


def _figures(
    scores: Scores, truth: Truth, flagged: Mask, decision: str, before: Mask, clean: Scores
) -> Figures:
    holds = (truth == 1).any(axis=1)
    bare = (truth == 0).all(axis=1)
    hits: Mask
    if decision == "one_of":
        hits = truth[np.arange(len(truth)), scores.argmax(axis=1)] == 1
        changed = scores.argmax(axis=1) != clean.argmax(axis=1)
    else:
        hits = np.asarray((flagged & (truth == 1)).any(axis=1))
        changed = (flagged != before).any(axis=1)
    return {
        "rows": len(truth),
        "right": _mean(metrics.right_rows(scores, truth, flagged, decision)),
        "found": _mean(hits[holds]),
        "stopped": _mean(np.asarray(flagged[bare].any(axis=1))),
        "changed": _mean(np.asarray(changed)),
    }


def _draw(rows: Sequence[Row], limit: int, seed: int) -> list[Row]:
    if len(rows) <= limit:
        return list(rows)
    random = np.random.default_rng(seed)
    order = random.permutation(len(rows)).tolist()
    held = [index for index in order if rows[index].labels]
    bare = [index for index in order if not rows[index].labels]
    few = min(len(held), max(limit // 2, limit - len(bare)))
    return [rows[index] for index in sorted(held[:few] + bare[: limit - few])]


def _each(text: str, random: Random, rate: float, change: Callable[[str], str]) -> str:
    hit = random.random(len(text)) < rate
    return "".join(change(c) if own else c for c, own in zip(text, hit, strict=True))


def _neighbour(letter: str, random: Random) -> str:
    for row in KEYS:
        at = row.find(letter.lower())
        if at >= 0:
            step = 1 if at == 0 or (at + 1 < len(row) and random.random() < 0.5) else -1
            beside = row[at + step]
            return beside.upper() if letter.isupper() else beside
    return letter


def _mean(values: npt.NDArray[np.bool_]) -> float | None:
    return float(values.mean()) if len(values) else None
