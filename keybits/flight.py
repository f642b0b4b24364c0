"""Which of several requests for the same new representation makes it, and for how long the others wait.

Within a process the first thread leads and the others wait for it; between processes a lease in the store says who
leads. The lease of a leader that dies runs out. Requests that have waited too long compute for themselves, which is
slower but never wrong. Nobody is given an entry that was made under other stamps than the present ones.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from keybits import readthrough
from keybits.entries import Entry
from keybits.stores import StoreError, get_store

__all__ = ["LEASE", "PATIENCE", "Landing", "alone"]

LEASE = 2.0
"""Seconds for which a leader keeps the lead between processes, unless it gives it back earlier."""
PATIENCE = 5.0
"""Most seconds that a request waits for another's entry."""
FIRST_LOOK, LOOKS_EACH = 0.001, 0.004
"""Seconds until the first look for the entry of another process, and between two later looks at most."""

_lock = threading.Lock()
_flights: dict[str, threading.Event] = {}


@dataclass(slots=True)
class Landing:
    """The outcome of waiting: another request's entry, or None; and whether this request leads, and is to compute.

    A request that neither leads nor has an entry did not wait, or waited in vain: it computes as well. Where there is
    nothing to wait for, every request leads. `witness` is that of what is made from now on. `holder` has the lease in
    the store; "" for no lease. Set `kept` when the entry has been stored, and the lease given back with it.
    """

    entry: Entry | None = None
    leads: bool = True
    witness: bytes | None = None
    holder: str = ""
    kept: bool = False


@contextmanager
def alone(key: str, scopes: Sequence[str], *, patient: bool = True) -> Iterator[Landing]:
    """Yield the entry that another request has made meanwhile, or the lead. Wait for others only if `patient`.

    Use it only where `readthrough.may_keep`. Leave the context once the entry under `key` is stored, or cannot be.
    """
    landed = threading.Event()
    with _lock:
        leader = _flights.setdefault(key, landed)
    if leader is not landed:
        yield _behind(leader, key, scopes, patient=patient)
        return
    try:
        landing = _elsewhere(key, scopes, patient=patient)
        if landing.witness is None:  # nothing will be stored that others could wait for
            _land(key, landed)
        with _given_back(key, landing):
            yield landing
    finally:
        _land(key, landed)


def _behind(leader: threading.Event, key: str, scopes: Sequence[str], *, patient: bool) -> Landing:
    """Wait for another thread; return its entry, or what this one needs to compute as well."""
    if not patient:
        return Landing(leads=False)
    entry = readthrough.fresh_entry(key, scopes) if leader.wait(PATIENCE) else None
    return Landing(entry, leads=False, witness=None if entry else readthrough.mint(scopes))


def _elsewhere(key: str, scopes: Sequence[str], *, patient: bool) -> Landing:
    """Wait while another process leads; return its entry, or the lead."""
    holder, pause, give_up = uuid.uuid4().hex, FIRST_LOOK, time.monotonic() + PATIENCE
    while True:
        found = readthrough.lead(key, scopes, holder, LEASE)
        if found.leads or found.witness is None:
            return Landing(found.entry, True, found.witness, holder if found.leads else "")
        if found.entry is not None or not patient or time.monotonic() > give_up:
            return Landing(found.entry, False, found.witness)
        time.sleep(pause)
        pause = min(2 * pause, LOOKS_EACH)


@contextmanager
def _given_back(key: str, landing: Landing) -> Iterator[None]:
    """Give the lease back at the end, unless it was given back with the entry."""
    try:
        yield
    finally:
        if landing.holder and not landing.kept:
            with suppress(StoreError):
                get_store().release(key, landing.holder)


def _land(key: str, landed: threading.Event) -> None:
    """Wake the threads that wait. A second call does nothing: another flight of that key may be under way by then."""
    with _lock:
        if _flights.get(key) is landed:
            del _flights[key]
    landed.set()


def _forget() -> None:
    """Forget all flights in a forked child, which has none of the threads that were computing."""
    global _lock  # noqa: PLW0603 - it may have been held by one of them
    _lock = threading.Lock()
    _flights.clear()


os.register_at_fork(after_in_child=_forget)
