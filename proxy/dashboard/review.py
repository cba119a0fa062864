"""The review queue: decisions that a person should look at, labelled by a click or a key."""

from __future__ import annotations

from proxy.dashboard.kit import HOME, Answer, Visit
from proxy.errors import InvalidRequest, NotFound
from proxy.feedback.give import give, judge
from proxy.feedback.recorded import FIX, Recorded
from proxy.feedback.request import MOST_TEXT, Given
from proxy.feedback.review import queue

REVIEW = f"{HOME}/review"
NOTICES = {
    "labelled": "Noted. As a correction it counts with the next retraining.",
    "confirmed": "Noted: the decision was correct.",
    "rejected": "The report was rejected.",
}
_SEPARATOR = "/"


async def review(visit: Visit) -> Answer:
    """Answer ``/dashboard/review``."""
    items = await queue(visit.gateway)
    return visit.template("review.html", items=items, config=visit.gateway.config, fix=FIX)


async def label(visit: Visit) -> Answer:
    """Take what was said of a decision."""
    form, gateway = visit.form, visit.gateway
    id, report = form.text("decision_id"), form.whole("report", 0)
    back = f"{HOME}/decisions/{id}" if form.text("back") == "decision" else REVIEW
    if form.text("verdict") == "correct":
        if report:
            await judge(gateway, report, visit.actor, None)
            return visit.redirect(back, "rejected")
        await give(gateway, Given(id, "correct"), visit.actor, trusted=True)
        return visit.redirect(back, "confirmed")
    classifier, labels = _labels(visit)
    text = form.get("text", "").replace("\r\n", "\n")[: MOST_TEXT + 1]
    given = Given(id, "wrong", classifier, labels, text if text.strip() else None)
    if report:
        await judge(gateway, report, visit.actor, given, form.text("seen"))
    else:
        await _check_text(visit, given)
        await give(gateway, given, visit.actor, trusted=True)
    return visit.redirect(back, "labelled")


async def _check_text(visit: Visit, given: Given) -> None:
    """Without a text it would be no correction, and be back in the queue."""
    row = await visit.reader.one(given.decision_id)
    if row is None:
        raise NotFound("The ledger has no such decision.")
    recorded = Recorded.of(row)
    if given.text is None and recorded.text is None:
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
