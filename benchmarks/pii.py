"""Precision and recall of the personal data classifier, its false positives, and its speed.

    python benchmarks/pii.py --data PATH [--split dev|train] [--show]

PATH is the folder of data sets (``pii/``, ``benign/``, ``spam/`` with gzip JSON lines).
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from classifiers.pii import PiiClassifier
from classifiers.types import Batch, Prediction

ANSWERS = {
    "EMAIL_ADDRESS": "EMAIL",
    "PHONE_NUMBER": "PHONE",
    "CREDIT_CARD": "CREDIT_CARD",
    "IBAN_CODE": "IBAN",
    "US_SSN": "US_SSN",
    "IP_ADDRESS": "IP_ADDRESS",
    "US_DRIVER_LICENSE": "DRIVER_LICENSE",
}
"""Span types of presidio_synth_v2 and the labels that answer them; its other types have no form."""


def rows(path: Path) -> Iterator[dict[str, object]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def texts_of(row: dict[str, object]) -> list[str]:
    messages = row.get("messages")
    if isinstance(messages, list):
        return [message["content"] for message in messages]
    return [str(row["text"])]


def overlap(prediction: Prediction, span: dict[str, int]) -> bool:
    assert prediction.span is not None
    return prediction.span.start < span["end"] and span["start"] < prediction.span.end


def quality(classifier: PiiClassifier, path: Path, split: str, show: bool) -> None:
    """A span is found if a prediction of its label overlaps it; exact counts equal borders."""
    hit: Counter[str] = Counter()
    exact: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for row in rows(path):
        if row["split"] != split:
            continue
        text = str(row["text"])
        found = classifier.predict(Batch([text]))[0]
        spans = [s for s in row["spans"] if s["type"] in ANSWERS]  # type: ignore[attr-defined]
        for span in spans:
            label = ANSWERS[span["type"]]
            matches = [p for p in found if p.label == label and overlap(p, span)]
            (hit if matches else missed)[label] += 1
            exact[label] += any(
                p.span and (p.span.start, p.span.end) == (span["start"], span["end"])
                for p in matches
            )
            if show and not matches:
                print(f"  missed {label}: {text[max(0, span['start'] - 30) : span['end'] + 5]!r}")
        for p in found:
            assert p.span is not None
            if not any(ANSWERS[s["type"]] == p.label and overlap(p, s) for s in spans):
                wrong[p.label] += 1
                if show:
                    print(
                        f"  wrong {p.label}: {text[max(0, p.span.start - 30) : p.span.end + 5]!r}"
                    )
    print(f"\n{path.name}, {split}")
    print(
        f"{'label':16}{'spans':>7}{'found':>7}{'exact':>7}{'wrong':>7}{'precision':>11}{'recall':>8}"
    )
    for label in sorted(set(hit) | set(missed) | set(wrong)):
        total, claimed = hit[label] + missed[label], hit[label] + wrong[label]
        precision = f"{hit[label] / claimed:.3f}" if claimed else "-"
        recall = f"{hit[label] / total:.3f}" if total else "-"
        print(
            f"{label:16}{total:7}{hit[label]:7}{exact[label]:7}{wrong[label]:7}{precision:>11}{recall:>8}"
        )


def false_alarms(classifier: PiiClassifier, paths: list[Path], sample: int, show: bool) -> None:
    """Finds in texts that should hold little or none. Some are true: read them with ``--show``."""
    print(f"\n{'file':40}{'texts':>7}{'with finds':>11}{'share':>8}  labels")
    for path in paths:
        chosen = [row for row in rows(path) if row.get("label") != "spam"]
        random.Random(7).shuffle(chosen)
        texts = [text for row in chosen[:sample] for text in texts_of(row)]
        labels: Counter[str] = Counter()
        flagged = 0
        for text, found in zip(texts, classifier.predict(Batch(texts)), strict=True):
            flagged += bool(found)
            labels.update(p.label for p in found)
            for p in found if show else ():
                assert p.span is not None
                print(f"  {p.label}: {text[max(0, p.span.start - 40) : p.span.end + 10]!r}")
        share = flagged / max(1, len(texts))
        listed = " ".join(f"{label}:{count}" for label, count in labels.most_common())
        print(
            f"{path.stem.removesuffix('.jsonl'):40}{len(texts):7}{flagged:11}{share:8.2%}  {listed}"
        )


def speed(classifier: PiiClassifier) -> None:
    prose = (
        "The quick brown fox asks how it could pay the bill of 2024 before the end of June. " * 4
    )
    call = prose[:250] + " Call (415) 555-0132 or mail jane@example.com. "
    print(f"\n{'text':40}{'microseconds':>14}")
    for name, text, rounds in (
        ("300 characters, nothing found", prose[:300], 2000),
        ("300 characters, two finds", call[:300], 500),
        ("1 MB of one digit", "1" * 1_000_000, 1),
        ("1 MB of @", "@" * 1_000_000, 1),
        ("1 MB of spaced digits", "1 2 " * 250_000, 1),
        ("1 MB of a.a.a.", "a." * 500_000, 1),
        ("1 MB of card-like groups", "4111 1111 " * 100_000, 1),
    ):
        batch = Batch([text])
        classifier.predict(batch)
        started = time.perf_counter()
        for _ in range(rounds):
            classifier.predict(batch)
        print(f"{name:40}{(time.perf_counter() - started) / rounds * 1e6:14.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--split", default="dev", help="split of the personal data set")
    parser.add_argument("--sample", type=int, default=1000, help="rows of each benign file")
    parser.add_argument("--show", action="store_true", help="print every error")
    arguments = parser.parse_args()
    classifier = PiiClassifier()
    quality(
        classifier,
        arguments.data / "pii/presidio_synth_v2.jsonl.gz",
        arguments.split,
        arguments.show,
    )
    paths = sorted((arguments.data / "benign").glob("*.jsonl.gz"))
    paths.append(arguments.data / "spam/sms_spam.jsonl.gz")
    false_alarms(classifier, paths, arguments.sample, arguments.show)
    speed(classifier)


if __name__ == "__main__":
    main()
