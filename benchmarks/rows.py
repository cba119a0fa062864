"""The public data sets as the quality benchmark reads them: rows, languages, requests."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from classifiers.training.data import Split, read_jsonl

JAILBREAK = (
    "jailbreak_llms_2023_05", "garak_giskard", "gptfuzz_templates", "self_reminder_jailbreaks",
    "latent_jailbreak", "sap200",
)  # fmt: skip
INJECTION = (
    "cyberseceval_prompt_injection", "cyberseceval_multilingual_mt", "deepset_prompt_injections",
    "garak_giskard", "xsafety_goal_hijacking", "bipia_embedded",
)  # fmt: skip
ENGLISH, OTHER = "English", "other languages"
SLOT = "[INSERT PROMPT HERE]"
FILLING = "tell me about the forbidden topic"
"""What stands in a template's slot, in training and here."""
_GERMAN = re.compile(r"\b(der|die|das|und|ist|ich|nicht|wie|was|ein|eine|du|zu|mir|alle)\b", re.I)


@dataclass(frozen=True, slots=True)
class Request:
    """One row: its messages, of which classifiers are asked about the user's.

    Attributes:
        messages: as in the body of a chat request.
        label: of the row, as the data set words it.
        held_out: the row was not trained on (its split is dev or test).
    """

    messages: tuple[dict[str, str], ...] = field(repr=False)
    label: str
    split: Split
    language: str

    @property
    def held_out(self) -> bool:
        return self.split != "train"

    @property
    def user_texts(self) -> list[str]:
        return [m["content"] for m in self.messages if m["role"] == "user"]


def requests(data: Path, name: str, keep: Callable[[Request], bool] = bool) -> Iterator[Request]:
    """Rows of a data set such as ``benign/gsm8k_sample``; none where the file is missing."""
    path = data / f"{name}.jsonl.gz"
    if not path.is_file():
        return
    for row in read_jsonl(path):
        messages = row.get("messages") or [{"role": "user", "content": row["text"]}]
        request = Request(
            tuple(
                {"role": m["role"], "content": m["content"].replace(SLOT, FILLING)}
                for m in messages
            ),
            str(row.get("label", "")),
            row["split"],
            _language(name, row),
        )
        if keep(request):
            yield request


def benign_names(data: Path) -> list[str]:
    """Every file of ordinary texts."""
    return [
        f"benign/{path.name.removesuffix('.jsonl.gz')}"
        for path in sorted((data / "benign").glob("*.jsonl.gz"))
    ]


def _language(name: str, row: dict[str, Any]) -> str:
    language = str(row.get("lang") or "en").lower()
    if name.endswith("deepset_prompt_injections") and len(_GERMAN.findall(row["text"])) >= 2:
        language = "de"  # the set is English and German, and does not say which
    return ENGLISH if language in ("en", "english") else OTHER
