"""What a message asks for, one clause at a time: "How do I log in, and who won the cup?" asks twice.

A canned answer is right only if everything that was asked is answered by it. The words are English; in
other languages a message falls apart at its full stops, question marks and lines.
"""

from __future__ import annotations

import re

_END = re.compile(r"(?:[.!?;]++[\"')\]]*+(?=\s|$)|[。！？؟।\n\r])+")
_ASKS = (
    r"(?:how|what|what's|whats|when|where|where's|who|who's|why|which|whose|can|could|do|does|did|is|are|am|"
    r"will|would|should|may|shall|have|has|tell|show|give|write|explain|translate|help|make|list|find|"
    r"send|describe|summari[sz]e|compare|calculate|create|draft|suggest|turn|set|play|call|order|book|remind|check|"
    r"add|cancel|switch|text|let|i\s+(?:want|need|would\s+like)|i'd\s+like)"
)
_FURTHER = re.compile(
    rf"(?: ?,)? (?P<joins>and|but|or|plus|then|also) "
    rf"(?:(?:also|then|please|finally) ?,? ){{0,3}}(?={_ASKS}\b)"
    rf"| ?[,:–—] ?(?:(?:also|then|please) ?,? ){{0,3}}(?={_ASKS}\b)",
    re.IGNORECASE,
)
"""Where a clause may end in the middle of a sentence."""
_ASKING = re.compile(
    rf"\W{{0,9}}(?:(?:please|so|and|also)\W{{1,9}}){{0,3}}{_ASKS}\b", re.IGNORECASE
)
_COURTESY = frozenset(
    """hi hello hey hiya dear good morning afternoon evening day there team all everyone sir madam thanks
    thank thx you ty very much so a lot in advance please pls bye goodbye cheers ok okay well yes sorry excuse
    me kind best regards for your the help to bother just quick simple question i have one guys folks
    great""".split()
)
_MOST_COURTEOUS = 8
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_FEWEST = 2
"""Letters or digits that a clause needs to ask for anything."""


def clauses(text: str) -> list[str]:
    """The parts of a message that each ask or say something; greetings and thanks are left out.

    Linear in the text. A message of nothing but courtesies is one clause.
    """
    found: list[str] = []
    at = 0
    for end in _END.finditer(text):
        found += _apart(text[at : end.end()])
        at = end.end()
    found += _apart(text[at:])
    asked = [part for part in found if not _courteous(part)]
    return asked or [text.strip()]


def _apart(sentence: str) -> list[str]:
    """A sentence at its further questions: "..., and how ...". What stands before the first one with a
    comma only ("I lost my card, how ...") belongs to it."""
    parts: list[str] = []
    sentence, at = " ".join(sentence.split()), 0
    for further in _FURTHER.finditer(sentence):
        before = sentence[at : further.start()]
        if further["joins"] or _ASKING.match(before) or _courteous(before):
            parts.append(before)
            at = further.end()
    parts.append(sentence[at:])
    return [part.strip() for part in parts if sum(map(str.isalnum, part)) >= _FEWEST]


def _courteous(part: str) -> bool:
    words = _WORD.findall(part.lower())
    return len(words) <= _MOST_COURTEOUS and all(word in _COURTESY for word in words)
