"""An evaluation in plain sentences: may it be trusted, what does it promise, what would help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from classifiers.training.evaluation import Budget, Evaluation, LabelFigures, RecallTarget
from classifiers.training.figures import NO_LABEL
from classifiers.training.metrics import Proportion, rows_needed
from classifiers.training.plots import most_confused
from classifiers.training.robustness import AS_WRITTEN

Trust = Literal["yes", "care", "no", "unknown"]
HEADLINES: Mapping[Trust, str] = {
    "yes": "Yes, on texts like those it was tested on",
    "care": "With care: watch it in shadow mode first",
    "no": "Not yet",
    "unknown": "That cannot be told yet: too few held-out rows",
}
GOOD, WEAK, BAD = 0.85, 0.6, 0.5
"""Macro F1 of a classifier to trust; F1 of a weak label; macro F1 of one not to use."""
LOUD = 0.05
"""A classifier that stops more of the ordinary texts is not to be trusted without care."""
FEW = 30
"""With fewer positive held-out rows a label's figures say little: of 30, 95 % are within 18 points."""
FEW_ROWS = 100
MANY_SOURCE = 20
"""A source is named as hard from so many rows on."""
LOSS = 0.1
"""A disguise that costs so much of what is found is named."""
TRUE_ENOUGH = 0.05
"""Calibration error up to which probabilities can be taken at their word."""
GAIN = 0.01
"""A last step of the learning curve that gains so much says that more rows help."""
ENOUGH = 100
"""Training rows that a weak label should have at least; one with more should have twice as many."""
CONFUSED = 3
"""Confusions of two labels that are worth rows of their own."""
REACHABLE = 5000
"""More texts than this are not asked for: the rate that was seen is too near to the promise."""
HELPS = 6
LISTED = 5
USUAL_BUDGET = 0.01


@dataclass(frozen=True, slots=True)
class Summary:
    """What stands on top of the report; plain text, one sentence or two each."""

    does: str
    trust: Trust
    headline: str
    reasons: tuple[str, ...]
    promises: tuple[str, ...]
    weakest: str
    helps: tuple[str, ...]


def summarise(manifest: Mapping[str, Any], evaluation: Evaluation) -> Summary:
    """Put an evaluation into words.

    Args:
        manifest: of the pack; its ``description`` is used.
        evaluation: its figures.
    """
    trust = _trust(evaluation)
    kind = "picks one of" if evaluation.decision == "one_of" else "looks for"
    names = [one.label for one in evaluation.labels]
    does = f"{manifest.get('description') or ''} It {kind} {_listed(names)}.".strip()
    return Summary(
        does,
        trust,
        HEADLINES[trust],
        tuple(_reasons(evaluation)),
        tuple(_promises(evaluation)),
        _weakest(evaluation),
        tuple(_helps(evaluation)),
    )


def percent(value: float | None) -> str:
    """``93 %``, with a digit more near the ends; a dash where there is nothing."""
    if value is None:
        return "–"
    if 0 < value < 0.0005 or 0.9995 <= value < 1:
        return "<0.1\u00a0%" if value < 0.5 else ">99.9\u00a0%"
    digits = 0 if 0.1 <= value <= 0.9 or value in (0, 1) else 1
    return f"{value:.{digits}%}".replace("%", "\u00a0%")


def share(one: Proportion) -> str:
    """``93 % (90 to 95 %; 450 of 484)``."""
    if not one.of:
        return "– (none)"
    ends = f"{percent(one.low).removesuffix('%').rstrip()} to {percent(one.high)}"
    return f"{percent(one.value)} ({ends}; {one.hits:,} of {one.of:,})"


# -- inside ---------------------------------------------------------------------------------------


def _scored(evaluation: Evaluation) -> list[LabelFigures]:
    return sorted((one for one in evaluation.labels if one.positives), key=lambda one: one.f1)


def _trust(evaluation: Evaluation) -> Trust:
    scored, macro = _scored(evaluation), evaluation.overall.macro_f1
    enough = [one for one in scored if one.positives >= FEW]
    if evaluation.overall.rows < FEW_ROWS or not enough or macro is None:
        return "unknown"
    broken = [one for one in evaluation.budgets if one.kept == "no"]
    missed = [one for one in evaluation.recalls if one.kept == "no"]
    unproven = [one for one in evaluation.budgets if not one.proven]
    if macro < BAD or 2 * len(broken) > len(evaluation.budgets) > 0:
        return "no"
    lacking = len(scored) < len(evaluation.labels) or len(enough) < len(scored)
    failed = any(one.failed for one in evaluation.slices)
    loud = (evaluation.any_flagged.value or 0.0) > LOUD
    doubts = (loud, macro < GOOD, scored[0].f1 < WEAK, broken, missed, unproven, lacking, failed)
    return "care" if any(doubts) else "yes"


