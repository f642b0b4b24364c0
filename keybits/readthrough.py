"""The order of every read: stamps before the database, compared afterwards, and never believed on a doubt.

1. one look: the entry and the present stamps of its scopes;
2. every stamp there, closed, and as the entry has them: a hit;
3. else mint what is missing, *before* the database is read, and keep the new entry under those stamps. Who does so is
   told in the same look whether to make the entry, or has it where somebody else has made it since the first.

A store that fails is a cache that is not there: the read goes to the database, and nothing is kept.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

from keybits import cache_status, clock, etags, memory, relay, transactions
from keybits.conf import conf
from keybits.entries import Entry, EntryError
from keybits.outages import Outage
from keybits.stamps import Reading, scope_names, witness
from keybits.stores import StoreError, get_store

__all__ = [
    "Lead",
    "Lookup",
    "allow_stale",
    "confirmed",
    "ends_soon",
    "fresh",
    "is_current",
    "is_fresh",
    "lead",
    "look_up",
    "may_keep",
    "mint",
    "new_entry",
    "still_shown",
    "store",
    "without_store",
]
EARLY = 5
"""How many times what it took to make an entry is time enough to make it again."""

NO_ENTRY = "-"
"""A key that no entry has, for a look at the stamps alone."""
_no_word = Outage(
    logging.getLogger(__name__), "nothing is believed: no relay has vouched for the store lately"
)


@dataclass(frozen=True, slots=True)
class Lookup:
    """What the store had: the entry (also a stale one), whether it is fresh, and why the view is asked if not."""

    entry: Entry | None
    fresh: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Lead:
    """What the store said to who would make an entry: the witness of what is made from now on, or None where it must
    not be stored; whether to make it, for nobody else does; and the entry, if it is there and true by now."""

    witness: bytes | None
    leads: bool
    entry: Entry | None


_aside: ContextVar[dict[str, tuple[str, ...]] | None] = ContextVar("keybits_aside", default=None)


@contextmanager
def without_store() -> Iterator[dict[str, tuple[str, ...]]]:
    """Have views run as if there were no store. Yields the keys that were asked for, with their scopes."""
    asked: dict[str, tuple[str, ...]] = {}
    token = _aside.set(asked)
    try:
        yield asked
    finally:
        _aside.reset(token)


def look_up(key: str, scopes: Sequence[str]) -> Lookup:
    """Look once. Never raises: a store that fails is a `bypass`, and so is a transaction that has written."""
    asked = _aside.get()
    if asked is not None:
        asked[key] = tuple(scopes)
        return Lookup(None, False, cache_status.BYPASS)
    relay.ensure_running()
    if transactions.sees_its_own_writes():
        return Lookup(None, False, cache_status.BYPASS)
    try:
        return _look(key, tuple(scopes))
    except StoreError:
        return Lookup(None, False, cache_status.BYPASS)


def _look(key: str, scopes: tuple[str, ...]) -> Lookup:
    """Believe what is in memory if the stamps are its own; else ask the store for both."""
    held = memory.entries().get(key)
    if held is not None and confirmed(held, get_store().witness(scopes)):
        return Lookup(held.entry, True, "")
    reading = get_store().read(key, scopes)
    if not reading.vouched:
        _no_word.goes_on(
            f"KEYBITS_RELAY is {conf.RELAY!r}; does its thread, or `manage.py keybits_relay`, run?"
        )
    return _judged(key, reading)


def _judged(key: str, reading: Reading) -> Lookup:
    """Say whether what the store had is true, and hold it in memory if it is."""
    if reading.entry is None:
        return Lookup(None, False, cache_status.MISS)
    try:
        entry = Entry.unpack(reading.entry)
    except EntryError:
        return Lookup(None, False, cache_status.MISS)
    fresh = is_fresh(entry, reading.witness)
    if fresh:
        memory.hold(key, entry)
    return Lookup(entry, fresh, "" if fresh else cache_status.STALE)


def is_fresh(entry: Entry, witness: bytes | None) -> bool:
    """Say whether the entry is true, where the stamps of its scopes are now those of `witness`."""
    return witness == entry.witness and (entry.expires is None or time.time() < entry.expires)


def confirmed(held: memory.Held, witness: bytes | None) -> bool:
    """Say whether what is in memory is true; remember when it was, where it may be shown for a while afterwards."""
    fresh = is_fresh(held.entry, witness)
    if fresh and held.entry.stale:
        held.confirmed = clock.seconds()
    return fresh


def ends_soon(entry: Entry) -> bool:
    """Say whether the passing of time ends the entry in less than it takes to make it, with room to spare.

    One request makes it anew then, while it still serves the others: a lease says which, where XFetch throws dice.
    """
    return entry.expires is not None and time.time() > entry.expires - EARLY * entry.cost


def fresh(key: str, scopes: Sequence[str]) -> Entry | None:
    """Return the entry if it is there and true. Never raises."""
    found = look_up(key, scopes)
    return found.entry if found.fresh else None


def still_shown(key: str) -> tuple[Entry, int] | None:
    """Return the entry in memory, if it may be shown though it has ended, and for how many seconds at most it has.

    None where its policy, or a takedown since, forbids it, or nobody knows for how long. What the store has by now may
    be another: that of a slower process, which a takedown has overtaken.
    """
    held = memory.entries().get(key)
    if held is None or not held.entry.stale:
        return None
    age = math.ceil(clock.seconds() - held.confirmed)
    if age > held.entry.stale:
        return None
    try:
        is_up = get_store().witness(held.entry.guard) == held.entry.guarded
    except StoreError:
        return None
    return (held.entry, age) if is_up else None


def allow_stale(entry: Entry, scopes: Sequence[str], guard: Sequence[str], seconds: int) -> Entry:
    """Let the entry be shown for `seconds` after its end, while none of the takedowns in `guard` has come.

    The stamps of the guard are read after those of `scopes`: a takedown in between ends both, and allows nothing.
    """
    if not seconds or not entry.witness or not guard:
        return entry
    names = scope_names(guard)
    stamps = mint(names)
    if stamps is None or not is_current(entry, scopes):
        return entry
    return replace(entry, stale=seconds, guard=names, guarded=stamps)


def may_keep(scopes: Sequence[str]) -> bool:
    """Say whether what is made here and now may be kept, by whatever stamps.

    With no scopes there is nothing that could end an entry: it may not.
    """
    return bool(scopes) and _aside.get() is None and transactions.may_store()


def lead(key: str, scopes: Sequence[str], holder: str, seconds: float) -> Lead:
    """Begin to make an entry that `may_keep`, before the database is read; for `seconds` others are told to wait.

    Never raises: where the store fails nobody leads, and nothing is kept.
    """
    try:
        leads, reading = get_store().lead(key, scopes, holder, seconds)
    except StoreError:
        return Lead(None, False, None)
    found = _judged(key, reading)
    return Lead(reading.witness, leads, found.entry if found.fresh else None)


def mint(scopes: Sequence[str]) -> bytes | None:
    """Return what an entry made from now on is witnessed by, or None where it must not be stored.

    Call it before the database is read. For who makes something whether anybody else does or not.
    """
    if not may_keep(scopes):
        return None
    try:
        return witness(get_store().mint(scopes))
    except StoreError:
        return None


def new_entry(
    body: bytes,
    headers: Sequence[tuple[str, str]],
    *,
    witness: bytes | None,
    now: float,
    previous: Entry | None = None,
) -> Entry:
    """Return the entry for a body just made, at Unix time `now`, in place of the `previous` one, if that is known.

    Its date is new even where its content is not: somebody may have been sent another in between, and a date from
    before that would tell them that they have the present one. It is later than the previous content's, too, where
    that was made by a clock that was ahead, or this one has been set back.
    """
    etag, changed = etags.strong(body), math.floor(now) + 1
    if previous is not None and previous.changed is not None and previous.changed > changed:
        changed = previous.changed + (previous.etag != etag)
    # A copy: what orjson returns keeps the room that it was written in, 4 KiB or many times its length.
    return Entry(witness or b"", etag, changed, tuple(headers), bytes(memoryview(body)))


def store(key: str, entry: Entry, holder: str = "") -> bool:
    """Keep the entry if it may be kept; say whether it was. Then `holder` does not lead any more."""
    if not entry.witness or len(entry.body) > conf.MAX_ENTRY_BYTES:
        return False
    try:
        get_store().write(key, entry.pack(), holder)
    except StoreError:
        return False
    memory.hold(key, entry)
    return True


def is_current(entry: Entry, scopes: Sequence[str]) -> bool:
    """Say whether the stamps are still those that the entry was made under: nothing has been purged since.

    For what is sent to be held elsewhere. A purge that comes after this look comes after the answer was made.
    """
    try:
        return get_store().read(NO_ENTRY, scopes).witness == entry.witness
    except StoreError:
        return False
