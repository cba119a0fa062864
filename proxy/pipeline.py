"""The straight line from a request to its answer. Nothing reaches an upstream but through here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

import orjson

from classifiers.types import Classification, Stage, Text
from policies.decision import Decision, Reply
from policies.engine import evaluate, restorations
from proxy import errors, replies
from proxy.answered import from_cache, keep
from proxy.asgi import Responder, aside, log_unexpected
from proxy.endpoints import derived
from proxy.endpoints.base import Body, Endpoint, ReplyContext
from proxy.errors import NotFound
from proxy.exchange import CLIENT_LEFT_STATUS, Call, Exchange
from proxy.gateway import Gateway
from proxy.ids import random_id
from proxy.jsonbody import cut, splice
from proxy.moderated import FIELD, moderated
from proxy.sse import Event
from proxy.stream_pace import Pace
from proxy.streaming import StreamReport, guarded
from proxy.upstream_base import UpstreamReply, UpstreamStream

_UNDECIDED = Classification({})
_TURNS = ("messages", "input")
"""Fields of requests whose elements are turns."""
_MANY_TEXTS = 500
"""From here on texts are hashed for the record, and rules evaluated, off the event loop."""


async def handle(gateway: Gateway, call: Call, respond: Responder) -> None:
    """Guard one request, forward it or answer it here, and keep the record of it."""
    also = call.ticket.caller.grant.policies
    exchange = Exchange(call, gateway.policies.attached(call.model, call.key, also))
    call.ticket.meter = lambda: gateway.accounts.used(exchange)
    try:
        await _answer(gateway, exchange, respond)
    except Exception as error:
        exchange.failed(error)
        await respond.error(error, call.request_id, _headers_of_failure(gateway, exchange))
    else:
        exchange.completed()
    finally:
        exchange.status = respond.status or CLIENT_LEFT_STATUS
        gateway.ended(exchange)


def _headers_of_failure(gateway: Gateway, exchange: Exchange) -> dict[str, str]:
    """The headers of an error, which must leave whatever has failed."""
    try:
        return exchange.headers(gateway.accounts)
    except Exception as error:
        log_unexpected(error, exchange.call.request_id)
        return {}


async def _answer(gateway: Gateway, exchange: Exchange, respond: Responder) -> None:
    call = exchange.call
    await aside(len(call.raw), lambda: _read(gateway, exchange))
    _choose(gateway, exchange, call.model)
    _moderate(gateway, exchange)
    await gateway.admission.reserve(call.ticket, gateway.accounts.prompt(exchange))
    decision = await _decide(gateway, exchange, "input", exchange.texts, exchange.unscanned)
    if decision.reply is not None:
        await _reply_here(gateway, exchange, decision, decision.reply, respond)
        return
    if decision.route is not None:
        exchange.target = gateway.upstreams.resolve(decision.route)
    exchange.originals = restorations(exchange.texts, decision)
    # What was stored says nothing of a moderation that is asked for now.
    if not exchange.moderated and await from_cache(gateway, exchange, decision, respond):
        return
    body, raw = await aside(len(call.raw), lambda: _outgoing(exchange, decision))
    await gateway.decided(exchange, forwarded=True)
    if call.stream:
        await _stream(gateway, exchange, body, raw, respond)
    else:
        await _complete(gateway, exchange, body, raw, respond)


def _read(gateway: Gateway, exchange: Exchange) -> None:
    """Everything that walks the whole body."""
    call = exchange.call
    call.endpoint.validate(call.body)
    texts = call.endpoint.texts(call.body)
    exchange.texts = [*texts, *derived.across_turns(texts, exchange.policies.refusals)]
    exchange.unscanned = call.endpoint.unscanned(call.body)
    if len(exchange.texts) > _MANY_TEXTS and not gateway.accounts.redacts:
        exchange.content = gateway.accounts.content(exchange.texts)


def _choose(gateway: Gateway, exchange: Exchange, alias: str) -> None:
    caller = exchange.call.ticket.caller
    if alias not in gateway.aliases or not caller.may_call(alias):
        known = ", ".join(sorted(filter(caller.may_call, gateway.aliases)))
        raise NotFound(f"No such model here; there are: {known}.", "model", "model_not_found")
    exchange.asked = exchange.target = gateway.upstreams.resolve(alias)


def _moderate(gateway: Gateway, exchange: Exchange) -> None:
    """Let what the client asks for in the field ``moderation`` be done with the policies."""
    call = exchange.call
    asked = moderated(call.endpoint.name, call.body, gateway.engine.classifiers)
    if asked is not None:
        exchange.moderated = asked
        exchange.policies = asked.attached(exchange.policies)


async def _decide(
    gateway: Gateway,
    exchange: Exchange,
    stage: Stage,
    texts: Sequence[Text],
    unscanned: Sequence[str],
) -> Decision:
    """The decision of a stage. Raises Unavailable where a guard failed and that must stop it."""
    decision = await _check(gateway, exchange, stage, texts, unscanned)
    exchange.decisions[stage] = decision
    if decision.outcome == "error":
        raise gateway.undecided(decision)
    return decision


async def _check(
    gateway: Gateway,
    exchange: Exchange,
    stage: Stage,
    texts: Sequence[Text],
    unscanned: Sequence[str] = (),
) -> Decision:
    """Classify what some rule wants to know, and evaluate all rules."""
    names = exchange.classifiers(stage)
    rules = exchange.rules(stage)
    wanted = rules.in_scope(stage, texts) if names else []
    results = [_UNDECIDED] * len(texts)
    if wanted:
        with exchange.step(f"classify_{stage}"):
            own = [texts[i] for i in wanted]
            joined = rules.joined(own) if gateway.config.classifiers.first_look else None
            found = await gateway.classify([text.content for text in own], names, stage, joined)
        for index, result in zip(wanted, found, strict=True):
            results[index] = result
    if stage == "input":
        exchange.found = results

    def verdict() -> Decision:
        return evaluate(
            rules.policies,
            stage,
            texts,
            results,
            answerable=exchange.call.endpoint.speaks and _answerable(texts, exchange.unscanned),
            taken=exchange.originals.keys(),
            unscanned=unscanned,
        )

    with exchange.step(f"evaluate_{stage}"):
        return verdict() if len(texts) <= _MANY_TEXTS else await asyncio.to_thread(verdict)


def _answerable(texts: Sequence[Text], unscanned: Sequence[str]) -> bool:
    """Whether the newest turn was read in full: a picture's question is not for a canned answer."""
    newest = {text.turn for text in texts if text.last_turn}
    places = [where.split(".") for where in unscanned]
    turns = [int(at[1]) for at in places if at[0] in _TURNS and len(at) > 1 and at[1].isdigit()]
    return not any(turn in newest or turn > max(newest, default=-1) for turn in turns)


