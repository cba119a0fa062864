"""Chat models and moderation endpoints for the trainer, which touches no network itself.

Every provider that litellm reaches, by way of :class:`proxy.upstream_litellm.LitellmUpstream`: one
event loop in a thread of its own serves any number of blocking callers.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from classifiers.training.spend import CallFailed, FailureKind, Message, Reply
from classifiers.training.synth_endpoint import EndpointJudge
from classifiers.training.synth_judge import Judge
from classifiers.training.synthesis_prompts import Labels
from classifiers.training.task import Task
from classifiers.training.teacher import prompted_teacher
from proxy.config import ConfigError, LitellmParams, Timeouts
from proxy.errors import UpstreamError
from proxy.prices import Prices
from proxy.upstream_base import UpstreamReply
from proxy.upstream_litellm import LitellmUpstream
from proxy.yaml_source import Source

SECONDS = 180.0
"""How long a call may take, where the model's ``timeout`` does not say."""
BASE_VARIABLE, KEY_VARIABLE = "DOORMAN_LLM_API_BASE", "DOORMAN_LLM_API_KEY"
"""Where the model is and its key, where the parameters name neither."""
NO_MODEL = (
    "no chat model is configured to write or label rows; either name one (model: PROVIDER/MODEL, "
    "with the provider's key in the environment), or give rows of your own with examples: or data:"
)
_FAULTS: Mapping[str, FailureKind] = {"timeout": "timeout", "connect": "unreachable"}
_OWN_PRICES = ("input_cost_per_token", "output_cost_per_token")
_DROPPABLE = ("response_format", "temperature")
"""Left out, one after the other, where a server will not have them; the prompt says in words what
the first of them says."""


def chat_model(
    params: str | Mapping[str, Any] | None, environ: Mapping[str, str] = os.environ
) -> LitellmChat:
    """The chat model that a user names.

    Args:
        params: litellm's name of the model, or its ``litellm_params``: ``model``, and where needed
            ``api_key``, ``api_base``, ``timeout``, ``input_cost_per_token`` and so on, where
            ``${NAME}`` stands for a variable of the environment.
        environ: the variables.

    Raises:
        ConfigError: there is none, a variable is not set, or litellm knows no such provider.
    """
    given = {"model": params} if isinstance(params, str) else dict(params or {})
    if not given.get("model"):
        raise ConfigError(NO_MODEL)
    source = Source("", "the chat model")
    source.values = given
    filled = source.resolve(environ)
    if "api_base" not in filled and environ.get(BASE_VARIABLE):
        filled["api_base"] = environ[BASE_VARIABLE]
    if "api_key" not in filled and environ.get(KEY_VARIABLE):
        filled["api_key"] = environ[KEY_VARIABLE]
    try:
        known = LitellmParams(**filled)
    except ValidationError as error:
        where = ", ".join(str(fault["loc"][0]) for fault in error.errors(include_input=False))
        raise ConfigError(f"the chat model: {where} must be text; put it in quotes") from None
    return LitellmChat(known.model, known.options())


@contextmanager
def teacher_judge(task: Task, labels: Labels) -> Iterator[Judge]:
    """The judge that a task's ``teacher:`` names, for a while: its thread ends with the block.

    Raises:
        ConfigError: see :func:`chat_model`.
    """
    wanted = task.teacher
    assert wanted is not None
    if wanted.endpoint_format == "moderations":
        if wanted.endpoint is None:
            raise ConfigError(
                f"{task.at('teacher')}: a teacher of the format moderations needs its address; write "
                "endpoint: https://api.openai.com/v1/moderations, or another"
            )
        from proxy.llm_moderations import ModerationEndpoint

        with ModerationEndpoint(wanted.endpoint, model=wanted.model) as endpoint:
            yield EndpointJudge(endpoint, labels)
        return
    params: dict[str, Any] = {"model": wanted.model}
    if wanted.endpoint is not None:
        params = {"model": f"openai/{wanted.model}", "api_base": wanted.endpoint}
    with chat_model(params) as model:
        yield prompted_teacher(model, labels, wanted.prompt or "")


