"""From a policy file to a policy whose thresholds are known: ``load``, then ``bind``."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from classifiers.faults import describe, did_you_mean
from classifiers.types import ClassifierInfo, Stage, UnknownLabel
from classifiers.yaml_source import SourceError, parse, read_text
from policies.actions import AnswerFrom
from policies.answers import BoundFaq, OpenFaq, bind_faq
from policies.bound import Bound, BoundAll, BoundLeaf
from policies.conditions import RESERVED, Leaf
from policies.faults import PolicyError
from policies.policy import Attach, Case, Message, Policy, Rule, Scope
from policies.redaction import bracketed
from policies.seen import Kind

__all__ = [
    "RESERVED",
    "Attach",
    "BoundPolicy",
    "BoundRule",
    "Case",
    "Message",
    "Policy",
    "PolicyError",
    "Rule",
    "bind",
    "load",
    "load_all",
    "loads",
]


_MOST_KINDS = 256
"""Kinds of texts that are remembered; roles are few, whatever clients invent."""


@dataclass(frozen=True, slots=True)
class BoundRule:
    """A rule whose condition has its thresholds."""

    rule: Rule
    condition: Bound
    scope: Scope
    faq: BoundFaq | None = None
    """What it answers from, if its action is to answer from a FAQ."""
    every_text: bool = field(init=False)
    """The action's: it needs the whole of the newest turn to match."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "every_text", self.rule.do.every_text)


