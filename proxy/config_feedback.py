"""Settings of the feedback loop: what people are asked to look at, and how corrections are fitted."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from classifiers.types import StrictModel


class FeedbackConfig(StrictModel):
    """Which decisions are laid before people, and how packs are corrected."""

    near: float = Field(default=0.4, ge=0, le=20)
    """A decision counts as uncertain if a score came within so much of the threshold of a rule, in log-odds:
    0.4 takes 0.4 to 0.6 at a threshold of 0.5, and 0.927 to 0.966 at one of 0.95."""
    sample: float = Field(default=0.01, ge=0, le=1)
    """Share of all decisions that are laid before people besides, whatever was decided."""
    look_back: int = Field(default=2000, gt=0, le=100_000)
    """How many of the newest decisions are looked through for those."""
    cache: Path | None = None
    """Folder of the features of texts, for corrections; by default that of ``doorman train``."""
    threads: int = Field(default=1, gt=0)
    """Cores that a correction may use while the gateway serves."""
    seconds: float = Field(default=600, gt=0)
    """How long a correction may take; then it is given up."""

    def placed(self, folder: Path) -> FeedbackConfig:
        """The same with the cache relative to this folder."""
        return self.model_copy(update={"cache": self.cache and folder / self.cache})
