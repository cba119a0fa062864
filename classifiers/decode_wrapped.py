"""Sentences inside of something else: strings and comments of code, cells of tables, lines of a log.

Each comes out as a line of its own, so that it is read as the sentence that it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import re2

from classifiers.decode_kit import Segment

Stretch = tuple[int, int]
"""(start, end) of a piece, in characters."""

_FEWEST_WORDS = 3
_WORD = re.compile(r"[^\W\d_]{2,}|[\u3040-\u9fff\uac00-\ud7af]")

_STRUCTURE = re2.compile(
    r"""[{\[(=]\s*["']|["'\]}][ \t]*[:,]\s*["']"""  # strings
    r"|(?:^|\s)(?://|/\*|--|<!--)\s|(?m:^\s*#+\s)"  # comments
    r"|[|\t][^|\t\n]*[|\t]|;[^;\n]*;|[0-9]:[0-9]{2}:[0-9]{2}|```"
    r"|[\x{2190}-\x{2bff}\x{1f000}-\x{1faff}][^\n]*\pL[^\n]*[\x{2190}-\x{2bff}\x{1f000}-\x{1faff}]"
)


def may_wrap(text: str) -> bool:
    """Whether the searches below could find anything, in one scan."""
    return _STRUCTURE.search(text.encode("utf-8", "replace")) is not None


_STRING = re.compile(
    r"""(?:[{\[(=]|(?<=["'\]}])[ \t]*[:,])\s*(?:"((?:[^"\\\n]|\\.){8,20000}+)\""""
    r"""|'((?:[^'\\\n]|\\.){8,2000}+)')"""
)


def strings(text: str) -> Iterator[Stretch]:
    """Quoted strings of code and JSON."""
    for found in _STRING.finditer(text):
        yield found.span(1) if found[1] is not None else found.span(2)


_COMMENT = re.compile(
    r"(?m)(?:(?:^|(?<=\s))(?://+|/\*+|<!--|--(?=\s)|\"\"\")|^[ \t]*(?:#|%|;|\*)+[ \t])([^\n]{8,})$"
)
_COMMENT_END = re.compile(r"\*/|-->|\"\"\"")


def comments(text: str) -> Iterator[Stretch]:
    """Comments of common languages, a line each."""
    for found in _COMMENT.finditer(text):
        end = _COMMENT_END.search(text, *found.span(1))
        yield found.start(1), end.start() if end else found.end(1)


_LOG = re.compile(
    r"(?m)^[^\n]{0,40}?[0-9]:[0-9]{2}:[0-9]{2}[^\s]*[ \t]+"
    r"(?:[A-Z]{3,8}:?[ \t]+|\[[^\]\n]{0,60}\][ \t:]*"
    r"|(?:[\w.-]{1,40}[ \t]+)?[\w./-]{1,40}(?:\[[0-9]+\])?:[ \t]+){0,4}([^\n]{8,})$"
)


def log_lines(text: str) -> Iterator[Stretch]:
    """Messages of log lines, without time, level and name."""
    for found in _LOG.finditer(text):
        yield found.span(1)


_SEPARATORS = (
    (re.compile(r"\|"), 2, 10_000),
    (re.compile(r"\t+"), 2, 10_000),
    (re.compile(r";"), 3, 60),
    (re.compile("[\u2190-\u2bff\U0001f000-\U0001faff\ufe0f\u200d]+"), 3, 80),
    (re.compile(","), 6, 50),
)
"""What stands between cells; how often it must in a line, and at least once in how many characters: prose has
commas too, lists have more."""
_LINE = re.compile(r"[^\n]+")


def has_list(text: str) -> bool:
    """Whether a line has as many commas as a list."""
    if text.count(",") < 6:
        return False
    return any(
        (count := line.count(",")) >= 6 and len(line) <= 50 * count for line in text.split("\n")
    )


def cells(text: str) -> Iterator[Stretch]:
    """What stands between the bars, tabs, semicolons, pictures or many commas of a line."""
    for line in _LINE.finditer(text):
        for separator, least, widest in _SEPARATORS:
            cuts = list(separator.finditer(text, line.start(), line.end()))
            if len(cuts) < least or len(line.group()) > widest * len(cuts):
                continue
            start = line.start()
            for cut in cuts:
                yield start, cut.start()
                start = cut.end()
            yield start, line.end()
            break


WRAPPERS: tuple[Callable[[str], Iterable[Stretch]], ...] = (strings, comments, log_lines, cells)


def wrapped(text: str) -> list[Segment]:
    """The sentences that something is wrapped around, in order; none overlaps another."""
    found = sorted(
        (start, -end)
        for wrapper in WRAPPERS
        for start, end in wrapper(text)
        if end - start < len(text) - 2
    )
    kept: list[Segment] = []
    for start, negative in found:
        end = -negative
        if kept and start < kept[-1].end:
            continue
        words = islice(_WORD.finditer(text, start, end), _FEWEST_WORDS)
        if sum(1 for _ in words) < _FEWEST_WORDS:
            continue
        kept.append(Segment(start, end, unescaped(text[start:end]), inline=False))
    return kept


_BACKSLASH = re.compile(r"\\(.)")
_SIGNS = {"n": "\n", "t": "\t", "r": "\n", "b": "", "f": ""}


def unescaped(text: str) -> str:
    """A string of code as it reads: ``\\n`` a line end, ``\\"`` a quote, doubled ones too."""
    if "\\" not in text:
        return text
    for _ in range(3):
        if "\\\\" not in text and '\\"' not in text:
            break
        text = text.replace("\\\\", "\\").replace('\\"', '"')
    return _BACKSLASH.sub(lambda sign: _SIGNS.get(sign[1], sign.group()), text)
