"""Every provider that does not speak OpenAI's API, by way of litellm.

This is the only file that imports litellm: the import takes seconds and some 160 MB, so it happens
in a thread when the first such model is called, or in :func:`warm_up`.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import logging
import os
import re
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from copy import copy
from typing import Any

import aiohttp
import orjson

from proxy.config import Timeouts
from proxy.endpoints.base import Body
from proxy.errors import UpstreamError
from proxy.litellm_apis import APIS, Api, lost, without_mcp_gateway
from proxy.sse import DONE, Event, encode, parse_event
from proxy.upstream_base import (
    CHAT_PATH,
    UpstreamReply,
    UpstreamStream,
    error_reply,
    passed_headers,
)

ROUTER_PARAMS = frozenset(
    {"rpm", "tpm", "itpm", "otpm", "weight", "order", "max_parallel_requests", "tags", "timeout"}
    | {"stream_timeout", "num_retries", "max_retries", "model_info"}
)
"""``litellm_params`` that are about litellm's router, which is not in use."""

MAX_MESSAGE_CHARS = 400

_PRIVATE = re.compile(
    r"[a-z][a-z0-9+.-]*://|www\.|(?:^|[\s\"'(])[/~\\][\w.-]+/|[A-Za-z]:\\|Traceback|line \d+"
    r"|\b(?:sk|key|bearer|token|api)[-_ :=]+[\w-]{6,}|\b[\w-]{32,}\b",
    re.IGNORECASE,
)
_loading = threading.Lock()
_log = logging.getLogger("doorman.litellm")


async def warm_up() -> None:
    """Import litellm now, off the event loop, so that the first request need not wait for it."""
    await asyncio.to_thread(_litellm)


