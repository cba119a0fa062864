"""What goes wrong, and how it is said over HTTP: one table, OpenAI's shape.

Messages are written for the caller and never hold user text, keys or tracebacks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from classifiers.engine import EngineClosed, Overloaded, Stuck
from policies.decision import Decision

UpstreamFault = Literal["connect", "timeout", "protocol", "too_large", "unavailable"]


class InvalidRequest(Exception):
    """The client's fault.

    Args:
        message: the fault, the value where it is not user text, and the fix.
        param: the field of the body at fault, as in OpenAI's errors.
        code: a machine-readable name, where the table's is not precise enough.
    """

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code


class TooLarge(InvalidRequest):
    """More than one of ``limits`` allows: bytes, texts or characters of them."""


class HeadersTooLarge(InvalidRequest):
    """The head of the request has more bytes than ``limits.max_header_bytes``, or too many headers."""


class TooSlow(InvalidRequest):
    """The request took longer to arrive than ``limits.header_seconds`` and ``limits.body_seconds`` allow."""


class UnsupportedMedia(InvalidRequest):
    """The body is not plain JSON: another content type, or compressed."""


class Unauthorized(InvalidRequest):
    """No client key, or a wrong one."""


class Forbidden(InvalidRequest):
    """The client key is good, but not for this."""


class RateLimited(InvalidRequest):
    """A limit of the client key is reached.

    Args:
        retry_after: seconds; None where no waiting helps, because the request alone is over the limit.
    """

    def __init__(self, message: str, retry_after: int | None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class BudgetSpent(RateLimited):
    """The budget of the client key is spent; the message says when it is renewed."""


class NotFound(InvalidRequest):
    """No such path, or no such model."""


class NotPromoted(InvalidRequest):
    """A pack did not take the place of another; each line of the message is a reason."""


class WrongMethod(InvalidRequest):
    """The path exists, the method does not."""


class Unavailable(Exception):
    """The gateway cannot give a verdict now: guards failed or are still loading. Not a block.

    Args:
        retry_after: seconds, where it is known when it is worth asking again.
    """

    def __init__(
        self, message: str, code: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param: str | None = None
        self.code = code
        self.retry_after = retry_after


class UpstreamError(Exception):
    """No usable reply came from the model's server; replies with an error status are not this.

    Args:
        message: for the client.
        begun: something of the reply had come; False is what allows to try again.
        retry_after: seconds, where it is known when it is worth asking again.
    """

    def __init__(
        self,
        kind: UpstreamFault,
        message: str,
        *,
        begun: bool = True,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.kind: UpstreamFault = kind
        self.message = message
        self.begun = begun
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Shape:
    """How an exception is answered. ``message`` None means the exception's own."""

    status: int
    type: str
    code: str | None
    message: str | None = None
    retry_after: int | None = None


ERRORS: dict[type[Exception], Shape] = {
    InvalidRequest: Shape(400, "invalid_request_error", None),
    TooLarge: Shape(413, "invalid_request_error", "request_too_large"),
    HeadersTooLarge: Shape(431, "invalid_request_error", "headers_too_large"),
    TooSlow: Shape(408, "invalid_request_error", "request_timeout"),
    UnsupportedMedia: Shape(415, "invalid_request_error", "unsupported_media_type"),
    Unauthorized: Shape(401, "invalid_request_error", "invalid_api_key"),
    Forbidden: Shape(403, "invalid_request_error", "forbidden"),
    RateLimited: Shape(429, "rate_limit_error", "rate_limit_exceeded"),
    BudgetSpent: Shape(429, "insufficient_quota", "insufficient_quota"),
    NotFound: Shape(404, "invalid_request_error", "not_found"),
    NotPromoted: Shape(409, "invalid_request_error", "not_promoted"),
    WrongMethod: Shape(405, "invalid_request_error", "method_not_allowed"),
    Unavailable: Shape(503, "server_error", "policy_unavailable"),
    UpstreamError: Shape(502, "server_error", "upstream_error"),
    Overloaded: Shape(503, "server_error", "overloaded", "Too many requests wait; retry.", 1),
    Stuck: Shape(
        503, "server_error", "classifiers_stuck", "The classifiers hang; retry later.", 10
    ),
    EngineClosed: Shape(503, "server_error", "shutting_down", "The gateway is stopping; retry.", 1),
    Exception: Shape(500, "server_error", "internal_error", "The gateway failed."),
}
"""Exception -> answer. The nearest class in the exception's ancestry counts."""

