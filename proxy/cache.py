"""Replies that are kept for a while, in memory: bounded in number, in bytes and in age.

Every client key has a partition of its own, and nothing is ever looked up in two of them. Where room
is short, the partition that takes the most gives some up: a busy client cannot push out the replies
of a quiet one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from cachetools import TTLCache

from proxy.endpoints.base import Usage

MAX_REPLY_BYTES = 1 << 20
"""Larger replies are not kept, whatever the bounds allow."""
SHARE = 8
"""One reply takes at most this part of the whole."""
_OVERHEAD = 1024
"""Bytes that an entry takes besides what it holds, roughly."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A reply, as it was sent to a client.

    Attributes:
        body: a complete reply, or all events of a stream.
        form: what kind of stream it is, empty for a complete reply.
        decision_id: of the request that the model answered.
        at: when, in unix seconds.
        usage: tokens of that call, if they are known.
        cost_usd: what it cost by the price map, if that is known.
    """

    body: bytes = field(repr=False)
    form: bytes
    decision_id: str
    at: float
    usage: Usage | None
    cost_usd: float | None

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.body) + _OVERHEAD

    def age(self) -> int:
        """Whole seconds since it was made."""
        return max(0, int(time.time() - self.at))


class Sized(Protocol):
    """What a store holds."""

    @property
    def size(self) -> int:
        """Bytes."""
        ...


V = TypeVar("V", bound=Sized)


class Store(Generic[V]):
    """Values by tenant and key. Safe to use from several threads.

    Args:
        ttl_seconds: how long a value is kept.
        max_entries: values at once, of all tenants.
        max_bytes: their size, of all tenants.
        clock: seconds, for ``ttl_seconds``.
    """

    def __init__(
        self,
        ttl_seconds: float,
        max_entries: int,
        max_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ttl, self._clock = ttl_seconds, clock
        self._max_entries, self._max_bytes = max_entries, max_bytes
        self._partitions: dict[str, TTLCache[Hashable, V]] = {}
        self._lock = threading.Lock()

    @property
    def largest(self) -> int:
        """Bytes that one value may take."""
        return min(MAX_REPLY_BYTES, self._max_bytes // SHARE)

    def __len__(self) -> int:
        with self._lock:
            return sum(map(len, self._partitions.values()))

    @property
    def bytes(self) -> int:
        """Size of everything that is held."""
        with self._lock:
            return self._bytes()

    def get(self, tenant: str, key: Hashable) -> V | None:
        """A tenant's value; None where there is none, or it is too old."""
        with self._lock:
            partition = self._partitions.get(tenant)
            return None if partition is None else partition.get(key)

    def put(self, tenant: str, key: Hashable, value: V) -> bool:
        """Keep a value in place of an earlier one; False where it is too large."""
        if value.size > self.largest:
            return False
        with self._lock:
            partition = self._partitions.get(tenant)
            if partition is None:
                partition = self._partitions[tenant] = TTLCache(
                    self._max_bytes, self._ttl, self._clock, lambda held: held.size
                )
            partition[key] = value
            self._make_room()
        return True

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._partitions.clear()

    def _bytes(self) -> int:
        return int(sum(partition.currsize for partition in self._partitions.values()))

    def _make_room(self) -> None:
        while (
            sum(map(len, self._partitions.values())) > self._max_entries
            or self._bytes() > self._max_bytes
        ):
            for partition in self._partitions.values():
                partition.expire()
            by_entries = sum(map(len, self._partitions.values())) > self._max_entries
            if not by_entries and self._bytes() <= self._max_bytes:
                break
            fullest = max(
                self._partitions.values(), key=len if by_entries else lambda held: held.currsize
            )
            fullest.popitem()  # the least recently used
        empty = [tenant for tenant, held in self._partitions.items() if not held.currsize]
        for tenant in empty:
            del self._partitions[tenant]
