"""How a test's rows are forgotten: PostgreSQL deletes what there is, where Django truncates every table there could be.

TRUNCATE makes new files for each table and each of its indexes, which takes as long as most tests. On SQLite the rows
that nobody may delete are deleted as `manage.py prune_usage` does. What migrations made stays, so that no flush has
to make it again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

from django.core.management.commands import flush
from django.db.backends.postgresql.operations import DatabaseOperations
from django.db.backends.sqlite3.base import DatabaseWrapper as SQLite

from catalog.accounts import append_only

__all__ = ["install"]

SQLiteOperations: Any = SQLite.ops_class
EXECUTE_ON_SQLITE = SQLiteOperations.execute_sql_flush
MADE_BY_MIGRATIONS = frozenset({"auth_permission", "django_content_type"})
"""Django would make the same rows again after each flush, which takes longer than the flush."""
KEPT_BY_TRIGGERS = ("catalog_tally",)
"""No models: a trigger would empty them with the others."""
FILLED_BY_TRIGGERS = ("catalog_tombstone",)
"""Emptied last: what is deleted from the others leaves rows there."""


def install() -> None:
    """Have every flush of this process do so."""
    flush.emit_post_migrate_signal = lambda *_, **__: None
    DatabaseOperations.sql_flush = _sql_flush  # type: ignore[method-assign]
    SQLiteOperations.execute_sql_flush = _execute_sql_flush


def _execute_sql_flush(self: Any, sql_list: Sequence[str]) -> None:
    """Delete events of use, and then everything as Django does."""
    with self.connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT 1 FROM accounts_usageevent)")
        (has_events,) = cursor.fetchone()
    allowed = append_only.pruning(self.connection.alias) if has_events else nullcontext()
    with allowed:
        emptied = [statement for statement in sql_list if not _is_of(MADE_BY_MIGRATIONS, statement)]
        EXECUTE_ON_SQLITE(self, sorted(emptied, key=partial(_is_of, FILLED_BY_TRIGGERS)))


def _is_of(tables: Collection[str], statement: str) -> bool:
    return any(f'"{table}"' in statement for table in tables)


def _sql_flush(self: Any, _: Any, tables: Sequence[str], **__: Any) -> list[str]:
    """Return what empties those of `tables` that have rows, without the triggers and keys between them."""
    names = [
        self.quote_name(table) for table in (*tables, *KEPT_BY_TRIGGERS) if table not in MADE_BY_MIGRATIONS
    ]
    # Django's own names of its tables, quoted: nothing of it comes from anywhere else.
    rows = (f"SELECT {at} WHERE EXISTS (SELECT FROM {name})" for at, name in enumerate(names))  # noqa: S608 - as above
    with self.connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(rows))
        filled = [names[at] for (at,) in cursor.fetchall()]
    emptied = (f"DELETE FROM {name}" for name in filled)  # noqa: S608 - as above
    return ["SET LOCAL session_replication_role = replica", *emptied]
