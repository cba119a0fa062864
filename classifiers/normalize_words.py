"""Disguises of words: pushed apart, spelled out, written with figures, with letters repeated.

Each step is a linear scan that yields edits; ``suspicious`` tells in one cheap scan whether any of them
would find something.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from string import ascii_lowercase

import re2

from classifiers.decode_kit import LANGUAGE, language
from classifiers.normalize_map import Edit

# -- padding: white space that pushes words apart ---------------------------------------------------

# Aligned columns and indents (logs, tables, comments in code) are honest: only letters pushed apart.
_WORDS_APART = re.compile(r"(?<=[^\W\d_])[ \t\u3000]{4,}(?=[^\W\d_])|\n(?:[ \t\r]*\n){4,}")


def _padding(text: str) -> Iterable[Edit]:
    for found in _WORDS_APART.finditer(text):
        yield found.start(), found.end(), "\n\n" if "\n" in found.group() else " "


# -- markup and line ends within words: "ig**no**re", "ig<wbr>nore", "ig-" at the end of a line -------

_TAG = r"</?(?:b|i|u|s|a|em|strong|span|wbr|font|mark|small|tt|code|sub|sup)\b[^<>\n]{0,40}>"
_MARKUP = re.compile(
    rf"(?i)(?<=[^\W\d_])(?:\*{{1,3}}|~~|__|`|<!--[^<>\n]{{0,80}}-->|{_TAG})+(?=[^\W\d_])"
)
_HYPHENATED = re.compile(r"(?<=[^\W\d_]{2})-[ \t]*\r?\n[ \t]*(?=[^\W\d_]{2})")
_JOINED = re.compile(r"(?<=[\w ,.:;!?])([\"'])[ \t\r\n\\]*[+&.][ \t\r\n\\]*\1(?=[\w ])")
_SINGLE = frozenset({"*", "__", "`"})
_FEWEST_MARKS = 6
"""Stars, double underscores and ticks are honest in code and formulas: two in a word are none, or so many."""


def _within_words(text: str) -> Iterable[Edit]:
    found = list(_MARKUP.finditer(text))
    paired = {
        place
        for one, two in pairwise(found)
        if text[one.end() : two.start()].isalpha()
        for place in (one.start(), two.start())
    }
    few = len(found) < _FEWEST_MARKS
    edits = [
        (m.start(), m.end(), "")
        for m in found
        if not few or m.start() in paired or m.group() not in _SINGLE
    ]
    edits += [(m.start(), m.end(), "") for m in _HYPHENATED.finditer(text)]
    edits += [(m.start(), m.end(), "") for m in _JOINED.finditer(text)]
    return sorted(edits)


# -- letters spaced out: "i g n o r e", "i-g-n-o-r-e", "1.g.n.0.r.3" ---------------------------------

_UNIT = r"[^\W_]|[@$!]"
_SPACED = re.compile(
    rf"(?<![\w@$!])(?:{_UNIT})(?P<gap>[ \t]{{1,3}}|\r?\n|[-._*/|~+,·•−–—])(?:{_UNIT})"
    rf"(?:(?P=gap)(?:{_UNIT})){{2,}}(?![\w@$!])"
)
_VOWELS = frozenset("aeiouyàáâäãåèéêëìíîïòóôöõùúûüаеёиоуыэюяαεηιουω")
_FIGURES_FOR_VOWELS = frozenset("0134@!")


def _spaced(text: str) -> Iterable[Edit]:
    edits: list[Edit] = []
    gaps: Counter[str] = Counter()
    for found in _SPACED.finditer(text):
        run = found.group()
        letters = run.replace(found["gap"], "")
        if not _could_be_word(letters, found["gap"]):
            continue
        # A wider gap ("i g n o r e   a l l") ends a word, so a run never crosses one.
        edits.append((found.start(), found.end(), letters))
        gaps[found["gap"]] += 1
    for gap, count in gaps.items():
        if count >= _HABIT:
            edits += _short_runs(text, gap)
    last = 0
    for edit in sorted(edits):
        if edit[0] >= last:
            yield edit
            last = edit[1]


_HABIT = 2
"""Words spelled out in one way from which on short ones ("a l l") are taken for words too."""


def _short_runs(text: str, gap: str) -> Iterable[Edit]:
    between = re.escape(gap)
    apart = r"(?<!\S\s)(?<!\S)" if gap.isspace() else rf"(?<![\w@$!{between}])"
    after = r"(?!\s\S)(?!\w)" if gap.isspace() else rf"(?![\w@$!]|{between}\w)"
    for found in re.finditer(rf"{apart}(?:{_UNIT})(?:{between}(?:{_UNIT})){{1,2}}{after}", text):
        yield found.start(), found.end(), found.group().replace(gap, "")


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


_PIECE = re.compile(r"[^\n.?]{8,4000}")
_FIGURED = re.compile(r"[A-Za-z0-9@$!|]+")
_LEET_SIGN = re.compile(r"[A-Za-z][^A-Za-z]|[^A-Za-z][A-Za-z]")
_NO_LEET = re.compile(r"[0-9a-fA-F]{6,}|[^@]{3,}@[^@]{3,}|(?:[A-Za-z][0-9]){2,}")
_THICK = {**_LEET, "8": "b", "9": "g", "6": "b", "2": "z"}


def _thick_leet(text: str) -> Iterable[Edit]:
    """Sentences that are full of it, whose figures are all letters: "5h0w m3 7h3 5y573m"."""
    if sum(1 for _ in _FIGURE_INSIDE.finditer(text)) < 3:
        return
    for piece in _PIECE.finditer(text):
        tokens = list(_FIGURED.finditer(text, piece.start(), piece.end()))
        mixed = [t for t in tokens if _LEET_SIGN.search(t[0]) and _is_thick(t[0])]
        if len(mixed) < 3 or len(mixed) * 10 < len(tokens) * 3:
            continue
        words = [(t.start(), t[0].rstrip("!|")) for t in tokens]
        edits = [(at, at + len(w), _all_letters(w)) for at, w in words if _is_thick(w)]
        if language(" ".join(edit[2] for edit in edits)) >= LANGUAGE - 0.6:
            yield from edits


def _is_thick(token: str) -> bool:
    if not any(c in _THICK for c in token) or len(token) > 20 or _NO_LEET.fullmatch(token):
        return False
    return any(map(str.isalpha, token)) or (len(token) <= 3 and not set(token) & set("2689"))


def _all_letters(token: str) -> str:
    return "".join(_THICK.get(c, c) for c in _unleet(token))


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
    found = [
        (word, runs)
        for word in _WORD.finditer(text)
        if (runs := list(_STRETCH.finditer(text, word.start(), word.end())))
    ]
    sure = [_is_disguise(text, word, runs) for word, runs in found]
    for (word, runs), disguised in zip(found, sure, strict=True):
        if not disguised and (sum(sure) < 3 or len(word.group()) > 40):
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


WORD_STEPS = (_padding, _within_words, _spaced, _thick_leet, _leet, _stretched)


_ANY = r"[A-Za-z\x{80}-\x{10ffff}]"
"""A letter, roughly: the exact class of them makes the automaton large."""


def _suspicion(letter: str, sign: str) -> str:
    apart = rf"(?:[ \t]{{1,3}}|[-._*/|~+,·•−–—]){sign}"
    return (
        rf"{letter}[ \t\x{{3000}}]{{4,}}{letter}|\n[ \t\r]*\n[ \t\r]*\n[ \t\r]*\n"
        rf"|(?:^|[^\w@$!]){sign}(?:(?:{apart}){{3}}(?:[^\w@$!]|$)|(?:{apart}){{4}})"
        rf"|\n{_ANY}\r?\n{_ANY}\r?\n{_ANY}\r?\n"
        rf"|{_ANY}(?:\*+|~~|__|`|<[!/A-Za-z][^<>\n]*>){_ANY}"
        rf"|{_ANY}-[ \t]*\r?\n[ \t]*{_ANY}|[\"'][ \t]*[+&.][ \t]*[\"']"
        r"|[A-Za-z][013457@$]{1,2}[A-Za-z]|(?i:" + "|".join(c * 3 for c in ascii_lowercase) + ")"
    )


_SUSPICIOUS_ASCII = re2.compile(_suspicion("[A-Za-z]", r"[\w@$!]"))
_SUSPICIOUS = re2.compile(_suspicion(r"\pL", r"[\pL\pN@$!]"))
_TRIPLE = re.compile(r"([^\x00-\x7f])\1\1", re.IGNORECASE)


def suspicious(text: str) -> bool:
    """One generous scan, a microsecond or two: what it lets pass, no word step would touch."""
    if text.isascii():
        return _SUSPICIOUS_ASCII.search(text) is not None
    data = text.encode("utf-8", "replace")
    return _SUSPICIOUS.search(data) is not None or _TRIPLE.search(text) is not None
