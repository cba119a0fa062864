"""Which turns of a conversation were refused: our refusals stay in the history that clients send."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Sequence

from classifiers.types import Text


def refused_turns(
    texts: Sequence[Text], turns: Collection[int], refusals: Collection[str]
) -> set[int]:
    """The turns after which the assistant said nothing but a refusal of ours.

    Args:
        texts: all texts of the request.
        turns: those in question.
        refusals: the words of the policies' refusals.
    """
    if not refusals:
        return set()
    replies: dict[int, list[str]] = {}
    for text in texts:
        # What is made of a refusal (JSON decoded, a name with its words apart) says no more than it.
        if text.role == "assistant" and not text.derived:
            replies.setdefault(text.turn, []).append(text.content)
    answers = sorted(replies)
    found: set[int] = set()
    for turn in turns:
        next_one = bisect_right(answers, turn)
        said = replies[answers[next_one]] if next_one < len(answers) else []
        if len(said) == 1 and said[0] in refusals:
            found.add(turn)
    return found
