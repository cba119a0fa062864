"""The APIs that litellm does for other providers, and what of a request reaches it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

from proxy.upstream_base import CHAT_PATH

FORWARDED_PARAMS = frozenset(
    {
        "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs",
        "max_completion_tokens", "max_tokens", "messages", "min_p", "modalities", "n",
        "parallel_tool_calls", "prediction", "presence_penalty", "prompt_cache_key", "reasoning",
        "reasoning_effort", "repetition_penalty", "response_format", "safety_identifier", "seed",
        "service_tier", "stop", "store", "stream_options", "temperature", "thinking",
        "tool_choice", "tools", "top_k", "top_logprobs", "top_p", "user", "verbosity",
        "web_search_options",
    }
)  # fmt: skip
"""Fields of a request that reach litellm. A list of what is allowed, because litellm takes some
350 parameters besides (endpoints, credentials, logging targets, mocks) and gains more every week."""


@dataclass(frozen=True, slots=True)
class Api:
    """How litellm does an API.

    Attributes:
        function: of litellm's.
        fields: of a request that reach it.
        whole, piece: what a choice of a reply, and of an event, must have besides ``finish_reason``,
            with what stands for nothing.
        named: its events have a name and a number, and the last one is no ``[DONE]``.
    """

    function: str
    fields: frozenset[str]
    whole: tuple[str, Any] | None = None
    piece: tuple[str, Any] | None = None
    named: bool = False


APIS: Mapping[str, Api] = {
    CHAT_PATH: Api("acompletion", FORWARDED_PARAMS, ("message", {}), ("delta", {})),
    "completions": Api(
        "atext_completion",
        frozenset(
            {
                "best_of", "echo", "frequency_penalty", "logit_bias", "logprobs", "max_tokens", "n",
                "presence_penalty", "prompt", "seed", "stop", "stream_options", "suffix",
                "temperature", "top_p", "user",
            }
        ),
        ("text", ""),
        ("text", ""),
    ),
    "responses": Api(
        "aresponses",
        frozenset(
            {
                "include", "input", "instructions", "max_output_tokens", "max_tool_calls",
                "parallel_tool_calls", "previous_response_id", "prompt", "prompt_cache_key",
                "reasoning", "safety_identifier", "service_tier", "store", "stream_options",
                "temperature", "text", "tool_choice", "tools", "top_logprobs", "top_p",
                "truncation", "user",
            }
        ),
        named=True,
    ),
    "embeddings": Api(
        "aembedding", frozenset({"dimensions", "encoding_format", "input", "user"})
    ),
}  # fmt: skip
"""By path."""


def lost(params: Mapping[str, Any]) -> str | None:
    """What litellm would lose of a request for a response without a word; None for nothing.

    litellm is imported by now: this asks one of its modules that it has no attribute for.
    """
    if params.get("previous_response_id"):
        main = import_module("litellm.responses.main")
        provider = params.get("custom_llm_provider")
        if not main.provider_stores_the_conversation(params["model"], provider, params):
            return (
                "This model's provider keeps no history, so 'previous_response_id' leads nowhere; "
                "send the whole conversation as 'input'."
            )
    return None


class _NoGateway:
    @staticmethod
    def should_use_litellm_mcp_gateway(tools: object) -> bool:
        """Never."""
        return False


def without_mcp_gateway() -> None:
    """Take litellm's own gateway to MCP servers out of the way, before it is first asked for.

    It is asked with every response, needs a package that is not installed, and would let clients
    name servers that litellm then connects to.
    """
    name = "litellm.responses.mcp.litellm_proxy_mcp_handler"
    module = ModuleType(name)
    vars(module)["LiteLLM_Proxy_MCP_Handler"] = _NoGateway
    sys.modules[name] = module
