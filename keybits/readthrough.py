"""The order of every read: stamps before the database, compared on the next read, and no entry believed in doubt.

1. One look at the store: the entry, and the present stamps of its scopes.
2. Where every scope has a stamp, and all are those of the entry: a hit.
3. Otherwise mint the missing stamps, *before* the database is read, and keep the new entry under these. The same round
   trip tells the reader whether to make the entry, or returns one that another reader has made since the first look.

A store that fails is treated as no cache at all: the read goes to the database, and nothing is kept.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import NamedTuple

from keybits import cache_status, clock, etags, memory, relay_thread, transactions
from keybits.conf import conf
from keybits.entries import Entry, EntryError
from keybits.outages import Outage
from keybits.stamps import Reading, is_family, scope_names, witness
from keybits.stores import NO_ENTRY, StoreError, get_store

__all__ = [
    "Lead",
    "Lookup",
    "allow_stale",
    "confirmed",
    "ends_soon",
    "fresh_entry",
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
MARGIN = 5
"""An entry is made anew when the time that it has left is less than this many times its cost."""
_no_word = Outage(
    logging.getLogger(__name__), "nothing is believed: no relay has vouched for the store lately"
)


class Lookup(NamedTuple):
    """What the store had: the entry (perhaps a stale one), whether it is fresh, and if not, why the view is called."""

    entry: Entry | None
    fresh: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Lead:
    """The store's answer to a reader about to make an entry: the witness of what is made from now on, or None where it
    must not be stored; whether the reader leads, and is to make it; and the entry, if there is a fresh one by now."""

    witness: bytes | None
    leads: bool
    entry: Entry | None


_aside: ContextVar[dict[str, tuple[str, ...]] | None] = ContextVar("keybits_aside", default=None)


@contextmanager
def without_store() -> Iterator[dict[str, tuple[str, ...]]]:
    """Run views in the block as if there were no store; yield the keys that they look up, with their scopes."""
    keys: dict[str, tuple[str, ...]] = {}
    token = _aside.set(keys)
    try:
        yield keys
    finally:
        _aside.reset(token)


def look_up(key: str, scopes: Sequence[str]) -> Lookup:
    """Look once. Never raises: a store that fails is a `bypass`, and so is a transaction that has written."""
    keys = _aside.get()
    if keys is not None:
        keys[key] = tuple(scopes)
        return Lookup(None, False, cache_status.BYPASS)
    relay_thread.ensure_running()
    if transactions.sees_its_own_writes():
        return Lookup(None, False, cache_status.BYPASS)
    try:
        return _look(key, tuple(scopes))
    except StoreError:
        return Lookup(None, False, cache_status.BYPASS)


def _look(key: str, scopes: tuple[str, ...]) -> Lookup:
    """Use the entry in memory if the stamps are still its own; otherwise read entry and stamps from the store."""
    held, asked = memory.entries().get(key), clock.seconds()
    if held is not None and confirmed(held, get_store().witness(scopes), asked):
        return Lookup(held.entry, True, "")
    asked = clock.seconds()
    reading = get_store().read(key, scopes)
    if not reading.vouched:
        _no_word.note(
            f"KEYBITS_RELAY is {conf.RELAY!r}; is its thread, or `manage.py keybits_relay`, running?"
        )
    return _judged(key, reading, asked)


def _judged(key: str, reading: Reading, asked: float) -> Lookup:
    """Return the entry that the store, `asked` at that time, had, and whether it is fresh; if so, keep it in memory."""
    if reading.entry is None:
        return Lookup(None, False, cache_status.MISS)
    try:
        entry = Entry.unpack(reading.entry)
    except EntryError:
        return Lookup(None, False, cache_status.MISS)
    fresh = is_fresh(entry, reading.witness)
    if fresh:
        memory.hold(key, entry, asked)
    return Lookup(entry, fresh, "" if fresh else cache_status.STALE)


def is_fresh(entry: Entry, witness: bytes | None) -> bool:
    """Say whether the entry is fresh, given that the present stamps of its scopes are those of `witness`."""
    return witness == entry.witness and (entry.expires is None or time.time() < entry.expires)


def confirmed(held: memory.Held, witness: bytes | None, asked: float) -> bool:
    """Say whether an entry in memory is fresh, by the witness for which the store was `asked` (`keybits.clock`).

    If so, note that time, where the entry may be shown for a while after its end.
    """
    fresh = is_fresh(held.entry, witness)
    if fresh and held.entry.stale:
        held.confirmed = asked
    return fresh


def ends_soon(entry: Entry) -> bool:
    """Say whether the entry expires before it could be made anew, with a margin.

    If so, one request makes it while the others are still served it. A lease selects that request; XFetch uses chance.
    """
    return entry.expires is not None and time.time() > entry.expires - MARGIN * entry.cost


def fresh_entry(key: str, scopes: Sequence[str]) -> Entry | None:
    """Return the entry if there is a fresh one, else None. Never raises."""
    found = look_up(key, scopes)
    return found.entry if found.fresh else None


def still_shown(key: str) -> tuple[Entry, int] | None:
    """Return the entry in memory, if it may be shown although it has ended, and for how many seconds at most it has.

    None where its policy or a later takedown forbids it, or it was last confirmed too long ago. The store's entry is
    not used: a slower process may have stored it after a takedown that it does not show.
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
    """Return the entry, allowed to be shown for `seconds` after its end, until any takedown in `guard` happens.

    The stamps of the guard are read after those that the entry was made under. A takedown in between has ended the
    entry, too; that is checked, and then nothing is allowed. Nor is it where the guard has a family, whose stamp no
    takedown of a single member ends.
    """
    if not seconds or not entry.witness or not guard or any(map(is_family, guard)):
        return entry
    names = scope_names(guard)
    stamps = mint(names)
    if stamps is None or not is_current(entry, scopes):
        return entry
    return replace(entry, stale=seconds, guard=names, guarded=stamps)


