"""Every Prometheus metric, in one table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from proxy import metrics_shared

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each, told nowhere

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_CHARS = (0, 50, 100, 250, 500, 1000, 2500, 10_000)


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table. ``buckets`` are upper bounds, in the unit that the name ends in. The gauges
    of several workers are summed if they ``add up``; else the highest counts."""

    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    adds_up: bool = False


METRICS: dict[str, Metric] = {
    "doorman_decisions_total": Metric(
        "counter",
        "Decisions by the rule that made them; shadow rules count as shadow_ACTION.",
        ("policy", "rule", "action"),
    ),
    "doorman_requests_total": Metric(
        "counter",
        "All requests by path (`other`: there is none) and HTTP status; 499: the client left.",
        ("path", "status"),
    ),
    "doorman_overhead_seconds": Metric(
        "histogram", "Time a request spent here, without waiting for upstream.", (), _SECONDS
    ),
    "doorman_classify_seconds": Metric(
        "histogram", "Time a stage waited for the classifiers.", ("stage",), _SECONDS
    ),
    "doorman_upstream_seconds": Metric(
        "histogram", "Time spent waiting for upstream.", ("provider",), _SECONDS
    ),
    "doorman_cache_total": Metric(
        "counter",
        "Requests at the caches: hit, miss or bypass (none to be cached), and kept or unfit for "
        "what became of the replies to the misses.",
        ("kind", "outcome"),
    ),
    "doorman_saved_usd_total": Metric("counter", "Estimated savings, in US dollars."),
    "doorman_extra_usd_total": Metric(
        "counter",
        "Estimated extra cost of requests routed to a dearer model, in US dollars; "
        "what was saved on balance is doorman_saved_usd_total less this.",
    ),
    "doorman_cost_usd_total": Metric("counter", "Estimated upstream cost, in US dollars."),
    "doorman_unpriced_total": Metric(
        "counter",
        "Requests whose price is not known, so that they add nothing to the dollars: `what` is saving or "
        "cost.",
        ("what",),
    ),
    "doorman_policy_errors_total": Metric(
        "counter", "Rules that could not be decided, and reloads that failed.", ("policy", "kind")
    ),
    "doorman_fail_open_total": Metric(
        "counter",
        "Times that a request went on although something that guards them had failed, because on_error is "
        "allow; `guard` is what failed: classifier, ledger (no record of it), limits (not counted).",
        ("guard",),
    ),
    "doorman_feedback_total": Metric(
        "counter",
        "What people said of decisions, by the rule that had decided: `verdict` is correct or wrong.",
        ("policy", "rule", "verdict"),
    ),
    "doorman_drift": Metric(
        "gauge",
        "How far the scores of a classifier have moved, newer against older decisions: the population "
        "stability index, measured every quarter of an hour.",
        ("classifier",),
    ),
    "doorman_stream_exposed_chars": Metric(
        "histogram", "Characters of a stream that had left when its output was blocked.", (), _CHARS
    ),
    "doorman_upstream_open": Metric(
        "gauge",
        "1 while a model's server is left alone because it has failed repeatedly, 0 otherwise; "
        "`model` is its model_name, `name#2` for the second of several entries.",
        ("model",),
    ),
    "doorman_limited_total": Metric(
        "counter",
        "Requests refused by a limit of their key: `requests`, `tokens`, `parallel` or `budget`; "
        "`key` is its name.",
        ("key", "reason"),
    ),
    "doorman_limits_errors_total": Metric(
        "counter", "Times that Redis, which counts the limits of keys, was away."
    ),
    "doorman_policies_loaded": Metric("gauge", "Policies in force."),
    "doorman_ledger_queue": Metric(
        "gauge", "Decisions that wait to be written to the database.", adds_up=True
    ),
    "doorman_ledger_lag_seconds": Metric(
        "gauge", "Seconds that the oldest decision that waits to be written has waited."
    ),
    "doorman_ledger_errors_total": Metric(
        "counter",
        "Faults of the ledger's database: commit (a batch failed and is tried again), refused (a "
        "request was stopped), unrecorded (one went on without its record), dropped (a record is lost).",
        ("kind",),
    ),
}


PROCESS: dict[str, Metric] = {
    "process_cpu_seconds_total": Metric("counter", "CPU time of the process, in seconds."),
    "process_resident_memory_bytes": Metric("gauge", "Memory that it holds."),
    "process_virtual_memory_bytes": Metric("gauge", "Memory that it has reserved."),
    "process_start_time_seconds": Metric("gauge", "When it started, in unix seconds."),
    "process_open_fds": Metric("gauge", "Open files and connections."),
    "process_max_fds": Metric("gauge", "How many there may be."),
}
"""What prometheus_client tells of the process itself; on Linux."""


class Metrics:
    """The metrics of one gateway, in a registry of their own; after :func:`proxy.metrics_shared.share`
    those of all workers together."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._folder = metrics_shared.folder()
        if self._folder is None:
            ProcessCollector(registry=self._registry)
        self._metrics = {name: self._create(name, metric) for name, metric in METRICS.items()}
        self._children: dict[tuple[object, ...], Counter | Gauge | Histogram] = {}

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        """Increase a counter. Raises KeyError for a name that is not in the table."""
        child = self._child(name, labels)
        assert isinstance(child, Counter)
        child.inc(amount)

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add to a histogram. Raises KeyError for a name that is not in the table."""
        child = self._child(name, labels)
        assert isinstance(child, Histogram)
        child.observe(value)

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge. Raises KeyError for a name that is not in the table."""
        child = self._child(name, labels)
        assert isinstance(child, Gauge)
        child.set(value)

    def text(self) -> bytes:
        """Everything, in Prometheus' text format."""
        if self._folder is not None:
            return metrics_shared.together(self._folder)
        return generate_latest(self._registry)

    def _child(self, name: str, labels: Mapping[str, str]) -> Counter | Gauge | Histogram:
        if not labels:
            return self._metrics[name]
        key = (name, *labels.items())
        # The library sorts and compares the names with every call.
        if (child := self._children.get(key)) is None:
            child = self._children[key] = self._metrics[name].labels(**labels)
        return child

    def _create(self, name: str, metric: Metric) -> Counter | Gauge | Histogram:
        if metric.kind == "counter":
            return Counter(name, metric.help, metric.labels, registry=self._registry)
        if metric.kind == "gauge":
            return Gauge(
                name,
                metric.help,
                metric.labels,
                registry=self._registry,
                multiprocess_mode="livesum" if metric.adds_up else "livemax",
            )
        return Histogram(
            name, metric.help, metric.labels, registry=self._registry, buckets=metric.buckets
        )
