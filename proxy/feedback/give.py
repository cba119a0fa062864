"""Enter what a person says of a decision: whose it is, which label, and which text."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from classifiers.heads import HeadClassifier
from classifiers.types import Classifier
from proxy.errors import InvalidRequest, NotFound, Unavailable
from proxy.feedback.recorded import UNCHECKED, Recorded
from proxy.feedback.request import Given
from proxy.ledgers.database import Refused
from proxy.ledgers.feedback import Feedback, Said, State

if TYPE_CHECKING:
    from proxy.gateway import Gateway


async def give(
    gateway: Gateway, given: Given, reporter: str, *, trusted: bool
) -> tuple[Feedback, bool]:
    """Enter feedback on a decision.

    Args:
        reporter: name of the key, or of who uses the dashboard.
        trusted: an admin, whose corrections count at once; others' are reports that a person confirms.

    Returns:
        What stands there now, and whether it is the first of this person on this decision.

    Raises:
        NotFound: there is no such decision, or it is another client's.
        InvalidRequest: the label or the text does not fit.
        Unavailable: there is no database, or it is away.
    """
    loop = gateway.feedback
    row = await loop.reader.one(given.decision_id)
    if row is None or not (trusted or (row["key"] or "") == reporter):
        raise NotFound(
            "No such decision of this key is recorded.", "decision_id", "decision_not_found"
        )
    recorded = Recorded.of(row, given.stage, given.chosen)
    said = _said(gateway, given, recorded, reporter, trusted)
    state: State = "noted" if given.verdict == "correct" else "reported"
    if given.verdict == "correct":
        said = replace(said, text=None)  # nothing is learnt from it
    if trusted and given.verdict == "wrong":
        if not given.train or (said.labels is None and _untrained(gateway, recorded)):
            state, said = "accepted", replace(said, labels=None, text=None)
        else:
            said = replace(said, text=said.text or recorded.text)
            if said.labels is not None and said.text is not None:
                state = "accepted"
    try:
        found, first = await loop.table.give(said, state, time.time())
    except Refused:  # two at once, of which the other was first
        raise Unavailable(
            "The feedback could not be entered; retry.", "ledger_unavailable"
        ) from None
    if first:
        gateway.metrics.add(
            "doorman_feedback_total",
            policy=said.policy,
            rule=said.rule,
            verdict=said.verdict,
        )
    return found, first


async def judge(
    gateway: Gateway, id: int, judge: str, given: Given | None, seen: str = ""
) -> Feedback:
    """Accept a report as a correction, or reject it.

    Args:
        judge: an admin.
        given: what is right: classifier, labels, text; or that there is nothing to train. None rejects.
        seen: the time of the report that the judge has looked at; empty accepts it as it stands.

    Raises:
        NotFound: there is no such report.
        InvalidRequest: the label or the text does not fit, or is missing, or who reported has said
            something else since.
    """
    loop, now = gateway.feedback, time.time()
    known = await loop.table.one(id)
    if known is None:
        raise NotFound("There is no such feedback.")
    if given is None:
        found = await loop.table.judge(id, "rejected", judge, now)
    else:
        if seen and seen != str(known.time):
            # Or one text could be shown to the judge, and another one be learnt.
            raise InvalidRequest("The report was changed meanwhile; load the page and look again.")
        changes = (
            await _changes(gateway, known, judge, given)
            if given.train
            else {"labels": None, "text": None}
        )
        found = await loop.table.judge(id, "accepted", judge, now, **changes)
    if found is None:
        raise NotFound("There is no such feedback.")
    return found


async def _changes(gateway: Gateway, known: Feedback, judge: str, given: Given) -> dict[str, Any]:
    """What makes a correction of a report; see :func:`judge`."""
    row = await gateway.feedback.reader.one(known.decision_id)
    if row is None:
        raise NotFound("The decision is not in the ledger any more; reject the report.")
    recorded = Recorded.of(row)
    merged = replace(
        given, classifier=given.classifier or known.classifier, text=given.text or known.text
    )
    if merged.labels is None:
        merged = replace(merged, labels=known.labels)
    said = _said(gateway, merged, recorded, judge, True)
    text = said.text or recorded.text
    if said.labels is None:
        raise InvalidRequest("Which label is right? Choose one, or none of them.", "label")
    if text is None:
        raise InvalidRequest(f"The text is needed. {recorded.fix}", "text")
    return {"classifier": said.classifier, "labels": said.labels, "text": text}


def _untrained(gateway: Gateway, recorded: Recorded) -> bool:
    """Whether what decided learns nothing from corrections: a FAQ, patterns, finds with a place."""
    known = gateway.engine.classifiers.get(recorded.classifier)
    return bool(recorded.cause) and (known is None or not trained(known))


def _said(gateway: Gateway, given: Given, recorded: Recorded, reporter: str, trusted: bool) -> Said:
    text = given.text
    if text is not None and not recorded.holds(text, gateway.accounts.hash_of):
        if recorded.told not in UNCHECKED:
            raise InvalidRequest(
                "`text` is no text of that request, or was recorded with another key "
                "(record.hash_key; without one it changes with every start).",
                "text",
                "text_mismatch",
            )
        if not trusted:
            raise InvalidRequest(
                "`text` cannot be compared with the record, which does not hold it: replies are never "
                "recorded, texts of requests with record.content: hash, redacted or full. Leave it out, or "
                "let an admin's key give it.",
                "text",
            )
    classifier = given.classifier or recorded.classifier
    if given.labels is not None:
        classifier = _classifier(gateway.engine.classifiers, classifier, given.labels)
    elif given.classifier and given.classifier not in gateway.engine.classifiers:
        raise _unknown(gateway.engine.classifiers)
    return Said(
        recorded.id, reporter, given.verdict, recorded.stage, recorded.policy, recorded.rule,
        classifier, given.labels, text, given.comment,
    )  # fmt: skip


def _classifier(known: Mapping[str, Classifier], name: str, labels: tuple[str, ...]) -> str:
    """The classifier that the labels are of.

    Raises:
        InvalidRequest: there is none, several, or it is none that can be corrected.
    """
    if not name:
        having = [n for n, one in known.items() if labels and set(labels) <= set(trained(one))]
        if len(having) != 1:
            raise InvalidRequest(
                "No rule decided, so `classifier` must say whose label this is.", "classifier"
            )
        name = having[0]
    if name not in known:
        raise _unknown(known)
    own = trained(known[name])
    if not own:
        raise InvalidRequest(
            f"Classifier {name} has no trained head, so it cannot be corrected by texts; leave `label` out "
            "to report the decision.",
            "classifier",
        )
    if wrong := [label for label in labels if label not in own]:
        raise InvalidRequest(
            f"Classifier {name} has no label {wrong[0][:80]!r}; it has: {', '.join(own)}.", "label"
        )
    if known[name].kind == "one_of" and len(labels) != 1:
        raise InvalidRequest(f"A text has exactly one label of {name}; send that.", "label")
    return name


def _unknown(known: Mapping[str, Any]) -> InvalidRequest:
    return InvalidRequest(
        f"`classifier` names none that is here; there are: {', '.join(known)}.", "classifier"
    )


def trained(classifier: Classifier) -> tuple[str, ...]:
    """The labels that a classifier can be taught by corrections; empty if it cannot."""
    return tuple(classifier.head.labels) if isinstance(classifier, HeadClassifier) else ()
