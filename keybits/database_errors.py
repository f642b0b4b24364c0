"""What an error of the database means for whoever runs the deployment, whichever database and driver raised it.

What has none of these meanings is a fault of the code, and is for its callers to raise.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Collection
from enum import Enum, auto

from django.apps import apps
from django.db import DatabaseError, OperationalError
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import Model

__all__ = ["ABORTED", "Meaning", "UnmigratedError", "meaning"]


class Meaning(Enum):
    """What the deployment has to do about an error of the database."""

    UNREACHABLE = auto()
    """Wait, or start it: it gives no answer, or lets nobody in at present."""
    UNMIGRATED = auto()
    """Run `manage.py migrate`, and grant the servers' role its rights: the code needs more than there is."""
    UNUSABLE = auto()
    """Mend it, or name another: it is no database, damaged, full or read-only, or refuses this user."""
    CONTENDED = auto()
    """Do it again: another transaction was in the way."""


class UnmigratedError(DatabaseError):
    """The database lacks migrations that this code has. The message names them, and is for the log."""


REFUSES_CONNECTIONS = frozenset({"57P01", "57P02", "57P03", "53300"})
"""The SQLSTATEs, besides class 08, of a server that shuts down, has crashed, starts up, or has no connection left."""
UNDEFINED_TABLE = "42P01"
NOT_READ = "errorMissingRTE"
"""Where PostgreSQL refuses a statement that names a table which it does not read: with the state of a missing one."""
UNDEFINED_COLUMN = "42703"
FORBIDDEN = "42501"
READ_ONLY = "25006"
UNUSABLE_CLASSES = frozenset({"28", "3D", "53", "58"})
"""The classes of SQLSTATEs of a refused user, of a database that is not there, of a lack of room, of a system error."""
ABORTED = frozenset({"40001", "40P01"})
"""The SQLSTATEs of a transaction that PostgreSQL aborted in favour of another: a serialization failure, a deadlock."""
LOCKED = "55P03"
"""The SQLSTATE of a lock that was not to be waited for any longer."""
SQLITE = {
    sqlite3.SQLITE_CANTOPEN: Meaning.UNREACHABLE,
    sqlite3.SQLITE_BUSY: Meaning.CONTENDED,
    sqlite3.SQLITE_LOCKED: Meaning.CONTENDED,
    sqlite3.SQLITE_CORRUPT: Meaning.UNUSABLE,
    sqlite3.SQLITE_FULL: Meaning.UNUSABLE,
    sqlite3.SQLITE_IOERR: Meaning.UNUSABLE,
    sqlite3.SQLITE_NOTADB: Meaning.UNUSABLE,
    sqlite3.SQLITE_PERM: Meaning.UNUSABLE,
    sqlite3.SQLITE_READONLY: Meaning.UNUSABLE,
}
PRIMARY = 0xFF
"""The bits of SQLite's extended result codes that are the code itself."""
_NO_TABLE = re.compile(r"no such table: ")
_NO_COLUMN = re.compile(r"no such column: |table \S+ has no column named ")


def meaning(error: BaseException) -> Meaning | None:
    """Return what an error that Django raised means; None if it is none of the database, or a fault of the code."""
    if isinstance(error, UnmigratedError):
        return Meaning.UNMIGRATED
    cause = error.__cause__ if isinstance(error, DatabaseError) else None
    if isinstance(cause, sqlite3.Error):
        return _of_sqlite(cause)
    if isinstance(error, OperationalError) and getattr(cause, "sqlstate", "") is None:
        return Meaning.UNREACHABLE  # psycopg has a state only from an answer
    return _of_state(str(getattr(cause, "sqlstate", "")), cause)


def _of_sqlite(cause: sqlite3.Error) -> Meaning | None:
    said = str(cause)
    if _lacks(said, table=_NO_TABLE.match(said) is not None, column=_NO_COLUMN.match(said) is not None):
        return Meaning.UNMIGRATED
    return SQLITE.get(getattr(cause, "sqlite_errorcode", 0) & PRIMARY)


def _of_state(state: str, cause: object) -> Meaning | None:
    is_of_a_table = state == UNDEFINED_TABLE and _raised_by(cause) != NOT_READ
    lacks = _lacks(str(cause), table=is_of_a_table, column=state == UNDEFINED_COLUMN)
    known = {
        Meaning.UNREACHABLE: state.startswith("08") or state in REFUSES_CONNECTIONS,
        Meaning.UNMIGRATED: state == FORBIDDEN or lacks,
        Meaning.UNUSABLE: state == READ_ONLY or state[:2] in UNUSABLE_CLASSES,
        Meaning.CONTENDED: state == LOCKED or state in ABORTED,
    }
    return next((meaning for meaning, is_it in known.items() if is_it), None)


def _raised_by(cause: object) -> str:
    """Return the name of PostgreSQL's function that has raised an error, which psycopg tells; "" if it is unknown."""
    return getattr(getattr(cause, "diag", None), "source_function", None) or ""


def _lacks(said: str, *, table: bool, column: bool) -> bool:
    """Return whether what is missing, according to the first line of the message, is something that migrations make.

    Names are the same in every language of the server. PostgreSQL's statement follows, which may have other names.
    """
    names = set(re.findall(r"\w+", said.partition("\n")[0])) if table or column else set()
    return (table and _has_a_table(names)) or (column and _has_a_column(names))


def _has_a_table(names: Collection[str]) -> bool:
    """Return whether one of the names is that of a model's table, or begins as those of an application's do."""
    tables = {model._meta.db_table for model in _models()} | {MigrationRecorder.Migration._meta.db_table}
    own = tuple(f"{config.label}_" for config in apps.get_app_configs())
    return any(name in tables or name.startswith(own) for name in names)


def _has_a_column(names: Collection[str]) -> bool:
    """Return whether one of the names is that of a column: of the models whose tables are named too, or of any."""
    named = [model for model in _models() if model._meta.db_table in names]
    return any(
        field.column in names for model in named or _models() for field in model._meta.local_concrete_fields
    )


def _models() -> list[type[Model]]:
    return list(apps.get_models(include_auto_created=True))
