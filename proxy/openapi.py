"""``GET /openapi.json``: what the gateway serves, in OpenAPI 3.1, made from one table.

Schemas say what the gateway itself asks of a request; what the model's server asks besides is left to
it, so further fields are allowed everywhere.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from proxy.decisions_request import MAX_QUESTIONS, OPTIONS
from proxy.endpoints import chat_request, messages_request
from proxy.endpoints.prompts import MAX_PROMPTS
from proxy.endpoints.responses_request import SOURCES
from proxy.feedback.request import VERDICTS
from proxy.ledgers.feedback import STATES
from proxy.local import MAX_INPUTS

Schema = dict[str, Any]


def _object(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    found: Schema = {"type": "object", "properties": properties}
    return {**found, "required": list(required)} if required else found


def _one_of(*options: Schema) -> Schema:
    return {"anyOf": list(options)}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _list(of: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": of, **more}


STRING: Schema = {"type": "string"}
BOOLEAN: Schema = {"type": "boolean"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 0}
OBJECT: Schema = {"type": "object"}
MODEL: Schema = {
    "type": "string",
    "minLength": 1,
    "description": "an alias of the configuration, see GET /v1/models",
}
STREAM: Schema = {"type": "boolean", "description": "answer with server-sent events"}
TEXTS: Schema = _one_of(STRING, _list(STRING, minItems=1, maxItems=MAX_INPUTS))
PROMPTS: Schema = _one_of(STRING, _list(STRING, minItems=1, maxItems=MAX_PROMPTS))

SCHEMAS: Mapping[str, Schema] = {
    "Error": _object(
        ("error",),
        error=_object(
            ("message", "type", "param", "code"),
            message=STRING,
            type=STRING,
            param={"type": ["string", "null"]},
            code={"type": ["string", "null"]},
        ),
    ),
    "MessagesError": _object(
        ("type", "error"),
        type={"const": "error"},
        error=_object(("type", "message"), type=STRING, message=STRING),
    ),
    "Message": _object(
        ("role",),
        role={"enum": sorted(chat_request.ROLES)},
        content=_one_of(STRING, _list(OBJECT), {"type": "null"}),
        name=STRING,
        tool_calls=_list(OBJECT),
        tool_call_id=STRING,
    ),
    "Model": _object(
        ("id", "object", "created", "owned_by"),
        id=STRING,
        object={"const": "model"},
        created=COUNT,
        owned_by=STRING,
    ),
    "Prediction": _object(
        ("classifier", "label", "score", "threshold", "match"),
        classifier=STRING,
        label=STRING,
        score={"type": "number", "minimum": 0, "maximum": 1},
        threshold={"type": ["number", "null"]},
        match=BOOLEAN,
        span=_object(("start", "end"), start=COUNT, end=COUNT),
    ),
    "Moderation": _object(
        ("flagged", "categories", "category_scores", "category_applied_input_types"),
        flagged=BOOLEAN,
        categories={"type": "object", "additionalProperties": BOOLEAN},
        category_scores={"type": "object", "additionalProperties": NUMBER},
        category_applied_input_types=OBJECT,
    ),
}


@dataclass(frozen=True, slots=True)
class Operation:
    """One path of the document.

    Attributes:
        summary: what it does, in a line.
        request: schema of the body, None for GET.
        reply: schema of a 200 that is JSON; an empty one where the model's server decides.
        stream: a 200 may be server-sent events.
        forwarded: a model's server answers.
        error: name of the schema of errors.
        open: needs no key, and takes part in nothing else.
        media: content type of a 200 that is not JSON.
        parameter: name of the parameter in the path.
        statuses: further statuses that it answers with.
        unready: its 503 has the form of its 200.
    """

    summary: str
    request: Schema | None = None
    reply: Schema | None = None
    stream: bool = False
    forwarded: bool = False
    error: str = "Error"
    open: bool = False
    media: str = "application/json"
    parameter: str = ""
    statuses: tuple[int, ...] = ()
    unready: bool = False

    @property
    def method(self) -> str:
        """``get`` or ``post``."""
        return "get" if self.request is None else "post"


OPERATIONS: Mapping[str, Operation] = {
    "/v1/chat/completions": Operation(
        "Chat completions, guarded and forwarded.",
        _object(
            ("model", "messages"),
            model=MODEL,
            messages=_list(_ref("Message"), minItems=1),
            stream=STREAM,
            stream_options=_object(include_usage=BOOLEAN),
            n={"type": "integer", "minimum": 1, "maximum": chat_request.MAX_CHOICES},
            tools=_list(OBJECT),
        ),
        OBJECT,
        stream=True,
        forwarded=True,
    ),
    "/v1/completions": Operation(
        "Completions of a prompt, guarded and forwarded.",
        _object(("model",), model=MODEL, prompt=_one_of(PROMPTS, {"type": "null"}), stream=STREAM),
        OBJECT,
        stream=True,
        forwarded=True,
    ),
    "/v1/embeddings": Operation(
        "Embeddings of texts, guarded and forwarded.",
        _object(("model", "input"), model=MODEL, input=PROMPTS),
        OBJECT,
        forwarded=True,
    ),
    "/v1/responses": Operation(
        "Responses, guarded and forwarded.",
        {
            **_object(
                ("model",),
                model=MODEL,
                input=_one_of(STRING, _list(OBJECT)),
                previous_response_id=STRING,
                prompt=OBJECT,
                conversation=_one_of(STRING, OBJECT),
                stream=STREAM,
            ),
            **_one_of(*({"required": [name]} for name in SOURCES)),
        },
        OBJECT,
        stream=True,
        forwarded=True,
    ),
    "/v1/messages": Operation(
        "Anthropic's messages, guarded and forwarded.",
        _object(
            ("model", "messages", "max_tokens"),
            model=MODEL,
            messages=_list(
                _object(
                    ("role", "content"),
                    role={"enum": list(messages_request.ROLES)},
                    content=_one_of(STRING, _list(OBJECT)),
                ),
                minItems=1,
            ),
            max_tokens={"type": "integer", "minimum": 1},
            stream=STREAM,
        ),
        OBJECT,
        stream=True,
        forwarded=True,
        error="MessagesError",
    ),
    "/v1/moderations": Operation(
        "Scores texts in the categories of the public moderation interface; answered here.",
        _object(
            ("input",),
            input=_one_of(TEXTS, _list(_object(("type", "text"), type={"const": "text"}, text=STRING))),
            model=STRING,
        ),
        _object(
            ("id", "model", "results"), id=STRING, model=STRING, results=_list(_ref("Moderation"))
        ),
    ),
    "/v1/decisions": Operation(
        "Typed questions about a text; answered here.",
        _object(
            ("model", "input", "questions"),
            model={"type": "string", "description": "doorman/auto takes what fits each question"},
            input=_one_of(STRING, _list(OBJECT, minItems=1)),
            questions=_list(
                _object(
                    ("type",),
                    type={"enum": ["predicate", "choice", "score"]},
                    name=STRING,
                    instructions=STRING,
                    choices=_list(OBJECT, minItems=2, maxItems=OPTIONS["choice"][2]),
                    levels=_list(OBJECT, minItems=2, maxItems=OPTIONS["score"][2]),
                ),
                minItems=1,
                maxItems=MAX_QUESTIONS,
            ),
        ),
        _object(
            ("model", "answers", "usage"), model=STRING, answers=_list(OBJECT), usage=OBJECT
        ),
    ),
    "/v1/classify": Operation(
        "Every prediction on every text; answered here.",
        _object(
            ("input",),
            input=_one_of(TEXTS, _list(_ref("Message"), minItems=1, maxItems=MAX_INPUTS)),
            classifiers=_list(STRING),
            explain=BOOLEAN,
        ),
        _object(
            ("object", "data", "classifiers", "timings"),
            object={"const": "list"},
            data=_list(
                _object(
                    ("index", "cached", "predictions", "errors"),
                    index=COUNT,
                    cached=BOOLEAN,
                    predictions=_list(_ref("Prediction")),
                    errors=OBJECT,
                )
            ),
            classifiers=OBJECT,
            timings=OBJECT,
        ),
    ),
    "/v1/feedback": Operation(
        "Says that a decision was correct or wrong; answered here.",
        _object(
            ("decision_id", "verdict"),
            decision_id={"type": "string", "description": "of the header x-doorman-decision-id"},
            verdict={"enum": list(VERDICTS)},
            classifier=STRING,
            label=_one_of(STRING, _list(STRING), {"type": "null"}),
            text=STRING,
            comment=STRING,
        ),
        _object(
            ("object", "id", "decision_id", "verdict", "state"),
            object={"const": "feedback"},
            id=COUNT,
            decision_id=STRING,
            verdict={"enum": list(VERDICTS)},
            state={"enum": list(STATES)},
            classifier=STRING,
            label=_one_of(_list(STRING), {"type": "null"}),
        ),
    ),
    "/v1/models": Operation(
        "The models that clients may call, and the classifiers.",
        reply=_object(("object", "data"), object={"const": "list"}, data=_list(_ref("Model"))),
    ),
    "/v1/models/{id}": Operation(
        "One of the models.", reply=_ref("Model"), parameter="id", statuses=(404,)
    ),
    "/metrics": Operation("Prometheus.", reply={}, media="text/plain", statuses=(403,)),
    "/health": Operation("The process is up.", reply=_object(("status",), status=STRING), open=True),
    "/ready": Operation(
        "Classifiers and policies are loaded.",
        reply=_object(("status",), status=STRING),
        open=True,
        unready=True,
    ),
    "/openapi.json": Operation("This document.", reply=OBJECT, open=True),
}  # fmt: skip
"""Path -> what is said of it. A test holds it against the routes."""

STATUSES: Mapping[int, str] = {
    400: "The request cannot be understood, or a policy blocked it with `as: error`.",
    401: "No client key, or a wrong one.",
    403: "The client key may not do this.",
    404: "No such model.",
    408: "The request did not come in time.",
    413: "The request is too large.",
    415: "The body is not plain JSON.",
    429: "A limit or the budget of the client key is used up.",
    431: "The head of the request is too large.",
    503: "No verdict can be given now, or the gateway is busy, starting or stopping; retry.",
}
BODY_STATUSES = (403, 404, 408, 413, 415, 429)
UPSTREAM_STATUSES: Mapping[int, str] = {
    502: "The model's server gave no usable answer.",
    504: "The model's server did not answer in time.",
}


@functools.cache
def document() -> Schema:
    """The document. Do not change it: it is made once."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Doorman",
            "version": metadata.version("doorman"),
            "description": "A gateway in front of LLM APIs. Paths that are not listed are 404.",
        },
        "paths": {path: {op.method: _operation(op)} for path, op in OPERATIONS.items()},
        "components": {
            "schemas": dict(SCHEMAS),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(op: Operation) -> Schema:
    good: Schema = {op.media: {"schema": op.reply}}
    if op.stream:
        good["text/event-stream"] = {"schema": STRING}
    replies: Schema = {"200": {"description": "Done.", "content": good}}
    error = {"application/json": {"schema": _ref(op.error)}}
    for status, what in _failures(op).items():
        replies[str(status)] = {"description": what, "content": error}
    if op.forwarded:
        replies["default"] = {"description": "What the model's server says.", "content": error}
    if op.unready:
        replies["503"] = {"description": "Not yet.", "content": good}
    found: Schema = {"summary": op.summary, "responses": replies}
    if op.request is not None:
        content = {"application/json": {"schema": op.request}}
        found["requestBody"] = {"required": True, "content": content}
    if op.parameter:
        place = {"name": op.parameter, "in": "path", "required": True, "schema": STRING}
        found["parameters"] = [place]
    if not op.open:
        found["security"] = [
            {"key": []},
            {},
        ]  # without `keys` in the configuration anybody may call
    return found


def _failures(op: Operation) -> dict[int, str]:
    found = {400: STATUSES[400], 431: STATUSES[431]}
    if op.open:
        return found
    wanted = {400, 401, 431, 503, *op.statuses, *(BODY_STATUSES if op.request is not None else ())}
    found = {status: what for status, what in STATUSES.items() if status in wanted}
    return {**found, **UPSTREAM_STATUSES} if op.forwarded else found
