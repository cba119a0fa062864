"""One trace per request: the context that came with it, the one that goes on, and what is sent of it.

Spans are made when a request has ended, from the times that its exchange has kept anyway. While no
collector is configured nothing is kept, made or imported.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

from proxy.config_telemetry import TelemetryConfig
from proxy.exchange import Exchange
from proxy.ledger import Record

_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 0x01


@dataclass(slots=True)
class Trace:
    """The trace of one request.

    Attributes:
        trace_id, span_id: of the span of the request.
        parent_id: the client's span; 0 if it named none.
        upstream_id: of the span of the call to a model, which the model's server is told.
        sampled: whether it is sent.
        began: nanoseconds since 1970.
        clock: ``time.perf_counter()`` at that moment.
        exchange, record: of a guarded request, once it has ended.
    """

    trace_id: int
    span_id: int
    parent_id: int
    upstream_id: int
    sampled: bool
    began: int = field(default_factory=time.time_ns)
    clock: float = field(default_factory=time.perf_counter)
    exchange: Exchange | None = None
    record: Record | None = None

    @classmethod
    def of(cls, traceparent: str | None, share: float) -> Trace:
        """Continue the client's trace, or begin one; what is no W3C ``traceparent`` is as good as none."""
        given = _PARENT.fullmatch(traceparent or "")
        span, upstream = random_id(8), random_id(8)
        if given is not None and given[1] != "ff" and (given[1] != "00" or given[5] is None):
            trace, parent = int(given[2], 16), int(given[3], 16)
            if trace and parent:
                return cls(trace, span, parent, upstream, bool(int(given[4], 16) & _SAMPLED))
        trace = random_id(16)
        # By the trace's id, as OpenTelemetry does: all who see it decide alike.
        return cls(trace, span, 0, upstream, (trace & (1 << 64) - 1) < share * (1 << 64))

    @property
    def traceparent(self) -> str:
        """What the model's server is told."""
        return f"00-{self.trace_id:032x}-{self.upstream_id:016x}-{self.sampled:02x}"

    def now(self) -> int:
        """Nanoseconds since 1970, by the clock that the other times are taken from."""
        return self.at(time.perf_counter())

    def at(self, clock: float) -> int:
        """Nanoseconds since 1970 of a ``time.perf_counter()``."""
        return self.began + int((clock - self.clock) * 1e9)


@dataclass(frozen=True, slots=True)
class Span:
    """A span as it is sent; times in nanoseconds since 1970.

    Attributes:
        kind: ``server``, ``client`` or ``internal``.
        parent_id: 0 for none; ``remote`` says that it is the client's.
        error: whether it failed.
        events: name, time and attributes.
    """

    name: str
    kind: str
    trace_id: int
    span_id: int
    parent_id: int
    start: int
    end: int
    attributes: Mapping[str, Any]
    error: bool = False
    remote: bool = False
    events: Sequence[tuple[str, int, Mapping[str, Any]]] = ()


@dataclass(frozen=True, slots=True)
class Measured:
    """One value of a metric of ``telemetry_names.INSTRUMENTS``."""

    name: str
    value: float
    attributes: Mapping[str, Any]


class Sender(Protocol):
    """What sends them; see :class:`proxy.otel.OtlpSender`. Must not block, but for ``close``."""

    def send(self, spans: Sequence[Span], measured: Sequence[Measured]) -> None:
        """Queue spans and add values."""
        ...

    def close(self) -> None:
        """Send what waits. Blocking."""
        ...


_current: ContextVar[Trace | None] = ContextVar("doorman_trace", default=None)


class Telemetry:
    """What a gateway tells OpenTelemetry.

    Args:
        config: where to; nothing is told without an endpoint.
    """

    def __init__(self, config: TelemetryConfig) -> None:
        self._config = config
        self._sender: Sender | None = None

    def start(self) -> None:
        """Open the connection, if one is configured. Blocking: imports OpenTelemetry."""
        if self._config.endpoint is not None and self._sender is None:
            from proxy.otel import OtlpSender

            self._sender = OtlpSender(self._config)

    def begin(self, headers: Mapping[str, str]) -> Trace | None:
        """The trace of a request that begins here; None where nothing is traced."""
        if self._sender is None:
            return None
        trace = Trace.of(headers.get("traceparent"), self._config.sample)
        _current.set(trace)
        return trace

    def carried(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """A client's headers for the model's server, with this gateway's span as the parent."""
        trace = _current.get()
        return headers if trace is None else {**headers, "traceparent": trace.traceparent}

    def note(self, exchange: Exchange, record: Record) -> None:
        """Keep what a guarded request was, for its spans."""
        trace = _current.get()
        if trace is not None:
            trace.exchange, trace.record = exchange, record

    def finish(self, trace: Trace | None, method: str, route: str | None, status: int) -> None:
        """Send the spans of a request that has ended.

        Args:
            route: None where there is no such path.
        """
        if trace is None or self._sender is None:
            return
        from proxy.telemetry_spans import measured_of, spans_of

        spans = spans_of(trace, method, route, status) if trace.sampled else []
        self._sender.send(spans, measured_of(trace) if self._config.metrics else [])

    async def close(self) -> None:
        """Send what waits."""
        if self._sender is not None:
            await asyncio.to_thread(self._sender.close)


def random_id(size: int) -> int:
    """A random number of so many bytes that is not 0."""
    return int.from_bytes(secrets.token_bytes(size)) or 1
