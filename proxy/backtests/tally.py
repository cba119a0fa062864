"""Verdicts added up: what changes, by rule, with examples; mistakes; money and time."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from classifiers.calibration import Interval, interval
from policies.decision import RANK, Outcome
from proxy.backtests.cases import Case, RuleKey
from proxy.backtests.weigh import ENDS_INPUT, OTHER_VERSION, UNREACHED, Verdict
from proxy.config import Config
from proxy.prices import Prices

EXAMPLES = 5
"""Of each change, at most."""
Change = tuple[Outcome, Outcome]
Price = Callable[[str, int, int], float | None]
"""Dollars of an alias for so many tokens of prompt and completion; None where it has no price."""


@dataclass(slots=True)
class RuleTally:
    """Requests on which a rule fired: before, after, only one of the two; and where it decided.

    ``untold`` are those on which it cannot be told whether it fires now; they are in none of ``after``,
    ``new`` and ``gone``. ``decided_untold`` are those on which it may decide now, or may not.
    """

    before: int = 0
    after: int = 0
    new: int = 0
    gone: int = 0
    decided_before: int = 0
    decided_after: int = 0
    untold: int = 0
    decided_untold: int = 0


@dataclass(frozen=True, slots=True)
class Example:
    """A request that is decided otherwise. ``text`` is there where texts were given or kept."""

    id: str
    rule: str | None
    text: str | None = field(repr=False)


@dataclass(slots=True)
class Effort:
    """What the changes cost or save.

    Attributes:
        usd: change in dollars, of requests with a price.
        unpriced: changed requests without one.
        upstream_ms: change in the time that models take, of all requests together.
        untimed: changed requests of which that is not known.
    """

    usd: float = 0.0
    unpriced: int = 0
    upstream_ms: float = 0.0
    untimed: int = 0


@dataclass(slots=True)
class Tally:
    """Fill it with :meth:`add`, in any order."""

    price: Price = lambda alias, prompt, completion: None
    judged: Counter[str] = field(default_factory=Counter)
    """By how it was told; ``untold`` for requests whose outcome cannot be."""
    skipped: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    changes: Counter[Change] = field(default_factory=Counter)
    other_version: int = 0
    """Untold requests that another version of a classifier had judged."""
    without_texts: int = 0
    """Untold requests of which no texts were kept."""
    expected_untold: int = 0
    """Untold requests of which it is known whether they ought to be stopped."""
    kept: int = 0
    replies_unknown: int = 0
    rules: dict[RuleKey, RuleTally] = field(default_factory=lambda: defaultdict(RuleTally))
    examples: dict[Change, list[Example]] = field(default_factory=lambda: defaultdict(list))
    mistakes: Counter[tuple[str, bool, bool]] = field(default_factory=Counter)
    """By side (before, after), whether it ought to be stopped, and whether it is."""
    stopped: Counter[str] = field(default_factory=Counter)
    effort: Effort = field(default_factory=Effort)
    _waits: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    _let_go: list[str] = field(default_factory=list)

    def add(self, case: Case, before: Verdict, after: Verdict) -> None:
        """One request, judged by both sides; ``before`` is what happened, where that is known."""
        for rule in before.fired | after.fired | after.untold.keys():
            self._rule(rule, before, after)
        if case.upstream_ms is not None:
            self._waits[case.model].append(case.upstream_ms)
        if after.outcome is None or before.outcome is None:
            self._untold(case, after)
            return
        self.judged[after.how] += 1
        self.replies_unknown += after.reply_unknown
        for side, verdict in (("before", before), ("after", after)):
            stops = _stops(verdict)
            self.stopped[side] += stops
            if case.expected is not None:
                self.mistakes[side, case.expected, stops] += 1
        self.stopped["newly"] += _stops(after) and not _stops(before)
        if before.outcome == after.outcome and before.route == after.route:
            self.kept += 1
            return
        self._changed(case, before, after)

    def _untold(self, case: Case, after: Verdict) -> None:
        self.judged["untold"] += 1
        self.without_texts += case.request is None
        self.expected_untold += case.expected is not None
        whys = {rule: why for rule, why in after.untold.items() if rule in after.may_decide}
        self.other_version += any(why.startswith(OTHER_VERSION) for why in whys.values())
        for (policy, rule), why in whys.items():
            if why != UNREACHED:  # follows from another's
                self.reasons[f"{policy}: {rule} {why}"] += 1

    def _rule(self, rule: RuleKey, before: Verdict, after: Verdict) -> None:
        own, was, now = self.rules[rule], rule in before.fired, rule in after.fired
        own.before += was
        own.after += now
        untold = rule in after.untold
        own.untold += untold
        if not untold:
            own.new += now and not was
            own.gone += was and not now
        own.decided_before += before.cause == rule
        own.decided_after += after.cause == rule
        own.decided_untold += rule in after.may_decide

    def _changed(self, case: Case, before: Verdict, after: Verdict) -> None:
        assert before.outcome is not None
        assert after.outcome is not None
        change = (before.outcome, after.outcome)
        self.changes[change] += 1
        told = self.examples[change]
        if len(told) < EXAMPLES:
            cause = after.cause or before.cause
            told.append(Example(case.id, ": ".join(cause) if cause else None, case.quote))
        if not case.stages:
            return  # nothing was spent on a row of a file
        called, calls = _calls(before), _calls(after)
        if called and case.upstream_ms is None:
            return  # a stored reply was the answer
        if called and not calls:
            self._count(None if case.cost_usd is None else -case.cost_usd)
            self._time(None if case.upstream_ms is None else -case.upstream_ms)
        elif calls and not called:
            self._count(case.saved_usd)
            self._let_go.append(case.model)
        elif before.route != after.route:
            self._count(self._rerouted(case, after.route))

    def _rerouted(self, case: Case, route: str | None) -> float | None:
        if case.tokens is None or case.cost_usd is None:
            return None
        cost = self.price(route or case.model, *case.tokens)
        return None if cost is None else cost - case.cost_usd

    def _count(self, usd: float | None) -> None:
        if usd is None:
            self.effort.unpriced += 1
        else:
            self.effort.usd += usd

    def _time(self, milliseconds: float | None) -> None:
        if milliseconds is None:
            self.effort.untimed += 1
        else:
            self.effort.upstream_ms += milliseconds

    def finish(self) -> None:
        """Reckon what can only be known in the end: how long models take that were not asked."""
        for model in self._let_go:
            waits = self._waits.get(model)
            self._time(statistics.median(waits) if waits else None)
        self._let_go.clear()

    def rate(self, side: str) -> Interval | None:
        """Share of the requests that ought to pass and are stopped; None without such requests."""
        wrong, right = self.mistakes[side, False, True], self.mistakes[side, False, False]
        return interval(wrong, wrong + right) if wrong + right else None

    def recall(self, side: str) -> Interval | None:
        """Share of the requests that ought to be stopped and are; None without such requests."""
        caught, missed = self.mistakes[side, True, True], self.mistakes[side, True, False]
        return interval(caught, caught + missed) if caught + missed else None

    def newly_stopped(self) -> Interval | None:
        """Share of all judged requests that are stopped now and were not; not a rate of mistakes."""
        of = self.kept + sum(self.changes.values())
        return interval(self.stopped["newly"], of) if of else None


def _stops(verdict: Verdict) -> bool:
    return verdict.outcome in ("block", "error")


def _calls(verdict: Verdict) -> bool:
    """Whether the model is asked; it was for a reply that is stopped."""
    return RANK[verdict.outcome or "forward"] < ENDS_INPUT or verdict.on_reply


def price_of(config: Config) -> Price:
    """What aliases of the config cost."""
    prices = Prices.load()
    keys: dict[str, str] = {}
    for entry in config.model_list:
        keys.setdefault(entry.model_name, entry.price_key)

    def price(alias: str, prompt: int, completion: int) -> float | None:
        key = keys.get(alias)
        return None if key is None else prices.cost(key, prompt, completion)

    return price
