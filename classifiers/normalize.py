"""What an attacker hides, made plain, with the way back to the original offsets.

``plain`` undoes disguises of characters (full-width and styled letters, invisible and bidirectional
characters, piled-up combining marks, look-alike letters of other scripts) and of words (letters
spaced out, digits for letters, letters repeated, padding). It is a second view next to the raw text
and never replaces it, so it may be wrong about odd but honest text without harm; it still leaves
code, identifiers, emoji and texts in other scripts as they are.

Every step is a linear scan that yields edits; edits are applied to the text and to the map together.
The tables of characters stand in ``classifiers.lookalikes``, the steps for words in
``classifiers.normalize_words``.
"""

from __future__ import annotations

from classifiers.lookalikes import character_edits, lookalike_edits, needs_character_pass
from classifiers.normalize_map import Plain, State
from classifiers.normalize_words import WORD_STEPS, suspicious

_MAX_ROUNDS = 6
"""One disguise can hide another ("1 g n 0 r 3"): the steps repeat until nothing changes."""


def plain(text: str, *, words: bool = True) -> Plain:
    """Undo the disguises of a text.

    Args:
        text: any string; lone surrogates are left alone.
        words: False undoes the disguises of characters only and leaves words as they are spelled:
            for identifiers, where ``b0b@...`` must not become ``bob@...``.

    Returns:
        The plain text. Applying ``plain`` to it again changes nothing.
    """
    if text.isascii() and not needs_character_pass(text) and not (words and suspicious(text)):
        return Plain(text, False, len(text))
    state = State(text)
    undo(state, words=words)
    return state.plain(text)


def undo(state: State, *, words: bool = True) -> None:
    """Undo the disguises of a text that is under edit already; see :func:`plain`."""
    for _ in range(_MAX_ROUNDS):
        before = state.text
        if needs_character_pass(state.text):
            state.apply(character_edits(state.text))
        if words:
            if not state.text.isascii():
                state.apply(lookalike_edits(state.text))
            if suspicious(state.text):
                for step in WORD_STEPS:
                    state.apply(step(state.text))
        if state.text == before:
            break
