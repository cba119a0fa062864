"""What the gateway must know about an API's shapes, and the values it speaks in.

An endpoint is one file with one subclass of :class:`Endpoint`; ``proxy.endpoints.ENDPOINTS`` is the
table. Endpoints are pure: bodies in, texts and bodies out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from classifiers.types import Text
from policies.decision import Reply
from proxy.endpoints import leaves
from proxy.errors import Answer
from proxy.sse import encode

Body = dict[str, Any]
Address = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Delta:
    """One string of one stream event.

    Attributes:
        channel: deltas of one channel join to one text, e.g. ``(0, "content")`` for choice 0.
        text: the piece.
        address: where it stands in the event.
        role: role of the joined text (``assistant``).
        json: the joined text is JSON source (arguments of a tool call), so whatever is put into
            it must be escaped.
        whole: the string is complete in itself and may come again with every event (citations):
            it is not joined with its neighbours, and equal ones are checked once.
        repeats: the string is what its channel holds by now, said once more. It becomes what has
            become of the channel; where it is not the same, it counts as ``whole``.
        name: the text stands nowhere as a string of its own (the name of a field): it is checked,
            and nothing can be put in its place.
        flow: texts of one flow are read one after the other, so that what one begins the next may
            end; None for what stands by itself.
    """

    channel: tuple[Hashable, ...]
    text: str
    address: Address
    role: str = "assistant"
    json: bool = False
    whole: bool = False
    repeats: bool = False
    name: bool = False
    flow: Hashable = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the upstream counted them."""

    prompt_tokens: int
    completion_tokens: int


class Progress(Protocol):
    """What has left of a stream, for APIs whose end depends on it: open items, numbered events."""

    def note(self, event: Body) -> None:
        """An event leaves, in the form it leaves in."""


@dataclass(frozen=True, slots=True)
class ReplyContext:
    """What a locally made reply needs besides its text.

    Attributes:
        id: identifier of the completion, e.g. ``chatcmpl-...``.
        model: the model name the client asked for.
        created: unix time in seconds.
        choices: how many choices the client asked for (``n``).
        include_usage: the client asked for a usage chunk at the end of its stream.
        written: the upstream has written an answer, and this one stands in its place.
        progress: what the client has seen of the stream, see :meth:`Endpoint.progress`.
    """

    id: str
    model: str
    created: int
    choices: int = 1
    include_usage: bool = False
    written: bool = False
    progress: Progress | None = None