class LitellmUpstream:
    """A model that litellm knows how to call.

    Args:
        model: litellm's name of it, e.g. ``anthropic/claude-sonnet-4-5``.
        options: the operator's other ``litellm_params``: key, base URL, region, defaults.
        timeouts: see the config.
        quiet: log nothing, for a caller that tells its user of every failure itself.
    """

    def __init__(
        self, model: str, options: Mapping[str, Any], timeouts: Timeouts, *, quiet: bool = False
    ) -> None:
        self._model = model
        self._options = {k: v for k, v in options.items() if k not in ROUTER_PARAMS}
        self._timeouts = timeouts
        self._quiet = quiet

    def __repr__(self) -> str:
        return f"LitellmUpstream({self._model!r})"

    def unknown_provider(self) -> str | None:
        """Why litellm could not call the model at all, with the fix; None where it can. Blocking:
        imports litellm."""
        litellm = _litellm()
        known = [str(getattr(provider, "value", provider)) for provider in litellm.provider_list]
        name = self._full_name()
        provider = name.partition("/")[0] if "/" in name else ""
        if provider in known:
            # Not asked further: for some providers litellm would sign in, to say the same.
            return None
        try:
            litellm.get_llm_provider(model=name)
        except Exception:
            bare = name.rpartition("/")[2]
            close = difflib.get_close_matches(provider, known, n=1, cutoff=0.7)
            hint = f"did you mean {close[0] + '/' + bare!r}? Else " if close else ""
            return (
                f"litellm knows no provider for the model {name!r}; {hint}write litellm's "
                f"PROVIDER/MODEL, or openai/{bare} with an api_base for a server of your own"
            )
        return None

    def missing_key(self) -> tuple[str, ...]:
        """The variables of which one must hold the provider's key, where none does; empty where
        there is a key, and for providers that may sign in by other ways. Blocking: imports litellm."""
        if self._options.get("api_key"):
            return ()
        name, litellm = self._full_name(), _litellm()
        # For some providers litellm would sign in to say which one it is, but not for bare names.
        provider = name.partition("/")[0] if "/" in name else litellm.get_llm_provider(name)[1]
        others = _KEYED.get(provider)
        if others is None or any(os.environ.get(other) for other in others):
            return ()
        return tuple(litellm.validate_environment(name)["missing_keys"])

    def _full_name(self) -> str:
        given = self._options.get("custom_llm_provider")
        return f"{given}/{self._model}" if isinstance(given, str) else self._model

    async def complete(
        self, body: Body, raw: bytes | None, headers: Mapping[str, str], *, path: str = CHAT_PATH
    ) -> UpstreamReply:
        """See :class:`proxy.upstream_base.Upstream`. ``raw`` and ``headers`` go nowhere: other
        providers have other ones."""
        reply = await self._call(body, path, stream=False, seconds=self._timeouts.total)
        if isinstance(reply, UpstreamReply):
            return reply
        parsed = _plain(reply.model_dump(exclude_none=True, mode="json"))
        for choice in parsed.get("choices", ()):
            choice.setdefault("finish_reason", None)
            _complete_choice(choice, APIS[path].whole)
            if path == CHAT_PATH:
                choice["message"].setdefault("content", None)
        return UpstreamReply(200, {}, orjson.dumps(parsed), parsed)

    @asynccontextmanager
    async def stream(
        self, body: Body, raw: bytes | None, headers: Mapping[str, str], *, path: str = CHAT_PATH
    ) -> AsyncIterator[UpstreamStream]:
        """See :class:`proxy.upstream_base.Upstream`."""
        chunks = await self._call(body, path, stream=True, seconds=self._timeouts.first_byte)
        if isinstance(chunks, UpstreamReply):
            yield UpstreamStream(chunks.status, chunks.headers, reply=chunks)
            return
        try:
            yield UpstreamStream(200, {}, self._events(chunks, APIS[path]))
        finally:
            close = getattr(chunks, "aclose", None)
            if close is not None:
                await close()

    async def close(self) -> None:
        """litellm's connections are shared by all models; see :func:`close`."""

    async def _call(self, body: Body, path: str, *, stream: bool, seconds: float) -> Any:
        """litellm's response, or what stands for its exception."""
        if (api := APIS.get(path)) is None:
            return error_reply(404, "This model does not answer this API.", "not_found")
        litellm = await asyncio.to_thread(_litellm)
        # The operator's values are defaults, as in litellm's router. What connects and pays is not
        # among the fields that clients may send.
        given = {key: body[key] for key in body.keys() & api.fields}
        params = {**self._options, **{k: v for k, v in given.items() if v is not None}}
        params |= {"model": self._model, "timeout": self._timeouts.total}
        if api.piece is not None or api.named:
            params["stream"] = stream
        if api.named and (fault := lost(params)) is not None:
            return error_reply(400, fault, "unsupported_parameter")
        try:
            async with asyncio.timeout(seconds):
                call = getattr(litellm, api.function)
                return await call(**params, num_retries=0, max_retries=0)
        except TimeoutError:
            raise UpstreamError(
                "timeout",
                f"The model's server did not begin to answer within {seconds:g} s.",
                begun=False,
            ) from None
        except Exception as error:
            return self._refused(error)

    async def _events(self, chunks: AsyncIterator[Any], api: Api) -> AsyncIterator[Event]:
        source = aiter(chunks)
        number = -1
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeouts.total
        while True:
            try:
                async with asyncio.timeout_at(min(loop.time() + self._timeouts.idle, deadline)):
                    chunk = await anext(source)
            except StopAsyncIteration:
                break
            except TimeoutError:
                raise UpstreamError(
                    "timeout",
                    f"The model's server fell silent for {self._timeouts.idle:g} s within its answer.",
                ) from None
            except Exception as error:
                _log.warning("%s while streaming from %s", type(error).__name__, self._model)
                raise UpstreamError(
                    "protocol", "The model's server broke off in the middle of its answer."
                ) from None
            body = _plain(chunk.model_dump(exclude_none=True, mode="json"))
            if api.named:
                name = str(body.get("type", ""))
                number += 1
                body["sequence_number"] = number
                yield Event(orjson.dumps(body), body, False, encode(body, name=name), name)
                continue
            for choice in body.setdefault("choices", []):
                _complete_choice(choice, api.piece)
                choice.setdefault("finish_reason", None)
            yield Event(orjson.dumps(body), body, False, encode(body))
        if not api.named:
            yield parse_event(b"[DONE]", DONE)

    def _refused(self, error: Exception) -> UpstreamReply:
        """A reply that says what an exception of litellm says, as far as clients may know.

        Raises:
            UpstreamError: there was no answer to speak of.
        """
        kind = type(error).__name__
        status = getattr(error, "status_code", None)
        if not self._quiet:
            _log.warning("%s from %s (status %s)", kind, self._model, status)
        if kind == "Timeout":
            raise UpstreamError(
                "timeout", "The model's server did not answer in time.", begun=False
            ) from None
        if kind == "APIConnectionError" and not _of_the_network(error):
            # What fails while litellm puts the request into a provider's words, it calls that too.
            message = "The request cannot be put into the words of the model's provider; check its fields."
            return error_reply(400, message, "bad_request")
        if kind == "APIConnectionError" or _never_connected(error):
            raise UpstreamError("connect", "The model's server cannot be reached.") from None
        if not isinstance(status, int) or not 400 <= status < 600:
            raise UpstreamError("protocol", "The request to the model's server failed.") from None
        headers = passed_headers(_headers(error))
        if status in (401, 403):
            message = "The model's server refused the gateway's credentials; tell its operator."
            return error_reply(status, message, "upstream_unauthorized", headers)
        said = self._said(str(getattr(error, "message", "")))
        message = said or f"The model's server answered with status {status}."
        return error_reply(status, message, _CODES.get(kind, "upstream_error"), headers)

    def _said(self, message: str) -> str:
        """The provider's own words, if there are any and they give nothing away.

        litellm's messages hold the provider's JSON error among names of classes, URLs and at times
        a traceback, so nothing but that error's ``message`` is used.
        """
        try:
            error = orjson.loads(message[message.index("{") : message.rindex("}") + 1])["error"]
            said = error["message"]
        except (ValueError, KeyError, TypeError):
            return ""
        secrets = [v for v in self._options.values() if isinstance(v, str) and len(v) > 3]
        if not isinstance(said, str) or _PRIVATE.search(said) or any(s in said for s in secrets):
            return ""
        return said[:MAX_MESSAGE_CHARS]


