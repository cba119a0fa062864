"""What stands in a stream in place of something else: originals put back, placeholders put in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import orjson

from proxy.holdback_channel import Channel, Find

_NUMBER = re.compile(r"\d+(?=\D*$)")


class Names:
    """The placeholders of one stream.

    Args:
        originals: placeholder -> original, to be put back.
    """

    def __init__(self, originals: Mapping[str, str] | None = None) -> None:
        self._originals = dict(originals or {})
        names = sorted(self._originals, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, names))) if names else None
        self._begun = {name[:end] for name in names for end in range(1, len(name))}
        self._names: dict[tuple[str, str], str] = {}
        self._taken = set(self._originals)

    def begun(self, text: str) -> int:
        """How many characters at the end of a text may be the beginning of a placeholder."""
        longest = min(len(text), max(map(len, self._begun), default=0))
        return next((n for n in range(longest, 0, -1) if text[-n:] in self._begun), 0)

    def within(self, channel: Channel) -> Iterator[Find]:
        """Where originals are to be put back; what is redacted again stays redacted."""
        if self._pattern is None:
            return
        for match in self._pattern.finditer(channel.text, channel.settled - channel.base):
            start, end = (channel.base + border for border in match.span())
            if not any(find.start < end and start < find.end for find in channel.found):
                yield Find(start, end, "", "", match.group())

    def original(self, channel: Channel, find: Find) -> str | None:
        """What is put back for a find, None if it is one of the check's."""
        if find.placeholder or find.label or find.value not in self._originals:
            return None
        original = self._originals[find.value]
        # Within JSON source it must stay one string.
        return orjson.dumps(original).decode()[1:-1] if channel.json else original

    def placeholder(self, find: Find) -> str:
        """One placeholder per value over the whole stream; each check has counted from one."""
        key, name = (find.label, find.value), find.placeholder
        if key not in self._names:
            while name in self._taken and _NUMBER.search(name):
                name = _NUMBER.sub(lambda match: str(int(match.group()) + 1), name, count=1)
            self._taken.add(name)
            self._names[key] = name
        return self._names[key]