class LitellmChat:
    """A :class:`classifiers.training.spend.ChatModel` that litellm knows how to call.

    Args:
        model: litellm's name of it; ``openai/NAME`` with ``api_base`` for any server that speaks
            OpenAI's API.
        options: litellm's other parameters. Without a key of its own, a server named by ``api_base``
            is sent none: keys in the environment are for the providers they belong to.
        prices: litellm's price map by default.

    Raises:
        ConfigError: litellm knows no such provider, or the prices are no numbers.
    """

    def __init__(
        self, model: str, options: Mapping[str, Any], *, prices: Prices | None = None
    ) -> None:
        options = {"drop_params": True, **options}
        if (options.get("api_base") or options.get("base_url")) and not options.get("api_key"):
            options["api_key"] = "none"
        self._own = _own_prices(options)
        self.name = model
        base = _without_secrets(options.get("api_base") or options.get("base_url"))
        self.source = f"{model} {base}".rstrip()
        self._prices = Prices.load() if prices is None else prices
        seconds = _seconds(options.get("timeout"))
        self._upstream = LitellmUpstream(model, options, Timeouts(total=seconds), quiet=True)
        if unknown := self._upstream.unknown_provider():
            raise ConfigError(f"the chat model: {unknown}")
        self._refused: frozenset[str] = frozenset()
        self._loop = Loop()

    def __enter__(self) -> LitellmChat:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"LitellmChat({self.name!r})"

    def close(self) -> None:
        """End the thread. Calls that are out get no answer."""
        self._loop.close()

    def price(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        """See :class:`ChatModel`: the user's own prices, else those of litellm's map."""
        if self._own is not None:
            return prompt_tokens * self._own[0] + completion_tokens * self._own[1]
        return self._prices.cost(self.name, prompt_tokens, completion_tokens)

    def complete(
        self,
        messages: Sequence[Message],
        *,
        temperature: float,
        max_tokens: int,
        json_schema: Mapping[str, Any] | None,
    ) -> Reply:
        """See :class:`ChatModel`. Without the provider's key nothing is sent. That is asked here and not
        before: a run whose replies are all paid for needs no key."""
        if names := self._upstream.missing_key():
            wanted = " or ".join(names)
            raise CallFailed(
                "refused",
                f"{self.name}: there is no key for the provider; set {wanted} in the environment, or "
                f"{KEY_VARIABLE}, or {BASE_VARIABLE} to the address of a server of your own",
            )
        body: dict[str, Any] = {
            "messages": [dict(message) for message in messages],
            "temperature": temperature,
            "max_tokens": max_tokens,
        }
        if json_schema is not None:
            schema = {"name": "reply", "strict": True, "schema": dict(json_schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        for name in self._refused:
            body.pop(name, None)
        reply = self._send(body)
        for name in _DROPPABLE:
            if _wrong_parameter(reply) and name in body:
                del body[name]
                reply = self._send(body)
                if reply.status < 400:
                    self._refused |= set(_DROPPABLE) - body.keys()
        if reply.status >= 400:
            raise self._failed(reply)
        return self._read(reply.json or {})

    def _send(self, body: dict[str, Any]) -> UpstreamReply:
        try:
            reply: UpstreamReply = self._loop.run(self._upstream.complete(body, None, {}))
            return reply
        except UpstreamError as error:
            raise CallFailed(
                _FAULTS.get(error.kind, "server"), f"{self.name}: {error.message}"
            ) from None

    def _failed(self, reply: UpstreamReply) -> CallFailed:
        said = ((reply.json or {}).get("error") or {}).get("message") or f"status {reply.status}"
        code = ((reply.json or {}).get("error") or {}).get("code")
        if reply.status in (401, 403):
            said = (
                "the provider refused the key; set the provider's own variable in the environment "
                f"(such as OPENAI_API_KEY), or {KEY_VARIABLE}"
            )
        kind: FailureKind = "refused"
        if code == "content_filter":
            kind = "filtered"
        elif reply.status in (408, 409, 425):
            kind = "timeout"
        elif reply.status in (429, 529):
            kind = "busy"
        elif reply.status >= 500:
            kind = "server"
        return CallFailed(kind, f"{self.name}: {said.rstrip('.')}", retry_after(reply.headers))

    def _read(self, body: Mapping[str, Any]) -> Reply:
        choice = (body.get("choices") or [{}])[0]
        text = (choice.get("message") or {}).get("content")
        usage = body.get("usage") or {}
        up, down = _tokens(usage.get("prompt_tokens")), _tokens(usage.get("completion_tokens"))
        if up == 0 and text:  # litellm fills in what the server left out
            up = down = None
        known = up is not None and down is not None
        cost = self.price(up, down) if up is not None and down is not None and known else None
        finish = str(choice.get("finish_reason") or "stop")
        return Reply(text if isinstance(text, str) else "", up, down, cost, finish)


class Loop:
    """An event loop in a thread; started by its first use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, work: Any) -> Any:
        """Run a coroutine to its end, from any thread."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="chat-model", daemon=True
                )
                self._thread.start()
            loop = self._loop
        return asyncio.run_coroutine_threadsafe(work, loop).result()

    def close(self) -> None:
        """Stop; whoever waits is told so."""
        with self._lock:
            loop, thread, self._loop = self._loop, self._thread, None
        if loop is None or thread is None:
            return

        async def end() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            loop.stop()

        asyncio.run_coroutine_threadsafe(end(), loop)
        thread.join(5)
        if not thread.is_alive():
            loop.close()


def _without_secrets(base: Any) -> str:
    """The address of a server without what may be a password or a key in it; empty for none."""
    if not isinstance(base, str) or not base:
        return ""
    parts = urlsplit(base)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server wants to be left alone; dates are not read."""
    for name, scale in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            seconds = float(headers[name]) / scale
        except (KeyError, ValueError):
            continue
        if 0 <= seconds < float("inf"):
            return seconds
    return None


def _wrong_parameter(reply: UpstreamReply) -> bool:
    """Whether a server may have refused a request for one of its parameters."""
    code = ((reply.json or {}).get("error") or {}).get("code")
    return reply.status in (400, 422) and code not in ("content_filter", "context_length_exceeded")


def _own_prices(options: dict[str, Any]) -> tuple[float, float] | None:
    """The user's prices per token, taken out of the options; None without any."""
    given = [options.pop(name, None) for name in _OWN_PRICES]
    if given == [None, None]:
        return None
    for name, price in zip(_OWN_PRICES, given, strict=True):
        if isinstance(price, bool) or not isinstance(price, int | float) or not 0 <= price < 1:
            raise ConfigError(f"the chat model: {name} must be dollars per token, such as 1.5e-7")
    return float(given[0] or 0), float(given[1] or 0)


def _seconds(value: Any) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and value > 0 else SECONDS


def _tokens(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