def _plain(value: Any) -> Body:
    """The same with the very types of JSON: a string of a class of its own would be sent and not read."""
    body: Body = orjson.loads(orjson.dumps(value))
    return body


def _complete_choice(choice: dict[str, Any], part: tuple[str, Any] | None) -> None:
    """litellm leaves out what is nothing; clients expect it."""
    if part is not None:
        choice.setdefault(part[0], copy(part[1]))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and all that led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _never_connected(error: BaseException) -> bool:
    """Whether no connection came about; litellm calls that an internal error of some servers."""
    return any(isinstance(one, aiohttp.ClientConnectorError) for one in _chain(error))


def _of_the_network(error: BaseException) -> bool:
    """Whether a connection failed, or was lost, somewhere below an exception."""
    return any(
        isinstance(one, OSError)
        or type(one).__module__.partition(".")[0] in ("aiohttp", "httpcore", "httpx")
        for one in _chain(error)
    )


_KEYED: Mapping[str, tuple[str, ...]] = {
    "anthropic": (),
    "cerebras": (),
    "deepinfra": (),
    "deepseek": (),
    "gemini": (),
    "groq": (),
    "mistral": ("MISTRAL_AZURE_API_KEY",),
    "openai": (),
    "openrouter": ("OR_API_KEY",),
}
"""Providers that take nothing but a key, from the variables that litellm's validate_environment
names and from these. Of many others it does not name all the ways to sign in."""

_CODES = {
    "BadRequestError": "bad_request",
    "ContentPolicyViolationError": "content_filter",
    "ContextWindowExceededError": "context_length_exceeded",
    "NotFoundError": "upstream_model_not_found",
    "RateLimitError": "rate_limit_exceeded",
    "UnsupportedParamsError": "unsupported_parameter",
}
"""litellm's exception -> OpenAI's error code."""


async def close() -> None:
    """Close litellm's connections, if it was ever imported."""
    if _loaded:
        await _loaded[0].close_litellm_async_clients()


_loaded: list[Any] = []


def _litellm() -> Any:
    """The module, quiet and without calls of its own to anywhere."""
    with _loading:
        if not _loaded:
            # Read at import: no price map from the network, no .env file from the working directory.
            os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
            os.environ.setdefault("LITELLM_MODE", "PRODUCTION")
            import litellm

            litellm.telemetry = False
            litellm.suppress_debug_info = True
            litellm.turn_off_message_logging = True
            for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
                # Its log lines hold requests and replies.
                logging.getLogger(name).setLevel(logging.CRITICAL + 1)
            without_mcp_gateway()
            _rehearse(litellm)
            _loaded.append(litellm)
    return _loaded[0]


def _rehearse(litellm: Any) -> None:
    """A call to nowhere: the first one loads the rest of litellm and would block the event loop
    for most of a second. Port 0 cannot be connected to, so nothing leaves this machine."""
    messages = [{"role": "user", "content": "rehearsal"}]
    with contextlib.suppress(Exception):
        litellm.completion(
            model="anthropic/rehearsal",
            messages=messages,
            api_key="none",
            api_base="http://127.0.0.1:0",
            num_retries=0,
            max_retries=0,
        )


def _headers(error: Exception) -> dict[str, str]:
    """The provider's headers of an error. For some providers litellm's own response has none, and
    they stand beside it."""
    response = getattr(error, "response", None)
    found = getattr(response, "headers", None) or getattr(error, "litellm_response_headers", None)
    return dict(found or {})
