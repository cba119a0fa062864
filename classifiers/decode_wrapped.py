"""Sentences inside of something else: strings and comments of code, cells of tables, lines of a log.

Each comes out as a line of its own, so that it is read as the sentence that it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import re2

from classifiers.decode_kit import Segment

Stretch = tuple[int, int]
"""(start, end) of a piece, in characters."""

_FEWEST_WORDS = 3
_WORD = re.compile(r"[^\W\d_]{2,}|[\u3040-\u9fff\uac00-\ud7af]")
_LINE = re.compile(r"[^\n]+")

_STRUCTURE = re2.compile(
    r"""[{\[(=]\s*["']|["'\]}][ \t]*[:,]\s*["']"""  # strings
    r"|(?:^|\s)(?://|/\*|--|<!--)\s|(?m:^\s*#+\s)"  # comments
    r"|[|\t][^|\t\n]*[|\t]|;[^;\n]*;|[0-9]:[0-9]{2}:[0-9]{2}|```|~~~|<!--|[^<>]</[a-zA-Z]"
    r"|(?m:^[ \t]*>|(?:^|,)\"[^\"\n]|^[ \t]*(?:- )?[\w-]+:(?:[ \t]|$))"  # quotes, CSV, YAML
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
    r"(?m)(?:(?:^|(?<=\s))(?://+|/\*+|--(?=\s)|\"\"\")|<!--+|^[ \t]*(?:#|%|;|\*)+[ \t])([^\n]{8,})$"
)
_COMMENT_END = re.compile(r"\*/|-->|\"\"\"")


def comments(text: str) -> Iterator[Stretch]:
    """Comments of common languages, a line each."""
    for found in _COMMENT.finditer(text):
        end = _COMMENT_END.search(text, *found.span(1))
        yield found.start(1), end.start() if end else found.end(1)


_QUOTED = re.compile(r"(?m)^[ \t]*(?:>[ \t]?)+([^\n]{8,})$")


def quotes(text: str) -> Iterator[Stretch]:
    """Lines of a reply or a block quote, without their marks."""
    for found in _QUOTED.finditer(text):
        yield found.span(1)


_FENCED = re.compile(r"(?m)^[ \t]*(```|~~~)[^\n]*\n((?:(?![ \t]*\1)[^\n]*\n)*+)[^\n]*")
_PROSE = 0.85
"""Letters and blanks of a line of prose, at least; lines of code have more signs."""


def fenced(text: str) -> Iterator[Stretch]:
    """Lines of prose between the fences of a code block."""
    for block in _FENCED.finditer(text):
        for line in _LINE.finditer(text, *block.span(2)):
            said = line.group()
            if sum(c.isalpha() or c == " " for c in said) >= _PROSE * len(said):
                yield line.span()


_ELEMENT = re.compile(
    r"<([a-zA-Z][\w:.-]{0,60})(?:\s[^<>]{0,200})?>([^<>]{8,20000}+)</\1[ \t\r\n]{0,8}>"
)


def elements(text: str) -> Iterator[Stretch]:
    """What stands between the two tags of an element of XML or HTML, with no other in between."""
    for found in _ELEMENT.finditer(text):
        yield found.span(2)


_FIELD = re.compile(r"(?m)^[ \t]*(?:- )?[\w-]{1,40}:(?:[ \t]+([^\n]*))?$")
_ITEM = re.compile(r"(?m)^[ \t]*- ([^\n]{8,})$")
_FEWEST_FIELDS = 2


def fields(text: str) -> Iterator[Stretch]:
    """Values and list items of YAML, headers of mail: lines of a name, a colon and a value, several."""
    found = list(_FIELD.finditer(text))
    if len(found) < _FEWEST_FIELDS:
        return
    yield from (field.span(1) for field in found if field[1])
    yield from (item.span(1) for item in _ITEM.finditer(text))


_CSV_STRING = re.compile(r"(?m)(?:^|(?<=[,;\t]))\"((?:[^\"\n]|\"\"){8,20000}+)\"(?=[,;\t\r]|$)")
_FEWEST_ROWS = 3


def rows(text: str) -> Iterator[Stretch]:
    """Cells of CSV: quoted ones, and those of neighbouring lines with as many commas each."""
    for found in _CSV_STRING.finditer(text):
        yield found.span(1)
    run: list[re.Match[str]] = []
    for line in _LINE.finditer(text):
        commas = line.group().count(",")
        if run and commas != run[0].group().count(","):
            yield from _row_cells(text, run)
            run = []
        if commas >= 2 and '"' not in line.group():
            run.append(line)
    yield from _row_cells(text, run)


def _row_cells(text: str, lines: Sequence[re.Match[str]]) -> Iterator[Stretch]:
    if len(lines) < _FEWEST_ROWS:
        return
    for line in lines:
        start = line.start()
        for cell in line.group().split(","):
            yield start, start + len(cell)
            start += len(cell) + 1


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


def has_list(text: str) -> bool:
    """Whether a line has as many commas as a list, or several lines have as many as each other."""
    if text.count(",") < 6:
        return False
    alike = before = 0
    for line in text.split("\n"):
        count = line.count(",")
        if count >= 6 and len(line) <= 50 * count:
            return True
        alike = alike + 1 if count == before else 1
        if count >= 2 and alike >= _FEWEST_ROWS:
            return True
        before = count
    return False


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


WRAPPERS: tuple[Callable[[str], Iterable[Stretch]], ...] = (
    strings, comments, quotes, fenced, elements, fields, rows, log_lines, cells,
)  # fmt: skip


def wrapped(text: str, depth: int = 2) -> list[Segment]:
    """The sentences that something is wrapped around, in order; none overlaps another.

    Of JSON within a string of JSON, to a depth, its own strings.
    """
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
        said = text[start:end]
        start += len(said) - len(said.lstrip())
        said = said.strip()  # blanks around a sentence change what its n-grams say
        end = start + len(said)
        meant = unescaped(said)
        if depth and said[0] in "{[" and (inner := wrapped(_ESCAPED.sub(r"\1", said), depth - 1)):
            meant = "\n".join(piece.text for piece in inner)
        kept.append(Segment(start, end, meant, inline=False))
    return kept


_ESCAPED = re.compile(r"\\([\"\\/])")
_BACKSLASH = re.compile(r"\\(.)")
_SIGNS = {"n": "\n", "t": "\t", "r": "\n", "b": "", "f": ""}


def unescaped(text: str) -> str:
    """A string of code or CSV as it reads: ``\\n`` a line end, ``\\"`` and ``""`` a quote."""
    text = text.replace('""', '"')
    if "\\" not in text:
        return text
    for _ in range(3):
        if "\\\\" not in text and '\\"' not in text:
            break
        text = text.replace("\\\\", "\\").replace('\\"', '"')
    return _BACKSLASH.sub(lambda sign: _SIGNS.get(sign[1], sign.group()), text)
