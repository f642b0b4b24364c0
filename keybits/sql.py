"""What a statement's text says that it does to a transaction: write in it, begin it, commit it, or end it.

The text is not parsed. Where it cannot be told, as with words in a literal or in the body of a function, it is taken to
say so, because it costs little to treat a read as a write. What a function writes that is called in a SELECT is not
seen. PostgreSQL executes several statements of one text; SQLite executes one at a time, so that what is said here of
later ones does not concern it.
"""

from __future__ import annotations

import re
from typing import Any

from keybits.changes import TABLE

__all__ = [
    "begins_or_ends",
    "commits_later",
    "ends_itself",
    "is_commit",
    "prepares",
    "releases",
    "returns_rows",
    "text_of",
    "writes",
]

# Without possessive quantifiers, which Python before 3.11.5 gets wrong (gh-106052). No two alternatives begin alike, so
# that nothing is tried in two ways. PostgreSQL ends a comment at a carriage return, too; SQLite skips byte order marks.
_SKIPPED = r"(?:[\s(\ufeff]|--[^\n\r]*[\n\r])*"
_FIRST = r"(?:[\s;(\ufeff]|--[^\n\r]*[\n\r])*"
# From the start of the first comment to the end of any: PostgreSQL's comments nest.
_BEFORE = _FIRST + rf"(?:/\*.*\*/{_FIRST})?"
_WRITE = r"(?:INSERT|UPDATE|DELETE|REPLACE|MERGE|COPY|TRUNCATE|CALL|DO|EXECUTE)\b"
_COMMENT = r"/\*(?:[^*/]|\*(?!/)|/(?!\*))*\*/"
_NESTED = rf"/\*(?:[^*/]|\*(?!/)|/(?!\*)|{_COMMENT})*\*/"
_NEXT = rf";{_SKIPPED}(?:{_NESTED}{_SKIPPED})*"


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE | re.DOTALL)


_WRITES = _pattern(_BEFORE + _WRITE)
_WRITES_LATER = _pattern(rf"{_NEXT}(?:{_WRITE}|WITH\b)")
_WRITES_WITHIN = _pattern(rf"{_BEFORE}WITH\b.*\b(?:INSERT|UPDATE|DELETE|MERGE|REPLACE\s+INTO)\b")
# The record is written by statements of its own, and its triggers are made by others that name it further on.
_RECORDS = _pattern(rf"\s*(?:CREATE\b.*?|(?:(?:UPDATE|DELETE|INSERT|OR|REPLACE|FROM|INTO)\s+)+){TABLE}")
_BEGINS_OR_ENDS = _pattern(rf"(?:\A{_BEFORE}|{_NEXT})(?:BEGIN|START|COMMIT|END|ROLLBACK|ABORT)\b")
_COMMITS = _pattern(rf"{_BEFORE}(?:COMMIT|END)\b")
_COMMITS_LATER = _pattern(rf"{_NEXT}(?:COMMIT|END)\b")
_ENDS_ITSELF = _pattern(rf"{_BEFORE}(?:CALL|DO)\b")
_RELEASES = _pattern(rf"{_BEFORE}RELEASE\b")
_PREPARES = _pattern(rf"(?:\A{_BEFORE}|{_NEXT})PREPARE\s+TRANSACTION\b")
_QUOTED = re.compile(r"""'[^']*'|"[^"]*\"""")
_MAY_HIDE_QUOTES = re.compile(r"--|/\*|[\\$]")
"""A comment, an escape, or PostgreSQL's quoting with dollars: with one of them, a quote may be none."""
_RETURNS = _pattern(r"\bRETURNING\b")


def text_of(sql: Any, connection: Any) -> str:
    """Return a statement as text; drivers also accept bytes and composed SQL."""
    if isinstance(sql, bytes):
        return sql.decode(errors="replace")
    return str(sql.as_string(connection.connection) if hasattr(sql, "as_string") else sql)


def writes(text: str) -> bool:
    """Say whether a text may write, at its beginning or later; the record's own statements do not count."""
    later = ";" in text and _WRITES_LATER.search(text)
    return bool(_WRITES.match(text) or _WRITES_WITHIN.match(text) or later) and not _RECORDS.match(text)


def begins_or_ends(text: str) -> bool:
    """Say whether a text may begin or end a transaction, at its beginning or later."""
    return bool(_BEGINS_OR_ENDS.search(text))


def commits_later(text: str) -> bool:
    """Say whether a text may commit after its first statement."""
    return bool(_COMMITS_LATER.search(text))


def ends_itself(text: str) -> bool:
    """Say whether a text may commit while it is executed, outside a transaction: CALL and DO."""
    return bool(_ENDS_ITSELF.match(text))


def is_commit(text: str) -> bool:
    """Say whether a text is a COMMIT, or begins with one."""
    return bool(_COMMITS.match(text))


def releases(text: str) -> bool:
    """Say whether a text releases a savepoint. On SQLite, that of one that nothing contains is a COMMIT.

    Django makes one where autocommit is off.
    """
    return bool(_RELEASES.match(text))


def prepares(text: str) -> bool:
    """Say whether a text prepares a transaction, which somebody else may then commit (PREPARE TRANSACTION).

    Where its quotes are plain, words within them do not count, because this costs more: such transactions are refused.
    """
    return bool(_PREPARES.search(text if _MAY_HIDE_QUOTES.search(text) else _QUOTED.sub("''", text)))


def returns_rows(text: str) -> bool:
    """Say whether a write may return rows, which SQLite executes as far as they are read."""
    return bool(_RETURNS.search(text))
