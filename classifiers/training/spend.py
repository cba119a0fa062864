"""What a chat model is to the trainer, and what its calls cost: asked before, counted after.

The trainer never talks to a network itself: it is handed a :class:`ChatModel`.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

BYTES_PER_TOKEN = 3
"""Bytes of UTF-8 per token, for estimates. Of the tokenizer of GPT-4 (cl100k) measured on 300 rows of
English 3.6, on a sentence of German or Russian 4.0, of Chinese, Arabic, Hindi or Japanese 2.4 to 2.6:
estimates are high for the first ones and up to a quarter low for the others."""

Message = Mapping[str, str]
"""``{"role": ..., "content": ...}``."""
FailureKind = Literal["busy", "timeout", "unreachable", "server", "refused", "filtered"]
RETRYABLE: frozenset[FailureKind] = frozenset({"busy", "timeout", "unreachable", "server"})


@dataclass(frozen=True, slots=True)
class Reply:
    """What a chat model answered.

    Attributes:
        text: the answer; empty where there is none.
        prompt_tokens, completion_tokens: as the provider counted them; None where it did not say.
        cost: dollars, None where the price or the number of tokens is not known.
        finish_reason: ``stop``, ``length``, ``content_filter`` or whatever the provider says.
    """

    text: str = field(repr=False)
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: float | None = None
    finish_reason: str = "stop"


class ChatModel(Protocol):
    """A chat model. Blocking; called by several threads at once."""

    @property
    def name(self) -> str:
        """Stands in messages, journals and reports; holds no secret."""
        ...

    @property
    def source(self) -> str:
        """The model and, where one is named, the server, without a secret.
        Verdicts of another source are others."""
        ...

    def complete(
        self,
        messages: Sequence[Message],
        *,
        temperature: float,
        max_tokens: int,
        json_schema: Mapping[str, Any] | None,
    ) -> Reply:
        """One answer, without retries.

        Raises:
            CallFailed: there is no answer.
        """
        ...

    def price(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        """Dollars for so many tokens; None where the price is not known."""
        ...


class CallFailed(Exception):
    """A call brought no answer.

    Args:
        kind: what happened; see RETRYABLE.
        message: one line without secrets.
        retry_after: seconds that the server wants to be left alone.
    """

    def __init__(self, kind: FailureKind, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after = retry_after


class SpendError(Exception):
    """The work cannot begin or go on; the message says why, what is saved, and how to resume."""


class CostLimit(SpendError):
    """The next call could bring the bill over ``max_cost``."""


def tokens_of(text: str) -> int:
    """Tokens of a text by BYTES_PER_TOKEN, rounded up."""
    return -(-len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN)


def prompt_tokens_of(messages: Sequence[Message]) -> int:
    """The same for the messages of a call, with 4 tokens of packing for each."""
    return sum(tokens_of(message["content"]) + 4 for message in messages)


def most_tokens_of(messages: Sequence[Message]) -> int:
    """The most that the messages may have, in any script and with a word on a fault of the reply
    before: what is reserved for a call."""
    return prompt_tokens_of(messages) * 4 // 3 + 120


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a piece of work will take, by BYTES_PER_TOKEN and the price of the model.

    Attributes:
        dollars: None where the price is not known.
    """

    model: str
    calls: int
    prompt_tokens: int
    completion_tokens: int
    dollars: float | None

    def line(self) -> str:
        """The estimate in one line, for people."""
        size = (
            f"about {self.calls} calls to {self.model}, {self.prompt_tokens:,} tokens up and "
            f"{self.completion_tokens:,} down"
        )
        if self.dollars is None:
            return f"{size}; its price is not known, so the cost is not either"
        return f"{size}: about {dollars(self.dollars)}"

    def check(self, max_cost: float | None, paid: float = 0.0) -> None:
        """Refuse work that would cost too much.

        Args:
            max_cost: dollars for the task in all, None for no limit.
            paid: dollars paid for it by earlier runs; what they brought need not be paid again.

        Raises:
            CostLimit: it would, or nobody can tell.
        """
        if max_cost is None:
            return
        if self.dollars is None:
            raise CostLimit(
                f"max_cost is {dollars(max_cost)}, but the price of {self.model} is not known; "
                "set input_cost_per_token and output_cost_per_token of the model (0 for a server "
                "of your own), or take max_cost out"
            )
        if max(self.dollars, paid) > max_cost:
            before = f" ({dollars(paid)} of it paid before)" if paid else ""
            raise CostLimit(
                f"the work would cost about {dollars(max(self.dollars, paid))}{before}, more than "
                f"max_cost {dollars(max_cost)}: {self.line()}; raise max_cost, ask for fewer rows, "
                "or take a cheaper model"
            )


