"""``POST /v1/feedback``: a client says that a decision was wrong, or right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from proxy.config_server import is_direct, names_loopback
from proxy.errors import Unavailable
from proxy.feedback.give import give
from proxy.feedback.request import read
from proxy.ledgers.database import Away
from proxy.ledgers.feedback import Feedback

if TYPE_CHECKING:
    from proxy.asgi import Ask
    from proxy.gateway import Gateway


async def feedback(gateway: Gateway, ask: Ask) -> dict[str, Any]:
    """Answer ``POST /v1/feedback``.

    Raises:
        InvalidRequest: the body is not well formed, or label or text do not fit the decision.
        NotFound: there is no such decision, or it is another client's.
        Unavailable: the database is away.
    """
    given = read(ask.body)
    # Where there are no keys, only this machine is served, and whoever asks runs the gateway; but who
    # comes through a proxy, or by another name, may be anybody.
    headers = ask.request.headers
    near = is_direct(headers) and names_loopback(headers)
    trusted = ask.ticket.caller.grant.admin or (not gateway.keys.needed and near)
    try:
        found, _ = await give(gateway, given, ask.key, trusted=trusted)
    except Away as error:
        raise Unavailable(
            f"The feedback could not be entered ({error}); retry.", "ledger_unavailable"
        ) from None
    return shown(found)


def shown(one: Feedback) -> dict[str, Any]:
    """A piece of feedback for who gave it, without the text."""
    return {
        "object": "feedback",
        "id": one.id,
        "decision_id": one.decision_id,
        "verdict": one.verdict,
        "state": one.state,
        "classifier": one.classifier,
        "label": None if one.labels is None else list(one.labels),
    }
