"""The straight line from a request to its answer. Nothing reaches an upstream but through here."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from itertools import groupby

import orjson

from classifiers.types import Classification, Stage, Text
from policies import json_source
from policies.decision import Decision, Reply
from policies.engine import apply_redactions, evaluate, restorations, restore
from policies.json_source import is_document
from proxy import errors
from proxy.asgi import Responder, aside, log_unexpected
from proxy.endpoints.base import Body, ReplyContext, put_string
from proxy.errors import NotFound, Unavailable, UpstreamError
from proxy.exchange import CLIENT_LEFT_STATUS, Call, Exchange
from proxy.gateway import Gateway
from proxy.jsonbody import splice
from proxy.sse import Event
from proxy.streaming import StreamReport, guarded
from proxy.upstream_base import UpstreamReply, UpstreamStream

_UNDECIDED = Classification({})
_HEAD_SECONDS = 10.0
"""How long the head of a guarded stream waits for the first text; longer, and clients take the
gateway for dead."""
_MANY_TEXTS = 500
"""From here on texts are hashed for the record, and rules evaluated, off the event loop."""


async def handle(gateway: Gateway, call: Call, respond: Responder) -> None:
    """Guard one request, forward it or answer it here, and keep the record of it."""
    exchange = Exchange(call, gateway.policies.attached(call.model, call.key))
    try:
        await _answer(gateway, exchange, respond)
    except Exception as error:
        exchange.failed(error)
        await respond.error(error, call.request_id, _headers_of_failure(gateway, exchange))
    else:
        exchange.completed()
    finally:
        exchange.status = respond.status or CLIENT_LEFT_STATUS
        try:
            gateway.account(exchange)
        except Exception as error:
            log_unexpected(error, call.request_id)  # the client has its answer


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
    decision = await _decide(gateway, exchange, "input", exchange.texts)
    if decision.reply is not None:
        await _reply_here(gateway, exchange, decision, decision.reply, respond)
        return
    if decision.route is not None:
        exchange.target = gateway.upstreams.resolve(decision.route)
    exchange.originals = restorations(exchange.texts, decision)
    body, raw = await aside(len(call.raw), lambda: _outgoing(exchange, decision))
    if call.stream:
        await _stream(gateway, exchange, body, raw, respond)
    else:
        await _complete(gateway, exchange, body, raw, respond)


def _read(gateway: Gateway, exchange: Exchange) -> None:
    """Everything that walks the whole body."""
    call = exchange.call
    call.endpoint.validate(call.body)
    exchange.texts = call.endpoint.texts(call.body)
    exchange.unscanned = call.endpoint.unscanned(call.body)
    if len(exchange.texts) > _MANY_TEXTS:
        exchange.content = gateway.accounts.content(exchange.texts)


def _choose(gateway: Gateway, exchange: Exchange, alias: str) -> None:
    if alias not in gateway.aliases:
        known = ", ".join(sorted(gateway.aliases))
        raise NotFound(f"No such model here; there are: {known}.", "model", "model_not_found")
    exchange.asked = exchange.target = gateway.upstreams.resolve(alias)


async def _decide(
    gateway: Gateway, exchange: Exchange, stage: Stage, texts: Sequence[Text]
) -> Decision:
    """The decision of a stage. Raises Unavailable where a guard failed and that must stop it."""
    decision = await _check(gateway, exchange, stage, texts)
    exchange.decisions[stage] = decision
    if decision.outcome == "error":
        raise Unavailable("A safety check could not be completed; nothing was decided. Retry.")
    return decision


async def _check(
    gateway: Gateway, exchange: Exchange, stage: Stage, texts: Sequence[Text]
) -> Decision:
    """Classify what some rule wants to know, and evaluate all rules."""
    names = exchange.classifiers(stage)
    wanted = exchange.policies.in_scope(stage, texts) if names else []
    results = [_UNDECIDED] * len(texts)
    if wanted:
        with exchange.step(f"classify_{stage}"):
            found = await gateway.classify([texts[i].content for i in wanted], names, stage)
        for index, result in zip(wanted, found, strict=True):
            results[index] = result

    def verdict() -> Decision:
        return evaluate(
            exchange.policies.policies,
            stage,
            texts,
            results,
            answerable=_answerable(texts, exchange.unscanned),
            taken=exchange.originals.keys(),
        )

    with exchange.step(f"evaluate_{stage}"):
        return verdict() if len(texts) <= _MANY_TEXTS else await asyncio.to_thread(verdict)


def _answerable(texts: Sequence[Text], unscanned: Sequence[str]) -> bool:
    """Whether the newest turn was read in full: a picture's question is not for a canned answer."""
    newest = {text.turn for text in texts if text.last_turn}
    turns = [int(where.split(".")[1]) for where in unscanned if where.startswith("messages.")]
    return not any(turn in newest or turn > max(newest, default=-1) for turn in turns)


