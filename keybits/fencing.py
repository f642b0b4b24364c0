"""One store for each database: the database names it, and no relay of another store vouches.

What one store's relay has closed it deletes from the record, where that of another may not have looked yet. So of two
containers with a store each, of a Redis and the one that took its place, and of a store that is used again after
another was, one is believed: the last to come, from which everything has ended.
"""

from __future__ import annotations

import logging
import uuid

from django.db.backends.base.base import BaseDatabaseWrapper

from keybits import changes, clock
from keybits.stores import get_store

__all__ = ["ContestedError", "hold"]

logger = logging.getLogger(__name__)
NOTE = "store"
"""What the store's note of its own name is called."""
PATIENCE = 600.0
"""Seconds for which a process leaves a database to another store after it has taken it itself."""
LEASE = 5.0
"""Seconds for which others leave it to one process to take a database."""

_taken: dict[str, tuple[str, float]] = {}
"""By alias, the store that this process has last had the database name, and when."""


class ContestedError(Exception):
    """The database names another store: what is here may be stale."""


def hold(connection: BaseDatabaseWrapper) -> None:
    """See that the database names this store; where it names another, everything ends first.

    Raises `ContestedError` where this process has done that lately, or another one is about to.
    """
    name = get_store().noted(NOTE)
    if name is None or name.decode() != changes.holder(connection):
        _take(connection)


def clear() -> None:
    """Have the store forget all but its name."""
    store = get_store()
    name = store.noted(NOTE)
    store.clear()
    if name is not None:
        store.note(NOTE, name)


def _take(connection: BaseDatabaseWrapper) -> None:
    store, me = get_store(), uuid.uuid4().hex
    if not store.lease(NOTE, me, LEASE):
        raise ContestedError(f"another process has {connection.alias!r} name this store at this moment")
    try:
        noted, held = store.noted(NOTE), changes.holder(connection)
        name = uuid.uuid4().hex if noted is None else noted.decode()
        if noted is not None and held not in {"", name}:
            _end(connection.alias, name)
        changes.hold(connection, name)
        store.note(NOTE, name.encode())
    finally:
        store.release(NOTE, me)


def _end(alias: str, name: str) -> None:
    """End what was made while changes went to another store."""
    before, when = _taken.get(alias, ("", 0.0))
    if before == name and clock.seconds() - when < PATIENCE:
        raise ContestedError(
            f"the database {alias!r} is used with another store at the same time: give all processes that use it one "
            "Redis, or one KEYBITS_LMDB_PATH"
        )
    logger.warning("the database %s was used with another store: everything ends", alias)
    clear()
    _taken[alias] = name, clock.seconds()