def _outgoing(exchange: Exchange, decision: Decision) -> tuple[Body, bytes | None]:
    """The body for upstream: the bytes that came in, but for what policies and aliases change."""
    call, target = exchange.call, exchange.target
    assert target is not None
    body, raw = call.body, call.raw
    if changes := replies.redacted(exchange.texts, decision):
        raw = splice(raw, changes)
        body = orjson.loads(raw)
    if exchange.moderated is not None:
        raw = cut(raw, {FIELD})
        body = orjson.loads(raw)
    for name, value in call.endpoint.resumed(body).items():
        raw = cut(raw, {name}) if value is None else splice(raw, {(name,): value})
        body = orjson.loads(raw)
    return target.outgoing(body, raw)


async def _reply_here(
    gateway: Gateway, exchange: Exchange, decision: Decision, reply: Reply, respond: Responder
) -> None:
    """Answer in the model's place: an operator's text, or an error in Azure's shape."""
    call = exchange.call
    await gateway.decided(exchange, forwarded=False)
    headers = exchange.headers(gateway.accounts)
    if reply.form == "error" or not call.endpoint.speaks:
        answer = errors.blocked(
            decision, reply.content, exchange.decision_id, call.endpoint.prompt_field
        )
        answer = call.endpoint.shaped(answer, call.request_id)
        await respond.json(answer.status, answer.body, {**headers, **answer.headers})
        return
    context, asked = _context(exchange), exchange.moderated
    if call.stream:
        events = b"".join(call.endpoint.answer_events(reply, context))
        if asked is not None:
            events = asked.into_stream(events, exchange.decisions)
        await respond.whole(200, events, headers, "text/event-stream; charset=utf-8")
    else:
        body = call.endpoint.answer(reply, context, usage=exchange.usage)
        if asked is not None:
            body = asked.into(body, exchange.decisions)
        await respond.json(200, body, headers)


def _context(exchange: Exchange) -> ReplyContext:
    call = exchange.call
    id = f"{call.endpoint.id_prefix}{random_id()}"
    context = call.endpoint.context(call.body, id=id, created=int(exchange.created))
    return replace(context, written=exchange.upstream_called)


async def _complete(
    gateway: Gateway, exchange: Exchange, body: Body, raw: bytes | None, respond: Responder
) -> None:
    target = exchange.target
    assert target is not None
    exchange.upstream_called = True
    with exchange.step("upstream"):
        call = exchange.call
        path = call.endpoint.upstream_path
        upstream = gateway.upstreams.caller(target, exchange.trail)
        headers = gateway.telemetry.carried(call.headers)
        reply = await upstream.complete(body, raw, headers, path=path)
    exchange.upstream_status = reply.status
    exchange.answered(reply.json)
    if reply.status >= 400:
        await _pass_on_error(gateway, exchange, reply, respond)
        return
    endpoint = call.endpoint.within(body)
    guarded = bool(exchange.classifiers("output"))
    size = len(reply.body)
    said = await aside(size, lambda: replies.read(endpoint, reply, guarded=guarded))
    exchange.usage, exchange.reply_chars = said.usage, said.chars
    exchange.unscanned += said.unread
    decision = await _decide(gateway, exchange, "output", said.texts, said.unread)
    if decision.reply is not None:
        await _reply_here(gateway, exchange, decision, decision.reply, respond)
        return
    out = await aside(
        size, lambda: replies.written(endpoint, said, reply.body, decision, exchange.originals)
    )
    await keep(gateway, exchange, out)
    if exchange.moderated is not None:
        out = exchange.moderated.into_bytes(out, exchange.decisions)
    await respond.whole(reply.status, out, _headers(gateway, exchange, reply.headers))


