"""A refused message stays out of the conversation, and the conversation goes on."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from policies_fakes import decide, policy

from classifiers.types import Text
from policies.decision import Decision
from policies.engine import apply_redactions

RULES = """
  - {name: attacks, when: {jailbreak: jailbreak}, roles: [user, tool], do: {block: "I can't help with that."}}
  - {name: threats, when: {safety: violence}, do: {block: "Please be kind."}}
  - {name: hard, when: {spam: spam}, do: {block: {message: "No.", as: error}}}
"""
Message = tuple[str, str, dict[str, float]]
JAILBREAK, VIOLENCE = {"jailbreak/jailbreak": 0.99}, {"safety/violence": 0.99}
ATTACK: Message = ("user", "the attack", JAILBREAK)
BOTH: Message = ("user", "both", {**JAILBREAK, **VIOLENCE})
SPAM: Message = ("user", "the spam", {"spam/spam": 0.99})
TOOL: Message = ("tool", "the attack", JAILBREAK)
NEXT: Message = ("user", "and the weather?", {})
OURS: Message = ("assistant", "I can't help with that.", {})
OTHERS: Message = ("assistant", "Please be kind.", {})
THEIRS: Message = ("assistant", "Sure, here it is.", {})


def verdict(messages: Sequence[Message]) -> tuple[Decision, list[Text]]:
    last = len(messages) - 1
    pairs = [
        (Text(said, role, ("messages", turn, "content"), "input", turn, turn == last), scores)
        for turn, (role, said, scores) in enumerate(messages)
    ]
    return decide(policy(RULES), *pairs), [text for text, _ in pairs]


CASES: list[tuple[str, Sequence[Message], str, list[int]]] = [
    ("a new attack", [ATTACK], "block", []),
    ("an attack that was refused", [ATTACK, OURS, NEXT], "redact", [0]),
    ("refused by another rule's words", [BOTH, OTHERS, NEXT], "redact", [0]),
    ("a tool's result that was refused", [NEXT, TOOL, OURS, NEXT], "redact", [1]),
    ("an attack that was answered", [ATTACK, THEIRS, NEXT], "block", []),
    ("a refused one and a new one", [ATTACK, OURS, ATTACK], "block", []),
    ("a refusal before the attack", [OURS, ATTACK, NEXT], "block", []),
    ("errors are not kept in the history", [SPAM, ("assistant", "No.", {}), NEXT], "block", []),
]


@pytest.mark.parametrize(
    ("messages", "outcome", "removed"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_refused_messages(
    messages: Sequence[tuple[str, str, dict[str, dict[str, float]]]],
    outcome: str,
    removed: list[int],
) -> None:
    decision, texts = verdict(messages)
    assert decision.outcome == outcome
    if outcome != "redact":
        return
    assert [redaction.text for redaction in decision.redactions] == removed
    for index, text in enumerate(texts):
        own = [r for r in decision.redactions if r.text == index]
        content = apply_redactions(text.content, own)
        assert content == ("[removed by policy]" if index in removed else text.content)