def _reasons(evaluation: Evaluation) -> list[str]:
    scored = _scored(evaluation)
    overall = evaluation.overall
    found = [
        f"It decides {share(overall.accuracy)} of the held-out texts right.",
        *_whole(scored),
    ]
    if evaluation.any_flagged.of:
        share_stopped = share(evaluation.any_flagged)
        found.append(f"Of the ordinary texts, {share_stopped} are stopped by some label.")
    if weak := [one.label for one in scored if one.f1 < WEAK]:
        found.append(f"Weak (F1 under {WEAK}): {_listed(weak)}. Watch these in shadow mode first.")
    if few := [one.label for one in scored if one.positives < FEW]:
        found.append(f"Fewer than {FEW} held-out rows, so little is known: {_listed(few)}.")
    if none := [one.label for one in evaluation.labels if not one.positives]:
        found.append(f"No held-out rows at all, so nothing is known: {_listed(none)}.")
    if (error := overall.calibration_error) is not None:
        verdict = "can" if error <= TRUE_ENOUGH else "cannot"
        off = f"they are off by {100 * error:.1f} points of 100 on average"
        found.append(f"Its probabilities {verdict} be taken at their word: {off}.")
    found += [*_disguises(evaluation), *_sources(evaluation)]
    if failed := [one for one in evaluation.slices if one.failed]:
        cases = sum(one.failed for one in failed)
        found.append(
            f"{_count(cases, 'named case')} failed, in {_listed([o.name for o in failed])}."
        )
    return found


def _whole(scored: Sequence[LabelFigures]) -> list[str]:
    held = sum(one.recall.of for one in scored)
    flagged = sum(one.precision.of for one in scored)
    if not held or not flagged:
        return []
    hits = sum(one.recall.hits for one in scored)
    right = sum(one.precision.hits for one in scored)
    return [
        f"At its thresholds it finds {percent(hits / held)} of what it should; "
        f"of what it flags, {percent(right / flagged)} is right."
    ]


def _disguises(evaluation: Evaluation) -> list[str]:
    plain = evaluation.robustness.get(AS_WRITTEN, {}).get("found")
    if plain is None:
        return []
    others = [
        (value, name)
        for name, one in evaluation.robustness.items()
        if name != AS_WRITTEN and (value := one.get("found")) is not None
    ]
    if not others:
        return []
    worst, name = min(others)
    if plain - worst < LOSS:
        return ["Disguised texts are found nearly as well as plain ones."]
    return [
        f"The disguise that hurts most is {name}: {percent(worst)} found, not {percent(plain)}."
    ]


def _sources(evaluation: Evaluation) -> list[str]:
    known = [
        (one.value, name)
        for name, one in evaluation.found.items()
        if one.of >= MANY_SOURCE and one.value is not None
    ]
    if len(known) < 2:
        return []
    value, name = min(known)
    return [f"The hardest source is {name or 'unnamed'}: {percent(value)} found."]


def _promises(evaluation: Evaluation) -> list[str]:
    if not evaluation.budgets and not evaluation.recalls:
        return ["Nothing: no budget of false alarms was set."]
    single = evaluation.decision == "one_of"
    ordinary, does = ("texts of other labels", "takes") if single else ("ordinary texts", "stops")
    own = " for its own" if single else ""
    by_rate: dict[float, list[str]] = {}
    for one in evaluation.budgets:
        if one.proven:
            by_rate.setdefault(one.rate, []).append(one.label)
    said = []
    for rate, labels in sorted(by_rate.items()):
        everyone = len(labels) == len(evaluation.budgets) > 1
        who = "each label" if everyone else f"each of {_listed(labels)}"
        said.append(
            f"Of {_per(rate)} {ordinary}, {who if len(labels) > 1 else f'“{labels[0]}”'} {does} at most "
            f"{_at_most(rate)}{own}, with 95\u00a0% confidence, if they are like those that its "
            "threshold was proven on."
        )
    bare = [one for one in evaluation.budgets if not one.proven]
    if few := [one.label for one in bare if one.needed is not None]:
        said.append(f"NOT promised, there were too few {ordinary} to prove it: {_listed(few)}.")
    if other := [one.label for one in bare if one.needed is None]:
        said.append(
            f"NOT promised, since the held-out {ordinary} prove nothing here: {_listed(other)}."
        )
    for state, words in (
        ("yes", "Proven by the held-out texts too"),
        ("unclear", "The held-out texts are too few to say whether it is kept"),
    ):
        names_of = [one.label for one in evaluation.budgets if one.kept == state]
        if names_of:
            everyone = len(names_of) == len(evaluation.budgets) > LISTED
            said.append(
                f"{words}: {f'all {len(names_of)} labels' if everyone else _listed(names_of)}."
            )
    said += [
        f"NOT kept by {_quoted(one)}: {share(one.achieved)} stopped, {percent(one.rate)} allowed."
        for one in evaluation.budgets
        if one.kept == "no"
    ]
    return said + _recalls(evaluation)


