"""Random identifiers, made many at a time: asking the system for each takes longer than all else."""

from __future__ import annotations

import os

_BYTES = 12
_MANY = 256

_ready: list[str] = []


def random_id() -> str:
    """24 hexadecimal digits, 96 random bits of the system's."""
    try:
        return _ready.pop()
    except IndexError:
        digits = os.urandom(_BYTES * _MANY).hex()
        width = 2 * _BYTES
        made = [digits[at : at + width] for at in range(0, len(digits), width)]
        found = made.pop()
        _ready.extend(made)
        return found


# Two processes must never give the same ones.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ready.clear)
