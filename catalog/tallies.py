"""How many screenshots of each gallery have each tag: numbers that the database maintains on every write.

The count of a tag reads its tallies, about one for each gallery, instead of its screenshots. Triggers maintain them, so
they are right within the transaction of every write, whoever makes it; they do not depend on who may see a gallery.
`mend` restores what a migration has dropped, and then counts again; `recount` counts again at any time.

Nobody waits for a tally. On PostgreSQL a writer adds a row of its own and merges into it the rows that no other writer
has locked, so a tally is the sum of a few rows. A writer does wait for a screenshot that another writer is moving to
another gallery or deleting: a unique index that includes the gallery makes a move conflict with the lock (FOR KEY
SHARE) that a tag's foreign key takes anyway. That is the index of a gallery's creations. SQLite has one writer at a
time, and one row for each tally.
"""

from __future__ import annotations

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import IntegerField, QuerySet, Subquery

from catalog.models import Gallery
from catalog.triggers import Triggers, execute
from keybits import changes
from keybits.planner import looked_up

__all__ = [
    "TABLE",
    "TagCount",
    "create",
    "drop",
    "make_moves_exclusive",
    "mend",
    "recount",
    "replace_functions",
]

TABLE = "catalog_tally"
SHOTS, TAGGED = "catalog_screenshot", "catalog_screenshot_tags"
PREFIX = "catalog_tally_"
COLUMNS = "tag_id, gallery_id, number"


class TagCount(Subquery):
    """The number of screenshots in `galleries` that have a tag, for each row of a query over tags."""

    template = (
        f'(SELECT COALESCE(SUM(T."number"), 0) FROM "{TABLE}" T'
        ' WHERE T."tag_id" = "catalog_tag"."id" AND T."gallery_id" IN (%(subquery)s))'
    )

    def __init__(self, galleries: QuerySet[Gallery]) -> None:
        super().__init__(galleries.order_by().values("pk"), output_field=IntegerField())


def create(connection: BaseDatabaseWrapper) -> None:
    """Create the table and its triggers, and count the existing rows."""
    execute(connection, *(_POSTGRESQL_TABLE if connection.vendor == "postgresql" else _SQLITE_TABLE))
    make_moves_exclusive(connection)
    mend(connection)


def make_moves_exclusive(connection: BaseDatabaseWrapper) -> None:
    """On PostgreSQL, make the index of a gallery's creations unique, as writers of tags need it (see above)."""
    if connection.vendor == "postgresql":
        execute(connection, *_EXCLUSIVE_MOVES)


def replace_functions(connection: BaseDatabaseWrapper) -> None:
    """On PostgreSQL, replace the functions of existing triggers by the present ones."""
    TRIGGERS.replace_functions(connection)


def drop(connection: BaseDatabaseWrapper) -> None:
    """Undo `create`."""
    TRIGGERS.drop(connection)
    execute(connection, f"DROP TABLE {TABLE}")


def mend(connection: BaseDatabaseWrapper) -> bool:
    """Create missing triggers; if there were any, count again. Return whether there were any."""
    return TRIGGERS.mend(connection, then=recount)


def recount(connection: BaseDatabaseWrapper) -> None:
    """Count again what the triggers maintain, and end what was made from it. Writers wait meanwhile."""
    counted = (
        f"SELECT t.tag_id, s.gallery_id, count(*) FROM {TAGGED} t "
        f"JOIN {SHOTS} s ON s.id = t.screenshot_id GROUP BY 1, 2"
    )
    with transaction.atomic(connection.alias):
        if connection.vendor == "postgresql":
            execute(connection, f"LOCK TABLE {SHOTS}, {TAGGED} IN SHARE MODE")
        execute(connection, f"DELETE FROM {TABLE}", f"INSERT INTO {TABLE} ({COLUMNS}) {counted}")
        if changes.is_kept(connection):
            changes.replace(connection, (), ["tags"])  # part of every answer with a count: `freshness`