async def _stream(
    gateway: Gateway, exchange: Exchange, body: Body, raw: bytes | None, respond: Responder
) -> None:
    target, call = exchange.target, exchange.call
    assert target is not None
    exchange.upstream_called = True
    path = call.endpoint.upstream_path
    caller = gateway.upstreams.caller(target, exchange.trail)
    opening = caller.stream(body, raw, gateway.telemetry.carried(call.headers), path=path)
    async with AsyncExitStack() as stack:
        with exchange.step("upstream"):
            upstream = await stack.enter_async_context(opening)
        exchange.upstream_status = upstream.status
        if upstream.reply is not None:
            await _pass_on_error(gateway, exchange, upstream.reply, respond)
        else:
            await _pump(gateway, exchange, upstream, respond, call.endpoint.within(body))


async def _pump(
    gateway: Gateway,
    exchange: Exchange,
    upstream: UpstreamStream,
    respond: Responder,
    endpoint: Endpoint,
) -> None:
    """Pass a stream on through the guard; the head goes out with the first piece."""
    call, report = exchange.call, StreamReport()

    async def check(texts: Sequence[Text]) -> Decision:
        return await _check(gateway, exchange, "output", texts)

    pace = Pace.of(gateway.config.streaming, exchange.policies.on_streams)
    pieces = guarded(
        _waiting(exchange, aiter(upstream)),
        endpoint,
        check,
        _context(exchange),
        pace,
        restorations=exchange.originals,
        report=report,
        request_id=call.request_id,
        unread=lambda event: _unread(exchange, event),
        undecided=gateway.undecided,
    )
    # Closed here and now when the client leaves, so that the report is complete.
    try:
        async for piece in pieces:
            if first := respond.status is None:
                _report(exchange, report)
                kept = {
                    **_headers(gateway, exchange, upstream.headers),
                    "cache-control": "no-cache",
                }
                await respond.start(200, kept, "text/event-stream; charset=utf-8")
            if exchange.moderated is not None:
                _report(exchange, report)
                piece = exchange.moderated.into_stream(piece, exchange.decisions)
            if report.ended is not None:
                # Clients take the last event for the end, and ask again at once.
                _report(exchange, report)
                await respond.ending()
            with exchange.step("client"):
                await respond.chunk(piece)
                if first:
                    await asyncio.sleep(0)  # it leaves now, not when all that waits has been read
            exchange.sent(piece)
        _report(exchange, report)
        decision = report.decision
        if respond.status is None and decision is not None and decision.reply is not None:
            await _reply_here(gateway, exchange, decision, decision.reply, respond)
        else:
            # Said before the end is sent: once it is, the server takes the client for gone.
            if report.error is None:
                exchange.completed()
            await keep(gateway, exchange, None, ended=report.ended == "done")
            await respond.end()
    finally:
        await pieces.aclose()
        _report(exchange, report)
    if report.error is not None:
        exchange.failed(report.error)


def _unread(exchange: Exchange, event: Body) -> Decision | None:
    """What policies say of parts of an event that no classifier can read; None without new ones."""
    found = exchange.call.endpoint.reply_unscanned(event)
    new = [where for where in found if where not in exchange.unscanned]
    if not new:
        return None
    exchange.unscanned += new
    return evaluate(exchange.rules("output").policies, "output", [], [], unscanned=new)


def _report(exchange: Exchange, report: StreamReport) -> None:
    exchange.usage = report.usage
    exchange.reply_chars = report.text_chars
    exchange.exposed_chars = report.exposed_chars
    if report.decision is not None:
        exchange.decisions["output"] = report.decision


async def _waiting(exchange: Exchange, events: AsyncIterator[Event]) -> AsyncIterator[Event]:
    """The events of a stream; the time until each came counts as the upstream's."""
    while True:
        with exchange.step("upstream"):
            try:
                event = await anext(events)
            except StopAsyncIteration:
                return
        exchange.answered(event.json)
        yield event


async def _pass_on_error(
    gateway: Gateway, exchange: Exchange, reply: UpstreamReply, respond: Responder
) -> None:
    """An error status of the upstream; its body has OpenAI's shape by now."""
    answer = errors.Answer(reply.status, reply.json or {}, {})
    shaped = exchange.call.endpoint.shaped(answer, exchange.call.request_id)
    body = reply.body if shaped is answer else orjson.dumps(shaped.body)
    await respond.whole(reply.status, body, _headers(gateway, exchange, reply.headers))


def _headers(gateway: Gateway, exchange: Exchange, upstream: Mapping[str, str]) -> dict[str, str]:
    """Upstream's headers below the gateway's own."""
    return {**upstream, **exchange.headers(gateway.accounts)}
