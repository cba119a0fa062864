"""The backtest page: a candidate policy against recorded decisions, in the background."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from classifiers.yaml_source import SourceError, read_text
from policies.schema import PolicyError
from proxy.backtests.job import Job
from proxy.backtests.result import certain, counted, lines
from proxy.backtests.tally import price_of
from proxy.dashboard.kit import HOME, Answer, Visit
from proxy.errors import InvalidRequest
from proxy.keystore import place_of

BACKTEST = f"{HOME}/backtest"
NOTICES = {"started": "It runs; nothing is changed by it.", "stopped": "It was stopped."}
DAYS = (1, 7, 30)
MOST = 20_000
DAY = 86_400.0
LONGEST = 200_000
CANDIDATE = "candidate.yaml"
ALONE = (
    "With several workers (server.workers) the next page may be another one's, which knows nothing of "
    "this backtest; use `doorman backtest`."
)


async def page(visit: Visit) -> Answer:
    """Answer ``/dashboard/backtest``; ``?policy=`` offers the file of a policy in force to change."""
    job, name = visit.desk.backtest, visit.query.text("policy")
    text = _written(visit, name) if name or job is None else job.text
    return _page(visit, text, 7, ())


async def start(visit: Visit) -> Answer:
    """Judge recorded decisions by a candidate."""
    if visit.gateway.config.server.workers > 1:
        raise InvalidRequest(ALONE)
    text, days = visit.form.get("text", ""), visit.form.whole("days", 7, least=1, most=366)
    _check_free(visit)
    current = visit.gateway.policies.current
    try:
        if len(text) > LONGEST:
            raise PolicyError(f"{CANDIDATE}: more than {LONGEST:,} characters; shorten it")
        found = await asyncio.to_thread(visit.gateway.policies.candidate, text, CANDIDATE)
    except PolicyError as error:
        return _page(visit, text, days, str(error).splitlines(), 400)
    names = [policy.policy.name for policy in current]
    after = tuple(found if p.policy.name == found.policy.name else p for p in current)
    job = Job(
        place_of(visit.gateway.config.ledger),
        current,
        after if found.policy.name in names else (*current, found),
        found.id,
        text,
        visit.actor,
        time.time() - days * DAY,
        MOST,
        price_of(visit.gateway.config),
    )
    await visit.audit("backtest", found.id, days=days)
    _check_free(visit)  # another may have begun meanwhile
    visit.desk.backtest = job
    threading.Thread(target=job.work, name="backtest", daemon=True).start()
    return visit.redirect(BACKTEST, "started")


def _check_free(visit: Visit) -> None:
    if visit.desk.backtest is not None and visit.desk.backtest.running:
        raise InvalidRequest("A backtest is under way; stop it first.")


async def progress(visit: Visit) -> Answer:
    """Answer ``/dashboard/backtest/job``: how far it is, as a fragment; the page anew when it is done."""
    job = visit.desk.backtest
    done = {} if job is not None and job.running else {"hx-refresh": "true"}
    return visit.template("backtest_job.html", 200, done, job=job)


async def stop(visit: Visit) -> Answer:
    """Give a backtest up."""
    if visit.desk.backtest is not None:
        visit.desk.backtest.stop()
    return visit.redirect(BACKTEST, "stopped")


def _written(visit: Visit, name: str) -> str:
    """The file of a policy in force; empty if there is none of that name, or it cannot be read."""
    for one in visit.gateway.policies.current:
        if one.policy.name == name:
            try:
                return read_text(Path(one.policy.source))
            except SourceError:
                return ""
    return ""


def _told(result: Mapping[str, Any]) -> list[str]:
    """What there is to say besides the tables; this page goes by scores, whatever was kept."""
    told = lines(result)
    if kept := result["judged"].get("untold", 0) - result["untold_without_texts"]:
        told.append(
            f"of {counted(kept, 'request')} that cannot be told here the texts were kept: `doorman "
            "backtest`, on the command line, classifies them anew"
        )
    return told


def _page(visit: Visit, text: str, days: int, faults: object, status: int = 200) -> Answer:
    job = visit.desk.backtest
    result = None if job is None else job.result
    return visit.template(
        "backtest.html",
        status,
        text=text,
        days=days,
        spans=DAYS,
        most=MOST,
        faults=faults,
        job=job,
        result=result,
        certain=certain,
        lines=_told(result) if result is not None else (),
        names=[policy.policy.name for policy in visit.gateway.policies.current],
        alone=ALONE if visit.gateway.config.server.workers > 1 else "",
    )
