"""How rows whose time is over are removed: in batches, so that nobody who writes waits for longer than one takes."""

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
"""Seconds between two of them: who waits for SQLite's lock looks for it no more often, and nobody hands it over."""


def prune(rows: QuerySet[Any], remove: Callable[[Any], int] | None = None) -> int:
    """Remove `rows`, from the first in their order on, and return how many they were.

    `remove` is given each batch, commits its removal and returns how many rows it removed; without it they are deleted
    as Django deletes. What is removed stays removed, whatever then ends the rest. Call it outside a transaction, with
    an order that an index has.
    """
    return sum(map(remove or _delete, _batches(rows.using(router.db_for_write(rows.model)))))


def _batches(rows: QuerySet[Any]) -> Iterator[QuerySet[Any]]:
    keys = _keys(rows)
    while keys:
        yield rows.filter(pk__in=keys)  # what is no longer one of them meanwhile stays
        if len(keys) < BATCH:
            return
        time.sleep(PAUSE)
        keys = _keys(rows)


def _keys(rows: QuerySet[Any]) -> list[Any]:
    return list(rows.values_list("pk", flat=True)[:BATCH])


def _delete(batch: QuerySet[Any]) -> int:
    return batch.delete()[0]
