"""What is remembered of what was deleted, whoever deleted it, in the same transaction.

Galleries and screenshots by triggers, at one statement for each that deletes on PostgreSQL and each row on SQLite.
Whether a tag was to be seen the database cannot tell once its screenshots are off it, so its tombstone is made before,
by a signal; a tag that is deleted by SQL of somebody's own leaves none.
"""

from __future__ import annotations

from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from catalog.models import Tag, Tombstone, Visibility

__all__ = ["bury_tag", "drop_triggers", "make_triggers", "mend_triggers"]

TABLES = {"catalog_gallery": "gallery", "catalog_screenshot": "screenshot"}
COLUMNS = "kind, name, gallery, visibility, owner_id, deleted_at"
VALUES = {
    "gallery": "'gallery', o.slug, '', o.visibility, o.owner_id",
    "screenshot": "'screenshot', CAST(o.id AS text), g.slug, g.visibility, g.owner_id",
}
AGAIN = "ON CONFLICT (kind, name) DO UPDATE SET " + ", ".join(
    f"{name} = excluded.{name}" for name in ("gallery", "visibility", "owner_id", "deleted_at")
)
NOW = {"postgresql": "now()", "sqlite": "strftime('%Y-%m-%d %H:%M:%f', 'now')"}
PRESENT = {
    "postgresql": "SELECT tgname FROM pg_trigger WHERE tgname LIKE 'tombstone_of_%%'",
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'tombstone_of_%%'",
}


def make_triggers(connection: BaseDatabaseWrapper) -> None:
    """Make those of the triggers that are not there."""
    if connection.vendor not in NOW:
        return
    with connection.cursor() as cursor:
        cursor.execute(PRESENT[connection.vendor], [])
        present = {name for (name,) in cursor.fetchall()}
        for table, kind in TABLES.items():
            if f"tombstone_of_{kind}" not in present:
                for statement in _statements(connection.vendor, table, kind):
                    cursor.execute(statement)


def mend_triggers(connection: BaseDatabaseWrapper) -> None:
    """Make them again where they are missing, if there is the table: SQLite drops them when it alters theirs."""
    if Tombstone._meta.db_table in connection.introspection.table_names():
        make_triggers(connection)


def drop_triggers(connection: BaseDatabaseWrapper) -> None:
    """Undo `make_triggers`."""
    with connection.cursor() as cursor:
        for kind in TABLES.values():
            if connection.vendor == "sqlite":
                cursor.execute(f"DROP TRIGGER IF EXISTS tombstone_of_{kind}")
            elif connection.vendor in NOW:
                cursor.execute(f"DROP FUNCTION IF EXISTS tombstone_of_{kind}() CASCADE")


def _statements(vendor: str, table: str, kind: str) -> list[str]:
    name, now = f"tombstone_of_{kind}", NOW[vendor]
    if vendor == "sqlite":
        row = f"(SELECT {', '.join(f'OLD.{column} AS {column}' for column in _read(kind))})"
        return [f"CREATE TRIGGER {name} AFTER DELETE ON {table} BEGIN {_insert(kind, row, now)}; END"]
    body = f"BEGIN {_insert(kind, 'old_rows', now)}; RETURN NULL; END"
    return [
        f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$",
        f"CREATE TRIGGER {name} AFTER DELETE ON {table} REFERENCING OLD TABLE AS old_rows "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {name}()",
    ]


def _read(kind: str) -> tuple[str, ...]:
    return ("slug", "visibility", "owner_id") if kind == "gallery" else ("id", "gallery_id")


def _insert(kind: str, rows: str, now: str) -> str:
    joined = " JOIN catalog_gallery g ON g.id = o.gallery_id" if kind == "screenshot" else ""
    return (
        f"INSERT INTO catalog_tombstone ({COLUMNS}) "  # noqa: S608 - constants
        f"SELECT {VALUES[kind]}, {now} FROM {rows} AS o{joined} WHERE true {AGAIN}"
    )


def bury_tag(instance: Tag, **_: Any) -> None:
    """Remember a tag that everybody sees, just before it is deleted."""
    if not Tag.objects.listed_for(None).filter(pk=instance.pk).exists():
        return
    Tombstone.objects.update_or_create(
        kind=Tombstone.Kind.TAG,
        name=instance.slug,
        defaults={"visibility": Visibility.PUBLIC, "deleted_at": timezone.now()},
    )