CODES: dict[str, tuple[type[Exception], str]] = {
    "missing_required_parameter": (InvalidRequest, "A field that must be there is not."),
    "invalid_type": (InvalidRequest, "A field has a value of another type."),
    "empty_array": (InvalidRequest, "There are no messages."),
    "integer_below_min_value": (InvalidRequest, "A number is too small."),
    "integer_above_max_value": (InvalidRequest, "A number is too large."),
    "invalid_value": (InvalidRequest, "A field has a value that cannot be."),
    "string_above_max_length": (InvalidRequest, "A string is too long."),
    "unknown_parameter": (InvalidRequest, "A key in a message is no identifier."),
    "unsupported_parameter": (
        InvalidRequest,
        "What cannot be guarded, or not be said to this model.",
    ),
    "unsupported_input": (InvalidRequest, "Images, or token ids in place of text: not read here."),
    "unknown_url": (NotFound, "No such path."),
    "model_not_found": (NotFound, "No such model."),
    "decision_not_found": (NotFound, "No such decision is recorded, or it is another client's."),
    "text_mismatch": (InvalidRequest, "A text of feedback is none of the decision's request."),
    "no_ledger": (Unavailable, "Feedback needs the ledger's database, and there is none."),
    "too_many_connections": (Unavailable, "There are ``limits.max_connections`` clients already."),
    "expired_api_key": (Unauthorized, "The client key has expired."),
    "keys_unavailable": (Unavailable, "The keys of the database could not be read yet."),
    "limits_unavailable": (Unavailable, "Redis, which counts the limits of keys, is away."),
    "policy_missing": (Unavailable, "The client key names a policy that is not loaded."),
    "not_ready": (Unavailable, "Classifiers and policies are still being loaded."),
    "no_classifier": (Unavailable, "No classifier for moderation is loaded."),
    "no_encoder": (
        Unavailable,
        "No loaded classifier answers a question, and there is no encoder.",
    ),
    "classify_timeout": (Unavailable, "The classifiers took longer than ``limits`` allows."),
    "ledger_unavailable": (
        Unavailable,
        "The decision could not be recorded; nothing was forwarded.",
    ),
    "reply_too_large": (Unavailable, "The reply has more text than ``limits`` allows to check."),
}
"""More precise codes than the table's, with the class they come with and what they mean."""

ANSWERS: dict[str, tuple[int, str]] = {
    "content_filter": (400, "A rule has blocked the text, with ``as: error``."),
    "unscannable_content": (400, "A part that no classifier can read; ``on_unscannable: block``."),
    "not_found": (404, "The model behind this name does not answer this API."),
}
"""Further codes, of answers that no exception makes: status and meaning."""

UPSTREAM_FAULTS: dict[UpstreamFault, tuple[int, str]] = {
    "connect": (502, "upstream_unreachable"),
    "timeout": (504, "upstream_timeout"),
    "protocol": (502, "upstream_invalid_response"),
    "too_large": (502, "upstream_response_too_large"),
    "unavailable": (503, "upstream_unavailable"),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """An error as it goes out: status, JSON body and the headers it needs.

    Attributes:
        event: its name, where it is an event of a stream.
    """

    status: int
    body: dict[str, Any]
    headers: dict[str, str]
    event: str = ""


def answer(error: BaseException, request_id: str) -> Answer:
    """The HTTP answer to an exception."""
    kind = next((kind for kind in type(error).__mro__ if kind in ERRORS), Exception)
    shape = ERRORS[kind]
    status, code = shape.status, shape.code
    if isinstance(error, UpstreamError):
        status, code = UPSTREAM_FAULTS[error.kind]
    message = shape.message or str(getattr(error, "message", ""))
    if status >= 500:
        message = f"{message} (request id {request_id})"
    headers = {} if shape.retry_after is None else {"retry-after": str(shape.retry_after)}
    if (wait := getattr(error, "retry_after", None)) is not None:
        headers["retry-after"] = str(wait)
    if isinstance(error, RateLimited) and (
        error.retry_after is None or isinstance(error, BudgetSpent)
    ):
        headers["x-should-retry"] = "false"  # the official clients wait for nothing otherwise
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    param = getattr(error, "param", None)
    return Answer(
        status, body(message, shape.type, getattr(error, "code", None) or code, param), headers
    )


def body(message: str, type: str, code: str | None, param: str | None = None) -> dict[str, Any]:
    """An error in OpenAI's shape."""
    return {"error": {"message": message, "type": type, "param": param, "code": code}}


def blocked(decision: Decision, message: str, decision_id: str, param: str = "messages") -> Answer:
    """A block with ``as: error``: Azure's shape, which clients parse already, and no retry."""
    cause = decision.cause
    result = {} if cause is None else {cause.label: {"filtered": True, "detected": True}}
    error = body(message, "invalid_request_error", "content_filter", param)
    error["error"]["innererror"] = {
        "code": "ResponsibleAIPolicyViolation",
        "content_filter_result": result,
    }
    error["error"]["doorman"] = {
        "decision_id": decision_id,
        "policy": cause.policy if cause else None,
        "rule": cause.rule if cause else None,
    }
    if (unread := decision.unscannable) is not None:
        error["error"]["code"] = "unscannable_content"
        del error["error"]["innererror"]
        error["error"]["doorman"] |= {"policy": unread.policy, "unscanned": unread.parts}
    return Answer(400, error, {"x-should-retry": "false"})
