"""Placeholders in place of finds: merged, numbered, applied, and put back in the reply."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from classifiers.faults import fault, show
from classifiers.types import Text
from policies import json_source
from policies.decision import Decision, Redaction

BRACKETS = {"<": ">", "[": "]", "(": ")", "«": "»", "⟨": "⟩", "⟦": "⟧"}
_FIELD = re.compile(r"\{[^{}]*\}")
_OPEN, _CLOSE = re.escape("".join(BRACKETS)), re.escape("".join(BRACKETS.values()))
_BRACKET = re.compile(f"[{_OPEN}{_CLOSE}]")
_BRACKETED = re.compile(f"[{_OPEN}][^{_OPEN}{_CLOSE}]*+[{_CLOSE}]")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A stretch that a rule wants replaced: ``texts[text].content[start:end]``, never empty."""

    text: int
    start: int
    end: int
    template: str
    label: str
    restore: bool


def check_template(template: str, restore: bool) -> None:
    """Refuse a placeholder that cannot do its work; raises a pydantic custom error.

    What is to be put back must be found again without doubt in whatever the model writes: numbered,
    and in brackets, so that no placeholder can be part of another or run into its surroundings.
    """
    if not template.strip():
        raise fault("the placeholder is empty; write one such as '[removed]'")
    for field in _FIELD.findall(template):
        if field not in ("{label}", "{n}"):
            raise fault(f"{field} in {show(template)} means nothing; use {{label}} and {{n}}")
    if template.count("{n}") > 1:
        raise fault(f"{show(template)} has {{n}} more than once; keep one")
    if not restore:
        return
    if "{n}" not in template:
        raise fault(
            f"{show(template)} cannot be put back, two values would look the same; add {{n}}"
        )
    inner = template[1:-1]
    closing = BRACKETS.get(template[0])
    if closing is None or template[-1] != closing or _BRACKET.search(inner):
        raise fault(
            f"{show(template)} could run into the text around it; to restore, "
            "put it in one pair of brackets, such as '<{label}_{n}>'"
        )


def bracketed(text: str) -> bool:
    """Whether a text holds a character that placeholders are made with."""
    return any(char in "{}" or char in BRACKETS or char in BRACKETS.values() for char in text)


def settle(
    wanted: Iterable[Wanted], texts: Sequence[Text], taken: Collection[str]
) -> tuple[Redaction, ...]:
    """Merge overlaps and number the placeholders.

    Overlapping stretches become one, with the placeholder of the longest of them (the first in the
    file among equals), which is put back only if all of them are. The same value gets the same
    number; other values of the same placeholder the next one.

    Args:
        wanted: in the order of the rules.
        texts: what is redacted.
        taken: placeholders that must not be given again.
    """
    numbers: dict[str, _Numbers] = {}
    placed: list[tuple[Wanted, str]] = []
    for item in _merge(wanted):
        base = item.template.replace("{label}", item.label)
        if base not in numbers:
            numbers[base] = _Numbers(base, taken)
        if item.restore:
            numbers[base].avoid(texts)
        value = texts[item.text].content[item.start : item.end]
        placed.append((item, numbers[base].placeholder(value)))
    # One refusal to put a value back holds for every place where its placeholder stands.
    final = {placeholder for item, placeholder in placed if not item.restore}
    return tuple(
        Redaction(
            w.text, w.start, w.end, placeholder, w.label, w.restore and placeholder not in final
        )
        for w, placeholder in placed
    )


def _merge(wanted: Iterable[Wanted]) -> list[Wanted]:
    # Sorting is stable: among equals the first in the file stays first.
    merged: list[tuple[Wanted, int]] = []
    for item in sorted(wanted, key=lambda w: (w.text, w.start)):
        size = item.end - item.start
        if merged and merged[-1][0].text == item.text and item.start < merged[-1][0].end:
            last, longest = merged[-1]
            winner = item if size > longest else last
            merged[-1] = (
                Wanted(
                    text=item.text,
                    start=last.start,
                    end=max(last.end, item.end),
                    template=winner.template,
                    label=winner.label,
                    restore=last.restore and item.restore,
                ),
                max(size, longest),
            )
        else:
            merged.append((item, size))
    return [item for item, _ in merged]


class _Numbers:
    """The placeholders of one template, such as ``<EMAIL_{n}>``."""

    def __init__(self, base: str, taken: Collection[str]) -> None:
        self._base = base
        self._used = set(taken)
        self._last = 0
        self._given: dict[str, str] = {}
        self._avoiding = False

    def avoid(self, texts: Sequence[Text]) -> None:
        """Give no placeholder that stands in the texts already, or the reply could not tell what
        is to be put back from what was always there. One pass: users may write many of them."""
        if self._avoiding or "{n}" not in self._base:
            return
        self._avoiding = True
        pattern = re.compile(r"[0-9]++".join(map(re.escape, self._base.split("{n}"))))
        for text in texts:
            self._used.update(pattern.findall(text.content))

    def placeholder(self, value: str) -> str:
        """The same for the same value, the next that is free for another."""
        if "{n}" not in self._base:
            return self._base
        while value not in self._given:
            self._last += 1
            placeholder = self._base.replace("{n}", str(self._last))
            if placeholder not in self._used:
                self._given[value] = placeholder
        return self._given[value]


def apply_redactions(content: str, redactions: Iterable[Redaction]) -> str:
    """A text with its placeholders in place.

    Args:
        content: the text.
        redactions: those of this text (``redaction.text`` is not looked at).
    """
    pieces: list[str] = []
    end = 0
    for redaction in sorted(redactions, key=lambda r: r.start):
        pieces += (content[end : redaction.start], redaction.placeholder)
        end = redaction.end
    return "".join((*pieces, content[end:]))


def restorations(texts: Sequence[Text], decision: Decision) -> dict[str, str]:
    """Placeholder -> original value, for everything that is to be put back in the reply.

    Values of the operator's texts stay out: placeholders can be guessed, and whoever asks would
    only have to make the model write one.
    """
    return {
        r.placeholder: _original(texts[r.text].content, r)
        for r in decision.redactions
        if r.restore and texts[r.text].role not in ("system", "developer")
    }


def _original(content: str, redaction: Redaction) -> str:
    """What a placeholder stands for; where that is JSON source, what it means."""
    original = content[redaction.start : redaction.end]
    if "\\" in original and json_source.is_document(content):
        return json_source.meaning(original)
    return original


def restore(content: str, originals: Mapping[str, str]) -> str:
    """A reply with the placeholders of :func:`restorations` replaced by what they stand for."""
    return _BRACKETED.sub(lambda match: originals.get(match.group(), match.group()), content)
