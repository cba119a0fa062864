"""Quality of the shipped packs on public splits, and false positives of the default policy.

    python -m benchmarks.quality --data DIR [--cache DIR] [--limit N] [--only PART,...] [--json FILE]

Verdicts are those of serving: each classifier's default operating points, long texts in windows, and for the
policy the gateway's own path from a request's body to a decision. Prints figures only, never a text.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score

from benchmarks.report import Check, Result, Table, number, percent
from benchmarks.rows import (
    ENGLISH,
    INJECTION,
    JAILBREAK,
    OTHER,
    Request,
    benign_names,
    requests,
)
from benchmarks.servers import ROOT
from classifiers.encoder import Encoder
from classifiers.engine import ClassifierEngine
from classifiers.heads import HeadClassifier, load_heads
from classifiers.packs import MANIFEST, SHIPPED, SHIPPED_HEADS
from classifiers.pii import PiiClassifier
from classifiers.training.data import Row
from classifiers.training.features import FeatureCache
from classifiers.training.fit import fit, make_windows, truth_table
from classifiers.training.recipes import RECIPES
from classifiers.types import Batch, Classifier, OperatingPoint, Prediction
from policies import schema
from policies.decision import Decision
from policies.engine import attached, evaluate
from policies.schema import BoundPolicy
from proxy.endpoints import ENDPOINTS

POLICY = ROOT / "policies" / "front-line.yaml"
CHAT = ENDPOINTS["/v1/chat/completions"]
BATCH = 32
PROMISED = {"spam": 0.95, "jailbreak": 0.95, "clinc150": 0.96, "false positives": 0.01}
Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Options:
    """Where the data lies and how much of it is read."""

    data: Path
    cache: Path
    limit: int | None


@dataclass(frozen=True, slots=True)
class Rated:
    """Right and wrong verdicts on one label."""

    hits: int
    misses: int
    alarms: int

    @property
    def precision(self) -> float:
        return self.hits / (self.hits + self.alarms) if self.hits + self.alarms else float("nan")

    @property
    def recall(self) -> float:
        return self.hits / (self.hits + self.misses) if self.hits + self.misses else float("nan")

    @property
    def f1(self) -> float:
        total = 2 * self.hits + self.misses + self.alarms
        return 2 * self.hits / total if total else float("nan")

    def cells(self) -> tuple[str, str, str]:
        return number(self.precision, 4), number(self.recall, 4), number(self.f1, 4)


class Bench:
    """The shipped classifiers, and the parts of the report.

    Every part returns its tables and checks; a part whose pack is not built returns none.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.encoder = Encoder(SHIPPED / "encoder", threads=2)
        folders = [
            SHIPPED / name for name in SHIPPED_HEADS if (SHIPPED / name / MANIFEST).is_file()
        ]
        self.heads = {head.name: head for head in load_heads(folders, self.encoder)}
        self.benign: list[Request] = []

    def flagged(self, name: str, items: Sequence[Request]) -> npt.NDArray[np.bool_]:
        """Whether any of a row's user texts reaches a default threshold of the classifier."""
        head = self.heads[name]
        owners = [i for i, item in enumerate(items) for _ in item.user_texts]
        over = self._over(head, [text for item in items for text in item.user_texts])
        result = np.zeros(len(items), dtype=bool)
        np.logical_or.at(result, owners, over.any(axis=1))
        return result

    def _over(self, head: HeadClassifier, texts: Sequence[str]) -> npt.NDArray[np.bool_]:
        cuts = head.thresholds(head.labels, OperatingPoint())
        over: npt.NDArray[np.bool_] = scores(head, texts) >= [cuts[label] for label in head.labels]
        return over

    def cut(self, items: Iterable[Request]) -> list[Request]:
        """The first rows, where a limit is set."""
        return list(items)[: self.options.limit]

    def held_out_benign(self) -> list[Request]:
        """Rows of every benign file that were not trained on."""
        if not self.benign:
            for name in benign_names(self.options.data):
                self.benign += self.cut(requests(self.options.data, name, lambda r: r.held_out))
        return self.benign

    # -- the parts ------------------------------------------------------------------------------------

    def spam(self) -> tuple[list[Table], list[Check]]:
        """SMS spam, official files, rows of the split test."""
        if "spam" not in self.heads:
            return [], []
        rows = []
        checks = []
        for split in ("dev", "test"):
            items = self.cut(
                requests(self.options.data, "spam/sms_spam", lambda r, s=split: r.split == s)
            )  # type: ignore[misc]
            rated = rate(self.flagged("spam", items), [item.label == "spam" for item in items])
            rows.append((split, str(len(items)), str(rated.hits + rated.misses), *rated.cells()))
            if split == "test":
                checks.append(check("SMS spam, test split, F1", rated.f1, PROMISED["spam"]))
        columns = ("split", "rows", "spam", "precision", "recall", "F1")
        return [Table("SMS spam, pack `spam`", columns, tuple(rows))], checks

    def jailbreak(self) -> tuple[list[Table], list[Check]]:
        """Jailbreaks of all sources against the held-out benign rows."""
        if "jailbreak" not in self.heads:
            return [], []
        benign = self.held_out_benign()
        alarms = int(self.flagged("jailbreak", benign).sum())
        rows, hits, total = [], 0, 0
        for source in JAILBREAK:
            items = self.cut(
                requests(
                    self.options.data,
                    f"injection/{source}",
                    lambda r: r.split == "dev" and r.label == "jailbreak",
                )
            )
            found = int(self.flagged("jailbreak", items).sum()) if items else 0
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
        return [table], [check("jailbreak, dev rows, F1", rated.f1, PROMISED["jailbreak"])]

    def injection(self) -> tuple[list[Table], list[Check]]:
        """Prompt injections by source and language, held-out rows."""
        if "jailbreak" not in self.heads:
            return [], []
        benign = self.held_out_benign()
        alarms = int(self.flagged("jailbreak", benign).sum())
        rows = []
        sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for source in INJECTION:
            items = self.cut(
                requests(self.options.data, f"injection/{source}", lambda r: r.held_out)
            )
            over = self.flagged("jailbreak", items) if items else np.zeros(0, dtype=bool)
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

    def safety(self) -> tuple[list[Table], list[Check]]:
        """Each category on the held-out rows whose truth is known."""
        if "safety" not in self.heads:
            return [], []
        head = self.heads["safety"]
        every = [row for row in RECIPES["safety"].rows(self.options.data) if row.split != "train"]
        tables = []
        for title, keep in (
            ("public rows", lambda row: row.source != "ours"),
            ("rows written for this project", lambda row: row.source == "ours"),
        ):
            held = [row for row in every if keep(row)][: self.options.limit]
            if held:
                tables.append(label_table(f"Safety, held-out {title}, pack `safety`", head, held))
        return tables, []

    def chat(self) -> tuple[list[Table], list[Check]]:
        """Accuracy of the packs that name one label."""
        rows = []
        for name in ("intent", "topic"):
            if name not in self.heads:
                continue
            held = [row for row in RECIPES[name].rows(self.options.data) if row.split != "train"]
            held = held[: self.options.limit]
            truth = truth_table(held, self.heads[name].labels)
            best = scores(self.heads[name], [row.text for row in held]).argmax(axis=1)
            right = int((best == truth.argmax(axis=1)).sum())
            rows.append(
                (name, str(len(self.heads[name].labels)), str(len(held)), percent(right, len(held)))
            )
        if not rows:
            return [], []
        columns = ("pack", "labels", "held-out rows", "accuracy")
        return [Table("Intent and topic", columns, tuple(rows))], []

    def clinc150(self) -> tuple[list[Table], list[Check]]:
        """A head trained here, by the trainer, on CLINC150's train split; judged on its test split."""
        rows = [
            Row(r.user_texts[0], frozenset({r.label}), split=r.split)  # type: ignore[arg-type]
            for r in requests(self.options.data, "intent/clinc150", lambda r: r.label != "oos")
        ]
        train = [row for row in rows if row.split == "train"]
        if self.options.limit:
            train = train[:: max(1, len(train) // (20 * self.options.limit))]
        labels = sorted({label for row in train for label in row.labels})
        test = [row for row in rows if row.split == "test" and row.labels <= set(labels)]
        if self.options.limit:
            test = test[: 20 * self.options.limit]
        cache = FeatureCache(self.encoder, self.options.cache)
        windows = make_windows(train, self.encoder, cache, "mean")
        started = time.perf_counter()
        fitted = fit(train, labels, "one_of", windows)
        seconds = time.perf_counter() - started
        held = make_windows(test, self.encoder, cache, "mean")
        logits = (
            held.features @ fitted.head.encoder
            + held.grams @ fitted.head.lexical
            + fitted.head.bias
        )
        right = int((logits.argmax(axis=1) == truth_table(test, labels).argmax(axis=1)).sum())
        accuracy = right / len(test)
        table = Table(
            "CLINC150, a head trained on the train split",
            ("intents", "train rows", "test rows", "in-scope accuracy", "share of the encoder"),
            (
                (
                    str(len(labels)),
                    str(len(train)),
                    str(len(test)),
                    percent(right, len(test)),
                    number(fitted.mix[0], 1),
                ),
            ),
            f"Out-of-scope rows left out. Fitting took {seconds:.0f} s, features not counted.",
        )
        return [table], [
            check("CLINC150, test split, in-scope accuracy", accuracy, PROMISED["clinc150"])
        ]

    def false_positives(self) -> tuple[list[Table], list[Check]]:
        """What the default policy does with ordinary requests."""
        classifiers: list[Classifier] = [*self.heads.values(), PiiClassifier()]
        engine = ClassifierEngine(classifiers, max_batch=BATCH)
        policy = schema.bind(schema.load(POLICY), engine.classifiers)
        rows, worst, blocked_all, total = [], 0.0, 0, 0
        names = [
            *benign_names(self.options.data),
            "injection/llmail_benign_emails",
            "spam/sms_spam",
        ]
        for name in names:
            items = self.cut(requests(self.options.data, name, lambda r: r.label != "spam"))
            outcomes = decide(engine, policy, items)
            rules: Counter[str] = Counter()
            blocked = [i for i, d in enumerate(outcomes) if d.outcome in ("block", "error")]
            for index in blocked:
                cause = outcomes[index].cause
                rules[cause.rule if cause else "error"] += 1
            answered = sum(d.outcome == "answer" for d in outcomes)
            held = [i for i, item in enumerate(items) if item.held_out]
            held_blocked = len(set(held) & set(blocked))
            listed = ", ".join(f"{rule} {count}" for rule, count in rules.most_common())
            rows.append(
                (
                    name + (" (ham)" if name.startswith("spam") else ""),
                    str(len(items)),
                    str(len(blocked)),
                    percent(len(blocked), len(items)),
                    f"{held_blocked} of {len(held)}",
                    str(answered),
                    listed or "-",
                )
            )
            if name.startswith("benign/"):
                worst = max(worst, len(blocked) / len(items) if items else 0.0)
                blocked_all, total = blocked_all + len(blocked), total + len(items)
            print(f"{name}: {len(blocked)} of {len(items)}", file=sys.stderr, flush=True)
        engine.close()
        overall = blocked_all / total if total else 0.0
        rows.append(
            (
                "**all of `benign/`**",
                str(total),
                str(blocked_all),
                percent(blocked_all, total),
                "",
                "",
                "",
            )
        )
        table = Table(
            "False positives of the default policy (`policies/front-line.yaml`)",
            ("file", "requests", "blocked", "rate", "thereof held-out", "answered", "rules"),
            tuple(rows),
            "Blocked counts blocks and errors; answered are canned answers. The packs were trained on the train rows "
            "of most of these files: held-out rows are those of the splits dev and test.",
        )
        limit = PROMISED["false positives"]
        checks = [
            Check(
                "false positives of the default policy, all of benign/",
                f"{overall:.2%}",
                f"<= {limit:.0%}",
                overall <= limit,
            ),
            Check("... in the worst file", f"{worst:.2%}", f"<= {limit:.0%}", worst <= limit),
        ]
        return [table], checks


PARTS: dict[str, Callable[[Bench], tuple[list[Table], list[Check]]]] = {
    "spam": Bench.spam,
    "jailbreak": Bench.jailbreak,
    "injection": Bench.injection,
    "safety": Bench.safety,
    "chat": Bench.chat,
    "clinc150": Bench.clinc150,
    "false_positives": Bench.false_positives,
}


def scores(head: HeadClassifier, texts: Sequence[str]) -> Scores:
    """``[texts, labels]`` probabilities."""
    lines: list[tuple[Prediction, ...]] = []
    for first in range(0, len(texts), BATCH):
        lines += head.predict(Batch(texts[first : first + BATCH]))
    return np.asarray([[p.score for p in line] for line in lines]).reshape(
        len(texts), len(head.labels)
    )


def rate(flagged: npt.NDArray[np.bool_], truth: Sequence[bool]) -> Rated:
    """Verdicts against the truth."""
    right = np.asarray(truth, dtype=bool)
    return Rated(
        int((flagged & right).sum()), int((~flagged & right).sum()), int((flagged & ~right).sum())
    )


def check(what: str, value: float, limit: float) -> Check:
    """A promise of at least so much."""
    return Check(what, f"{value:.4f}", f">= {limit}", value >= limit)


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


def decide(
    engine: ClassifierEngine, policy: BoundPolicy, items: Sequence[Request]
) -> list[Decision]:
    """The decisions on the requests, from their bodies on, as the gateway takes them."""
    names = policy.classifiers_for("input")
    decisions: list[Decision] = []
    for first in range(0, len(items), BATCH):
        bodies: list[dict[str, Any]] = [
            {"model": "default", "messages": list(item.messages)}
            for item in items[first : first + BATCH]
        ]
        texts = [CHAT.texts(body) for body in bodies]
        wanted = [
            text
            for own in texts
            for text in own
            if any(
                "input" in bound.rule.check and bound.rule.covers(text, "input")
                for bound in policy.rules
            )
        ]
        # All at once: the encoder's threads are only used on more than one text.
        results = engine.classify_blocking([text.content for text in wanted], names)
        known = {id(text): result for text, result in zip(wanted, results, strict=True)}
        nothing = type(results[0])({}) if results else None
        for own in texts:
            found = [known.get(id(text), nothing) for text in own]
            policies = attached([policy], "default", "")
            decisions.append(evaluate(policies, "input", own, [f for f in found if f is not None]))
    return decisions


def measure(options: Options, parts: Sequence[str]) -> Result:
    """Run the parts."""
    bench = Bench(options)
    notes = []
    if missing := [name for name in SHIPPED_HEADS if name not in bench.heads]:
        notes.append(f"Not built, so not measured: {', '.join(missing)}.")
        if "false_positives" in parts:
            notes.append(
                "The default policy needs all packs: its false positives were not measured."
            )
            parts = [part for part in parts if part != "false_positives"]
    if options.limit:
        notes.append(f"A trial: at most {options.limit} rows of each file.")
    tables: list[Table] = []
    checks: list[Check] = []
    for part in parts:
        started = time.perf_counter()
        more_tables, more_checks = PARTS[part](bench)
        tables += more_tables
        checks += more_checks
        print(f"{part}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return Result("quality", tuple(tables), tuple(checks), tuple(notes))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the public data sets")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "doorman")
    parser.add_argument("--limit", type=int, help="rows of each file, for a trial")
    parser.add_argument(
        "--only", default=",".join(PARTS), help=f"parts, by comma: {', '.join(PARTS)}"
    )
    parser.add_argument("--json", type=Path, help="keep the figures there")
    given = parser.parse_args()
    parts = given.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    measure(Options(given.data, given.cache, given.limit), parts).write(given.json)


if __name__ == "__main__":
    main()
