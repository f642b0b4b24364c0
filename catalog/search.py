"""Full-text search over screenshots: what a word is, and which index each database uses.

A word is a run of letters and digits; case does not matter. All words of a query must occur, each as a whole word or
as the beginning of one, in the title, the alternative text, the page's title or the domain. PostgreSQL uses a GIN index
over two columns of words, SQLite an FTS5 table that triggers keep up to date; a migration creates both. If a migration
alters the table, SQLite loses the triggers: `mend_index` restores them after each `migrate`.

Each database decides which characters are letters and digits, and which differ only in case, in the same way for
queries and texts, so that a text is found by its own words. A character that PostgreSQL takes for neither (a circled
digit, an emoji) is part of no word there.

Splitting a text into words takes PostgreSQL longer than writing them to the index, and an update writes to each index
of its table. So the words are stored in generated columns: an UPDATE splits only the columns that it sets, and those of
the title are separate from the others. A migration that alters the type of one of these columns must drop the index
first.
"""

from __future__ import annotations

import re
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import QuerySet
from django.db.models.expressions import RawSQL

from catalog.triggers import Triggers, execute

__all__ = [
    "COLUMNS",
    "DOCUMENT",
    "INDEX",
    "create_index",
    "drop_index",
    "matching",
    "mend_index",
    "renew_triggers",
    "words",
]

COLUMNS = ("title", "alt", "page_title", "domain")
INDEX = "catalog_screenshot_search"
WORDS = {"title_words": COLUMNS[:1], "other_words": COLUMNS[1:]}
"""The columns that PostgreSQL generates, and the columns that each is made from."""
DOCUMENT = " || ".join(f"catalog_screenshot.{name}" for name in WORDS)
"""The expression of PostgreSQL's index; a query must use exactly this one."""


def _lexemes(text: str) -> str:
    """Return the SQL expression of the words of a text, given the expression of the text."""
    return f"strip(to_tsvector('simple', regexp_replace(lower({text}), '[^[:alnum:]]+', ' ', 'g')))"


# A tsvector prints as 'one' 'two'. Without words the result is NULL, which matches nothing. The planner folds it all
# into a constant.
_QUERY = f"(nullif(replace({_lexemes('%s::text')}::text, ' ', ':* & '), '') || ':*')::tsquery"
_BETWEEN = re.compile(r"[^0-9A-Za-z\x80-\U0010ffff]+")


def words(text: str) -> list[str]:
    """Return the parts of `text` between ASCII characters other than letters and digits, each once, in order.

    Parts without any letter or digit are left out. Every database ends a word at these characters; it may also end one
    elsewhere.
    """
    return list(dict.fromkeys(part for part in _BETWEEN.split(text) if any(map(str.isalnum, part))))


def matching(queryset: QuerySet[Any], text: str) -> QuerySet[Any]:
    """Return the screenshots of `queryset` that contain every word of `text`; none if it has no word."""
    terms = words(text)
    if not terms:
        return queryset.none()
    if connections[queryset.db].vendor == "postgresql":
        return _by_tsvector(queryset, terms)
    return _by_fts5(queryset, terms)


def _by_tsvector(queryset: QuerySet[Any], terms: list[str]) -> QuerySet[Any]:
    sql = f"SELECT id FROM catalog_screenshot WHERE ({DOCUMENT}) @@ {_QUERY}"  # noqa: S608 - constants
    return queryset.filter(pk__in=RawSQL(sql, [" ".join(terms)]))  # noqa: S611 - the text is a parameter


def _by_fts5(queryset: QuerySet[Any], terms: list[str]) -> QuerySet[Any]:
    # If FTS5 finds several words in one string, they must follow each other in this order.
    query = " ".join(f'"{term}"*' for term in terms)
    sql = f"SELECT rowid FROM {INDEX} WHERE {INDEX} MATCH %s"  # noqa: S608 - constants
    return queryset.filter(pk__in=RawSQL(sql, [query]))  # noqa: S611 - the text is a parameter


def create_index(connection: BaseDatabaseWrapper) -> None:
    """Create the index that `matching` uses."""
    if connection.vendor == "postgresql":
        added = ", ".join(f"ADD COLUMN IF NOT EXISTS {_generated(name)}" for name in WORDS)
        execute(
            connection,
            f"ALTER TABLE catalog_screenshot {added}",
            f"CREATE INDEX screenshot_search ON catalog_screenshot USING gin (({' || '.join(WORDS)}))",
        )
        return
    columns = ", ".join(COLUMNS)
    execute(
        connection,
        f"CREATE VIRTUAL TABLE {INDEX} USING fts5({columns}, content='catalog_screenshot', content_rowid='id', "
        "tokenize='unicode61 remove_diacritics 0')",
    )
    mend_index(connection)


def drop_index(connection: BaseDatabaseWrapper) -> None:
    """Undo `create_index`."""
    if connection.vendor == "postgresql":
        dropped = ", ".join(f"DROP COLUMN IF EXISTS {name}" for name in WORDS)
        execute(connection, "DROP INDEX screenshot_search", f"ALTER TABLE catalog_screenshot {dropped}")
        return
    TRIGGERS.drop(connection)
    execute(connection, f"DROP TABLE {INDEX}")


def _generated(name: str) -> str:
    text = " || ' ' || ".join(WORDS[name])
    return f"{name} tsvector GENERATED ALWAYS AS ({_lexemes(text)}) STORED"


def mend_index(connection: BaseDatabaseWrapper) -> None:
    """On SQLite, create missing triggers; if any was missing, rebuild the index, which may have missed changes."""
    TRIGGERS.mend(connection, then=_rebuild)


def renew_triggers(connection: BaseDatabaseWrapper) -> None:
    """On SQLite, replace existing triggers by the present ones, and rebuild the index that they have maintained."""
    TRIGGERS.drop(connection)
    mend_index(connection)


def _rebuild(connection: BaseDatabaseWrapper) -> None:
    execute(connection, f"INSERT INTO {INDEX}({INDEX}) VALUES ('rebuild')")  # noqa: S608 - constants


def _triggers() -> dict[str, tuple[str, str]]:
    """Return the triggers that keep the FTS5 table up to date: when each fires, and what it does."""
    columns = ", ".join(COLUMNS)
    new, old = (", ".join(f"{row}.{column}" for column in COLUMNS) for row in ("new", "old"))
    add = f"INSERT INTO {INDEX}(rowid, {columns}) VALUES (new.id, {new});"  # noqa: S608 - constants
    remove = f"INSERT INTO {INDEX}({INDEX}, rowid, {columns}) VALUES ('delete', old.id, {old});"  # noqa: S608
    return {
        f"{INDEX}_insert": ("AFTER INSERT ON catalog_screenshot", add),
        f"{INDEX}_delete": ("AFTER DELETE ON catalog_screenshot", remove),
        f"{INDEX}_update": (f"AFTER UPDATE OF id, {columns} ON catalog_screenshot", f"{remove} {add}"),
    }


TRIGGERS = Triggers(INDEX, postgresql={}, sqlite=_triggers())
