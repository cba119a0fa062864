"""``POST /v1/completions``: a text that is continued, the older sister of the chat."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from classifiers.types import Text
from policies.decision import Reply
from proxy.endpoints import leaves, prompts
from proxy.endpoints.base import Address, Body, ReplyContext, Usage
from proxy.endpoints.chat import Chat
from proxy.errors import InvalidRequest
from proxy.sse import DONE, encode

_PROMPTS = ("prompt", "suffix")
_COPIES = ("logprobs", "prompt_logprobs", "prompt_token_ids", "token_ids")
"""Fields of a choice that repeat its text, or its prompt, token by token or by number."""
_UNREADABLE = ("prompt_embeds",)
"""Fields of servers' own that hold a prompt as numbers."""
_PIECE_CHARS = 200


class Completions(Chat):
    """The completions API. Its replies and events are the chat's but for what a choice holds."""

    name = "completions"
    path = "/v1/completions"
    operation = "text_completion"
    id_prefix = "cmpl-"
    prompt_field = "prompt"

    def validate(self, body: Body) -> None:
        prompts.validate_model(body, "a completion")
        if body.get("prompt") is not None:
            prompts.validate_prompts(body["prompt"], "prompt")
        for name in _UNREADABLE:
            if body.get(name) is not None:
                raise InvalidRequest(
                    f"'{name}' cannot be read and checked here; send the text as 'prompt'.",
                    name,
                    "unsupported_input",
                )
        prompts.expect(body.get("suffix"), str, "suffix")
        prompts.expect(body.get("stream"), bool, "stream")
        prompts.expect(body.get("echo"), bool, "echo")
        prompts.expect(options := body.get("stream_options"), dict, "stream_options")
        if options is not None:
            asked = options.get("include_usage")
            prompts.expect(asked, bool, "stream_options.include_usage")
        _validate_choices(body)
        prompts.validate_names(body)

    def texts(self, body: Body) -> list[Text]:
        return prompts.texts(body, _PROMPTS)

    def unread(self, body: Body) -> list[Address]:
        return list(leaves.unreadable(leaves.without(body, _PROMPTS)))

    def opened(self, event: Body) -> Sequence[Hashable]:
        return ()  # nobody speaks here, so there are no roles

    def scrub(self, body: Body, address: Address) -> None:
        if address[:1] == ("choices",) and len(address) > 1:
            _drop_copies(body["choices"][address[1]])

    def strip(self, body: Body) -> None:
        choices = body.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                _drop_copies(choice)

    def context(self, body: Mapping[str, Any], *, id: str, created: int) -> ReplyContext:
        found = super().context(body, id=id, created=created)
        return replace(found, choices=found.choices * _count(body.get("prompt")))

    def answer(self, reply: Reply, context: ReplyContext, *, usage: Usage | None = None) -> Body:
        return {
            **_head(context),
            "choices": [
                _choice(index, reply.content, reply.finish_reason)
                for index in range(context.choices)
            ],
            "usage": _usage(usage),
        }

    def cut_events(
        self,
        reply: Reply,
        context: ReplyContext,
        open_choices: Sequence[int],
        *,
        silent: Sequence[int] = (),
        opened: Collection[Hashable] = (),
        usage: Usage | None = None,
    ) -> list[bytes]:
        unheard, words = frozenset(silent), _pieces(reply.content)
        events: list[Body] = []
        for index in open_choices:
            if index in unheard:
                events += [{"choices": [_choice(index, part, None)]} for part in words]
            events.append({"choices": [_choice(index, "", reply.finish_reason)]})
        head = _head(context)
        if context.include_usage:
            head["usage"] = None
            events.append({"choices": [], "usage": _usage(usage)})
        return [encode(head | event) for event in events] + [DONE]


def _validate_choices(body: Body) -> None:
    """``n`` completions of each prompt, all of which a local answer has to make."""
    n = body.get("n")
    if n is None:
        return
    if type(n) is not int:
        raise prompts.wrong_type("n", "an integer", n)
    if n < 1:
        raise InvalidRequest(
            f"Invalid 'n': integer below minimum value. Expected a value >= 1, but got {n} instead.",
            "n",
            "integer_below_min_value",
        )
    if n * _count(body.get("prompt")) > prompts.MAX_PROMPTS:
        raise InvalidRequest(
            f"Invalid 'n': at most {prompts.MAX_PROMPTS} completions are made of all prompts "
            "together; ask for fewer.",
            "n",
            "integer_above_max_value",
        )


def _count(prompt: Any) -> int:
    return len(prompt) if isinstance(prompt, list) else 1


def _drop_copies(choice: Any) -> None:
    for name in _COPIES:
        if choice.get(name) is not None:
            choice[name] = None


def _head(context: ReplyContext) -> Body:
    return {
        "id": context.id,
        "object": "text_completion",
        "created": context.created,
        "model": context.model,
    }


def _choice(index: int, text: str, finish_reason: str | None) -> Body:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": finish_reason}


def _pieces(text: str) -> list[str]:
    return [text[at : at + _PIECE_CHARS] for at in range(0, len(text), _PIECE_CHARS)]


def _usage(usage: Usage | None) -> dict[str, int]:
    prompt, completion = (usage.prompt_tokens, usage.completion_tokens) if usage else (0, 0)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
