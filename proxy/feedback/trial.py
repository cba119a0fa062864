"""A candidate beside the classifier that it would replace: what it would change, counted on real traffic.

It scores the same texts in the same pass of the encoder, and no decision reads what it says.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from classifiers.types import Classification, Classifier, Text
from policies import schema
from policies.answers import OpenFaq
from policies.decision import Decision
from policies.engine import evaluate
from policies.schema import BoundPolicy

MOST_TEXTS = 100
"""Requests of more texts are not compared: it would take the event loop too long."""
EXAMPLES = 50


@dataclass(slots=True)
class Trial:
    """What a candidate has done so far.

    Attributes:
        name: of the classifier.
        candidate: it, loaded.
        by: who began the trial.
        began: unix seconds.
        requests: that were compared.
        same: of these, decided the same.
        changes: (rule and outcome as it was, as it would be) -> requests.
        examples: ids of the decisions that would be other ones, the newest last.
        left_out: requests that could not be compared.
    """

    name: str
    candidate: Classifier
    by: str
    began: float = field(default_factory=time.time)
    requests: int = 0
    same: int = 0
    changes: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: deque[str] = field(default_factory=lambda: deque(maxlen=EXAMPLES))
    left_out: int = 0
    _bound: dict[int, tuple[BoundPolicy, BoundPolicy]] = field(default_factory=dict)

    def bind(
        self,
        current: Sequence[BoundPolicy],
        known: Mapping[str, Classifier],
        open_faq: OpenFaq | None,
    ) -> None:
        """Bind the policies in force to the candidate. Blocking.

        Raises:
            PolicyError: one of them cannot be: the candidate could not be promoted either.
        """
        mine = {**known, self.name: self.candidate}
        pairs = [(policy, schema.bind(policy.policy, mine, open_faq)) for policy in current]
        self._bound = {id(policy): (policy, bound) for policy, bound in pairs}

    def is_bound_to(self, current: Sequence[BoundPolicy]) -> bool:
        """Whether these are the policies that it was bound to."""
        return all(id(policy) in self._bound for policy in current)

    def saw(
        self,
        decision_id: str,
        policies: Sequence[BoundPolicy],
        texts: Sequence[Text],
        found: Sequence[Classification],
        unscanned: Sequence[str],
    ) -> None:
        """Compare what was decided on the input of a request with what would have been.

        Args:
            policies: that decided.
            found: what the classifiers said, with the candidate's verdicts beside.
        """
        if not any(self.name in one.beside for one in found):
            return
        pairs = [self._bound.get(id(policy)) for policy in policies]
        if len(texts) > MOST_TEXTS or len(texts) != len(found) or None in pairs:
            self.left_out += 1
            return
        bound = [pair[1] for pair in pairs if pair is not None]
        other = [
            replace(one, predictions={**one.predictions, self.name: one.beside[self.name]})
            if self.name in one.beside
            else one
            for one in found
        ]
        before = evaluate(policies, "input", texts, found, unscanned=unscanned)
        after = evaluate(bound, "input", texts, other, unscanned=unscanned)
        self.requests += 1
        was, would_be = _gist(before), _gist(after)
        if was == would_be:
            self.same += 1
            return
        self.changes[was, would_be] += 1
        self.examples.append(decision_id)


def _gist(decision: Decision) -> str:
    return f"{decision.outcome} by {decision.cause.rule}" if decision.cause else decision.outcome
