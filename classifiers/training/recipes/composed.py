"""Innocent texts put together from parts: what customers say, personas, the skeletons of system prompts.

Each is close to something that is stopped, in its words alone: "I'm leaving tomorrow, I won't need
anything else" is no farewell to life, "You are an alien ambassador" no jailbreak.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable

from classifiers.training.data import Row, bucket
from classifiers.training.recipes import composed_parts as parts_of

SERVICE, PERSONAS, SKELETONS = "ours, customers", "ours, personas", "ours, system prompts"
_SLOT = re.compile(r"\{(\w+)\}")
_DEV = 8
"""One text of so many is held out."""


def composed_rows(seed: int = 41) -> list[Row]:
    """Innocent rows of all three kinds, the same for the same seed."""
    chooser = random.Random(seed)  # noqa: S311 (not for secrets)
    rows = _rows((_filled(t, chooser) for t in parts_of.SERVICE for _ in range(16)), SERVICE)
    rows += _rows((_persona(chooser) for _ in range(700)), PERSONAS)
    rows += _rows((_skeleton(chooser) for _ in range(160)), SKELETONS)
    return rows


def _rows(texts: Iterable[str], source: str) -> list[Row]:
    found = dict.fromkeys(texts)
    return [
        Row(
            text,
            frozenset(),
            None,
            source,
            "dev" if bucket(text, _DEV) == 0 else "train",
            1.0,
            None,
            True,
        )
        for text in found
    ]


def _filled(template: str, chooser: random.Random) -> str:
    text = template
    while _SLOT.search(text):
        text = _SLOT.sub(lambda m: chooser.choice(parts_of.FILL[m[1]]), text)
    return _worded(text, chooser)


def _worded(text: str, chooser: random.Random) -> str:
    """As people type it: at times without capitals or marks."""
    kind = chooser.random()
    if kind < 0.2:
        return text.lower()
    if kind < 0.35:
        return text.rstrip(".!?")
    return text


def _persona(chooser: random.Random) -> str:
    task = chooser.choice(parts_of.TASKS)
    parts = {
        "role": chooser.choice(parts_of.ROLES),
        "task": " ".join([task, *chooser.sample(parts_of.TASKS, chooser.choice((0, 0, 1, 2)))]),
        "task_low": task[0].lower() + task[1:],
    }
    template = chooser.choice(parts_of.PERSONA)
    for name, value in parts.items():
        template = template.replace("{" + name + "}", value)
    return _filled(template, chooser)


def _skeleton(chooser: random.Random) -> str:
    expert = chooser.choice(parts_of.EXPERTS)
    steps = chooser.sample(parts_of.STEPS, chooser.randint(3, 7))
    output = chooser.sample(parts_of.OUTPUT, chooser.randint(2, 6))
    parts = [
        f"{chooser.choice(parts_of.HEADS)}\n\nYou are {expert}. {chooser.choice(parts_of.STEPS)}",
        "# STEPS\n\n" + "\n".join(f"- {step}" for step in steps),
        "# OUTPUT INSTRUCTIONS\n\n" + "\n".join(f"- {line}" for line in output),
        "# INPUT\n\nINPUT:" if chooser.random() < 0.6 else "INPUT:",
    ]
    return _SLOT.sub(lambda m: chooser.choice(parts_of.FILL[m[1]]), "\n\n".join(parts))
