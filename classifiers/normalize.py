"""What an attacker hides, made plain, with the way back to the original offsets.

``plain`` undoes disguises of characters (full-width and styled letters, invisible and bidirectional
characters, piled-up combining marks, look-alike letters of other scripts) and of words (letters
spaced out, digits for letters, letters repeated, padding). It is a second view next to the raw text
and never replaces it, so it may be wrong about odd but honest text without harm; it still leaves
code, identifiers, emoji and texts in other scripts as they are.

Every step is a linear scan that yields edits; edits are applied to the text and to the map together.
The tables of characters stand in ``classifiers.lookalikes``.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from string import ascii_lowercase

import re2

from classifiers.lookalikes import character_edits, lookalike_edits, needs_character_pass
from classifiers.types import Span

Edit = tuple[int, int, str]
"""Replace ``text[start:end]`` by the string; edits of a list are in order and never overlap."""

_MAX_ROUNDS = 6
"""One disguise can hide another ("1 g n 0 r 3"): the steps repeat until nothing changes."""


@dataclass(frozen=True, slots=True)
class Plain:
    """A text without its disguise.

    Attributes:
        text: the plain text; the original where nothing was hidden.
        changed: the plain text differs from the original.
    """

    text: str = field(repr=False)
    changed: bool = False
    _length: int = 0
    _starts: array[int] | None = field(default=None, repr=False, compare=False)
    _ends: array[int] | None = field(default=None, repr=False, compare=False)

    def to_original(self, start: int, end: int) -> Span:
        """The stretch of the original text that became ``text[start:end]``.

        Both are in characters. Characters removed inside the stretch belong to it, characters
        removed next to it do not; a replacement belongs as a whole to each of its characters.

        Raises:
            ValueError: not ``0 <= start <= end <= len(text)``.
        """
        if not 0 <= start <= end <= len(self.text):
            raise ValueError(
                f"span must satisfy 0 <= start <= end <= {len(self.text)}, got {start}..{end}"
            )
        if self._starts is None or self._ends is None:
            return Span(start, end)
        if start == end:
            place = self._starts[start] if start < len(self._starts) else self._length
            return Span(place, place)
        return Span(self._starts[start], self._ends[end - 1])


def plain(text: str, *, words: bool = True) -> Plain:
    """Undo the disguises of a text.

    Args:
        text: any string; lone surrogates are left alone.
        words: False undoes the disguises of characters only and leaves words as they are spelled:
            for identifiers, where ``b0b@...`` must not become ``bob@...``.

    Returns:
        The plain text. Applying ``plain`` to it again changes nothing.
    """
    if text.isascii() and not needs_character_pass(text) and not (words and _suspicious(text)):
        return Plain(text, False, len(text))
    state = _State(text)
    for _ in range(_MAX_ROUNDS):
        before = state.text
        if needs_character_pass(state.text):
            state.apply(character_edits(state.text))
        if words:
            if not state.text.isascii():
                state.apply(lookalike_edits(state.text))
            if _suspicious(state.text):
                for step in _WORD_STEPS:
                    state.apply(step(state.text))
        if state.text == before:
            break
    if state.starts is None:
        return Plain(text, False, len(text))
    return Plain(state.text, state.text != text, len(text), state.starts, state.ends)


def views(text: str) -> tuple[str, ...]:
    """The texts a classifier should look at: the raw text first, then its plain form if its words differ.

    White space alone makes no second view: no classifier here reads it, and a view costs a pass.
    """
    found = plain(text)
    if not found.changed or found.text.split() == text.split():
        return (text,)
    return (text, found.text)


class _State:
    """A text under edit and, once something changed, where each character came from."""

    __slots__ = ("ends", "starts", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.starts: array[int] | None = None
        self.ends: array[int] | None = None

    def apply(self, edits: Iterable[Edit]) -> None:
        pieces: list[str] = []
        starts, ends = array("l"), array("l")
        done = 0
        for start, end, replacement in edits:
            if not pieces and self.starts is None:
                self.starts = array("l", range(len(self.text)))
                self.ends = array("l", range(1, len(self.text) + 1))
            if self.starts is None or self.ends is None:  # pragma: no cover - set just above
                raise AssertionError
            pieces += (self.text[done:start], replacement)
            starts += self.starts[done:start]
            ends += self.ends[done:start]
            starts.extend([self.starts[start]] * len(replacement))
            ends.extend([self.ends[end - 1]] * len(replacement))
            done = end
        if not pieces or self.starts is None or self.ends is None:
            return
        self.starts = starts + self.starts[done:]
        self.ends = ends + self.ends[done:]
        self.text = "".join(pieces) + self.text[done:]


# -- padding: white space that pushes words apart ---------------------------------------------------

# Aligned columns and indents (logs, tables, comments in code) are honest: only letters pushed apart.
_WORDS_APART = re.compile(r"(?<=[^\W\d_])[ \t\u3000]{4,}(?=[^\W\d_])|\n(?:[ \t\r]*\n){4,}")


def _padding(text: str) -> Iterable[Edit]:
    for found in _WORDS_APART.finditer(text):
        yield found.start(), found.end(), "\n\n" if "\n" in found.group() else " "


# -- letters spaced out: "i g n o r e", "i-g-n-o-r-e", "1.g.n.0.r.3" ---------------------------------

_UNIT = r"[^\W_]|[@$!]"
_SPACED = re.compile(
    rf"(?<![\w@$!])(?:{_UNIT})(?P<gap>[ \t]{{1,3}}|[-._*/|~+,·•−–—])(?:{_UNIT})"
    rf"(?:(?P=gap)(?:{_UNIT})){{2,}}(?![\w@$!])"
)
_VOWELS = frozenset("aeiouyàáâäãåèéêëìíîïòóôöõùúûüаеёиоуыэюяαεηιουω")
_FIGURES_FOR_VOWELS = frozenset("0134@!")


def _spaced(text: str) -> Iterable[Edit]:
    for found in _SPACED.finditer(text):
        run = found.group()
        letters = run.replace(found["gap"], "")
        if not _could_be_word(letters, found["gap"]):
            continue
        # A wider gap ("i g n o r e   a l l") ends a word, so a run never crosses one.
        yield found.start(), found.end(), letters


def _could_be_word(letters: str, gap: str) -> bool:
    """Tell spelled-out words from lists of variables, answers, initials and hex digits."""
    low = letters.lower()
    alphabetic = [c for c in low if c.isalpha()]
    if len(alphabetic) < 3 or len(alphabetic) * 2 < len(low) or len(set(low)) < 3:
        return False
    if gap == "." and letters.isupper() and len(letters) <= 6:
        return False  # initials: "U.S.S.R"
    vowels = sum(c in _VOWELS for c in low)
    figures = sum(c in _FIGURES_FOR_VOWELS for c in low)
    if not (vowels or figures) or vowels == len(low):
        return False
    codes = [ord(c) for c in alphabetic]
    steps = sum(b - a == 1 for a, b in pairwise(codes))
    return steps * 2 < len(codes) - 1  # "a b c d" is a list


# -- digits and signs for letters: "1gn0r3", "p@ssword" ----------------------------------------------

_TOKEN = re.compile(r"[A-Za-z0-9@$!|]{4,}")
_FIGURE_INSIDE = re.compile(r"[A-Za-z][013457@$]{1,2}[A-Za-z]")
_ADDRESS = re.compile(r"[^@]{4,}@|.*@.*@")
_JOINED_LEFT = frozenset("-_./\\:=+%&#~<>{}[]")
_LEET = {"0": "o", "3": "e", "4": "a", "5": "s", "7": "t", "@": "a", "$": "s", "!": "i", "|": "l"}
_HEX = re.compile(r"[0-9a-fA-F]+")
_NUMERONYM = re.compile(r"[A-Za-z]\d{2,}[A-Za-z]")
_HONEST = re.compile(
    r"log4j|log4net|log4shell|slf4j|neo4j|web3js|d3js|s3cmd|w3schools|m3u8|h5py|l4d2|c3po|r2d2|id3v2"
    r"|[a-z]+[0-9](?:ever|ward|kids|you|life|all|sale|hire|rent)|ps[345]pro|mp[34]\w+|win32\w+|x11\w+|s3\w+",
    re.IGNORECASE,
)


def _leet(text: str) -> Iterable[Edit]:
    for found in _TOKEN.finditer(text):
        token = found.group().rstrip("!|")
        if len(token) > 20 or not _FIGURE_INSIDE.search(token):
            continue
        start = found.start()
        if _is_leet(text, start, start + len(token), token):
            yield start, start + len(token), _unleet(token)


def _is_leet(text: str, start: int, end: int, token: str) -> bool:
    letters = "".join(c for c in token if c.isalpha())
    if len(token) < 4 or len(letters) * 2 < len(token):
        return False
    if not (letters.islower() or letters.isupper() or letters.istitle()):
        return False  # identifiers in mixed case
    if any(c in "2689" for c in token) or _HONEST.fullmatch(token):
        return False
    if _HEX.fullmatch(token) or _NUMERONYM.fullmatch(token):
        return False
    if token.startswith("$"):
        return False  # a formula or a variable
    if "@" in token and _ADDRESS.match(token):
        return False  # "root@server"; but "h@ck"
    before, after = text[start - 1 : start], text[end : end + 1]
    if before and (before in _JOINED_LEFT or before.isalnum()):
        return False
    # "word." ends a sentence, "word.com" is a host, "name@host.tld" an address.
    joined = after and after in _JOINED_LEFT and text[end + 1 : end + 2].strip() != ""
    return not joined and not after.isalnum()


def _unleet(token: str) -> str:
    out: list[str] = []
    upper = sum(c.isupper() for c in token) > 1
    for index, sign in enumerate(token):
        letter = _LEET.get(sign, sign)
        if sign == "1":
            # "he1p", "a11" but "1gnore", "k1ll", "prev1ous".
            previous = out[-1].lower() if out else ""
            twin = index > 0 and token[index - 1] == "1"
            letter = out[-1] if twin else "l" if previous in tuple("aeou") else "i"
        out.append(letter.upper() if upper and letter.islower() and sign != letter else letter)
    return "".join(out)


# -- repeated letters: "iiignooore" ------------------------------------------------------------------

_STRETCH = re.compile(r"([^\W\d_])\1{2,}", re.IGNORECASE)


def _stretched(text: str) -> Iterable[Edit]:
    if not _STRETCH.search(text):
        return
    for word in _WORD.finditer(text):
        runs = list(_STRETCH.finditer(text, word.start(), word.end()))
        if not runs or not _is_disguise(text, word, runs):
            continue
        least = min(run.end() - run.start() for run in runs)
        for run in runs:
            letter = run[1].lower()
            if run.end() - run.start() >= 2 * least:
                double = True  # "bbbyyypppaaassssss"
            elif run.end() == word.end():
                double = letter in "lf"
            else:
                double = len(runs) == 1 and letter in "eo"
            yield run.start(), run.end(), run.group()[: 2 if double else 1]


_WORD = re.compile(r"[^\W\d_]{4,}")


def _is_disguise(text: str, word: re.Match[str], runs: list[re.Match[str]]) -> bool:
    """Tell "iiignooore" and "pleeeease" from emphasis ("sooo"), marks ("xxx") and encoded data."""
    letters = word.group()
    if not (letters.islower() or letters.isupper() or letters.istitle()):
        return False
    around = text[word.start() - 1 : word.start()] + text[word.end() : word.end() + 1]
    if any(c.isdigit() or c in "+/=_%\\" for c in around):
        return False
    rest = len(letters) - sum(run.end() - run.start() for run in runs)
    if len(letters) > 40 and rest > 20:
        return False
    return len(runs) > 1 or (rest >= 2 and runs[0].end() - runs[0].start() >= 4)


_WORD_STEPS = (_padding, _spaced, _leet, _stretched)


def _suspicion(letter: str, sign: str) -> str:
    apart = rf"(?:[ \t]{{1,3}}|[-._*/|~+,·•−–—]){sign}"
    return (
        rf"{letter}[ \t\x{{3000}}]{{4,}}{letter}|\n[ \t\r]*\n[ \t\r]*\n[ \t\r]*\n"
        rf"|(?:^|[^\w@$!]){sign}(?:(?:{apart}){{3}}(?:[^\w@$!]|$)|(?:{apart}){{4}})"
        r"|[A-Za-z][013457@$]{1,2}[A-Za-z]|(?i:" + "|".join(c * 3 for c in ascii_lowercase) + ")"
    )


_SUSPICIOUS_ASCII = re2.compile(_suspicion("[A-Za-z]", r"[\w@$!]"))
_SUSPICIOUS = re2.compile(_suspicion(r"\pL", r"[\pL\pN@$!]"))
_TRIPLE = re.compile(r"([^\x00-\x7f])\1\1", re.IGNORECASE)


def _suspicious(text: str) -> bool:
    """One generous scan, a microsecond or two: what it lets pass, no word step would touch."""
    if text.isascii():
        return _SUSPICIOUS_ASCII.search(text) is not None
    data = text.encode("utf-8", "replace")
    return _SUSPICIOUS.search(data) is not None or _TRIPLE.search(text) is not None
