"""What users say across messages: how often a look at the words is enough, and what it misses.

    python -m benchmarks.across --data DIR [--rows N] [--seed N] [--json FILE]

Attacks (rows of the splits train and dev, all languages) are cut into two to four messages, at words or
within one, and ordinary messages are put one after the other. Both are decided twice: with every joined
text read by the encoder, and with a look at its words first, as the gateway does. Prints no text.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.quality_policy import CHAT, POLICY
from benchmarks.report import Check, Result, Table, number, percent
from benchmarks.rows import benign_names, requests
from classifiers import glance
from classifiers.encoder import Encoder
from classifiers.engine import ClassifierEngine
from classifiers.heads import load_heads
from classifiers.packs import SHIPPED, SHIPPED_HEADS
from classifiers.pii import PiiClassifier
from classifiers.raised import raised
from classifiers.types import Text
from policies import schema
from policies.attached import Attached
from policies.engine import evaluate
from proxy.endpoints.derived import across_turns

FOLDERS = ("safety", "injection")
SHORTEST, LONGEST = 20, 400
"""Characters of an attack."""
MARGINS = (2.0, 3.0, 4.0, 5.0)
TIMED = 4
"""One ordinary conversation in so many is timed."""
PROMISED_COST = 1.3
"""A new message after others, processor time, over the message alone."""
PROMISED = 0.01
"""Of the attacks that only a joined text shows, so many may be missed."""

Messages = list[str]


@dataclass(slots=True)
class Seen:
    """What became of the conversations of one kind.

    Attributes:
        joins: joined texts, and those ``read`` by the encoder.
        only: conversations that are blocked for a joined text alone, and those still ``caught``.
    """

    conversations: int = 0
    joins: int = 0
    read: int = 0
    only: int = 0
    caught: int = 0

    def cells(self) -> tuple[str, ...]:
        read = percent(self.read, self.joins, 1) if self.joins else "-"
        return (str(self.conversations), str(self.joins), read, str(self.only), str(self.caught))


class Judge:
    """The shipped classifiers and the default policy."""

    def __init__(self) -> None:
        encoder = Encoder(SHIPPED / "encoder", threads=2)
        self.heads = load_heads([SHIPPED / name for name in SHIPPED_HEADS], encoder)
        self.engine = ClassifierEngine([*self.heads, PiiClassifier()])
        policy = schema.bind(schema.load(POLICY), self.engine.classifiers)
        self.rules = Attached([policy])
        self._lines: dict[float, list[glance.Line | None]] = {}
        self.names = policy.classifiers_for("input")

    def texts(self, messages: Messages) -> tuple[list[Text], list[Text]]:
        """The messages, and what is joined of them."""
        said: list[dict[str, str]] = []
        for content in messages:
            said += [{"role": "user", "content": content}, {"role": "assistant", "content": "Yes."}]
        own = list(CHAT.texts({"model": "default", "messages": said[:-1]}))
        return own, list(across_turns(own, self.rules.refusals))

    def blocked(self, texts: Sequence[Text]) -> bool:
        """Whether the policy blocks these texts together, all of them read."""
        found = self.engine.classify_blocking([text.content for text in texts], self.names)
        return evaluate(self.rules.policies, "input", list(texts), found).outcome == "block"

    def doubtful(self, own: Sequence[Text], joined: Sequence[Text], margin: float) -> list[Text]:
        """Those joined texts of which their words and their members leave doubt."""
        glance.MARGIN = margin
        if margin not in self._lines:
            self._lines[margin] = [glance.line_of(head.head) for head in self.heads]
        for head, line in zip(self.heads, self._lines[margin], strict=True):
            head._line, head._has_line = line, True
        found = self.engine.classify_blocking([text.content for text in own], self.names)
        told = self.rules.joined([*own, *joined]) or []
        return [
            text
            for text, one in zip(joined, told[len(own) :], strict=True)
            if one is not None
            and self.engine._glanced(
                text.content, raised(one.floors, [found[index] for index in one.members])
            )
            is None
        ]

    def judge(self, seen: Mapping[float, Seen], messages: Messages) -> None:
        """Count a conversation, for each margin."""
        own, joined = self.texts(messages)
        if not joined:
            return
        only = not self.blocked(own) and self.blocked([*own, *joined])
        for margin, one in seen.items():
            read = self.doubtful(own, joined, margin)
            one.conversations += 1
            one.joins += len(joined)
            one.read += len(read)
            one.only += only
            one.caught += only and self.blocked([*own, *read])


def cost(judge: Judge, conversations: Sequence[Messages]) -> tuple[Table, Check]:
    """Processor time of the last message, its forerunners known."""
    used: dict[str, float] = {}
    for messages in conversations:
        own, joined = judge.texts(messages)
        said = [text for text in own if text.role == "user"]
        ways = {
            "the message alone": (said[-1:], False),
            "and all joined texts": ([*said, *joined], False),
            "and those in doubt": ([*said, *joined], True),
        }
        for way, (texts, look) in ways.items():
            engine = ClassifierEngine([*judge.heads, PiiClassifier()])
            engine.classify_blocking([text.content for text in said[:-1]], judge.names)
            told = judge.rules.joined(texts) if look else None
            started = time.process_time()
            engine.classify_blocking([text.content for text in texts], judge.names, told)
            used[way] = used.get(way, 0.0) + time.process_time() - started
            engine.close()
    alone = used["the message alone"]
    rows = tuple(
        (way, number(seconds / len(conversations) * 1e3), number(seconds / alone))
        for way, seconds in used.items()
    )
    title = f"One new message after others that are known, {len(conversations)} ordinary ones"
    ratio = used["and those in doubt"] / alone
    what = "a new message after others, CPU time of the classifiers, over the message alone"
    return Table(title, ("what is read", "CPU ms", "times the message"), rows), Check(
        what, number(ratio), f"<= {PROMISED_COST}", ratio <= PROMISED_COST
    )


def attacks(data: Path, rows: int, source: random.Random) -> Iterator[Messages]:
    """Attacks in pieces."""
    for folder in FOLDERS:
        for path in sorted((data / folder).glob("*.jsonl.gz")):
            name = f"{folder}/{path.name.removesuffix('.jsonl.gz')}"
            found = [
                text
                for row in requests(
                    data, name, lambda r: r.split != "test" and "benign" not in r.label
                )
                for text in row.user_texts
                if SHORTEST <= len(text) <= LONGEST
            ]
            for text in source.sample(found, min(rows, len(found))):
                yield pieces(text, source)


def pieces(text: str, source: random.Random) -> Messages:
    """A text in two to four messages, cut at words or, one in five, anywhere."""
    if source.random() < 0.2:
        cut = source.randrange(5, len(text) - 5)
        return [text[:cut], text[cut:]]
    words = text.split()
    parts = min(source.choice((2, 2, 3, 4)), len(words))
    cuts = sorted(source.sample(range(1, len(words)), parts - 1)) if parts > 1 else []
    ends = zip([0, *cuts], [*cuts, len(words)], strict=True)
    return [" ".join(words[first:last]) for first, last in ends]


def ordinary(data: Path, rows: int, source: random.Random) -> Iterator[Messages]:
    """Ordinary conversations: as they were, or two messages of one file one after the other."""
    for name in benign_names(data):
        found = [row.user_texts for row in requests(data, name, lambda r: r.split != "test")]
        some = source.sample(found, min(rows, len(found)))
        for texts in some:
            if len(texts) > 1:
                yield texts[: source.randrange(1, len(texts)) + 1]
            elif texts:
                yield [source.choice(source.choice(some) or texts), texts[0]]


def measure(data: Path, rows: int, seed: int) -> Result:
    """Both kinds, by margin."""
    judge = Judge()
    chosen = glance.MARGIN
    lines: list[tuple[str, ...]] = []
    checks: list[Check] = []
    for kind, made in (("ordinary", ordinary), ("attacks in pieces", attacks)):
        seen = {margin: Seen() for margin in MARGINS}
        for messages in made(data, rows, random.Random(seed)):
            judge.judge(seen, messages)
        for margin, one in seen.items():
            told = f"{margin:g}{' (chosen)' if margin == chosen else ''}"
            lines.append((kind, told, *one.cells()))
        one = seen[chosen]
        if kind != "ordinary" and one.only:
            lost = 1 - one.caught / one.only
            what = "attacks that only a joined text shows, missed for the first look"
            checks.append(Check(what, f"{lost:.1%}", f"<= {PROMISED:.0%}", lost <= PROMISED))
    glance.MARGIN = chosen
    for head in judge.heads:
        head._has_line = False
    some = [one for one in ordinary(data, rows, random.Random(seed)) if judge.texts(one)[1]]
    costs, cheap = cost(judge, some[::TIMED])
    checks.append(cheap)
    judge.engine.close()
    columns = (
        "texts",
        "margin",
        "conversations",
        "joined texts",
        "read",
        "blocked for one",
        "still",
    )
    table = Table(
        "What users say across messages, after a look at the words", columns, tuple(lines)
    )
    return Result(
        "across", (table, costs), tuple(checks), (f"{rows} rows of each file, seed {seed}.",)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the public data sets")
    parser.add_argument("--rows", type=int, default=40, help="of each file")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--json", type=Path, help="keep the figures there")
    given = parser.parse_args()
    measure(given.data, given.rows, given.seed).write(given.json)


if __name__ == "__main__":
    main()
