"""Whether two questions use the same words for what matters: the strict half of the semantic cache.

A question becomes the sequence of its words that carry meaning, in their order: numbers, names,
negations, prepositions, quotations, question words, pronouns, everything but a closed list of words
and phrases that ask without saying what for. Two questions may be the same only if their sequences
are equal, so one word more, less, other or elsewhere is another question. No embedding sees that:
"from A to B" is next to "from B to A".
"""

from __future__ import annotations

import re
import string
import unicodedata

MAX_CHARS = 600
"""Longer questions are only ever answered by the exact cache."""

_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
"""ASCII only: to lower the Kelvin sign is to make it a k."""

_NO_TEXT = {"Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp"}
"""Categories of characters that hide, turn around or lay out what is read."""

_QUOTED = re.compile(r"\"[^\"]*\"|“[^”]*”|«[^»]*»|(?<!\w)'[^']+'(?!\w)")
_TOKEN = re.compile(r"\S+")
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")
_NAME = re.compile(r"[A-Z][\w'’.-]*")
_ENDS = ".!?;:"

_EXPANDED = {
    "can't": "can not", "cannot": "can not", "won't": "will not", "shan't": "shall not",
    "i'm": "i am", "it's": "it is", "that's": "that is", "there's": "there is",
    "what's": "what is", "where's": "where is", "who's": "who is", "how's": "how is",
    "when's": "when is", "why's": "why is", "let's": "let us", "i'd": "i would", "i've": "i have",
    "i'll": "i will", "you're": "you are", "they're": "they are", "we're": "we are",
}  # fmt: skip

_POLITE = [
    "quick question", "just a quick question", "sorry", "excuse me", "hello", "hi", "hey", "hi there",
    "hello there", "good morning", "please", "so",
]  # fmt: skip
"""How a question may begin without another meaning."""
_LEADS = [
    "can you please tell me", "could you please tell me", "would you please tell me",
    "can you tell me", "could you tell me", "would you tell me", "will you tell me",
    "can you please explain", "could you please explain", "can you explain", "could you explain",
    "i would like to know", "i want to know", "i need to know", "i was wondering", "i wonder",
    "do you know", "do you happen to know", "please tell me", "tell me", "please explain",
    "may i ask", "can i ask", "explain",
]  # fmt: skip
"""The same, before a question word alone: "Do you know Paris?" is no polite way to say "Paris"."""
_THANKS = ["please", "thanks", "thank you", "thanks in advance", "many thanks", "pls"]
"""How it may end."""

_SAME = [
    ("how do i", "how"), ("how can i", "how"), ("how could i", "how"),
    ("how would i", "how"), ("how does one", "how"), ("how to", "how"), ("how may i", "how"),
    ("what is the way to", "how"),
    ("what are the steps to", "how"),
    ("where do i", "where"), ("where can i", "where"), ("where could i", "where"),
    ("is it possible to", "can i"), ("am i able to", "can i"), ("may i", "can i"),
    ("could i", "can i"), ("for what reason", "why"), ("how come", "why"),
]  # fmt: skip
"""Beginnings that ask the same."""

_EMPTY = frozenset({"an", "the", "please", "kindly", "is", "are", "am"})
"""Words without a meaning of their own, in English. Not at the beginning: "is" asks there."""
_BEFORE_A = frozenset(
    "is are was of to for with in at on by from about as do get need have has buy make use".split()
)
"""Behind these "a" is the article; behind others it may be a vitamin. "A few" is never "few"."""
_AFTER_A = frozenset({"few", "little", "lot"})
_VERBS = frozenset(
    "is are am was were do does did can could will would shall should may might must has have had".split()
)
_ASKING = frozenset("what which who whom whose when where why how".split())
_ENGLISH = frozenset(
    "the what which who when where why how do does did can could will would should is i my you your "
    "of for with from this that it".split()
)
"""Words of which one must stand in a text before its small words are taken for English ones."""
_KEPT_S = ("ss", "us", "is", "as", "os", "news")
_KEPT = frozenset(
    "always arms customs does glasses goods maths means perhaps physics series times windows works".split()
)
"""Words whose s is none of the plural, or says more than that."""


