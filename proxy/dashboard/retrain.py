"""The retrain page: corrections, a candidate with its table, then beside, promote, undo, a click each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from classifiers.candidates import CORRECT
from proxy.dashboard.kit import HOME, Answer, Handler, Visit
from proxy.feedback.give import judge
from proxy.feedback.trainer import Job, missing

RETRAIN = f"{HOME}/retrain"
NOTICES = {
    "started": "Retraining was started.",
    "beside": "The candidate scores what comes in from now on; nothing is decided by it.",
    "stopped": "The trial has ended.",
    "promoted": "The corrected pack is served.",
    "undone": "The pack from before is served again.",
    "removed": "The correction was taken back; the next candidate goes without it.",
}


async def retrain(visit: Visit) -> Answer:
    """Answer ``/dashboard/retrain/{name}``."""
    loop, name = visit.gateway.feedback, visit.params["name"]

    def found() -> dict[str, object]:
        loop.served.base(name)  # raises
        candidates = loop.shelf.candidates(name)
        chosen = visit.query.text("pack")
        picked = next((c for c in candidates if c.short == chosen), None) or next(
            iter(candidates), None
        )
        return {
            "candidates": candidates,
            "candidate": picked,
            "cuts": [] if picked is None else loop.served.cuts(name, picked.short),
            "missing": missing(),
            "pointer": loop.shelf.pointer(name),
        }

    shown = await asyncio.to_thread(found)
    return visit.template(
        "retrain.html",
        name=name,
        corrections=await loop.table.corrections(name),
        job=_job(visit, name),
        trial=loop.served.trials.get(name),
        install=CORRECT,
        version=visit.gateway.engine.classifiers[name].version,
        **shown,
    )


async def job(visit: Visit) -> Answer:
    """Answer ``/dashboard/retrain/{name}/job``: how far it is, as a fragment."""
    found = _job(visit, visit.params["name"])
    done = {} if found is not None and found.running else {"hx-refresh": "true"}
    return visit.template("retrain_job.html", 200, done, name=visit.params["name"], job=found)


def act(do: Callable[[Visit, str], Awaitable[object]], notice: str) -> Handler:
    """What answers a button: something is done to a classifier, and its page is shown again.

    Args:
        do: gets the visit and the classifier's name.
        notice: a word of ``NOTICES``.
    """

    async def handler(visit: Visit) -> Answer:
        name = visit.form.text("name")
        await do(visit, name)
        return visit.redirect(f"{RETRAIN}/{name}", notice)

    return handler


async def _promote(visit: Visit, name: str) -> None:
    loop, losing = visit.gateway.feedback, visit.form.text("losing") == "yes"
    await loop.promote(name, visit.form.text("pack"), visit.actor, losing=losing)


async def _try(visit: Visit, name: str) -> None:
    await visit.gateway.feedback.try_beside(name, visit.form.text("pack"), visit.actor)


async def _remove(visit: Visit, name: str) -> None:
    await judge(visit.gateway, visit.form.whole("id", 0), visit.actor, None)


ACTIONS: Mapping[str, Handler] = {
    "start": act(lambda visit, name: visit.gateway.feedback.retrain(name, visit.actor), "started"),
    "beside": act(_try, "beside"),
    "stop": act(
        lambda visit, name: visit.gateway.feedback.stop_trial(name, visit.actor), "stopped"
    ),
    "promote": act(_promote, "promoted"),
    "undo": act(lambda visit, name: visit.gateway.feedback.undo(name, visit.actor), "undone"),
    "remove": act(_remove, "removed"),
}
"""The buttons of the page; each is a POST to ``/dashboard/retrain/do/WORD``."""


def _job(visit: Visit, name: str) -> Job | None:
    found = visit.gateway.feedback.job
    return found if found is not None and found.classifier == name else None
