"""A refused message stays out of the conversation, and the conversation goes on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from policies_fakes import decide, policy

from classifiers.types import Text
from policies.decision import Decision
from policies.draft import Draft
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


class Counted(list[Text]):
    """Texts that count how often somebody walks over all of them."""

    walks = 0

    def __iter__(self) -> Iterator[Text]:
        self.walks += 1
        return super().__iter__()


@pytest.mark.parametrize("rounds", [3, 300])
def test_a_long_conversation_is_not_walked_for_every_hit(rounds: int) -> None:
    turns = [ATTACK, OURS] * rounds
    texts = Counted(
        Text(said, role, ("messages", i, "content"), "input", i, i == len(turns) - 1)
        for i, (role, said, _) in enumerate(turns)
    )
    draft = Draft("input", texts, {"I can't help with that."})
    assert all(draft.refused(i) == (i % 2 == 0) for i in range(len(texts)))
    assert texts.walks <= 3


def test_a_refusal_that_is_read_in_two_forms_is_one_refusal() -> None:
    said = '{"refused": "no\\n"}'
    texts = [
        Text("the attack", "user", ("messages", 0, "content"), "input", 0, False),
        Text(said, "assistant", ("messages", 1, "content"), "input", 1, False),
        Text("no\n", "assistant", ("messages", 1, "content"), "input", 1, False, derived=True),
    ]
    assert Draft("input", texts, {said}).refused(0)
