"""The ``cache`` section: replies that are kept to answer the same request again."""

from __future__ import annotations

from collections.abc import Collection
from fnmatch import fnmatchcase

from pydantic import Field

from classifiers.faults import did_you_mean
from classifiers.types import StrictModel
from classifiers.written import Share


class ExactCache(StrictModel):
    """Answers a request that says the same as an earlier one of the same client key."""

    models: tuple[str, ...] = ()
    """The aliases whose replies are kept, ``*`` for all; without any, the exact cache is off."""
    ttl_seconds: float = Field(default=3600, gt=0)
    """How long a reply is kept."""
    max_entries: int = Field(default=10_000, gt=0)
    """Replies that are kept at once; the client key that keeps the most loses its oldest first."""
    max_bytes: int = Field(default=64 * 1024 * 1024, ge=1024)
    """Memory for them; a reply of more than an eighth of it is not kept."""


class SemanticCache(StrictModel):
    """Answers a question that asks, in other words, what an earlier one of the same client key did."""

    models: tuple[str, ...] = ()
    """The aliases whose replies are kept, ``*`` for all; without any, the semantic cache is off."""
    max_wrong_hit_rate: Share = 0.01
    """At most this share of the near misses that come with the program may be taken for the same
    question, with 95 % confidence; what cannot be promised is an error at the start."""
    min_similarity: float = Field(default=0.8, ge=0, le=1)
    """The least cosine of two questions, whatever the promise would allow."""
    ttl_seconds: float = Field(default=3600, gt=0)
    """How long a reply is kept."""
    max_entries: int = Field(default=2_000, gt=0)
    """Replies that are kept at once; the client key that keeps the most loses its oldest first."""
    max_bytes: int = Field(default=64 * 1024 * 1024, ge=1024)
    """Memory for them; a reply of more than an eighth of it is not kept."""


class CacheConfig(StrictModel):
    """Both caches; neither is on unless it names models."""

    exact: ExactCache = ExactCache()
    semantic: SemanticCache = SemanticCache()

    def check_models(self, aliases: Collection[str]) -> None:
        """Refuse names that no alias has.

        Raises:
            ValueError: says which one.
        """
        for section in ("exact", "semantic"):
            for glob in getattr(self, section).models:
                if not any(fnmatchcase(alias, glob) for alias in aliases):
                    raise ValueError(
                        f"cache.{section}.models: no model {glob!r}; "
                        f"{did_you_mean(glob, aliases, 'models of model_list')}"
                    )
