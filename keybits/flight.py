"""One computes, the others wait: a representation that many ask for at once is made once, whichever process they ask.

Within a process the first thread leads and the others wait for it; between processes a lease in the store says who
leads. A leader that dies loses the lease, one that takes long loses the patience of the others: they compute for
themselves, which is slower and never wrong. Nobody is given what was made before the stamps of now.
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
"""Seconds for which another process is believed to be computing."""
PATIENCE = 5.0
"""Seconds that a request waits for another's answer at most."""
FIRST_LOOK, LOOKS_EACH = 0.001, 0.004
"""Seconds after which it is first looked what another process has made, and between two looks later on."""

_lock = threading.Lock()
_flights: dict[str, threading.Event] = {}


@dataclass(slots=True)
class Landing:
    """What came of waiting: somebody else's entry, or None; and whether this request is the one to compute.

    One that neither leads nor has an entry has lost its patience, or waited for nothing: it computes as well. Where
    there is nothing to wait for, everybody leads. `witness` is of what is made from now on; `holder` has the lease in
    the store, "" has none. Set `kept` when the entry has been stored, and the lease given back with it.
    """

    entry: Entry | None = None
    leads: bool = True
    witness: bytes | None = None
    holder: str = ""
    kept: bool = False


@contextmanager
def alone(key: str, scopes: Sequence[str], *, patient: bool = True) -> Iterator[Landing]:
    """Yield what somebody else has made meanwhile, or the lead. Who is not `patient` does not wait for others.

    Only for what `readthrough.may_keep`. Leave the context when the entry under `key` has been stored, or not.
    """
    landed = threading.Event()
    with _lock:
        leader = _flights.setdefault(key, landed)
    if leader is not landed:
        yield _behind(leader, key, scopes, patient=patient)
        return
    try:
        landing = _elsewhere(key, scopes, patient=patient)
        if landing.witness is None:  # there is nothing that others could wait for
            _land(key, landed)
        with _given_back(key, landing):
            yield landing
    finally:
        _land(key, landed)


def _behind(leader: threading.Event, key: str, scopes: Sequence[str], *, patient: bool) -> Landing:
    """Wait for another thread; return what it made, or what it takes to compute as well."""
    if not patient:
        return Landing(leads=False)
    entry = readthrough.fresh(key, scopes) if leader.wait(PATIENCE) else None
    return Landing(entry, leads=False, witness=None if entry else readthrough.mint(scopes))


def _elsewhere(key: str, scopes: Sequence[str], *, patient: bool) -> Landing:
    """Wait while another process leads; return what it made, or the lead."""
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
    """Give the lease back, where that was not done with the entry."""
    try:
        yield
    finally:
        if landing.holder and not landing.kept:
            with suppress(StoreError):
                get_store().release(key, landing.holder)


def _land(key: str, landed: threading.Event) -> None:
    """Let those go who wait. Landing twice is landing once: by then another may be on its way."""
    with _lock:
        if _flights.get(key) is landed:
            del _flights[key]
    landed.set()


def _forget() -> None:
    """A child has none of the threads that were computing."""
    global _lock  # noqa: PLW0603 - it may have been held by one of them
    _lock = threading.Lock()
    _flights.clear()


os.register_at_fork(after_in_child=_forget)
