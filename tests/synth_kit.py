"""What the tests of written rows share: a small task, and a way to run it against a scripted server."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from classifiers.training.synthesize import Labels, LabelSpec, SynthesisPlan, synthesize
from proxy.llm import chat_model

TINY = Path(__file__).parent / "fixtures" / "tiny-encoder"
KEY = "sk-secret-of-the-test-0001"
LABELS = Labels(
    "tickets",
    "Messages to a shop.",
    (
        LabelSpec("refund", "wants money back", ("I want a refund.",), ("asks how refunds work",)),
        LabelSpec("prize", "promises a prize"),
    ),
)
PLAN = SynthesisPlan(LABELS, per_label=8, batch=5, near_miss_share=0.5, near_duplicate=0.9999)
PRICED = {"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6}


SMALL = replace(PLAN, per_label=5, near_miss_share=0)
"""Three questions for texts, one for labels."""


def chat(server, **options):
    params = {"api_base": server.base, "api_key": KEY, **PRICED, **options}
    return chat_model({"model": "openai/scripted", **params}, {})


class Run:
    """A call of ``synthesize`` that does not wait between retries."""

    def __init__(self, model, embed, folder):
        self.model, self.embed, self.folder = model, embed, folder
        self.waits = []
        self.told = []

    def __call__(self, plan=PLAN, progress=None):
        return synthesize(
            plan, self.model, self.embed, self.folder,
            progress=progress or self.told.append, wait=self.waits.append,
        )  # fmt: skip

    def rows(self):
        return lines(self.folder / "rows.jsonl")

    def rejected(self):
        return lines(self.folder / "rejected.jsonl")


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]
