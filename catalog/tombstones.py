"""How tombstones of deleted rows are written, in the transaction that deletes.

Triggers write those of galleries and screenshots, whoever deletes them: by one statement for each DELETE on PostgreSQL,
for each row on SQLite. Whether a tag was visible cannot be told once its screenshots have lost it, so a signal writes
its tombstone before the deletion; a tag deleted by raw SQL leaves none.
"""

from __future__ import annotations

from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from catalog.models import Tag, Tombstone, Visibility
from catalog.triggers import Triggers

__all__ = ["bury_tag", "drop_triggers", "make_triggers", "replace_functions"]

TABLES = {"catalog_gallery": "gallery", "catalog_screenshot": "screenshot"}
COLUMNS = "kind, name, gallery, visibility, owner_id, deleted_at"
VALUES = {
    "gallery": "'gallery', o.slug, '', o.visibility, o.owner_id",
    "screenshot": "'screenshot', CAST(o.id AS text), g.slug, g.visibility, g.owner_id",
}


def make_triggers(connection: BaseDatabaseWrapper) -> None:
    """Make the triggers that are missing, if their table exists."""
    TRIGGERS.mend(connection)


def drop_triggers(connection: BaseDatabaseWrapper) -> None:
    """Undo `make_triggers`."""
    TRIGGERS.drop(connection)


def replace_functions(connection: BaseDatabaseWrapper) -> None:
    """On PostgreSQL, replace the functions of existing triggers by the present ones."""
    TRIGGERS.replace_functions(connection)


def _on_postgresql(table: str, kind: str) -> tuple[str, str]:
    when = f"AFTER DELETE ON {table} REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT"
    gallery = ", LATERAL (SELECT * FROM catalog_gallery WHERE id = o.gallery_id OFFSET 0) AS g"
    return when, f"{_insert(kind, 'old_rows', 'now()', gallery)}; RETURN NULL;"


def _on_sqlite(table: str, kind: str) -> tuple[str, str]:
    row = f"(SELECT {', '.join(f'OLD.{column} AS {column}' for column in _read(kind))})"
    now = "strftime('%Y-%m-%d %H:%M:%f', 'now')"
    gallery = " JOIN catalog_gallery g ON g.id = o.gallery_id"
    return f"AFTER DELETE ON {table}", f"{_insert(kind, row, now, gallery)};"


def _read(kind: str) -> tuple[str, ...]:
    return ("slug", "visibility", "owner_id") if kind == "gallery" else ("id", "gallery_id")


def _insert(kind: str, rows: str, now: str, gallery: str) -> str:
    """Return the INSERT of the tombstones of `rows`; of screenshots with their gallery, which `gallery` joins."""
    joined = gallery if kind == "screenshot" else ""
    return (
        f"INSERT INTO catalog_tombstone ({COLUMNS}) "  # noqa: S608 - constants
        f"SELECT {VALUES[kind]}, {now} FROM {rows} AS o{joined}"
    )


TRIGGERS = Triggers(
    Tombstone._meta.db_table,
    postgresql={f"tombstone_of_{kind}": _on_postgresql(table, kind) for table, kind in TABLES.items()},
    sqlite={f"tombstone_of_{kind}": _on_sqlite(table, kind) for table, kind in TABLES.items()},
)


def bury_tag(instance: Tag, **_: Any) -> None:
    """Write the tombstone of a tag that everybody sees, just before the tag is deleted."""
    if not Tag.objects.listed_for(None).filter(pk=instance.pk).exists():
        return
    Tombstone.objects.create(
        kind=Tombstone.Kind.TAG,
        name=instance.slug,
        visibility=Visibility.PUBLIC,
        deleted_at=timezone.now(),
    )