def signature(question: str) -> tuple[str, ...] | None:
    """The words of a question that carry its meaning, in their order.

    Returns:
        None for what is only ever to be compared letter by letter: code, several lines, hidden
        characters, very long or empty texts.
    """
    text = unicodedata.normalize("NFC", question).strip().replace("’", "'")
    if not text or len(text) > MAX_CHARS or "`" in text:
        return None
    if any(unicodedata.category(char) in _NO_TEXT for char in text):
        return None
    quoted = _QUOTED.findall(text)
    tokens = [
        token
        for match in _TOKEN.finditer(_QUOTED.sub(" \0 ", text))
        for token in _parts(match.group())
    ]
    asks = bool(tokens) and tokens[-1] == "?"
    while tokens and tokens[-1] in _ENDS:
        tokens.pop()
    words = _plain(tokens)
    if words is None:
        return (*tokens, *quoted)
    asks = asks and not (words and words[0] in _ASKING | _VERBS)
    kept = [
        _stem(word)
        for place, word in enumerate(words)
        if not (_is_article(words, place) or (word in _EMPTY and (place or word not in _VERBS)))
    ]
    if not kept:
        return None
    return (*kept, *(["?"] if asks else []), *quoted)


def _is_article(words: list[str], place: int) -> bool:
    if words[place] != "a" or place + 1 == len(words) or words[place + 1] in _AFTER_A:
        return False
    return place == 0 or words[place - 1] in _BEFORE_A


def _parts(token: str) -> list[str]:
    """A token without the marks that only end a clause; those that end a sentence stand alone."""
    if token == "\0":  # noqa: S105  (a place, no password)
        return [token]
    ends: list[str] = []
    while token and token[-1] in _ENDS + ",":
        # A number may end in a sign that means something: 5! is no 5.
        if token[-1] == "!" and any(map(str.isdigit, token)):
            break
        if token[-1] != ",":
            ends = [token[-1]]
        token = token[:-1]
    return [*([token] if token else []), *ends]


def _plain(tokens: list[str]) -> list[str] | None:
    """English words in small letters, contractions and polite phrases taken apart; names and whatever
    is no word as they stand. None where nothing says that the text is English."""
    words: list[str] = []
    first = True
    for token in tokens:
        low = token.translate(_LOWER)
        # A capital at the beginning of a sentence says nothing, but one of several does.
        name = _NAME.fullmatch(token) and not first and low.split("'")[0] != "i"
        shouted = len(token) > 1 and token.isupper()
        if name or shouted or not _WORD.fullmatch(low):
            words.append(token)
        elif low.endswith("n't") and low not in _EXPANDED:
            words += [low[:-3], "not"]
        else:
            words += _EXPANDED.get(low, low).split()
        first = token in (".", "!", "?")
    if _ENGLISH.isdisjoint(words):
        return None
    return _begun(_unpolite(words))


def _unpolite(words: list[str]) -> list[str]:
    """Without what only asks to be answered."""
    changed = True
    while changed and words:
        changed = False
        for phrase in _BEFORE:
            leads = phrase in _LEADING
            if words[: len(phrase)] == phrase and len(words) > len(phrase):
                if leads and words[len(phrase)] not in _ASKING:
                    continue
                words, changed = words[len(phrase) :], True
                while words and words[0] in _ENDS:
                    words = words[1:]
                break
        for phrase in _AFTER:
            if words[-len(phrase) :] == phrase and len(words) > len(phrase):
                words, changed = words[: -len(phrase)], True
                while words and words[-1] in _ENDS:
                    words = words[:-1]
                break
    return words


def _begun(words: list[str]) -> list[str]:
    """With one of several beginnings that ask the same."""
    for phrase, instead in _BEGINNINGS:
        if words[: len(phrase)] == phrase:
            words = [*instead, *words[len(phrase) :]]
            break
    return words


def _stem(word: str) -> str:
    """A word without the s of the plural; nothing else is cut, since tenses and forms say something."""
    if not _WORD.fullmatch(word) or len(word) < 4 or word.endswith(_KEPT_S):
        return word
    if "'" in word or word in _KEPT:
        return word
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    return word[:-1] if word.endswith("s") else word


_LEADING = [phrase.split() for phrase in _LEADS]
_BEFORE = sorted([*_LEADING, *(phrase.split() for phrase in _POLITE)], key=len, reverse=True)
_AFTER = sorted((phrase.split() for phrase in _THANKS), key=len, reverse=True)
_BEGINNINGS = sorted(
    ((old.split(), new.split()) for old, new in _SAME), key=lambda pair: -len(pair[0])
)
