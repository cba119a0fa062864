"""The way of one request past the limits of its key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from proxy.grants import NOBODY, Caller

Meter = Callable[[], tuple[int, float]]
"""Says what a request has used so far: tokens, and dollars."""


@dataclass(slots=True)
class Ticket:
    """What :class:`proxy.admission.Admission` knows of a request.

    Attributes:
        lease: its place among the requests at once.
        headers: what its client is told of the limits; empty where there are none of that kind.
        meter: says in the end what the request has used.
        reserved: tokens that were counted in advance, and ``at`` when, by the clock that counts.
        counted: the counters know of it.
        settled: it has ended; ``settling`` is what then counts what it used and gives its place back.
    """

    caller: Caller = NOBODY
    lease: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    meter: Meter | None = None
    reserved: int = 0
    at: float = 0.0
    counted: bool = False
    settled: bool = False
    settling: asyncio.Future[None] | None = None
