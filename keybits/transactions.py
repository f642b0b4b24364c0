"""Two-phase invalidation around COMMIT: open what is about to change, commit, close.

The one choke point below the ORM. Every connection is watched: a statement that writes marks its transaction,
and a transaction that wrote claims its record of changes, opens their scopes, commits, and closes them, whether
Django ends it or a COMMIT in SQL. A statement outside any transaction gets one, but for those that may commit by
themselves: what these have recorded is closed as they return. Reading costs nothing; a long transaction is held open
for nobody but for the moment of its COMMIT.
"""

from __future__ import annotations

import logging
import re
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any
from weakref import WeakSet

from django.db import DatabaseError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from keybits import changes, early, replicas
from keybits.conf import conf
from keybits.outages import Outage
from keybits.stamps import coarsened
from keybits.stores import StoreError, get_store

__all__ = [
    "WriteRefusedError",
    "has_written",
    "may_store",
    "sees_its_own_writes",
    "watch",
]

STATE = "_keybits_written"
CURSORS = "_keybits_cursors"
"""Where an SQLite connection has the cursors that something has been executed by, while there are any."""
IDLE = "keybits_idle"
"""A function of SQLite that nobody calls: see `_is_idle`."""
IN_TRANSACTION, FAILED = 2, 3
"""What libpq says of a connection in a transaction, and in one that has failed: that can only be rolled back."""
# From where the first comment begins to where any ends: PostgreSQL's may stand within each other.
_SKIPPED = r"(?:\s|\(|--[^\n]*+\n)*+"
_BEFORE = rf"{_SKIPPED}(?:/\*.*\*/{_SKIPPED})?"
_WRITE = r"(?:INSERT|UPDATE|DELETE|REPLACE|MERGE|COPY|TRUNCATE|CALL|DO|EXECUTE)\b"
_WRITES = re.compile(_BEFORE + _WRITE, re.IGNORECASE | re.DOTALL)
_NEXT = rf";{_SKIPPED}(?:/\*.*?\*/{_SKIPPED})*+"
_WRITES_LATER = re.compile(rf"{_NEXT}(?:{_WRITE}|WITH\b)", re.IGNORECASE | re.DOTALL)
_COMMITS_LATER = re.compile(rf"{_NEXT}(?:COMMIT|END)\b", re.IGNORECASE | re.DOTALL)
_ENDS_ITSELF = re.compile(rf"{_BEFORE}(?:CALL|DO)\b", re.IGNORECASE | re.DOTALL)
_COMMITS = re.compile(rf"{_BEFORE}(?:COMMIT|END)\b", re.IGNORECASE | re.DOTALL)
_WITH = re.compile(rf"{_BEFORE}WITH\b.*\b(?:INSERT|UPDATE|DELETE|MERGE)\b", re.IGNORECASE | re.DOTALL)
_RETURNING = re.compile(r"\bRETURNING\b", re.I)
logger = logging.getLogger(__name__)
_outage = Outage(logger, "the relay closes what is written", "the store is told of writes again")


class WriteRefusedError(DatabaseError):
    """The store is out of reach and `KEYBITS_WRITE_POLICY` is `refuse`: nothing was committed. Try again later."""


_writing: set[int] = set()
"""The connections whose transaction has written; mostly none, so that a read asks no connection."""


def watch(connection: BaseDatabaseWrapper) -> None:
    """Watch a connection from now on, and again when it has been made anew; watching twice is watching once."""
    if connection.vendor == "sqlite" and connection.connection is not None:
        connection.connection.create_function(IDLE, 0, _nothing)
        connection.__dict__[CURSORS] = WeakSet()
        changes.note_file(connection)
    if STATE in connection.__dict__:
        return
    _mark(connection, written=False)
    # The outermost, which no block of `execute_wrapper` takes off as it ends: a connection may be opened within one.
    connection.execute_wrappers.insert(0, _watched)
    connection._commit = partial(_commit, connection, connection._commit)  # type: ignore[attr-defined]
    connection._rollback = partial(_rollback, connection, connection._rollback)  # type: ignore[attr-defined]
    if connection.vendor == "sqlite":
        change = connection._set_autocommit  # type: ignore[attr-defined]
        connection._set_autocommit = partial(_set_autocommit, connection, change)  # type: ignore[attr-defined]


