"""An endpoint with the shape of OpenAI's ``/v1/moderations`` as a judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from classifiers.training.spend import Estimate, Reply
from classifiers.training.synth_caller import Ask
from classifiers.training.synth_journal import digest
from classifiers.training.synth_judge import Verdicts_
from classifiers.training.synth_replies import BadReply, json_of
from classifiers.training.synthesis_prompts import Labels

BATCH = 16
FLAGGED = "flagged"
"""Stands for the whole verdict, among the names of categories."""


class Moderation(Protocol):
    """A moderation endpoint. Blocking; called by several threads at once."""

    @property
    def name(self) -> str:
        """Stands in messages, journals and reports; holds no secret."""
        ...

    @property
    def source(self) -> str:
        """The address and, where one is named, the model, without a secret.
        Verdicts of another source are others."""
        ...

    def moderate(self, texts: Sequence[str]) -> Reply:
        """The reply's body as text: ``{"results": [{"flagged", "categories", ...}, ...]}``.

        Raises:
            CallFailed: there is none.
        """
        ...

    def price(self, texts: int) -> float | None:
        """Dollars for so many texts; None where the price is not known."""
        ...


class EndpointJudge:
    """A moderation endpoint that labels texts.

    Args:
        endpoint: is asked.
        labels: of the task.
        categories: label -> the endpoint's categories that mean it, ``flagged`` for its verdict as
            a whole; a label that is not there means the category of its name.
        threshold: a category counts from this score on; None for the endpoint's own verdict.
        again: another number asks anew for texts that have a verdict already.
    """

    def __init__(
        self,
        endpoint: Moderation,
        labels: Labels,
        *,
        categories: Mapping[str, Sequence[str]] | None = None,
        threshold: float | None = None,
        batch: int = BATCH,
        again: int = 0,
    ) -> None:
        self.name = endpoint.name
        self.batch = batch
        self._endpoint = endpoint
        self._labels = labels
        given = {label: tuple(names) for label, names in (categories or {}).items()}
        if unknown := sorted(given.keys() - set(labels.names)):
            raise ValueError(
                f"teacher: categories for {unknown[0]!r}, which is no label; "
                f"there are: {', '.join(labels.names)}"
            )
        self._categories = {label: given.get(label, (label,)) for label in labels.names}
        self._threshold = threshold
        self._again = again
        # Not the categories or the threshold: the same paid scores serve other ones.
        self.spec = digest("moderations", endpoint.source, again)

    def ask(self, texts: Sequence[str], about: tuple[str, ...]) -> Ask[Verdicts_]:
        """The question after some texts."""
        return Ask(
            key=digest(self.spec, about),
            spec=self.spec,
            about=about,
            send=lambda _: self._endpoint.moderate(texts),
            parse=lambda reply: self.read(reply, len(texts)),
            worst=lambda _: self._endpoint.price(len(texts)),
            price=lambda *_: None,
            prompt=0,
        )

    def read(self, reply: Reply, count: int) -> Verdicts_:
        """A verdict for each text; raises BadReply."""
        value = json_of(reply)
        results = value.get("results") if isinstance(value, dict) else None
        if not isinstance(results, list) or len(results) != count:
            raise BadReply(f"the reply has no list `results` of {count} items")
        return [self._labels_of(result) for result in results]

    def anew(self) -> EndpointJudge:
        """The same judge, that knows none of its verdicts."""
        return EndpointJudge(
            self._endpoint,
            self._labels,
            categories=self._categories,
            threshold=self._threshold,
            batch=self.batch,
            again=self._again + 1,
        )

    def estimate(self, texts: int, tokens_per_text: int) -> Estimate:
        """What so many texts will take."""
        calls = -(-texts // self.batch)
        price = self._endpoint.price(texts)
        return Estimate(self.name, calls, texts * tokens_per_text, 0, price)

    def _labels_of(self, result: Any) -> frozenset[str] | None:
        if not isinstance(result, dict):
            raise BadReply("an item of `results` is no object")
        flags, scores = result.get("categories"), result.get("category_scores")
        flags = flags if isinstance(flags, dict) else {}
        scores = scores if isinstance(scores, dict) else {}
        found: dict[str, float] = {}
        for label, names in self._categories.items():
            for name in names:
                found_here, score = self._one(name, result, flags, scores)
                if found_here:
                    found[label] = max(score, found.get(label, score))
        if not self._labels.one_of:
            return frozenset(found) if found or self._labels.none else None
        if not found:
            return frozenset() if self._labels.none else None
        return frozenset({max(found, key=lambda label: found[label])})

    def _one(
        self,
        name: str,
        result: Mapping[str, Any],
        flags: Mapping[str, Any],
        scores: Mapping[str, Any],
    ) -> tuple[bool, float]:
        """Whether a category holds, and its score."""
        if name == FLAGGED:
            if not isinstance(result.get(FLAGGED), bool):
                raise BadReply("an item of `results` has no `flagged`")
            return bool(result[FLAGGED]), 1.0
        score, flag = scores.get(name), flags.get(name)
        number = isinstance(score, int | float) and not isinstance(score, bool)
        if self._threshold is not None:
            if not number:
                raise BadReply(f"there is no score of {name!r}; there are: {_names(scores)}")
            return float(score or 0) >= self._threshold, float(score or 0)
        if not isinstance(flag, bool):
            raise BadReply(f"there is no category {name!r}; there are: {_names(flags)}")
        return flag, float(score or 0) if number else 1.0


def _names(found: Mapping[str, Any]) -> str:
    return ", ".join(sorted(map(str, found))[:20])[:400] or "none"
