"""YAML with line numbers and secrets from the environment, for messages that say where the fault is."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from policies.source import SourceError, parse

_WHOLE = re.compile(r"os\.environ/([A-Za-z_][A-Za-z0-9_]*)\Z")
_EMBEDDED = re.compile(r"\$(\$?)\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")

Address = tuple[str | int, ...]


class ConfigError(Exception):
    """The configuration cannot be used; the message says where, what and how to mend it."""


class Source:
    """A YAML document of settings that knows the line of each of its values.

    Raises:
        ConfigError: the text is not YAML, repeats a key, or is not a mapping.
    """

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        self.lines: Mapping[Address, int] = {}
        self.values: dict[str, Any] = {}
        if not re.sub(r"(?m)^\s*(#.*|---)?$", "", text).strip():
            return  # nothing is set
        try:
            document = parse(text, name)
        except SourceError as error:
            raise ConfigError(f"{name}:{error.line}: {error}") from None
        if not isinstance(document.data, dict):
            raise ConfigError(f"{name}:1: must be a mapping of settings, e.g. `policies: [...]`")
        self.lines, self.values = document.lines, document.data

    def line(self, address: Address) -> int:
        """The line of a value, or of the nearest thing around it."""
        while address and address not in self.lines:
            address = address[:-1]
        return self.lines.get(address, 1)

    def resolve(self, environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
        """The values, with ``${NAME}`` and ``os.environ/NAME`` filled in.

        Raises:
            ConfigError: names every variable that is not set.
        """
        missing: list[str] = []
        values = self._fill(self.values, (), environ, missing)
        if missing:
            raise ConfigError("\n".join(missing))
        return dict(values)

    def _fill(
        self, value: Any, address: Address, environ: Mapping[str, str], missing: list[str]
    ) -> Any:
        if isinstance(value, dict):
            return {k: self._fill(v, (*address, k), environ, missing) for k, v in value.items()}
        if isinstance(value, list):
            return [self._fill(v, (*address, i), environ, missing) for i, v in enumerate(value)]
        if not isinstance(value, str):
            return value

        def lookup(name: str, otherwise: str | None = None) -> str:
            found = environ.get(name, otherwise)
            if found is None:
                missing.append(
                    f"{self.name}:{self.line(address)}: {'.'.join(map(str, address))} needs the environment "
                    f"variable {name}, which is not set; export {name}=..."
                )
            return found or ""

        if whole := _WHOLE.match(value):
            return lookup(whole[1])
        return _EMBEDDED.sub(lambda m: m[0][1:] if m[1] else lookup(m[2], m[3]), value)


def explain(error: ValidationError, model: type[BaseModel], source: Source) -> str:
    """A pydantic error as ``file:line: fault; fix``, one line per fault, without the values.

    Values are left out because any of them may be a secret.
    """
    lines = []
    for fault in error.errors(include_url=False, include_context=False, include_input=False):
        address = fault["loc"]
        where = f"{source.name}:{source.line(address)}"
        path = ".".join(map(str, address))
        if fault["type"] == "extra_forbidden":
            lines.append(
                f"{where}: unknown key {path!r}; {_suggest(str(address[-1]), _keys(model, address[:-1]))}"
            )
        else:
            message = fault["msg"].removeprefix("Value error, ")
            lines.append(f"{where}: {path}: {message}" if path else f"{where}: {message}")
    return "\n".join(lines)


def _suggest(name: str, known: list[str]) -> str:
    if close := difflib.get_close_matches(name, known, 1, 0.6):
        return f"did you mean {close[0]!r}?"
    return f"there are: {', '.join(known)}"


def _keys(model: type[BaseModel], address: Address) -> list[str]:
    """The keys that a model knows at an address."""
    current = model
    for key in address:
        field = current.model_fields.get(str(key))
        if field is not None:
            current = _model_in(field.annotation) or current
    return sorted(current.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in get_args(annotation):
        if found := _model_in(inner):
            return found
    return None
