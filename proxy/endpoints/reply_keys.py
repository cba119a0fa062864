"""Names of fields that servers write in replies and no request holds.

Whoever writes a reply chooses its names as well, so every name that is in no table is read. These
are so usual that reading them would make a check due with every reply.
"""

from __future__ import annotations

REPLY_KEYS = frozenset(
    {
        # the count of tokens
        "accepted_prediction_tokens", "audio_tokens", "cache_creation",
        "cache_creation_input_tokens", "cache_creation_tokens", "cache_read_input_tokens",
        "cache_write_tokens", "cached_tokens", "citation_tokens", "completion_time",
        "completion_tokens", "completion_tokens_details", "cost", "cost_details",
        "ephemeral_1h_input_tokens", "ephemeral_5m_input_tokens", "image_tokens", "input_tokens",
        "input_tokens_details", "is_byok", "num_search_queries", "num_sources_used",
        "output_tokens", "output_tokens_details", "prompt_cache_hit_tokens",
        "prompt_cache_miss_tokens", "prompt_time", "prompt_tokens", "prompt_tokens_details",
        "queue_time", "reasoning_tokens", "rejected_prediction_tokens", "server_tool_use",
        "text_tokens", "total_time", "total_tokens", "upstream_inference_completions_cost",
        "upstream_inference_cost", "upstream_inference_prompt_cost", "video_tokens",
        "web_search_requests",
        # what servers add to a reply or a choice
        "kv_transfer_params", "matched_stop", "prompt_logprobs", "prompt_token_ids",
        "provider_specific_fields", "reasoning_details", "thinking_blocks", "token_ids", "x_groq",
        # verdicts of the provider's own filter
        "content_filter_results", "custom_blocklists", "detected", "filtered", "hate",
        "jailbreak", "profanity", "prompt_filter_results", "prompt_index",
        "protected_material_code", "protected_material_text", "self_harm", "severity", "sexual",
        "violence",
    }
)  # fmt: skip
