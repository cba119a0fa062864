"""Characters written as escapes: of URLs, of HTML, of mail (quoted-printable), of program text."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from classifiers.decode_kit import Segment, as_text

_BLACK = re.compile(r"\S+")
_PERCENT = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_PERCENT_U = re.compile(r"%u([0-9A-Fa-f]{4})")


def percent(text: str) -> Iterator[Segment]:
    """URL encoding; ``+`` is a blank where the word has escapes too."""
    if "%" not in text:
        return
    for word in _BLACK.finditer(text):
        raw = word.group()
        meant = _PERCENT_U.sub(lambda code: chr(int(code[1], 16)), raw) if "%u" in raw else raw
        meant = _PERCENT.sub(_percent_bytes, meant)
        if meant != raw:
            if "/" not in raw and raw.count("+") >= 2:
                meant = meant.replace("+", " ")
            yield Segment(word.start(), word.end(), meant)


def _percent_bytes(found: re.Match[str]) -> str:
    meant = bytes.fromhex(found.group().replace("%", "")).decode("utf-8", "replace")
    return (
        found.group()
        if any((c < " " and c not in "\t\r\n") or c == "\ufffd" for c in meant)
        else meant
    )


_ENTITIES = re.compile(r"(?:&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]{2,8}[0-9]{0,2});)+")


def entities(text: str) -> Iterator[Segment]:
    """Character references of HTML and XML."""
    for found in _ENTITIES.finditer(text):
        meant = html.unescape(found.group()).replace("\u00a0", " ")
        if meant != found.group():
            yield Segment(found.start(), found.end(), meant)


_QUOTED = re.compile(r"(?:=[0-9A-F]{2})+|(?<=\S)=[ \t]{0,4}\r?\n(?=\S)")
_SOFT_BREAK = re.compile(r"=[ \t]{0,4}\r?\n")
_FEWEST_QUOTED = 3


def quoted_printable(text: str) -> Iterator[Segment]:
    """Quoted-printable, which takes three escapes to be told from program text."""
    found = list(_QUOTED.finditer(text))
    breaks = sum("\n" in run.group() for run in found)
    if breaks + sum(len(run.group()) // 3 for run in found) < _FEWEST_QUOTED:
        return
    if breaks:  # a line may end within an escape
        start, end = found[0].start(), found[-1].end()
        joined = _SOFT_BREAK.sub("", text[start:end])
        yield Segment(start, end, _QUOTED.sub(_quoted_bytes, joined))
        return
    for run in found:
        if (meant := _quoted_bytes(run)) != run.group():
            yield Segment(run.start(), run.end(), meant)


def _quoted_bytes(run: re.Match[str]) -> str:
    data = bytes.fromhex(run.group().replace("=", ""))
    meant = data.decode("utf-8", "replace")
    fair = "\ufffd" not in meant and (meant.isprintable() or meant.isspace())
    return meant if fair else run.group()


_ESCAPE = (
    r"\\u\{[0-9a-fA-F]{1,6}\}|\\u[0-9a-fA-F]{4}|\\U[0-9a-fA-F]{8}|\\x[0-9a-fA-F]{2}|\\[0-7]{3}"
    r"|[Uu]\+[0-9a-fA-F]{4,6}[ ,]?"
)
_ESCAPES = re.compile(rf"(?:{_ESCAPE})+")
_ONE_ESCAPE = re.compile(_ESCAPE)


def program_escapes(text: str) -> Iterator[Segment]:
    r"""``\u0041``, ``\x41``, ``\101``, ``U+0041``."""
    for found in _ESCAPES.finditer(text):
        codes = [(one[0], one[0].strip(", ")) for one in _ONE_ESCAPE.finditer(found.group())]
        meant = _from_escapes([code for _, code in codes])
        if meant is not None:
            yield Segment(found.start(), found.end(), meant)


def _from_escapes(codes: list[str]) -> str | None:
    numbers = [_number(code) for code in codes]
    if any(number > 0x10FFFF for number in numbers):
        return None
    if all(code[1] in "x01234567" for code in codes):
        return as_text(bytes(min(number, 255) for number in numbers), letters=0.3)
    pairs = "".join(map(chr, numbers)).encode("utf-16", "surrogatepass")
    meant = pairs.decode("utf-16", "replace")
    return None if any(c < " " and c not in "\t\r\n" for c in meant) else meant


def _number(code: str) -> int:
    return int(code[1:], 8) if code[1] in "01234567" else int(code[2:].strip("{}"), 16)
