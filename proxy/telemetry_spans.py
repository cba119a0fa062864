"""What the spans and metrics of a finished request say. Pure; no texts, no names that clients chose."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from classifiers.types import Stage
from policies.decision import Decision
from proxy.exchange import Exchange
from proxy.ledger import Record
from proxy.telemetry import Measured, Span, Trace, random_id
from proxy.telemetry_names import (
    CLASSIFY_SPAN,
    DURATION,
    FIRST_CHUNK,
    GUARD_SPAN,
    OPERATIONS,
    PROVIDERS,
    REQUEST_SPAN,
    STEP_SPAN,
    TRY_EVENT,
    UPSTREAM_SPAN,
    USAGE,
)

_METHODS = frozenset("CONNECT DELETE GET HEAD OPTIONS PATCH POST PUT QUERY TRACE".split())
STEPS = ("cache", "ledger")
"""Steps that are spans of their own, below that of the request."""


def spans_of(trace: Trace, method: str, route: str | None, status: int) -> list[Span]:
    """The span of a request, and one for each thing that was done for it."""
    method = method if method in _METHODS else "_OTHER"
    children = [] if trace.exchange is None else list(_children(trace, trace.exchange))
    attributes = {
        "http.request.method": method,
        "http.route": route,
        "http.response.status_code": status,
        "error.type": str(status) if status >= 500 else None,
        **(_outcome(trace.exchange, trace.record) if trace.exchange and trace.record else {}),
    }
    own = Span(
        REQUEST_SPAN.format(method=method, route=route).strip() if route else method,
        "server",
        trace.trace_id,
        trace.span_id,
        trace.parent_id,
        trace.began,
        max([trace.now(), *(child.end for child in children)]),
        _known(attributes),
        error=status >= 500,
        remote=True,
    )
    return [own, *children]


def measured_of(trace: Trace) -> list[Measured]:
    """Values of the metrics; none where no model was asked."""
    exchange, record = trace.exchange, trace.record
    took = None if exchange is None else exchange.spans.get("upstream")
    if exchange is None or record is None or took is None or not record.upstream_called:
        return []
    common = _known(_model(exchange, record) | {"error.type": _fault(record)})
    found = [Measured(DURATION, took[1] - took[0], common)]
    if record.tokens is not None and record.tokens.basis == "upstream":
        for kind, count in (("input", record.tokens.prompt), ("output", record.tokens.completion)):
            found.append(Measured(USAGE, count, {**common, "gen_ai.token.type": kind}))
    if (first := _first_chunk(record)) is not None:
        found.append(Measured(FIRST_CHUNK, first, common))
    return found


def _outcome(exchange: Exchange, record: Record) -> dict[str, Any]:
    return {
        "doorman.decision_id": record.decision_id,
        "doorman.action": record.action,
        "doorman.key": record.key,
        "doorman.model": record.model,
        "doorman.ended": record.ended,
        "doorman.overhead_ms": record.milliseconds.get("overhead"),
        "doorman.cost_usd": record.cost_usd,
        "doorman.saved_usd": record.saved_usd,
        **_cause(exchange.deciding),
    }


def _cause(decision: Decision | None) -> dict[str, Any]:
    cause = None if decision is None else decision.cause
    unread = None if decision is None else decision.unscannable
    if cause is None:
        return {"doorman.policy": unread.policy if unread else None}
    return {
        "doorman.policy": cause.policy,
        "doorman.rule": cause.rule,
        "doorman.classifier": cause.classifier,
        "doorman.label": cause.label,
    }


def _children(trace: Trace, exchange: Exchange) -> Iterator[Span]:
    for stage in ("input", "output"):
        yield from _guard(trace, exchange, stage)
    for step in STEPS:
        if step in exchange.spans:
            yield _span(trace, step, STEP_SPAN.format(step=step), {})
    record = trace.record
    if record is not None and "upstream" in exchange.spans:
        yield _upstream(trace, exchange, record)


def _guard(trace: Trace, exchange: Exchange, stage: Stage) -> Iterator[Span]:
    """The span of a stage, and below it that of its classifiers."""
    steps = [s for s in (f"classify_{stage}", f"evaluate_{stage}") if s in exchange.spans]
    if not steps:
        return
    decision = exchange.decisions.get(stage)
    attributes = {
        "gen_ai.operation.name": "apply_guardrail",
        "gen_ai.provider.name": "doorman",
        "doorman.stage": stage,
        "doorman.action": None if decision is None else decision.outcome,
        "doorman.shadow": len(decision.shadow) if decision else None,
        "doorman.errors": len(decision.errors) if decision else None,
        **_cause(decision),
    }
    times = [exchange.spans[step] for step in steps]
    id = random_id(8)
    name = GUARD_SPAN.format(stage=stage)
    within = (min(start for start, _ in times), max(end for _, end in times))
    failed = decision is None or decision.outcome == "error"
    yield Span(
        name, "internal", trace.trace_id, id, trace.span_id,
        trace.at(within[0]), trace.at(within[1]), _known(attributes), error=failed,
    )  # fmt: skip
    if (step := f"classify_{stage}") in exchange.spans:
        told = {"doorman.stage": stage, "doorman.classifiers": sorted(exchange.classifiers(stage))}
        yield _span(trace, step, CLASSIFY_SPAN.format(stage=stage), told, parent=id)


def _upstream(trace: Trace, exchange: Exchange, record: Record) -> Span:
    """The span of the call to a model, with all its tries."""
    start, end = exchange.spans["upstream"]
    tokens, fault = record.tokens, _fault(record)
    attributes = {
        **_model(exchange, record),
        "error.type": fault,
        "gen_ai.request.stream": record.stream or None,
        "gen_ai.usage.input_tokens": tokens.prompt if tokens else None,
        "gen_ai.usage.output_tokens": tokens.completion if tokens else None,
        "doorman.tokens.basis": tokens.basis if tokens else None,
        "gen_ai.response.time_to_first_chunk": _first_chunk(record),
        "doorman.busy_ms": round(exchange.seconds["upstream"] * 1000, 3),
    }
    events = []
    at = start
    for tried in record.attempts:
        at += tried.seconds
        told = {
            "doorman.try.alias": tried.alias,
            "gen_ai.request.model": tried.model,
            "doorman.try.outcome": tried.outcome,
            "doorman.try.seconds": round(tried.seconds, 6),
        }
        events.append((TRY_EVENT, trace.at(min(at, end)), told))
    name = UPSTREAM_SPAN.format(
        operation=attributes["gen_ai.operation.name"], model=attributes["gen_ai.request.model"]
    )
    return Span(
        name, "client", trace.trace_id, trace.upstream_id, trace.span_id,
        trace.at(start), trace.at(end), _known(attributes), error=fault is not None, events=events,
    )  # fmt: skip


def _model(exchange: Exchange, record: Record) -> dict[str, Any]:
    provider = record.provider or "doorman"
    return {
        "gen_ai.operation.name": OPERATIONS.get(record.endpoint, record.endpoint),
        "gen_ai.provider.name": PROVIDERS.get(provider, provider),
        "gen_ai.request.model": record.upstream_model or record.model,
        "gen_ai.response.model": exchange.reply_model,
    }


def _fault(record: Record) -> str | None:
    """Why the last try failed; None if it did not."""
    if not record.attempts:
        return None
    outcome = record.attempts[-1].outcome
    return None if outcome.startswith("2") else outcome


def _first_chunk(record: Record) -> float | None:
    if not record.stream or not record.attempts or _fault(record) is not None:
        return None
    return record.attempts[-1].seconds


def _span(
    trace: Trace, step: str, name: str, attributes: Mapping[str, Any], parent: int = 0
) -> Span:
    assert trace.exchange is not None
    start, end = trace.exchange.spans[step]
    told = {**attributes, "doorman.busy_ms": round(trace.exchange.seconds[step] * 1000, 3)}
    return Span(
        name, "internal", trace.trace_id, random_id(8), parent or trace.span_id,
        trace.at(start), trace.at(end), told,
    )  # fmt: skip


def _known(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}
