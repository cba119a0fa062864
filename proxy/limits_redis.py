"""Counting what keys use in Redis, for several processes: :mod:`proxy.limits` as Lua scripts.

Each step is one script, so that nobody comes between looking and counting. Redis' own clock counts:
machines need not agree on the time. redis' home.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast
from urllib.parse import quote

from proxy.config_keys import RedisConfig
from proxy.grants import Allowance
from proxy.limits import Bill, CountersAway, Level, Reason, Spent, Verdict
from proxy.yaml_source import ConfigError

_RESTS = 1.0
"""Seconds for which Redis is left alone after it failed, so that a flood does not wait for it."""
_KEEPS = 86_400
"""Seconds for which a budget is kept after its period."""

_WINDOWS = """
local function clock(given)
  if given ~= '' then return tonumber(given) end
  local now = redis.call('TIME')
  return tonumber(now[1]) + tonumber(now[2]) / 1000000
end
local function window(key, now)
  local oldest, flat = math.floor(now) - 60, redis.call('HGETALL', key)
  local found = {key = key, sum = 0, seconds = {}, held = {}}
  for i = 1, #flat, 2 do
    local second, amount = tonumber(flat[i]), tonumber(flat[i + 1])
    if second < oldest then
      redis.call('HDEL', key, flat[i])
    else
      found.sum = found.sum + amount
      table.insert(found.seconds, second)
      found.held[second] = amount
    end
  end
  table.sort(found.seconds)
  return found
end
local function wait(found, room, now)
  if room < 0 then return -1 end
  local left = found.sum
  if left <= room then return 0 end
  for _, second in ipairs(found.seconds) do
    left = left - found.held[second]
    if left <= room then return second + 61 - now end
  end
end
local function add(found, amount, second)
  local held = found.held[second]
  if amount < 0 then amount = -math.min(-amount, held or 0) end
  if amount == 0 then return end
  redis.call('HINCRBY', found.key, string.format('%.0f', second), string.format('%.0f', amount))
  redis.call('EXPIRE', found.key, 120)
  if not held then
    table.insert(found.seconds, second)
    table.sort(found.seconds)
  end
  found.held[second] = (held or 0) + amount
  found.sum = found.sum + amount
end
local function answer(reason, seconds, requests, rpm, tokens, tpm, now)
  local out = {reason, string.format('%.6f', seconds)}
  for _, pair in ipairs({{requests, rpm}, {tokens, tpm}}) do
    table.insert(out, string.format('%.0f', math.max(0, pair[2] - pair[1].sum)))
    table.insert(out, string.format('%.6f', wait(pair[1], 0, now)))
  end
  table.insert(out, string.format('%.6f', now))
  return out
end
"""
"""A limit that is not there is -1. KEYS: requests, tokens, places, money."""

_ADMIT = (
    _WINDOWS
    + """
