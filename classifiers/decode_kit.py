"""What all decoders share: the value they hand over, and two tests of what was decoded."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a text that says something else once it is decoded.

    Attributes:
        start, end: the stretch, in characters.
        text: what it says.
        inline: it may be read in its place; else only by itself.
    """

    start: int
    end: int
    text: str = field(repr=False)
    inline: bool = True


_PAIRS = (
    "07872564716979060989674472 62018000530600700532600050 80508008706600800738600040 "
    "70058030700333710661531040 83897663613879565998365650 60007500700500800715600030 "
    "60017036600415600653500030 92019000800223810536501040 65877670306879862799370305 "
    "50004000000000400020500000 40008000600204100050100010 83479410803832850265532070 "
    "86009000700152760150500060 70798693736434840289641160 45675853516789760977968240 "
    "71007105600750760746600050 00000000000100000000600000 83769451805566840677552070 "
    "62739407804443763079726050 81429109900552930776705360 55656250500878160887020130 "
    "60008000700000400010000000 70007008800205700631000000 40303000400000050005200010 "
    "21316200400233840155101000 30004000200000100000000011"
).split()
"""How common one letter after another is in English: the base-2 logarithm of how much more common than by
chance, plus 6, in 0..9; rows and columns are a to z. Counted on public instruction data."""

_NONE = 255
_LETTER = bytes(
    i - 97 if 97 <= i <= 122 else i - 65 if 65 <= i <= 90 else _NONE for i in range(256)
)
_TABLE: npt.NDArray[np.float32] = np.asarray(
    [[int(d) for d in row] for row in _PAIRS], dtype=np.float32
)
LANGUAGE = 6.4
"""What nearly all sentences of European languages reach in :func:`language`; rot13 of them stays
near 4, reversed ones near 6, base64 near 2."""
_LONGEST = 4_000


def language(text: str) -> float:
    """How much a text looks like language in Latin letters, in 0..9: the mean over its letter pairs.

    Of a long text its beginning counts. 0 where no two letters stand next to each other.
    """
    data = text[:_LONGEST].encode("ascii", "replace").translate(_LETTER)
    codes = np.frombuffer(data, dtype=np.uint8)
    first, second = codes[:-1], codes[1:]
    both = (first != _NONE) & (second != _NONE)
    if not both.any():
        return 0.0
    return float(_TABLE[first[both], second[both]].mean())


_CODE = re.compile(r"[0-9a-fA-F\s,:;.%\\xX=&#|/·–-]*")


def readable(text: str, *, letters: float = 0.6) -> bool:
    """Whether decoded bytes are text: no control characters, mostly letters and blanks."""
    if not text or not text.strip():
        return False
    if _CODE.fullmatch(text):
        return len(text) >= 12  # a code within the code
    good = 0
    for c in text:
        if c.isalpha() or c == " ":
            good += 1
        elif (c < " " and c not in "\t\n\r") or c in "\x7f\ufffd" or "\x80" <= c < "\xa0":
            return False
    return good >= letters * len(text)


_LETTERS_OF_LATIN_1 = 0.85
"""Every byte is a character there, so more is asked of the text."""


def as_text(data: bytes, *, letters: float = 0.6) -> str | None:
    """Bytes as text, UTF-8, UTF-16 or Latin-1; None where they are none."""
    if len(data) >= 8 and data[1::2].count(0) * 4 > len(data):
        data = data.replace(b"\0", b"")  # UTF-16 of Latin text
    try:
        text = data.decode("utf-8").rstrip("\0")
    except UnicodeDecodeError:
        if sum(byte >= 0x80 for byte in data) * 8 > len(data):
            return None
        text, letters = data.decode("latin-1"), max(letters, _LETTERS_OF_LATIN_1)
    return text if readable(text, letters=letters) else None
