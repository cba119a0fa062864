"""Ordinary texts made up by a seeded generator: as many as wanted, all different, all innocent."""

from __future__ import annotations

import random
from collections.abc import Callable

_SENTENCES = (
    "Could you help me plan the {thing} for our {place} next {day}?",
    "We talked about the {thing} on {day}, and {person} would like a {how} version of it.",
    "Please compare the {thing} with the {thing} that {person} made for the {place}.",
    "The {how} {thing} was fine, but the {thing} took longer than {person} had hoped.",
    "On {day} the {place} opens late, so the {thing} has to be ready the evening before.",
    "What would make a {how} {thing} easier to explain to people at the {place}?",
    "I am writing a {how} note about the {thing} and need a good first paragraph.",
    "Later {person} will bring the {thing} to the {place} and ask what you think of it.",
    "Keep the {thing} {how}, mention the {place}, and leave out the {thing} from last {day}.",
)
_WORDS = {
    "thing": "garden map recipe menu report chapter song poster budget schedule lesson letter summary "
    "table painting novel speech survey chart outline walk picnic concert review diagram course "
    "essay story bridge museum lamp chair kitchen window train ticket basket blanket",
    "place": "library school office museum station market village harbor theater park bakery workshop "
    "university farm hotel beach studio clinic gallery stadium castle valley island forest",
    "day": "monday tuesday wednesday thursday friday saturday sunday january february march april june "
    "july august september october november december morning evening weekend week month",
    "person": "anna peter maria thomas laura james sophie daniel emma paul julia martin clara robert "
    "helen oliver alice simon grace henry lucy victor nora oscar",
    "how": "short simple careful colorful friendly formal cheerful detailed modest practical gentle "
    "modern quiet clever honest longer shorter clearer warmer lighter",
}
_CHOICES = {slot: words.split() for slot, words in _WORDS.items()}


def sentences(source: random.Random, words: int) -> str:
    """A text of at least so many words."""
    parts: list[str] = []
    count = 0
    while count < words:
        sentence = source.choice(_SENTENCES)
        for slot, choices in _CHOICES.items():
            while f"{{{slot}}}" in sentence:
                sentence = sentence.replace(f"{{{slot}}}", source.choice(choices), 1)
        parts.append(sentence)
        count += sentence.count(" ") + 1
    return " ".join(parts)


def of_tokens(source: random.Random, tokens: int, count: Callable[[str], int]) -> str:
    """A text of exactly so many tokens, as ``count`` counts them."""
    words = sentences(source, tokens + 8).split()
    low, high = 0, len(words)
    while low < high:  # the most words that fit
        middle = (low + high + 1) // 2
        low, high = (
            (middle, high) if count(" ".join(words[:middle])) <= tokens else (low, middle - 1)
        )
    text = " ".join(words[:low])
    while count(text) < tokens:
        text += " and"
    return text