def dollars(amount: float) -> str:
    """An amount for people, small ones not rounded to nothing."""
    return f"${amount:,.2f}" if amount >= 1 or amount == 0 else f"${amount:.4f}"


class Bill:
    """What was paid, and a lid on it. Safe to use from several threads.

    The lid holds for calls that are still out, too: each is reserved at its worst case first.

    Args:
        max_cost: dollars in all; None for no limit.
    """

    def __init__(self, max_cost: float | None = None) -> None:
        self.max_cost = max_cost
        self.paid = 0.0
        self.calls = 0
        """Replies that were paid in this run."""
        self.replayed = 0
        """Replies of earlier runs; their cost is part of ``paid``."""
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.estimated = 0
        """Replies whose tokens the provider did not tell; they are counted by BYTES_PER_TOKEN."""
        self.unpriced = 0
        """Replies that no price is known for."""
        self._reserved = 0.0
        self._out = 0
        self._changed = threading.Condition()

    def reserve(self, worst: float | None, stop: threading.Event) -> bool:
        """Make room for a call, waiting for calls that are out if need be.

        Args:
            worst: the most it can cost; None where that is not known.
            stop: ends the wait.

        Returns:
            False if ``stop`` came first.

        Raises:
            CostLimit: even with every other call settled there is no room.
        """
        amount = worst or 0.0
        with self._changed:
            while self.max_cost is not None and (
                self.paid + self._reserved + amount > self.max_cost
            ):
                if not self._out:
                    raise CostLimit(
                        f"the next call could bring the bill from {dollars(self.paid)} over "
                        f"max_cost {dollars(self.max_cost)}"
                    )
                if stop.is_set():
                    return False
                self._changed.wait(0.1)
            self._reserved += amount
            self._out += 1
        return True

    def settle(self, worst: float | None, reply: Reply | None, *, estimated: bool = False) -> None:
        """Put what a call did cost in place of its reservation; None: it brought nothing."""
        with self._changed:
            self._reserved = max(0.0, self._reserved - (worst or 0.0))
            self._out -= 1
            if reply is not None:
                self.calls += 1
                self._add(reply, estimated)
            self._changed.notify_all()

    def replay(self, reply: Reply, *, estimated: bool) -> None:
        """Count a reply that an earlier run paid for."""
        with self._changed:
            self.replayed += 1
            self._add(reply, estimated)

    def _add(self, reply: Reply, estimated: bool) -> None:
        self.prompt_tokens += reply.prompt_tokens or 0
        self.completion_tokens += reply.completion_tokens or 0
        self.paid += reply.cost or 0.0
        self.unpriced += reply.cost is None
        self.estimated += estimated

    def line(self) -> str:
        """The bill in one line, for people."""
        total = self.calls + self.replayed
        known = "" if not self.unpriced else f" ({self.unpriced} replies without a known price)"
        rule = f"; the tokens of {self.estimated} replies are estimates" if self.estimated else ""
        return (
            f"{dollars(self.paid)}{known} for {total} replies, {self.replayed} of them from earlier "
            f"runs; {self.prompt_tokens:,} tokens up, {self.completion_tokens:,} down{rule}"
        )

    def to_json(self) -> dict[str, Any]:
        """The bill as JSON; ``dollars`` is None where some price is not known."""
        return {
            "dollars": None if self.unpriced else round(self.paid, 6),
            "calls": self.calls,
            "replayed": self.replayed,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "replies_with_estimated_tokens": self.estimated,
            "replies_without_price": self.unpriced,
        }