def _recalls(evaluation: Evaluation) -> list[str]:
    said = []
    for one in evaluation.recalls:
        words = "promised" if one.proven else "asked for, but NOT promised"
        said.append(
            f"At least {percent(one.rate)} of {_quoted(one)} found is {words}; here {share(one.achieved)}."
        )
    return (
        said if len(said) <= LISTED else [*said[:LISTED], f"And {len(said) - LISTED} more like it."]
    )


def _weakest(evaluation: Evaluation) -> str:
    scored = _scored(evaluation)
    if not scored:
        return "No label has a held-out row."
    one = scored[0]
    right = f"of what it flags, {share(one.precision)} is right" if one.precision.of else ""
    return f"{_quoted(one)}: found {share(one.recall)}; {right or 'it is never flagged'}."


def _helps(evaluation: Evaluation) -> list[str]:
    helps = [
        f"More texts like the {one.achieved.hits:,} that were wrongly said to be {_quoted(one)}, or "
        "a higher threshold for it: its promise is not kept."
        for one in evaluation.budgets
        if one.kept == "no"
    ][:2]
    for weak in [one for one in _scored(evaluation)[:3] if one.f1 < GOOD]:
        if weak.train_rows is None:
            helps.append(f"More rows of {_quoted(weak)}.")
            continue
        more = max(weak.train_rows, ENOUGH - weak.train_rows)
        helps.append(f"{more:,} more rows of {_quoted(weak)} (it learnt from {weak.train_rows:,}).")
    helps += _told_apart(evaluation)
    for few in [one for one in evaluation.labels if one.positives < FEW][:2]:
        lacking = _count(FEW - few.positives, "more held-out row")
        helps.append(f"{lacking} of {_quoted(few)}, to know how good it is.")
    ordinary = _more_ordinary(evaluation)
    unproven = any(not one.proven for one in evaluation.budgets)
    helps = [*ordinary, *helps] if unproven else [*helps, *ordinary]
    helps += _learning(evaluation)
    return helps[:HELPS] or ["Nothing stands out; watch it on your own traffic."]


def _told_apart(evaluation: Evaluation) -> list[str]:
    for one in most_confused(evaluation.confusion, 20):
        if NO_LABEL not in (one.held, one.said) and one.count >= CONFUSED:
            return [
                f"Rows that tell “{one.held}” from “{one.said}”: {one.count:,} texts were confused."
            ]
    return []


def _learning(evaluation: Evaluation) -> list[str]:
    if len(evaluation.learning_curve) < 2:
        return []
    (before, low), (rows, high) = evaluation.learning_curve[-2:]
    step = f"from {before:,} to {rows:,} rows, {evaluation.learning_figure}"
    if high - low >= GAIN:
        return [f"More rows of any kind: {step} rose by {high - low:.3f}."]
    return [f"More rows of the same kind will help little: {step} changed by {high - low:+.3f}."]


def _more_ordinary(evaluation: Evaluation) -> list[str]:
    """How many ordinary texts are lacking to prove what is promised."""
    if not evaluation.budgets:
        there = evaluation.any_flagged.of
        lacking = rows_needed(USUAL_BUDGET) - there
        if lacking <= 0:
            return []
        return [
            f"{_count(lacking, 'more ordinary text')}: to promise {percent(USUAL_BUDGET)} false "
            f"alarms, {rows_needed(USUAL_BUDGET)} are needed."
        ]
    ordinary = "ordinary texts" if evaluation.decision == "any_of" else "texts of other labels"
    if unproven := [one for one in evaluation.budgets if one.needed is not None]:
        one = unproven[0]
        there, needed = one.calibration_rows or 0, one.needed or 0
        return [
            f"{max(needed - there, 1):,} more {ordinary} to train with, to promise the "
            f"{percent(one.rate)} of {_quoted(one)}; there are {there:,}."
        ]
    wanted = []
    for one in evaluation.budgets:
        seen = one.achieved.value or 0.0
        if one.kept == "unclear" and seen < one.rate:
            more = max(rows_needed(one.rate, seen) - one.achieved.of, 1)
            wanted.append((more, one))
    within = [pair for pair in wanted if pair[0] <= REACHABLE]
    if not within:
        return []
    more, one = max(within, key=lambda pair: pair[0])
    return [
        f"About {more:,} more held-out {ordinary}, to prove the {percent(one.rate)} of "
        f"{_quoted(one)} again; there are {one.achieved.of:,}."
    ]


def _quoted(one: LabelFigures | Budget | RecallTarget) -> str:
    return f"“{one.label}”"


def _per(rate: float) -> str:
    return "1,000" if rate >= 0.001 else "100,000"


def _at_most(rate: float) -> str:
    count = rate * (1000 if rate >= 0.001 else 100_000)
    return f"{count:g}"


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _listed(names: Sequence[str], limit: int = LISTED) -> str:
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