def may_keep(scopes: Sequence[str]) -> bool:
    """Say whether an entry that is made here and now may be kept, if its stamps allow it.

    Without scopes nothing could ever end an entry, so it may not.
    """
    return bool(scopes) and _aside.get() is None and transactions.may_store()


def lead(key: str, scopes: Sequence[str], holder: str, seconds: float) -> Lead:
    """Begin to make an entry that `may_keep`, before the database is read. Others are told to wait, for `seconds`.

    Never raises: where the store fails nobody leads, and nothing is kept.
    """
    asked = clock.seconds()
    try:
        leads, reading = get_store().lead(key, scopes, holder, seconds)
    except StoreError:
        return Lead(None, False, None)
    found = _judged(key, reading, asked)
    return Lead(reading.witness, leads, found.entry if found.fresh else None)


def mint(scopes: Sequence[str]) -> bytes | None:
    """Return the witness of an entry that is made from now on, or None where it must not be stored.

    Call it before the database is read. It is for callers that make an entry whether or not another request does.
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

    Its date is new even if its content is not: clients may have been sent other content in between, and an older date
    would tell them that their copy is current. It is also later than the date of different previous content, which a
    clock that was ahead may have made, or this one before it was set back.
    """
    etag, changed = etags.strong(body), math.floor(now) + 1
    if previous is not None and previous.changed is not None and previous.changed > changed:
        changed = previous.changed + (previous.etag != etag)
    # A copy: the bytes that orjson returns keep their whole buffer allocated, 4 KiB or many times their length.
    return Entry(witness or b"", etag, changed, tuple(headers), bytes(memoryview(body)))


def store(key: str, entry: Entry, holder: str = "", *, seen: float = 0.0) -> bool:
    """Store the entry if it may be kept, which also ends the lead of `holder`; say whether it was stored.

    `seen` is when its stamps were last known to be the present ones, by `keybits.clock`; by default, long ago.
    """
    if not entry.witness or len(entry.body) > conf.MAX_ENTRY_BYTES:
        return False
    try:
        get_store().write(key, entry.pack(), holder)
    except StoreError:
        return False
    memory.hold(key, entry, seen)
    return True


def is_current(entry: Entry, scopes: Sequence[str]) -> bool:
    """Say whether the stamps are still those that the entry was made under, so that nothing has been purged since.

    Call it for answers that caches in front may hold. A purge after this look comes after the answer was made.
    """
    try:
        return get_store().read(NO_ENTRY, scopes).witness == entry.witness
    except StoreError:
        return False
