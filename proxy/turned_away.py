"""Requests that the limits of their key refuse before anything of them is read: recorded all the same."""

from __future__ import annotations

from policies.attached import Attached
from proxy.asgi import Request, Responder
from proxy.endpoints.base import Endpoint
from proxy.errors import answer
from proxy.exchange import Call, Exchange
from proxy.gateway import Gateway
from proxy.grants import Caller


async def turned_away(
    gateway: Gateway,
    endpoint: Endpoint,
    caller: Caller,
    request: Request,
    error: Exception,
    respond: Responder,
) -> None:
    """Answer, and keep a record without model and policies: neither was looked at."""
    call = Call(endpoint, {}, b"", request.headers, caller.name, request.request_id)
    exchange = Exchange(call, Attached(()))
    exchange.failed(error)
    exchange.status = answer(error, request.request_id).status
    await respond.error(error, request.request_id, exchange.headers(gateway.accounts))
    if gateway.admission.tells(caller):
        gateway.account(exchange)