@dataclass(frozen=True, slots=True)
class BoundPolicy:
    """A policy that can be evaluated.

    Attributes:
        policy: as it was written.
        rules: in file order.
    """

    policy: Policy
    rules: tuple[BoundRule, ...]
    _by_stage: dict[Stage, tuple[BoundRule, ...]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    _asked: dict[tuple[Stage, Kind], Mapping[str, str]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    refusals: frozenset[str] = field(init=False, repr=False, compare=False)
    """The words of its block rules."""

    def __post_init__(self) -> None:
        said = (bound.rule.do.refusal for bound in self.rules)
        object.__setattr__(self, "refusals", frozenset(words for words in said if words))
        stages: tuple[Stage, ...] = ("input", "output")
        for stage in stages:
            self._by_stage[stage] = tuple(b for b in self.rules if stage in b.rule.check)

    def rules_for(self, stage: Stage) -> tuple[BoundRule, ...]:
        """The rules that check a stage, in file order."""
        return self._by_stage[stage]

    def asked(self, stage: Stage, kind: Kind) -> Mapping[str, str]:
        """The classifiers that the conditions of those rules name that look at a kind of text, and
        ``name@version`` of each. A FAQ's own is not among them."""
        known = self._asked.get((stage, kind))
        if known is None:
            known = {
                leaf.classifier: leaf.id
                for bound in self._by_stage[stage]
                if bound.scope.covers(kind, stage)
                for leaf, _ in bound.condition.leaves()
                if bound.faq is None or leaf is not bound.faq.leaf
            }
            if len(self._asked) < _MOST_KINDS:
                self._asked[stage, kind] = known
        return known

    @property
    def id(self) -> str:
        """``name@version``."""
        return self.policy.id

    def stops_unread(self, stage: Stage) -> bool:
        """Whether it lets nothing through on a stage that no classifier can read.

        A policy that keeps nothing out there, for it only routes, answers or flags, has no reason.
        """
        return self.policy.on_unscannable == "block" and any(
            bound.rule.enforced and bound.rule.do.guards for bound in self._by_stage[stage]
        )

    @property
    def classifiers(self) -> frozenset[str]:
        """The classifiers that its rules need, each as the ``name@version`` whose thresholds they have."""
        return _needed(self.rules)

    def classifiers_for(self, stage: Stage) -> frozenset[str]:
        """The classifiers that its rules need on input or on output, as ``name@version``."""
        return _needed(self._by_stage[stage])


@functools.lru_cache(1024)
def _one(scope: Scope) -> Scope:
    """The same object for all scopes that are equal: they are told apart by it."""
    return scope


def _needed(rules: Iterable[BoundRule]) -> frozenset[str]:
    needed: set[str] = set()
    for bound in rules:
        needed |= {leaf.id for leaf, _ in bound.condition.leaves()}
        needed.update(bound.faq.classifiers() if bound.faq else ())
    return frozenset(needed)


def load(path: Path) -> Policy:
    """Read a policy file.

    Raises:
        PolicyError: every line of the message is one mistake, ``file:line: fault; fix``.
    """
    try:
        text = read_text(Path(path))
    except SourceError as error:
        raise PolicyError(f"{path}:{error.line}: {error}") from None
    return loads(text, str(path))


def loads(text: str, source: str = "policy") -> Policy:
    """Read a policy from text; ``source`` stands for the file name in messages.

    Raises:
        PolicyError: see :func:`load`.
    """
    try:
        document = parse(text, source)
        policy = Policy.model_validate(document.data)
    except SourceError as error:
        raise PolicyError(f"{source}:{error.line}: {error}") from None
    except ValidationError as error:
        raise PolicyError(describe(error, document)) from None
    policy._document = document
    return policy


def load_all(paths: Iterable[Path]) -> tuple[Policy, ...]:
    """Read several files, whose policies must have different names.

    Raises:
        PolicyError: with the mistakes of all files.
    """
    policies: dict[str, Policy] = {}
    problems: list[str] = []
    for path in paths:
        try:
            policy = load(path)
        except PolicyError as error:
            problems.append(str(error))
            continue
        if policy.name in policies:
            other = policies[policy.name].source
            problems.append(
                f"{policy.at('name')}: {other} has a policy {policy.name!r} already; rename one"
            )
        policies.setdefault(policy.name, policy)
    if problems:
        raise PolicyError("\n".join(problems))
    return tuple(policies.values())


def bind(
    policy: Policy, classifiers: Mapping[str, ClassifierInfo], open_faq: OpenFaq | None = None
) -> BoundPolicy:
    """Look up what the policy needs and resolve every operating point to thresholds.

    A classifier can be the target of ``redact`` if its attribute ``kind`` is ``"spans"``.

    Args:
        policy: a loaded policy.
        classifiers: what there is, by name.
        open_faq: reads the FAQs that rules answer from.

    Raises:
        PolicyError: with every classifier, label or operating point that does not exist, every
            ``redact`` that could fire without a stretch to replace, and the mistakes of FAQs.
    """
    problems = [
        f"{policy.at()}: a classifier is named {name!r}, a word of the policy language; rename it"
        for name in sorted(RESERVED.intersection(classifiers))
    ]
    rules: list[BoundRule] = []
    for index, rule in enumerate(policy.rules):
        path = ("rules", index)
        found: list[str] = []

        def resolve(
            leaf: Leaf, where: tuple[str | int, ...], found: list[str] = found
        ) -> BoundLeaf:
            try:
                return _bind_leaf(leaf, classifiers)
            except PolicyError as error:
                # The label's own line if the list has several, else that of the classifier.
                found.append(f"{policy.at(*where, leaf.classifier)}: {error}")
                return BoundLeaf(leaf.classifier, leaf.classifier, (), spans=True)

        condition = rule.when.bind(resolve, (*path, "when"))
        if not found and rule.do.needs_spans:
            found += [f"{policy.at(*path, 'do')}: {p}" for p in _span_problems(rule, condition)]
        faq = None
        if isinstance(rule.do, AnswerFrom):
            try:
                faq = _bind_faq(policy, rule.do, classifiers, open_faq)
                condition = BoundAll((faq.leaf, condition))
            except UnknownLabel as error:
                found.append(f"{policy.at(*path, 'do', 'answer_from')}: {error}")
            except PolicyError as error:
                found.append(str(error))  # places are the FAQ's
        problems += found
        rules.append(BoundRule(rule, condition, _one(rule.scope), faq))
    if problems:
        raise PolicyError("\n".join(problems))
    return BoundPolicy(policy, tuple(rules))


def _bind_faq(
    policy: Policy,
    action: AnswerFrom,
    classifiers: Mapping[str, ClassifierInfo],
    open_faq: OpenFaq | None,
) -> BoundFaq:
    if open_faq is None:
        raise UnknownLabel("FAQs are not read here; check the policy with doorman policy test")
    faq, info = open_faq(Path(policy.source).parent / action.faq)
    return bind_faq(faq, info, action.point, classifiers)


def _bind_leaf(leaf: Leaf, classifiers: Mapping[str, ClassifierInfo]) -> BoundLeaf:
    info = classifiers.get(leaf.classifier)
    if info is None:
        hint = did_you_mean(leaf.classifier, sorted(classifiers), "classifiers")
        raise PolicyError(f"unknown classifier {leaf.classifier!r}; {hint}")
    for label in leaf.labels:
        if label not in info.labels:
            hint = did_you_mean(label, info.labels, f"labels of {leaf.classifier}")
            raise PolicyError(f"classifier {leaf.classifier!r} has no label {label!r}; {hint}")
    try:
        thresholds = info.thresholds(leaf.labels, leaf.point)
        resolved = tuple((label, float(thresholds[label])) for label in leaf.labels)
    except UnknownLabel as error:
        raise PolicyError(f"classifier {leaf.classifier!r}: {error}") from None
    spans = getattr(info, "kind", None) == "spans"
    return BoundLeaf(leaf.classifier, f"{leaf.classifier}@{info.version}", resolved, spans)


def _span_problems(rule: Rule, condition: Bound) -> list[str]:
    action = rule.do.name
    pointing = [leaf for leaf, helps in condition.leaves() if helps and leaf.spans]
    if not pointing:
        names = ", ".join(dict.fromkeys(leaf.classifier for leaf, _ in condition.leaves()))
        return [
            f"rule {rule.name!r} cannot {action}: {names} finds no stretches of text; "
            "use a classifier that does, such as pii or patterns, or block"
        ]
    if not condition.points():
        return [
            f"rule {rule.name!r} could fire with nothing to {action}; make a classifier with spans "
            "a part of all, not one alternative of any"
        ]
    if getattr(rule.do, "restore", False):
        return [
            f"rule {rule.name!r} cannot restore the label {label!r}, its brackets would confuse "
            "placeholders; rename the label"
            for leaf in pointing
            for label, _ in leaf.thresholds
            if bracketed(label)
        ]
    return []
