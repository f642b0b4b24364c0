"""How expired rows are removed: in batches, so that no other writer waits for longer than one batch takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from django.db import router
from django.db.models import QuerySet

__all__ = ["prune"]

BATCH = 5_000
"""Rows that are removed in one transaction."""
PAUSE = 0.1
"""Seconds between two batches: a writer that waits for SQLite's lock polls for it, at intervals of up to this."""


def prune(
    rows: QuerySet[Any], remove: Callable[[Any], int] | None = None, *, using: str | None = None
) -> int:
    """Remove `rows`, in their order, and return how many were removed; from the database where they are written.

    That is the one that the router gives, or `using`.

    `remove` is called with each batch, commits its removal and returns how many rows it removed; the default is
    Django's own deletion. Batches that have been removed stay removed if a later one fails. Call it outside a
    transaction, and order the rows by an index.
    """
    return sum(map(remove or _delete, _batches(rows.using(using or router.db_for_write(rows.model)))))


def _batches(rows: QuerySet[Any]) -> Iterator[QuerySet[Any]]:
    keys = _keys(rows)
    while keys:
        yield rows.filter(pk__in=keys)  # without those that no longer match
        if len(keys) < BATCH:
            return
        time.sleep(PAUSE)
        keys = _keys(rows)


def _keys(rows: QuerySet[Any]) -> list[Any]:
    return list(rows.values_list("pk", flat=True)[:BATCH])


def _delete(batch: QuerySet[Any]) -> int:
    return batch.delete()[0]
