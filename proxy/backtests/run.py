"""The way through a backtest: cases in, a tally out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from policies.schema import BoundPolicy
from proxy.backtests.cases import Case
from proxy.backtests.tally import Tally
from proxy.backtests.weigh import Scales, Verdict, past

Progress = Callable[[int], None]
"""Gets a number of cases."""
Judged = tuple[Case, list[Verdict]]
"""A case, and the verdict of each side that was asked."""
Replay = Callable[[Sequence[Case], bool], Iterator[list[Judged]]]
"""Judges cases by their texts, in any order; by both sides, or by the second alone."""
NOT_DECIDED = "no policy had decided: the request was refused before, or its client had left"
FAILED = "a classifier failed then"


@dataclass(slots=True)
class Run:
    """Judges cases as they come, by their scores where those tell; the others wait for :meth:`finish`.

    Attributes:
        before, after: the policies in force, and those that might be.
        replay: judges texts; without it they are not judged.
        progress: told of every case that is done.
        expect: told how many there will be, by who knows.
    """

    before: Sequence[BoundPolicy]
    after: Sequence[BoundPolicy]
    replay: Replay | None = None
    progress: Progress = lambda done: None
    expect: Progress = lambda total: None
    tally: Tally = field(default_factory=Tally)
    _scales: Scales = field(init=False)
    _waiting: list[Case] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._scales = Scales(self.after, self.before)

    def take(self, case: Case) -> None:
        """One case; a row of a file, or a recorded decision."""
        if not case.stages and case.request is None and case.reply is None:
            self._skip(NOT_DECIDED)
        elif any(p.failed and p.outcome == "error" for p in case.stages.values()):
            self._skip(FAILED)
        elif not case.stages:
            self._waiting.append(case)
        else:
            verdict = self._scales.weigh(case)
            if verdict.outcome is None and case.request is not None and self.replay is not None:
                self._waiting.append(case)
                return
            self.tally.add(case, past(case), verdict)
            self.progress(1)

    def finish(self) -> Tally:
        """Judge what waits by its texts."""
        cases, self._waiting = self._waiting, []
        if self.replay is not None and cases:
            # Where all were decided once, it is known how.
            for done in self.replay(cases, all(case.stages for case in cases)):
                for case, verdicts in done:
                    was, told = past(case) if case.stages else verdicts[0], verdicts[-1]
                    if case.stages:
                        told = self._scales.by_texts(case, told)
                    self.tally.add(case, was, told)
                self.progress(len(done))
        self.tally.finish()
        return self.tally

    def _skip(self, why: str) -> None:
        self.tally.skipped[why] += 1
        self.progress(1)
