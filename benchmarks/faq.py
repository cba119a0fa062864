"""A FAQ of 77 entries against traffic that it covers, and against traffic that it must leave alone."""

from __future__ import annotations

import argparse
import gzip
import json
import random
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.report import Check, Result, Table, number
from classifiers.calibration import upper_bound
from classifiers.encoder import Encoder
from classifiers.faq import FaqClassifier, Memory
from classifiers.packs import SHIPPED
from classifiers.types import Batch, OperatingPoint
from classifiers.views import Reader

WORDINGS = 5
RATES = (0.01, 0.02, 0.05)
LIMIT = 1500
SEED = 7
FEWER = 25
"""Entries of the smaller FAQ; the other labels of the data set are near misses."""
COVERED_BY_BANKING = frozenset({"banking", "credit_cards"})
"""Domains of CLINC150 some of whose questions the FAQ does answer: no traffic to be left alone."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Texts, and the entry that is right for each; None where none is."""

    name: str
    texts: Sequence[str]
    right: Sequence[str | None]


def rows(path: Path, split: str) -> list[dict[str, str]]:
    """The rows of a split, in an order that is always the same but not that of the file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        found = [row for row in map(json.loads, file) if row["split"] == split]
    random.Random(SEED).shuffle(found)
    return found


def entries(train: Sequence[Mapping[str, str]], labels: Collection[str]) -> dict[str, list[str]]:
    """The first wordings of each label."""
    found: dict[str, list[str]] = {label: [] for label in sorted(labels)}
    for row in train:
        own = found.get(row["label"])
        if own is not None and len(own) < WORDINGS and row["text"] not in own:
            own.append(row["text"])
    return found


def traffic(data: Path, labels: Collection[str], limit: int) -> list[Traffic]:
    """What is sent to a FAQ with these entries."""
    bank = rows(data / "intent" / "banking77.jsonl.gz", "test")
    own = [row for row in bank if row["label"] in labels][:limit]
    near = [row for row in bank if row["label"] not in labels][:limit]
    clinc = rows(data / "intent" / "clinc150.jsonl.gz", "test")
    outside = [row["text"] for row in clinc if row["label"] == "oos"][:limit]
    far = [
        row["text"]
        for row in clinc
        if row["label"] != "oos" and row.get("domain") not in COVERED_BY_BANKING
    ][:limit]
    both = [
        f"{row['text'].rstrip(' .?!')}{glue} {other}"
        for index, (row, other) in enumerate(zip(own, far, strict=False))
        for glue in (("?", ".", " and")[index % 3],)
    ]
    found = [
        Traffic("Banking77 test, covered", [r["text"] for r in own], [r["label"] for r in own]),
        Traffic("Banking77 test, other labels", [r["text"] for r in near], [None] * len(near)),
        Traffic("CLINC150 test, out of scope", outside, [None] * len(outside)),
        Traffic("CLINC150 test, other domains", far, [None] * len(far)),
        Traffic("covered and not, in one text", both, [None] * len(both)),
    ]
    return [one for one in found if one.texts]


def judged(faq: FaqClassifier, sent: Traffic, cuts: Sequence[float]) -> list[tuple[float, int]]:
    """By threshold: the share that was answered, and how many of the answers are wrong."""
    scores: npt.NDArray[np.float32] = np.asarray(
        [
            [prediction.score for prediction in found]
            for start in range(0, len(sent.texts), 32)
            for found in faq.predict(Batch(sent.texts[start : start + 32]))
        ],
        dtype=np.float32,
    )
    best = [faq.labels[index] for index in scores.argmax(axis=1)]
    wrong = np.asarray([a != b for a, b in zip(best, sent.right, strict=True)])
    over = [scores.max(axis=1) >= cut for cut in cuts]
    return [(float(each.mean()), int((each & wrong).sum())) for each in over]


def measure(data: Path, limit: int) -> Result:
    """Both FAQs against all traffic, at every promise."""
    reader, memory = Reader(Encoder(SHIPPED / "encoder", threads=2)), Memory()
    train = rows(data / "intent" / "banking77.jsonl.gz", "train")
    every = sorted({row["label"] for row in train})
    tables: list[Table] = []
    checks: list[Check] = []
    for labels in (every, sorted(random.Random(SEED).sample(every, FEWER))):
        started = time.perf_counter()
        faq = FaqClassifier("faq", "1", entries(train, labels), (), reader, memory)
        cuts = [
            faq.thresholds(faq.labels[:1], OperatingPoint("max_wrong_answer_rate", rate))[
                faq.labels[0]
            ]
            for rate in RATES
        ]
        title = f"FAQ of {len(labels)} entries with {WORDINGS} wordings each"
        table: list[tuple[str, ...]] = []
        for sent in traffic(data, labels, limit):
            found = judged(faq, sent, cuts)
            cells = [
                cell
                for share, wrong in found
                for cell in (f"{share:.1%}", f"{wrong / len(sent.texts):.2%}")
            ]
            table.append((sent.name, str(len(sent.texts)), *cells))
            if len(labels) == len(every):
                checks += [_check(sent, wrong, RATES[at]) for at, (_, wrong) in enumerate(found)]
        columns = [f"{what} at {rate:.0%}" for rate in RATES for what in ("answered", "wrong")]
        note = "Thresholds: " + ", ".join(number(cut) for cut in cuts)
        tables.append(Table(title, ("traffic", "texts", *columns), tuple(table), note))
        print(f"{title}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return Result("faq", tuple(tables), tuple(checks), (NOTE,))


NOTE = (
    "Answered: share of the texts that get an answer; wrong: share of the texts that get one that is not "
    "theirs. 'Other labels' are near misses: questions to a bank that the smaller FAQ has no entry for."
)


def _check(sent: Traffic, wrong: int, rate: float) -> Check:
    total = len(sent.texts)
    # Proven to be broken only if the rate of right verdicts is proven to be under 1 - rate.
    holds = upper_bound(total - wrong, total) >= 1 - rate
    return Check(
        f"wrong answers, {sent.name}",
        f"{wrong / total:.2%} of {total}",
        f"at most {rate:.0%}",
        holds,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the public data sets")
    parser.add_argument("--limit", type=int, default=LIMIT, help="texts of each kind of traffic")
    parser.add_argument("--json", type=Path, help="keep the figures there")
    given = parser.parse_args()
    measure(given.data, given.limit).write(given.json)


if __name__ == "__main__":
    main()