class Endpoint(ABC):
    """One API. Subclasses hold no state."""

    name: ClassVar[str]
    path: ClassVar[str]
    operation: ClassVar[str]
    """OpenTelemetry ``gen_ai.operation.name``."""
    id_prefix: ClassVar[str] = "chatcmpl-"
    """How the identifier of a reply made here begins."""
    prompt_field: ClassVar[str] = "messages"
    """The field of the body that a block with ``as: error`` names."""
    speaks: ClassVar[bool] = True
    """Whether a reply is text. Where it is none, no policy's words can stand in its place: ``answer``
    rules do not fire, and every block is an error."""

    ends_itself: ClassVar[bool] = False
    """A stream's last event is one of the API's own (:meth:`ends`); ``[DONE]`` ends nothing."""
    repeats: ClassVar[bool] = False
    """Events of a stream say texts again as a whole (:attr:`Delta.repeats`)."""

    @property
    def upstream_path(self) -> str:
        """Where an upstream has the same API, below its base URL."""
        return self.path.removeprefix("/v1/")

    @abstractmethod
    def validate(self, body: Body) -> None:
        """Raise ``proxy.errors.InvalidRequest(message, param)`` when the body cannot be understood."""

    @abstractmethod
    def texts(self, body: Body) -> list[Text]:
        """Every text of the request that a model could read, each with its address."""

    @abstractmethod
    def unread(self, body: Body) -> list[Address]:
        """Addresses of parts that hold no text we can read: images, audio, files."""

    def unscanned(self, body: Body) -> list[str]:
        """:meth:`unread` for records: dotted, ``?`` in place of names that the API does not know."""
        return [".".join(map(str, leaves.shown(at))) for at in self.unread(body)]

    @abstractmethod
    def reply_texts(self, reply: Body) -> list[Text]:
        """Every text of a complete upstream reply (stage ``output``)."""

    def reply_unscanned(self, reply: Body) -> list[str]:
        """Addresses (dotted) of parts of a reply or an event that no classifier can read."""
        found = leaves.generated(reply)
        return [".".join(map(str, ("reply", *leaves.shown(where)))) for where in found]

    @abstractmethod
    def deltas(self, event: Body) -> list[Delta]:
        """Every string of one stream event that reaches the user."""

    def names(self, event: Body) -> list[Delta]:
        """The names of fields in a stream event that no API knows, whole and as ``name``."""
        return []

    @abstractmethod
    def finished(self, event: Body) -> Sequence[Hashable]:
        """First channel elements (choice indexes) that this event ends, e.g. by a ``finish_reason``."""

    @abstractmethod
    def usage(self, reply: Body) -> Usage | None:
        """Token counts of a reply or of a stream event, if it has them."""

    @abstractmethod
    def answer(self, reply: Reply, context: ReplyContext, *, usage: Usage | None = None) -> Body:
        """A complete reply made here; zero usage, unless the upstream has counted some."""

    @abstractmethod
    def answer_events(self, reply: Reply, context: ReplyContext) -> list[bytes]:
        """The same as a stream: encoded server-sent events, the final ``[DONE]`` included."""

    @abstractmethod
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
        """Events that end a stream whose output was blocked.

        Args:
            open_choices: choices that have not been finished towards the client.
            silent: those of them of which the client has seen no text; they show ``reply.content``
                instead of ending in silence.
            opened: choices of which the client knows the role.
            usage: what the upstream counted, if it came that far.
        """

    def error_events(
        self,
        message: str,
        *,
        code: str,
        type: str = "server_error",
        progress: Progress | None = None,
    ) -> list[bytes]:
        """Events that tell the client of a failure inside a stream.

        The openai SDK raises ``APIError`` when it sees ``error`` in an event; there is no ``[DONE]``
        after it, so that no client takes the answer for a whole one.
        """
        error = {"message": message, "type": type, "param": None, "code": code}
        return [encode({"error": error})]

    def resumed(self, body: Body) -> Mapping[str, str | None]:
        """Top-level fields that refer to a reply made here, which no upstream knows, and what goes
        up in their place; None for nothing."""
        return {}

    def within(self, body: Body) -> Endpoint:
        """The endpoint as it reads the reply to one request, ``body`` as it goes up."""
        return self

    def progress(self) -> Progress | None:
        """A new record of what leaves of a stream, for APIs that need one to end it."""
        return None

    def ends(self, event: Body) -> bool:
        """Whether a stream is complete with this event, see ``ends_itself``."""
        return False

    def event_name(self, event: Body, given: str) -> str:
        """The name of an event that is written anew; one that says more than its type is dropped."""
        return given if given == event.get("type") else ""

    def opened(self, event: Body) -> Sequence[Hashable]:
        """Choices whose role this event states."""
        return ()

    def continued(self, context: ReplyContext, event: Body) -> ReplyContext:
        """What events made here need so that they go on a stream of which this is an event."""
        return context

    def failed(self, event: Body) -> bool:
        """Whether a stream event is the upstream's report of an error."""
        return bool(event.get("error"))

    def late(self, event: Body, finished: Collection[Hashable]) -> bool:
        """Whether a stream event goes on with a choice that is finished, or finishes it again."""
        return False

    def is_json(self, address: Address) -> bool:
        """Whether the string at an address of a reply is JSON source (arguments of a tool call)."""
        return False

    def scrub(self, body: Body, address: Address) -> None:  # noqa: B027  (most APIs hold no copies)
        """Remove copies of a text from a reply or an event after the text was rewritten, in place.

        Whoever replaces a string of a reply calls this with its address: the log probabilities
        of a choice, for instance, repeat its text token by token.
        """

    def counted(self, earlier: Usage | None, later: Usage | None) -> Usage | None:
        """The tokens of a stream, from those known so far and those of its next event."""
        return later or earlier

    def shaped(self, answer: Answer, request_id: str) -> Answer:
        """An error in the shape that clients of this API know, from OpenAI's."""
        return answer

    def sound(self, body: Body) -> bool:
        """Whether a reply or an event has a shape in which all of its text is found."""
        return True

    def strip(self, body: Body) -> None:  # noqa: B027  (most APIs hold no copies)
        """Remove, in place, what may hold text and is never classified."""

    def context(self, body: Mapping[str, Any], *, id: str, created: int) -> ReplyContext:
        """What :meth:`answer` needs, from the request body."""
        options = body.get("stream_options")
        return ReplyContext(
            id=id,
            model=str(body.get("model", "")),
            created=created,
            choices=int(body.get("n") or 1),
            include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        )


def string_at(body: Any, address: Address) -> str:
    """The string at an address. Raises KeyError, IndexError or TypeError where there is none."""
    for key in address:
        body = body[key]
    if not isinstance(body, str):
        raise TypeError(f"no string at {'.'.join(map(str, address))}")
    return body


def put_string(body: Any, address: Address, value: str) -> None:
    """Replace the string at an address, in place."""
    for key in address[:-1]:
        body = body[key]
    body[address[-1]] = value
