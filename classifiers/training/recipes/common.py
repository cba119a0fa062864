"""What the recipes share: reading the data sets, ordinary texts, long documents."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from classifiers.training.data import ROWS, Row, Split, bucket, group_key, read_jsonl
from classifiers.training.recipes.composed import PERSONAS, SERVICE, SKELETONS, composed_rows

BENIGN = (
    "awesome_chatgpt_prompts",
    "awesome_chatgpt_prompts_zh",
    "bbh_sample",
    "cyberseceval_coding",
    "cyberseceval_mitre_frr_near_miss",
    "everyday_tasks",
    "fabric_system_prompts",
    "gsm8k_sample",
    "mmlu_sample",
    "oasst_seed",
    "self_instruct_human",
)
LICENCES = {
    "ours": "Apache-2.0",
    "injection/deepset_prompt_injections": "Apache-2.0",
    "injection/jailbreak_llms_2023_05": "MIT",
    "injection/garak_giskard": "Apache-2.0 and MIT",
    "injection/gptfuzz_templates": "MIT",
    "injection/self_reminder_jailbreaks": "MIT",
    "injection/cyberseceval_prompt_injection": "MIT",
    "injection/cyberseceval_multilingual_mt": "MIT",
    "injection/latent_jailbreak": "MIT",
    "injection/llmail_benign_emails": "MIT",
    "injection/sap200": "Apache-2.0",
    "injection/xsafety_goal_hijacking": "Apache-2.0",
    "safety/ailuminate_demo_en": "CC-BY-4.0",
    "safety/ailuminate_demo_fr": "CC-BY-4.0",
    "safety/forbidden_questions": "MIT",
    "safety/catqa": "Apache-2.0",
    "safety/advbench": "MIT",
    "safety/gptfuzz_questions": "MIT",
    "safety/harmful_questions_redinstruct": "Apache-2.0",
    "safety/davidson": "MIT",
    "safety/edos_sexism": "CC0-1.0",
    "safety/hatexplain_part": "MIT",
    "safety/toxic_spans": "CC0-1.0",
    "spam/sms_spam": "CC-BY-4.0",
    "intent/clinc150": "CC-BY-3.0",
    "intent/hwu64": "CC-BY-4.0",
    "intent/banking77": "CC-BY-4.0",
    "tickets/bitext_customer_support": "CDLA-Sharing-1.0",
    "tickets/cfpb_complaints_small": "public domain",
    "pii/presidio_synth_v2": "MIT",
    "benign/awesome_chatgpt_prompts": "CC0-1.0",
    "benign/oasst_seed": "Apache-2.0",
    "benign/self_instruct_human": "Apache-2.0",
    **{
        f"benign/{name}": "MIT"
        for name in BENIGN
        if name not in ("awesome_chatgpt_prompts", "oasst_seed", "self_instruct_human")
    },
}
NONE: frozenset[str] = frozenset()
DOCUMENTS = "ours, documents"
INJECTED = "ours, attacks in documents"
MIXED = "ours, beside innocent text"
TRANSCRIPTS = "ours, transcripts"
COMPOSED = (SERVICE, PERSONAS, SKELETONS)
GAPS = (" ", "\n", "\n\n")
MARKS = (
    ", ",
    "; ",
    " - ",
    " | ",
    "\t",
    ",",
    " / ",
    " ... ",
    " \u2022 ",
    " \U0001f642 ",
    " and ",
    " => ",
)
"""What stands between texts that are joined: mostly ends of sentences, at times something that is none."""
_INVENTED = re.compile(r"\.example\b")
_ENDINGS = (".com", ".com", ".com", ".net", ".org", ".io", ".co", ".shop", ".info", ".example")


def public(data: Path, name: str, make: Callable[[dict[str, Any]], Row | None]) -> Iterator[Row]:
    """Rows of one public data set; ``make`` may leave a row out by returning None."""
    for item in read_jsonl(data / f"{name}.jsonl.gz"):
        if (row := make(item)) is not None:
            yield row


def ours(name: str) -> Iterator[dict[str, Any]]:
    """Rows written for this project.

    The domains in them end in ``.example``; varied here, or the ending would give the label away.
    """
    chooser = random.Random(13)  # noqa: S311 (not for secrets)
    for row in read_jsonl(ROWS / f"{name}.jsonl"):
        text = _INVENTED.sub(lambda _: chooser.choice(_ENDINGS), row["text"])
        yield {**row, "text": text}


def benign_rows(data: Path) -> list[Row]:
    """Ordinary texts that no policy should stop, public and our own, for every recipe."""
    rows: list[Row] = []
    for name in BENIGN:
        source = f"benign/{name}"
        rows += public(data, source, lambda r, s=source: row_of(r, NONE, s, benign=True))  # type: ignore[misc]
    source = "injection/llmail_benign_emails"
    rows += public(data, source, lambda r: row_of(r, NONE, source, benign=True))
    rows += [row_of(r, NONE, "ours", benign=r["kind"] != "alarming_word") for r in ours("benign")]
    rows += composed_rows()
    rows += long_documents(rows) + transcripts(rows)
    return rows


def long_documents(rows: Iterable[Row], count: int = 900, seed: int = 7) -> list[Row]:
    """Ordinary texts joined to documents of 300 to 8,000 characters, each within one split.

    Heads that never saw long innocent text in training flag nearly every document.
    """
    chooser = random.Random(seed)  # noqa: S311 (not for secrets)
    documents: list[Row] = []
    for split in ("train", "dev"):
        # All parts of a document come from one fold, or held-out scores would be of known text.
        shelves: dict[int, list[str]] = {}
        for row in rows:
            if row.split == split and row.benign:
                shelves.setdefault(bucket(group_key(row.text)), []).append(row.text)
        for _ in range(count if split == "train" else count // 5):
            length = chooser.choice((300, 800, 1500, 3000, 8000))
            shelf = chooser.choice(sorted(shelves))
            gap = "\n\n" if chooser.random() < 0.6 else chooser.choice(MARKS)
            parts: list[str] = []
            while sum(map(len, parts)) < length:
                parts.append(chooser.choice(shelves[shelf]))
            text = gap.join(parts)[:length]
            group = group_key(parts[0])
            documents.append(
                Row(text, NONE, source=DOCUMENTS, split=split, benign=True, group=group)
            )
    return documents


_SPEAKERS = (
    ("User: ", "Assistant: "),
    ("user: ", "assistant: "),
    ("Human: ", "AI: "),
    ("Customer: ", "Agent: "),
    ("Q: ", "A: "),
    ("[user] ", "[bot] "),
    ("- ", "- "),
    ("", ""),
    ("", ""),
    ("", ""),
)


def transcripts(rows: Iterable[Row], count: int = 1000, seed: int = 23) -> list[Row]:
    """Ordinary short texts as the turns of a conversation, with and without names of the speakers.

    The turns of one conversation come from one source, and are all in Latin letters or all not.

    Made-up turns are a known attack; heads that know them from attacks alone flag every transcript.
    """
    chooser = random.Random(seed)  # noqa: S311 (not for secrets)
    made: list[Row] = []
    short = [row for row in rows if row.benign and 2 < len(row.text) < 220 and "\n" not in row.text]
    parts: tuple[tuple[Split, int], ...] = (("train", count), ("dev", count // 5))
    for split, number in parts:
        shelves: dict[tuple[str, bool, int], list[str]] = {}
        for row in short:
            if row.split == split:
                plain = row.text.isascii()
                shelf_of = (row.source, plain, bucket(group_key(row.text)))
                shelves.setdefault(shelf_of, []).append(row.text)
        names = sorted(shelves)
        sizes = [len(shelves[name]) for name in names]
        for _ in range(number):
            shelf = shelves[chooser.choices(names, sizes)[0]]
            speakers = chooser.choice(_SPEAKERS)
            turns = [chooser.choice(shelf) for _ in range(chooser.randint(2, 8))]
            text = "\n".join(speakers[i % 2] + turn for i, turn in enumerate(turns))
            group = group_key(turns[0])
            made.append(Row(text, NONE, source=TRANSCRIPTS, split=split, benign=True, group=group))
    return made


def beside_innocent(
    hits: Iterable[Row], innocent: Iterable[Row], count: int, seed: int = 17
) -> list[Row]:
    """Short texts that carry a label, with innocent paragraphs before, after or around them.

    One harmful sentence in an ordinary message is as harmful as alone; heads that never saw it there
    pass it.
    """
    chooser = random.Random(seed)  # noqa: S311 (not for secrets)
    made: list[Row] = []
    hits, innocent = list(hits), list(innocent)
    parts: tuple[tuple[Split, int], ...] = (("train", count), ("dev", count // 5))
    for split, number in parts:
        short = [row for row in hits if row.split == split and 15 < len(row.text) < 300]
        hosts = [row.text for row in innocent if row.split == split and 60 < len(row.text) < 700]
        for _ in range(number):
            hit = chooser.choice(short)
            before, after = chooser.choice([(1, 0), (0, 1), (1, 1), (2, 0), (0, 2)])
            gap = chooser.choice(GAPS if chooser.random() < 0.6 else MARKS)
            head = "".join(chooser.choice(hosts).strip() + gap for _ in range(before))
            tail = "".join(gap + chooser.choice(hosts).strip() for _ in range(after))
            made.append(
                replace(
                    hit,
                    text=head + hit.text + tail,
                    source=MIXED,
                    focus=(len(head), len(head) + len(hit.text)),
                    group=group_key(hit.text),
                )
            )
    return made


def row_of(
    item: dict[str, Any],
    labels: frozenset[str],
    source: str,
    *,
    known: frozenset[str] | None = None,
    weight: float = 1.0,
    benign: bool = False,
) -> Row:
    return Row(item["text"], labels, known, source, item["split"], weight, None, benign)


def with_text(row: Row, text: str) -> Row:
    return Row(
        text, row.labels, row.known, row.source, row.split, row.weight, row.focus, row.benign
    )


def relabel(row: Row, labels: frozenset[str]) -> Row:
    return Row(row.text, labels, None, row.source, row.split, row.weight, None, row.benign)


def everyday_rows(data: Path) -> list[Row]:
    """Requests to assistants and banks, and personal messages: innocent, and short."""
    chooser = random.Random(5)  # noqa: S311 (not for secrets)
    rows: list[Row] = []
    for name, share in (
        ("intent/clinc150", 0.35),
        ("intent/banking77", 0.3),
        ("intent/hwu64", 0.3),
    ):
        rows += public(
            data,
            name,
            lambda r, n=name, s=share: (
                row_of(r, NONE, n, weight=0.5, benign=True)  # type: ignore[misc]
                if chooser.random() < s
                else None
            ),
        )
    rows += [row_of(r, NONE, "ours", weight=0.5, benign=True) for r in ours("intent")]
    rows += [row_of(r, NONE, "ours", benign=True) for r in ours("topic")]
    rows += [
        row_of(r, NONE, "ours", benign="near" not in r["kind"])
        for r in ours("spam")
        if r["label"] == "ham"
    ]
    return rows


def messages(data: Path) -> list[Row]:
    """Text messages between people, advertising among them: neither harmful nor an attack."""
    source = "spam/sms_spam"
    return list(
        public(
            data, source, lambda r: row_of(r, NONE, source, weight=0.7, benign=r["label"] == "ham")
        )
    )
