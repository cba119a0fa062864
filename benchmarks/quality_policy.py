"""What the default policy does with ordinary requests, decided as the gateway decides."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.judging import BATCH, Bench, Part
from benchmarks.report import Check, Table, percent
from benchmarks.rows import Request, benign_names, requests
from benchmarks.servers import ROOT
from classifiers.engine import ClassifierEngine
from classifiers.pii import PiiClassifier
from classifiers.types import Classification, Classifier
from policies import schema
from policies.decision import Decision
from policies.engine import attached, evaluate
from policies.schema import BoundPolicy
from proxy.endpoints import ENDPOINTS
from proxy.endpoints.derived import across_turns

POLICY = ROOT / "policies" / "front-line.yaml"
CHAT = ENDPOINTS["/v1/chat/completions"]
FALSE_POSITIVES = 0.01
UNDECIDED = Classification({})


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of one file's requests, by number of requests.

    Attributes:
        blocked: blocks and errors; ``rules`` says by which rule.
        held_out, held_out_blocked: thereof in the splits dev and test.
    """

    name: str
    requests: int
    blocked: int
    held_out: int
    held_out_blocked: int
    answered: int
    redacted: int
    rules: Counter[str]

    @property
    def rate(self) -> float:
        return self.blocked / self.requests if self.requests else 0.0

    def cells(self) -> tuple[str, ...]:
        rules = ", ".join(f"{rule} {count}" for rule, count in self.rules.most_common())
        return (
            self.name,
            str(self.requests),
            str(self.blocked),
            percent(self.blocked, self.requests),
            f"{self.held_out_blocked} of {self.held_out}",
            str(self.answered),
            str(self.redacted),
            rules or "-",
        )


def false_positives(bench: Bench) -> Part:
    """What the default policy does with ordinary requests, file by file."""
    classifiers: list[Classifier] = [*bench.heads.values(), PiiClassifier()]
    engine = ClassifierEngine(classifiers, max_batch=BATCH)
    policy = schema.bind(schema.load(POLICY), engine.classifiers)
    data = bench.options.data
    seen: list[Seen] = []
    for name in (*benign_names(data), "injection/llmail_benign_emails", "spam/sms_spam"):
        items = bench.cut(requests(data, name, lambda r: r.label != "spam"))
        seen.append(_seen(name, items, decide(engine, policy, items)))
        print(f"{name}: {seen[-1].blocked} of {len(items)}", file=sys.stderr, flush=True)
    engine.close()
    benign = [one for one in seen if one.name.startswith("benign/")]
    total = _sum("**all of `benign/`**", benign)
    table = Table(
        "False positives of the default policy (`policies/front-line.yaml`)",
        ("file", "requests", "blocked", "rate", "held-out", "answered", "redacted", "rules"),
        tuple(one.cells() for one in (*seen, total)),
        "Blocked counts blocks and errors (false positives); answered are canned answers. The packs were "
        "trained on the train rows of most of these files: held-out are the blocked ones of the splits dev "
        "and test. Of `spam/sms_spam` only ham is sent.",
    )
    worst = max((one.rate for one in benign), default=0.0)
    what = "false positives of the default policy, "
    limit = f"<= {FALSE_POSITIVES:.0%}"
    return [table], [
        Check(what + "all of benign/", f"{total.rate:.2%}", limit, total.rate <= FALSE_POSITIVES),
        Check(what + "the worst file", f"{worst:.2%}", limit, worst <= FALSE_POSITIVES),
    ]


def _seen(name: str, items: Sequence[Request], decisions: Sequence[Decision]) -> Seen:
    stopped = [d.outcome in ("block", "error") for d in decisions]
    return Seen(
        name,
        requests=len(items),
        blocked=sum(stopped),
        held_out=sum(item.held_out for item in items),
        held_out_blocked=sum(s and i.held_out for s, i in zip(stopped, items, strict=True)),
        answered=sum(d.outcome == "answer" for d in decisions),
        redacted=sum(d.outcome == "redact" for d in decisions),
        rules=Counter(
            d.cause.rule if d.cause else "error"
            for s, d in zip(stopped, decisions, strict=True)
            if s
        ),
    )


def _sum(name: str, parts: Sequence[Seen]) -> Seen:
    return Seen(
        name,
        requests=sum(part.requests for part in parts),
        blocked=sum(part.blocked for part in parts),
        held_out=sum(part.held_out for part in parts),
        held_out_blocked=sum(part.held_out_blocked for part in parts),
        answered=sum(part.answered for part in parts),
        redacted=sum(part.redacted for part in parts),
        rules=sum((part.rules for part in parts), Counter[str]()),
    )


def decide(
    engine: ClassifierEngine, policy: BoundPolicy, items: Sequence[Request]
) -> list[Decision]:
    """The decisions on the requests, from their bodies on, as the gateway takes them."""
    policies = attached([policy], "default", "")
    names = policy.classifiers_for("input")
    rules = [bound.rule for bound in policy.rules if "input" in bound.rule.check]
    decisions: list[Decision] = []
    for first in range(0, len(items), BATCH):
        bodies: list[dict[str, Any]] = [
            {"model": "default", "messages": list(item.messages)}
            for item in items[first : first + BATCH]
        ]
        read = [CHAT.texts(body) for body in bodies]
        texts = [[*own, *across_turns(own, policy.refusals)] for own in read]
        wanted = [
            text for own in texts for text in own if any(r.covers(text, "input") for r in rules)
        ]
        # All at once: the encoder's threads are only used on more than one text.
        results = engine.classify_blocking([text.content for text in wanted], names)
        known = {id(text): result for text, result in zip(wanted, results, strict=True)}
        for own in texts:
            found = [known.get(id(text), UNDECIDED) for text in own]
            decisions.append(evaluate(policies, "input", own, found))
    return decisions