local now, rpm, tpm, parallel = clock(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local lease, lasts, budget, known = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local requests, tokens = window(KEYS[1], now), window(KEYS[2], now)
local reason, seconds = '', 0
if budget >= 0 then
  local spent = tonumber(redis.call('GET', KEYS[4]) or '0')
  if known > spent then
    spent = known
    redis.call('SET', KEYS[4], string.format('%.0f', known))
    redis.call('EXPIREAT', KEYS[4], ARGV[10])
  end
  if spent >= budget then reason, seconds = 'budget', tonumber(ARGV[9]) - now end
end
if reason == '' and rpm >= 0 then
  seconds = wait(requests, rpm - 1, now)
  if seconds ~= 0 then reason = 'requests' end
end
if reason == '' and tpm >= 0 then
  seconds = wait(tokens, tpm - 1, now)
  if seconds ~= 0 then reason = 'tokens' end
end
if reason == '' and parallel >= 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
  if redis.call('ZCARD', KEYS[3]) >= parallel then reason, seconds = 'parallel', 1 end
end
if reason == '' then
  if rpm >= 0 then add(requests, 1, math.floor(now)) end
  if parallel >= 0 then
    redis.call('ZADD', KEYS[3], now + lasts, lease)
    redis.call('EXPIRE', KEYS[3], math.ceil(lasts))
  end
end
return answer(reason, seconds, requests, rpm, tokens, tpm, now)
"""
)

_RESERVE = (
    _WINDOWS
    + """
local now, rpm, tpm, wanted = clock(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local requests, tokens = window(KEYS[1], now), window(KEYS[2], now)
local reason, seconds = '', 0
if tpm >= 0 then
  seconds = wait(tokens, tpm - wanted, now)
  if seconds == 0 then add(tokens, wanted, math.floor(now)) else reason = 'tokens' end
end
return answer(reason, seconds, requests, rpm, tokens, tpm, now)
"""
)

_SETTLE = (
    _WINDOWS
    + """
local now, tpm, more, at = clock(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
redis.call('ZREM', KEYS[3], ARGV[5])
if tpm >= 0 and more ~= 0 then
  local second = math.floor(now)
  if more < 0 then second = math.floor(at) end
  add(window(KEYS[2], now), more, second)
end
if ARGV[6] ~= '0' then
  redis.call('INCRBY', KEYS[4], ARGV[6])
  redis.call('EXPIREAT', KEYS[4], ARGV[7])
end
return 1
"""
)

Script = Callable[..., Awaitable[Any]]


class RedisCounters:
    """Counts in Redis.

    Args:
        lease_seconds: after so long the place of a request is free again, should its process have died.
        own_clock: False takes the time of the caller in place of Redis' own.

    Raises:
        ConfigError: the extra is not installed, or the URL cannot be understood.
    """

    def __init__(
        self, config: RedisConfig, lease_seconds: float, *, own_clock: bool = True
    ) -> None:
        try:
            from redis.asyncio import Redis
            from redis.exceptions import RedisError
        except ImportError:
            raise ConfigError(
                "redis.url needs the extra redis: pip install 'doorman[redis]'"
            ) from None
        assert config.url is not None
        wait = config.timeout_seconds
        try:
            self._redis = Redis.from_url(
                config.url.get_secret_value(), socket_timeout=wait, socket_connect_timeout=wait
            )
        except ValueError:
            raise ConfigError(
                "redis.url is no URL of a Redis; write redis://HOST:PORT/DATABASE"
            ) from None
        self._faults = (RedisError, OSError, TimeoutError)
        self._prefix = config.prefix
        self._lease = lease_seconds
        self._own_clock = own_clock
        self._rests_until = 0.0
        scripts = map(self._redis.register_script, (_ADMIT, _RESERVE, _SETTLE))
        self._admit, self._reserve, self._settle = (cast(Script, script) for script in scripts)

    async def admit(
        self, key: str, allowed: Allowance, lease: str, spent: Spent | None, now: float
    ) -> Verdict:
        """See :class:`proxy.limits.Counters`."""
        budget = None if spent is None or allowed.budget is None else allowed.budget.nano
        ends = spent.ends if spent else now
        args = [
            *(self._limit(value) for value in (allowed.requests, allowed.tokens, allowed.parallel)),
            lease,
            self._lease,
            self._limit(budget),
            spent.nano if spent else 0,
            ends,
            int(ends) + _KEEPS,
        ]
        return _verdict(allowed, await self._run(self._admit, key, spent, args, now))

    async def reserve(self, key: str, allowed: Allowance, tokens: int, now: float) -> Verdict:
        """See :class:`proxy.limits.Counters`."""
        args = [self._limit(allowed.requests), self._limit(allowed.tokens), tokens]
        return _verdict(allowed, await self._run(self._reserve, key, None, args, now))

    async def settle(self, key: str, allowed: Allowance, bill: Bill, now: float) -> None:
        """See :class:`proxy.limits.Counters`."""
        spent = bill.spent
        args = [
            self._limit(allowed.tokens),
            bill.tokens - bill.reserved,
            bill.at,
            bill.lease,
            spent.nano if spent else 0,
            int(spent.ends) + _KEEPS if spent else 0,
        ]
        await self._run(self._settle, key, spent, args, now)

    async def check(self) -> None:
        """See :class:`proxy.limits.Counters`."""
        try:
            await self._redis.ping()
        except self._faults as error:
            raise CountersAway(type(error).__name__) from None

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def _run(
        self, script: Script, key: str, spent: Spent | None, args: Sequence[Any], now: float
    ) -> list[bytes]:
        if time.monotonic() < self._rests_until:
            raise CountersAway
        # One slot of a cluster for all entries of a key; a name may hold whatever it likes.
        base = f"{self._prefix}:{{{quote(key, safe='')}}}"
        period = spent.period if spent else "none"
        keys = [f"{base}:{what}" for what in ("requests", "tokens", "places", f"usd:{period}")]
        try:
            return cast(
                list[bytes],
                await script(keys=keys, args=["" if self._own_clock else repr(now), *args]),
            )
        except self._faults as error:
            self._rests_until = time.monotonic() + _RESTS
            raise CountersAway(type(error).__name__) from None

    @staticmethod
    def _limit(value: int | None) -> int:
        return -1 if value is None else value


def _verdict(allowed: Allowance, found: Sequence[bytes]) -> Verdict:
    reason, wait = found[0].decode(), float(found[1])
    return Verdict(
        cast(Reason, reason) if reason else None,
        math.inf if wait < 0 else wait,
        _level(allowed.requests, found[2:4]),
        _level(allowed.tokens, found[4:6]),
        float(found[6]),
    )


def _level(limit: int | None, found: Sequence[bytes]) -> Level | None:
    return None if limit is None else Level(limit, int(found[0]), float(found[1]))
