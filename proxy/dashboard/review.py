"""The review queue: decisions that a person should look at, labelled by a click or a key."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from classifiers.types import Stage
from proxy.dashboard.decision import Fault, decision
from proxy.dashboard.kit import HOME, Answer, Visit
from proxy.errors import InvalidRequest, NotFound
from proxy.feedback.give import give, judge
from proxy.feedback.recorded import FIX, NONE, Recorded
from proxy.feedback.request import MOST_TEXT, Given
from proxy.feedback.review import queue

REVIEW = f"{HOME}/review"
NOTICES = {
    "labelled": "Noted. As a correction it counts with the next retraining.",
    "confirmed": "Noted: the decision was correct.",
    "rejected": "The report was rejected.",
    "counted": "Noted: it counts as called wrong, and nothing is trained with it.",
}
_SEPARATOR = "/"


async def review(visit: Visit) -> Answer:
    """Answer ``/dashboard/review``."""
    return await _page(visit)


async def label(visit: Visit) -> Answer:
    """Take what was said of a decision; what is wrong with it is told where it was said."""
    try:
        return await _taken(visit)
    except NotFound:
        raise
    except InvalidRequest as error:
        id = visit.form.text("decision_id")
        fault = Fault(id, error.message, visit.form.get("text", ""))
        if visit.form.text("back") != "decision":
            return await _page(visit, fault)
        here = replace(visit, params={"id": id})
        return await decision(here, fault)


async def _page(visit: Visit, fault: Fault | None = None) -> Answer:
    shown: dict[str, Any] = {"items": await queue(visit.gateway), "fault": fault}
    shown["elsewhere"] = fault is not None and all(
        i.decision_id != fault.id for i in shown["items"]
    )
    status = 200 if fault is None else 400
    return visit.template("review.html", status, config=visit.gateway.config, fix=FIX, **shown)


async def _taken(visit: Visit) -> Answer:
    form, gateway = visit.form, visit.gateway
    id, report = form.text("decision_id"), form.whole("report", 0)
    back = f"{HOME}/decisions/{id}" if form.text("back") == "decision" else REVIEW
    if form.text("verdict") == "correct":
        if report:
            await judge(gateway, report, visit.actor, None)
            return visit.redirect(back, "rejected")
        await give(gateway, Given(id, "correct"), visit.actor, trusted=True)
        return visit.redirect(back, "confirmed")
    untrained = form.text("use") == "nothing"
    given = Given(id, "wrong", train=False) if untrained else _correction(visit, id)
    if report:
        await judge(gateway, report, visit.actor, given, form.text("seen"))
    else:
        await _check_text(visit, given)
        await give(gateway, given, visit.actor, trusted=True)
    return visit.redirect(back, "labelled" if given.train else "counted")


def _correction(visit: Visit, id: str) -> Given:
    form = visit.form
    classifier, labels = _labels(visit)
    text = form.get("text", "").replace("\r\n", "\n")[: MOST_TEXT + 1]
    stages: dict[str, Stage] = {"input": "input", "output": "output"}
    return Given(
        id, "wrong", classifier, labels, text if text.strip() else None,
        stage=stages.get(form.text("stage")), chosen=_chosen(form.text("chosen_text")),
    )  # fmt: skip


def _chosen(given: str) -> int | None:
    """Which text of the request it is about; see :class:`Recorded`."""
    if not given:
        return None
    return int(given) if given.isascii() and given.isdigit() and len(given) < 9 else NONE


async def _check_text(visit: Visit, given: Given) -> None:
    """Without a text it would be no correction, and be back in the queue."""
    row = await visit.reader.one(given.decision_id)
    if row is None:
        raise NotFound("The ledger has no such decision.")
    recorded = Recorded.of(row, given.stage, given.chosen)
    if given.train and given.text is None and recorded.text is None:
        raise InvalidRequest(f"The text is needed. {recorded.fix}", "text")


def _labels(visit: Visit) -> tuple[str, tuple[str, ...]]:
    """Classifier and labels: of the button that was pressed, or as chosen in the list."""
    form = visit.form
    if form.text("use") != "chosen":
        name = form.text("label")
        return form.text("classifier"), (name,) if name else ()
    pairs = [chosen.partition(_SEPARATOR) for chosen in form.every("chosen")]
    classifiers = {classifier for classifier, _, _ in pairs}
    if len(classifiers) != 1:
        raise InvalidRequest("Choose one label or several, all of one classifier.", "chosen")
    names = tuple(name for _, _, name in pairs if name)
    if len(names) != len(pairs) and len(pairs) > 1:
        raise InvalidRequest("Choose labels, or none of them, not both.", "chosen")
    return classifiers.pop(), names
