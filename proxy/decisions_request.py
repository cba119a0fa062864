"""The request of ``POST /v1/decisions``: a text, and typed questions about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from proxy.errors import InvalidRequest

Kind = Literal["predicate", "choice", "score"]
OPTIONS: Mapping[str, tuple[str, str, int]] = {
    "choice": ("choices", "value", 255),
    "score": ("levels", "label", 10),
}
"""Type of question -> where its options stand, what an option is called by, and how many there may be."""
KEYS: Mapping[str, frozenset[str]] = {
    "predicate": frozenset({"type", "name", "instructions"}),
    "choice": frozenset({"type", "name", "instructions", "choices"}),
    "score": frozenset({"type", "name", "instructions", "levels"}),
}
MAX_QUESTIONS = 128
MAX_OPTIONS = 8192
"""Choices and levels of all questions together, equal ones counted as often as they stand there."""
_TEXT_PARTS = frozenset({"text", "input_text"})


@dataclass(frozen=True, slots=True)
class Option:
    """A choice or a level. ``value`` is what the client calls it: a string, or for choices a boolean."""

    value: str | bool
    description: str | None = field(default=None, repr=False)

    @property
    def words(self) -> str:
        """The value as text."""
        return self.value if isinstance(self.value, str) else ("yes" if self.value else "no")


@dataclass(frozen=True, slots=True)
class Question:
    """One question; ``options`` is empty for a predicate."""

    kind: Kind
    where: str
    name: str | None
    instructions: str = field(repr=False)
    options: tuple[Option, ...] = ()


@dataclass(frozen=True, slots=True)
class DecisionRequest:
    """A well-formed request. ``text`` is the input, its parts joined by line ends."""

    model: str
    text: str = field(repr=False)
    questions: tuple[Question, ...]


def read(body: Mapping[str, Any]) -> DecisionRequest:
    """What a body asks.

    Raises:
        InvalidRequest: with the field at fault.
    """
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise InvalidRequest(
            "You must provide a model parameter; `doorman/auto` takes what fits each question.",
            "model",
            "missing_required_parameter",
        )
    given = body.get("questions")
    if not isinstance(given, list) or not given:
        raise InvalidRequest("`questions` must be a list of at least one question.", "questions")
    if len(given) > MAX_QUESTIONS:
        raise InvalidRequest(
            f"`questions` has {len(given)} items, at most {MAX_QUESTIONS} are answered; send fewer.",
            "questions",
        )
    text = "\n".join(_input(body.get("input")))
    _bound_options(given)
    questions = tuple(_question(item, f"questions[{i}]") for i, item in enumerate(given))
    return DecisionRequest(model, text, questions)


def _bound_options(questions: Iterable[Any]) -> None:
    """Before any of them is read: a hundred questions of hundreds of choices are much work."""
    names = [name for name, _, _ in OPTIONS.values()]
    lists = [q.get(name) for q in questions if isinstance(q, dict) for name in names]
    options = sum(len(items) for items in lists if isinstance(items, list))
    if options > MAX_OPTIONS:
        raise InvalidRequest(
            f"All questions together have {options} choices and levels, at most {MAX_OPTIONS} are "
            "taken; ask less at once.",
            "questions",
        )


def _input(given: Any) -> Iterable[str]:
    if isinstance(given, str):
        return [given]
    if not isinstance(given, list) or not given:
        raise InvalidRequest("`input` must be a string or a list of user messages.", "input")
    return [text for i, message in enumerate(given) for text in _message(message, f"input[{i}]")]


def _message(message: Any, where: str) -> list[str]:
    if not isinstance(message, dict) or message.get("role") != "user":
        raise InvalidRequest(
            '`input` must hold messages like {"role": "user", "content": "..."}; other roles are not '
            "decided on.",
            where,
        )
    content = message.get("content")
    if isinstance(content, str):
        return [content]
    if not isinstance(content, list):
        raise InvalidRequest("`content` must be a string or a list of parts.", f"{where}.content")
    found = []
    for index, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in ("input_image", "image_url"):
            raise InvalidRequest(
                "Images cannot be read here; send text only.",
                f"{where}.content[{index}]",
                "unsupported_input",
            )
        if kind not in _TEXT_PARTS or not isinstance(part.get("text"), str):
            raise InvalidRequest(
                'A part must be like {"type": "input_text", "text": "..."}.',
                f"{where}.content[{index}]",
            )
        found.append(part["text"])
    return found


def _question(given: Any, where: str) -> Question:
    kind = given.get("type") if isinstance(given, dict) else None
    if kind not in ("predicate", "choice", "score"):
        raise InvalidRequest(
            "A question's `type` must be predicate, choice or score.", f"{where}.type"
        )
    _only(given, KEYS[kind], where)
    name = _string(given, "name", where)
    # The public API asks for instructions everywhere; choices and levels speak for themselves.
    instructions = _string(given, "instructions", where) or ""
    if kind == "predicate" and not instructions.strip():
        raise InvalidRequest(
            "A predicate needs `instructions`: the statement that is to be true or not.",
            f"{where}.instructions",
            "missing_required_parameter",
        )
    options = _options(given, kind, where) if kind in OPTIONS else ()
    return Question(kind, where, name, instructions, options)


def _options(given: Mapping[str, Any], kind: str, where: str) -> tuple[Option, ...]:
    field_name, called, most = OPTIONS[kind]
    items, where = given.get(field_name), f"{where}.{field_name}"
    if not isinstance(items, list) or len(items) < 2:
        raise InvalidRequest(f"`{field_name}` must be a list of at least two.", where)
    if len(items) > most:
        raise InvalidRequest(
            f"`{field_name}` has {len(items)} items, at most {most} are taken; send fewer.", where
        )
    found: list[Option] = []
    for index, item in enumerate(items):
        at = f"{where}[{index}]"
        value: Any = item.get(called) if isinstance(item, dict) else None
        worded = isinstance(value, str) and bool(value.strip())
        if not worded and not (kind == "choice" and isinstance(value, bool)):
            raise InvalidRequest(
                f"`{called}` must be a string with a word in it.", f"{at}.{called}"
            )
        _only(item, frozenset({called, "description"}), at)
        found.append(Option(value, _string(item, "description", at) or None))
    # True and 1 are equal in Python, but not true and "true".
    if len({(type(option.value), option.value) for option in found}) < len(found):
        raise InvalidRequest(f"Two of `{field_name}` are the same; name each once.", where)
    return tuple(found)


def _only(given: Mapping[str, Any], keys: frozenset[str], where: str) -> None:
    if given.keys() - keys:
        raise InvalidRequest(
            f"Unknown field in '{where}'; there are: {', '.join(sorted(keys))}.",
            where,
            "unknown_parameter",
        )


def _string(given: Mapping[str, Any], name: str, where: str) -> str | None:
    value = given.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidRequest(f"`{name}` must be a string.", f"{where}.{name}", "invalid_type")
    return value
