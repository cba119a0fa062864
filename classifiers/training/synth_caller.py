"""Asking a model many questions at once: a few at a time, retried, journalled and within the budget."""

from __future__ import annotations

import queue
import random
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from classifiers.training.spend import RETRYABLE, Bill, CallFailed, Reply, tokens_of
from classifiers.training.synth_journal import MAX_REPLY_CHARS, Entry, Journal
from classifiers.training.synth_replies import BadReply

T = TypeVar("T")

CONCURRENCY = 4
ATTEMPTS = 3
"""Paid replies to one question before it is given up, each of them unreadable."""
RETRIES = 5
"""Calls after the first one that brought no reply: 1, 2, 4, 8 and 16 s apart, with jitter."""
LONGEST_WAIT = 300.0
"""Seconds; a server that wants to be left alone for longer ends the run."""
GRACE = 30.0
"""Seconds that calls which are out may take when a run ends early: their replies are paid for."""


@dataclass(frozen=True, slots=True)
class Call:
    """One try at a question.

    Attributes:
        fault: why the reply before it could not be used; empty the first time.
        room: factor on the reply's size, doubled after a reply that was cut off.
    """

    fault: str = ""
    room: int = 1


@dataclass(frozen=True, slots=True)
class Ask(Generic[T]):
    """A question.

    Attributes:
        key: the same in every run; see :func:`synth_journal.digest`.
        spec, about: see :class:`synth_journal.Entry`.
        send: asks the model; raises CallFailed.
        worst: dollars that the call costs at most, None if unknown.
        parse: reads the reply; raises BadReply.
        price: dollars for tokens, for replies without usage; None if unknown.
        prompt: the tokens of the question by the rule, for the same.
    """

    key: str
    send: Callable[[Call], Reply]
    parse: Callable[[Reply], T]
    worst: Callable[[Call], float | None]
    price: Callable[[int, int], float | None]
    prompt: int
    spec: str = ""
    about: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GivenUp:
    """No reply to a question could be used.

    Attributes:
        fault: of the last reply.
        before: an earlier run gave up.
        filtered: the provider refused to look at the question, so that it is no use to repeat it.
    """

    key: str
    fault: str
    before: bool = False
    filtered: bool = False


class _Stopped(Exception):
    """The run ends; nobody waits for the answer."""


class Caller:
    """Asks questions.

    Args:
        journal: what earlier runs paid for is taken from it, and counted on the bill.
        bill: empty.
        pause: seconds before the first retry, doubled each time.
        wait: waits; for tests. By default the wait ends early when the run does.
    """

    def __init__(
        self,
        journal: Journal,
        bill: Bill,
        *,
        concurrency: int = CONCURRENCY,
        pause: float = 1.0,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        self.journal = journal
        self.bill = bill
        self._concurrency = concurrency
        self._pause = pause
        self._wait = wait
        self._jitter = random.Random(0)  # noqa: S311 (spreads retries, nothing secret)
        for entry in journal.entries:
            bill.replay(entry.reply, estimated=entry.estimated)

    def all(
        self, asks: Sequence[Ask[T]], done: Callable[[int, int], None] | None = None
    ) -> list[T | GivenUp]:
        """Answers in the order of the questions.

        Args:
            asks: any number; a few are out at a time.
            done: called in the caller's thread with (answered, total).

        Raises:
            CallFailed: a call failed for good.
            CostLimit: the budget is spent.
            SpendError: the journal cannot be written.
            KeyboardInterrupt: once the calls that are out have been journalled.
        """
        stop = threading.Event()
        todo = deque(enumerate(asks))
        answers: queue.SimpleQueue[tuple[int, Any, BaseException | None]] = queue.SimpleQueue()

        def work() -> None:
            while not stop.is_set():
                try:
                    index, ask = todo.popleft()
                except IndexError:
                    return
                try:
                    answers.put((index, self._answer(ask, stop), None))
                except _Stopped:
                    return
                except BaseException as error:
                    answers.put((index, None, error))

        # Daemons, so that a call that hangs does not keep an interrupted program alive.
        count = min(self._concurrency, len(asks))
        threads = [threading.Thread(target=work, name="ask", daemon=True) for _ in range(count)]
        found: list[Any] = [None] * len(asks)
        try:
            for thread in threads:
                thread.start()
            for number in range(len(asks)):
                index, answer, error = answers.get()
                if error is not None:
                    raise error
                found[index] = answer
                if done is not None:
                    done(number + 1, len(asks))
        finally:
            stop.set()
            for thread in threads:
                if thread.ident is not None:
                    thread.join(GRACE)
        return found

    def _answer(self, ask: Ask[T], stop: threading.Event) -> T | GivenUp:
        call = Call()
        for entry in self.journal.replies(ask.key):
            try:
                return ask.parse(entry.reply)
            except BadReply as error:
                call = _next(call, error)
        if self.journal.given_up(ask.key):
            return GivenUp(ask.key, call.fault, before=True)
        for _ in range(ATTEMPTS):
            try:
                return ask.parse(self._paid(ask, call, stop))
            except BadReply as error:
                call = _next(call, error)
            except CallFailed as error:
                if error.kind != "filtered":
                    raise
                return GivenUp(ask.key, str(error), filtered=True)
        return GivenUp(ask.key, call.fault)

    def _paid(self, ask: Ask[Any], call: Call, stop: threading.Event) -> Reply:
        """A reply, on the bill and in the journal."""
        for retry in range(RETRIES + 1):
            if stop.is_set():
                raise _Stopped
            worst = ask.worst(call)
            if not self.bill.reserve(worst, stop):
                raise _Stopped
            reply = None
            estimated = False
            try:
                reply = ask.send(call)
                reply, estimated = _counted(ask, reply)
                self.journal.add(Entry(ask.key, ask.spec, ask.about, reply, estimated))
                return reply
            except CallFailed as error:
                seconds = self._seconds(error, retry)
                if seconds is None:
                    raise
            finally:
                self.bill.settle(worst, reply, estimated=estimated)
            (self._wait or stop.wait)(seconds)
        raise AssertionError("unreachable")

    def _seconds(self, error: CallFailed, retry: int) -> float | None:
        """How long to wait before the next try; None: it is no use."""
        if error.kind not in RETRYABLE or retry == RETRIES:
            return None
        if error.retry_after is not None and error.retry_after > LONGEST_WAIT:
            return None
        backoff: float = self._pause * 2.0**retry * (1 + self._jitter.random() / 2)
        return max(backoff, error.retry_after or 0.0)


def _next(call: Call, error: BadReply) -> Call:
    return Call(str(error), min(call.room * 2, 4) if error.cut_off else call.room)


def _counted(ask: Ask[Any], reply: Reply) -> tuple[Reply, bool]:
    """The reply with its tokens and its cost, counted by the rule where the provider did not."""
    if len(reply.text) > MAX_REPLY_CHARS:
        tokens = reply.completion_tokens or tokens_of(reply.text)
        reply = replace(reply, text=reply.text[: MAX_REPLY_CHARS + 1], completion_tokens=tokens)
    if reply.prompt_tokens is not None and reply.completion_tokens is not None:
        return reply, False
    if reply.cost is not None:  # priced by something else than tokens
        return reply, False
    prompt = ask.prompt if reply.prompt_tokens is None else reply.prompt_tokens
    given = reply.completion_tokens
    completion = tokens_of(reply.text) if given is None else given
    cost = ask.price(prompt, completion)
    return replace(reply, prompt_tokens=prompt, completion_tokens=completion, cost=cost), True