def _mark(connection: BaseDatabaseWrapper, *, written: bool) -> None:
    connection.__dict__[STATE] = written
    (_writing.add if written else _writing.discard)(id(connection))


def has_written(connection: BaseDatabaseWrapper) -> bool:
    """Say whether the present transaction has written: then it sees what nobody else may."""
    return bool(connection.__dict__.get(STATE, False)) and _in_transaction(connection)


def sees_its_own_writes() -> bool:
    """Say whether this thread is in a transaction that has written: what is stored is older than what it sees."""
    return bool(_writing) and any(map(has_written, connections.all(initialized_only=True)))


def may_store() -> bool:
    """Say whether what this thread reads now is what everybody may be shown.

    Not in a transaction that has written or failed, and not in one that looks at the past: only PostgreSQL's READ
    COMMITTED sees, statement by statement, what has been committed.
    """
    return all(_sees_the_present(connection) for connection in connections.all(initialized_only=True))


def _sees_the_present(connection: BaseDatabaseWrapper) -> bool:
    if connection.connection is None:
        return True
    if not _in_transaction(connection):
        return connection.vendor != "sqlite" or (
            _is_idle(connection) and not changes.is_of_another_file(connection)
        )
    may_ask = not (has_written(connection) or connection.needs_rollback or _has_failed(connection))
    return may_ask and _is_read_committed(connection)


def _is_idle(connection: BaseDatabaseWrapper) -> bool:
    """Say whether every statement has been read to its end: what others read meanwhile is as old as the first of them.

    SQLite tells nobody, but lets no function be replaced meanwhile. It then compiles every statement anew, which is a
    tenth of a miss (`python -m benchmarks.miss --stack embedded`): so it is asked only while there is a cursor.
    """
    if not connection.__dict__[CURSORS]:
        return True
    try:
        connection.connection.create_function(IDLE, 0, _nothing)
    except sqlite3.OperationalError:
        return False
    return True


def _nothing() -> None: ...


def _is_read_committed(connection: BaseDatabaseWrapper) -> bool:
    """Ask: a transaction can be told its level in SQL, and a connection by its server; and many ways of writing look
    like none, but take a number for the transaction."""
    if connection.vendor != "postgresql":
        return False
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('transaction_isolation'), pg_current_xact_id_if_assigned()")
        return bool(cursor.fetchone() == ("read committed", None))


def _in_transaction(connection: BaseDatabaseWrapper) -> bool:
    return connection.in_atomic_block or not connection.autocommit or _is_open(connection)


def _is_open(connection: BaseDatabaseWrapper) -> bool:
    """Say whether the database itself is in a transaction: SQL may have begun one."""
    if connection.vendor == "postgresql":
        return _status(connection) in {IN_TRANSACTION, FAILED}
    return bool(getattr(connection.connection, "in_transaction", False))


def _has_failed(connection: BaseDatabaseWrapper) -> bool:
    """Say whether PostgreSQL refuses whatever comes before the end of the transaction."""
    return connection.vendor == "postgresql" and _status(connection) == FAILED


def _status(connection: BaseDatabaseWrapper) -> int | None:
    raw: Any = connection.connection
    return None if raw is None else raw.info.transaction_status


