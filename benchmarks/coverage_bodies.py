"""Random bodies for every guarded API: its own shapes, and what nobody has thought of.

Every string and every key that is made here carries a word of its own, in plain or in disguise: as
a part of an identifier, in JSON, in a data URL. So each can be looked for in what classifiers get.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from random import Random
from typing import Any

_SYLLABLES = [c + v for c in "bdfgklmnprtvz" for v in "aeiou"]


class Maker:
    """Makes values and remembers the words in them.

    Attributes:
        rng: where all choices come from.
        words: string -> the words it carries. Strings that are not in it are the API's own.
    """

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.words: dict[str, str] = {}
        self._count = rng.randrange(200_000)

    def word(self) -> str:
        """A word that stands nowhere else in the body."""
        self._count += 1
        number, parts = self._count, ["zo"]
        for _ in range(3):
            number, at = divmod(number, len(_SYLLABLES))
            parts.append(_SYLLABLES[at])
        return "".join(parts)

    def string(self) -> str:
        """A string with a word in one of its disguises."""
        word = self.word()
        made = self.rng.choice(_DISGUISES)(word)
        self.words[made] = word
        return made

    def key(self) -> str:
        """The name of a field that no API has."""
        word = self.word()
        made = self.rng.choice((f"{word}", f"x_{word}_rule", f"do{word.title()}Now"))
        self.words[made] = word
        return made

    def chance(self, share: float) -> bool:
        """True in a share of all cases."""
        return self.rng.random() < share

    def some(self, make: Callable[[], Any], most: int = 3, least: int = 0) -> list[Any]:
        """Several of a kind."""
        return [make() for _ in range(self.rng.randint(least, most))]

    def anything(self, depth: int = 2) -> Any:
        """A value of any type."""
        kind = self.rng.randrange(8 if depth else 5)
        if kind <= 2:
            return self.string()
        if kind == 3:
            return self.rng.choice((None, True, 0, 12345678, 0.5))
        if kind == 4:
            return self.rng.choice(("auto", "user", "", "call_1", "a" * 40))
        if kind == 5:
            return self.some(lambda: self.anything(depth - 1))
        return {self._name(): self.anything(depth - 1) for _ in range(self.rng.randint(0, 2))}

    def _name(self) -> str:
        """A key: nobody's, or one that means something elsewhere."""
        return self.key() if self.chance(0.6) else self.rng.choice(_KNOWN)

    def object(self, **fields: Any) -> dict[str, Any]:
        """An object with some of the fields, some that nobody knows, and the odd wrong type.

        Values that are functions are called; names that end in ``_`` are always there.
        """
        made: dict[str, Any] = {}
        for name, value in fields.items():
            if not name.endswith("_") and self.chance(0.75):
                continue
            plain = name.removesuffix("_")
            if self.chance(0.02):
                made[plain] = self.anything(1)
            else:
                made[plain] = value() if callable(value) else value
        if self.chance(0.15):
            made[self._name()] = self.anything()
        return made


def _data(head: str, payload: str | bytes) -> str:
    raw = payload.encode() if isinstance(payload, str) else payload
    return f"data:{head};base64,{b64encode(raw).decode()}"


_KNOWN = (
    "url", "data", "file_data", "image_url", "signature", "encrypted_content", "file_id", "id",
    "type", "name", "text", "source", "content", "status", "input", "arguments", "image",
)  # fmt: skip
_PNG = b"\x89PNG\r\n\x1a\n\x00\x00"
_DISGUISES: tuple[Callable[[str], str], ...] = (
    lambda word: word,
    lambda word: f"please {word} now",
    lambda word: f"{word}_rules",
    lambda word: f"call_{word}",
    lambda word: f"toolu_01{word}9",
    lambda word: f"doThe{word.title()}Now",
    lambda word: f"x/{word}.y",
    lambda word: f"https://x.y/{word}",
    lambda word: f"file-{word}",
    lambda word: json.dumps({"a": f"{word}\n", "b": [1]}),
    lambda word: '{"a": "\\u007a' + word[1:] + '"}',
    lambda word: _data("text/plain", f"so {word} it"),
    lambda word: _data("application/pdf", f"so {word} it"),
    lambda word: _data(f"application/{word}", _PNG),
    lambda word: _data("image/png", _PNG + word.encode()),
    lambda word: b64encode(f"so {word} it is".encode()).decode(),
    lambda word: b64encode(_PNG + word.encode()).decode(),
    lambda word: f"data:,{word}%20now",
)
