"""Spans and metrics by OTLP over HTTP: the only file that imports OpenTelemetry.

Ids were given out before, because the model's server has to be told of them; so the SDK's generator
of ids hands out those.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from opentelemetry import trace as api
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import Histogram
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import SpanKind, StatusCode

from proxy.config_telemetry import TelemetryConfig
from proxy.telemetry import Measured, Span
from proxy.telemetry_names import INSTRUMENTS

SCOPE = "doorman"
METRICS_EVERY = 60.0
"""Seconds from one export of the metrics to the next."""
_KINDS = {
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "internal": SpanKind.INTERNAL,
}


class _GivenIds(IdGenerator):
    """Hands out the ids of the span that is made next."""

    trace_id = 0
    span_id = 0

    def generate_trace_id(self) -> int:
        """Of a span without a parent."""
        return self.trace_id

    def generate_span_id(self) -> int:
        """Of any span."""
        return self.span_id


class OtlpSender:
    """Queues spans for a thread that exports them. For the event loop's thread only, but ``close``."""

    def __init__(self, config: TelemetryConfig) -> None:
        # It tells of a collector that is away at every export, with the whole trace of the fault.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        headers = {name: value.get_secret_value() for name, value in config.headers.items()}
        resource = Resource.create({"service.name": config.service_name})
        self._ids = _GivenIds()
        self._traces = TracerProvider(
            sampler=ALWAYS_ON, resource=resource, id_generator=self._ids, shutdown_on_exit=False
        )
        spans = OTLPSpanExporter(
            endpoint=f"{config.endpoint}/v1/traces", headers=headers, timeout=config.export_seconds
        )
        self._traces.add_span_processor(BatchSpanProcessor(spans))
        self._tracer = self._traces.get_tracer(SCOPE)
        self._meters: MeterProvider | None = None
        self._instruments: dict[str, Histogram] = {}
        if config.metrics:
            self._measure(config, headers, resource)

    def send(self, spans: Sequence[Span], measured: Sequence[Measured]) -> None:
        """See :class:`proxy.telemetry.Sender`."""
        for span in spans:
            self._send(span)
        for one in measured:
            self._instruments[one.name].record(one.value, dict(one.attributes))

    def close(self) -> None:
        """See :class:`proxy.telemetry.Sender`."""
        self._traces.shutdown()
        if self._meters is not None:
            self._meters.shutdown()

    def _measure(
        self, config: TelemetryConfig, headers: dict[str, str], resource: Resource
    ) -> None:
        exporter = OTLPMetricExporter(
            endpoint=f"{config.endpoint}/v1/metrics", headers=headers, timeout=config.export_seconds
        )
        reader = PeriodicExportingMetricReader(
            exporter, METRICS_EVERY * 1000, config.export_seconds * 1000
        )
        self._meters = MeterProvider([reader], resource, shutdown_on_exit=False)
        meter = self._meters.get_meter(SCOPE)
        for name, instrument in INSTRUMENTS.items():
            self._instruments[name] = meter.create_histogram(
                name,
                instrument.unit,
                instrument.help,
                explicit_bucket_boundaries_advisory=instrument.buckets,
            )

    def _send(self, span: Span) -> None:
        parent = None
        if span.parent_id:
            flags = api.TraceFlags(api.TraceFlags.SAMPLED)
            known = api.SpanContext(span.trace_id, span.parent_id, span.remote, flags)
            parent = api.set_span_in_context(api.NonRecordingSpan(known))
        else:
            parent = api.set_span_in_context(api.INVALID_SPAN)
        self._ids.trace_id, self._ids.span_id = span.trace_id, span.span_id
        made = self._tracer.start_span(
            span.name,
            context=parent,
            kind=_KINDS[span.kind],
            attributes=dict(span.attributes),
            start_time=span.start,
        )
        for name, at, attributes in span.events:
            made.add_event(name, dict(attributes), at)
        if span.error:
            made.set_status(StatusCode.ERROR)
        made.end(span.end)
