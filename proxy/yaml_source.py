"""YAML with line numbers and secrets from the environment, for messages that say where the fault is."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from classifiers.yaml_source import SourceError, parse

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

    def resolve(
        self,
        environ: Mapping[str, str] = os.environ,
        skip: Callable[[Address], bool] | None = None,
    ) -> dict[str, Any]:
        """The values, with ``${NAME}`` and ``os.environ/NAME`` filled in.

        Args:
            environ: the variables.
            skip: tells by its address whether a value keeps the names in place of the variables.

        Raises:
            ConfigError: names every variable that is not set.
        """
        missing: list[str] = []
        values = self._fill(self.values, (), environ, missing, skip)
        if missing:
            raise ConfigError("\n".join(missing))
        return dict(values)

    def _fill(
        self,
        value: Any,
        address: Address,
        environ: Mapping[str, str],
        missing: list[str],
        skip: Callable[[Address], bool] | None,
    ) -> Any:
        more = (environ, missing, skip)
        if isinstance(value, dict):
            return {k: self._fill(v, (*address, k), *more) for k, v in value.items()}
        if isinstance(value, list):
            return [self._fill(v, (*address, i), *more) for i, v in enumerate(value)]
        if not isinstance(value, str):
            return value

        def lookup(name: str, otherwise: str | None = None) -> str:
            if skip is not None and skip(address):
                return f"os.environ/{name}"
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
    found = error.errors(include_url=False, include_input=False)
    # A list whose items have faults counts as empty too, which is no fault of its own.
    around = {fault["loc"][:n] for fault in found for n in range(len(fault["loc"]))}
    for fault in found:
        address = fault["loc"]
        if fault["type"] == "too_short" and address in around:
            continue
        where = f"{source.name}:{source.line(address)}"
        path = ".".join(map(str, address))
        if fault["type"] == "extra_forbidden":
            lines.append(
                f"{where}: unknown key {path!r}; {_suggest(str(address[-1]), _keys(model, address[:-1]))}"
            )
        else:
            message = _message(fault)
            lines.append(f"{where}: {path}: {message}" if path else f"{where}: {message}")
    return "\n".join(lines)


_WANTED = {
    "missing": "is missing; add it",
    "string_type": "must be text; put it in quotes",
    "string_too_short": "is empty; write some text",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "tuple_type": "must be a list; write it as [a, b]",
    "dict_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
    "path_type": "must be a path; put it in quotes",
}
"""What pydantic's own error types mean to someone who writes YAML."""


def _message(fault: ErrorDetails) -> str:
    context = fault.get("ctx", {})
    if fault["type"] == "too_short":
        # Of a secret it is characters that are counted, of everything else items.
        if context.get("field_type") == "Value":
            return f"is too short; use at least {context['min_length']} characters"
        return f"is an empty list; write at least {context['min_length']}"
    return _WANTED.get(fault["type"]) or fault["msg"].removeprefix("Value error, ")


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
