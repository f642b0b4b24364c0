"""The `Store` protocol, the circuit breaker around a store, and the store that this process uses.

A store keeps stamps (one for each scope: small, and must be right) and entries (framed responses: large, and may be
lost at any time). Beside these it keeps leases, counters of rates, notes, which writers have closed their scopes, and
until when a relay vouches. Each adapter is a module of its own; `tests/keybits/test_stores.py` is the contract that
every adapter passes.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import ParamSpec, Protocol, TypeVar

from django.utils.module_loading import import_string

from keybits.conf import conf, on_change
from keybits.outages import Outage
from keybits.stamps import Reading, Stamp

__all__ = ["NO_ENTRY", "REMEMBERED", "Breaker", "Store", "StoreError", "get_store"]


logger = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")


class StoreError(Exception):
    """The store could not do what was asked: it is down, slow, full or broken. The cause is chained."""


NO_ENTRY = "-"
"""A key that no entry has, to read stamps alone."""

REMEMBERED = 60
"""Seconds for which a store remembers that a writer has closed its scopes."""

LEFT_ALONE = "the store has failed and has not been seen to work since"


class Store(Protocol):
    """Stamps and entries, shared by every process that serves or writes the same data.

    A scope is open while any writer holds it open; a hold ends with `close`, or when its lease ends. A method that
    cannot do its work raises `StoreError`, and nothing else. The work may have been done nevertheless.
    """

    def read(self, key: str, scopes: Sequence[str]) -> Reading:
        """Return the entry under `key` and the stamps of `scopes`, read atomically in one round trip.

        Where a relay is required (`KEYBITS_RELAY`) and none vouches at present, every stamp is None and `vouched` is
        False.
        """

    def witness(self, scopes: tuple[str, ...]) -> bytes | None:
        """Return the witness that `read` would return, without fetching an entry; one round trip at most.

        Every hit calls this. Its implementations are optimized for `benchmarks/in_process.py`.
        """

    def mint(self, scopes: Sequence[str]) -> tuple[Stamp | None, ...]:
        """Return the stamps of `scopes`, after giving a new one to each that has none; None for an open scope."""

    def lead(self, key: str, scopes: Sequence[str], holder: str, seconds: float) -> tuple[bool, Reading]:
        """Begin to make the entry under `key`: `mint`, take the lease named `key`, and read the entry, atomically.

        Returns whether `holder` has the lease, and the stamps and the entry. Where a scope is open, no lease is given,
        because nothing can be kept. No entry is returned where a stamp is new, because none was made under it, nor
        where a relay is required and none vouches at present. One round trip.
        """

    def write(self, key: str, entry: bytes, holder: str = "") -> None:
        """Keep `entry` under `key` for at most `KEYBITS_ENTRY_TTL` seconds. It may be dropped sooner.

        In the same round trip, end the lease named `key`, if `holder` has it.
        """

    def open(self, scopes: Sequence[str], writer: str) -> None:
        """End the present stamp of each scope. The scope has no stamp while `writer` holds it open.

        A hold lasts at most `KEYBITS_OPEN_LEASE` seconds. Several writers may hold a scope at once.
        """

    def close(self, scopes: Sequence[str], writer: str = "") -> None:
        """End the present stamp of each scope, and the hold of `writer` on it. Idempotent.

        That `writer` has closed is remembered for `REMEMBERED` seconds.
        """

    def closed(self, writers: Sequence[str]) -> set[str]:
        """Return those of `writers` that are known to have closed their scopes."""

    def now(self) -> int:
        """Return the time by the store's own clock, in milliseconds, for `vouch`."""

    def vouch(self, until: int, server: str = "") -> bool:
        """State that everything committed before the caller looked has been closed here. It holds until `until`.

        With `server`, it holds for that server alone: the one that `noted_by` named before anything was closed, and
        only if this process has reached no other since.

        `until` is a time of the store's clock: `now()`, taken before the caller looked, plus `KEYBITS_RELAY_BOUND`
        seconds at most. A late call therefore holds for less time, or not at all. It never shortens an earlier one,
        except one that the store's clock has prolonged by being set back. Returns whether an earlier one still held.
        """

    def vouched(self) -> float:
        """Return the seconds, to a millisecond, for which a relay still vouches; 0 where none does."""

    def lease(self, name: str, holder: str, seconds: float) -> bool:
        """Give `holder` the lease `name`, or prolong it, unless another holder has it. Return whether `holder` has it.

        The lease ends after `seconds`, or with `release`. A store that loses its data may give it to two holders: use
        it for work that should be done once but may be done twice.
        """

    def release(self, name: str, holder: str) -> None:
        """End the lease `name`, if `holder` has it."""

    def take(self, name: str, most: int, seconds: float) -> tuple[int, float]:
        """Take one of the `most` tokens under `name`. The count is exact, however many callers there are.

        Returns how many are left, or -1 where there was none to take, and the seconds until all of them are available
        again: `seconds` after the first was taken. A store that loses its data makes all of them available.
        """

    def note(self, name: str, value: bytes, server: str = "") -> None:
        """Keep a note under `name` for as long as the store keeps anything; with `server`, as `vouch`."""

    def noted(self, name: str) -> bytes | None:
        """Return the note last kept under `name`, or None."""

    def noted_by(self, name: str) -> tuple[str, bytes | None]:
        """Return the name of the server that answered ("" for a store without servers), and the note as `noted`."""

    def sample(self, most: int) -> list[tuple[str, bytes]]:
        """Return up to `most` pairs of key and entry, in no particular order."""

    def clear(self) -> None:
        """Delete everything that is there when the call begins. What others add meanwhile may remain."""


