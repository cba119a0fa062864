"""Settings of the ledger: where decisions are kept, how surely, and for how long."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from classifiers.types import StrictModel

NONE = "none"
SQLITE = "sqlite:///"
POSTGRES = ("postgresql://", "postgres://")
UNRESOLVED = "os.environ/"
DEFAULT_URL = "sqlite:///doorman-data/doorman.db"


class Retention(StrictModel):
    """How long decisions are kept. The totals per day stay."""

    days: float | None = Field(default=90, gt=0)
    """Older decisions are deleted; null keeps them."""
    max_rows: int | None = Field(default=None, gt=0)
    """The oldest decisions beyond so many are deleted; null sets no bound."""


class LedgerConfig(StrictModel):
    """Where decisions are kept, beside the line on standard output."""

    url: str = Field(default=DEFAULT_URL, repr=False)
    """``sqlite:///FILE``, relative to the config file (without one, to the working directory);
    ``postgresql://USER:PASSWORD@HOST/DATABASE``; ``none`` keeps the line on standard output alone."""
    durability: Literal["strict", "relaxed"] = "strict"
    """``strict``: nothing is forwarded or answered before its decision is in the database. ``relaxed``:
    it is written a moment later, and lost if the process is killed before."""
    on_error: Literal["block", "allow"] = "block"
    """While the database cannot be written: 503 ``ledger_unavailable``, or go on without a record."""
    wait_seconds: float = Field(default=5, gt=0)
    """How long a request waits for the database until that counts as an error."""
    max_queue: int = Field(default=10_000, gt=0)
    """Decisions that may wait to be written; while there are more, the database counts as away."""
    fsync: bool = False
    """SQLite alone: wait for the disk too. Without it decisions survive a kill of the process, while
    those of the last moments may be lost when the machine loses power. PostgreSQL's server decides
    this itself (``synchronous_commit``)."""
    retention: Retention = Retention()

    @field_validator("url", mode="before")
    @classmethod
    def _null_is_none(cls, value: object) -> object:
        return NONE if value is None else value

    @field_validator("url")
    @classmethod
    def _known(cls, value: str) -> str:
        if value == NONE or value.startswith((*POSTGRES, UNRESOLVED)):
            return value
        if not value.startswith(SQLITE):
            raise ValueError(
                "is no URL of a ledger; write sqlite:///FILE, postgresql://USER:PASSWORD@HOST/DATABASE "
                "or none"
            )
        if value == SQLITE or value.removeprefix(SQLITE).startswith(":memory:"):
            raise ValueError("would lose everything; name a file, or write none")
        return value

    def placed(self, folder: Path) -> LedgerConfig:
        """The same with SQLite's file relative to this folder."""
        if not self.url.startswith(SQLITE):
            return self
        file = folder / self.url.removeprefix(SQLITE)
        return self.model_copy(update={"url": f"{SQLITE}{file}"})
