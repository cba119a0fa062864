"""What a recorded decision was about: its rule, and the text, as far as the record holds it. Pure."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import orjson

from classifiers.types import Stage
from policies.decision import RANK
from policies.seen import DIGITS
from proxy.feedback.near import Near
from proxy.ledgers.rows import Row

Told = Literal["whole", "hash", "cut", "nothing", "reply"]
"""What a record holds of a text."""
UNCHECKED: tuple[Told, ...] = ("nothing", "reply")
"""With these there is nothing that a given text could be compared with."""
FIX: Mapping[Told, str] = {
    "whole": "",
    "hash": "The record holds a keyed hash of it: give the text as it was sent in the request.",
    "cut": "The record holds a part of it only; a text of this length cannot be a correction.",
    "nothing": "The record does not hold it (record.content: none), or does not say which of several it was: "
    "paste it as it was sent. It cannot be checked.",
    "reply": "Replies of the model are never recorded: paste the reply. It cannot be checked.",
}
NONE = -1
"""As the text that a decision is about: nobody knows which one."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A decision of the ledger.

    Attributes:
        stage: input or output, where it was decided.
        cause: of the rule that decided; empty where none did.
        entries: what the record holds of the texts of the request.
        chosen: which of them it is about; None: what the rule that decided says, ``NONE``: that is not
            known.
    """

    id: str
    key: str | None
    stage: Stage
    cause: Mapping[str, Any]
    entries: tuple[Mapping[str, Any], ...]
    chosen: int | None = None

    @classmethod
    def of(cls, row: Row, stage: Stage | None = None, chosen: int | None = None) -> Recorded:
        """The decision of a row of the ledger.

        Args:
            stage: that is looked at; None for the one that decided.
            chosen: see the class.
        """
        record = orjson.loads(row["record"])
        stages: Mapping[Stage, Mapping[str, Any]] = record["stages"]
        decided: Stage = max(stages, key=lambda n: RANK[stages[n]["outcome"]], default="input")
        name = stage or decided
        cause = stages.get(name, {}).get("cause") or {}
        texts = tuple(entry for entry in record["content"] if "address" in entry)
        return cls(row["decision_id"], row["key"], name, cause, texts, chosen)

    def of_score(self, near: Near) -> Recorded:
        """The same, about the text that has a score, as far as that can be told."""
        cause = self.cause
        mine = (near.classifier, near.label, near.score)
        if cause and (self.classifier, cause["label"], round(cause["score"], DIGITS)) == mine:
            return self
        spoken = [n for n, entry in enumerate(self.entries) if entry["role"] == near.role]
        found = len(spoken) == 1 or (spoken and near.alone and near.newest)
        return replace(self, chosen=spoken[-1] if found else NONE)

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
        if self.chosen is not None:
            return self.entries[self.chosen] if 0 <= self.chosen < len(self.entries) else None
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
        if self.stage == "output":
            return "reply"
        if entry is None:
            return "nothing"
        if "cut" in entry:
            return "cut"
        return "whole" if "text" in entry else "hash"

    @property
    def digest(self) -> str | None:
        """What all texts have in common that are the same one; None where the record cannot tell."""
        entry = self.about
        if entry is None or "cut" in entry:
            return None
        if "hmac_sha256" in entry:
            return str(entry["hmac_sha256"])
        return hashlib.sha256(entry["text"].encode("utf-8", "surrogatepass")).hexdigest()

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
