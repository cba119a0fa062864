"""Errors as Anthropic's API words them: OpenAI's shape in, Anthropic's out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from proxy.errors import Answer

TYPES: dict[int, str] = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""Status -> type. All others below 500 are the request's fault, all others above the server's."""

_BUSY = frozenset(
    {"overloaded", "shutting_down", "not_ready", "classifiers_stuck", "too_many_connections"}
)
"""Codes of the gateway for which there is no status of their own."""

_NAMES = frozenset({*TYPES.values(), "invalid_request_error", "api_error", "overloaded_error"})
_OPENAI_TYPES = frozenset({"invalid_request_error", "rate_limit_error"})
"""Names that both APIs use, OpenAI's for more than Anthropic's; the status says more."""


def shaped(answer: Answer, request_id: str) -> Answer:
    """An error in Anthropic's shape: status and headers stay.

    Args:
        answer: in OpenAI's shape, as ``proxy.errors`` makes it and upstreams' errors are told.
    """
    error = answer.body.get("error")
    given = error if isinstance(error, dict) else {}
    told: dict[str, Any] = {
        "type": kind(answer.status, given.get("code"), given.get("type")),
        "message": str(given.get("message") or f"The request failed with status {answer.status}."),
    }
    if "doorman" in given:
        told["doorman"] = given["doorman"]
    return replace(answer, body=body(told, request_id), event="error")


def kind(status: int | None, code: object = None, given: object = None) -> str:
    """Anthropic's type of an error, from its status where there is one, OpenAI's code and type."""
    if code in _BUSY:
        return "overloaded_error"
    if given in _NAMES and given not in _OPENAI_TYPES:
        return str(given)
    if status is None:
        return "timeout_error" if code == "upstream_timeout" else "api_error"
    return TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")


def body(error: dict[str, Any], request_id: str | None = None) -> dict[str, Any]:
    """The whole of an error."""
    return {"type": "error", "error": error, "request_id": request_id}
