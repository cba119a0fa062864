"""Traces and metrics of requests, as a real collector gets them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateway_kit import (
    Door,
    ScriptedUpstream,
    chunk,
    events,
    free_port,
    make_config,
    respond,
    serve,
)
from ledger_kit import ASK, RULES
from otel_kit import Collector, collecting, values

from proxy.config import ConfigError, loads
from proxy.telemetry import Trace
from proxy.telemetry_names import ATTRIBUTES, INSTRUMENTS

CLIENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE, PARENT = CLIENT.split("-")[1:3]


def settings(collector: Collector, more: str = "") -> str:
    return f'telemetry: {{endpoint: "{collector.url}", headers: {{authorization: "Bearer t0ken"}}{more}}}'


def ask(door: Door, text: str = ASK, headers: dict[str, str] | None = None, **more: Any) -> Any:
    body = {"model": "default", "messages": [{"role": "user", "content": text}], **more}
    return httpx.post(f"{door.url}/v1/chat/completions", json=body, headers=headers, timeout=30)


def named(collector: Collector) -> dict[str, Any]:
    """Spans by name, of which there must be one each."""
    spans = collector.spans
    assert len({span.name for span in spans}) == len(spans), [span.name for span in spans]
    return {span.name: span for span in spans}


def test_one_trace_from_the_client_to_the_model(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    with collecting() as collector:
        with serve(make_config(tmp_path, upstream.port, RULES, settings(collector))) as door:
            reply = ask(door, headers={"traceparent": CLIENT, "tracestate": "a=b"})
            assert reply.status_code == 200
        spans = named(collector)
        assert collector.headers[0]["authorization"] == "Bearer t0ken"
        resource = collector.traces[0].resource_spans[0].resource
    root, model = spans["POST /v1/chat/completions"], spans["chat gpt-4o"]
    assert {span.trace_id.hex() for span in spans.values()} == {TRACE}
    assert root.parent_span_id.hex() == PARENT
    # The model's server was told of the span of the call to it.
    assert upstream.seen[0].headers["traceparent"] == f"00-{TRACE}-{model.span_id.hex()}-01"
    assert upstream.seen[0].headers["tracestate"] == "a=b"
    for name in ("apply_guardrail input", "apply_guardrail output", "chat gpt-4o"):
        assert spans[name].parent_span_id == root.span_id
        assert root.start_time_unix_nano <= spans[name].start_time_unix_nano
        assert spans[name].end_time_unix_nano <= root.end_time_unix_nano
    within = spans["classify input"]
    assert within.parent_span_id == spans["apply_guardrail input"].span_id
    assert values(resource.attributes)["service.name"] == "doorman"
    assert (root.kind, model.kind) == (2, 3)  # server, client
    told = values(model.attributes)
    assert told["gen_ai.operation.name"] == "chat"
    assert told["gen_ai.provider.name"] == "openai"
    assert told["gen_ai.request.model"] == "gpt-4o"
    assert told["gen_ai.response.model"] == "upstream-model"
    assert told["gen_ai.usage.input_tokens"] == 1000
    assert told["gen_ai.usage.output_tokens"] == 100
    assert values(model.events[0].attributes)["doorman.try.outcome"] == "200"
    about = values(root.attributes)
    assert about["doorman.decision_id"] == reply.headers["x-doorman-decision-id"]
    assert (about["http.response.status_code"], about["doorman.action"]) == (200, "forward")
    used = {key for span in spans.values() for key in values(span.attributes)}
    assert used <= ATTRIBUTES.keys()


def test_a_block_names_its_rule_and_calls_no_model(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    with collecting() as collector:
        with serve(make_config(tmp_path, upstream.port, RULES, settings(collector))) as door:
            ask(door, "an attack", {"traceparent": "00-0-0-01"})
        spans = named(collector)
    assert not any(span.kind == 3 for span in spans.values())
    told = values(spans["apply_guardrail input"].attributes)
    assert told["gen_ai.operation.name"] == "apply_guardrail"
    assert (told["doorman.policy"], told["doorman.rule"]) == ("test@1", "no-attacks")
    assert (told["doorman.action"], told["doorman.label"]) == ("block", "attack")
    root = spans["POST /v1/chat/completions"]
    assert root.parent_span_id == b""  # what came was no traceparent
    assert values(root.attributes)["doorman.rule"] == "no-attacks"


def test_a_stream_and_the_metrics(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
    last = {**chunk({}), "choices": [], "usage": usage}
    upstream.script = events(chunk({"content": "ok"}), chunk({}, finish="stop"), last)
    with collecting() as collector:
        with serve(make_config(tmp_path, upstream.port, RULES, settings(collector))) as door:
            assert ask(door, stream=True).status_code == 200
        model, metrics = named(collector)["chat gpt-4o"], collector.metrics
    told = values(model.attributes)
    assert told["gen_ai.request.stream"] is True
    assert told["gen_ai.response.model"] == "upstream-model"
    assert 0 < told["gen_ai.response.time_to_first_chunk"] < 30
    assert metrics.keys() == INSTRUMENTS.keys()
    points = metrics["gen_ai.client.token.usage"].histogram.data_points
    kinds = {values(p.attributes)["gen_ai.token.type"]: p.sum for p in points}
    assert kinds == {"input": 9, "output": 2}
    (duration,) = metrics["gen_ai.client.operation.duration"].histogram.data_points
    assert duration.count == 1
    assert values(duration.attributes)["gen_ai.response.model"] == "upstream-model"


def test_faults_are_spans_too(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    upstream.script = respond(500, {"error": {"message": "no"}})
    with collecting() as collector:
        more = settings(collector) + "\nrouter_settings: {num_retries: 1, retry_after: 0}"
        with serve(make_config(tmp_path, upstream.port, RULES, more)) as door:
            assert ask(door).status_code == 500
            assert ask(door, "crash").status_code == 503
            assert httpx.get(f"{door.url}/v1/nowhere?secret=word").status_code == 404
            assert httpx.get(f"{door.url}/health").status_code == 200
        spans = collector.spans
    model = next(span for span in spans if span.kind == 3)
    assert (model.status.code, values(model.attributes)["error.type"]) == (2, "500")
    assert len(model.events) == 2  # one span for both tries
    roots = [span for span in spans if span.kind == 2]
    assert [root.name for root in roots] == ["POST /v1/chat/completions"] * 2 + [
        "GET",
        "GET /health",
    ]
    assert [root.status.code for root in roots] == [2, 2, 0, 0]
    assert values(roots[1].attributes)["doorman.ended"] == "policy_unavailable"
    guard = next(
        span
        for span in spans
        if span.trace_id == roots[1].trace_id and span.name.startswith("apply")
    )
    assert (guard.status.code, values(guard.attributes)["doorman.errors"]) == (2, 1)


def test_what_is_not_sampled_is_not_sent(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    with collecting() as collector:
        more = settings(collector, ", sample: 0, metrics: false")
        with serve(make_config(tmp_path, upstream.port, RULES, more)) as door:
            ask(door)
            ask(door, headers={"traceparent": CLIENT[:-2] + "00"})
            ask(door, headers={"traceparent": CLIENT})
        spans, seen = collector.spans, [s.headers["traceparent"] for s in upstream.seen]
    assert {span.trace_id.hex() for span in spans} == {TRACE}
    assert [parent[-2:] for parent in seen] == ["00", "00", "01"]
    assert not collector.metered


def test_a_collector_that_is_away_is_no_fault(
    tmp_path: Path, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    more = f'telemetry: {{endpoint: "http://127.0.0.1:{free_port()}", export_seconds: 0.2}}'
    with serve(make_config(tmp_path, upstream.port, RULES, more)) as door:
        assert ask(door).status_code == 200
    assert not [line for line in caplog.messages if "Traceback" in line or ASK in line]


def test_off_costs_no_import(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom proxy.app import create_app\nfrom proxy.config import defaults\n"
        "create_app(defaults())\nassert 'opentelemetry.sdk' not in sys.modules\n"
        "assert 'alembic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("localhost:4318", "write http://HOST:4318"),
        ("http://me:pw@host:4318", "telemetry.headers"),
    ],
)
def test_mistakes_are_told(given: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        loads(f'telemetry: {{endpoint: "{given}"}}', tmp_path / "c.yaml")
    assert "me:pw" not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "00",
        CLIENT.upper(),
        CLIENT + "-x",
        "ff" + CLIENT[2:],
        f"00-{'0' * 32}-{PARENT}-01",
    ],
)
def test_what_is_no_traceparent_begins_a_trace(given: str | None) -> None:
    trace = Trace.of(given, 1.0)
    assert trace.parent_id == 0
    assert trace.sampled
    assert f"{trace.trace_id:032x}" != TRACE
    assert Trace.of("01" + CLIENT[2:] + "-more", 0.0).parent_id == int(PARENT, 16)
