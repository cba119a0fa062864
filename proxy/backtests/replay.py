"""Requests judged by their texts: classified anew, in as many processes as there are cores."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from classifiers.engine import ClassifierEngine
from classifiers.types import Classification, Stage, Text
from policies import schema
from policies.attached import Attached
from policies.decision import RANK, Cause, Decision
from policies.engine import evaluate
from policies.schema import BoundPolicy
from proxy.backtests.cases import Case, RuleKey
from proxy.backtests.memory import remember
from proxy.backtests.run import Judged, Replay
from proxy.backtests.spread import spread
from proxy.backtests.weigh import ENDS_INPUT, How, Scales, Verdict
from proxy.config import ClassifiersConfig
from proxy.endpoints import derived
from proxy.faqs import FaqShelf
from proxy.loading import load_classifiers

CHUNK = 64
"""Cases that one process is given at a time."""
WORTH_IT = 4 * CHUNK
"""With fewer cases other processes would only cost the time to load their models."""
MOST_TEXTS = 1_000_000
"""That may wait for the classifiers: nobody else does."""
_NOTHING = Classification({})
Found = dict[tuple[frozenset[str], str], Classification]
"""By the classifiers that were asked, and the text."""


@dataclass(frozen=True, slots=True)
class Source:
    """A policy as text, and where it stands."""

    text: str
    place: str


@dataclass(frozen=True, slots=True)
class Side:
    """Policies with their classifiers; as plain values, for other processes.

    Attributes:
        memory: folder where the encoder's work is kept; None keeps nothing.
    """

    classifiers: ClassifiersConfig
    policies: tuple[Source, ...]
    memory: Path | None = None


@dataclass(slots=True)
class Bench:
    """A side, loaded: its policies with their thresholds, and an engine that runs its classifiers."""

    engine: ClassifierEngine
    policies: tuple[BoundPolicy, ...]
    scales: Scales = field(init=False)

    def __post_init__(self) -> None:
        self.scales = Scales(self.policies)

    @classmethod
    def of(cls, side: Side, engine: ClassifierEngine | None = None) -> Bench:
        """Load a side. Blocking.

        Args:
            engine: one that has the side's classifiers already.

        Raises:
            ConfigError: a classifier cannot be loaded.
            PolicyError: a policy cannot be used.
        """
        if engine is None:
            engine = _engine(side)
        shelf = FaqShelf(engine, side.classifiers)
        bound = [
            schema.bind(schema.loads(one.text, one.place), engine.classifiers, shelf)
            for one in side.policies
        ]
        return cls(engine, tuple(bound))

    def judge(self, cases: Sequence[Case]) -> list[Verdict]:
        """The verdicts on cases that have texts."""
        ruling = [Attached(self.scales.ruling(case)) for case in cases]
        asked = [_texts(case, rules) for case, rules in zip(cases, ruling, strict=True)]
        found = self._classify(ruling, asked)
        return [
            _verdict(case, rules, texts, found)
            for case, rules, texts in zip(cases, ruling, asked, strict=True)
        ]

    def close(self) -> None:
        """Stop the engine."""
        self.engine.close()

    def _classify(
        self, ruling: Sequence[Attached], asked: Sequence[dict[Stage, list[Text]]]
    ) -> Found:
        """All texts that some rule looks at, each once."""
        wanted: dict[frozenset[str], dict[str, None]] = {}
        for rules, texts in zip(ruling, asked, strict=True):
            names = _names(rules)
            for stage, own in texts.items():
                looked = (own[i].content for i in rules.in_scope(stage, own))
                wanted.setdefault(names, {}).update(dict.fromkeys(looked))
        found: Found = {}
        for names, contents in wanted.items():
            if names and contents:
                results = self.engine.classify_blocking(list(contents), names)
                keys = ((names, content) for content in contents)
                found.update(zip(keys, results, strict=True))
        return found


def _engine(side: Side) -> ClassifierEngine:
    classifiers = remember(load_classifiers(side.classifiers), side.memory)
    return ClassifierEngine(classifiers, max_waiting=MOST_TEXTS)


def _names(rules: Attached) -> frozenset[str]:
    return rules.classifiers("input") | rules.classifiers("output")


def _texts(case: Case, rules: Attached) -> dict[Stage, list[Text]]:
    request = list(case.request or ())
    texts: dict[Stage, list[Text]] = {}
    if case.request is not None:
        texts["input"] = [*request, *derived.across_turns(request, rules.refusals)]
    if case.reply is not None:
        texts["output"] = list(case.reply)
    return texts


def _verdict(
    case: Case,
    rules: Attached,
    texts: dict[Stage, list[Text]],
    found: Found,
) -> Verdict:
    names = _names(rules)
    decisions: list[Decision] = []
    for stage, own in texts.items():
        results = [found.get((names, text.content), _NOTHING) for text in own]
        unread = ("?",) * case.unread.get(stage, 0)
        decision = evaluate(
            rules.policies, stage, own, results, answerable=not unread, unscanned=unread
        )
        decisions.append(decision)
        if RANK[decision.outcome] >= ENDS_INPUT:
            break
    leading = max(decisions, key=lambda decision: RANK[decision.outcome])
    fired = frozenset(_key(cause) for d in decisions for cause in (*d.fired, *d.shadow))
    how: How = "altered" if case.altered else "texts"
    unknown = "output" not in texts and RANK[leading.outcome] < ENDS_INPUT
    unknown = unknown and any(policy.rules_for("output") for policy in rules.policies)
    cause = _key(leading.cause) if leading.cause else None
    on_reply = leading.stage == "output"
    return Verdict(
        leading.outcome,
        cause,
        fired,
        decisions[0].route,
        reply_unknown=unknown,
        on_reply=on_reply,
        how=how,
    )


def _key(cause: Cause) -> RuleKey:
    return cause.policy.rpartition("@")[0], cause.rule


def load(sides: Sequence[Side]) -> list[Bench]:
    """Sides with the same classifiers share one engine."""
    benches: list[Bench] = []
    for side in sides:
        same = (
            b for b, s in zip(benches, sides, strict=False) if s.classifiers == side.classifiers
        )
        shared = next(same, None)
        benches.append(Bench.of(side, None if shared is None else shared.engine))
    return benches


def judge(benches: Sequence[Bench], cases: Sequence[Case]) -> list[Judged]:
    """The verdicts of all sides on each case."""
    columns = [bench.judge(cases) for bench in benches]
    return [(case, list(row)) for case, *row in zip(cases, *columns, strict=True)]


def _prepared(*sides: Side) -> Callable[[Sequence[Case]], list[Judged]]:
    return functools.partial(judge, load(sides))


def replayer(sides: Sequence[Side], benches: Sequence[Bench], processes: int) -> Replay:
    """What judges cases by their texts.

    Args:
        sides: what is in force and what might be, for other processes.
        benches: the same, loaded in this one.
        processes: how many may work; with one, or few cases, it is this process alone.
    """

    def replay(cases: Sequence[Case], last: bool) -> Iterator[list[Judged]]:
        chunks = [cases[first : first + CHUNK] for first in range(0, len(cases), CHUNK)]
        if processes > 1 and len(cases) >= WORTH_IT:
            yield from spread(_prepared, sides[1:] if last else sides, chunks, processes)
            return
        for chunk in chunks:
            yield judge(benches[1:] if last else benches, chunk)

    return replay
