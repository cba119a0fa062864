"""Names that the provider of the Responses API gives, told from words that somebody chose.

Whoever runs the server writes them, so they are names by their form and not by their place: kinds
and states are made of the API's own words, identifiers are random letters and numbers.
"""

from __future__ import annotations

import re

from proxy.endpoints import words

_KINDS = frozenset({"object", "role", "status", "type"})
"""Keys whose values the API has a closed list of words for."""

_WORDS = frozenset(
    {
        "action", "added", "annotation", "approval", "arguments", "assistant", "audio", "c", "call",
        "cancelled", "code", "completed", "content", "created", "critic", "custom", "delta",
        "developer", "discriminator", "done", "error", "execution", "expired", "failed", "file",
        "function", "generating", "generation", "image", "in", "incomplete", "input", "interpreter",
        "interpreting", "item", "list", "local", "logs", "mcp", "message", "output", "part",
        "partial", "patch", "preview", "progress", "queued", "reasoning", "refusal", "request",
        "response", "result", "search", "searching", "shell", "summary", "system", "text", "tool",
        "tools", "transcript", "unknown", "use", "user", "web",
    }
)  # fmt: skip
"""What the names of events, items and states are made of, see :func:`is_name`."""

_NAME = re.compile(r"[A-Za-z0-9_.:/+=-]{0,128}")
_PREFIX = re.compile(rf"(?:{'|'.join(words.ID_PREFIXES)}|cntr|ctc|mcpr|mcpl|lsh|ci|cu|tsc)_")
_LONG = re.compile(r"[A-Z]?[a-z]{7,}|[A-Z]{7,}")
"""A run of letters of one case that random letters and numbers seldom have."""
_SEVERAL = re.compile(r"(?:^|[_.:/+=-])[A-Za-z]{2,}[_.:/+=-]+[A-Za-z]{2,}(?:$|[_.:/+=-])")


def is_name(key: str, value: str) -> bool:
    """Whether the value of a field of names says nothing.

    Args:
        key: the field, one of ``responses_leaves.PROTOCOL_KEYS``.
    """
    if _NAME.fullmatch(value) is None:
        return False
    if key in _KINDS:
        return value in words.VALUES or all(part in _WORDS for part in re.split("[._]", value))
    if key in ("model", "obfuscation"):  # an event's padding is random, and new with each
        return True
    rest = _PREFIX.sub("", value, count=1)
    return _LONG.search(rest) is None and _SEVERAL.search(rest) is None
