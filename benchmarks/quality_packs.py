"""Quality of the shipped packs on rows they were not trained on, at their default operating points."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from sklearn.metrics import average_precision_score

from benchmarks.judging import Bench, Part, Rated, check, rate, scores, spread
from benchmarks.report import Table, number, percent
from benchmarks.rows import ENGLISH, INJECTION, JAILBREAK, OTHER, requests
from classifiers.heads import HeadClassifier
from classifiers.training.data import Row
from classifiers.training.fit import truth_table
from classifiers.training.recipes import RECIPES
from classifiers.types import OperatingPoint

SPAM_F1 = 0.95
JAILBREAK_F1 = 0.95


def spam(bench: Bench) -> Part:
    """SMS spam, official files, rows of the split test."""
    if "spam" not in bench.heads:
        return [], []
    rows = []
    checks = []
    every = list(requests(bench.options.data, "spam/sms_spam"))
    for split in ("dev", "test"):
        items = bench.cut(item for item in every if item.split == split)
        rated = rate(bench.flagged("spam", items), [item.label == "spam" for item in items])
        rows.append((split, str(len(items)), str(rated.hits + rated.misses), *rated.cells()))
        if split == "test":
            checks.append(check("SMS spam, test split, F1", rated.f1, SPAM_F1))
    columns = ("split", "rows", "spam", "precision", "recall", "F1")
    return [Table("SMS spam, pack `spam`", columns, tuple(rows))], checks


def jailbreak(bench: Bench) -> Part:
    """Jailbreaks of all sources against the held-out benign rows."""
    if "jailbreak" not in bench.heads:
        return [], []
    benign = bench.held_out_benign()
    alarms = int(bench.flagged("jailbreak", benign).sum())
    rows, hits, total = [], 0, 0
    for source in JAILBREAK:
        items = bench.cut(
            requests(
                bench.options.data,
                f"injection/{source}",
                lambda r: r.split == "dev" and r.label == "jailbreak",
            )
        )
        found = int(bench.flagged("jailbreak", items).sum()) if items else 0
        hits, total = hits + found, total + len(items)
        rows.append(
            (
                source,
                str(len(items)),
                str(found),
                number(found / len(items), 4) if items else "-",
            )
        )
    rated = Rated(hits, total - hits, alarms)
    rows.append(("**all**", str(total), str(hits), number(rated.recall, 4)))
    table = Table(
        "Jailbreaks, dev rows, pack `jailbreak`",
        ("source", "rows", "found", "recall"),
        tuple(rows),
        f"Against {len(benign)} dev rows of `benign/*`, of which {alarms} are flagged: precision "
        f"{rated.precision:.4f}, recall {rated.recall:.4f}, F1 {rated.f1:.4f}. "
        "`garak_giskard` has no dev rows.",
    )
    return [table], [check("jailbreak, dev rows, F1", rated.f1, JAILBREAK_F1)]


def injection(bench: Bench) -> Part:
    """Prompt injections by source and language, held-out rows."""
    if "jailbreak" not in bench.heads:
        return [], []
    benign = bench.held_out_benign()
    alarms = int(bench.flagged("jailbreak", benign).sum())
    rows = []
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for source in INJECTION:
        items = bench.cut(requests(bench.options.data, f"injection/{source}", lambda r: r.held_out))
        over = bench.flagged("jailbreak", items) if items else np.zeros(0, dtype=bool)
        for language in (ENGLISH, OTHER):
            own = [i for i, item in enumerate(items) if item.language == language]
            attacks = [i for i in own if items[i].label == "injection"]
            innocent = [i for i in own if items[i].label == "benign"]
            if not attacks:
                continue
            found, false = int(over[attacks].sum()), int(over[innocent].sum())
            sums[language][0] += found
            sums[language][1] += len(attacks)
            rows.append(
                (
                    source,
                    language,
                    str(len(attacks)),
                    number(found / len(attacks), 4),
                    f"{false} of {len(innocent)}" if innocent else "-",
                    "-",
                    "-",
                )
            )
    for language, (found, total) in sums.items():
        rated = Rated(found, total - found, alarms)
        figures = number(rated.recall, 4), "-", number(rated.precision, 4), number(rated.f1, 4)
        rows.append(("**all**", language, str(total), *figures))
    table = Table(
        "Prompt injections, held-out rows (dev or test), pack `jailbreak`",
        ("source", "language", "rows", "recall", "own benign rows flagged", "precision", "F1"),
        tuple(rows),
        f"Precision against the same {len(benign)} benign rows. `bipia_embedded` was not trained on at all. "
        "The language of `deepset_prompt_injections` is guessed (English or German).",
    )
    return [table], []


def safety(bench: Bench) -> Part:
    """Each category on the held-out rows whose truth is known."""
    if "safety" not in bench.heads:
        return [], []
    head = bench.heads["safety"]
    every = [row for row in RECIPES["safety"].rows(bench.options.data) if row.split != "train"]
    tables = []
    for title, own in (("public rows", False), ("rows written for this project", True)):
        held = spread([row for row in every if (row.source == "ours") is own], bench.options.limit)
        if held:
            tables.append(label_table(f"Safety, held-out {title}, pack `safety`", head, held))
    return tables, []


def chat(bench: Bench) -> Part:
    """Accuracy of the packs that name one label."""
    rows = []
    for name in ("intent", "topic"):
        if name not in bench.heads:
            continue
        held = [row for row in RECIPES[name].rows(bench.options.data) if row.split != "train"]
        held = spread(held, bench.options.limit)
        truth = truth_table(held, bench.heads[name].labels)
        best = scores(bench.heads[name], [row.text for row in held]).argmax(axis=1)
        right = int((best == truth.argmax(axis=1)).sum())
        rows.append(
            (name, str(len(bench.heads[name].labels)), str(len(held)), percent(right, len(held)))
        )
    if not rows:
        return [], []
    columns = ("pack", "labels", "held-out rows", "accuracy")
    return [Table("Intent and topic", columns, tuple(rows))], []


def label_table(title: str, head: HeadClassifier, rows: Sequence[Row]) -> Table:
    """Each label on the rows where its truth is known."""
    truth = truth_table(rows, head.labels)
    found = scores(head, [row.text for row in rows])
    cuts = head.thresholds(head.labels, OperatingPoint())
    lines = []
    for column, label in enumerate(head.labels):
        known = truth[:, column] >= 0
        right, score = truth[known, column] == 1, found[known, column]
        if not right.any():
            lines.append((label, "0", str(int(known.sum())), *["-"] * 5))
            continue
        rated, half = (rate(score >= cut, list(right)) for cut in (cuts[label], 0.5))
        precision = float(average_precision_score(right, score))
        lines.append(
            (
                label,
                str(int(right.sum())),
                str(int(known.sum())),
                *rated.cells(),
                number(half.f1, 4),
                number(precision, 4),
            )
        )
    columns = (
        "label",
        "rows",
        "known rows",
        "precision",
        "recall",
        "F1",
        "F1 at 0.5",
        "average precision",
    )
    return Table(title, columns, tuple(lines))
