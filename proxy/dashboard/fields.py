"""What a form or a query holds: names and texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import parse_qsl

from proxy.errors import InvalidRequest

MOST_FIELDS = 500
_SHOWN = 40


class Fields(Mapping[str, str]):
    """Texts by name; of several with one name the first counts, ``every`` has them all."""

    def __init__(self, pairs: list[tuple[str, str]] | None = None) -> None:
        self._pairs: dict[str, list[str]] = {}
        for name, value in pairs or []:
            self._pairs.setdefault(name, []).append(value)

    @classmethod
    def parse(cls, raw: bytes) -> Fields:
        """Read ``application/x-www-form-urlencoded``.

        Raises:
            InvalidRequest: more than ``MOST_FIELDS`` fields, or no UTF-8.
        """
        try:
            pairs = parse_qsl(
                raw.decode("ascii"),
                keep_blank_values=True,
                errors="strict",
                max_num_fields=MOST_FIELDS,
            )
        except (UnicodeDecodeError, ValueError):
            raise InvalidRequest(
                f"The form cannot be read; send at most {MOST_FIELDS} fields in UTF-8."
            ) from None
        return cls(pairs)

    def __getitem__(self, name: str) -> str:
        return self._pairs[name][0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def __repr__(self) -> str:
        return f"Fields({', '.join(name[:_SHOWN] for name in self._pairs)})"  # never what they hold

    def every(self, name: str) -> list[str]:
        """All texts of a name, in order."""
        return list(self._pairs.get(name, ()))

    def text(self, name: str) -> str:
        """A text without white space around it, empty if it is not there."""
        return self.get(name, "").strip()

    def whole(self, name: str, default: int, *, least: int = 0, most: int = 1_000_000_000) -> int:
        """A whole number; the default where there is none. Raises InvalidRequest."""
        given = self.text(name)
        if not given:
            return default
        if not given.isascii() or not given.isdigit() or not least <= int(given[:20]) <= most:
            raise InvalidRequest(f"`{name}` must be a whole number from {least} to {most}.", name)
        return int(given)

    def number(self, name: str, default: float) -> float:
        """A finite number; the default where there is none. Raises InvalidRequest."""
        given = self.text(name)
        try:
            value = float(given) if given else default
        except ValueError:
            value = float("nan")
        if not -1e15 < value < 1e15:
            raise InvalidRequest(f"`{name}` must be a number.", name)
        return value
