"""The store of many machines: one Redis, reached through django-redis.

One MGET reads the entry and all its stamps; one script mints. Values are our own bytes, never pickles.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django_redis import get_redis_connection
from django_redis.exceptions import ConnectionInterrupted
from redis.exceptions import RedisError

from keybits import stamps
from keybits.conf import conf
from keybits.stamps import Reading, Stamp
from keybits.stores import StoreError

__all__ = ["RedisStore"]

PREFIX = "keybits1"
MINT = """
local found = {}
for i, key in ipairs(KEYS) do
  local stamp = redis.call('GET', key)
  if not stamp then
    stamp = ARGV[i + 1]
    redis.call('SET', key, stamp, 'EX', ARGV[1])
  end
  found[i] = stamp
end
return found
"""


class RedisStore:
    """Stamps and entries in the primary that `KEYBITS_CACHE_ALIAS` names. Safe under threads and after fork."""

    def __init__(self) -> None:
        self._alias = conf.CACHE_ALIAS
        self._lease = conf.STAMP_LEASE
        self._ttl = conf.ENTRY_TTL

    def read(self, key: str, scopes: Sequence[str]) -> Reading:
        with _errors():
            entry, *found = self._redis.mget([_entry(key), *map(_stamp, scopes)])
        return Reading(entry, tuple(found))

    def mint(self, scopes: Sequence[str]) -> tuple[Stamp | None, ...]:
        with _errors():
            keys = [_stamp(scope) for scope in scopes]
            fresh = [stamps.new() for _ in scopes]
            return tuple(self._redis.eval(MINT, len(keys), *keys, self._lease, *fresh))

    def write(self, key: str, entry: bytes) -> None:
        with _errors():
            self._redis.set(_entry(key), entry, ex=self._ttl)

    def close(self, scopes: Iterable[str]) -> None:
        with _errors():
            self._redis.unlink(*map(_stamp, scopes))

    def clear(self) -> None:
        with _errors():
            for key in self._redis.scan_iter(f"{PREFIX}:*", count=1000):
                self._redis.unlink(key)

    @property
    def _redis(self) -> Any:
        """The primary: a replica may not have heard of a stamp's end yet."""
        return get_redis_connection(self._alias, write=True)


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except (RedisError, ConnectionInterrupted, OSError) as error:
        raise StoreError(f"Redis: {error}") from error


def _stamp(scope: str) -> str:
    return f"{PREFIX}:s:{scope}"


def _entry(key: str) -> str:
    return f"{PREFIX}:e:{key}"
