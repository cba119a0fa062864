"""One request that is judged again: what was decided, what the rules saw, and its texts if they were kept."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from classifiers.types import Stage, Text
from policies.decision import RANK, Outcome
from policies.seen import Kind, Seen
from policies.turns import newest_turn
from proxy.endpoints import ENDPOINTS

RuleKey = tuple[str, str]
"""Name of the policy, without its version, and of the rule."""
STAGES: tuple[Stage, ...] = ("input", "output")
QUOTE = 160
"""Characters of a text that an example shows."""
CHAT = "/v1/chat/completions"
_TAKEN_OUT = re.compile(r"\[[A-Za-z][^\[\]\n]{0,127}\]")
"""What stands in place of personal data, see :func:`proxy.ledger.redacted`."""
_REPLY = "reply"
_TURNS = ("messages", "input")


@dataclass(frozen=True, slots=True)
class Past:
    """What was decided on a stage.

    Attributes:
        fired: every rule that fired, those in shadow mode too.
        cause: the rule that won, if one did.
        route: the alias that it was routed to.
        seen: the scores; None in records that were written before scores were kept.
        cuts: by rule that fired, the thresholds of the labels that matched.
        by: by rule that fired, the classifiers that made it, as ``name@version``.
        taken_out: rules that would block, and took out what was refused in an earlier turn instead.
        failed: a classifier gave no verdict then.
    """

    outcome: Outcome
    fired: frozenset[RuleKey] = frozenset()
    cause: RuleKey | None = None
    route: str | None = None
    seen: tuple[Seen, ...] | None = ()
    cuts: Mapping[RuleKey, Mapping[str, float]] = field(default_factory=dict)
    by: Mapping[RuleKey, frozenset[str]] = field(default_factory=dict)
    taken_out: frozenset[RuleKey] = frozenset()
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """One request.

    Attributes:
        id: the decision's, or the place of a row in its file.
        model: the alias that was asked for.
        key: name of the client's key, if there are keys.
        attached: ``name@version`` of the policies that decided.
        stages: what they decided, by stage; empty for rows that only have texts.
        texts: how many there are in the request, those that are not derived of others.
        unread: how many parts of each stage no classifier could read.
        request, reply: the texts; None where they were not kept.
        altered: something seems to have been taken out of the texts: one holds a ``[LABEL]``.
        expected: whether it ought to be stopped, where somebody said so.
        cost_usd, saved_usd: of the record.
        tokens: prompt and completion, where it was forwarded.
        upstream_ms: how long the model took; None if it was not asked.
    """

    id: str
    model: str
    key: str | None = None
    attached: tuple[str, ...] = ()
    stages: Mapping[Stage, Past] = field(default_factory=dict)
    texts: int = 0
    unread: Mapping[Stage, int] = field(default_factory=dict)
    request: tuple[Text, ...] | None = field(default=None, repr=False)
    reply: tuple[Text, ...] | None = field(default=None, repr=False)
    altered: bool = False
    expected: bool | None = None
    cost_usd: float | None = None
    saved_usd: float | None = None
    tokens: tuple[int, int] | None = None
    upstream_ms: float | None = None

    @property
    def before(self) -> Outcome | None:
        """The most restrictive of what was decided; None if nothing was."""
        return max((p.outcome for p in self.stages.values()), key=RANK.__getitem__, default=None)

    @property
    def quote(self) -> str | None:
        """The beginning of what was said last, if it is known."""
        said = [text for text in (*(self.request or ()), *(self.reply or ())) if not text.derived]
        flat = " ".join(said[-1].content[: 4 * QUOTE].split()) if said else ""
        return (flat if len(flat) <= QUOTE else f"{flat[: QUOTE - 3]}...") or None


def of_record(
    record: Mapping[str, Any], *, altered: bool = True, right: bool | None = None
) -> Case:
    """The case of a record, as it is in the ledger (parsed).

    Args:
        altered: personal data may have been taken out of the texts: ``record.content: redacted``.
        right: whether people said that it was decided rightly.
    """
    stages: dict[Stage, Past] = {
        stage: _past(record["stages"][stage]) for stage in STAGES if stage in record["stages"]
    }
    tokens = record.get("tokens")
    request = _kept(record)
    called = record.get("upstream_called")
    return Case(
        id=record["decision_id"],
        model=record["model"],
        key=record["key"],
        attached=tuple(record["policies"]),
        stages=stages,
        texts=record["texts"],
        unread=_unread(record["unscanned"]),
        request=request,
        altered=altered and any(_TAKEN_OUT.search(text.content) for text in request or ()),
        expected=_expected(stages.values(), right),
        cost_usd=record["cost_usd"],
        saved_usd=record["saved_usd"],
        tokens=(tokens["prompt"], tokens["completion"]) if tokens else None,
        upstream_ms=record["milliseconds"].get("upstream") if called else None,
    )


def _expected(stages: Iterable[Past], right: bool | None) -> bool | None:
    """Whether a request ought to be stopped, as far as that follows from what people said of it."""
    outcomes = {past.outcome for past in stages}
    if right is None or "error" in outcomes:
        return None
    if "block" in outcomes:
        return right
    # What was wrong with an answer or a route was not that it should have been stopped.
    return None if not right and outcomes & {"answer", "route"} else not right


def _past(stage: Mapping[str, Any]) -> Past:
    causes = [*stage["fired"], *stage["shadow"]]
    cuts: dict[RuleKey, dict[str, float]] = {}
    by: dict[RuleKey, frozenset[str]] = {}
    for cause in causes:
        rule = _rule(cause)
        cuts.setdefault(rule, {})[cause["label"]] = cause["threshold"]
        by[rule] = by.get(rule, frozenset()) | {cause["classifier"]}
    seen = stage.get("seen")
    return Past(
        outcome=stage["outcome"],
        fired=frozenset(cuts),
        cause=_rule(stage["cause"]) if stage["cause"] else None,
        route=stage["route"],
        seen=None if seen is None else tuple(_seen(one) for one in seen),
        cuts=cuts,
        by=by,
        taken_out=frozenset(
            _rule(cause)
            for cause in stage["fired"]
            if cause["action"] == "block" and RANK[stage["outcome"]] < RANK["block"]
        ),
        failed=bool(stage["errors"]),
    )


def _rule(cause: Mapping[str, Any]) -> RuleKey:
    return cause["policy"].rpartition("@")[0], cause["rule"]


def _seen(one: Mapping[str, Any]) -> Seen:
    kind = Kind(one["role"], one["last_turn"], one["across"], one["derived"])
    return Seen(kind, one["texts"], one["scores"])


def _unread(addresses: Sequence[str]) -> dict[Stage, int]:
    of_reply = sum(where.split(".")[0] == _REPLY for where in addresses)
    return {"input": len(addresses) - of_reply, "output": of_reply}


def _kept(record: Mapping[str, Any]) -> tuple[Text, ...] | None:
    """The texts of the request as the gateway has read them, if the record has all of them whole."""
    content = record["content"]
    if not content or not all("text" in entry and "cut" not in entry for entry in content):
        return None
    return tuple(_texts(content, record["endpoint"]))


def _texts(content: Sequence[Mapping[str, Any]], endpoint: str) -> Iterator[Text]:
    chat = ENDPOINTS[CHAT]
    if endpoint == chat.name and (body := _body(content)) is not None:
        yield from chat.texts(body)
        return
    turns: dict[int, str] = {}
    for entry in content:
        turns.setdefault(_turn(entry["address"]), entry["role"])
    numbers = sorted(turns)
    newest = {numbers[i] for i in newest_turn([turns[number] for number in numbers])}
    for entry in content:
        turn = _turn(entry["address"])
        last = turn in newest or turn < 0
        yield Text(entry["text"], entry["role"], tuple(entry["address"]), "input", turn, last)


def _turn(address: Sequence[str | int]) -> int:
    if len(address) > 1 and address[0] in _TURNS and isinstance(address[1], int):
        return address[1]
    return -1


def _body(content: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The chat that the texts are of, if they are of a plain one: what its parts mean together is
    then read as it was."""
    messages: list[dict[str, Any]] = []
    for entry in content:
        match entry["address"]:
            case ["messages", int(turn), "content"] if turn == len(messages):
                messages.append({"role": entry["role"], "content": entry["text"]})
            case ["messages", int(turn), "content", int(part), "text"]:
                if part == 0 and turn == len(messages):
                    messages.append({"role": entry["role"], "content": []})
                if turn != len(messages) - 1 or part != len(messages[turn]["content"]):
                    return None
                messages[turn]["content"].append({"type": "text", "text": entry["text"]})
            case _:
                return None
    return {"messages": messages}