def _watched(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
    """Note a write, and see that it has a transaction to be committed with, or is closed when it has had its own."""
    connection = context["connection"]
    replicas.note(connection.alias)
    if connection.vendor == "sqlite":
        connection.__dict__[CURSORS].add(context["cursor"])
    text, run = _text(sql, connection), partial(execute, sql, params, many, context)
    early.note(text)
    if not _is_write(text):
        return _run(connection, run, text)
    if _in_transaction(connection):
        _mark(connection, written=True)
        return run()
    if _ENDS_ITSELF.match(text) or (";" in text and _COMMITS_LATER.search(text)):
        return _closed_afterwards(connection, run)
    with transaction.atomic(using=connection.alias):
        _mark(connection, written=True)
        result = run()
        if connection.vendor == "sqlite" and _RETURNING.search(text):
            _read_now(context["cursor"])
        return result


def _text(sql: Any, connection: BaseDatabaseWrapper) -> str:
    """Return what a statement says, which drivers also take as bytes, or composed."""
    if isinstance(sql, bytes):
        return sql.decode(errors="replace")
    return str(sql.as_string(connection.connection) if hasattr(sql, "as_string") else sql)


def _is_write(text: str) -> bool:
    later = ";" in text and _WRITES_LATER.search(text)
    return bool(_WRITES.match(text) or _WITH.match(text) or later) and changes.TABLE not in text


def _run(connection: BaseDatabaseWrapper, run: Callable[[], Any], text: str) -> Any:
    """Run what writes nothing; it may end, in SQL, a transaction that has written."""
    if not connection.__dict__[STATE]:
        return run()
    if _COMMITS.match(text) and not _has_failed(connection):
        return _commit(connection, run)
    result = run()
    _mark(connection, written=_in_transaction(connection))
    return result


def _closed_afterwards(connection: BaseDatabaseWrapper, run: Callable[[], Any]) -> Any:
    """Run what may commit by itself, and so in no transaction; close whatever nobody has claimed then."""
    result = run()
    if conf.TRACKING == "triggers" and changes.is_kept(connection):
        scopes = coarsened(scope for _, scope, writer in changes.recorded(connection) if not writer)
        if scopes:
            _close(scopes, "")
    return result


class _ReadCursor:
    """A cursor whose rows have been read already; everything else is the cursor's own."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor
        self._rows: Iterator[Any] = iter(cursor.fetchall())

    def fetchone(self) -> Any:
        return next(self._rows, None)

    def fetchmany(self, size: int = 1) -> list[Any]:
        return list(islice(self._rows, size))

    def fetchall(self) -> list[Any]:
        return list(self._rows)

    def __iter__(self) -> Iterator[Any]:
        return self._rows

    def execute(self, *args: Any) -> Any:
        self._rows = self._cursor
        return self._cursor.execute(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)


def _read_now(cursor: Any) -> None:
    """Read the rows of a RETURNING: SQLite commits nothing while any are still to be read."""
    cursor.cursor = _ReadCursor(cursor.cursor)


def _rollback(connection: BaseDatabaseWrapper, original: Callable[[], Any]) -> Any:
    _mark(connection, written=False)
    return original()


def _set_autocommit(
    connection: BaseDatabaseWrapper, original: Callable[[bool], Any], autocommit: bool
) -> Any:
    """SQLite commits where it is told to do so by itself from now on."""
    change = partial(original, autocommit)
    return _commit(connection, change) if autocommit else change()


def _commit(connection: BaseDatabaseWrapper, original: Callable[[], Any]) -> Any:
    written = connection.__dict__[STATE]
    _mark(connection, written=False)
    if not written or conf.TRACKING != "triggers" or not changes.is_kept(connection):
        return original()
    writer = uuid.uuid4().hex
    scopes = coarsened(changes.claim(connection, writer, notify=bool(conf.PURGERS)))
    if not scopes:
        return original()
    try:
        _open(connection, scopes, writer)
    except WriteRefusedError:
        _unclaim(connection, writer)
        raise
    return _commit_open(connection, original, scopes, writer)


def _unclaim(connection: BaseDatabaseWrapper, writer: str) -> None:
    """Have another COMMIT of the same transaction, if there is one, claim anew what this one has claimed."""
    changes.release(connection, writer)
    _mark(connection, written=True)


def _commit_open(
    connection: BaseDatabaseWrapper, original: Callable[[], Any], scopes: list[str], writer: str
) -> Any:
    try:
        result = original()
    except Exception:
        # A connection that is gone may have committed, or may yet: the scopes stay open until the relay knows.
        if connection.is_usable():
            _close(scopes, writer)
        if _is_open(connection):  # SQLite lets it be tried again
            _unclaim(connection, writer)
        raise
    _close(scopes, writer)
    changes.bell.set()
    return result


def _open(connection: BaseDatabaseWrapper, scopes: list[str], writer: str) -> None:
    try:
        get_store().open(scopes, writer)
    except StoreError as error:
        if conf.WRITE_POLICY == "refuse":
            raise WriteRefusedError(
                "Nothing was written: the cache is out of reach, and KEYBITS_WRITE_POLICY says to refuse."
            ) from error
        _outage.goes_on(error)
        logger.debug("the store is out of reach; the relay will close %d scopes", len(scopes))
        changes.release(connection, writer)


def _close(scopes: list[str], writer: str) -> None:
    try:
        get_store().close(scopes, writer)
        _outage.is_over()
    except StoreError as error:
        _outage.goes_on(error)
        logger.debug("%d scopes stay open until the relay closes them", len(scopes))
