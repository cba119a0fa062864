"""Asks the caches for a reply, and gives them one to keep: the caches' side of the pipeline.

What a cache may answer was decided by the input policies before it is asked, and what it keeps has
passed the output policies: replies on which any rule has fired are not kept, and those that were
kept under other policies are not found.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from cachetools import LRUCache

from policies.attached import Attached
from policies.decision import Decision
from policies.schema import BoundPolicy
from proxy.asgi import aside
from proxy.cache import Store, Stored
from proxy.cache_forms import Asked, Made, entries_of, in_form
from proxy.cache_key import Hasher, Key, Scope
from proxy.config_cache import CacheConfig
from proxy.metrics import Metrics
from proxy.semantic_cache import SemanticCache
from proxy.yaml_source import ConfigError

Kind = Literal["exact", "semantic"]


@dataclass(frozen=True, slots=True)
class Hit:
    """A stored reply that answers a request.

    Attributes:
        body: in the form that the client asked for.
        similarity: cosine of the two questions, 1 for the same request.
    """

    kind: Kind
    stored: Stored
    body: bytes = field(repr=False)
    similarity: float = 1.0


@dataclass(slots=True)
class Lookup:
    """What became of one request at the caches.

    Attributes:
        key: what it is found by.
        kinds: the caches that may keep its reply.
        hit: the reply that was found, if any.
        kept: its own reply is kept.
    """

    key: Key
    kinds: tuple[Kind, ...]
    hit: Hit | None = None
    kept: bool = False
    pieces: list[bytes] = field(default_factory=list, repr=False)
    room: int = 0

    def add(self, piece: bytes) -> None:
        """A piece of a stream has left; what grows too large is let go."""
        self.room -= len(piece)
        if self.room >= 0:
            self.pieces.append(piece)
        else:
            self.pieces.clear()

    def shown(self) -> dict[str, Any]:
        """For the record."""
        if self.hit is None:
            return {"outcome": "miss", "kept": self.kept}
        stored, usage = self.hit.stored, self.hit.stored.usage
        return {
            "outcome": "hit",
            "kind": self.hit.kind,
            "decision_id": stored.decision_id,
            "age_seconds": stored.age(),
            "similarity": round(self.hit.similarity, 4),
            "prompt_tokens": None if usage is None else usage.prompt_tokens,
            "completion_tokens": None if usage is None else usage.completion_tokens,
        }


class Cached:
    """Both caches of a gateway.

    Args:
        config: which replies are kept.
        metrics: where hits are counted.
        semantic: the one for questions in other words, if it is on.
    """

    def __init__(
        self, config: CacheConfig, metrics: Metrics, semantic: SemanticCache | None = None
    ) -> None:
        exact = config.exact
        self._config = config
        self._metrics = metrics
        self._semantic = semantic
        self._hasher = Hasher()
        self._exact: Store[Stored] = Store(exact.ttl_seconds, exact.max_entries, exact.max_bytes)
        self._current: tuple[BoundPolicy, ...] = ()
        self._written: LRUCache[int, tuple[BoundPolicy, str]] = LRUCache(256)

    def kinds(self, alias: str) -> tuple[Kind, ...]:
        """The caches that are on for an alias."""
        config = self._config
        sections: Mapping[Kind, tuple[str, ...]] = {
            "exact": config.exact.models,
            "semantic": config.semantic.models,
        }
        return tuple(kind for kind, globs in sections.items() if _matches(alias, globs))

    async def ask(
        self,
        call: Asked,
        target: str,
        attached: Attached,
        decision: Decision,
        current: tuple[BoundPolicy, ...],
        *,
        readable: bool,
    ) -> Lookup | None:
        """Look for a stored reply, after the input policies have let a request pass.

        Args:
            target: the alias that answers.
            attached: the policies of the request.
            decision: what they said of it.
            current: all policies in force.
            readable: every part of the request was read by the classifiers.

        Returns:
            None where the request is none for a cache.
        """
        kinds = self.kinds(call.model)
        if not kinds:
            return None
        self._follow(current)
        orders = _orders(call.headers.get("cache-control", ""))
        # What stands in place of a redacted value, or is put back for it, is one user's own.
        plain = readable and not (decision.redactions or decision.errors)
        key = None
        if plain and "no-store" not in orders:
            policies = [self._text(policy) for policy in attached.policies]
            scope = Scope(call.key, call.endpoint.name, call.model, target, policies)
            make = self._hasher.key
            key = await aside(
                len(call.raw),
                lambda: make(
                    scope, call.body, call.raw, call.headers, turns=self._semantic is not None
                ),
            )
        if key is None:
            for kind in kinds:
                self._metrics.add("doorman_cache_total", kind=kind, outcome="bypass")
            return None
        lookup = Lookup(key, kinds, room=self._room)
        if "no-cache" not in orders and orders.get("max-age") != 0:
            await self._find(call, lookup, orders.get("max-age"))
        return lookup

    async def keep(self, lookup: Lookup | None, made: Made, body: bytes | None) -> None:
        """Keep a reply that is about to be complete, if it is fit to answer others.

        Args:
            body: the complete reply; None for the stream whose pieces ``lookup`` has.
        """
        if lookup is None or lookup.hit is not None:
            return
        stream = body is None
        whole = b"".join(lookup.pieces) if body is None else body
        lookup.pieces.clear()
        fit = made.fit and bool(whole) and len(whole) <= self._room and clean(made.output)
        make = functools.partial(entries_of, lookup.key, made, whole, stream)
        entries = await aside(len(whole), make) if fit else []
        for kind in lookup.kinds:
            kept = False
            if kind == "semantic":
                semantic = self._semantic
                kept = semantic is not None and semantic.keep(made.call.key, lookup.key, entries)
            for entry in entries if kind == "exact" else ():
                place = (lookup.key.plain, entry.form)
                kept |= self._exact.put(made.call.key, place, entry)
            lookup.kept |= kept
            outcome = "kept" if kept else "unfit"
            self._metrics.add("doorman_cache_total", kind=kind, outcome=outcome)

    async def settled(self) -> None:
        """Wait until everything that is to be kept is."""
        if self._semantic is not None:
            await self._semantic.settled()

    async def close(self) -> None:
        """Forget everything; nothing is kept any more."""
        self._exact.clear()
        if self._semantic is not None:
            await self._semantic.close()

    @property
    def _room(self) -> int:
        more = 0 if self._semantic is None else self._semantic.largest
        return max(self._exact.largest, more)

    async def _find(self, call: Asked, lookup: Lookup, max_age: int | None) -> None:
        """Ask the caches in turn, the exact one first."""
        for kind in lookup.kinds:
            found: list[tuple[Stored, float]] = []
            if kind == "exact":
                places = dict.fromkeys((lookup.key.form, b""))
                held = [self._exact.get(call.key, (lookup.key.plain, form)) for form in places]
                found = [(stored, 1.0) for stored in held if stored is not None]
            elif self._semantic is not None:
                found = await self._semantic.find(call.key, lookup.key)
            for stored, similarity in found:
                if max_age is not None and stored.age() > max_age:
                    continue
                body = await aside(
                    len(stored.body),
                    functools.partial(in_form, call, lookup.key, stored),
                )
                if body is not None:
                    lookup.hit = Hit(kind, stored, body, similarity)
                    self._metrics.add("doorman_cache_total", kind=kind, outcome="hit")
                    return
            self._metrics.add("doorman_cache_total", kind=kind, outcome="miss")

    def _follow(self, current: tuple[BoundPolicy, ...]) -> None:
        """Forget everything when the policies in force say something else than before."""
        if current is self._current:
            return
        before, now = (sorted(map(self._text, held)) for held in (self._current, current))
        self._current = current
        if before != now:
            self._exact.clear()
            if self._semantic is not None:
                self._semantic.clear()

    def _text(self, policy: BoundPolicy) -> str:
        """A policy as it is written, for its name and version do not change with every edit, and the
        versions of what it asks."""
        known = self._written.get(id(policy))
        if known is None or known[0] is not policy:
            known = self._written[id(policy)] = (
                policy,
                f"{policy.policy!r} {sorted(policy.classifiers)}",
            )
        return known[1]


def make_cached(config: CacheConfig, metrics: Metrics, folder: Path) -> Cached:
    """The caches of a gateway. Blocking: the semantic one loads an encoder.

    Args:
        folder: of the encoder.

    Raises:
        ConfigError: the encoder cannot be used, or what is promised cannot be kept.
    """
    if not config.semantic.models:
        return Cached(config, metrics)
    from classifiers.encoder import Encoder
    from classifiers.packs import PackError

    try:
        # One of its own: the classifiers' threads are not to wait for questions that may be hits.
        encoder = Encoder(folder)
    except PackError as error:
        raise ConfigError(f"cache.semantic: the encoder cannot be loaded: {error}") from None
    return Cached(config, metrics, SemanticCache(config.semantic, encoder))


def clean(output: Decision | None) -> bool:
    """Whether no output rule had anything to say, not even in shadow mode: what it says is said, and
    recorded, of every reply anew."""
    return output is None or not (
        output.outcome != "forward"
        or output.fired
        or output.shadow
        or output.errors
        or output.tags
        or output.redactions
    )


def _matches(alias: str, globs: Collection[str]) -> bool:
    return any(fnmatchcase(alias, glob) for glob in globs)


def _orders(header: str) -> dict[str, int | None]:
    """The orders of a ``cache-control`` header; one that cannot be read allows nothing."""
    found: dict[str, int | None] = {}
    for order in header.lower().split(","):
        name, _, value = order.partition("=")
        value = value.strip().strip('"')
        seconds = int(value) if value.isascii() and value.isdigit() and len(value) < 10 else None
        if name.strip() == "max-age" and seconds is None:
            seconds = 0
        found[name.strip()] = seconds
    return found
