"""Whether scores have moved, looked at now and then: for the metric that an alert can be made of."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import orjson

from classifiers.heads import HeadClassifier
from proxy.feedback.drift import drift
from proxy.ledgers.database import Away
from proxy.ledgers.rows import Row

if TYPE_CHECKING:
    from proxy.gateway import Gateway

log = logging.getLogger("doorman.feedback")

EVERY = 900.0
"""Seconds between two looks."""


async def watch(gateway: Gateway, stop: asyncio.Event, every: float = EVERY) -> None:
    """Keep ``doorman_drift`` up to date until told to stop. For a gateway that has a ledger."""
    while not stop.is_set():
        try:
            async with asyncio.timeout(every):
                await stop.wait()
        except TimeoutError:
            try:
                await look(gateway)
            except Away as error:
                log.info("drift cannot be looked at: %s", error)
            except Exception as error:
                # Whatever it is: looking goes on. Its words may hold a text.
                log.error("drift cannot be looked at: %s", type(error).__name__)


async def look(gateway: Gateway) -> None:
    """Measure the drift of every classifier that records its scores, over the newest decisions.

    Raises:
        Away: the ledger cannot be read.
    """
    known = gateway.engine.classifiers.values()
    heads = [one for one in known if isinstance(one, HeadClassifier)]
    if not heads:
        return
    rows = await gateway.feedback.reader.page(limit=gateway.config.feedback.look_back)
    for name, value in (await asyncio.to_thread(measured, heads, rows)).items():
        gateway.metrics.set("doorman_drift", value, classifier=name)


def measured(heads: Sequence[HeadClassifier], rows: Sequence[Row]) -> dict[str, float]:
    """By classifier, how far its scores have moved; without those that have too few."""
    records = [orjson.loads(row["record"]) for row in rows]
    found = {one.name: drift(one, records).since_earlier for one in heads}
    return {name: value for name, value in found.items() if value is not None}
