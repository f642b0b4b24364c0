"""Rows that were chosen once: which they are does not change while several statements are about them.

A selection is the keys of rows that are locked, in a temporary table: none of them is held in memory here, a
statement that changes what the rows were chosen by does not change the choice, and whoever would change one waits
until the transaction has ended.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import connections, router
from django.db.models import Model, QuerySet
from django.db.models.expressions import RawSQL

__all__ = ["Selection", "hold", "lock"]


@dataclass(frozen=True, slots=True)
class Selection:
    """`count` rows of `model`, in the database `using`; `table` has their keys, as `id`."""

    model: type[Model]
    using: str
    table: str
    count: int

    @property
    def keys(self) -> RawSQL:
        """The subquery that has their keys."""
        return RawSQL(f'SELECT id FROM "{self.table}"', [])  # noqa: S608, S611 - a name made here

    @property
    def rows(self) -> QuerySet[Any]:
        """The rows that were chosen, as far as they are still there."""
        return self.model._base_manager.using(self.using).filter(pk__in=self.keys)


@contextmanager
def hold(rows: QuerySet[Any], using: str = "") -> Iterator[Selection]:
    """Lock `rows` and keep which they are, for the block. Three statements, in a transaction that the caller has begun.

    Of the tables that `rows` joins the rows are locked too. They are those of the database `using`; without it, of
    the one where their model is written, whatever database `rows` names.
    """
    using = using or router.db_for_write(rows.model)
    connection = connections[using]
    table = f"keybits_held_{uuid.uuid4().hex}"
    column = rows.model._meta.pk.rel_db_type(connection)
    with connection.cursor() as cursor:
        cursor.execute(f'CREATE TEMPORARY TABLE "{table}" (id {column} PRIMARY KEY)')
        yield Selection(rows.model, using, table, _fill(cursor, connection, table, rows.using(using)))
        cursor.execute(f'DROP TABLE "{table}"')


def lock(rows: QuerySet[Any]) -> None:
    """Lock `rows` in the order of `hold`, and keep nothing of them: one statement, in a transaction that has begun.

    Only for databases with locks of rows.
    """
    connection = connections[router.db_for_write(rows.model)]
    sql, params = _locking(connection, rows.using(connection.alias))
    if sql:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT count(*) FROM ({sql}) AS locked", params)  # noqa: S608 - Django's own statement


def _locking(connection: Any, rows: QuerySet[Any]) -> tuple[str, Any]:
    """Return what locks `rows` in one order, so that two selections do not wait for each other; "" for none."""
    keys = rows.select_related(None).order_by("pk").select_for_update().values("pk")
    try:
        sql, params = keys.query.get_compiler(connection=connection).as_sql()
    except EmptyResultSet:
        return "", ()
    return sql, params


def _fill(cursor: Any, connection: Any, table: str, rows: QuerySet[Any]) -> int:
    sql, params = _locking(connection, rows)
    if not sql:
        return 0
    cursor.execute(f'INSERT INTO "{table}" {sql}', params)
    return int(cursor.rowcount)
