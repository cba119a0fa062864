"""The policies page: rules and modes, their tests, what they did lately, and another threshold."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from policies import testing
from policies.schema import BoundPolicy, BoundRule
from policies.seen import LEAST
from proxy.backtests import threshold
from proxy.backtests.cases import Case
from proxy.backtests.threshold import BINS, Lever, WhatIf
from proxy.dashboard.kit import HOME, Answer, Visit
from proxy.errors import InvalidRequest, NotFound

POLICIES = f"{HOME}/policies"


@dataclass(frozen=True, slots=True)
class Lately:
    """What a rule did among the newest requests: fired, decided, and would have in shadow mode."""

    fired: int = 0
    decided: int = 0


@dataclass(frozen=True, slots=True)
class Shown:
    """A rule on the page.

    Attributes:
        decisions: address of the decisions that it made, or would have made.
    """

    bound: BoundRule
    lately: Lately
    levers: Sequence[Lever]
    decisions: str


async def policies(visit: Visit) -> Answer:
    """Answer ``/dashboard/policies``."""
    cases = await visit.desk.sample.cases(visit.reader)
    shown = [(policy, rules(policy, cases)) for policy in visit.gateway.policies.current]
    return visit.template("policies.html", shown=shown, looked_at=len(cases))


async def policy(visit: Visit) -> Answer:
    """Answer ``/dashboard/policies/of/{name}``."""
    found = named(visit)
    cases = await visit.desk.sample.cases(visit.reader)
    return visit.template(
        "policy.html",
        policy=found,
        file=Path(found.policy.source).name,
        rules=rules(found, cases),
        looked_at=len(cases),
    )


async def tests(visit: Visit) -> Answer:
    """Run the tests of a policy again, as a fragment. Nothing is changed, so nothing is audited."""
    found = named(visit)
    classify = visit.gateway.engine.classify_blocking
    failures = await asyncio.to_thread(testing.run_tests, found, classify)
    return visit.template("policy_tests.html", policy=found, failures=failures)


async def lever(visit: Visit) -> Answer:
    """Answer ``/dashboard/policies/of/{name}/threshold``: a rule's condition, and what moves with it."""
    found = asked(visit)
    cases = await visit.desk.sample.cases(visit.reader)
    at = point(visit, found.threshold)

    def drawn() -> tuple[list[int], WhatIf]:
        scores = [score for _, score in threshold.scored(found, cases)]
        return threshold.histogram(scores), moved(visit, found, at, cases)

    counts, result = await asyncio.to_thread(drawn)
    return visit.template(
        "policy_threshold.html",
        lever=found,
        at=at,
        bins={"counts": counts, "threshold": found.threshold, "bins": BINS},
        looked_at=len(cases),
        other_versions=threshold.of_other_versions(found, cases),
        keeps_texts=visit.gateway.config.record.content in ("redacted", "full"),
        **words(found, result),
    )


async def what_if(visit: Visit) -> Answer:
    """Answer ``/dashboard/policies/of/{name}/what-if``: what a threshold would change, as a fragment."""
    found = asked(visit)
    cases = await visit.desk.sample.cases(visit.reader)
    at = point(visit, found.threshold)
    result = await asyncio.to_thread(moved, visit, found, at, cases)
    return visit.template("policy_what_if.html", lever=found, **words(found, result))


def moved(visit: Visit, found: Lever, at: float, cases: Sequence[Case]) -> WhatIf:
    """What a threshold would change among cases."""
    return threshold.what_if(found, at, cases, visit.gateway.policies.current)


def words(found: Lever, result: WhatIf) -> dict[str, Any]:
    """What the fragment shows: the figures, and what to write into which line."""
    path = ("rules", found.policy.rules.index(found.rule), "when")
    where = found.policy.policy.at(*path)
    return {"result": result, "written": found.written(result.at), "where": Path(where).name}


def named(visit: Visit) -> BoundPolicy:
    """The policy that an address names. Raises NotFound."""
    name = visit.params["name"]
    for one in visit.gateway.policies.current:
        if one.policy.name == name:
            return one
    raise NotFound("No such policy is in force.")


def asked(visit: Visit) -> Lever:
    """The condition that an address names. Raises NotFound and InvalidRequest."""
    found = named(visit)
    number = visit.query.whole("number", 0, most=1000)
    for bound in found.rules:
        if bound.rule.name == visit.query.text("rule"):
            own = threshold.levers(found, bound)
            if number < len(own):
                return own[number]
    raise NotFound("There is no such rule, or it has no threshold of its own.")


def point(visit: Visit, otherwise: float) -> float:
    """The threshold that is asked for. Raises InvalidRequest."""
    at = visit.query.number("at", otherwise)
    if not LEAST <= at <= 1 and at != otherwise:
        raise InvalidRequest(
            f"`at` must be from {LEAST} to 1: lower scores are not recorded.", "at"
        )
    return at


def rules(policy: BoundPolicy, cases: Sequence[Case]) -> list[Shown]:
    """The rules of a policy with what they did lately."""
    fired: Counter[str] = Counter()
    decided: Counter[str] = Counter()
    for case in cases:
        if policy.id not in case.attached:
            continue
        names = {
            n for past in case.stages.values() for of, n in past.fired if of == policy.policy.name
        }
        fired.update(names)
        causes = {past.cause for past in case.stages.values() if past.outcome == case.before}
        decided.update(c[1] for c in causes if c is not None and c[0] == policy.policy.name)
    return [
        Shown(
            bound,
            Lately(fired[bound.rule.name], decided[bound.rule.name]),
            threshold.levers(policy, bound),
            _decisions(policy, bound),
        )
        for bound in policy.rules
    ]


def _decisions(policy: BoundPolicy, bound: BoundRule) -> str:
    # The ledger knows which rule decided, and whether any shadow rule fired.
    wanted = {"rule": bound.rule.name, "policy": policy.id}
    return f"{HOME}/decisions?{urlencode(wanted if bound.rule.enforced else {'shadow': 'yes'})}"