class Breaker:
    """A circuit breaker: a store that has failed is left alone until it has been seen to work again.

    While tripped, every call but `close` raises `StoreError` at once, so that requests do not queue up behind
    time-outs. Every `KEYBITS_STORE_RETRY` seconds at most, one caller tries the store. Where the relay runs in a
    thread of the process, `read` and `witness` never do, because the relay does.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self.store = store
        self.is_tripped = False
        self._clock = clock
        self._next_trial = 0.0
        self._trial = threading.Lock()
        self._outage = Outage(
            logger, "the store has failed and is left alone", "the store works again", clock=clock
        )

    def read(self, key: str, scopes: Sequence[str]) -> Reading:
        if self.is_tripped and conf.RELAY == "thread":
            raise StoreError(LEFT_ALONE)
        return self._run(self.store.read, key, scopes)

    def witness(self, scopes: tuple[str, ...]) -> bytes | None:
        if not self.is_tripped:
            return self._try(self.store.witness, scopes)
        if conf.RELAY == "thread":
            raise StoreError(LEFT_ALONE)
        return self._run(self.store.witness, scopes)

    def mint(self, scopes: Sequence[str]) -> tuple[Stamp | None, ...]:
        return self._run(self.store.mint, scopes)

    def lead(self, key: str, scopes: Sequence[str], holder: str, seconds: float) -> tuple[bool, Reading]:
        return self._run(self.store.lead, key, scopes, holder, seconds)

    def write(self, key: str, entry: bytes, holder: str = "") -> None:
        self._run(self.store.write, key, entry, holder)

    def open(self, scopes: Sequence[str], writer: str) -> None:
        self._run(self.store.open, scopes, writer)

    def close(self, scopes: Sequence[str], writer: str = "") -> None:
        """Close the scopes, even while tripped: they have been opened and the change is committed."""
        self._try(self.store.close, scopes, writer)

    def closed(self, writers: Sequence[str]) -> set[str]:
        return self._run(self.store.closed, writers)

    def now(self) -> int:
        return self._run(self.store.now)

    def vouch(self, until: int, server: str = "") -> bool:
        return self._run(self.store.vouch, until, server)

    def vouched(self) -> float:
        return self._run(self.store.vouched)

    def lease(self, name: str, holder: str, seconds: float) -> bool:
        return self._run(self.store.lease, name, holder, seconds)

    def release(self, name: str, holder: str) -> None:
        self._run(self.store.release, name, holder)

    def take(self, name: str, most: int, seconds: float) -> tuple[int, float]:
        return self._run(self.store.take, name, most, seconds)

    def note(self, name: str, value: bytes, server: str = "") -> None:
        self._run(self.store.note, name, value, server)

    def noted(self, name: str) -> bytes | None:
        return self._run(self.store.noted, name)

    def noted_by(self, name: str) -> tuple[str, bytes | None]:
        return self._run(self.store.noted_by, name)

    def sample(self, most: int) -> list[tuple[str, bytes]]:
        return self._run(self.store.sample, most)

    def clear(self) -> None:
        self._run(self.store.clear)

    def trip(self, error: StoreError) -> None:
        """Leave the store alone from now on, because it has just failed with `error`."""
        self._next_trial = self._clock() + conf.STORE_RETRY
        self.is_tripped = True
        self._outage.note(error)

    def _run(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if not self.is_tripped:
            return self._try(method, *args, **kwargs)
        if self._clock() < self._next_trial or not self._trial.acquire(blocking=False):
            raise StoreError(LEFT_ALONE)
        try:
            return self._try(method, *args, **kwargs)
        finally:
            self._trial.release()

    def _try(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            result = method(*args, **kwargs)
        except StoreError as error:
            self.trip(error)
            raise
        if self.is_tripped:
            self.is_tripped = False
            self._outage.end()
        return result


@lru_cache(maxsize=1)
def get_store() -> Breaker:
    """Return this process's instance of the store that `KEYBITS_STORE` names, behind a circuit breaker."""
    return Breaker(import_string(conf.STORE)())


on_change(get_store.cache_clear, "KEYBITS_", "CACHES")
os.register_at_fork(after_in_child=get_store.cache_clear)  # a lock held by another thread would stay held
