"""Every Prometheus metric, in one table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_CHARS = (0, 50, 100, 250, 500, 1000, 2500, 10_000)


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table. ``buckets`` are upper bounds, in the unit that the name ends in."""

    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


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
    "doorman_policy_errors_total": Metric(
        "counter", "Rules that could not be decided, and reloads that failed.", ("policy", "kind")
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
    "doorman_ledger_queue": Metric("gauge", "Decisions that wait to be written to the database."),
    "doorman_ledger_lag_seconds": Metric(
        "gauge", "How long the oldest decision that waits to be written has waited."
    ),
    "doorman_ledger_errors_total": Metric(
        "counter",
        "Faults of the ledger's database: commit (a batch failed and is tried again), refused (a "
        "request was stopped), unrecorded (one went on without its record), dropped (a record is lost).",
        ("kind",),
    ),
}


class Metrics:
    """The metrics of one gateway, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._metrics = {name: self._create(name, metric) for name, metric in METRICS.items()}

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        """Increase a counter. Raises KeyError for a name that is not in the table."""
        metric = self._metrics[name]
        child = metric.labels(**labels) if labels else metric
        assert isinstance(child, Counter)
        child.inc(amount)

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add to a histogram. Raises KeyError for a name that is not in the table."""
        metric = self._metrics[name]
        child = metric.labels(**labels) if labels else metric
        assert isinstance(child, Histogram)
        child.observe(value)

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge. Raises KeyError for a name that is not in the table."""
        metric = self._metrics[name]
        child = metric.labels(**labels) if labels else metric
        assert isinstance(child, Gauge)
        child.set(value)

    def text(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self._registry)

    def _create(self, name: str, metric: Metric) -> Counter | Gauge | Histogram:
        if metric.kind == "counter":
            return Counter(name, metric.help, metric.labels, registry=self._registry)
        if metric.kind == "gauge":
            return Gauge(name, metric.help, metric.labels, registry=self._registry)
        return Histogram(
            name, metric.help, metric.labels, registry=self._registry, buckets=metric.buckets
        )
