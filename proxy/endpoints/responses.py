"""``POST /v1/responses``."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any

from classifiers.types import Text
from policies.decision import Reply
from proxy.endpoints import derived, leaves, responses_leaves, responses_made, responses_request
from proxy.endpoints.base import Address, Body, Delta, Endpoint, Progress, ReplyContext, Usage
from proxy.endpoints.responses_events import CHOICE, delta, is_said
from proxy.endpoints.responses_progress import Sent

_LAST = frozenset({"response.completed", "response.incomplete"})
_FAILED = frozenset({"error", "response.failed", "response.cancelled"})


class Responses(Endpoint):
    """The responses API of OpenAI, plain and streamed. What is stored at the provider is not
    answered here: ``GET /v1/responses/{id}`` would hand out texts that nobody has checked.

    Args:
        said: strings and names of the request that a reply may repeat.
    """

    name = "responses"
    path = "/v1/responses"
    operation = "chat"
    id_prefix = "resp_"
    prompt_field = "input"
    ends_itself = True
    repeats = True

    def __init__(self, said: Collection[str] = frozenset()) -> None:
        self._said = said

    def validate(self, body: Body) -> None:
        responses_request.validate(body)

    def texts(self, body: Body) -> list[Text]:
        return responses_request.texts(body)

    def unread(self, body: Body) -> list[Address]:
        return responses_request.unread(body)

    def within(self, body: Body) -> Endpoint:
        return Responses(responses_leaves.said(body))

    def reply_texts(self, reply: Body) -> list[Text]:
        strings = responses_leaves.texts(reply, self._said)
        found = [Text(text, "assistant", at, "output") for at, text in strings]
        made = [text for own in found for text in derived.decoded(own)]
        said = [
            text for text in found if text.address[:1] == ("output",) and is_said(text.address[1:])
        ]
        return [*found, *made, *(derived.joined(said) if len(said) > 1 else ())]

    def reply_unscanned(self, reply: Body) -> list[str]:
        found = responses_leaves.generated(reply, self._said)
        return [".".join(map(str, ("reply", *leaves.shown(where)))) for where in found]

    def deltas(self, event: Body) -> list[Delta]:
        strings = responses_leaves.texts(event, self._said)
        return [delta(event, at, text) for at, text in strings]

    def finished(self, event: Body) -> Sequence[Hashable]:
        return (CHOICE,) if self.ends(event) else ()

    def ends(self, event: Body) -> bool:
        return event.get("type") in _LAST

    def failed(self, event: Body) -> bool:
        return event.get("type") in _FAILED or bool(event.get("error"))

    def progress(self) -> Progress | None:
        return Sent()

    def usage(self, reply: Body) -> Usage | None:
        response = reply.get("response", reply)
        usage = response.get("usage") if isinstance(response, dict) else None
        if not isinstance(usage, dict):
            return None
        counts = [usage.get(name) for name in ("input_tokens", "output_tokens")]
        # Servers have bugs, and bills are made of this.
        given = [count for count in counts if type(count) is int and count >= 0]
        return Usage(*given) if len(given) == 2 else None

    def is_json(self, address: Address) -> bool:
        return address[-1:] == ("arguments",)

    def event_name(self, event: Body, given: str) -> str:
        return str(event["type"])  # of an event that is sound

    def scrub(self, body: Body, address: Address) -> None:
        for key in (*address[:-1], None):
            if isinstance(body, dict) and isinstance(body.get("logprobs"), list):
                body["logprobs"] = []
            if key is not None:
                body = body[key]  # type: ignore[index]  # a path through objects and lists

    def sound(self, body: Body) -> bool:
        return responses_leaves.sound(body, self._said)

    def strip(self, body: Body) -> None:
        responses_leaves.drop_logprobs(body)

    def context(self, body: Mapping[str, Any], *, id: str, created: int) -> ReplyContext:
        own = responses_made.local_id(id, body.get("previous_response_id"))
        return ReplyContext(id=own, model=str(body.get("model", "")), created=created)

    def resumed(self, body: Body) -> Mapping[str, str | None]:
        before = body.get("previous_response_id")
        behind = responses_made.origin(before) if isinstance(before, str) else before
        return {} if behind == before else {"previous_response_id": behind}

    def answer(self, reply: Reply, context: ReplyContext, *, usage: Usage | None = None) -> Body:
        return responses_made.answer(reply, context, usage)

    def answer_events(self, reply: Reply, context: ReplyContext) -> list[bytes]:
        return responses_made.answer_events(reply, context, Sent(), None)

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
        return responses_made.answer_events(reply, context, _sent(context.progress), usage)

    def error_events(
        self,
        message: str,
        *,
        code: str,
        type: str = "server_error",
        progress: Progress | None = None,
    ) -> list[bytes]:
        return responses_made.error_events(message, code, type, _sent(progress).next)


def _sent(progress: Progress | None) -> Sent:
    return progress if isinstance(progress, Sent) else Sent()
