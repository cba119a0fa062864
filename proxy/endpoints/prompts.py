"""Requests whose text is one field with a string or several: ``prompt``, ``input``.

What completions and embeddings have in common: is the field well formed, and which texts does the
body hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from classifiers.types import Text
from proxy.endpoints import derived, leaves
from proxy.endpoints.base import Body
from proxy.errors import InvalidRequest, NotFound

FIELD_ROLES: Mapping[str, str] = {
    "dimensions": "developer",
    "encoding_format": "developer",
    "metadata": "developer",
    "prompt_cache_key": "developer",
    "response_format": "developer",
    "safety_identifier": "developer",
    "stop": "developer",
    "user": "developer",
}
"""Fields that the application's code writes. All others count as the user's, as in a chat."""

MAX_PROMPTS = 2048
MAX_KEY_CHARS = 256
_KINDS = {dict: "an object", list: "an array", str: "a string", bool: "a boolean"}
_NAMES = {bool: "a boolean", int: "an integer", float: "a decimal", str: "a string"} | {
    list: "an array", dict: "an object", type(None): "null",
}  # fmt: skip


def validate_model(body: Body, purpose: str) -> None:
    """Refuse a body without a model, or with one that is a classifier.

    Raises:
        InvalidRequest: there is none.
        NotFound: it is one of the gateway's classifiers; ``purpose`` says what it cannot do.
    """
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise InvalidRequest(
            "You must provide a model parameter.", "model", "missing_required_parameter"
        )
    refuse_classifier(model, purpose)


def refuse_classifier(model: str, purpose: str) -> None:
    """Refuse a classifier of the gateway as a model. Raises NotFound; see :func:`validate_model`."""
    if model.startswith("doorman/"):
        raise NotFound(
            "Models below doorman/ are classifiers, for POST /v1/classify and /v1/decisions. For "
            f"{purpose} use another one of GET /v1/models.",
            "model",
            "model_not_found",
        )


def validate_prompts(value: Any, name: str) -> None:
    """Refuse what is neither a string nor a list of strings.

    Raises:
        InvalidRequest: token ids among others: which text they stand for is known to the model's
            server alone, and what cannot be read here must not reach a model.
    """
    if isinstance(value, str):
        return
    if not isinstance(value, list):
        raise wrong_type(name, "a string or an array of strings", value)
    if not value:
        raise InvalidRequest(
            f"Invalid '{name}': empty array. Expected an array with minimum length 1, "
            "but got an empty array instead.",
            name,
            "empty_array",
        )
    if len(value) > MAX_PROMPTS:
        raise InvalidRequest(
            f"Invalid '{name}': {len(value)} items, at most {MAX_PROMPTS} are taken; send fewer.",
            name,
            "integer_above_max_value",
        )
    for index, item in enumerate(value):
        if isinstance(item, list) or type(item) is int:
            raise InvalidRequest(
                f"'{name}' holds token ids, which cannot be read and checked here; send the text "
                "as a string or an array of strings.",
                name,
                "unsupported_input",
            )
        if not isinstance(item, str):
            raise wrong_type(f"{name}[{index}]", "a string", item)


def validate_ids(body: Body) -> None:
    """Refuse a prompt as token ids beside the prompt as text. Raises InvalidRequest."""
    for name in ("prompt_token_ids", "input_ids", "token_ids"):
        if body.get(name) is not None:
            raise InvalidRequest(
                f"'{name}' holds token ids, which cannot be read and checked here; send the text.",
                name,
                "unsupported_input",
            )


def validate_names(body: Body) -> None:
    """Refuse names of fields that are long enough to be a text, and token ids beside the prompt.

    Raises:
        InvalidRequest: a name is too long, or a field holds token ids.
    """
    validate_ids(body)
    if leaves.longest_key(body) > MAX_KEY_CHARS:
        raise InvalidRequest(
            f"The name of a field is longer than {MAX_KEY_CHARS} characters; shorten it.",
            code="string_above_max_length",
        )


def texts(body: Body, prompts: tuple[str, ...]) -> list[Text]:
    """Every text of the request, in the body's order.

    Args:
        prompts: the fields whose texts are what is asked now, the newest turn of the user.
    """
    found: list[Text] = []
    for name, value in body.items():
        if name in prompts:
            own = Text("", "user", (name,), turn=0, last_turn=True)
        else:
            own = Text("", FIELD_ROLES.get(name, "user"), (name,), turn=-1, last_turn=False)
        found.extend(_below(value, own))
        if name not in leaves.KNOWN_KEYS and name not in prompts:
            found += (replace(own, content=it, derived=True) for it in leaves.spelled(name))
    return found


def expect(value: Any, kind: type, where: str) -> None:
    """Refuse a value of another type; null is none. Raises InvalidRequest."""
    if value is not None and not isinstance(value, kind):
        raise wrong_type(where, _KINDS[kind], value)


def wrong_type(where: str, expected: str, value: Any) -> InvalidRequest:
    """The error that says what a field must be and what it is."""
    got = _NAMES.get(type(value), "something else")
    return InvalidRequest(
        f"Invalid type for '{where}': expected {expected}, but got {got} instead.",
        where,
        "invalid_type",
    )


def _below(value: Any, own: Text) -> Iterator[Text]:
    """Every text below a value; ``own`` has its address and what all of them share."""
    # A prompt is text whatever it looks like; the rules about names and media are for other fields.
    walk = leaves.strings if own.last_turn else leaves.texts
    for address, string in walk(value, own.address):
        if string:
            text = replace(own, content=string, address=address)
            yield text
            yield from derived.decoded(text)
    for address, name in leaves.names(value, own.address):
        yield replace(own, content=name, address=address, derived=True)
