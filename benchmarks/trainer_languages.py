"""The shipped packs by language, wherever the public data sets have rows that were not trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.judging import scores, spread
from benchmarks.report import Table, percent
from benchmarks.rows import FILLING, SLOT, requests
from benchmarks.trainer_bench import Bench, Part
from classifiers.heads import HeadClassifier, load_heads
from classifiers.packs import MANIFEST, SHIPPED
from classifiers.training.data import read_jsonl
from classifiers.types import OperatingPoint

LIMIT = 250
"""Rows of a set and language at most, evenly spaced."""
HARMFUL = ("harmful_request", "harmful_request_unmapped")


def _always(_: str) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Set:
    """Rows of one data set that show how a pack does.

    Attributes:
        pack: that is asked.
        attacks: label of a row -> it should be found; otherwise it should not.
        kept: label of a row -> it is counted at all.
        unseen: languages whose rows of the split train were not trained on either.
    """

    pack: str
    source: str
    attacks: Callable[[str], bool]
    kept: Callable[[str], bool] = _always
    unseen: tuple[str, ...] = ()


SETS = (
    Set("safety", "safety/ailuminate_demo_en", _always, HARMFUL.__contains__),
    Set("safety", "safety/ailuminate_demo_fr", _always, HARMFUL.__contains__),
    Set("safety", "safety/catqa", _always, HARMFUL.__contains__, ("zh", "vi")),
    Set("safety", "benign/awesome_chatgpt_prompts", lambda _: False),
    Set("safety", "benign/awesome_chatgpt_prompts_zh", lambda _: False),
    Set("jailbreak", "injection/cyberseceval_prompt_injection", _always),
    Set("jailbreak", "injection/cyberseceval_multilingual_mt", _always),
    Set("jailbreak", "injection/xsafety_goal_hijacking", _always),
    Set("jailbreak", "injection/deepset_prompt_injections", "injection".__eq__),
    Set("jailbreak", "benign/awesome_chatgpt_prompts", lambda _: False),
    Set("jailbreak", "benign/awesome_chatgpt_prompts_zh", lambda _: False),
)


def languages(bench: Bench) -> Part:
    """Rows found and rows flagged by mistake, at the default thresholds."""
    names = sorted({one.pack for one in SETS})
    there = [name for name in names if (SHIPPED / name / MANIFEST).is_file()]
    notes = [f"{name} is not built, so not measured." for name in names if name not in there]
    heads = {h.name: h for h in load_heads([SHIPPED / name for name in there], bench.encoder)}
    lines: list[tuple[str, ...]] = []
    for one in SETS:
        if one.pack in heads:
            lines += _lines(bench, one, heads[one.pack])
    columns = ("pack", "set", "language", "rows", "found", "own benign rows", "flagged by mistake")
    table = Table(
        "Shipped packs by language, held-out rows",
        columns,
        tuple(lines),
        "A row is found if any label reaches its default threshold. `safety/catqa` in Chinese and "
        "Vietnamese was not trained on at all; the jailbreak sets of other languages were, their dev "
        f"rows are counted. At most {LIMIT} rows of a set and language, evenly spaced.",
    )
    return [table], [], notes


def _lines(bench: Bench, one: Set, head: HeadClassifier) -> list[tuple[str, ...]]:
    groups: dict[str, list[tuple[str, bool]]] = {}
    for text, label, language, held_out in _rows(bench, one.source):
        if (held_out or language in one.unseen) and one.kept(label):
            groups.setdefault(language, []).append((text, one.attacks(label)))
    cuts = head.thresholds(head.labels, OperatingPoint())
    lines = []
    for language, rows in sorted(groups.items()):
        rows = spread(rows, 20 if bench.options.quick else LIMIT)
        found = scores(head, [text for text, _ in rows]) >= [cuts[label] for label in head.labels]
        flagged = np.any(found, axis=1)
        attack = np.asarray([wanted for _, wanted in rows])
        cells = [
            cell
            for own in (attack, ~attack)
            for cell in (str(int(own.sum())), percent(int(flagged[own].sum()), int(own.sum()), 1))
        ]
        lines.append((one.pack, one.source, language, *cells))
    return lines


def _rows(bench: Bench, source: str) -> list[tuple[str, str, str, bool]]:
    """Text, label, language and whether it was held out, of every row; none where the file is missing."""
    path = bench.options.data / f"{source}.jsonl.gz"
    if not path.is_file():
        return []
    items: list[dict[str, Any]] = list(read_jsonl(path))
    guessed = [r.language for r in requests(bench.options.data, source)]
    found = []
    for item, guess in zip(items, guessed, strict=True):
        language = str(item.get("lang") or ("en" if guess == "English" else "de"))
        text = str(item["text"]).replace(SLOT, FILLING)
        found.append((text, str(item.get("label", "")), language, item["split"] != "train"))
    return found
