"""How PostgreSQL forgets a test's rows: by deleting what there is, where Django truncates every table there could be.

TRUNCATE makes new files for each table and each of its indexes, which takes as long as most tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.backends.postgresql.operations import DatabaseOperations

__all__ = ["install"]

MADE_BY_MIGRATIONS = frozenset({"auth_permission", "django_content_type"})
"""Django would make the same rows again after each flush."""
KEPT_BY_TRIGGERS = ("catalog_tally",)
"""No models: a trigger would empty them with the others."""


def install() -> None:
    """Have every flush of this process do so."""
    DatabaseOperations.sql_flush = _sql_flush  # type: ignore[method-assign]


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