def _outgoing(exchange: Exchange, decision: Decision) -> tuple[Body, bytes | None]:
    """The body for upstream: the bytes that came in, but for what policies and aliases change."""
    call, target = exchange.call, exchange.target
    assert target is not None
    body, raw = call.body, call.raw
    if changes := _redacted(exchange.texts, decision):
        raw = splice(raw, changes)
        body = orjson.loads(raw)
    return target.outgoing(body, raw)


def _redacted(texts: Sequence[Text], decision: Decision) -> dict[tuple[str | int, ...], str]:
    """What the redacted texts become, by address."""
    changes = {}
    # They are sorted by text.
    for index, own in groupby(decision.redactions, key=lambda redaction: redaction.text):
        content = texts[index].content
        apply = json_source.apply_redactions if is_document(content) else apply_redactions
        changes[texts[index].address] = apply(content, own)
    return changes


async def _reply_here(
    gateway: Gateway, exchange: Exchange, decision: Decision, reply: Reply, respond: Responder
) -> None:
    """Answer in the model's place: an operator's text, or an error in Azure's shape."""
    call = exchange.call
    headers = exchange.headers(gateway.accounts)
    if reply.form == "error":
        answer = errors.blocked(decision, reply.content, exchange.decision_id)
        await respond.json(answer.status, answer.body, {**headers, **answer.headers})
        return
    context = _context(exchange)
    if call.stream:
        events = call.endpoint.answer_events(reply, context)
        await respond.whole(200, b"".join(events), headers, "text/event-stream; charset=utf-8")
    else:
        await respond.json(200, call.endpoint.answer(reply, context, usage=exchange.usage), headers)


def _context(exchange: Exchange) -> ReplyContext:
    call = exchange.call
    return call.endpoint.context(
        call.body, id=f"chatcmpl-{secrets.token_hex(12)}", created=int(exchange.created)
    )


async def _complete(
    gateway: Gateway, exchange: Exchange, body: Body, raw: bytes | None, respond: Responder
) -> None:
    target = exchange.target
    assert target is not None
    exchange.upstream_called = True
    with exchange.step("upstream"):
        reply = await target.upstream.complete(body, raw, exchange.call.headers)
    exchange.upstream_status = reply.status
    if reply.status >= 400:
        await _pass_on_error(gateway, exchange, reply, respond)
        return
    if reply.json is None:
        raise UpstreamError("protocol", "The model's server sent no JSON object.")
    endpoint = exchange.call.endpoint
    guards = bool(exchange.classifiers("output"))
    if guards and not endpoint.sound(reply.json):
        raise UpstreamError("protocol", "The model's server sent a reply of unknown shape.")
    exchange.usage = endpoint.usage(reply.json)
    texts = endpoint.reply_texts(reply.json)
    exchange.reply_chars = sum(len(text.content) for text in texts if not text.derived)
    decision = await _decide(gateway, exchange, "output", texts)
    if decision.reply is not None:
        await _reply_here(gateway, exchange, decision, decision.reply, respond)
        return
    changes = _redacted(texts, decision)
    for text in texts:
        if text.derived:
            continue
        content = changes.get(text.address, text.content)
        within = endpoint.is_json(text.address) or _is_document(content)
        restored = _restored(content, exchange, is_json=within)
        if restored != content:
            changes[text.address] = restored
    for address, content in changes.items():
        put_string(reply.json, address, content)
        endpoint.scrub(reply.json, address)
    if guards:
        endpoint.strip(reply.json)
    # Written anew even if nothing changed: bytes can say more than was parsed, such as a key twice.
    out = orjson.dumps(reply.json) if changes or guards else reply.body
    await respond.whole(reply.status, out, _headers(gateway, exchange, reply.headers))


