"""Characters that look like other characters, or like nothing at all: the tables of ``normalize``.

Sources: Unicode Standard Annex 15 (NFKC), Unicode Technical Standard 39 (confusables; the entries
that read as Latin letters), Unicode 16 code charts for the invisible ranges.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

import re2

Edit = tuple[int, int, str]

# -- invisible characters ----------------------------------------------------------------------------

_INVISIBLE = (
    "\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f"
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffc"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    "\ue000-\uf8ff\ufdd0-\ufdef\ufffd\U000f0000-\U0010ffff"
)
_NOTHING = re.compile("[\ue000-\uf8ff\ufdd0-\ufdef\ufffd\U000f0000-\U0010ffff]+")
"""Characters that mean nothing, or what some font makes of them: a sign by itself is honest, one between
two letters is not."""
_LINE_ENDS = "\x0b\x1c-\x1f\x85\u2028\u2029"
"""White space that the ``\\s`` of RE2 does not know; U+1680 becomes a space like all its kin."""
_MARKS = (
    "\u0300-\u034e\u0350-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
)
_OVERLAYS = frozenset(
    "\u0334\u0335\u0336\u0337\u0338\u0489\u20d2\u20d3\u20d8\u20dd\u20de\u20e5\u20e6\u20eb"
)
_JOINERS = frozenset("\u200c\u200d")
_DIRECTION_MARKS = frozenset("\u200e\u200f\u061c")
_FLAG = "\U0001f3f4"
_TAGS = "\U000e0020-\U000e007e"

# -- compatibility characters that honest text is full of --------------------------------------------

_KEPT = (
    frozenset("…‥™℠℡№℃℉ª²³¹º¼½¾¨¯´µ¸˘˙˚˛˜˝‗‼⁇⁈⁉‾⁄㏒㎏㎜㎝㎞㎡€ſ")
    | frozenset(chr(c) for c in range(0x2070, 0x208F) if chr(c) not in "ⁱⁿ")  # H₂O, 10⁻⁶
    | frozenset(chr(c) for c in range(0x2150, 0x215F))  # ⅓
    | frozenset("！＂＇（），：；？～［］｛｝｜＼／＆％＃＊＋＝＜＞")  # of Chinese, Japanese text
    | frozenset(chr(c) for c in range(0x3130, 0x3190))  # Hangul letters: ㅋㅋㅋ
    | frozenset(chr(c) for c in range(0xFF5F, 0xFFE8))  # half-width katakana and Hangul
    | frozenset(chr(c) for c in range(0x3200, 0x3400))  # ㈱ and other squared words
    | frozenset(
        "·\u0387\u037e\u1fbd\u1fbf\u1fc0\u1fc1\u1fcd\u1fce\u1fcf\u1fdd\u1fde\u1fdf\u1fed\u1fef\u1ffd\u1ffe"
    )
)
_DASHES = frozenset("\u2010\u2011\u2012\u2043\ufe58\ufe63\uff0d")
"""Hyphens by another name; dashes and the minus are honest and stay."""

_SQUARED = {chr(base + i): chr(65 + i) for base in (0x1F150, 0x1F170) for i in range(26)}
_SMALL_CAPITALS = dict(zip("ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘꞯʀꜱᴛᴜᴠᴡʏᴢ", "abcdefghijklmnopqrstuvwyz", strict=True))

# -- letters of other scripts that read as Latin ones ------------------------------------------------

_CYRILLIC = dict(
    zip(
        "аеорсухіјѕһԁӏԛԝѵҽԍАВЕКМНОРСТХУІЈЅҺԚԜѴӀ",
        "aeopcyxijshdlqwveGABEKMHOPCTXYIJSHQWVI",
        strict=True,
    )
)
_CYRILLIC_LOOSE = dict(zip("вгкмнтпьёиЗзбяБГПИ", "brkmhtnbeu33bRbrnN", strict=True))
_GREEK = dict(zip("αονρικτυχγεηωΑΒΕΖΗΙΚΜΝΟΡΤΥΧϲϳ", "aovpiktuxyenwABEZHIKMNOPTYXcj", strict=True))
_OTHER = dict(zip("օոսհցքѡɑɡıƖⅼ\u0251ꓲꓳ\u04cf", "onuhgqwagillaIOl", strict=True))
_STRICT = _CYRILLIC | {g: _GREEK[g] for g in "αορικτυχνΑΒΕΖΗΙΚΜΝΟΡΤΥΧ"} | _OTHER
_MIXED = _CYRILLIC | _CYRILLIC_LOOSE | _GREEK | _OTHER

_FOREIGN = "\u0370-\u03ff\u0400-\u052f\u0531-\u0587ɑɡıƖꓲꓳ"
_ANY_FOREIGN = re2.compile(f"[{_FOREIGN}ᴀ-ᴢɢɪʀʏʙʜʟɴꜰꜱꞯ]")
_FOREIGN_LETTER = re.compile(f"[{_FOREIGN}]")
_LATIN_LETTER = re.compile("[A-Za-z]")
_WORD = re.compile(rf"(?:[^\W\d_]+[{_MARKS}]*)+")

_CLUSTER = re.compile(
    rf"[{_TAGS}]+|[{_INVISIBLE}]+|[^{_MARKS}{_INVISIBLE}][{_MARKS}]+|[{_MARKS}]+"
    rf"|[{_LINE_ENDS}]|[^\x00-\x7f]"
)
_CONTROLS = re2.compile("[\\x00-\\x08\\x0b\\x0e-\\x1f\\x7f]")
_REMARKABLE = re2.compile(
    f"[{_INVISIBLE}{_LINE_ENDS}{_MARKS}\u1680\U0001f150-\U0001f189\u2010-\u2012\u2043]"
)


_PADDING = rf"[\s{_INVISIBLE}{_MARKS}{_LINE_ENDS}]"
_PADDED = re.compile(rf"{_PADDING}{{3}}|([^\W\d_])\1{{8}}|[{_INVISIBLE}]")
_LONG_RUN = re.compile(rf"({_PADDING}{{8}}){_PADDING}+|(([^\W\d_])\3{{7}})\3+")
_VISIBLE = re.compile(rf"[^\s{_INVISIBLE}{_MARKS}{_LINE_ENDS}]")


def without_padding(text: str) -> str:
    """A text whose runs of white space, invisible characters, marks or one letter are cut to eight.

    A run keeps a blank if it had one, so words stay apart. Long runs push what belongs together
    apart; for a reader who has seen the run its length says nothing.
    """
    if _PADDED.search(text) is None:
        return text
    return _LONG_RUN.sub(_cut_run, text)


def _cut_run(run: re.Match[str]) -> str:
    kept: str = run[1] or run[2]
    if run[1] and not any(map(str.isspace, kept)):
        kept += next((c for c in run.group() if c.isspace()), "")
    return kept


def visible_tail(text: str, length: int) -> int:
    """Where the last ``length`` characters of a text begin, if padding does not count."""
    if length <= 0:
        return len(text)
    start = max(0, len(text) - length)
    if start == 0 or _PADDED.search(text, start) is None:
        return start
    begins = [found.start() for found in _VISIBLE.finditer(text)]
    return begins[-length] if len(begins) >= length else 0


_ENDS_IN_WORD = re.compile(rf"\w[{_INVISIBLE}{_MARKS}]*\Z")


def ends_in_word(text: str) -> bool:
    """Whether more of its last word may follow a text."""
    return _ENDS_IN_WORD.search(text, max(0, len(text) - 1_000)) is not None


def needs_character_pass(text: str) -> bool:
    """Whether :func:`character_edits` could find anything: false for ordinary text, in one scan."""
    if text.isascii():
        return _CONTROLS.search(text) is not None
    data = text.encode("utf-8", "replace")
    return _REMARKABLE.search(data) is not None or not unicodedata.is_normalized("NFKC", text)


def character_edits(text: str) -> Iterable[Edit]:
    """Edits that make characters plain: invisible ones removed, styled and full-width ones ordinary."""
    edits: list[Edit] = []
    marked: list[Edit] = []
    for found in _CLUSTER.finditer(text):
        cluster = found.group()
        start, end = found.span()
        if _INVISIBLE_ONE.match(cluster):
            edits += _invisible(text, start, end)
            continue
        replacement = _cluster(cluster) if len(cluster) <= 8 else _bare(cluster)
        if replacement != cluster:
            edits.append((start, end, replacement))
        if len(replacement) == 2 and replacement[0].isascii() and replacement[0].isalpha():
            marked.append((start, end, replacement[0]))
    if len(marked) > 2:
        # One odd mark is some language's; a mark on letter after letter is a disguise.
        covered = {start for start, _, _ in marked}
        edits = sorted([edit for edit in edits if edit[0] not in covered] + marked)
    return edits


_TAG = re.compile(f"[{_TAGS}]")
_INVISIBLE_ONE = re.compile(f"[{_INVISIBLE}]")
_LINE_BREAK = re.compile(r"[ \t]*\r?\n[ \t]*(?=[^\W\d_])")


@lru_cache(maxsize=4096)
def _cluster(cluster: str) -> str:
    """One character with its combining marks, made plain."""
    if cluster in _KEPT:
        return cluster
    if cluster in _DASHES:
        return "-"
    if cluster in "\x0b\x1c\x1d\x1e\x1f\x85\u2028\u2029":
        return "\n"
    if cluster in _SQUARED:
        return _SQUARED[cluster]
    if len(cluster) == 1:
        folded = unicodedata.normalize("NFKC", cluster)
        return " " if folded.strip() == "" else folded
    base, marks = cluster[0], cluster[1:]
    if base in "#*0123456789" and marks == "\u20e3":
        return cluster  # keycap emoji
    if any(mark in _OVERLAYS for mark in marks):
        return unicodedata.normalize("NFKC", base)  # struck out or ringed: no alphabet does that
    if base in _KEPT:
        return base + marks[:1]
    folded = unicodedata.normalize("NFKC", base + marks)
    own = unicodedata.normalize("NFD", base + marks)
    # No alphabet puts three marks on a letter, or two that do not compose with it.
    piled = len(own) > 3 or (len(folded) > 2 and len(marks) > 1)
    return unicodedata.normalize("NFKC", own[0]) if piled else folded


def _bare(cluster: str) -> str:
    base = unicodedata.normalize("NFD", cluster)[0]
    return "" if unicodedata.combining(base) else unicodedata.normalize("NFKC", base)


def _invisible(text: str, start: int, end: int) -> Iterable[Edit]:
    run = text[start:end]
    before, after = text[start - 1 : start], text[end : end + 1]
    if _TAG.match(run):
        if before == _FLAG and len(run) <= 6:
            return  # flags of England, Scotland, Wales
        hidden = "".join(chr(ord(tag) - 0xE0000) for tag in run)
        # Three or more spell out text that models read and people do not see: show it.
        yield start, end, hidden if len(hidden) > 2 else ""
        return
    if _belongs(run, before, after):
        return
    if before.isalpha() and (broken := _LINE_BREAK.match(text, end)):
        end = broken.end()  # a soft hyphen at the end of a line: the word goes on
    yield start, end, ""


def _belongs(run: str, before: str, after: str) -> bool:
    """Joiners and marks of honest emoji and of scripts that need them."""
    if _NOTHING.fullmatch(run):
        return not (before.isalnum() and after.isalnum())
    if run == "\U000e007f":
        return bool(before) and bool(_TAG.match(before))  # the end of a flag
    if not before:
        return False
    if run in {"\ufe0f", "\ufe0e", "\u200d", "\ufe0f\u200d"}:
        pictures = not before.isalnum() and not before.isspace() and ord(before) > 0x203B
        if run[0] == "\ufe0f" or run == "\ufe0e":
            if pictures or (before in "#*0123456789" and after == "\u20e3") or before in "©®":
                return True
        elif pictures and after:
            return True
    if run in _JOINERS:
        return _is_joining(before) and (not after or _is_joining(after) or not after.isalnum())
    if run.strip("\u2800") == "" and any("\u2801" <= c <= "\u28ff" for c in (before, after)):
        return True  # the space of Braille
    if run in _DIRECTION_MARKS:
        return any(c and unicodedata.bidirectional(c) in {"R", "AL"} for c in (before, after))
    return False


def _is_joining(character: str) -> bool:
    """Letters of the scripts that join: Arabic to Khmer."""
    return 0x0600 <= ord(character) <= 0x18AF


def lookalike_edits(text: str) -> Iterable[Edit]:
    """Edits that turn look-alike letters of other scripts into Latin ones.

    In words that mix scripts always; in words made of look-alikes alone only where the text around
    is Latin and no word of the other script is honestly there.
    """
    if not _ANY_FOREIGN.search(text.encode("utf-8", "replace")):
        return []
    edits: list[Edit] = []
    whole: list[tuple[int, str]] = []
    short: list[tuple[int, str]] = []
    capitals: list[tuple[int, str]] = []
    honest = mixed = 0
    styled = False
    for found in _WORD.finditer(text):
        word = found.group()
        if word.isascii() or not _ANY_FOREIGN.search(word):
            continue
        if small := sum(c in _SMALL_CAPITALS for c in word):
            capitals.append((found.start(), word))
            styled |= small >= 3
        elif not _FOREIGN_LETTER.search(word):
            continue
        elif len(word) > 2 and _LATIN_LETTER.search(word):
            edits += _translate(found.start(), word, _MIXED)
            mixed += 1
        elif len(word) <= 2 and all(c in _STRICT or c.isascii() for c in word):
            short.append((found.start(), word))
        elif len(word) > 2 and all(c in _STRICT for c in word):
            whole.append((found.start(), word))
        else:
            honest += 1
    if styled:  # where one word is written so, short ones are too
        for start, word in capitals:
            edits += _translate(start, word, _SMALL_CAPITALS)
    if not honest and mixed >= 2:
        for start, word in (*whole, *short):  # where words mix scripts, short ones are no others
            edits += _translate(start, word, _STRICT)
    elif (
        whole
        and not honest
        and not short
        and _mostly_latin(text, sum(len(word) for _, word in whole))
    ):
        for start, word in whole:
            edits += _translate(start, word, _STRICT)
    return sorted(edits)


def _mostly_latin(text: str, foreign: int) -> bool:
    return any(count >= foreign for count, _ in enumerate(_LATIN_LETTER.finditer(text), start=1))


def _translate(start: int, word: str, table: dict[str, str]) -> Iterable[Edit]:
    for offset, letter in enumerate(word):
        plain = table.get(letter)
        if plain is not None:
            yield start + offset, start + offset + 1, plain
