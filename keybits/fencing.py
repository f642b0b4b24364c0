"""One store for each database: the database names its store, and no relay of another store vouches.

A relay deletes from the record what it has closed in its own store, although the relay of another store may not have
seen it. So where two stores are used with one database (two containers with a store each, a Redis and its replacement,
a store that comes back into use), only the last one is trusted. It is named in the database first; from then on no
other store's relay deletes rows. Then it is cleared, including what readers put there before it was named. So no entry
in it predates a change whose row has been deleted.
"""

from __future__ import annotations

import logging
import math
import uuid

from django.db.backends.base.base import BaseDatabaseWrapper

from keybits import changes, clock
from keybits.stores import get_store

__all__ = ["AtWorkError", "ContestedError", "ensure_named", "name"]

logger = logging.getLogger(__name__)
NOTE = "store:"
"""The prefix of the notes that hold, for each database by alias, the name that it gave this store."""
PATIENCE = 600.0
"""Seconds after taking a database during which this process does not take it from another store again."""
LEASE = 15.0
"""Seconds for which one process may take a database while others wait: clearing Redis visits all its keys."""

_seen: dict[str, tuple[str, str]] = {}
"""By alias, the server and the name, when the name in the store last agreed with that in the database."""
_taken: dict[str, float] = {}
"""By alias, when this process last took the database from another store."""


class ContestedError(Exception):
    """The database names another store: entries of this one may be stale."""


class AtWorkError(ContestedError):
    """Another process is just naming this store in the database, as when two workers start at once."""


def name(alias: str) -> str:
    """Return the name that this database gave the store, according to the store; "" if it has none."""
    return (get_store().noted(NOTE + alias) or b"").decode()


def ensure_named(connection: BaseDatabaseWrapper) -> tuple[str, str]:
    """Make sure that the database names this store. If it does not, name the store, and clear it.

    Returns the server that the store is (as `Store.noted_by`), and the name.

    Raises `ContestedError` if this process has taken the database from another store within the last `PATIENCE`
    seconds, and `AtWorkError` if another process is at it.
    """
    if _is_named(connection):
        return _seen[connection.alias]
    me = uuid.uuid4().hex
    _lease(connection.alias, me)
    try:
        if not _is_named(connection):  # another process may have done it just now
            _take(connection, me)
    finally:
        get_store().release(NOTE + connection.alias, me)
    return _seen[connection.alias]


def _is_named(connection: BaseDatabaseWrapper) -> bool:
    """Return whether the database and the store agree on the name of the store.

    A store that was flushed, and so has lost its name, gets it again if this process has seen that server have it, for
    this alias or another one of the same database. That writes nothing to the database, so that it works while
    somebody holds SQLite's lock. A server that replaces another does not get the name: the other may come back with
    all its entries.
    """
    alias, named = connection.alias, changes.store_name(connection)
    server, noted = get_store().noted_by(NOTE + alias)
    if not named:
        return False
    if noted != named.encode():
        if noted or (server, named) not in _seen.values():
            return False
        get_store().note(NOTE + alias, named.encode(), server)
    _seen[alias] = (server, named)
    return True


def _lease(alias: str, holder: str) -> None:
    if not get_store().lease(NOTE + alias, holder, LEASE):
        raise _elsewhere(alias)


def _elsewhere(alias: str) -> AtWorkError:
    return AtWorkError(f"another process is just naming this store in the database {alias!r}")


def _take(connection: BaseDatabaseWrapper, holder: str) -> None:
    """Name the store, then clear it: entries may stem from when changes went to another store, or nobody vouched.

    If this process dies half-way, or another server takes over, whoever comes next starts again.
    """
    alias, new = connection.alias, uuid.uuid4().hex
    from_another = bool(name(alias) and changes.store_name(connection))
    if from_another:
        _claim_from_another(alias)
    changes.set_store_name(connection, new)
    server, _ = get_store().noted_by(NOTE + alias)
    get_store().clear()  # including the lease
    _lease(alias, holder)
    if changes.store_name(connection) != new:
        raise _elsewhere(alias)
    get_store().note(NOTE + alias, new.encode(), server)
    _seen[alias] = (server, new)  # to restore the note after the next flush
    if from_another:
        _taken[alias] = clock.seconds()


def _claim_from_another(alias: str) -> None:
    if clock.seconds() - _taken.get(alias, -math.inf) < PATIENCE:
        raise ContestedError(
            f"the database {alias!r} is used with another store at the same time: give all processes that use it one "
            "Redis, or one KEYBITS_LMDB_PATH"
        )
    logger.warning("the database %s was used with another store: all entries end", alias)
