"""A tally as figures: for JSON, the terminal and pages alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from classifiers.calibration import Interval
from proxy.backtests.tally import Tally

MOST_REASONS = 10
NO_LABELS = (
    "nobody has said which requests ought to be stopped, so no false-positive rate can be given; the share "
    "of newly stopped requests is no such rate, for some of them may be rightly stopped"
)
HOW = {
    "scores": "from recorded scores",
    "texts": "from their texts",
    "altered": "from texts without personal data",
    "untold": "cannot be told",
}
"""How requests were judged, in words."""


class Exchange(NamedTuple):
    """A candidate pack as ``name@version``, and what it takes the place of, if rules ask for that."""

    before: str | None
    after: str


def figures(
    tally: Tally,
    before: Sequence[str],
    after: Sequence[str],
    unusable: Sequence[str] = (),
    packs: Sequence[Exchange] = (),
) -> dict[str, Any]:
    """Everything that a backtest has found.

    Args:
        before, after: ``name@version`` of the policies.
        unusable: rows of a file that could not be read, ``place: reason``.
        packs: the candidate packs.
    """
    judged = tally.kept + sum(tally.changes.values())
    effort = tally.effort
    return {
        "policies": {"before": list(before), "after": list(after)},
        "packs": [one._asdict() for one in packs],
        "requests": judged + tally.judged["untold"] + sum(tally.skipped.values()) + len(unusable),
        "judged": {how: tally.judged[how] for how in HOW if tally.judged[how]},
        "skipped": dict(tally.skipped),
        "unusable": list(unusable),
        "untold_because": dict(tally.reasons.most_common(MOST_REASONS)),
        "untold_by_another_version": tally.other_version,
        "untold_without_texts": tally.without_texts,
        "untold_with_expectation": tally.expected_untold,
        "replies_unknown": tally.replies_unknown,
        "unchanged": tally.kept,
        "changes": [
            {
                "before": change[0],
                "after": change[1],
                "requests": count,
                "examples": [
                    {"id": one.id, "rule": one.rule, "text": one.text}
                    for one in tally.examples[change]
                ],
            }
            for change, count in tally.changes.most_common()
        ],
        "rules": [
            {
                "policy": policy,
                "rule": rule,
                **{name: getattr(own, name) for name in own.__slots__},
            }
            for (policy, rule), own in sorted(tally.rules.items())
        ],
        "stopped": {side: tally.stopped[side] for side in ("before", "after")},
        "newly_stopped": _interval(tally.newly_stopped()),
        "false_positive_rate": _sides(tally.rate("before"), tally.rate("after")),
        "recall": _sides(tally.recall("before"), tally.recall("after")),
        "spend": {"usd": round(effort.usd, 6), "requests_without_price": effort.unpriced},
        "upstream": {
            "seconds": round(effort.upstream_ms / 1000, 3),
            "requests_without_time": effort.untimed,
        },
    }


def _sides(before: Interval | None, after: Interval | None) -> dict[str, Any] | None:
    if before is None or after is None:
        return None
    return {"before": _interval(before), "after": _interval(after)}


def _interval(one: Interval | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {"hits": one.hits, "of": one.of, "share": one.share, "low": one.low, "high": one.high}


def percent(one: Mapping[str, Any]) -> str:
    """A share with its interval, in words."""
    ends = f"{one['low']:.2%} to {one['high']:.2%}"
    return f"{one['share']:.2%} ({one['hits']:,} of {one['of']:,}; 95%: {ends})"


def counted(count: int, thing: str) -> str:
    """So many things, in words."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def certain(count: int, unknown: int) -> str:
    """How often something is so, and how often it may be."""
    return f"{count:,} + {unknown:,} unknown" if unknown else f"{count:,}"


def _exchange(pack: Exchange) -> str:
    if pack.before is None:
        return f"{pack.after} is asked besides"
    if pack.before == pack.after:
        return f"{pack.after} is the pack that is served already: it changes nothing"
    return f"{pack.after} in the place of {pack.before}"


def _untold(found: Mapping[str, Any]) -> list[str]:
    """Why requests cannot be told, and what helps."""
    told = [f"cannot be told, {count:,}: {why}" for why, count in found["untold_because"].items()]
    other, bare = found["untold_by_another_version"], found["untold_without_texts"]
    if other:
        told.append(
            f"{counted(other, 'request')} cannot be told because another version of a pack had judged "
            "(it was promoted, undone or exchanged since, or this one is a candidate): scores of one version "
            "do not count for another"
        )
    if bare:
        told.append(
            f"of {counted(bare, 'request')} that cannot be told no texts were kept: with record.content: "
            "full, or redacted where a rule asks for pii, doorman backtest can classify those to come anew"
        )
    return told


def lines(found: Mapping[str, Any]) -> list[str]:
    """What there is to say besides the tables."""
    words = [f"{count:,} {HOW[how]}" for how, count in found["judged"].items()]
    told = [
        f"{counted(found['requests'], 'request')}: {', '.join(words) or 'none could be judged'}"
    ]
    told += [_exchange(Exchange(**one)) for one in found["packs"]]
    told += [f"{count:,} not judged: {why}" for why, count in found["skipped"].items()]
    if found["unusable"]:
        rows = counted(len(found["unusable"]), "row")
        first = ", the first" if len(found["unusable"]) > 1 else ""
        told.append(f"{rows} cannot be used{first}: {found['unusable'][0]}")
    told += _untold(found)
    if found["replies_unknown"]:
        told.append(
            f"of {found['replies_unknown']:,} the reply is not known, and is taken for one that passes"
        )
    changed = sum(change["requests"] for change in found["changes"])
    told.append(f"decided otherwise: {changed:,}; as before: {found['unchanged']:,}")
    if found["newly_stopped"]:
        told.append(f"newly stopped: {percent(found['newly_stopped'])}")
    for name, word in (
        ("false_positive_rate", "stopped by mistake"),
        ("recall", "rightly stopped"),
    ):
        if found[name]:
            was, now = percent(found[name]["before"]), percent(found[name]["after"])
            told.append(f"{word}: {was} before, {now} after")
    if found["untold_with_expectation"]:
        told.append(
            f"{counted(found['untold_with_expectation'], 'request')} that somebody has judged cannot be "
            "told, and count in no rate"
        )
    elif not found["false_positive_rate"]:
        told.append(NO_LABELS)
    spend, upstream = found["spend"], found["upstream"]
    if abs(spend["usd"]) >= 0.00005 or spend["requests_without_price"]:
        unknown = spend["requests_without_price"]
        rest = (
            f"; without {counted(unknown, 'changed request')} of unknown price" if unknown else ""
        )
        told.append(f"spend: {spend['usd']:+.4f} dollars{rest}")
    if abs(upstream["seconds"]) >= 0.05 or upstream["requests_without_time"]:
        unknown = upstream["requests_without_time"]
        rest = f"; not known for {counted(unknown, 'changed request')}" if unknown else ""
        told.append(f"time that models take: {upstream['seconds']:+.1f} s{rest}")
    return told