async def _stream(
    gateway: Gateway, exchange: Exchange, body: Body, raw: bytes | None, respond: Responder
) -> None:
    target, call = exchange.target, exchange.call
    assert target is not None
    exchange.upstream_called = True
    opening = target.upstream.stream(body, raw, call.headers)
    async with AsyncExitStack() as stack:
        with exchange.step("upstream"):
            upstream = await stack.enter_async_context(opening)
        exchange.upstream_status = upstream.status
        if upstream.reply is not None:
            await _pass_on_error(gateway, exchange, upstream.reply, respond)
        else:
            await _pump(gateway, exchange, upstream, respond)


async def _pump(
    gateway: Gateway, exchange: Exchange, upstream: UpstreamStream, respond: Responder
) -> None:
    """Pass a stream on through the guard; the head goes out with the first piece."""
    call, report = exchange.call, StreamReport()

    async def check(texts: Sequence[Text]) -> Decision:
        return await _check(gateway, exchange, "output", texts)

    options = gateway.config.streaming
    # Without a rule for replies nothing has to wait, but for words that are to be put back.
    guards = bool(exchange.classifiers("output"))
    pieces = guarded(
        _waiting(exchange, aiter(upstream)),
        call.endpoint,
        check,
        _context(exchange),
        hold_chars=options.hold_chars if guards else 1,
        overlap_chars=options.overlap_chars if guards else 0,
        tail_chars=options.tail_chars if guards else 0,
        hold_seconds=options.hold_seconds,
        head_seconds=_HEAD_SECONDS if guards else 0.0,
        restorations=exchange.originals,
        report=report,
        request_id=call.request_id,
        strict=guards,
    )
    # Closed here and now when the client leaves, so that the report is complete.
    try:
        async for piece in pieces:
            if respond.status is None:
                _report(exchange, report)
                kept = {
                    **_headers(gateway, exchange, upstream.headers),
                    "cache-control": "no-cache",
                }
                await respond.start(200, kept, "text/event-stream; charset=utf-8")
            with exchange.step("client"):
                await respond.chunk(piece)
        _report(exchange, report)
        decision = report.decision
        if respond.status is None and decision is not None and decision.reply is not None:
            await _reply_here(gateway, exchange, decision, decision.reply, respond)
        else:
            # Said before the end is sent: once it is, the server takes the client for gone.
            if report.error is None:
                exchange.completed()
            await respond.end()
    finally:
        await pieces.aclose()
        _report(exchange, report)
    if report.error is not None:
        exchange.failed(report.error)


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
        yield event


def _is_document(content: str) -> bool:
    """Whether a reply's text is a JSON document as a whole."""
    if not content.lstrip().startswith(("{", "[")):
        return False
    try:
        orjson.loads(content)
    except orjson.JSONDecodeError:
        return False
    return True


def _restored(content: str, exchange: Exchange, *, is_json: bool) -> str:
    """The reply's text with the originals of redacted values put back."""
    originals = exchange.originals
    if is_json and originals:
        # Within JSON source, such as a tool call's arguments, the original must stay one string.
        originals = {key: orjson.dumps(value).decode()[1:-1] for key, value in originals.items()}
    return restore(content, originals)


async def _pass_on_error(
    gateway: Gateway, exchange: Exchange, reply: UpstreamReply, respond: Responder
) -> None:
    """An error status of the upstream; its body has OpenAI's shape by now."""
    await respond.whole(reply.status, reply.body, _headers(gateway, exchange, reply.headers))


def _headers(gateway: Gateway, exchange: Exchange, upstream: Mapping[str, str]) -> dict[str, str]:
    """Upstream's headers below the gateway's own."""
    return {**upstream, **exchange.headers(gateway.accounts)}
