"""Full-text search over screenshots: what a word is, and which index each database answers from.

A word is a run of letters and digits, in whatever case. A query's words must all be there, each as a whole word or as
the start of one, in the title, the alternative text, the page's title or the domain. PostgreSQL answers from a
GIN index over two columns of words, SQLite from an FTS5 table that triggers keep in step; both are made by a migration.
A migration that alters the table makes SQLite drop its triggers: `mend_index` puts them back after each `migrate`.

Which characters are letters and digits, and which are the same in another case, each database decides by itself, of a
query as of a text: whatever that is, a text is found by what it says. A sign that PostgreSQL takes for neither (a
circled digit, an emoji) stands for no word there.

To find a text's words takes PostgreSQL longer than to write them to the index, and an update writes to each index of
its table. So it generates and stores the words: an UPDATE finds anew those of the columns that it sets, and the title's
are kept apart from the others'. A migration that alters the type of one of these columns drops the index before.
"""

from __future__ import annotations

import re
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import QuerySet
from django.db.models.expressions import RawSQL

from catalog.triggers import Triggers, execute

__all__ = ["COLUMNS", "DOCUMENT", "INDEX", "create_index", "drop_index", "matching", "mend_index", "words"]

COLUMNS = ("title", "alt", "page_title", "domain")
INDEX = "catalog_screenshot_search"
WORDS = {"title_words": COLUMNS[:1], "other_words": COLUMNS[1:]}
"""The columns that PostgreSQL generates, and what each is made of."""
DOCUMENT = " || ".join(f"catalog_screenshot.{name}" for name in WORDS)
"""The expression that PostgreSQL's index is over; a query must use it to the letter."""


def _lexemes(text: str) -> str:
    """Return the expression for the words of a text, given the expression for that."""
    return f"strip(to_tsvector('simple', regexp_replace(lower({text}), '[^[:alnum:]]+', ' ', 'g')))"


# A tsvector reads 'one' 'two'; NULL, which matches nothing, stands for none. To the planner all of it is one constant.
_QUERY = f"(nullif(replace({_lexemes('%s::text')}::text, ' ', ':* & '), '') || ':*')::tsquery"
_BETWEEN = re.compile(r"[^0-9A-Za-z\x80-\U0010ffff]+")


def words(text: str) -> list[str]:
    """Return what stands between signs of ASCII in `text` and holds a letter or a digit: each once, in order.

    At these signs every database ends a word, and none of them is left. It may end one elsewhere too.
    """
    return list(dict.fromkeys(part for part in _BETWEEN.split(text) if any(map(str.isalnum, part))))


def matching(queryset: QuerySet[Any], text: str) -> QuerySet[Any]:
    """Return the screenshots of `queryset` in which every word of `text` is found; none where it has no word."""
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
    # Where FTS5 reads several words in one string, they have to stand in this order, one after the other.
    query = " ".join(f'"{term}"*' for term in terms)
    sql = f"SELECT rowid FROM {INDEX} WHERE {INDEX} MATCH %s"  # noqa: S608 - constants
    return queryset.filter(pk__in=RawSQL(sql, [query]))  # noqa: S611 - the text is a parameter


def create_index(connection: BaseDatabaseWrapper) -> None:
    """Make the index that `matching` answers from."""
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
    """On SQLite, make the triggers that are not there, and then the index anew: it may have missed changes."""
    TRIGGERS.mend(connection, then=_rebuild)


def _rebuild(connection: BaseDatabaseWrapper) -> None:
    execute(connection, f"INSERT INTO {INDEX}({INDEX}) VALUES ('rebuild')")  # noqa: S608 - constants


def _triggers() -> dict[str, tuple[str, str]]:
    """The triggers that keep the FTS5 table in step: when each fires, and what it does."""
    columns = ", ".join(COLUMNS)
    new, old = (", ".join(f"{row}.{column}" for column in COLUMNS) for row in ("new", "old"))
    add = f"INSERT INTO {INDEX}(rowid, {columns}) VALUES (new.id, {new});"  # noqa: S608 - constants
    remove = f"INSERT INTO {INDEX}({INDEX}, rowid, {columns}) VALUES ('delete', old.id, {old});"  # noqa: S608
    return {
        f"{INDEX}_insert": ("AFTER INSERT ON catalog_screenshot", add),
        f"{INDEX}_delete": ("AFTER DELETE ON catalog_screenshot", remove),
        f"{INDEX}_update": (f"AFTER UPDATE OF {columns} ON catalog_screenshot", f"{remove} {add}"),
    }


TRIGGERS = Triggers(INDEX, postgresql={}, sqlite=_triggers())
