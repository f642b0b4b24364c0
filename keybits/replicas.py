"""Which reads go to the primary and which to replicas: those that fill the cache or prepare a write go to the primary.

Stamps say that a representation was made from what has been committed. A replica can lag behind that by any time: a
fill that read one would keep old rows under new stamps, and a conditional write would be judged by old rows. So both
read the primary, whatever routers there are. One that has read a replica all the same (a queryset that names one) is
not kept, or not written. `ReplicaRouter` also sends the reads of any other transaction to the primary, because they may
be of what it has just written, and all other reads to replicas.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from django.db import router, transaction

from keybits.conf import conf

__all__ = ["ReplicaRouter", "filling", "note"]

_read: ContextVar[set[str] | None] = ContextVar("keybits_replicas_read", default=None)


@contextmanager
def filling() -> Iterator[set[str]]:
    """Send reads in the block, which makes an entry or prepares a write, to the primary. Yield the set of replicas
    that have been read all the same."""
    if conf.REPLICAS and _primary not in router.routers:
        router.routers.insert(0, _primary)
    read: set[str] = set()
    token = _read.set(read)
    try:
        yield read
    finally:
        _read.reset(token)


def note(alias: str) -> None:
    """Remember that a statement was sent to the database `alias`."""
    read = _read.get()
    if read is not None and alias in conf.REPLICAS:
        read.add(alias)


class _PrimaryRouter:
    """A router before the project's own: while `filling`, where they name a replica, it names the one for writes."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        if _read.get() is None:
            return None
        said = next(filter(None, self._said(model, hints)), None) or _home(hints.get("instance"))
        if said not in conf.REPLICAS:
            return said
        # Where no router decides, Django takes the database of the instance, which is the replica.
        written = router.db_for_write(model, **hints)
        return router.db_for_write(model) if written in conf.REPLICAS else written

    def _said(self, model: Any, hints: dict[str, Any]) -> Iterator[str | None]:
        for each in router.routers:
            if each is not self and hasattr(each, "db_for_read"):
                yield each.db_for_read(model, **hints)


def _home(instance: Any) -> str | None:
    """Return the database that an object was read from, in which Django also reads its related objects."""
    return None if instance is None else instance._state.db


_primary = _PrimaryRouter()


class ReplicaRouter:
    """For `DATABASE_ROUTERS`: sends reads to one of `KEYBITS_REPLICAS`, except those of a fill or a transaction."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        """Return a replica, or None for Django's own choice, which is the primary."""
        if _read.get() is not None or not conf.REPLICAS or transaction.get_connection().in_atomic_block:
            return None
        return random.choice(conf.REPLICAS)  # noqa: S311 - any will do

    def allow_relation(self, one: Any, other: Any, **hints: Any) -> bool | None:
        """Allow relations between objects of the primary and of its replicas: they are the same objects."""
        return True if {one._state.db, other._state.db} & set(conf.REPLICAS) else None

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        """Forbid migrations of a replica, which gets its tables from its primary."""
        return False if db in conf.REPLICAS else None
