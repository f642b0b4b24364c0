"""Full-text search over screenshots: what a word is, and which index each database answers from.

A word is a run of letters and digits, lower case. A query's words must all be there, each as a whole word or as
the start of one, in the title, the alternative text, the page's title or the domain. PostgreSQL answers from a
GIN index over an expression, SQLite from an FTS5 table that triggers keep in step; both are made by a migration.
"""

from __future__ import annotations

import re
from typing import Any

from django.db import connections
from django.db.models import QuerySet
from django.db.models.expressions import RawSQL

__all__ = ["COLUMNS", "DOCUMENT", "matching", "words"]

COLUMNS = ("title", "alt", "page_title", "domain")
_TEXT = " || ' ' || ".join(f"catalog_screenshot.{column}" for column in COLUMNS)
DOCUMENT = f"to_tsvector('simple', regexp_replace(lower({_TEXT}), '[^[:alnum:]]+', ' ', 'g'))"
"""The expression that PostgreSQL's index is over; a query must use it to the letter."""

_WORD = re.compile(r"[^\W_]+")


def words(text: str) -> list[str]:
    """Return the words of `text`, each once, in order of appearance."""
    return list(dict.fromkeys(_WORD.findall(text.lower())))


def matching(queryset: QuerySet[Any], text: str) -> QuerySet[Any]:
    """Return the screenshots of `queryset` in which every word of `text` is found; none where it has no word."""
    terms = words(text)
    if not terms:
        return queryset.none()
    if connections[queryset.db].vendor == "postgresql":
        return _by_tsvector(queryset, terms)
    return _by_fts5(queryset, terms)


def _by_tsvector(queryset: QuerySet[Any], terms: list[str]) -> QuerySet[Any]:
    query = " & ".join(f"'{term}':*" for term in terms)
    sql = f"SELECT id FROM catalog_screenshot WHERE {DOCUMENT} @@ to_tsquery('simple', %s)"  # noqa: S608 - constants
    return queryset.filter(pk__in=RawSQL(sql, [query]))  # noqa: S611 - the text is a parameter


def _by_fts5(queryset: QuerySet[Any], terms: list[str]) -> QuerySet[Any]:
    query = " ".join(f'"{term}"*' for term in terms)
    sql = "SELECT rowid FROM catalog_screenshot_search WHERE catalog_screenshot_search MATCH %s"
    return queryset.filter(pk__in=RawSQL(sql, [query]))  # noqa: S611 - the text is a parameter
