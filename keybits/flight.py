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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from keybits.entries import Entry
from keybits.stores import StoreError, get_store

__all__ = ["LEASE", "PATIENCE", "Landing", "alone"]

LEASE = 2.0
"""Seconds for which another process is believed to be computing."""
PATIENCE = 5.0
"""Seconds that a request waits for another's answer at most."""
FIRST_LOOK, LOOKS_EACH = 0.001, 0.004
"""Seconds after which it is first looked what another process has made, and between two looks later on."""

Look = Callable[[], Entry | None]
_lock = threading.Lock()
_flights: dict[str, threading.Event] = {}


@dataclass(frozen=True, slots=True)
class Landing:
    """What came of waiting: somebody else's entry, or None; whether this request is the one to compute, and whether
    it had to wait to find out. One that neither leads nor has an entry has lost its patience: it computes as well."""

    entry: Entry | None
    leads: bool
    waited: bool


@contextmanager
def alone(key: str, look: Look, *, patient: bool = True) -> Iterator[Landing]:
    """Yield what somebody else has made meanwhile, or the lead. Who is not `patient` does not wait for others.

    `look` returns the entry under `key` if it is fresh. Leave the context when it has been stored, or not.
    """
    landed = threading.Event()
    with _lock:
        leader = _flights.setdefault(key, landed)
    if leader is not landed:
        yield Landing(look() if patient and leader.wait(PATIENCE) else None, leads=False, waited=patient)
        return
    holder = uuid.uuid4().hex
    try:
        yield _elsewhere(key, look, holder, patient=patient)
    finally:
        with _lock:
            _flights.pop(key, None)
        landed.set()
        with suppress(StoreError):
            get_store().release(_name(key), holder)


def _elsewhere(key: str, look: Look, holder: str, *, patient: bool) -> Landing:
    """Wait while another process leads; return what it made, or the lead."""
    give_up = time.monotonic() + PATIENCE
    waited, pause = False, FIRST_LOOK
    while time.monotonic() < give_up:
        try:
            leads = get_store().lease(_name(key), holder, LEASE)
        except StoreError:
            break
        entry = look()  # by who leads, too: it may have been made between the first look and this one
        if leads or entry is not None or not patient:
            return Landing(entry, leads, waited)
        waited = True
        time.sleep(pause)
        pause = min(2 * pause, LOOKS_EACH)
    return Landing(None, leads=True, waited=waited)


def _name(key: str) -> str:
    return f"fill:{key}"


def _forget() -> None:
    """A child has none of the threads that were computing."""
    global _lock  # noqa: PLW0603 - it may have been held by one of them
    _lock = threading.Lock()
    _flights.clear()


os.register_at_fork(after_in_child=_forget)
