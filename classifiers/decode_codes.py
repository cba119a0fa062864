"""Text written in codes: base64, base32, hexadecimal, binary, character numbers, Morse, Braille.

Every search is linear: an expression either takes what it has seen or gives up after a few characters.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Sequence

from classifiers.decode_kit import Segment, as_text, language

# -- base64 and base32 -------------------------------------------------------------------------------

_TOKEN = re.compile(r"[A-Za-z0-9+/_-]{2,}+={0,6}")
_MIXED = re.compile(r"[a-z0-9][A-Z]|[0-9][a-z]|[A-Z]{2}[a-z]|[A-Za-z][0-9]|[A-Za-z]\+|.={1,2}\Z")
_SOLID = 16
"""Characters from which on a token may be base64 by itself; shorter ones only next to others."""
_GAP = 6
_URL = str.maketrans("-_", "+/")


def encoded_64(text: str) -> Iterator[Segment]:
    """Runs of base64 (either alphabet, padded or not, over lines or a word each) and base32."""
    group: list[re.Match[str]] = []
    for found in _TOKEN.finditer(text):
        token = found.group()
        likely = len(token) >= 40 or _MIXED.search(token) is not None
        likely = likely or (len(token) >= _SOLID and token.upper() == token)
        if group and not _adjoins(text, group[-1].end(), found.start()):
            yield from _group(group)
            group = []
        elif group and not likely:
            # Among others, a token that looks like a word may be one of them: "Zmls".
            likely = len(token) % 4 == 0 and _decoded_64(token) is not None
            if not likely:
                if len(token) < 4:  # the last line of a split code
                    group.append(found)
                yield from _group(group)
                group = []
        if likely:
            group.append(found)
    yield from _group(group)


def _adjoins(text: str, end: int, start: int) -> bool:
    between = text[end:start] if start - end <= _GAP else "?"
    return between.strip(" \t\r\n>\"'+,\\.|-") == ""


def _group(group: list[re.Match[str]]) -> Iterator[Segment]:
    if not group or (len(group) == 1 and len(group[0].group()) < _SOLID):
        return
    single = [(token, _decoded_64(token.group())) for token in group]
    sure = sum(meant is not None for _, meant in single)
    if sure >= _FEWEST_WORDS and not _is_block(group) and (words := _each_a_word(single)):
        yield Segment(group[0].start(), group[-1].end(), " ".join(words))
        return
    if not (sure == len(group) >= 3 and not _is_block(group)):
        for cut in (0, 1):  # the last token may be an innocent word
            own = group[: len(group) - cut]
            whole = "".join(token.group() for token in own)
            if len(whole) >= _SOLID and (meant := _decoded_64(whole)) is not None:
                yield Segment(own[0].start(), own[-1].end(), meant)
                return
    for token, meant in single:
        if meant is not None and (len(token.group()) >= _SOLID or sure >= 3):
            yield Segment(token.start(), token.end(), meant)


def _is_block(group: list[re.Match[str]]) -> bool:
    """One code over lines of the same length, not a code for each word."""
    return len({len(token.group()) for token in group[:-1]}) == 1


_FEWEST_WORDS, _LONGEST_WORD = 3, 40
"""Words that are codes of their own, at least, and characters of such a code, less than."""


def _each_a_word(single: Sequence[tuple[re.Match[str], str | None]]) -> list[str]:
    """What the codes of a group say, a word each; nothing if one says nothing.

    Among others, one that is too short to be told from chance by itself may be one of them: "YQ==".
    """
    words: list[str] = []
    for token, meant in single:
        code = token.group()
        if meant is None and len(code) < _SOLID:
            meant = _any_ascii(code.rstrip("=").translate(_URL))
        if meant is None or len(code) >= _LONGEST_WORD:
            return []
        words.append(meant)
    return words


def _any_ascii(bare: str) -> str | None:
    try:
        said = base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True).decode("ascii")
    except ValueError:  # no base64, or other bytes
        return None
    return said if said.isprintable() else None


_SHIFTED = 24
"""Characters from which on a code is tried from its second, third and fourth one too."""


def _decoded_64(token: str) -> str | None:
    bare = token.rstrip("=").translate(_URL)
    if "=" in bare:
        return _decoded_parts(token)
    if len(bare) >= _SOLID and (bare.isupper() or bare.islower()) and bare.isalnum():
        try:
            return as_text(base64.b32decode(bare.upper() + "=" * (-len(bare) % 8)))
        except binascii.Error:
            pass
    meant = _aligned(bare)
    if meant is None and len(bare) >= _SHIFTED:
        # A letter in front of it, or a cut through it, moves all that follows.
        shifted = (_aligned(bare[by:]) for by in (1, 2, 3))
        meant = next((found for found in shifted if found is not None), None)
    return meant


def _aligned(bare: str) -> str | None:
    if len(bare) % 4 == 1:
        bare = bare[:-1]
    try:
        return as_text(base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True))
    except binascii.Error:
        return None


def _decoded_parts(token: str) -> str | None:
    """Several padded codes one after the other, a word each."""
    parts = [_decoded_64(part) for part in re.findall(r"[^=]+=*", token)]
    return " ".join(part for part in parts if part) if all(parts) else None


# -- hexadecimal, binary, numbers of characters ------------------------------------------------------

_HEX = re.compile(
    r"(?<![0-9A-Za-z])(?:0[xX]|\\x|#)?[0-9a-fA-F]{2}"
    r"(?:[\s,:;-]{0,2}(?:0[xX]|\\x)?[0-9a-fA-F]{2}){5,}+"
)
_HEX_SIGN = re.compile(r"0[xX](?=[0-9a-fA-F]{2})|\\x|[^0-9a-fA-F]")
_BINARY = re.compile(r"[01](?:[\s,]{0,2}[01]){27,}+")
_DECIMAL = re.compile(r"(?<![\w.])[0-9]{1,3}(?:[\s,;.|/-]{1,2}[0-9]{1,3}){5,}+")


def hexadecimal(text: str) -> Iterator[Segment]:
    """Bytes as pairs of hexadecimal digits, with or without prefixes and separators."""
    for found in _HEX.finditer(text):
        digits = _HEX_SIGN.sub("", found.group())
        for first in (0, 1):  # a digit before it moves all that follows
            meant = as_text(bytes.fromhex(digits[first : first + (len(digits) - first) // 2 * 2]))
            if meant is not None:
                yield Segment(found.start(), found.end(), meant)
                break


def binary(text: str) -> Iterator[Segment]:
    """Bytes, or seven bits a character, as zeros and ones."""
    for found in _BINARY.finditer(text):
        digits = re.sub(r"[^01]", "", found.group())
        groups = found.group().replace(",", " ").split()
        widths = (7, 8) if all(len(g) == 7 for g in groups) else (8, 7)
        # Digits before it move all that follows; seven bits a character are too easily language.
        for width, first in ((widths[0], 0), (widths[1], 0), *((8, by) for by in range(1, 8))):
            places = range(first, len(digits) - width + 1, width)
            if (meant := as_text(bytes(int(digits[i : i + width], 2) for i in places))) is not None:
                yield Segment(found.start(), found.end(), meant)
                break


def decimal(text: str) -> Iterator[Segment]:
    """Characters by their numbers: ``73 103 110``; one that is no language is a list of numbers."""
    for found in _DECIMAL.finditer(text):
        codes = [int(number) for number in re.findall(r"[0-9]+", found.group())]
        if any(code > 255 for code in codes):
            continue
        meant = as_text(bytes(codes), letters=0.7)
        if meant is not None and language(meant) >= 5.5:
            yield Segment(found.start(), found.end(), meant)


# -- Morse and Braille -------------------------------------------------------------------------------

_DOTS, _DASHES = ".·•∙⋅․", "-–—−_‒―"
_SIGNS = re.escape(_DOTS + _DASHES)
SIGNS = r"[.\x{b7}\x{2022}\x{2219}*\x{22c5}\x{2024}\x{2012}-\x{2015}\x{2212}_-]"
"""The same for RE2."""
_MORSE = re.compile(
    rf"[{_SIGNS}]{{1,7}}(?:(?:\s{{1,4}}|\s{{0,2}}[/|]\s{{0,2}})[{_SIGNS}]{{1,7}}){{4,}}+"
)
_AS_DOTS = str.maketrans({**dict.fromkeys(_DOTS, "."), **dict.fromkeys(_DASHES, "-"), "|": "/"})
_ALPHABET = dict(
    zip(
        ".- -... -.-. -.. . ..-. --. .... .. .--- -.- .-.. -- -. --- .--. --.- .-. ... - ..- ...- .-- "
        "-..- -.-- --.. ----- .---- ..--- ...-- ....- ..... -.... --... ---.. ----. .-.-.- --..-- "
        "..--.. .----. -.-.-- -..-. ---... -....- .--.-. .-..-. -.--. -.--.- -...- .-.-. -.-.-.".split(),
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,?'!/:-@\"()=+;",
        strict=True,
    )
)


def morse(text: str) -> Iterator[Segment]:
    """Morse code; words stand apart by a stroke, a line or wider space."""
    for found in _MORSE.finditer(text):
        code = found.group().translate(_AS_DOTS)
        words = [word.split() for word in re.split(r"\s*/\s*|\s{2,}|\n", code) if word.strip()]
        if len(words) > 2 and all(len(word) == 1 for word in words):
            words = [[sign for word in words for sign in word]]  # a stroke after every letter
        signs = [sign for word in words for sign in word]
        if sum(sign in _ALPHABET for sign in signs) < 0.9 * len(signs) or len(set(signs)) < 3:
            continue
        meant = " ".join("".join(_ALPHABET.get(sign, "") for sign in word) for word in words)
        if language(meant) >= 4.5 or len(signs) < 8:
            yield Segment(found.start(), found.end(), meant.lower())


_BRAILLE = re.compile(r"[\u2801-\u28ff][\u2800-\u28ff\s.,!?'\"0-9:;-]{3,}+")
_CELLS = dict(zip("⠁⠃⠉⠙⠑⠋⠛⠓⠊⠚⠅⠇⠍⠝⠕⠏⠟⠗⠎⠞⠥⠧⠺⠭⠽⠵", "abcdefghijklmnopqrstuvwxyz", strict=True))
_AS_LETTERS = str.maketrans(
    {**{chr(c): "" for c in range(0x2800, 0x2900)}, **_CELLS}
    | {"\u2800": " ", "⠂": ",", "⠲": ".", "⠦": "?", "⠖": "!", "⠄": "'", "⠤": "-"}
)


def braille(text: str) -> Iterator[Segment]:
    """Uncontracted Braille in its six-dot cells; pictures made of dots say nothing."""
    for found in _BRAILLE.finditer(text):
        meant = found.group().translate(_AS_LETTERS)
        if language(meant) >= 5.5:
            yield Segment(found.start(), found.end(), meant)