def _name(table: str, event: str) -> str:
    return f"{PREFIX}{'tag' if table == TAGGED else 'screenshot'}_{event.lower()}"


# --- PostgreSQL: once a statement, over its transition tables -------------------------------------------------------

_POSTGRESQL_TABLE = (
    f"CREATE TABLE {TABLE} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
    "tag_id bigint NOT NULL, gallery_id bigint NOT NULL, number bigint NOT NULL)",
    f"CREATE INDEX {PREFIX}by_tag ON {TABLE} (tag_id, gallery_id) INCLUDE (number)",
)
MOVES = "screenshot_by_gallery_creation"
_EXCLUSIVE_MOVES = (
    f"DROP INDEX IF EXISTS {PREFIX}moves",
    f"DROP INDEX IF EXISTS {MOVES}",
    f"CREATE UNIQUE INDEX {MOVES} ON {SHOTS} (gallery_id, created_at DESC, id DESC)",
)
_ADD = f"""
    WITH {{first}}, changed AS MATERIALIZED (
        SELECT tag_id, gallery_id, sum(number) AS number FROM ({{source}}) AS each
        GROUP BY tag_id, gallery_id HAVING sum(number) <> 0
    ), mine AS MATERIALIZED (
        SELECT t.id FROM changed c, LATERAL (
            SELECT id FROM {TABLE} WHERE tag_id = c.tag_id AND gallery_id = c.gallery_id FOR UPDATE SKIP LOCKED
        ) AS t
    ), taken AS (
        DELETE FROM {TABLE} WHERE {looked_up("id", "SELECT id FROM mine")} RETURNING {COLUMNS}
    )
    INSERT INTO {TABLE} ({COLUMNS})
    SELECT tag_id, gallery_id, sum(number) FROM (
        SELECT {COLUMNS} FROM changed UNION ALL SELECT {COLUMNS} FROM taken
    ) AS merged GROUP BY tag_id, gallery_id HAVING sum(number) <> 0;
"""


def _postgresql() -> dict[str, tuple[str, str]]:
    made: dict[str, tuple[str, str]] = {}
    events = {"INSERT": {"new": 1}, "UPDATE": {"old": -1, "new": 1}, "DELETE": {"old": -1}}
    for event, rows in events.items():
        references = "REFERENCING " + " ".join(f"{row.upper()} TABLE AS {row}_rows" for row in rows)
        made |= _postgresql_trigger(TAGGED, event, references, _of_tags(rows))
        made |= _postgresql_trigger(SHOTS, event, references, _of_screenshots(rows))
    made |= _postgresql_trigger(TAGGED, "TRUNCATE", "", f"DELETE FROM {TABLE};")
    return made


def _of_tags(rows: dict[str, int]) -> str:
    """Return the statement for screenshots that get or lose tags. It locks them, so that they stay in their gallery."""
    of = " UNION ".join(f"SELECT screenshot_id FROM {row}_rows" for row in rows)
    source = " UNION ALL ".join(
        f"SELECT r.tag_id, h.gallery_id, {sign} AS number "
        f"FROM {row}_rows r JOIN held h ON h.id = r.screenshot_id"
        for row, sign in rows.items()
    )
    held = f"SELECT id, gallery_id FROM {SHOTS} WHERE {looked_up('id', of)} ORDER BY id FOR KEY SHARE"
    return _ADD.format(first=f"held AS MATERIALIZED ({held})", source=source)


