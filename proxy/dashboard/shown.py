"""How values look on a page: the filters of the templates."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime
from math import floor, log10
from typing import Any

from markupsafe import Markup

from proxy import key_listing
from proxy.dashboard.markdown import markdown

ACTIONS = {
    "forward": "passed on",
    "redact": "passed on without personal data",
    "route": "sent to another model",
    "answer": "answered here",
    "cache": "answered from the cache",
    "block": "blocked",
    "error": "ended with an error",
    "none": "left before a decision",
}
"""Word of a record -> what happened."""
_STEPS = ((60.0, 1.0, "s"), (3600.0, 60.0, "min"), (86_400.0, 3600.0, "h"))


def moment(at: float | None) -> str:
    """``2026-01-31 12:00:00 UTC``."""
    return "" if at is None else key_listing.moment(at)


def since(at: float, now: float | None = None) -> str:
    """``3 min ago``, ``in 2 h``."""
    distance = (time.time() if now is None else now) - at
    size = abs(distance)
    if size < 1:
        return "now"
    for limit, unit, name in _STEPS:
        if size < limit:
            told = f"{size / unit:.0f} {name}"
            break
    else:
        told = f"{size / 86_400:.0f} d"
    return f"{told} ago" if distance > 0 else f"in {told}"


def ago(at: float | None) -> Markup:
    """How long ago a time was, with the time itself for who points at it; pages keep it fresh."""
    if at is None:
        return Markup("")
    exact = datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
    return Markup('<time datetime="{}" data-at="{:.3f}" title="{}">{}</time>').format(
        exact, at, moment(at), since(at)
    )


def usd(value: float | None, places: int | None = None) -> str:
    """Dollars, with as many places as they need to say something: ``$12.30``, ``$0.00042``."""
    if value is None:
        return "–"
    size = abs(value)
    if places is None:
        # Two digits of an amount under a cent.
        places = 2 if size >= 1 or size == 0 else 4 if size >= 0.01 else 1 - floor(log10(size))
    places = min(places, 10)
    return f"{'−' if value < 0 else ''}${size:,.{places}f}"


def count(value: float | None) -> str:
    """A number with its thousands apart."""
    return "–" if value is None else f"{value:,.0f}"


def ms(value: float | None) -> str:
    """Milliseconds."""
    if value is None:
        return "–"
    return (
        f"{value:,.0f} ms"
        if value >= 100
        else f"{value:.1f} ms"
        if value >= 1
        else f"{value:.2f} ms"
    )


def score(value: float | None) -> str:
    """A probability; one that is nearly 0 or 1 does not look as if it were."""
    if value is None:
        return "–"
    if 0 < value < 0.001 or 0.999 < value < 1:
        return f"{value:.5f}"
    return f"{value:.3f}"


def percent(value: float | None, places: int = 1) -> str:
    """A share."""
    return "–" if value is None else f"{100 * value:.{places}f}%"


def badge(action: str, title: str = "") -> Markup:
    """The word of an action, coloured, for tables."""
    kind = action if action in ACTIONS else "other"
    told = title or ACTIONS.get(action, action)
    return Markup('<span class="badge badge-{}" title="{}">{}</span>').format(kind, told, action)


def breaks(name: str) -> Markup:
    """A name or an address that may go on in the next line after its dots, slashes and underscores."""
    return Markup("<wbr>").join(re.split(r"(?<=[./_])", name))


def pretty(value: Any) -> str:
    """JSON to read."""
    return json.dumps(value, ensure_ascii=False, indent=2)


FILTERS = {
    "ago": ago,
    "badge": badge,
    "breaks": breaks,
    "count": count,
    "markdown": markdown,
    "moment": moment,
    "ms": ms,
    "percent": percent,
    "pretty": pretty,
    "score": score,
    "usd": usd,
}
"""Names of the filters, beside Jinja's own."""
