"""What the semantic cache takes for the same question: hits on paraphrases, wrong hits on near misses.

    python -m benchmarks.cache --data DIR [--limit N] [--json FILE]

The shipped pairs were written together with the guard, so they say how it works and little about
strangers; the public sets are held out: texts of two labels must never be taken for the same question.
Prints figures only, never a text.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from benchmarks.report import Check, Result, Table, number
from classifiers import zero_shot
from classifiers.calibration import upper_bound
from classifiers.encoder import Encoder
from classifiers.packs import SHIPPED
from classifiers.training.data import read_jsonl
from proxy.cache_words import signature
from proxy.config_cache import SemanticCache
from proxy.semantic_cache import Pair, near_misses, pairs, score, threshold

SEED = 7
LIMIT = 1500
SOURCES = (("banking77", "intent/banking77.jsonl.gz"), ("clinc150", "intent/clinc150.jsonl.gz"))
PAIRS_NOTE = (
    "Cosine alone: the same threshold without the guard of words; equal errors: the cosine at which it "
    "would take no more near misses than promised, and the paraphrases it would then still find."
)
PUBLIC_NOTE = (
    "Every text of the test split as a question, every other one as what is stored. Reach: texts that some "
    "other text of their label would answer. Wrong: texts that one of another label would answer; of pairs "
    "of different labels, how many hit. Cosine alone is measured on a part of the texts."
)


def shipped(encoder: Encoder, options: SemanticCache) -> tuple[Table, Check, float]:
    """The pairs that come with the program."""
    known = pairs()
    level = threshold(options, near_misses(encoder))
    same, other = ([pair for pair in known if pair.same is kind] for kind in (True, False))
    guarded = [_hits(score(some, encoder), level) for some in (same, other)]
    bare = [_cosines(encoder, some) for some in (same, other)]
    alone = [_hits(cosines, level) for cosines in bare]
    # Where cosine alone makes as many mistakes as are promised.
    may = round(options.max_wrong_hit_rate * len(other))
    strict = float(np.nextafter(np.sort(bare[1])[::-1][may], np.inf))
    rows = tuple(
        (
            name, f"{at:.3f}", f"{right}/{len(same)}", f"{wrong}/{len(other)}",
            f"{upper_bound(wrong, len(other)):.2%}",
        )
        for name, at, (right, wrong) in (
            ("guard and cosine", level, guarded),
            ("cosine alone", level, alone),
            ("cosine alone, equal errors", strict, [_hits(cosines, strict) for cosines in bare]),
        )
    )  # fmt: skip
    bound = upper_bound(guarded[1], len(other))
    promised = options.max_wrong_hit_rate
    check = Check(
        "wrong hits of near misses, 95 % bound",
        f"{bound:.2%}",
        f"<= {promised:.2%}",
        bound <= promised,
    )
    columns = ("by", "threshold", "paraphrases hit", "near misses hit", "at most (95 %)")
    return Table(f"Shipped pairs, {encoder.name}", columns, rows, PAIRS_NOTE), check, level


def public(encoder: Encoder, path: Path, level: float, limit: int) -> tuple[str, ...]:
    """One public set."""
    found = [
        (row["text"], row["label"]) for row in read_jsonl(path)
        if row["split"] == "test" and row["label"] != "oos"
    ]  # fmt: skip
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index, (text, _) in enumerate(found):
        if (words := signature(text)) is not None:
            groups[words].append(index)
    reached, misled, wrong = set[int](), set[int](), 0
    for group in groups.values():
        for one, other in combinations(group, 2):
            a, b = zero_shot.vectors(encoder, [found[one][0], found[other][0]])
            if float(a @ b) < level:
                continue
            if found[one][1] == found[other][1]:
                reached |= {one, other}
            else:
                misled |= {one, other}
                wrong += 1
    counts = Counter(label for _, label in found).values()
    different = (len(found) ** 2 - sum(count**2 for count in counts)) // 2
    bare = _alone(encoder, random.Random(SEED).sample(found, min(limit, len(found))), level)
    return (
        str(len(found)), number(len(reached) / len(found)), f"{len(misled)}/{len(found)}",
        f"{wrong} of {different}", f"{bare:.1%}",
    )  # fmt: skip


def measure(encoder: Encoder, data: Path, limit: int) -> Result:
    """Everything there is."""
    options = SemanticCache(models=("*",))
    table, check, level = shipped(encoder, options)
    rows, notes = [], []
    for name, place in SOURCES:
        if (data / place).is_file():
            rows.append((name, *public(encoder, data / place, level, limit)))
        else:
            notes.append(f"{name}: no such file, not measured.")
    columns = ("texts of", "texts", "reach", "wrong", "pairs wrong", "wrong by cosine alone")
    title = "Public texts: labels as questions"
    found = Table(title, columns, tuple(rows), PUBLIC_NOTE)
    return Result("cache", (table, found), (check,), tuple(notes))


def _cosines(encoder: Encoder, some: Sequence[Pair]) -> np.ndarray:
    ones = zero_shot.vectors(encoder, [pair.one for pair in some])
    others = zero_shot.vectors(encoder, [pair.other for pair in some])
    return np.asarray((ones * others).sum(axis=1), dtype=float)


def _hits(scores: np.ndarray, level: float) -> int:
    return int((scores >= level).sum())


def _alone(encoder: Encoder, found: Sequence[tuple[str, str]], level: float) -> float:
    """The share of texts that one of another label would answer, were the cosine all that counts."""
    vectors = zero_shot.vectors(encoder, [text for text, _ in found])
    labels = np.asarray([label for _, label in found])
    near = (vectors @ vectors.T >= level) & (labels[:, None] != labels[None])
    return float(near.any(axis=1).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the public data sets")
    parser.add_argument("--limit", type=int, default=LIMIT, help="texts of a set, for cosine alone")
    parser.add_argument("--encoder", type=Path, default=SHIPPED / "encoder", help="encoder pack")
    parser.add_argument("--json", type=Path, help="keep the figures there")
    given = parser.parse_args()
    measure(Encoder(given.encoder), given.data, given.limit).write(given.json)


if __name__ == "__main__":
    main()
