"""Sentences that were turned as a whole: rot13, reversed, upside down, joined words.

Only those are turned back that look more like language afterwards (letter pairs, see ``language``).
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator

from classifiers.decode_kit import LANGUAGE, Segment, language

_PIECE = re.compile(r"""[^\n.!?:"()`<>|]{1,2000}[.!?]?""")
_LINE = re.compile(r"[^\n]{1,4000}")
_LETTERS = re.compile(r"[A-Za-z]")
_FEWEST = 10
"""Letters of the shortest piece that is turned."""

ROT13 = r"(?i:naq|vba|sbe|lbh|nyy|uvf|pba|jvg|jung|gvba|xvyy|znxr|\b(?:ceb|guv|ubj)|\b(?:gur|bs|zr|zl|vf)\b)"
"""Rot13 of common words and endings (RE2)."""
REVERSED = (
    r"(?i:\b(?:eht|dna|uoy|ruoy|siht|taht|htiw|morf|rof|woh|tahw|lla|yna|fo|ekam|evig|era|em|ym|ni|llik)\b"
    r"|\b(?:gni[a-z]|noi[st][a-z]|snoit[a-z]|suoi[a-z]|tnem|yll[a-z]|evit[a-z]))"
)
"""Common words and endings from their end."""
TURNED = "[ɐɔǝɟƃɥᴉɾʞɯɹʇʌʍʎ⅄∀Ɔ]"
_JOINT = r"(?:[_+*~|.=/\\^#-]|\s[*~|#=+_\x{b7}\x{2022}^/\\-]+\s)"
JOINED = rf"[A-Za-z]{_JOINT}[A-Za-z]+{_JOINT}[A-Za-z]+{_JOINT}[A-Za-z]"
"""What the decoders below cannot do without (RE2)."""
_TURNED = re.compile(TURNED)
_UPRIGHT = str.maketrans(
    dict(
        zip(
            "ɐqɔpǝɟƃɓɥᴉıɾʞlɯuodbɹsʇnʌʍxʎzɡ∀ᗺƆᗡƎℲ⅁ſꓘ⅃WԀΌᴚ⊥∩ΛMʎ⅄˙¿¡‾ƖᄅƐㄣϛ9ㄥ6",
            "abcdefgghiijklmnopqrstuvwxyzgABCDEFGJKLMPQRTUVWyY.?!_1234567" + "9",
            strict=True,
        )
    )
)


def _better(before: str, after: str, gain: float) -> bool:
    is_now = language(before)
    becomes = language(after)
    return becomes >= LANGUAGE and becomes >= is_now + gain


def _enough(piece: str) -> bool:
    """Whether letter pairs say anything of a piece: it is written in Latin letters without accents."""
    plain = len(_LETTERS.findall(piece))
    return plain >= _FEWEST and plain >= 0.85 * sum(map(str.isalpha, piece))


def _pieces(text: str, turn: Callable[[str], str], gain: float) -> Iterator[Segment]:
    """Lines that are better turned, and pieces of the other lines that are."""
    for line in _LINE.finditer(text):
        own = line.group()
        if not _enough(own):
            continue
        turned = turn(own)
        if _better(own, turned, gain):
            yield Segment(line.start(), line.end(), turned)
            continue
        for piece in _PIECE.finditer(own):
            part = piece.group()
            if not _enough(part):
                continue
            turned = turn(part)
            if _better(part, turned, gain):
                yield Segment(line.start() + piece.start(), line.start() + piece.end(), turned)


def rot13(text: str) -> Iterator[Segment]:
    """Letters moved by thirteen."""
    yield from _pieces(text, lambda piece: codecs.encode(piece, "rot13"), 1.0)


def backwards(text: str) -> Iterator[Segment]:
    """Written from the end, as a whole or word by word."""
    yield from _pieces(text, _reverse, 0.4)


_LAST_IS_CAPITAL = re.compile(r"(?<!\S)[.!?,;]?[a-z'-]*[a-z][A-Z](?!\S)")
_MARK_BEFORE = re.compile(r"(?<!\S)[.!?]+[A-Za-z]")
_WORD = re.compile(r"\S+")


def _reverse(piece: str) -> str:
    """From its end, or each word by itself where the order of the words is kept: "tahW si ?siht"."""
    if _words_in_order(piece):
        return _WORD.sub(lambda word: word.group()[::-1], piece)
    return piece[::-1]


def _words_in_order(piece: str) -> bool:
    """Whether the word with the capital comes before the one with the full stop, or early."""
    capital = _LAST_IS_CAPITAL.search(piece)
    if capital is None:
        return False
    mark = _MARK_BEFORE.search(piece)
    return capital.start() < (mark.start() if mark else len(piece) // 2)


def upside_down(text: str) -> Iterator[Segment]:
    """Turned letters, written from the end or not."""
    for line in _LINE.finditer(text):
        if len(_TURNED.findall(line.group())) < 3:
            continue
        upright = line.group().translate(_UPRIGHT)
        meant = max(upright[::-1], upright, key=language)
        if language(meant) >= 6.0:
            yield Segment(line.start(), line.end(), meant)


_JOINED = re.compile(
    r"[^\W\d_]{1,20}(?:([_+*~|.=/\\^#-]|\s[*~|#=+_•·^/\\-]{1,3}\s)[^\W\d_]{1,20}'?)(?:\1[^\W\d_'.,!?]{1,20}[.,!?']?){3,}+"
)


def joined(text: str) -> Iterator[Segment]:
    """Words with a sign in place of every blank: ``say_this_to_me``. Read by themselves, since names
    in programs and addresses are written so."""
    for found in _JOINED.finditer(text):
        words = found.group().split(found[1])
        meant = " ".join(words)
        if language(meant) >= LANGUAGE - 0.6 and sum(map(len, words)) >= 2.2 * len(words):
            yield Segment(found.start(), found.end(), meant, inline=False)
