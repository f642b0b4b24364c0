"""What a store must do, and which one this process uses.

A store keeps two things: stamps (one for each scope, small, must be right) and entries (framed responses,
large, may be lost at any time). One protocol, one adapter a module; `tests/keybits/test_stores.py` is the
contract that every adapter passes.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import ParamSpec, Protocol, TypeVar

from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from keybits.conf import conf
from keybits.outages import Outage
from keybits.stamps import Reading, Stamp

__all__ = ["REMEMBERED", "Breaker", "Store", "StoreError", "get_store"]


logger = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")


class StoreError(Exception):
    """The store did not do what was asked: it is down, slow, full or broken. The cause is chained."""


REMEMBERED = 60
"""Seconds for which a store knows that a writer has closed."""

LEFT_ALONE = "the store has failed and has not been seen to work since"


class Store(Protocol):
    """Stamps and entries, shared by every process that serves or writes the same data.

    A scope is open while any writer holds it open; a hold ends with `close`, or after its lease. Every method
    raises `StoreError`, and nothing else, when it cannot do its work, and then may have done it or not.
    """

    def read(self, key: str, scopes: Sequence[str]) -> Reading:
        """Return the entry under `key` and the stamps of `scopes`, seen at one moment, in one round trip.

        Where a relay is required (`KEYBITS_RELAY`) and none has vouched lately, no stamp is, and not `vouched`.
        """

    def witness(self, scopes: tuple[str, ...]) -> bytes | None:
        """Return what `read` would have as its witness, and fetch no entry: one round trip at most.

        The hot path of every hit: `benchmarks/in_process.py` is what its implementations are written for.
        """

    def mint(self, scopes: Sequence[str]) -> tuple[Stamp | None, ...]:
        """Return the stamps of `scopes`, giving a new one to each that has none. None stands for an open scope."""

    def lead(self, key: str, scopes: Sequence[str], holder: str, seconds: float) -> tuple[bool, Reading]:
        """Begin to make the entry under `key`: `mint`, then `lease` by that name, then a look, at one moment.

        Returns whether `holder` has the lease, the stamps, and the entry. Where a scope is open there is no lease, for
        nothing can be kept. There is no entry where a stamp is new, for none was made under it, nor where a relay is
        required and none has vouched lately. One round trip.
        """

    def write(self, key: str, entry: bytes, holder: str = "") -> None:
        """Keep `entry` under `key` for at most `KEYBITS_ENTRY_TTL` seconds. It may be dropped sooner.

        In the same round trip, end the lease by that name, if `holder` has it.
        """

    def open(self, scopes: Sequence[str], writer: str) -> None:
        """End the present stamp of each scope, and let it have none while `writer` holds it.

        A hold lasts at most `KEYBITS_OPEN_LEASE` seconds. Several writers may hold a scope at once.
        """

    def close(self, scopes: Sequence[str], writer: str = "") -> None:
        """End the present stamp of each scope, and the hold of `writer` on it. Closing twice is closing once.

        Remembers for a minute that `writer` has closed.
        """

    def closed(self, writers: Sequence[str]) -> set[str]:
        """Return those of `writers` that are known to have closed their scopes."""

    def now(self) -> int:
        """Return the store's own time, in milliseconds; for `vouch`."""

    def vouch(self, until: int) -> bool:
        """Say that all that was committed when the caller began has been closed here; it holds until that time.

        The time is the store's (`now`, taken before looking, and `KEYBITS_RELAY_BOUND` at most added to it): a word
        that arrives late holds shorter, or not at all. It never shortens another's, but where the store's clock, set
        back, has drawn that out. Returns whether there was one that still held.
        """

    def vouched(self) -> float:
        """Return for how many seconds the present word still holds, to a millisecond; 0 where there is none."""

    def lease(self, name: str, holder: str, seconds: float) -> bool:
        """Give `holder` the lease of this name, or prolong it, unless another has it; say whether it has it now.

        It ends after `seconds`, or with `release`. A store that forgets may give it to two: for work that is worth
        doing once and harmless to do twice.
        """

    def release(self, name: str, holder: str) -> None:
        """End the lease of this name, if `holder` has it."""

    def take(self, name: str, most: int, seconds: float) -> tuple[int, float]:
        """Take one of the `most` that there are under this name, exactly, however many take at once.

        Returns how many are left, -1 where none was there to take, and the seconds until all of them are there again:
        `seconds` after the first was taken. A store that forgets gives all of them anew.
        """

    def note(self, name: str, value: bytes, server: str = "") -> None:
        """Keep a note under this name for as long as the store keeps anything; with `server`, on that one alone."""

    def noted(self, name: str) -> bytes | None:
        """Return the note that was last kept under this name; None where there is none."""

    def noted_by(self, name: str) -> tuple[str, bytes | None]:
        """Return which server has answered, and what `noted` would; "" where there never is another."""

    def sample(self, most: int) -> list[tuple[str, bytes]]:
        """Return up to `most` entries and their keys, in no order."""

    def clear(self) -> None:
        """Forget all that is there as it begins; what others add meanwhile may be left."""


class Breaker:
    """A store that, once it has failed, is left alone until it has been seen to work again.

    Meanwhile every call raises `StoreError` at once, so that requests do not queue up behind time-outs. One caller
    at a time, each `KEYBITS_STORE_RETRY` seconds at most, finds out whether it works; never a reader where a relay
    runs in the process, for that does it anyway.
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
        """Always tried: a writer that has opened and committed must not be told to wait."""
        self._try(self.store.close, scopes, writer)

    def closed(self, writers: Sequence[str]) -> set[str]:
        return self._run(self.store.closed, writers)

    def now(self) -> int:
        return self._run(self.store.now)

    def vouch(self, until: int) -> bool:
        return self._run(self.store.vouch, until)

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
        """Leave the store alone from now on: it has just been seen to fail."""
        self._next_trial = self._clock() + conf.STORE_RETRY
        self.is_tripped = True
        self._outage.goes_on(error)

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
            self._outage.is_over()
        return result


@lru_cache(maxsize=1)
def get_store() -> Breaker:
    """Return the store that `KEYBITS_STORE` names, one for this process, behind a circuit breaker."""
    return Breaker(import_string(conf.STORE)())


def _forget(*, setting: str, **_: object) -> None:
    if setting.startswith("KEYBITS_") or setting == "CACHES":
        get_store.cache_clear()


setting_changed.connect(_forget)
os.register_at_fork(after_in_child=get_store.cache_clear)  # a lock that another thread held would stay held
