"""One store for each database: the database names it, and no relay of another store vouches.

What one store's relay has closed it deletes from the record, where that of another may not have looked yet. So of two
containers with a store each, of a Redis and the one that took its place, and of a store that is used again after
another was, one is believed: the last to come, from which everything has ended, also what readers put there before it
had a name. It is named before that, and by then no other store's relay deletes anything: what was deleted earlier, no
entry of afterwards has missed.
"""

from __future__ import annotations

import logging
import math
import uuid

from django.db.backends.base.base import BaseDatabaseWrapper

from keybits import changes, clock
from keybits.stores import get_store

__all__ = ["AtWorkError", "ContestedError", "hold", "name"]

logger = logging.getLogger(__name__)
NOTE = "store:"
"""What the notes begin with of what each database, by alias, calls this store."""
PATIENCE = 600.0
"""Seconds for which a process leaves a database to another store after it has taken it itself."""
LEASE = 15.0
"""Seconds for which others leave it to one process to take a database: Redis looks at all its keys for that."""

_seen: dict[str, tuple[str, str]] = {}
"""By alias, which server of the store has last called itself what the database calls it, and what that is."""
_taken: dict[str, float] = {}
"""By alias, when this process has last taken a database from another store."""


class ContestedError(Exception):
    """The database names another store: what is here may be stale."""


class AtWorkError(ContestedError):
    """Another process is about to have the database name this store: as of two workers that start at once."""


def name(alias: str) -> str:
    """Return what this database calls the store, as the store has it; "" where it does not know."""
    return (get_store().noted(NOTE + alias) or b"").decode()


def hold(connection: BaseDatabaseWrapper) -> None:
    """See that the database names this store; where it names another, everything here ends.

    Raises `ContestedError` where this process has done that lately, and `AtWorkError` where another is about to.
    """
    if _is_named(connection):
        return
    me = uuid.uuid4().hex
    _lease(connection.alias, me)
    try:
        if not _is_named(connection):  # another process may have seen to it just now
            _take(connection, me)
    finally:
        get_store().release(NOTE + connection.alias, me)


def _is_named(connection: BaseDatabaseWrapper) -> bool:
    """Say whether the database and the store have one name for the store.

    A store that has forgotten its name with everything else is reminded of it, if this process has seen it have that
    name, for this alias or for another one of the same database. That writes nothing to the database: a store may be
    flushed while somebody has SQLite's lock. A server that has taken the place of another has forgotten nothing, and
    is not reminded: the other may come back, with all it had.
    """
    alias, held = connection.alias, changes.holder(connection)
    server, noted = get_store().noted_by(NOTE + alias)
    if not held:
        return False
    if noted != held.encode():
        if noted or (server, held) not in _seen.values():
            return False
        get_store().note(NOTE + alias, held.encode(), server)
    _seen[alias] = (server, held)
    return True


def _lease(alias: str, holder: str) -> None:
    if not get_store().lease(NOTE + alias, holder, LEASE):
        raise _elsewhere(alias)


def _elsewhere(alias: str) -> AtWorkError:
    return AtWorkError(f"another process has {alias!r} name this store at this moment")


def _take(connection: BaseDatabaseWrapper, holder: str) -> None:
    """Name the store, then end what is in it: made while changes went to another, or before anybody vouched.

    Who dies on the way has the next one do it again.
    """
    alias, new = connection.alias, uuid.uuid4().hex
    from_another = bool(name(alias) and changes.holder(connection))
    if from_another:
        _claim_from_another(alias)
    changes.hold(connection, new)
    get_store().clear()  # the lease with all the rest
    _lease(alias, holder)
    if changes.holder(connection) != new:
        raise _elsewhere(alias)
    get_store().note(NOTE + alias, new.encode())
    _seen[alias] = (get_store().noted_by(NOTE + alias)[0], new)  # what clears the store next forgets the note
    if from_another:
        _taken[alias] = clock.seconds()


def _claim_from_another(alias: str) -> None:
    if clock.seconds() - _taken.get(alias, -math.inf) < PATIENCE:
        raise ContestedError(
            f"the database {alias!r} is used with another store at the same time: give all processes that use it one "
            "Redis, or one KEYBITS_LMDB_PATH"
        )
    logger.warning("the database %s was used with another store: everything ends", alias)
