"""How a mistake in a file that someone wrote is told: ``file:line: fault; fix``.

Validators raise :func:`fault`; :func:`describe` turns what pydantic collected into one line per
mistake, each with the line of the file it stands in.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from classifiers.yaml_source import Document

MOST_FAULTS = 20
MOST_NAMES = 60


def fault(message: str, *keys: str | int) -> PydanticCustomError:
    """An error for validators to raise.

    Args:
        message: ``fault; fix``.
        keys: lead from the value under validation to the one at fault, for its line number.
    """
    return PydanticCustomError("written", "{message}", {"message": message, "keys": keys})


def did_you_mean(value: object, known: Iterable[str], what: str) -> str:
    """The fix for a name that does not exist: ``did you mean 'when'? Keys are: ...``."""
    options = list(known)
    if not options:
        return f"there are no {what}"
    close = difflib.get_close_matches(str(value), options, n=1, cutoff=0.5)
    if not close:
        # A wrong prefix or suffix (goodbye_ for goodbye, jailbreaks for jailbreak) is close too.
        lower = str(value).lower()
        close = [o for o in options if o.lower() in lower or (lower and lower in o.lower())][:1]
    hint = f"did you mean {close[0]!r}? " if close else ""
    more = f" and {len(options) - MOST_NAMES} more" if len(options) > MOST_NAMES else ""
    return f"{hint}{what[:1].upper()}{what[1:]} are: {', '.join(options[:MOST_NAMES])}{more}"


def show(value: object, limit: int = 60) -> str:
    """A value of the file as it is quoted in a message."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def describe(error: ValidationError, document: Document, what: str = "policy") -> str:
    """Every mistake of a validation error, in file order, one line each.

    Args:
        error: what pydantic collected.
        document: the file.
        what: what the file is, as messages call it.
    """
    found: dict[str, int] = {}
    for detail in error.errors(include_url=False):
        path = document.path(detail["loc"])
        message = _message(detail, path, what)
        line = document.line((*path, *(detail.get("ctx") or {}).get("keys", ())))
        found.setdefault(f"{document.source}:{line}: {message}", line)
    lines = sorted(found, key=lambda text: found[text])
    more = (
        [f"{document.source}: {len(lines) - MOST_FAULTS} more"] if len(lines) > MOST_FAULTS else []
    )
    return "\n".join(lines[:MOST_FAULTS] + more)


_WANTED = {
    "string_type": "must be text; put it in quotes",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "tuple_type": "must be a list; write it as [a, b]",
    "list_type": "must be a list; write it as [a, b]",
    "dict_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
    "model_attributes_type": "must be a mapping of keys to values",
}
"""What pydantic's own error types mean to someone who writes YAML."""


def _message(detail: ErrorDetails, path: Sequence[str | int], what: str) -> str:
    kind = detail["type"]
    where = _place(path, what)
    if kind == "written":
        message: str = (detail.get("ctx") or {})["message"]
        return message
    if kind == "missing":
        return f"{where} has no {str(detail['loc'][-1])!r}; add it"
    wanted = _WANTED.get(kind)
    value: Any = detail.get("input")
    if wanted is None:
        return f"{where} is {show(value)}: {detail['msg']}"
    return f"{where} is {show(value)} and {wanted}"


def _place(path: Sequence[str | int], what: str) -> str:
    if not path:
        return f"the {what}"
    words = [f"{p + 1}." if isinstance(p, int) else p for p in path]
    return f"'{' '.join(words)}'"
