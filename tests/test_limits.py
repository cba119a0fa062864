"""Limits of keys: counting, with a clock that the test winds, in this process and in a real Redis."""

from __future__ import annotations

import asyncio
import math
import os
import random
import time
import uuid
from collections.abc import AsyncIterator
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.admission import duration
from proxy.config_keys import RedisConfig
from proxy.grants import NANO, Allowance, Budget
from proxy.limits import (
    WINDOW,
    Bill,
    Counters,
    CountersAway,
    LocalCounters,
    OneOfSeveral,
    Spent,
    Window,
)
from proxy.limits_redis import RedisCounters
from proxy.spending import Spending

REDIS = os.environ.get("DOORMAN_TEST_REDIS", "redis://127.0.0.1:6379/0")
START = 1_700_000_000.0


async def redis_counters(own_clock: bool = False) -> RedisCounters:
    """Counters in the real Redis under names of their own; skips where there is none."""
    redis = pytest.importorskip("redis.asyncio", reason="the extra redis is not installed")
    probe = redis.Redis.from_url(REDIS, socket_connect_timeout=1)
    try:
        await probe.ping()
    except (redis.RedisError, OSError):
        pytest.skip(f"no Redis answers at {REDIS}")
    finally:
        await probe.aclose()
    config = RedisConfig(url=REDIS, prefix=f"doorman-test-{uuid.uuid4().hex}", timeout_seconds=5)
    return RedisCounters(config, 60, own_clock=own_clock)


@pytest.fixture(params=["local", "redis"])
async def counters(request: pytest.FixtureRequest) -> AsyncIterator[Counters]:
    made: Counters = LocalCounters() if request.param == "local" else await redis_counters()
    yield made
    await made.close()


