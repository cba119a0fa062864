"""Settings of OpenTelemetry: where traces and metrics of requests go. Off until an endpoint is named."""

from __future__ import annotations

import importlib.util
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from classifiers.types import StrictModel

_SIGNALS = ("/v1/traces", "/v1/metrics")


class TelemetryConfig(StrictModel):
    """Traces and metrics by OTLP over HTTP. They never hold texts."""

    endpoint: str | None = Field(default=None, repr=False)
    """Base URL of a collector, such as ``http://localhost:4318``; ``/v1/traces`` and ``/v1/metrics`` are
    added. null: nothing is traced. Needs the extra ``otel``."""
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    """Sent with every export, such as ``{authorization: "Bearer ${OTLP_TOKEN}"}``."""
    service_name: str = Field(default="doorman", min_length=1)
    """What the gateway is called there."""
    sample: float = Field(default=1.0, ge=0, le=1)
    """Share of the requests that are traced. A client that sends ``traceparent`` decides for its own."""
    metrics: bool = True
    """Send the metrics of the GenAI conventions too; Prometheus' are at ``/metrics`` in any case."""
    export_seconds: float = Field(default=10, gt=0)
    """How long one export may take."""

    @field_validator("endpoint")
    @classmethod
    def _is_a_base_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise ValueError("is no URL of a collector; write http://HOST:4318")
        if parts.username or parts.password:
            raise ValueError("has a password in it; send it with telemetry.headers")
        base = value.rstrip("/")
        for signal in _SIGNALS:
            base = base.removesuffix(signal)
        return base

    @model_validator(mode="after")
    def _can_be_sent(self) -> TelemetryConfig:
        if self.endpoint is not None and not _installed():
            raise ValueError(
                "endpoint needs OpenTelemetry, which is not installed; pip install 'doorman[otel]', or "
                "write null"
            )
        return self


def _installed() -> bool:
    try:
        return importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        return False
