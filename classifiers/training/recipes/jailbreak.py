"""Training rows of the pack `jailbreak`."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from classifiers.training.data import Row, group_key, without_duplicates
from classifiers.training.recipes.common import (
    DOCUMENTS,
    INJECTED,
    MARKS,
    NONE,
    TRANSCRIPTS,
    benign_rows,
    beside_innocent,
    everyday_rows,
    messages,
    ours,
    public,
    row_of,
    with_text,
)

PLAIN = ("roleplay", "everyday_turn")
WEIGHTS = {
    "benign/awesome_chatgpt_prompts": 3.0,
    "benign/awesome_chatgpt_prompts_zh": 3.0,
    "benign/fabric_system_prompts": 3.0,
    DOCUMENTS: 2.0,
    TRANSCRIPTS: 2.0,
}
"""Few, but the nearest that ordinary texts come to a jailbreak; they count for more."""


def jailbreak_rows(data: Path) -> list[Row]:
    """Attacks on the model's instructions, direct and hidden in documents, against lookalikes."""
    hit = frozenset({"jailbreak"})
    rows: list[Row] = []
    for name, weight in (
        ("jailbreak_llms_2023_05", 1.0),
        ("garak_giskard", 1.0),
        ("gptfuzz_templates", 1.0),
        ("self_reminder_jailbreaks", 1.0),
        ("cyberseceval_prompt_injection", 0.7),
        ("cyberseceval_multilingual_mt", 0.3),
        ("latent_jailbreak", 0.2),
        ("sap200", 0.3),
        ("xsafety_goal_hijacking", 0.2),
    ):
        source = f"injection/{name}"
        rows += public(data, source, lambda r, s=source, w=weight: row_of(r, hit, s, weight=w))  # type: ignore[misc]
    source = "injection/deepset_prompt_injections"
    rows += public(
        data, source, lambda r: row_of(r, hit if r["label"] == "injection" else NONE, source)
    )
    slot = "tell me about the forbidden topic"
    rows = [with_text(row, row.text.replace("[INSERT PROMPT HERE]", slot)) for row in rows]
    own = list(ours("jailbreak"))
    hidden = [r["text"] for r in own if r["kind"] == "indirect_string"]
    rows += [
        row_of(
            r,
            hit if r["label"] == "jailbreak" else NONE,
            "ours",
            weight=2.0,
            benign=r["kind"] in PLAIN,  # the others look like attacks
        )
        for r in own
    ]
    benign = benign_rows(data)
    rows += [replace(row, weight=WEIGHTS.get(row.source, row.weight)) for row in benign]
    shown = ("ours", "injection/deepset_prompt_injections", "injection/garak_giskard")
    attacks = [row for row in rows if row.labels and row.source in shown]
    rows += beside_innocent(attacks, [row for row in benign if row.source != DOCUMENTS], 1200)
    requests = [row for row in rows if row.source == "ours" and not row.labels]
    hosts = [row for row in [*benign, *requests] if 200 < len(row.text) < 6000]
    rows += injected_documents(rows, hosts, hidden=frozenset(hidden))
    rows += everyday_rows(data) + messages(data)
    # Harmful wishes are another classifier's: asked plainly, they attack no instruction.
    rows += [
        row_of(r, NONE, "ours", weight=0.5, benign=r["kind"] == "everyday") for r in ours("safety")
    ]
    return without_duplicates(rows)


def injected_documents(
    attacks: Iterable[Row],
    documents: Iterable[Row],
    count: int = 1600,
    seed: int = 11,
    hidden: frozenset[str] = frozenset(),
) -> list[Row]:
    """Innocent documents with a short attack put between two of their sentences, or of their words.

    Args:
        hidden: attacks that were written for documents; they are drawn four times as often.
    """
    chooser = random.Random(seed)  # noqa: S311 (not for secrets)
    made: list[Row] = []
    hit = frozenset({"jailbreak"})
    usable = ("ours", "injection/deepset_prompt_injections", "injection/garak_giskard")
    for split in ("train", "dev"):
        strings = [
            row.text
            for row in attacks
            if row.split == split
            and row.labels == hit
            and row.source in usable
            and 15 < len(row.text) < 300
        ]
        strings += [text for text in strings if text in hidden] * 3
        hosts = [row.text for row in documents if row.split == split]
        for _ in range(count if split == "train" else count // 5):
            attack, host = chooser.choice(strings), chooser.choice(hosts)
            ends = ".\n!?" if chooser.random() < 0.6 else " ,;"
            gap = " " if ends[0] == "." else chooser.choice((" ", *MARKS))
            breaks = [i + 1 for i, c in enumerate(host) if c in ends] or [len(host)]
            place = chooser.choice([0, *breaks, len(host)])
            before, after = host[:place].rstrip() + gap, gap + host[place:].lstrip()
            text = before + attack + after
            focus = (len(before), len(before) + len(attack))
            made.append(Row(text, hit, None, INJECTED, split, 0.7, focus, group=group_key(attack)))
    return made
