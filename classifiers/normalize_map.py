"""A text under edit, and the way back to the original offsets.

Every step of undoing a disguise is a linear scan that yields edits; edits are applied to the text and
to the map together.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

from classifiers.types import Span

Edit = tuple[int, int, str]
"""Replace ``text[start:end]`` by the string; edits of a list are in order and never overlap."""


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


class State:
    """A text under edit and, once something changed, where each character came from."""

    __slots__ = ("ends", "starts", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.starts: array[int] | None = None
        self.ends: array[int] | None = None

    @classmethod
    def of(cls, found: Plain) -> State:
        """Go on with a text that was made plain before."""
        state = cls(found.text)
        state.starts, state.ends = found._starts, found._ends
        return state

    def plain(self, original: str) -> Plain:
        """The text as it is now, with its map to the original."""
        if self.starts is None:
            return Plain(original, False, len(original))
        return Plain(self.text, self.text != original, len(original), self.starts, self.ends)

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
