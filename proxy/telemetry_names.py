"""Every OpenTelemetry name, in one table.

GenAI names are those of the semantic conventions (open-telemetry/semantic-conventions-genai, v0.1,
still in development); the conventions have no span for guards yet, so those names are the gateway's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

REQUEST_SPAN = "{method} {route}"
UPSTREAM_SPAN = "{operation} {model}"
GUARD_SPAN = "apply_guardrail {stage}"
CLASSIFY_SPAN = "classify {stage}"
STEP_SPAN = "{step}"
TRY_EVENT = "doorman.try"

ATTRIBUTES: Mapping[str, str] = {
    "http.request.method": "Method; `_OTHER` for one that HTTP does not know.",
    "http.route": "Path of the API; absent where there is no such path.",
    "http.response.status_code": "Status of the answer; 499: the client left.",
    "error.type": "Status of 500 and above, or the code of the error.",
    "gen_ai.operation.name": "`chat`, `text_completion`, `embeddings`; `apply_guardrail` of a guard.",
    "gen_ai.provider.name": "Who was asked, by the conventions' names; `doorman` for the gateway itself.",
    "gen_ai.request.model": "The upstream's name of the model that was asked.",
    "gen_ai.request.stream": "True where a stream was asked for.",
    "gen_ai.response.model": "The model that says it answered.",
    "gen_ai.usage.input_tokens": "Tokens of the prompt.",
    "gen_ai.usage.output_tokens": "Tokens of the reply.",
    "gen_ai.response.time_to_first_chunk": "Seconds until the first event of a stream.",
    "gen_ai.token.type": "`input` or `output`, of the metric alone.",
    "doorman.decision_id": "As in the header `x-doorman-decision-id` and in the ledger.",
    "doorman.action": "What happened, or what a stage decided.",
    "doorman.policy": "`name@version` of the policy whose rule decided.",
    "doorman.rule": "That rule.",
    "doorman.classifier": "What made it fire.",
    "doorman.label": "The label that it found.",
    "doorman.classifiers": "What looked at the texts.",
    "doorman.stage": "`input` or `output`.",
    "doorman.shadow": "How many rules in shadow mode have fired.",
    "doorman.errors": "How many rules could not be decided.",
    "doorman.key": "Name of the client's key.",
    "doorman.model": "The alias that the client asked for.",
    "doorman.ended": "`complete`, `client_left`, or the code of the error.",
    "doorman.overhead_ms": "Milliseconds here, without waiting for upstream and client.",
    "doorman.busy_ms": "Of a step that was taken several times: milliseconds in it, all together.",
    "doorman.tokens.basis": "`upstream` where it counted them, `estimated` where not.",
    "doorman.cost_usd": "What the upstream call cost.",
    "doorman.saved_usd": "What was not spent.",
    "doorman.try.alias": "The entry of `model_list` that was tried.",
    "doorman.try.outcome": "HTTP status, or the code of the fault.",
    "doorman.try.seconds": "Until then.",
}
"""Attributes of spans, of their events and of metrics."""


@dataclass(frozen=True, slots=True)
class Instrument:
    """A histogram; ``buckets`` are upper bounds in ``unit``, those that the conventions advise."""

    unit: str
    help: str
    buckets: tuple[float, ...]


_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_FIRST = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
)
DURATION = "gen_ai.client.operation.duration"
USAGE = "gen_ai.client.token.usage"
FIRST_CHUNK = "gen_ai.client.operation.time_to_first_chunk"
INSTRUMENTS: Mapping[str, Instrument] = {
    DURATION: Instrument("s", "Time of a call of a model, with all tries.", _SECONDS),
    USAGE: Instrument(
        "{token}", "Tokens of a call.", tuple(float(4**power) for power in range(14))
    ),
    FIRST_CHUNK: Instrument("s", "Time until the first event of a stream.", _FIRST),
}
"""Metrics of calls that reached a model."""

OPERATIONS: Mapping[str, str] = {
    "chat.completions": "chat",
    "responses": "chat",
    "messages": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
}
"""What the conventions call an endpoint."""

PROVIDERS: Mapping[str, str] = {
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "cohere_chat": "cohere",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "vertex_ai": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}
"""What the conventions call a provider, where it is another word than litellm's."""