def _of_screenshots(rows: dict[str, int]) -> str:
    """Return the statement for screenshots that are added, deleted or moved with the tags that they have.

    Tags that the same statement gave them were counted by the trigger of the tags.
    """
    each = " UNION ALL ".join(
        f"SELECT id, gallery_id, {sign} AS number FROM {row}_rows" for row, sign in rows.items()
    )
    moved = (
        f"SELECT id, gallery_id, sum(number) AS number FROM ({each}) AS e{_unless_alike(rows)} "
        "GROUP BY 1, 2 HAVING sum(number) <> 0"
    )
    given = f"(SELECT count(*) FROM {SHOTS} s WHERE s.id = m.id AND s.xmin = t.xmin AND s.cmin = t.cmin)"
    found = looked_up("screenshot_id", "SELECT id FROM moved")
    tags = f"SELECT tag_id, screenshot_id, xmin, cmin FROM {TAGGED} WHERE {found} OFFSET 0"
    source = (
        f"SELECT t.tag_id, m.gallery_id, m.number FROM moved m JOIN ({tags}) t ON t.screenshot_id = m.id"
        f"{f' WHERE {given} = 0' if set(rows) == {'new'} else ''}"
    )
    return _ADD.format(first=f"moved AS MATERIALIZED ({moved})", source=source)


def _unless_alike(rows: dict[str, int]) -> str:
    """Return a condition by which an UPDATE that changes no id and no gallery is recognized without comparing rows."""
    if len(rows) < 2:
        return ""
    old, new = (f"SELECT ROW(array_agg(id), array_agg(gallery_id)) FROM {row}_rows" for row in rows)
    return f" WHERE ({old}) IS DISTINCT FROM ({new})"


def _postgresql_trigger(table: str, event: str, references: str, body: str) -> dict[str, tuple[str, str]]:
    when = f"AFTER {event} ON {table} {references} FOR EACH STATEMENT"
    return {_name(table, event): (when, f"{body} RETURN NULL;")}


# --- SQLite: once a row ------------------------------------------------------------------------------------------

_SQLITE_TABLE = (
    f"CREATE TABLE {TABLE} (tag_id integer NOT NULL, gallery_id integer NOT NULL, number integer NOT NULL, "
    "PRIMARY KEY (tag_id, gallery_id)) WITHOUT ROWID",
)


def _sqlite() -> dict[str, tuple[str, str]]:
    tags = {"new": _tally_tag("NEW", 1), "old": _tally_tag("OLD", -1)}
    shots = {"new": _tally_screenshot("NEW", 1), "old": _tally_screenshot("OLD", -1)}
    return (
        _sqlite_trigger(TAGGED, "INSERT", "", tags["new"])
        | _sqlite_trigger(TAGGED, "UPDATE", "", tags["old"] + tags["new"])
        | _sqlite_trigger(TAGGED, "DELETE", "", tags["old"])
        | _sqlite_trigger(SHOTS, "INSERT", "", shots["new"])
        | _sqlite_trigger(SHOTS, "UPDATE", "OF id, gallery_id", shots["old"] + shots["new"])
        | _sqlite_trigger(SHOTS, "DELETE", "", shots["old"])
    )


def _tally_tag(row: str, sign: int) -> str:
    source = f"SELECT {row}.tag_id, gallery_id, {sign} FROM {SHOTS} WHERE id = {row}.screenshot_id"
    return _upsert(source) + (
        f"DELETE FROM {TABLE} WHERE tag_id = {row}.tag_id AND number = 0"
        f" AND gallery_id = (SELECT gallery_id FROM {SHOTS} WHERE id = {row}.screenshot_id);"
    )


def _tally_screenshot(row: str, sign: int) -> str:
    tags = f"FROM {TAGGED} WHERE screenshot_id = {row}.id"
    return _upsert(f"SELECT tag_id, {row}.gallery_id, {sign} {tags}") + (
        f"DELETE FROM {TABLE} WHERE gallery_id = {row}.gallery_id AND number = 0"
        f" AND tag_id IN (SELECT tag_id {tags});"
    )


def _upsert(source: str) -> str:
    return (
        f"INSERT INTO {TABLE} ({COLUMNS}) {source}"
        " ON CONFLICT (tag_id, gallery_id) DO UPDATE SET number = number + excluded.number; "
    )


def _sqlite_trigger(table: str, event: str, of: str, body: str) -> dict[str, tuple[str, str]]:
    return {_name(table, event): (f"AFTER {event} {of} ON {table}", body)}


TRIGGERS = Triggers(TABLE, postgresql=_postgresql(), sqlite=_sqlite())
