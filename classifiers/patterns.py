"""Patterns that operators write: regular expressions and keywords, with spans and checksums.

Everything runs on RE2, so no pattern can be made to backtrack: time is linear in the text. All
patterns of a classifier are first matched together as one automaton (about a microsecond for 300
characters, however many they are); only those that occur are then located.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal, Self

import re2
from pydantic import Field, StringConstraints, model_validator
from stdnum import iban, luhn, verhoeff
from stdnum.iso7064 import mod_97_10

from classifiers.decode import Forms, batch_forms
from classifiers.spans import Find, fixed_thresholds, without_overlaps
from classifiers.types import (
    Batch,
    ClassifierError,
    Kind,
    OperatingPoint,
    Prediction,
    Span,
    StrictModel,
)

CHECKSUMS: Mapping[str, Callable[[str], bool]] = {
    "luhn": luhn.is_valid,
    "iban": lambda number: bool(iban.is_valid(number, check_country=False)),
    "verhoeff": verhoeff.is_valid,
    "mod97": mod_97_10.is_valid,
}
"""Checks on the letters and digits of a match; what does not pass is no find."""

MAX_FINDS = 10_000
"""Places one pattern may match in one text. Past it there is no verdict, rather than half of one."""

Word = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"\S")]


class Pattern(StrictModel):
    """One thing to look for: a regular expression (RE2 syntax) or keywords."""

    label: Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_./-]{0,63}$")]
    """What a policy calls it; several patterns may share a label."""
    regex: str | None = None
    """RE2 syntax; case matters unless it starts with ``(?i)``. Either this or ``keywords``."""
    keywords: tuple[Word, ...] | None = None
    """Words or phrases, in any case, as whole words; a space stands for any white space.

    A word ends where the script changes; in scripts written without spaces (Chinese, Japanese,
    Korean, Thai and their like) a keyword is found anywhere."""
    checksum: Literal["luhn", "iban", "verhoeff", "mod97"] | None = None
    """``luhn``, ``iban``, ``verhoeff`` or ``mod97``: what the letters and digits of the match must
    satisfy."""
    score: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Over 0 and up to 1: what a find scores."""
    context: tuple[Word, ...] = ()
    """Words of which one must stand within ``context_chars`` characters of the match."""
    context_chars: Annotated[int, Field(ge=1, le=1000)] = 60
    """How far ``context`` reaches, to both sides."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.regex is None) == (self.keywords is None):
            raise ValueError(
                f"pattern {self.label!r} needs either `regex` or `keywords`; write one of them"
            )
        if self.keywords is not None and not self.keywords:
            raise ValueError(
                f"pattern {self.label!r} has an empty list of keywords; write at least one"
            )
        _compile(self.label, self.source)
        return self

    @property
    def source(self) -> str:
        """The expression in RE2 syntax."""
        return self.regex if self.regex is not None else _words(self.keywords or ())


class PatternConfig(StrictModel):
    """A classifier made of patterns."""

    name: Annotated[str, StringConstraints(min_length=1)] = "patterns"
    """What policies call the classifier."""
    patterns: Annotated[tuple[Pattern, ...], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class _Rule:
    pattern: Pattern
    regex: Any
    whole_words: bool
    near: re.Pattern[str] | None


class PatternClassifier:
    """Finds what the patterns of a config describe, in the text and in its plain form.

    Args:
        name: the classifier's name in policies.
        config: the patterns; already checked, so building cannot fail on a bad expression.
    """

    kind: Kind = "spans"

    def __init__(self, name: str, config: PatternConfig) -> None:
        self.name = name
        self.config = config
        self.labels: tuple[str, ...] = tuple(dict.fromkeys(p.label for p in config.patterns))
        self.version = hashlib.sha256(config.model_dump_json().encode()).hexdigest()[:12]
        self._rules = [
            _Rule(
                pattern,
                _compile(pattern.label, pattern.source),
                pattern.regex is None,
                _near(pattern.context),
            )
            for pattern in config.patterns
        ]
        self._any = re2.Set.SearchSet(_options())
        for pattern in config.patterns:
            self._any.Add(pattern.source)
        try:
            self._any.Compile()
        except re2.error as error:
            raise ValueError(
                f"the {len(config.patterns)} patterns of {name!r} are too large together; "
                "split them over two classifiers or shorten counted repetitions such as {1,500}"
            ) from error

    def thresholds(self, labels: Sequence[str], point: OperatingPoint) -> Mapping[str, float]:
        """0.5 by default, or the score after ``at:``; see :class:`ClassifierInfo`."""
        return fixed_thresholds(self.name, self.labels, labels, point)

    def predict(self, batch: Batch) -> list[tuple[Prediction, ...]]:
        """One prediction per find, in the order of the text; finds of one label never overlap.

        Raises:
            ClassifierError: a pattern matches in more than ``MAX_FINDS`` places.
        """
        forms = batch_forms(batch)
        return [self._classify(text, more) for text, more in zip(batch.texts, forms, strict=True)]

    def _classify(self, text: str, more: Forms) -> tuple[Prediction, ...]:
        finds = list(self._search(text))
        for revealed in (*more.whole, *more.aside):
            for find in self._search(revealed.text):
                span = revealed.to_original(find.start, find.end)
                finds.append(Find(span.start, span.end, find.label, find.score))
        kept = (
            find
            for label in (self.labels if len(finds) > 1 else {find.label for find in finds})
            for find in without_overlaps(f for f in finds if f.label == label)
        )
        return tuple(
            Prediction(self.name, find.label, find.score, Span(find.start, find.end))
            for find in sorted(kept, key=lambda find: (find.start, find.end))
        )

    def _search(self, text: str) -> Iterator[Find]:
        # A lone surrogate (JSON allows them) has no UTF-8; "?" keeps the offsets.
        data = text.encode("utf-8", "replace")
        for index in sorted(self._any.Match(data) or ()):
            rule = self._rules[index]
            for start, end in _places(rule, data, text):
                if _holds(rule, text, start, end):
                    yield Find(start, end, rule.pattern.label, rule.pattern.score)


def _places(rule: _Rule, data: bytes, text: str) -> Iterator[tuple[int, int]]:
    """Where a rule matches, in characters. RE2 counts bytes; the count of characters goes along."""
    ascii_only = len(data) == len(text)
    position = counted = characters = 0
    for _ in range(MAX_FINDS):
        found = rule.regex.search(data, position)
        if found is None:
            return
        start, end = found.span()
        if start == end:
            position = end + 1
            continue
        if not ascii_only:
            characters += len(data[counted:start].decode())
            counted = start
            end_character = characters + len(data[start:end].decode())
        else:
            characters, end_character = start, end
        if rule.whole_words and not _at_borders(text, characters, end_character):
            # A keyword inside a longer word may hide another that starts later.
            position = start + max(1, len(text[characters].encode("utf-8", "replace")))
            continue
        yield characters, end_character
        position = end
    raise ClassifierError(
        f"pattern {rule.pattern.label!r} matches in more than {MAX_FINDS} places of one text; "
        "make it more specific"
    )


def _at_borders(text: str, start: int, end: int) -> bool:
    opens = start > 0 and _one_word(text[start - 1], text[start])
    closes = end < len(text) and _one_word(text[end - 1], text[end])
    return not (opens or closes)


_SPACELESS = frozenset(
    "CJK IDEOGRAPHIC HIRAGANA KATAKANA KATAKANA-HIRAGANA BOPOMOFO HANGUL THAI LAO KHMER MYANMAR "
    "TIBETAN".split()
)
"""Scripts that write no space, or none a search can rely on, between words."""


def _one_word(left: str, right: str) -> bool:
    """Whether two neighbours stand in one word: letters of one script, or a letter and a digit."""
    one, two = _script(left), _script(right)
    return bool(one and two) and (one == two or "0" in (one, two))


@lru_cache(maxsize=4096)
def _script(character: str) -> str:
    """The script of a letter, "0" for ASCII digits, empty for what makes no word longer."""
    if character.isascii():
        return "0" if character in "0123456789_" else "LATIN" if character.isalpha() else ""
    if not character.isalpha():
        return ""  # superscripts, circled numbers, marks
    name = unicodedata.name(character, "").removeprefix("FULLWIDTH ").removeprefix("HALFWIDTH ")
    script = name.partition(" ")[0]
    return "" if script in _SPACELESS else script


def _holds(rule: _Rule, text: str, start: int, end: int) -> bool:
    if rule.near is not None:
        reach = rule.pattern.context_chars
        before, after = text[max(0, start - reach) : start], text[end : end + reach]
        if not (_mentions(rule.near, before) or _mentions(rule.near, after)):
            return False
    if rule.pattern.checksum is None:
        return True
    number = "".join(c for c in text[start:end] if c.isalnum())
    return CHECKSUMS[rule.pattern.checksum](number)


def _words(words: Sequence[str]) -> str:
    """Keywords as one expression, longer ones first so that "art" does not hide "art work"."""
    parts = []
    for word in sorted(words, key=len, reverse=True):
        body = r"\s+".join(re2.escape(piece) for piece in word.split())
        first, last = word.strip()[0], word.strip()[-1]
        opens = r"\b" if first.isascii() and (first.isalnum() or first == "_") else ""
        closes = r"\b" if last.isascii() and (last.isalnum() or last == "_") else ""
        parts.append(opens + body + closes)
    return "(?i:" + "|".join(parts) + ")"


def _near(words: Sequence[str]) -> re.Pattern[str] | None:
    if not words:
        return None
    bodies = (r"\s+".join(map(re.escape, word.split())) for word in words)
    return re.compile("|".join(sorted(bodies, key=len)), re.IGNORECASE)


def _mentions(words: re.Pattern[str], text: str) -> bool:
    """Whether one of the words stands in a text, as a whole word."""
    found = words.search(text)
    while found is not None and not _at_borders(text, *found.span()):
        found = words.search(text, found.start() + 1)
    return found is not None


def _options() -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 64 << 20
    return options


_HINTS = (
    (
        "invalid perl operator",
        "RE2 has no look-around; use `context` for words that must stand near",
    ),
    ("invalid escape sequence", "RE2 has no back-references; see the RE2 syntax for escapes"),
    ("missing )", "close the parenthesis or escape it as \\("),
    ("unexpected )", "open the parenthesis or escape it as \\)"),
    ("missing ]", "close the bracket or escape it as \\["),
    ("no argument for repetition", "put something before *, + or ?, or escape it"),
    ("invalid repetition size", "RE2 repeats at most 1000 times; use + or a smaller count"),
    ("pattern too large", "shorten counted repetitions or split the pattern in two"),
)


def _compile(label: str, source: str) -> Any:
    try:
        compiled = re2.compile(source, _options())
    except re2.error as error:
        raw = error.args[0] if error.args else ""
        fault = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)
        hint = next((fix for sign, fix in _HINTS if sign in fault), "write it in RE2 syntax")
        raise ValueError(f"pattern {label!r}: {fault} in {source[:200]!r}; {hint}") from None
    if compiled.search("") is not None:
        raise ValueError(
            f"pattern {label!r}: {source[:200]!r} matches the empty text; require at least one character"
        )
    return compiled