STEPS = st.lists(st.floats(0, 40, allow_nan=False), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@given(limit=st.integers(1, 8), steps=STEPS)
def test_no_minute_ever_holds_more_than_the_limit(limit: int, steps: list[float]) -> None:
    taken, refused = asyncio.run(drive(LocalCounters(), limit, steps))
    for begin in taken:
        assert sum(begin <= at < begin + WINDOW for at in taken) <= limit
    for at in refused:  # who stays below the limit is never refused
        assert sum(at - WINDOW - 1 <= earlier <= at for earlier in taken) >= limit


async def drive(
    counters: Counters, limit: int, steps: list[float]
) -> tuple[list[float], list[float]]:
    now, taken, refused = START, [], []
    for step in steps:
        now += step
        verdict = await counters.admit("k", Allowance(requests=limit), "", None, now)
        (refused if verdict.refused else taken).append(now)
    return taken, refused


async def test_redis_counts_as_this_process_does() -> None:
    counters = await redis_counters()
    draw = random.Random(7)
    steps = [draw.choice((0, 0.1, 7.5, 20.25, 29.75, 59.5, 60.25, 61)) for _ in range(150)]
    allowed = Allowance(requests=3, tokens=50, parallel=4)
    local = LocalCounters()
    now = START + 0.25
    for number, step in enumerate(steps):
        now += step
        answers = [
            [
                await each.admit("k", allowed, str(number), None, now),
                await each.reserve("k", allowed, 7 + number % 9, now),
            ]
            for each in (local, counters)
        ]
        for own, theirs in zip(*answers, strict=True):
            assert (own.refused, own.wait) == (theirs.refused, pytest.approx(theirs.wait, abs=1e-3))
            for name in ("requests", "tokens"):
                mine, other = getattr(own, name), getattr(theirs, name)
                assert (mine.limit, mine.left) == (other.limit, other.left), (number, name)
                assert mine.resets == pytest.approx(other.resets, abs=1e-3)
        if not answers[0][0].refused:
            reserved = 0 if answers[0][1].refused else 7 + number % 9
            bill = Bill(str(number), reserved, now, number % 20, None)
            for each in (local, counters):
                await each.settle("k", allowed, bill, now + 0.1)
    await counters.close()


async def test_the_wait_that_is_told_is_enough_and_not_too_much(counters: Counters) -> None:
    allowed = Allowance(requests=2)
    await counters.admit("k", allowed, "a", None, START + 0.5)
    await counters.admit("k", allowed, "b", None, START + 10.5)
    refused = await counters.admit("k", allowed, "c", None, START + 20)
    assert refused.refused == "requests"
    assert refused.wait == pytest.approx(START + 61 - (START + 20))
    early = await counters.admit("k", allowed, "d", None, START + 20 + refused.wait - 0.01)
    assert early.refused == "requests"
    late = await counters.admit("k", allowed, "e", None, START + 20 + refused.wait)
    assert late.refused is None
    assert late.requests is not None
    assert (late.requests.limit, late.requests.left) == (2, 0)
    other = await counters.admit("other", allowed, "f", None, START + 20)
    assert other.refused is None


async def test_tokens_are_reserved_and_corrected(counters: Counters) -> None:
    allowed = Allowance(tokens=100)

    async def left(now: float) -> int:
        level = (await counters.admit("k", allowed, "probe", None, now)).tokens
        assert level is not None
        return level.left

    first = await counters.reserve("k", allowed, 60, START)
    assert first.refused is None
    assert (await counters.reserve("k", allowed, 60, START)).refused == "tokens"
    assert await left(START) == 40
    await counters.settle("k", allowed, Bill("a", 60, first.at, 10, None), START + 5)
    assert await left(START + 5) == 90
    second = await counters.reserve("k", allowed, 20, START + 6)
    await counters.settle("k", allowed, Bill("b", 20, second.at, 500, None), START + 8)
    assert await left(START + 8) == 0  # what was used counts, though it is more than the limit
    assert (await counters.admit("k", allowed, "c", None, START + 9)).refused == "tokens"
    assert await left(START + 70) == 100
    larger = await counters.reserve("k", allowed, 101, START + 70)
    assert (larger.refused, larger.wait) == ("tokens", math.inf)


async def test_places_are_given_back(counters: Counters) -> None:
    allowed = Allowance(parallel=2)
    for lease in ("a", "b"):
        assert (await counters.admit("k", allowed, lease, None, START)).refused is None
    assert (await counters.admit("k", allowed, "c", None, START)).refused == "parallel"
    await counters.settle("k", allowed, Bill("a", 0, 0, 0, None), START)
    assert (await counters.admit("k", allowed, "d", None, START)).refused is None
    assert (await counters.admit("k", allowed, "e", None, START)).refused == "parallel"


async def test_a_budget_is_spent_and_renewed(counters: Counters) -> None:
    budget = Budget.parse("1/day")
    allowed, spending = Allowance(budget=budget), Spending()

    async def call(now: float, nano: int) -> tuple[str | None, float]:
        spent = spending.spent("k", budget, now)
        verdict = await counters.admit("k", allowed, "l", spent, now)
        if verdict.refused is None:
            period = budget.period(now)
            bill = Bill("l", 0, 0, 0, Spent(period.name, period.ends, nano))
            await counters.settle("k", allowed, bill, now)
            spending.add("k", nano, now)
        return verdict.refused, verdict.wait

    # Redis forgets a budget of the past at once: it begins today.
    now = budget.period(time.time()).ends - 3600
    assert await call(now, 400_000_000) == (None, 0)
    assert await call(now, 700_000_000) == (None, 0)
    refused, wait = await call(now, 1)
    assert (refused, wait) == ("budget", pytest.approx(3600))
    assert await call(now + 3600, 1) == (None, 0)


async def test_what_the_database_knows_counts_where_redis_has_forgotten() -> None:
    counters = await redis_counters()
    budget = Budget.parse("1/month")
    allowed, now = Allowance(budget=budget), time.time()
    period = budget.period(now)
    fresh = await counters.admit("k", allowed, "a", Spent(period.name, period.ends, 0), now)
    assert fresh.refused is None
    known = Spent(period.name, period.ends, NANO)
    assert (await counters.admit("k", allowed, "b", known, now)).refused == "budget"
    await counters.close()


BUDGETS = {"5/day": 5, "100/month": 100, "0.25/day": 0.25}
PERIODS: list[tuple[str, str, str, str]] = [
    ("1/day", "2026-02-28T23:59:59", "2026-02-28", "2026-03-01"),
    ("1/month", "2026-12-31T12:00:00", "2026-12", "2027-01-01"),
    ("1/month", "2028-02-01T00:00:00", "2028-02", "2028-03-01"),
]


@pytest.mark.parametrize(("text", "dollars"), BUDGETS.items())
def test_budgets_are_read(text: str, dollars: float) -> None:
    budget = Budget.parse(text)
    assert budget.nano == dollars * NANO
    assert str(budget) == text


@pytest.mark.parametrize("text", ["5", "5/week", "-1/day", "0/day", "a/day", "1e3/day", ""])
def test_other_budgets_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="5/day or 100/month"):
        Budget.parse(text)


@pytest.mark.parametrize(("text", "now", "name", "ends"), PERIODS)
def test_periods_are_of_the_calendar(text: str, now: str, name: str, ends: str) -> None:

    at = datetime.fromisoformat(f"{now}+00:00").timestamp()
    period = Budget.parse(text).period(at)
    assert period.name == name
    assert period.ends == datetime.fromisoformat(f"{ends}T00:00:00+00:00").timestamp()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.02, "20ms"), (8.64, "8.64s"), (60, "1m0s"), (360, "6m0s"), (3600, "1h0m0s")],
)
def test_durations_are_written_as_openai_does(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_window_stays_small() -> None:
    window = Window()
    for step in range(10_000):
        window.add(1, START + step / 7)
    assert len(window._buckets) <= WINDOW + 1


async def test_one_of_several_workers_counts_nothing_that_all_must_count() -> None:
    counters = OneOfSeveral()
    for allowed in (Allowance(requests=5), Allowance(tokens=5), Allowance(parallel=5)):
        with pytest.raises(CountersAway):
            await counters.admit("k", allowed, "", None, START)
    spent = Spent("2026-01", START + 60, 0)
    budget = Allowance(budget=Budget(NANO, "month"))
    assert (await counters.admit("k", budget, "", spent, START)).refused is None
