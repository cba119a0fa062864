"""Labels of texts by a model that sees the texts alone: the check of written rows, and the teacher."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from classifiers.training.spend import (
    ChatModel,
    Estimate,
    Message,
    Reply,
    most_tokens_of,
    prompt_tokens_of,
)
from classifiers.training.synth_caller import Ask, Call, Caller, GivenUp
from classifiers.training.synth_journal import Entry, digest
from classifiers.training.synth_replies import BadReply, Verdict, Verdicts, items_of, schema_of
from classifiers.training.synthesis_prompts import NONE, Labels, label_prompt, label_tokens

Verdicts_ = list[frozenset[str] | None]
BATCH = 20
ROOM = 3
"""A reply may be so many times longer than expected; models that think aloud need it."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Verdicts by text.

    Attributes:
        labels: text -> its labels; texts without a verdict are not in it.
        given_up: questions that no reply answered.
    """

    labels: dict[str, frozenset[str]]
    given_up: tuple[GivenUp, ...] = ()


class PromptedJudge:
    """A chat model that labels texts by a prompt made of the labels' descriptions.

    Args:
        model: is asked.
        labels: of the task.
        own: the user's own instructions.
        again: another number asks anew for texts that have a verdict already.
        source: whose verdicts they are; by default the model's by name, wherever it is served.
    """

    def __init__(
        self,
        model: ChatModel,
        labels: Labels,
        *,
        own: str = "",
        again: int = 0,
        batch: int = BATCH,
        source: str = "",
    ) -> None:
        self.name = model.name
        self.batch = batch
        self._model = model
        self._labels = labels
        self._own = own
        self._again = again
        self._source = source or model.name
        self.spec = digest("judge", self._source, labels.told(), labels.one_of, own, again)

    def ask(self, texts: Sequence[str], about: tuple[str, ...]) -> Ask[Verdicts_]:
        """The question after the labels of some texts."""
        messages = label_prompt(self._labels, texts, self._own)

        def room(call: Call) -> int:
            return ROOM * label_tokens(len(texts)) * call.room + 400

        def send(call: Call) -> Reply:
            return self._model.complete(
                corrected(messages, call),
                temperature=0.0,
                max_tokens=room(call),
                json_schema=schema_of(Verdicts),
            )

        return Ask(
            key=digest(self.spec, about),
            spec=self.spec,
            about=about,
            send=send,
            parse=lambda reply: self.read(reply, len(texts)),
            worst=lambda call: self._model.price(most_tokens_of(messages), room(call)),
            price=self._model.price,
            prompt=prompt_tokens_of(messages),
        )

    def read(self, reply: Reply, count: int) -> Verdicts_:
        """A verdict for each of the texts, None where the reply has none that can be used."""
        items, _ = items_of(reply, Verdicts, "verdicts", Verdict, 4 * count)
        found: Verdicts_ = [None] * count
        for item in items:
            if 1 <= item.n <= count:
                found[item.n - 1] = self._labels_of(item)
        if 2 * sum(verdict is not None for verdict in found) < count:
            raise BadReply("the reply has no usable label for most of the texts")
        return found

    def anew(self) -> PromptedJudge:
        """The same judge, that knows none of its verdicts."""
        return PromptedJudge(
            self._model,
            self._labels,
            own=self._own,
            again=self._again + 1,
            batch=self.batch,
            source=self._source,
        )

    def estimate(self, texts: int, tokens_per_text: int) -> Estimate:
        """What so many texts will take."""
        calls = -(-texts // self.batch)
        fixed = prompt_tokens_of(label_prompt(self._labels, [], self._own))
        up = calls * fixed + texts * (tokens_per_text + 8)
        down = label_tokens(self.batch) * calls
        return Estimate(self.name, calls, up, down, self._model.price(up, down))

    def _labels_of(self, item: Verdict) -> frozenset[str] | None:
        names = {name.casefold(): name for name in self._labels.names}
        given = (label.strip() for label in item.labels)
        labels = frozenset(names.get(label.casefold(), label) for label in given)
        if NONE in labels and NONE not in self._labels.names:
            labels -= {NONE}
            if labels:  # none and something
                return None
        if not labels <= set(self._labels.names) or (self._labels.one_of and len(labels) > 1):
            return None
        if not labels and not self._labels.none:
            return None
        return labels


class Judge(Protocol):
    """What labels texts: a prompted model, or an endpoint (see :mod:`teacher`)."""

    @property
    def name(self) -> str: ...

    @property
    def batch(self) -> int:
        """Texts of one question."""
        ...

    @property
    def spec(self) -> str:
        """Changes whenever a text could get another label."""
        ...

    def ask(self, texts: Sequence[str], about: tuple[str, ...]) -> Ask[Verdicts_]:
        """The question after the labels of some texts."""
        ...

    def read(self, reply: Reply, count: int) -> Verdicts_:
        """A verdict for each text, None where there is none; raises BadReply."""
        ...

    def anew(self) -> Judge:
        """The same judge, that knows none of its verdicts: to see whether it contradicts itself."""
        ...

    def estimate(self, texts: int, tokens_per_text: int) -> Estimate:
        """What so many texts will take."""
        ...


def judged(
    judge: Judge,
    texts: Iterable[str],
    caller: Caller,
    done: Callable[[int, int], None] | None = None,
) -> Judged:
    """Labels of texts; each is asked after once, in this run and in all later ones.

    Args:
        judge: labels.
        texts: any; equal ones count once.
        caller: pays.
        done: called with (texts, total) of those that were asked after.

    Raises:
        As :meth:`Caller.all`.
    """
    by_hash = {text_hash(text): text for text in texts}
    paid = known(judge, caller.journal.entries)
    found = {by_hash[key]: said for key in by_hash if (said := paid.get(key)) is not None}
    todo = [key for key in by_hash if key not in paid]
    parts = [tuple(todo[first : first + judge.batch]) for first in range(0, len(todo), judge.batch)]
    failed: list[GivenUp] = []
    while parts:
        asks = [judge.ask([by_hash[key] for key in part], part) for part in parts]

        def told(answered: int, total: int) -> None:
            if done is not None:
                done(min(answered * judge.batch, len(todo)), len(todo))

        answers: list[Verdicts_ | GivenUp] = caller.all(asks, told)
        halves: list[tuple[str, ...]] = []
        for part, answer in zip(parts, answers, strict=True):
            if not isinstance(answer, GivenUp):
                verdicts = zip(part, answer, strict=True)
                found |= {by_hash[key]: said for key, said in verdicts if said is not None}
            elif answer.filtered and len(part) > 1:
                # One text is enough for a provider's filter to refuse all of them.
                halves += [part[: len(part) // 2], part[len(part) // 2 :]]
            else:
                failed.append(answer)
        parts = halves
    return Judged(found, tuple(failed))


def known(judge: Judge, entries: Iterable[Entry]) -> dict[str, frozenset[str] | None]:
    """Verdicts that earlier runs paid for, by the hash of the text; None where the reply had none."""
    found: dict[str, frozenset[str] | None] = {}
    for entry in entries:
        if entry.spec != judge.spec:
            continue
        try:
            verdicts = judge.read(entry.reply, len(entry.about))
        except BadReply:
            continue
        found |= zip(entry.about, verdicts, strict=True)
    return found


def corrected(messages: Sequence[Message], call: Call) -> list[Message]:
    """The messages, and what was wrong with the reply before."""
    if not call.fault:
        return list(messages)
    *before, last = messages
    note = f"Your last reply could not be used: {call.fault}. Reply with the JSON alone."
    return [*before, {**last, "content": f"{last['content']}\n\n{note}"}]


def text_hash(text: str) -> str:
    """Names a text in a journal."""
    return digest(text)
