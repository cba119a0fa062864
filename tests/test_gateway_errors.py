"""Every exception has its answer, in OpenAI's shape."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from pathlib import Path
from typing import get_args

import pytest

import classifiers.worker
import proxy
from classifiers.engine import EngineClosed, Overloaded
from policies.decision import Cause, Decision
from proxy import errors
from proxy.errors import (
    CODES,
    ERRORS,
    UPSTREAM_FAULTS,
    InvalidRequest,
    Unauthorized,
    UpstreamError,
    UpstreamFault,
)

NOT_FOR_CLIENTS = {
    "proxy.http_connection.HttpFault": "the upstream turns it into UpstreamError",
    "proxy.yaml_source.ConfigError": "raised before the gateway starts",
    "proxy.commands.output.CommandError": "the command line's own",
    "proxy.backtests.spread.WorkerDied": "ends the run; the command and the job say so",
    "proxy.backtests.job.Stopped": "ends the job, which says so",
    "proxy.dashboard.access.Closed": "a Forbidden, answered as one",
    "proxy.dashboard.access.LoggedOut": "an Unauthorized: the dashboard sends the browser to its form",
    "proxy.feedback.loop._Rehearsed": "never leaves rehearse()",
    "proxy.feedback.trainer.TrainingFailed": "the job that failed tells it",
    "proxy.jsonbody._RepeatedKey": "never leaves parse()",
    "proxy.limits.CountersAway": "the admission turns it into Unavailable",
    "proxy.fallbacks.OutOfTime": "an UpstreamError, answered as one",
    "proxy.ledgers.database.Away": "the ledger turns it into Unavailable",
    "proxy.ledgers.feedback.Changed": "the command line says so",
    "proxy.ledgers.database.Newer": "never leaves migrate()",
    "proxy.ledgers.database.Refused": "the ledger turns it into Unavailable",
    "proxy.sse.SseError": "the upstream turns it into UpstreamError",
}


def exceptions_of_the_proxy() -> set[type[Exception]]:
    found: set[type[Exception]] = set()
    for info in pkgutil.walk_packages(proxy.__path__, "proxy."):
        if info.name == "proxy.migrations.env":
            continue  # it is no module: Alembic runs it
        for value in vars(importlib.import_module(info.name)).values():
            if (
                isinstance(value, type)
                and issubclass(value, Exception)
                and value.__module__ == info.name
            ):
                found.add(value)
    return found


def test_every_exception_is_mapped() -> None:
    mine = {
        kind
        for kind in exceptions_of_the_proxy()
        if f"{kind.__module__}.{kind.__qualname__}" not in NOT_FOR_CLIENTS
    }
    engine = {
        value
        for value in vars(classifiers.worker).values()
        if isinstance(value, type)
        and issubclass(value, Exception)
        and value.__module__ == "classifiers.worker"
    }
    assert InvalidRequest in mine
    assert Overloaded in engine
    assert mine | engine <= set(ERRORS)


def test_every_code_is_in_the_tables() -> None:
    """Literal codes in calls of the exceptions: the last argument, where all of them are given."""
    places = {"InvalidRequest": 2, "NotFound": 2, "TooLarge": 2, "Unavailable": 1}
    used: set[tuple[str, str]] = set()
    for path in Path(proxy.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                place = places.get(node.func.id, 99)
                given = [*node.args[place:], *(k.value for k in node.keywords if k.arg == "code")]
                used |= {(node.func.id, v.value) for v in given if isinstance(v, ast.Constant)}
    assert used == {(kind.__name__, code) for code, (kind, _) in CODES.items()}


def test_every_kind_of_upstream_error_is_mapped() -> None:
    assert set(UPSTREAM_FAULTS) == set(get_args(UpstreamFault))


ANSWERS = [
    (InvalidRequest("wrong", "n", "bad_n"), 400, "invalid_request_error", "bad_n"),
    (Unauthorized("no key"), 401, "invalid_request_error", "invalid_api_key"),
    (UpstreamError("timeout", "slow"), 504, "server_error", "upstream_timeout"),
    (UpstreamError("connect", "down"), 502, "server_error", "upstream_unreachable"),
    (Overloaded("4096 wait"), 503, "server_error", "overloaded"),
    (EngineClosed("closed"), 503, "server_error", "shutting_down"),
    (RuntimeError("user said: xyzzy"), 500, "server_error", "internal_error"),
]


@pytest.mark.parametrize(("error", "status", "type", "code"), ANSWERS)
def test_answers(error: Exception, status: int, type: str, code: str) -> None:
    answer = errors.answer(error, "req_1")
    assert answer.status == status
    assert set(answer.body["error"]) == {"message", "type", "param", "code"}
    assert answer.body["error"]["type"] == type
    assert answer.body["error"]["code"] == code
    assert "xyzzy" not in str(answer.body)
    assert ("req_1" in answer.body["error"]["message"]) == (status >= 500)


def test_overload_says_when_to_come_back() -> None:
    assert errors.answer(Overloaded(""), "req_1").headers["retry-after"] == "1"


def test_a_block_as_error_has_the_shape_that_clients_parse() -> None:
    cause = Cause(
        "front@3",
        "no-attacks",
        "block",
        True,
        "guard@1",
        "hate",
        0.9,
        0.5,
        0,
        ("messages", 0),
        "user",
    )
    answer = errors.blocked(Decision("input", "block", cause), "No.", "dec_1")
    assert answer.status == 400
    assert answer.headers == {"x-should-retry": "false"}
    assert answer.body == {
        "error": {
            "message": "No.",
            "type": "invalid_request_error",
            "param": "messages",
            "code": "content_filter",
            "innererror": {
                "code": "ResponsibleAIPolicyViolation",
                "content_filter_result": {"hate": {"filtered": True, "detected": True}},
            },
            "doorman": {"decision_id": "dec_1", "policy": "front@3", "rule": "no-attacks"},
        }
    }
