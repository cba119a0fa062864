"""The two places where a request meets the caches: before the model is asked, and after it answered.

A cache that fails costs a call of the model, never the answer.
"""

from __future__ import annotations

from policies.decision import Decision
from proxy.asgi import Responder, log_unexpected
from proxy.cache_forms import Made
from proxy.exchange import Exchange
from proxy.gateway import Gateway

EVENTS = "text/event-stream; charset=utf-8"


async def from_cache(
    gateway: Gateway, exchange: Exchange, decision: Decision, respond: Responder
) -> bool:
    """Answer with a stored reply, if there is one for what the input policies have let pass.

    Args:
        decision: theirs.

    Returns:
        Whether the request is answered.
    """
    call, target = exchange.call, exchange.target
    assert target is not None
    try:
        with exchange.step("cache"):
            exchange.cache = await gateway.replies.ask(
                call,
                target.alias,
                exchange.policies,
                decision,
                gateway.policies.current,
                readable=not exchange.unscanned,
            )
    except Exception as error:
        log_unexpected(error, call.request_id)
        return False
    hit = exchange.cache.hit if exchange.cache is not None else None
    if hit is None:
        return False
    await gateway.decided(exchange, forwarded=False)
    headers = exchange.headers(gateway.accounts)
    if call.stream:
        await respond.whole(200, hit.body, {**headers, "cache-control": "no-cache"}, EVENTS)
    else:
        await respond.whole(200, hit.body, headers)
    return True


async def keep(
    gateway: Gateway, exchange: Exchange, body: bytes | None, *, ended: bool = True
) -> None:
    """Offer a reply to the caches, before its last byte leaves: after it the client counts as gone.

    Args:
        body: the complete reply as the client gets it; None for a stream.
        ended: the stream has come to a good end.
    """
    lookup = exchange.cache
    if lookup is None:
        return
    served, target = exchange.served, exchange.target
    rules = exchange.policies.on_streams
    output = exchange.decisions.get("output")
    unchecked = bool(rules.unchecked) or (rules.mode is not None and output is None)
    made = Made(
        exchange.call,
        exchange.decision_id,
        output,
        exchange.usage,
        gateway.accounts.worth(exchange),
        fit=ended
        and exchange.upstream_status == 200
        and not (exchange.call.stream and unchecked)
        and not (exchange.unscanned or exchange.originals)
        # What another model has said in its place stands for the moment only.
        and served is not None and target is not None and served.alias == target.alias,
    )  # fmt: skip
    try:
        await gateway.replies.keep(lookup, made, body)
    except Exception as error:
        log_unexpected(error, exchange.call.request_id)
