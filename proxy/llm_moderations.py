"""A moderation endpoint over HTTP for the trainer: any with the shape of OpenAI's ``/v1/moderations``."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from types import TracebackType
from urllib.parse import urlsplit

import aiohttp

from classifiers.training.spend import CallFailed, FailureKind, Reply
from proxy.config import ConfigError
from proxy.config_server import is_loopback
from proxy.llm import KEY_VARIABLE, Loop, retry_after

SECONDS = 60.0
MAX_BYTES = 16 << 20
"""Of a reply."""
_KINDS: Mapping[int, FailureKind] = {408: "timeout", 425: "timeout", 429: "busy", 529: "busy"}
_OPENAI = "api.openai.com"


class ModerationEndpoint:
    """A :class:`classifiers.training.synth_endpoint.Moderation` over HTTP.

    Args:
        url: the whole address, ``https://host/v1/moderations``; plain HTTP for this machine alone.
        model: sent with the texts, if given.
        environ: the bearer key is its ``DOORMAN_LLM_API_KEY``, for OpenAI's own address
            ``OPENAI_API_KEY``; none is sent if neither is set.
        dollars_per_1000: price of 1,000 texts; None where it is not known. OpenAI's is 0.
        seconds: for a whole call.
        allow_http: send texts and key in the clear to another machine.

    Raises:
        ConfigError: the address cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        environ: Mapping[str, str] = os.environ,
        dollars_per_1000: float | None = None,
        seconds: float = SECONDS,
        allow_http: bool = False,
    ) -> None:
        parts = urlsplit(url)
        host = parts.hostname
        if parts.scheme not in ("http", "https") or not host or parts.username or parts.password:
            raise ConfigError(
                "the teacher's endpoint is no address; write it like https://host/v1/moderations, "
                f"with its key in {KEY_VARIABLE}"
            )
        if parts.scheme == "http" and not (is_loopback(host) or allow_http):
            raise ConfigError(
                f"the teacher's endpoint {host} would get the texts in the clear; write https://"
            )
        self.name = f"{parts.scheme}://{parts.netloc}{parts.path}"
        self.source = f"{self.name} {model or ''}".rstrip()
        self._url = url
        self._model = model
        variable = "OPENAI_API_KEY" if host == _OPENAI else KEY_VARIABLE
        key = environ.get(variable)
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        if dollars_per_1000 is None and host == _OPENAI:
            dollars_per_1000 = 0.0
        self._price = dollars_per_1000
        self._seconds = seconds
        self._loop = Loop()

    def __enter__(self) -> ModerationEndpoint:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"ModerationEndpoint({self.name!r})"

    def close(self) -> None:
        """End the thread. Calls that are out get no answer."""
        self._loop.close()

    def price(self, texts: int) -> float | None:
        """See :class:`Moderation`."""
        return None if self._price is None else texts * self._price / 1000

    def moderate(self, texts: Sequence[str]) -> Reply:
        """See :class:`Moderation`."""
        body: dict[str, object] = {"input": list(texts)}
        if self._model is not None:
            body["model"] = self._model
        text: str = self._loop.run(self._post(json.dumps(body).encode("utf-8", "replace")))
        return Reply(text, 0, 0, self.price(len(texts)))

    async def _post(self, body: bytes) -> str:
        headers = {"content-type": "application/json", **self._headers}
        try:
            async with (
                asyncio.timeout(self._seconds),
                aiohttp.ClientSession(auto_decompress=True) as session,
                # A redirect could lead the key elsewhere.
                session.post(
                    self._url, data=body, headers=headers, allow_redirects=False
                ) as response,
            ):
                if response.status != 200:
                    raise self._failed(response.status, response.headers)
                data = bytearray()
                async for part in response.content.iter_chunked(1 << 16):
                    data += part
                    if len(data) > MAX_BYTES:
                        raise CallFailed("refused", f"{self.name}: the reply is too long")
                return data.decode("utf-8", "replace")
        except TimeoutError:
            message = f"{self.name}: no answer within {self._seconds:g} s"
            raise CallFailed("timeout", message) from None
        except aiohttp.ClientConnectorError:
            raise CallFailed("unreachable", f"{self.name}: cannot be reached") from None
        except aiohttp.ClientError as error:
            message = f"{self.name}: the connection failed ({type(error).__name__})"
            raise CallFailed("server", message) from None

    def _failed(self, status: int, headers: Mapping[str, str]) -> CallFailed:
        kind = _KINDS.get(status, "server" if status >= 500 else "refused")
        said = f"status {status}"
        if status in (401, 403):
            said = f"the key was refused; set {KEY_VARIABLE}"
        elif 300 <= status < 400:
            said = f"status {status}, a redirect; write the address that it leads to"
        lower = {name.lower(): value for name, value in headers.items()}
        return CallFailed(kind, f"{self.name}: {said}", retry_after(lower))
