"""Names that are sentences: ``ignore_all_rules`` is an identifier to a parser, and words to a model.

What an API gives a meaning to stands in closed tables, and identifiers without a word in them say
nothing. Everything else is read, and read again with its words apart.
"""

from __future__ import annotations

import re

VALUES = frozenset(
    {
        # roles and types of parts, items and tools
        "assistant", "base64", "code_execution", "code_interpreter", "computer_call",
        "computer_call_output", "computer_use_preview", "content", "custom", "custom_tool_call",
        "custom_tool_call_output", "developer", "document", "encrypted", "file", "file_search",
        "file_search_call", "function", "function_call", "function_call_output", "image",
        "image_generation", "image_generation_call", "image_url", "input_audio", "input_file",
        "input_image", "input_text", "item_reference", "json", "json_object", "json_schema",
        "list", "local_shell", "local_shell_call", "mcp", "mcp_call", "message", "model",
        "output_audio", "output_text", "reasoning", "reasoning_text", "redacted_thinking",
        "refusal", "search_result", "server_tool_use", "summary_text", "system", "text",
        "thinking", "tool", "tool_result", "tool_use", "url", "url_citation", "user", "video_url",
        "web_search", "web_search_20250305", "web_search_call", "web_search_preview",
        "web_search_tool_result",
        # items, tools and states of the responses API
        "additional_tools", "apply_patch", "apply_patch_call", "apply_patch_call_output",
        "approval", "calling", "code_interpreter_call", "compaction", "create_file",
        "delete_file", "exec", "exit", "file_citation", "file_path", "find_in_page", "generating",
        "interpreting", "local_shell_call_output", "logs",
        "mcp_approval_request", "mcp_approval_response", "mcp_list_tools", "open_page", "search",
        "searching", "shell", "shell_call", "shell_call_output", "timeout", "tool_search",
        "tool_search_call", "tool_search_output", "update_file",
        # JSON schemas
        "array", "boolean", "date", "date-time", "email", "integer", "null", "number", "object",
        "string", "time", "uri", "uuid",
        # settings
        "24h", "1h", "5m", "adaptive", "allowed_tools", "any", "approximate", "auto", "batch",
        "concise", "default", "detailed", "disabled", "enabled", "ephemeral", "fast", "flex",
        "float", "grammar", "high", "in-memory", "in_memory", "lark", "low", "max", "medium",
        "minimal", "none", "original", "priority", "regex", "required", "scale", "standard",
        "standard_only", "xhigh",
        # audio, images and files
        "aac", "audio", "flac", "jpeg", "mp3", "opus", "pcm16", "png", "wav", "webm", "webp",
        "application/json", "application/pdf", "audio/mpeg", "audio/wav", "image/gif",
        "image/jpeg", "image/png", "image/webp", "text/csv", "text/html", "text/markdown",
        "text/plain", "video/mp4",
        "alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx",
        "sage", "shimmer", "verse",
        # how things end
        "cancelled", "completed", "content_filter", "end_turn", "failed", "in_progress",
        "incomplete", "length", "max_output_tokens", "max_tokens", "pause_turn", "queued",
        "stop", "stop_sequence", "tool_calls",
        # what replies are
        "chat.completion", "chat.completion.chunk", "embedding", "response", "text_completion",
    }
)  # fmt: skip
"""What the APIs themselves say in fields of protocol. Nobody can write a sentence with these."""

ID_PREFIXES = (
    "audio", "batch", "call", "chatcmpl", "cmpl", "conv", "file", "fp", "fs", "fc", "gen", "ig",
    "item", "mcp", "msg", "req", "resp", "rs", "run", "srvtoolu", "toolu", "tooluse", "ws",
)  # fmt: skip
"""How identifiers begin that providers make."""

_PARTS = re.compile(
    r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+|[^\W_0-9A-Za-z]+",
)
_PREFIX = re.compile(rf"(?:{'|'.join(ID_PREFIXES)})[_-]")
_NAME = re.compile(r"[^\s]{1,256}")
_ID = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")
_VOWEL = re.compile(r"[aeiouyAEIOUY]")


def words(name: str) -> str | None:
    """A name with its words apart: ``getWeather_now`` becomes ``get Weather now``.

    None where it has not several, or is no name: too long, or with blanks.
    """
    if _NAME.fullmatch(name) is None:
        return None
    parts = _PARTS.findall(name)
    if len(parts) < 2 or not _speaks(parts):
        return None
    return " ".join(parts)


def opaque(name: str) -> bool:
    """Whether an identifier has no words: nobody could read anything in it.

    A word is a run of letters with a vowel among them; one run of three is chance, two are not.
    """
    if _ID.fullmatch(name) is None:
        return not name
    return not _speaks(_PARTS.findall(_PREFIX.sub("", name, count=1)))


def _speaks(parts: list[str]) -> bool:
    short = 0
    for part in parts:
        if not part.isascii():
            return True
        if len(part) >= 3 and _VOWEL.search(part):
            short += 1
            if len(part) > 3 or short > 1:
                return True
    return False
