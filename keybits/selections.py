"""Selections of rows that stay the same while several statements work on them.

A selection is the keys of locked rows, in a temporary table. None of them is held in Python's memory; a statement that
changes the values by which rows were selected does not change the selection; and other writers of these rows wait
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
    """`count` rows of `model` in the database `using`; the column `id` of `table` has their keys."""

    model: type[Model]
    using: str
    table: str
    count: int

    @property
    def keys(self) -> RawSQL:
        """The subquery of their keys."""
        return RawSQL(f'SELECT id FROM "{self.table}"', [])  # noqa: S608, S611 - a name made here

    @property
    def rows(self) -> QuerySet[Any]:
        """The selected rows that still exist."""
        return self.model._base_manager.using(self.using).filter(pk__in=self.keys)


@contextmanager
def hold(rows: QuerySet[Any], using: str = "") -> Iterator[Selection]:
    """Lock `rows` and yield their selection, which lasts for the block. Three statements, in the caller's transaction.

    Rows of tables that `rows` joins are locked too. The rows are those of the database `using`; by default, of the one
    where their model is written, whatever database `rows` names. Raises `NotImplementedError` for a composite primary
    key.
    """
    if len(rows.model._meta.pk_fields) > 1:
        raise NotImplementedError(
            f"{rows.model._meta.label} has a primary key of several columns: no selection of its rows can be made."
        )
    using = using or router.db_for_write(rows.model)
    connection = connections[using]
    table = f"keybits_held_{uuid.uuid4().hex}"
    column = rows.model._meta.pk.rel_db_type(connection)
    with connection.cursor() as cursor:
        cursor.execute(f'CREATE TEMPORARY TABLE "{table}" (id {column} PRIMARY KEY)')
        yield Selection(rows.model, using, table, _fill(cursor, connection, table, rows.using(using)))
        cursor.execute(f'DROP TABLE "{table}"')


def lock(rows: QuerySet[Any]) -> None:
    """Lock `rows` in the same order as `hold`, without a selection: one statement, in the caller's transaction.

    Only for databases with row locks.
    """
    connection = connections[router.db_for_write(rows.model)]
    sql, params = _locking(connection, rows.using(connection.alias))
    if sql:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT count(*) FROM ({sql}) AS locked", params)  # noqa: S608 - Django's own statement


def _locking(connection: Any, rows: QuerySet[Any]) -> tuple[str, Any]:
    """Return SQL that locks `rows` in order of their keys, so that two selections cannot deadlock; "" for no rows."""
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
