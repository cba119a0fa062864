"""What a recorded decision was about: its rule, and the text, as far as the record holds it. Pure."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from classifiers.types import Stage
from policies.decision import RANK
from proxy.ledgers.rows import Row

Told = Literal["whole", "hash", "cut", "nothing"]
"""What a record holds of a text."""
FIX: Mapping[Told, str] = {
    "whole": "",
    "hash": "The record holds a keyed hash of it: give the text as it was sent in the request.",
    "cut": "The record holds a part of it only; a text of this length cannot be a correction.",
    "nothing": "The record holds nothing of it (record.content: none, or a reply of the model), so what is "
    "given cannot be checked: set record.content to hash, or let an admin's key give it.",
}


@dataclass(frozen=True, slots=True)
class Recorded:
    """A decision of the ledger.

    Attributes:
        stage: input or output, where it was decided.
        cause: of the rule that decided; empty where none did.
        entries: what the record holds of the texts of the request.
    """

    id: str
    key: str | None
    stage: Stage
    cause: Mapping[str, Any]
    entries: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, row: Row) -> Recorded:
        """The decision of a row of the ledger."""
        record = orjson.loads(row["record"])
        stages: Mapping[Stage, Mapping[str, Any]] = record["stages"]
        name: Stage = max(stages, key=lambda n: RANK[stages[n]["outcome"]], default="input")
        cause = stages.get(name, {}).get("cause") or {}
        texts = tuple(entry for entry in record["content"] if "address" in entry)
        return cls(row["decision_id"], row["key"], name, cause, texts)

    @property
    def policy(self) -> str:
        """``name@version`` of the policy that decided; empty where none did."""
        return str(self.cause.get("policy", ""))

    @property
    def rule(self) -> str:
        """The rule that decided; empty where none did."""
        return str(self.cause.get("rule", ""))

    @property
    def classifier(self) -> str:
        """The classifier that decided, without its version; empty where none did."""
        return str(self.cause.get("classifier", "")).partition("@")[0]

    @property
    def about(self) -> Mapping[str, Any] | None:
        """The entry of the text that the decision is about; None where that cannot be told."""
        if self.stage == "output":
            return None  # what models say is not recorded
        if self.cause:
            here = [e for e in self.entries if e["address"] == self.cause["address"]]
            if here:
                return here[0]
        users = [entry for entry in self.entries if entry["role"] == "user"]
        if self.cause or not users:
            return users[0] if len(users) == 1 else None
        return users[-1]

    @property
    def text(self) -> str | None:
        """The text that the decision is about, if the record holds it whole."""
        entry = self.about
        return None if entry is None or "cut" in entry else entry.get("text")

    @property
    def told(self) -> Told:
        """What the record holds of the text."""
        entry = self.about
        if entry is None:
            return "nothing"
        if "cut" in entry:
            return "cut"
        return "whole" if "text" in entry else "hash"

    @property
    def fix(self) -> str:
        """Why the text is asked for; empty where it is not."""
        return "" if self.text is not None else FIX[self.told]

    def holds(self, text: str, hash_of: Callable[[str], str]) -> bool:
        """Whether a text is one of the request's.

        Args:
            hash_of: the keyed hash of a text.
        """
        digest = hash_of(text)
        return any(
            hmac.compare_digest(str(entry["hmac_sha256"]), digest)
            if "hmac_sha256" in entry
            else "cut" not in entry and entry.get("text") == text
            for entry in self.entries
        )
